"""What is told of every epoch: progress bars, or plain lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Watcher", "Watchers", "progress"]


class Result(Protocol):
    """What watchers read of the result of training so far."""

    information_curve: list[float]
    validation_curve: list[float]


class Watcher:
    """Is told of every epoch; this one does nothing with it."""

    def epoch_begins(self) -> None:
        """Note that an epoch begins."""

    def epoch_ends(self, result: Result, snapshot: Callable[[], Any]) -> bool:
        """Note that an epoch ended; return whether training is to stop.

        ``snapshot`` returns the result as if training had ended here.
        """
        return False

    def close(self) -> None:
        """Note that there are no more epochs."""


class Watchers(Watcher):
    """Several in one."""

    def __init__(self, *watchers: Watcher) -> None:
        self.watchers = watchers

    def epoch_begins(self) -> None:
        for watcher in self.watchers:
            watcher.epoch_begins()

    def epoch_ends(self, result: Result, snapshot: Callable[[], Any]) -> bool:
        asked = [w.epoch_ends(result, snapshot) for w in self.watchers]  # tell all
        return any(asked)


class Lines(Watcher):
    """Print a line for every epoch."""

    def __init__(self, n_epochs: int) -> None:
        self.n_epochs = n_epochs

    def epoch_ends(self, result: Result, snapshot: Callable[[], Any]) -> bool:
        n_done = len(result.information_curve)
        print(f"Epoch {n_done}/{self.n_epochs}, {_standing(result)}")
        return False


class TqdmBar(Watcher):
    """A bar of the package tqdm, on the standard error stream."""

    def __init__(self, n_epochs: int) -> None:
        from tqdm.auto import tqdm

        self.bar = tqdm(total=n_epochs, unit="epoch")

    def epoch_ends(self, result: Result, snapshot: Callable[[], Any]) -> bool:
        self.bar.set_postfix_str(_standing(result), refresh=False)
        self.bar.update()
        return False

    def close(self) -> None:
        self.bar.close()


class RichBar(Watcher):
    """A bar of the package rich."""

    def __init__(self, n_epochs: int) -> None:
        from rich.progress import MofNCompleteColumn, Progress

        columns = [*Progress.get_default_columns(), MofNCompleteColumn()]
        self.progress = Progress(*columns)
        self.progress.start()  # raises where another one is being shown
        self.task = self.progress.add_task("epochs", total=n_epochs)

    def epoch_ends(self, result: Result, snapshot: Callable[[], Any]) -> bool:
        self.progress.update(self.task, advance=1, description=_standing(result))
        return False

    def close(self) -> None:
        self.progress.stop()


def progress(verbose: int, n_epochs: int) -> Watcher:
    """Return what shows progress: nothing, a bar if there can be one, or lines."""
    if not verbose:
        return Watcher()
    for bar in (TqdmBar, RichBar) if int(verbose) == 1 else ():
        try:
            return bar(n_epochs)
        except Exception:  # not installed, or broken: a bar is no reason to fail
            continue
    return Lines(n_epochs)


def _standing(result: Result) -> str:
    text = f"information = {result.information_curve[-1]:.4f} nats"
    if result.validation_curve:
        text += f", validation = {result.validation_curve[-1]:.4f} nats"
    return text

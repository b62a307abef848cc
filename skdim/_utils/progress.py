"""Progress of training, shown as a bar or as lines of text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Watcher", "Watchers", "progress"]


class Result(Protocol):
    """What watchers read of the result of training: its curves so far.

    Attributes
    ----------
    information_curve : list of float
        Estimated mutual information of each epoch so far, in nats.
    validation_curve : list of float
        Estimated mutual information on held-out rows after each epoch so far, in nats;
        empty if no rows are held out.
    """

    information_curve: list[float]
    validation_curve: list[float]


class Watcher:
    """Base of objects that training calls before and after every epoch.

    Subclasses show the progress of training, or stop it.  The methods of this class do
    nothing.
    """

    def epoch_begins(self) -> None:
        """Note that an epoch begins; called before each epoch."""

    def epoch_ends(self, result: Result, snapshot: Callable[[], Any]) -> bool:
        """Note that an epoch has ended, and decide whether training stops.

        Parameters
        ----------
        result : Result
            Curves up to this epoch.
        snapshot : callable
            ``snapshot()`` returns the result that training would have if it ended here.

        Returns
        -------
        stops : bool
            True to stop training, False to go on.
        """
        return False

    def close(self) -> None:
        """Release what is shown, such as a bar; called when training is over."""


class Watchers(Watcher):
    """A watcher that calls several other watchers before and after every epoch.

    Training stops if ``epoch_ends`` of at least one of these watchers returns True.
    ``close`` does nothing here: each watcher is closed by the code that made it.

    Parameters
    ----------
    *watchers : Watcher
        The watchers to call, in this order.
    """

    def __init__(self, *watchers: Watcher) -> None:
        self.watchers = watchers

    def epoch_begins(self) -> None:
        for watcher in self.watchers:
            watcher.epoch_begins()

    def epoch_ends(self, result: Result, snapshot: Callable[[], Any]) -> bool:
        # All are called, even if the first one already stops training.
        stops = [watcher.epoch_ends(result, snapshot) for watcher in self.watchers]
        return any(stops)


class Lines(Watcher):
    """Watcher that prints a line with the estimated information after every epoch.

    Parameters
    ----------
    n_epochs : int
        Largest number of epochs, printed beside the current one.
    """

    def __init__(self, n_epochs: int) -> None:
        self.n_epochs = n_epochs

    def epoch_ends(self, result: Result, snapshot: Callable[[], Any]) -> bool:
        n_done = len(result.information_curve)
        print(f"Epoch {n_done}/{self.n_epochs}, {_summary(result)}")
        return False


class TqdmBar(Watcher):
    """Watcher that shows a progress bar of tqdm, on standard error or in a notebook.

    Parameters
    ----------
    n_epochs : int
        Number of epochs at which the bar is full.
    """

    def __init__(self, n_epochs: int) -> None:
        from tqdm.auto import tqdm

        self.bar = tqdm(total=n_epochs, unit="epoch")

    def epoch_ends(self, result: Result, snapshot: Callable[[], Any]) -> bool:
        self.bar.set_postfix_str(_summary(result), refresh=False)
        self.bar.update()
        return False

    def close(self) -> None:
        self.bar.close()


class RichBar(Watcher):
    """Watcher that shows a progress bar of the package rich, on standard output.

    Parameters
    ----------
    n_epochs : int
        Number of epochs at which the bar is full.
    """

    def __init__(self, n_epochs: int) -> None:
        from rich.progress import MofNCompleteColumn, Progress

        columns = [*Progress.get_default_columns(), MofNCompleteColumn()]
        self.progress = Progress(*columns)
        self.progress.start()  # raises if another bar of rich is shown
        self.task = self.progress.add_task("epochs", total=n_epochs)

    def epoch_ends(self, result: Result, snapshot: Callable[[], Any]) -> bool:
        self.progress.update(self.task, advance=1, description=_summary(result))
        return False

    def close(self) -> None:
        self.progress.stop()


def progress(verbose: int, n_epochs: int) -> Watcher:
    """Return a watcher that shows the progress of training.

    Parameters
    ----------
    verbose : int or bool
        0 shows nothing, 1 a progress bar, and 2 or more a printed line for every epoch.
        Lines are printed instead of a bar if neither tqdm nor rich works.
    n_epochs : int
        Largest number of epochs.

    Returns
    -------
    watcher : Watcher
        To be passed to training; the caller closes it when training is over.
    """
    if not verbose:
        return Watcher()
    for bar in (TqdmBar, RichBar) if int(verbose) == 1 else ():
        try:
            return bar(n_epochs)
        except Exception:  # not installed or broken, which must not stop training
            continue
    return Lines(n_epochs)


def _summary(result: Result) -> str:
    """Return text with the estimated information of the last epoch, for the user.

    ``result`` holds the curves so far.  The text includes the information on held-out
    rows, if there are any.
    """
    text = f"information = {result.information_curve[-1]:.4f} nats"
    if result.validation_curve:
        text += f", validation = {result.validation_curve[-1]:.4f} nats"
    return text

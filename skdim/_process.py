"""The process we run in: its forks and interrupts; torch-free, as forks come first."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

__all__ = ["Held", "is_forked", "load_core", "uninterrupted"]

_IMPORTING_PROCESS = os.getpid()


def _began_by_fork() -> bool:
    """Return whether this is a forked child that found torch already imported."""
    if multiprocessing.parent_process() is None or "torch" not in sys.modules:
        return False
    method = getattr(multiprocessing.current_process(), "_start_method", None)
    return (method or multiprocessing.get_start_method()) == "fork"


_BEGAN_BY_FORK = _began_by_fork()


def is_forked() -> bool:
    """Return whether torch's threads may have been left behind by a fork.

    This process was forked from the one that imported skdim, or imported it after a
    fork from one that had imported torch.
    """
    return _BEGAN_BY_FORK or os.getpid() != _IMPORTING_PROCESS


class Held:
    """Whether there was a Ctrl-C inside of ``uninterrupted``."""

    was_interrupted = False


@contextmanager
def uninterrupted(raises: bool = True) -> Iterator[Held]:
    """Hold back Ctrl-C until the end of the block, and raise it there if asked to.

    Other threads than the main one never see it.
    """
    held = Held()
    if threading.current_thread() is not threading.main_thread():
        yield held
        return
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):  # it is ignored, or not Python's to handle
        yield held
        return

    def hold(*_: object) -> None:
        held.was_interrupted = True

    signal.signal(signal.SIGINT, hold)
    try:
        yield held
    finally:
        signal.signal(signal.SIGINT, before)
    if held.was_interrupted and raises:
        signal.raise_signal(signal.SIGINT)


def load_core() -> None:
    """Import torch and all that needs it, whole even if the user presses Ctrl-C.

    An import of torch that breaks off cannot be taken up again in the same process.
    """
    with uninterrupted():
        import_module("._stream", __package__)

"""The process we run in: its forks and interrupts; torch-free, as forks come first."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
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
def uninterrupted(raises: bool = True, insists: bool = True) -> Iterator[Held]:
    """Hold back Ctrl-C until the end of the block, and raise it there if asked to.

    A handler of the user's, and a block that fails, are told in any case.  Unless it
    ``insists``, a second Ctrl-C in the block is not held back.  Other threads than the
    main one never see any.
    """
    held = Held()
    before = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not (is_main and callable(before)):  # ignored, or not Python's to handle
        yield held
        return

    def hold(*given: object) -> None:
        if held.was_interrupted and not insists:
            before(*given)
        held.was_interrupted = True

    signal.signal(signal.SIGINT, hold)
    try:
        yield held
    except BaseException:
        raises = True
        raise
    finally:
        signal.signal(signal.SIGINT, before)
        is_own = before is not signal.default_int_handler
        if held.was_interrupted and (raises or is_own):
            signal.raise_signal(signal.SIGINT)


@cache  # every transform asks; what was interrupted is asked for again
def load_core(trains: bool = False) -> None:
    """Import torch and all that needs it, whole even if the user presses Ctrl-C.

    An import of torch that breaks off cannot be taken up again in the same process.
    """
    with uninterrupted():
        import_module("skdim._stream" if trains else "skdim._model")
        if trains:  # the first optimiser imports much more
            torch = sys.modules["torch"]
            torch.optim.Adam([torch.nn.Parameter(torch.zeros(1, device="cpu"))])

"""State of the running process: whether it was forked, and Ctrl-C.

This module does not import torch, because it must be loaded before a fork to notice it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["is_forked", "uninterrupted"]

_IMPORTING_PROCESS = os.getpid()
_FORK_WITHOUT_EXEC = 0x40  # PF_FORKNOEXEC of the kernel


def _began_by_fork() -> bool:
    """Return True if this process was forked from one that had imported torch.

    For children of multiprocessing this is known from their start method, for other
    processes only on Linux.  False if it is not known.
    """
    if "torch" not in sys.modules:
        return False
    if multiprocessing.parent_process() is None:
        return _is_fork_without_exec()
    method = getattr(multiprocessing.current_process(), "_start_method", None)
    return (method or multiprocessing.get_start_method()) == "fork"


def _is_fork_without_exec() -> bool:
    """Return True if Linux marks this process as forked and running the same program.

    False otherwise, and on other systems.
    """
    try:
        with open("/proc/self/stat") as file:
            flags = int(file.read().rpartition(")")[2].split()[6])
    except (OSError, ValueError, IndexError):
        return False
    return bool(flags & _FORK_WITHOUT_EXEC)


_BEGAN_BY_FORK = _began_by_fork()


def is_forked() -> bool:
    """Return True if this process may lack the threads that torch relies on.

    A forked child inherits torch's thread pool without the threads in it, so parallel
    code would wait for ever; the caller then lets torch use one thread.  It is True if
    the process was forked after skdim was imported, or was forked from a process that
    had imported torch, and False otherwise.
    """
    return _BEGAN_BY_FORK or os.getpid() != _IMPORTING_PROCESS


@contextmanager
def uninterrupted(at_most_once: bool = False) -> Iterator[list[int]]:
    """Context manager that holds back Ctrl-C until its block has ended.

    It protects code that must not stop halfway, such as setting the attributes of an
    estimator.  If Ctrl-C was pressed during the block, the signal is raised once when
    the block ends, even if it ends with an exception.  The signal handler that was
    installed before then acts on it; Python's default handler raises KeyboardInterrupt.
    Nothing is held back if Ctrl-C is ignored, or in threads other than the main one,
    because only the main thread receives signals.

    Parameters
    ----------
    at_most_once : bool, default=False
        True holds back the first Ctrl-C only, for blocks that may take long: the second
        one acts at once.

    Yields
    ------
    presses : list of int
        Gets one more item, the signal number, each time Ctrl-C is held back.  Stays
        empty where nothing is held back.
    """
    presses: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not (is_main and callable(before)):  # ignored, or not Python's to handle
        yield presses
        return

    def hold_back(number: int, frame: object) -> None:
        presses.append(number)
        if at_most_once and len(presses) > 1:
            before(number, frame)

    signal.signal(signal.SIGINT, hold_back)
    try:
        yield presses
    finally:
        signal.signal(signal.SIGINT, before)
        if presses:
            signal.raise_signal(signal.SIGINT)

"""Where and how the core runs: device, generators, forked workers, tensors."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._utils.process import is_forked

__all__ = ["resolve_device", "sandbox", "seeded_generator", "take"]


def resolve_device(device: str, or_cpu: bool = False) -> torch.device:
    """Return the device to compute on; "auto" is CUDA where there is one.

    ``or_cpu`` computes on the CPU, with a warning, where the device cannot be used: a
    model fitted on another machine should work on this one.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device).cpu()  # fails where there is none such
        return torch.device(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        if or_cpu:
            warnings.warn(
                f"device={device!r} cannot be used here, so the CPU computes: {reason}",
                stacklevel=2,
            )
            return torch.device("cpu")
        raise ValueError(
            f"The 'device' parameter must be 'auto' or a device that torch can use "
            f"here. Got {device!r} instead: {reason}"
        ) from error


def seeded_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator of our own, so that the global one stays untouched."""
    return torch.Generator(device).manual_seed(seed)


class _Shared:
    """What all threads of this process share, to be made anew in a forked child."""

    def __init__(self) -> None:
        self.generator_lock = threading.RLock()  # of torch's global generator
        self.count_lock = threading.Lock()
        self.n_inside, self.n_threads = 0, 0
        self.local = threading.local()


_shared = _Shared()
if hasattr(os, "register_at_fork"):
    # A lock that another thread held would never be released in the child.
    os.register_at_fork(after_in_child=lambda: _shared.__init__())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread; each thread of Python has a number of its own."""
    shared = _shared
    if getattr(shared.local, "is_inside", False):
        yield
        return
    with shared.count_lock:
        if shared.n_inside == 0:
            shared.n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        shared.n_inside += 1
    shared.local.is_inside = True
    try:
        yield
    finally:
        shared.local.is_inside = False
        with shared.count_lock:
            shared.n_inside -= 1
            torch.set_num_threads(shared.n_threads)


@contextmanager
def sandbox(gradients: bool, global_seed: int | None = None) -> Iterator[None]:
    """Compute independently of the caller's torch settings, and of a fork.

    A forked child inherits torch's thread pool without its threads and would wait for
    them for ever, so it computes on one thread for the duration.  ``global_seed`` is
    for code of the user's, which may draw from the global generator: it is seeded for
    the duration and put back, and only one thread at a time may have it so.
    """
    with ExitStack() as stack:
        if is_forked():
            stack.enter_context(_one_thread())
        if global_seed is not None:
            stack.enter_context(_shared.generator_lock)
            stack.enter_context(torch.random.fork_rng())
            torch.manual_seed(global_seed)
        stack.enter_context(torch.inference_mode(not gradients))
        stack.enter_context(torch.set_grad_enabled(gradients))
        stack.enter_context(torch.autocast("cpu", enabled=False))
        yield


def take(
    rows: Any, index: np.ndarray | slice, device: torch.device | str = "cpu"
) -> Tensor:
    """Return some rows as a tensor.

    Arrays are copied, which is what makes read-only, memory-mapped, reversed and
    big-endian ones work.
    """
    chunk = rows[index]
    if isinstance(chunk, Tensor):
        return chunk.to(device)
    native = chunk.dtype.newbyteorder("=")
    is_view = isinstance(index, slice)
    chunk = np.array(chunk, native, order="C", copy=True if is_view else None)
    return torch.from_numpy(chunk).to(device)

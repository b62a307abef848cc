"""Where and how the core computes: device, seeded generators, torch's global settings.

Nothing here, and nothing that runs in ``sandbox``, depends on the caller's settings of
torch or leaves them changed.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._utils.images import ChannelsFirst
from .._utils.process import is_forked

__all__ = ["PLAIN", "resolve_device", "sandbox", "seeded_generator", "take"]

# For weights and buffers, so that a caller's ``set_default_dtype`` or ``torch.device``
# context does not reach inside.
PLAIN = {"dtype": torch.float32, "device": "cpu"}


def resolve_device(device: str, or_cpu: bool = False) -> torch.device:
    """Return the torch device that the user's ``device`` parameter names.

    Parameters
    ----------
    device : str
        Name of a torch device, such as "cpu" or "cuda:0".  "auto" is CUDA if it is
        available, and otherwise the CPU.
    or_cpu : bool, default=False
        True falls back to the CPU, with a warning, where the device cannot be used: a
        model fitted on another machine should still predict on this one.  False raises
        ValueError.

    Returns
    -------
    device : torch.device

    Raises
    ------
    ValueError
        If torch cannot use the device and ``or_cpu`` is False.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device).cpu()  # fails where there is no such device
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
    """Return a new random generator on ``device``, started from ``seed``.

    The core draws from such generators, so that torch's global one stays untouched.
    """
    return torch.Generator(device).manual_seed(seed)


class _GlobalSetting:
    """A setting of the whole process that has another value during ``with`` blocks.

    Several threads may be in blocks at once.  The first thread to enter changes the
    setting, and the last thread to leave restores it.

    Parameters
    ----------
    change : callable
        ``change()`` changes the setting, and returns what ``restore`` needs.
    restore : callable
        ``restore(saved)`` undoes the change.
    """

    def __init__(
        self, change: Callable[[], Any], restore: Callable[[Any], None]
    ) -> None:
        self._change, self._restore = change, restore
        self._lock = threading.Lock()
        self._n_inside, self._saved = 0, None

    @contextmanager
    def changed(self) -> Iterator[Any]:
        """Hold the setting changed during the ``with`` block; yield what was saved."""
        with self._lock:
            if self._n_inside == 0:
                self._saved = self._change()
            self._n_inside += 1
        try:
            yield self._saved
        finally:
            with self._lock:
                self._n_inside -= 1
                if self._n_inside == 0:
                    self._restore(self._saved)


class _OneThread:
    """Torch's number of threads, held at 1 in ``with`` blocks, which may be nested.

    Torch keeps this number for each Python thread, so every thread changes and restores
    its own.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self._setting = _GlobalSetting(torch.get_num_threads, torch.set_num_threads)

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Let torch compute on one thread in the ``with`` block.

        For forked processes, which would wait for ever for threads of torch that they
        did not inherit.  It affects the calling Python thread only.
        """
        if getattr(self._local, "is_inside", False):
            yield
            return
        self._local.is_inside = True
        try:
            with self._setting.changed() as n_threads:
                torch.set_num_threads(1)
                try:
                    yield
                finally:
                    torch.set_num_threads(n_threads)
        finally:
            self._local.is_inside = False


# Where callers may make products of single-precision numbers faster and less precise.
# What is not set takes the value of one before it.
_PRODUCTS = (
    torch.backends,
    torch.backends.mkldnn,
    torch.backends.mkldnn.matmul,
    torch.backends.mkldnn.conv,
    torch.backends.cuda.matmul,
)


def _set_full_precision() -> list[tuple[Any, str]]:
    """Let all products be exact; return the settings that were changed, and values."""
    changed = []
    for product in _PRODUCTS:
        # In this order, one that is only inherited is exact by now, and left alone.
        if product.fp32_precision not in ("none", "ieee"):
            changed.append((product, product.fp32_precision))
            product.fp32_precision = "ieee"
    return changed


def _restore_precision(changed: list[tuple[Any, str]]) -> None:
    """Set the precisions that ``_set_full_precision`` returned."""
    for product, value in changed:
        product.fp32_precision = value


class _Shared:
    """Locks and settings that all threads of a process share, for ``sandbox``.

    A forked process makes new ones.
    """

    def __init__(self) -> None:
        self.generator_lock = threading.RLock()  # of torch's global generator
        self.one_thread = _OneThread()
        self.full_precision = _GlobalSetting(_set_full_precision, _restore_precision)


_shared = _Shared()
if hasattr(os, "register_at_fork"):
    # A lock that another thread held would never be released in the child.
    os.register_at_fork(after_in_child=lambda: _shared.__init__())


@contextmanager
def sandbox(gradients: bool, global_seed: int | None = None) -> Iterator[None]:
    """Run a ``with`` block independently of the caller's torch settings.

    In the block, autocast on the CPU is off, and matrix products, and convolutions on
    the CPU, keep single precision.  Blocks also run in forked processes.  The default
    device and data type are not changed, so code in a block must name both.

    Parameters
    ----------
    gradients : bool
        True records gradients in the block; False computes in torch's inference mode.
    global_seed : int or None, default=None
        Seed of torch's global generator in the block, for blocks that run the user's
        code, which may draw from this generator.  After the block the generator has its
        old state.  Only one thread at a time may be in such a block.  None leaves the
        generator alone.

    Notes
    -----
    A forked process inherits torch's thread pool without the threads, and would wait
    for them for ever, so torch computes on one thread there.
    """
    with ExitStack() as stack:
        if is_forked():
            stack.enter_context(_shared.one_thread.changed())
        stack.enter_context(_shared.full_precision.changed())
        if global_seed is not None:
            stack.enter_context(_shared.generator_lock)
            stack.enter_context(torch.random.fork_rng())
            torch.manual_seed(global_seed)
        stack.enter_context(torch.inference_mode(not gradients))
        stack.enter_context(torch.set_grad_enabled(gradients))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def take(
    rows: Any, index: np.ndarray | slice, device: torch.device | str = "cpu"
) -> Tensor:
    """Return the rows ``rows[index]`` of a data set as a tensor on ``device``.

    Arrays are copied, so that read-only, memory-mapped, reversed and big-endian ones
    work.  Images keep the order of their axes in memory.

    Parameters
    ----------
    rows : array-like of shape (n_rows, ...)
        An array, a tensor, or a data set that is read by ``rows[index]``.
    index : ndarray of int, or slice
        Which rows to take.
    device : torch.device or str, default="cpu"
        Where the tensor is stored.

    Returns
    -------
    taken : Tensor of shape (n_taken, ...)
        In the data type of ``rows``.
    """
    chunk = rows[index]
    if isinstance(chunk, Tensor):
        return chunk.to(device)
    native = chunk.dtype.newbyteorder("=")
    if isinstance(rows, ChannelsFirst):  # which copies already
        chunk = np.array(chunk, native, copy=None if chunk.flags.writeable else True)
    else:
        is_view = isinstance(index, slice)
        chunk = np.array(chunk, native, order="C", copy=True if is_view else None)
    return torch.from_numpy(chunk).to(device)

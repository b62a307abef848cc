"""Where and how the core runs: device, generators, forked workers, batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor

from ._process import is_forked

__all__ = ["batches", "resolve_device", "sandbox", "seeded_generator", "take"]


def resolve_device(device: str) -> torch.device:
    """Return the device to compute on; "auto" is CUDA where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device).cpu()  # fails where there is none such
        return torch.device(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"The 'device' parameter must be 'auto' or a device that torch can use "
            f"here. Got {device!r} instead: {reason}"
        ) from error


def seeded_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator of our own, so that the global one stays untouched."""
    return torch.Generator(device).manual_seed(seed)


@contextmanager
def sandbox(gradients: bool, global_seed: int | None = None) -> Iterator[None]:
    """Compute independently of the caller's torch settings, and of a fork.

    A forked child inherits torch's thread pool without its threads and would wait for
    them for ever, so it computes on one thread for the duration.  ``global_seed`` is
    for code of the user's, which may draw from the global generator: it is seeded for
    the duration and put back.
    """
    with ExitStack() as stack:
        if is_forked():
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        if global_seed is not None:
            stack.enter_context(torch.random.fork_rng())
            torch.manual_seed(global_seed)
        stack.enter_context(torch.inference_mode(not gradients))
        stack.enter_context(torch.set_grad_enabled(gradients))
        stack.enter_context(torch.autocast("cpu", enabled=False))
        yield


def take(
    rows: np.ndarray, index: np.ndarray | slice, device: torch.device | str = "cpu"
) -> Tensor:
    """Copy some rows to a tensor.

    The copy is what makes read-only, memory-mapped and reversed arrays work.
    """
    chunk = rows[index]
    is_view = isinstance(index, slice)
    chunk = np.array(chunk, order="C") if is_view else np.ascontiguousarray(chunk)
    return torch.from_numpy(chunk).to(device)


def batches(n_rows: int, n_features: int) -> list[slice]:
    """Return slices, even in size, that keep memory small and the cache warm."""
    size = int(np.clip(2**20 // max(n_features, 1), 256, 8192))
    edges = np.linspace(0, n_rows, -(-n_rows // size) + 1).astype(int)
    return [slice(*pair) for pair in itertools.pairwise(edges.tolist())]

"""Nearest rows of a table, found by brute force in bounded time and memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._utils.rows import batches
from .runtime import take

__all__ = ["UNLABELED", "nearest_rows"]

UNLABELED = -1  # class of a row whose class is not known

# In large data, neighbours are looked for among a random part of the rows, so that the
# search computes no more than this many differences (a few seconds).
_MOST_DIFFERENCES = 4e9
_FEWEST_CANDIDATES = 500


def nearest_rows(
    rows: Any,
    scale: Callable[[Tensor], Tensor],
    n_neighbors: int,
    labels: np.ndarray | None,
    seed: int,
    device: torch.device,
) -> np.ndarray:
    """Return the indices of the rows nearest to each row, among those of its class.

    Nearest by the sum of absolute differences of scaled inputs, which depends less on a
    few columns that are far off than the sum of squares does.

    Parameters
    ----------
    rows : array-like of shape (n_rows, ...)
    scale : callable
        Scales rows to inputs.
    n_neighbors : int
    labels : ndarray of shape (n_rows,) or None
        Classes; unlabelled rows may have neighbours of any class.
    seed : int
        Fixes which rows are candidates in large data.
    device : torch.device

    Returns
    -------
    indices : ndarray of shape (n_rows, min(n_neighbors, n_rows - 1))
        A row with fewer neighbours has some of them repeated; without any, itself.
    """
    n_neighbors = min(n_neighbors, max(1, len(rows) - 1))
    near = np.empty((len(rows), n_neighbors), dtype=np.int64)
    groups = np.zeros(len(rows), int) if labels is None else labels
    for label in np.unique(groups):
        members = np.flatnonzero(groups == label)
        is_open = labels is not None and label == UNLABELED
        candidates = np.arange(len(rows)) if is_open else members
        most = _MOST_DIFFERENCES / (len(members) * math.prod(rows.shape[1:]))
        most = max(int(most), _FEWEST_CANDIDATES)
        if len(candidates) > most:
            rng = np.random.default_rng(seed)
            candidates = rng.choice(candidates, most, replace=False)
        reference = scale(take(rows, candidates, device)).flatten(1)
        for chunk in batches(len(members), len(candidates)):
            queries = scale(take(rows, members[chunk], device)).flatten(1)
            found = _search(queries, reference, n_neighbors + 1)
            near[members[chunk]] = _without_self(candidates[found], members[chunk])
    return near


def _search(queries: Tensor, reference: Tensor, n: int) -> np.ndarray:
    """Return indices of the n nearest, repeated in turn if there are fewer."""
    distances = torch.cdist(queries, reference, p=1)
    n_found = min(n, len(reference))
    found = distances.topk(n_found, dim=1, largest=False).indices.cpu().numpy()
    return found[:, np.arange(n) % found.shape[1]]


def _without_self(found: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Drop each row's own index from its neighbours; the last one if it is missing.

    Where a row's own index is found again, its nearest neighbour takes its place.
    """
    is_self = found == own[:, None]
    order = np.argsort(is_self, axis=1, kind="stable")
    kept = np.take_along_axis(found, order, axis=1)[:, : found.shape[1] - 1]
    alone = kept == own[:, None]
    return np.where(alone, kept[:, :1], kept)

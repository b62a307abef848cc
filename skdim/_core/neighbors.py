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

__all__ = ["UNLABELED", "nearest_others", "nearest_rows"]

UNLABELED = -1  # class of a row whose class is not known

# In large data, neighbours are looked for among some random rows of a class, at least
# 500, so that no more differences than this are computed for it (a few seconds).
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
    """Return, for each row, the indices of the nearest other rows of the same class.

    Augmentations such as "neighbors" copy values of one of these rows into the row, and
    supervised pairs take one of these rows as its partner.  The distance is the sum of
    absolute differences of scaled inputs.  A few columns that are far off change it
    less than they change the sum of squares.

    Parameters
    ----------
    rows : array-like of shape (n_rows, ...)
        The data set.
    scale : callable
        Takes a tensor of rows and returns scaled inputs of the same shape.
    n_neighbors : int
        Number of indices to return for each row.
    labels : ndarray of shape (n_rows,) or None
        Classes.  Rows of class -1, whose class is unknown, may have neighbours of any
        class.  None means that all rows are of one class.
    seed : int
        Chooses the rows among which neighbours are looked for in large data.
    device : torch.device
        Where distances are computed.

    Returns
    -------
    indices : ndarray of shape (n_rows, max(1, min(n_neighbors, n_rows - 1)))
        Nearest first.  If the class has fewer other rows, some of them are repeated.  A
        row that is alone in its class has its own index.
    """
    n_neighbors = min(n_neighbors, max(1, len(rows) - 1))
    near = np.empty((len(rows), n_neighbors), dtype=np.int64)
    groups = np.zeros(len(rows), int) if labels is None else labels
    for label in np.unique(groups):
        members = np.flatnonzero(groups == label)
        is_open = labels is not None and label == UNLABELED
        candidates = np.arange(len(rows)) if is_open else members
        n_features = math.prod(rows.shape[1:])
        candidates = _affordable(candidates, len(members), n_features, seed)
        reference = scale(take(rows, candidates, device)).flatten(1)
        for chunk in batches(len(members), len(candidates)):
            queries = scale(take(rows, members[chunk], device)).flatten(1)
            found = _search(queries, reference, n_neighbors + 1)
            near[members[chunk]] = _without_self(candidates[found], members[chunk])
    return near


def nearest_others(
    rows: Any,
    others: Any,
    scale: Callable[[Tensor], Tensor],
    n_neighbors: int,
    seed: int,
    device: torch.device,
) -> np.ndarray:
    """Return, for each row, the indices of the nearest rows of another data set.

    The distance is that of ``nearest_rows``.  It serves held-out rows: they are too few
    to be near each other.

    Parameters
    ----------
    rows : array-like of shape (n_rows, ...)
        The rows whose neighbours are looked for.
    others : array-like of shape (n_others, ...)
        The rows among which they are looked for.
    scale, n_neighbors, seed, device
        As in ``nearest_rows``.

    Returns
    -------
    indices : ndarray of shape (n_rows, min(n_neighbors, n_others))
        Indices of rows of ``others``, nearest first.
    """
    n_neighbors = min(n_neighbors, len(others))
    near = np.empty((len(rows), n_neighbors), dtype=np.int64)
    n_features = math.prod(rows.shape[1:])
    candidates = _affordable(np.arange(len(others)), len(rows), n_features, seed)
    reference = scale(take(others, candidates, device)).flatten(1)
    for chunk in batches(len(rows), len(candidates)):
        queries = scale(take(rows, chunk, device)).flatten(1)
        near[chunk] = candidates[_search(queries, reference, n_neighbors)]
    return near


def _affordable(
    candidates: np.ndarray, n_queries: int, n_features: int, seed: int
) -> np.ndarray:
    """Return the candidates, or random ones of them if all would take too long.

    ``candidates`` and the result are arrays of indices.  For ``n_queries`` rows of
    ``n_features`` numbers, at most ``_MOST_DIFFERENCES`` are to be computed.
    """
    most = max(int(_MOST_DIFFERENCES / (n_queries * n_features)), _FEWEST_CANDIDATES)
    if len(candidates) <= most:
        return candidates
    return np.random.default_rng(seed).choice(candidates, most, replace=False)


def _search(queries: Tensor, reference: Tensor, n: int) -> np.ndarray:
    """Return the indices of the ``n`` rows of ``reference`` nearest to each query.

    ``queries`` of shape (n_queries, n_features) and ``reference`` of shape
    (n_reference, n_features) are scaled inputs.  The result has the shape (n_queries,
    n), nearest first.  If ``reference`` has fewer than ``n`` rows, the indices start
    again from the nearest.
    """
    distances = torch.cdist(queries, reference, p=1)
    n_found = min(n, len(reference))
    found = distances.topk(n_found, dim=1, largest=False).indices.cpu().numpy()
    return found[:, np.arange(n) % found.shape[1]]


def _without_self(found: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Remove each row from the nearest rows that a search has found for it.

    Parameters
    ----------
    found : ndarray of shape (n_rows, n_found)
        Indices of nearest rows, nearest first.
    own : ndarray of shape (n_rows,)
        Index of the row that was searched for.

    Returns
    -------
    kept : ndarray of shape (n_rows, n_found - 1)
        Where the row itself was not found, the farthest index is dropped.  Where the
        row was found more than once, the nearest other row takes the place of the
        repetitions.
    """
    is_self = found == own[:, None]
    order = np.argsort(is_self, axis=1, kind="stable")
    kept = np.take_along_axis(found, order, axis=1)[:, : found.shape[1] - 1]
    alone = kept == own[:, None]
    return np.where(alone, kept[:, :1], kept)

"""Where batches come from: rows, and for views the rows that are near or alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._runtime import take
from ._utils.rows import batches

__all__ = ["Source", "nearest"]

# Neighbours in large data are looked for among a random part of the rows, so that the
# search takes no more than this many differences (a few seconds).
_MOST_DIFFERENCES = 4e9
_FEWEST_CANDIDATES = 500
_UNLABELED = -1
_MOST_KEPT = 2**22  # numbers of a table, beside the table itself


class Source:
    """Rows to take batches from.

    Parameters
    ----------
    rows : array of shape (n_rows, ...)
        Anything that ``_rows`` names.
    scale : callable
        What makes inputs of rows; those of a small table are made once.
    device : torch.device
    near : ndarray of shape (n_rows, n_neighbors), default=None
        Indices of the neighbours of each row, if a view asks for them.
    labels : ndarray of shape (n_rows,), default=None
        Classes, -1 for unknown.
    """

    def __init__(
        self,
        rows: Any,
        scale: Callable[[Tensor], Tensor],
        device: torch.device,
        near: np.ndarray | None = None,
        labels: np.ndarray | None = None,
    ) -> None:
        self.rows, self.scale, self.device = rows, scale, device
        self._inputs = self._scaled() if self._is_small_table() else None
        self.near, self.labels = near, labels
        if labels is not None and near is None:
            self.members = {c: np.flatnonzero(labels == c) for c in np.unique(labels)}

    def __len__(self) -> int:
        return len(self.rows)

    def _is_small_table(self) -> bool:
        rows = self.rows
        return type(rows) is np.ndarray and rows.ndim == 2 and rows.size <= _MOST_KEPT

    @torch.no_grad()
    def _scaled(self) -> Tensor:
        return self.scale(take(self.rows, slice(None), self.device))

    def take(self, index: np.ndarray) -> Tensor:
        """Return the inputs that the rows of these indices make."""
        if self._inputs is not None:
            return self._inputs[torch.from_numpy(index).to(self.device)]
        return self.scale(take(self.rows, index, self.device))

    def neighbors(self, index: np.ndarray, generator: torch.Generator) -> Tensor:
        """Return the inputs that one of the near rows of each of these makes."""
        choice = self._draw(self.near.shape[1], (len(index),), generator)
        return self.take(self.near[index, choice])

    def partners(self, index: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Return for each row one of its class; the row itself if that is unknown."""
        if self.labels is None:
            return index
        if self.near is not None:
            choice = self._draw(self.near.shape[1], (len(index),), generator)
            other = self.near[index, choice]
        else:
            draw = self._draw(2**31, (len(index),), generator)
            pools = (self.members[label] for label in self.labels[index])
            other = np.array(
                [pool[d % len(pool)] for pool, d in zip(pools, draw, strict=True)]
            )
        return np.where(self.labels[index] == _UNLABELED, index, other)

    def _draw(
        self, n: int, shape: tuple[int, ...], generator: torch.Generator
    ) -> np.ndarray:
        draws = torch.randint(n, shape, generator=generator, device=generator.device)
        return draws.cpu().numpy()


def nearest(
    rows: Any,
    scale: Callable[[Tensor], Tensor],
    n_neighbors: int,
    labels: np.ndarray | None,
    seed: int,
    device: torch.device,
) -> np.ndarray:
    """Return the indices of the nearest other rows of the same label.

    Nearest in the sum of absolute differences after scaling, which a few columns that
    are far off do not decide as they do the sum of squares.
    Rows whose label is unknown may have any neighbour.  Where there are too few, a
    row is repeated, in the last resort itself.
    """
    n_neighbors = min(n_neighbors, max(1, len(rows) - 1))  # there are no more
    near = np.empty((len(rows), n_neighbors), dtype=np.int64)
    groups = np.zeros(len(rows), int) if labels is None else labels
    for label in np.unique(groups):
        members = np.flatnonzero(groups == label)
        is_open = labels is not None and label == _UNLABELED
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
    """Return indices of the nearest, repeated in turn if there are fewer."""
    distances = torch.cdist(queries, reference, p=1)
    n_found = min(n, len(reference))
    found = distances.topk(n_found, dim=1, largest=False).indices.cpu().numpy()
    return found[:, np.arange(n) % found.shape[1]]


def _without_self(found: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Drop each row's own index, or else its last neighbour; others if only itself."""
    is_self = found == own[:, None]
    order = np.argsort(is_self, axis=1, kind="stable")
    kept = np.take_along_axis(found, order, axis=1)[:, : found.shape[1] - 1]
    alone = kept == own[:, None]
    return np.where(alone, kept[:, :1], kept)

"""Batches: rows are drawn, partners found and views made, before any network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .augmentations import AUGMENTATIONS
from .config import PairSpec
from .neighbors import UNLABELED, nearest_rows
from .runtime import sandbox, take

__all__ = ["Batch", "BatchSource", "Data", "check_shape", "check_view", "even_batches"]

_LARGEST_TABLE_KEPT = 2**22  # scaled numbers of a table, beside the table itself


class Data(NamedTuple):
    """Rows and, for pairs of one class, their classes."""

    rows: Any  # array-like of shape (n_rows, *input_shape)
    labels: np.ndarray | None = None  # of shape (n_rows,), -1 for unknown


class Batch(NamedTuple):
    """Scaled inputs of one step; row i of each tensor belongs to row i of the others.

    ``rows`` are those whose codes are sent through the noise.  ``views`` are what the
    noisy codes are compared with; there are none without pairs, and codes are then
    compared with themselves.
    """

    rows: Tensor  # of shape (n_rows, *input_shape)
    views: list[Tensor]  # each of the same shape


class BatchSource:
    """Where batches come from: the data, scaled, and how pairs are made of it.

    Parameters
    ----------
    data : Data
    scale : callable
        Scales rows to inputs; a small table is scaled once.
    pairs : PairSpec
    seed : int
        For the search for neighbours in large data.
    device : torch.device
    """

    def __init__(
        self,
        data: Data,
        scale: Callable[[Tensor], Tensor],
        pairs: PairSpec,
        seed: int,
        device: torch.device,
    ) -> None:
        self.rows, self.labels = data
        self.scale, self.pairs, self.device = scale, pairs, device
        self.near = self._neighbors(seed)
        self._inputs = self._scaled() if self._is_small_table() else None
        if self.labels is not None and self.near is None:
            classes = np.unique(self.labels)
            self._members = {c: np.flatnonzero(self.labels == c) for c in classes}

    def __len__(self) -> int:
        return len(self.rows)

    def _neighbors(self, seed: int) -> np.ndarray | None:
        """Return near rows of each row, of its class if there are any; None if unused.

        Partners of one class are near rows in a table, and any rows among images.
        """
        by_class = self.labels is not None and len(self.rows.shape) == 2
        if not (by_class or _needs_neighbors(self.pairs)):
            return None
        n_neighbors, labels = self.pairs.n_neighbors, self.labels
        with sandbox(gradients=False):
            return nearest_rows(
                self.rows, self.scale, n_neighbors, labels, seed, self.device
            )

    def _is_small_table(self) -> bool:
        rows = self.rows
        is_table = type(rows) is np.ndarray and rows.ndim == 2
        return is_table and rows.size <= _LARGEST_TABLE_KEPT

    @torch.no_grad()
    def _scaled(self) -> Tensor:
        return self.scale(take(self.rows, slice(None), self.device))

    def take(self, index: np.ndarray) -> Tensor:
        """Return the scaled inputs of the rows with these indices."""
        if self._inputs is not None:
            return self._inputs[torch.from_numpy(index).to(self.device)]
        return self.scale(take(self.rows, index, self.device))

    def draw(self, index: np.ndarray, generator: torch.Generator) -> Batch:
        """Return the pairs of the rows with these indices; views are random.

        Parameters
        ----------
        index : ndarray of shape (n_rows,)
        generator : torch.Generator
            For partners and views.
        """
        if not self.pairs.has_pairs:
            return Batch(self.take(index), [])
        both = self.pairs.sides == "both"
        rows = self._view(index, generator) if both else self.take(index)
        n_views = self.pairs.n_views
        return Batch(rows, [self._view(index, generator) for _ in range(n_views)])

    def _view(self, index: np.ndarray, generator: torch.Generator) -> Tensor:
        """Return a view of each row, or of a partner of its class."""
        index = self._partners(index, generator)
        inputs = self.take(index)
        for step in self.pairs.augmentations:
            if callable(step):
                shape = tuple(inputs.shape)
                inputs = step(inputs, generator)
                check_view(inputs, shape)
                continue
            kind = AUGMENTATIONS[step]
            near = []
            if kind.needs_neighbors:
                near = [self.take(self._near(index, generator))]
            strength = self.pairs.strength
            strength = kind.strength if strength is None else strength
            inputs = kind.augment(inputs, *near, strength, generator)
        return inputs

    def _near(self, index: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Return the index of one of the near rows of each row."""
        return self.near[index, self._integers(self.near.shape[1], index, generator)]

    def _partners(self, index: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Return for each row another one of its class; itself if that is unknown."""
        if self.labels is None:
            return index
        if self.near is not None:
            other = self._near(index, generator)
        else:
            draw = self._integers(2**31, index, generator)
            pools = (self._members[label] for label in self.labels[index])
            other = np.array(
                [pool[d % len(pool)] for pool, d in zip(pools, draw, strict=True)]
            )
        return np.where(self.labels[index] == UNLABELED, index, other)

    def _integers(
        self, n: int, index: np.ndarray, generator: torch.Generator
    ) -> np.ndarray:
        """Draw an integer below n for each of these rows."""
        shape, device = (len(index),), generator.device
        return torch.randint(n, shape, generator=generator, device=device).cpu().numpy()


def _needs_neighbors(pairs: PairSpec) -> bool:
    named = (AUGMENTATIONS[a] for a in pairs.augmentations if isinstance(a, str))
    return any(kind.needs_neighbors for kind in named)


def even_batches(n_rows: int, batch_size: int, seed: int) -> np.ndarray:
    """Return shuffled indices of all rows, of shape (n_batches, batch_size).

    The last batch is filled up with rows from the beginning, because a bound can report
    less in a smaller batch.
    """
    batch_size = min(batch_size, n_rows)
    order = np.random.default_rng(seed).permutation(n_rows)
    return np.resize(order, (-(-n_rows // batch_size), batch_size))


def check_shape(name: str, output: object, expected: tuple[int, ...]) -> None:
    """Raise ValueError unless the user's code returned a tensor of this shape."""
    got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output)
    if got != expected:
        raise ValueError(
            f"The {name} must return a tensor of shape {expected} for a batch of "
            f"{expected[0]} rows. Got {got} instead."
        )


def check_view(view: object, expected: tuple[int, ...]) -> None:
    """Raise ValueError unless a user's view has this shape and is finite."""
    check_shape("'views' callable", view, expected)
    if not torch.isfinite(view).all():
        raise ValueError("The 'views' callable must return finite numbers.")

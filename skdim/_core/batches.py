"""Batches: scaled rows and random views of them, made before any network sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .augmentations import AUGMENTATIONS
from .config import PairSpec
from .neighbors import UNLABELED, nearest_others, nearest_rows
from .runtime import sandbox, take

__all__ = ["Batch", "BatchSource", "Data", "check_shape", "check_view", "even_batches"]

_LARGEST_TABLE_KEPT = 2**22  # numbers of a table that is also kept scaled


class Data(NamedTuple):
    """Rows of a data set, and the classes of the rows in supervised training.

    Attributes
    ----------
    rows : array-like of shape (n_rows, *input_shape)
        Rows before scaling.
    labels : ndarray of shape (n_rows,) or None, default=None
        Class of each row, as an integer, or -1 for a row whose class is unknown.  None
        if training does not use classes.
    """

    rows: Any
    labels: np.ndarray | None = None


class Batch(NamedTuple):
    """Scaled inputs of one step of training or evaluation: rows, and views of them.

    Views are augmented copies of the rows.  Noise is added to the codes of ``rows``,
    and the noisy codes are compared with the codes of ``views``, or with the codes of
    ``rows`` if there are no views.

    Attributes
    ----------
    rows : Tensor of shape (n_rows, *input_shape)
        Rows of the data, or views of them if ``PairSpec.sides`` is "both".
    views : list of Tensor of shape (n_rows, *input_shape)
        Row i of each view belongs to row i of ``rows``.  Empty if training does not
        compare rows with views.
    """

    rows: Tensor
    views: list[Tensor]


class BatchSource:
    """Draw batches from a data set: scale its rows, and make views of them.

    ``len(source)`` is the number of rows.

    Parameters
    ----------
    data : Data
        Rows, and classes if there are any.
    scale : callable
        Takes a tensor of rows and returns scaled inputs of the same shape.  Tables of
        up to 2**22 numbers are scaled once, other data batch by batch.
    pairs : PairSpec
        How views are made.
    seed : int
        Chooses the rows among which neighbours are looked for in large data.
    device : torch.device
        Where inputs are scaled and returned.
    lender : BatchSource or None, default=None
        Source among whose rows neighbours are looked for, from which views take values.
        Held-out rows pass the training rows: they are few, so that their neighbours
        among themselves would be far, and their views harder to recognise than those of
        new rows.  None looks among the rows of ``data``, and so do data with classes,
        whose partners must be held out, too.

    Attributes
    ----------
    rows, labels, scale, pairs, device
        The arguments; ``rows`` and ``labels`` are those of ``data``.
    near : ndarray of shape (n_rows, n_near) or None
        Indices of the nearest rows of each row, in the lender if there is one; None if
        views do not need them.
    """

    def __init__(
        self,
        data: Data,
        scale: Callable[[Tensor], Tensor],
        pairs: PairSpec,
        seed: int,
        device: torch.device,
        lender: BatchSource | None = None,
    ) -> None:
        self.rows, self.labels = data
        self.scale, self.pairs, self.device = scale, pairs, device
        self._lender = self if lender is None or self.labels is not None else lender
        self.near = self._neighbors(seed)
        self._inputs = self._scaled() if self._is_small_table() else None
        if self.labels is not None and self.near is None:
            classes = np.unique(self.labels)
            self._members = {c: np.flatnonzero(self.labels == c) for c in classes}

    def __len__(self) -> int:
        return len(self.rows)

    def _neighbors(self, seed: int) -> np.ndarray | None:
        """Return the indices of the nearest rows of each row.

        Needed by the augmentation "neighbors" and, in a table with classes, for
        partners of rows.  With classes, the nearest rows are those of the same class,
        or of all classes if the class of the row is unknown.

        Parameters
        ----------
        seed : int
            Chooses the rows among which neighbours are looked for in large data.

        Returns
        -------
        near : ndarray of shape (n_rows, n_near) or None
            None if neither an augmentation nor a table with classes needs them.
        """
        by_class = self.labels is not None and len(self.rows.shape) == 2
        if not (by_class or _needs_neighbors(self.pairs)):
            return None
        settings = self.scale, self.pairs.n_neighbors
        with sandbox(gradients=False):
            if self._lender is not self:
                others = self._lender.rows
                return nearest_others(self.rows, others, *settings, seed, self.device)
            return nearest_rows(self.rows, *settings, self.labels, seed, self.device)

    def _is_small_table(self) -> bool:
        rows = self.rows
        is_table = type(rows) is np.ndarray and rows.ndim == 2
        return is_table and rows.size <= _LARGEST_TABLE_KEPT

    @torch.no_grad()
    def _scaled(self) -> Tensor:
        return self.scale(take(self.rows, slice(None), self.device))

    def take(self, index: np.ndarray) -> Tensor:
        """Return the scaled inputs of the rows with these indices, not augmented.

        Parameters
        ----------
        index : ndarray of shape (n_taken,)
            Indices of the rows.

        Returns
        -------
        inputs : Tensor of shape (n_taken, *input_shape)
            On ``self.device``.
        """
        if self._inputs is not None:
            return self._inputs[torch.from_numpy(index).to(self.device)]
        return self.scale(take(self.rows, index, self.device))

    def draw(self, index: np.ndarray, generator: torch.Generator) -> Batch:
        """Return the rows with these indices as a batch, with random views of each row.

        Parameters
        ----------
        index : ndarray of shape (n_drawn,)
            Indices of the rows.
        generator : torch.Generator
            Draws partners and views.

        Returns
        -------
        batch : Batch
            With ``pairs.n_views`` views, each of shape (n_drawn, *input_shape).  If
            ``pairs.sides`` is "both", ``batch.rows`` is a view, too.  If
            ``pairs.has_pairs`` is False, the batch has no views, and nothing is random.
        """
        if not self.pairs.has_pairs:
            return Batch(self.take(index), [])
        both = self.pairs.sides == "both"
        rows = self._view(index, generator) if both else self.take(index)
        n_views = self.pairs.n_views
        return Batch(rows, [self._view(index, generator) for _ in range(n_views)])

    def _view(self, index: np.ndarray, generator: torch.Generator) -> Tensor:
        """Return a random view of each row with an index in ``index``, for ``draw``.

        If the data have classes, it is a view of a partner, a row of the same class.

        Parameters
        ----------
        index : ndarray of shape (n_drawn,)
            Indices of the rows.
        generator : torch.Generator
            Draws partners and augmentations.

        Returns
        -------
        view : Tensor of shape (n_drawn, *input_shape)

        Raises
        ------
        ValueError
            If the user's augmentation returns anything but finite numbers of this
            shape.
        """
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
                near = [self._lender.take(self._near(index, generator))]
            strength = self.pairs.strength
            strength = kind.strength if strength is None else strength
            inputs = kind.augment(inputs, *near, strength, generator)
        return inputs

    def _near(self, index: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Draw one of the nearest rows of each row in ``index``; return their indices.

        ``index`` and the result are integer arrays of shape (n_drawn,).  ``generator``
        makes the draws.
        """
        return self.near[index, self._integers(self.near.shape[1], index, generator)]

    def _partners(self, index: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Draw a row of the same class for each row in ``index``; return their indices.

        Views are made of these partners instead of the rows.  In a table, a partner is
        one of the nearest rows of the class; among images it is any row of the class,
        the row itself included.  A row whose class is unknown, and every row of data
        without classes, is its own partner.
        ``index`` and the result are integer arrays of shape (n_drawn,).  ``generator``
        makes the draws.
        """
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
        """Draw an integer uniformly from 0 to ``n - 1`` for each element of ``index``.

        The result is an integer array of the shape of ``index``, (n_drawn,).
        ``generator`` makes the draws.
        """
        shape, device = (len(index),), generator.device
        return torch.randint(n, shape, generator=generator, device=device).cpu().numpy()


def _needs_neighbors(pairs: PairSpec) -> bool:
    named = (AUGMENTATIONS[a] for a in pairs.augmentations if isinstance(a, str))
    return any(kind.needs_neighbors for kind in named)


def even_batches(n_rows: int, batch_size: int, seed: int) -> np.ndarray:
    """Return the row indices of shuffled batches, all of the same size, for evaluation.

    Every row is in a batch.  The last batch is filled up with rows of the first batch:
    a bound on mutual information can depend on the number of rows in a batch, so only
    batches of one size can be averaged.

    Parameters
    ----------
    n_rows : int
        Number of rows of the data.
    batch_size : int
        Number of rows in a batch; replaced by ``n_rows`` if ``n_rows`` is smaller.
    seed : int
        Shuffles the rows.

    Returns
    -------
    indices : ndarray of shape (n_batches, batch_size)
    """
    batch_size = min(batch_size, n_rows)
    order = np.random.default_rng(seed).permutation(n_rows)
    return np.resize(order, (-(-n_rows // batch_size), batch_size))


def check_shape(name: str, output: object, expected: tuple[int, ...]) -> None:
    """Raise ValueError unless ``output`` is a tensor of the shape ``expected``.

    ``output`` is what the user's encoder or augmentation returned for a batch of
    ``expected[0]`` rows, and ``name`` is what the message calls that function.
    """
    got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output)
    if got != expected:
        raise ValueError(
            f"The {name} must return a tensor of shape {expected} for a batch of "
            f"{expected[0]} rows. Got {got} instead."
        )


def check_view(view: object, expected: tuple[int, ...]) -> None:
    """Raise ValueError unless ``view`` is a finite tensor of the shape ``expected``.

    ``view`` is what the user's augmentation returned for inputs of this shape.
    """
    check_shape("'views' callable", view, expected)
    if not torch.isfinite(view).all():
        n_bad = int((~torch.isfinite(view)).flatten(1).any(1).sum())
        raise ValueError(
            f"The 'views' callable must return finite numbers. Got NaN or infinity in "
            f"{n_bad} of {len(view)} rows."
        )

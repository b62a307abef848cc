"""Rows that are read a few at a time; torch-free.

The core takes anything with ``shape``, ``dtype``, a length and ``rows[index]``, where
an index is a slice or an array of integers: NumPy arrays, memory-mapped ones among
them, torch tensors, and what is defined here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence, Sized
from typing import Any

import numpy as np

__all__ = ["LazyRows", "Subset", "batches", "check_finite", "is_lazy", "length"]

Index = slice | np.ndarray

_AWAY = (
    "impute them first, as in make_pipeline(SimpleImputer(), {0}()), or, if they are a "
    "category of their own, use a ColumnTransformer with an encoder such as "
    "OneHotEncoder for these columns"
)


def batches(n_rows: int, n_features: int, fewest: int = 256) -> list[slice]:
    """Return slices, even in size, that keep memory small and the cache warm."""
    size = int(np.clip(2**20 // max(n_features, 1), fewest, 8192))
    edges = np.linspace(0, n_rows, -(-n_rows // size) + 1).astype(int)
    return [slice(*pair) for pair in itertools.pairwise(edges.tolist())]


def check_finite(chunk: Any, name: str) -> None:
    """Raise ValueError if one of these numbers is NaN or infinite."""
    if _is_finite(chunk):
        return
    if np.isnan(chunk).any():
        raise ValueError(
            f"Input X contains NaN, and {name} does not take missing values; "
            f"{_AWAY.format(name)}."
        )
    raise ValueError(
        f"Input X contains infinity or a value too large for {chunk.dtype}; replace "
        f"such values, for instance by the largest finite one of their column."
    )


def _is_finite(chunk: np.ndarray) -> bool:
    if chunk.dtype.kind != "f":
        return True
    with np.errstate(all="ignore"):  # a sum needs no memory, but may overflow
        return bool(
            np.isfinite(chunk.sum(dtype=np.float64)) or np.isfinite(chunk).all()
        )


def is_lazy(X: object) -> bool:
    """Return whether rows of X should be read by its ``__getitem__``.

    HDF5 and Zarr arrays convert themselves to NumPy at once, all in memory, but are
    stored in chunks; torch datasets and the like do not convert themselves.
    """
    if isinstance(X, Sequence) or hasattr(X, "keys") or hasattr(X, "tocsr"):
        return False
    is_stored = hasattr(X, "chunks") and hasattr(X, "shape")
    is_dataset = isinstance(X, Sized) and not hasattr(X, "__array__")
    return hasattr(X, "__getitem__") and (is_stored or is_dataset)


def length(X: Any) -> int:
    """Return the number of rows; a Zarr array has no ``len``."""
    return X.shape[0] if hasattr(X, "shape") else len(X)


class LazyRows:
    """Rows of an object with ``__len__`` and ``__getitem__``, checked as they are read.

    An object that has a ``shape`` is indexed by slices and by increasing arrays of
    integers; another one row by row, or by ``__getitems__`` if it has that, as torch
    datasets do.  Of a tuple, such as an image and its class, the first part is taken.

    Parameters
    ----------
    source : object
        With at least one row.
    name : str
        The estimator, for messages.
    """

    def __init__(self, source: Any, name: str) -> None:
        self._source, self._name = source, name
        self._is_array = hasattr(source, "shape")
        first = self._read(np.arange(1))
        self.shape = (length(source), *first.shape[1:])
        self.dtype = first.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of dimensions, that of the rows included."""
        return len(self.shape)

    def __getitem__(self, index: Index) -> np.ndarray:
        if isinstance(index, slice):
            index = np.arange(len(self))[index]
        rows = self._read(index)
        if rows.shape != (len(index), *self.shape[1:]):
            raise ValueError(
                f"X must return rows of one shape, {self.shape[1:]}. Got "
                f"{rows.shape[1:]} instead."
            )
        check_finite(rows, self._name)
        return rows

    def _read(self, index: np.ndarray) -> np.ndarray:
        if self._is_array:
            rows = self._read_array(index)
        elif hasattr(self._source, "__getitems__"):
            rows = _stacked(self._source.__getitems__(index.tolist()))
        else:
            rows = _stacked([self._source[i] for i in index.tolist()])
        if rows.dtype.kind not in "fiub":
            raise ValueError(
                f"X must return rows of numbers. Got {rows.dtype} instead; encode or "
                f"convert them first."
            )
        return rows if _is_taken(rows.dtype) else rows.astype(np.float64)

    def _read_array(self, index: np.ndarray) -> np.ndarray:
        first, last = (int(index.min()), int(index.max())) if len(index) else (0, -1)
        if last - first + 1 == len(index) and (np.diff(index) == 1).all():
            return np.asarray(self._source[first : last + 1])
        unique, inverse = np.unique(index, return_inverse=True)
        return np.asarray(self._source[unique])[inverse]


def _is_taken(dtype: np.dtype) -> bool:
    """Return whether the core takes numbers of this type; torch has no long doubles."""
    return dtype == np.uint8 or (dtype.kind == "f" and dtype.itemsize <= 8)


def _stacked(items: list[Any]) -> np.ndarray:
    """Return rows, or what comes first in each of them, as one array."""
    rows = [item[0] if isinstance(item, tuple) else item for item in items]
    try:
        return np.stack([_as_array(row) for row in rows])
    except ValueError as error:
        raise ValueError(
            f"X must return rows of numbers, all of one shape: {error}."
        ) from error


def _as_array(row: Any) -> np.ndarray:
    """Return a row as an array; tensors may ask for gradients, or be of bfloat16."""
    if hasattr(row, "detach"):
        row = row.detach().cpu()
        row = row.float() if row.dtype.itemsize == 2 else row
    return np.asarray(row)


class Subset:
    """Some rows of others, which are not copied."""

    def __init__(self, rows: Any, index: np.ndarray) -> None:
        self._rows, self._index = rows, index
        self.shape, self.dtype = (len(index), *rows.shape[1:]), rows.dtype

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: Index) -> Any:
        return self._rows[self._index[index]]

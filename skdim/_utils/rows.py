"""Data sets whose rows are read a few at a time.

Training accepts any object with ``shape``, ``dtype``, ``len(rows)`` and
``rows[index]``, where the index is a slice or an array of integers.  NumPy arrays,
memory-mapped or not, torch tensors and the classes of this module are such objects.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence, Sized
from typing import Any

import numpy as np

__all__ = ["LazyRows", "Subset", "batches", "check_finite", "is_lazy", "length"]

Index = slice | np.ndarray

_HOW_TO_IMPUTE = (
    "impute them first, as in make_pipeline(SimpleImputer(), {0}()), or, if missing is "
    "a category of its own, use a ColumnTransformer with an encoder such as "
    "OneHotEncoder for these columns"
)


def batches(n_rows: int, n_features: int, fewest: int = 256) -> list[slice]:
    """Return slices of almost equal size that cover the numbers 0 to ``n_rows - 1``.

    They let a caller process many rows in chunks that fit into memory.

    Parameters
    ----------
    n_rows : int
        Number of rows to split; each is in exactly one slice.
    n_features : int
        How many numbers the caller holds in memory for each row.  A slice has about
        ``2**20 / n_features`` rows, clipped to [fewest, 8192].
    fewest : int, default=256
        Smallest number of rows in a slice, up to even splitting and the total number.

    Returns
    -------
    slices : list of slice
        In increasing order; empty if ``n_rows`` is 0.
    """
    size = int(np.clip(2**20 // max(n_features, 1), fewest, 8192))
    edges = np.linspace(0, n_rows, -(-n_rows // size) + 1).astype(int)
    return [slice(*pair) for pair in itertools.pairwise(edges.tolist())]


def check_finite(chunk: Any, name: str) -> None:
    """Raise ValueError if some rows of the user's X hold NaN or infinity.

    The message says what to do about it.

    Parameters
    ----------
    chunk : ndarray of any shape
        The rows; arrays of integers always pass.
    name : str
        Name of the estimator, for the message.
    """
    if _is_finite(chunk):
        return
    if np.isnan(chunk).any():
        raise ValueError(
            f"Input X contains NaN, and {name} does not accept missing values; "
            f"{_HOW_TO_IMPUTE.format(name)}."
        )
    raise ValueError(
        f"Input X contains infinity or a value too large for {chunk.dtype}; replace "
        f"such values, for instance by the largest finite one of their column."
    )


def _is_finite(chunk: np.ndarray) -> bool:
    """Return True if an array holds only finite numbers, False if NaN or infinity."""
    if chunk.dtype.kind != "f":
        return True
    with np.errstate(all="ignore"):
        # The sum needs no memory.  If it overflows, each number is looked at.
        return bool(
            np.isfinite(chunk.sum(dtype=np.float64)) or np.isfinite(chunk).all()
        )


def is_lazy(X: object) -> bool:
    """Return True if rows of the user's X should be read batch by batch, else False.

    It is True for arrays that are stored in chunks, such as those of HDF5 and Zarr,
    which conversion to NumPy would load as a whole, and for data sets that cannot be
    converted, such as those of torch.  It is False for arrays in memory, data frames,
    sparse matrices, mappings and lists.
    """
    if isinstance(X, Sequence) or hasattr(X, "keys") or hasattr(X, "tocsr"):
        return False
    is_stored = hasattr(X, "chunks") and hasattr(X, "shape")
    is_dataset = isinstance(X, Sized) and not hasattr(X, "__array__")
    return hasattr(X, "__getitem__") and (is_stored or is_dataset)


def length(X: Any) -> int:
    """Return the number of rows of X: ``X.shape[0]``, or ``len(X)`` without a shape."""
    return X.shape[0] if hasattr(X, "shape") else len(X)


class LazyRows:
    """Array-like object that reads and checks the rows of a data set on access.

    Indexing by a slice or an array of integers returns an ndarray of shape (n_indexed,
    ...).  A source with a ``shape`` is read by a slice or an increasing array of
    integers.  A source with ``__getitems__``, as some torch data sets have, is read
    several rows at a time, any other source row by row.  If an item is a tuple, such as
    an image and its class, the row is its first element.

    Parameters
    ----------
    source : object
        The user's data set.  It has ``__getitem__``, a length or a shape, and at least
        one row.
    name : str
        Name of the estimator, for error messages.

    Attributes
    ----------
    shape : tuple of int
        Number of rows, followed by the shape of a row.
    dtype : numpy.dtype
        Data type of the rows that are returned: the type of the source if it is uint8
        or a floating type of at most 8 bytes, otherwise float64.

    Raises
    ------
    ValueError
        When the object is made or when rows are read, if rows are not numbers, differ
        in shape, or hold NaN or infinity.
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
        """Number of dimensions of ``shape``."""
        return len(self.shape)

    def __getitem__(self, index: Index) -> np.ndarray:
        if isinstance(index, slice):
            index = np.arange(len(self))[index]
        rows = self._read(index)
        if rows.shape != (len(index), *self.shape[1:]):
            raise ValueError(
                f"X must return rows that all have the shape {self.shape[1:]} of the "
                f"first one. Got {rows.shape[1:]} instead."
            )
        check_finite(rows, self._name)
        return rows

    def _read(self, index: np.ndarray) -> np.ndarray:
        """Read some rows of the source, and return them as an array of numbers.

        Parameters
        ----------
        index : ndarray of int
            Indices of the rows.

        Returns
        -------
        rows : ndarray of shape (len(index), ...)

        Raises
        ------
        ValueError
            If the source returns something else than numbers, or rows of unequal shape.
        """
        if self._is_array:
            rows = self._read_array(index)
        elif hasattr(self._source, "__getitems__"):
            rows = _stacked(self._source.__getitems__(index.tolist()))
        else:
            rows = _stacked([self._source[i] for i in index.tolist()])
        if rows.dtype.kind not in "fiub":
            raise ValueError(
                f"X must return rows of numbers. Got {rows.dtype} instead; encode or "
                f"convert the rows first."
            )
        return rows if _is_kept(rows.dtype) else rows.astype(np.float64)

    def _read_array(self, index: np.ndarray) -> np.ndarray:
        """Read some rows of a source that has a ``shape``, and return them as an array.

        ``index`` is an integer array of the rows to read, in any order and with
        repetitions; the result has the shape (len(index), ...).  Some libraries, such
        as h5py, accept only slices and increasing indices without repetition, so the
        source is asked for these and the rows are then put in the order of ``index``.
        """
        first, last = (int(index.min()), int(index.max())) if len(index) else (0, -1)
        if last - first + 1 == len(index) and (np.diff(index) == 1).all():
            return np.asarray(self._source[first : last + 1])
        unique, inverse = np.unique(index, return_inverse=True)
        return np.asarray(self._source[unique])[inverse]


def _is_kept(dtype: np.dtype) -> bool:
    """Return True if rows of this data type need no conversion to float64."""
    return dtype == np.uint8 or (dtype.kind == "f" and dtype.itemsize <= 8)


def _stacked(items: list[Any]) -> np.ndarray:
    """Stack rows that were read one by one into one array.

    Parameters
    ----------
    items : list
        Items of a data set: rows, or tuples whose first element is the row.

    Returns
    -------
    rows : ndarray of shape (len(items), ...)

    Raises
    ------
    ValueError
        If the rows differ in shape, or cannot be converted to arrays.
    """
    rows = [item[0] if isinstance(item, tuple) else item for item in items]
    try:
        return np.stack([_as_array(row) for row in rows])
    except ValueError as error:
        raise ValueError(
            f"X must return rows of numbers, all of one shape, but they cannot be "
            f"stacked: {error}."
        ) from error


def _as_array(row: Any) -> np.ndarray:
    """Return a row, which may be a torch tensor on any device, as a NumPy array."""
    if hasattr(row, "detach"):
        row = row.detach().cpu()
        row = row.float() if row.dtype.itemsize == 2 else row  # NumPy has no bfloat16
    return np.asarray(row)


class Subset:
    """Array-like object that stands for selected rows of a data set, without a copy.

    For instance the rows to train on, where others are held out.  Indexing by a slice
    or an array of integers reads the rows at these places of the selection.

    Parameters
    ----------
    rows : array-like of shape (n_rows, ...)
        The data set: any object with ``shape``, ``dtype`` and ``rows[index]`` for
        arrays of integers.
    index : ndarray of int of shape (n_selected,)
        Indices of the selected rows, in the order in which they are to appear.

    Attributes
    ----------
    shape : tuple of int
        ``n_selected``, followed by the shape of a row.
    dtype : data type of ``rows``
    """

    def __init__(self, rows: Any, index: np.ndarray) -> None:
        self._rows, self._index = rows, index
        self.shape, self.dtype = (len(index), *rows.shape[1:]), rows.dtype

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: Index) -> Any:
        return self._rows[self._index[index]]

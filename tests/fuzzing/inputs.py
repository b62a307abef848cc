"""Random inputs X, made in steps: numbers, planted oddities, type, layout.  And y."""

import tempfile
import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

__all__ = [
    "BROKEN",
    "FLOATS",
    "INTEGERS",
    "LABELS",
    "LAYOUTS",
    "OTHERS",
    "PLANTS",
    "WRONG_LABELS",
    "Data",
]


def constant_column(x, column, rng):
    x[:, column] = 0.1


def duplicate_column(x, column, rng):
    x[:, column] = x[:, 0]


def duplicate_rows(x, column, rng):
    x[1:] = x[rng.integers(1 + len(x) // 4, size=len(x) - 1)]


def all_equal(x, column, rng):
    x[:] = x[:1]


def two_values(x, column, rng):
    x[:, column] = x[:, column] > 0


def outlier(x, column, rng):
    x[-1, column] *= 1e6


def offset(x, column, rng):
    x[:, column] += 1e6


def large_offset(x, column, rng):
    x[:, column] = 1e15 + np.round(x[:, column])


def multiply(x, column, rng, by):
    x[:, column] *= by


def mixed_scales(x, column, rng):
    x *= 10.0 ** rng.integers(-30, 31, size=x.shape[1])


def negative_zero(x, column, rng):
    x[:, column] = np.where(x[:, column] > 0, 0.0, -0.0)


def nan(x, column, rng):
    x[rng.integers(len(x)), column] = np.nan


def infinity(x, column, rng):
    x[rng.integers(len(x)), column] = -np.inf


BROKEN = {plant.__name__: plant for plant in (nan, infinity)}
PLANTS = {
    plant.__name__: plant
    for plant in (
        *(constant_column, duplicate_column, duplicate_rows, all_equal, two_values),
        *(outlier, offset, large_offset, mixed_scales, negative_zero),
    )
}
PLANTS |= {
    f"times {by:g}": partial(multiply, by=by)
    for by in (1e-310, 1e-40, 1e-30, 1e30, 1e300)
}


def strided(x):
    part = np.zeros([2 * size for size in x.shape], x.dtype)
    part = part[(slice(None, None, 2),) * x.ndim]
    part[...] = x
    return part


def reversed_axes(x):
    back = (slice(None, None, -1),) * x.ndim
    return x[back].copy()[back]


def read_only(x):
    x = x.copy()
    x.setflags(write=False)
    return x


def memory_mapped(x):
    if not x.size or x.dtype == object:
        return x  # a file cannot hold these
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, x.dtype, "w+", shape=x.shape)
    mapped[:] = x
    return mapped


def unaligned(x):
    if x.dtype == object:
        return x
    moved = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    moved[...] = x
    return moved


def broadcast(x):
    return np.broadcast_to(x[:1], x.shape)


LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "strided": strided,
    "reversed": reversed_axes,
    "read-only": read_only,
    "memory-mapped": memory_mapped,
    "unaligned": unaligned,
    "broadcast": broadcast,
    "nested lists": lambda x: x.tolist(),
    "rows in a list": list,
}

FLOATS = ["float64", "float32", "float16", ">f8", ">f4", ">f2", "longdouble"]
INTEGERS = ["uint8", "int64", "int32", "int8", "uint16", "uint64", ">i4", "bool"]
OTHERS = ["object", "str", "words", "complex128", "datetime64[s]"]


def as_type(x, dtype):
    """Return x in this type; values are spread over some of the range of integers."""
    if dtype == "words":
        return np.where(x > 0, "yes", "no")
    if dtype not in INTEGERS or dtype == "bool":
        with np.errstate(all="ignore"):  # 1e30 is infinite in half precision
            return (x > 0 if dtype == "bool" else x).astype(dtype)
    # Doubles up to 2**53 convert to integers exactly; the limits of int64 do not.
    most = min(np.iinfo(dtype).max, 2**53)
    least = max(np.iinfo(dtype).min, -(2**53))
    return np.clip(np.nan_to_num(40 * x), least, most).astype(dtype)


@dataclass(frozen=True)
class Data:
    """A recipe of X.  Names of layouts and plants are keys of the dicts above."""

    shape: tuple
    dtype: str = "float64"
    layout: str = "C"
    plants: tuple = ()  # pairs of a name and a column
    seed: int = 0
    frame: str = ""  # "", "columns" or "nullable"

    def build(self):
        x = self._values()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # complex numbers, text of numbers
            x = np.asarray(as_type(x, self.dtype))
        if self.frame:
            return as_frame(x, self.frame)
        return LAYOUTS[self.layout](x) if x.ndim else x

    def _values(self):
        rng = np.random.default_rng(self.seed)
        x = rng.standard_normal(self.shape)
        if x.size and x.ndim > 1:
            rows = x.reshape(len(x), -1)
            with np.errstate(all="ignore"):
                for name, column in self.plants:
                    plant = PLANTS.get(name) or BROKEN[name]
                    plant(rows, column % rows.shape[1], rng)
        return x

    @property
    def kind(self):
        """Kind of the data, a label for counts of outcomes."""
        if len(self.shape) not in (2, 4):
            return "wrong number of dimensions"
        if len(self.shape) == 4:
            return "images"
        return "frame" if self.frame else "table"


def as_frame(x, kind):
    if x.dtype.kind in "fiu":
        x = x.astype(x.dtype.newbyteorder("="))  # pandas has no others
    frame = pd.DataFrame(x, columns=[f"column {k}" for k in range(x.shape[1])])
    return frame.convert_dtypes() if kind == "nullable" else frame


# Classes


LABELS = {
    "integers": lambda n, rng: rng.integers(3, size=n),
    "partly unknown": lambda n, rng: rng.integers(-1, 2, size=n),
    "all unknown": lambda n, rng: np.full(n, -1),
    "one class": lambda n, rng: np.zeros(n, int),
    "each its own": lambda n, rng: np.arange(n),
    "text": lambda n, rng: rng.choice(["a", "b"], size=n),
    "text, partly unknown": lambda n, rng: rng.choice(np.array(["a", -1], object), n),
    "bool": lambda n, rng: rng.random(n) > 0.5,
    "whole floats": lambda n, rng: rng.integers(3, size=n).astype(float),
    "list": lambda n, rng: rng.integers(3, size=n).tolist(),
    "series": lambda n, rng: pd.Series(rng.integers(3, size=n), dtype="category"),
    "column": lambda n, rng: rng.integers(3, size=(n, 1)),
    "big-endian": lambda n, rng: rng.integers(3, size=n).astype(">i4"),
}
WRONG_LABELS = {
    "none": lambda n, rng: None,
    "continuous": lambda n, rng: rng.standard_normal(n),
    "nan": lambda n, rng: np.full(n, np.nan),
    "unknown as text": lambda n, rng: np.full(n, "-1"),
    "object with None": lambda n, rng: np.array([None, "a"] * n, object)[:n],
    "numbers and text": lambda n, rng: np.array([1, "1"] * n, object)[:n],
    "too few": lambda n, rng: np.zeros(max(n - 1, 0), int),
    "two columns": lambda n, rng: rng.integers(2, size=(n, 2)),
    "number": lambda n, rng: 3,
    "ragged": lambda n, rng: [[1], [1, 2]],
}

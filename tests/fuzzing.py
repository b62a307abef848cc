"""Random data and parameters, and the one property that must hold of all of them.

``outcome(case)`` fits one case: ``fit`` either refuses it, by an error of our own or of
scikit-learn and before any training, or codes come out that are finite, of the right
shape and type, and the same to the bit each time.  A case is a recipe: small, and its
repr is code, so that what fails can be read, stored and run again.
"""

import faulthandler
import io
import linecache
import pickle
import sys
import tempfile
import traceback
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
import torch
from hypothesis import strategies as st
from pandas.api.types import is_extension_array_dtype
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import skdim
from skdim import NoiseInjectedDIM
from skdim._channels import CHANNELS
from skdim._critics import CRITICS
from skdim._encoders import ENCODERS
from skdim._laws import LAWS
from skdim._objectives import OBJECTIVES
from skdim._views import VIEWS

__all__ = [
    "Case",
    "Data",
    "cases",
    "failure_key",
    "image_cases",
    "outcome",
    "table_cases",
]

# Seconds after which an example counts as hung; the slowest ones take about one.
LIMIT = 120

OWN = [Path(package.__file__).parent for package in (skdim, sklearn)]


# Data: values in double precision, then things planted in them, then type and layout


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


def subnormal(x, column, rng):
    x[:, column] *= 1e-310


def subnormal_single(x, column, rng):
    x[:, column] *= 1e-40


def smallest(x, column, rng):
    x[:, column] *= 1e-30


def largest(x, column, rng):
    x[:, column] *= 1e30


def extreme(x, column, rng):
    x[:, column] *= 1e300


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
        *(outlier, offset, large_offset, subnormal, subnormal_single, smallest),
        *(largest, extreme, mixed_scales, negative_zero),
    )
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
    """Convert values; integers are spread over a part of their range."""
    if dtype == "words":
        return np.where(x > 0, "yes", "no")
    if dtype not in INTEGERS or dtype == "bool":
        with np.errstate(all="ignore"):  # 1e30 is infinite in half precision
            return (x > 0 if dtype == "bool" else x).astype(dtype)
    # What every double up to it converts to exactly: the range of int64 is not.
    most = min(np.iinfo(dtype).max, 2**53)
    least = max(np.iinfo(dtype).min, -(2**53))
    return np.clip(np.nan_to_num(40 * x), least, most).astype(dtype)


@dataclass(frozen=True)
class Data:
    """How X is made; names are those of the tables above."""

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
        """One word for the counts."""
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


# Code of a user's own: at the level of the module, as pickle asks


def halve(inputs, generator):
    return inputs / 2


def drop_in_place(inputs, generator):
    return inputs.mul_(torch.rand(inputs.shape, generator=generator) < 0.5)


def draw_globally(inputs, generator):
    return inputs + torch.randn_like(inputs)


def in_double(inputs, generator):
    return inputs.double()


def of_wrong_shape(inputs, generator):
    return inputs[:1]


def not_finite(inputs, generator):
    return inputs / 0


def not_a_tensor(inputs, generator):
    return inputs.numpy()


def module(n_features, n_components, *layers):
    """Return a perceptron whose weights do not depend on any global state."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.LazyLinear(n_components), *layers)
        net(torch.zeros(2, n_features))
    return net


def make_module(input_shape, n_components):
    return module(int(np.prod(input_shape)), n_components)


def make_normalised(input_shape, n_components):
    layers = nn.BatchNorm1d(n_components), nn.Dropout(0.5)
    return module(int(np.prod(input_shape)), n_components, *layers)


def make_too_wide(input_shape, n_components):
    return module(int(np.prod(input_shape)), n_components + 1)


def make_untrainable(input_shape, n_components):
    return make_module(input_shape, n_components).requires_grad_(False)


def make_number(input_shape, n_components):
    return 3


VIEW_CODES = ["halve", "drop_in_place", "draw_globally", "in_double"]
WRONG_VIEW_CODES = ["of_wrong_shape", "not_finite", "not_a_tensor"]
ENCODER_CODES = ["make_module", "make_normalised"]
WRONG_ENCODER_CODES = [
    *("make_too_wide", "make_untrainable", "make_number", "module(3, 2)"),
    *("module(8, 3)", "nn.Linear(5, 2)", "nn.Linear(4, 4).double()"),
]
LAW_CODES = [
    *("stats.expon()", "stats.norm(5, 2)", "stats.gamma(2.0)", "stats.t(3)"),
    *("stats.cauchy()", "stats.beta(0.5, 0.5)", "stats.lognorm(1.0)", "stats.laplace"),
    *("stats.uniform(-1, 2)", "stats.norm(0, 1e-20)", "stats.pareto(2.0)"),
    *("stats.triang(0.5)", "stats.Uniform(a=1, b=2)", "stats.lognorm(20.0)"),
    *("stats.norm(1e6, 1e30)", "stats.pareto(0.1)"),
]
WRONG_LAW_CODES = [
    *("stats.poisson(3)", "stats.expon(scale=-1)", "stats.norm([0, 1], [1, 1])"),
    *("stats.Normal(mu=1)", "stats.gamma", "stats.norm(1e30, 1)", "stats.norm"),
    *("stats.norm(np.nan, 1)", "stats.norm('a', 1)", "stats.multivariate_normal()"),
    *("stats.gaussian_kde([0, 1, 2])", "stats.Normal", "pd.Series([1.0])"),
]
COUNT_CODES = ["np.int64(2)", "np.uint8(3)", "True"]
REAL_CODES = ["np.float32(0.5)", "np.int64(1)", "np.float16(0.25)"]


@dataclass(frozen=True)
class Code:
    """A value that has no repr of its own, as the code that makes it."""

    text: str

    def __repr__(self):
        return self.text

    def build(self):
        names = {"Fraction": Fraction, "np": np, "pd": pd, "stats": stats}
        return eval(self.text, globals() | names)


def built(value):
    """Run the code in a value, also inside of lists."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(built, value))
    return value.build() if isinstance(value, Code) else value


# Parameters


def codes(texts):
    return st.sampled_from([Code(text) for text in texts])


def some(*values):
    return st.sampled_from(values)


def once_in(n):
    """Return True that rarely; Hypothesis draws the ends of ranges more often."""
    return st.sampled_from([False] * (n - 1) + [True])


counts = st.integers(1, 6) | codes(COUNT_CODES)
AUTO = some("auto")


def view_lists(is_image):
    names = [name for name, view in VIEWS.items() if view.of_images == is_image]
    step = st.sampled_from(names) | codes(VIEW_CODES)
    return some("auto", None) | step | st.lists(step, max_size=3).map(tuple)


def encoders(is_image):
    names = [name for name in ENCODERS if is_image or name != "conv"]
    return st.sampled_from(["auto", *names]) | codes(ENCODER_CODES)


def valid_parameters(is_image):
    """Return strategies by name, of what each parameter may be on its own."""
    return {
        "output_distribution": st.sampled_from(list(LAWS)) | codes(LAW_CODES),
        "noise_distribution": st.sampled_from(["auto", *CHANNELS]),
        "noise_scale": AUTO | some(1e-6, 0.01, 0.5, 30, 1e6) | codes(REAL_CODES),
        "objective": st.sampled_from(list(OBJECTIVES)),
        "agreement_weight": AUTO | some(0, 0.5, 1) | codes(REAL_CODES),
        "sliced_weight": AUTO | some(0, 1, 48.0, 1e6, 1e30, 1e300) | codes(REAL_CODES),
        "critic": st.sampled_from(list(CRITICS)),
        "whiten": some("auto", "received", True, False),
        "encoder": encoders(is_image),
        "output_layer": some("code", "hidden"),
        "views": view_lists(is_image),
        "view_strength": AUTO | some(0, 0.5, 1.0, 3, 1e30) | codes(REAL_CODES),
        "view_sides": some("both", "one"),
        "n_views": some(1, 2, 3) | codes(COUNT_CODES),
        "n_neighbors": counts | some(1000),
        "batch_size": AUTO | some(2, 3, 7, 16, 10**9) | codes(COUNT_CODES[:2]),
        "learning_rate_init": some(6e-3, 1e-30, 0.1, 10, 1e3, 1e10, 1e30, 1e300)
        | codes(REAL_CODES),
        "alpha": some(0, 0.5, 10, 1e3, 1e30, 1e300) | codes(REAL_CODES),
        "tol": some(None, 0, 1e-3, 1e6, 1e300) | codes(REAL_CODES),
        "n_iter_no_change": counts,
        "early_stopping": st.booleans(),
        "validation_fraction": some(0.1, 0.5, 0.7, 1e-9) | codes(REAL_CODES[:1]),
        "device": some("auto", "cpu", "cpu:0"),
        "verbose": some(0, 1, True),
        "warm_start": st.booleans(),
    }


# What a parameter may be wrongly, or rightly by surprise; either is an outcome.
ANYTHING = [
    *("nonsense", "", None, True, -1, 0, 1.5, -1e300, float("nan")),
    *(float("inf"), (), (0,), [None], [[]], {}, b"auto", print),
]
ANYTHING_CODES = [
    *("np.array(['auto'])", "np.array([1, 2])", "np.array(2)", "np.array(0.5)"),
    *("np.float64('nan')", "np.bool_(True)", "object()", "Fraction(-1, 3)", "{'auto'}"),
    *(
        "np.array([])",
        "pd.NA",
        "-(10**400)",
        "np.datetime64('2020')",
        "1j",
        "torch.tensor(2)",
    ),
]
ANY_VALUE = st.sampled_from(ANYTHING) | codes(ANYTHING_CODES)
HUGE = codes(["10**20", "10**400"])
WRONG = {
    # Not of what sets the size of a model, which may be as large as one asks for.
    **dict.fromkeys(["alpha", "learning_rate_init", "sliced_weight", "tol"], HUGE),
    **dict.fromkeys(["n_neighbors", "batch_size", "n_iter_no_change"], HUGE),
    "view_strength": HUGE,
    "output_distribution": codes(WRONG_LAW_CODES),
    "noise_scale": some(1e-7, 1e7),
    "agreement_weight": some(1.1),
    "encoder": codes(WRONG_ENCODER_CODES) | some("conv"),
    "views": codes(WRONG_VIEW_CODES) | some(*VIEWS),
    "device": some("meta", "cpu:7", "nonsense:0"),
    "image_shape": some((2, 2), (1, 2, 2), (2, 2, 2, 2), (0, 4), (-2, -2), (2.0, 2.0)),
    "hidden_layer_sizes": some((4, 0), (2.5,), ("4",), [[4, 4]]),
}
# Taken as a whole, these would only make examples slow.
UNTOUCHED = {"max_iter", "random_state"}


@st.composite
def flaws(draw):
    """Draw one parameter, and a value that is most likely wrong."""
    names = sorted(NoiseInjectedDIM().get_params().keys() - UNTOUCHED)
    name = draw(st.sampled_from(names) | st.sampled_from(sorted(WRONG)))
    return {name: draw(WRONG.get(name, ANY_VALUE) | ANY_VALUE)}


def reconciled(params):
    """Drop what the documentation says does not go with the rest."""
    params = dict(params)
    is_own = isinstance(params.get("encoder"), Code)
    if is_own and params.get("output_layer") == "hidden":
        del params["output_layer"]
    has_pairs = params.get("views", "auto") not in (None, ())
    is_exact = params.get("critic", "channel") == "channel"
    if not (has_pairs or params.get("supervised")) or not is_exact:
        params.pop("agreement_weight", None)
        if params.get("objective") == "agreement":
            del params["objective"]
    if params.get("view_strength") in (3, 1e30):
        steps = params.get("views", "auto")
        if not all(is_boundless(s) for s in ([steps], steps)[type(steps) is tuple]):
            del params["view_strength"]
    return params


def is_boundless(step):
    return step is None or isinstance(step, Code) or is_boundless_name(step)


def is_boundless_name(name):
    return name in VIEWS and VIEWS[name].most > 1


WIDTHS = some((4,), (5, 3), 4, [6], (), (1,)) | codes(["np.array([4, 2])"])


@st.composite
def parameters(draw, is_image):
    """Draw parameters, by most odds valid together."""
    strategies = valid_parameters(is_image)
    params = draw(st.fixed_dictionaries({}, optional=strategies))
    params["supervised"] = draw(st.booleans())
    if not draw(once_in(10)):
        params = reconciled(params)
    params |= {
        "n_components": draw(st.integers(1, 6) | some(12) | codes(COUNT_CODES)),
        # What is "auto" takes up most of the time; so it is rare.
        "hidden_layer_sizes": draw(AUTO if draw(once_in(20)) else WIDTHS),
        "max_iter": draw(some(1, 2)),
        "random_state": draw(st.integers(0, 3)),
    }
    return params | (draw(flaws()) if draw(once_in(6)) else {})


# Cases


@dataclass(frozen=True)
class Case:
    """One thing to try: data, the kind of y, and parameters."""

    data: Data
    y: str = "none"
    params: dict = field(default_factory=dict)

    def build(self):
        X = self.data.build()
        n = self.data.shape[0] if self.data.shape else 1
        rng = np.random.default_rng(self.data.seed)
        y = (LABELS | WRONG_LABELS)[self.y](n, rng)
        params = {name: built(value) for name, value in self.params.items()}
        return X, y, params


DTYPES = some(*FLOATS[:3], *INTEGERS[:3]) | some(*FLOATS, *INTEGERS, *OTHERS)


def n_rows(most):
    enough = st.integers(2, most)
    return once_in(20).flatmap(lambda rare: some(0, 1) if rare else enough)


@st.composite
def data(draw, shapes):
    shape = draw(shapes)
    plant = st.tuples(st.sampled_from(list(PLANTS)), st.integers(0, 7))
    plants = draw(st.lists(plant, max_size=3))
    if draw(once_in(12)):
        plants.append((draw(st.sampled_from(list(BROKEN))), 0))
    is_table = len(shape) == 2
    return Data(
        shape=shape,
        dtype=draw(DTYPES),
        layout=draw(st.sampled_from(list(LAYOUTS))),
        plants=tuple(plants),
        seed=draw(st.integers(0, 99)),
        frame=draw(some("", "", "", "columns", "nullable")) if is_table else "",
    )


def labels(is_supervised):
    right, wrong = (st.sampled_from(list(kinds)) for kinds in (LABELS, WRONG_LABELS))
    mostly = once_in(10).flatmap(lambda rare: wrong if rare else right)
    return mostly if is_supervised else some("none") | mostly


TABLES = st.tuples(n_rows(40), st.integers(1, 8))
SIZES = st.integers(1, 8)
CHANNELS_LAST = st.tuples(n_rows(20), SIZES, SIZES, st.integers(1, 5))
IMAGES = CHANNELS_LAST | CHANNELS_LAST.map(lambda s: (s[0], s[3], s[1], s[2]))
ODD_SHAPES = some((), (6,), (6, 0), (6, 4, 2), (4, 2, 2, 2, 1), (6, 4, 0, 1), (0,))


@st.composite
def table_cases(draw):
    shapes = ODD_SHAPES if draw(once_in(20)) else TABLES
    params = draw(parameters(is_image=False))
    y = draw(labels(params["supervised"] is True))
    return Case(draw(data(shapes)), y, params)


@st.composite
def image_cases(draw):
    """Draw images as arrays or, with ``image_shape``, as flat rows."""
    shape = draw(IMAGES)
    params = draw(parameters(is_image=True))
    if draw(some(False, False, True)):
        last = shape[3] == 1 and draw(st.booleans())
        params.setdefault("image_shape", shape[1:3] if last else shape[1:])
        if draw(st.booleans()):
            shape = (shape[0], int(np.prod(shape[1:])))
    y = draw(labels(params["supervised"] is True))
    return Case(draw(data(st.just(shape))), y, params)


def cases():
    return table_cases() | image_cases()


# The property


def outcome(case):
    """Fit the case and check all that must hold; return "fitted" or "refused: ..."."""
    X, y, params = case.build()
    before = fingerprint(X)
    dim = NoiseInjectedDIM(**params)
    with quiet(), counted_steps() as steps:
        try:
            dim.fit(X, y)
        except (ValueError, TypeError) as error:
            check_refused(error, steps)
            check_unfitted(dim)
            assert fingerprint(X) == before, "fit changed X"
            return f"refused: {type(error).__name__}"
        assert fingerprint(X) == before, "fit changed X"
        check_fitted(dim, X, y)
        assert fingerprint(X) == before, "transform changed X"
    return "fitted"


@contextmanager
def quiet():
    """Silence output and warnings, and end the process if it hangs."""
    faulthandler.dump_traceback_later(LIMIT, exit=True, file=sys.__stderr__)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def counted_steps():
    """Collect the steps of all optimizers."""
    steps = []
    hook = register_optimizer_step_pre_hook(lambda *_: steps.append(1))
    try:
        yield steps
    finally:
        hook.remove()


def fingerprint(X):
    array = np.asarray(X)
    # Bytes of objects are addresses, and those of long doubles have gaps.
    is_plain = array.dtype.itemsize <= 8 and array.dtype != object
    return array.tobytes() if is_plain else repr(array.tolist())


def check_refused(error, steps):
    """Check that the error is meant for the user, and came before training."""
    deepest = traceback.extract_tb(error.__traceback__)[-1]
    path = Path(deepest.filename)
    place = f"{path.name}:{deepest.lineno}: {type(error).__name__}: {error}"
    assert any(map(path.is_relative_to, OWN)), f"raw error at {place}"
    line = linecache.getline(deepest.filename, deepest.lineno)
    # Errors of NumPy and torch from compiled code leave no frame of their own.
    is_raised = line.lstrip().startswith("raise ") or path.is_relative_to(OWN[1])
    assert is_raised, f"raw error at {place}"
    assert str(error).strip(), f"no message at {place}"
    diverged = str(error).startswith("Training diverged")
    assert diverged or not steps, f"refused after {len(steps)} steps at {place}"


def check_unfitted(dim):
    """Check that nothing is left of a fit that failed."""
    left = vars(dim).keys() - dim.get_params().keys()
    assert not left, f"a failed fit left {sorted(left)}"
    try:
        check_is_fitted(dim)
    except NotFittedError:
        return
    raise AssertionError("fitted after an error")


def check_fitted(dim, X, y):
    codes = dim.transform(X)
    check_codes(codes, dim, X)
    unseen = far(X)
    check_codes(dim.transform(unseen), dim, unseen)
    assert np.isfinite(dim.information_), f"information_ is {dim.information_}"
    again = {
        "a second transform": dim,
        "a pickled copy": pickle.loads(pickle.dumps(dim)),
        "a clone fitted again": clone(dim).fit(X, y),
    }
    for name, other in again.items():
        assert np.array_equal(other.transform(X), codes), f"{name} gives other codes"


def far(X):
    """Return rows of this type that are as far off as the type allows, and near."""
    array = np.asarray(X)
    is_plain = array.dtype.kind in "fiu" and array.dtype.itemsize <= 8
    if not is_plain or hasattr(X, "columns"):
        return X
    limits = (np.finfo if array.dtype.kind == "f" else np.iinfo)(array.dtype)
    return np.where(array > 0, limits.max, limits.min).astype(array.dtype)


def check_codes(codes, dim, X):
    """Check shape, type and values of what ``transform`` returned."""
    array = np.asarray(X)
    assert array.ndim in (2, 4), f"fitted {array.ndim} dimensions"
    assert is_finite(array), "fitted values that are not finite"
    assert codes.shape == (len(array), n_outputs(dim, array)), f"shape {codes.shape}"
    assert codes.dtype == expected_dtype(X), f"dtype {codes.dtype} for {array.dtype}"
    assert np.isfinite(codes).all(), "codes are not finite"


def is_finite(array):
    with np.errstate(over="ignore"):
        return np.isfinite(array.astype(np.float64)).all()


def n_outputs(dim, array):
    """Return the documented number of columns."""
    n_columns = len(dim.get_feature_names_out())
    if dim.output_layer == "code":
        assert n_columns == dim.n_components
    elif dim.encoder == "mlp" or (dim.image_shape is None and array.ndim == 2):
        sizes = dim.hidden_layer_sizes
        sizes = [256] if isinstance(sizes, str) else np.atleast_1d(sizes).tolist()
        assert n_columns == (sizes or [array[0].size])[-1]
    return n_columns


def expected_dtype(X):
    """Return the documented type: single for input that single precision holds."""
    if hasattr(X, "dtypes") and any(map(is_extension_array_dtype, X.dtypes)):
        return np.float64  # as scikit-learn takes them
    dtype = np.asarray(X).dtype.newbyteorder("=")
    is_single = dtype in (np.float32, np.float16, np.uint8)
    return np.float32 if is_single else np.float64


def failure_key(error):
    """Return where a failure comes from; failures of one cause share it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(OWN[0])]
    frame = (own or frames)[-1]
    place = f"{Path(frame.filename).name}:{frame.name}"
    message = str(error).splitlines()[0][:80] if str(error) else ""
    return f"{type(error).__name__} in {place}: {message}"

"""Strategies of Hypothesis: parameters, mostly valid together, and complete cases."""

from dataclasses import dataclass, field

import numpy as np
from estimators import CLASSES
from hypothesis import strategies as st

from skdim import Views
from skdim._core.augmentations import AUGMENTATIONS
from skdim._core.bounds import BOUNDS
from skdim._core.channels import CHANNELS
from skdim._core.critics import CRITICS
from skdim._core.encoders import ENCODERS
from skdim._utils.distributions import DISTRIBUTIONS

from .inputs import (
    BROKEN,
    FLOATS,
    INTEGERS,
    LABELS,
    LAYOUTS,
    OTHERS,
    PLANTS,
    WRONG_LABELS,
    Data,
)
from .own_code import (
    COUNT_CODES,
    DISTRIBUTION_CODES,
    ENCODER_CODES,
    REAL_CODES,
    VIEW_CODES,
    WRONG_DISTRIBUTION_CODES,
    WRONG_ENCODER_CODES,
    WRONG_VIEW_CODES,
    Code,
    built,
)

__all__ = ["Case", "cases", "image_cases", "table_cases"]


@dataclass(frozen=True)
class Steps:
    """``Views`` that may hold code."""

    steps: object
    options: dict = field(default_factory=dict)

    def build(self):
        options = {name: built(value) for name, value in self.options.items()}
        return Views(built(self.steps), **options)


def codes(texts):
    return st.sampled_from([Code(text) for text in texts])


def some(*values):
    return st.sampled_from(values)


def once_in(n):
    """Draw True once in ``n`` times; the ends of a range would be drawn too often."""
    return st.sampled_from([False] * (n - 1) + [True])


counts = st.integers(1, 6) | codes(COUNT_CODES)
AUTO = some("auto")


def view_lists(is_image):
    kinds = AUGMENTATIONS.items()
    names = [name for name, kind in kinds if kind.for_images == is_image]
    step = st.sampled_from(names) | codes(VIEW_CODES)
    return some("auto", None) | step | st.lists(step, max_size=3).map(tuple)


def views(is_image):
    """Return a strategy of the short forms of ``views``, and of ``Views``."""
    short = view_lists(is_image)
    options = {
        "strength": AUTO | some(0, 0.5, 1.0, 3, 1e30) | codes(REAL_CODES),
        "sides": some("both", "one"),
        "n_views": some(1, 2, 3) | codes(COUNT_CODES),
        "n_neighbors": counts | some(1000),
    }
    options = st.fixed_dictionaries({}, optional=options)
    return short | st.builds(Steps, short, options)


def encoders(is_image):
    names = [name for name in ENCODERS if is_image or name != "conv"]
    return st.sampled_from(["auto", *names]) | codes(ENCODER_CODES)


def valid_parameters(is_image):
    """Return {name: strategy of values that are valid for this parameter alone}."""
    return {
        "output_distribution": st.sampled_from(list(DISTRIBUTIONS))
        | codes(DISTRIBUTION_CODES),
        "noise_distribution": st.sampled_from(list(CHANNELS)),
        "noise_scale": AUTO | some(1e-6, 0.01, 0.5, 30, 1e6) | codes(REAL_CODES),
        "objective": st.sampled_from(list(BOUNDS)),
        "agreement_weight": AUTO | some(0, 0.5, 1) | codes(REAL_CODES),
        "sliced_weight": AUTO | some(0, 1, 48.0, 1e6, 1e30, 1e300) | codes(REAL_CODES),
        "critic": st.sampled_from(["channel", *CRITICS]),
        "encoder": encoders(is_image),
        "output_layer": some("code", "hidden"),
        "views": views(is_image),
        "batch_size": AUTO | some(2, 3, 7, 16, 10**9) | codes(COUNT_CODES[:2]),
        "learning_rate_init": some(6e-3, 1e-30, 0.1, 10, 1e3, 1e10, 1e30, 1e300)
        | codes(REAL_CODES),
        "weight_decay": some(0, 0.5, 10, 1e3, 1e30, 1e300) | codes(REAL_CODES),
        "n_iter_no_change": counts,
        "early_stopping": st.booleans(),
        "validation_fraction": some(0.1, 0.5, 0.7, 1e-9) | codes(REAL_CODES[:1]),
        "device": some("auto", "cpu", "cpu:0"),
        "verbose": some(0, 1, True),
        "warm_start": st.booleans(),
    }


# Values that are wrong for most parameters; for some they happen to be valid.
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


def wrong_views():
    """Return a strategy of ``Views`` of which one parameter is most likely wrong."""
    right = codes(WRONG_VIEW_CODES) | some(*AUGMENTATIONS)
    wrong = st.builds(Steps, right)
    for name in ("augmentations", "strength", "sides", "n_views", "n_neighbors"):
        value = HUGE | ANY_VALUE
        if name == "augmentations":
            wrong |= st.builds(Steps, value)
        elif name == "n_views":  # sets how long an example takes
            wrong |= st.builds(Steps, AUTO, st.fixed_dictionaries({name: ANY_VALUE}))
        else:
            wrong |= st.builds(Steps, AUTO, st.fixed_dictionaries({name: value}))
    return wrong


WRONG = {
    # Not of what sets the size of a model, which may be as large as one asks for.
    **dict.fromkeys(["weight_decay", "learning_rate_init", "sliced_weight"], HUGE),
    **dict.fromkeys(["batch_size", "n_iter_no_change"], HUGE),
    "output_distribution": codes(WRONG_DISTRIBUTION_CODES),
    "noise_scale": some(1e-7, 1e7),
    "noise_distribution": some("auto", "laplace"),
    "agreement_weight": some(1.1),
    "encoder": codes(WRONG_ENCODER_CODES) | some("conv"),
    "views": codes(WRONG_VIEW_CODES) | some(*AUGMENTATIONS) | wrong_views(),
    "device": some("meta", "cpu:7", "nonsense:0"),
    "image_shape": some((2, 2), (1, 2, 2), (2, 2, 2, 2), (0, 4), (-2, -2), (2.0, 2.0)),
    "hidden_layer_sizes": some((4, 0), (2.5,), ("4",), [[4, 4]]),
}
# Other values of these parameters would only make examples slow.
UNTOUCHED = {"max_iter", "random_state"}


def names_of(estimator):
    """Return the names of an estimator's parameters, given the name of its class."""
    return CLASSES[estimator]().get_params().keys()


@st.composite
def flaws(draw, names):
    """Draw {name: value} for one of these parameters; the value is likely wrong."""
    several = sorted(names - UNTOUCHED), sorted(names & WRONG.keys())
    name = draw(st.one_of(*map(st.sampled_from, several)))
    return {name: draw(WRONG.get(name, ANY_VALUE) | ANY_VALUE)}


def reconciled(params):
    """Return params without those that, by the documentation, exclude each other."""
    params = dict(params)
    is_own = isinstance(params.get("encoder"), Code)
    if is_own and params.get("output_layer") == "hidden":
        del params["output_layer"]
    given = params.get("views", "auto")
    steps = given.steps if isinstance(given, Steps) else given
    has_pairs = steps not in (None, ())
    is_exact = params.get("critic", "channel") == "channel"
    if not (has_pairs or params.get("supervised")) or not is_exact:
        params.pop("agreement_weight", None)
    if isinstance(given, Steps) and given.options.get("strength") in (3, 1e30):
        if not all(is_boundless(s) for s in ([steps], steps)[type(steps) is tuple]):
            params["views"] = steps
    return params


def is_boundless(step):
    return step is None or isinstance(step, Code) or is_boundless_name(step)


def is_boundless_name(name):
    return name in AUGMENTATIONS and AUGMENTATIONS[name].largest_strength > 1


WIDTHS = some((4,), (5, 3), 4, [6], (), (1,)) | codes(["np.array([4, 2])"])


@st.composite
def parameters(draw, names, is_image):
    """Draw a dict of parameters with these names that is mostly valid as a whole."""
    strategies = valid_parameters(is_image)
    strategies = {name: strategies[name] for name in strategies if name in names}
    params = draw(st.fixed_dictionaries({}, optional=strategies))
    params["supervised"] = draw(st.booleans())
    if not draw(once_in(10)):
        params = reconciled(params)
    params |= {
        "n_components": draw(st.integers(1, 6) | some(12) | codes(COUNT_CODES)),
        # "auto" makes large layers, which are slow, so it is rare.
        "hidden_layer_sizes": draw(AUTO if draw(once_in(20)) else WIDTHS),
        "max_iter": draw(some(1, 2)),
        "random_state": draw(st.integers(0, 3)),
    }
    return params | (draw(flaws(names)) if draw(once_in(6)) else {})


# Cases


@dataclass(frozen=True)
class Case:
    """One test case: data, kind of y, parameters, and names of estimator and method."""

    data: Data
    y: str = "none"
    params: dict = field(default_factory=dict)
    estimator: str = "NoiseInjectedDIM"
    method: str = "fit"  # or "partial_fit"

    def build(self):
        """Return X, y and the estimator, not fitted."""
        X = self.data.build()
        n = self.data.shape[0] if self.data.shape else 1
        rng = np.random.default_rng(self.data.seed)
        y = (LABELS | WRONG_LABELS)[self.y](n, rng)
        params = {
            name: value.build() if isinstance(value, Steps) else built(value)
            for name, value in self.params.items()
        }
        return X, y, CLASSES[self.estimator](**params)


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


METHODS = some("fit", "fit", "fit", "partial_fit")
TABLES = st.tuples(n_rows(40), st.integers(1, 8))
SIZES = st.integers(1, 8)
CHANNELS_LAST = st.tuples(n_rows(20), SIZES, SIZES, st.integers(1, 5))
IMAGES = CHANNELS_LAST | CHANNELS_LAST.map(lambda s: (s[0], s[3], s[1], s[2]))
ODD_SHAPES = some((), (6,), (6, 0), (6, 4, 2), (4, 2, 2, 2, 1), (6, 4, 0, 1), (0,))


@st.composite
def table_cases(draw):
    shapes = ODD_SHAPES if draw(once_in(20)) else TABLES
    estimator = draw(st.sampled_from(list(CLASSES)))
    params = draw(parameters(names_of(estimator), is_image=False))
    y = draw(labels(params["supervised"] is True))
    return Case(draw(data(shapes)), y, params, estimator, draw(METHODS))


@st.composite
def image_cases(draw):
    """Draw images as arrays or, with ``image_shape``, as flat rows."""
    shape = draw(IMAGES)
    estimator = draw(st.sampled_from(list(CLASSES)))
    params = draw(parameters(names_of(estimator), is_image=True))
    if draw(some(False, False, True)):
        last = shape[3] == 1 and draw(st.booleans())
        params.setdefault("image_shape", shape[1:3] if last else shape[1:])
        if draw(st.booleans()):
            shape = (shape[0], int(np.prod(shape[1:])))
    y = draw(labels(params["supervised"] is True))
    return Case(draw(data(st.just(shape))), y, params, estimator, draw(METHODS))


def cases():
    return table_cases() | image_cases()

"""Random inputs and parameters are refused as documented, or give sound codes."""

from collections import Counter

import numpy as np
import pytest
from fuzzing import Case, Code, Data, image_cases, outcome, table_cases
from hypothesis import HealthCheck, given, settings
from sklearn.utils import check_array

from skdim import NoiseInjectedDIM

TABLE, IMAGES = Data((9, 3)), Data((9, 4, 4, 1))
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 1, "random_state": 0}


def outcomes(strategy, n_examples):
    """Return how many of ``n_examples`` random cases had each outcome.

    The cases are the same in every run.  Large and slow ones are wanted, so Hypothesis
    must not complain about them.
    """
    counts = Counter()

    @settings(
        max_examples=n_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def check(case):
        counts[outcome(case)] += 1

    check()
    return counts


STRATEGIES = {"tables": table_cases(), "images": image_cases()}
N_EXAMPLES = {"tables": 1200, "images": 800}


@pytest.mark.parametrize("kind", STRATEGIES)
def test_some_examples(kind):
    assert outcomes(STRATEGIES[kind], 30).total() >= 30


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "n_examples"), N_EXAMPLES.items())
def test_many_examples(kind, n_examples):
    counts = outcomes(STRATEGIES[kind], n_examples)
    # Otherwise too few cases would get past validation.
    assert counts["fitted"] > n_examples / 3, counts
    assert counts["refused: ValueError"] > n_examples / 20, counts


# Checks that the property finds faults


@pytest.mark.parametrize("data", [TABLE, IMAGES], ids=lambda data: data.kind)
def test_sound_case_is_fitted(data):
    assert outcome(Case(data, params={"n_components": 2, **SMALL})) == "fitted"


def test_bad_case_is_refused():
    case = Case(TABLE, params={"n_components": 0, **SMALL})
    assert outcome(case) == "refused: InvalidParameterError"


def test_moments_beyond_single_precision_are_refused():
    params = {
        "weight_decay": 1e30,
        "learning_rate_init": 0.5,
        "encoder": Code("make_module"),
    }
    case = Case(Data((2, 1, 1, 2)), params={"n_components": 12, **SMALL, **params})
    assert outcome(case) == "refused: ValueError"  # by the decay of the weights
    params |= {"weight_decay": 0, "learning_rate_init": 1e30}
    case = Case(Data((2, 1, 1, 2)), params={"n_components": 12, **SMALL, **params})
    assert outcome(case) == "diverged"


def spoil(codes):
    codes[0] = np.nan
    return codes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil, "not finite"),
        (lambda codes: codes[:, :1], "shape"),
        (lambda codes: codes.astype("float16"), "dtype"),
        (lambda codes: codes + np.random.default_rng().random(), "gives other codes"),
    ],
)
def test_unsound_codes_are_noticed(monkeypatch, change, message):
    transform = NoiseInjectedDIM.transform
    changed = lambda self, X: change(transform(self, X))  # noqa: E731
    monkeypatch.setattr(NoiseInjectedDIM, "transform", changed)
    with pytest.raises(AssertionError, match=message):
        outcome(Case(TABLE, params={"n_components": 2, **SMALL}))


fit = NoiseInjectedDIM.fit


def fail_in_numpy(self, X, y=None):
    np.broadcast_shapes((2,), (3,))


def fail_late(self, X, y=None):
    fit(self, X, y)
    check_array([[np.nan]])


def leave_traces(self, X, y=None):
    self.n_features_in_ = 3
    check_array([[np.nan]])


def change_input(self, X, y=None):
    fit(self, X, y)
    X[0] = 0
    return self


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (fail_in_numpy, "raw error"),
        (fail_late, "refused after 1 steps"),
        (leave_traces, "a failed fit left"),
        (change_input, "fit changed X"),
    ],
)
def test_unsound_fit_is_noticed(monkeypatch, changed, message):
    monkeypatch.setattr(NoiseInjectedDIM, "fit", changed)
    with pytest.raises(AssertionError, match=message):
        outcome(Case(TABLE, params=SMALL))

"""Rules that every public estimator keeps: scikit-learn's contract, and our own."""

import copy
import importlib.metadata
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import sklearn
import torch
from estimators import (
    DEFAULTS,
    DETECTORS,
    ESTIMATORS,
    UNGENERATED,
    UNGENERATED_OF_DETECTORS,
    name_of,
)
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

each = pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
everyone = pytest.mark.parametrize("estimator", ESTIMATORS + DETECTORS, ids=name_of)
X, y = load_iris(return_X_y=True)
# The checks of scikit-learn fit few rows, and rename columns on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore:There were only"),
    pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names"),
]
HAS_ARRAY_API = get_tags(ESTIMATORS[0]).array_api_support


@pytest.fixture
def dispatch():
    with sklearn.config_context(array_api_dispatch=True):
        yield


def seeded(estimator):
    return clone(estimator).set_params(random_state=0)


def outputs(fitted):
    """Return the outputs of a fitted estimator: codes, or scores and p-values."""
    if hasattr(fitted, "transform"):
        return fitted.transform(X)
    return np.c_[fitted.score_samples(X), fitted.p_values(X)]


# Of scikit-learn


@parametrize_with_checks(ESTIMATORS + DETECTORS + DEFAULTS)
def test_generated_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", UNGENERATED)
@each
def test_ungenerated_check(estimator, name):
    getattr(estimator_checks, name)(type(estimator).__name__, estimator)


@pytest.mark.parametrize("name", UNGENERATED_OF_DETECTORS)
@pytest.mark.parametrize("detector", DETECTORS, ids=name_of)
def test_ungenerated_check_of_detectors(detector, name):
    getattr(estimator_checks, name)(type(detector).__name__, detector)


@everyone
def test_no_check_is_skipped_by_a_tag(estimator):
    tags = get_tags(estimator)
    assert not tags.non_deterministic and not tags.no_validation


# Tensors in, tensors out


needs_array_api = pytest.mark.skipif(
    not HAS_ARRAY_API, reason="scikit-learn before 1.9, or SCIPY_ARRAY_API is not set"
)


@needs_array_api
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.int64])
@each
def test_tensors_stay_tensors(estimator, kind, dispatch):
    rows = torch.tensor(X).to(kind)
    Z = seeded(estimator).fit(rows).transform(rows)
    assert isinstance(Z, torch.Tensor) and Z.device == rows.device
    assert not Z.is_inference() and not Z.requires_grad
    assert Z.dtype == (torch.float32 if kind == torch.float32 else torch.float64)
    expected = seeded(estimator).fit_transform(rows.numpy())
    np.testing.assert_array_equal(Z.numpy(), expected)
    Z += 1  # an inference tensor would refuse


@needs_array_api
@each
def test_tensors_pass_through_a_pipeline(estimator, dispatch):
    rows = torch.tensor(X)
    pipeline = make_pipeline(StandardScaler(), seeded(estimator), Ridge())
    predicted = pipeline.fit(rows, rows[:, 0]).predict(rows)
    assert isinstance(predicted, torch.Tensor)


@needs_array_api
@each
def test_a_model_fitted_on_arrays_takes_tensors_but_not_the_reverse(
    estimator, dispatch
):
    rows = torch.tensor(X)
    Z = seeded(estimator).fit(X).transform(rows)
    assert isinstance(Z, torch.Tensor)
    fitted = seeded(estimator).fit(rows)
    with pytest.raises(ValueError, match="must use the same namespace"):
        fitted.transform(X)
    with sklearn.config_context(array_api_dispatch=False):
        np.testing.assert_array_equal(fitted.transform(X), Z.numpy())


@each
def test_tensors_become_arrays_without_dispatch(estimator):
    rows = torch.tensor(X, requires_grad=True)
    Z = seeded(estimator).fit(rows).transform(rows)
    assert isinstance(Z, np.ndarray)
    np.testing.assert_array_equal(Z, seeded(estimator).fit_transform(X))
    assert seeded(estimator).fit_transform(rows.bfloat16()).dtype == np.float32


# Ours


@everyone
def test_same_seed_same_bits_whatever_the_global_seeds(estimator):
    codes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        codes.append(outputs(seeded(estimator).fit(X, y)))
    np.testing.assert_array_equal(*codes)


@everyone
def test_global_state_is_untouched(estimator):
    def state():
        return (
            torch.random.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            random.getstate(),
            torch.get_num_threads(),
            torch.get_num_interop_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
        )

    before = state()
    fitted = seeded(estimator).fit(X, y)
    outputs(fitted)
    if hasattr(fitted, "transform"):
        fitted.score(X, y)
        fitted.partial_fit(X, y)
    assert state() == before


def through_skops(estimator):
    skops = pytest.importorskip("skops.io")
    data = skops.dumps(estimator)
    return skops.loads(data, trusted=skops.get_untrusted_types(data=data))


@pytest.mark.parametrize(
    "copied",
    [lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy, through_skops],
    ids=["pickle", "deepcopy", "skops"],
)
@everyone
def test_a_copy_gives_identical_output(estimator, copied):
    fitted = seeded(estimator).fit(X, y)
    np.testing.assert_array_equal(outputs(copied(fitted)), outputs(fitted))


def test_html_shows_parameters_and_fitted_attributes_without_side_effects(tmp_path):
    version = tuple(map(int, importlib.metadata.version("scikit-learn").split(".")[:2]))
    code = "import pickle, sys\n"
    for estimator in ESTIMATORS + DETECTORS:
        fitted = seeded(estimator).fit(X, y)
        before = pickle.dumps(fitted)
        shown = fitted._repr_html_()
        assert pickle.dumps(fitted) == before
        expected = set(fitted.get_params(deep=False)) if version >= (1, 7) else set()
        if version >= (1, 9):
            expected |= {n for n in vars(fitted) if n.endswith("_") and n[0] != "_"}
        assert not {name for name in expected if name not in shown}
        path = tmp_path / name_of(estimator)
        path.write_bytes(before)
        code += f"pickle.load(open({str(path)!r}, 'rb'))._repr_html_()\n"
        code += f"print({path.name!r}, 'torch' in sys.modules)\n"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    everyone = [name_of(estimator) for estimator in ESTIMATORS + DETECTORS]
    lines = [f"{name} False" for name in everyone]
    assert run.stdout.splitlines() == lines, run.stderr


@everyone
def test_a_failed_fit_leaves_a_fitted_estimator(estimator):
    fitted = seeded(estimator).fit(X, y)
    before = outputs(fitted)
    methods = [getattr(fitted, n) for n in ("fit", "partial_fit") if hasattr(fitted, n)]
    for bad in (X[:, :0], X[:1], X + np.nan, X.ravel(), "text"):
        for method in methods:
            with pytest.raises((ValueError, TypeError)):
                method(bad)
    np.testing.assert_array_equal(outputs(fitted), before)

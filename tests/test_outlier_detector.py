"""InfoMaxOutlierDetector: ranks of outliers, and the rate of false alarms."""

import itertools
import pickle
import pickletools
import signal

import numpy as np
import pytest
from scipy import stats
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdim import DeepInfoMax, InfoMaxOutlierDetector, NoiseInjectedDIM
from skdim._core import training
from skdim._novelty import Novelty
from skdim._outlier_detector import _inputs

pytestmark = pytest.mark.filterwarnings("ignore:There were only")

QUICK = {"n_components": 2, "hidden_layer_sizes": (16,), "max_iter": 3}


def detector(**params):
    """Return a detector that is fitted fast, with these parameters."""
    estimator = NoiseInjectedDIM(**QUICK)
    return InfoMaxOutlierDetector(
        **({"estimator": estimator, "random_state": 0} | params)
    )


@pytest.fixture(scope="module")
def rows():
    """Normal rows to train on, other normal rows, and outliers."""
    X, y = load_breast_cancer(return_X_y=True)
    benign = X[y == 1]
    return benign[:250], benign[250:], X[y == 0]


@pytest.fixture(scope="module")
def fitted(rows):
    return InfoMaxOutlierDetector(random_state=0).fit(rows[0])


def test_outliers_rank_above_rows_like_those_trained_on(fitted, rows):
    _, normal, odd = rows
    scores = fitted.score_samples(np.concatenate([normal, odd]))
    is_odd = np.r_[np.zeros(len(normal)), np.ones(len(odd))]
    assert roc_auc_score(is_odd, -scores) > 0.95
    assert (fitted.predict(odd) == -1).mean() > 0.8


LEVELS = np.array([0.05, 0.1, 0.2])
LAWS = {
    "heavy tails": lambda rng, n: rng.standard_t(3, (n, 3)),
    "binary": lambda rng, n: rng.integers(0, 2, (n, 4)).astype(float),
    "few kinds": lambda rng, n: np.eye(6)[rng.integers(0, 6, n)],
}


def false_alarms(law, n_rows, **params):
    """Return the share of normal rows that are flagged at each level, and its error.

    Training rows are sorted, as they may be in a file.
    """
    rng, shares = np.random.default_rng(0), []
    for _ in range(25):
        X = LAWS[law](rng, n_rows + 400)
        train = X[np.argsort(-abs(X[:n_rows, 0]), kind="stable")]
        p = detector(**params).fit(train).p_values(X[n_rows:])
        shares.append([(p <= level).mean() for level in LEVELS])
    return np.mean(shares, 0), np.std(shares, 0) / 5


@pytest.mark.parametrize("n_rows", [20, 61])
@pytest.mark.parametrize("params", [{}, {"support_fraction": 0.7}])
def test_false_alarms_are_as_rare_as_said_at_any_size(n_rows, params):
    mean, error = false_alarms("heavy tails", n_rows, **params)
    assert (mean <= LEVELS + 2 * error).all(), mean
    n_held = round(0.75 * n_rows)
    exact = np.floor(LEVELS * (n_held + 1)) / (n_held + 1)
    assert (np.abs(mean - exact) < 4 * error + 1e-9).all(), (mean, exact)


@pytest.mark.parametrize("law", ["binary", "few kinds"])
def test_ties_make_no_more_false_alarms(law):
    mean, error = false_alarms(law, 40)
    assert (mean <= LEVELS + 2 * error).all(), mean


def test_p_values_hold_on_real_rows(fitted, rows):
    p = fitted.p_values(rows[1])
    n_held = round(0.75 * len(rows[0]))
    assert p.min() >= 1 / (n_held + 1) and p.max() <= 1
    for level in (0.05, 0.1, 0.5):
        error = np.sqrt(level * (1 - level) * (1 / n_held + 1 / len(p)))
        assert abs((p <= level).mean() - level) < 2.5 * error
    assert (fitted.p_values(rows[2]) <= 0.05).mean() > 0.5


def test_p_values_rank_rows_nearly_as_scores_do(fitted, rows):
    X = np.concatenate(rows[1:])
    p, scores = fitted.p_values(X), fitted.score_samples(X)
    assert stats.spearmanr(p, scores).statistic > 0.9


@pytest.mark.parametrize("n_copies", [1, 3, 9])
def test_scores_of_rows_that_fit_was_given_are_those_it_had(n_copies, rows):
    X = np.repeat(rows[0], n_copies, 0)
    for params in ({}, {"support_fraction": 0.7}):
        fitted = detector(calibration_size=0, **params).fit(X)
        known = fitted.score_samples(X)  # the fit made the threshold from them
        assert fitted.offset_ == np.percentile(known, 5)
        order = np.random.default_rng(0).permutation(len(X))
        np.testing.assert_array_equal(fitted.score_samples(X[order]), known[order])


def test_both_detectors_are_trained_for_as_many_epochs():
    X = np.random.default_rng(0).normal(size=(2000, 3))
    fitted = InfoMaxOutlierDetector(random_state=0).fit(X)
    second = fitted._state["calibration"]["estimator"]
    assert fitted.estimator_.n_iter_ == second.n_iter_ == 29  # of 7 steps and of 1
    assert second.n_samples_seen_ == 500


def test_rows_trained_on_are_scored_as_if_left_out(rows):
    X = rows[0]
    fitted = detector(calibration_size=0).fit(X)
    seen, unseen = fitted.score_samples(X), fitted.score_samples(rows[1])
    assert stats.ks_2samp(seen, unseen).pvalue > 0.001
    # Rows moved by almost nothing are new rows, very near to training rows.
    moved = fitted.score_samples(X * (1 + 1e-6))
    assert np.median(moved - seen) > 1


def test_contamination_is_the_share_of_training_rows(rows):
    X = np.concatenate(rows)
    for share in (0.02, 0.3):
        labels = detector(contamination=share, calibration_size=0).fit_predict(X)
        assert abs((labels == -1).mean() - share) <= 1 / len(X)


def test_a_support_leaves_outliers_out():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    X[-40:] = 6 + 0.1 * rng.normal(size=(40, 5))  # a clump of rows near each other
    robust = detector(support_fraction=0.8).fit(X)
    assert robust.support_.sum() == 320
    scores = robust.score_samples(X)
    is_clump = np.arange(400) >= 360
    assert not robust.support_[is_clump].any()
    plain = detector().fit(X)
    assert plain.support_.all()
    assert roc_auc_score(is_clump, -scores) > roc_auc_score(
        is_clump, -plain.score_samples(X)
    )


def test_images_are_taken():
    images = load_digits().images[..., None]
    is_zero = load_digits().target == 0
    estimator = NoiseInjectedDIM(2, max_iter=3, hidden_layer_sizes=(8, 16))
    fitted = detector(estimator=estimator).fit(images[is_zero][:100])
    scores = fitted.score_samples(images)
    assert roc_auc_score(~is_zero[100:], -scores[100:]) > 0.95
    p = fitted.p_values(images)
    assert (p[~is_zero] <= 0.05).mean() > 0.7
    unseen = np.flatnonzero(is_zero)[100:]
    error = np.sqrt(0.2 * 0.8 * (1 / 75 + 1 / len(unseen)))
    assert abs((p[unseen] <= 0.2).mean() - 0.2) < 2.5 * error
    flat = clone(fitted)
    flat.estimator.set_params(image_shape=(8, 8))
    flat.fit(images[is_zero][:100].reshape(100, -1))
    np.testing.assert_allclose(flat.score_samples(images.reshape(-1, 64)), scores)


def test_a_new_value_in_a_column_that_never_varied_is_a_surprise(rows):
    X = np.c_[rows[0], np.full(len(rows[0]), 3.0)]
    fitted = detector().fit(X)
    moved = X + np.r_[np.zeros(30), 1e9]
    assert (fitted.score_samples(moved) < fitted.score_samples(X) - 0.1).mean() > 0.9


def test_what_appears_where_pixels_never_varied_is_a_surprise():
    digits = load_digits()
    images = digits.images[digits.target == 1][..., None] / 16
    images = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    estimator = NoiseInjectedDIM(2, max_iter=3, hidden_layer_sizes=(8, 16))
    fitted = detector(estimator=estimator).fit(images[:140])
    framed = images[140:].copy()
    framed[:, 0] = framed[:, -1] = 1
    assert (fitted.p_values(framed) <= 0.05).mean() > 0.9
    assert (fitted.p_values(images[140:]) <= 0.05).mean() < 0.2

    def distance(rows):
        novelty = Novelty.restored(fitted._state["novelty"])
        return novelty.each(*_inputs(fitted.estimator_, rows))["rows"]

    assert distance(framed).min() > np.median(distance(images[140:])) + 2
    blank = detector(estimator=estimator).fit(np.full((40, 8, 8, 1), 7.0))
    spot = np.full((2, 8, 8, 1), 7.0)
    spot[1, 0, 0] = 9
    assert np.diff(blank.score_samples(spot)) < -1


def test_huge_values_are_far_out_and_nothing_else(rows):
    X = rows[0].copy()
    X[0, 0] = 1e300
    for huge in (X, X * 1e-300, np.c_[X, 1e305 * X[:, 1]]):
        fitted = detector(calibration_size=0).fit(huge)
        scores = fitted.score_samples(huge)
        assert np.isfinite(scores).all() and (scores < scores[0]).sum() < 15
    plain = detector().fit(rows[0])
    assert np.isfinite(plain.score_samples(np.full((2, 30), 1.7e308))).all()


@pytest.mark.parametrize(
    "X",
    [
        np.random.default_rng(0).integers(0, 2, (300, 4)).astype(float),
        np.repeat(load_breast_cancer().data[:10], 30, 0),
        np.repeat(load_breast_cancer().data[:10], 30, 0).astype(np.float32),
        np.repeat(load_digits().images[:10, ..., None], 20, 0).astype(np.float32),
        load_digits().data[:200],
    ],
    ids=["binary", "copies", "copies in single", "images", "digits"],
)
def test_a_row_has_the_same_p_value_alone(X):
    params = {"hidden_layer_sizes": (8, 16)} if X.ndim > 2 else {}
    fitted = detector(estimator=NoiseInjectedDIM(**QUICK | params)).fit(X)
    order = np.random.default_rng(1).permutation(len(X))[:40]
    alone = np.concatenate([fitted.p_values(X[i : i + 1]) for i in order])
    np.testing.assert_array_equal(alone, fitted.p_values(X)[order])


def test_few_rows_like_those_trained_on_are_not_all_outliers():
    X = np.random.default_rng(0).normal(size=(1060, 5))
    fitted = InfoMaxOutlierDetector(contamination=0.1, random_state=0).fit(X[:60])
    assert (fitted.predict(X[60:]) == -1).mean() < 0.3


def test_an_interrupt_leaves_the_detector_as_it_was(rows, monkeypatch):
    fitted = detector().fit(rows[0])
    before = vars(fitted).copy()
    calls = []

    def interrupted(self, X, y=None):
        calls.append(len(X))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(self, X, y)

    fit = NoiseInjectedDIM.fit
    monkeypatch.setattr(NoiseInjectedDIM, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(rows[1])
    assert len(calls) == 2 and vars(fitted) == before


@pytest.mark.parametrize(
    "params, message",
    [
        ({"n_components": 0}, "'n_components' parameter"),
        ({"noise_scale": -1.0}, "'noise_scale' parameter"),
        ({"max_iter": 0}, "'max_iter' parameter"),
        ({"supervised": True}, "supervised=False"),
    ],
)
def test_parameters_of_the_estimator_are_checked(params, message, rows):
    with pytest.raises(ValueError, match=message):
        detector(estimator=NoiseInjectedDIM(**params)).fit(rows[0])


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32])
def test_types_of_rows_do_not_matter_much(kind, rows):
    X = (10 * rows[0]).astype(kind)
    expected = detector().fit(X.astype(float)).score_samples(X.astype(float))
    found = detector().fit(X).score_samples(X)
    assert found.dtype == np.float64
    assert stats.spearmanr(found, expected).statistic > 0.99


def test_a_copy_gives_the_same(fitted, rows):
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.p_values(rows[1]), fitted.p_values(rows[1]))


def test_a_pickle_names_no_private_class(fitted):
    names = {
        argument
        for opcode, argument, _ in pickletools.genops(pickle.dumps(fitted, protocol=0))
        if opcode.name == "GLOBAL" and argument.startswith("skdim")
    }
    assert {name.split()[-1] for name in names} == {
        "InfoMaxOutlierDetector",
        "NoiseInjectedDIM",
    }


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_codes_may_come_as_data_frames(container, rows):
    pytest.importorskip(container)
    given = NoiseInjectedDIM(**QUICK)
    expected = detector(estimator=given).fit(rows[0]).p_values(rows[1])
    given = clone(given).set_output(transform=container)
    fitted = detector(estimator=given).fit(rows[0])
    np.testing.assert_array_equal(fitted.p_values(rows[1]), expected)
    with config_context(transform_output=container):
        found = detector().fit(rows[0]).p_values(rows[1])
    np.testing.assert_array_equal(found, expected)


def test_an_interrupt_ends_the_training_that_runs_and_no_more(rows, monkeypatch):
    estimator = NoiseInjectedDIM(**QUICK | {"max_iter": 50})
    calls, step = itertools.count(), training.objective

    def interrupted(*args):
        if next(calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return step(*args)

    monkeypatch.setattr(training, "objective", interrupted)
    with pytest.warns(ConvergenceWarning, match="was interrupted after 5 of 50"):
        fitted = detector(estimator=estimator).fit(rows[0])
    assert fitted.estimator_.n_iter_ == 5
    assert fitted._state["calibration"]["estimator"].n_iter_ == 50
    assert (fitted.p_values(rows[2]) <= 0.1).mean() > 0.3


def test_too_few_rows_for_the_second_detector_are_named(rows):
    estimator = NoiseInjectedDIM(**QUICK, early_stopping=True)
    with pytest.raises(
        ValueError, match=r"the 3 of 12 rows that calibration_size=0\.75"
    ):
        detector(estimator=estimator).fit(rows[0][:12])


def test_the_given_estimator_is_left_alone(rows):
    given = NoiseInjectedDIM(**QUICK, random_state=3)
    fitted = detector(estimator=given).fit(rows[0])
    assert not hasattr(given, "capacity_") and given.random_state == 3
    assert fitted.estimator_.random_state == 3


def test_deep_infomax_serves_too(rows):
    estimator = DeepInfoMax(**QUICK)
    fitted = detector(estimator=estimator).fit(rows[0])
    assert fitted.p_values(rows[2]).mean() < 0.2


def test_codes_of_the_model_serve_other_detectors(rows):
    train, normal, odd = rows
    pipeline = make_pipeline(
        StandardScaler(),
        NoiseInjectedDIM(random_state=0),
        IsolationForest(random_state=0),
    ).fit(train)
    scores = pipeline.score_samples(np.concatenate([normal, odd]))
    is_odd = np.r_[np.zeros(len(normal)), np.ones(len(odd))]
    assert roc_auc_score(is_odd, -scores) > 0.8


@pytest.mark.parametrize(
    "params, message",
    [
        ({"contamination": 0.6}, "'contamination'"),
        ({"calibration_size": 1.0}, "'calibration_size'"),
        ({"support_fraction": 0.3}, "'support_fraction'"),
        ({"estimator": StandardScaler()}, r"Got StandardScaler\(\) instead"),
        ({"estimator": "mlp"}, "'estimator'"),
    ],
)
def test_bad_parameters_are_named_and_change_nothing(params, message, rows):
    fitted = detector().fit(rows[0])
    before = fitted.score_samples(rows[1])
    with pytest.raises((ValueError, TypeError), match=message):
        fitted.set_params(**params).fit(rows[0])
    np.testing.assert_array_equal(fitted.score_samples(rows[1]), before)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda d, X: d.fit(X[:3]), "minimum of 4 is required"),
        (lambda d, X: d.fit(X * np.nan), "NaN"),
        (lambda d, X: d.score_samples(X[:, 1:]), "is expecting 30"),
        (lambda d, X: d.fit(X[:, :, None]), "Got 3 dimensions"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(call, message, rows):
    fitted = detector().fit(rows[0])
    before = vars(fitted).copy()
    with pytest.raises(ValueError, match=message):
        call(fitted, rows[1])
    assert vars(fitted) == before


def test_without_rows_held_out_there_are_no_p_values(rows):
    fitted = detector(calibration_size=0).fit(rows[0])
    with pytest.raises(ValueError, match="calibration_size=0"):
        fitted.p_values(rows[1])


def test_four_rows_are_enough():
    X = np.random.default_rng(0).normal(size=(4, 3))
    fitted = InfoMaxOutlierDetector(random_state=0).fit(X)
    assert np.isfinite(fitted.score_samples(X)).all()
    assert set(fitted.p_values(X + 9)) <= {0.5, 1.0}

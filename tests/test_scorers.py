import functools

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdim import NoiseInjectedDIM, metrics

SCORERS = [
    metrics.capacity_share_score,
    metrics.match_score,
    metrics.reference_information_score,
]


class Codes(BaseEstimator):
    """An estimator whose codes are its input; scorers take it for a fitted one."""

    def __init__(self, output_distribution="normal"):
        self.output_distribution = output_distribution

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X

    @property
    def output_distribution_(self):
        return self.output_distribution

    def score(self, X, y=None):
        return 0.5

    def __sklearn_is_fitted__(self):
        return True


def reference_score(Z):
    return metrics.reference_information_score(Codes(), Z)


@pytest.fixture(scope="module")
def fitted(cancer):
    train, _ = cancer
    return NoiseInjectedDIM(4, max_iter=20, random_state=0).fit(train)


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("n_components", [1, 4])
def test_normal_samples_reach_the_capacity(n_components, noise):
    Z = np.random.default_rng(0).normal(size=(1000, n_components))
    found = metrics.reference_information(Z, reference_noise=noise)
    capacity = metrics.channel_capacity(noise, n_components)
    assert found == pytest.approx(capacity, rel=0.1)


def test_information_is_at_most_the_logarithm_of_the_rows():
    Z = np.random.default_rng(0).normal(size=(50, 64))
    found = metrics.reference_information(Z, reference_noise=0.1)
    assert found == pytest.approx(np.log(50))


def test_information_of_equal_rows_is_zero():
    found = metrics.reference_information(np.ones((50, 3)))
    assert found == pytest.approx(0, abs=1e-12)


def test_codes_cannot_outshout_the_noise():
    Z = np.random.default_rng(0).normal(size=(300, 2))
    wide = metrics.reference_information(9 * Z + 5)
    assert wide == pytest.approx(metrics.reference_information(3 * Z))
    assert metrics.reference_information(0.5 * Z) < wide - 0.2


def test_rows_at_a_time_change_nothing(monkeypatch):
    from skdim._core import bounds

    Z = np.random.default_rng(0).normal(size=(101, 3))
    whole = metrics.reference_information(Z)
    monkeypatch.setattr(bounds, "_SCORES_AT_ONCE", 700)
    assert metrics.reference_information(Z) == pytest.approx(whole)


def test_many_rows_are_sampled(monkeypatch):
    from skdim.metrics import scorers

    monkeypatch.setattr(scorers, "_MOST_ROWS", 20)
    Z = np.random.default_rng(0).normal(size=(500, 3))
    found = metrics.reference_information(Z, reference_noise=0.01)
    assert found == pytest.approx(np.log(20))


def test_a_new_component_pays_and_a_copy_costs():
    Z = np.random.default_rng(0).normal(size=(1000, 3))
    two = reference_score(Z[:, :2])
    assert reference_score(Z) > two + 0.1
    assert reference_score(Z[:, [0, 1, 0]]) < two - 0.05


def test_binary_codes_are_worse_than_normal_ones():
    # At wide noise only the divergence shows that a distribution is wrong.
    Z = np.random.default_rng(0).normal(size=(1000, 2))
    gap = metrics.reference_information(Z) - metrics.reference_information(np.sign(Z))
    assert abs(gap) < 0.1
    assert reference_score(np.sign(Z)) < reference_score(Z) - 0.2


def test_share_is_won_by_wide_noise_though_codes_are_binary():
    # The documentation warns: at wide noise the distribution does not matter.
    Z = np.sign(np.random.default_rng(0).normal(size=(1500, 4)))
    share = {
        noise: metrics.reference_information(Z, reference_noise=noise)
        / metrics.channel_capacity(noise, 4)
        for noise in (0.3, 3.0)
    }
    assert share[0.3] < 0.6 < 0.9 < share[3.0]


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_match_of_true_samples_is_about_minus_one(distribution):
    draw = getattr(np.random.default_rng(0), distribution)
    samples = [draw(size=(500, 3)) for _ in range(5)]
    matches = [metrics.match_score(Codes(distribution), Z) for Z in samples]
    assert np.mean(matches) == pytest.approx(-1, abs=0.25)


def test_share_is_at_most_all(cancer):
    train, test = cancer
    dim = NoiseInjectedDIM(2, noise_scale=100.0, max_iter=2, random_state=0)
    assert metrics.capacity_share_score(dim.fit(train), test) <= 1


def test_share_is_score_over_capacity(fitted, cancer):
    _, test = cancer
    share = metrics.capacity_share_score(fitted, test)
    assert share * fitted.capacity_ == pytest.approx(fitted.score(test))


@pytest.mark.parametrize("objective", ["dv", "nwj", "jsd", "smile"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_narrow_noise_does_not_win_the_share_whatever_the_objective(objective, cancer):
    train, test = cancer
    narrow, wide = (
        NoiseInjectedDIM(4, objective=objective, noise_scale=s, views=None, max_iter=20)
        .set_params(random_state=0)
        .fit(train)
        for s in (0.01, 1.0)
    )
    assert metrics.capacity_share_score(narrow, test) < 0.4
    assert metrics.capacity_share_score(wide, test) > 0.7


@pytest.mark.parametrize("scorer", SCORERS[1:])
def test_the_distribution_is_the_fitted_one_and_the_hidden_layer_has_none(
    scorer, cancer
):
    train, test = cancer
    dim = NoiseInjectedDIM(2, max_iter=3, random_state=0).fit(train)
    before = scorer(dim, test)
    assert scorer(dim.set_params(output_distribution="uniform"), test) == before
    dim.set_params(output_layer="hidden").fit(train)
    with pytest.raises(ValueError, match="no target distribution"):
        scorer(dim, test)


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_pipeline_scores_as_its_last_step(scorer, fitted, cancer):
    train, test = cancer
    scaler = StandardScaler().fit(train)
    inner = NoiseInjectedDIM(4, max_iter=3, random_state=0)
    inner.fit(scaler.transform(train))
    pipeline = make_pipeline(scaler, make_pipeline(inner))
    assert scorer(pipeline, test) == scorer(inner, scaler.transform(test))


@pytest.mark.parametrize("scorer", SCORERS[1:])
def test_scorers_of_codes_do_not_ask_the_estimator_s_noise(scorer, cancer):
    _, test = cancer
    codes = Codes()
    before = scorer(codes, test[:, :3])
    codes.capacity_, codes.noise_scale_ = 1e-9, 1e6
    assert scorer(codes, test[:, :3]) == before


@pytest.mark.parametrize("scorer", SCORERS)
def test_what_has_no_codes_is_an_error(scorer, cancer):
    train, test = cancer
    for other in (PCA(2), make_pipeline(StandardScaler(), PCA(2))):
        with pytest.raises(ValueError, match="but got PCA"):
            scorer(other.fit(train), test)


@pytest.mark.parametrize("scorer", SCORERS)
def test_an_unfitted_estimator_is_an_error(scorer, cancer):
    with pytest.raises(NotFittedError):
        scorer(NoiseInjectedDIM(), cancer[1])


def test_no_noise_is_an_error(fitted, cancer):
    scorer = functools.partial(metrics.reference_information_score, reference_noise=0)
    with pytest.raises(ValueError, match="'reference_noise' parameter"):
        scorer(fitted, cancer[1])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_search_prefers_neither_end_of_the_noise(cancer):
    train, _ = cancer
    search = GridSearchCV(
        # Another final map would bring codes of any noise to their distribution.
        NoiseInjectedDIM(
            8, views=None, max_iter=60, final_map="linear", random_state=0
        ),
        {"noise_scale": [0.01, 1.0, 30.0]},
        scoring={scorer.__name__: scorer for scorer in SCORERS},
        refit="reference_information_score",
        cv=KFold(2, shuffle=True, random_state=0),
    ).fit(train)
    assert search.best_params_ == {"noise_scale": 1.0}
    share = search.cv_results_["mean_test_capacity_share_score"]
    assert share[0] < 0.3  # narrow noise does not have the larger share


def test_a_search_prefers_neither_end_of_the_components(cancer):
    train, _ = cancer
    search = GridSearchCV(
        NoiseInjectedDIM(max_iter=60, random_state=0),
        {"n_components": [1, 8, 64]},
        scoring=metrics.reference_information_score,
        cv=KFold(2, shuffle=True, random_state=0),
    ).fit(train)
    assert search.best_params_ == {"n_components": 8}

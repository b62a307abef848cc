import numpy as np
import pytest
from scipy import stats

from skdim import metrics

DISTANCES = [
    metrics.sliced_wasserstein_distance,
    metrics.kolmogorov_smirnov_distance,
]
LAWS = {"normal": stats.norm(), "uniform": stats.uniform()}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_true_sample_is_at_its_floor(distance, law):
    Z = LAWS[law].rvs((2000, 3), random_state=7)
    floor = metrics.sample_floor(distance, 2000, 3, law)
    assert 0.5 * floor < distance(Z, law) < 2 * floor


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_dependence_is_seen_though_every_column_is_right(distance, law):
    column = LAWS[law].rvs(2000, random_state=7)
    Z = np.column_stack([column, column])
    floor = metrics.sample_floor(distance, 2000, 2, law)
    assert distance(Z, law) > 4 * floor


def test_sliced_wasserstein_of_a_shift():
    # Along a direction p the distance of N(m, I) to N(0, I) is |p.m|; its mean square
    # over directions is |m|^2 / d.
    Z = np.random.default_rng(0).normal([3.0, 4.0], size=(5000, 2))
    distance = metrics.sliced_wasserstein_distance(Z, n_projections=500)
    assert distance == pytest.approx(np.sqrt(25 / 2), rel=0.05)


def test_kolmogorov_smirnov_of_a_constant_is_one_half():
    assert metrics.kolmogorov_smirnov_distance(np.zeros((100, 2))) == pytest.approx(0.5)


def test_caller_s_generator_is_untouched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    metrics.sample_floor(metrics.sliced_wasserstein_distance, 50, 2)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_unknown_law_is_named():
    with pytest.raises(ValueError, match=r"must be one of .* Got 'cauchy'"):
        metrics.sliced_wasserstein_distance(np.zeros((5, 2)), "cauchy")

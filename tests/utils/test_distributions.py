import copy
import pickle

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone

from skdim._utils.distributions import DISTRIBUTIONS, Distribution

CONTINUOUS = [
    *DISTRIBUTIONS,
    stats.expon(scale=3),
    stats.t(3),
    stats.beta(0.5, 2),
    stats.expon,
]
KEPT = list(CONTINUOUS)
if hasattr(stats, "Uniform"):
    KEPT.append(stats.Uniform(a=1.0, b=3.0))
    CONTINUOUS.append(stats.Normal(mu=1.0, sigma=2.0))


@pytest.mark.parametrize("distribution", CONTINUOUS)
def test_a_normal_sample_is_mapped_to_the_distribution_and_back(distribution):
    target = Distribution(distribution)
    z = np.random.default_rng(0).normal(size=(5000, 2))
    x = target.from_normal(z)
    assert stats.kstest(target.distribution.cdf(x).ravel(), "uniform").pvalue > 0.01
    np.testing.assert_allclose(target.to_normal(x), z, atol=1e-6)


def test_far_codes_stay_finite_and_in_order():
    z = np.array([-30.0, -9, -8, 8, 9, 30])
    for distribution in (stats.norm(1, 2), stats.cauchy(), stats.expon()):
        x = Distribution(distribution).from_normal(z)
        assert np.isfinite(x).all()
        assert (np.diff(x[3:]) > 0).all()


@pytest.mark.parametrize("distribution", CONTINUOUS)
def test_moments_are_those_of_samples(distribution):
    mean, variance = Distribution(distribution).moments()
    rows = Distribution(distribution).sample((50_000,), np.random.RandomState(0))
    assert rows.mean() == pytest.approx(mean, abs=0.05 * variance**0.5)
    assert rows.var() == pytest.approx(variance, rel=0.3)  # heavy tails of t


def test_moments_are_numbers_or_not_finite():
    assert Distribution(stats.norm(loc=[1.0])).moments() == (1, 1)
    assert not np.isfinite(Distribution(stats.cauchy()).moments()).any()


def test_samples_repeat_by_seed():
    uniform = Distribution("uniform")
    one, two = (uniform.sample((5, 2), np.random.RandomState(0)) for _ in "ab")
    np.testing.assert_array_equal(one, two)
    assert (one > 0).all() and (one < 1).all()


BAD = ["gauss", stats.poisson(3), stats.t, 3, None, stats.gamma(-1)]
BAD += [stats.norm(loc=[0, 1]), stats.norm(loc=[[0], [1]])]
if hasattr(stats, "Normal"):
    BAD.append(stats.Normal)
if hasattr(stats, "Binomial"):
    BAD.append(stats.Binomial(n=5, p=0.3))


@pytest.mark.parametrize("distribution", KEPT)
def test_a_distribution_is_the_same_after_clone_and_pickle(distribution):
    Distribution(distribution).check_copies()
    z = np.linspace(-3, 3, 7)
    expected = Distribution(distribution).from_normal(z)
    for copied in (
        clone(distribution, safe=False),
        pickle.loads(pickle.dumps(distribution)),
    ):
        np.testing.assert_array_equal(Distribution(copied).from_normal(z), expected)


@pytest.mark.skipif(not hasattr(stats, "Normal"), reason="needs a newer scipy")
def test_a_distribution_that_copies_change_is_refused():
    # Copies of scipy's own Normal may be standard, whatever its parameters.
    if type(copy.deepcopy(stats.Normal(mu=1.0))) is stats.Normal:
        pytest.skip("this scipy copies it")
    with pytest.raises(ValueError, match=r"stats\.norm\(loc, scale\)"):
        Distribution(stats.Normal(mu=1.0)).check_copies()


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_distribution_says_what_to_pass(bad):
    with pytest.raises(ValueError, match="must be one of"):
        Distribution(bad)

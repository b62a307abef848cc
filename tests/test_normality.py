import warnings

import numpy as np
import pytest
from scipy import integrate, stats

from skdim import metrics
from skdim.metrics import normality, nulls


def p_values(test, draw, n_tests, seed=0, **options):
    rng = np.random.default_rng(seed)
    return np.array([test(draw(rng), **options).pvalue for _ in range(n_tests)])


@pytest.mark.parametrize("shape", [(20, 1), (100, 2), (200, 8), (100, 64)])
def test_bhep_p_values_are_uniform_under_the_law(shape):
    found = p_values(metrics.bhep_test, lambda rng: rng.normal(size=shape), 300)
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert 0.01 < np.mean(found < 0.05) < 0.09


@pytest.mark.parametrize("shape", [(100, 1), (200, 3), (200, 8)])
def test_henze_zirkler_p_values_are_uniform_for_any_normal_sample(shape):
    def draw(rng):
        mixing = rng.normal(size=(shape[1], shape[1]))
        return rng.normal(size=shape) @ mixing + 10

    found = p_values(metrics.henze_zirkler_test, draw, 300)
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert 0.01 < np.mean(found < 0.05) < 0.09


def test_resampled_p_values_are_uniform_where_the_approximation_fails():
    options = {"n_resamples": 39, "random_state": 1}
    found = p_values(
        metrics.henze_zirkler_test,
        lambda rng: rng.normal(size=(60, 32)),
        60,
        **options,
    )
    assert stats.kstest(found, "uniform").pvalue > 0.01


def heavy_tails(rng):
    return rng.standard_t(5, size=(400, 4)) / np.sqrt(5 / 3)


def two_clusters(rng):
    Z = rng.normal(size=(400, 4))
    Z[:, :2] = 0.4 * Z[:, :2] + rng.choice([-0.9, 0.9], size=(400, 2))
    return Z


def common_scale(rng):
    return rng.normal(size=(400, 4)) / np.sqrt(rng.chisquare(8, size=(400, 1)) / 6)


def signs_of_one_product(rng):
    Z = np.abs(rng.normal(size=(400, 3)))
    signs = rng.choice([-1, 1], size=(400, 3))
    signs[:, 2] = signs[:, 0] * signs[:, 1]
    return Z * signs


SHAPES = [heavy_tails, two_clusters, common_scale, signs_of_one_product]


@pytest.mark.parametrize("test", [metrics.bhep_test, metrics.henze_zirkler_test])
@pytest.mark.parametrize("draw", SHAPES)
def test_a_wrong_shape_is_rejected(draw, test):
    assert np.mean(p_values(test, draw, 20) < 0.05) > 0.75


def test_signs_of_one_product_are_normal_in_pairs():
    # No column, pair of columns or correlation explains the rejection above.
    Z = signs_of_one_product(np.random.default_rng(0))
    assert metrics.total_correlation(Z) < 0.02
    pairs = p_values(
        metrics.bhep_test, lambda rng: signs_of_one_product(rng)[:, 1:], 40
    )
    assert np.mean(pairs < 0.05) < 0.2


@pytest.mark.parametrize("change", [lambda Z: Z + 0.15, lambda Z: 1.15 * Z])
def test_only_the_test_of_a_known_law_sees_mean_and_scale(change):
    def draw(rng):
        return change(rng.normal(size=(400, 4)))

    assert np.mean(p_values(metrics.bhep_test, draw, 20) < 0.05) > 0.75
    assert np.mean(p_values(metrics.henze_zirkler_test, draw, 20) < 0.05) < 0.25


def test_statistic_is_the_integral_it_stands_for():
    z, beta = np.random.default_rng(0).normal(0.5, size=30), 1.3

    def gap(t):
        phi = np.exp(1j * t * z).mean()
        distance = np.abs(phi - np.exp(-(t**2) / 2)) ** 2
        return len(z) * distance * stats.norm.pdf(t, scale=beta)

    integral, _ = integrate.quad(gap, -15, 15, limit=200)
    result = metrics.bhep_test(z[:, None], beta=beta)
    assert result.statistic == pytest.approx(integral)


@pytest.mark.parametrize(
    ("n_samples", "n_components", "beta"), [(5, 2, 0.7), (20, 6, 1.5)]
)
def test_cumulants_are_those_of_true_samples(n_samples, n_components, beta):
    draws = np.random.default_rng(0).normal(size=(20_000, n_samples, n_components))
    found = np.array([normality._statistic(Z, beta) for Z in draws])
    mean, variance, third = nulls.bhep_cumulants(n_samples, n_components, beta)
    assert np.mean(found) == pytest.approx(mean, rel=0.01)
    assert np.var(found) == pytest.approx(variance, rel=0.05)
    # Of infinitely many rows, it is 1.2 times and a fifth of it.
    assert stats.moment(found, 3) == pytest.approx(third, rel=0.1)


def test_third_cumulant_is_that_of_the_eigenvalues():
    # Many rows make the statistic a sum of squares with the kernel's eigenvalues as
    # weights, which a fine grid in one dimension gives.
    beta, grid = 1.1, np.linspace(-7, 7, 500)
    weights = stats.norm.pdf(grid) * (grid[1] - grid[0])
    kernel = np.exp(-(beta**2) / 2 * (grid[:, None] - grid) ** 2)
    mean = kernel @ weights
    kernel = kernel - mean - mean[:, None] + weights @ mean
    root = np.sqrt(weights)
    eigenvalues = np.linalg.eigvalsh(root[:, None] * kernel * root)
    _, variance, third = nulls.bhep_cumulants(np.inf, 1, beta)
    assert variance == pytest.approx(2 * np.sum(eigenvalues**2))
    assert third == pytest.approx(8 * np.sum(eigenvalues**3))


def henze_zirkler_beta(n_samples, n_components):
    power = 1 / (n_components + 4)
    return ((2 * n_components + 1) * n_samples / 4) ** power / 2**0.5


@pytest.mark.parametrize(("n_samples", "n_components"), [(6, 2), (20, 1), (160, 16)])
def test_moments_of_whitened_samples_are_exact(n_samples, n_components):
    rng = np.random.default_rng(0)
    beta = henze_zirkler_beta(n_samples, n_components)
    found = [
        metrics.henze_zirkler_test(rng.normal(size=(n_samples, n_components))).statistic
        for _ in range(2000)
    ]
    mean, variance, _ = nulls._whitened_moments(n_samples, n_components, beta)
    assert np.mean(found) == pytest.approx(mean, abs=4 * (variance / 2000) ** 0.5)
    assert np.var(found) == pytest.approx(variance, rel=0.15)  # the limit is 1.37 times


@pytest.mark.parametrize("n_components", [1, 2, 5])
def test_moments_of_whitened_samples_have_their_limit(n_components):
    # Two ways that share nothing: an integral over matrices, and a Gaussian process.
    mean, variance, _ = nulls._whitened_moments(50_000, n_components, 1.2)
    limit = nulls._limit_cumulants(n_components, 1.2)
    assert mean == pytest.approx(limit[0], rel=1e-3)
    assert variance == pytest.approx(limit[1], rel=1e-3)


def test_third_cumulant_of_the_limit_is_that_of_the_eigenvalues():
    beta, grid = 1.3, np.linspace(-9, 9, 500)
    weights = stats.norm.pdf(grid, scale=beta) * (grid[1] - grid[0])
    product = grid[:, None] * grid
    kernel = np.exp(-(grid[:, None] ** 2 + grid**2) / 2)
    kernel *= np.exp(product) - 1 - product - product**2 / 2
    root = np.sqrt(weights)
    eigenvalues = np.linalg.eigvalsh(root[:, None] * kernel * root)
    powers = [np.sum(eigenvalues), 2 * np.sum(eigenvalues**2), 8 * sum(eigenvalues**3)]
    assert nulls._limit_cumulants(1, beta) == pytest.approx(powers, rel=1e-6)


def test_henze_zirkler_tail_is_that_of_true_samples():
    found = p_values(
        metrics.henze_zirkler_test, lambda rng: rng.normal(size=(80, 8)), 4000
    )
    assert np.mean(found < 0.05) == pytest.approx(0.05, abs=0.012)
    assert np.mean(found < 0.01) == pytest.approx(0.01, abs=0.005)
    assert np.sum(found < 0.001) <= 11  # 4 are expected, more than 11 in 1 of 1,000


@pytest.mark.parametrize("factor", [0.3, 0.6, 1.5, 1.75])
@pytest.mark.parametrize("n_components", [1, 3, 16, 128])
def test_every_accepted_beta_has_size_and_power(n_components, factor):
    def draw(rng, scale):
        return rng.normal(size=(150, n_components)) * scale

    options = {"beta": factor * 2 / n_components**0.5}
    true, wide, wider = (
        p_values(metrics.bhep_test, lambda rng, s=s: draw(rng, s), n, **options)
        for s, n in ((1, 1000), (1.3, 20), (3, 20))
    )
    assert np.mean(true < 0.05) == pytest.approx(0.05, abs=0.025)
    assert np.mean(true < 0.01) < 0.02
    assert np.mean(wide < 0.05) > 0.5
    assert wider.max() < 1e-4


@pytest.mark.parametrize(("n_components", "beta"), [(128, 1.0), (16, 1.5), (4, 0.01)])
def test_a_beta_that_is_blind_to_scale_is_an_error(n_components, beta):
    Z = np.random.default_rng(0).normal(size=(200, n_components))
    with pytest.raises(ValueError, match=r"'beta' .* nearly blind to the scale"):
        metrics.bhep_test(Z, beta=beta)


@pytest.mark.parametrize("n_components", [1, 2, 8, 64, 1000])
@pytest.mark.parametrize("n_samples", [2, 20, 300])
def test_the_default_beta_never_warns(n_samples, n_components):
    Z = np.random.default_rng(0).normal(size=(n_samples, n_components))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for given in (None, 2 / n_components**0.5):
            assert 0 < metrics.bhep_test(Z, beta=given).pvalue <= 1


def test_bhep_resamples_where_the_approximation_fails():
    def draw(rng):
        return rng.normal(size=(20, 8))

    beta = 2 * 2 / 8**0.5
    with pytest.warns(UserWarning, match=r"BHEP test .* 20 rows of 8 .* 'n_resamples'"):
        metrics.bhep_test(draw(np.random.default_rng(0)), beta=beta)
    options = {"beta": beta, "n_resamples": 39, "random_state": 1}
    found = p_values(metrics.bhep_test, draw, 60, **options)
    assert stats.kstest(found, "uniform").pvalue > 0.01


@pytest.mark.parametrize("test", [metrics.bhep_test, metrics.henze_zirkler_test])
def test_rows_at_a_time_change_nothing(test, monkeypatch):
    Z = np.random.default_rng(0).normal(size=(101, 3))
    whole = test(Z)
    monkeypatch.setattr(normality, "_ENTRIES_AT_ONCE", 700)
    assert test(Z) == pytest.approx(whole)


def test_another_law_goes_by_the_normal_one():
    z = np.random.default_rng(0).normal(size=(200, 2))
    Z = stats.norm.cdf(z)
    assert metrics.bhep_test(Z, "uniform") == pytest.approx(metrics.bhep_test(z))
    assert metrics.bhep_test(Z).pvalue < 1e-6


def test_singular_covariance_is_an_error():
    Z = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises(ValueError, match="full rank 3"):
        metrics.henze_zirkler_test(np.column_stack([Z, Z.sum(axis=1)]))


@pytest.mark.parametrize("shape", [(19, 8), (120, 16), (1000, 32), (400, 300)])
def test_an_approximation_that_fails_is_named(shape):
    Z = np.random.default_rng(0).normal(size=shape)
    with pytest.warns(UserWarning, match="pass 'n_resamples'"):
        assert 0 <= metrics.henze_zirkler_test(Z).pvalue <= 1


@pytest.mark.parametrize("shape", [(20, 8), (135, 16), (310, 20)])
def test_an_approximation_that_holds_is_not_doubted(shape):
    Z = np.random.default_rng(0).normal(size=shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.henze_zirkler_test(Z)


def test_whitening_knows_no_units():
    Z = np.random.default_rng(0).normal(size=(50, 3))
    expected = metrics.henze_zirkler_test(Z)
    units = np.array([1e-250, 1.0, 1e300])
    assert metrics.henze_zirkler_test(Z * units + units) == pytest.approx(expected)


def test_far_samples_are_compared_exactly():
    Z = np.random.default_rng(0).normal(size=(50, 3))
    pairs = normality._sum_over_pairs(Z, 1.0)
    assert normality._sum_over_pairs(Z + 1e9, 1.0) == pytest.approx(pairs, rel=1e-5)


def test_bad_parameters_are_errors():
    Z = np.random.default_rng(0).normal(size=(50, 2))
    for beta in (0, 1e-4, 1e200):
        with pytest.raises(ValueError, match=r"'beta' parameter must be .* got [01]"):
            metrics.bhep_test(Z, beta=beta)
    with pytest.raises(ValueError, match=r"'n_resamples' parameter must be .* got 0"):
        metrics.henze_zirkler_test(Z, n_resamples=0)

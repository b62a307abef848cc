import functools
import inspect
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from skdim import metrics
from skdim._utils.distributions import Distribution

DISTANCES = [
    metrics.sliced_wasserstein_distance,
    metrics.kolmogorov_smirnov_distance,
    metrics.epps_pulley_distance,
    metrics.norm_distance,
]
SLICED = DISTANCES[:3]
SUMMARIES = [metrics.norm_spread, metrics.effective_rank]
DISTRIBUTIONS = {
    "normal": "normal",
    "uniform": "uniform",
    "exponential": stats.expon(),
}
if hasattr(stats, "Normal"):
    DISTRIBUTIONS["newer normal"] = stats.Normal(mu=2.0, sigma=3.0)


def true_sample(distribution, shape, seed=7):
    return Distribution(distribution).sample(shape, np.random.RandomState(seed))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_true_sample_is_at_its_floor(distance, distribution):
    Z = true_sample(distribution, (1000, 3))
    floor = metrics.sample_floor(distance, 1000, 3, distribution)
    assert 0.4 * floor < distance(Z, distribution) < 2 * floor


@pytest.mark.parametrize("distribution", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_dependence_is_seen_though_every_column_is_right(distance, distribution):
    Z = np.repeat(true_sample(distribution, (1000, 1)), 2, axis=1)
    floor = metrics.sample_floor(distance, 1000, 2, distribution)
    assert distance(Z, distribution) > 4 * floor


@pytest.mark.parametrize("distribution", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_another_distribution_is_seen(distance, distribution):
    Z = true_sample(stats.cauchy(), (1000, 2))
    floor = metrics.sample_floor(distance, 1000, 2, distribution)
    assert distance(Z, distribution) > 4 * floor


@pytest.mark.parametrize("distance", [*DISTANCES[1:], *SUMMARIES])
def test_a_distribution_is_judged_as_the_normal_sample_it_comes_from(distance):
    z = true_sample("normal", (300, 3))
    distribution = stats.lognorm(0.5)
    assert distance(
        Distribution(distribution).from_normal(z), distribution
    ) == pytest.approx(distance(z))


def test_sliced_wasserstein_of_a_shift():
    # Along a direction p the distance of N(m, I) to N(0, I) is |p.m|; its mean square
    # over directions is |m|^2 / d.
    Z = np.random.default_rng(0).normal([3.0, 4.0], size=(5000, 2))
    distance = metrics.sliced_wasserstein_distance(Z, n_projections=300)
    assert distance == pytest.approx(np.sqrt(25 / 2), rel=0.05)


def test_sliced_wasserstein_refuses_a_distribution_without_variance():
    with pytest.raises(ValueError, match="finite variance"):
        metrics.sliced_wasserstein_distance(np.zeros((5, 2)), stats.cauchy())


@pytest.mark.parametrize(
    "distance", [metrics.sliced_wasserstein_distance, metrics.excess_distance]
)
def test_distances_refuse_a_distribution_whose_variance_rounds_to_zero(distance):
    with pytest.raises(ValueError, match=r"whose variance doubles can hold.*multiply"):
        distance(np.zeros((5, 2)), stats.norm(0, 1e-170))
    assert np.isfinite(distance(np.zeros((5, 2)), stats.norm(0, 1e-150))).all()


def test_kolmogorov_smirnov_of_a_constant_is_one_half():
    assert metrics.kolmogorov_smirnov_distance(np.zeros((100, 2))) == pytest.approx(0.5)


def test_epps_pulley_is_its_closed_form():
    # In one dimension every direction is the axis, up to a sign that changes nothing.
    z = np.random.default_rng(0).normal(0.3, 1.5, size=200)
    pairs = np.exp(-((z[:, None] - z) ** 2) / 2).mean()
    to_distribution = np.exp(-(z**2) / 4).mean() / np.sqrt(2)
    closed = np.sqrt(pairs - 2 * to_distribution + 1 / np.sqrt(3))
    distance = metrics.epps_pulley_distance(z[:, None], n_projections=3)
    assert distance == pytest.approx(closed, abs=1e-6)


@pytest.mark.parametrize(
    "statistic", [*DISTANCES, *SUMMARIES, metrics.total_correlation]
)
def test_order_of_rows_changes_nothing(statistic):
    Z = np.random.default_rng(0).normal(size=(100, 3))
    assert statistic(Z[::-1]) == pytest.approx(statistic(Z))


def test_norms_show_a_common_scale_that_slices_hide():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(3000, 64))
    shared = Z / np.sqrt(rng.chisquare(100, size=(3000, 1)) / 98)
    assert metrics.norm_spread(Z) == pytest.approx(1, abs=0.04)
    # The variance of a norm grows by that of the scale, 64 / (2 * 100), over 1 / 2.
    assert metrics.norm_spread(shared) == pytest.approx(np.sqrt(1 + 0.64), abs=0.1)
    slices = metrics.kolmogorov_smirnov_distance
    floor = metrics.sample_floor(slices, 3000, 64)
    assert slices(shared) < 1.3 * floor
    floor = metrics.sample_floor(metrics.norm_distance, 3000, 64)
    assert metrics.norm_distance(shared) > 4 * floor


@pytest.mark.parametrize("correlation", [0.0, 0.5, -0.9])
def test_total_correlation_of_a_normal_pair(correlation):
    covariance = [[1, correlation], [correlation, 1]]
    Z = np.random.default_rng(0).multivariate_normal([0, 0], covariance, 5000)
    exact = -0.5 * np.log(1 - correlation**2)
    assert metrics.total_correlation(Z) == pytest.approx(exact, abs=0.03)


def test_total_correlation_knows_ranks_alone():
    Z = np.random.default_rng(0).normal(size=(200, 3)) @ np.triu(np.ones((3, 3)))
    stretched = np.column_stack([np.exp(Z[:, 0]), Z[:, 1] ** 3, Z[:, 2]])
    value = metrics.total_correlation(Z)
    assert metrics.total_correlation(stretched) == pytest.approx(value)
    with_constant = np.column_stack([Z, np.ones(200)])
    assert metrics.total_correlation(with_constant) == pytest.approx(value)


def test_total_correlation_floor_is_that_of_its_documentation():
    floor = metrics.sample_floor(metrics.total_correlation, 500, 20, "uniform")
    assert floor == pytest.approx(20 * 19 / (4 * 500), rel=0.15)


@pytest.mark.parametrize("rank", [1, 3])
def test_effective_rank_of_repeated_columns(rank):
    Z = np.random.default_rng(0).normal(size=(2000, rank))
    repeated = np.tile(Z, 4)
    assert metrics.effective_rank(repeated) == pytest.approx(rank, rel=0.01)


def test_effective_rank_of_equal_rows_is_zero():
    assert metrics.effective_rank(np.full((10, 3), 0.1)) == 0


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("noise_scale", [0.05, 0.3, 2.0])
def test_capacity_is_that_of_the_channel(distribution, noise_scale):
    from skdim._core.channels import CHANNELS

    channel = CHANNELS[distribution](noise_scale)
    capacity = metrics.channel_capacity(noise_scale, 5, distribution)
    assert capacity == pytest.approx(channel.capacity(5))


def test_capacity_of_next_to_no_noise_is_a_number():
    assert metrics.channel_capacity(1e-200, 1) == pytest.approx(200 * np.log(10))


def test_floor_takes_functions_of_a_sample_with_and_without_a_distribution():
    slices = functools.partial(metrics.kolmogorov_smirnov_distance, n_projections=3)
    assert 0 < metrics.sample_floor(slices, 100, 2, "uniform") < 0.2
    assert metrics.sample_floor(np.max, 100, 2, "uniform") == pytest.approx(1, abs=0.1)


def test_caller_s_generator_is_untouched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    metrics.sample_floor(metrics.sliced_wasserstein_distance, 50, 2)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("function", [*DISTANCES, *SUMMARIES, metrics.bhep_test])
def test_unknown_distribution_is_named(function):
    with pytest.raises(ValueError, match=r"must be one of .* Got 'cauchy'"):
        function(np.zeros((5, 2)), "cauchy")


ALL = [*DISTANCES, *SUMMARIES, metrics.total_correlation, metrics.bhep_test]


@pytest.mark.parametrize("function", [*ALL, metrics.henze_zirkler_test])
@pytest.mark.parametrize(
    ("Z", "message"),
    [
        ([[0.0, np.nan], [1, 2], [3, 4]], "NaN or infinity in 1 of 3 rows"),
        ([1.0, 2.0], r"shape \(2,\)"),
        (np.zeros((2, 3, 4)), r"shape \(2, 3, 4\)"),
        (np.zeros((0, 2)), "but got 0"),
        ([["a", "b"]], "array of real numbers"),
        ([[1j, 2.0]], "array of real numbers"),
    ],
)
def test_what_is_no_sample_is_an_error(function, Z, message):
    with pytest.raises(ValueError, match=message):
        function(Z)


# Extreme numbers

NORMAL = np.random.default_rng(0).normal(size=(120, 3))
LARGEST = np.finfo(float).max
NEURAL = [metrics.neural_dependency_measure, metrics.neural_mutual_information]
# Functions of something else than a sample.
OTHERS = {"channel_capacity", "sample_floor", "two_sample_test"}


def with_cells(value, n_cells=1):
    Z = NORMAL.copy()
    Z[:n_cells, 0] = value
    return Z


EXTREMES = {
    "a huge cell": with_cells(1e160),
    "the largest cells": with_cells(LARGEST, 5),
    "the smallest cell": with_cells(-LARGEST),
    "two ends": np.where(NORMAL > 0, LARGEST, -LARGEST),
    "huge": NORMAL * 1e200,
    "to the end": NORMAL / abs(NORMAL).max() * LARGEST,
    "tiny": NORMAL * 1e-310,
    "denormal": np.where(NORMAL > 0, 5e-324, 0),
    "units": NORMAL * [1e-300, 1, 1e300],
    "far": NORMAL + np.array([1e200, 1e10, 0]),
    "equal": np.full((120, 3), LARGEST),
    "zeros": np.zeros((120, 3)),
    "integers": np.where(NORMAL > 0, 2**62, -(2**62)),
}


def value_of(function, Z, **options):
    """Return the value of a metric, which is an error of the documentation at most."""
    if function in NEURAL:
        options["n_steps"] = 10
    arguments = [Z, Z] if function is metrics.neural_mutual_information else [Z]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "120 rows are few")
        try:
            return function(*arguments, **options)
        except ValueError as error:
            assert function is metrics.henze_zirkler_test
            assert "must have a covariance of full rank" in str(error)
            return 0.0


@pytest.mark.parametrize("Z", EXTREMES.values(), ids=EXTREMES)
@pytest.mark.parametrize(
    "name",
    [n for n in metrics.__all__ if not n.endswith("_score") and n not in OTHERS],
)
def test_every_finite_number_has_a_finite_value(name, Z):
    function = getattr(metrics, name)
    values = [value_of(function, Z)]
    if "output_distribution" in inspect.signature(function).parameters:
        for distribution in ("uniform", stats.expon(), stats.lognorm(1)):
            values.append(value_of(function, Z, output_distribution=distribution))
    assert np.isfinite(np.hstack(values)).all()


def test_huge_samples_are_as_far_as_they_are():
    for function in (metrics.sliced_wasserstein_distance, metrics.norm_spread):
        expected = 1e220 * function(1e80 * NORMAL)
        assert function(1e300 * NORMAL) == pytest.approx(expected)
    assert metrics.effective_rank(1e300 * NORMAL) == pytest.approx(
        metrics.effective_rank(NORMAL)
    )
    assert metrics.reference_information(1e300 * NORMAL) == pytest.approx(
        metrics.reference_information(100 * NORMAL)
    )
    for function in (metrics.kolmogorov_smirnov_distance, metrics.norm_distance):
        assert function(1e300 * NORMAL) == pytest.approx(function(1e80 * NORMAL))
    statistics = [metrics.bhep_test(s * NORMAL).statistic for s in (1e300, 1e80, 1e9)]
    assert statistics == pytest.approx([1 + 120 * (1 + 8 / 3) ** -1.5] * 3)


def test_one_huge_cell_is_one_outlier():
    expected = metrics.bhep_test(with_cells(1e6))
    assert metrics.bhep_test(with_cells(1e160)) == pytest.approx(expected)
    assert metrics.bhep_test(with_cells(-LARGEST)).statistic < 2 * expected.statistic
    assert metrics.henze_zirkler_test(with_cells(1e160)).pvalue < 1e-6


@pytest.mark.parametrize("noise", [5e-324, 1e-200, 1e-20, 1e20, LARGEST])
def test_every_noise_has_a_finite_information(noise):
    for distribution in ("normal", "uniform"):
        capacity = metrics.channel_capacity(noise, 10**6, distribution)
        assert 0 <= capacity < np.inf
    found = metrics.reference_information(NORMAL, reference_noise=noise)
    assert found == pytest.approx(np.log(120) if noise < 1 else 0, abs=1e-6)


def test_a_number_beyond_floats_is_an_error():
    with pytest.raises(ValueError, match="array of real numbers"):
        metrics.norm_spread([[10**400], [1]])
    with pytest.raises(ValueError, match="'n_components' parameter"):
        metrics.channel_capacity(1.0, 10**400)
    with pytest.raises(ValueError, match="'noise_scale' parameter"):
        metrics.channel_capacity(10**400, 1)


@pytest.mark.parametrize("function", [*SUMMARIES, metrics.total_correlation])
def test_a_spread_needs_two_rows(function):
    with pytest.raises(ValueError, match=r"at least [23] rows"):
        function([[0.0, 1.0]])


@pytest.mark.parametrize("function", SLICED)
@pytest.mark.parametrize("n_projections", [0, -1, 2.5, True])
def test_no_projections_are_an_error(function, n_projections):
    with pytest.raises(ValueError, match="'n_projections' parameter must be an int"):
        function(np.zeros((5, 2)), n_projections=n_projections)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0.0, 2), "noise_scale"),
        ((np.nan, 2), "noise_scale"),
        (("auto", 2), "noise_scale"),
        ((1.0, 0), "n_components"),
        ((1.0, 2.5), "n_components"),
        ((1.0, 2, "laplace"), "noise_distribution"),
        ((1.0, 2, []), "noise_distribution"),
    ],
)
def test_what_is_no_channel_is_an_error(arguments, name):
    with pytest.raises(ValueError, match=f"'{name}' parameter must be .* but got"):
        metrics.channel_capacity(*arguments)


def test_a_floor_needs_a_number():
    with pytest.raises(ValueError, match="must return a number, but got Normality"):
        metrics.sample_floor(metrics.bhep_test, 50, 2)


@pytest.mark.parametrize("name", ["n_samples", "n_components", "n_draws"])
def test_a_floor_needs_a_size(name):
    sizes = {"n_samples": 10, "n_components": 2, "n_draws": 2} | {name: 0}
    with pytest.raises(ValueError, match=f"'{name}' parameter must be an integer"):
        metrics.sample_floor(metrics.norm_spread, **sizes)


# Dependence by a network


def equicorrelated(n, d, rho):
    """Return rows of correlated normal columns, and their total correlation."""
    covariance = np.full((d, d), rho) + (1 - rho) * np.eye(d)
    rng = np.random.default_rng(0)
    rows = rng.multivariate_normal(np.zeros(d), covariance, size=n)
    return rows, -0.5 * np.linalg.slogdet(covariance)[1]


@pytest.mark.parametrize(("d", "rho"), [(1, 0), (2, 0), (8, 0), (2, 0.9), (4, 0.5)])
def test_dependency_measure_is_the_total_correlation_of_normal_rows(d, rho):
    rows, expected = equicorrelated(4000, d, rho)
    found = metrics.neural_dependency_measure(100 * rows + 5, n_steps=300)
    assert found == pytest.approx(expected, abs=0.08)


def test_dependency_measure_sees_what_ranks_do_not():
    # Signs that multiply to 1: any two are independent, the three carry ln 2.
    rng = np.random.default_rng(0)
    rows = abs(rng.normal(size=(4000, 3))) * rng.choice([-1, 1], size=(4000, 3))
    rows[:, 2] = abs(rows[:, 2]) * np.sign(rows[:, 0] * rows[:, 1])
    assert metrics.total_correlation(rows) < 0.01
    found = metrics.neural_dependency_measure(rows, n_steps=700)
    assert found == pytest.approx(np.log(2), abs=0.15)


@pytest.mark.parametrize(("d", "noise"), [(1, 1.0), (1, 0.3), (4, 1.0)])
def test_neural_information_is_that_of_a_normal_channel(d, noise):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, d))
    Z = X + noise * rng.normal(size=(4000, d))
    found = metrics.neural_mutual_information(X, Z, n_steps=400)
    assert found == pytest.approx(metrics.channel_capacity(noise, d), abs=0.15)
    shuffled = metrics.neural_mutual_information(X, Z[::-1], n_steps=100)
    assert shuffled == pytest.approx(0, abs=0.1)


@pytest.mark.filterwarnings("ignore:200 rows are few")
@pytest.mark.parametrize("n_columns", [1, 4, 20])
def test_independent_samples_have_no_negative_information(n_columns):
    rng = np.random.default_rng(0)
    for seed in range(3):
        X, Z = rng.normal(size=(2, 200, n_columns))
        options = {"n_steps": 60, "random_state": seed}
        assert abs(metrics.neural_mutual_information(X, Z, **options)) < 0.1


def test_few_rows_of_many_columns_are_named():
    Z = np.random.default_rng(0).normal(size=(200, 5))
    with pytest.warns(UserWarning, match="200 rows are few for 5 columns"):
        metrics.neural_dependency_measure(Z, n_steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.neural_mutual_information(Z[:, :2], Z[:, 2:4], n_steps=1)


def test_few_rows_show_most_of_the_information():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    Z = X + 0.5 * rng.normal(size=(400, 2))
    found = metrics.neural_mutual_information(X, Z, n_steps=150)
    expected = metrics.channel_capacity(0.5, 2)  # 1.61
    assert 0.65 * expected < found < 1.2 * expected


def test_information_knows_ranks_alone():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 1))
    Z = X + 0.5 * rng.normal(size=(600, 1))
    expected = metrics.neural_mutual_information(X, Z, n_steps=60)
    assert expected == pytest.approx(metrics.channel_capacity(0.5, 1), abs=0.2)
    maps = np.exp(5 * X), -np.exp(-3 * Z)
    assert metrics.neural_mutual_information(*maps, n_steps=60) == expected
    X[0] = 1e6
    found = metrics.neural_mutual_information(X, Z, n_steps=60)
    assert found == pytest.approx(expected, abs=0.1)


def test_networks_are_repeatable_and_leave_generators_alone():
    rows, _ = equicorrelated(300, 2, 0.5)
    before = torch.random.get_rng_state()
    one, two = (metrics.neural_dependency_measure(rows, n_steps=50) for _ in range(2))
    assert one == two
    assert metrics.neural_dependency_measure(rows, n_steps=50, random_state=1) != one
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda Z: metrics.neural_dependency_measure(Z[:10]), "at least 50 rows"),
        (lambda Z: metrics.neural_dependency_measure(Z, n_steps=0), "'n_steps'"),
        (lambda Z: metrics.neural_mutual_information(Z, Z[1:]), "same number of rows"),
        (lambda Z: metrics.neural_mutual_information(Z, Z / 0), "Z must hold finite"),
        (lambda Z: metrics.neural_mutual_information(Z / 0, Z), "X must hold finite"),
        (lambda Z: metrics.neural_mutual_information(Z[:9], Z), "X must have at least"),
        (lambda Z: metrics.neural_mutual_information(Z[0], Z), "X must have the shape"),
        (lambda Z: metrics.neural_mutual_information("a", Z), "X must be an array"),
    ],
)
def test_networks_refuse_what_they_cannot_measure(call, message):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0).normal(size=(60, 2)))

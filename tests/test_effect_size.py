import tracemalloc

import numpy as np
import pytest
from scipy import stats

from skdim._utils.distributions import Distribution
from skdim.metrics import effect_size, excess_distance

LAWS = {
    "normal": ("normal", np.random.Generator.standard_normal),
    "uniform": ("uniform", np.random.Generator.random),
    "gamma": (stats.gamma(4), lambda rng, size: rng.gamma(4, size=size)),
}
if hasattr(stats, "Normal"):
    LAWS["newer normal"] = (
        stats.Normal(mu=2, sigma=3),
        lambda rng, size: rng.normal(2, 3, size),
    )


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def correlated(n, d, rho=0.4, seed=0):
    common = normal((n, 1), seed + 1000)
    return np.sqrt(1 - rho) * normal((n, d), seed) + np.sqrt(rho) * common


@pytest.mark.parametrize("d", [1, 3, 20])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda Z: 1.1 * Z, lambda d: 0.1),
        (lambda Z: 0.9 * Z, lambda d: 0.1),
        (lambda Z: Z + 0.2, lambda d: 0.2),
        (lambda Z: Z + 0.4 * (np.arange(Z.shape[1]) == 0), lambda d: 0.4 / d**0.5),
    ],
)
def test_wrong_scale_and_mean_have_the_distance_they_are_said_to_have(
    change, expected, d
):
    found = excess_distance(change(normal((20000, d))))
    assert found.distance == pytest.approx(expected(d), abs=0.015)
    assert found.low < expected(d) + 0.01
    assert found.high > expected(d) - 0.01


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("d", [1, 5])
def test_unit_is_the_standard_deviation_of_the_law(law, d):
    target, draw = LAWS[law]
    Z = draw(np.random.default_rng(1), (10000, d))
    spread = Z.std()
    assert excess_distance(Z, target).distance < 0.03
    assert excess_distance(Z + 0.3 * spread, target).distance == pytest.approx(
        0.3, abs=0.03
    )
    wider = Z.mean() + 1.2 * (Z - Z.mean())
    assert excess_distance(wider, target).distance == pytest.approx(0.2, abs=0.03)


def test_correlation_has_the_distance_of_normal_laws():
    # Along a direction, the distance is that of the standard deviation from 1.
    directions = normal((100000, 4))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    deviations = np.sqrt(0.6 + 0.4 * directions.sum(axis=1) ** 2)
    expected = np.sqrt(np.mean((deviations - 1) ** 2))
    found = excess_distance(correlated(20000, 4)).distance
    assert found == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    "draw",
    [
        lambda n, seed: 1.3 * normal((n, 4), seed),
        lambda n, seed: 0.2 + normal((n, 4), seed),
        lambda n, seed: correlated(n, 4, 0.6, seed),
        lambda n, seed: np.sign(normal((n, 4), seed)),
    ],
    ids=["scale", "shift", "correlation", "two points"],
)
def test_number_of_rows_does_not_matter(draw):
    means = []
    for n, repetitions in ((100, 60), (500, 30), (5000, 10)):
        squares = [
            excess_distance(draw(n, seed))[0] ** 2 for seed in range(repetitions)
        ]
        means.append(np.mean(squares) ** 0.5)
    assert means[0] == pytest.approx(means[2], abs=0.02)
    assert means[1] == pytest.approx(means[2], abs=0.01)


@pytest.mark.parametrize("shape", [(100, 1), (100, 16), (1000, 3), (100, 64)])
def test_true_samples_have_zero_in_the_interval(shape):
    found = [excess_distance(normal(shape, seed)) for seed in range(60)]
    assert np.mean([result.low == 0 for result in found]) >= 0.88
    squares = [effect_squares(normal(shape, seed)) for seed in range(60)]
    assert abs(np.mean(squares)) < 0.4 * np.std(squares)


def effect_squares(Z):
    """Return the estimated square itself, which may be below 0."""
    directions = effect_size._orthonormal_directions(
        Z.shape[1], 128, np.random.RandomState(0)
    )
    atoms = normal_atoms(len(Z))
    rng = np.random.RandomState(1)
    slices = effect_size._slices_of_target(atoms, len(Z), directions, "normal", rng)
    return effect_size._squared_distance(Z, directions, slices)[0]


def normal_atoms(n):
    return effect_size._atoms(Distribution("normal"), n)


@pytest.mark.parametrize(
    ("draw", "distance"),
    [
        (lambda seed: 1.1 * normal((500, 4), seed), 0.1),
        (lambda seed: 0.05 + normal((2000, 2), seed), 0.05),
        (lambda seed: 0.3 + normal((100, 1), seed), 0.3),
    ],
)
def test_intervals_contain_the_truth_as_often_as_they_say(draw, distance):
    for level, least, most in ((0.95, 0.86, 1), (0.5, 0.3, 0.7)):
        found = [excess_distance(draw(s), confidence_level=level) for s in range(60)]
        share = np.mean([low <= distance <= high for _, low, high in found])
        assert least <= share <= most


@pytest.mark.parametrize("d", [1, 2, 10])
def test_null_variance_is_that_of_true_samples(d):
    directions = effect_size._orthonormal_directions(d, 64, np.random.RandomState(0))
    atoms, rng = normal_atoms(300), np.random.RandomState(1)
    arguments = atoms, 300, directions, "normal", rng
    slices = list(effect_size._slices_of_target(*arguments))
    squares = [
        effect_size._squared_distance(normal((300, d), seed), directions, slices)[0]
        for seed in range(300)
    ]
    found = effect_size._null_variance(*arguments)
    assert found == pytest.approx(np.var(squares), rel=0.35)
    # The way for other distributions agrees with the closed form.
    sampled = effect_size._null_variance(atoms, 300, directions, None, rng)
    assert sampled == pytest.approx(found, rel=0.2 if d == 1 else 0.35)


@pytest.mark.parametrize("seed", range(4))
def test_null_variance_of_the_uniform_law_is_that_of_true_samples(seed):
    direction, rng = np.ones((1, 1)), np.random.RandomState(seed)
    atoms = effect_size._atoms(Distribution("uniform"), 300)
    arguments = atoms, 300, direction, "uniform", rng
    found = effect_size._null_variance(*arguments)
    # Of 20,000 true samples: 3.2 / n^2.
    assert 300**2 * found == pytest.approx(3.2, rel=0.2)


def test_many_samples_at_once_have_the_distances_of_each():
    for shape in ((3, 50, 4), (3, 10, 16), (2, 20, 1)):  # more columns than rows, too
        samples = normal(shape)
        directions = effect_size._orthonormal_directions(
            shape[2], 32, np.random.RandomState(0)
        )
        atoms, rng = normal_atoms(shape[1]), np.random.RandomState(1)
        slices = list(
            effect_size._slices_of_target(atoms, shape[1], directions, None, rng)
        )
        expected = [
            effect_size._squared_distance(Z, directions, slices)[0] for Z in samples
        ]
        found = effect_size._squares_of(samples, directions, slices)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_many_components_take_little_memory_and_stay_exact():
    Z = np.random.default_rng(0).random((300, 128))
    tracemalloc.start()
    true = excess_distance(Z, "uniform")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20  # about 200 MiB for 65,536 rows of the target
    assert true.low == 0 and true.high < 0.05
    wide = excess_distance(0.5 + 1.1 * (Z - 0.5), "uniform")
    assert wide.distance == pytest.approx(0.1, abs=0.01)


def test_influence_is_what_one_more_row_changes():
    Z = correlated(400, 3) * 1.2
    directions = effect_size._orthonormal_directions(3, 60, np.random.RandomState(0))
    atoms = normal_atoms(400)

    def rows_and_influence(Z):
        rng = np.random.RandomState(1)
        slices = effect_size._slices_of_target(atoms, len(Z), directions, "normal", rng)
        return effect_size._squared_distance(Z, directions, slices)[1:]

    before, influence = rows_and_influence(Z)
    with_row = [rows_and_influence(np.vstack([Z, Z[i]]))[0] for i in range(0, 400, 8)]
    changes = 401 * (np.array(with_row) - before)
    expected = (influence - influence.mean())[::8]
    assert np.corrcoef(changes, expected)[0, 1] > 0.97
    assert changes.std() == pytest.approx(expected.std(), rel=0.15)


@pytest.mark.parametrize(
    "eigenvalues", [[1.0], [4.0, 4.0], [0.0, 1.0], [1e-6, 1.0, 50.0], [1.0] * 300]
)
def test_mean_deviation_is_that_of_random_directions(eigenvalues):
    directions = normal((50000, len(eigenvalues)))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    expected = np.sqrt(directions**2 @ eigenvalues).mean()
    found = effect_size._mean_deviation(np.diag(eigenvalues), len(eigenvalues))
    assert found == pytest.approx(expected, rel=0.01)


def test_seed_matters_little():
    Z = np.random.default_rng(0).standard_t(6, size=(2000, 6)) * [1, 1, 1, 2, 2, 0.5]
    found = [excess_distance(Z, random_state=seed).distance for seed in range(5)]
    assert np.ptp(found) < 0.03 * np.mean(found)
    assert excess_distance(Z[::-1]) == pytest.approx(excess_distance(Z))


def test_interval_shrinks_with_rows_and_grows_with_confidence():
    def width(n, level=0.95):
        result = excess_distance(1.2 * normal((n, 3)), confidence_level=level)
        assert result.low <= result.distance <= result.high
        return result.high - result.low

    assert width(10000) < 0.5 * width(500)
    assert width(500, 0.99) > 1.2 * width(500)


@pytest.mark.parametrize("size", [1e30, 1e49, 1e51, 1e300])
@pytest.mark.parametrize("law", ["normal", "uniform", stats.norm(0, 1e-5)])
def test_huge_codes_are_as_far_as_they_are(law, size):
    # So far away, the target is a point, and the square is the mean one of the rows.
    Z = normal((120, 3))
    deviation = {"normal": 1, "uniform": 12**-0.5}.get(law, 1e-5)
    expected = np.sqrt(np.square(Z).mean()) / deviation
    result = np.divide(excess_distance(size * Z, law), size)
    assert result[0] == pytest.approx(expected)
    assert result == pytest.approx(np.divide(excess_distance(1e20 * Z, law), 1e20))


def test_a_distance_beyond_floats_is_the_largest_float():
    largest = np.finfo(float).max
    assert excess_distance(np.full((9, 2), largest), "uniform") == (largest,) * 3


@pytest.mark.parametrize(
    "Z",
    [
        np.zeros((5, 2)),
        np.zeros((2, 1)),
        np.full((9, 3), 1e40),
        np.full((9, 3), 1e150),
    ],
)
def test_constant_codes_have_a_distance(Z):
    # A point at distance a from the mean is at the distance sqrt(1 + a^2).
    expected = np.sqrt(1 + np.square(Z[0]).mean())
    result = excess_distance(Z)
    assert result.distance == pytest.approx(expected)
    assert 0 <= result.low <= result.high < np.inf


def test_more_components_than_rows():
    result = excess_distance(normal((20, 300)))
    assert 0 == result.low <= result.distance < 0.2
    assert excess_distance(2 * normal((20, 300))).distance == pytest.approx(1, abs=0.1)


def test_result_prints_in_words():
    text = str(effect_size.ExcessDistance(0.12345, 0.1, 0.15))
    assert text == "0.123 standard deviations (interval 0.1 to 0.15)"


@pytest.mark.parametrize("level", [0, 1, 95, "0.95", True, np.nan])
def test_level_that_is_no_probability_is_an_error(level):
    with pytest.raises(ValueError, match="'confidence_level' parameter must be"):
        excess_distance(np.zeros((5, 2)), confidence_level=level)


@pytest.mark.parametrize(
    ("Z", "law", "message"),
    [
        (np.zeros((1, 2)), "normal", "at least 2 rows"),
        ([[np.nan, 0.0], [0.0, 1.0]], "normal", "NaN or infinity in 1 of 2"),
        (np.zeros((5, 2)), stats.cauchy(), "finite variance"),
        (np.zeros((5, 2)), "cauchy", "must be one of"),
    ],
)
def test_what_has_no_distance_is_an_error(Z, law, message):
    with pytest.raises(ValueError, match=message):
        excess_distance(Z, law)


def test_callers_generator_is_untouched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    excess_distance(normal((50, 2)), "uniform")
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002

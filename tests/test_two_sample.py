from inspect import signature

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from skdim import NoiseInjectedDIM, metrics
from skdim.metrics import two_sample, two_sample_test


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def check_uniform(pvalues):
    """Check that p-values, multiples of 1 / 100, are uniform."""
    jitter = np.random.default_rng(0).uniform(size=len(pvalues)) / 100
    assert stats.kstest(np.array(pvalues) - jitter, "uniform").pvalue > 0.01
    assert np.mean(np.array(pvalues) <= 0.05) < 0.1


@pytest.mark.parametrize("shape", [(30, 1), (60, 4), (40, 64)])
def test_p_is_uniform_for_exact_codes(shape):
    n, d = shape
    found = [
        two_sample_test(normal(shape, s), normal((n + 20, d), 1000 + s), n_resamples=99)
        for s in range(200)
    ]
    check_uniform([result.pvalue for result in found])
    # So are the adjusted ones of components: one in twenty has any below 0.05.
    lowest = [min(shift.pvalue for shift in result.components) for result in found]
    assert np.mean(np.array(lowest) <= 0.05) < 0.1


def test_p_is_uniform_for_held_out_rows_of_a_fitted_estimator():
    X = load_breast_cancer().data
    train, rest = train_test_split(X, train_size=269, random_state=0)
    dim = NoiseInjectedDIM(4, max_iter=5, random_state=0).fit(train)
    codes = dim.transform(rest)
    pvalues = []
    for seed in range(200):
        reference, new = train_test_split(codes, test_size=0.4, random_state=seed)
        result = two_sample_test(reference, new, n_resamples=99, random_state=seed)
        pvalues.append(result.pvalue)
    check_uniform(pvalues)


@pytest.mark.parametrize("max_samples", [2000, 300])
def test_a_shift_of_one_component_is_found_and_named(max_samples):
    shift = np.arange(8) == 5
    for seed in range(10):
        reference = normal((1000, 8), seed)
        new = normal((800, 8), seed + 1000) + 0.3 * shift
        result = two_sample_test(reference, new, max_samples=max_samples)
        first = result.components[0]
        assert first.component == 5
        assert first.shift == pytest.approx(0.3, abs=0.2)
        assert first.pvalue < 0.001
        if max_samples == 2000:
            assert result.pvalue < 0.01


def test_power_grows_with_rows():
    def power(n):
        draws = ((normal((n, 4), s), normal((n, 4), s + 500) + 0.2) for s in range(30))
        found = [two_sample_test(*pair, n_resamples=99).pvalue for pair in draws]
        return np.mean(np.array(found) <= 0.05)

    assert power(30) < 0.8 < power(300)


@pytest.mark.parametrize(
    "change",
    [
        lambda Z: 1.3 * Z,
        lambda Z: Z[:, [0, 0, 2]],
        lambda Z: Z * np.where(np.arange(len(Z)) % 2, 0.5, 1.3)[:, None],
    ],
    ids=["scale", "repeated component", "shared scale"],
)
def test_changes_that_leave_the_means_are_seen(change):
    result = two_sample_test(normal((600, 3)), change(normal((600, 3), 1)))
    assert result.pvalue < 0.01


def test_statistic_is_the_energy_distance_of_scipy():
    x, y = normal((40, 1)), 2 * normal((25, 1), 1) + 0.5
    scale = np.concatenate([x, y]).std()
    expected = stats.energy_distance(x[:, 0] / scale, y[:, 0] / scale)
    assert two_sample_test(x, y).statistic == pytest.approx(expected)


def test_units_of_components_change_nothing():
    x, y = normal((50, 2)), normal((60, 2), 1) + 0.3
    result = two_sample_test(x, y)
    other = two_sample_test(5 + 1e6 * x, 5 + 1e6 * y)
    assert other.statistic == pytest.approx(result.statistic)
    assert other.pvalue == result.pvalue
    assert other.components[0] == pytest.approx(result.components[0])


def test_few_rows_use_all_permutations():
    # 2 of the 20 splits of six rows are as extreme: this one and its mirror image.
    result = two_sample_test([[0.0], [1], [2]], [[10.0], [11], [12]])
    assert result.pvalue == pytest.approx(2 / 20)


def test_equally_extreme_splits_count_although_they_round_differently():
    reference, new = np.zeros((500, 1)), np.zeros((400, 1))
    new[:5] = 1
    # As extreme as all five ones in one sample are only the splits that do the same.
    counts = np.arange(6)
    exact = stats.hypergeom(900, 5, 400).pmf(counts)
    extreme = np.abs(counts / 400 - (5 - counts) / 500) >= 5 / 400 - 1e-12
    expected = exact[extreme].sum()
    assert 0.01 < expected < 0.02
    for seed in range(3):
        found = two_sample_test(reference, new, random_state=seed)
        assert found.pvalue == pytest.approx(expected, abs=0.013)
        assert found.pvalue > 0.005


def test_adjusted_p_values_are_those_of_holm():
    found = two_sample._holm(np.array([0.04, 0.01, 0.03, 0.5]))
    np.testing.assert_allclose(found, [0.09, 0.04, 0.09, 0.5])


@pytest.fixture
def drift():
    """Inputs of two independent pairs of columns, codes of them, and a drift."""
    names = ["a", "b", "c", "d"]
    rng = np.random.default_rng(0)
    mixing = np.array([[1, 0.8, 0, 0], [0, 0, 1, -0.5]])

    def rows(n):
        Z = rng.normal(size=(n, 2))
        return Z, Z @ mixing + 0.3 * rng.normal(size=(n, 4))

    reference, inputs = rows(2000)
    Z, X = rows(2000)
    Z[:, 1] += 0.5
    X[:, 2:] += 0.5 * mixing[1, 2:]
    tables = (pd.DataFrame(table, columns=names) for table in (inputs, X))
    return reference, Z, *tables


def test_columns_that_moved_are_named_by_inputs(drift):
    reference, new, X_reference, X_new = drift
    result = two_sample_test(reference, new, X_reference=X_reference, X_new=X_new)
    assert [column.column for column in result.columns[:2]] == ["c", "d"]
    for column in result.columns[:2]:
        assert column.component == 1
        assert column.expected == pytest.approx(column.shift, abs=0.1)
        assert column.pvalue < 1e-6
    assert result.columns[0].shift > 0 > result.columns[1].shift
    assert all(abs(column.expected) < 0.15 for column in result.columns[2:])


def test_loadings_name_the_same_columns_as_inputs(drift):
    reference, new, X_reference, X_new = drift
    measured = two_sample_test(reference, new, X_reference=X_reference, X_new=X_new)
    loadings = np.corrcoef(reference.T, X_reference.T)[:2, 2:]
    names = X_reference.columns
    result = two_sample_test(reference, new, loadings=loadings, feature_names=names)
    assert [column.column for column in result.columns[:2]] == ["c", "d"]
    expected = {column.column: column.expected for column in measured.columns}
    for column in result.columns:
        assert column.expected == pytest.approx(expected[column.column])
        assert np.isnan([column.shift, column.statistic, column.pvalue]).all()


def test_a_column_that_codes_ignore_is_not_expected_to_move(drift):
    reference, new, X_reference, X_new = drift
    noise = normal((2, 2000))
    result = two_sample_test(
        reference,
        new,
        X_reference=X_reference.assign(other=noise[0]),
        X_new=X_new.assign(other=noise[1] + 2),
    )
    first = result.columns[0]
    assert first.column == "other"
    assert first.shift == pytest.approx(2, abs=0.15)
    assert abs(first.expected) < 0.1


def test_columns_need_no_names():
    reference, new = normal((2, 50, 2))
    moved = new + np.arange(2)
    result = two_sample_test(reference, new, X_reference=reference, X_new=moved)
    assert [column.column for column in result.columns] == [1, 0]
    assert two_sample_test(reference, new).columns == ()


def test_constants_do_not_move_unless_they_do():
    reference, new = np.ones((2, 30, 3))
    new[:, 2] = 2
    result = two_sample_test(reference, new, X_reference=reference, X_new=new)
    assert [shift.shift for shift in result.components] == [np.inf, 0, 0]
    assert result.components[0].component == 2
    assert result.pvalue < 0.01
    assert [column.expected for column in result.columns] == [0, 0, 0]
    assert two_sample_test(reference, reference).pvalue == 1


def test_result_prints_and_makes_a_table(drift):
    reference, new, X_reference, X_new = drift
    result = two_sample_test(reference, new, X_reference=X_reference, X_new=X_new)
    text = str(result)
    assert text.startswith("energy distance")
    assert "component 1: +0.5" in text
    assert "column c: +0.4" in text
    table = pd.DataFrame(result.columns).set_index("column")
    assert table.loc["c", "component"] == 1
    by_loadings = two_sample_test(reference, new, loadings=np.ones((2, 1)))
    assert "nan" not in str(by_loadings)


def test_seed_decides_and_the_callers_generator_is_untouched():
    pair = normal((100, 2)), normal((100, 2), 1)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    results = [two_sample_test(*pair, max_samples=50) for _ in range(2)]
    assert results[0] == results[1]
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    other = two_sample_test(*pair, max_samples=50, random_state=1)
    assert other.statistic != results[0].statistic


Z = normal((20, 2))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((Z, Z[:, :1]), {}, "same columns, but got 2 and 1"),
        ((Z, Z[:1]), {}, "Z_new must have at least 2 rows"),
        ((Z, [[np.nan, 1], [0, 0]]), {}, "Z_new must hold finite numbers"),
        ((Z, 1e160 * Z), {}, "Z_new must hold values of at most 1e\\+100"),
        ((Z, Z), {"X_new": Z}, "X_reference is None; pass both"),
        ((Z, Z), {"X_reference": Z}, "X_new is None; pass both"),
        ((Z, Z), {"X_reference": Z[1:], "X_new": Z}, "got 19 for 20"),
        ((Z, Z), {"loadings": Z}, r"here \(2, 2\), but got \(20, 2\)"),
        ((Z, Z), {"loadings": [1, 2]}, "loadings must have the shape"),
        (
            (Z, Z),
            {"loadings": np.eye(2), "feature_names": ["a"]},
            "one name for each of 2 columns",
        ),
        ((Z, Z), {"n_resamples": 0}, "'n_resamples' parameter must be an integer"),
        ((Z, Z), {"max_samples": 1.5}, "'max_samples' parameter must be an integer"),
        ((Z, Z), {"max_samples": 1}, "'max_samples' parameter must be at least 2"),
    ],
)
def test_what_cannot_be_compared_is_an_error(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        two_sample_test(*arguments, **options)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in metrics.__all__
        if {"Z", "output_distribution"}
        <= signature(getattr(metrics, name)).parameters.keys()
    ],
)
@pytest.mark.parametrize(
    "second", [Z, Z.tolist(), torch.zeros(3, 2), pd.DataFrame(Z)], ids=type
)
def test_a_second_sample_for_a_one_sample_test_names_the_right_function(name, second):
    with pytest.raises(ValueError, match=r"like a sample, .*metrics\.two_sample_test"):
        getattr(metrics, name)(Z, second)

"""The parts of the detector's score, and their sum."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import Ridge

from skdim._core.network import InputLayer
from skdim._novelty import (
    Columns,
    Neighbors,
    Novelty,
    Reconstruction,
    Surprise,
)

NOT_OWN = -1
OTHER = np.array([NOT_OWN])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def novelty_of(rows, features):
    """Return a ``Novelty`` fitted to rows that are standardised already."""
    return Novelty(rows, rows, features, has_columns=True)


def test_the_state_is_arrays_and_numbers_that_score_the_same(rng):
    rows, features = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    novelty = novelty_of(rows, features)
    state = novelty.state()
    values = [
        value
        for ones in state.values()
        for one in ones.values()
        for value in one.values()
    ]
    assert {type(value) for value in values} <= {np.ndarray, int, float}
    others = rng.normal(size=(5, 3))
    found = Novelty.restored(state)(others, others, features[:5])
    np.testing.assert_array_equal(found, novelty(others, others, features[:5]))


def test_distances_to_neighbors_are_errors_of_a_ridge_regression_on_them(rng):
    train, rows = rng.normal(size=(50, 4)), rng.normal(size=(3, 4))
    part = Neighbors(train)
    found = part(rows, part.near(rows), np.full(3, NOT_OWN))
    for row, value in zip(rows, found, strict=True):
        order = np.argsort(np.linalg.norm(train - row, axis=1))[:5]
        near, center = train[order], train[order].mean(0)
        spread = (near - center).T
        alpha = 0.3 * (spread**2).sum() / 5
        model = Ridge(alpha, fit_intercept=False).fit(spread, row - center)
        error = np.linalg.norm(row - center - model.predict(spread))
        np.testing.assert_allclose(value, np.log(error + part.floor))


def test_a_row_trained_on_is_no_neighbor_of_itself(rng):
    train = rng.normal(size=(30, 3))
    part = Neighbors(train)
    without = Neighbors(np.delete(train, 4, 0))
    near = without.near(train[4:5])
    expected = np.exp(without(train[4:5], near, np.array([NOT_OWN])))
    found = np.exp(part.left_out[4]) - part.floor + without.floor
    np.testing.assert_allclose(found, expected[0])


def test_rows_trained_on_are_known_again(rng):
    train = rng.normal(size=(30, 3))
    train[7] = train[3]
    part = Neighbors(train)
    rows = np.concatenate([train, rng.normal(size=(5, 3))])
    own = part.own(rows, part.near(rows))
    assert (own[30:] == NOT_OWN).all()
    np.testing.assert_array_equal(train[own[:30]], train)
    # Only one of two equal rows is left out, and the other one is a near neighbour.
    alone = Neighbors(np.delete(train, 7, 0))
    assert part.left_out[3] == part.left_out[7] < alone.left_out[3] - 0.5


def test_rows_are_left_out_of_features_that_others_share(rng):
    rows = rng.normal(size=(60, 3))
    features = np.repeat(rng.normal(size=(20, 2)), 3, 0)
    novelty = novelty_of(rows, features)
    np.testing.assert_array_equal(novelty(rows, rows, features), novelty.left_out)
    features = np.repeat(rng.normal(size=(5, 2)), 12, 0)  # more than are searched
    novelty = novelty_of(rows, features)
    np.testing.assert_array_equal(novelty(rows, rows, features), novelty.left_out)


def test_columns_are_summed_two_sided_ranks(rng):
    train = rng.normal(size=(99, 2))
    part = Columns(train)
    median, largest = np.median(train, 0), train.max(0) + 1
    np.testing.assert_allclose(part(median[None], OTHER), 0, atol=0.05)
    np.testing.assert_allclose(part(largest[None], OTHER), -2 * np.log(2 / 100))
    mixed = np.array([[median[0], largest[1]]])
    np.testing.assert_allclose(part(mixed, OTHER), -np.log(2 / 100), atol=0.03)


def test_surprise_is_minus_log_p_of_an_exponential_law(rng):
    surprise = Surprise(rng.exponential(size=20_000))
    values = np.array([0.0, 0.5, 2.0, 3.0, 6.0, 12.0])
    np.testing.assert_allclose(surprise(values), values, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("n", [2, 3, 10, 1000])
def test_surprise_rises_without_jumps(n, rng):
    surprise = Surprise(rng.normal(size=n))
    values = np.linspace(-5, 9, 100_001)
    steps = np.diff(surprise(values))
    assert (steps >= 0).all() and steps.max() < 0.2
    assert surprise(np.array([9.0])) > surprise(np.array([4.0])) > 2


def test_surprise_takes_values_that_are_all_one():
    found = Surprise(np.zeros(10))(np.array([-1.0, 0.0, 1.0]))
    assert np.isfinite(found).all() and found[2] > found[1] >= found[0]


def test_reconstruction_finds_what_features_do_not_say(rng):
    features = rng.normal(size=(300, 6))
    rows = features @ rng.normal(size=(6, 4)) + 0.1 * rng.normal(size=(300, 4))
    part = Reconstruction(rows, features)
    off = rows + np.array([0.0, 0.0, 0.0, 1.0])
    assert (
        part(off, features, np.full(300, NOT_OWN)) > part.left_out.max()
    ).mean() > 0.9
    seen = part(rows, features, np.arange(300))
    np.testing.assert_allclose(seen, part.left_out)


def standardized(rows, others=None):
    """Standardise rows, or ``others``, by the moments of ``rows``, as a detector does.

    Images have the shape (n_rows, channels, height, width).
    """
    layer = InputLayer(rows.shape[1:])
    layer.fit(rows)
    others = rows if others is None else others
    return layer.standardized(torch.from_numpy(others)).numpy()


def test_known_rows_have_one_residual_in_any_batch(rng):
    rows, features = rng.normal(size=(20, 3)), rng.normal(size=(20, 40))
    part, own = Reconstruction(rows, features), np.arange(20)
    whole = part(rows, features, own)
    alone = [part(rows[i : i + 1], features[i : i + 1], own[i : i + 1]) for i in own]
    np.testing.assert_array_equal(np.concatenate(alone), whole)
    np.testing.assert_array_equal(whole, part.left_out)


def test_columns_that_never_vary_are_left_out_and_pixels_share_a_scale(rng):
    rows = np.c_[rng.normal(3, 2, size=(100, 2)), np.full(100, 1e6 / 3)]
    scaled = standardized(rows)
    np.testing.assert_allclose(scaled[:, :2].std(0), 1)
    assert (scaled[:, 2] == 0).all()
    images = rng.normal(size=(50, 1, 2, 2)) * np.array([1, 3])[:, None]
    scaled = standardized(images)
    assert scaled[:, :, 1].std() > 2 * scaled[:, :, 0].std()
    np.testing.assert_allclose((scaled**2).mean(), 1)
    images[:, :, 0, 0] = 5
    moved = standardized(images, images + 9) - standardized(images)
    assert abs(moved[:, :, 0, 0]).min() > 1  # pixels that never varied in training
    blank = np.full((9, 1, 2, 2), 7.0)
    assert (standardized(blank) == 0).all()
    assert abs(standardized(blank, 2 * blank)).min() == 7


def test_parts_of_rows_like_those_trained_on_are_nearly_exponential(rng):
    rows = rng.normal(size=(1500, 3))
    features = np.tanh(rows @ rng.normal(size=(3, 10)))
    novelty = novelty_of(rows[:1000], features[:1000])
    parts = novelty.each(rows[1000:], rows[1000:], features[1000:])
    assert list(parts) == ["rows", "features", "reconstruction", "columns"]
    for part in parts.values():
        assert stats.kstest(part, stats.expon.cdf).statistic < 0.08


def test_pixels_are_not_ranked_one_by_one(rng):
    pixels = rng.normal(size=(60, 16))
    novelty = Novelty(pixels, pixels, pixels, has_columns=False)
    assert list(novelty.each(pixels, pixels, pixels)) == [
        "rows",
        "features",
        "reconstruction",
    ]


@pytest.mark.parametrize("n_features", [6, 40])
def test_left_out_reconstruction_is_that_without_the_row(n_features, rng):
    n = 30
    rows, features = rng.normal(size=(n, 4)), 2 + rng.normal(size=(n, n_features))
    rows[:, 0] += features[:, 0]
    whole = Reconstruction(rows, features)
    centered = features - features.mean(0)
    ridge = 1e-4 * np.trace(centered.T @ centered) / n_features + 1e-6

    def error(i):
        F, R = np.delete(features, i, 0), np.delete(rows, i, 0)
        model = Ridge(ridge).fit(F, R)
        return rows[i] - model.predict(features[i : i + 1])[0]

    errors = np.array([error(i) for i in range(n)])
    for i in (0, 7):
        others = np.delete(errors, i, 0)
        covariance = others.T @ others / n + 0.01 * np.eye(4)
        size = errors[i] @ np.linalg.solve(covariance, errors[i])
        np.testing.assert_allclose(whole.left_out[i], np.log(size), rtol=1e-3)


def test_wide_rows_need_no_covariance_as_wide(rng):
    rows, features = rng.normal(size=(20, 50)), rng.normal(size=(20, 3))
    part = Reconstruction(rows, features)
    assert part.directions.shape == (20, 50)
    errors = part._residuals(rows, features, np.arange(20))
    covariance = errors.T @ errors / 20 + 0.01 * np.eye(50)
    new, of_new = rng.normal(size=(1, 50)), rng.normal(size=(1, 3))
    error = part._residuals(new, of_new, OTHER)
    size = error @ np.linalg.solve(covariance, error.T)
    np.testing.assert_allclose(part(new, of_new, OTHER), np.log(size[0]))

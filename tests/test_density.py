"""Log-density of rows: exact derivatives, known densities, bad input."""

import numpy as np
import pytest
import torch
from estimators import quick
from numpy.testing import assert_allclose
from scipy import stats

from skdim import DeepInfoMax, NoiseInjectedDIM
from skdim._core.density import log_volume

NORMAL = {NoiseInjectedDIM: {}, DeepInfoMax: {"prior": "normal"}}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 6)) * [1, 2, 3, 4, 5, 100]


def by_differences(dim, X, step=1e-5):
    """Return the log-density of X, with the Jacobian from central differences."""
    steps = np.diag(step * X.std(0))
    slopes = [
        (dim.transform(X + s) - dim.transform(X - s)) / (2 * s.sum()) for s in steps
    ]
    jacobian = np.stack(slopes, 2)
    if jacobian.shape[1] > jacobian.shape[2]:  # codes lie on a surface
        jacobian = jacobian.transpose(0, 2, 1)
    volume = np.linalg.slogdet(jacobian @ jacobian.transpose(0, 2, 1))[1] / 2
    return stats.norm.logpdf(dim.transform(X)).sum(1) + volume


@pytest.mark.parametrize("of", NORMAL)
@pytest.mark.parametrize("n_components", [1, 3, 6])
def test_derivatives_are_those_of_finite_differences(rows, of, n_components):
    width = {"n_components": n_components, "hidden_layer_sizes": (64,)}
    dim = quick(of, **width, **NORMAL[of]).fit(rows)
    found = dim.score_samples(rows[:20])
    assert_allclose(found, by_differences(dim, rows[:20]), rtol=1e-5, atol=1e-5)


def test_derivatives_of_images_are_those_of_their_pixels(digit_images):
    images = digit_images[0]
    dim = quick(n_components=3).fit(images)
    flat = quick(n_components=3, image_shape=(8, 8)).fit(images.reshape(-1, 64))
    found = dim.score_samples(images[:5])
    assert_allclose(flat.score_samples(images[:5].reshape(5, 64)), found)
    noisy = images[:5].reshape(5, 64) + np.random.default_rng(0).random((5, 64))
    expected = by_differences(flat, noisy)
    assert_allclose(flat.score_samples(noisy), expected, rtol=1e-5)


def test_volume_is_half_the_log_determinant_and_none_without_full_rank():
    matrices = torch.randn(7, 3, 5, generator=torch.Generator().manual_seed(0)).double()
    expected = torch.logdet(matrices @ matrices.mT) / 2
    torch.testing.assert_close(log_volume(matrices), expected)
    torch.testing.assert_close(log_volume(matrices.mT), expected)
    flat = matrices[:1] * 1.0
    flat[:, 2] = flat[:, 0] / 3 - flat[:, 1]  # in the plane of the others
    for matrix in (flat, 0 * flat, flat.mT):
        assert log_volume(matrix).item() == -np.inf


@pytest.mark.parametrize("n_components", [3, 5])
def test_volumes_of_inputs_of_any_scale_are_kept(n_components):
    generator = torch.Generator().manual_seed(0)
    jacobian = torch.randn(4, n_components, 3, generator=generator).double()
    scales = torch.tensor([1e-9, 1.0, 1e9], dtype=torch.float64)
    expected = log_volume(jacobian) + scales.log().sum()
    torch.testing.assert_close(log_volume(jacobian * scales), expected)


def test_the_output_distribution_makes_no_difference(rows):
    found = [
        quick(output_distribution=distribution).fit(rows).score_samples(rows)
        for distribution in ("normal", "uniform", stats.expon())
    ]
    for other in found[1:]:
        assert_allclose(other, found[0])


def test_a_known_density_is_found():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(2, 3000, 2))
    for part in (train, test):
        part[:, 1] += 0.8 * part[:, 0]
    truth = stats.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1.64]]).logpdf(test)
    found = NoiseInjectedDIM(2, random_state=0).fit(train).score_samples(test)
    assert abs(found.mean() - truth.mean()) < 0.3
    assert np.corrcoef(found, truth)[0, 1] > 0.85


class Exact(torch.nn.Module):
    """Encoder with codes of exactly N(0, 1) for one column of N(mean, 1).

    It maps the column ``x`` to ``x - mean``, or folds it: to ``|x|``, mapped to N(0, 1)
    by its distribution function.
    """

    def __init__(self, mean, folds):
        super().__init__()
        self.mean, self.folds = mean, folds
        self.weight = torch.nn.Parameter(torch.ones(1, 1))  # training only scales

    def forward(self, inputs):
        t = inputs.double()
        x = self.mean + t / (1 - (t / 3) ** 2).sqrt()  # undoes the soft clipping
        below = torch.special.ndtr(abs(x) - self.mean)
        share = below - torch.special.ndtr(-abs(x) - self.mean)
        z = torch.special.ndtri(share) if self.folds else x - self.mean
        return z * self.weight


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize("mean", [0, 0.5, 2])
def test_the_mean_exceeds_minus_the_entropy_by_that_of_the_region(mean, folds):
    X, test = mean + np.random.default_rng(0).normal(size=(2, 20_000, 1))
    settings = {"n_components": 1, "views": None, "input_scaling": (mean, 1.0)}
    dim = quick(encoder=Exact(mean, folds), max_iter=1, **settings).fit(X)
    excess = dim.score_samples(test).mean() + stats.norm.entropy()
    # Given |x|, the log-odds of the other sign are -2 * mean * x.
    expected = np.logaddexp(0, -2 * mean * test).mean()
    assert excess == pytest.approx(expected if folds else 0, abs=0.03)
    assert excess < np.log(2) + 0.03


def test_units_of_columns_shift_it_by_their_logarithm(rows):
    dim = quick(n_components=6).fit(rows)
    other = quick(n_components=6).fit(rows * 8)
    shift = 6 * np.log(8)
    assert_allclose(other.score_samples(rows * 8), dim.score_samples(rows) - shift)


def test_types_of_input_give_one_value(rows):
    X = rows.astype(np.float32)
    dim = quick().fit(X)
    found = dim.score_samples(X)
    assert found.dtype == np.float64
    assert_allclose(dim.score_samples(X.astype(np.float64)), found)


def test_own_encoders_stay_single(rows):
    def encoder(input_shape, n_components):
        return torch.nn.Linear(input_shape[0], n_components)

    dim = quick(encoder=encoder).fit(rows)
    expected = by_differences(dim, rows[:9], step=1e-2)
    assert_allclose(dim.score_samples(rows[:9]), expected, rtol=1e-2)


@pytest.mark.parametrize("of", NORMAL)
def test_with_more_components_than_columns_it_is_that_of_a_surface(rows, of):
    width = {"n_components": 9, "hidden_layer_sizes": (64,)}
    dim = quick(of, **width, **NORMAL[of]).fit(rows)
    expected = by_differences(dim, rows[:20])
    assert_allclose(dim.score_samples(rows[:20]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_components", [2, 3, 5, 9])
def test_columns_that_do_not_vary_count_as_none(rows, n_components):
    X = rows[:, :4]
    constant = np.insert(X, 2, 7.0, axis=1)
    dim = quick(n_components=n_components).fit(constant)
    found = dim.score_samples(constant)
    assert np.isfinite(found).all()
    moved = constant.copy()
    moved[:, 2] += 3
    assert_allclose(dim.score_samples(moved), found)


def test_without_a_column_that_varies_it_is_the_density_of_the_code():
    X = np.full((50, 3), 7.0)
    dim = quick(n_components=2).fit(X)
    expected = stats.norm.logpdf(dim.transform(X)).sum(1)
    assert_allclose(dim.score_samples(X), expected)


def test_what_has_no_density_is_refused(rows):
    dim = quick(output_layer="hidden").fit(rows)
    with pytest.raises(ValueError, match="use output_layer='code'"):
        dim.score_samples(rows)


def test_callers_that_forbid_gradients_get_it_too(rows):
    dim = quick().fit(rows)
    with torch.no_grad():
        inside = dim.score_samples(rows)
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert_allclose(dim.score_samples(rows), inside)

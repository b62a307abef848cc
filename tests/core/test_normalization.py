import pytest
import torch

from skdim._core.normalization import (
    Normalizer,
    _rescale_beyond_chance,
)


def normalized(h):
    layer = Normalizer(h.shape[1]).eval()
    layer.fit(h.mean(0), covariance(h), len(h))
    return layer(h.float())


def test_normalizer_whitens_given_enough_rows():
    g = torch.Generator().manual_seed(0)
    mix = torch.randn(4, 4, generator=g, dtype=torch.float64)
    h = torch.randn(50_000, 4, generator=g, dtype=torch.float64) @ mix + 10
    z = normalized(h)
    assert z.mean(0).abs().max() < 1e-3
    torch.testing.assert_close(torch.cov(z.T), torch.eye(4), atol=5e-3, rtol=0)


def test_directions_that_carry_little_are_whitened_too_given_enough_rows():
    g = torch.Generator().manual_seed(0)
    h = torch.randn(20_000, 20, generator=g, dtype=torch.float64)
    h[:, :-1] = 30 * h[:, :1] + h[:, :-1]  # nearly one direction; shrinkage sees it
    share = (20 / 20_000) ** 0.5
    values = torch.linalg.eigvalsh(covariance(normalized(h)))
    assert values.min() > 0.95 * (1 - share) ** 2
    assert values.max() < 1.05 * (1 + share) ** 2
    torch.testing.assert_close(_rescale_beyond_chance(torch.eye(30), 20), torch.eye(30))


def test_normalizer_with_few_rows_keeps_to_a_scale_per_component():
    g = torch.Generator().manual_seed(0)
    h = torch.randn(6, 10, generator=g, dtype=torch.float64)
    z = normalized(h)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(10))
    assert torch.cov(z.T).abs().max() < 2  # full whitening would be singular here


@pytest.mark.parametrize("shrinkage", [None, 0.5])
def test_moments_are_those_of_the_first_rows_if_asked_for(shrinkage):
    g = torch.Generator().manual_seed(0)
    rows, views = torch.randn(2, 50, 3, generator=g)
    z = Normalizer(3, shrinkage).train()(torch.cat([rows, 0.1 * views]), 50)
    torch.testing.assert_close(z[:50].std(0, correction=0), torch.ones(3))
    assert z[50:].std(0).max() < 0.2


@pytest.mark.parametrize("shrinkage", [None, 0.5])
def test_batches_are_whitened_unless_there_is_a_shrinkage(shrinkage):
    g = torch.Generator().manual_seed(0)
    mix = torch.randn(4, 4, generator=g)
    h = torch.randn(5000, 4, generator=g) @ mix
    z = Normalizer(4, shrinkage).train()(h)
    off = (torch.cov(z.T, correction=0) - torch.eye(4)).abs().max()
    assert off < 0.01 if shrinkage is None else off > 0.1
    if shrinkage is not None:
        torch.testing.assert_close(z, standardized(h), atol=1e-4, rtol=1e-3)


def test_a_batch_that_cannot_tell_correlations_is_hardly_whitened():
    g = torch.Generator().manual_seed(0)
    z = Normalizer(64).train()(torch.randn(4, 64, generator=g))
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(64))
    assert torch.isfinite(z).all()


def test_whitening_of_the_noisy_code_leaves_small_directions_small():
    g = torch.Generator().manual_seed(0)
    h = torch.randn(20_000, 2, generator=g, dtype=torch.float64)
    h[:, 1] = h[:, 0] + 0.1 * h[:, 1]  # a direction of a hundredth of the variance
    layer = Normalizer(2, shrinkage=0.5).eval()
    layer.fit(h.mean(0), torch.cov(h.T, correction=0), len(h))
    found = torch.cov(layer(h.float()).T)
    torch.testing.assert_close(found.diagonal(), torch.ones(2), atol=1e-2, rtol=0)
    # The correlation of 0.995, shrunk by a half, is 0.4975: roots 1.4975 and 0.5025.
    small, large = torch.linalg.eigvalsh(found)
    assert small / large == pytest.approx(0.005 / 0.5025 * 1.4975 / 1.995, rel=0.05)


def test_normalizer_of_a_constant_component_is_finite():
    h = torch.ones(20, 2, dtype=torch.float64)
    h[:, 0] = torch.arange(20)
    z = normalized(h)
    assert torch.isfinite(z).all() and (z[:, 1] == 0).all()


def covariance(h):
    return torch.cov(h.T, correction=0).reshape(h.shape[1], h.shape[1])


def standardized(z):
    return (z - z.mean(0)) / z.std(0, correction=0)

import numpy as np
import pytest
import torch

from skdim._encoders import ENCODERS
from skdim._network import InputLayer, NetworkSpec, build_network
from skdim._normalizer import Normalizer, NormMap, _evened
from skdim.metrics import norm_spread


def spec(encoder="mlp", row_shape=(5,), channels_first=False, d=3):
    return NetworkSpec(encoder, (8, 4), row_shape, channels_first, d)


def fitted_input(rows, **kwargs):
    layer = InputLayer(spec(**kwargs))
    layer.fit(rows)
    return layer


def test_table_is_scaled_by_column_and_outliers_are_bounded():
    rng = np.random.default_rng(0)
    rows = rng.normal([0, 1e9, -5, 1e-12, 7], [1, 10, 1e12, 1e-20, 0], (500, 5))
    layer = fitted_input(rows)
    z = layer(torch.from_numpy(rows)).numpy()
    assert abs(z[:, :4].mean(0)).max() < 0.05
    assert z[:, :4].std(0) == pytest.approx(0.87, abs=0.05)  # of a bounded normal
    assert (z[:, 4] == 0).all()
    far = layer(torch.from_numpy(rows + 1e30))
    assert far[:, :4].numpy() == pytest.approx(3)
    assert (far[:, 4] == 0).all()


def test_single_precision_outliers_do_not_overflow():
    rows = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    layer = fitted_input(rows, row_shape=(2,)).float()
    far = layer(torch.tensor([[3e38, -3e38]]))
    torch.testing.assert_close(far, torch.tensor([[3.0, -3.0]]))


@pytest.mark.parametrize("channels_first", [False, True])
def test_images_are_scaled_by_channel_and_become_channels_first(channels_first):
    rng = np.random.default_rng(0)
    images = rng.normal([10, 20, 30], [1, 2, 3], (50, 6, 5, 3))
    stored = images.transpose(0, 3, 1, 2) if channels_first else images
    shape = stored.shape[1:]
    rows = stored.reshape(50, -1)
    layer = fitted_input(rows, row_shape=shape, channels_first=channels_first)
    z = layer(torch.from_numpy(rows)).numpy()
    assert z.shape == (50, 3, 6, 5)
    expected = (images - images.mean((0, 1, 2))) / images.std((0, 1, 2))
    np.testing.assert_allclose(z, expected.transpose(0, 3, 1, 2), atol=1e-10)


def test_both_layouts_of_an_image_give_the_same_input():
    images = np.random.default_rng(0).integers(0, 255, (9, 4, 6, 3)).astype(np.uint8)
    first = images.transpose(0, 3, 1, 2)
    one = fitted_input(images.reshape(9, -1), row_shape=(4, 6, 3))
    two = fitted_input(first.reshape(9, -1), row_shape=(3, 4, 6), channels_first=True)
    torch.testing.assert_close(
        one(torch.from_numpy(images.reshape(9, -1))),
        two(torch.from_numpy(first.reshape(9, -1))),
    )


def normalized(h, n_rows=None, whiten=True):
    layer = Normalizer(h.shape[1], whiten).eval()
    layer.fit(h.mean(0), covariance(h), n_rows or len(h))
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
    torch.testing.assert_close(_evened(torch.eye(30), 20), torch.eye(30))


def test_normalizer_with_few_rows_keeps_to_a_scale_per_component():
    g = torch.Generator().manual_seed(0)
    h = torch.randn(6, 10, generator=g, dtype=torch.float64)
    z = normalized(h)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(10))
    assert torch.cov(z.T).abs().max() < 2  # full whitening would be singular here


def test_normalizer_without_whitening_keeps_the_components():
    g = torch.Generator().manual_seed(0)
    h = torch.randn(1000, 2, generator=g, dtype=torch.float64).cumsum(1)
    z = normalized(h, whiten=False)
    expected = (h - h.mean(0)) / h.std(0, correction=0)
    torch.testing.assert_close(z, expected.float(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("whiten", [False, True])
def test_only_the_rows_sent_are_bound_in_training(whiten):
    g = torch.Generator().manual_seed(0)
    sent, view = torch.randn(2, 50, 3, generator=g)
    z = Normalizer(3, whiten).train()(torch.cat([sent, 0.1 * view]), 50)
    torch.testing.assert_close(z[:50].std(0, correction=0), torch.ones(3))
    assert z[50:].std(0).max() < 0.2


@pytest.mark.parametrize("whiten", [False, True])
def test_batches_are_whitened_if_asked_for(whiten):
    g = torch.Generator().manual_seed(0)
    mix = torch.randn(4, 4, generator=g)
    h = torch.randn(5000, 4, generator=g) @ mix
    z = Normalizer(4, whiten).train()(h)
    off = (torch.cov(z.T, correction=0) - torch.eye(4)).abs().max()
    assert off < 0.01 if whiten else off > 0.1


def test_a_batch_that_cannot_tell_correlations_is_hardly_whitened():
    g = torch.Generator().manual_seed(0)
    z = Normalizer(64, whiten=True).train()(torch.randn(4, 64, generator=g))
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(64))
    assert torch.isfinite(z).all()


def test_whitening_of_what_is_received_leaves_small_directions_small():
    g = torch.Generator().manual_seed(0)
    h = torch.randn(20_000, 2, generator=g, dtype=torch.float64)
    h[:, 1] = h[:, 0] + 0.1 * h[:, 1]  # a direction of a hundredth of the variance
    layer = Normalizer(2, whiten=False, shrinkage=0.5).eval()
    layer.fit(h.mean(0), torch.cov(h.T, correction=0), len(h))
    found = torch.cov(layer(h.float()).T)
    torch.testing.assert_close(found.diagonal(), torch.ones(2), atol=1e-2, rtol=0)
    # The correlation of 0.995, shrunk by a half, is 0.4975: roots 1.4975 and 0.5025.
    small, large = torch.linalg.eigvalsh(found)
    assert small / large == pytest.approx(0.005 / 0.5025 * 1.4975 / 1.995, rel=0.05)


def test_evaluation_before_the_end_goes_by_running_averages():
    g = torch.Generator().manual_seed(0)
    mix = torch.randn(3, 3, generator=g)
    layer = Normalizer(3, whiten=True).train()
    for _ in range(200):
        layer(torch.randn(500, 3, generator=g) @ mix + 5)
    layer.eval().settle()
    z = layer(torch.randn(20_000, 3, generator=g) @ mix + 5)
    assert z.mean(0).abs().max() < 0.1
    torch.testing.assert_close(torch.cov(z.T), torch.eye(3), atol=0.1, rtol=0)


def test_normalizer_of_a_constant_component_is_finite():
    h = torch.ones(20, 2, dtype=torch.float64)
    h[:, 0] = torch.arange(20)
    z = normalized(h)
    assert torch.isfinite(z).all() and (z[:, 1] == 0).all()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (1, 28, 28), (4, 17, 16)])
def test_encoders_take_any_shape_and_use_every_parameter(encoder, shape):
    g = torch.Generator().manual_seed(0)
    network = build_network(spec(encoder, shape, channels_first=True), g)
    rows = torch.randn(6, int(np.prod(shape)), generator=g)
    codes = network.train()(rows)
    assert codes.shape == (6, 3)
    codes.pow(3).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("encoder", ENCODERS)
def test_weights_come_from_the_generator_only(encoder):
    def build():
        g = torch.Generator().manual_seed(3)
        shape = spec(encoder, (1, 8, 8), channels_first=True)
        return build_network(shape, g).state_dict()

    before = torch.random.get_rng_state()
    one, two = build(), build()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(torch.random.get_rng_state(), before)


def scaled_rows(spread, n=5000, d=32):
    """Normal rows, each with a scale of its own."""
    g = torch.Generator().manual_seed(0)
    z = torch.randn(n, d, generator=g, dtype=torch.float64)
    return z * (spread * torch.randn(n, 1, generator=g, dtype=torch.float64)).exp()


def norms_fitted(z):
    """Return a map of norms that has seen these codes."""
    norms = NormMap(z.shape[1]).double()
    norms.fit_power(z)
    if norms.power < 1:
        drawn_in = norms.drawn_in(z)
        norms.fit(drawn_in.mean(0), drawn_in.var(0, correction=0))
    return norms


def covariance(h):
    return torch.cov(h.T, correction=0).reshape(h.shape[1], h.shape[1])


def standardized(z):
    return (z - z.mean(0)) / z.std(0, correction=0)


def test_norms_that_vary_too_much_are_drawn_in():
    z, fresh = (standardized(scaled_rows(0.3, n)) for n in (5000, 20_000))
    norms = norms_fitted(z)
    assert norm_spread(fresh) > 2
    assert norm_spread(norms(fresh)) == pytest.approx(1, abs=0.1)
    drawn_in = norms(z)
    torch.testing.assert_close(
        drawn_in.var(0, correction=0), torch.ones(32).double(), atol=1e-6, rtol=0
    )
    assert drawn_in.mean(0).abs().max() < 1e-6


@pytest.mark.parametrize("d", [1, 2, 32])
def test_norms_that_vary_less_than_those_of_the_law_stay(d):
    z = scaled_rows(0.0, d=d)
    z = standardized(z / z.square().mean(1, keepdim=True) ** 0.15)
    assert torch.equal(norms_fitted(z)(z), z)


@pytest.mark.parametrize("z", [torch.zeros(4, 3), torch.ones(2, 1)])
def test_norms_of_codes_that_are_all_alike_are_finite(z):
    norms = norms_fitted(z.double())
    assert torch.isfinite(norms(torch.randn(5, z.shape[1]).double())).all()


def test_codes_far_out_stay_far_out():
    norms = norms_fitted(standardized(scaled_rows(0.3))).float()
    far = norms(torch.full((1, 32), 1e25))  # its square is infinite
    assert torch.isfinite(far).all() and far.abs().min() > 1e4

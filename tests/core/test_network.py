import numpy as np
import pytest
import torch

from skdim._core.config import NetworkSpec
from skdim._core.encoders import ENCODERS
from skdim._core.network import InputLayer, build_network
from skdim._core.runtime import take
from skdim._utils.images import ChannelsFirst


def spec(encoder="mlp", input_shape=(5,), d=3):
    return NetworkSpec(encoder, (8, 4), input_shape, d)


def fitted_input(rows):
    layer = InputLayer(tuple(rows.shape[1:]))
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
    layer = fitted_input(rows)
    layer.to_dtype(torch.float32)
    far = layer(torch.tensor([[3e38, -3e38]]))
    torch.testing.assert_close(far, torch.tensor([[3.0, -3.0]]))


@pytest.mark.parametrize("channels_first", [False, True])
def test_images_are_scaled_by_channel_and_become_channels_first(channels_first):
    rng = np.random.default_rng(0)
    images = rng.normal([10, 20, 30], [1, 2, 3], (50, 6, 5, 3))
    stored = images.transpose(0, 3, 1, 2) if channels_first else images
    rows = ChannelsFirst(stored.reshape(50, -1), stored.shape[1:])
    z = fitted_input(rows)(take(rows, slice(None))).numpy()
    assert z.shape == (50, 3, 6, 5)
    expected = (images - images.mean((0, 1, 2))) / images.std((0, 1, 2))
    np.testing.assert_allclose(z, expected.transpose(0, 3, 1, 2), atol=1e-6)


def test_both_layouts_of_an_image_give_the_same_input():
    images = np.random.default_rng(0).integers(0, 255, (9, 4, 6, 3)).astype(np.uint8)
    layouts = images, images.transpose(0, 3, 1, 2)
    one, two = (ChannelsFirst(x.reshape(9, -1), x.shape[1:]) for x in layouts)
    assert one.shape == two.shape == (9, 3, 4, 6)
    torch.testing.assert_close(
        fitted_input(one)(take(one, slice(None))),
        fitted_input(two)(take(two, slice(None))),
    )


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (1, 28, 28), (4, 17, 16)])
def test_encoders_take_any_shape_and_use_every_parameter(encoder, shape):
    g = torch.Generator().manual_seed(0)
    network = build_network(spec(encoder, shape), g)
    codes = network.train()(torch.randn(6, *shape, generator=g))
    assert codes.shape == (6, 3)
    codes.pow(3).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("encoder", ENCODERS)
def test_weights_come_from_the_generator_only(encoder):
    def build():
        g = torch.Generator().manual_seed(3)
        return build_network(spec(encoder, (1, 8, 8)), g).state_dict()

    before = torch.random.get_rng_state()
    one, two = build(), build()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(torch.random.get_rng_state(), before)

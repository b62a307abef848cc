import math

import numpy as np
import pytest
import torch

from skdim._core.channels import CHANNELS, NormalChannel, UniformChannel
from skdim._utils.distributions import DISTRIBUTIONS, Distribution


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("scale", "d"), [(0.1, 2), (1.0, 16), (3.0, 64)])
def test_capacity_formulas(scale, d):
    normal = d / 2 * math.log(1 + 1 / scale**2)
    uniform = d * math.log(1 + 1 / (2 * scale))
    assert NormalChannel(scale).capacity(d) == pytest.approx(normal)
    assert UniformChannel(scale).capacity(d) == pytest.approx(uniform)


def test_every_named_distribution_has_a_channel():
    assert CHANNELS.keys() == DISTRIBUTIONS.keys()


@pytest.mark.parametrize("channel", CHANNELS.values())
@pytest.mark.parametrize(("capacity", "d"), [(0.7, 1), (5.5, 16), (8.0, 256)])
def test_with_capacity_inverts_capacity(channel, capacity, d):
    assert channel.with_capacity(capacity, d).capacity(d) == pytest.approx(capacity)


def test_normal_noise_and_law_reach_the_capacity_of_the_gaussian_channel():
    # I(U; U + Z) = -1/2 ln(1 - rho^2) for jointly Gaussian U and U + Z.
    channel, n = NormalChannel(0.5), 200_000
    u = torch.randn(n, generator=generator(), dtype=torch.float64)
    y = u + channel.noise(u, generator().manual_seed(1))
    rho = np.corrcoef(u, y)[0, 1]
    assert -0.5 * math.log(1 - rho**2) == pytest.approx(channel.capacity(1), abs=0.01)


def test_uniform_noise_fills_its_box():
    noise = UniformChannel(0.25).noise(torch.empty(100_000), generator())
    assert noise.abs().max() <= 0.25
    assert noise.std().item() == pytest.approx(0.5 / math.sqrt(12), rel=0.01)


@pytest.mark.parametrize("channel", [c(0.3) for c in CHANNELS.values()])
def test_share_of_the_noise_in_the_noisy_code(channel):
    u = channel.squash(torch.randn(200_000, 1, generator=generator()))
    noise = channel.noise(u, generator().manual_seed(1))
    share = (noise.var() / (u + noise).var()).item()
    assert channel.noise_share == pytest.approx(share, rel=0.02)


@pytest.mark.parametrize("channel", [c(0.3) for c in CHANNELS.values()])
def test_noise_is_drawn_from_the_generator_given(channel):
    like = torch.empty(5, 2)
    before = torch.random.get_rng_state()
    one, two = (channel.noise(like, generator()) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(("slope", "residual"), [(1.0, 0.0), (0.6, 0.5)])
def test_normal_ratio_is_that_of_the_densities(slope, residual):
    channel = NormalChannel(0.4)
    u, y = torch.randn(2, 7, 3, generator=generator(), dtype=torch.float64)
    scores = channel.log_ratio(u, y, slope, torch.full((3,), residual).double())
    seen = torch.distributions.Normal(slope * u[:, None], math.sqrt(0.16 + residual))
    noisy = torch.distributions.Normal(torch.zeros(3), math.sqrt(1.16))
    expected = (seen.log_prob(y) - noisy.log_prob(y)).sum(-1)
    torch.testing.assert_close(
        scores, expected, check_dtype=False, rtol=1e-5, atol=1e-5
    )


def test_uniform_ratio_is_flat_inside_and_steep_outside():
    u = torch.zeros(1, 1, dtype=torch.float64)
    y = torch.tensor([[0.0], [0.05], [0.1], [0.13], [0.5]], dtype=torch.float64)
    channel = UniformChannel(0.1)
    # The noisy code is a trapezoid in density: half as likely at 0 as at 0.1.
    trapezoid = torch.tensor([0.5, 0.75, 1, 1, 1]).log()
    box = (channel.log_ratio(u, y, 1.0, 0.0) + trapezoid)[0]
    inside, half, wall, outside, far = box + math.log(0.2 * math.gamma(9 / 8))
    assert abs(inside) < 1e-6 and half > -0.005
    assert wall.item() == pytest.approx(-1, abs=1e-4)
    assert far < outside < -8


def test_uniform_ratio_is_the_information_of_its_channel():
    # On average over pairs; less what the smooth walls lose.
    channel = UniformChannel(0.05)
    u = torch.rand(4000, 2, generator=generator())
    y = u + channel.noise(u, generator().manual_seed(1))
    mean = channel.log_ratio(u, y, 1.0, 0.0).diagonal().mean().item()
    assert channel.capacity(2) - 0.4 < mean < channel.capacity(2)


@pytest.mark.parametrize("width", [0.3, 0.1])  # 0.1: beyond the knee too
def test_uniform_ratio_gradient_matches_finite_differences(width):
    u, y = torch.rand(2, 5, 3, generator=generator(), dtype=torch.float64)
    u.requires_grad_(), y.requires_grad_()
    width = torch.tensor(width, dtype=torch.float64, requires_grad=True)

    def ratio(u, y, width):
        return UniformChannel(0.05).log_ratio(u, y, 1.0, width)

    assert torch.autograd.gradcheck(ratio, (u, y, width))


def test_uniform_ratio_stays_finite_for_tiny_noise():
    u, y = torch.rand(2, 5, 3, generator=generator())
    u.requires_grad_()
    scores = UniformChannel(1e-6).log_ratio(u, y, 1.0, 0.0)
    scores.diagonal().sum().backward()
    assert torch.isfinite(scores).all() and torch.isfinite(u.grad).all()


@pytest.mark.parametrize("channel", [c(0.3) for c in CHANNELS.values()])
def test_squash_is_the_map_of_the_distribution(channel):
    z = torch.cat([torch.linspace(-8, 8, 100), torch.randn(100, generator=generator())])
    expected = Distribution(channel.distribution).from_normal(z.double().numpy())
    for found, atol in ((channel.squash(z.double()), 1e-15), (channel.squash(z), 1e-6)):
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("channel", [c(0.0) for c in CHANNELS.values()])
def test_sample_follows_the_distribution(channel):
    draws = channel.sample(torch.empty(20_000, 1), generator())
    moments = {"NormalChannel": (0, 1), "UniformChannel": (0.5, 12**-0.5)}
    mean, deviation = moments[type(channel).__name__]
    assert draws.mean().item() == pytest.approx(mean, abs=0.02)
    assert draws.std().item() == pytest.approx(deviation, abs=0.02)
    if deviation < 1:
        assert 0 <= draws.min() and draws.max() <= 1

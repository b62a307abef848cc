import math

import pytest
import torch
from scipy.special import logsumexp

from skdim._channels import NormalChannel
from skdim._critics import CRITICS
from skdim._objectives import OBJECTIVES, infonce


def gaussian_pair(n, sigma, d, seed=0):
    g = torch.Generator().manual_seed(seed)
    u = torch.randn(n, d, generator=g, dtype=torch.float64)
    return u, u + sigma * torch.randn(n, d, generator=g, dtype=torch.float64)


@pytest.mark.parametrize(("sigma", "d"), [(1.0, 1), (0.5, 2), (1.0, 4)])
def test_infonce_of_the_channel_critic_is_the_information_of_a_gaussian_pair(sigma, d):
    # At the exact kernel only the bias of a finite batch is left: it is negative, and
    # with 4,000 candidates for at most 1.6 nats it is below 0.01.
    u, y = gaussian_pair(4000, sigma, d)
    channel = NormalChannel(sigma)
    bound = infonce(channel.log_kernel(u, y)).item()
    assert bound == pytest.approx(channel.capacity(d), abs=0.04)


def test_infonce_from_small_batches_is_biased_downwards():
    channel = NormalChannel(0.5)
    u, y = gaussian_pair(40_000, 0.5, 2)
    parts = zip(u.split(8), y.split(8), strict=True)
    mean = sum(infonce(channel.log_kernel(*part)).item() for part in parts) / 5000
    assert 0.7 * channel.capacity(2) < mean < channel.capacity(2) - 0.05


def test_infonce_of_a_discrete_channel():
    # A symmetric channel of 4 symbols, each received right with probability 0.85.
    transition = torch.full((4, 4), 0.05, dtype=torch.float64)
    transition.fill_diagonal_(0.85)
    information = math.log(4) + (transition[0] * transition[0].log()).sum().item()
    g = torch.Generator().manual_seed(0)
    x = torch.randint(4, (3000,), generator=g)
    y = torch.multinomial(transition[x], 1, generator=g)[:, 0]
    scores = transition.log()[x][:, y]
    assert infonce(scores).item() == pytest.approx(information, abs=0.03)


def test_infonce_never_exceeds_its_ceiling():
    scores = 1e4 * torch.eye(32)
    assert infonce(scores).item() == pytest.approx(math.log(32))
    assert OBJECTIVES["infonce"].ceiling(32) == pytest.approx(math.log(32))


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_infonce_is_stable_for_large_scores(scale):
    g = torch.Generator().manual_seed(0)
    scores = (scale * torch.randn(16, 16, generator=g)).requires_grad_()
    bound = infonce(scores)
    bound.backward()
    assert torch.isfinite(bound) and torch.isfinite(scores.grad).all()


def test_infonce_searches_the_rows():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 6, generator=g, dtype=torch.float64)
    rows = scores.numpy()
    expected = (rows.diagonal() - logsumexp(rows, axis=0) + math.log(6)).mean()
    assert infonce(scores).item() == pytest.approx(expected)
    # A term that depends on the received code alone cancels.
    shifted = scores + torch.arange(6)
    assert infonce(shifted).item() == pytest.approx(expected)


def test_separable_critic_learns_most_of_the_information_of_a_gaussian_pair():
    channel, g = NormalChannel(0.5), torch.Generator().manual_seed(0)
    critic = CRITICS["separable"](channel, 1, False, g)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3)
    for seed in range(300):
        u, y = (part.float() for part in gaussian_pair(256, 0.5, 1, seed))
        optimizer.zero_grad()
        infonce(critic(u, y)).neg().backward()
        optimizer.step()
    u, y = (part.float() for part in gaussian_pair(2000, 0.5, 1, 10_000))
    with torch.no_grad():
        bound = infonce(critic(u, y)).item()
    assert 0.9 * channel.capacity(1) < bound < channel.capacity(1) + 0.05


def test_channel_critic_has_a_parameter_only_with_views():
    g = torch.Generator()
    channel = NormalChannel(0.5)
    assert not list(CRITICS["channel"](channel, 2, False, g).parameters())
    assert len(list(CRITICS["channel"](channel, 2, True, g).parameters())) == 1


def test_channel_critic_learns_the_width_of_the_views():
    # y = u + noise, and the critic sees u' = u + view noise of variance 0.25: with
    # the law N(0, 1) the best slope-one kernel is wider than the noise.
    channel, g = NormalChannel(0.2), torch.Generator().manual_seed(0)
    critic = CRITICS["channel"](channel, 4, True, g)
    optimizer = torch.optim.Adam(critic.parameters(), 0.05)
    for seed in range(300):
        u, y = (part.float() for part in gaussian_pair(256, 0.2, 4, seed))
        view = u + 0.5 * torch.randn(u.shape, generator=g)
        optimizer.zero_grad()
        infonce(critic(view, y)).neg().backward()
        optimizer.step()
    assert 0.15 < critic.log_excess.exp().item() < 0.35

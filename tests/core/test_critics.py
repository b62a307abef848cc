"""Critics that are learned, and the critic of the channel, which has a formula."""

import math

import pytest
import torch
from pairs import INFORMATION, discrete_pair, gaussian_pair
from scipy import stats

from skdim._core.bounds import BOUNDS, barber_agakov, infonce
from skdim._core.channels import NormalChannel, UniformChannel
from skdim._core.critics import CRITICS, channel_critic, regression


@pytest.mark.parametrize("critic", CRITICS)
def test_critic_of_positions_is_that_of_each(critic):
    g = torch.Generator().manual_seed(0)
    critic = CRITICS[critic](5, 3, g)
    u, y = torch.randn(4, 6, 5, generator=g), torch.randn(6, 3, generator=g)
    together = critic(u, y)
    assert together.shape == (4, 6, 6)
    torch.testing.assert_close(together, torch.stack([critic(part, y) for part in u]))


# Batch size and number of steps to train a critic with.
ENOUGH = {"separable": (64, 200), "bilinear": (128, 250), "concatenated": (48, 150)}


def learned_estimate(critic, bound, pair, n_in):
    """Train a critic on batches of pairs; return its estimate on new pairs, in nats."""
    g = torch.Generator().manual_seed(0)
    batch_size, n_steps = ENOUGH[critic]
    critic, bound = CRITICS[critic](n_in, n_in, g), BOUNDS[bound]
    rate = 3e-3 * critic.learning_rate_factor
    optimizer = torch.optim.Adam(critic.parameters(), rate)
    for seed in range(n_steps):
        u, y = (part.float() for part in pair(batch_size, seed))
        optimizer.zero_grad()
        bound.maximized(critic(u, y)).neg().backward()
        optimizer.step()
    u, y = (part.float() for part in pair(500, 10_000))
    with torch.no_grad():
        return bound.estimate(critic(u, y)).item()


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("critic", CRITICS)
def test_learned_critics_learn_most_of_the_information_of_a_gaussian_pair(
    critic, bound
):
    found = learned_estimate(critic, bound, lambda n, s: gaussian_pair(n, 0.5, 1, s), 1)
    capacity = NormalChannel(0.5).capacity(1)
    assert 0.8 * capacity < found < capacity + 0.1


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("critic", CRITICS)
def test_learned_critics_learn_the_information_of_a_discrete_channel(critic, bound):
    def pair(n, seed):
        return (torch.nn.functional.one_hot(part, 4) for part in discrete_pair(n, seed))

    found = learned_estimate(critic, bound, pair, 4)
    assert found == pytest.approx(INFORMATION, abs=0.1)


def view_pair(n, correlation, seed=0, d=2):
    g = torch.Generator().manual_seed(seed)
    codes, other = torch.randn(2, n, d, generator=g, dtype=torch.float64)
    return correlation * codes + (1 - correlation**2) ** 0.5 * other, codes


def written_out(u, y, noise_scale, slope, residual):
    """The equation in the docstring of ``ChannelCritic``, in plain loops."""
    noise = noise_scale**2
    scores = torch.zeros(len(u), len(y), dtype=torch.float64)
    for i in range(len(u)):
        for j in range(len(y)):
            for b, r, u_k, y_k in zip(slope, residual, u[i], y[j], strict=True):
                ratio = math.log((1 + noise) / (noise + r))
                missed = (y_k - b * u_k) ** 2 / (noise + r)
                scores[i, j] += (ratio - missed + y_k**2 / (1 + noise)) / 2
    return scores


def test_channel_critic_is_the_equation_of_its_docstring():
    channel, g = NormalChannel(0.6), torch.Generator().manual_seed(0)
    u, codes = view_pair(9, 0.7, d=3)
    y = codes + channel.noise(codes, g)
    critic = channel_critic(channel, 3, True).double()

    # In evaluation: with the mean of the moments of several batches.
    moments = [regression(*view_pair(50, 0.7, seed, d=3)) for seed in (1, 2, 3)]
    critic.fit(moments)
    slope, residual = (torch.stack(part).mean(0) for part in zip(*moments, strict=True))
    fitted = written_out(u, y, 0.6, slope.tolist(), residual.tolist())
    torch.testing.assert_close(critic.eval()(u, y), fitted)

    # In training: with the moments of the batch.
    fits = [stats.linregress(*pair) for pair in zip(u.T, codes.T, strict=True)]
    variances = codes.var(0, correction=0).tolist()
    slope = [fit.slope for fit in fits]
    residual = [v * (1 - f.rvalue**2) for v, f in zip(variances, fits, strict=True)]
    critic.train().observe(u, codes)
    of_batch = written_out(u, y, 0.6, slope, residual)
    torch.testing.assert_close(critic(u, y), of_batch)

    # Without pairs: b = 1 and r = 0.
    alone = written_out(codes, y, 0.6, [1, 1, 1], [0, 0, 0])
    torch.testing.assert_close(channel_critic(channel, 3, False)(codes, y), alone)


def test_channel_critic_of_views_is_the_information_of_correlated_gaussians():
    # Correlation of u and y = codes + noise is rho / sqrt(1 + sigma^2).
    channel, rho = NormalChannel(0.5), 0.8
    critic = channel_critic(channel, 2, True).double()
    u, codes = view_pair(4000, rho)
    y = codes + channel.noise(codes, torch.Generator().manual_seed(1))
    critic.observe(u, codes)
    information = -math.log(1 - rho**2 / 1.25)  # of two components
    estimates = {name: BOUNDS[name].estimate for name in ("infonce", "nwj", "dv")}
    for name, estimate in (estimates | {"barber_agakov": barber_agakov}).items():
        estimate = estimate(critic(u, y)).item()
        assert estimate == pytest.approx(information, abs=0.06), name


def test_agreement_of_views_is_its_mean_over_the_noise():
    channel, g = NormalChannel(0.7), torch.Generator().manual_seed(0)
    critic = channel_critic(channel, 2, True).double()
    u, codes = view_pair(50, 0.8)
    u.requires_grad_()
    critic.observe(u, codes)
    draws = []
    for _ in range(4000):
        scores = critic(u, codes + channel.noise(codes, g))
        draws.append(barber_agakov(scores))
    exact, sampled = critic.agreement(u, codes, scores), torch.stack(draws).mean()
    assert exact.item() == pytest.approx(sampled.item(), abs=0.01)
    gradients = [torch.autograd.grad(value, u)[0] for value in (exact, sampled)]
    torch.testing.assert_close(*gradients, atol=2e-3, rtol=0)


def test_gradient_of_the_agreement_is_that_through_its_moments():
    # The closed form, 1/2 sum ln((1 + s^2) / (s^2 + r)), differentiated through r.
    channel = NormalChannel(0.5)
    critic = channel_critic(channel, 2, True).double()
    u, codes = view_pair(2000, 0.8)
    u.requires_grad_()
    critic.observe(u, codes)
    # Without noise in this batch: noisy codes that have exactly its moments.
    y = codes / codes.std(0, correction=0) * 1.25**0.5
    (given,) = torch.autograd.grad(barber_agakov(critic(u, y)), u)
    residual = regression(u, codes)[1]
    closed = 0.5 * (1.25 / (0.25 + residual)).log().sum()
    (expected,) = torch.autograd.grad(closed, u)
    cosine = torch.nn.functional.cosine_similarity(
        given.flatten(), expected.flatten(), 0
    )
    assert cosine > 0.95


def test_reported_scores_of_views_have_not_seen_their_batch():
    channel = NormalChannel(0.5)
    critic = channel_critic(channel, 40, True).double().train()
    codes, u = torch.randn(2, 60, 40, dtype=torch.float64, generator=torch.Generator())
    for _ in range(200):
        critic.observe(u, codes)  # averages settle
    g = torch.Generator().manual_seed(1)
    own, reported = [], []
    for _ in range(50):
        u, codes = torch.randn(2, 60, 40, generator=g, dtype=torch.float64)
        y = codes + channel.noise(codes, g)
        critic.observe(u, codes)
        scores = critic(u, y)
        own.append(infonce(scores).item())
        reported.append(infonce(critic.reported(u, y, scores)).item())
    # Codes and views are independent: moments of the same batch only fit noise.
    assert sum(own) / 50 > 0.2 > sum(reported[25:]) / 25


def test_channel_critic_has_nothing_to_learn():
    channel = NormalChannel(0.5)
    for has_pairs in (False, True):
        assert not list(channel_critic(channel, 2, has_pairs).parameters())


def test_box_critic_learns_the_width_of_the_views():
    channel, g = UniformChannel(0.1), torch.Generator().manual_seed(0)
    critic = channel_critic(channel, 1, True)
    optimizer = torch.optim.Adam(critic.parameters(), 0.05)
    for _ in range(300):
        codes = torch.rand(256, 1, generator=g)
        off = 0.1 * (2 * torch.rand(256, 1, generator=g) - 1)
        optimizer.zero_grad()
        infonce(critic(codes + off, codes + channel.noise(codes, g))).neg().backward()
        optimizer.step()
    assert 0.03 < critic.log_width.exp().item() < 0.15


def test_a_channel_without_a_closed_agreement_takes_one_draw_of_the_noise():
    class OwnChannel(UniformChannel):
        has_residual_variance = True

    critic = channel_critic(OwnChannel(0.1), 2, has_pairs=True)
    scores = torch.arange(9.0).view(3, 3)
    assert critic.eval().agreement(None, None, scores) == 4

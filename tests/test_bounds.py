import math

import pytest
import torch
from scipy.special import logsumexp

from skdim._core.bounds import BOUNDS, barber_agakov, donsker_varadhan_of, infonce
from skdim._core.channels import NormalChannel, UniformChannel
from skdim._critics import LEARNED, channel_critic, regression

ESTIMATES = {name: bound.estimate for name, bound in BOUNDS.items()}
ESTIMATES["barber_agakov"] = barber_agakov  # of critics that are densities


def gaussian_pair(n, sigma, d, seed=0):
    g = torch.Generator().manual_seed(seed)
    u = torch.randn(n, d, generator=g, dtype=torch.float64)
    return u, u + sigma * torch.randn(n, d, generator=g, dtype=torch.float64)


def ratio(channel, u, y):
    return channel.log_ratio(u, y, 1.0, 0.0)


@pytest.mark.parametrize(("sigma", "d"), [(1.0, 1), (0.5, 2), (1.0, 4)])
def test_infonce_of_the_channel_critic_is_the_information_of_a_gaussian_pair(sigma, d):
    # At the exact kernel only the bias of a finite batch is left: it is negative, and
    # with 4,000 candidates for at most 1.6 nats it is below 0.01.
    u, y = gaussian_pair(4000, sigma, d)
    channel = NormalChannel(sigma)
    bound = infonce(ratio(channel, u, y)).item()
    assert bound == pytest.approx(channel.capacity(d), abs=0.04)


def test_infonce_from_small_batches_is_biased_downwards():
    channel = NormalChannel(0.5)
    u, y = gaussian_pair(40_000, 0.5, 2)
    parts = zip(u.split(8), y.split(8), strict=True)
    mean = sum(infonce(ratio(channel, *part)).item() for part in parts) / 5000
    assert 0.7 * channel.capacity(2) < mean < channel.capacity(2) - 0.05


@pytest.mark.parametrize("name", ESTIMATES)
def test_every_estimate_of_the_exact_critic_is_the_information_of_a_gaussian_pair(name):
    channel = NormalChannel(0.7)
    u, y = gaussian_pair(4000, 0.7, 2)
    estimate = ESTIMATES[name](ratio(channel, u, y)).item()
    assert estimate == pytest.approx(channel.capacity(2), abs=0.06)


# A symmetric channel of 4 symbols, each received right with probability 0.85.
TRANSITION = torch.full((4, 4), 0.05, dtype=torch.float64).fill_diagonal_(0.85)
INFORMATION = math.log(4) + (TRANSITION[0] * TRANSITION[0].log()).sum().item()


def discrete_pair(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(4, (n,), generator=g)
    return x, torch.multinomial(TRANSITION[x], 1, generator=g)[:, 0]


@pytest.mark.parametrize("name", ESTIMATES)
def test_every_estimate_of_a_discrete_channel(name):
    x, y = discrete_pair(3000)
    scores = (4 * TRANSITION).log()[x][:, y]
    estimate = ESTIMATES[name](scores).item()
    assert estimate == pytest.approx(INFORMATION, abs=0.04)


def test_the_bias_of_each_estimate_from_small_batches():
    channel = NormalChannel(0.5)
    u, y = gaussian_pair(40_000, 0.5, 2)
    scores = [ratio(channel, *p) for p in zip(u.split(8), y.split(8), strict=True)]
    bias = {
        name: sum(estimate(s).item() for s in scores) / len(scores)
        - channel.capacity(2)
        for name, estimate in ESTIMATES.items()
    }
    assert bias["dv"] > 0.05  # the logarithm of a mean of few is too small
    assert bias["infonce"] < -0.05
    assert abs(bias["nwj"]) < 0.05 and abs(bias["barber_agakov"]) < 0.05


def test_smile_is_biased_by_its_clip():
    # exp(T) below exp(-5) is raised to it: with pairs far apart the mean is too large
    # by exp(-5), and nothing else.
    scores = torch.full((50, 50), -30.0).fill_diagonal_(0.0)
    assert BOUNDS["smile"].estimate(scores).item() == pytest.approx(5)
    assert BOUNDS["dv"].estimate(scores).item() == pytest.approx(30)


def test_jensen_shannon_is_largest_at_the_log_density_ratio():
    channel = NormalChannel(0.7)
    scores = ratio(channel, *gaussian_pair(4000, 0.7, 2))
    objective = BOUNDS["jsd"].objective
    best = objective(scores)
    for other in (scores + 0.3, scores - 0.3, 1.3 * scores, 0.7 * scores):
        assert objective(other) < best < 0


def test_infonce_never_exceeds_its_ceiling():
    scores = 1e4 * torch.eye(32)
    assert infonce(scores).item() == pytest.approx(math.log(32))
    assert BOUNDS["infonce"].ceiling(32) == pytest.approx(math.log(32))


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_bounds_are_stable_for_large_scores(name, scale):
    g = torch.Generator().manual_seed(0)
    bound = BOUNDS[name]
    for pattern in (
        torch.randn(16, 16, generator=g),
        torch.ones(16, 16),
        torch.eye(16),
    ):
        scores = (scale * pattern).requires_grad_()
        objective = bound.objective(scores)
        objective.backward()
        estimate = bound.estimate(scores.detach())
        assert torch.isfinite(objective) and torch.isfinite(estimate)
        assert torch.isfinite(scores.grad).all()


def test_infonce_searches_the_rows():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 6, generator=g, dtype=torch.float64)
    rows = scores.numpy()
    expected = (rows.diagonal() - logsumexp(rows, axis=0) + math.log(6)).mean()
    assert infonce(scores).item() == pytest.approx(expected)
    # A term that depends on the received code alone cancels.
    shifted = scores + torch.arange(6)
    assert infonce(shifted).item() == pytest.approx(expected)


def test_infonce_of_blocks_of_columns_is_that_of_the_whole():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 6, 6, generator=g, dtype=torch.float64)
    paired = scores.diagonal(dim1=-2, dim2=-1)
    blocks = zip(scores.split([4, 2], -1), paired.split([4, 2], -1), strict=True)
    four, two = (infonce(*block) for block in blocks)
    assert (4 * four + 2 * two).item() / 6 == pytest.approx(infonce(scores).item())


def test_donsker_varadhan_of_lists_is_that_of_the_matrix():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 6, generator=g, dtype=torch.float64)
    paired, unpaired = scores.diagonal(), scores[~torch.eye(6, dtype=torch.bool)]
    found = donsker_varadhan_of(paired, unpaired)
    assert found.item() == pytest.approx(BOUNDS["dv"].estimate(scores).item())
    expected = paired.mean() - unpaired.exp().mean().log()
    assert found.item() == pytest.approx(expected.item())


def learned_estimate(critic, bound, pair, n_in):
    """Train a critic on batches of pairs; return its estimate of fresh ones."""
    g = torch.Generator().manual_seed(0)
    critic, bound = LEARNED[critic](n_in, n_in, g), BOUNDS[bound]
    rate = 3e-3 * critic.learning_rate_factor
    optimizer = torch.optim.Adam(critic.parameters(), rate)
    # Scores of all pairs at once are dear, but learn from small batches already.
    sees_pairs = isinstance(critic, LEARNED["concatenated"])
    batch_size, n_steps = (64, 200) if sees_pairs else (128, 500)
    for seed in range(n_steps):
        u, y = (part.float() for part in pair(batch_size, seed))
        optimizer.zero_grad()
        bound.objective(critic(u, y)).neg().backward()
        optimizer.step()
    u, y = (part.float() for part in pair(1000, 10_000))
    with torch.no_grad():
        return bound.estimate(critic(u, y)).item()


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("critic", LEARNED)
def test_learned_critics_learn_most_of_the_information_of_a_gaussian_pair(
    critic, bound
):
    found = learned_estimate(critic, bound, lambda n, s: gaussian_pair(n, 0.5, 1, s), 1)
    capacity = NormalChannel(0.5).capacity(1)
    assert 0.8 * capacity < found < capacity + 0.1


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("critic", LEARNED)
def test_learned_critics_learn_the_information_of_a_discrete_channel(critic, bound):
    def pair(n, seed):
        return (torch.nn.functional.one_hot(part, 4) for part in discrete_pair(n, seed))

    found = learned_estimate(critic, bound, pair, 4)
    assert found == pytest.approx(INFORMATION, abs=0.1)


def view_pair(n, correlation, seed=0, d=2):
    g = torch.Generator().manual_seed(seed)
    sent, other = torch.randn(2, n, d, generator=g, dtype=torch.float64)
    return correlation * sent + (1 - correlation**2) ** 0.5 * other, sent


def test_channel_critic_of_views_is_the_information_of_correlated_gaussians():
    # Correlation of u and y = sent + noise is rho / sqrt(1 + sigma^2).
    channel, rho = NormalChannel(0.5), 0.8
    critic = channel_critic(channel, 2, True).double()
    u, sent = view_pair(4000, rho)
    y = sent + channel.noise(sent, torch.Generator().manual_seed(1))
    critic.observe(u, sent)
    information = -math.log(1 - rho**2 / 1.25)  # of two components
    for name in ("infonce", "nwj", "dv", "barber_agakov"):
        estimate = ESTIMATES[name](critic(u, y)).item()
        assert estimate == pytest.approx(information, abs=0.06), name


def test_agreement_of_views_is_its_mean_over_the_noise():
    channel, g = NormalChannel(0.7), torch.Generator().manual_seed(0)
    critic = channel_critic(channel, 2, True).double()
    u, sent = view_pair(50, 0.8)
    u.requires_grad_()
    critic.observe(u, sent)
    draws = []
    for _ in range(4000):
        scores = critic(u, sent + channel.noise(sent, g))
        draws.append(barber_agakov(scores))
    exact, sampled = critic.agreement(u, sent, scores), torch.stack(draws).mean()
    assert exact.item() == pytest.approx(sampled.item(), abs=0.01)
    gradients = [torch.autograd.grad(value, u)[0] for value in (exact, sampled)]
    torch.testing.assert_close(*gradients, atol=2e-3, rtol=0)


def test_gradient_of_the_agreement_is_that_through_its_moments():
    # The closed form, 1/2 sum ln((1 + s^2) / (s^2 + r)), differentiated through r.
    channel = NormalChannel(0.5)
    critic = channel_critic(channel, 2, True).double()
    u, sent = view_pair(2000, 0.8)
    u.requires_grad_()
    critic.observe(u, sent)
    # Without noise in this batch: received codes that have exactly its moments.
    y = sent / sent.std(0, correction=0) * 1.25**0.5
    (given,) = torch.autograd.grad(barber_agakov(critic(u, y)), u)
    excess = regression(u, sent)[1]
    closed = 0.5 * (1.25 / (0.25 + excess)).log().sum()
    (expected,) = torch.autograd.grad(closed, u)
    cosine = torch.nn.functional.cosine_similarity(
        given.flatten(), expected.flatten(), 0
    )
    assert cosine > 0.95


def test_reported_scores_of_views_have_not_seen_their_batch():
    channel = NormalChannel(0.5)
    critic = channel_critic(channel, 40, True).double().train()
    sent, u = torch.randn(2, 60, 40, dtype=torch.float64, generator=torch.Generator())
    for _ in range(200):
        critic.observe(u, sent)  # averages settle
    g = torch.Generator().manual_seed(1)
    own, reported = [], []
    for _ in range(50):
        u, sent = torch.randn(2, 60, 40, generator=g, dtype=torch.float64)
        y = sent + channel.noise(sent, g)
        critic.observe(u, sent)
        scores = critic(u, y)
        own.append(infonce(scores).item())
        reported.append(infonce(critic.judged(u, y, scores)).item())
    # There is no information: what the batch's own moments read is fitted.
    assert sum(own) / 50 > 0.2 > sum(reported[25:]) / 25


def test_channel_critic_has_nothing_to_learn():
    channel = NormalChannel(0.5)
    for has_views in (False, True):
        assert not list(channel_critic(channel, 2, has_views).parameters())


def test_box_critic_learns_the_width_of_the_views():
    channel, g = UniformChannel(0.1), torch.Generator().manual_seed(0)
    critic = channel_critic(channel, 1, True)
    optimizer = torch.optim.Adam(critic.parameters(), 0.05)
    for _ in range(300):
        sent = torch.rand(256, 1, generator=g)
        off = 0.1 * (2 * torch.rand(256, 1, generator=g) - 1)
        optimizer.zero_grad()
        infonce(critic(sent + off, sent + channel.noise(sent, g))).neg().backward()
        optimizer.step()
    assert 0.03 < critic.log_excess.exp().item() < 0.15

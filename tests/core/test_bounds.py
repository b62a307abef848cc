import math

import pytest
import torch
from pairs import INFORMATION, TRANSITION, discrete_pair, gaussian_pair
from scipy.special import logsumexp

from skdim._core import bounds
from skdim._core.bounds import (
    BOUNDS,
    barber_agakov,
    donsker_varadhan_of,
    infonce,
    infonce_of_samples,
)
from skdim._core.channels import NormalChannel

ESTIMATES = {name: bound.estimate for name, bound in BOUNDS.items()}
ESTIMATES["barber_agakov"] = barber_agakov  # for critics that are log-density ratios
OBJECTIVES = [bound.maximized for bound in BOUNDS.values()]
FUNCTIONS = list(dict.fromkeys([*OBJECTIVES, *ESTIMATES.values()]))


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
    assert bias["dv"] > 0.05  # the logarithm of a mean over few pairs is too small
    assert bias["infonce"] < -0.05
    assert abs(bias["nwj"]) < 0.05 and abs(bias["barber_agakov"]) < 0.05


def test_smile_is_biased_by_its_clip():
    # The clip raises exp(T) to at least exp(-5), so the mean over pairs that are far
    # apart is exp(-5) instead of almost 0.
    scores = torch.full((50, 50), -30.0).fill_diagonal_(0.0)
    assert BOUNDS["smile"].estimate(scores).item() == pytest.approx(5)
    assert BOUNDS["dv"].estimate(scores).item() == pytest.approx(30)


@pytest.mark.parametrize("bound", FUNCTIONS)
def test_bound_of_several_matrices_is_the_mean_of_each(bound):
    scores = torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    each = torch.stack([bound(matrix) for matrix in scores.flatten(0, 1)])
    torch.testing.assert_close(bound(scores), each.mean())


def test_jensen_shannon_is_largest_at_the_log_density_ratio():
    channel = NormalChannel(0.7)
    scores = ratio(channel, *gaussian_pair(4000, 0.7, 2))
    objective = BOUNDS["jsd"].maximized
    best = objective(scores)
    for other in (scores + 0.3, scores - 0.3, 1.3 * scores, 0.7 * scores):
        assert objective(other) < best < 0


def test_infonce_never_exceeds_its_ceiling():
    scores = 1e4 * torch.eye(32)
    assert infonce(scores).item() == pytest.approx(math.log(32))
    assert BOUNDS["infonce"].ceiling(32) == pytest.approx(math.log(32))


@pytest.mark.parametrize("bound", FUNCTIONS)
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_bounds_are_stable_for_large_scores(bound, scale):
    g = torch.Generator().manual_seed(0)
    for pattern in (
        torch.randn(16, 16, generator=g),
        torch.ones(16, 16),
        torch.eye(16),
    ):
        scores = (scale * pattern).requires_grad_()
        value = bound(scores)
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(scores.grad).all()


def test_infonce_searches_the_rows():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 6, generator=g, dtype=torch.float64)
    rows = scores.numpy()
    expected = (rows.diagonal() - logsumexp(rows, axis=0) + math.log(6)).mean()
    assert infonce(scores).item() == pytest.approx(expected)
    # A term that depends on the noisy code alone cancels.
    shifted = scores + torch.arange(6)
    assert infonce(shifted).item() == pytest.approx(expected)


def test_infonce_of_blocks_of_columns_is_that_of_the_whole():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 6, 6, generator=g, dtype=torch.float64)
    paired = scores.diagonal(dim1=-2, dim2=-1)
    blocks = zip(scores.split([4, 2], -1), paired.split([4, 2], -1), strict=True)
    four, two = (infonce(*block) for block in blocks)
    assert (4 * four + 2 * two).item() / 6 == pytest.approx(infonce(scores).item())


@pytest.mark.parametrize("n_scores", [1, 250, 10**6])  # a column, a few, all at once
def test_infonce_of_samples_is_that_of_the_whole(n_scores, monkeypatch):
    monkeypatch.setattr(bounds, "_SCORES_AT_ONCE", n_scores)
    channel, (u, y) = NormalChannel(0.5), gaussian_pair(99, 0.5, 2)
    found = infonce_of_samples(channel.log_ratio, u.numpy(), y.numpy())
    assert found == pytest.approx(infonce(ratio(channel, u, y)).item())


def test_donsker_varadhan_of_lists_is_that_of_the_matrix():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 6, generator=g, dtype=torch.float64)
    paired, unpaired = scores.diagonal(), scores[~torch.eye(6, dtype=torch.bool)]
    found = donsker_varadhan_of(paired, unpaired)
    assert found.item() == pytest.approx(BOUNDS["dv"].estimate(scores).item())
    expected = paired.mean() - unpaired.exp().mean().log()
    assert found.item() == pytest.approx(expected.item())

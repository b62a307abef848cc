"""Terms of the objective, each against what it must be."""

import math

import pytest
import torch

from skdim._core.bounds import BOUNDS
from skdim._core.channels import NormalChannel, UniformChannel
from skdim._critics import LEARNED
from skdim._network import NetworkSpec
from skdim._spec import ModelSpec
from skdim._terms import ColumnGroups, Encoded, FeatureTerm, PriorTerm, SlicedTerm


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def encoded(codes, features=None):
    return Encoded(codes, [codes], codes, [features])


def feature_term(is_local, shape, n_components=2, critic="separable"):
    network = NetworkSpec("mlp", (8,), (5,), False, n_components)
    spec = ModelSpec(network, "normal", 0.0, None, "infonce", feature_critic=critic)
    return FeatureTerm(1.0, spec, shape, is_local, None, generator())


# Bounds of several matrices


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("side", ["objective", "estimate"])
def test_bound_of_several_matrices_is_the_mean_of_each(name, side):
    bound, scores = getattr(BOUNDS[name], side), normal(2, 3, 7, 7)
    each = torch.stack([bound(matrix) for matrix in scores.flatten(0, 1)])
    torch.testing.assert_close(bound(scores), each.mean())


@pytest.mark.parametrize("critic", LEARNED)
def test_critic_of_positions_is_that_of_each(critic):
    critic = LEARNED[critic](5, 3, generator())
    u, y = normal(4, 6, 5), normal(6, 3, seed=1)
    together = critic(u, y)
    assert together.shape == (4, 6, 6)
    torch.testing.assert_close(together, torch.stack([critic(part, y) for part in u]))


# Features


@pytest.mark.parametrize("critic", LEARNED)
@pytest.mark.parametrize("is_local", [False, True])
def test_information_of_features_of_a_gaussian_pair_is_learned(is_local, critic):
    # Each of two positions holds the code plus noise of its own; the information of
    # one is that of a normal channel, of both that of half the noise's variance.
    sigma, shape = 1.0, (1, 2)
    term = feature_term(is_local, shape, n_components=1, critic=critic)
    rate = 3e-3 * term.learning_rate_factor
    optimizer = torch.optim.Adam(term.parameters(), rate)

    def batch(n, seed):
        codes = normal(n, 1, seed=seed)
        features = codes[:, None] + sigma * normal(n, 1, 2, seed=seed + 10**6)
        return encoded(codes, features)

    for seed in range(300):
        optimizer.zero_grad()
        (-term(batch(64, seed), generator()).objective).backward()
        optimizer.step()
    with torch.no_grad():
        found = term(batch(1000, 10_000), generator()).information.item()
    noise = sigma if is_local else sigma / math.sqrt(2)
    expected = NormalChannel(noise).capacity(1)
    assert found == pytest.approx(expected, rel=0.25)
    assert found < expected + 0.05


def test_local_term_draws_positions_where_there_are_many():
    term = feature_term(True, (3, 100))
    features = normal(5, 3, 10, 10)
    chosen = term._chosen(features, generator())
    assert chosen.shape == (16, 5, 3)
    every = features.flatten(2).permute(2, 0, 1)
    found = [(every == part).all((1, 2)).nonzero().item() for part in chosen]
    assert len(set(found)) == 16
    other = term._chosen(features, generator(1))
    assert not torch.equal(chosen, other)


def test_global_term_takes_features_whole_and_local_at_positions():
    features = normal(5, 3, 2, 2)
    whole = feature_term(False, (3, 4))._chosen(features, generator())
    at_each = feature_term(True, (3, 4))._chosen(features, generator())
    assert whole.shape == (5, 12) and at_each.shape == (4, 5, 3)
    torch.testing.assert_close(at_each[1], features[:, :, 0, 1])


@pytest.mark.parametrize(("n_columns", "n_positions"), [(1, 1), (5, 5), (30, 8)])
def test_groups_of_columns_see_their_own_columns_only(n_columns, n_positions):
    groups = ColumnGroups(n_columns, generator())
    inputs = normal(4, n_columns).requires_grad_()
    features = groups(inputs)
    assert features.shape == (4, ColumnGroups.n_channels, n_positions)
    seen = torch.stack(
        [
            torch.autograd.grad(part.sum(), inputs, retain_graph=True)[0].abs().sum(0)
            for part in features.unbind(2)
        ]
    )
    assert ((seen > 0).sum(0) == 1).all()  # each column by one group


# The adversary


def test_discriminator_learns_by_itself_and_leaves_no_gradient():
    term = PriorTerm(1.0, NormalChannel(0.0), 2, generator()).train()
    assert not term.learned()
    before = [p.clone() for p in term.parameters()]
    codes = normal(64, 2).requires_grad_()
    worth = term(encoded(codes), generator())
    moved = [p.detach().clone() for p in term.parameters()]
    assert all((a != b).any() for a, b in zip(before, moved, strict=True))
    held = [p.grad.clone() for p in term.parameters()]
    worth.objective.backward()
    assert codes.grad.abs().sum() > 0
    for p, value, gradient in zip(term.parameters(), moved, held, strict=True):
        assert torch.equal(p, value) and torch.equal(p.grad, gradient)


@pytest.mark.parametrize("channel", [NormalChannel(0.0), UniformChannel(0.0)])
def test_gradient_draws_codes_to_the_prior(channel):
    # Codes far too wide and off to one side: steps along the gradient mend both.
    codes = (3 * normal(256, 1) + 4).requires_grad_()
    term = PriorTerm(1.0, channel, 1, generator()).train()
    term.learning_rate = 1e-3
    optimizer, g = torch.optim.Adam([codes], 0.02), generator()
    for _ in range(600):
        optimizer.zero_grad()
        (-term(encoded(codes), g).objective).backward()
        optimizer.step()
    end = channel.squash(codes.detach())
    law = channel.sample(torch.empty(10_000, 1), g)
    assert end.mean().item() == pytest.approx(law.mean().item(), abs=0.4)
    assert end.std().item() == pytest.approx(law.std().item(), rel=0.4)


@pytest.mark.parametrize("channel", [NormalChannel(0.0), UniformChannel(0.0)])
def test_sample_follows_the_law(channel):
    draws = channel.sample(torch.empty(20_000, 1), generator())
    moments = {"NormalChannel": (0, 1), "UniformChannel": (0.5, 12**-0.5)}
    mean, deviation = moments[type(channel).__name__]
    assert draws.mean().item() == pytest.approx(mean, abs=0.02)
    assert draws.std().item() == pytest.approx(deviation, abs=0.02)
    if deviation < 1:
        assert 0 <= draws.min() and draws.max() <= 1


def test_adversary_is_silent_in_evaluation():
    term = PriorTerm(1.0, NormalChannel(0.0), 2, generator()).eval()
    before = [p.clone() for p in term.parameters()]
    assert term(encoded(normal(8, 2)), generator()).objective is None
    assert all(map(torch.equal, before, term.parameters()))


def test_slices_without_weight_only_look():
    term = SlicedTerm(0.0).train()
    codes = (2 * normal(256, 3)).requires_grad_()
    assert term(encoded(codes), generator()).objective is None
    assert term.gap > 0.1 and not term.gap.requires_grad

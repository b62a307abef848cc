"""Critics between codes and features, as a whole or at positions."""

import math

import pytest
import torch

from skdim._core.channels import NormalChannel
from skdim._core.config import ModelSpec, NetworkSpec
from skdim._core.critics import CRITICS
from skdim._core.features import ColumnGroups, FeatureCritic
from skdim._core.losses import feature_information
from skdim._core.model import Encoded, Model


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def feature_critic(is_local, shape, n_components=2, name="separable"):
    return FeatureCritic(name, shape, n_components, is_local, None, generator())


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("name", ["global", "local"])
def test_information_of_features_of_a_gaussian_pair_is_learned(name, critic):
    # Each of two positions holds the code plus independent noise.  The information in
    # one is that of a normal channel; two are like one with half the noise variance.
    sigma, is_local = 1.0, name == "local"
    network = NetworkSpec("mlp", (8,), (2,), 1, normalizes=False)
    model = Model(ModelSpec(network, **{f"{name}_weight": 1.0}), generator()).train()
    model.critics[name] = feature_critic(is_local, (1, 2), 1, critic)
    rate = 3e-3 * model.critics[name].learning_rate_factor
    optimizer = torch.optim.Adam(model.critics.parameters(), rate)

    def found(n, seed):
        codes = normal(n, 1, seed=seed)
        features = codes[:, None] + sigma * normal(n, 1, 2, seed=seed + 10**6)
        encoded = Encoded(codes, [codes], codes, (features,))
        return feature_information(model, name, encoded, generator())

    for seed in range(200):
        optimizer.zero_grad()
        (-found(48, seed)[0]).backward()
        optimizer.step()
    with torch.no_grad():
        information = found(400, 10_000)[1].item()
    noise = sigma if is_local else sigma / math.sqrt(2)
    expected = NormalChannel(noise).capacity(1)
    assert information == pytest.approx(expected, rel=0.25)
    assert information < expected + 0.05


def test_local_critic_draws_positions_where_there_are_many():
    critic = feature_critic(True, (3, 100))
    features = normal(5, 3, 10, 10)
    chosen = critic.chosen(features, generator())
    assert chosen.shape == (16, 5, 3)
    every = features.flatten(2).permute(2, 0, 1)
    found = [(every == part).all((1, 2)).nonzero().item() for part in chosen]
    assert len(set(found)) == 16
    other = critic.chosen(features, generator(1))
    assert not torch.equal(chosen, other)


def test_global_critic_takes_features_whole_and_local_at_positions():
    features = normal(5, 3, 2, 2)
    whole = feature_critic(False, (3, 4)).chosen(features, generator())
    at_each = feature_critic(True, (3, 4)).chosen(features, generator())
    assert whole.shape == (5, 12) and at_each.shape == (4, 5, 3)
    torch.testing.assert_close(at_each[1], features[:, :, 0, 1])


@pytest.mark.parametrize(("is_local", "shape"), [(False, (5, 5)), (True, (4, 5, 5))])
def test_scores_are_a_matrix_or_one_for_each_position(is_local, shape):
    critic, y = feature_critic(is_local, (3, 4)), normal(5, 2, seed=1)
    features = normal(5, 3, 2, 2)
    scores = critic(features, y, generator())
    assert scores.shape == shape
    torch.testing.assert_close(scores, critic.critic(critic.chosen(features, None), y))


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

"""The adversary: which optimiser trains the discriminator, and its pull on codes."""

import numpy as np
import pytest
import torch

from skdim._core.adversary import Discriminator
from skdim._core.batches import BatchSource, Data
from skdim._core.channels import NormalChannel, UniformChannel
from skdim._core.config import ModelSpec, NetworkSpec, TrainingConfig
from skdim._core.losses import information, match_divergence, objective
from skdim._core.model import Model
from skdim._core.training import Optimizers, run_epoch

CPU = torch.device("cpu")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def copies(module):
    return [p.detach().clone() for p in module.parameters()]


def setting():
    """Return a model with a prior, and the source of its batches."""
    network = NetworkSpec("mlp", (8,), (4,), 2, normalizes=False)
    model = Model(
        ModelSpec(network, bound="jsd", global_weight=1.0, prior_weight=0.5),
        generator(),
    )
    rows = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    model.network.input.to_dtype(torch.float32)
    return model, BatchSource(Data(rows), model.network.input, model.spec.pairs, 0, CPU)


def test_the_objective_moves_the_encoder_and_leaves_the_discriminator_alone():
    model, source = setting()
    model.train()
    before, of_all = copies(model.discriminator), copies(model)
    encoded = model.encode(source.draw(np.arange(64), generator()))
    divergence = match_divergence(model, encoded, generator())
    value = objective(model, encoded, divergence, generator()).value
    assert all(map(torch.equal, of_all, model.parameters()))  # no step was taken
    value.backward()
    assert model.network.encoder.code.weight.grad.abs().sum() > 0
    for p, other in zip(model.discriminator.parameters(), before, strict=True):
        assert torch.equal(p, other) and p.grad is None and p.requires_grad


def test_an_epoch_moves_the_discriminator_by_its_own_optimiser():
    model, source = setting()
    config = TrainingConfig(model.spec, 64, 1, 1e-3, 0.0, None, 0, CPU)
    optimizers = Optimizers.of(model, config, n_steps=1)
    owned = {
        name: {id(p) for group in one.param_groups for p in group["params"]}
        for name, one in optimizers.named().items()
    }
    of_discriminator = {id(p) for p in model.discriminator.parameters()}
    assert owned["discriminator"] == of_discriminator
    assert not owned["encoder"] & of_discriminator
    assert set.union(*owned.values()) == {id(p) for p in model.parameters()}

    before = copies(model.discriminator)
    run_epoch(model, optimizers, source, config, generator(), generator(1))
    after = copies(model.discriminator)
    assert all((a != b).any() for a, b in zip(before, after, strict=True))
    # Adam moves a weight by at most its rate in a step, so there was only one step.
    moved = max((a - b).abs().max() for a, b in zip(before, after, strict=True))
    assert moved < 1.01 * Discriminator.learning_rate
    assert optimizers.discriminator.param_groups[0]["lr"] == Discriminator.learning_rate


def test_losses_are_the_cross_entropies_of_a_classifier():
    discriminator = Discriminator(2, generator())
    codes, draws = normal(30, 2), normal(30, 2, seed=1) + 1
    probability = discriminator.layers(torch.cat([draws, codes])).sigmoid()[:, 0]
    of_draws, of_codes = probability.split(30)
    expected = -of_draws.log().mean() - (1 - of_codes).log().mean()
    torch.testing.assert_close(
        discriminator.classification_loss(codes, draws), expected
    )
    fooling = -of_codes.log().mean()
    torch.testing.assert_close(discriminator.fooling_loss(codes), fooling)


@pytest.mark.parametrize("channel", [NormalChannel(0.0), UniformChannel(0.0)])
def test_gradient_pulls_codes_to_the_prior(channel, monkeypatch):
    # The codes are too wide and off-centre; steps along the gradient correct both.
    monkeypatch.setattr(Discriminator, "learning_rate", 1e-3)
    monkeypatch.setattr(Discriminator, "hidden_layer_sizes", (100, 50))
    codes = (3 * normal(256, 1) + 4).requires_grad_()
    discriminator, g = Discriminator(1, generator()), generator()
    optimizer, own = torch.optim.Adam([codes], 0.02), discriminator.optimizer()
    for _ in range(600):
        fixed = channel.squash(codes.detach())
        own.zero_grad()
        draws = channel.sample(fixed, g)
        discriminator.classification_loss(fixed, draws).backward()
        own.step()
        optimizer.zero_grad()
        discriminator.fooling_loss(channel.squash(codes)).backward()
        optimizer.step()
    end = channel.squash(codes.detach())
    target = channel.sample(torch.empty(10_000, 1), g)
    assert end.mean().item() == pytest.approx(target.mean().item(), abs=0.4)
    assert end.std().item() == pytest.approx(target.std().item(), rel=0.4)


def test_adversary_is_silent_in_evaluation(monkeypatch):
    model, source = setting()
    model.eval()
    before = copies(model)
    monkeypatch.setattr(Discriminator, "fooling_loss", None)
    monkeypatch.setattr(Discriminator, "classification_loss", None)
    encoded = model.encode(source.draw(np.arange(8), generator()))
    assert torch.isfinite(information(model, encoded, generator()))
    assert all(map(torch.equal, before, model.parameters()))

"""The objective equals the equation in its docstring, computed here term by term."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from skdim._core.batches import BatchSource, Data
from skdim._core.bounds import BOUNDS, infonce
from skdim._core.channels import CHANNELS
from skdim._core.config import ModelSpec, NetworkSpec, PairSpec
from skdim._core.critics import regression
from skdim._core.losses import information, match_divergence, objective
from skdim._core.model import Encoded, Model
from skdim._core.sliced import radial_kl, random_directions, sliced_kl

N_ROWS = 20


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def encoded_batch(spec):
    """Return a new model in double precision, for training, and an encoded batch."""
    model = Model(spec, generator()).double().train()
    shape = spec.network.input_shape
    rows = np.random.default_rng(0).normal(size=(N_ROWS, *shape))
    model.network.input.fit(rows)
    source = BatchSource(
        Data(rows), model.network.input, spec.pairs, 0, torch.device("cpu")
    )
    return model, model.encode(source.draw(np.arange(N_ROWS), generator(1)))


# NoiseInjectedDIM


def noise_injected(noise_distribution="normal", **changes):
    values = {
        "network": NetworkSpec("mlp", (8,), (6,), 3),
        "pairs": PairSpec(("jitter",), strength=0.5, n_views=2),
        "noise_distribution": noise_distribution,
        "noise_scale": 0.4,
        "critic": "channel",
        "agreement_weight": 0.3,
        "sliced_weight": 2.0,
        "n_noise_draws": 2,
    }
    return ModelSpec(**(values | changes))


def barber_agakov_mean(u, codes, noise_scale, slope, residual):
    """Return the expected score of the pairs over normal noise, by its formula."""
    noise = noise_scale**2
    total, variance = 1 + noise, noise + residual
    expected_square = codes**2 + noise
    expected_miss = (codes - slope * u) ** 2 + noise
    terms = (total / variance).log() - expected_miss / variance
    return 0.5 * (terms + expected_square / total).sum(1).mean()


def measured(model, encoded):
    """Return divergence, objective and information of a batch, as training does."""
    g = generator(2)
    divergence = match_divergence(model, encoded, g)
    value, information = objective(model, encoded, divergence, g)
    return SimpleNamespace(value=value, information=information, sliced_kl=divergence)


@pytest.mark.parametrize("name", CHANNELS)
def test_objective_of_noise_injected_dim_is_its_equation(name):
    w, lam, spec = 0.3, 2.0, noise_injected(name)
    model, encoded = encoded_batch(spec)
    found = measured(model, encoded)

    g, channel = generator(2), CHANNELS[name](0.4)
    directions = random_directions(3, 128, encoded.normalized, g)
    kl_sliced = sliced_kl(encoded.normalized, directions)
    kl_radial = radial_kl(encoded.normalized)
    codes, i_bound, i_ba, reported = channel.squash(encoded.codes), [], [], []
    views = [channel.squash(view) for view in encoded.views]
    first_moments = regression(views[0].detach(), codes.detach())
    for u in views:
        slope, residual = regression(u.detach(), codes.detach())
        for _ in range(2):
            y = codes + channel.noise(codes, g)
            if name == "normal":
                scores = channel.log_ratio(u, y, slope, residual)
                i_ba.append(barber_agakov_mean(u, codes, 0.4, slope, residual))
                # Reported with moments of batches before; the first has only its own.
                known = channel.log_ratio(u, y, *first_moments)
            else:
                width = model.critics["channel"].log_width.exp()
                known = scores = channel.log_ratio(u, y, 1.0, width)
                i_ba.append(scores.diagonal().mean())
            i_bound.append(infonce(scores))
            reported.append(infonce(known))
    i_bound, i_ba, reported = (
        torch.stack(part).mean() for part in (i_bound, i_ba, reported)
    )
    expected = (1 - w) * i_bound + w * i_ba - lam * (kl_sliced + kl_radial / 16)
    torch.testing.assert_close(found.value, expected)
    torch.testing.assert_close(found.information, reported)
    torch.testing.assert_close(found.sliced_kl, kl_sliced)
    assert not found.information.requires_grad

    # So are its gradients.
    parameters = list(model.network.parameters())
    for one, two in zip(
        torch.autograd.grad(found.value, parameters, retain_graph=True),
        torch.autograd.grad(expected, parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(("w", "kept"), [(0.0, "bound"), (1.0, "agreement")])
def test_agreement_weight_goes_from_the_bound_to_the_agreement(w, kept):
    spec = noise_injected(agreement_weight=w, sliced_weight=0.0, n_noise_draws=1)
    model, encoded = encoded_batch(spec)
    g = generator(2)
    random_directions(3, 8, encoded.normalized, g)  # slices are logged all the same
    values = []
    for u in encoded.views:
        moments = regression(u, encoded.codes)
        y = encoded.codes + model.channel.noise(encoded.codes, g)
        scores = model.channel.log_ratio(u, y, *moments)
        agreement = barber_agakov_mean(u, encoded.codes, 0.4, *moments)
        values.append(infonce(scores) if kept == "bound" else agreement)
    found = measured(model, encoded)
    torch.testing.assert_close(found.value, torch.stack(values).mean())


def test_slices_without_weight_only_look():
    spec = noise_injected(sliced_weight=0.0, pairs=PairSpec(), agreement_weight=0.0)
    model, encoded = encoded_batch(spec)
    wide = encoded._replace(normalized=2 * encoded.normalized)
    one, two = (measured(model, e) for e in (encoded, wide))
    assert torch.equal(one.value, two.value)
    assert two.sliced_kl > 0.1 > one.sliced_kl and not two.sliced_kl.requires_grad


def test_information_in_evaluation_is_of_one_draw_and_the_moments_that_are_set():
    model = Model(noise_injected(), generator()).double()
    rows = torch.randn(N_ROWS, 6, generator=generator(3), dtype=torch.float64)
    codes, *views = (
        model.eval()
        .network.normalized(
            model.network.encode(torch.cat([rows, rows + 0.3, rows - 0.3]))
        )
        .split(N_ROWS)
    )
    slope, residual = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0.1, 0.2, 0.3])
    model.critics["channel"].fit([(slope.double(), residual.double())])
    encoded = Encoded(codes, views, codes, ())
    g, expected = generator(2), []
    for u in views:
        y = codes + model.channel.noise(codes, g)
        expected.append(infonce(model.channel.log_ratio(u, y, slope, residual)))
    found = information(model, encoded, generator(2))
    torch.testing.assert_close(found, torch.stack(expected).mean())


# DeepInfoMax


@pytest.mark.parametrize("prior", CHANNELS)
@pytest.mark.parametrize("pairs", [PairSpec(), PairSpec(("shift",), n_views=2)])
def test_objective_of_deep_infomax_is_its_equation(prior, pairs):
    alpha, beta, gamma = 0.5, 1.5, 0.1
    spec = ModelSpec(
        network=NetworkSpec("conv", (4, 6), (1, 12, 12), 3, normalizes=False),
        pairs=pairs,
        noise_distribution=prior,
        bound="jsd",
        global_weight=alpha,
        local_weight=beta,
        prior_weight=gamma,
        feature_critic="concatenated",
    )
    model, encoded = encoded_batch(spec)
    found = measured(model, encoded)

    g, bound = generator(2), BOUNDS["jsd"]
    directions = random_directions(3, 8, encoded.normalized, g)
    codes = CHANNELS[prior](0.0).squash(encoded.codes)
    assert len(encoded.features) == len(encoded.views) == pairs.n_views

    critic, values, estimates = model.critics["global"].critic, {}, {}
    scores = [critic(features.flatten(1), codes) for features in encoded.features]
    values["global"] = torch.stack([bound.maximized(s) for s in scores]).mean()
    estimates["global"] = torch.stack([bound.estimate(s) for s in scores]).mean()

    critic, of_each, known = model.critics["local"].critic, [], []
    for features in encoded.features:
        n_positions = features[0, 0].numel()
        at = features.flatten(2)[:, :, torch.randperm(n_positions, generator=g)[:2]]
        for position in at.unbind(2):
            scores = critic(position, codes)
            of_each.append(bound.maximized(scores))
            known.append(bound.estimate(scores))
    values["local"] = torch.stack(of_each).mean()
    estimates["local"] = torch.stack(known).mean()

    every = CHANNELS[prior](0.0).squash(encoded.normalized)
    cross_entropy = softplus(-model.discriminator.layers(every)).mean()
    expected = alpha * values["global"] + beta * values["local"] - gamma * cross_entropy
    reported = (alpha * estimates["global"] + beta * estimates["local"]) / 2.0
    torch.testing.assert_close(found.value, expected)
    torch.testing.assert_close(found.information, reported)
    assert not found.information.requires_grad
    torch.testing.assert_close(
        found.sliced_kl, sliced_kl(encoded.normalized, directions).detach()
    )

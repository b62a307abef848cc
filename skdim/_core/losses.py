"""The objective: one function, whose docstring is the equation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .bounds import BOUNDS
from .model import Encoded, Model
from .sliced import radial_kl, random_directions, sliced_kl

__all__ = ["Objective", "channel_information", "information", "objective"]

N_SLICES = 128  # random directions of the sliced term
_N_SLICES_LOGGED = 8  # where the term has no weight and its value is only logged
RADIAL_SHARE = 1 / 16  # of the weight of the slices


class Objective(NamedTuple):
    """The objective of a training batch, and what is logged of it; all in nats."""

    value: Tensor  # to be maximised
    information: Tensor  # reported bound, without gradient
    sliced_kl: Tensor  # mean Kullback-Leibler divergence of slices, without gradient


def objective(model: Model, encoded: Encoded, generator: torch.Generator) -> Objective:
    r"""Return what training maximises, for one batch.

    In nats,

        J = (1 - w) I_bound(f(x'); f(x) + z) + w I_BA(f(x'); f(x) + z)
            - lambda (KL_sliced + KL_radial / 16)
            + alpha I_global + beta I_local - gamma CE_prior

    The first two lines are ``NoiseInjectedDIM`` (Butakov et al., arXiv 2410.06993), the
    third is ``DeepInfoMax`` (Hjelm et al., arXiv 1808.06670).  A term of weight 0 is
    not computed.

    ============ ==================== ===============================================
    term         weight               what it is
    ============ ==================== ===============================================
    I_bound      1 - agreement_weight lower bound, by default InfoNCE, on the
                                      information between the code of a view and the
                                      noisy code of its row (``bounds``)
    I_BA         w, agreement_weight  Barber-Agakov bound on the same information
    KL_sliced    lambda,              divergence of random slices of the codes from
                 sliced_weight        N(0, 1), both smoothed by noise (``sliced``)
    KL_radial    lambda / 16          the same for the norms of the codes
    I_global     alpha, global_weight information between codes and all features
    I_local      beta, local_weight   its mean over positions of the features
    CE_prior     gamma, prior_weight  cross-entropy of codes passing for draws of the
                                      prior (``adversary``)
    ============ ==================== ===============================================

    Parameters
    ----------
    model : Model
        In training mode.
    encoded : Encoded
        Codes of the batch.
    generator : torch.Generator
        For slices, noise and positions.
    """
    spec, terms, reported = model.spec, [], []
    divergence = _sliced_kl(model, encoded, generator)
    if spec.sliced_weight:
        radial = radial_kl(encoded.normalized)
        terms.append(-spec.sliced_weight * (divergence + RADIAL_SHARE * radial))
    if "channel" in model.critics:
        value, estimate = channel_information(model, encoded, generator)
        terms.append(value)
        reported.append((1.0, estimate))
    for name, weight in model.feature_weights.items():
        value, estimate = feature_information(model, name, encoded, generator)
        terms.append(weight * value)
        reported.append((weight, estimate))
    if model.discriminator is not None:
        codes = model.channel.squash(encoded.normalized)
        terms.append(-spec.prior_weight * model.discriminator.fooling_loss(codes))
    return Objective(sum(terms), _weighted_mean(reported), divergence.detach())


def information(model: Model, encoded: Encoded, generator: torch.Generator) -> Tensor:
    """Return the reported information of a batch, in nats, for a model in evaluation.

    It is the bound on the information through the channel or, without a channel, the
    mean of the global and local information by their weights.
    """
    reported = []
    if "channel" in model.critics:
        reported.append((1.0, channel_information(model, encoded, generator)[1]))
    for name, weight in model.feature_weights.items():
        estimate = feature_information(model, name, encoded, generator)[1]
        reported.append((weight, estimate))
    return _weighted_mean(reported)


def channel_information(
    model: Model, encoded: Encoded, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return ``(1 - w) I_bound + w I_BA`` and the information to report, in nats.

    Both are means over views and, in training, over several draws of the noise.
    """
    spec, channel, critic = model.spec, model.channel, model.critics["channel"]
    bound, w = BOUNDS[spec.bound], spec.agreement_weight
    codes, values, estimates = channel.squash(encoded.codes), [], []
    for u in map(channel.squash, encoded.views):
        critic.observe(u, codes)
        for _ in range(spec.n_noise_draws if model.training else 1):
            y = codes + channel.noise(codes, generator)
            scores = critic(u, y)
            value = bound.objective(scores)
            with torch.no_grad():
                reported = critic.reported(u, y, scores)
                known = value if reported is scores else None
                estimates.append(bound.estimated(reported, known))
            if w:
                value = torch.lerp(value, critic.agreement(u, codes, scores), w)
            values.append(value)
    return torch.stack(values).mean(), torch.stack(estimates).mean()


def feature_information(
    model: Model, name: str, encoded: Encoded, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the bound on ``I_global`` or ``I_local`` and its estimate, in nats.

    Parameters
    ----------
    model : Model
    name : {"global", "local"}
    encoded : Encoded
        With features.
    generator : torch.Generator
        Chooses positions.
    """
    bound, codes = BOUNDS[model.spec.bound], model.channel.squash(encoded.codes)
    values, estimates = [], []
    for features in encoded.features:
        scores = model.critics[name](features, codes, generator)
        values.append(bound.objective(scores))
        with torch.no_grad():
            estimates.append(bound.estimated(scores, values[-1]))
    return torch.stack(values).mean(), torch.stack(estimates).mean()


def _sliced_kl(model: Model, encoded: Encoded, generator: torch.Generator) -> Tensor:
    """Return the mean divergence of random slices, with gradient if it has weight."""
    codes, has_weight = encoded.normalized, model.spec.sliced_weight > 0
    n_slices = N_SLICES if has_weight else _N_SLICES_LOGGED
    with torch.set_grad_enabled(has_weight and torch.is_grad_enabled()):
        directions = random_directions(codes.shape[1], n_slices, codes, generator)
        return sliced_kl(codes, directions)


def _weighted_mean(values: list[tuple[float, Tensor]]) -> Tensor:
    total = sum(weight for weight, _ in values)
    return sum(weight / total * value for weight, value in values)

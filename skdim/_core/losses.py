"""The objective of training: the equation is in the docstring of ``objective``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .bounds import BOUNDS
from .model import Encoded, Model
from .sliced import radial_kl, random_directions, sliced_kl

__all__ = [
    "Objective",
    "channel_information",
    "information",
    "match_divergence",
    "objective",
]

N_SLICES = 128  # random directions of KL_sliced in each batch
_N_SLICES_LOGGED = 8  # the same if KL_sliced has weight 0 and is only logged
RADIAL_SHARE = 1 / 16  # weight of KL_radial, as a multiple of sliced_weight


class Objective(NamedTuple):
    """The objective of one training batch and the information to log of it.

    Attributes
    ----------
    value : Tensor of shape ()
        J of ``objective``, which training maximises, in nats; with gradient.
    information : Tensor of shape ()
        Estimated mutual information of codes of views and noisy codes, or without noise
        of codes and features, in nats; without gradient.
    """

    value: Tensor
    information: Tensor


def match_divergence(
    model: Model, encoded: Encoded, generator: torch.Generator
) -> Tensor:
    """Return how far the slices of a batch of codes are from N(0, 1), in nats.

    Training measures it for every batch: ``match_curve_`` records it, and it is
    KL_sliced of ``objective`` if ``sliced_weight`` is above 0.  If that weight is 0, it
    has no gradient and is the mean over fewer slices.

    Parameters
    ----------
    model : Model
        Its ``spec.sliced_weight`` is the weight.
    encoded : Encoded
        Its ``normalized`` codes are compared with N(0, I).
    generator : torch.Generator
        Draws the directions of the slices.

    Returns
    -------
    divergence : Tensor of shape ()
        Kullback-Leibler divergence, mean over slices.
    """
    codes, has_weight = encoded.normalized, model.spec.sliced_weight > 0
    n_slices = N_SLICES if has_weight else _N_SLICES_LOGGED
    with torch.set_grad_enabled(has_weight and torch.is_grad_enabled()):
        directions = random_directions(codes.shape[1], n_slices, codes, generator)
        return sliced_kl(codes, directions)


def objective(
    model: Model, encoded: Encoded, divergence: Tensor, generator: torch.Generator
) -> Objective:
    """Return the objective that training maximises, for one batch.

    In nats,

        J = (1 - w) I_bound(f(x'); f(x) + z) + w I_BA(f(x'); f(x) + z)
            - lambda (KL_sliced + KL_radial / 16)
            + alpha I_global + beta I_local - gamma CE_prior

    where ``f(x)`` is the code of a row or of a view of it, ``f(x')`` the code of
    another view or of another row of the class (without pairs, the same code), and
    ``z`` the noise.  The first two lines are ``NoiseInjectedDIM`` (Butakov et al.,
    arXiv:2410.06993), the third is ``DeepInfoMax`` (Hjelm et al., arXiv:1808.06670).
    Terms of weight 0 are left out.

    ============ ==================== ===============================================
    term         weight               what it is
    ============ ==================== ===============================================
    I_bound      1 - agreement_weight lower bound, by default InfoNCE, on the mutual
                                      information of the code of a view and the noisy
                                      code of its row (``bounds``)
    I_BA         w, agreement_weight  Barber-Agakov bound on the same information
    KL_sliced    lambda,              divergence of random one-dimensional slices of
                 sliced_weight        the codes from N(0, 1), both smoothed by noise
                                      (``sliced``)
    KL_radial    lambda / 16          divergence of the norms of the codes from those
                                      of N(0, I), smoothed too
    I_global     alpha, global_weight bound on the mutual information of codes and all
                                      features of the encoder
    I_local      beta, local_weight   the same with the features at one position,
                                      averaged over positions
    CE_prior     gamma, prior_weight  adversarial loss, small if a discriminator takes
                                      codes for draws of the prior (``adversary``)
    ============ ==================== ===============================================

    Parameters
    ----------
    model : Model
        In training mode; its ``spec`` has the weights of the terms.
    encoded : Encoded
        Codes and features of the batch.
    divergence : Tensor of shape ()
        KL_sliced, which training has measured to log it (``match_divergence``).
    generator : torch.Generator
        Draws noise, and the positions of I_local.

    Returns
    -------
    objective : Objective
        The value of J, with gradient, and the information to log.
    """
    spec, terms, reported = model.spec, [], []
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
    return Objective(sum(terms), _weighted_mean(reported))


def information(model: Model, encoded: Encoded, generator: torch.Generator) -> Tensor:
    """Return the estimated mutual information of a batch, outside of training.

    Averaged over batches, it is what ``score`` returns, what early stopping follows on
    held-out rows, and what is reported for training rows at the end.  The estimate is
    that of the information between codes of views and noisy codes of
    their rows.  For a model without noise, it is the mean of the estimates of I_global
    and I_local, between codes and features, by their weights in ``objective``.

    Parameters
    ----------
    model : Model
        In evaluation mode.
    encoded : Encoded
        Codes and features of the batch.
    generator : torch.Generator
        Draws noise, and the positions of I_local.

    Returns
    -------
    information : Tensor of shape ()
        In nats.
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
    """Return ``(1 - w) I_bound + w I_BA`` of ``objective``, and an estimate to report.

    Both concern the mutual information of the codes of views and the noisy codes of
    their rows.  ``w`` is ``agreement_weight``.

    Parameters
    ----------
    model : Model
        With a channel critic.  In training mode the noise is drawn
        ``spec.n_noise_draws`` times for each view, in evaluation mode once.
    encoded : Encoded
        Codes of the batch.
    generator : torch.Generator
        Draws the noise.

    Returns
    -------
    value : Tensor of shape ()
        The two terms, with gradient, in nats; mean over views and draws of the noise.
    estimate : Tensor of shape ()
        Estimated mutual information, without gradient, in nats; mean over views and
        draws of the noise.
    """
    spec, channel, critic = model.spec, model.channel, model.critics["channel"]
    bound, w = BOUNDS[spec.bound], spec.agreement_weight
    codes, values, estimates = channel.squash(encoded.codes), [], []
    for u in map(channel.squash, encoded.views):
        critic.observe(u, codes)
        for _ in range(spec.n_noise_draws if model.training else 1):
            y = codes + channel.noise(codes, generator)
            scores = critic(u, y)
            value = bound.maximized(scores) if w < 1 else None
            with torch.no_grad():
                reported = critic.reported(u, y, scores)
                known = value if reported is scores else None
                estimates.append(bound.estimated(reported, known))
            if w:
                agreement = critic.agreement(u, codes, scores)
                value = agreement if w == 1 else torch.lerp(value, agreement, w)
            values.append(value)
    return torch.stack(values).mean(), torch.stack(estimates).mean()


def feature_information(
    model: Model, name: str, encoded: Encoded, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return I_global or I_local of ``objective``, and an estimate to report.

    Both concern the mutual information of codes and features of the encoder.

    Parameters
    ----------
    model : Model
        In training or evaluation mode.
    name : {"global", "local"}
        "global" for all features at once, "local" for features at single positions.
    encoded : Encoded
        Codes and features of the batch.
    generator : torch.Generator
        Draws the positions of I_local; not used for I_global.

    Returns
    -------
    value : Tensor of shape ()
        The term without its weight, with gradient, in nats; mean over views.
    estimate : Tensor of shape ()
        Estimated mutual information, without gradient, in nats; mean over views.
    """
    bound, codes = BOUNDS[model.spec.bound], model.channel.squash(encoded.codes)
    values, estimates = [], []
    for features in encoded.features:
        scores = model.critics[name](features, codes, generator)
        values.append(bound.maximized(scores))
        with torch.no_grad():
            estimates.append(bound.estimated(scores, values[-1]))
    return torch.stack(values).mean(), torch.stack(estimates).mean()


def _weighted_mean(values: list[tuple[float, Tensor]]) -> Tensor:
    """Return the weighted mean of tensors; ``values`` holds pairs (weight, tensor)."""
    total = sum(weight for weight, _ in values)
    return sum(weight / total * value for weight, value in values)

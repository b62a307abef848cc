"""Bounds on mutual information, in nats, computed from matrices of critic scores.

A critic is a function that scores ``u_i`` with ``y_j``: a code with a noisy code, or
features of a row with a code.  The functions here call ``u_i`` code and ``y_j`` noisy
code.  In a score matrix ``scores[..., i, j] = critic(u_i, y_j)``.  Pairs drawn together
from the joint distribution are on the diagonal; all other entries are unpaired, which
stands for the product of the marginals.  Leading axes hold several matrices, such as
one for each position of an image, and every bound is averaged over them.  The log
density ratio ``log p(y | u) / p(y)`` is a best critic for each bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from .runtime import sandbox

__all__ = [
    "BOUNDS",
    "Bound",
    "barber_agakov",
    "donsker_varadhan_of",
    "infonce",
    "infonce_of_samples",
    "log_mean_exp",
]

_CLIP = 5.0  # in nats; bounds the unpaired scores of SMILE
_SCORES_AT_ONCE = 2**20  # scores in one block: 8 MiB in double precision
_LARGEST_EXPONENT = 20.0  # above it, a straight line continues exp


def infonce(scores: Tensor, paired: Tensor | None = None) -> Tensor:
    """Return InfoNCE, a lower bound on the mutual information of codes and noisy codes.

    For each noisy code, a softmax over the scores of all codes gives the probability of
    the code that it was made from.  The bound is ``log(n_codes)`` plus the mean log of
    these probabilities, so it is at most ``log(n_codes)``.  This is equation (10) of
    Poole et al., arXiv:1905.06922, with codes as candidates.  A term of the scores that
    depends on the noisy code alone cancels.

    Parameters
    ----------
    scores : Tensor of shape (..., n_codes, n_noisy)
        ``scores[..., i, j]`` scores code i with noisy code j; leading axes are
        averaged.
    paired : Tensor of shape (..., n_noisy), default=None
        Score of each noisy code with the code that it was made from.  None takes the
        diagonal of ``scores``.  Pass ``paired`` if ``scores`` is a block of columns
        whose pairs lie off the diagonal.

    Returns
    -------
    bound : Tensor of shape ()
        In nats; the mean over noisy codes and leading axes.
    """
    if paired is None:
        log_probability = _paired(torch.log_softmax(scores.mT, dim=-1))
    else:
        log_probability = paired - scores.logsumexp(-2)
    return math.log(scores.shape[-2]) + log_probability.mean()


def infonce_of_samples(
    critic: Callable[..., Tensor], codes: np.ndarray, noisy: np.ndarray
) -> float:
    """Return the InfoNCE bound of a whole sample, computed in blocks to save memory.

    The whole score matrix is never held in memory, so that a metric can take thousands
    of rows.  No gradients are recorded.

    Parameters
    ----------
    critic : callable
        ``critic(codes, block, 1.0, 0.0)`` takes all codes and a block of noisy codes,
        as tensors of shapes (n_samples, n_components) and (n_block, n_components), and
        returns scores of shape (n_samples, n_block).  It is the ``log_ratio`` of the
        channel that made ``noisy``, with slope 1 and residual 0.
    codes : ndarray of shape (n_samples, n_components)
        Codes without noise.
    noisy : ndarray of shape (n_samples, n_components)
        The same codes, row for row, after the noise was added.

    Returns
    -------
    bound : float
        In nats; at most ``log(n_samples)``.
    """
    n_codes, total = len(codes), 0.0
    n_rows = max(1, _SCORES_AT_ONCE // n_codes)
    with sandbox(gradients=False):
        codes, noisy = torch.from_numpy(codes), torch.from_numpy(noisy)
        for start in range(0, n_codes, n_rows):
            block = noisy[start : start + n_rows]
            scores = critic(codes, block, 1.0, 0.0)
            paired = scores.diagonal(-start)  # column i belongs to row start + i
            total += len(block) * infonce(scores, paired).item()
    return total / n_codes


def donsker_varadhan(scores: Tensor) -> Tensor:
    """Return the Donsker-Varadhan bound ``E_paired[T] - log E_unpaired[exp T]``.

    It bounds mutual information from below (Belghazi et al., arXiv:1801.04062).  The
    logarithm of a mean over few pairs is too small on average, so the estimate from a
    batch is too large on average.

    Parameters
    ----------
    scores : Tensor of shape (..., n, n)
        Critic scores T: ``scores[..., i, j]`` scores code i with noisy code j, pairs
        are on the diagonal, and leading axes are averaged.

    Returns
    -------
    bound : Tensor of shape ()
        In nats.
    """
    return donsker_varadhan_of(_paired(scores), *_unpaired(scores)).mean()


def donsker_varadhan_of(
    paired: Tensor, unpaired: Tensor, n_unpaired: int | None = None
) -> Tensor:
    """Return the Donsker-Varadhan bound from separate lists of scores.

    The bound ``E_paired[T] - log E_unpaired[exp T]`` needs no score matrix: it serves
    any two samples, one of a joint distribution and one of the product of its
    marginals.

    Parameters
    ----------
    paired : Tensor of shape (..., n_paired)
        Critic scores T of draws from the joint distribution.
    unpaired : Tensor of shape (..., n)
        Critic scores T of draws from the product of the marginals.
    n_unpaired : int, default=None
        Number of unpaired scores to divide by.  None divides by ``n``.  Pass a smaller
        number if some elements of ``unpaired`` are ``-inf`` and stand for no score.

    Returns
    -------
    bound : Tensor of shape (...)
        In nats, one for each index of the leading axes.
    """
    return paired.mean(-1) - log_mean_exp(unpaired, n_unpaired)


def nguyen_wainwright_jordan(scores: Tensor) -> Tensor:
    """Return the NWJ bound ``1 + E_paired[T] - E_unpaired[exp T]``.

    It bounds mutual information from below (Nguyen, Wainwright and Jordan).  See Poole
    et al., arXiv:1905.06922, section 2, whose critic is ``1 + T``.  For a given critic
    it is unbiased at every batch size, but its variance grows exponentially with the
    mutual information.  Where the logarithm of ``E_unpaired[exp T]`` is above 20, exp
    is continued by its tangent, and the value is no bound.

    Parameters
    ----------
    scores : Tensor of shape (..., n, n)
        Critic scores T: ``scores[..., i, j]`` scores code i with noisy code j, pairs
        are on the diagonal, and leading axes are averaged.

    Returns
    -------
    bound : Tensor of shape ()
        In nats.
    """
    mean_exp = _exp(log_mean_exp(*_unpaired(scores)))
    return (1 + _paired(scores).mean(-1) - mean_exp).mean()


def jensen_shannon(scores: Tensor) -> Tensor:
    """Return the Jensen-Shannon objective ``-E_paired[sp(-T)] - E_unpaired[sp(T)]``.

    Here ``sp`` is softplus; equation (4) of Hjelm et al., arXiv:1808.06670.  Maximising
    this objective trains a critic to be the log density ratio ``log p(y | u) / p(y)``,
    with bounded gradients.  The value is at most 0 and does not estimate the mutual
    information.

    Parameters
    ----------
    scores : Tensor of shape (..., n, n)
        Critic scores T: ``scores[..., i, j]`` scores code i with noisy code j, pairs
        are on the diagonal, and leading axes are averaged.

    Returns
    -------
    objective : Tensor of shape ()
        The negative sum of two mean cross-entropies, in nats.
    """
    n_rows, paired = scores.shape[-1], _paired(scores)
    unpaired = softplus(scores).sum((-2, -1)) - softplus(paired).sum(-1)
    of_each = -softplus(-paired).mean(-1) - unpaired / (n_rows * (n_rows - 1))
    return of_each.mean()


def smile(scores: Tensor) -> Tensor:
    """Return the SMILE estimate of mutual information, for reporting only.

    SMILE is the Donsker-Varadhan bound with unpaired scores clipped to [-5, 5] nats
    (Song and Ermon, arXiv:1910.06222).  Clipping reduces the variance and adds a bias,
    upwards or downwards.  Training maximises ``jensen_shannon`` instead, as in the
    paper: under clipping, the gradient would raise the paired scores without limit.

    Parameters
    ----------
    scores : Tensor of shape (..., n, n)
        Critic scores: ``scores[..., i, j]`` scores code i with noisy code j, pairs are
        on the diagonal, and leading axes are averaged.

    Returns
    -------
    estimate : Tensor of shape ()
        In nats.
    """
    unpaired = _unpaired(scores.clamp(-_CLIP, _CLIP))
    return donsker_varadhan_of(_paired(scores), *unpaired).mean()


def barber_agakov(scores: Tensor) -> Tensor:
    """Return the Barber-Agakov bound: the mean of the paired scores.

    The scores must be log density ratios ``log q(y | u) / p(y)``, such as those of a
    noisy channel; a freely learned critic could raise this mean without limit.  With
    any density q in the numerator and the true density p in the denominator, the
    expected result is a lower bound on the mutual information (Poole et al.,
    arXiv:1905.06922, section 2).  With ``N(0, (1 + noise_scale^2) I)`` in place of p,
    the expected result exceeds the mutual information by at most ``KL(p(y) || N(0, (1 +
    noise_scale^2) I))``.  Only paired scores are used: training is rewarded if two
    views of a row have similar codes, but not if different rows have different codes.

    Parameters
    ----------
    scores : Tensor of shape (..., n, n)
        ``scores[..., i, j]`` is the log density ratio of code ``u_i`` and noisy code
        ``y_j``; pairs are on the diagonal, and leading axes are averaged.

    Returns
    -------
    bound : Tensor of shape ()
        In nats.
    """
    return _paired(scores).mean()


def log_mean_exp(scores: Tensor, n_scores: int | None = None) -> Tensor:
    """Return ``log(mean(exp(scores)))`` over the last axis, without overflow.

    This is the term for unpaired scores in the Donsker-Varadhan and NWJ bounds.

    Parameters
    ----------
    scores : Tensor of shape (..., n)
        Real numbers or ``-inf``.
    n_scores : int, default=None
        Number of scores to divide by.  None divides by ``n``.  Pass a smaller number if
        some elements of ``scores`` are ``-inf`` and stand for no score.

    Returns
    -------
    log_mean : Tensor of shape (...)
    """
    return scores.logsumexp(-1) - math.log(n_scores or scores.shape[-1])


def _paired(scores: Tensor) -> Tensor:
    """Return the paired scores: the diagonals of ``scores``.

    ``scores`` has the shape (..., n, n) and the result (..., n).
    """
    return scores.diagonal(dim1=-2, dim2=-1)


def _unpaired(scores: Tensor) -> tuple[Tensor, int]:
    """Return the unpaired scores of each score matrix, and their number per matrix.

    ``scores`` has the shape (..., n, n).  The unpaired scores have the shape (..., n *
    n), with ``-inf`` in place of the n paired scores on the diagonal, and the number is
    ``n * (n - 1)``.  Both results are passed to ``log_mean_exp``.
    """
    n_rows = scores.shape[-1]
    is_paired = torch.eye(n_rows, dtype=torch.bool, device=scores.device)
    unpaired = scores.masked_fill(is_paired, -math.inf).flatten(-2)
    return unpaired, n_rows * (n_rows - 1)


def _exp(x: Tensor) -> Tensor:
    """Return ``exp(x)`` elementwise, continued by its tangent above x = 20.

    For the NWJ bound, so that one large score neither overflows single precision nor
    loses its gradient.  ``x`` may have any shape.
    """
    inside = x.clamp_max(_LARGEST_EXPONENT)
    return inside.exp() * (1 + (x - inside))


@dataclass(frozen=True)
class Bound:
    """What training maximises, and what it reports, for one choice of bound.

    The estimators' parameter ``objective`` names the choice, a key of ``BOUNDS``.
    The functions ``maximized`` and ``estimate`` take score matrices of shape (..., n,
    n), where ``scores[..., i, j]`` scores code i with noisy code j and pairs are on the
    diagonal.  Both return a Tensor of shape ().

    Parameters
    ----------
    maximized : callable
        ``maximized(scores)`` returns what training maximises.
    estimate : callable
        ``estimate(scores)`` returns the estimate of the mutual information that is
        reported, in nats.  It may be the same function as ``maximized``.
    ceiling : callable, default=infinity for every batch size
        ``ceiling(batch_size)`` returns the largest estimate that a batch of this many
        rows can give, in nats.
    """

    maximized: Callable[[Tensor], Tensor]
    estimate: Callable[[Tensor], Tensor]
    ceiling: Callable[[int], float] = lambda batch_size: math.inf

    def estimated(self, scores: Tensor, value: Tensor | None = None) -> Tensor:
        """Return the mutual information estimated from scores, for reports.

        If ``self.estimate`` and ``self.maximized`` are the same function and
        ``value`` is given, it is returned, detached from the graph, to save time;
        otherwise ``self.estimate(scores)`` is computed.

        Parameters
        ----------
        scores : Tensor of shape (..., n, n)
            Critic scores, with pairs on the diagonal.
        value : Tensor of shape () or None, default=None
            The value of ``self.maximized(scores)``; None if it is not known.

        Returns
        -------
        estimate : Tensor of shape ()
            Estimated mutual information in nats.
        """
        if value is not None and self.estimate is self.maximized:
            return value.detach()
        return self.estimate(scores)


# Bounds by the value of the ``objective`` parameter of the estimators.
BOUNDS: dict[str, Bound] = {
    "infonce": Bound(infonce, infonce, ceiling=math.log),
    "dv": Bound(donsker_varadhan, donsker_varadhan),
    "nwj": Bound(nguyen_wainwright_jordan, nguyen_wainwright_jordan),
    "jsd": Bound(jensen_shannon, nguyen_wainwright_jordan),
    "smile": Bound(jensen_shannon, smile),
}

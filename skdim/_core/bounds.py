"""Lower bounds on mutual information, in nats, computed from critic scores.

A score matrix holds ``scores[..., i, j] = critic(u_i, y_j)``: a row for each code or
feature ``u_i``, a column for each noisy code ``y_j``.  Pairs that belong together are
on the diagonal; all other pairs are unpaired.  Leading dimensions hold several
matrices, such as one for each position of an image, and the bounds return the mean over
them.
The best critic for each of them is the log density ratio ``log p(y | u) / p(y)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = [
    "BOUNDS",
    "Bound",
    "barber_agakov",
    "donsker_varadhan_of",
    "infonce",
    "log_mean_exp",
]

_CLIP = 5.0  # of SMILE, in nats
_LARGEST_EXPONENT = 20.0  # exp of more is continued by a straight line


def infonce(scores: Tensor, paired: Tensor | None = None) -> Tensor:
    """Return InfoNCE: how well each noisy code identifies its code among all codes.

    It is ``log(n_codes)`` plus the mean log probability of the right code, which is at
    most ``log(n_codes)``.  This is equation (10) of Poole et al., arXiv:1905.06922,
    with codes as candidates.  Terms of the scores that depend on the noisy code alone
    cancel.

    Parameters
    ----------
    scores : Tensor of shape (..., n_codes, n_noisy)
        Critic scores of every code with every noisy code.
    paired : Tensor of shape (..., n_noisy), default=None
        Score of each noisy code with its own code.  None takes the diagonal of
        ``scores``; a block of columns of a larger matrix needs it.

    Returns
    -------
    bound : Tensor of shape ()
        In nats.
    """
    if paired is None:
        log_probability = _paired(torch.log_softmax(scores.mT, dim=-1))
    else:
        log_probability = paired - scores.logsumexp(-2)
    return math.log(scores.shape[-2]) + log_probability.mean()


def donsker_varadhan(scores: Tensor) -> Tensor:
    """Return the Donsker-Varadhan bound ``E_paired[T] - log E_unpaired[exp T]``.

    Belghazi et al., arXiv:1801.04062.  The logarithm of a mean over few pairs is too
    small on average, so the estimate from a batch is too large.

    Parameters
    ----------
    scores : Tensor of shape (..., n, n)
        Critic scores T, as in the module's description.

    Returns
    -------
    bound : Tensor of shape ()
        In nats.
    """
    return donsker_varadhan_of(_paired(scores), *_unpaired(scores)).mean()


def donsker_varadhan_of(
    paired: Tensor, unpaired: Tensor, n_unpaired: int | None = None
) -> Tensor:
    """Return the Donsker-Varadhan bound from lists of paired and unpaired scores.

    Parameters
    ----------
    paired : Tensor of shape (..., n_paired)
        Critic scores of pairs from the joint distribution.
    unpaired : Tensor of shape (..., n)
        Critic scores of pairs from the product of the marginals.
    n_unpaired : int, default=None
        Number of unpaired scores.  None counts all of them; pass it if some are
        ``-inf`` to leave them out.

    Returns
    -------
    bound : Tensor of shape (...)
        In nats, one for each list.
    """
    return paired.mean(-1) - log_mean_exp(unpaired, n_unpaired)


def nguyen_wainwright_jordan(scores: Tensor) -> Tensor:
    """Return the NWJ bound ``1 + E_paired[T] - E_unpaired[exp T]``.

    Poole et al., arXiv:1905.06922, section 2, with the critic written as ``1 + T``.  It
    is unbiased for every batch size, but its variance grows exponentially with the
    information.

    Parameters
    ----------
    scores : Tensor of shape (..., n, n)
        Critic scores T, as in the module's description.

    Returns
    -------
    bound : Tensor of shape ()
        In nats.
    """
    mean_exp = _exp(log_mean_exp(*_unpaired(scores)))
    return (1 + _paired(scores).mean(-1) - mean_exp).mean()


def jensen_shannon(scores: Tensor) -> Tensor:
    """Return the Jensen-Shannon objective ``-E_paired[sp(-T)] - E_unpaired[sp(T)]``.

    Here ``sp`` is softplus; equation (4) of Hjelm et al., arXiv:1808.06670.  Its
    gradients are bounded, but it does not estimate the information: it is at most 0.

    Parameters
    ----------
    scores : Tensor of shape (..., n, n)
        Critic scores T, as in the module's description.

    Returns
    -------
    objective : Tensor of shape ()
    """
    n_rows, paired = scores.shape[-1], _paired(scores)
    unpaired = softplus(scores).sum((-2, -1)) - softplus(paired).sum(-1)
    of_each = -softplus(-paired).mean(-1) - unpaired / (n_rows * (n_rows - 1))
    return of_each.mean()


def smile(scores: Tensor) -> Tensor:
    """Return SMILE: Donsker-Varadhan with unpaired scores clipped to [-5, 5] nats.

    Song and Ermon, arXiv:1910.06222.  Clipping reduces the variance and adds a bias,
    upwards or downwards.  It only estimates, and Jensen-Shannon trains the critic, as
    in the paper: the gradient of clipped scores would let paired ones rise for ever.

    Parameters
    ----------
    scores : Tensor of shape (..., n, n)
        Critic scores, as in the module's description.

    Returns
    -------
    estimate : Tensor of shape ()
        In nats.
    """
    unpaired = _unpaired(scores.clamp(-_CLIP, _CLIP))
    return donsker_varadhan_of(_paired(scores), *unpaired).mean()


def barber_agakov(scores: Tensor) -> Tensor:
    """Return the Barber-Agakov bound: the mean of the paired scores.

    Poole et al., arXiv:1905.06922, section 2.  The critic must itself be a log density
    ratio, such as that of a noisy channel; a learned critic could raise this mean
    without limit.  For a ratio of normal densities the result exceeds the information
    by at most ``KL(p(y) || N(0, (1 + noise_scale^2) I))``.  Without unpaired scores it
    rewards the agreement of two views of a row, not that rows can be told apart.

    Parameters
    ----------
    scores : Tensor of shape (..., n, n)
        Log density ratios, as in the module's description.

    Returns
    -------
    bound : Tensor of shape ()
        In nats.
    """
    return _paired(scores).mean()


def log_mean_exp(scores: Tensor, n_scores: int | None = None) -> Tensor:
    """Return ``log(mean(exp(scores)))`` over the last dimension, without overflow.

    Parameters
    ----------
    scores : Tensor of shape (..., n)
    n_scores : int, default=None
        Number of scores in the mean.  None counts all of them; pass it if some are
        ``-inf`` to leave them out.

    Returns
    -------
    log_mean : Tensor of shape (...)
    """
    return scores.logsumexp(-1) - math.log(n_scores or scores.shape[-1])


def _paired(scores: Tensor) -> Tensor:
    """Return the scores on the diagonal, of shape (..., n)."""
    return scores.diagonal(dim1=-2, dim2=-1)


def _unpaired(scores: Tensor) -> tuple[Tensor, int]:
    """Return scores of shape (..., n * n), -inf for pairs, and the number of others."""
    n_rows = scores.shape[-1]
    is_paired = torch.eye(n_rows, dtype=torch.bool, device=scores.device)
    unpaired = scores.masked_fill(is_paired, -math.inf).flatten(-2)
    return unpaired, n_rows * (n_rows - 1)


def _exp(x: Tensor) -> Tensor:
    """Return exp(x), continued by its tangent where single precision would overflow."""
    inside = x.clamp_max(_LARGEST_EXPONENT)
    return inside.exp() * (1 + (x - inside))


@dataclass(frozen=True)
class Bound:
    """A way to train on score matrices and to report the information in them.

    Parameters
    ----------
    objective : callable
        ``objective(scores)`` returns what training maximises.
    estimate : callable
        ``estimate(scores)`` returns the estimated information in nats.  It may differ
        from the objective.
    ceiling : callable, default=infinity for every batch
        ``ceiling(batch_size)`` returns the largest estimate possible, in nats.
    """

    objective: Callable[[Tensor], Tensor]
    estimate: Callable[[Tensor], Tensor]
    ceiling: Callable[[int], float] = lambda batch_size: math.inf

    def estimated(self, scores: Tensor, objective: Tensor | None = None) -> Tensor:
        """Return ``estimate(scores)``, without computing it twice.

        Parameters
        ----------
        scores : Tensor of shape (..., n, n)
        objective : Tensor of shape () or None
            The value of ``objective(scores)``, if it is known.  It is returned without
            gradient if objective and estimate are one function.

        Returns
        -------
        estimate : Tensor of shape ()
            In nats.
        """
        if objective is not None and self.estimate is self.objective:
            return objective.detach()
        return self.estimate(scores)


BOUNDS: dict[str, Bound] = {
    "infonce": Bound(infonce, infonce, ceiling=math.log),
    "dv": Bound(donsker_varadhan, donsker_varadhan),
    "nwj": Bound(nguyen_wainwright_jordan, nguyen_wainwright_jordan),
    "jsd": Bound(jensen_shannon, nguyen_wainwright_jordan),
    "smile": Bound(jensen_shannon, smile),
}

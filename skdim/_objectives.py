"""Lower bounds on mutual information, in nats, as functions of a score matrix.

``scores[..., i, j] = critic(u_i, y_j)``: rows are codes or features, columns are what
the receiver saw, and the pairs that belong together lie on the diagonal.  Of several
matrices, such as one for each position of an image, the mean is returned.  The best
critic of every bound here is the log density ratio ``log p(y | u) / p(y)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["OBJECTIVES", "Objective", "agreement"]

Bound = Callable[[Tensor], Tensor]

_CLIP = 5.0  # of SMILE, in nats
_LARGEST_EXPONENT = 20.0


def infonce(scores: Tensor) -> Tensor:
    """InfoNCE: for each received ``y_j``, find its sender among the batch.

    Equation (10) of Poole et al., arXiv 1905.06922, with the candidates in the rows:
    there the best critic is ``log p(y | u)`` itself, whatever the law of ``y``.
    """
    log_posterior = torch.log_softmax(scores.mT, dim=-1)
    return math.log(scores.shape[-1]) + _paired(log_posterior).mean()


def donsker_varadhan(scores: Tensor) -> Tensor:
    """Donsker-Varadhan: ``E_joint[T] - log E_product[exp T]``.

    Belghazi et al., arXiv 1801.04062.  The logarithm of a mean over a
    batch is too small on average, so the estimate is too large.
    """
    return (_paired(scores).mean(-1) - _log_mean_exp(_unpaired(scores))).mean()


def nguyen_wainwright_jordan(scores: Tensor) -> Tensor:
    """NWJ: ``1 + E_joint[T] - E_product[exp T]``.

    Poole et al., arXiv 1905.06922, section 2, for a critic ``1 + T``.  Without
    bias at any batch size, but of a variance that grows as the exponential of the
    information.
    """
    unpaired = _exp(_log_mean_exp(_unpaired(scores)))
    return (1 + _paired(scores).mean(-1) - unpaired).mean()


def jensen_shannon(scores: Tensor) -> Tensor:
    """Jensen-Shannon: ``-E_joint[sp(-T)] - E_product[sp(T)]``, sp = softplus.

    Equation (4) of Hjelm et al., arXiv 1808.06670.  Bounded gradients, but no estimate
    of the information: it is at most 0.
    """
    n_rows, paired = scores.shape[-1], _paired(scores)
    unpaired = softplus(scores).sum((-2, -1)) - softplus(paired).sum(-1)
    of_each = -softplus(-paired).mean(-1) - unpaired / (n_rows * (n_rows - 1))
    return of_each.mean()


def smile(scores: Tensor) -> Tensor:
    """SMILE: Donsker-Varadhan with ``exp T`` clipped to ``exp(-5) .. exp(5)``.

    Song and Ermon, arXiv 1910.06222.  Less variance for a bias, up or
    down.  As there, Jensen-Shannon trains: clipped, scores could rise for ever.
    """
    clipped = scores.clamp(-_CLIP, _CLIP)
    return (_paired(scores).mean(-1) - _log_mean_exp(_unpaired(clipped))).mean()


def agreement(scores: Tensor) -> Tensor:
    """Barber-Agakov: ``E_joint[T]`` for a critic that is itself a log density ratio.

    Poole et al., arXiv 1905.06922, section 2.  With ``T`` made of normal
    densities it is a bound up to ``KL(p(y) || N(0, (1 + sigma^2) I))``.  There are no
    unpaired scores: it pays for agreement of views, not for telling rows apart.
    """
    return _paired(scores).mean()


def _paired(scores: Tensor) -> Tensor:
    return scores.diagonal(dim1=-2, dim2=-1)


def _unpaired(scores: Tensor) -> Tensor:
    paired = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    return scores.masked_fill(paired, -math.inf)


def _log_mean_exp(unpaired: Tensor) -> Tensor:
    n_rows = unpaired.shape[-1]
    return unpaired.flatten(-2).logsumexp(-1) - math.log(n_rows * (n_rows - 1))


def _exp(x: Tensor) -> Tensor:
    """Exponential, continued by its tangent where it would leave single precision."""
    inside = x.clamp_max(_LARGEST_EXPONENT)
    return inside.exp() * (1 + (x - inside))


@dataclass(frozen=True)
class Objective:
    """What is maximised, the estimate of the information, and the most it can report.

    ``is_for_densities`` says that the critic must be a log density ratio, not learned.
    """

    maximized: Bound
    estimate: Bound
    ceiling: Callable[[int], float] = lambda batch_size: math.inf
    is_for_densities: bool = False

    def estimated(self, scores: Tensor, value: Tensor) -> Tensor:
        """Return the estimate, where ``value`` is what is maximised."""
        if self.estimate is self.maximized:
            return value.detach()
        return self.estimate(scores)


OBJECTIVES: dict[str, Objective] = {
    "infonce": Objective(infonce, infonce, ceiling=math.log),
    "dv": Objective(donsker_varadhan, donsker_varadhan),
    "nwj": Objective(nguyen_wainwright_jordan, nguyen_wainwright_jordan),
    "jsd": Objective(jensen_shannon, nguyen_wainwright_jordan),
    "smile": Objective(jensen_shannon, smile),
    "agreement": Objective(agreement, agreement, is_for_densities=True),
}

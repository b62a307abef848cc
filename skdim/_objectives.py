"""Lower bounds on mutual information, in nats, as functions of a score matrix.

``scores[i, j] = critic(u_i, y_j)``: rows are codes, columns are what the receiver
saw, and the pairs that belong together lie on the diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["OBJECTIVES", "Objective", "infonce"]


def infonce(scores: Tensor) -> Tensor:
    """InfoNCE: for each received ``y_j``, find its sender among the batch.

    Equation (10) of Poole et al., arXiv 1905.06922, with the candidates in the rows:
    there the best critic is ``log p(y | u)`` itself, whatever the law of ``y``.
    """
    log_posterior = torch.log_softmax(scores.T, dim=1)
    return math.log(len(scores)) + log_posterior.diagonal().mean()


@dataclass(frozen=True)
class Objective:
    """A bound and the most it can report from a batch of a given size."""

    bound: Callable[[Tensor], Tensor]
    ceiling: Callable[[int], float]


OBJECTIVES: dict[str, Objective] = {
    "infonce": Objective(infonce, ceiling=math.log),
}

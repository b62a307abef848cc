"""Log-density of rows under a trained model, by the change of variables.

A code ``z = f(x)`` that follows N(0, I) gives its row the density

    log p(x) = log N(f(x); 0, I) + 1/2 log det(J J^T),    J = df/dx,

which for a square ``J`` is the usual formula, and otherwise that of the coarea formula:
the density along the directions that the encoder sees (Krantz and Parks, *Geometric
Integration Theory*, section 5.2).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import grad

from .._utils.rows import batches
from .model import Model
from .network import Network
from .runtime import take

__all__ = ["log_density", "log_volume"]


def log_density(model: Model, rows: Any, device: torch.device) -> Tensor:
    """Return the log-density of each row, in nats, in double precision on the CPU.

    Parameters
    ----------
    model : Model
        Restored for gradients, which is in double precision.
    rows : array-like of shape (n_rows, ...)
    device : torch.device
    """
    n_numbers = math.prod(rows.shape[1:]) * model.network.n_outputs
    parts = [
        _of_batch(model.network, take(rows, chunk, device)).cpu()
        for chunk in batches(len(rows), n_numbers, fewest=16)
    ]
    return torch.cat(parts)


def _of_batch(network: Network, rows: Tensor) -> Tensor:
    rows = rows.detach().double().requires_grad_()
    z = network(rows)
    # Rows do not meet, so that a sum over rows has the gradient of each.
    gradients = [grad(part.sum(), rows, retain_graph=True)[0] for part in z.unbind(1)]
    z, jacobian = z.detach(), torch.stack(gradients, 1).flatten(2)
    return log_volume(jacobian) - (z.square() + math.log(2 * math.pi)).sum(1) / 2


def log_volume(jacobian: Tensor) -> Tensor:
    """Return ``1/2 log det(J J^T)`` of each matrix; -inf where it has not full rank.

    By the triangle of ``J^T = QR``: the product ``J J^T`` would lose half the digits.
    """
    triangle = torch.linalg.qr(jacobian.mT, mode="r").R
    sizes = triangle.diagonal(dim1=-2, dim2=-1).abs()
    rounding = max(jacobian.shape[1:]) * torch.finfo(sizes.dtype).eps
    is_flat = sizes <= rounding * triangle.abs().amax((1, 2))[:, None]
    return sizes.masked_fill(is_flat, 0).log().sum(-1)

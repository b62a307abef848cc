"""Log-density of rows under a trained model, by the change of variables.

If codes ``f(x)`` follow N(0, I), a row ``x`` has the density

    log p(x) = log N(f(x); 0, I) + 1/2 log det(J J^T),    J = df/dx.

For a square ``J`` this is the usual formula.  With fewer components than inputs it is
that of the coarea formula: the density along the directions in which the code changes
(Krantz and Parks, *Geometric Integration Theory*, section 5.2).  With more components
than inputs, codes lie on a surface of as many dimensions as there are inputs, and
``det(J^T J)`` takes the place of ``det(J J^T)``, as in the area formula (section 5.1
there).  The density is then that of N(0, I) on this surface, which does not add up to
1.
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
    """Return the log-density of each row under a model whose codes follow N(0, I).

    It is computed by the change of variables from rows to codes, as the module
    describes.  Inputs that did not vary in training count as no inputs.

    Parameters
    ----------
    model : Model
        From ``with inference.restored(..., gradients=True) as model``.  Inside this
        block, where ``log_density`` must be called, the model computes in double
        precision and with gradients.
    rows : array-like of shape (n_rows, *input_shape)
        Rows before scaling.
    device : torch.device
        Where the model is.

    Returns
    -------
    log_density : Tensor of shape (n_rows,)
        In nats, in double precision on the CPU; -inf where the Jacobian of the code
        does not have full rank.
    """
    n_numbers = math.prod(rows.shape[1:]) * model.network.n_outputs
    parts = [
        _of_batch(model.network, take(rows, chunk, device)).cpu()
        for chunk in batches(len(rows), n_numbers, fewest=16)
    ]
    return torch.cat(parts)


def _of_batch(network: Network, rows: Tensor) -> Tensor:
    """Return the log-density of each row of a batch, in nats, for ``log_density``.

    ``rows`` has the shape (n_rows, *input_shape), is on the device of ``network`` and
    is not scaled yet.  The result has the shape (n_rows,).  Jacobians of codes with
    respect to rows are found by automatic differentiation.
    """
    rows = rows.detach().double().requires_grad_()
    varies = (network.input.inverse_scale > 0).expand(rows.shape[1:])
    trained = network.normalized(network.encode(network.input(rows)))
    # The volume change of the final map is known in closed form, and factors out of
    # det(J J^T).  It does not factor out of det(J^T J).
    is_wide = trained.shape[1] <= int(varies.sum())
    outputs = trained if is_wide else network.transport(trained)
    # A code depends on its own row alone, so a gradient of a sum over rows serves all.
    gradients = [
        grad(part.sum(), rows, retain_graph=True)[0] for part in outputs.unbind(1)
    ]
    log_density = log_volume(torch.stack(gradients, 1)[..., varies])
    z = outputs.detach()
    if is_wide:
        log_density = log_density + network.transport.log_det(z)
        z = network.transport(z)
    return log_density - (z.square() + math.log(2 * math.pi)).sum(1) / 2


def log_volume(jacobian: Tensor) -> Tensor:
    """Return ``1/2 log det(J J^T)`` of each Jacobian ``J``.

    This is the term of the log-density by which a map changes volumes.  It is computed
    from the factor R of ``J^T = QR``, because ``J J^T`` would lose half of the digits.
    Where ``J`` has more rows than columns, ``J^T J`` takes the place of ``J J^T``.

    Parameters
    ----------
    jacobian : Tensor of shape (n_rows, n_components, n_inputs)
        Derivatives of the code of each row with respect to its inputs.

    Returns
    -------
    log_volume : Tensor of shape (n_rows,)
        -inf for matrices that, up to rounding, do not have full rank.  0 without
        inputs.
    """
    if not jacobian.shape[2]:
        return jacobian.new_zeros(len(jacobian))
    shift = jacobian.new_zeros(len(jacobian))
    if jacobian.shape[1] >= jacobian.shape[2]:
        # The scale of each input factors out.  Inputs of very different scales would
        # look as if they had no full rank.
        scale = jacobian.abs().amax(1, keepdim=True)
        jacobian = torch.where(scale > 0, jacobian / scale, 0)
        shift = scale.log().sum((1, 2))
    is_tall = jacobian.shape[1] > jacobian.shape[2]
    triangle = torch.linalg.qr(jacobian if is_tall else jacobian.mT, mode="r").R
    sizes = triangle.diagonal(dim1=-2, dim2=-1).abs()
    rounding = max(jacobian.shape[1:]) * torch.finfo(sizes.dtype).eps
    is_flat = sizes <= rounding * triangle.abs().amax((1, 2))[:, None]
    return sizes.masked_fill(is_flat, 0).log().sum(-1) + shift

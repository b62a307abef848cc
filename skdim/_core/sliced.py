"""Kullback-Leibler divergence of one-dimensional slices of the codes from N(0, 1).

A slice is the projection ``p.u`` of the codes on a unit direction ``p``.  With noise of
standard deviation s, ``p.u + N(0, s^2)`` is a mixture of normal densities over a batch,
known exactly, and it is compared with ``N(0, 1 + s^2)``.  At unit variance this
divergence is how far the information through the slice falls short of the capacity of
its channel.  All slices are normal if and only if the codes are jointly normal (Cramer
and Wold).  The cost is linear in the batch, and there is no critic.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["radial_kl", "random_directions", "sliced_kl"]

# Standard deviation s.  With less noise the divergence is mostly fine structure, and
# reducing it tears classes apart; with more it hardly responds (docs/defaults.md).
_SMOOTHING = 0.6
_REACH = 6.0  # the grid spans -6 to 6
_N_GRID = 49
_STEP = 2 * _REACH / (_N_GRID - 1)


def random_directions(
    n_components: int, n_slices: int, like: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw unit vectors, uniform on the sphere, as columns."""
    shape = (n_components, n_slices)
    draws = torch.empty(shape, dtype=like.dtype, device=like.device)
    return F.normalize(draws.normal_(generator=generator), dim=0)


def sliced_kl(codes: Tensor, directions: Tensor) -> Tensor:
    """Return the mean divergence of slices from N(0, 1), both smoothed, in nats.

    Parameters
    ----------
    codes : Tensor of shape (n_rows, n_components)
        Of mean 0 and variance 1.
    directions : Tensor of shape (n_components, n_slices)
        Unit vectors.

    Notes
    -----
    Each projection is shared out between the two nearest points of a grid, and one
    small matrix product with the noise gives the density.  Projections beyond 6 are
    counted at the ends of the grid.
    """
    return _kl(codes @ directions).mean()


def radial_kl(codes: Tensor) -> Tensor:
    """Return the divergence of the codes' norms from those of N(0, I), in nats.

    Slices of many components are nearly normal whatever the norms are.  The cube root
    of ``|u|^2 / d`` is nearly normal (Wilson and Hilferty, PNAS 17 (1931) 684), so the
    norms are treated as one more slice.
    """
    spread = 2 / (9 * codes.shape[1])
    cube_root = codes.square().mean(1).clamp_min(1e-12) ** (1 / 3)
    return _kl(((cube_root - (1 - spread)) / math.sqrt(spread))[:, None]).mean()


def _kl(slices: Tensor) -> Tensor:
    """Return the divergence of each column from N(0, 1), both smoothed."""
    spread, log_target = _grid(slices.dtype, slices.device)
    density = _binned(slices) @ spread
    probability = (density / len(slices)).clamp_min(1e-12)
    return (probability * (probability.log() - log_target)).sum(1)


def _binned(slices: Tensor) -> Tensor:
    """Return counts of shape (n_slices, n_grid), shared linearly between two points."""
    n_slices = slices.shape[1]
    place = ((slices + _REACH) / _STEP).clamp(0, _N_GRID - 1.001)
    left = place.detach().nan_to_num().floor()
    above = place - left
    offsets = torch.arange(n_slices, device=slices.device) * _N_GRID
    index = (left.long() + offsets).flatten()
    counts = slices.new_zeros(n_slices * _N_GRID)
    counts = counts.index_add(0, index, (1 - above).flatten())
    return counts.index_add(0, index + 1, above.flatten()).view(n_slices, _N_GRID)


@cache
def _grid(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the smoothing matrix between grid points, and the target's log-density.

    The smoothing has variance ``s^2 - step^2 / 6``: sharing a projection out between
    two points has added ``step^2 / 6`` already.
    """
    with torch.inference_mode(False):  # cached tensors must serve training too
        points = torch.linspace(-_REACH, _REACH, _N_GRID, dtype=dtype, device=device)
        variance = _SMOOTHING**2 - _STEP**2 / 6
        exponents = -0.5 * (points[:, None] - points).square() / variance
        density = exponents.exp() / math.sqrt(2 * math.pi * variance)
        variance = 1 + _SMOOTHING**2
        log_density = -0.5 * points.square() / variance
        log_density = log_density - 0.5 * math.log(2 * math.pi * variance)
        return _STEP * density, log_density + math.log(_STEP)

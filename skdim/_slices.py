"""Sliced capacity: what one-dimensional slices of the codes lack to theirs.

Along a unit direction ``p`` the received code ``p.u + N(0, s^2)`` has, over a batch, a
density that is known exactly: a mixture of normal densities.  At unit variance its
Kullback-Leibler divergence from ``N(0, 1 + s^2)`` is the information that this slice
lacks to the capacity of its channel, and all slices are normal if and only if the
codes are jointly normal (Cramer-Wold).  Linear in the batch, and no critic.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["radial_gap", "random_directions", "sliced_gap"]

# The noise s of the slices.  With less, the gap is mostly that of fine structure, and
# closing it tears classes apart; with more, it hardly tells (docs/defaults.md).
_SMOOTHING = 0.6
_REACH = 6.0  # the grid goes from -6 to 6
_N_GRID = 49
_STEP = 2 * _REACH / (_N_GRID - 1)


def random_directions(
    n_components: int, n_slices: int, like: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw unit vectors, uniform on the sphere, as columns."""
    shape = (n_components, n_slices)
    draws = torch.empty(shape, dtype=like.dtype, device=like.device)
    return F.normalize(draws.normal_(generator=generator), dim=0)


def sliced_gap(codes: Tensor, directions: Tensor) -> Tensor:
    """Return the mean gap of the slices to their capacity, in nats.

    Parameters
    ----------
    codes : Tensor of shape (n_rows, n_components)
        Meant to follow N(0, I).
    directions : Tensor of shape (n_components, n_slices)

    Notes
    -----
    Codes are shared out between the two nearest points of a grid, and one small matrix
    product with the noise gives the density.  Codes beyond 6 are put at the ends.
    """
    return _gap(codes @ directions).mean()


def _gap(slices: Tensor) -> Tensor:
    """Return the gap of each column."""
    spread, log_target = _grid(slices.dtype, slices.device)
    density = _binned(slices) @ spread
    probability = (density / len(slices)).clamp_min(1e-12)
    return (probability * (probability.log() - log_target)).sum(1)


def radial_gap(codes: Tensor) -> Tensor:
    """Return the gap of the codes' norms to those of N(0, I), in nats.

    Slices of many components are nearly normal whatever the norms are.  The cube root
    of ``|u|^2 / d`` is normal to a good approximation (Wilson and Hilferty, PNAS 17
    (1931) 684), so that one more slice shows them.
    """
    spread = 2 / (9 * codes.shape[1])
    cube_root = codes.square().mean(1).clamp_min(1e-12) ** (1 / 3)
    return _gap(((cube_root - (1 - spread)) / math.sqrt(spread))[:, None]).mean()


def _binned(slices: Tensor) -> Tensor:
    """Return counts of shape (n_slices, n_grid), linear in between two points."""
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
    """Return what the noise makes of each point, and the log target at all points.

    From point to point, the probability under the noise of the slices: sharing codes
    out between points has added a variance of ``step^2 / 6`` already.
    """
    with torch.inference_mode(False):  # what is kept must serve training too
        points = torch.linspace(-_REACH, _REACH, _N_GRID, dtype=dtype, device=device)
        variance = _SMOOTHING**2 - _STEP**2 / 6
        exponents = -0.5 * (points[:, None] - points).square() / variance
        density = exponents.exp() / math.sqrt(2 * math.pi * variance)
        variance = 1 + _SMOOTHING**2
        log_density = -0.5 * points.square() / variance
        log_density = log_density - 0.5 * math.log(2 * math.pi * variance)
        return _STEP * density, log_density + math.log(_STEP)

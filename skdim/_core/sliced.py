"""Kullback-Leibler divergence of one-dimensional slices of the codes from N(0, 1).

A slice is the projection of the codes on a unit direction.  With
added noise N(0, s^2), a slice of a batch is a mixture of normal densities, known
exactly.  It is compared with ``N(0, 1 + s^2)``, the slice of normal codes with the same
noise.  At unit variance this divergence is how far the mutual information of the slice
and the noisy slice falls short of the capacity of its channel.  All slices are normal
if and only if the codes are jointly normal (Cramer and Wold).  The cost is linear in
the batch size, and there is no critic.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["radial_kl", "random_directions", "sliced_kl"]

# Standard deviation s of the noise that smooths slices.  With less noise the divergence
# is mostly fine structure, and reducing it tears classes apart; with more noise it
# hardly responds to the codes (docs/defaults.md).
_SMOOTHING = 0.6
_REACH = 6.0  # the grid spans -6 to 6
_N_GRID = 49
_STEP = 2 * _REACH / (_N_GRID - 1)


def random_directions(
    n_components: int, n_slices: int, like: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw random unit vectors, uniform on the sphere, for ``sliced_kl`` to project on.

    Parameters
    ----------
    n_components : int
        Number of components of the codes.
    n_slices : int
        Number of directions.
    like : Tensor
        Gives the dtype and the device of the result.
    generator : torch.Generator
        On the device of ``like``.

    Returns
    -------
    directions : Tensor of shape (n_components, n_slices)
        Each column is a direction.
    """
    shape = (n_components, n_slices)
    draws = torch.empty(shape, dtype=like.dtype, device=like.device)
    return F.normalize(draws.normal_(generator=generator), dim=0)


def sliced_kl(codes: Tensor, directions: Tensor) -> Tensor:
    """Return the mean divergence of slices of the codes from N(0, 1), both smoothed.

    A slice is the projection of the codes on one direction.  The divergence is near 0
    for normal codes.  ``match_curve_`` records it, and it is a term of the objective if
    ``sliced_weight`` is above 0.

    Parameters
    ----------
    codes : Tensor of shape (n_rows, n_components)
        Of mean 0 and variance 1, unless the network does not normalise.
    directions : Tensor of shape (n_components, n_slices)
        Unit vectors, one in each column.

    Returns
    -------
    divergence : Tensor of shape ()
        Kullback-Leibler divergence of the smoothed slice from the smoothed N(0, 1), in
        nats; mean over slices.

    Notes
    -----
    Both distributions are smoothed by normal noise of standard deviation 0.6.  The mass
    of each projection is split between the two nearest points of a grid from -6 to 6,
    and one small matrix product with the density of the noise gives the smoothed
    density.  Projections are first clipped to the ends of the grid.
    """
    return _kl(codes @ directions).mean()


def radial_kl(codes: Tensor) -> Tensor:
    """Return the divergence of the norms of the codes from the norms of N(0, I).

    A term of the objective beside ``sliced_kl``: with many components, slices hardly
    show how much norms vary.  For normal codes ``u`` of d components, the cube root of
    ``|u|^2 / d`` is nearly normal, with a known mean and variance (Wilson and Hilferty,
    PNAS 17 (1931) 684).  Standardised by this mean and variance, the cube roots are
    compared with N(0, 1) as one more slice.

    Parameters
    ----------
    codes : Tensor of shape (n_rows, n_components)
        Codes of mean 0 and variance 1.

    Returns
    -------
    divergence : Tensor of shape ()
        Kullback-Leibler divergence of the cube roots from N(0, 1), both smoothed, in
        nats; with a gradient.
    """
    spread = 2 / (9 * codes.shape[1])
    cube_root = codes.square().mean(1).clamp_min(1e-12) ** (1 / 3)
    return _kl(((cube_root - (1 - spread)) / math.sqrt(spread))[:, None]).mean()


def _kl(slices: Tensor) -> Tensor:
    """Return the divergence of each column of ``slices`` from N(0, 1), both smoothed.

    ``slices`` holds projections of codes, of shape (n_rows, n_slices).  The result
    holds Kullback-Leibler divergences in nats, of shape (n_slices,), with a gradient.
    """
    spread, log_target = _grid(slices.dtype, slices.device)
    density = _binned(slices) @ spread
    probability = (density / len(slices)).clamp_min(1e-12)
    return (probability * (probability.log() - log_target)).sum(1)


def _binned(slices: Tensor) -> Tensor:
    """Return a histogram of each column of ``slices``, with a gradient.

    Each projection counts 1, split linearly between the two nearest grid points.

    Parameters
    ----------
    slices : Tensor of shape (n_rows, n_slices)
        Projections.

    Returns
    -------
    counts : Tensor of shape (n_slices, 49)
        Counts at the 49 points of the grid, from -6 to 6, for each slice.  They add up
        to ``n_rows``; projections beyond the grid count at its ends.
    """
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
    """Return the smoothing matrix and the smoothed target on the grid of slices.

    The grid has 49 points from -6 to 6 and the spacing ``step``; the smoothing noise
    has the standard deviation s = 0.6.

    Parameters
    ----------
    dtype : torch.dtype
        Data type of the results.
    device : torch.device
        Where the results are stored.

    Returns
    -------
    spread : Tensor of shape (49, 49)
        ``probability @ spread`` adds normal noise to probabilities at the grid points.
        The variance of this noise is ``s^2 - step^2 / 6``, because splitting a
        projection between two points has already added ``step^2 / 6`` on average.
    log_target : Tensor of shape (49,)
        Log probability of ``N(0, 1 + s^2)`` at each point: its density times the step.
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

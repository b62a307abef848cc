r"""Maps that bring the encoder's output to the moments of its distribution.

After training, the code of a row with encoder output ``h`` (of d components) is

    s = (h - mean) / sqrt(variance + 1e-5) @ W
    q = s * (|s|^2 / d) ** ((p - 1) / 2)                  pulls norms in, p <= 1
    z = (q - E[q]) / sd[q]                                follows N(0, I)
    F^-1(Phi(z))                                          any other distribution

with every moment taken over all training rows by ``calibration``.  ``W`` whitens: it is
made of a shrunk correlation matrix and rescaled so that each component has variance 1.
``Normalizer`` is the first line, ``NormShrinker`` the next two, and
``_utils.distributions`` the last.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .runtime import PLAIN

__all__ = ["NormShrinker", "Normalizer", "Standardizer", "Unnormalized"]

_EPS = 1e-5  # added to variances, as in batch norm
_SMALLEST_SHRINKAGE = 1e-4  # keeps the factor well conditioned in single precision
_SMALLEST_VARIANCE = 1e-3  # smaller variances are raised as if they were this one


class Normalizer(nn.Module):
    """Bring the encoder's output to mean 0, variance 1 and no correlation.

    Parameters
    ----------
    n_components : int
    shrinkage : float or None
        None whitens each training batch by its own moments, and all rows by theirs
        after training.  A number only standardises the components of a training batch,
        and whitens after training, with the correlation matrix shrunk towards the
        identity by at least this share.

    Notes
    -----
    Batches are whitened by the inverse of a Cholesky factor.  Correlations are first
    shrunk by what so few rows cannot tell from zero, so that few rows or many
    components fall back to scaling each component.
    """

    momentum = 0.1  # of the running moments

    def __init__(self, n_components: int, shrinkage: float | None = None) -> None:
        super().__init__()
        self.shrinkage = shrinkage
        self.register_buffer("mean", torch.zeros(n_components, **PLAIN))
        self.register_buffer("variance", torch.ones(n_components, **PLAIN))
        self.register_buffer("correlation", torch.eye(n_components, **PLAIN))
        self.register_buffer("matrix", torch.eye(n_components, **PLAIN))

    @torch.no_grad()
    def use_running_moments(self) -> None:
        """Set the map of evaluation by the running moments, before ``fit`` sets it."""
        self._set_matrix(self.correlation, n_rows=None)

    def forward(self, h: Tensor, n_measured: int | None = None) -> Tensor:
        """Return normalised codes.

        Parameters
        ----------
        h : Tensor of shape (n_rows, n_components)
            Output of the encoder.
        n_measured : int or None
            In training, moments are those of the first so many rows; None takes all.
            Where codes and views are made differently, only codes count: moments of
            both would let codes exceed the power limit of the channel.
        """
        if not self.training:
            return (h - self.mean) * (self.variance + _EPS).rsqrt() @ self.matrix
        mean = h[:n_measured].mean(0)
        centered = h - mean
        variance = centered[:n_measured].square().mean(0)
        z = centered * (variance + _EPS).rsqrt()
        self._track(self.mean, mean)
        self._track(self.variance, variance)
        if self.shrinkage is not None:
            return z
        measured = z[:n_measured]
        correlation = measured.T @ measured / len(measured)
        self._track(self.correlation, correlation)
        white = z @ _whitening(correlation, len(measured))
        return white * _inverse_scale(white[:n_measured].square().mean(0))

    @torch.no_grad()
    def _track(self, average: Tensor, value: Tensor) -> None:
        average.lerp_(value, self.momentum)

    def fit(self, mean: Tensor, covariance: Tensor, n_rows: int) -> None:
        """Set the map of evaluation by moments of the encoder's output over all rows.

        Parameters
        ----------
        mean : Tensor of shape (n_components,)
        covariance : Tensor of shape (n_components, n_components)
        n_rows : int
            Number of rows behind these moments.
        """
        variance = covariance.diagonal()
        self.mean.copy_(mean)
        self.variance.copy_(variance)
        scale = (variance + _EPS).rsqrt()
        correlation = scale[:, None] * covariance * scale
        self.correlation.copy_(correlation)
        self._set_matrix(correlation, n_rows)

    def _set_matrix(self, correlation: Tensor, n_rows: int | None) -> None:
        if self.shrinkage is None:
            matrix = _whitening(correlation, n_rows)
            if n_rows is not None:
                remaining = matrix.T @ correlation @ matrix
                matrix = matrix @ _rescale_beyond_chance(remaining, n_rows)
        elif n_rows is not None:
            matrix = _symmetric_whitening(correlation, n_rows, self.shrinkage)
        else:
            matrix = _identity(correlation)
        gain = _inverse_scale((matrix * (correlation @ matrix)).sum(0))
        self.matrix.copy_(matrix * gain)


def _inverse_scale(variance: Tensor) -> Tensor:
    """Return 1 / sqrt(variance), or 0 where the variance is a rounding error."""
    return torch.where(variance > 1e-5, variance.clamp_min(1e-5).rsqrt(), 0)


def _identity(like: Tensor) -> Tensor:
    return torch.eye(len(like), dtype=like.dtype, device=like.device)


def _whitening(correlation: Tensor, n_rows: int | None) -> Tensor:
    """Return ``W`` such that rows ``z @ W`` are uncorrelated, up to shrinkage.

    ``W`` is the inverse transposed Cholesky factor of the shrunk correlation matrix.
    """
    weight = _SMALLEST_SHRINKAGE
    if n_rows is not None:
        weight = max(weight, _shrinkage(correlation.detach(), n_rows))
    identity = _identity(correlation)
    factor = torch.linalg.cholesky(torch.lerp(correlation, identity, weight))
    return torch.linalg.solve_triangular(factor, identity, upper=False).T


def _rescale_beyond_chance(covariance: Tensor, n_rows: int) -> Tensor:
    """Return a matrix that clips the variances of nearly white rows to chance's range.

    Shrinkage leaves directions of small variance small, however many rows there are.
    Variances of truly white rows lie within ``(1 -+ sqrt(d / n))^2`` (Marchenko and
    Pastur, Math. USSR-Sbornik 1 (1967) 457); those outside are moved to its edge.
    """
    values, vectors = torch.linalg.eigh(covariance)
    share = math.sqrt(len(values) / n_rows)
    lowest, highest = max(0.0, 1 - share) ** 2, (1 + share) ** 2
    clipped = values.clamp(lowest, highest).clamp_min(_SMALLEST_VARIANCE)
    scale = (clipped / values.clamp_min(_SMALLEST_VARIANCE)).sqrt()
    return vectors * scale @ vectors.T


def _symmetric_whitening(correlation: Tensor, n_rows: int, weight: float) -> Tensor:
    """Return the inverse square root of the correlation, shrunk by at least ``weight``.

    Of all whitening matrices the symmetric one changes codes least.
    """
    weight = max(weight, _shrinkage(correlation, n_rows))
    shrunk = torch.lerp(correlation, _identity(correlation), weight)
    values, vectors = torch.linalg.eigh(shrunk)
    return vectors * values.clamp_min(1e-6).rsqrt() @ vectors.T


def _shrinkage(covariance: Tensor, n_rows: int) -> float:
    """Return the weight of the identity in the oracle approximating shrinkage.

    Equation (23) of Chen et al., IEEE Trans. Signal Process. 58 (2010) 5016.
    """
    d = len(covariance)
    trace = covariance.trace()
    of_square = covariance.square().sum()
    spread = (n_rows + 1 - 2 / d) * (of_square - trace**2 / d)
    gain = (1 - 2 / d) * of_square + trace**2
    return float((gain / spread).clamp(0, 1)) if spread > 0 else 1.0


class Standardizer(nn.Module):
    """Bring each column to mean 0 and variance 1; constant columns become 0.

    Parameters
    ----------
    *shape : int
        Of mean and scale; one number a column.
    dtype : torch.dtype
        In which these are kept.
    """

    def __init__(self, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        plain = {"dtype": dtype, "device": "cpu"}
        self.register_buffer("mean", torch.zeros(shape, **plain))
        self.register_buffer("inverse_scale", torch.ones(shape, **plain))

    def reset(self) -> None:
        """Make this the identity."""
        self.mean.zero_()
        self.inverse_scale.fill_(1)

    def fit_moments(self, mean: Tensor, variance: Tensor) -> None:
        """Set the map by these moments."""
        self.mean.copy_(mean)
        self.inverse_scale.copy_(_inverse_scale(variance))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.inverse_scale


class NormShrinker(nn.Module):
    """Pull in codes whose norms vary more than those of N(0, I), by a power of them.

    With many components, slices hardly show the spread of the norms; nor do batches
    that are each whitened by their own moments.
    """

    def __init__(self, n_components: int) -> None:
        super().__init__()
        self.register_buffer("power", torch.ones((), **PLAIN))
        self.standardizer = Standardizer(n_components)

    def reset(self) -> None:
        """Make this the identity."""
        self.power.fill_(1)
        self.standardizer.reset()

    def fit_power(self, z: Tensor) -> None:
        """Set the power from codes of mean 0 and variance 1.

        With it the logarithms of squared norms have the variance that they have for a
        chi-squared variable, ``trigamma(d / 2)``.  The power is at most 1, so that no
        code moves further out, and at least 1/4.
        """
        target = torch.special.polygamma(1, z.new_tensor(z.shape[1] / 2))
        power = (target / _mean_square(z).log().var(correction=0)).sqrt()
        self.power.copy_(power.clamp(0.25, 1))

    def shrink(self, z: Tensor) -> Tensor:
        """Raise the norm of each code to the power."""
        return z * _mean_square(z)[:, None] ** ((self.power - 1) / 2)

    def forward(self, z: Tensor) -> Tensor:
        return self.standardizer(self.shrink(z))


def _mean_square(z: Tensor) -> Tensor:
    """Return the mean square of each row, clipped to be neither zero nor infinite."""
    return z.square().mean(1).clamp(1e-12, torch.finfo(z.dtype).max)


class Unnormalized(nn.Module):
    """Leave the encoder's output as it is, where an adversary holds it to the prior."""

    def __init__(self, n_components: int) -> None:
        super().__init__()
        # Holds the data type to compute in, as the mean of a Normalizer does.
        self.register_buffer("mean", torch.zeros(n_components, **PLAIN))

    def use_running_moments(self) -> None:
        """Do nothing: there are no moments."""

    def forward(self, h: Tensor, n_measured: int | None = None) -> Tensor:
        return h

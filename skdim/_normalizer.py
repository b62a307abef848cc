"""What brings outputs to the moments of their law: by batch, and at the end."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["NormMap", "Normalizer", "Standardizer", "Unnormalized"]

_EPS = 1e-5  # of batch norm


class Normalizer(nn.Module):
    """Bring outputs to mean 0, variance 1 and, if ``whiten``, no correlation.

    In training by the moments of the batch.  Correlations are taken out by the inverse
    of a Cholesky factor, after shrinking them by what so many rows cannot tell from
    zero, so that few rows or many components fall back to a scale per component.

    With ``shrinkage`` instead, batches are not whitened, but at the end correlations
    that were shrunk by this much are, by the symmetric root that changes codes least.
    """

    momentum = 0.1

    def __init__(
        self, n_components: int, whiten: bool, shrinkage: float | None = None
    ) -> None:
        super().__init__()
        self.whiten, self.shrinkage = whiten, shrinkage
        plain = {"dtype": torch.float32, "device": "cpu"}
        self.register_buffer("mean", torch.zeros(n_components, **plain))
        self.register_buffer("variance", torch.ones(n_components, **plain))
        self.register_buffer("correlation", torch.eye(n_components, **plain))
        self.register_buffer("matrix", torch.eye(n_components, **plain))

    @torch.no_grad()
    def settle(self) -> None:
        """Go by the running averages, for a look at the codes before ``fit``."""
        self._set_matrix(self.correlation, n_rows=None)

    def forward(self, h: Tensor, n_bound: int | None = None) -> Tensor:
        """Normalise; in training, by the moments of the first ``n_bound`` rows.

        Only the codes that are sent are bound.  Moments of codes and views together
        would let the sent ones grow beyond the channel's power limit at the expense
        of the views, where these are made differently.
        """
        if not self.training:
            return (h - self.mean) * (self.variance + _EPS).rsqrt() @ self.matrix
        mean = h[:n_bound].mean(0)
        centered = h - mean
        variance = centered[:n_bound].square().mean(0)
        z = centered * (variance + _EPS).rsqrt()
        self._track(self.mean, mean)
        self._track(self.variance, variance)
        if not self.whiten:
            return z
        bound = z[:n_bound]
        correlation = bound.T @ bound / len(bound)
        self._track(self.correlation, correlation)
        white = z @ _whitening(correlation, len(bound))
        return white * _inverse_scale(white[:n_bound].square().mean(0))

    @torch.no_grad()
    def _track(self, average: Tensor, value: Tensor) -> None:
        average.lerp_(value, self.momentum)

    def fit(self, mean: Tensor, covariance: Tensor, n_rows: int) -> None:
        """Set the map from the moments of the encoder's output over all rows."""
        variance = covariance.diagonal()
        self.mean.copy_(mean)
        self.variance.copy_(variance)
        scale = (variance + _EPS).rsqrt()
        correlation = scale[:, None] * covariance * scale
        self.correlation.copy_(correlation)
        self._set_matrix(correlation, n_rows)

    def _set_matrix(self, correlation: Tensor, n_rows: int | None) -> None:
        matrix = _identity(correlation)
        if self.whiten:
            matrix = _whitening(correlation, n_rows)
            if n_rows is not None:
                left = matrix.T @ correlation @ matrix
                matrix = matrix @ _evened(left, n_rows)
        elif self.shrinkage is not None and n_rows is not None:
            matrix = _symmetric_whitening(correlation, n_rows, self.shrinkage)
        gain = _inverse_scale((matrix * (correlation @ matrix)).sum(0))
        self.matrix.copy_(matrix * gain)


def _inverse_scale(variance: Tensor) -> Tensor:
    """Return what makes a variance 1; no rounding error is blown up to a signal."""
    return torch.where(variance > 1e-5, variance.clamp_min(1e-5).rsqrt(), 0)


def _identity(like: Tensor) -> Tensor:
    return torch.eye(len(like), dtype=like.dtype, device=like.device)


def _whitening(correlation: Tensor, n_rows: int | None) -> Tensor:
    """Return ``W`` such that rows ``z W`` are uncorrelated, up to shrinkage."""
    weight = _SMALLEST_SHRINKAGE
    if n_rows is not None:
        weight = max(weight, _shrinkage(correlation.detach(), n_rows))
    identity = _identity(correlation)
    factor = torch.linalg.cholesky(torch.lerp(correlation, identity, weight))
    return torch.linalg.solve_triangular(factor, identity, upper=False).T


def _evened(covariance: Tensor, n_rows: int) -> Tensor:
    """Return what brings variances that are no chance to the edge of those that are.

    Shrinkage leaves directions small that carry little next to others, however many
    rows there are.  The variances of white rows lie within ``(1 -+ sqrt(d / n))^2``
    (Marchenko and Pastur, Math. USSR-Sbornik 1 (1967) 457).
    """
    values, vectors = torch.linalg.eigh(covariance)
    share = math.sqrt(len(values) / n_rows)
    lowest, highest = max(0.0, 1 - share) ** 2, (1 + share) ** 2
    within = values.clamp(lowest, highest).clamp_min(_SMALL)
    return vectors * (within / values.clamp_min(_SMALL)).sqrt() @ vectors.T


def _symmetric_whitening(correlation: Tensor, n_rows: int, weight: float) -> Tensor:
    """Return the inverse root of the correlation, shrunk by at least ``weight``."""
    weight = max(weight, _shrinkage(correlation, n_rows))
    shrunk = torch.lerp(correlation, _identity(correlation), weight)
    values, vectors = torch.linalg.eigh(shrunk)
    return vectors * values.clamp_min(1e-6).rsqrt() @ vectors.T


_SMALL = 1e-3  # a variance below is raised as if it were this one
_SMALLEST_SHRINKAGE = 1e-4  # keeps the factor well conditioned in single precision


def _shrinkage(covariance: Tensor, n_rows: int) -> float:
    """Oracle approximating shrinkage to a multiple of the identity: its weight.

    Equation (23) of Chen et al., IEEE Trans. Signal Process. 58 (2010) 5016.
    """
    d = len(covariance)
    trace = covariance.trace()
    of_square = covariance.square().sum()
    spread = (n_rows + 1 - 2 / d) * (of_square - trace**2 / d)
    gain = (1 - 2 / d) * of_square + trace**2
    return float((gain / spread).clamp(0, 1)) if spread > 0 else 1.0


class Standardizer(nn.Module):
    """Bring each column to mean 0 and variance 1; those that are constant, to 0."""

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        plain = {"dtype": torch.float32, "device": "cpu"}
        self.register_buffer("mean", torch.zeros(n_columns, **plain))
        self.register_buffer("gain", torch.ones(n_columns, **plain))

    def fit(self, mean: Tensor, variance: Tensor) -> None:
        """Set the map by these moments."""
        self.mean.copy_(mean)
        self.gain.copy_(_inverse_scale(variance))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.gain


class NormMap(nn.Module):
    """Draw in codes whose norms vary more than those of N(0, I), by a power of them.

    Along slices norms hardly show where components are many, nor do they in batches
    that are whitened each for itself.
    """

    def __init__(self, n_components: int) -> None:
        super().__init__()
        one = torch.ones((), dtype=torch.float32, device="cpu")
        self.register_buffer("power", one)
        self.standardizer = Standardizer(n_components)

    def reset(self) -> None:
        """Leave codes as they are, until it is fitted again."""
        self.power.fill_(1)
        self.standardizer.mean.zero_()
        self.standardizer.gain.fill_(1)

    def fit_power(self, z: Tensor) -> None:
        """Set the power from codes of mean 0 and variance 1.

        With it the logarithms of squared norms vary as much as those of a chi-squared
        variable do, which is ``trigamma(d / 2)``.  But it is at most 1, so that nothing
        far out is sent further, and no less than 1/4.
        """
        law = torch.special.polygamma(1, z.new_tensor(z.shape[1] / 2))
        power = (law / _mean_square(z).log().var(correction=0)).sqrt()
        self.power.copy_(power.clamp(0.25, 1))

    def fit(self, mean: Tensor, variance: Tensor) -> None:
        """Bring what is drawn in to mean 0 and variance 1, by these moments of it."""
        self.standardizer.fit(mean, variance)

    def drawn_in(self, z: Tensor) -> Tensor:
        """Raise the norm of each code to the power."""
        return z * _mean_square(z)[:, None] ** ((self.power - 1) / 2)

    def forward(self, z: Tensor) -> Tensor:
        return self.standardizer(self.drawn_in(z))


def _mean_square(z: Tensor) -> Tensor:
    """Return the mean square of each row, neither zero nor infinite."""
    return z.square().mean(1).clamp(1e-12, torch.finfo(z.dtype).max)


class Unnormalized(nn.Module):
    """Leave outputs as they are, where something else holds them to their law."""

    def __init__(self, n_components: int) -> None:
        super().__init__()
        # Tells the type to compute in, as that of a normaliser does.
        mean = torch.zeros(n_components, dtype=torch.float32, device="cpu")
        self.register_buffer("mean", mean)

    def settle(self) -> None:
        """There are no averages to go by."""

    def forward(self, h: Tensor, n_bound: int | None = None) -> Tensor:
        return h

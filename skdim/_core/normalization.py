"""Maps from the encoder's output to codes of mean 0 and variance 1.

After training, ``Normalizer`` maps the encoder's output ``h`` (of d components) to

    S(A (h - m) / sqrt(v + 1e-5))

with the mean ``m`` and the variance ``v`` of each component of ``h``; the matrix ``A``,
which whitens, made of the correlation matrix of ``h`` shrunk towards the identity; and
``S``, which brings each component to variance 1.  All are computed from all training
rows (by ``calibration.calibrate``).  ``transport.Transport`` then brings the codes to
N(0, I), and ``_utils.distributions`` maps them to their distribution.  docs/method.md
says how each is found.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .runtime import PLAIN

__all__ = ["Normalizer", "Standardizer", "Unnormalized"]

_EPS = 1e-5  # is added to variances, as in batch norm
_SMALLEST_SHRINKAGE = 1e-4  # keeps Cholesky factors accurate in single precision
_SMALLEST_VARIANCE = 1e-3  # smaller variances are scaled as if they were this one


class Normalizer(nn.Module):
    """Bring the encoder's output to mean 0 and variance 1, and remove correlations.

    In training, codes are normalised by the moments of their batch; in evaluation, by
    the moments of all training rows that ``fit`` has set.

    Parameters
    ----------
    n_components : int
        Number of components of the code.
    shrinkage : float or None
        None whitens: in training by the correlations of each batch, and in evaluation
        by those of all training rows.  With a number from 0 to 1, training only
        standardises.  Evaluation then whitens by the correlation matrix of all training
        rows, shrunk towards the identity; the identity has this weight or more.

    Notes
    -----
    With ``shrinkage=None`` the whitening matrix is the inverse of a Cholesky factor;
    after ``fit`` it is also rescaled where variances differ from 1 by more than chance.
    Correlations are shrunk towards 0 first, the more the fewer rows there are, because
    correlations of few rows are mostly chance.  With few rows or many components,
    little more than scaling is left.
    """

    def __init__(self, n_components: int, shrinkage: float | None = None) -> None:
        super().__init__()
        self.shrinkage = shrinkage
        self.register_buffer("mean", torch.zeros(n_components, **PLAIN))
        self.register_buffer("variance", torch.ones(n_components, **PLAIN))
        self.register_buffer("matrix", torch.eye(n_components, **PLAIN))

    def forward(self, h: Tensor, n_measured: int | None = None) -> Tensor:
        """Return codes of mean 0 and variance 1 for the encoder's output.

        ``shrinkage`` decides whether they are whitened, too (see the class).

        Parameters
        ----------
        h : Tensor of shape (n_rows, n_components)
            Output of the encoder.
        n_measured : int or None
            In training, the moments are those of the first ``n_measured`` rows of
            ``h``; None takes all rows.  Pass it if ``h`` holds codes of rows followed
            by codes of views that are made differently: with moments of both, codes of
            rows could have a variance above 1 and exceed the power limit of the
            noisy channel.  Not used in evaluation.

        Returns
        -------
        codes : Tensor of shape (n_rows, n_components)
        """
        if not self.training:
            return (h - self.mean) * (self.variance + _EPS).rsqrt() @ self.matrix
        mean = h[:n_measured].mean(0)
        centered = h - mean
        variance = centered[:n_measured].square().mean(0)
        z = centered * (variance + _EPS).rsqrt()
        if self.shrinkage is not None:
            return z
        measured = z[:n_measured]
        correlation = measured.T @ measured / len(measured)
        white = z @ _whitening(correlation, len(measured))
        return white * _inverse_scale(white[:n_measured].square().mean(0))

    def inverse(self, codes: Tensor) -> Tensor:
        """Return the encoder's output that evaluation maps to ``codes``.

        Components that were constant in training become their mean.
        """
        h = codes @ torch.linalg.pinv(self.matrix)
        return h * (self.variance + _EPS).sqrt() + self.mean

    def log_det(self) -> Tensor:
        """Return the logarithm of the factor by which evaluation changes volumes.

        A tensor of shape (); -inf if a component was constant in training.
        """
        scales = (self.variance + _EPS).log().sum() / 2
        return torch.linalg.slogdet(self.matrix)[1] - scales

    def fit(self, mean: Tensor, covariance: Tensor, n_rows: int) -> None:
        """Set the moments that evaluation uses, from all training rows.

        In ``partial_fit`` they are blended with those of earlier calls.

        Parameters
        ----------
        mean : Tensor of shape (n_components,)
            Mean of the encoder's output.
        covariance : Tensor of shape (n_components, n_components)
            Covariance matrix of the encoder's output: sums of products divided by
            ``n_rows``.
        n_rows : int
            Number of rows that these moments were computed from; the fewer, the
            stronger the shrinkage.
        """
        variance = covariance.diagonal()
        self.mean.copy_(mean)
        self.variance.copy_(variance)
        scale = (variance + _EPS).rsqrt()
        correlation = scale[:, None] * covariance * scale
        if self.shrinkage is None:
            matrix = _whitening(correlation, n_rows)
            remaining = matrix.T @ correlation @ matrix
            matrix = matrix @ _rescale_beyond_chance(remaining, n_rows)
        else:
            matrix = _symmetric_whitening(correlation, n_rows, self.shrinkage)
        gain = _inverse_scale((matrix * (correlation @ matrix)).sum(0))
        self.matrix.copy_(matrix * gain)


def _inverse_scale(variance: Tensor) -> Tensor:
    """Return ``1 / sqrt(variance)`` elementwise, or 0 for variances up to 1e-5.

    A factor to standardise columns with.  Constant columns become 0, where a factor of
    ``1 / sqrt(variance)`` would magnify rounding errors.
    """
    return torch.where(variance > 1e-5, variance.clamp_min(1e-5).rsqrt(), 0)


def _identity(like: Tensor) -> Tensor:
    return torch.eye(len(like), dtype=like.dtype, device=like.device)


def _whitening(correlation: Tensor, n_rows: int) -> Tensor:
    """Return ``W`` such that rows ``z @ W`` are uncorrelated, up to shrinkage.

    ``W`` is the transposed inverse of the lower Cholesky factor of the correlation
    matrix, which is first shrunk towards the identity.

    Parameters
    ----------
    correlation : Tensor of shape (d, d)
        Correlation matrix of the rows ``z``.
    n_rows : int
        Number of rows that ``correlation`` was computed from: the fewer, the stronger
        the shrinkage.  The smallest weight is 1e-4.

    Returns
    -------
    W : Tensor of shape (d, d)
    """
    weight = max(_SMALLEST_SHRINKAGE, _shrinkage(correlation.detach(), n_rows))
    identity = _identity(correlation)
    factor = torch.linalg.cholesky(torch.lerp(correlation, identity, weight))
    return torch.linalg.solve_triangular(factor, identity, upper=False).T


def _rescale_beyond_chance(covariance: Tensor, n_rows: int) -> Tensor:
    """Return ``M`` such that rows ``z @ M`` are white up to sampling error.

    It completes a whitening with shrinkage, which leaves directions of small variance
    small, however many rows there are.  Sample variances of truly white rows lie in all
    directions between ``(1 - sqrt(d / n_rows))^2`` and ``(1 + sqrt(d / n_rows))^2``
    (Marchenko and Pastur, Math. USSR-Sbornik 1 (1967) 457).  ``M`` clips the variance
    along each eigenvector of the covariance to this range.  Variances below 1e-3 are
    scaled as if they were 1e-3.

    Parameters
    ----------
    covariance : Tensor of shape (d, d)
        Covariance matrix of the nearly white rows ``z``.
    n_rows : int
        Number of rows that ``covariance`` was computed from.

    Returns
    -------
    M : Tensor of shape (d, d)
        A symmetric matrix.
    """
    values, vectors = torch.linalg.eigh(covariance)
    share = math.sqrt(len(values) / n_rows)
    lowest, highest = max(0.0, 1 - share) ** 2, (1 + share) ** 2
    clipped = values.clamp(lowest, highest).clamp_min(_SMALLEST_VARIANCE)
    scale = (clipped / values.clamp_min(_SMALLEST_VARIANCE)).sqrt()
    return vectors * scale @ vectors.T


def _symmetric_whitening(correlation: Tensor, n_rows: int, weight: float) -> Tensor:
    """Return symmetric ``W`` such that rows ``z @ W`` are nearly uncorrelated.

    ``W`` is the inverse square root of the correlation matrix, which is first shrunk
    towards the identity.  Of all whitening matrices the symmetric one changes codes
    least.

    Parameters
    ----------
    correlation : Tensor of shape (d, d)
        Correlation matrix of the rows ``z``.
    n_rows : int
        Number of rows that ``correlation`` was computed from.
    weight : float
        Weight of the identity in the shrunk matrix, from 0 to 1.  A larger weight is
        used if ``n_rows`` calls for one (``_shrinkage``).

    Returns
    -------
    W : Tensor of shape (d, d)
    """
    weight = max(weight, _shrinkage(correlation, n_rows))
    shrunk = torch.lerp(correlation, _identity(correlation), weight)
    values, vectors = torch.linalg.eigh(shrunk)
    return vectors * values.clamp_min(1e-6).rsqrt() @ vectors.T


def _shrinkage(covariance: Tensor, n_rows: int) -> float:
    """Return the weight by which to shrink a covariance matrix towards the identity.

    The shrunk matrix is ``(1 - weight) * covariance + weight * trace / d * I``, which
    estimates the true covariance better.  The fewer the rows, the larger the weight.
    It is the oracle approximating shrinkage, equation (23) of Chen et al., IEEE Trans.
    Signal Process. 58 (2010) 5016.

    Parameters
    ----------
    covariance : Tensor of shape (d, d)
        Sample covariance or correlation matrix.
    n_rows : int
        Number of rows that ``covariance`` was computed from.

    Returns
    -------
    weight : float
        Weight of the identity, from 0 to 1.
    """
    d = len(covariance)
    trace = covariance.trace()
    of_square = covariance.square().sum()
    spread = (n_rows + 1 - 2 / d) * (of_square - trace**2 / d)
    gain = (1 - 2 / d) * of_square + trace**2
    return float((gain / spread).clamp(0, 1)) if spread > 0 else 1.0


class Standardizer(nn.Module):
    """Bring each column to mean 0 and variance 1; constant columns become 0.

    ``forward(x)`` returns ``(x - mean) * inverse_scale``, in the shape of ``x``.  Used
    for the layer below the code and, as base of ``InputLayer``, for inputs.  Until
    moments are set, it returns ``x`` unchanged.

    Parameters
    ----------
    *shape : int
        Shape of the stored mean and scale, which broadcast against ``x``.  For a table
        it is one integer, the number of columns.
    dtype : torch.dtype, default=torch.float32
        Type in which mean and scale are stored.
    """

    def __init__(self, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        plain = {"dtype": dtype, "device": "cpu"}
        self.register_buffer("mean", torch.zeros(shape, **plain))
        self.register_buffer("inverse_scale", torch.ones(shape, **plain))

    def reset(self) -> None:
        """Make ``forward`` return its argument unchanged, as before any fit."""
        self.mean.zero_()
        self.inverse_scale.fill_(1)

    def fit_moments(self, mean: Tensor, variance: Tensor) -> None:
        """Set the mean and the variance that ``forward`` brings to 0 and 1.

        Parameters
        ----------
        mean, variance : Tensor of the stored shape
            Moments of each column.  A column of variance up to 1e-5 counts as
            constant: ``forward`` turns it into zeros.
        """
        self.mean.copy_(mean)
        self.inverse_scale.copy_(_inverse_scale(variance))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.inverse_scale


class Unnormalized(nn.Module):
    """Take the place of a ``Normalizer``, but do not normalise.

    ``forward(h, n_measured=None)`` returns ``h``, the output of the encoder, as codes.
    For ``DeepInfoMax``, whose discriminator matches this output to the prior.

    Parameters
    ----------
    n_components : int
        Number of components of the code.
    """

    def __init__(self, n_components: int) -> None:
        super().__init__()
        # Holds the data type to compute in, as the mean of a Normalizer does.
        self.register_buffer("mean", torch.zeros(n_components, **PLAIN))

    def forward(self, h: Tensor, n_measured: int | None = None) -> Tensor:
        return h

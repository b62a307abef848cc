"""Tests of multivariate normality by characteristic functions, with p-values.

They decide whether a sample can come from its target distribution.
"""

import warnings
from numbers import Real
from typing import NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from . import nulls
from .samples import check_count, check_sample, normal_sample, rows_within_range

__all__ = ["NormalityResult", "bhep_test", "henze_zirkler_test"]

_ENTRIES_AT_ONCE = 2**20  # of the matrix of pairs: 8 MiB
_BETA = 0.01, 100  # beyond, rounding errors dominate for any number of components
# Largest factor by which a ``beta`` may raise the number of rows that the test needs to
# see a scale that is 1.3 times too large.
_MOST_ROWS_LOST = 4
# The approximate null distributions hold while close pairs of rows add no more than
# this to the skewness.  Beyond, true samples have p <= 0.001 too often, by simulation.
_LARGEST_SKEWNESS_OF_PAIRS = 0.5


class NormalityResult(NamedTuple):
    """Result of a test of normality.

    Attributes
    ----------
    statistic : float
        Value of the test statistic; the larger, the farther from normal.
    pvalue : float
        Probability, for a normal sample, of a statistic at least this large.
    """

    statistic: float
    pvalue: float


def bhep_test(
    Z, output_distribution="normal", *, beta=None, n_resamples=None, random_state=0
):
    r"""Test whether a sample follows its target distribution (BHEP test).

    The null hypothesis is N(0, I), with no parameter estimated.  The statistic of
    Baringhaus, Henze, Epps and Pulley is
    :math:`n \int |\phi_n(t) - e^{-|t|^2/2}|^2 w(t)\,dt`, where :math:`\phi_n` is the
    empirical characteristic function and w the density of N(0, beta^2 I).  It is
    computed in closed form.  The test is consistent: with enough rows it detects any
    departure, in means, scales, shapes or dependence.  A sample for any other target
    distribution is first mapped to N(0, 1), component by component.

    The p-value approximates the distribution of the statistic under the null hypothesis
    by a Pearson type III (shifted gamma) distribution.  Mean, variance and skewness of
    this distribution are exact for every number of rows and components.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as the output of ``transform`` for held-out rows; at least two
        rows.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Target distribution.  The components are independent, and each follows N(0, 1)
        ("normal"), U[0, 1] ("uniform"), or the given continuous distribution of
        scipy.stats, whose parameters must be frozen.
    beta : float, default=None
        Standard deviation of the weight w, from 0.01 to 100.  Small values emphasise
        means and covariances, large ones local detail.  None is
        ``2 / sqrt(n_components)``, which matches typical distances between rows in any
        dimension.  The test is blind to a wrong scale with a value that is far from it.
        A value with which it needs more than 4 times as many rows to see a scale of 1.3
        is an error; 0.3 to 1.75 times the default never is.
    n_resamples : int, default=None
        Number of random samples from N(0, I) of the same shape.  The statistic of Z is
        compared with their statistics, which gives an exact p-value of at least
        ``1 / (1 + n_resamples)``.  None uses the Pearson type III approximation.  It
        holds for all shapes with the default ``beta``, but not for few rows of many
        components with a larger one; a warning is issued then.
    random_state : int, RandomState instance or None, default=0
        Determines the random samples; not used if ``n_resamples`` is None.

    Returns
    -------
    result : NormalityResult
        With ``statistic`` and ``pvalue``.  A small p-value is evidence against the
        target distribution.

    Raises
    ------
    ValueError
        If Z is not an array of finite numbers of that shape, has too few rows, or a
        parameter is invalid.

    Warns
    -----
    UserWarning
        If the approximation does not hold for this shape and ``beta``.

    See Also
    --------
    henze_zirkler_test : Tests for normality with *any* mean and covariance.

    Notes
    -----
    Learned codes are never exactly normal, and with enough rows every test rejects.  A
    p-value tells whether a departure is visible; a distance tells how large it is.
    Time grows with the square of the number of rows, memory does not.

    References
    ----------
    Baringhaus and Henze, "A consistent test for multivariate normality based on the
    empirical characteristic function", Metrika 35, 1988. Ebner and Henze, "Tests for
    multivariate normality: a critical review", TEST 29, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import bhep_test
    >>> Z = np.random.default_rng(0).normal(size=(500, 3))
    >>> bhep_test(Z).pvalue > 0.05, bhep_test(Z + 0.2).pvalue > 0.05
    (True, False)
    """
    Z = rows_within_range(normal_sample(Z, output_distribution, min_rows=2))
    n_samples, n_components = Z.shape
    if beta is None:
        shape = n_samples, n_components, 2 / n_components**0.5
    else:
        shape = n_samples, n_components, _checked_beta(beta, n_components)
    statistic = _statistic(Z, shape[-1])
    if n_resamples is not None:
        return _resampled(statistic, shape, n_resamples, random_state, whiten=False)
    if beta is not None:
        _warn_of_approximation("BHEP", shape, nulls.skewness_of_pairs(*shape))
    return NormalityResult(statistic, float(nulls.bhep_null(*shape).sf(statistic)))


def _checked_beta(beta, n_components):
    """Return the ``beta`` of ``bhep_test`` as a float, or raise ValueError.

    It must be in its range, and let the test see a wrong scale of ``n_components``
    components.
    """
    if not (isinstance(beta, Real) and _BETA[0] <= beta <= _BETA[1]):
        raise ValueError(
            f"The 'beta' parameter must be a number from {_BETA[0]} to {_BETA[1]}, but "
            f"got {beta!r}; leave it at None for a choice by the number of components."
        )
    default = 2 / n_components**0.5
    share = nulls.bhep_sensitivity(n_components, float(beta))
    share /= nulls.bhep_sensitivity(n_components, default)
    if share < 1 / _MOST_ROWS_LOST:
        raise ValueError(
            f"The 'beta' parameter must let the test see samples of a wrong scale, but "
            f"got {beta!r}, with which it is nearly blind to the scale of "
            f"{n_components} components; pass a value nearer to {default:.3g}, or "
            f"leave it at None."
        )
    return float(beta)


def _resampled(statistic, shape, n_resamples, random_state, *, whiten):
    """Return the result of a test that compares with the statistics of true samples.

    Parameters
    ----------
    statistic : float
        The statistic of the sample that is tested.
    shape : tuple of int, int and float
        Its numbers of rows and of columns, and the ``beta`` of its statistic.
    n_resamples : int
        Number of samples from N(0, I).
    random_state : int, RandomState instance or None
        Determines them.
    whiten : bool
        Whether their means and covariances are made those of N(0, I) first.

    Returns
    -------
    result : NormalityResult
    """
    check_count("n_resamples", n_resamples)
    rng = check_random_state(random_state)
    *size, beta = shape
    n_above = 0
    for _ in range(n_resamples):
        draw = rng.normal(size=size)
        n_above += _statistic(_whitened(draw) if whiten else draw, beta) >= statistic
    return NormalityResult(statistic, (1 + n_above) / (1 + n_resamples))


def henze_zirkler_test(
    Z, output_distribution="normal", *, n_resamples=None, random_state=0
):
    """Test whether a sample is normal with any mean and covariance (Henze-Zirkler).

    The sample is centred and whitened with its own moments, then compared with N(0, I).
    The test therefore ignores a wrong mean, scale or correlation and responds to the
    shape.  Together with ``bhep_test`` it tells *why* a sample deviates: if only
    ``bhep_test`` rejects, an affine map would correct the sample.  A sample for any
    other target distribution is first mapped to N(0, 1), component by component.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as the output of ``transform`` for held-out rows; at least two
        more rows than components.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Target distribution.  The components are independent, and each follows N(0, 1)
        ("normal"), U[0, 1] ("uniform"), or the given continuous distribution of
        scipy.stats, whose parameters must be frozen.
    n_resamples : int, default=None
        Number of random normal samples of the same shape.  The statistic of Z is
        compared with their statistics, which gives an exact p-value of at least
        ``1 / (1 + n_resamples)``.  None approximates the distribution of the statistic
        under the null hypothesis by a Pearson type III (shifted gamma) distribution of
        exact mean and variance.  It does not hold for few rows of many components:
        fewer than 20 rows of 8 components, 130 of 16, 300 of 20, 3,300 of 32, or any
        number of 64.  A warning is issued then.
    random_state : int, RandomState instance or None, default=0
        Determines the random samples; not used if ``n_resamples`` is None.

    Returns
    -------
    result : NormalityResult
        With ``statistic`` and ``pvalue``.  A small p-value is evidence against
        normality.

    Raises
    ------
    ValueError
        If Z is not an array of finite numbers of that shape, has too few rows or a
        singular covariance, or a parameter is invalid.

    Warns
    -----
    UserWarning
        If the approximation does not hold for a sample of this shape.

    Notes
    -----
    In many components the kernel of the statistic vanishes for all but the closest
    pairs of rows, and the test loses its power.  ``bhep_test`` does not.

    References
    ----------
    Henze and Zirkler, "A class of invariant consistent tests for multivariate
    normality", Communications in Statistics: Theory and Methods 19, 1990.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import henze_zirkler_test
    >>> Z = np.random.default_rng(0).normal(size=(500, 3))
    >>> henze_zirkler_test(5 * Z + 1).pvalue > 0.05
    True
    >>> henze_zirkler_test(np.exp(Z)).pvalue > 0.05
    False
    """
    Z = normal_sample(Z, output_distribution)
    Z = _whitened(check_sample(Z, min_rows=Z.shape[1] + 2))
    n_samples, n_components = Z.shape
    exponent = 1 / (n_components + 4)
    beta = ((2 * n_components + 1) * n_samples / 4) ** exponent / 2**0.5
    shape = n_samples, n_components, beta
    statistic = _statistic(Z, beta)
    if n_resamples is not None:
        return _resampled(statistic, shape, n_resamples, random_state, whiten=True)
    null, skewness = nulls.henze_zirkler_null(*shape)
    _warn_of_approximation("Henze-Zirkler", shape, skewness)
    return NormalityResult(statistic, float(null.sf(statistic)))


def _warn_of_approximation(name, shape, skewness):
    """Warn if the approximate p-value of the test ``name`` is wrong for this shape.

    ``shape`` holds the numbers of rows and of columns, and ``beta``.  ``skewness`` is
    what close pairs of rows add to the skewness of the statistic.
    """
    if skewness <= _LARGEST_SKEWNESS_OF_PAIRS:  # False if it could not be computed
        return
    warnings.warn(
        f"The approximate p-value of the {name} test does not hold for {shape[0]} rows "
        f"of {shape[1]} components with beta={shape[2]:.3g}; pass 'n_resamples', such "
        f"as 199, for an exact one.",
        stacklevel=3,
    )


def _whitened(Z):
    """Return the sample Z, mapped by an affine map to mean 0 and covariance I.

    Z and the result have the shape (n_samples, n_components); covariances are sums of
    products divided by ``n_samples``.  The columns of the result are the principal
    components of Z, each scaled to variance 1.  ValueError is raised if the covariance
    is singular.
    """
    # Columns in units of their range, so that huge and tiny ones are no problem.
    low, high = Z.min(axis=0) / 2, Z.max(axis=0) / 2
    Z = (Z / 2 - low) / np.where(high > low, high - low, 1)
    left, values, _ = np.linalg.svd(Z - Z.mean(axis=0), full_matrices=False)
    if values[-1] <= values[0] * len(Z) * np.finfo(np.float64).eps:
        raise ValueError(
            f"Z must have a covariance of full rank {Z.shape[1]}, but got components "
            f"that are constant or linear in the others; leave them out."
        )
    return left * len(Z) ** 0.5


def _statistic(Z, beta):
    """Return the BHEP statistic of the rows of Z for the null hypothesis N(0, I).

    Z has the shape (n_samples, n_components).  ``beta`` is the standard deviation of
    the weight in the integral of ``bhep_test``.  The result is a float, 0 or above
    except for rounding errors.
    """
    n_samples, n_components = Z.shape
    squares = np.square(Z).sum(axis=1)
    wider = 1 + beta**2
    to_normal = np.exp(-(beta**2) / (2 * wider) * squares).sum()
    return float(
        _sum_over_pairs(Z, beta) / n_samples
        - 2 * wider ** (-n_components / 2) * to_normal
        + n_samples * (1 + 2 * beta**2) ** (-n_components / 2)
    )


def _sum_over_pairs(Z, beta):
    """Return the sum of ``exp(-beta^2 |z_i - z_j|^2 / 2)`` over all i and j.

    Z has the shape (n_samples, n_components).  The sum is computed in blocks, so that
    memory does not grow with the square of ``n_samples``.
    """
    n_rows = max(1, _ENTRIES_AT_ONCE // len(Z))  # a block of pairs at a time
    Z = Z - np.median(Z, axis=0)  # far from 0, differences of squares would be inexact
    squares = np.square(Z).sum(axis=1)
    total = 0.0
    for start in range(0, len(Z), n_rows):
        rows = slice(start, start + n_rows)
        distances = squares[rows, None] + squares - 2 * Z[rows] @ Z.T
        np.fill_diagonal(distances[:, start:], 0)  # which rounding errors could change
        total += np.exp(-(beta**2) / 2 * distances.clip(min=0)).sum()
    return total

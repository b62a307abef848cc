"""Tests of multivariate normality by characteristic functions, with p-values.

They decide whether a sample can come from its target distribution.
"""

import warnings
from itertools import pairwise
from numbers import Real
from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn.utils import check_random_state

from .samples import check_count, check_sample, normal_sample

__all__ = ["NormalityResult", "bhep_test", "henze_zirkler_test"]

_ENTRIES_AT_ONCE = 2**20  # of the matrix of pairs: 8 MiB
# Range of ``beta``.  Below it rounding errors dominate, above it the kernel vanishes.
_BETA = 0.01, 100


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


def bhep_test(Z, output_distribution="normal", *, beta=None):
    r"""Test whether a sample follows its target distribution (BHEP test).

    The null hypothesis is N(0, I), with no parameter estimated.  The statistic of
    Baringhaus, Henze, Epps and Pulley is
    :math:`n \int |\phi_n(t) - e^{-|t|^2/2}|^2 w(t)\,dt`, where :math:`\phi_n` is the
    empirical characteristic function and w the density of N(0, beta^2 I).  It is
    computed in closed form.  The test is consistent: with enough rows it detects any
    departure, in means, scales, shapes or dependence.  A sample for any other target
    distribution is first mapped to N(0, 1), component by component.

    The p-value approximates the distribution of the statistic under the null hypothesis
    by a Pearson type III (shifted gamma) distribution.  Mean and variance of this
    distribution are exact for every number of rows; its third cumulant is the limit for
    many rows.

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
        dimension.

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
    Z = normal_sample(Z, output_distribution, min_rows=2)
    beta = 2 / Z.shape[1] ** 0.5 if beta is None else beta
    if not (isinstance(beta, Real) and _BETA[0] <= beta <= _BETA[1]):
        raise ValueError(
            f"The 'beta' parameter must be a number from {_BETA[0]} to {_BETA[1]}, but "
            f"got {beta!r}; leave it at None for a choice by the number of components."
        )
    statistic = _statistic(Z, beta)
    mean, variance, third = _null_cumulants(*Z.shape, beta)
    deviation = variance**0.5
    null = stats.pearson3(third / deviation**3, loc=mean, scale=deviation)
    return NormalityResult(statistic, float(null.sf(statistic)))


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
        The sample, such as the output of ``transform`` for held-out rows; more rows
        than components.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Target distribution.  The components are independent, and each follows N(0, 1)
        ("normal"), U[0, 1] ("uniform"), or the given continuous distribution of
        scipy.stats, whose parameters must be frozen.
    n_resamples : int, default=None
        Number of random normal samples of the same shape.  The statistic of Z is
        compared with their statistics, which gives an exact p-value of at least
        ``1 / (1 + n_resamples)``.  None uses the log-normal approximation of Henze and
        Zirkler instead.  It holds for at most 16 components and at least 10 rows for
        each of them; otherwise its p-values are wrong, and a warning is issued.
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
    Z = _whitened(check_sample(Z, min_rows=Z.shape[1] + 1))
    n_samples, n_components = Z.shape
    exponent = 1 / (n_components + 4)
    beta = ((2 * n_components + 1) * n_samples / 4) ** exponent / 2**0.5
    statistic = _statistic(Z, beta)
    if n_resamples is None:
        _warn_of_approximation(n_samples, n_components)
        null = _henze_zirkler_null(n_components, beta)
        return NormalityResult(statistic, float(null.sf(statistic)))
    check_count("n_resamples", n_resamples)
    rng = check_random_state(random_state)
    draws = (_whitened(rng.normal(size=Z.shape)) for _ in range(n_resamples))
    n_above = sum(_statistic(draw, beta) >= statistic for draw in draws)
    return NormalityResult(statistic, (1 + n_above) / (1 + n_resamples))


def _warn_of_approximation(n_samples, n_components):
    """Warn if the log-normal p-value of ``henze_zirkler_test`` is wrong for this shape.

    It is wrong above 16 components, or with fewer than 10 rows for each component.
    """
    if n_components <= 16 and n_samples >= 10 * n_components:
        return
    warnings.warn(
        f"The approximate p-value of the Henze-Zirkler test does not hold for "
        f"{n_samples} rows of {n_components} components; pass 'n_resamples', such as "
        f"199, for an exact one.",
        stacklevel=3,
    )


def _whitened(Z):
    """Return the sample Z, mapped by an affine map to mean 0 and covariance I.

    Z and the result have the shape (n_samples, n_components); covariances are sums of
    products divided by ``n_samples``.  The columns of the result are the principal
    components of Z, each scaled to variance 1.  ValueError is raised if the covariance
    is singular.
    """
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
        _sum_over_pairs(Z, squares, beta) / n_samples
        - 2 * wider ** (-n_components / 2) * to_normal
        + n_samples * (1 + 2 * beta**2) ** (-n_components / 2)
    )


def _sum_over_pairs(Z, squares, beta):
    """Return the sum of ``exp(-beta^2 |z_i - z_j|^2 / 2)`` over all i and j.

    Z has the shape (n_samples, n_components), and ``squares`` holds the squared norm of
    each row, of shape (n_samples,).  The sum is computed in blocks, so that memory does
    not grow with the square of ``n_samples``.
    """
    n_rows = max(1, _ENTRIES_AT_ONCE // len(Z))  # a block of pairs at a time
    total = 0.0
    for start in range(0, len(Z), n_rows):
        rows = slice(start, start + n_rows)
        distances = squares[rows, None] + squares - 2 * Z[rows] @ Z.T
        total += np.exp(-(beta**2) / 2 * distances.clip(min=0)).sum()
    return total


def _null_cumulants(n_samples, n_components, beta):
    """Return mean, variance and third cumulant of ``_statistic`` for rows from N(0, I).

    These three floats determine the p-value of ``bhep_test``.  Mean and variance are
    exact, the third cumulant is the limit for many rows.  The statistic is
    ``n_samples`` times the mean over all i and j of the kernel
    ``exp(-beta^2 |z_i - z_j|^2 / 2)``, centred so that its expectation over either
    argument under N(0, I) is 0.  The cumulants are sums of expected products of
    kernels; these expectations are Gaussian integrals, known in closed form.
    """

    def expected(*edges):
        """Return the expected product of kernels, one for each of some pairs of rows.

        Each edge is a pair (i, j) of row numbers from 0 to 3, with the kernel of rows i
        and j.  The rows are independent and follow N(0, I); the kernels are not
        centred.
        """
        laplacian = np.zeros((4, 4))
        for i, j in edges:
            laplacian[[i, j], [i, j]] += 1
            laplacian[[i, j], [j, i]] -= 1
        determinant = np.linalg.det(np.eye(4) + beta**2 * laplacian)
        return determinant ** (-n_components / 2)

    path1, path2, path3 = (expected(*pairwise(range(k))) for k in (2, 3, 4))
    double, triangle = expected((0, 1), (0, 1)), expected((0, 1), (1, 2), (2, 0))
    square = double - 2 * path2 + path1**2
    own = 4 * (path2 - path1**2)
    variance = own / n_samples + 2 * (1 - 1 / n_samples) * square
    third = 8 * (triangle - 3 * path3 + 3 * path1 * path2 - path1**3)
    return 1 - path1, variance, third


def _henze_zirkler_null(n_components, beta):
    """Return the approximate null distribution of the Henze-Zirkler statistic.

    It is a frozen log-normal distribution of scipy.  Its mean and variance are those
    which Henze and Zirkler give for the statistic of normal samples, with this number
    of components and this ``beta`` (see ``_statistic``).
    """
    d, b2 = n_components, beta**2
    a, w = 1 + 2 * b2, (1 + b2) * (1 + 3 * b2)
    pairs = d * (d + 2)
    mean = 1 - a ** (-d / 2) * (1 + d * b2 / a + pairs * b2**2 / (2 * a**2))
    variance = (
        2 * (1 + 4 * b2) ** (-d / 2)
        + 2 * a**-d * (1 + 2 * d * b2**2 / a**2 + 3 * pairs * b2**4 / (4 * a**4))
        - 4 * w ** (-d / 2) * (1 + 3 * d * b2**2 / (2 * w) + pairs * b2**4 / (2 * w**2))
    )
    log_variance = np.log1p(variance / mean**2)
    scale = mean * np.exp(-log_variance / 2)
    return stats.lognorm(log_variance**0.5, scale=scale)

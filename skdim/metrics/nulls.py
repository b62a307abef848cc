"""Null distributions of the statistics in ``normality``: which values chance explains.

Both statistics have the form of ``bhep_test``.  Their null distributions have no closed
form, so they are approximated by Pearson type III (shifted gamma) distributions of the
same mean, variance and skewness.  A row is called z here, and its kernel with another
row is ``exp(-beta^2 |z_i - z_j|^2 / 2)``.
"""

from functools import lru_cache
from itertools import product

import numpy as np
from scipy import stats

__all__ = ["bhep_null", "bhep_sensitivity", "henze_zirkler_null", "skewness_of_pairs"]

# Number of nodes of a quadrature rule: exact to 1e-12 for up to 100,000 rows.
_N_NODES = 96


def bhep_null(n_samples, n_components, beta):
    """Return the null distribution of the statistic of ``bhep_test``.

    Its mean, variance and skewness are exact for every number of rows.

    Parameters
    ----------
    n_samples, n_components : int
        Shape of the sample, whose rows follow N(0, I).
    beta : float
        Standard deviation of the weight in the integral of ``bhep_test``.

    Returns
    -------
    null : frozen distribution of scipy.stats
    """
    mean, variance, third = bhep_cumulants(n_samples, n_components, beta)
    return _pearson3(mean, variance, third / variance**1.5)


def _pearson3(mean, variance, skewness):
    """Return the Pearson type III distribution with these three moments, frozen."""
    return stats.pearson3(skewness, loc=mean, scale=variance**0.5)


@lru_cache  # takes milliseconds, and a program asks many times for few shapes
def bhep_cumulants(n_samples, n_components, beta):
    """Return mean, variance and third cumulant of the statistic of ``bhep_test``.

    The statistic is ``n_samples`` times the mean over all i and j of the centred
    kernel, whose expectation over either argument under N(0, I) is 0.  So a product of
    centred kernels has an expectation other than 0 only if each of its rows occurs
    twice or more.  Few kinds of products are left, and the expectation of each is a sum
    of Gaussian integrals, known in closed form.

    Parameters
    ----------
    n_samples : int or float
        Number of rows; infinity gives the limit.
    n_components : int
        Number of columns.
    beta : float
        Standard deviation of the weight in the integral of ``bhep_test``.

    Returns
    -------
    mean, variance, third : float
        Exact for every number of rows.
    """

    def pair(i, j):
        """Return the terms of the centred kernel of rows i and j; None is a new row."""
        return (1, (i, j)), (-1, (i, None)), (-1, (j, None)), (1, (None, None))

    def own(i):
        """Return the terms of the kernel of a row with itself, less its expectation."""
        return (-2, (i, None)), (2, (None, None))

    def expected(*factors):
        """Return the expectation of a product of such sums of terms."""
        size, total = 3 + 2 * len(factors), 0.0
        for terms in product(*factors):
            laplacian, n_rows, sign = np.zeros((size, size)), 3, 1
            for factor, rows in terms:
                edge = np.zeros(size)
                for row, end in zip(rows, (1, -1), strict=True):
                    edge[n_rows if row is None else row] = end
                    n_rows += row is None
                laplacian += np.outer(edge, edge)
                sign *= factor
            determinant = np.linalg.det(np.eye(size) + beta**2 * laplacian)
            total += sign * determinant ** (-n_components / 2)
        return total

    one, two, share = own(0), pair(0, 1), 1 / n_samples
    mean = 1 - (1 + 2 * beta**2) ** (-n_components / 2)
    variance = share * expected(one, one) + 2 * (1 - share) * expected(two, two)
    clumps = (
        6 * expected(one, own(1), two)
        + 12 * expected(one, two, two)
        + 4 * expected(two, two, two)
    )
    triangles = 8 * (1 - 2 * share) * expected(two, pair(1, 2), pair(2, 0))
    third = share**2 * expected(one, one, one)
    third += (1 - share) * (share * clumps + triangles)
    return mean, variance, third


def skewness_of_pairs(n_samples, n_components, beta):
    """Return how much close pairs of rows add to the skewness of the BHEP statistic.

    With a large ``beta`` in many components, only pairs of rows that are close by
    chance have a kernel above 0.  Such pairs are rare, so the statistic is almost a
    count of them, which no gamma distribution describes.  The skewness exceeds that of
    infinitely many rows then.  The approximation holds up to an excess of about 0.5.

    Parameters
    ----------
    n_samples, n_components : int
        Shape of the sample, whose rows follow N(0, I).
    beta : float
        Standard deviation of the weight in the integral of ``bhep_test``.

    Returns
    -------
    excess : float
        Skewness, less that of infinitely many rows; infinite if the variance is 0.
    """
    skewness = []
    for n in (n_samples, np.inf):
        _, variance, third = bhep_cumulants(n, n_components, beta)
        skewness.append(third / variance**1.5 if variance > 0 else np.inf)
    return skewness[0] - skewness[1] if np.isfinite(skewness).all() else np.inf


def bhep_sensitivity(n_components, beta):
    """Return how well the BHEP statistic sees that rows follow N(0, 1.3^2 I).

    Parameters
    ----------
    n_components : int
        Number of columns.
    beta : float
        Standard deviation of the weight in the integral of ``bhep_test``.

    Returns
    -------
    sensitivity : float
        Increase of the statistic for each row, in standard deviations of the null
        distribution for many rows.  The number of rows that the test needs is inversely
        proportional to it.  It is 0 if these numbers are too small to be computed.
    """
    square, wider = beta**2, 1.3**2
    power = -n_components / 2
    increase = (
        (1 + 2 * square * wider) ** power
        - 2 * (1 + square * (1 + wider)) ** power
        + (1 + 2 * square) ** power
    )
    _, variance, _ = bhep_cumulants(np.inf, n_components, beta)
    return increase / variance**0.5 if variance > 0 else 0.0


@lru_cache  # takes a tenth of a second
def henze_zirkler_null(n_samples, n_components, beta):
    """Return the null distribution of the statistic of ``henze_zirkler_test``.

    Its mean and variance are exact for every number of rows.  Its skewness is that for
    infinitely many rows, plus a part for pairs of rows that are close by chance.  This
    part is the skewness of the kernels of single pairs, reduced by the square of the
    share of their variance that is left once mean and covariance are estimated.  The
    form of this reduction was found by simulation.

    Parameters
    ----------
    n_samples, n_components : int
        Shape of the sample, whose rows follow any normal distribution; at least two
        more rows than components.
    beta : float
        Standard deviation of the weight in the integral of ``bhep_test``.

    Returns
    -------
    null : frozen distribution of scipy.stats
    of_pairs : float
        The part of its skewness for close pairs.  The approximation holds up to 0.5.
    """
    mean, variance, pairs = _whitened_moments(n_samples, n_components, beta)
    _, limit, third = _limit_cumulants(n_components, beta)
    one, two, three = pairs  # moments of the kernel of a pair
    spread = max(two - one**2, np.finfo(float).tiny)
    clumps = 4 * (1 - 1 / n_samples) / n_samples * (three - 3 * two * one + 2 * one**3)
    share = variance / (2 * spread)
    with np.errstate(all="ignore"):  # of several hundred components, all moments vanish
        of_pairs = np.float64(clumps * share**2) / variance**1.5
        skewness = np.nan_to_num(third / np.float64(limit) ** 1.5 + of_pairs, nan=0.0)
    variance = max(variance, np.finfo(float).tiny)
    return _pearson3(mean, variance, min(skewness, 100.0)), of_pairs


def _whitened_moments(n_samples, n_components, beta):
    """Return moments of the Henze-Zirkler statistic of a normal sample.

    The rows of a whitened sample, divided by ``sqrt(n_samples)``, are a uniformly
    distributed matrix U with orthonormal columns of mean 0.  Distances between rows,
    and of rows from the mean, are ``|U' v|`` with fixed vectors v.  So products of
    kernels are ``exp(-sum_k w_k |U' v_k|^2)``, and ``_expected_exponential`` gives
    their expectation.

    Parameters
    ----------
    n_samples, n_components : int
        Shape of the sample; at least two more rows than components.
    beta : float
        Standard deviation of the weight in the integral of ``bhep_test``.

    Returns
    -------
    mean, variance : float
        Of the statistic; exact.
    pairs : tuple of float
        The first three moments of the kernel of two rows; exact.
    """
    n, square = n_samples, beta**2
    rule = _orthonormal_rule(n, n_components)
    rows, products = np.eye(4), np.eye(4) - 1 / n  # of the vectors, less their means

    def pair(i, j):
        """Return v of the distance of two rows, times the root of its weight."""
        return (square / 2 * n) ** 0.5 * (rows[i] - rows[j])

    def one(i):
        """Return v of the distance of a row from the mean, times that root."""
        return (square / (2 * (1 + square)) * n) ** 0.5 * rows[i]

    def expected(*vectors):
        """Return the expectation of a product of kernels, one for each vector."""
        weights = np.linalg.eigvalsh(vectors @ products @ np.transpose(vectors))
        return _expected_exponential(weights[-1], weights[:-1].sum(), rule)

    n_pairs, kernel, to_normal = n * (n - 1), expected(pair(0, 1)), expected(one(0))
    both = 2 * expected(pair(0, 1), pair(0, 1))
    both += 4 * (n - 2) * expected(pair(0, 1), pair(0, 2))
    both += (n - 2) * (n - 3) * expected(pair(0, 1), pair(2, 3)) - n_pairs * kernel**2
    mixed = 2 * expected(pair(0, 1), one(0)) + (n - 2) * expected(pair(0, 1), one(2))
    mixed -= n * kernel * to_normal
    normal = expected(one(0), one(0)) + (n - 1) * expected(one(0), one(1))
    normal -= n * to_normal**2
    factor = (1 + square) ** (-n_components / 2)
    variance = (1 - 1 / n) * both + 4 * factor * (n * factor * normal - (n - 1) * mixed)
    mean = 1 + (n - 1) * kernel - 2 * n * factor * to_normal
    mean += n * (1 + 2 * square) ** (-n_components / 2)
    pairs = tuple(expected(*[pair(0, 1)] * k) for k in (1, 2, 3))
    return mean, variance, pairs


def _orthonormal_rule(n_samples, n_components):
    """Return the nodes and weights for ``_expected_exponential``.

    U is a uniformly distributed matrix with ``n_components`` orthonormal columns of
    mean 0 and ``n_samples`` rows.  For orthogonal unit vectors v and w of mean 0, the
    squared length of ``U' v`` is a number p, and that of ``U' w`` is ``q (1 - p c)``.
    The numbers p, q and c are independent and follow beta distributions.

    Returns
    -------
    rule : list of tuple of ndarray
        Nodes and weights of p, q and c, in this order.
    """
    half, rest = n_components / 2, (n_samples - 1 - n_components) / 2
    return [
        _beta_rule(a, b)
        for a, b in ((half, rest), (half, rest - 0.5), (0.5, half - 0.5))
    ]


def _beta_rule(a, b):
    """Return nodes and weights of a quadrature rule for the Beta(a, b) distribution.

    ``a`` and ``b`` are multiples of 1/2; b may be 0, which puts all weight on 1.  With
    the square of a sine as variable, the density has no singularity.  The nodes cover
    where it is not negligible.
    """
    if b == 0:
        return np.ones(1), np.ones(1)

    def log_density(angles):
        return (2 * a - 1) * np.log(np.sin(angles)) + (2 * b - 1) * np.log(
            np.cos(angles)
        )

    angles = np.linspace(0, np.pi / 2, 20002)[1:-1]
    values = log_density(angles)
    found = angles[values > values.max() - 50]
    step = angles[0]
    low, high = max(found[0] - step, 0.0), min(found[-1] + step, np.pi / 2)
    nodes, weights = np.polynomial.legendre.leggauss(_N_NODES)
    nodes = low + (nodes + 1) / 2 * (high - low)
    weights = weights * np.exp(log_density(nodes) - values.max())
    return np.sin(nodes) ** 2, weights / weights.sum()


def _expected_exponential(first, second, rule):
    """Return the expectation of ``exp(-first |U'v|^2 - second |U'w|^2)``.

    U is the random matrix of ``_orthonormal_rule``, v and w are orthogonal unit vectors
    of mean 0, and ``rule`` holds the nodes and weights of p, q and c there.
    """
    (p, of_p), (q, of_q), (c, of_c) = rule
    of_p = of_p * np.exp(-first * p)
    if second <= 1e-12 * first:
        return of_p.sum()
    shrink = 1 - p[:, None] * c  # of shape (n_p, n_c)
    given = np.exp(-second * shrink[..., None] * q) @ of_q
    return of_p @ given @ of_c


def _limit_cumulants(n_components, beta):
    """Return the cumulants of the Henze-Zirkler statistic of infinitely many rows.

    The limit of the statistic is the integral of the square of a Gaussian process with
    covariance ``g(s, t) (exp(s.t) - 1 - s.t - (s.t)^2 / 2)`` and
    ``g(s, t) = exp(-(|s|^2 + |t|^2) / 2)``, under the weight N(0, beta^2 I) (Henze and
    Zirkler).  Its cumulants are traces of powers of this covariance.  With
    ``exp(a s.t)`` for a covariance they are a determinant of these a.  The covariance
    itself is the value for a = 1, less the terms of order 0 to 2 of the Taylor series
    at a = 0, which a mean over a circle of complex a gives.

    Returns
    -------
    mean, variance, third : float
    """
    circle = 0.2 * np.exp(2j * np.pi * np.arange(24) / 24)
    nodes = np.append(1, circle)
    weights = np.append(1, -sum(circle**-k for k in range(3)) / len(circle))
    own = 2 + beta**-2  # in units of beta^2, as each point has two factors of g

    def trace(power, determinant):
        grid = np.array(np.meshgrid(*[nodes] * power, indexing="ij"))
        values = (beta ** (2 * power) * determinant(grid)) ** (-n_components / 2)
        for _ in range(power):
            values = weights @ values
        return values.real

    return (
        trace(1, lambda a: own - 2 * a[0]),
        2 * trace(2, lambda a: own**2 - (a[0] + a[1]) ** 2),
        8 * trace(3, lambda a: own**3 - own * (a**2).sum(0) - 2 * a.prod(0)),
    )

"""Distances of a sample from its target distribution, by projections or by norms.

A projection of the sample is its product with a unit vector: one number for each row.
"""

import numpy as np
from scipy import stats
from sklearn.utils import check_random_state

from .samples import (
    check_count,
    check_sample,
    in_units,
    normal_sample,
    random_directions,
    rows_within_range,
    scale_of,
    target_of_finite_variance,
)

__all__ = [
    "epps_pulley_distance",
    "kolmogorov_smirnov_distance",
    "norm_distance",
    "sliced_wasserstein_distance",
]

# For epps_pulley_distance: step and number of the knots of its integral over t.  The
# integrand falls as exp(-t^2 / 2) and is negligible beyond 5.  At this step the
# trapezoid rule is exact to 1e-6 if projections span less than 2 pi / step - 5 = 20.
_KNOT_STEP, _N_KNOTS = 0.25, 21


def sliced_wasserstein_distance(
    Z, output_distribution="normal", *, n_projections=200, n_draws=5, random_state=0
):
    """Return the sliced 2-Wasserstein distance of a sample from a target distribution.

    Z and a random sample of the target distribution, of equal size, are projected on
    random directions.  The squared 2-Wasserstein distance of the projections is
    averaged over directions and over ``n_draws`` such samples.  The result is the
    square root of this mean.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as the output of ``transform`` for held-out rows.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Target distribution.  The components are independent, and each follows N(0, 1)
        ("normal"), U[0, 1] ("uniform"), or the given continuous distribution of
        scipy.stats, whose parameters must be frozen and whose variance must be finite.
    n_projections : int, default=200
        Number of random directions that the sample is projected on.
    n_draws : int, default=5
        Number of samples of the target distribution.
    random_state : int, RandomState instance or None, default=0
        Determines the directions and the samples of the target distribution.

    Returns
    -------
    distance : float
        In the units of Z, 0 or above.  ``sample_floor`` is its mean for samples drawn
        from the target distribution.

    Raises
    ------
    ValueError
        If Z is not an array of finite numbers of that shape, or a parameter is invalid.

    References
    ----------
    Bonneel et al., "Sliced and Radon Wasserstein barycenters of measures", Journal of
    Mathematical Imaging and Vision 51, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import sliced_wasserstein_distance
    >>> Z = np.random.default_rng(0).normal(size=(1000, 2))
    >>> sliced_wasserstein_distance(Z) < sliced_wasserstein_distance(2 * Z)
    True
    """
    check_count("n_draws", n_draws)
    Z, target = check_sample(Z), target_of_finite_variance(output_distribution)
    rng = check_random_state(random_state)
    directions = random_directions(Z.shape[1], n_projections, rng)
    scale = scale_of(Z)
    projections = np.sort(Z / scale @ directions, axis=0)
    draws = (target.sample(Z.shape, rng) / scale @ directions for _ in range(n_draws))
    squares = [np.mean((projections - np.sort(draw, axis=0)) ** 2) for draw in draws]
    return in_units(np.sqrt(np.mean(squares)), scale)


def kolmogorov_smirnov_distance(
    Z, output_distribution="normal", *, n_projections=200, random_state=0
):
    """Return the mean Kolmogorov-Smirnov distance of random projections from N(0, 1).

    It measures how far the sample Z is from its target distribution: the mean, over
    random directions, of the largest difference between the distribution function of
    the projected sample and that of N(0, 1).  A sample for any other target
    distribution is first mapped to N(0, 1), component by component, because only then
    does every projection have a known distribution.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as the output of ``transform`` for held-out rows.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Target distribution.  The components are independent, and each follows N(0, 1)
        ("normal"), U[0, 1] ("uniform"), or the given continuous distribution of
        scipy.stats, whose parameters must be frozen.
    n_projections : int, default=200
        Number of random directions that the sample is projected on.
    random_state : int, RandomState instance or None, default=0
        Determines the directions.

    Returns
    -------
    distance : float
        Between 0 and 1.  ``sample_floor`` is its mean for samples drawn from the target
        distribution.

    Raises
    ------
    ValueError
        If Z is not an array of finite numbers of that shape, or a parameter is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import kolmogorov_smirnov_distance
    >>> Z = np.random.default_rng(0).normal(size=(1000, 2))
    >>> kolmogorov_smirnov_distance(Z) < 0.05 < kolmogorov_smirnov_distance(2 * Z)
    True
    """
    Z = rows_within_range(normal_sample(Z, output_distribution))
    rng = check_random_state(random_state)
    directions = random_directions(Z.shape[1], n_projections, rng)
    projections = np.sort(Z @ directions, axis=0)
    return float(_kolmogorov_smirnov(stats.norm.cdf(projections)).mean())


def epps_pulley_distance(
    Z, output_distribution="normal", *, n_projections=200, random_state=0
):
    """Return the Epps-Pulley distance of random projections of a sample from N(0, 1).

    It measures how far the sample Z is from its target distribution.  The squared
    distance of one projection is the integral of
    ``abs(phi(t) - exp(-t**2 / 2))**2 * w(t)`` over t, where phi is the empirical
    characteristic function and w the density of N(0, 1).  The result is the square root
    of the mean of these integrals over directions.  They are computed by the trapezoid
    rule with 21 knots on [0, 5], which is exact to 1e-6 if the projected sample spans
    less than 20.  A sample for any other target distribution is first mapped to
    N(0, 1), component by component.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as the output of ``transform`` for held-out rows.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Target distribution.  The components are independent, and each follows N(0, 1)
        ("normal"), U[0, 1] ("uniform"), or the given continuous distribution of
        scipy.stats, whose parameters must be frozen.
    n_projections : int, default=200
        Number of random directions that the sample is projected on.
    random_state : int, RandomState instance or None, default=0
        Determines the directions.

    Returns
    -------
    distance : float
        Between 0 and 2.  ``sample_floor`` is its mean for samples drawn from the target
        distribution.

    Raises
    ------
    ValueError
        If Z is not an array of finite numbers of that shape, or a parameter is invalid.

    References
    ----------
    Epps and Pulley, "A test for normality based on the empirical characteristic
    function", Biometrika 70, 1983. Balestriero and LeCun, "LeJEPA", arXiv:2511.08544,
    for the mean over random directions.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import epps_pulley_distance
    >>> Z = np.random.default_rng(0).normal(size=(1000, 2))
    >>> epps_pulley_distance(Z) < 0.05 < epps_pulley_distance(2 * Z)
    True
    """
    Z = rows_within_range(normal_sample(Z, output_distribution))
    rng = check_random_state(random_state)
    projections = Z @ random_directions(Z.shape[1], n_projections, rng)
    knots = _KNOT_STEP * np.arange(_N_KNOTS)
    gaps = [
        np.mean(np.abs(mean - np.exp(-(t**2) / 2)) ** 2)
        for t, mean in zip(knots, _characteristic_functions(projections), strict=True)
    ]
    weights = 2 * _KNOT_STEP * stats.norm.pdf(knots)  # twice: negative t are the same
    return float(np.sqrt(gaps @ weights))  # at t = 0 the gap is 0, whatever its weight


def _characteristic_functions(projections):
    """Yield the empirical characteristic functions of all columns, knot by knot.

    ``projections`` has the shape (n_samples, n_projections).  For each knot t, the mean
    of ``exp(1j * t * projections)`` over rows is yielded, complex of shape
    (n_projections,).  The 21 knots are the multiples of 0.25 from 0 to 5.
    """
    step = np.exp(1j * _KNOT_STEP * projections)
    power = np.ones_like(step)
    for _ in range(_N_KNOTS):
        yield power.mean(axis=0)
        power *= step  # ten times faster than another sine and cosine


def norm_distance(Z, output_distribution="normal"):
    """Return the Kolmogorov-Smirnov distance of the norms of rows from their target.

    The norm of a row drawn from N(0, I) follows the chi distribution with
    ``n_components`` degrees of freedom.  The result is the largest difference between
    the distribution function of this chi distribution and that of the rows' norms.  It
    finds departures from the target distribution that projections miss: projections of
    many components look normal for almost any distribution, norms do not.  A sample for
    any other target distribution is first mapped to N(0, 1), component by component.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as the output of ``transform`` for held-out rows.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Target distribution.  The components are independent, and each follows N(0, 1)
        ("normal"), U[0, 1] ("uniform"), or the given continuous distribution of
        scipy.stats, whose parameters must be frozen.

    Returns
    -------
    distance : float
        Between 0 and 1.  ``sample_floor`` is its mean for samples drawn from the target
        distribution.

    Raises
    ------
    ValueError
        If Z is not an array of finite numbers of that shape, or a parameter is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import norm_distance
    >>> Z = np.random.default_rng(0).normal(size=(1000, 64))
    >>> norm_distance(Z) < 0.05 < norm_distance(1.05 * Z)
    True
    """
    Z = rows_within_range(normal_sample(Z, output_distribution))
    norms = np.sort(np.linalg.norm(Z, axis=1))
    return float(_kolmogorov_smirnov(stats.chi(Z.shape[1]).cdf(norms[:, None]))[0])


def _kolmogorov_smirnov(probability):
    """Return the Kolmogorov-Smirnov distance of each column from U[0, 1].

    ``probability`` has the shape (n_samples, n_columns).  Each column holds the values
    of the target's distribution function at the points of a sample, in ascending order.
    The result has the shape (n_columns,), each distance between 0 and 1.
    """
    steps = np.arange(len(probability) + 1)[:, None] / len(probability)
    gaps = np.maximum(probability - steps[:-1], steps[1:] - probability)
    return gaps.max(axis=0)

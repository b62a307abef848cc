"""Checks of samples and parameters, scales, ranks, and the floor of a distance.

The floor is the mean distance of samples drawn from the target distribution itself.
"""

import inspect
import sys
from numbers import Real

import numpy as np
from scipy import special, stats
from sklearn.utils import check_array

from .._utils.distributions import Distribution
from .._validation import is_count

__all__ = [
    "HUGE",
    "check_count",
    "check_positive",
    "check_sample",
    "check_share",
    "in_units",
    "normal_sample",
    "normal_scores",
    "random_directions",
    "rows_within_range",
    "sample_floor",
    "scale_of",
    "target_of_finite_variance",
]

HUGE = 1e100  # sums of squares of larger numbers may overflow


def sample_floor(
    distance, n_samples, n_components, output_distribution="normal", *, n_draws=5
):
    """Return the mean distance of samples drawn from the target distribution itself.

    A distance estimated from few rows is above 0 even for such a sample.  Compare the
    distance of your codes with this floor for the same number of rows.

    Parameters
    ----------
    distance : callable
        A distance or summary of ``skdim.metrics``, or any function that takes an array
        of shape (n_samples, n_components) and returns a number.  If it has a parameter
        ``output_distribution``, that is passed on.  Fix other arguments with
        ``functools.partial``.
    n_samples, n_components : int
        Shape of the samples, at least 1 each.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Target distribution.  The components are independent, and each follows N(0, 1)
        ("normal"), U[0, 1] ("uniform"), or the given continuous distribution of
        scipy.stats, whose parameters must be frozen.
    n_draws : int, default=5
        Number of samples to average over.  The samples are the same in every call.

    Returns
    -------
    floor : float
        Mean of ``distance`` over the samples, in its units.  Codes cannot be expected
        to have a smaller distance.  ``norm_spread`` and ``effective_rank`` are
        not distances: for them the mean is a value to come close to, not a lower limit.

    Raises
    ------
    ValueError
        If ``n_samples``, ``n_components`` or ``n_draws`` is not an integer above 0, the
        distribution is invalid, or ``distance`` does not return a number.

    Examples
    --------
    >>> from skdim.metrics import kolmogorov_smirnov_distance, sample_floor
    >>> 0.01 < sample_floor(kolmogorov_smirnov_distance, 1000, 2) < 0.04
    True
    """
    check_count("n_samples", n_samples)
    check_count("n_components", n_components)
    check_count("n_draws", n_draws)
    target = Distribution(output_distribution)
    rng = np.random.RandomState(12345)
    takes_target = "output_distribution" in inspect.signature(distance).parameters
    options = {"output_distribution": output_distribution} if takes_target else {}
    draws = (target.sample((n_samples, n_components), rng) for _ in range(n_draws))
    values = [distance(Z, **options) for Z in draws]
    if not all(isinstance(value, Real) for value in values):
        raise ValueError(
            f"The 'distance' parameter must return a number, but got "
            f"{type(values[0]).__name__}; wrap it in a function that returns one."
        )
    return float(np.mean(values))


def check_sample(Z, *, min_rows=1, name="Z"):
    """Check that Z is a table of finite numbers, and return it in double precision.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_columns)
        The argument of a metric.
    min_rows : int, default=1
        Smallest number of rows that is accepted.
    name : str, default="Z"
        Name of the argument in error messages.

    Returns
    -------
    Z : ndarray of shape (n_samples, n_columns)
        The same numbers in double precision.

    Raises
    ------
    ValueError
        If Z has another shape, too few rows, or entries that are not finite numbers.
    """
    Z = _real_numbers(Z, name)
    if Z.ndim != 2 or Z.shape[1] == 0:
        raise ValueError(
            f"{name} must have the shape (n_samples, n_columns), but got an array of "
            f"shape {Z.shape}; reshape it to one row for each sample."
        )
    if len(Z) < min_rows:
        raise ValueError(
            f"{name} must have at least {min_rows} row{'s' * (min_rows > 1)} for this "
            f"statistic, but got {len(Z)}; pass more rows."
        )
    n_bad = len(Z) - int(np.isfinite(Z).all(axis=1).sum())
    if n_bad:
        raise ValueError(
            f"{name} must hold finite numbers, but got NaN or infinity in {n_bad} of "
            f"{len(Z)} rows; leave these rows out or impute them."
        )
    return Z


def _real_numbers(Z, name):
    """Return Z as a float64 array of the same shape, for ``check_sample``.

    ValueError is raised if Z is no array of real numbers; the message calls it
    ``name``.
    """
    options = {"ensure_2d": False, "allow_nd": True, "ensure_min_samples": 0}
    try:
        return check_array(Z, dtype=np.float64, ensure_all_finite=False, **options)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{name} must be an array of real numbers, but it could not be converted "
            f"to one ({error}); pass an array of floats."
        ) from error


def normal_sample(Z, output_distribution, *, min_rows=1):
    """Check a sample and map it from its target distribution to N(0, I).

    After this map, a metric only needs to compare the sample with N(0, I).

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample.
    output_distribution : str or scipy.stats distribution
        Target distribution of every component; components are independent.  The names
        are "normal" and "uniform".
    min_rows : int, default=1
        Smallest number of rows that is accepted.

    Returns
    -------
    Z : ndarray of shape (n_samples, n_components)
        In double precision.  It follows N(0, I) if the sample follows its target
        distribution.

    Raises
    ------
    ValueError
        If Z is not an array of finite numbers of that shape, has too few rows, or the
        distribution is invalid.
    """
    target = Distribution(output_distribution)
    return target.to_normal(check_sample(Z, min_rows=min_rows))


def target_of_finite_variance(output_distribution):
    """Return the target distribution of a Wasserstein distance as a ``Distribution``.

    ``output_distribution`` is a name or a distribution of scipy.stats.  ValueError is
    raised if its variance is infinite, because the distance would be infinite too, or
    so small that doubles cannot hold it.
    """
    target = Distribution(output_distribution)
    variance = target.moments()[1]
    if 0 <= variance < np.finfo(float).tiny:
        raise ValueError(
            f"The Wasserstein distance needs a distribution whose variance doubles can "
            f"hold, but that of {output_distribution!r} is {variance:.2g}; multiply "
            f"the sample and the scale of the distribution by the same factor."
        )
    if not np.isfinite(variance):
        raise ValueError(
            f"The Wasserstein distance needs a distribution of finite variance, but "
            f"got {output_distribution!r}; use kolmogorov_smirnov_distance instead."
        )
    return target


def normal_scores(Z):
    """Return the normal scores of the ranks of each column of the sample Z.

    They follow N(0, 1) but for ties, whatever the units and the distribution of the
    column.  Z and the result have the shape (n_samples, n_columns).
    """
    return special.ndtri(stats.rankdata(Z, axis=0) / (len(Z) + 1))


def rows_within_range(Z):
    """Return a sample whose numbers are small enough to be squared.

    A row with a number beyond 1e100 is multiplied by a factor that makes it 1e100, so
    that the direction of the row is kept.  For a test or a distance that compares
    probabilities it is as infinitely far from the target distribution as before.  Z and
    the result have the shape (n_samples, n_components).
    """
    sizes = np.abs(Z).max(axis=1, keepdims=True)
    return Z if sizes.max() <= HUGE else Z / np.maximum(sizes / HUGE, 1)


def scale_of(Z, limit=HUGE):
    """Return a number to divide a sample by, so that squares do not overflow.

    It is the largest magnitude in Z if that is beyond ``limit``, and otherwise 1.  The
    default limit is 1e100; fourth powers need a lower one.
    """
    largest = float(np.abs(Z).max())
    return largest if largest > limit else 1.0


def in_units(value, scale):
    """Return ``value * scale`` as a float, and the largest float if it overflows.

    ``value`` is a statistic of a sample that was divided by ``scale_of`` it.
    """
    return min(float(value) * scale, sys.float_info.max)


def check_count(name, value):
    """Raise ValueError unless ``value`` of parameter ``name`` is an integer above 0."""
    if not is_count(value):
        raise ValueError(
            f"The {name!r} parameter must be an integer above 0, but got {value!r}; "
            f"pass 1 or more."
        )


def check_positive(name, value):
    """Raise ValueError unless ``value`` is a finite real number above 0.

    The message calls the parameter ``name``.
    """
    if not _is_between(value, 0, np.inf):
        raise ValueError(
            f"The {name!r} parameter must be a number above 0, but got {value!r}; "
            f"pass a finite number above 0."
        )


def check_share(name, value):
    """Raise ValueError unless ``value`` is a number between 0 and 1, both excluded.

    The message calls the parameter ``name``.
    """
    if not _is_between(value, 0, 1):
        raise ValueError(
            f"The {name!r} parameter must be a number between 0 and 1, but got "
            f"{value!r}; pass 0.95, for example."
        )


def _is_between(value, low, high):
    """Return True if a value is a real number in the open interval, else False."""
    is_number = isinstance(value, Real) and not isinstance(value, (bool, np.bool_))
    return is_number and low < value < high


def random_directions(n_components, n_projections, rng):
    """Return unit vectors drawn uniformly from the sphere, to project samples on.

    The vectors are the columns of an array of shape (n_components, n_projections).
    ``rng`` is a ``numpy.random.RandomState``.  ValueError is raised if
    ``n_projections`` is not an integer above 0.
    """
    check_count("n_projections", n_projections)
    directions = rng.normal(size=(n_components, n_projections))
    return directions / np.linalg.norm(directions, axis=0)

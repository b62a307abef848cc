"""Samples: what is accepted as one, its way to the normal law, and the floor."""

import inspect
from numbers import Real

import numpy as np
from sklearn.utils import check_array

from .._utils.distributions import Law
from .._validation import is_count

__all__ = [
    "check_count",
    "check_positive",
    "check_sample",
    "normal_sample",
    "random_directions",
    "sample_floor",
]


def sample_floor(
    distance, n_samples, n_components, output_distribution="normal", *, n_draws=5
):
    """Mean of a statistic over true samples of the law, of a given size.

    Parameters
    ----------
    distance : callable
        One of the distances or summaries of this module, or any function of a sample
        that returns a number; it is given the law if it has a parameter of the name
        ``output_distribution``.  Fix other arguments with ``functools.partial``.
    n_samples, n_components : int
        Size of the sample.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Law of each of the independent components: N(0, 1), uniform on [0, 1], or a
        continuous distribution with its parameters frozen.
    n_draws : int, default=5
        Number of true samples.

    Returns
    -------
    floor : float
        What no method can be expected to go below; for ``norm_spread`` and
        ``effective_rank``, which are not distances, what a true sample has.

    Raises
    ------
    ValueError
        If a size is not an integer above 0, the law is none of these, or ``distance``
        returns no number.

    Examples
    --------
    >>> from skdim.metrics import kolmogorov_smirnov_distance, sample_floor
    >>> 0.01 < sample_floor(kolmogorov_smirnov_distance, 1000, 2) < 0.04
    True
    """
    check_count("n_samples", n_samples)
    check_count("n_components", n_components)
    check_count("n_draws", n_draws)
    law = Law(output_distribution)
    rng = np.random.RandomState(12345)
    takes_law = "output_distribution" in inspect.signature(distance).parameters
    given = {"output_distribution": output_distribution} if takes_law else {}
    draws = (law.sample((n_samples, n_components), rng) for _ in range(n_draws))
    values = [distance(Z, **given) for Z in draws]
    if not all(isinstance(value, Real) for value in values):
        raise ValueError(
            f"The 'distance' parameter must return a number, but got "
            f"{type(values[0]).__name__}; wrap it in a function that picks one."
        )
    return float(np.mean(values))


def check_sample(Z, *, min_rows=1, name="Z"):
    """Return Z as finite rows in double precision, or raise ValueError."""
    Z = _real_numbers(Z, name)
    if Z.ndim != 2 or Z.shape[1] == 0:
        raise ValueError(
            f"{name} must have the shape (n_samples, n_columns), but got an array of "
            f"shape {Z.shape}; reshape it, one row a sample."
        )
    if len(Z) < min_rows:
        raise ValueError(
            f"{name} must have at least {min_rows} row{'s' * (min_rows > 1)} for this "
            f"figure, but got {len(Z)}; pass more rows."
        )
    n_bad = len(Z) - int(np.isfinite(Z).all(axis=1).sum())
    if n_bad:
        raise ValueError(
            f"{name} must hold finite numbers, but got NaN or infinity in {n_bad} of "
            f"{len(Z)} rows; leave these rows out or impute them."
        )
    return Z


def _real_numbers(Z, name):
    options = {"ensure_2d": False, "allow_nd": True, "ensure_min_samples": 0}
    try:
        return check_array(Z, dtype=np.float64, ensure_all_finite=False, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be an array of real numbers, but got what could not be read "
            f"as such ({error}); pass it as floats."
        ) from error


def normal_sample(Z, output_distribution, *, min_rows=1):
    """Return a checked sample, sent from its law to N(0, I)."""
    law = Law(output_distribution)
    return law.to_normal(check_sample(Z, min_rows=min_rows))


def check_count(name, value):
    """Raise ValueError unless this is an integer above 0."""
    if not is_count(value):
        raise ValueError(
            f"The {name!r} parameter must be an integer above 0, but got {value!r}; "
            f"pass 1 or more."
        )


def check_positive(name, value):
    """Raise ValueError unless this is a finite number above 0."""
    is_number = isinstance(value, Real) and not isinstance(value, (bool, np.bool_))
    if not (is_number and 0 < value < np.inf):
        raise ValueError(
            f"The {name!r} parameter must be a number above 0, but got {value!r}; "
            f"pass a finite number above 0."
        )


def random_directions(n_components, n_projections, rng):
    """Draw unit vectors as columns."""
    check_count("n_projections", n_projections)
    directions = rng.normal(size=(n_components, n_projections))
    return directions / np.linalg.norm(directions, axis=0)

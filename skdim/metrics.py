"""Distance of samples to a target distribution, with its floor for a true sample.

A distance estimated from ``n`` rows is not zero even for rows drawn from the target
itself.  ``sample_floor`` says what it is then, and a distance means little without it.
"""

import numpy as np
from scipy import stats
from sklearn.utils import check_array, check_random_state

__all__ = [
    "kolmogorov_smirnov_distance",
    "sample_floor",
    "sliced_wasserstein_distance",
]

_LAWS = {"normal": stats.norm(), "uniform": stats.uniform()}


def sliced_wasserstein_distance(
    Z, output_distribution="normal", *, n_projections=200, n_draws=5, random_state=0
):
    """Sliced 2-Wasserstein distance of Z to a sample of the target of equal size.

    The squared distance along random directions is averaged over directions and over
    ``n_draws`` samples of the target.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes.
    output_distribution : {"normal", "uniform"}, default="normal"
        N(0, I), or uniform on the unit cube.
    n_projections : int, default=200
        Number of random directions.
    n_draws : int, default=5
        Number of samples of the target.
    random_state : int, RandomState instance or None, default=0
        Fixes directions and target samples.

    Returns
    -------
    distance : float
        In the units of Z.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import sliced_wasserstein_distance
    >>> Z = np.random.default_rng(0).normal(size=(1000, 2))
    >>> sliced_wasserstein_distance(Z) < sliced_wasserstein_distance(2 * Z)
    True
    """
    Z = check_array(Z, dtype=np.float64)
    law = _law(output_distribution)
    rng = check_random_state(random_state)
    directions = _directions(Z.shape[1], n_projections, rng)
    slices = np.sort(Z @ directions, axis=0)
    squares = [
        np.mean((slices - np.sort(law.rvs(Z.shape, rng) @ directions, axis=0)) ** 2)
        for _ in range(n_draws)
    ]
    return float(np.sqrt(np.mean(squares)))


def kolmogorov_smirnov_distance(
    Z, output_distribution="normal", *, n_projections=200, random_state=0
):
    """Mean Kolmogorov-Smirnov distance over random directions.

    A uniform target is first sent to the normal one, component by component, since
    only there does every direction have a known distribution.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes.
    output_distribution : {"normal", "uniform"}, default="normal"
        N(0, I), or uniform on the unit cube.
    n_projections : int, default=200
        Number of random directions.
    random_state : int, RandomState instance or None, default=0
        Fixes the directions.

    Returns
    -------
    distance : float
        Between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import kolmogorov_smirnov_distance
    >>> Z = np.random.default_rng(0).normal(size=(1000, 2))
    >>> kolmogorov_smirnov_distance(Z) < 0.05 < kolmogorov_smirnov_distance(2 * Z)
    True
    """
    Z = check_array(Z, dtype=np.float64)
    if output_distribution != "normal":
        probability = _law(output_distribution).cdf(Z)
        Z = stats.norm.ppf(probability.clip(1e-12, 1 - 1e-12))
    directions = _directions(
        Z.shape[1], n_projections, check_random_state(random_state)
    )
    probability = stats.norm.cdf(np.sort(Z @ directions, axis=0))
    steps = np.arange(len(Z) + 1)[:, None] / len(Z)
    gaps = np.maximum(probability - steps[:-1], steps[1:] - probability)
    return float(gaps.max(axis=0).mean())


def sample_floor(
    distance, n_samples, n_components, output_distribution="normal", *, n_draws=5
):
    """Mean of a distance over true samples of the target, of a given size.

    Parameters
    ----------
    distance : callable
        One of the distances of this module.
    n_samples, n_components : int
        Size of the sample.
    output_distribution : {"normal", "uniform"}, default="normal"
        N(0, I), or uniform on the unit cube.
    n_draws : int, default=5
        Number of true samples.

    Returns
    -------
    floor : float
        What no method can be expected to go below.

    Examples
    --------
    >>> from skdim.metrics import kolmogorov_smirnov_distance, sample_floor
    >>> 0.01 < sample_floor(kolmogorov_smirnov_distance, 1000, 2) < 0.04
    True
    """
    law = _law(output_distribution)
    rng = np.random.RandomState(12345)
    draws = (law.rvs((n_samples, n_components), rng) for _ in range(n_draws))
    return float(np.mean([distance(Z, output_distribution) for Z in draws]))


def _law(name):
    if name not in _LAWS:
        raise ValueError(
            f"The 'output_distribution' parameter must be one of {sorted(_LAWS)}. Got "
            f"{name!r} instead."
        )
    return _LAWS[name]


def _directions(n_components, n_projections, rng):
    directions = rng.normal(size=(n_components, n_projections))
    return directions / np.linalg.norm(directions, axis=0)

"""Distances of a sample to its law along random directions, or in its norms."""

import numpy as np
from scipy import stats
from sklearn.utils import check_random_state

from .._utils.distributions import Law
from .samples import check_count, check_sample, normal_sample, random_directions

__all__ = [
    "epps_pulley_distance",
    "kolmogorov_smirnov_distance",
    "norm_distance",
    "sliced_wasserstein_distance",
]

# The integrand falls as exp(-t^2 / 2): beyond 5 nothing is left, and at this step the
# trapezoid rule is exact to 1e-6 while slices span less than 2 pi / step - 5 = 20.
_KNOT_STEP, _N_KNOTS = 0.25, 21


def sliced_wasserstein_distance(
    Z, output_distribution="normal", *, n_projections=200, n_draws=5, random_state=0
):
    """Sliced 2-Wasserstein distance of Z to a sample of the law of equal size.

    The squared distance along random directions is averaged over directions and over
    ``n_draws`` samples of the law.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Law of each of the independent components: N(0, 1), uniform on [0, 1], or a
        continuous distribution with its parameters frozen, of finite variance.
    n_projections : int, default=200
        Number of random directions.
    n_draws : int, default=5
        Number of samples of the law.
    random_state : int, RandomState instance or None, default=0
        Fixes directions and samples of the law.

    Returns
    -------
    distance : float
        In the units of Z.

    Raises
    ------
    ValueError
        If Z is not a finite array of that shape, or a parameter is invalid.

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
    Z, law = check_sample(Z), _law_of_finite_variance(output_distribution)
    rng = check_random_state(random_state)
    directions = random_directions(Z.shape[1], n_projections, rng)
    slices = np.sort(Z @ directions, axis=0)
    squares = [
        np.mean((slices - np.sort(law.sample(Z.shape, rng) @ directions, axis=0)) ** 2)
        for _ in range(n_draws)
    ]
    return float(np.sqrt(np.mean(squares)))


def _law_of_finite_variance(output_distribution):
    law = Law(output_distribution)
    is_newer = hasattr(law.distribution, "variance")
    variance = law.distribution.variance if is_newer else law.distribution.var
    if not np.isfinite(variance()):
        raise ValueError(
            f"The Wasserstein distance needs a law of finite variance, but got "
            f"{output_distribution!r}; use kolmogorov_smirnov_distance for this one."
        )
    return law


def kolmogorov_smirnov_distance(
    Z, output_distribution="normal", *, n_projections=200, random_state=0
):
    """Mean Kolmogorov-Smirnov distance over random directions.

    Any law but the normal one is first sent to it, component by component, since only
    there does every direction have a known distribution.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Law of each of the independent components: N(0, 1), uniform on [0, 1], or a
        continuous distribution with its parameters frozen.
    n_projections : int, default=200
        Number of random directions.
    random_state : int, RandomState instance or None, default=0
        Fixes the directions.

    Returns
    -------
    distance : float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If Z is not a finite array of that shape, or a parameter is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import kolmogorov_smirnov_distance
    >>> Z = np.random.default_rng(0).normal(size=(1000, 2))
    >>> kolmogorov_smirnov_distance(Z) < 0.05 < kolmogorov_smirnov_distance(2 * Z)
    True
    """
    Z = normal_sample(Z, output_distribution)
    rng = check_random_state(random_state)
    slices = np.sort(Z @ random_directions(Z.shape[1], n_projections, rng), axis=0)
    return float(_kolmogorov_smirnov(stats.norm.cdf(slices)).mean())


def epps_pulley_distance(
    Z, output_distribution="normal", *, n_projections=200, random_state=0
):
    """Epps-Pulley distance of characteristic functions over random directions.

    Along a direction it is the integral of ``abs(phi(t) - exp(-t**2 / 2))**2 * w(t)``,
    where phi is the empirical characteristic function and w the density of N(0, 1);
    what is returned is the root of its mean over directions.  The integral is taken by
    the trapezoid rule with 21 knots on [0, 5], which is exact to 1e-6 while slices
    span less than 20 standard deviations.  Any law but the normal one is first sent to
    it, component by component.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Law of each of the independent components: N(0, 1), uniform on [0, 1], or a
        continuous distribution with its parameters frozen.
    n_projections : int, default=200
        Number of random directions.
    random_state : int, RandomState instance or None, default=0
        Fixes the directions.

    Returns
    -------
    distance : float
        From 0 to below 2.

    Raises
    ------
    ValueError
        If Z is not a finite array of that shape, or a parameter is invalid.

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
    Z = normal_sample(Z, output_distribution)
    rng = check_random_state(random_state)
    slices = Z @ random_directions(Z.shape[1], n_projections, rng)
    knots = _KNOT_STEP * np.arange(_N_KNOTS)
    gaps = [
        np.mean(np.abs(mean - np.exp(-(t**2) / 2)) ** 2)
        for t, mean in zip(knots, _characteristic_function(slices), strict=True)
    ]
    weights = 2 * _KNOT_STEP * stats.norm.pdf(knots)  # the other half is the mirror
    return float(np.sqrt(gaps @ weights))  # the first gap is 0, so is its half weight


def _characteristic_function(slices):
    """Yield the function of each slice at each knot."""
    step = np.exp(1j * _KNOT_STEP * slices)
    power = np.ones_like(step)
    for _ in range(_N_KNOTS):
        yield power.mean(axis=0)
        power *= step  # a product costs a tenth of another sine and cosine


def norm_distance(Z, output_distribution="normal"):
    """Kolmogorov-Smirnov distance of the norms of rows to what the law says of them.

    The norm of a row of N(0, I) follows a chi distribution with as many degrees of
    freedom as components.  Slices of many components look normal whatever the law;
    norms do not.  Any law but the normal one is first sent to it.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Law of each of the independent components: N(0, 1), uniform on [0, 1], or a
        continuous distribution with its parameters frozen.

    Returns
    -------
    distance : float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If Z is not a finite array of that shape, or the law is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import norm_distance
    >>> Z = np.random.default_rng(0).normal(size=(1000, 64))
    >>> norm_distance(Z) < 0.05 < norm_distance(1.05 * Z)
    True
    """
    Z = normal_sample(Z, output_distribution)
    norms = np.sort(np.linalg.norm(Z, axis=1))
    return float(_kolmogorov_smirnov(stats.chi(Z.shape[1]).cdf(norms[:, None]))[0])


def _kolmogorov_smirnov(probability):
    """Return the distance of each column of sorted probabilities to the uniform law."""
    steps = np.arange(len(probability) + 1)[:, None] / len(probability)
    gaps = np.maximum(probability - steps[:-1], steps[1:] - probability)
    return gaps.max(axis=0)

"""How far codes are from their distribution, whatever the number of rows.

The distance of a finite sample has a floor, the distance of a sample drawn from the
target distribution itself.  Here the floor is removed, and an interval is given.
"""

from itertools import repeat
from typing import NamedTuple

import numpy as np
from scipy import special, stats
from sklearn.utils import check_random_state

from .samples import (
    check_count,
    check_sample,
    check_share,
    in_units,
    scale_of,
    target_of_finite_variance,
)

__all__ = ["ExcessDistance", "excess_distance"]

_N_ATOMS = 2**18  # quantiles that stand for the target distribution, at least
_N_PAIRS = 2**15  # for the expected floor, which they give to 1 %
# For the null variance, if not normal: samples, more of them for few directions, where
# the square varies most; and rows of each, fewer for many directions.
_N_NULL_SAMPLES, _N_NULL_SLICES = 200, 5120
_N_NULL_ROWS, _N_NULL_PROJECTIONS = 500, 2**16
_AT_ONCE = 2**21  # numbers of such samples: 16 MiB
_LARGEST = 1e50  # fourth powers of larger numbers may overflow


class ExcessDistance(NamedTuple):
    """Distance of codes from their distribution, with its confidence interval.

    The unit is one standard deviation of the target distribution.  ``print`` writes it
    in words.

    Attributes
    ----------
    distance : float
        The estimate, 0 or above.
    low, high : float
        Ends of the confidence interval.  ``low`` is 0 if the sample can come from the
        target distribution.
    """

    distance: float
    low: float
    high: float

    def __str__(self):
        """Return the distance and its interval in words, to three digits."""
        return (
            f"{self.distance:.3g} standard deviations "
            f"(interval {self.low:.3g} to {self.high:.3g})"
        )


def excess_distance(
    Z,
    output_distribution="normal",
    *,
    n_projections=128,
    confidence_level=0.95,
    random_state=0,
):
    r"""Return how far the distribution of codes is from the target, with an interval.

    It estimates the sliced 2-Wasserstein distance of the *distribution* that the rows
    of Z are drawn from.  ``sliced_wasserstein_distance`` measures the *rows* instead,
    which are at a distance of their own even if their distribution is right.  This part
    falls with the number of rows and is removed here.  So values for different numbers
    of rows can be compared.

    The unit is one standard deviation of the target distribution.  If all components
    are too wide by 5 %, or their means wrong by 0.05 standard deviations, the distance
    is 0.05.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as the output of ``transform`` for held-out rows; at least two
        rows.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Target distribution.  The components are independent, and each follows N(0, 1)
        ("normal"), U[0, 1] ("uniform"), or the given continuous distribution of
        scipy.stats, whose parameters must be frozen and whose variance must be finite.
    n_projections : int, default=128
        Number of random directions that the sample is projected on.  It is rounded up
        to a multiple of ``n_components``, because directions are drawn as orthonormal
        bases; one component has one direction.
    confidence_level : float, default=0.95
        Probability that the interval contains the true distance, between 0 and 1.
    random_state : int, RandomState instance or None, default=0
        Determines the directions, and rows drawn from the target distribution.

    Returns
    -------
    result : ExcessDistance
        With ``distance``, ``low`` and ``high``, in standard deviations of the target
        distribution.

    Raises
    ------
    ValueError
        If Z is not an array of finite numbers of that shape, has too few rows, or a
        parameter is invalid.

    See Also
    --------
    sliced_wasserstein_distance : The distance of the rows, floor included.
    norm_spread : Shows a scale that components share, which slices hardly show.
    bhep_test : Whether a departure of any size is visible.

    Notes
    -----
    With :math:`x_{(i)}` the sorted projection on a direction, :math:`m_i` the mean of
    the i-th of n equal parts of the target's projection, and all in standard
    deviations from the target's mean, the squared distance of the rows is
    :math:`\frac{1}{n} \sum_i x_{(i)}^2 + 1 - 2C` with
    :math:`C = \frac{1}{n} \sum_i x_{(i)} m_i`.  For a true sample, C has the
    expectation :math:`c < 1`, and 2 (1 - c) is the floor of the square.  The estimate
    has C / c for C.  So the square is nearly unbiased for a true sample and for normal
    ones of any mean and covariance.
    The square root and its cut at 0 make small distances too large or 0: for a true
    sample the distance is 0 about half of the time, otherwise of the size of ``high``
    or below.

    The mean over directions of the squares is exact.  That of C is exact for normal
    samples, by the covariance, and the random directions serve for its ratio to the
    standard deviation.

    The interval has two parts of the variance of the square: one of order 1/n, from the
    influence of each row, and the null variance of order 1/n^2.  The first is
    proportional to the squared distance itself, so the interval is the set of
    distances that the estimate does not contradict, as in Wilson's interval for a
    share.  Heavy tails make the interval too short, and the distance too large in
    small samples.

    For other distributions than the normal one, time and memory grow with the square of
    ``n_components``, from about 64 components on if Z has more than 4,000 rows, and
    otherwise only from about a thousand.

    References
    ----------
    Bonneel et al., "Sliced and Radon Wasserstein barycenters of measures", Journal of
    Mathematical Imaging and Vision 51, 2015. del Barrio and Loubes, "Central limit
    theorems for empirical transportation cost in general dimension", Annals of
    Probability 47, 2019. del Barrio et al., "Contributions of empirical and quantile
    processes to the asymptotic theory of goodness-of-fit tests", TEST 9, 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import excess_distance
    >>> Z = np.random.default_rng(0).normal(size=(5000, 4))
    >>> print(excess_distance(1.1 * Z))
    0.0948 standard deviations (interval 0.0846 to 0.106)
    >>> excess_distance(Z).low
    0.0
    """
    check_count("n_projections", n_projections)
    check_share("confidence_level", confidence_level)
    target = target_of_finite_variance(output_distribution)
    Z, scale = _standardised(check_sample(Z, min_rows=2), target)
    rng = check_random_state(random_state)
    directions = _orthonormal_directions(Z.shape[1], n_projections, rng)
    atoms = _atoms(target, len(Z))
    slices = _slices_of_target(atoms, len(Z), directions, target.name, rng)
    unit = 1 / scale
    square, rows, influence = _squared_distance(Z, directions, slices, unit)
    null = _null_variance(atoms, len(Z), directions, target.name, rng) * unit**4
    # The variance of order 1/n is proportional to the squared distance.  The factor
    # comes from the rows before the floor is removed, because these are never at 0.
    slope = influence.var() / len(Z) / rows if rows > 0 else 0.0
    z2 = stats.norm.isf((1 - confidence_level) / 2) ** 2
    middle = square + z2 * slope / 2
    half = np.sqrt(max(0.0, z2 * (null + slope * square) + (z2 * slope / 2) ** 2))
    low = max(0.0, middle - half)
    high = max(middle + half, np.sqrt(z2 * null))
    values = np.sqrt([max(0.0, square), low, high])
    return ExcessDistance(*(in_units(value, scale) for value in values))


def _standardised(Z, target):
    """Return Z minus the mean of the target, over its standard deviation.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, n_components)
        Finite numbers.
    target : Distribution
        Of finite variance.

    Returns
    -------
    Z : ndarray of shape (n_samples, n_components)
        The standardised sample, divided by ``scale``, so that fourth powers are finite.
    scale : float
        1 unless numbers are huge.
    """
    scale = scale_of(Z, _LARGEST)  # before anything that may overflow
    Z = Z / scale
    if target.name != "normal":
        mean, variance = target.moments()
        Z = (Z - mean / scale) / variance**0.5
    rest = scale_of(Z, _LARGEST)  # in units of a narrow target, numbers are larger
    return Z / rest, in_units(scale, rest)


def _orthonormal_directions(n_components, n_projections, rng):
    """Return random orthonormal bases, with the directions as rows of one array.

    The shape is (n_directions, n_components), where n_directions is ``n_projections``
    rounded up to a multiple of ``n_components``, or 1 for one component.  Over a basis,
    squared projections have exactly the mean that they have over all directions.
    """
    n_bases = 1 if n_components == 1 else -(-n_projections // n_components)
    draws = rng.normal(size=(n_bases, n_components, n_components))
    return np.linalg.qr(draws)[0].reshape(-1, n_components)


def _atoms(target, n_rows):
    """Return values of equal probability that stand for a component of the target.

    There are at least four for each of ``n_rows`` rows of the sample.  They are in
    ascending order, with mean 0 and variance 1.  ``target`` is a ``Distribution``.
    """
    n_atoms = max(_N_ATOMS, 4 * n_rows)
    atoms = target.from_normal(special.ndtri((np.arange(n_atoms) + 0.5) / n_atoms))
    return (atoms - atoms.mean()) / atoms.std()


def _slices_of_target(atoms, n_rows, directions, name, rng):
    """Return an iterator over the target's slices: one result of ``_slice`` for each.

    Parameters
    ----------
    atoms : ndarray of shape (n_atoms,)
        Result of ``_atoms``; components are independent.
    n_rows : int
        Number of rows of the sample that is compared.
    directions : ndarray of shape (n_directions, n_components)
        Unit vectors.
    name : str or None
        Name of the target; all slices of "normal" are the same.
    rng : numpy.random.RandomState
        Source of the pairs for the floor and, unless all slices are the same, of a
        sample of the target.
    """
    # A place in one of n equal parts of [0, 1], and the place of the order statistic
    # of n uniform rows that belongs to this part.
    n_pairs = max(_N_PAIRS, n_rows)
    part = np.arange(n_pairs) * n_rows // n_pairs
    places = (part + rng.uniform(size=n_pairs)) / n_rows
    pairs = np.stack([places, rng.beta(part + 1, n_rows - part)])
    if name == "normal" or directions.shape[1] == 1:
        return repeat(_slice(atoms, n_rows, pairs), len(directions))
    # Each column is the distribution itself, in random order; the covariance is made
    # exact.  What is left of this sample's own distance, in expectation, is the floor
    # for so many rows less the share of mean and variance, which is about 1.5 / n.
    n_components = directions.shape[1]
    # Time and memory grow with the square of the components, so fewer atoms serve for
    # many.  With less than 16 for each of ``n_rows``, the square would be too small.
    most = max(1, len(atoms) // (4 * 16 * n_rows))
    step = 4 * max(1, min(n_components // 32, most))
    sample = np.stack([rng.permutation(atoms[2::step]) for _ in range(n_components)])
    sample = np.linalg.solve(np.linalg.cholesky(np.cov(sample, ddof=0)), sample)
    n_sample = sample.shape[1]

    def one(direction):
        means, cuts, floor = _slice(np.sort(direction @ sample), n_rows, pairs)
        return means, cuts, floor * (1 + n_rows / n_sample) - 1.5 / n_sample

    return map(one, directions)


def _slice(atoms, n_rows, pairs):
    """Return what a sample needs of one slice of the target distribution.

    Parameters
    ----------
    atoms : ndarray of shape (n_atoms,)
        Values of equal probability that stand for the slice, in ascending order.
    n_rows : int
        Number of rows of the sample.
    pairs : ndarray of shape (2, n_pairs)
        Probabilities, from 0 to 1.

    Returns
    -------
    means : ndarray of shape (n_rows,)
        Means of ``n_rows`` equal parts of the slice.
    cuts : ndarray of shape (n_rows - 1,)
        Values that separate these parts.
    floor : float
        Mean squared difference of the quantiles at the pairs.
    """
    n_atoms = len(atoms)
    edges = np.linspace(0, n_atoms, n_rows + 1)
    sums = np.concatenate([[0.0], np.cumsum(atoms)])
    means = np.diff(np.interp(edges, np.arange(n_atoms + 1), sums)) * n_rows / n_atoms
    cuts = atoms[edges[1:-1].astype(np.intp)]
    first, second = atoms[np.minimum((pairs * n_atoms).astype(np.intp), n_atoms - 1)]
    return means, cuts, np.mean((first - second) ** 2)


def _squared_distance(Z, directions, slices, unit=1.0):
    """Return the squared distance without and with its floor, and who contributes.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, n_components)
        Standardised sample, times ``unit``.
    directions : ndarray of shape (n_directions, n_components)
        Unit vectors, whose squared projections sum up over whole bases.
    slices : iterable of tuple
        Results of ``_slice`` for these directions.
    unit : float, default=1.0
        Standard deviation of the target in the units of Z.

    Returns
    -------
    square : float
        Squared distance with the floor removed, in the squared units of Z, as all
        results; below 0 about half of the time for a true sample.
    rows : float
        Squared distance of the rows, floor included.
    influence : ndarray of shape (n_samples,)
        Change of the square per share of additional rows like this one: the mean over
        directions of the Kantorovich potential at the row's projection.
    """
    n_samples, n_components = Z.shape
    potential = np.zeros(n_samples)
    coupling = deviation = floor = 0.0
    for direction, (means, cuts, own) in zip(directions, slices, strict=True):
        order = np.argsort(projection := Z @ direction)
        projection = projection[order]
        coupling += projection @ means / n_samples
        deviation += projection.std()
        floor += own / len(directions)
        potential[order[1:]] += np.cumsum(cuts * np.diff(projection))
    squares = np.square(Z).sum(axis=1) / n_components
    covariance = np.cov(Z, rowvar=False, ddof=0).reshape(n_components, n_components)
    ratio = coupling / deviation if deviation > 0 else 0.0
    coupling = unit * ratio * _mean_deviation(covariance, n_components)
    rows = squares.mean() + unit**2 - 2 * coupling
    square = squares.mean() + unit**2 - 2 * coupling / (1 - floor / 2)
    return square, rows, squares - 2 * unit * potential / len(directions)


def _mean_deviation(covariance, n_components):
    """Return the mean standard deviation of projections, over all directions.

    ``covariance`` has the shape (n_components, n_components), or is another matrix with
    the same eigenvalues but for zeros.  The mean over random unit vectors is that over
    normal vectors g, divided by the mean norm of g.  The expectation of
    ``sqrt(g' S g)`` is an integral over t of ``(1 - E exp(-t g' S g)) t^(-3/2)``, where
    the inner expectation is a product over the eigenvalues.  The trapezoid rule in
    log(t) is exact here to rounding errors.
    """
    if n_components == 1:
        return covariance[0, 0] ** 0.5
    eigenvalues = np.linalg.eigvalsh(covariance).clip(min=0)
    largest = eigenvalues[-1]
    if largest == 0:
        return 0.0
    log_t, step = np.linspace(-60, 60, 1201, retstep=True)
    t, logs = np.exp(log_t), np.zeros_like(log_t)
    for eigenvalue in eigenvalues / largest:
        logs += np.log1p(2 * eigenvalue * t) / 2
    integral = step * np.sum(-np.expm1(-logs) * np.exp(-log_t / 2))
    mean = largest**0.5 * integral / (2 * np.pi**0.5)
    return mean / stats.chi.mean(n_components)


def _null_variance(atoms, n_rows, directions, name, rng):
    """Return the variance of the squared distance for a sample of the target.

    For the normal distribution it is in closed form, to second order in the departures:
    the square along a direction is the sum over j of the squared mean of the j-th
    Hermite polynomial of the projections, divided by j.  Along two directions with
    cosine r, these means have the correlation r^j.  So the covariance of the two
    squares is 2 / n^2 times the sum of r^(2j) / j^2, which is the dilogarithm of r^2.
    For other distributions it is the variance over samples of the target of at most
    ``_N_NULL_ROWS`` rows, which falls with the square of the number of rows.  Thousands
    are drawn for one component: one seed serves all calls, and would repeat the error
    of few.  The parameters are those of ``_slices_of_target``.
    """
    if name == "normal":
        cosines = directions @ directions.T
        return 2 * special.spence(1 - np.minimum(cosines**2, 1)).mean() / n_rows**2
    n_directions, n_components = directions.shape
    n_drawn = min(n_rows, _N_NULL_ROWS, max(100, _N_NULL_PROJECTIONS // n_directions))
    slices = list(_slices_of_target(atoms, n_drawn, directions, name, rng))
    n_samples = max(_N_NULL_SAMPLES, _N_NULL_SLICES // n_directions)
    n_at_once = max(1, _AT_ONCE // (n_drawn * n_components))
    squares = []
    for start in range(0, n_samples, n_at_once):
        shape = min(n_at_once, n_samples - start), n_drawn, n_components
        squares.extend(_squares_of(rng.choice(atoms, shape), directions, slices))
    return np.var(squares, ddof=1) * (n_drawn / n_rows) ** 2


def _squares_of(samples, directions, slices):
    """Return the squared distance of many samples, each without its floor.

    It is what ``_squared_distance`` returns for each of ``samples``, an array of shape
    (n_samples, n_rows, n_components), with ``unit=1``.
    """
    n_rows, n_components = samples.shape[1:]
    coupling, deviation, floor = 0.0, 0.0, 0.0
    for direction, (means, _, own) in zip(directions, slices, strict=True):
        projections = np.sort(samples @ direction)
        coupling = coupling + projections @ means / n_rows
        deviation = deviation + projections.std(axis=1)
        floor += own / len(directions)
    centred = samples - samples.mean(axis=1, keepdims=True)
    if n_rows < n_components:  # the same eigenvalues but for zeros, of a smaller matrix
        products = centred @ centred.transpose(0, 2, 1)
    else:
        products = centred.transpose(0, 2, 1) @ centred
    means = [_mean_deviation(each / n_rows, n_components) for each in products]
    coupling = np.divide(coupling, deviation, where=deviation > 0, out=0 * deviation)
    coupling *= means
    return np.square(samples).mean(axis=(1, 2)) + 1 - 2 * coupling / (1 - floor / 2)

"""Has the source changed?  A test of new codes against reference codes."""

from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.utils import check_random_state

from .samples import HUGE, check_count, check_sample

__all__ = ["ColumnShift", "ComponentShift", "TwoSampleResult", "two_sample_test"]

_LABELS_AT_ONCE = 2**21  # of permuted samples: 16 MiB
_N_PRINTED = 5


class ComponentShift(NamedTuple):
    """How far one component of the codes has moved.

    Attributes
    ----------
    component : int
        Index of the component, from 0.
    shift : float
        Mean of the new rows minus that of the reference rows, in standard deviations
        of the reference rows.
    statistic : float
        Kolmogorov-Smirnov statistic: the largest difference between the two
        distribution functions, from 0 to 1.
    pvalue : float
        Of this statistic, adjusted by Holm's method for the number of components.
    """

    component: int
    shift: float
    statistic: float
    pvalue: float


class ColumnShift(NamedTuple):
    """How far one column of the inputs has moved, or should have.

    Attributes
    ----------
    column : str or int
        Name of the column, or its index if columns have no names.
    expected : float
        Shift of its mean that the shifts of the components let expect, in standard
        deviations of the reference rows: the sum over components of loading times
        shift.
    component : int
        Component with the largest part in that sum.
    shift, statistic, pvalue : float
        As for a component, but measured on the inputs; NaN if these were not passed.
    """

    column: str | int
    expected: float
    component: int
    shift: float
    statistic: float
    pvalue: float


class TwoSampleResult(NamedTuple):
    """Result of a two-sample test.  ``print`` writes it in words.

    Attributes
    ----------
    statistic : float
        Energy distance of the two samples.
    pvalue : float
        Probability of a statistic at least this large, if both samples are from one
        distribution.
    components : tuple of ComponentShift
        All components, those that moved most first.
    columns : tuple of ColumnShift
        All columns of the inputs, those that moved most first; empty if neither inputs
        nor loadings were passed.
    """

    statistic: float
    pvalue: float
    components: tuple[ComponentShift, ...]
    columns: tuple[ColumnShift, ...]

    def __str__(self):
        """Return the test and what moved most, as lines of text."""
        lines = [f"energy distance {self.statistic:.3g}, p = {self.pvalue:.2g}"]
        for shift in self.components[:_N_PRINTED]:
            lines.append(
                f"component {shift.component}: {shift.shift:+.2f} standard deviations, "
                f"adjusted p = {shift.pvalue:.2g}"
            )
        for shift in self.columns[:_N_PRINTED]:
            measured = f"{shift.shift:+.2f} standard deviations, "
            measured += f"adjusted p = {shift.pvalue:.2g}, "
            lines.append(
                f"column {shift.column}: {'' if np.isnan(shift.pvalue) else measured}"
                f"{shift.expected:+.2f} expected, most by component {shift.component}"
            )
        return "\n".join(lines)


def two_sample_test(
    Z_reference,
    Z_new,
    *,
    X_reference=None,
    X_new=None,
    loadings=None,
    feature_names=None,
    n_resamples=999,
    max_samples=2000,
    random_state=0,
):
    """Test whether new codes come from the same distribution as reference codes.

    The statistic is the energy distance of the two samples, with each component divided
    by its standard deviation over both.  Its p-value is valid for any distribution and
    any number of rows, because the rows are permuted between the samples.  It detects
    any change, with enough rows: of means, scales, shapes or dependence.

    Reference rows must not be rows that the estimator was fitted on.  Their codes
    differ from those of other rows even if the source is the same.

    Parameters
    ----------
    Z_reference : array-like of shape (n_reference, n_components)
        Codes of rows of the known source, which were held out of the fit; at least two
        rows.
    Z_new : array-like of shape (n_new, n_components)
        Codes of the new rows; at least two rows.
    X_reference : array-like of shape (n_reference, n_features), default=None
        Inputs of the reference rows.  If they and ``X_new`` are passed, columns are
        compared too.
    X_new : array-like of shape (n_new, n_features), default=None
        Inputs of the new rows.
    loadings : array-like of shape (n_components, n_features), default=None
        Correlation of each column with each component over rows of the known source,
        such as ``loadings_`` of the estimator.  None computes it from ``X_reference``
        and ``Z_reference``.  Pass it to see which columns belong to the shifts if the
        inputs are not at hand.
    feature_names : array-like of str of shape (n_features,), default=None
        Names of the columns.  None uses the columns of ``X_reference`` if it is a
        DataFrame, and indices otherwise.
    n_resamples : int, default=999
        Number of random permutations; the smallest p-value is
        ``1 / (1 + n_resamples)``.  If there are fewer different permutations, all are
        used.
    max_samples : int, default=2000
        The energy distance uses at most this number of rows of each sample, drawn at
        random, because its time and memory grow with the square; at least 2.
        Components and columns are compared on all rows.
    random_state : int, RandomState instance or None, default=0
        Determines the rows that are drawn, and the permutations.

    Returns
    -------
    result : TwoSampleResult
        With ``statistic``, ``pvalue``, ``components`` and ``columns``.  The latter two
        are sorted by their Kolmogorov-Smirnov statistics or, if inputs were not passed,
        columns by the size of the expected shift.

    Raises
    ------
    ValueError
        If an array does not hold finite numbers, shapes do not fit together, or a
        parameter is invalid.

    See Also
    --------
    bhep_test : Tests one sample against its promised distribution.
    excess_distance : How far one sample is from its promised distribution.

    Notes
    -----
    The energy distance is the square root of ``2 E|x - y| - E|x - x'| - E|y - y'|``,
    where x and x' are reference rows and y and y' new ones.  With one component it is
    that of ``scipy.stats.energy_distance`` for the scaled component.

    A shift that is expected from the codes is a linear prediction: if one column moved
    alone, columns correlated with it are expected to have moved too.  A column that
    moved although its expected shift is small is one that the codes hardly hold.

    References
    ----------
    Székely and Rizzo, "Energy statistics: a class of statistics based on distances",
    Journal of Statistical Planning and Inference 143, 2013. Holm, "A simple
    sequentially rejective multiple test procedure", Scandinavian Journal of Statistics
    6, 1979.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import two_sample_test
    >>> rng = np.random.default_rng(0)
    >>> Z_reference, Z_new = rng.normal(size=(2, 300, 4))
    >>> two_sample_test(Z_reference, Z_new).pvalue > 0.05
    True
    >>> result = two_sample_test(Z_reference, Z_new + [0, 0, 0.5, 0])
    >>> result.pvalue, result.components[0].component
    (0.001, 2)
    """
    check_count("n_resamples", n_resamples)
    check_count("max_samples", max_samples)
    if max_samples < 2:
        raise ValueError(
            f"The 'max_samples' parameter must be at least 2, because one row is no "
            f"sample to compare, but got {max_samples}; pass a few hundred or more."
        )
    Z = _pair(Z_reference, Z_new, ("Z_reference", "Z_new"))
    X = None
    if X_reference is not None or X_new is not None:
        X = _inputs(X_reference, X_new, Z)
    names = feature_names
    if names is None and hasattr(X_reference, "columns"):
        names = X_reference.columns
    loadings = _loadings(loadings, X, Z)
    names = _names(names, loadings)
    rng = check_random_state(random_state)
    statistic, pvalue = _energy_test(Z, n_resamples, max_samples, rng)
    shifts = _shifts(*Z)
    ranking = np.argsort(-shifts[1], kind="stable")
    components = (ComponentShift(int(k), *shifts[:, k].tolist()) for k in ranking)
    columns = () if loadings is None else _columns(X, loadings, shifts[0], names)
    return TwoSampleResult(statistic, pvalue, tuple(components), columns)


def _pair(reference, new, names):
    """Return two samples as float64 arrays with the same number of columns.

    ``names`` are those of the two arguments.  ValueError names the one that is no table
    of finite numbers, has fewer than two rows or values too large to square.
    """
    pair = [
        check_sample(sample, min_rows=2, name=name)
        for sample, name in zip((reference, new), names, strict=True)
    ]
    for sample, name in zip(pair, names, strict=True):
        if (largest := np.abs(sample).max()) > HUGE:
            raise ValueError(
                f"{name} must hold values of at most {HUGE:g}, but got "
                f"{largest:.3g}; leave such rows out."
            )
    widths = [sample.shape[1] for sample in pair]
    if widths[0] != widths[1]:
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same columns, but got "
            f"{widths[0]} and {widths[1]} of them; pass arrays of equal width."
        )
    return pair


def _inputs(X_reference, X_new, Z):
    """Return the inputs as a pair of arrays, with one row for each row of the codes.

    ``Z`` is the pair of codes.  ValueError is raised if one input is None, or the
    inputs are not tables of finite numbers with as many rows as the codes.
    """
    if X_reference is None or X_new is None:
        missing = "X_reference" if X_reference is None else "X_new"
        raise ValueError(
            f"Inputs are compared with each other, but {missing} is None; pass both "
            f"'X_reference' and 'X_new', or neither."
        )
    X = _pair(X_reference, X_new, ("X_reference", "X_new"))
    for inputs, codes, name in zip(X, Z, ("reference", "new"), strict=True):
        if len(inputs) != len(codes):
            raise ValueError(
                f"X_{name} must have one row for each row of Z_{name}, but got "
                f"{len(inputs)} for {len(codes)}; pass the inputs of the same rows."
            )
    return X


def _loadings(loadings, X, Z):
    """Return the correlation of each column of the inputs with each component.

    Parameters
    ----------
    loadings : array-like of shape (n_components, n_features) or None
        As passed by the user; None computes them from the reference rows.
    X, Z : list of two ndarrays, or None for ``X``
        Inputs and codes of reference rows and of new rows.

    Returns
    -------
    loadings : ndarray of shape (n_components, n_features) or None
        None if there are neither loadings nor inputs.  Constant columns and components
        have 0.
    """
    n_components = Z[0].shape[1]
    if loadings is not None:
        loadings = check_sample(loadings, name="loadings")
        n_features = loadings.shape[1] if X is None else X[0].shape[1]
        if loadings.shape != (n_components, n_features):
            raise ValueError(
                f"loadings must have the shape (n_components, n_features), here "
                f"{n_components, n_features}, but got {loadings.shape}; pass one row "
                f"for each component."
            )
        return loadings
    if X is None:
        return None
    deviations = []
    for sample in (Z[0], X[0]):
        centred = sample - sample.mean(axis=0)
        is_constant = np.ptp(sample, axis=0) == 0
        scale = np.where(is_constant, np.inf, np.linalg.norm(centred, axis=0))
        deviations.append(centred / scale)
    return deviations[0].T @ deviations[1]


def _names(names, loadings):
    """Return the names of the columns as a list: ``names``, or indices if it is None.

    ``loadings`` is an array of shape (n_components, n_features) or None.  ValueError is
    raised if there is not one name for each column.
    """
    if loadings is None:
        return None
    n_features = loadings.shape[1]
    if names is None:
        return list(range(n_features))
    names = np.asarray(names).tolist()
    if not isinstance(names, list) or len(names) != n_features:
        raise ValueError(
            f"The 'feature_names' parameter must hold one name for each of "
            f"{n_features} columns, but got {names!r}; pass names in their order."
        )
    return names


def _energy_test(Z, n_resamples, max_samples, rng):
    """Return the energy distance of two samples and its p-value by permutation.

    Parameters
    ----------
    Z : list of two ndarrays of shape (n_rows, n_components)
        The samples.
    n_resamples, max_samples : int
        Parameters of ``two_sample_test``.
    rng : numpy.random.RandomState
        Draws rows and permutations.
    """
    n_rows = [min(len(sample), max_samples) for sample in Z]
    drawn = [
        sample[rng.permutation(len(sample))[:n]] if n < len(sample) else sample
        for sample, n in zip(Z, n_rows, strict=True)
    ]
    rows = np.concatenate(drawn)
    rows = rows - rows.mean(axis=0)
    deviation = rows.std(axis=0)
    rows /= np.where(deviation > 0, deviation, 1)
    distances = cdist(rows, rows)
    unit = distances.mean() or 1.0

    def statistic(reference, new, axis):
        """Return energy distances; indices of rows are along the last axis."""
        first, second = np.atleast_2d(reference), np.atleast_2d(new)
        weights = np.zeros((len(first), len(rows)))
        np.put_along_axis(weights, first, 1 / first.shape[1], axis=1)
        np.put_along_axis(weights, second, -1 / second.shape[1], axis=1)
        squares = -np.einsum("ij,ij->i", weights @ distances, weights)
        # Rounded, because equally extreme splits are summed in different order, and all
        # of them must count.
        result = np.sqrt(np.round(squares / unit, 12).clip(min=0) * unit)
        return result if reference.ndim > 1 else result[0]

    indices = np.split(np.arange(len(rows)), [n_rows[0]])
    result = stats.permutation_test(
        indices,
        statistic,
        vectorized=True,
        alternative="greater",
        n_resamples=n_resamples,
        batch=max(1, _LABELS_AT_ONCE // len(rows)),
        random_state=rng,
    )
    return float(result.statistic), float(result.pvalue)


def _shifts(reference, new):
    """Return shifts, Kolmogorov-Smirnov statistics and adjusted p-values of columns.

    Both samples have the same number of columns; the result has the shape
    (3, n_columns).  The shift of a constant is 0 or infinite.
    """
    gap = new.mean(axis=0) - reference.mean(axis=0)
    is_constant = np.ptp(reference, axis=0) == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = gap / np.where(is_constant, 0.0, reference.std(axis=0))
    same = is_constant & (np.ptp(new, axis=0) == 0) & (new[0] == reference[0])
    tests = [stats.ks_2samp(a, b) for a, b in zip(reference.T, new.T, strict=True)]
    statistics, pvalues = np.array([(test.statistic, test.pvalue) for test in tests]).T
    return np.stack([np.where(same, 0.0, shift), statistics, _holm(pvalues)])


def _holm(pvalues):
    """Return the p-values of several tests, adjusted by the method of Holm."""
    order = np.argsort(pvalues)
    factors = len(pvalues) - np.arange(len(pvalues))
    adjusted = np.empty_like(pvalues)
    adjusted[order] = np.maximum.accumulate(pvalues[order] * factors).clip(max=1)
    return adjusted


def _columns(X, loadings, shift, names):
    """Return the columns of the inputs as ``ColumnShift``, those that moved most first.

    Parameters
    ----------
    X : list of two ndarrays of shape (n_rows, n_features), or None
        Inputs of reference rows and of new rows.
    loadings : ndarray of shape (n_components, n_features)
        Correlations of columns with components.
    shift : ndarray of shape (n_components,)
        Shifts of the components.
    names : list of length n_features
        Names of the columns.
    """
    parts = loadings * np.where(np.isfinite(shift), shift, 0.0)[:, None]
    expected, leading = parts.sum(axis=0), np.abs(parts).argmax(axis=0)
    measured = np.full((3, len(names)), np.nan) if X is None else _shifts(*X)
    size = np.abs(expected) if X is None else measured[1]
    return tuple(
        ColumnShift(
            names[j], float(expected[j]), int(leading[j]), *measured[:, j].tolist()
        )
        for j in np.argsort(-size, kind="stable")
    )

"""Measures of any kind of statistical dependence, estimated by a neural network.

Dependence between columns is the same after any strictly increasing map of a column.
So columns are replaced by the normal scores of their ranks first: units, heavy tails
and outliers change nothing.

Hjelm et al., arXiv:1808.06670, section 4.1, use both to evaluate representations.
"""

import warnings

import numpy as np
from sklearn.utils import check_random_state

from .. import _core
from .samples import check_count, check_sample, normal_scores

__all__ = ["neural_dependency_measure", "neural_mutual_information"]

_FEWEST_ROWS = 50
# With half as many rows for each column, estimates of correlated normal samples are
# about a third too small, because the network learns its training rows by heart.
_ROWS_FOR_A_COLUMN = 50


def neural_dependency_measure(Z, *, n_steps=1000, random_state=0):
    """Estimate the total correlation of components by a neural network.

    Total correlation is the Kullback-Leibler divergence of the joint distribution of
    the components from the product of their marginal distributions.  It is 0 if and
    only if they are independent.  Each component is first replaced by the normal scores
    of its ranks, which changes no dependence.  A network learns to tell rows of Z from
    rows whose components were shuffled independently of each other.  60 % of the rows
    train it, and 20 % choose when to stop and how far to trust it, or whether not at
    all.  The result is its Donsker-Varadhan bound on the other 20 %.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as the output of ``transform`` for held-out rows; at least 50
        rows, better thousands.
    n_steps : int, default=1000
        Number of training steps of the network, with at most 512 rows and as many
        shuffled rows each.
    random_state : int, RandomState instance or None, default=0
        Determines the split of the rows, the initial network and the shuffling.

    Returns
    -------
    dependence : float
        Estimated total correlation in nats.  It is 0 if no network is found that is
        better than a constant, as often for independent components and always for a
        single one.  Chance can make it slightly negative.  It is too small if the
        total correlation exceeds about ``log(n_samples)``, or if rows are few.

    Raises
    ------
    ValueError
        If Z is not an array of finite numbers of that shape, has too few rows, or a
        parameter is invalid.

    Warns
    -----
    UserWarning
        If there are fewer than 50 rows for each component.

    See Also
    --------
    total_correlation : A fast estimate, exact if the copula is normal.

    References
    ----------
    Hjelm et al., "Learning deep representations by mutual information estimation and
    maximization", ICLR 2019, arXiv:1808.06670, section 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import neural_dependency_measure, total_correlation
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(2000, 2))
    >>> Z *= rng.choice([0.2, 2], size=(2000, 1))  # both small or both large
    >>> total_correlation(Z) < 0.01 < 0.1 < neural_dependency_measure(Z, n_steps=300)
    True
    """
    Z = check_sample(Z, min_rows=_FEWEST_ROWS)
    if Z.shape[1] < 2:
        check_count("n_steps", n_steps)
        return 0.0
    return _dependence(Z, [1] * Z.shape[1], n_steps, random_state)


def neural_mutual_information(X, Z, *, n_steps=1000, random_state=0):
    """Estimate the mutual information of two paired samples by a neural network (MINE).

    Mutual information is the Kullback-Leibler divergence of the joint distribution of
    X and Z from the product of their marginal distributions.  Each column is first
    replaced by the normal scores of its ranks, which changes no information.  A network
    learns to tell pairs of rows from shuffled pairs.  60 % of the pairs train it, and
    20 % choose when to stop and how far to trust it, or whether not at all.  The result
    is its Donsker-Varadhan bound on the other 20 %.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The first sample, such as the inputs of held-out rows; at least 50 rows, better
        thousands.
    Z : array-like of shape (n_samples, n_components)
        The second sample, such as ``transform(X)``; row i belongs to row i of X.
    n_steps : int, default=1000
        Number of training steps of the network, with at most 512 rows and as many
        shuffled rows each.
    random_state : int, RandomState instance or None, default=0
        Determines the split of the rows, the initial network and the shuffling.

    Returns
    -------
    information : float
        Estimated mutual information in nats.  It is 0 if no network is found that is
        better than a constant, as often for independent samples.  Chance can make it
        slightly negative.  It is too small if rows are few, or if the mutual
        information exceeds about ``log(n_samples)``.  So it stays finite where the
        mutual information is infinite, as where Z is a continuous function of a
        continuous X.

    Raises
    ------
    ValueError
        If X or Z is not an array of finite numbers of that shape, X has fewer than 50
        rows, the numbers of rows differ, or a parameter is invalid.

    Warns
    -----
    UserWarning
        If there are fewer than 50 rows for each column of X and Z together.

    References
    ----------
    Belghazi et al., "Mutual information neural estimation", ICML 2018,
    arXiv:1801.04062.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import neural_mutual_information
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(3000, 1))
    >>> Z = X + rng.normal(size=(3000, 1))  # log(2) / 2 = 0.35 nats
    >>> abs(neural_mutual_information(X, Z, n_steps=300) - 0.35) < 0.1
    True
    """
    X, Z = check_sample(X, min_rows=_FEWEST_ROWS, name="X"), check_sample(Z)
    if len(X) != len(Z):
        raise ValueError(
            f"X and Z must have the same number of rows, but got {len(X)} and "
            f"{len(Z)}; pass one row of Z for each row of X."
        )
    widths = [X.shape[1], Z.shape[1]]
    return _dependence(np.hstack([X, Z]), widths, n_steps, random_state)


def _dependence(rows, widths, n_steps, random_state):
    """Estimate how dependent blocks of columns are, by a neural network.

    The estimate is the divergence between rows and rows whose blocks of columns are
    shuffled independently of each other.  Columns are replaced by the normal scores of
    their ranks first, so that their units and marginal distributions do not matter.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_columns)
        At least 50 rows.
    widths : list of int
        Number of columns of each block, in the order of the columns; they add up to
        ``n_columns``.
    n_steps : int
        Number of training steps of the network.
    random_state : int, RandomState instance or None
        Determines the split of the rows, the initial network and the shuffling.

    Returns
    -------
    divergence : float
        Estimated Kullback-Leibler divergence in nats, 0 for independent blocks.

    Raises
    ------
    ValueError
        If ``n_steps`` is not an integer above 0.

    Warns
    -----
    UserWarning
        If there are fewer than 50 rows for each column.
    """
    check_count("n_steps", n_steps)
    n_rows, n_columns = rows.shape
    if n_rows < _ROWS_FOR_A_COLUMN * n_columns:
        warnings.warn(
            f"{n_rows} rows are few for {n_columns} columns, and the estimate is "
            f"probably too small; pass {_ROWS_FOR_A_COLUMN * n_columns} rows or more, "
            f"or fewer columns.",
            stacklevel=3,
        )
    seed = check_random_state(random_state).randint(2**31 - 2)
    scores = normal_scores(rows)
    return _core.divergence.divergence_from_shuffled(scores, widths, n_steps, seed)

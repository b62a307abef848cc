"""Measures of any kind of statistical dependence, estimated by a neural network.

Hjelm et al., arXiv:1808.06670, section 4.1, use both to evaluate representations.
"""

import numpy as np
from sklearn.utils import check_random_state

from .. import _core
from .samples import check_count, check_sample

__all__ = ["neural_dependency_measure", "neural_mutual_information"]

_FEWEST_ROWS = 50


def neural_dependency_measure(Z, *, n_steps=1000, random_state=0):
    """Estimate the total correlation of components by a neural network.

    Total correlation is the Kullback-Leibler divergence of the joint distribution of
    the components from the product of their marginal distributions.  It is 0 if and
    only if they are independent.  A network learns to tell rows of Z from rows whose
    components were shuffled independently of each other.  The result is the
    Donsker-Varadhan bound of this network on rows of Z that were held out of its
    training.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as the output of ``transform`` for held-out rows; at least 50
        rows, better thousands.
    n_steps : int, default=1000
        Number of training steps of the network, with 512 rows and 512 shuffled rows
        each, rounded up to a multiple of 50.
    random_state : int, RandomState instance or None, default=0
        Determines the split of the rows, the initial network and the shuffling.

    Returns
    -------
    dependence : float
        Estimated total correlation in nats.  It is about 0, possibly slightly negative,
        for independent components, and 0 for a single one.  It is too small if the
        total correlation exceeds about ``log(n_samples)``.

    Raises
    ------
    ValueError
        If Z is not an array of finite numbers of that shape, has too few rows, or a
        parameter is invalid.

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
    X and Z from the product of their marginal distributions.  A network learns to tell
    pairs of rows from shuffled pairs.  The result is the Donsker-Varadhan bound of this
    network on pairs that were held out of its training.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The first sample, such as the inputs of held-out rows; at least 50 rows, better
        thousands.
    Z : array-like of shape (n_samples, n_components)
        The second sample, such as ``transform(X)``; row i belongs to row i of X.
    n_steps : int, default=1000
        Number of training steps of the network, with 512 rows and 512 shuffled rows
        each, rounded up to a multiple of 50.
    random_state : int, RandomState instance or None, default=0
        Determines the split of the rows, the initial network and the shuffling.

    Returns
    -------
    information : float
        Estimated mutual information in nats.  It is about 0, possibly slightly
        negative, for independent samples.  If Z is a continuous function of a
        continuous X, the mutual information is infinite.  The estimate stays finite,
        because it is too small above about ``log(n_samples)``.

    Raises
    ------
    ValueError
        If X or Z is not an array of finite numbers of that shape, X has fewer than 50
        rows, the numbers of rows differ, or a parameter is invalid.

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
    shuffled independently of each other.  Columns are standardised first, so that their
    units do not matter.

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
    """
    check_count("n_steps", n_steps)
    seed = check_random_state(random_state).randint(2**31 - 2)
    # Scaled first, so that the variance of huge numbers does not overflow.
    rows = rows / np.maximum(abs(rows).max(axis=0), np.finfo(float).tiny)
    deviation = rows.std(axis=0)
    rows = (rows - rows.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return _core.divergence.divergence_from_shuffled(rows, widths, n_steps, seed)

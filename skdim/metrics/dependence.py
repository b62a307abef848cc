"""Dependence of any kind, estimated by a neural network.

Both functions are used to judge representations in section 4.1 of Hjelm et al.,
arXiv:1808.06670.
"""

import numpy as np
from sklearn.utils import check_random_state

from .. import _core
from .samples import check_count, check_sample

__all__ = ["neural_dependency_measure", "neural_mutual_information"]

_FEWEST_ROWS = 50


def neural_dependency_measure(Z, *, n_steps=1000, random_state=0):
    """Total correlation of the components, estimated by a neural network.

    It is the Kullback-Leibler divergence of the rows from rows whose components were
    shuffled independently, and covers dependence of any kind.  A network learns to tell
    the two apart; the result is the Donsker-Varadhan bound on held-out rows.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes; at least 50 rows, better thousands.
    n_steps : int, default=1000
        Number of training steps with 512 rows each, rounded up to a multiple of 50.
    random_state : int, RandomState instance or None, default=0
        Determines the split of the rows, the initial network and the shuffling.

    Returns
    -------
    dependence : float
        In nats.  It is about 0, possibly slightly negative, for independent
        components, and too small if the total correlation exceeds about
        ``log(n_samples)``.

    Raises
    ------
    ValueError
        If Z is not a finite array of that shape, or a parameter is invalid.

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
    """Mutual information of two paired samples, estimated by a neural network (MINE).

    It is the Kullback-Leibler divergence of the pairs of rows from shuffled pairs.  A
    network learns to tell the two apart; the result is the Donsker-Varadhan bound on
    held-out pairs.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The first sample, such as held-out inputs; at least 50 rows, better thousands.
    Z : array-like of shape (n_samples, n_components)
        The second sample, such as their codes; row i belongs to row i of X.
    n_steps : int, default=1000
        Number of training steps with 512 rows each, rounded up to a multiple of 50.
    random_state : int, RandomState instance or None, default=0
        Determines the split of the rows, the initial network and the shuffling.

    Returns
    -------
    information : float
        In nats.  It is about 0, possibly slightly negative, for independent samples.
        If Z is a function of a continuous X, the true information is infinite; the
        result is then the most that this many rows can show.

    Raises
    ------
    ValueError
        If X or Z is not a finite array of that shape, their numbers of rows differ, or
        a parameter is invalid.

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
    """Return the divergence of rows from rows with independently shuffled blocks.

    Columns are standardised first, so that their units do not matter.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_columns)
    widths : list of int
        Number of columns of each block; they add up to ``n_columns``.
    n_steps, random_state
        As in the public functions.

    Returns
    -------
    divergence : float
        In nats.
    """
    check_count("n_steps", n_steps)
    seed = check_random_state(random_state).randint(2**31 - 2)
    # Scaled first, so that the variance of huge numbers does not overflow.
    rows = rows / np.maximum(abs(rows).max(axis=0), np.finfo(float).tiny)
    deviation = rows.std(axis=0)
    rows = (rows - rows.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return _core.divergence.divergence_from_shuffled(rows, widths, n_steps, seed)

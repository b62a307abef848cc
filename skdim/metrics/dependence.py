"""Dependence of any kind, learned by a network: between components, and of two samples.

Representation measures of Hjelm et al., arXiv 1808.06670, section 4.1.
"""

import numpy as np
from sklearn.utils import check_random_state

from .. import _core
from .samples import check_count, check_sample

__all__ = ["neural_dependency_measure", "neural_mutual_information"]

_FEWEST_ROWS = 50


def neural_dependency_measure(Z, *, n_steps=1000, random_state=0):
    """Dependence between the components, of any kind: a network's estimate.

    The Kullback-Leibler divergence of rows from rows whose components were shuffled,
    each on its own: the total correlation, in nats.  A network learns to tell one from
    the other, and the Donsker-Varadhan bound of rows that it has not seen is returned.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes; at least 50 rows, better thousands.
    n_steps : int, default=1000
        Steps of 512 rows, rounded up to fifties.
    random_state : int, RandomState instance or None, default=0
        Fixes the split of the rows, the network and the shuffling.

    Returns
    -------
    dependence : float
        In nats, about 0 for independent components; it may come out a little below.
        Of strong dependence, at more than about the logarithm of the rows, it is too
        small.

    Raises
    ------
    ValueError
        If Z is not a finite array of that shape, or a parameter is invalid.

    See Also
    --------
    total_correlation : Is quick, and exact if the copula is normal.

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
    return _divergence(Z, [1] * Z.shape[1], n_steps, random_state)


def neural_mutual_information(X, Z, *, n_steps=1000, random_state=0):
    """Mutual information of two samples, row by row: a network's estimate (MINE).

    The Kullback-Leibler divergence of pairs of rows from pairs that were shuffled.  A
    network learns to tell one from the other, and the Donsker-Varadhan bound of pairs
    that it has not seen is returned.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Such as held-out inputs; at least 50 rows, better thousands.
    Z : array-like of shape (n_samples, n_components)
        Such as their codes.
    n_steps : int, default=1000
        Steps of 512 rows, rounded up to fifties.
    random_state : int, RandomState instance or None, default=0
        Fixes the split of the rows, the network and the shuffling.

    Returns
    -------
    information : float
        In nats, about 0 for independent samples; it may come out a little below.  If Z
        is a function of a continuous X, the information is infinite, and what is
        returned is what so many rows can show.

    Raises
    ------
    ValueError
        If X or Z is not a finite array of that shape, they differ in their number of
        rows, or a parameter is invalid.

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
            f"{len(Z)}; pass rows that belong together."
        )
    widths = [X.shape[1], Z.shape[1]]
    return _divergence(np.hstack([X, Z]), widths, n_steps, random_state)


def _divergence(rows, widths, n_steps, random_state):
    """Return the divergence from rows whose blocks of columns are shuffled apart."""
    check_count("n_steps", n_steps)
    seed = check_random_state(random_state).randint(2**31 - 2)
    kl_divergence = _core.divergence.kl_divergence
    import torch

    def shuffle(rows, generator):
        blocks = rows.split(widths, dim=1)
        orders = (torch.randperm(len(rows), generator=generator) for _ in blocks)
        return torch.cat([b[o] for b, o in zip(blocks, orders, strict=True)], 1)

    rows = rows / np.maximum(abs(rows).max(axis=0), np.finfo(float).tiny)
    deviation = rows.std(axis=0)
    rows = (rows - rows.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    rows = torch.tensor(rows, dtype=torch.float32, device="cpu")
    return kl_divergence(rows, shuffle, n_steps, seed)

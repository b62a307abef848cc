"""Summaries of a sample in one number: spread of norms, dependence, rank."""

import numpy as np
from scipy import special, stats

from .samples import check_sample, normal_sample

__all__ = ["effective_rank", "norm_spread", "total_correlation"]


def norm_spread(Z, output_distribution="normal"):
    """Spread of the norms of rows as a multiple of what the law has.

    The standard deviation of the norms is divided by that of a chi distribution with
    as many degrees of freedom as components: 1 is perfect, more means that some rows
    are far out and others far in *together in all components*, which no column and
    hardly any slice shows.  Any law but the normal one is first sent to it.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes; at least two rows.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Law of each of the independent components: N(0, 1), uniform on [0, 1], or a
        continuous distribution with its parameters frozen.

    Returns
    -------
    spread : float
        From 0; a true sample is at 1, give or take ``1 / sqrt(2 * n_samples)``.

    Raises
    ------
    ValueError
        If Z is not a finite array of that shape, or the law is none of these.

    See Also
    --------
    norm_distance : Sees a wrong mean of the norms as well.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import norm_spread
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(2000, 16))
    >>> abs(norm_spread(Z) - 1) < 0.05
    True
    >>> norm_spread(Z * rng.choice([0.8, 1.2], size=(2000, 1))) > 1.4
    True
    """
    Z = normal_sample(Z, output_distribution, min_rows=2)
    norms = np.linalg.norm(Z, axis=1)
    return float(norms.std(ddof=1) / stats.chi(Z.shape[1]).std())


def total_correlation(Z):
    """Dependence between the components: a Gaussian-copula estimate.

    Each column is replaced by the normal scores of its ranks, and the estimate is
    ``-log(det(R)) / 2`` for their correlation matrix R.  It depends on the ranks alone,
    so that no law need be named: it is 0 for independent components of any law, and a
    true sample is near ``d * (d - 1) / (4 * n)`` for d components and n rows.

    The estimate is exact if the copula is normal.  Other dependence it may miss
    altogether, such as that of signs that multiply to 1 or of magnitudes that rise
    together: ``bhep_test`` and ``norm_spread`` see those.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes; more rows than components.

    Returns
    -------
    total_correlation : float
        In nats, from 0; infinite, or so large that only rounding keeps it finite, if
        a component is a function of the others.  A constant component adds nothing.

    Raises
    ------
    ValueError
        If Z is not a finite array of that shape.

    References
    ----------
    Watanabe, "Information theoretical analysis of multivariate correlation", IBM
    Journal of Research and Development 4, 1960. Ince et al., "A statistical framework
    for neuroimaging data analysis based on mutual information estimated via a Gaussian
    copula", Human Brain Mapping 38, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import total_correlation
    >>> Z = np.random.default_rng(0).normal(size=(1000, 2))
    >>> total_correlation(Z) < 0.01 < total_correlation(Z @ [[1, 1], [0, 1]])
    True
    """
    Z = check_sample(Z)
    Z = check_sample(Z, min_rows=Z.shape[1] + 1)
    Z = Z[:, np.ptp(Z, axis=0) > 0]
    if Z.shape[1] < 2:
        return 0.0
    scores = special.ndtri(stats.rankdata(Z, axis=0) / (len(Z) + 1))
    _, log_determinant = np.linalg.slogdet(np.corrcoef(scores, rowvar=False))
    return float(max(0.0, -0.5 * log_determinant))


def effective_rank(Z, output_distribution="normal"):
    """Effective rank: how many directions a sample really uses.

    The exponential of the entropy of the singular values of the centred sample,
    normalised to sum to 1.  Any law but the normal one is first sent to it.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes; at least two rows.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Law of each of the independent components: N(0, 1), uniform on [0, 1], or a
        continuous distribution with its parameters frozen.

    Returns
    -------
    rank : float
        From 1 to ``n_components``, which a true sample nears from below; 0 if all rows
        are equal.

    Raises
    ------
    ValueError
        If Z is not a finite array of that shape, or the law is none of these.

    References
    ----------
    Roy and Vetterli, "The effective rank: a measure of effective dimensionality",
    European Signal Processing Conference, 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import effective_rank
    >>> Z = np.random.default_rng(0).normal(size=(1000, 3))
    >>> round(effective_rank(Z), 1)
    3.0
    >>> round(effective_rank(Z[:, [0, 0, 1]]), 1)  # a column twice
    2.0
    """
    Z = normal_sample(Z, output_distribution, min_rows=2)
    if not np.ptp(Z, axis=0).any():
        return 0.0
    values = np.linalg.svd(Z - Z.mean(axis=0), compute_uv=False)
    return float(np.exp(special.entr(values / values.sum()).sum()))

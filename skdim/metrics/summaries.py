"""Summaries of a sample in one number: spread of norms, dependence and rank."""

import numpy as np
from scipy import special, stats

from .samples import check_sample, normal_sample

__all__ = ["effective_rank", "norm_spread", "total_correlation"]


def norm_spread(Z, output_distribution="normal"):
    """Spread of the norms of rows, relative to that under N(0, I).

    It is the standard deviation of the norms, divided by that of the chi distribution
    with ``n_components`` degrees of freedom, which norms of N(0, I) follow.  It is
    above 1 if some rows are large and others small *in all components at once*, which
    single columns and projections hardly show.  Any other target distribution is first
    mapped to N(0, 1), component by component.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes; at least two rows.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Target distribution of the components, which are independent: N(0, 1), U[0, 1],
        or a continuous distribution of scipy.stats with its parameters frozen.

    Returns
    -------
    spread : float
        0 or above.  A perfect sample has 1, with a standard error of about
        ``1 / sqrt(2 * n_samples)``.

    Raises
    ------
    ValueError
        If Z is not a finite array of that shape, or a parameter is invalid.

    See Also
    --------
    norm_distance : Also responds to a wrong mean of the norms.

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
    """Total correlation of the components, estimated with a Gaussian copula.

    Total correlation is the divergence of the joint distribution from independent
    components.  Each column is replaced by the normal scores of its ranks; with their
    correlation matrix R the estimate is ``-log(det(R)) / 2``.  Only ranks matter, so no
    target distribution is needed.  For d independent components and n rows it is about
    ``d * (d - 1) / (4 * n)``.

    The estimate is exact if the copula is normal.  It can miss other dependence
    completely, such as components whose magnitudes rise together or whose signs
    multiply to 1.  ``bhep_test`` detects both, ``norm_spread`` the first.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes; more rows than components.

    Returns
    -------
    total_correlation : float
        In nats, 0 or above.  It is infinite, or very large because of rounding, if
        the normal scores of a component are linear in the others.  Constant components
        are left out.

    Raises
    ------
    ValueError
        If Z is not a finite array of that shape, or has too few rows.

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
    """Effective rank of a sample: the number of directions in which it varies.

    It is the exponential of the entropy of the singular values of the centred sample,
    normalised to sum to 1.  Any other target distribution is first mapped to N(0, 1),
    component by component.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes; at least two rows.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Target distribution of the components, which are independent: N(0, 1), U[0, 1],
        or a continuous distribution of scipy.stats with its parameters frozen.

    Returns
    -------
    rank : float
        From 1 to ``n_components``, or 0 if all rows are equal.  A perfect sample is
        slightly below ``n_components``.

    Raises
    ------
    ValueError
        If Z is not a finite array of that shape, or a parameter is invalid.

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

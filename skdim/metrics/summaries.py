"""Summaries of a sample in one number: spread of norms, dependence or rank."""

import numpy as np
from scipy import special, stats

from .samples import check_sample, in_units, normal_sample, normal_scores, scale_of

__all__ = ["effective_rank", "norm_spread", "total_correlation"]


def norm_spread(Z, output_distribution="normal"):
    """Return the spread of the norms of rows, relative to the spread under N(0, I).

    It is the standard deviation of the norms, divided by that of the chi distribution
    with ``n_components`` degrees of freedom, which the norm of a row from N(0, I)
    follows.  It is above 1 if some rows are large and others small *in all components
    at once*, which single columns and projections hardly show.  A sample for any other
    target distribution is first mapped to N(0, 1), component by component.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as the output of ``transform`` for held-out rows; at least two
        rows.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Target distribution.  The components are independent, and each follows N(0, 1)
        ("normal"), U[0, 1] ("uniform"), or the given continuous distribution of
        scipy.stats, whose parameters must be frozen.

    Returns
    -------
    spread : float
        0 or above.  A sample drawn from the target distribution has about 1, with a
        standard error of about ``1 / sqrt(2 * n_samples)``.

    Raises
    ------
    ValueError
        If Z is not an array of finite numbers of that shape, has too few rows, or a
        parameter is invalid.

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
    scale = scale_of(Z)
    norms = np.linalg.norm(Z / scale, axis=1)
    return in_units(norms.std(ddof=1) / stats.chi(Z.shape[1]).std(), scale)


def total_correlation(Z):
    """Estimate the total correlation of components with a Gaussian copula.

    Total correlation measures dependence: it is the Kullback-Leibler divergence of the
    joint distribution of the components from the product of their marginal
    distributions.  Each column is replaced by the normal scores of its ranks.  With R
    the correlation matrix of these scores the estimate is ``-log(det(R)) / 2``.  Only
    ranks matter, so no target distribution is needed.  For d independent components and
    many more rows, n, the estimate is about ``d * (d - 1) / (4 * n)``.  With few rows
    for each component it is larger: ``sample_floor`` measures it.

    With many rows it is exact if the copula is normal.  It can miss other dependence
    completely, such as components whose magnitudes rise together or whose signs
    multiply to 1.  ``bhep_test`` detects both, ``norm_spread`` the first.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as the output of ``transform`` for held-out rows; more rows
        than components.

    Returns
    -------
    total_correlation : float
        In nats, 0 or above.  It is infinite, or very large because of rounding, if
        the normal scores of a component are linear in those of the others.  Constant
        components are left out.

    Raises
    ------
    ValueError
        If Z is not an array of finite numbers of that shape, or has too few rows.

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
    Z = Z[:, Z.max(axis=0) > Z.min(axis=0)]
    if Z.shape[1] < 2:
        return 0.0
    correlations = np.corrcoef(normal_scores(Z), rowvar=False)
    _, log_determinant = np.linalg.slogdet(correlations)
    return float(max(0.0, -0.5 * log_determinant))


def effective_rank(Z, output_distribution="normal"):
    """Return the effective rank: the number of directions that a sample varies in.

    The singular values of the centred sample are divided by their sum.  The effective
    rank is the exponential of the entropy of these shares.  A low rank shows that
    components of the codes repeat each other.  A sample for any other target
    distribution is first mapped to N(0, 1), component by component.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as the output of ``transform`` for held-out rows; at least two
        rows.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Target distribution.  The components are independent, and each follows N(0, 1)
        ("normal"), U[0, 1] ("uniform"), or the given continuous distribution of
        scipy.stats, whose parameters must be frozen.

    Returns
    -------
    rank : float
        From 1 to ``n_components``, or 0 if all rows are equal.  For a sample drawn from
        the target distribution it is slightly below ``n_components``.

    Raises
    ------
    ValueError
        If Z is not an array of finite numbers of that shape, has too few rows, or a
        parameter is invalid.

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
    Z = Z / max(np.abs(Z).max(), np.finfo(float).tiny)
    if not np.ptp(Z, axis=0).any():
        return 0.0
    values = np.linalg.svd(Z - Z.mean(axis=0), compute_uv=False)
    return float(np.exp(special.entr(values / values.sum()).sum()))

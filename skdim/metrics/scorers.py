"""Scorers for model selection without labels, and ``reference_information``."""

from functools import lru_cache

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from .. import _core
from .._base import BaseInfoMax
from .capacity import channel_capacity
from .distances import sliced_wasserstein_distance
from .samples import (
    check_count,
    check_positive,
    normal_sample,
    sample_floor,
    scale_of,
)

__all__ = [
    "capacity_share_score",
    "distribution_of",
    "last_step",
    "match_score",
    "reference_information",
    "reference_information_score",
]

# Largest number of rows that ``reference_information`` uses.  It compares all pairs of
# rows, so this bounds the time.  The result is at most the logarithm of this number.
_MOST_ROWS = 4096


def capacity_share_score(estimator, X, y=None):
    """Score an estimator by the share of its channel's capacity that the codes use.

    The score is a lower bound on the mutual information between the code of a view of
    a row and the noisy code of this row, divided by ``capacity_``.  Without views, the
    code of the row itself is used instead of that of a view.  The bound is InfoNCE,
    whatever ``objective`` the estimator was trained with.

    Use it to choose layer sizes, weight decay, views or epochs **at a fixed noise scale
    and number of components**.  It cannot choose these two: under wide noise any codes
    of the right variance use almost all of a tiny capacity, and under narrow noise the
    share falls because InfoNCE is at most ``log(batch_size_)``.

    Parameters
    ----------
    estimator : NoiseInjectedDIM or Pipeline that ends in one
        A fitted estimator.
    X : array-like
        Held-out rows or images, as ``estimator.transform`` takes them; at least two.
    y : None
        Ignored.

    Returns
    -------
    share : float
        At most 1, where the capacity is used completely; higher is better.  The bound
        can be negative if the codes carry hardly any information.

    Raises
    ------
    ValueError
        If the estimator is not one of skdim, or has no noisy channel.

    See Also
    --------
    reference_information_score : Also compares noise scales and numbers of components.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdim import NoiseInjectedDIM
    >>> from skdim.metrics import capacity_share_score
    >>> X = load_digits().data
    >>> dim = NoiseInjectedDIM(4, max_iter=20, random_state=0).fit(X[:1000])
    >>> 0.5 < capacity_share_score(dim, X[1000:]) < 1
    True
    """
    last = last_step(estimator)
    if not hasattr(last, "capacity_"):
        raise ValueError(
            f"capacity_share_score needs an estimator with a noisy channel, such as "
            f"NoiseInjectedDIM. Got {type(last).__name__} instead; use match_score for "
            f"it."
        )
    while isinstance(estimator, Pipeline):
        X = estimator[:-1].transform(X) if len(estimator) > 1 else X
        estimator = estimator[-1]
    information = last._information(X, bound="infonce")
    return float(min(1.0, information / last.capacity_))


def match_score(estimator, X, y=None):
    """Score an estimator by how closely its codes match their target distribution.

    Codes are mapped from their target distribution to N(0, I).  The score is minus
    their sliced 2-Wasserstein distance from N(0, I), divided by the mean distance of
    samples of the same size drawn from N(0, I) (``sample_floor``).  It does not measure
    how much information the codes keep, and few components match more easily than many.

    Parameters
    ----------
    estimator : NoiseInjectedDIM, DeepInfoMax or Pipeline that ends in one
        A fitted estimator.
    X : array-like
        Held-out rows or images, as ``estimator.transform`` takes them; at least two.
    y : None
        Ignored.

    Returns
    -------
    match : float
        At most 0; higher is better.  Samples drawn from the target distribution have
        about -1 on average.

    Raises
    ------
    ValueError
        If the estimator is not one of these, or its outputs are not codes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdim import NoiseInjectedDIM
    >>> from skdim.metrics import match_score
    >>> X = load_digits().data
    >>> dim = NoiseInjectedDIM(4, max_iter=20, random_state=0).fit(X[:1000])
    >>> -3 < match_score(dim, X[1000:]) < -0.5
    True
    """
    Z = _normal_codes(estimator, X)
    return -sliced_wasserstein_distance(Z) / _normal_floor(*Z.shape)


def reference_information_score(estimator, X, y=None, *, reference_noise=1.0):
    """Score an estimator by the information its codes keep, with two penalties.

    Use it to choose ``n_components`` and ``noise_scale``.  The estimator's own noise
    is not added here: codes without noise pass through a reference channel that is the
    same for all candidates.  The score in nats is

    - ``reference_information`` of the codes,
    - minus half of the capacity of the reference channel, so that a component improves
      the score only if it adds more than half of what an ideal one adds,
    - minus a lower bound on the Kullback-Leibler divergence of the codes from their
      target distribution: ``n_components / 2 * max(0, W**2 - floor**2)``, where W is
      the sliced 2-Wasserstein distance of the codes and floor its mean for samples
      drawn from the target distribution (Talagrand's inequality).

    Compare candidates on the same held-out rows or on splits of equal size.  The
    information is at most the logarithm of the number of rows, so more rows justify
    more components.

    Parameters
    ----------
    estimator : NoiseInjectedDIM, DeepInfoMax or Pipeline that ends in one
        A fitted estimator.
    X : array-like
        Held-out rows or images, as ``estimator.transform`` takes them; at least two.
    y : None
        Ignored.
    reference_noise : float, default=1.0
        Standard deviation of the reference noise, relative to that of codes that follow
        N(0, I); above 0.  Detail finer than the noise counts little, and larger values
        favour more components.  Set it with ``functools.partial``.

    Returns
    -------
    score : float
        In nats; higher is better.  Its expectation is at most half of the capacity of
        the reference channel.

    Raises
    ------
    ValueError
        If the estimator is not one of these, its outputs are not codes, or
        ``reference_noise`` is not above 0.

    Notes
    -----
    Like every score without labels it measures whether *rows* can be told apart, not
    whether classes can.

    References
    ----------
    Talagrand, "Transportation cost for Gaussian and other product measures", Geometric
    and Functional Analysis 6, 1996.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdim import NoiseInjectedDIM
    >>> from skdim.metrics import reference_information_score
    >>> X = load_digits().data
    >>> one, four = (
    ...     NoiseInjectedDIM(d, max_iter=20, random_state=0).fit(X[:1000])
    ...     for d in (1, 4)
    ... )
    >>> reference_information_score(four, X[1000:]) > reference_information_score(
    ...     one, X[1000:]
    ... )
    True
    """
    Z = _normal_codes(estimator, X)
    information = reference_information(Z, reference_noise=reference_noise)
    penalty = channel_capacity(reference_noise, Z.shape[1]) / 2
    return information - penalty - _least_divergence(Z)


def reference_information(
    Z,
    output_distribution="normal",
    *,
    reference_noise=1.0,
    n_draws=5,
    random_state=0,
):
    """Return how much information about a sample remains after noise is added to it.

    It is a lower bound on the mutual information between the rows and the same rows
    plus independent normal noise: InfoNCE with the density of the noise as critic.  It
    measures how well each noisy row identifies the row it comes from.  The noise is the
    same for all samples, so that they can be compared.  The sample is first mapped from
    its target distribution to the normal one.  Each component is then centred, and the
    sample is divided by the root of the mean square of all entries if that is above 1,
    so that large codes gain nothing over the noise.

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
    reference_noise : float, default=1.0
        Standard deviation of the noise, in the units of a sample that follows N(0, I);
        above 0.
    n_draws : int, default=5
        Number of draws of the noise to average over.
    random_state : int, RandomState instance or None, default=0
        Determines the noise, and which 4,096 rows are used if there are more.

    Returns
    -------
    information : float
        In nats.  It is at most the logarithm of the number of rows used, and its
        expectation is at most ``channel_capacity(reference_noise, n_components)``.

    Raises
    ------
    ValueError
        If Z is not an array of finite numbers of that shape, has too few rows, or a
        parameter is invalid.

    References
    ----------
    Poole et al., "On variational bounds of mutual information", ICML 2019,
    arXiv:1905.06922.

    Examples
    --------
    >>> import numpy as np
    >>> from skdim.metrics import channel_capacity, reference_information
    >>> Z = np.random.default_rng(0).normal(size=(1000, 2))
    >>> abs(reference_information(Z) - channel_capacity(1.0, 2)) < 0.05
    True
    """
    check_count("n_draws", n_draws)
    Z = normal_sample(Z, output_distribution, min_rows=2)
    check_positive("reference_noise", reference_noise)
    rng = check_random_state(random_state)
    if len(Z) > _MOST_ROWS:
        Z = Z[rng.choice(len(Z), _MOST_ROWS, replace=False)]
    scale = scale_of(Z)
    Z = Z / scale
    Z = Z - Z.mean(axis=0)
    # Narrower noise tells no more rows apart, and its squares would overflow.
    reference_noise = max(reference_noise, 1e-100)
    Z = Z / max(1 / scale, np.sqrt(np.mean(Z**2))) / reference_noise
    noises = (rng.normal(size=Z.shape) for _ in range(n_draws))
    infonce = _core.bounds.infonce_of_samples
    channel = _core.channels.NormalChannel(1.0)
    return float(
        np.mean([infonce(channel.log_ratio, Z, Z + noise) for noise in noises])
    )


def _least_divergence(Z):
    """Return a lower bound on the Kullback-Leibler divergence of a sample from N(0, I).

    Z has the shape (n_samples, n_components), and the bound is in nats, 0 or above.  It
    follows from the sliced 2-Wasserstein distance by Talagrand's inequality; see
    ``reference_information_score``, which subtracts it.
    """
    square = sliced_wasserstein_distance(Z) ** 2 - _normal_floor(*Z.shape) ** 2
    return Z.shape[1] / 2 * max(0.0, square)


@lru_cache  # a search for parameters asks many times for few shapes
def _normal_floor(n_samples, n_components):
    """Return the mean sliced 2-Wasserstein distance from N(0, I) of normal samples.

    The samples are drawn from N(0, I) with the shape (n_samples, n_components).  Their
    distance is above 0 because they are finite, so scores compare with it.
    """
    return sample_floor(sliced_wasserstein_distance, n_samples, n_components)


def _normal_codes(estimator, X):
    """Return the codes of X, mapped from their target distribution to N(0, I).

    ``estimator`` is a fitted estimator of skdim, or a pipeline that ends in one.  X has
    at least two rows or images, as ``estimator.transform`` takes them.  The result has
    the shape (n_samples, n_components).  ValueError is raised if ``transform`` does not
    return codes.
    """
    target = distribution_of(estimator)
    return normal_sample(estimator.transform(X), target, min_rows=2)


def distribution_of(estimator):
    """Return the target distribution of the codes of a fitted estimator.

    It is passed to metrics as ``output_distribution``.

    Parameters
    ----------
    estimator : estimator of skdim or Pipeline that ends in one
        A fitted estimator whose ``transform`` returns codes.

    Returns
    -------
    distribution : str or scipy.stats distribution
        The attribute ``output_distribution_`` of the estimator of skdim.

    Raises
    ------
    ValueError
        If the estimator is not one of these, or its outputs are not codes.
    NotFittedError
        If the estimator is not fitted.
    """
    target = last_step(estimator).output_distribution_
    if target is None:
        raise ValueError(
            f"The estimator must return codes, but got one fitted with output_layer="
            f"{last_step(estimator).output_layer!r}, whose outputs have no target "
            f"distribution; fit it with output_layer='code'."
        )
    return target


def last_step(estimator):
    """Return the estimator of skdim that is passed, or that ends the passed pipeline.

    Scorers read the fitted attributes of this estimator.  Pipelines may be nested.
    ValueError is raised if the last step is no estimator of skdim, and NotFittedError
    if it is not fitted.
    """
    last = estimator
    while isinstance(last, Pipeline):
        last = last[-1]
    if not (hasattr(last, "output_distribution_") or isinstance(last, BaseInfoMax)):
        raise ValueError(
            f"The estimator must be one of skdim, such as NoiseInjectedDIM, or a "
            f"Pipeline that ends in one, but got {type(last).__name__}; pass only the "
            f"steps up to the codes, as in pipeline[:-1]."
        )
    check_is_fitted(last)
    return last

"""Scorers for model selection without labels."""

from functools import lru_cache

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from .. import _core
from .._base import BaseInfoMax
from .capacity import channel_capacity
from .distances import sliced_wasserstein_distance
from .samples import check_count, check_positive, normal_sample, sample_floor

__all__ = [
    "capacity_share_score",
    "distribution_of",
    "last_step",
    "match_score",
    "reference_information",
    "reference_information_score",
]

# All pairs of rows are compared, so this bounds the time.  Its logarithm is the largest
# information that can be reported.
_MOST_ROWS = 4096


def capacity_share_score(estimator, X, y=None):
    """Score an estimator by the share of its channel's capacity that the codes use.

    It is the InfoNCE bound on the information, for every training objective, divided by
    ``capacity_``.

    Use it to choose layer sizes, weight decay, views or epochs **at a fixed noise scale
    and number of components**.  It cannot choose these two: under wide noise any codes
    of the right variance use almost all of a tiny capacity, and under narrow noise the
    share falls because InfoNCE is at most ``log(batch_size_)``.

    Parameters
    ----------
    estimator : NoiseInjectedDIM or Pipeline that ends in one
        A fitted estimator.
    X : array-like
        Held-out data, at least two rows.
    y : None
        Ignored.

    Returns
    -------
    share : float
        At most 1, which is perfect.  Higher is better.

    Raises
    ------
    ValueError
        If the estimator has no noisy channel.

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
    information = last._information(X, objective="infonce")
    return float(min(1.0, information / last.capacity_))


def match_score(estimator, X, y=None):
    """Score an estimator by how closely its codes match their target distribution.

    Codes are mapped from their target distribution to N(0, I).  The score is minus
    their sliced 2-Wasserstein distance from N(0, I), divided by the distance of a
    perfect sample of the same size (``sample_floor``).  It does not measure how much
    information the codes keep, and few components match more easily than many.

    Parameters
    ----------
    estimator : NoiseInjectedDIM, DeepInfoMax or Pipeline that ends in one
        A fitted estimator.
    X : array-like
        Held-out data, at least two rows.
    y : None
        Ignored.

    Returns
    -------
    match : float
        Negative; higher is better.  Perfect samples have -1 on average.

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
    has no influence: codes without noise pass through a reference channel that is the
    same for all candidates.  The score in nats is

    - ``reference_information`` of the codes,
    - minus half of the capacity of the reference channel, so that a component improves
      the score only if it adds more than half of what an ideal one adds,
    - minus a lower bound on the divergence of the codes from their target distribution:
      ``n_components / 2 * (W**2 - floor**2)``, where W is the sliced 2-Wasserstein
      distance and floor that of a perfect sample (Talagrand's inequality).

    Compare candidates on the same held-out rows or on splits of equal size.  The
    information is at most the logarithm of the number of rows, so more rows justify
    more components.

    Parameters
    ----------
    estimator : NoiseInjectedDIM, DeepInfoMax or Pipeline that ends in one
        A fitted estimator.
    X : array-like
        Held-out data, at least two rows.
    y : None
        Ignored.
    reference_noise : float, default=1.0
        Standard deviation of the reference noise, relative to that of the codes.
        Detail finer than the noise counts little, and larger values favour more
        components.  Set it with ``functools.partial``.

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
    """Information about a sample that remains after normal noise is added to it.

    It is the InfoNCE bound with the density of the noise as critic: how well each noisy
    row identifies the row it comes from.  The sample is first mapped from its target
    distribution to the normal one.  It is then centred and, if its mean square is above
    1, scaled down to 1, so that large codes gain nothing over the noise.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes; at least two rows.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Target distribution of the components, which are independent: N(0, 1), U[0, 1],
        or a continuous distribution of scipy.stats with its parameters frozen.
    reference_noise : float, default=1.0
        Standard deviation of the noise; above 0.
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
        If Z is not a finite array of that shape, or a parameter is invalid.

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
    Z = Z - Z.mean(axis=0)
    Z = Z / max(1.0, np.sqrt(np.mean(Z**2))) / reference_noise
    noises = (rng.normal(size=Z.shape) for _ in range(n_draws))
    infonce = _core.bounds.infonce_of_samples
    channel = _core.channels.NormalChannel(1.0)
    return float(
        np.mean([infonce(channel.log_ratio, Z, Z + noise) for noise in noises])
    )


def _least_divergence(Z):
    """Return a lower bound on the divergence of a sample from N(0, I), in nats."""
    square = sliced_wasserstein_distance(Z) ** 2 - _normal_floor(*Z.shape) ** 2
    return Z.shape[1] / 2 * max(0.0, square)


@lru_cache  # a search asks many times for few shapes
def _normal_floor(n_samples, n_components):
    """Return the sliced Wasserstein distance of a perfect sample of this shape."""
    return sample_floor(sliced_wasserstein_distance, n_samples, n_components)


def _normal_codes(estimator, X):
    """Return the codes of X, mapped from their target distribution to N(0, I)."""
    target = distribution_of(estimator)
    return normal_sample(estimator.transform(X), target, min_rows=2)


def distribution_of(estimator):
    """Return the target distribution of the codes of a fitted estimator.

    Parameters
    ----------
    estimator : estimator of skdim or Pipeline that ends in one

    Returns
    -------
    distribution : str or scipy.stats distribution

    Raises
    ------
    ValueError
        If the estimator is not one of these, or its outputs are not codes.
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
    """Return the estimator of skdim itself, or the one that a pipeline ends in.

    Raises ValueError if there is none, and NotFittedError if it is not fitted.
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

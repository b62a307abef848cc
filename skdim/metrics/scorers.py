"""Scorers for model selection without labels, and what they are made of."""

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
    "last_step",
    "law_of",
    "match_score",
    "reference_information",
    "reference_information_score",
]

# Pairs of rows are compared: this bounds the time, and ln of it is the most to report.
_MOST_ROWS = 4096
_ENTRIES_AT_ONCE = 2**20  # 8 MiB


def capacity_share_score(estimator, X, y=None):
    """Share of the channel's capacity that held-out codes use.

    The InfoNCE bound on the information, whatever objective was trained, divided by
    ``capacity_``.  Compare it **at a fixed noise and number of components** (widths,
    weight decay, views, epochs): the share alone is won by a channel that carries next
    to nothing, because under wide noise any codes of the right variance use all of its
    capacity, and so small a quotient of estimates is noise besides.  At the narrow end
    it cannot be won: InfoNCE reports at most ``log(batch_size_)``, so that the share
    falls once the capacity is above that.

    Parameters
    ----------
    estimator : NoiseInjectedDIM or Pipeline that ends in one
        Fitted.
    X : array-like
        Held-out data, at least two rows.
    y : None
        Ignored.

    Returns
    -------
    share : float
        Higher is better, and 1, the most there is, is perfect.

    Raises
    ------
    ValueError
        If the estimator has no noisy channel.

    See Also
    --------
    reference_information_score : Compares across noise and numbers of components.

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
            f"NoiseInjectedDIM. Got {type(last).__name__} instead; use match_score."
        )
    while isinstance(estimator, Pipeline):
        X = estimator[:-1].transform(X) if len(estimator) > 1 else X
        estimator = estimator[-1]
    information = last._information(X, bound="infonce")
    return float(min(1.0, information / last.capacity_))


def match_score(estimator, X, y=None):
    """How close held-out codes are to their law, as a multiple of a true sample's.

    Codes are sent from their law to the normal one; the score is minus their sliced
    2-Wasserstein distance to N(0, I) divided by ``sample_floor``.  It says nothing of
    what codes keep: one component matches more easily than many.

    Parameters
    ----------
    estimator : NoiseInjectedDIM, DeepInfoMax or Pipeline that ends in one
        Fitted.
    X : array-like
        Held-out data, at least two rows.
    y : None
        Ignored.

    Returns
    -------
    match : float
        Higher is better; -1 is what true samples have on average.

    Raises
    ------
    ValueError
        If the estimator names no law.

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
    """Information that held-out codes keep, less a price of components and mismatch.

    A score for choosing ``n_components`` *and* ``noise_scale``, because the
    estimator's own noise does not enter: its codes, without noise, are sent through a
    reference channel that is the same for all candidates.  In nats it is the sum of

    - ``reference_information`` of the codes,
    - minus half of the capacity of the reference channel: a component pays only if it
      adds more than half of what an ideal one adds,
    - minus what the codes' divergence from the law is at least, ``n_components / 2 *
      (W**2 - floor**2)``, where W is the sliced 2-Wasserstein distance and floor that
      of a true sample (Talagrand's inequality).

    Compare it on one set of held-out rows, or on splits of equal size: no more than the
    logarithm of the rows can be reported, so that more rows justify more components.

    Parameters
    ----------
    estimator : NoiseInjectedDIM, DeepInfoMax or Pipeline that ends in one
        Fitted.
    X : array-like
        Held-out data, at least two rows.
    y : None
        Ignored.
    reference_noise : float, default=1.0
        Standard deviation of the reference noise, in standard deviations of the codes:
        detail finer than this counts for little.  Larger values favour more
        components.  Set it with ``functools.partial``.

    Returns
    -------
    score : float
        In nats; higher is better, and at most half of the reference channel's capacity
        in expectation.

    Raises
    ------
    ValueError
        If the estimator names no law, or the noise is not above 0.

    Notes
    -----
    Like any score without labels it asks whether *rows* can be told apart, not whether
    classes can.

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
    price = channel_capacity(reference_noise, Z.shape[1]) / 2
    return information - price - _least_divergence(Z)


def reference_information(
    Z,
    output_distribution="normal",
    *,
    reference_noise=1.0,
    n_draws=5,
    random_state=0,
):
    """Information that a sample keeps through a channel with normal noise.

    InfoNCE with the density of the noise as critic: of all rows, which one was sent?
    The sample is first sent from its law to the normal one and then held to the
    channel's power limit, a mean square of at most 1 about its mean, so that it cannot
    outshout the noise.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The sample, such as held-out codes; at least two rows.
    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Law of each of the independent components: N(0, 1), uniform on [0, 1], or a
        continuous distribution with its parameters frozen.
    reference_noise : float, default=1.0
        Standard deviation of the noise.
    n_draws : int, default=5
        Number of draws of the noise to average over.
    random_state : int, RandomState instance or None, default=0
        Fixes the noise and which 4,096 rows are taken if there are more.

    Returns
    -------
    information : float
        In nats; at most the logarithm of the rows, and in expectation at most
        ``channel_capacity(reference_noise, n_components)``.

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
    return float(np.mean([_infonce(Z, Z + noise) for noise in noises]))


def _infonce(codes, noisy):
    """Return the InfoNCE bound, in nats, for codes and the same under N(0, I) noise.

    The critic is the density of the noise.  Noisy codes go by blocks, so that memory
    does not grow with the square of the rows.
    """
    channel, infonce = _core.channels.NormalChannel(1.0), _core.bounds.infonce
    from torch import from_numpy

    sandbox = _core.runtime.sandbox

    n_codes, total = len(codes), 0.0
    n_rows = max(1, _ENTRIES_AT_ONCE // n_codes)
    with sandbox(gradients=False):
        codes = from_numpy(codes)
        for start in range(0, n_codes, n_rows):
            block = from_numpy(noisy[start : start + n_rows])
            scores = channel.log_ratio(codes, block, 1.0, 0.0)
            total += len(block) * infonce(scores, scores.diagonal(-start)).item()
    return total / n_codes


def _least_divergence(Z):
    """Return what the divergence from N(0, I) is at least, in nats."""
    excess = sliced_wasserstein_distance(Z) ** 2 - _normal_floor(*Z.shape) ** 2
    return Z.shape[1] / 2 * max(0.0, excess)


@lru_cache  # a search asks again and again for few sizes
def _normal_floor(n_samples, n_components):
    return sample_floor(sliced_wasserstein_distance, n_samples, n_components)


def _normal_codes(estimator, X):
    """Return codes of X, sent from the estimator's law to the normal one."""
    law = law_of(estimator)
    return normal_sample(estimator.transform(X), law, min_rows=2)


def law_of(estimator):
    """Return the law of the codes that a fitted estimator returns."""
    law = last_step(estimator).output_distribution_
    if law is None:
        raise ValueError(
            f"The estimator must return codes, but got one fitted with output_layer="
            f"{last_step(estimator).output_layer!r}, which follows no law; fit with "
            f"output_layer='code'."
        )
    return law


def last_step(estimator):
    """Return the fitted estimator of codes, which may end a pipeline."""
    last = estimator
    while isinstance(last, Pipeline):
        last = last[-1]
    has_law = hasattr(last, "output_distribution_") or isinstance(last, BaseInfoMax)
    if not has_law:
        raise ValueError(
            f"The estimator must be one of skdim, such as NoiseInjectedDIM, or a "
            f"Pipeline that ends in one, but got {type(last).__name__}; pass the steps "
            f"up to the codes."
        )
    check_is_fitted(last)
    return last

"""Outlier detection on a learned model, with p-values that hold on unseen data."""

import math
from numbers import Real
from typing import ClassVar

import numpy as np
from scipy import stats
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ._base import BaseInfoMax, unchanged_on_error
from ._noise_injected_dim import NoiseInjectedDIM
from ._novelty import Columns, Novelty, Scaling
from ._parameters import BATCH_SIZE
from ._persistence import Stamped
from ._sklearn import HasMethods, Interval, fit_context
from ._utils.distributions import Distribution
from ._validation import check_rows, native

__all__ = ["InfoMaxOutlierDetector", "default"]

_FEWEST_ROWS = 4
_STEPS = 200  # Half of what codes need to follow their law, and as good for this use


class InfoMaxOutlierDetector(OutlierMixin, Stamped, BaseEstimator):
    """Detect rows unlike those trained on, with a false-alarm rate you choose.

    Four views of a row each say how surprising it is, and their sum is its score: how
    far it is from what its nearest training rows make of it; the same among features
    that a `NoiseInjectedDIM` learned; how badly these features say what the row is; and
    how far out its columns are, one by one.  `p_values` turns the score into the
    probability that a row like those trained on would score as high.

    Parameters
    ----------
    estimator : NoiseInjectedDIM or DeepInfoMax, default=None
        What learns features; it is cloned.  None is a `NoiseInjectedDIM` with
        ``n_components=16``, or the number of columns if that is lower, trained for as
        many epochs as make 200 steps.  Features are the layer below the codes, or the
        codes if its encoder is your own and not made of three named parts.
    contamination : float, default=0.05
        Share of the training rows that `predict` calls outliers, in (0, 0.5]; fewer
        where scores tie.  Of other rows like them it calls more, above all where rows
        are few for so many columns, for features were learned on the training rows;
        `p_values` do not have this flaw.
    calibration_size : float, default=0.75
        Share of the rows that a second detector, which `p_values` uses, is judged by
        and not trained on; at least 3 are trained on and 1 is held out.  The more are
        held out, the closer is the rate of flagged rows to the one chosen and the
        smaller are the p-values that are possible; the fewer, the more outliers are
        found.  0 does without p-values by ``method="conformal"``, in less time.
    support_fraction : float, default=None
        Share of the training rows that the detector is fitted on, those whose columns
        are least far out; for training rows of which some are outliers.  None takes all
        for normal.  Conformal p-values rank among held-out rows of both kinds, and
        are too high rather than too low if the outliers among these score as such.
    random_state : int, RandomState instance or None, default=None
        Seed of the split, and of estimators that have none.

    Attributes
    ----------
    estimator_ : NoiseInjectedDIM or DeepInfoMax
        Fitted on all rows (of the support).
    offset_ : float
        ``decision_function`` is ``score_samples`` minus this.
    support_ : ndarray of shape (n_samples,)
        Whether a row is among those that the detector was fitted on.
    n_features_in_ : int
        Number of columns, or of pixels times channels.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of columns, if X had names that are all strings.

    See Also
    --------
    NoiseInjectedDIM : Its ``score_samples`` is the log-density of the learned model.
    sklearn.neighbors.LocalOutlierFactor : Distances to neighbours alone.

    Notes
    -----
    A row that is equal to one trained on is scored as that one, left out: scores of
    training rows are not too good, and `fit_predict` needs no other mode.

    References
    ----------
    .. [1] Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World*,
       Springer 2005: conformal p-values.
    .. [2] Bates et al., "Testing for Outliers with Conformal p-values", Annals of
       Statistics 2023, arXiv:2104.08279.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from skdim import InfoMaxOutlierDetector
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> benign, malignant = X[y == 1], X[y == 0]
    >>> detector = InfoMaxOutlierDetector(random_state=0).fit(benign[:300])
    >>> p = detector.p_values(malignant)
    >>> bool((p <= 0.1).mean() > 0.7), bool((p > 0).all())
    (True, True)
    >>> bool((detector.p_values(benign[300:]) <= 0.05).mean() < 0.1)
    True
    """

    _parameter_constraints: ClassVar = {
        "estimator": [None, HasMethods(["fit", "transform"])],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "calibration_size": [Interval(Real, 0, 1, closed="left")],
        "support_fraction": [None, Interval(Real, 0.5, 1, closed="both")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator=None,
        *,
        contamination=0.05,
        calibration_size=0.75,
        support_fraction=None,
        random_state=None,
    ):
        self.estimator = estimator
        self.contamination = contamination
        self.calibration_size = calibration_size
        self.support_fraction = support_fraction
        self.random_state = random_state

    @fit_context
    def fit(self, X, y=None):
        """Learn what rows are like.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, \
channels)
            Rows of a table, or images; at least 4.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            If X or a parameter is not as described.
        TypeError
            If ``estimator`` is of another type, or X holds objects that are no numbers.
        """
        self._check_estimator()
        with unchanged_on_error(self):
            self._fit(X)
        return self

    def _fit(self, X):
        rows = self._rows(X, reset=True)
        rng = check_random_state(self.random_state)
        estimator = default(rows) if self.estimator is None else self.estimator
        self._model = self._fitted(estimator, rows, rng)
        self.estimator_, self.support_ = self._model.estimator, self._model.support
        scores = -self._model.surprise_of_training(rows)
        self.offset_ = float(np.percentile(scores, 100 * self.contamination))
        self._calibration = None
        if self.calibration_size:
            self._calibration = self._calibrated(estimator, rows, rng)

    def _check_estimator(self):
        estimator = self.estimator
        if estimator is None:
            return
        if not isinstance(estimator, BaseInfoMax):
            raise TypeError(
                f"The 'estimator' parameter must be an instance of NoiseInjectedDIM or "
                f"DeepInfoMax, for scores need the layer below its codes. Got "
                f"{estimator!r} instead; put other transformers before the detector in "
                f"a Pipeline."
            )
        estimator._validate_params()
        if estimator.supervised:
            raise ValueError(
                "The 'estimator' parameter must not ask for classes, which a detector "
                "ignores. Got one with supervised=True; use supervised=False."
            )

    def _calibrated(self, estimator, rows, rng):
        """Return a model of some rows and the sorted surprise at the others."""
        order = rng.permutation(len(rows))
        n_held = max(1, round(self.calibration_size * len(rows)))
        n_held = min(n_held, len(rows) - 3)
        try:
            model = self._fitted(estimator, rows[order[n_held:]], rng)
        except ValueError as error:
            raise ValueError(
                f"The second detector, which p-values are taken from, cannot be fitted "
                f"on the {len(rows) - n_held} of {len(rows)} rows that "
                f"calibration_size={self.calibration_size} leaves it: {error}"
            ) from error
        return model, np.sort(model.surprise(rows[order[:n_held]]))

    def _fitted(self, estimator, rows, rng):
        """Return a model of rows, or of their support."""
        estimator = clone(estimator)
        seed = int(rng.randint(2**31 - 1))
        if estimator.random_state is None:
            estimator.set_params(random_state=seed)
        return _Model(estimator, rows, self._support(rows))

    def _support(self, rows):
        """Return which rows are fitted on.

        Columns are ranked one by one, because outliers that are near each other hide
        in distances to neighbours, but not in the order of a column.
        """
        support = np.ones(len(rows), dtype=bool)
        if self.support_fraction is not None:
            n_kept = max(3, math.ceil(self.support_fraction * len(rows)))
            n_out = len(rows) - n_kept
            far_out = Columns(Scaling.flat(rows)).left_out
            order = np.argsort(-far_out, kind="stable")
            support[order[:n_out]] = False
        return support

    def score_samples(self, X):
        """Return how much each row is like those trained on.

        Parameters
        ----------
        X : array-like
            Rows or images, as in `fit`.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            The negative sum of the surprise of the four views, in nats; the lower, the
            more unlike.
        """
        check_is_fitted(self)
        return -self._model.surprise(self._rows(X))

    def decision_function(self, X):
        """Return `score_samples` minus ``offset_``; negative for outliers.

        Parameters
        ----------
        X : array-like
            Rows or images, as in `fit`.

        Returns
        -------
        decision : ndarray of shape (n_samples,)
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Return -1 for outliers and 1 for the others, by ``contamination``.

        Parameters
        ----------
        X : array-like
            Rows or images, as in `fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X, *, method="conformal"):
        """Return the probability of a score as high for a row like those trained on.

        Parameters
        ----------
        X : array-like
            Rows or images, as in `fit`.
        method : {"conformal", "law"}, default="conformal"
            "conformal" ranks the score of a row among those of held-out rows: if a row
            is exchangeable with them, its p-value is at most ``alpha`` with probability
            at most ``alpha``, whatever the data and the size of the sample.  The
            smallest is one over one more than the number of these rows.  "law" takes
            the codes by their law: the squared norm of those of N(0, I) follows
            chi-square.  It holds as well as codes of unseen rows follow the law.  The
            inputs of a table are bounded smoothly on their way to the code, so that it
            does not see how far out a single column is.

        Returns
        -------
        p_values : ndarray of shape (n_samples,)

        Raises
        ------
        ValueError
            If ``method`` is unknown, or asks for what was not fitted.
        """
        check_is_fitted(self)
        if method not in ("conformal", "law"):
            raise ValueError(
                f"The 'method' must be 'conformal' or 'law'. Got {method!r} instead."
            )
        rows = self._rows(X)
        if method == "law":
            return _by_law(self.estimator_, rows)
        if self._calibration is None:
            raise ValueError(
                "p_values needs rows held out to rank scores among. Got "
                "calibration_size=0 in fit; set it above 0, or use method='law'."
            )
        model, held = self._calibration
        n_higher = len(held) - np.searchsorted(held, model.surprise(rows), "left")
        return (1 + n_higher) / (1 + len(held))

    def _rows(self, X, reset=False):
        """Return checked rows, all in memory: neighbours are looked for in them."""
        X, _ = native(X)
        fewest = _FEWEST_ROWS if reset else 1
        return np.asarray(check_rows(self, X, reset=reset, min_samples=fewest)[0][:])

    @property
    def _fitted_row_shape(self):
        return self.estimator_._fitted_row_shape

    def __sklearn_is_fitted__(self):
        return hasattr(self, "offset_")


class _Model:
    """An estimator fitted on the support among rows, and what is new to it."""

    def __init__(self, estimator, rows, support):
        self.support = support
        self.estimator = estimator.fit(rows[support])
        self.novelty = Novelty(*self._seen(rows[support]))

    def surprise_of_training(self, rows):
        """Return the surprise at all rows; that at the support is known from the fit.

        For its rows were scored as left out.
        """
        surprise = np.empty(len(rows))
        surprise[self.support] = self.novelty.left_out
        if not self.support.all():
            surprise[~self.support] = self.surprise(rows[~self.support])
        return surprise

    def parts(self, rows):
        """Return how surprising each view finds each row, in nats."""
        return self.novelty.parts(*self._seen(rows))

    def surprise(self, rows):
        """Return the sum over the views."""
        return self.novelty(*self._seen(rows))

    def _seen(self, rows):
        """Return rows in their shape, and what is learned of them.

        The latter does not depend on the size of batches: it is computed in double
        precision and rounded to single, since sums in another order round differently.
        """
        features = self.estimator._representation(rows.astype(np.float64))
        features = features.astype(np.float32).astype(np.float64)
        return rows.reshape(-1, *self.estimator._fitted_row_shape), features


def default(rows, steps=_STEPS):
    """Return the estimator that is used if none is given.

    The second detector is fitted by it too: as many epochs of fewer rows are fewer
    steps, which find as many outliers within a point.
    """
    n_components = min(16, math.prod(rows.shape[1:]))
    steps_per_epoch = max(1, len(rows) // BATCH_SIZE)
    return NoiseInjectedDIM(n_components, max_iter=math.ceil(steps / steps_per_epoch))


def _by_law(estimator, rows):
    """Return p-values of codes by the law they are promised to follow."""
    if not isinstance(estimator, NoiseInjectedDIM):
        raise ValueError(
            f"method='law' needs codes that are promised to follow a law. Got an "
            f"estimator of type {type(estimator).__name__}; use NoiseInjectedDIM, or "
            f"method='conformal'."
        )
    law = estimator.output_distribution_
    if law is None:
        raise ValueError(
            f"method='law' needs codes, which follow a law. Got an estimator with "
            f"output_layer={estimator.output_layer!r}; use output_layer='code', or "
            f"method='conformal'."
        )
    codes = np.asarray(estimator.transform(rows))  # no data frame
    z = Distribution(law).to_normal(codes)
    return stats.chi2.sf((z**2).sum(1), z.shape[1])

"""Outlier detection on a learned model, with p-values that are valid on unseen data."""

import math
from numbers import Real
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ._base import BaseInfoMax, unchanged_on_error
from ._noise_injected_dim import NoiseInjectedDIM
from ._novelty import Columns, Novelty
from ._resolve import BATCH_SIZE
from ._sklearn import HasMethods, Interval, Stamped, fit_context
from ._validation import check_rows, native

__all__ = ["InfoMaxOutlierDetector", "default_estimator"]

_FEWEST_ROWS = 4
_STEPS = 200  # half as many as codes need to match their distribution; as good here


class InfoMaxOutlierDetector(OutlierMixin, Stamped, BaseEstimator):
    """Detect rows unlike those trained on, with a false-alarm rate you choose.

    The score of a row has four parts: its distance from a mixture of its nearest
    training rows; the same among features that a `NoiseInjectedDIM` learned; the
    residual of reconstructing the row from these features; and, in tables only, how far
    out each of its columns is.  `p_values` turns the score into the probability that a
    row like the training rows would look as unusual.

    Parameters
    ----------
    estimator : NoiseInjectedDIM or DeepInfoMax, default=None
        Learns the features; it is cloned.  None is a `NoiseInjectedDIM` with
        ``n_components=16``, or the number of columns if that is lower, trained for 200
        steps.  Features are the layer below the codes, or the codes if its encoder is
        your own and has no three named parts.
    contamination : float, default=0.05
        Share of the training rows that `predict` calls outliers, in (0, 0.5]; less
        where scores tie.  Among held-out rows like them the share is higher, above all
        where rows are few for so many columns, because features were learned on the
        training rows.  `p_values` are valid on held-out rows.
    calibration_size : float, default=0.75
        Share of the rows that are held out to calibrate `p_values`.  A second detector
        is trained on the others, of which there are at least 3.  The more rows are
        held out, the closer is the rate of flagged rows to the chosen one, and the
        smaller are the p-values that are possible; the fewer, the more outliers are
        found.  0 holds out no rows: fitting takes less time, and `p_values` raises.
    support_fraction : float, default=None
        Share of the training rows, in [0.5, 1], that the detector is fitted on: those
        whose columns are least far out.  Set it if some training rows are outliers.
        None fits on all rows.  The held-out rows of `p_values` may contain outliers
        too; if these score as outliers, p-values are too high rather than too low.
    random_state : int, RandomState instance or None, default=None
        Seed of the split, and of the estimator if it has none.

    Attributes
    ----------
    estimator_ : NoiseInjectedDIM or DeepInfoMax
        Fitted on the rows that ``support_`` marks.
    offset_ : float
        ``decision_function`` is ``score_samples`` minus this.
    support_ : ndarray of bool of shape (n_samples,)
        True for rows that the detector was fitted on.
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
    A row that equals a training row is scored as if that one had been left out.  So
    the scores of training rows are not too good, and `fit_predict` is right for them.

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
        """Learn what the rows of X are like, so that unlike rows can be detected.

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
            If X or a parameter is not as described, or training diverges.
        TypeError
            If ``estimator`` is of another type, or X holds objects that are no numbers.
        """
        self._check_estimator()
        with unchanged_on_error(self):
            self._fit(X)
        return self

    def _fit(self, X):
        """Fit on X and set the fitted attributes; parameters are checked already."""
        rows = self._rows(X, reset=True)
        rng = check_random_state(self.random_state)
        estimator = self.estimator
        estimator = default_estimator(rows) if estimator is None else estimator
        support = self._support(rows)
        fitted, novelty = self._fitted(estimator, rows[support], rng)
        surprise = np.empty(len(rows))
        surprise[support] = novelty.left_out
        if not support.all():
            surprise[~support] = _surprise(fitted, rows[~support])
        calibration = None
        if self.calibration_size:
            calibration = self._calibrated(estimator, rows, rng)
        self.estimator_, self.support_ = fitted["estimator"], support
        self.offset_ = float(np.percentile(-surprise, 100 * self.contamination))
        self._state = {"novelty": fitted["novelty"], "calibration": calibration}

    def _check_estimator(self):
        """Raise TypeError or ValueError if the "estimator" parameter cannot be used."""
        estimator = self.estimator
        if estimator is None:
            return
        if not isinstance(estimator, BaseInfoMax):
            raise TypeError(
                f"The 'estimator' parameter must be an instance of NoiseInjectedDIM or "
                f"DeepInfoMax, because scores need the layer below its codes. Got "
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
        """Fit the second detector on some rows and score the others, for ``p_values``.

        Parameters
        ----------
        estimator : NoiseInjectedDIM or DeepInfoMax
            Learns the features; it is cloned.
        rows : ndarray of shape (n_rows, ...)
            All training rows.
        rng : numpy.random.RandomState
            Source of the split and of the seed.

        Returns
        -------
        calibration : dict
            That of ``_fitted``, with "held_out": the scores of the held-out rows by
            ``_surprise``, sorted, of shape (n_held_out,).

        Raises
        ------
        ValueError
            If the detector cannot be fitted on the rows that are not held out.
        """
        order = rng.permutation(len(rows))
        n_held = max(1, round(self.calibration_size * len(rows)))
        n_held = min(n_held, len(rows) - 3)
        some = rows[order[n_held:]]
        try:
            fitted, _ = self._fitted(estimator, some[self._support(some)], rng)
        except ValueError as error:
            raise ValueError(
                f"The second detector, which p-values are taken from, cannot be fitted "
                f"on the {len(rows) - n_held} of {len(rows)} rows that "
                f"calibration_size={self.calibration_size} leaves it: {error}"
            ) from error
        return fitted | {"held_out": np.sort(_surprise(fitted, rows[order[:n_held]]))}

    def _fitted(self, estimator, rows, rng):
        """Fit a detector on these rows: first the estimator, then the score.

        Parameters
        ----------
        estimator : NoiseInjectedDIM or DeepInfoMax
            Learns the features; it is cloned.
        rows : ndarray of shape (n_rows, ...)
            Training rows.
        rng : numpy.random.RandomState
            Source of the seed of an estimator that has none.

        Returns
        -------
        fitted : dict
            The fitted "estimator", and under "novelty" the state of the ``Novelty``.
        novelty : Novelty
            Holds the scores of the training rows too, as ``left_out``.
        """
        estimator = clone(estimator)
        seed = int(rng.randint(2**31 - 1))
        if estimator.random_state is None:
            estimator.set_params(random_state=seed)
        estimator.fit(rows)
        is_table = len(estimator._fitted_row_shape) == 1
        novelty = Novelty(*_inputs(estimator, rows), has_columns=is_table)
        return {"estimator": estimator, "novelty": novelty.state()}, novelty

    def _support(self, rows):
        """Return a mask of the rows to fit on, bool of shape (n_rows,).

        It leaves out the rows whose columns are farthest out, as many as
        ``support_fraction`` asks; with None it is True for all ``rows``.  Columns are
        ranked one by one, because outliers that are near each other hide in distances
        to neighbours, but not in the order of a column.
        """
        support = np.ones(len(rows), dtype=bool)
        if self.support_fraction is not None:
            n_kept = max(3, math.ceil(self.support_fraction * len(rows)))
            n_out = len(rows) - n_kept
            order = np.argsort(-Columns(_flat(rows)).left_out, kind="stable")
            support[order[:n_out]] = False
        return support

    def score_samples(self, X):
        """Return the score of each row; the lower, the more unlike the training rows.

        Parameters
        ----------
        X : array-like
            Rows or images, as in `fit`.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Minus the sum of ``-log p`` over the parts of the score, in nats; at most 0.
            Here p is about the share of training rows for which that part is as high.
        """
        check_is_fitted(self)
        fitted = {"estimator": self.estimator_, "novelty": self._state["novelty"]}
        return -_surprise(fitted, self._rows(X))

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
        """Return -1 for outliers and 1 for other rows, by ``contamination``.

        Parameters
        ----------
        X : array-like
            Rows or images, as in `fit`.

        Returns
        -------
        labels : ndarray of int of shape (n_samples,)
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X):
        """Return the probability that a row like the training rows scores as unusual.

        Conformal p-values: the rank of the score of a row among those of held-out rows.
        If the row is exchangeable with these, its p-value is at most ``alpha`` with
        probability at most ``alpha``, whatever the data and the sample size [1]_ [2]_.

        Parameters
        ----------
        X : array-like
            Rows or images, as in `fit`.

        Returns
        -------
        p_values : ndarray of shape (n_samples,)
            From ``1 / (n_held_out + 1)`` to 1.

        Raises
        ------
        ValueError
            If no rows were held out, with ``calibration_size=0``.
        """
        check_is_fitted(self)
        calibration = self._state["calibration"]
        if calibration is None:
            raise ValueError(
                "p_values needs rows held out to rank scores among. Got "
                "calibration_size=0 in fit; set it above 0, and fit again."
            )
        held_out = calibration["held_out"]
        surprise = _surprise(calibration, self._rows(X))
        n_higher = len(held_out) - np.searchsorted(held_out, surprise, "left")
        return (1 + n_higher) / (1 + len(held_out))

    def _rows(self, X, reset=False):
        """Return X checked and in memory, as a NumPy array to search neighbours in.

        Parameters
        ----------
        X : array-like
            As the user gave it.
        reset : bool
            True in ``fit``: at least 4 rows are needed, and ``n_features_in_`` is set.
            False compares X with what was fitted.
        """
        X, _ = native(X)
        fewest = _FEWEST_ROWS if reset else 1
        return np.asarray(check_rows(self, X, reset=reset, min_samples=fewest)[0][:])

    @property
    def _fitted_row_shape(self):
        """Shape of one row as the user gave it to ``fit``."""
        return self.estimator_._fitted_row_shape

    def __sklearn_is_fitted__(self):
        return hasattr(self, "offset_")


def default_estimator(rows, steps=_STEPS):
    """Return a new NoiseInjectedDIM for these rows, where the user passes no estimator.

    The detector clones it for the second, smaller fit too.  That one has as many epochs
    but fewer steps, because it has fewer rows; it finds as many outliers within one
    percentage point.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, ...)
        Training rows.
    steps : int, default=200
        Number of training steps, rounded up to whole epochs.
    """
    n_components = min(16, math.prod(rows.shape[1:]))
    steps_per_epoch = max(1, len(rows) // BATCH_SIZE)
    return NoiseInjectedDIM(n_components, max_iter=math.ceil(steps / steps_per_epoch))


def _surprise(fitted, rows):
    """Return how unlike the training rows each row is: minus the score, in nats.

    Parameters
    ----------
    fitted : dict
        As ``InfoMaxOutlierDetector._fitted`` returns it.
    rows : ndarray of shape (n_rows, ...)

    Returns
    -------
    surprise : ndarray of shape (n_rows,)
        At least 0.
    """
    novelty = Novelty.restored(fitted["novelty"])
    return novelty(*_inputs(fitted["estimator"], rows))


def _inputs(estimator, rows):
    """Return the three arrays that ``Novelty`` takes, for these rows.

    Parameters
    ----------
    estimator : NoiseInjectedDIM or DeepInfoMax
        Fitted.
    rows : ndarray of shape (n_rows, ...)

    Returns
    -------
    rows, standardized : ndarray of shape (n_rows, n_columns)
        The rows, flattened; and the same standardised by the training data.
    features : ndarray of shape (n_rows, n_features)
        What the estimator learned.  They are rounded to single precision, because sums
        in batches of another size round differently.
    """
    rows = rows.astype(np.float64)
    standardized, features = estimator._representation(rows)
    return _flat(rows), standardized, features.astype(np.float32).astype(np.float64)


def _flat(rows):
    """Return rows of any shape as a float64 array of shape (n_rows, n_columns)."""
    return rows.reshape(len(rows), -1).astype(np.float64)

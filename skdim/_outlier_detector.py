"""Outlier detection on a learned model, with p-values that are valid on unseen data."""

import math
from numbers import Real
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from . import _core
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

    The score of a row has four parts: its distance from a weighted mean of its nearest
    training rows; the same distance between features that a `NoiseInjectedDIM` learned;
    the residual of reconstructing the row from these features; and, in tables only, how
    far out each of its columns is.  `p_values` turns the score into the probability
    that a row like the training rows scores as unusual.

    Parameters
    ----------
    estimator : NoiseInjectedDIM or DeepInfoMax, default=None
        Learns the features; it is cloned.  None is a `NoiseInjectedDIM` with
        ``n_components=16``, or the number of columns if that is lower, trained for 200
        steps.  Features are the output of the layer before the code.  They are the
        codes if the estimator has an encoder of your own without the submodules
        ``features``, ``hidden`` and ``code``.
    contamination : float, default=0.05
        Share of the training rows that `predict` calls outliers, in (0, 0.5]; fewer if
        scores tie.  Of new rows like the training rows it flags a larger share, above
        all if there are few training rows for many columns, because features were
        learned on the training rows.  To choose the rate on new rows, use `p_values`.
    calibration_size : float, default=0.75
        Share of the rows that are held out to calibrate `p_values`, in [0, 1).  A
        second detector is trained on the other rows, at least 3, and `p_values` uses
        this one.  With more rows held out, the rate of false alarms is closer to the
        chosen one and smaller p-values are possible.  With fewer, more outliers are
        found.  0 holds out no rows: fitting takes less time, and `p_values` raises
        ValueError.
    support_fraction : float, default=None
        Share of the training rows, in [0.5, 1], that the detector is fitted on: the
        rows whose columns are least far out.  Set it if some training rows are
        outliers.  None fits on all rows.  The rows held out for `p_values` are not
        filtered; outliers among them make p-values too high rather than too low.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of held-out rows, and of the estimator if its own
        ``random_state`` is None.

    Attributes
    ----------
    estimator_ : NoiseInjectedDIM or DeepInfoMax
        Fitted on the rows that ``support_`` marks.
    offset_ : float
        ``decision_function`` is ``score_samples`` minus ``offset_``.
    support_ : ndarray of bool of shape (n_samples,)
        True for the training rows that the detector was fitted on, else False.
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
    A row that equals a training row is scored as if that training row had been left
    out.  So training rows do not score better than new rows only because the detector
    knows them, and `fit_predict` can find outliers among them.

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
            Rows of a table, or images; at least 4.  ``image_shape`` of the estimator
            allows images as flat rows.  Rows are rounded to single precision as in
            ``NoiseInjectedDIM.fit``, here and in scoring, so that float32 and float64
            copies of rows give the same scores.
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
            If ``estimator`` is not a NoiseInjectedDIM, a DeepInfoMax or None, or X
            holds objects that are no numbers.
        """
        self._check_estimator()
        with unchanged_on_error(self):
            self._fit(X)
        return self

    def _fit(self, X):
        """Fit the detector on X, as the user gave it, and set the fitted attributes.

        The caller has checked the parameters.
        """
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
            Chooses the held-out rows, and seeds an estimator that has no seed.

        Returns
        -------
        calibration : dict
            "estimator" and "novelty" of the second detector, as ``_fitted`` returns
            them, and "held_out", what ``_surprise`` returns for the held-out rows,
            sorted, of shape (n_held_out,).

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
        """Fit a detector on some rows: the estimator, then the score on its features.

        Parameters
        ----------
        estimator : NoiseInjectedDIM or DeepInfoMax
            Learns the features; it is cloned.
        rows : ndarray of shape (n_rows, ...)
            Training rows.
        rng : numpy.random.RandomState
            Seeds an estimator whose ``random_state`` is None.

        Returns
        -------
        fitted : dict
            "estimator", the fitted clone, and "novelty", what ``novelty.state()``
            returns; ``_surprise`` scores rows with this dict.
        novelty : Novelty
            The fitted score; its ``left_out`` holds the scores of the training rows.
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
        """Return a mask of the rows to fit on, so that outliers among them do no harm.

        Rows are ranked by how far out their columns are, because outliers that are near
        each other hide in distances to neighbours, but not in the order of a column.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, ...)
            All training rows.

        Returns
        -------
        support : ndarray of bool of shape (n_rows,)
            True for the share ``support_fraction`` of the rows, those least far out;
            True for all rows if ``support_fraction`` is None.
        """
        support = np.ones(len(rows), dtype=bool)
        if self.support_fraction is not None:
            n_kept = max(3, math.ceil(self.support_fraction * len(rows)))
            n_out = len(rows) - n_kept
            rounded = _core.inference.as_trained_on(rows)
            order = np.argsort(-Columns(rounded).left_out, kind="stable")
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
            Sum of ``log p`` over the parts of the score, in nats; at most 0.  For each
            part, p is about the share of training rows that are at least as unusual in
            this part.
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
            In nats; `predict` flags rows with negative values.
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
        """Return for each row the probability that a usual row scores as unusual.

        Small p-values mark outliers.  They are conformal: the rank of the row's score
        among the scores of the held-out rows.  If a row is exchangeable with the
        held-out rows, its p-value is at most ``alpha`` with probability at most
        ``alpha``, whatever the data and the sample size [1]_ [2]_.  So flagging rows
        with ``p_values(X) <= alpha`` has a false-alarm rate of at most ``alpha``.

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
        """Check X and return all its rows as one NumPy array, of shape (n_rows, ...).

        Rows that are read by batches are loaded as a whole, because neighbours are
        searched in all of them.

        Parameters
        ----------
        X : array-like
            As the user gave it.
        reset : bool
            True in ``fit``: at least 4 rows are needed, and ``n_features_in_`` is set.
            False elsewhere: X must have the shape and features of ``fit``.
        """
        X, _ = native(X)
        fewest = _FEWEST_ROWS if reset else 1
        return np.asarray(check_rows(self, X, reset=reset, min_samples=fewest)[0][:])

    @property
    def _fitted_row_shape(self):
        """Shape of one row as the user gave it to ``fit``: one number, or three."""
        return self.estimator_._fitted_row_shape

    def __sklearn_is_fitted__(self):
        return hasattr(self, "offset_")


def default_estimator(rows, steps=_STEPS):
    """Return the NoiseInjectedDIM, not fitted, that a detector uses by default.

    The detector clones it twice: for all training rows, and for the second detector,
    which has fewer rows.  The second one trains for as many epochs and hence for fewer
    steps, which changes the share of outliers it finds by less than one percentage
    point.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, ...)
        Training rows.
    steps : int, default=200
        Number of training steps, rounded up to whole epochs.
    """
    n_components = min(16, math.prod(rows.shape[1:]))
    steps_per_epoch = max(1, len(rows) // BATCH_SIZE)
    max_iter = math.ceil(steps / steps_per_epoch)
    # Its codes are not used, but its features.
    return NoiseInjectedDIM(n_components, max_iter=max_iter, final_map="linear")


def _surprise(fitted, rows):
    """Return how unlike the training rows each row is: minus ``score_samples``.

    Parameters
    ----------
    fitted : dict
        The fitted "estimator" and the state "novelty" of the score, as
        ``InfoMaxOutlierDetector._fitted`` returns them.
    rows : ndarray of shape (n_rows, ...)
        Checked rows, with axes as in ``fit``.

    Returns
    -------
    surprise : ndarray of shape (n_rows,)
        In nats, at least 0; the higher, the more unlike.
    """
    novelty = Novelty.restored(fitted["novelty"])
    return novelty(*_inputs(fitted["estimator"], rows))


def _inputs(estimator, rows):
    """Return the three arrays by which ``Novelty`` scores rows.

    Parameters
    ----------
    estimator : NoiseInjectedDIM or DeepInfoMax
        Fitted; it standardises the rows and computes their features.
    rows : ndarray of shape (n_rows, ...)
        Checked rows, with axes as in ``fit``.

    Returns
    -------
    rounded, standardized : ndarray of shape (n_rows, n_columns)
        The rows, flattened and rounded as the estimator rounds them in training; and
        the same standardised by the training data.
    features : ndarray of shape (n_rows, n_features)
        The layer before the code.  Features are rounded to single precision, because
        sums in batches of another size round differently.
    """
    rounded, standardized, features = estimator._representation(rows)
    return rounded, standardized, features.astype(np.float32).astype(np.float64)

"""What the estimators share: validation of arrays, fitted state, prediction.

This is the only file that imports private names of scikit-learn.
"""

import math
from contextlib import contextmanager
from numbers import Integral

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ._laws import Law

__all__ = [
    "BaseInfoMax",
    "HasMethods",
    "Interval",
    "StrOptions",
    "fit_context",
    "is_count",
]

fit_context = _fit_context(prefer_skip_nested_validation=True)

_DTYPES = [np.float64, np.float32, np.uint8]
_MOST_CHANNELS = 4


class BaseInfoMax(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of estimators whose codes come from a trained torch model.

    A subclass trains in ``fit`` and then calls ``_publish``.  The fitted model is one
    dict of plain values and numpy arrays: it holds no device or generator and, but for
    an encoder or a view of the user's own, no torch, so that it can be pickled anywhere
    and read without torch.
    """

    def transform(self, X):
        """Return the codes of X; no noise is added.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, \
channels) or (n_samples, channels, height, width)
            Rows of a table, or images of the shape seen in ``fit``.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_components)
            Codes that follow the promised law, or with ``output_layer="hidden"`` the
            standardised layer below, of its own number of columns; float64 for
            float64 input and float32 for float32 and uint8 input.
        """
        check_is_fitted(self)
        rows, _ = self._validate_rows(X)
        from ._model import transform

        with self._restored(rows) as (model, device):
            outputs = transform(model, rows, device)
        if self._state["spec"]["network"]["output_layer"] == "hidden":
            return outputs
        return Law(self.output_distribution_).from_normal(outputs).astype(outputs.dtype)

    def score(self, X, y=None):
        """Return a lower bound on the information that the noisy codes keep about X.

        The noise is fixed by the fitted seed, so that the value is reproducible.
        ``objective="infonce"`` can report at most ``log(min(batch_size_, n_samples))``
        and, in expectation, at most ``capacity_``; compare it between estimators of
        equal capacity.  The other objectives are estimated by their own formulas,
        which can come out above both where the information is above a few nats; those
        of "dv" and "smile" are no bounds, and that of "agreement" is one only for
        codes that follow the law.

        Parameters
        ----------
        X : array-like
            At least two rows or images, as in ``transform``.
        y : array-like of shape (n_samples,), default=None
            Classes, used only if the estimator was fitted with ``supervised=True``;
            pairs are then made as in ``fit``.

        Returns
        -------
        information : float
            In nats; higher is better.
        """
        check_is_fitted(self)
        return self._information(X, y)

    def _information(self, X, y=None, **changes):
        """Return the information of a fitted model, its spec changed by this."""
        rows, _ = self._validate_rows(X, ensure_min_samples=2)
        is_supervised = self._state["spec"]["is_supervised"] and y is not None
        labels = self._validate_labels(y, rows) if is_supervised else None
        from ._model import information, make_source

        batch_size, seed = self._state["batch_size"], self._state["seed"]
        with self._restored(rows, **changes) as (model, device):
            source = make_source(model, rows, seed, device, labels)
            return information(model, source, batch_size, seed)

    @contextmanager
    def _restored(self, rows, **changes):
        """Rebuild the model for rows of this type; cheap next to using it."""
        from ._model import ModelSpec, ViewSpec, restored
        from ._network import NetworkSpec
        from ._runtime import resolve_device

        spec = self._state["spec"] | changes
        spec["network"] = NetworkSpec(**spec["network"])
        spec["views"] = ViewSpec(**spec["views"])
        spec, weights = ModelSpec(**spec), self._state["weights"]
        device = resolve_device(self.device)
        with restored(spec, weights, rows, self._state["seed"], device) as model:
            yield model, device

    def _publish(self, config, result):
        """Set the fitted model."""
        is_code = config.model.network.output_layer == "code"
        self.output_distribution_ = self.output_distribution if is_code else None
        spec = dict(vars(config.model))
        spec["network"] = vars(config.model.network) | {"encoder": result.encoder}
        spec["views"] = dict(vars(config.model.views))
        self._state = {
            "spec": spec,
            "n_outputs": result.n_outputs,
            "weights": result.weights,
            "batch_size": config.batch_size,
            "seed": config.seed,
        }

    @contextmanager
    def _unchanged_on_error(self):
        """Put every attribute back if what is inside raises."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _validate_rows(self, X, *, reset=False, ensure_min_samples=1):
        """Return X as checked rows, and the shape of its images or None.

        Images are flattened.
        """
        if isinstance(X, (list, tuple)):
            X = np.asarray(X)
        ndim, shape = getattr(X, "ndim", 2), None
        if ndim == 3:
            raise ValueError(
                f"Expected rows of 2 dimensions or images of 4. Got 3 dimensions, "
                f"{tuple(X.shape)}; give images a channel axis with X[..., None]."
            )
        if ndim == 4:
            X = check_array(
                X,
                dtype=_DTYPES,
                ensure_2d=False,
                allow_nd=True,
                ensure_all_finite=False,
                estimator=self,
            )
            shape = X.shape[1:]
            self._check_image_shape(shape, reset)
            X = X.reshape(len(X), math.prod(shape))
        rows = validate_data(
            self,
            X,
            reset=reset,
            dtype=_DTYPES,
            ensure_min_samples=ensure_min_samples,
        )
        return rows, shape

    def _validate_labels(self, y, rows):
        """Return classes as numbers from 0; -1 stays -1."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} with supervised=True requires y to be passed, "
                f"but the target y is None; pass classes, or set supervised=False."
            )
        y = column_or_1d(y, warn=True)
        check_consistent_length(rows, y)
        if y.dtype.kind in "US" and "-1" in y.astype(str):
            raise ValueError(
                "y must mark rows without a class by the number -1, but got the text "
                "'-1'; pass an array of dtype object, such as y.astype(object) with -1 "
                "put in."
            )
        known = np.array([label != -1 for label in y.tolist()], dtype=bool)
        classes = y[known].tolist()
        labels = np.full(len(y), -1)
        if classes:
            check_classification_targets(np.array(classes))
            number = {label: k for k, label in enumerate(dict.fromkeys(classes))}
            labels[known] = [number[label] for label in classes]  # 1 is not "1"
        return labels

    def _check_image_shape(self, shape, reset):
        """Raise if images differ in shape from what was fitted or asked for."""
        if reset and self.image_shape is None:
            return
        if reset:
            wanted, source = self._asked_image_shape(), "the 'image_shape' parameter is"
        else:
            wanted = self._state["spec"]["network"]["row_shape"]
            source = f"{type(self).__name__} was fitted on"
        if wanted != tuple(shape):
            is_table = len(wanted) == 1
            source += " rows of shape" if is_table else ""
            raise ValueError(
                f"X has images of shape {tuple(shape)}, but {source} {wanted}; pass "
                f"{'rows' if is_table else 'images'} of that shape."
            )

    def _row_shape(self, image_shape, n_features):
        """Return the shape of one row, and whether its channels come first."""
        shape = image_shape
        if shape is None and self.image_shape is None:
            return (n_features,), False
        if shape is None:
            shape = self._asked_image_shape()
        if math.prod(shape) != n_features:
            raise ValueError(
                f"The 'image_shape' parameter {tuple(self.image_shape)} asks for "
                f"{math.prod(shape)} values a row. Got rows of {n_features} instead; "
                f"correct 'image_shape' or pass images as a 4-D array."
            )
        return shape, shape[2] > _MOST_CHANNELS >= shape[0]

    def _asked_image_shape(self):
        """Return the 'image_shape' parameter as three numbers."""
        shape = tuple(self.image_shape) if np.ndim(self.image_shape) == 1 else ()
        if len(shape) not in (2, 3) or not all(map(is_count, shape)):
            raise ValueError(
                f"The 'image_shape' parameter must be two or three integers above 0. "
                f"Got {self.image_shape!r} instead."
            )
        shape = tuple(int(size) for size in shape)
        return shape if len(shape) == 3 else (*shape, 1)

    @property
    def _ceiling(self):
        """Most that the bound can report in batches of the fitted size, in nats."""
        from ._objectives import OBJECTIVES

        objective = OBJECTIVES[self._state["spec"]["objective"]]
        return objective.ceiling(self._state["batch_size"])

    @property
    def _n_features_out(self):
        return self._state["n_outputs"]

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_state")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def is_count(value):
    """Return whether this is an integer above 0."""
    integral = isinstance(value, Integral) and not isinstance(value, (bool, np.bool_))
    return integral and value > 0

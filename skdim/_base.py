"""What the estimators share: validation of arrays, fitted state, prediction.

This is the only file that imports private names of scikit-learn.
"""

from contextlib import contextmanager
from numbers import Integral

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = ["BaseInfoMax", "Interval", "StrOptions", "fit_context"]

fit_context = _fit_context(prefer_skip_nested_validation=True)

_DTYPES = [np.float64, np.float32, np.uint8]
_MOST_CHANNELS = 4


class BaseInfoMax(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of estimators whose codes come from a trained torch model.

    A subclass trains in ``fit`` and then calls ``_publish``.  The fitted model is one
    dict of plain values and numpy arrays: it holds no module, device or generator, so
    that it can be pickled anywhere and read without torch.
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
            Codes that follow the promised law; float64 for float64 input and float32
            for float32 and uint8 input.
        """
        check_is_fitted(self)
        rows = self._validate_rows(X)
        from ._model import transform

        model, device = self._restore(rows)
        return transform(model, rows, device)

    def score(self, X, y=None):
        """Return a lower bound on the information that the noisy codes keep about X.

        The noise is fixed by the fitted seed, so that the value is reproducible.  It
        can report at most ``log(min(batch_size_, n_samples))`` and, in expectation,
        at most ``capacity_``; compare it between estimators of equal capacity.

        Parameters
        ----------
        X : array-like
            At least two rows or images, as in ``transform``.
        y : None
            Ignored.

        Returns
        -------
        information : float
            In nats; higher is better.
        """
        check_is_fitted(self)
        rows = self._validate_rows(X, ensure_min_samples=2)
        from ._model import information

        model, device = self._restore(rows)
        state = self._state
        return information(model, rows, state["batch_size"], state["seed"], device)

    def _restore(self, rows):
        """Rebuild the model for rows of this type; cheap next to using it."""
        from ._model import ModelSpec, restore
        from ._network import NetworkSpec
        from ._runtime import resolve_device

        spec = dict(self._state["spec"])
        spec["network"] = NetworkSpec(**spec["network"])
        device = resolve_device(self.device)
        return restore(ModelSpec(**spec), self._state["weights"], rows, device), device

    def _publish(self, config, result):
        """Set the fitted model, in one statement."""
        spec = dict(vars(config.model))
        spec["network"] = vars(config.model.network) | {"encoder": result.encoder}
        self._state = {
            "spec": spec,
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
        """Return X as checked rows; images are flattened."""
        if getattr(X, "ndim", 2) == 4:
            X = check_array(
                X,
                dtype=_DTYPES,
                ensure_2d=False,
                allow_nd=True,
                ensure_all_finite=False,
                estimator=self,
            )
            self._check_image_shape(X.shape[1:], reset)
            X = X.reshape(len(X), np.prod(X.shape[1:]))
        return validate_data(
            self,
            X,
            reset=reset,
            dtype=_DTYPES,
            ensure_min_samples=ensure_min_samples,
        )

    def _check_image_shape(self, shape, reset):
        """Raise if images differ in shape from what was fitted or asked for."""
        if reset:
            wanted, source = self.image_shape, "the 'image_shape' parameter is"
        else:
            wanted = self._state["spec"]["network"]["row_shape"]
            source = f"{type(self).__name__} was fitted on"
        if wanted is not None and _as_image(wanted) != tuple(shape):
            raise ValueError(
                f"X has images of shape {tuple(shape)}, but {source} {tuple(wanted)}; "
                f"pass images of that shape."
            )

    def _row_shape(self, X, n_features):
        """Return the shape of one row, and whether its channels come first."""
        if getattr(X, "ndim", 2) == 4:
            shape = tuple(X.shape[1:])
        elif self.image_shape is not None:
            shape = self._asked_image_shape()
        else:
            return (n_features,), False
        if np.prod(shape) != n_features:
            raise ValueError(
                f"The 'image_shape' parameter {tuple(self.image_shape)} asks for "
                f"{np.prod(shape)} values a row. Got rows of {n_features} instead; "
                f"correct 'image_shape' or pass images as a 4-D array."
            )
        return shape, shape[2] > _MOST_CHANNELS >= shape[0]

    def _asked_image_shape(self):
        """Return the 'image_shape' parameter as three numbers."""
        shape = tuple(self.image_shape)
        positive = all(isinstance(size, Integral) and size > 0 for size in shape)
        if len(shape) not in (2, 3) or not positive:
            raise ValueError(
                f"The 'image_shape' parameter must be two or three integers above 0. "
                f"Got {self.image_shape!r} instead."
            )
        return _as_image(shape)

    @property
    def _n_features_out(self):
        return self._state["spec"]["network"]["n_components"]

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_state")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _as_image(shape):
    """Return (height, width) with its one channel, other shapes as they are."""
    shape = tuple(int(size) for size in shape)
    return (*shape, 1) if len(shape) == 2 else shape

"""What fitted estimators share: their state, codes and information."""

from contextlib import contextmanager

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted

from . import _core
from ._persistence import Stamped
from ._sklearn import CALLBACK_STATE, HAS_CALLBACKS, CallbackSupportMixin
from ._utils.distributions import Distribution
from ._validation import check_labels, check_rows, native, returned

__all__ = ["BaseInfoMax", "unchanged_on_error"]


@contextmanager
def unchanged_on_error(estimator):
    """Put every attribute of an estimator back if what is inside raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException as error:
        is_set = vars(estimator).get("_state") is not before.get("_state")
        if is_set and isinstance(error, KeyboardInterrupt):
            raise  # all that was learned is there; it was pressed after the end
        kept = {k: v for k, v in vars(estimator).items() if k in CALLBACK_STATE}
        vars(estimator).clear()
        vars(estimator).update(before | kept)
        raise


class BaseInfoMax(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    Stamped,
    BaseEstimator,
):
    """Base of estimators whose codes come from a trained torch model: what is fitted.

    The fitted model is one dict of plain
    values and numpy arrays: it holds no device or generator and, but for an encoder or
    a view of the user's own, no torch, so that it can be pickled anywhere and read
    without torch.
    """

    def _check_namespace(self, name, method):
        fitted = self._state["namespace"]
        if name is not None and fitted not in (None, "numpy", name):
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same "
                f"namespace as those passed to fit(). Got {name} after a fit on "
                f"{fitted}; convert X, or turn array_api_dispatch off."
            )

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
            Codes that follow the promised law, or with another ``output_layer`` that
            layer, standardised, of its own number of columns; float64 for float64
            input and float32 for float32 and uint8 input.
        """
        rows = self._check_rows(X, "transform")
        from ._model import transform

        with self._restored(rows) as (model, device):
            outputs = transform(model, rows, device, getattr(rows, "device", "cpu"))
        if self.output_distribution_ is None:  # for a layer below the code
            return returned(outputs, X)
        law = Distribution(self.output_distribution_)
        if law.name == "normal":
            return returned(outputs, X)
        outputs = outputs.cpu().numpy()
        codes = law.from_normal(outputs)
        largest = np.finfo(outputs.dtype).max  # of heavy tails in single precision
        return returned(np.clip(codes, -largest, largest).astype(outputs.dtype), X)

    def score_samples(self, X):
        """Return the log-density of each row under the learned model.

        If codes ``f(x)`` follow N(0, I), a row has the log-density ``log N(f(x); 0, I)
        + 1/2 log det(J J^T)``, where ``J`` is the derivative of the code by the row.
        The law that codes are sent to makes no difference.

        With as many components as columns it is a density of rows.  With fewer it is
        one along the directions in which the code moves, and says nothing of those
        across: a row that differs from all others only there is not found by it, and
        its values are not those of a density of all columns.  Where the encoder folds,
        sending several regions to one code, it is too high for each of them.  Low
        values mean unlikely rows, and compare rows under one fitted model only.

        Parameters
        ----------
        X : array-like
            Rows or images, as in ``transform``.  Time and memory grow with the number
            of components times that of columns or pixels.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In nats, as float64; -inf where the code cannot move in all directions.

        Raises
        ------
        ValueError
            If there are more components than columns that vary, or if ``output_layer``
            is not "code".
        """
        rows = self._check_rows(X, "score_samples")
        self._check_has_density()
        from ._density import log_density

        with self._restored(rows, gradients=True) as (model, device):
            return returned(log_density(model, rows, device), X)

    def _representation(self, rows):
        """Return the layer below the code of checked rows, raw."""
        from ._model import representation

        with self._restored(rows) as (model, device):
            return representation(model, rows, device)

    def _check_has_density(self):
        """Raise ValueError where codes have no density, or rows none that follows."""
        network = self._state["spec"]["network"]
        if network["output_layer"] != "code":
            raise ValueError(
                f"score_samples needs codes, for layers below them follow no law. Got "
                f"output_layer={network['output_layer']!r}; use output_layer='code'."
            )
        scale = self._state["weights"]["network.input.inverse_scale"]
        n_varying = np.count_nonzero(np.broadcast_to(scale, network["row_shape"]))
        if network["n_components"] > n_varying:
            raise ValueError(
                f"score_samples needs no more components than columns that vary. Got "
                f"n_components={network['n_components']} and {n_varying} such columns; "
                f"lower 'n_components'."
            )

    def score(self, X, y=None):
        """Return a lower bound on the information that the codes keep about X.

        Noise and views are fixed by the fitted seed, so that the value is reproducible.
        Codes of ``NoiseInjectedDIM`` are noisy ones; ``DeepInfoMax`` has no noise, and
        returns the mean information of its terms, by their weights.
        ``objective="infonce"`` can report at most ``log(min(batch_size_, n_samples))``
        and, in expectation, at most ``capacity_``; compare it between estimators of
        equal capacity.  The other objectives are estimated by their own formulas,
        which can come out above both where the information is above a few nats; those
        of "dv" and "smile" are no bounds.

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
        return self._information(X, y)

    def _information(self, X, y=None, **changes):
        """Return the information of a fitted model, its spec changed by this."""
        rows = self._check_rows(X, "score", min_samples=2)
        is_supervised = self._state["spec"]["is_supervised"] and y is not None
        labels = check_labels(self, y, rows) if is_supervised else None
        from ._model import information, make_source

        batch_size, seed = self._state["batch_size"], self._state["seed"]
        with self._restored(rows, **changes) as (model, device):
            source = make_source(model, rows, seed, device, labels)
            return information(model, source, batch_size, seed)

    @contextmanager
    def _restored(self, rows, gradients=False, **changes):
        """Rebuild the model for rows of this type; cheap next to using it."""
        from ._model import restored
        from ._runtime import resolve_device

        spec, weights = self._fitted_spec(**changes), self._state["weights"]
        device = resolve_device(self.device, or_cpu=True)
        seed = self._state["seed"]
        with restored(spec, weights, rows, seed, device, gradients) as model:
            yield model, device

    def _fitted_spec(self, **changes):
        """Return the specification of the fitted model."""
        from ._network import NetworkSpec
        from ._spec import ModelSpec, ViewSpec

        spec = self._state["spec"] | changes
        spec["network"] = NetworkSpec(**spec["network"])
        spec["views"] = ViewSpec(**spec["views"])
        return ModelSpec(**spec)

    def _check_rows(self, X, method, min_samples=1):
        """Return rows to predict for, checked against what was fitted."""
        check_is_fitted(self)
        _core.load_torch()
        X, name = native(X)
        self._check_namespace(name, method)
        return check_rows(self, X, reset=False, min_samples=min_samples)[0]

    @property
    def _fitted_row_shape(self):
        return self._state["spec"]["network"]["row_shape"]

    def _ceiling(self):
        """Return the most, in nats, that the bound reports in the fitted batches."""
        from ._core.bounds import BOUNDS

        objective = BOUNDS[self._state["spec"]["objective"]]
        return objective.ceiling(self._state["batch_size"])

    @property
    def _n_features_out(self):
        return self._state["n_outputs"]

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_state")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.array_api_support = HAS_CALLBACKS  # as of scikit-learn 1.9
        return tags

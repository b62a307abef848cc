"""What the estimators share: fitted state and prediction."""

import warnings
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ._callbacks import CallbackWatcher
from ._laws import Law
from ._persistence import check_saved, stamped
from ._progress import Watchers, progress
from ._rows import Subset
from ._sklearn import CALLBACK_STATE, HAS_CALLBACKS, CallbackSupportMixin, fit_context
from ._validation import check_labels, check_rows, native, returned

__all__ = ["BaseInfoMax"]


class BaseInfoMax(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Base of estimators whose codes come from a trained torch model.

    A subclass says what to train by ``_resolve`` and which law codes are to follow by
    ``_law``, adds its own fitted attributes, and names doubts about a result by
    ``_doubts``.  The fitted model is one dict of plain
    values and numpy arrays: it holds no device or generator and, but for an encoder or
    a view of the user's own, no torch, so that it can be pickled anywhere and read
    without torch.
    """

    @fit_context
    def fit(self, X, y=None):
        """Train the encoder on X.

        Ctrl-C ends training early: the best weights so far are kept, with a warning.
        It raises only where nothing has been learned yet.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, \
channels) or (n_samples, channels, height, width)
            At least two rows of a table, or images; or an object with ``__len__`` and
            ``__getitem__`` that returns such rows, which is read by batches, such as
            an HDF5 or Zarr array or a torch dataset.  Floats, uint8 and memory-mapped
            arrays are not copied as a whole.
        y : array-like of shape (n_samples,), default=None
            Classes, -1 for unknown; ignored unless ``supervised``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or a parameter is invalid, before any training; or if training
            diverges, also when it is taken up again at a tenth of the learning rate.
            The estimator is then left as it was.
        """
        from ._stream import StreamState
        from ._trainer import train

        before = (
            dict(vars(self)) if self.warm_start and self.__sklearn_is_fitted__() else {}
        )
        with self._unchanged_on_error():
            rows, image_shape, namespace = self._read(X, reset=True)
            labels = check_labels(self, y, rows) if self.supervised else None
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            data, validation_data = self._split(rows, labels, seed)
            config = self._resolve(len(data.rows), image_shape, seed)
            weights = before["_state"]["weights"] if before else None
            if before:
                config = self._with_fitted_encoder(config)

            def attributes(result):
                new = self._fitted_attributes(config, result, before)
                stream = vars(StreamState.after(result))
                new["_state"] |= {"namespace": namespace, "stream": stream}
                return new | {"n_samples_seen_": len(rows)}

            with self._watched(X, y, config, attributes) as watcher:
                result = train(
                    config, data, validation_data, weights=weights, watcher=watcher
                )
            self._set(attributes(result))
        self._warn(self._mishaps(config, result))
        self._warn(self._doubts(config, result))
        return self

    @fit_context
    def partial_fit(self, X, y=None):
        """Train on one more part of a stream: once through its rows.

        The first call, or a ``fit`` before it, fixes the scaling of inputs (unless
        ``input_scaling`` gives it), the noise and the architecture.  Later calls
        change the encoder, so codes of the same row drift from call to call: what
        was trained on codes must be trained again.  Statistics of the codes are
        averages over about the last 4,096 rows, so that the law is followed by what
        streams by now.  The learning rate is constant, a third of
        ``learning_rate_init``.  Ctrl-C raises and leaves the estimator as it was before
        this part.

        Parameters
        ----------
        X : array-like
            As in ``fit``.  Best at least ``batch_size`` rows, and for views that use
            near rows a few thousand, since neighbours are looked for within X.
        y : array-like of shape (n_samples,), default=None
            Classes, -1 for unknown; ignored unless ``supervised``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            As in ``fit``; also with ``early_stopping``.
        """
        from ._config import Data
        from ._stream import StreamState, train_on

        if self.early_stopping:
            raise ValueError(
                "partial_fit does not support early_stopping=True, because a stream "
                "has no part to hold out. Set early_stopping=False, or use fit."
            )
        before = dict(vars(self)) if self.__sklearn_is_fitted__() else {"_state": None}
        state = before["_state"]
        with self._unchanged_on_error():
            rows, image_shape, namespace = self._read(X, reset=not state)
            labels = check_labels(self, y, rows) if self.supervised else None
            if not state:
                seed = check_random_state(self.random_state).randint(2**31 - 1)
                config = self._resolve(len(rows), image_shape, seed)
            else:
                config = self._resolve_again(len(rows))
            stream = StreamState(**state["stream"]) if state else StreamState()
            weights = state and state["weights"]
            result, stream = train_on(config, Data(rows, labels), weights, stream)
            new = self._fitted_attributes(config, result, before)
            new["_state"] |= {"namespace": namespace, "stream": vars(stream)}
            if state:
                kept = ("namespace", "batch_size", "seed")
                new["_state"] |= {name: state[name] for name in kept}
            new["batch_size_"] = new["_state"]["batch_size"]
            new["n_samples_seen_"] = before.get("n_samples_seen_", 0) + len(rows)
            self._set(new)
        self._warn(self._mishaps(config, result))
        return self

    def _read(self, X, reset):
        """Return rows to train on, the shape of their images or None, the namespace."""
        X, name = native(X)
        if not reset:
            self._check_namespace(name, "partial_fit")
        return *check_rows(self, X, reset=reset, min_samples=2), name

    def _check_namespace(self, name, method):
        fitted = self._state["namespace"]
        if name is not None and fitted not in (None, "numpy", name):
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same "
                f"namespace as those passed to fit(). Got {name} after a fit on "
                f"{fitted}; convert X, or turn array_api_dispatch off."
            )

    def _split(self, rows, labels, seed):
        """Return data to train on, and validation data or None."""
        from ._config import Data

        if not self.early_stopping:
            return Data(rows, labels), None
        n_validation = max(2, round(self.validation_fraction * len(rows)))
        if len(rows) - n_validation < 2:
            raise ValueError(
                f"early_stopping=True with validation_fraction="
                f"{self.validation_fraction} needs at least 2 rows to train on. Got "
                f"{len(rows)} rows in all; pass more rows or early_stopping=False."
            )
        order = np.random.default_rng(seed).permutation(len(rows))
        parts = order[n_validation:], order[:n_validation]
        return [
            Data(Subset(rows, part), None if labels is None else labels[part])
            for part in parts
        ]

    def _with_fitted_encoder(self, config):
        """Return a configuration with the user's encoder as it was fitted."""
        encoder = self._state["spec"]["network"]["encoder"]
        if isinstance(encoder, str):
            return config
        network = replace(config.model.network, encoder=encoder)
        return replace(config, model=replace(config.model, network=network))

    def _resolve_again(self, n_rows):
        """Return the configuration of the fitted model for one more part."""
        from ._config import FitConfig
        from ._runtime import resolve_device

        return FitConfig(
            model=self._fitted_spec(),
            batch_size=min(self._state["batch_size"], n_rows),
            max_iter=1,
            learning_rate=float(self.learning_rate_init),
            weight_decay=float(self.alpha),
            tol=None,
            n_iter_no_change=self.n_iter_no_change,
            seed=self._state["seed"],
            device=resolve_device(self.device),
        )

    @contextmanager
    def _watched(self, X, y, config, attributes):
        """Give what is to be told of every epoch."""
        bar = progress(self.verbose, config.max_iter)
        try:
            if not HAS_CALLBACKS:
                yield bar
                return
            callbacks = CallbackWatcher(self, X, y, config.max_iter, attributes)
            yield Watchers(bar, callbacks)
            callbacks.close()
        finally:
            bar.close()

    def _fitted_attributes(self, config, result, before):
        """Return what a result stands for, after curves of before if there were any."""
        is_code = config.model.network.output_layer == "code"
        new = {
            "output_distribution_": self._law if is_code else None,
            "batch_size_": config.batch_size,
            "information_": result.information,
            "information_curve_": result.information_curve,
            "match_curve_": result.gap_curve,
        }
        if self.early_stopping:
            new["validation_information_curve_"] = result.validation_curve
        for name in [name for name in new if name.endswith("_curve_")]:
            new[name] = [*before.get(name, []), *new[name]]
        new["n_iter_"] = len(new["information_curve_"])
        spec = dict(vars(config.model))
        spec["network"] = vars(config.model.network) | {"encoder": result.encoder}
        spec["views"] = dict(vars(config.model.views))
        new["_state"] = {
            "spec": spec,
            "n_outputs": result.n_outputs,
            "weights": result.weights,
            "batch_size": config.batch_size,
            "seed": config.seed,
        }
        return new

    def _set(self, attributes):
        """Set the fitted attributes all at once."""
        vars(self).pop("validation_information_curve_", None)
        vars(self).update(attributes)

    def _warn(self, messages):
        for message in messages:
            warnings.warn(message, ConvergenceWarning, stacklevel=4)

    def _mishaps(self, config, result):
        """Yield what got in the way of training."""
        if result.interrupted:
            yield (
                f"Training was interrupted after {len(result.information_curve)} of "
                f"{config.max_iter} epochs; the estimator keeps what it had learned by "
                f"then."
            )
        if result.fell_back:
            yield (
                f"Training diverged and went on from its last finite weights at a "
                f"tenth of learning_rate_init={self.learning_rate_init}; lower "
                f"'learning_rate_init', or raise 'noise_scale'."
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
        law = Law(self.output_distribution_)
        if law.name == "normal":
            return returned(outputs, X)
        outputs = outputs.cpu().numpy()
        codes = law.from_normal(outputs)
        largest = np.finfo(outputs.dtype).max  # of heavy tails in single precision
        return returned(np.clip(codes, -largest, largest).astype(outputs.dtype), X)

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
    def _restored(self, rows, **changes):
        """Rebuild the model for rows of this type; cheap next to using it."""
        from ._model import restored
        from ._runtime import resolve_device

        spec, weights = self._fitted_spec(**changes), self._state["weights"]
        device = resolve_device(self.device, or_cpu=True)
        with restored(spec, weights, rows, self._state["seed"], device) as model:
            yield model, device

    def _fitted_spec(self, **changes):
        """Return the specification of the fitted model."""
        from ._network import NetworkSpec
        from ._spec import ModelSpec, ViewSpec

        spec = self._state["spec"] | changes
        spec["network"] = NetworkSpec(**spec["network"])
        spec["views"] = ViewSpec(**spec["views"])
        return ModelSpec(**spec)

    @contextmanager
    def _unchanged_on_error(self):
        """Put every attribute back if what is inside raises."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            kept = {k: v for k, v in vars(self).items() if k in CALLBACK_STATE}
            vars(self).clear()
            vars(self).update(before | kept)
            raise

    def _check_rows(self, X, method, min_samples=1):
        """Return rows to predict for, checked against what was fitted."""
        check_is_fitted(self)
        X, name = native(X)
        self._check_namespace(name, method)
        return check_rows(self, X, reset=False, min_samples=min_samples)[0]

    @property
    def _fitted_row_shape(self):
        return self._state["spec"]["network"]["row_shape"]

    def _ceiling(self):
        """Return the most, in nats, that the bound reports in the fitted batches."""
        from ._objectives import OBJECTIVES

        objective = OBJECTIVES[self._state["spec"]["objective"]]
        return objective.ceiling(self._state["batch_size"])

    @property
    def _n_features_out(self):
        return self._state["n_outputs"]

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_state")

    def __getstate__(self):
        return stamped(super().__getstate__())

    def __setstate__(self, state):
        super().__setstate__(check_saved(state, type(self).__name__))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.array_api_support = HAS_CALLBACKS  # as of scikit-learn 1.9
        return tags

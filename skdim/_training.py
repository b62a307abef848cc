"""What estimators share that are trained: ``fit`` and ``partial_fit``."""

import math
import warnings
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from ._base import BaseInfoMax, unchanged_on_error
from ._callbacks import CallbackWatcher
from ._sklearn import HAS_CALLBACKS, fit_context
from ._utils.process import uninterrupted
from ._utils.progress import Watchers, progress
from ._utils.rows import Subset
from ._validation import check_labels, check_rows, native

__all__ = ["TrainedInfoMax"]


class TrainedInfoMax(BaseInfoMax):
    """Base of estimators that are trained by the core.

    A subclass says what to train by ``_resolve`` and which law codes are to follow by
    ``_law``, adds its own fitted attributes, and names doubts about a result by
    ``_doubts``.
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
            If X or a parameter is invalid, before any training (rows that are read by
            batches are checked as they are read); or if training diverges, also when
            it is taken up again at a tenth of the learning rate.  The estimator is
            then left as it was.
        """
        with unchanged_on_error(self):
            config, result = self._train(X, y)
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
        this part; ``verbose`` and callbacks, which tell of epochs, are not heeded.

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
            As in ``fit``; also with ``early_stopping``, or if a parameter asks for
            another model than the fitted one.
        """
        if self.early_stopping:
            raise ValueError(
                "partial_fit does not support early_stopping=True, because a stream "
                "has no part to hold out. Set early_stopping=False, or use fit."
            )
        self._validate_params()  # scikit-learn does so at the first call only
        with unchanged_on_error(self):
            config, result = self._train_part(X, y)
        self._warn(self._mishaps(config, result))
        return self

    def _train(self, X, y):
        """Train, set the fitted attributes, and return what was done."""
        from ._stream import StreamState
        from ._trainer import train

        is_warm = self.warm_start and self.__sklearn_is_fitted__()
        before = dict(vars(self)) if is_warm else {}
        rows, labels, image_shape, namespace = self._read(X, y, reset=True)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        # Rows that were held out stay so: the weights to go on from know the others.
        split_seed = before["_state"]["split_seed"] if before else seed
        data, validation_data = self._split(rows, labels, split_seed)
        config = self._resolve(len(data.rows), image_shape, seed)
        weights = before["_state"]["weights"] if before else None
        if before:
            config = self._with_fitted_encoder(config)

        def attributes(result):
            new = self._fitted_attributes(config, result, before)
            stream = vars(StreamState.after(result))
            new["_state"] |= {"namespace": namespace, "stream": stream}
            new["_state"]["split_seed"] = split_seed
            return new | {"n_samples_seen_": len(rows)}

        with self._watched(X, y, config, attributes) as watcher:
            result = train(
                config, data, validation_data, weights=weights, watcher=watcher
            )
            with uninterrupted():
                self._set(attributes(result))
        return config, result

    def _train_part(self, X, y):
        """Train on a part of a stream, set attributes, and return what was done."""
        from ._config import Data
        from ._stream import StreamState, train_on

        before = dict(vars(self)) if self.__sklearn_is_fitted__() else {}
        state = before.get("_state", {"weights": None, "stream": {}})
        rows, labels, image_shape, namespace = self._read(X, y, reset=not before)
        if before:
            seed, batch_size = state["seed"], state["batch_size"]
            namespace = state["namespace"]
        else:
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            batch_size = self._full_batch_size
        config = self._resolve(batch_size, image_shape, seed)
        if before:
            config = self._as_fitted(config)
        part = replace(config, batch_size=min(batch_size, len(rows)), max_iter=1)
        stream = StreamState(**state["stream"])
        result, stream = train_on(part, Data(rows, labels), state["weights"], stream)
        new = self._fitted_attributes(config, result, before)
        new["_state"] |= {"namespace": namespace, "stream": vars(stream)}
        new["_state"]["split_seed"] = state.get("split_seed", seed)
        new["n_samples_seen_"] = before.get("n_samples_seen_", 0) + len(rows)
        self._set(new)
        return part, result

    def _read(self, X, y, reset):
        """Return rows, their classes and image shape or None each, and a namespace."""
        X, name = native(X)
        if not reset:
            self._check_namespace(name, "partial_fit")
        rows, image_shape = check_rows(self, X, reset=reset, min_samples=2)
        labels = check_labels(self, y, rows) if self.supervised else None
        return rows, labels, image_shape, name

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
        # In the order they are stored: files are read faster so.
        parts = map(np.sort, (order[n_validation:], order[:n_validation]))
        return [
            Data(Subset(rows, part), None if labels is None else labels[part])
            for part in parts
        ]

    # Parameters by the names of the fields of a model that they set.
    _names: ClassVar = {"is_supervised": "supervised", "sizes": "hidden_layer_sizes"}

    def _asked(self):
        """Return what parameters ask for that the fitted model does not tell."""
        encoder = self.encoder
        if not isinstance(encoder, str):
            kind = encoder if hasattr(encoder, "__qualname__") else type(encoder)
            encoder = f"{kind.__module__}.{kind.__qualname__}"
        return {"encoder": encoder, "batch_size": self._full_batch_size}

    def _with_fitted_encoder(self, config):
        """Return a configuration with the user's encoder as it was fitted.

        Raises ValueError if the parameter asks for another one.
        """
        encoder, asked = self._state["spec"]["network"]["encoder"], self._asked()
        if asked["encoder"] != self._state["asked"]["encoder"]:
            raise ValueError(
                f"The fitted encoder is to be trained on, but the 'encoder' parameter "
                f"asks for another: {asked['encoder']} instead of "
                f"{self._state['asked']['encoder']}. Set it back, or fit without "
                f"warm_start."
            )
        if isinstance(encoder, str):
            return config
        network = replace(config.model.network, encoder=encoder)
        return replace(config, model=replace(config.model, network=network))

    def _as_fitted(self, config):
        """Return the configuration for one more part of a stream.

        Raises ValueError if parameters ask for another model by now.
        """
        config, fitted = self._with_fitted_encoder(config), self._fitted_spec()
        others = set(_differing(config.model, fitted))
        if "network" in others:
            others |= set(_differing(config.model.network, fitted.network))
        others = sorted({self._names.get(name, name) for name in others - _DERIVED})
        if self._asked()["batch_size"] != self._state["asked"]["batch_size"]:
            others = ["batch_size"]  # whatever follows from it
        if others:
            raise ValueError(
                f"partial_fit goes on with the model as it was fitted, but parameters "
                f"ask for another: {', '.join(others)}. Set them back, or call fit."
            )
        return config

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
            "asked": self._asked(),
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
                f"'learning_rate_init'."
            )


# Fields of a model that follow from others, or are compared one by one.
_DERIVED = {"network", "draws_in", "n_draws", "shrinkage", "normalizes"}


def _differing(one, other):
    """Return the names of the fields in which two of a dataclass differ."""
    pairs = (
        (f.name, getattr(one, f.name), getattr(other, f.name)) for f in fields(one)
    )
    return [name for name, a, b in pairs if a != b and not _is_close(a, b)]


def _is_close(a, b):
    """Return whether numbers differ by rounding alone, as on another machine."""
    return isinstance(a, float) and isinstance(b, float) and math.isclose(a, b)

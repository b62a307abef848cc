"""Base class of NoiseInjectedDIM and DeepInfoMax, with fit, transform and score."""

import warnings
from abc import ABCMeta, abstractmethod
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from . import _core, _resolve
from ._report import grave_doubts, make_report
from ._sklearn import (
    CALLBACK_STATE,
    HAS_CALLBACKS,
    CallbackSupportMixin,
    CallbackWatcher,
    Interval,
    NameIn,
    Stamped,
    StrOptions,
    fit_context,
    weight,
)
from ._utils.distributions import Distribution
from ._utils.images import ChannelsFirst
from ._utils.process import uninterrupted
from ._utils.progress import Watchers, progress
from ._utils.rows import Subset
from ._validation import (
    check_labels,
    check_rows,
    native,
    resolve_row_shape,
    returned,
)
from ._views import Views

__all__ = ["BaseInfoMax", "unchanged_on_error"]

_COUNT = Interval(Integral, 1, None, closed="left")
_AUTO = StrOptions({"auto"})


@contextmanager
def unchanged_on_error(estimator):
    """Context manager that restores an estimator's attributes if its block raises.

    ``fit`` and ``partial_fit`` run inside it, so that a failing call leaves the
    estimator as it was.  If KeyboardInterrupt is raised after the block has set a new
    model, the new attributes are kept.  Attributes that scikit-learn needs to end its
    callbacks are kept in any case.

    Parameters
    ----------
    estimator : estimator
        Transformer or outlier detector of skdim.  Its attribute ``_state`` holds the
        fitted model; a new object there means that a new model was set.
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException as error:
        is_set = vars(estimator).get("_state") is not before.get("_state")
        if is_set and isinstance(error, KeyboardInterrupt):
            raise
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
    metaclass=ABCMeta,
):
    """Base of NoiseInjectedDIM and DeepInfoMax, which train a model to make codes.

    A subclass says which model its parameters ask for (``_model_spec``) and which
    distribution its codes are to follow (``_distribution``).

    The fitted model is one dict, ``_state``, of plain values and arrays, so that it can
    be pickled on one machine and loaded on another.  The dict holds no device, no
    random generator, and no torch object except a user's encoder or augmentation.
    """

    _parameter_constraints: ClassVar = {
        "n_components": [_COUNT],
        "views": [
            None,
            NameIn("augmentations", "AUGMENTATIONS", "auto"),
            callable,
            list,
            tuple,
            Views,
        ],
        "supervised": ["boolean"],
        "encoder": [NameIn("encoders", "ENCODERS", "auto"), callable],
        "hidden_layer_sizes": [_AUTO, _COUNT, "array-like"],
        "output_layer": [StrOptions({"code", "hidden", "features"})],
        "final_map": [NameIn("transport", "FINAL_MAPS", "auto")],
        "image_shape": [None, "array-like"],
        "max_iter": [_AUTO, _COUNT],
        "batch_size": [_AUTO, Interval(Integral, 2, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0, 1e300, closed="right")],
        "weight_decay": [weight()],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [_COUNT],
        "warm_start": ["boolean"],
        "input_scaling": [_AUTO, "array-like"],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "objective": [NameIn("bounds", "BOUNDS")],
    }
    # Parameter that sets a field of ModelSpec, for fields of another name than in
    # ``_resolve``.
    _parameter_names: ClassVar = {}

    @abstractmethod
    def _model_spec(self, input_shape, batch_size):
        """Return the configuration of the model that the parameters ask for.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one row: (n_features,), or (channels, height, width).
        batch_size : int
            Number of rows per training step, by which some "auto" values are chosen.

        Returns
        -------
        model : ModelSpec
            Network, pairs of views, noise, and weights of the objective's terms.
        """

    @abstractmethod
    def _distribution(self):
        """Return the target distribution of each component of the codes.

        It is "normal", "uniform" or a distribution of ``scipy.stats``.
        """

    def _doubts(self):
        """Return a list of warnings, as str, about a ``fit`` whose result may be poor.

        The list is empty if nothing is wrong.  ``fit`` calls this method after it has
        set the fitted attributes, and issues the warnings.
        """
        return []

    # Training

    @fit_context
    def fit(self, X, y=None):
        """Train the encoder on X, so that ``transform`` can return codes.

        Ctrl-C ends training early, with a warning: what was learned until then is kept.
        KeyboardInterrupt is raised only if nothing was learned yet.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, \
channels) or (n_samples, channels, height, width)
            At least two rows of a table, or images.  X may also be an object whose
            ``__len__`` and ``__getitem__`` give such rows, for instance an HDF5 or Zarr
            array or a torch dataset; it is read batch by batch.  Arrays of floats or
            uint8, memory-mapped or not, are not copied as a whole.  Training rounds
            each number to single precision, so that copies of X in float32, float64 or
            an integer type give the same model.  It does not round columns of a table,
            or channels of images, that would suffer: those with a mean above 8,192
            standard deviations, a mean or deviation above 1e30, or a deviation below
            1e-30.  A float32 copy of such a column is other data.
        y : array-like of shape (n_samples,), default=None
            Classes, -1 for unknown.  Required if ``supervised`` is True, otherwise
            ignored.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or a parameter is invalid, before any training (rows that are read by
            batches are checked when they are read), or if training diverges.  The
            estimator is then left as it was.

        Warns
        -----
        ConvergenceWarning
            If training was interrupted, or in the other cases that the docstring of the
            class lists.
        """
        with unchanged_on_error(self):
            before = vars(self).copy() if self.warm_start else {}
            before = before if "_state" in before else {}
            rows, labels, layout = self._read(X, y, reset=True)
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            # Weights that are trained further know the old training rows, so rows that
            # were held out must be held out again.
            split_seed = before["_state"]["split_seed"] if before else seed
            data, validation_data = self._split(rows, labels, split_seed)
            config = self._config(data.rows, seed, before.get("_state"))
            n_steps_each = max(1, len(data.rows) // config.batch_size)
            layout |= {"split_seed": split_seed, "n_steps_each": n_steps_each}

            def attributes(result):
                stream = _core.streaming.StreamState.after(result)
                return self._fitted_attributes(
                    config, result, stream, layout, len(rows), before
                )

            with self._watched(X, y, config.max_iter, attributes) as watcher:
                result = _core.training.train(
                    config,
                    data,
                    validation_data,
                    weights=before["_state"]["weights"] if before else None,
                    watcher=watcher,
                )
                with uninterrupted():
                    self._set(attributes(result))
        self._warn(self._interruption(config, result))
        self._warn([*self._doubts(), *grave_doubts(self)])
        return self

    @fit_context
    def partial_fit(self, X, y=None):
        """Train on the next rows of a stream, in one pass through them.

        The first call, or a ``fit`` before it, fixes the architecture, the scale of the
        noise and the scaling of inputs (from its rows, unless ``input_scaling`` gives
        it).  Later calls change the encoder further, so the code of a given row drifts
        from call to call: a downstream model trained on earlier codes must be
        retrained.

        The mean and covariance that normalise codes, and the distribution functions
        that the final map is made of, are averages over this call's rows and up to
        4,096 rows before them, so that codes of recent rows follow the distribution,
        the closer the more rows a call has; 256 are enough for most data.
        The order of the components is that of the first call.  The learning rate is
        constant, a third of ``learning_rate_init``.  Ctrl-C raises KeyboardInterrupt
        and leaves the estimator as it was before this call.  ``verbose`` and callbacks
        have no effect, because they report epochs.

        Parameters
        ----------
        X : array-like
            At least two rows or images, as in ``fit``.  Pass ``batch_size`` rows or
            more if you can.  Pass a few thousand rows of a table if ``views`` are
            "neighbors" or ``supervised`` is True, because neighbours are looked for
            within X.
        y : array-like of shape (n_samples,), default=None
            Classes, -1 for unknown.  Required if ``supervised`` is True, otherwise
            ignored.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or a parameter is invalid, if training diverges, if ``early_stopping``
            is True, or if a parameter asks for another model than the fitted one.
        """
        if self.early_stopping:
            raise ValueError(
                "partial_fit does not support early_stopping=True, because a stream "
                "has no part to hold out. Set early_stopping=False, or use fit."
            )
        self._validate_params()  # scikit-learn does so at the first call only
        with unchanged_on_error(self):
            before = vars(self).copy() if self.__sklearn_is_fitted__() else {}
            state = before.get("_state", {"weights": None, "stream": {}})
            rows, labels, layout = self._read(X, y, reset=not before)
            seed = state.get("seed")
            if not before:
                seed = check_random_state(self.random_state).randint(2**31 - 1)
            layout |= {"split_seed": state.get("split_seed", seed)}
            config = self._config(rows, seed, before.get("_state"), is_stream=True)
            part = replace(config, batch_size=min(config.batch_size, len(rows)))
            layout |= {"n_steps_each": len(rows) // part.batch_size}
            streaming = _core.streaming
            result, stream = streaming.train_on(
                part,
                _core.batches.Data(rows, labels),
                state["weights"],
                streaming.StreamState(**state["stream"]),
            )
            n_seen = before.get("n_samples_seen_", 0) + len(rows)
            self._set(
                self._fitted_attributes(config, result, stream, layout, n_seen, before)
            )
        return self

    def _read(self, X, y, reset):
        """Check the user's X and y, and return rows and classes to train on.

        Parameters
        ----------
        X, y : array-like
            As the user gave them to ``fit`` or ``partial_fit``.
        reset : bool
            True in ``fit`` and in a first ``partial_fit``: ``n_features_in_`` is set.
            False in a later ``partial_fit``: X must have the fitted number and names of
            features, and be an array of the fitted library.

        Returns
        -------
        rows : array-like of shape (n_rows, *input_shape)
            A table, or images with channels first.
        labels : ndarray of int of shape (n_rows,), or None
            Classes, -1 for unknown; None unless ``supervised``.
        layout : dict
            Two entries for ``_state``: "namespace", the name of the array API namespace
            of X, such as "torch", or None without dispatch; and "row_shape", the shape
            of one row as the user gave it.
        """
        X, name = native(X)
        if not reset:
            self._check_namespace(name, "partial_fit")
            name = self._state["namespace"]
        rows, image_shape = check_rows(self, X, reset=reset, min_samples=2)
        row_shape = resolve_row_shape(
            self.image_shape, image_shape, self.n_features_in_
        )
        labels = check_labels(self, y, rows) if self.supervised else None
        rows = _as_core_rows(rows, row_shape)
        return rows, labels, {"namespace": name, "row_shape": row_shape}

    def _split(self, rows, labels, seed):
        """Split rows into those to train on and those held out for ``early_stopping``.

        Parameters
        ----------
        rows : array-like of shape (n_rows, *input_shape)
            All rows.
        labels : ndarray of shape (n_rows,) or None
            Classes of the rows; None if classes are not used.
        seed : int
            Determines which rows are held out.

        Returns
        -------
        data : Data
            Training rows and their classes.
        validation_data : Data or None
            Held-out rows and their classes: the share ``validation_fraction`` of the
            rows, at least two.  None without ``early_stopping``.

        Raises
        ------
        ValueError
            If fewer than 2 rows would be left to train on.
        """
        Data = _core.batches.Data
        if not self.early_stopping:
            return Data(rows, labels), None
        n_validation = self._n_held_out(len(rows))
        if len(rows) - n_validation < 2:
            raise ValueError(
                f"early_stopping=True with validation_fraction="
                f"{self.validation_fraction} needs at least 2 rows to train on. Got "
                f"{len(rows)} rows in all; pass more rows or early_stopping=False."
            )
        order = np.random.default_rng(seed).permutation(len(rows))
        # Sorted, because files are read faster in order.
        parts = map(np.sort, (order[n_validation:], order[:n_validation]))
        return [
            Data(Subset(rows, part), None if labels is None else labels[part])
            for part in parts
        ]

    def _n_held_out(self, n_rows):
        """Return how many of so many rows ``early_stopping`` holds out."""
        return max(2, round(self.validation_fraction * n_rows))

    def _config(self, rows, seed, fitted=None, is_stream=False):
        """Return the configuration of training on some rows, a TrainingConfig.

        Parameters
        ----------
        rows : array-like of shape (n_rows, *input_shape)
            Training rows.
        seed : int
            Seed of all random draws of this training.
        fitted : dict or None
            ``_state`` of the fitted model to train further; None for a new model.
        is_stream : bool
            True in ``partial_fit``: ``batch_size`` is then not limited by the number of
            rows, because later calls may bring more.

        Raises
        ------
        ValueError
            If parameters are invalid, or ask for another encoder than the fitted one
            or, in ``partial_fit``, for any other model.
        """
        params = self.get_params(deep=False)
        batch_size = _resolve.full_batch_size(params)
        if is_stream and fitted:
            batch_size = self.batch_size_
        elif not is_stream:
            batch_size = min(batch_size, len(rows))
        model = self._model_spec(tuple(rows.shape[1:]), batch_size)
        if fitted:
            self._check_same_encoder(fitted)
            model = _resolve.with_encoder(model, fitted["spec"]["network"]["encoder"])
        if is_stream and fitted:
            self._check_same_model(model, fitted)
        n_rows = batch_size if is_stream else len(rows)
        return _resolve.training(params, model, n_rows, batch_size, seed)

    def _check_same_encoder(self, fitted):
        """Raise ValueError if the "encoder" parameter has changed since the last fit.

        It guards ``fit`` with ``warm_start`` and ``partial_fit``, which train the
        fitted encoder further.

        Parameters
        ----------
        fitted : dict
            ``_state`` of the fitted model; it records the "encoder" parameter.
        """
        requested, was_requested = self._requested(), fitted["requested"]
        asked, was_asked = requested["encoder"], was_requested["encoder"]
        if asked == was_asked:
            asked, was_asked = requested["layers"], was_requested["layers"]
        if asked != was_asked:
            raise ValueError(
                f"The fitted encoder is to be trained on, but the 'encoder' parameter "
                f"asks for another: {asked} instead of {was_asked}. Set it back, or "
                f"fit without warm_start."
            )

    def _check_same_model(self, model, fitted):
        """Raise ValueError if the parameters ask for another model than the fitted one.

        It guards ``partial_fit``, which trains the fitted model further.

        Parameters
        ----------
        model : ModelSpec
            The model that the parameters ask for.
        fitted : dict
            ``_state`` of the fitted model.
        """
        others = _resolve.differences(model, self._fitted_spec(), self._parameter_names)
        if self._requested()["batch_size"] != fitted["requested"]["batch_size"]:
            others = ["batch_size"]  # and whatever follows from it
        if others:
            raise ValueError(
                f"partial_fit goes on with the model as it was fitted, but parameters "
                f"ask for another: {', '.join(others)}. Set them back, or call fit."
            )

    def _requested(self):
        """Return the encoder and the batch size that the parameters now ask for.

        ``fit`` stores them in ``_state``, so that later calls can tell if the
        parameters have changed.  The fitted model itself does not show that: its
        encoder may be a trained module, and its batches smaller because rows were few.

        Returns
        -------
        requested : dict
            "encoder", a str: the parameter, or the full name of the user's class or
            function; "layers", a str that shows the layers of a user's module, else
            empty; and "batch_size", an int.
        """
        encoder, layers = self.encoder, ""
        if not isinstance(encoder, str):
            is_object = not hasattr(encoder, "__qualname__")
            kind = type(encoder) if is_object else encoder
            layers = " ".join(repr(encoder).split()) if is_object else ""
            encoder = f"{kind.__module__}.{kind.__qualname__}"
        batch_size = _resolve.full_batch_size(self.get_params(deep=False))
        return {"encoder": encoder, "layers": layers, "batch_size": batch_size}

    @contextmanager
    def _watched(self, X, y, n_epochs, attributes):
        """Context manager that yields a Watcher, to report epochs while ``fit`` trains.

        The watcher shows a progress bar as ``verbose`` asks, and calls the callbacks of
        scikit-learn.  The bar is always closed when the ``with`` block ends.  Callbacks
        are told that training has ended only if there was no error.

        Parameters
        ----------
        X, y : array-like
            As the user gave them to ``fit``; callbacks may ask for them.
        n_epochs : int
            Largest number of epochs.
        attributes : callable
            ``attributes(result)`` returns the fitted attributes, a dict by name, for a
            TrainingResult.
        """
        bar = progress(self.verbose, n_epochs)
        try:
            if not HAS_CALLBACKS:
                yield bar
                return
            callbacks = CallbackWatcher(self, X, y, n_epochs, attributes)
            yield Watchers(bar, callbacks)
            callbacks.close()
        finally:
            bar.close()

    def _fitted_attributes(self, config, result, stream, layout, n_seen, before):
        """Return the fitted attributes, a dict by name, without setting them.

        Parameters
        ----------
        config : TrainingConfig
            The configuration of the training that has ended.
        result : TrainingResult
            What training returned.
        stream : StreamState
            What the next ``partial_fit`` needs besides the weights.
        layout : dict
            "namespace" and "row_shape" of X, as ``_read`` returns them, "split_seed",
            the seed of ``_split``, and "n_steps_each", the steps of each epoch.
        n_seen : int
            Value of ``n_samples_seen_``.
        before : dict
            Attributes before this training, if it went on with a fitted model: its
            curves are continued.  Empty for a new model.
        """
        is_code = config.model.network.output_layer == "code"
        new = {
            "output_distribution_": self._distribution() if is_code else None,
            "batch_size_": config.batch_size,
            "information_": result.information,
            "information_curve_": result.information_curve,
            "match_curve_": result.match_curve,
            "n_samples_seen_": n_seen,
        }
        if self.early_stopping:
            new["validation_information_curve_"] = result.validation_curve
        for name in [name for name in new if name.endswith("_curve_")]:
            new[name] = [*before.get(name, []), *new[name]]
        new["n_iter_"] = len(new["information_curve_"])
        n_steps = len(result.information_curve) * layout["n_steps_each"]
        n_steps += before.get("_state", {}).get("n_steps", 0)
        spec = dict(vars(config.model))
        spec["network"] = vars(config.model.network) | {"encoder": result.encoder}
        spec["pairs"] = dict(vars(config.model.pairs))
        new["_state"] = layout | {
            "spec": spec,
            "weights": result.weights,
            "n_outputs": result.n_outputs,
            "n_steps": n_steps,
            "seed": config.seed,
            "requested": self._requested(),
            "stream": vars(stream),
        }
        return new

    def _set(self, attributes):
        """Set the fitted attributes in ``attributes``, a dict by name.

        The validation curve of an earlier fit is removed first.
        """
        vars(self).pop("validation_information_curve_", None)
        vars(self).update(attributes)

    def _warn(self, messages):
        for message in messages:
            warnings.warn(message, ConvergenceWarning, stacklevel=4)

    def _interruption(self, config, result):
        """Return a list with a warning if Ctrl-C was pressed in training, else [].

        Parameters
        ----------
        config : TrainingConfig
            Holds the number of epochs that were planned.
        result : TrainingResult
            Says whether training was interrupted, and after how many epochs.
        """
        if not result.interrupted:
            return []
        return [
            f"Training was interrupted after {len(result.information_curve)} of "
            f"{config.max_iter} epochs; the estimator keeps what it had learned by "
            f"then."
        ]

    # Prediction

    def transform(self, X):
        """Return the codes of X; no noise is added.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, \
channels) or (n_samples, channels, height, width)
            Rows of a table with the columns of ``fit``, or images of the shape of
            ``fit``.  Objects that are read by batches are accepted, as in ``fit``.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_components)
            Codes that follow ``output_distribution_``.  If ``output_layer`` is not
            "code", the output of that layer instead, of shape (n_samples, n_units) and
            standardised by column.  float32 for float32, half precision and uint8
            input, otherwise float64; the numbers agree up to rounding.
        """
        rows = self._check_rows(X, "transform")
        is_double = _core.inference.is_double(rows)
        with self._restored(is_double) as (model, device):
            to = getattr(rows, "device", "cpu")
            outputs = _core.inference.transform(model, rows, device, to)
        if self.output_distribution_ is None:  # the outputs are a layer below the code
            return returned(outputs, X)
        distribution = Distribution(self.output_distribution_)
        if distribution.name == "normal":
            return returned(outputs, X)
        outputs = outputs.cpu().numpy()
        codes = distribution.from_normal(outputs)
        largest = np.finfo(outputs.dtype).max  # heavy tails may overflow
        return returned(np.clip(codes, -largest, largest).astype(outputs.dtype), X)

    def score_samples(self, X):
        """Return the log-density of each row under the learned model.

        Low values mean unlikely rows.  Let ``f(x)`` be the code of a row ``x``, before
        it is mapped to ``output_distribution``.  If codes follow N(0, I), the row has
        the log-density ``log N(f(x); 0, I) + 1/2 log det(J J^T)``, where ``J`` is the
        derivative of ``f`` at ``x``.

        With as many components as columns this is a density of rows.  With fewer it is
        a density along the directions in which the code changes.  It misses rows that
        are unusual only in other directions, and cannot be compared with a density of
        all columns.  With more components than columns, codes lie on a surface of as
        many dimensions as there are columns, and ``J^T J`` takes the place of ``J
        J^T``.  This is the density of N(0, I) on that surface, which is not normalised:
        its integral over all rows is not 1.  Columns that did not vary in training
        count as none.  Compare rows under one fitted model only.

        Where the encoder folds, so that several regions of rows have the same codes,
        the density is too high in each of them.  With as many components as columns,
        the mean over rows like the training rows is minus their entropy, plus the
        entropy of the region given the code (0 without folds, at most ``log 2`` where
        up to two regions share a code, ``log m`` for m), minus the Kullback-Leibler
        divergence of the codes from N(0, I).  So a high mean alone does not show a good
        density.  Folds are more common without views (see the example).

        Parameters
        ----------
        X : array-like
            Rows or images, as in ``transform``.  Time and memory grow with the number
            of components times the number of columns or pixels.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In nats, as float64; -inf where ``J`` does not have full rank.

        Raises
        ------
        ValueError
            If ``output_layer`` is not "code".

        Examples
        --------
        Two fits without views to a column that follows N(0, 1), whose entropy is 1.42
        nats.  One of them folds, and its mean is 0.41 above -1.42, where ``log 2``
        would be 0.69.

        >>> import numpy as np
        >>> from skdim import NoiseInjectedDIM
        >>> X = np.random.default_rng(0).normal(size=(8000, 1))
        >>> for seed in (0, 2):
        ...     dim = NoiseInjectedDIM(1, views=None, random_state=seed).fit(X[:4000])
        ...     print(round(float(dim.score_samples(X[4000:]).mean()), 1))
        -1.4
        -1.0
        """
        rows = self._check_rows(X, "score_samples")
        self._check_has_density()
        with self._restored(is_double=True, gradients=True) as (model, device):
            return returned(_core.density.log_density(model, rows, device), X)

    def score(self, X, y=None):
        """Return an estimate of the mutual information that codes keep about X.

        It serves model selection on held-out rows.  For ``NoiseInjectedDIM`` it
        estimates, for most objectives by a lower bound, the mutual information between
        the code of a view of a row and a noisy code of the row (by default that of
        another view; without views, both codes are of the row itself).  For
        ``DeepInfoMax``, which has no noise, it estimates the mutual information between
        codes and features: the mean of the global and the local one, weighted by
        ``global_weight`` and ``local_weight``.  Noise and views are drawn with the seed
        of the fitted model, so that the value is reproducible.

        ``objective="infonce"`` can report at most ``log(min(batch_size_, n_samples))``
        and, for ``NoiseInjectedDIM`` in expectation, at most ``capacity_``; compare
        values between estimators of equal capacity.  The other objectives use other
        estimates, which can exceed both limits where the information is above a few
        nats; the estimates of "dv" and "smile" are not even lower bounds.

        Parameters
        ----------
        X : array-like
            At least two rows or images, as in ``transform``.
        y : array-like of shape (n_samples,), default=None
            Classes, used only if the estimator was fitted with ``supervised=True``; the
            views of a row are then made from rows of its class, as in ``fit``.  None
            makes them from the row itself.

        Returns
        -------
        information : float
            In nats; higher is better.
        """
        return self._information(X, y)

    def report(self, X, y=None):
        """Say whether codes of X are as promised, and what to change if they are not.

        One call measures how far codes are from their distribution, how dependent their
        components are, and how much information they keep about X.  It compares this
        with the training rows, and looks for usual mistakes: too short a training, too
        few rows for so many components, inputs on another scale, and so on.

        Parameters
        ----------
        X : array-like
            At least 20 rows or images, as in ``transform``.  Pass rows that were held
            out of ``fit``: codes of training rows are closer to the distribution than
            those of any other rows.  A few hundred rows tell more than a few dozen.
            For the last step of a pipeline, pass what the steps before it return:
            ``pipe[-1].report(pipe[:-1].transform(X))``.
        y : array-like of shape (n_samples,), default=None
            Classes, used as in ``score``.

        Returns
        -------
        report : PromiseReport
            ``print`` writes it as text, and notebooks show a table.  Its attributes
            ``verdict``, ``holds`` and ``advice`` say the result; the others are what
            was measured (see ``help(report)``).

        Raises
        ------
        ValueError
            If X is invalid or has fewer than 20 rows, or if ``output_layer`` is not
            "code".

        See Also
        --------
        skdim.metrics.excess_distance : The distance that comes first in the report.
        skdim.MatchDisplay : A picture of the match.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skdim import NoiseInjectedDIM
        >>> X = load_digits().data
        >>> dim = NoiseInjectedDIM(4, views=None, random_state=0).fit(X[::2])
        >>> report = dim.report(X[1::2])
        >>> report.holds, report.advice
        (True, [])
        >>> report.distance.high < 0.15
        True
        >>> print(report)
        As promised: codes of X are at most ... standard deviations from their ...
        """
        return make_report(self, X, y)

    @property
    def explained_variance_ratio_(self):
        """Share of the variance of standardised inputs that each component explains."""
        return self._described("explained", "explained_variance_ratio_")

    @property
    def loadings_(self):
        """Correlation of each component with each column of the training rows."""
        return self._described("loadings", "loadings_")

    def _described(self, name, attribute):
        """Return what the end of training found out about components, an ndarray.

        Parameters
        ----------
        name : {"explained", "loadings"}
        attribute : str
            Name of the public attribute, for the message.

        Raises
        ------
        AttributeError
            If the estimator is not fitted, or the fitted model has no such description.
        """
        found = vars(self).get("_state", {"stream": {"moments": {}}})
        found = found["stream"]["moments"].get(name)
        if found is None:
            raise AttributeError(
                f"{type(self).__name__} has no {attribute!r}: it is there after fit, "
                f"for codes{' of tables' if name == 'loadings' else ''}."
            )
        return found[0].copy()

    def _information(self, X, y=None, **changes):
        """Return ``score(X, y)``, computed with some settings of the model replaced.

        It lets metrics use another bound than the one that was trained with.

        Parameters
        ----------
        X, y : array-like
            As in ``score``.
        **changes : object
            Fields of ``ModelSpec`` to replace, such as ``bound="infonce"``.
        """
        rows = self._check_rows(X, "score", min_samples=2)
        seed, labels = self._state["seed"], None
        if self._state["spec"]["pairs"]["by_class"] and y is not None:
            labels = check_labels(self, y, rows)
        with self._restored(is_double=False, **changes) as (model, device):
            source = _core.batches.BatchSource(
                _core.batches.Data(rows, labels),
                model.network.input,
                model.spec.pairs,
                seed,
                device,
            )
            return _core.inference.mean_information(
                model, source, self.batch_size_, seed
            )

    def _representation(self, rows):
        """Return rows, standardised rows and learned features, for outlier detectors.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, *row_shape)
            Checked rows, with axes as in ``fit``.

        Returns
        -------
        rounded : ndarray of shape (n_rows, n_inputs)
            Flattened rows in double precision, rounded as in training: rows in single
            and in double precision give the same.
        standardized : ndarray of shape (n_rows, n_inputs)
            The same rows, standardised by column or channel; outliers are not bounded.
        features : ndarray of shape (n_rows, n_features)
            Output of the layer before the code, flattened and not standardised.  The
            encoder's output, not normalised, if the encoder is the user's and does not
            name its parts.
        """
        rows = _as_core_rows(rows, self._fitted_row_shape)
        with self._restored(is_double=True) as (model, device):
            return _core.inference.representation(model, rows, device)

    @contextmanager
    def _restored(self, is_double, gradients=False, **changes):
        """Context manager that yields the fitted model, rebuilt from ``_state``.

        Parameters
        ----------
        is_double : bool
            True makes the model compute in double precision, except for a user's
            encoder, which always gets single precision.  False computes in single
            precision, as training does.
        gradients : bool
            True allows gradients, False computes without them.
        **changes : object
            Fields of ``ModelSpec`` to replace, such as ``bound="infonce"``.

        Yields
        ------
        model : Model
            In evaluation mode.
        device : torch.device
            Where the model computes.
        """
        device = _core.runtime.resolve_device(self.device, or_cpu=True)
        with _core.inference.restored(
            self._fitted_spec(**changes),
            self._state["weights"],
            is_double,
            self._state["seed"],
            device,
            gradients,
        ) as model:
            yield model, device

    def _fitted_spec(self, **changes):
        """Return the ModelSpec of the fitted model, with some fields replaced.

        It is rebuilt from the plain values in ``_state``.  ``changes`` gives new values
        of fields by name.
        """
        config, spec = _core.config, self._state["spec"] | changes
        spec["network"] = config.NetworkSpec(**spec["network"])
        spec["pairs"] = config.PairSpec(**spec["pairs"])
        return config.ModelSpec(**spec)

    def _check_rows(self, X, method, min_samples=1):
        """Check that the estimator is fitted and that X suits it; return X as rows.

        Parameters
        ----------
        X : array-like
            As the user gave it.
        method : str
            Name of the calling method, for an error message.
        min_samples : int
            Smallest number of rows that is accepted.

        Returns
        -------
        rows : array-like of shape (n_rows, *input_shape)
            A table, or images with channels first.
        """
        check_is_fitted(self)
        X, name = native(X)
        self._check_namespace(name, method)
        rows, _ = check_rows(self, X, reset=False, min_samples=min_samples)
        return _as_core_rows(rows, self._fitted_row_shape)

    def _check_namespace(self, name, method):
        """Raise ValueError if X is of another array library than the data of ``fit``.

        Parameters
        ----------
        name : str or None
            Name of the array namespace of X; None if dispatch is off, which always
            passes.
        method : str
            Name of the calling method, for the message.
        """
        fitted = self._state["namespace"]
        if name is not None and fitted not in (None, "numpy", name):
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same "
                f"namespace as those passed to fit(). Got {name} after a fit on "
                f"{fitted}; convert X, or turn array_api_dispatch off."
            )

    def _check_has_density(self):
        """Raise ValueError if the fitted model has no codes, and so no density."""
        output_layer = self._state["spec"]["network"]["output_layer"]
        if output_layer != "code":
            raise ValueError(
                f"score_samples needs codes, because layers below them follow no "
                f"distribution. Got output_layer={output_layer!r}; use "
                f"output_layer='code'."
            )

    @property
    def _fitted_row_shape(self):
        """Shape of one row as the user gave it to ``fit``.

        ``(n_features,)``, or three numbers for images, in the user's order of axes.
        """
        return self._state["row_shape"]

    def _ceiling(self):
        """Return the largest information, in nats, that the objective can report.

        It is ``log(batch_size_)`` for InfoNCE, and infinite for other objectives.
        """
        bound = _core.bounds.BOUNDS[self._state["spec"]["bound"]]
        return bound.ceiling(self.batch_size_)

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


def _as_core_rows(rows, row_shape):
    """Return rows in the form that the model reads, without copying them.

    Parameters
    ----------
    rows : array-like of shape (n_rows, ...)
        Checked rows; images may be flat.
    row_shape : tuple of int
        Shape of one row as the user gave it: one number, or three for images.

    Returns
    -------
    rows : array-like of shape (n_rows, *input_shape)
        A table as it is, or images with channels first.
    """
    return rows if len(row_shape) == 1 else ChannelsFirst(rows, row_shape)

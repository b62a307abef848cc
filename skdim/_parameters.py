"""Parameters that all estimators have: what they may be, and what "auto" means."""

import math
import sys
from numbers import Integral, Real

import numpy as np

from ._sklearn import Interval, StrOptions
from ._training import TrainedInfoMax
from ._validation import is_count, resolve_row_shape

__all__ = ["CommonParameters", "common_constraints", "not_negative"]

# Found by measurement: docs/defaults.md.
BATCH_SIZE = 256
STEPS = 400
SIZES = {"mlp": (256,), "conv": (32, 64, 128)}

# Views by number of channels; a table has none.
_VIEWS = {
    0: ["neighbors"],
    1: ["affine"],
}
_VIEWS |= {n_channels: ["crop", "flip", "color"] for n_channels in (3, 4)}

_MOST = sys.float_info.max  # beyond it an int is no float


def not_negative():
    """Return the constraint of weights."""
    return Interval(Real, 0, _MOST, closed="both")


def common_constraints():
    """Return what each parameter may be; names come from the tables of the core."""
    from ._encoders import ENCODERS
    from ._views import VIEWS

    count = Interval(Integral, 1, None, closed="left")
    auto = StrOptions({"auto"})
    return {
        "n_components": [count],
        "local_weight": [not_negative()],
        "encoder": [StrOptions({"auto", *ENCODERS}), callable],
        "hidden_layer_sizes": [auto, count, "array-like"],
        "image_shape": [None, "array-like"],
        "output_layer": [StrOptions({"code", "hidden", "features"})],
        "views": [None, StrOptions({"auto", *VIEWS}), callable, list, tuple],
        "view_strength": [auto, not_negative()],
        "view_sides": [StrOptions({"both", "one"})],
        "n_views": [count],
        "n_neighbors": [count],
        "supervised": ["boolean"],
        "batch_size": [auto, Interval(Integral, 2, None, closed="left")],
        "max_iter": [auto, count],
        "learning_rate_init": [Interval(Real, 0, _MOST, closed="right")],
        "alpha": [not_negative()],
        "tol": [None, not_negative()],
        "n_iter_no_change": [count],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "warm_start": ["boolean"],
        "input_scaling": [auto, "array-like"],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }


class CommonParameters(TrainedInfoMax):
    """Base of estimators that have these parameters.

    A subclass says by ``_resolve_model`` what they and its own make of the model.
    """

    @property
    def _full_batch_size(self):
        """The size of a batch of as many rows as it takes."""
        return BATCH_SIZE if self.batch_size == "auto" else int(self.batch_size)

    def _resolve(self, n_rows, image_shape, seed):
        """Return the configuration with every "auto" decided."""
        from ._config import FitConfig
        from ._runtime import resolve_device

        row_shape, channels_first = resolve_row_shape(
            self.image_shape, image_shape, self.n_features_in_
        )
        batch_size = min(self._full_batch_size, n_rows)
        self._check_decay()
        steps_per_epoch = n_rows // batch_size
        auto_iter = math.ceil(STEPS / steps_per_epoch)
        return FitConfig(
            model=self._resolve_model(batch_size, row_shape, channels_first),
            batch_size=batch_size,
            max_iter=auto_iter if self.max_iter == "auto" else int(self.max_iter),
            learning_rate=float(self.learning_rate_init),
            weight_decay=float(self.alpha),
            tol=0.0 if self.early_stopping and self.tol is None else self.tol,
            n_iter_no_change=self.n_iter_no_change,
            seed=seed,
            device=resolve_device(self.device),
            scaling=self._resolve_scaling(row_shape, channels_first),
        )

    def _check_decay(self):
        """Raise if a step would take more off the weights than there is."""
        if float(self.learning_rate_init) * float(self.alpha) > 1:
            raise ValueError(
                f"learning_rate_init times alpha, the share of the weights that a step "
                f"takes off, must be at most 1. Got {self.learning_rate_init!r} times "
                f"{self.alpha!r} instead; lower 'alpha'."
            )

    def _resolve_scaling(self, row_shape, channels_first):
        """Return mean and scale of each column or channel, or None for the data's."""
        if isinstance(self.input_scaling, str):
            return None
        n = row_shape[0 if channels_first else -1]
        try:
            mean, scale = (
                np.broadcast_to(np.asarray(part, dtype=float), n).copy()
                for part in self.input_scaling
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"The 'input_scaling' parameter must hold mean and scale, numbers or "
                f"arrays of {n} numbers. Got {self.input_scaling!r} instead."
            ) from error
        with np.errstate(over="ignore"):
            inverse = 1 / np.where(scale == 0, 1, scale)
        if not np.isfinite([mean, scale, inverse]).all() or (scale < 0).any():
            raise ValueError(
                f"The 'input_scaling' parameter must hold finite numbers, and scales "
                f"of 0 or well above. Got {self.input_scaling!r} instead."
            )
        return mean, scale

    def _resolve_views(self, network):
        from ._spec import ViewSpec

        steps = self.views
        if isinstance(steps, str) and steps == "auto":
            steps = _VIEWS.get(
                network.input_shape[0] if network.is_image else 0, ["crop"]
            )
        if steps is None or isinstance(steps, str) or callable(steps):
            steps = [] if steps is None else [steps]
        for step in steps:
            self._check_view(step, network.is_image)
            self._check_strength(step)
        is_auto = self.view_strength == "auto"
        return ViewSpec(
            steps=tuple(steps),
            strength=None if is_auto else float(self.view_strength),
            n_neighbors=int(self.n_neighbors),
            sides=self.view_sides,
            n_views=int(self.n_views),
        )

    @staticmethod
    def _check_view(step, is_image):
        from ._views import VIEWS

        if callable(step):
            return
        fitting = sorted(n for n, view in VIEWS.items() if view.of_images == is_image)
        if step not in fitting:
            raise ValueError(
                f"The 'views' parameter must hold functions or names among {fitting} "
                f"for {'images' if is_image else 'a table'}. Got {step!r} instead."
            )

    def _check_strength(self, step):
        from ._views import VIEWS

        if self.view_strength == "auto" or callable(step):
            return
        if self.view_strength > VIEWS[step].most:
            raise ValueError(
                f"The 'view_strength' parameter is a share for {step!r}, at most "
                f"{VIEWS[step].most:g}. Got {self.view_strength!r} instead."
            )

    def _resolve_network(self, row_shape, channels_first):
        from ._network import NetworkSpec

        is_image = len(row_shape) > 1
        encoder = self.encoder
        if isinstance(encoder, str) and encoder == "auto":
            encoder = "conv" if is_image else "mlp"
        if isinstance(encoder, str) and encoder == "conv" and not is_image:
            raise ValueError(
                "encoder='conv' needs images. Got rows of a table instead; pass a 4-D "
                "array or set 'image_shape'."
            )
        is_own = not isinstance(encoder, str)
        if self.output_layer == "features" and encoder == "mlp":
            raise ValueError(
                "output_layer='features' needs encoder='conv', whose features are maps "
                "of an image, or one of your own. Got 'mlp' instead, whose features "
                "are its inputs; use output_layer='hidden'."
            )
        return NetworkSpec(
            encoder=encoder,
            sizes=() if is_own else self._resolve_sizes(encoder),
            row_shape=row_shape,
            channels_first=channels_first,
            n_components=int(self.n_components),
            output_layer=self.output_layer,
        )

    def _resolve_sizes(self, encoder):
        sizes = self.hidden_layer_sizes
        if isinstance(sizes, str):
            return SIZES[encoder]
        sizes = tuple(np.atleast_1d(np.asarray(sizes, dtype=object)).tolist())
        if not all(map(is_count, sizes)):
            raise ValueError(
                f"The 'hidden_layer_sizes' parameter must hold integers above 0. Got "
                f"{self.hidden_layer_sizes!r} instead."
            )
        return sizes

    def _misses_tol(self, config, result):
        """Return whether training was to stop by itself and did not."""
        return config.tol is not None and self.tol is not None and not result.stopped

    def _doubts(self, config, result):
        """Yield what speaks against the result."""
        if not result.interrupted and self._misses_tol(config, result):
            yield (
                f"Training reached max_iter={config.max_iter} epochs before the "
                f"information stopped rising by more than tol={self.tol} nats for "
                f"{self.n_iter_no_change} epochs; raise 'max_iter' or 'tol'."
            )

"""The network: raw rows -> scaled input -> encoder -> normalised output."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ._encoders import ENCODERS, PARTS
from ._normalizer import Normalizer, NormMap, Standardizer, Unnormalized
from ._runtime import take
from ._utils.rows import batches

__all__ = [
    "InputLayer",
    "Network",
    "NetworkSpec",
    "build_network",
    "encoder_failure",
]


_OUTLIER_BOUND = 3.0  # in deviations
_FAR = 1e9  # in deviations; the square is still a number in single precision


@dataclass(frozen=True)
class NetworkSpec:
    """What is needed to build the network again.

    Parameters
    ----------
    encoder : str, nn.Module or callable
        A key of ``ENCODERS``, a module to copy, or ``(input_shape, n_components) ->
        module``.
    sizes : tuple of int
        Widths of the hidden layers of a built-in encoder.
    row_shape : tuple of int
        Shape of one row before it was flattened: ``(n_features,)``, ``(height, width,
        channels)`` or, if ``channels_first``, ``(channels, height, width)``.
    channels_first : bool
    n_components : int
    whiten : bool
        Whether codes are held to no correlation too, in each batch and at the end.
    shrinkage : float or None
        If not ``whiten``: correlations shrunk by this much are taken out at the end.
    draws_in : bool
        Whether codes whose norms vary too much are drawn in at the end.
    output_layer : {"code", "hidden", "features"}
        What ``transform`` returns; layers below the code are those of an encoder of
        three named parts, as all but the user's are.
    normalizes : bool
        Whether codes are brought to mean 0 and variance 1 at all.
    """

    encoder: str | nn.Module | Callable[[tuple[int, ...], int], nn.Module]
    sizes: tuple[int, ...]
    row_shape: tuple[int, ...]
    channels_first: bool
    n_components: int
    whiten: bool = True
    shrinkage: float | None = None
    draws_in: bool = False
    output_layer: str = "code"
    normalizes: bool = True

    @property
    def is_image(self) -> bool:
        """Whether rows are flattened images."""
        return len(self.row_shape) > 1

    @property
    def is_own_encoder(self) -> bool:
        """Whether the encoder is the user's, not one of ``ENCODERS``."""
        return not isinstance(self.encoder, str)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row as the encoder sees it; images are channels first."""
        if not self.is_image or self.channels_first:
            return self.row_shape
        return (self.row_shape[2], *self.row_shape[:2])


class InputLayer(nn.Module):
    """Scale rows to mean 0 and variance 1, columns of a table or channels of an image.

    Columns of a table then go through ``z / sqrt(1 + (z / 3)^2)``, which leaves the
    bulk alone and bounds outliers to 3 (Holzmueller et al., arXiv 2407.04491).
    Columns that were constant in training carry nothing and are switched off.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.row_shape = spec.row_shape
        self.channels_first = spec.channels_first
        self.is_image = spec.is_image
        channel_axis = 0 if spec.channels_first else -1
        shape = [1] * len(spec.row_shape)
        shape[channel_axis] = spec.row_shape[channel_axis]
        # Double precision: a column may have a mean of many times its deviation.
        plain = {"dtype": torch.float64, "device": "cpu"}
        self.register_buffer("mean", torch.zeros(shape, **plain))
        self.register_buffer("inverse_scale", torch.ones(shape, **plain))

    def fit(
        self, rows: Any, scaling: tuple[np.ndarray, np.ndarray] | None = None
    ) -> None:
        """Set mean and scale: as given, or from all rows in double precision."""
        if scaling is None:
            mean, deviation, varies = self._moments(rows)
        else:
            mean, deviation = (
                torch.tensor(part, device="cpu").reshape(self.mean.shape)
                for part in scaling
            )
            varies = deviation > 0
        self.mean.copy_(mean)
        self.inverse_scale.copy_(torch.where(varies, 1 / deviation, 0))

    def _moments(self, rows: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and deviation, and where that is no error of rounding."""
        shape = self.mean.shape
        axes = [0, *(1 + axis for axis, size in enumerate(shape) if size == 1)]
        count = len(rows) * math.prod(self.row_shape) / self.mean.numel()
        chunks = batches(len(rows), 8 * math.prod(self.row_shape))

        def total(of: Callable[[Tensor], Tensor]) -> Tensor:
            parts = (take(rows, chunk).reshape(-1, *self.row_shape) for chunk in chunks)
            sums = (of(x.double()).sum(axes if self.is_image else 0) for x in parts)
            return sum(sums).reshape(shape)

        mean = total(lambda x: x / count)
        # In units of what is about as large, no square leaves double precision.
        unit = total(lambda x: (x - mean).abs_() / count)
        squares = total(lambda x: ((x - mean) / unit).square_().nan_to_num_(0))
        deviation = unit * (squares / count).sqrt()
        # A constant column has a deviation of rounding errors only.
        rounding = 10 * torch.finfo(torch.float64).eps * mean.abs()
        kind = take(rows, slice(1)).dtype
        smallest = torch.finfo(kind if kind.is_floating_point else torch.float16).tiny
        varies = deviation > rounding.clamp_min(smallest)
        return mean, deviation, varies

    def forward(self, rows: Tensor) -> Tensor:
        x = rows.reshape(-1, *self.row_shape)
        z = x - self.mean
        largest = torch.finfo(z.dtype).max  # infinity times a scale of 0 is NaN
        z = z.clamp_(-largest, largest).mul_(self.inverse_scale).clamp_(-_FAR, _FAR)
        if not self.is_image:
            return z.mul_((z / _OUTLIER_BOUND).square_().add_(1).rsqrt_())
        return z if self.channels_first else z.permute(0, 3, 1, 2)


class Network(nn.Module):
    """Raw rows to outputs: training mode normalises by the batch, eval by all rows.

    ``norms``, if there is one, is a last map of the codes, not used in training;
    ``standardizer`` serves the layers below the code.
    """

    def __init__(self, spec: NetworkSpec, encoder: nn.Module) -> None:
        super().__init__()
        self.input = InputLayer(spec)
        self.encoder = encoder
        self.input_shape, self.output_layer = spec.input_shape, spec.output_layer
        self.is_own_encoder = spec.is_own_encoder
        self.has_parts = all(hasattr(encoder, part) for part in PARTS)
        self.normalizer = _normalizer(spec)
        self.norms = NormMap(spec.n_components) if spec.draws_in else None
        self.standardizer = None
        if spec.output_layer != "code":
            self.standardizer = Standardizer(self._width())

    @property
    def n_outputs(self) -> int:
        """Number of columns of the output."""
        return len((self.standardizer or self.normalizer).mean)

    def encode(self, inputs: Tensor) -> Tensor:
        """Map scaled inputs to the encoder's output, not normalised yet."""
        return self.encoder(self._cast(inputs)).to(self._dtype)

    def features_and_output(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the encoder makes first, and its output.

        Without parts, features are the inputs themselves.
        """
        if not self.has_parts:
            return inputs.flatten(1).to(self._dtype), self.encode(inputs)
        features = self.encoder.features(self._cast(inputs))
        outputs = self.encoder.code(self.encoder.hidden(features))
        return features.to(self._dtype), outputs.to(self._dtype)

    def feature_shape(self) -> tuple[int, ...]:
        """Return the shape of the features of one row: channels, and any positions."""
        return tuple(self._tried(self.features_and_output)[0].shape[1:])

    def below(self, inputs: Tensor) -> Tensor:
        """Map scaled inputs to the layer that is put out, that below for codes; raw."""
        layer = self.encoder.features(self._cast(inputs))
        if self.output_layer != "features":
            layer = self.encoder.hidden(layer)
        return layer.flatten(1).to(self._dtype)

    def representation(self, rows: Tensor) -> Tensor:
        """Map rows to the layer below the code, raw, or without parts to the code."""
        inputs = self.input(rows)
        return self.below(inputs) if self.has_parts else self.encode(inputs)

    @property
    def _dtype(self) -> torch.dtype:
        return self.normalizer.mean.dtype

    def _cast(self, inputs: Tensor) -> Tensor:
        """Return inputs in the type of the encoder: the user's stays single."""
        return inputs.to(torch.float32 if self.is_own_encoder else self._dtype)

    def _width(self) -> int:
        """Return the number of columns of the layer below the code that is put out."""
        if not self.has_parts:
            raise ValueError(
                f"output_layer={self.output_layer!r} needs an encoder of three parts "
                f"named {PARTS}, as the built-in ones are. Got a module of type "
                f"{type(self.encoder).__name__} instead; use output_layer='code'."
            )
        return self._tried(self.below).shape[1]

    @torch.no_grad()
    def _tried(self, function: Callable[[Tensor], Any]) -> Any:
        """Return what becomes of two inputs of zeros, nothing learned from them."""
        inputs = torch.zeros(2, *self.input_shape, dtype=self._dtype, device="cpu")
        modes = [(module, module.training) for module in self.encoder.modules()]
        self.encoder.eval()
        try:
            return function(inputs)
        except RuntimeError as error:
            raise encoder_failure(inputs, error) from error
        finally:
            for module, training in modes:
                module.training = training

    def code(self, inputs: Tensor) -> Tensor:
        """Map scaled inputs to codes of mean 0 and variance 1."""
        return self.normalized(self.encode(inputs))

    def normalized(self, h: Tensor, n_bound: int | None = None) -> Tensor:
        """Map the encoder's output to codes of mean 0 and variance 1."""
        z = self.normalizer(h, n_bound)
        return z if self.training or self.norms is None else self.norms(z)

    def forward(self, rows: Tensor) -> Tensor:
        inputs = self.input(rows)
        if self.standardizer is not None:
            return self.standardizer(self.below(inputs))
        return self.code(inputs)


def _normalizer(spec: NetworkSpec) -> nn.Module:
    if not spec.normalizes:
        return Unnormalized(spec.n_components)
    return Normalizer(spec.n_components, spec.whiten, spec.shrinkage)


def encoder_failure(inputs: Tensor, error: Exception) -> ValueError:
    """Return the error that says what an encoder could not work on."""
    return ValueError(
        f"The encoder failed on inputs of shape {tuple(inputs.shape)}: {error}"
    )


def build_network(
    spec: NetworkSpec, generator: torch.Generator | None = None
) -> Network:
    """Build the network; without a generator, weights are left to be loaded."""
    return Network(spec, _build_encoder(spec, generator))


def _build_encoder(spec: NetworkSpec, generator: torch.Generator | None) -> nn.Module:
    if not spec.is_own_encoder:
        build = ENCODERS[spec.encoder]
        return build(spec.input_shape, spec.n_components, spec.sizes, generator)
    if isinstance(spec.encoder, nn.Module):
        return copy.deepcopy(spec.encoder)
    encoder = spec.encoder(spec.input_shape, spec.n_components)
    if not isinstance(encoder, nn.Module):
        raise ValueError(
            f"The 'encoder' callable must return a torch.nn.Module. Got "
            f"{type(encoder).__name__} instead."
        )
    return encoder

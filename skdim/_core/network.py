"""The network: rows -> scaled inputs -> encoder -> normalised codes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._utils.rows import batches
from .config import NetworkSpec
from .encoders import ENCODERS, PARTS
from .normalization import Normalizer, Standardizer, Unnormalized
from .runtime import take
from .transport import Transport

__all__ = ["InputLayer", "Network", "build_network", "encoder_failure"]

_OUTLIER_BOUND = 3.0  # in standard deviations
_FAR = 1e9  # in standard deviations; its square is a number in single precision
_MOST_DEVIATIONS = 2.0**13  # in a mean; single precision has 24 binary digits
_LARGEST = 1e30  # well below the largest number in single precision, 3e38


class InputLayer(Standardizer):
    """First layer of the network: standardise inputs, and clip outliers of tables.

    Columns of a table, or channels of images, are brought to mean 0 and variance 1 over
    the training rows, unless ``fit`` is given another scaling.  Constant columns and
    channels become 0.  Columns of a table then pass through
    ``z / sqrt(1 + (z / 3)^2)``, a soft clipping to (-3, 3) that hardly changes small
    values (Holzmueller et al., arXiv:2407.04491).

    Rows are rounded to single precision before they are scaled, so that rows in single
    and in double precision give the same inputs, to the bit.  Two things stay exact:
    columns that single precision would blur (``_needs_double``), and all columns where
    ``to_dtype`` has asked for double precision.

    ``forward(rows)`` takes rows of shape (n_rows, *input_shape) and returns scaled
    inputs of the same shape.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one row: ``(n_features,)`` or ``(channels, height, width)``.

    Attributes
    ----------
    dtype : torch.dtype
        Data type of scaled inputs; double precision until ``to_dtype`` sets it.
    is_exact : Tensor of bool
        True for columns or channels that are not rounded before they are scaled.  Set
        by ``to_dtype``.
    """

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        # Double precision: a column may have a mean of many times its deviation.
        shape = (input_shape[0], *[1] * (len(input_shape) - 1))
        super().__init__(*shape, dtype=torch.float64)
        self.is_image = len(input_shape) > 1
        self.dtype, self._has_exact = torch.float64, False
        is_exact = torch.zeros(shape, dtype=torch.bool, device="cpu")
        self.register_buffer("is_exact", is_exact, persistent=False)

    def to_dtype(self, dtype: torch.dtype) -> None:
        """Make ``forward`` return inputs in ``dtype``, single or double precision.

        Call it after the scaling was set or loaded, with the layer on the CPU.
        """
        self.dtype = dtype
        self.is_exact = _needs_double(self.mean, self.inverse_scale)
        self._has_exact = bool(self.is_exact.any())
        # Single precision serves where it can, because devices compute faster in it.
        self.to(torch.float64 if self._has_exact else dtype)

    def fit(
        self, rows: Any, scaling: tuple[np.ndarray, np.ndarray] | None = None
    ) -> None:
        """Set the mean and the scale of each column or channel.

        Parameters
        ----------
        rows : array-like of shape (n_rows, *input_shape)
            Training rows.
        scaling : tuple of (mean, scale) or None, default=None
            Two arrays of one number for each column or channel; a scale of 0 turns a
            column into zeros.  None computes mean and standard deviation from all
            ``rows``, rounded as ``forward`` rounds them; the sums are in double
            precision.
        """
        if scaling is None:
            mean, deviation, is_blurred = self._moments(rows, torch.float32)
            if is_blurred.any():
                exact = self._moments(rows, torch.float64)
                mean = torch.where(is_blurred, exact[0], mean)
                deviation = torch.where(is_blurred, exact[1], deviation)
        else:
            mean, deviation = (
                torch.tensor(part, device="cpu").reshape(self.mean.shape)
                for part in scaling
            )
        self.mean.copy_(mean)
        self.inverse_scale.copy_(torch.where(deviation > 0, 1 / deviation, 0))

    def _moments(self, rows: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and standard deviation of each column or channel of ``rows``.

        ``rows`` has the shape (n_rows, *input_shape) and is rounded to ``dtype``.
        Standard deviations are those of sums divided by the number of values, or 0
        where they are no more than rounding errors of double precision.  The third
        tensor is True where rounding to single precision blurs the column, else False.
        All three have the shape of ``self.mean``.
        """
        axes = (0, 2, 3) if self.is_image else (0,)
        count = math.prod(rows.shape) / self.mean.numel()
        chunks = batches(len(rows), 8 * math.prod(rows.shape[1:]))
        mean, distance, squares = (torch.zeros_like(self.mean) for _ in range(3))
        first = take(rows, slice(1)).double().reshape(mean.numel(), -1)[:, 0]
        first = first.reshape(mean.shape)
        for chunk in chunks:
            x = take(rows, chunk).double()
            mean += (x.to(dtype).double() / count).sum(axes).reshape(mean.shape)
            away = (x - first).abs_().div_(count)
            distance += away.sum(axes).reshape(mean.shape)
        # In this unit no square overflows.  It is a power of two, to change no digit.
        unit = torch.where(distance > 0, distance / distance.frexp().mantissa, 1)
        for chunk in chunks:
            z = (take(rows, chunk).to(dtype).double() - mean).div_(unit)
            squares += z.square_().sum(axes).reshape(mean.shape)
        deviation = unit * (squares / count).sqrt()
        rounding = 10 * torch.finfo(torch.float64).eps * mean.abs()
        smallest = torch.finfo(torch.float64).tiny  # whose inverse is finite
        varies = (distance > 0) & (deviation > rounding.clamp_min(smallest))
        deviation = torch.where(varies, deviation, 0)
        is_lost = (distance > 0) & ~varies
        return mean, deviation, is_lost | _needs_double(mean, 1 / deviation)

    def forward(self, rows: Tensor) -> Tensor:
        if self.is_image:
            return self._scaled(rows, self.inverse_scale)
        return self.clipped(rows)

    def clipped(self, rows: Tensor) -> Tensor:
        """Return rows scaled and softly clipped, those of images too.

        In ``forward``, images are not clipped.  ``rows`` and the result have the shape
        (n_rows, *input_shape).
        """
        z = self._scaled(rows, self.inverse_scale)
        return z.mul_((z / _OUTLIER_BOUND).square_().add_(1).rsqrt_())

    def standardized(self, rows: Tensor) -> Tensor:
        """Return rows standardised without soft clipping, for outlier detectors.

        Channels of images that were constant in training keep the scale 1 instead of
        becoming 0, because a row may show something there.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, *input_shape)

        Returns
        -------
        standardized : Tensor of shape (n_rows, *input_shape)
        """
        scale = self.inverse_scale
        if self.is_image:
            scale = torch.where(scale > 0, scale, 1)
        return self._scaled(rows, scale)

    def rounded(self, rows: Tensor) -> Tensor:
        """Return rows as training sees them: rounded to single precision.

        Columns or channels that ``is_exact`` marks are not rounded.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, *input_shape)

        Returns
        -------
        rounded : Tensor of shape (n_rows, *input_shape)
            In single precision, or in double precision if the rows are and ``is_exact``
            marks a column.
        """
        single = rows.to(torch.float32)
        if not self._has_exact or rows.dtype != torch.float64:
            return single
        return torch.where(self.is_exact, rows, single.double())

    def _scaled(self, rows: Tensor, inverse_scale: Tensor) -> Tensor:
        """Return ``(rows - self.mean) * inverse_scale``, clipped to [-1e9, 1e9].

        ``rows`` and the result have the shape (n_rows, *input_shape).  Clipping keeps
        squares of the result finite in single precision.
        """
        z = (rows if self.dtype == torch.float64 else self.rounded(rows)) - self.mean
        largest = torch.finfo(z.dtype).max  # infinity times a scale of 0 is NaN
        z = z.clamp_(-largest, largest).mul_(inverse_scale).clamp_(-_FAR, _FAR)
        return z.to(self.dtype)


def _needs_double(mean: Tensor, inverse_scale: Tensor) -> Tensor:
    """Return True for columns that rounding to single precision would blur, else False.

    Rounding moves a number by up to ``2^-24`` of its size.  A column is blurred if its
    mean is more than ``2^13`` standard deviations: rounding then moves its numbers by
    about ``2^-11`` deviations or more.  So are columns whose mean or deviation come
    near the limits of single precision, below 1e-30 or above 1e30.

    Parameters
    ----------
    mean, inverse_scale : Tensor of any shape
        Moments of the columns.  A scale of 0 or infinity marks constant ones.

    Returns
    -------
    needs_double : Tensor of bool of that shape
    """
    varies = (inverse_scale > 0) & inverse_scale.isfinite()
    is_far = (mean * inverse_scale).abs() > _MOST_DEVIATIONS
    is_extreme = (inverse_scale > _LARGEST) | (inverse_scale < 1 / _LARGEST)
    return (mean.abs() > _LARGEST) | varies & (is_far | is_extreme)


class Network(nn.Module):
    """The network: from rows to codes, or to a layer below them.

    ``forward(rows)`` takes rows of shape (n_rows, *input_shape) before scaling.  It
    returns a tensor of shape (n_rows, n_outputs): codes, or the standardised layer
    below the code if ``spec.output_layer`` names one.  Codes are normalised by the
    moments of the batch in training, and in evaluation by moments that
    ``calibration.calibrate`` has set from all training rows.

    Parameters
    ----------
    spec : NetworkSpec
        Configuration of the network.
    encoder : nn.Module
        Takes scaled inputs and returns codes that are not normalised, of shape (n_rows,
        n_components).

    Attributes
    ----------
    input : InputLayer
        Scales the rows.
    encoder : nn.Module
    normalizer : Normalizer or Unnormalized
        Maps the output of the encoder to codes.
    transport : Transport or None
        Brings codes to N(0, I) when training has ended.  None if the output is a layer
        below the code.
    standardizer : Standardizer or None
        Standardises the layer below the code if that is the output, else None.
    """

    def __init__(self, spec: NetworkSpec, encoder: nn.Module) -> None:
        super().__init__()
        self.input = InputLayer(spec.input_shape)
        self.encoder = encoder
        self.input_shape, self.output_layer = spec.input_shape, spec.output_layer
        self.is_own_encoder = spec.is_own_encoder
        self.has_parts = all(hasattr(encoder, part) for part in PARTS)
        self.normalizer = (
            Normalizer(spec.n_components, spec.shrinkage)
            if spec.normalizes
            else Unnormalized(spec.n_components)
        )
        self.transport = self.standardizer = None
        if spec.output_layer == "code":
            self.transport = Transport(
                spec.n_components, spec.final_map, whitens=not spec.normalizes
            )
        else:
            self.standardizer = Standardizer(self._layer_width())

    @property
    def n_outputs(self) -> int:
        """Number of columns that ``forward`` returns.

        It is the number of components, or of units of the layer below the code.
        """
        return len((self.standardizer or self.normalizer).mean)

    def to_dtype(self, dtype: torch.dtype) -> None:
        """Make the network compute in ``dtype``, for prediction.

        It is double precision for float64 rows and for densities.  Only a user's
        encoder keeps the data types of its weights.
        """
        for name, part in self.named_children():
            if name == "input":
                part.to_dtype(dtype)
            elif not (self.is_own_encoder and name == "encoder"):
                part.to(dtype)

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the encoder's output, which is not normalised yet.

        Parameters
        ----------
        inputs : Tensor of shape (n_rows, *input_shape)
            Scaled inputs.

        Returns
        -------
        outputs : Tensor of shape (n_rows, n_components)

        Raises
        ------
        ValueError
            If a user's encoder returns something other than a tensor.
        """
        outputs = self.encoder(self._cast(inputs))
        if not isinstance(outputs, Tensor):
            raise ValueError(
                f"The encoder must return a tensor of shape (n_samples, n_components). "
                f"Got {type(outputs).__name__} instead; return the tensor of codes "
                f"alone."
            )
        return outputs.to(self._dtype)

    def features_and_output(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's features and its output, which is not normalised yet.

        For the terms of the objective between features and codes.

        Parameters
        ----------
        inputs : Tensor of shape (n_rows, *input_shape)
            Scaled inputs.

        Returns
        -------
        features : Tensor of shape (n_rows, n_channels, ...)
            Output of the encoder's part "features"; convolutions add axes of positions.
            For a user's encoder without the parts "features", "hidden" and "code", the
            flattened inputs.
        outputs : Tensor of shape (n_rows, n_components)
            Output of the encoder.
        """
        if not self.has_parts:
            return inputs.flatten(1).to(self._dtype), self.encode(inputs)
        features = self.encoder.features(self._cast(inputs))
        outputs = self.encoder.code(self.encoder.hidden(features))
        return features.to(self._dtype), outputs.to(self._dtype)

    def feature_shape(self) -> tuple[int, ...]:
        """Return the shape of one row's features, for critics that take features.

        It is (n_channels,), followed by the numbers of positions along each axis if the
        features have positions.
        """
        return tuple(self._tried(self.features_and_output)[0].shape[1:])

    def layer_below_code(self, inputs: Tensor) -> Tensor:
        """Return the output of the layer below the code, flattened.

        The encoder must have the parts "features", "hidden" and "code", called one
        after the other.

        Parameters
        ----------
        inputs : Tensor of shape (n_rows, *input_shape)
            Scaled inputs.

        Returns
        -------
        layer : Tensor of shape (n_rows, n_units)
            Output of the part "features" if this is ``output_layer``, otherwise that of
            the part "hidden".
        """
        layer = self.encoder.features(self._cast(inputs))
        if self.output_layer != "features":
            layer = self.encoder.hidden(layer)
        return layer.flatten(1).to(self._dtype)

    def representation(self, rows: Tensor) -> Tensor:
        """Return features of rows for outlier detectors, which use them as they are.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, *input_shape)
            Rows before scaling.

        Returns
        -------
        features : Tensor of shape (n_rows, n_units)
            Output of the encoder's part "hidden", or of "features" if this is
            ``output_layer``, flattened and not standardised.  For a user's encoder
            without these parts, its output, not normalised.
        """
        inputs = self.input(rows)
        if self.has_parts:
            return self.layer_below_code(inputs)
        return self.encode(inputs)

    @property
    def _dtype(self) -> torch.dtype:
        return self.normalizer.mean.dtype

    def _cast(self, inputs: Tensor) -> Tensor:
        """Return ``inputs`` in the data type that the encoder takes.

        It is float32 for a user's encoder, otherwise the network's data type.
        """
        return inputs.to(torch.float32 if self.is_own_encoder else self._dtype)

    def _layer_width(self) -> int:
        """Return the number of units of ``layer_below_code``, for its ``Standardizer``.

        Raises
        ------
        ValueError
            If the encoder does not have the parts "features", "hidden" and "code", or
            fails on two rows of zeros.
        """
        if not self.has_parts:
            raise ValueError(
                f"output_layer={self.output_layer!r} needs an encoder of three parts "
                f"named {PARTS}, as the built-in ones are. Got a module of type "
                f"{type(self.encoder).__name__} instead; use output_layer='code'."
            )
        return self._tried(self.layer_below_code).shape[1]

    @torch.no_grad()
    def _tried(self, function: Callable[[Tensor], Any]) -> Any:
        """Return ``function(inputs)`` for two rows of zeros, to learn shapes of layers.

        ``inputs`` has the shape (2, *input_shape).  The encoder must be on the CPU, and
        is in evaluation mode during the call.

        Raises
        ------
        ValueError
            If the encoder raises RuntimeError.
        """
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

    def normalized(self, h: Tensor, n_measured: int | None = None) -> Tensor:
        """Return codes as trained, before the final map, for the encoder's output.

        Codes have mean 0 and variance 1, unless the network does not normalise.

        Parameters
        ----------
        h : Tensor of shape (n_rows, n_components)
            Output of the encoder.
        n_measured : int or None, default=None
            In training, codes are normalised by the moments of the first ``n_measured``
            rows of ``h``; None takes all rows.  Not used in evaluation.

        Returns
        -------
        codes : Tensor of shape (n_rows, n_components)
        """
        return self.normalizer(h, n_measured)

    def forward(self, rows: Tensor) -> Tensor:
        inputs = self.input(rows)
        if self.standardizer is not None:
            return self.standardizer(self.layer_below_code(inputs))
        return self.transport(self.normalized(self.encode(inputs)))


def encoder_failure(inputs: Tensor, error: Exception) -> ValueError:
    """Return a ValueError which says that the encoder failed, for the caller to raise.

    ``inputs`` is the tensor that the encoder was called on, and ``error`` the exception
    that it raised; the message names the shape and the exception.
    """
    return ValueError(
        f"The encoder failed on inputs of shape {tuple(inputs.shape)}: {error}"
    )


def build_network(
    spec: NetworkSpec, generator: torch.Generator | None = None
) -> Network:
    """Return a new network with the encoder that its configuration names.

    Parameters
    ----------
    spec : NetworkSpec
        Configuration of the network.
    generator : torch.Generator or None, default=None
        Draws the weights of a built-in encoder; None leaves them unset, to be loaded.

    Returns
    -------
    network : Network

    Raises
    ------
    ValueError
        If the user's callable cannot be called as ``(input_shape, n_components)`` or
        returns no module, or if the encoder does not have the layer that the network is
        to return.  Other errors of the callable are passed on.
    """
    return Network(spec, _build_encoder(spec, generator))


def _build_encoder(spec: NetworkSpec, generator: torch.Generator | None) -> nn.Module:
    """Return the encoder: built-in, a copy of the user's module, or made by a callable.

    Parameters
    ----------
    spec : NetworkSpec
        Its ``encoder`` is the name, the module or the callable.
    generator : torch.Generator or None
        Draws the weights of a built-in encoder; None leaves them unset, to be loaded.

    Raises
    ------
    ValueError
        If the callable does not take ``(input_shape, n_components)``, or does not
        return a module.
    """
    if not spec.is_own_encoder:
        build = ENCODERS[spec.encoder]
        return build(spec.input_shape, spec.n_components, spec.sizes, generator)
    if isinstance(spec.encoder, nn.Module):
        return copy.deepcopy(spec.encoder).cpu()
    try:
        with torch.device("cpu"):  # whatever the caller's default device
            encoder = spec.encoder(spec.input_shape, spec.n_components)
    except TypeError as error:
        is_class = isinstance(spec.encoder, type)
        raise ValueError(
            f"The 'encoder' callable is called as encoder(input_shape, n_components). "
            f"Got {'the class ' if is_class else ''}"
            f"{getattr(spec.encoder, '__name__', spec.encoder)}, which failed so "
            f"({error}); pass an instance of nn.Module, or a function of these two."
        ) from error
    if not isinstance(encoder, nn.Module):
        raise ValueError(
            f"The 'encoder' callable must return a torch.nn.Module. Got "
            f"{type(encoder).__name__} instead."
        )
    if torch.get_default_dtype() != torch.float32:
        encoder.float()  # as it would be without the caller's default
    return encoder

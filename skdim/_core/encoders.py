"""Built-in encoders: networks from scaled inputs to codes that are not normalised yet.

Each is a sequence of three named parts.  ``features`` keeps the positions in an image;
in a perceptron it only flattens the inputs.  ``hidden`` holds the layers above it.
``code`` is a linear layer to the components of the code.  Weights are drawn from a
given generator and never from torch's global one.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from .runtime import PLAIN

__all__ = [
    "ENCODERS",
    "PARTS",
    "convolutional",
    "linear",
    "mlp",
    "multilayer_perceptron",
]

PARTS = ("features", "hidden", "code")

_N_DENSE = 256  # width of the layer between the convolutions and the code


def linear(n_in: int, n_out: int, generator: torch.Generator | None) -> nn.Linear:
    """Return a new linear layer from ``n_in`` to ``n_out`` numbers, with a bias.

    Used in encoders, critics and discriminators.  ``generator`` draws the weights and
    the bias; None leaves them unset, to be loaded.
    """
    return _reset(nn.utils.skip_init(nn.Linear, n_in, n_out, **PLAIN), generator)


def _conv(
    n_in: int, n_out: int, stride: int, generator: torch.Generator | None
) -> nn.Module:
    """Return a new 3x3 convolution from ``n_in`` to ``n_out`` channels, without a bias.

    For the stages of ``convolutional``.  Images are padded by one pixel on each side,
    so that only ``stride`` changes height and width.  ``generator`` draws the weights;
    None leaves them unset, to be loaded.
    """
    layer = nn.utils.skip_init(
        nn.Conv2d, n_in, n_out, 3, stride=stride, padding=1, bias=False, **PLAIN
    )
    # In this memory layout the batch norm after it takes a third of the time.
    return _reset(layer.to(memory_format=torch.channels_last), generator)


def _reset(layer: nn.Module, generator: torch.Generator | None) -> nn.Module:
    """Draw all parameters of a linear or convolutional layer, and return the layer.

    ``generator`` draws them from U(-b, b) with b = 1 / sqrt(fan in), which is also the
    default of torch's layers.  None leaves them as they are.
    """
    if generator is not None:
        bound = 1 / math.sqrt(layer.weight[0].numel())
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
    return layer


def multilayer_perceptron(
    n_in: int, sizes: Sequence[int], generator: torch.Generator | None
) -> nn.Sequential:
    """Return linear layers of the given widths, each followed by a ReLU.

    Hidden layers for encoders, critics and discriminators, which append an output
    layer.

    Parameters
    ----------
    n_in : int
        Width of the input.
    sizes : sequence of int
        Width of each layer; if empty, the network is the identity.
    generator : torch.Generator or None
        Draws the weights; None leaves them unset, to be loaded.

    Returns
    -------
    layers : nn.Sequential
        Maps tensors of shape (..., n_in) to (..., sizes[-1]).
    """
    layers = nn.Sequential()
    for size in sizes:
        layers.append(linear(n_in, size, generator)).append(nn.ReLU(inplace=True))
        n_in = size
    return layers


def mlp(
    input_shape: tuple[int, ...],
    n_components: int,
    sizes: Sequence[int],
    generator: torch.Generator | None,
) -> nn.Sequential:
    """Return an encoder that is a multi-layer perceptron on flattened inputs.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one row, without the axis of rows.
    n_components : int
        Number of outputs, the components of the code.
    sizes : sequence of int
        Widths of the hidden layers; if empty, the encoder is linear.
    generator : torch.Generator or None
        Draws the weights; None leaves them unset, to be loaded.

    Returns
    -------
    encoder : nn.Sequential
        Maps scaled inputs of shape (n_rows, *input_shape) to codes, not normalised yet,
        of shape (n_rows, n_components).  Its parts are named "features" (flattens the
        inputs), "hidden" and "code".
    """
    n_in = math.prod(input_shape)
    hidden = multilayer_perceptron(n_in, sizes, generator)
    n_last = sizes[-1] if len(sizes) else n_in
    return _of_parts(nn.Flatten(), hidden, linear(n_last, n_components, generator))


def convolutional(
    input_shape: tuple[int, ...],
    n_components: int,
    sizes: Sequence[int],
    generator: torch.Generator | None,
) -> nn.Sequential:
    """Return an encoder of images: convolutions, followed by two linear layers.

    Each stage is a 3x3 convolution, batch norm and ReLU.  A stage halves height and
    width if both exceed 2 pixels; the first stage does so only if both exceed 16, so
    that small images keep some resolution.  The first linear layer has 256 outputs and
    is followed by batch norm and ReLU; the second one returns the code.

    Parameters
    ----------
    input_shape : tuple of (channels, height, width)
        Shape of one image.
    n_components : int
        Number of outputs, the components of the code.
    sizes : sequence of int
        Number of channels of each stage.
    generator : torch.Generator or None
        Draws the weights; None leaves them unset, to be loaded.

    Returns
    -------
    encoder : nn.Sequential
        Maps scaled inputs of shape (n_images, channels, height, width) to codes, not
        normalised yet, of shape (n_images, n_components).  Its parts are named
        "features" (the stages), "hidden" (the first linear layer) and "code".
    """
    n_channels, height, width = input_shape
    stages = nn.Sequential()
    for index, size in enumerate(sizes):
        stride = 2 if min(height, width) > (16 if index == 0 else 2) else 1
        stages.append(_conv(n_channels, size, stride, generator))
        stages.append(nn.BatchNorm2d(size, **PLAIN)).append(nn.ReLU(inplace=True))
        n_channels, height, width = size, -(-height // stride), -(-width // stride)
    dense = linear(n_channels * height * width, _N_DENSE, generator)
    batch_norm = nn.BatchNorm1d(_N_DENSE, **PLAIN)
    hidden = nn.Sequential(nn.Flatten(), dense, batch_norm, nn.ReLU(inplace=True))
    return _of_parts(stages, hidden, linear(_N_DENSE, n_components, generator))


def _of_parts(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(zip(PARTS, modules, strict=True)))


# Name -> (input_shape, n_components, sizes, generator) -> module.
ENCODERS = {"mlp": mlp, "conv": convolutional}
# Name -> ``sizes`` if ``hidden_layer_sizes="auto"``, found by measurement:
# docs/defaults.md.
SIZES = {"mlp": (256,), "conv": (32, 64, 128)}

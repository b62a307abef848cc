"""Encoders, built from a seeded generator without touching the global one.

Each is three parts in sequence: what makes features, which of images keep their
positions; the hidden layers above; and a linear layer to codes.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

__all__ = [
    "ENCODERS",
    "PARTS",
    "convolutional",
    "linear",
    "mlp",
    "multilayer_perceptron",
]

# Layers are made with an explicit type and device, so that a caller's
# ``set_default_dtype`` or ``torch.device`` context does not reach inside.
_PLAIN = {"dtype": torch.float32, "device": "cpu"}

PARTS = ("features", "hidden", "code")

_N_DENSE = 256  # width of the layer between the convolutions and the code


def linear(n_in: int, n_out: int, generator: torch.Generator | None) -> nn.Linear:
    """Return a linear layer; without a generator its weights are left unset."""
    return _reset(nn.utils.skip_init(nn.Linear, n_in, n_out, **_PLAIN), generator)


def _conv(n_in: int, n_out: int, stride: int, generator: torch.Generator | None):  # noqa: ANN202
    layer = nn.utils.skip_init(
        nn.Conv2d, n_in, n_out, 3, stride=stride, padding=1, bias=False, **_PLAIN
    )
    # In this layout batch norm after it takes a third of the time.
    return _reset(layer.to(memory_format=torch.channels_last), generator)


def _reset(layer: nn.Module, generator: torch.Generator | None) -> nn.Module:
    """Draw weights as torch's own layers do: U(-b, b) with b = 1 / sqrt(fan in)."""
    if generator is not None:
        bound = 1 / math.sqrt(layer.weight[0].numel())
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
    return layer


def multilayer_perceptron(
    n_in: int, sizes: Sequence[int], generator: torch.Generator | None
) -> nn.Sequential:
    """Return linear layers of the given sizes, each followed by a ReLU."""
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
    """Return a multi-layer perceptron on flattened inputs."""
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
    """Return stages of 3x3 convolution, batch norm and ReLU, then two linear layers.

    Each stage halves the resolution, the first one only of images over 16 pixels,
    so that small images keep something to look at.
    """
    n_channels, height, width = input_shape
    stages = nn.Sequential()
    for index, size in enumerate(sizes):
        stride = 2 if min(height, width) > (16 if index == 0 else 2) else 1
        stages.append(_conv(n_channels, size, stride, generator))
        stages.append(nn.BatchNorm2d(size, **_PLAIN)).append(nn.ReLU(inplace=True))
        n_channels, height, width = size, -(-height // stride), -(-width // stride)
    dense = linear(n_channels * height * width, _N_DENSE, generator)
    batch_norm = nn.BatchNorm1d(_N_DENSE, **_PLAIN)
    hidden = nn.Sequential(nn.Flatten(), dense, batch_norm, nn.ReLU(inplace=True))
    return _of_parts(stages, hidden, linear(_N_DENSE, n_components, generator))


def _of_parts(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(zip(PARTS, modules, strict=True)))


ENCODERS = {"mlp": mlp, "conv": convolutional}

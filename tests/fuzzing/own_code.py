"""Parameters that are code: augmentations, encoders and distributions of a user's own.

Functions stand at the level of the module, so that pickle finds them.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import nn

__all__ = [
    "COUNT_CODES",
    "DISTRIBUTION_CODES",
    "ENCODER_CODES",
    "REAL_CODES",
    "VIEW_CODES",
    "WRONG_DISTRIBUTION_CODES",
    "WRONG_ENCODER_CODES",
    "WRONG_VIEW_CODES",
    "Code",
    "built",
]


def halve(inputs, generator):
    return inputs / 2


def drop_in_place(inputs, generator):
    return inputs.mul_(torch.rand(inputs.shape, generator=generator) < 0.5)


def draw_globally(inputs, generator):
    return inputs + torch.randn_like(inputs)


def in_double(inputs, generator):
    return inputs.double()


def of_wrong_shape(inputs, generator):
    return inputs[:1]


def not_finite(inputs, generator):
    return inputs / 0


def not_a_tensor(inputs, generator):
    return inputs.numpy()


def module(n_features, n_components, *layers):
    """Return a perceptron whose weights do not depend on any global state."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.LazyLinear(n_components), *layers)
        net(torch.zeros(2, n_features))
    return net


def make_module(input_shape, n_components):
    return module(int(np.prod(input_shape)), n_components)


def make_normalised(input_shape, n_components):
    layers = nn.BatchNorm1d(n_components), nn.Dropout(0.5)
    return module(int(np.prod(input_shape)), n_components, *layers)


def make_too_wide(input_shape, n_components):
    return module(int(np.prod(input_shape)), n_components + 1)


def make_untrainable(input_shape, n_components):
    return make_module(input_shape, n_components).requires_grad_(False)


def make_number(input_shape, n_components):
    return 3


VIEW_CODES = ["halve", "drop_in_place", "draw_globally", "in_double"]
WRONG_VIEW_CODES = ["of_wrong_shape", "not_finite", "not_a_tensor"]
ENCODER_CODES = ["make_module", "make_normalised"]
WRONG_ENCODER_CODES = [
    *("make_too_wide", "make_untrainable", "make_number", "module(3, 2)"),
    *("module(8, 3)", "nn.Linear(5, 2)", "nn.Linear(4, 4).double()"),
]
DISTRIBUTION_CODES = [
    *("stats.expon()", "stats.norm(5, 2)", "stats.gamma(2.0)", "stats.t(3)"),
    *("stats.cauchy()", "stats.beta(0.5, 0.5)", "stats.lognorm(1.0)", "stats.laplace"),
    *("stats.uniform(-1, 2)", "stats.norm(0, 1e-20)", "stats.pareto(2.0)"),
    *("stats.triang(0.5)", "stats.Uniform(a=1, b=2)", "stats.lognorm(20.0)"),
    *("stats.norm(1e6, 1e30)", "stats.pareto(0.1)"),
]
WRONG_DISTRIBUTION_CODES = [
    *("stats.poisson(3)", "stats.expon(scale=-1)", "stats.norm([0, 1], [1, 1])"),
    *("stats.Normal(mu=1)", "stats.gamma", "stats.norm(1e30, 1)", "stats.norm"),
    *("stats.norm(np.nan, 1)", "stats.norm('a', 1)", "stats.multivariate_normal()"),
    *("stats.gaussian_kde([0, 1, 2])", "stats.Normal", "pd.Series([1.0])"),
]
COUNT_CODES = ["np.int64(2)", "np.uint8(3)", "True"]
REAL_CODES = ["np.float32(0.5)", "np.int64(1)", "np.float16(0.25)"]


@dataclass(frozen=True)
class Code:
    """The code that makes a value whose own repr is no code."""

    text: str

    def __repr__(self):
        return self.text

    def build(self):
        names = {"Fraction": Fraction, "np": np, "pd": pd, "stats": stats}
        return eval(self.text, globals() | names)


def built(value):
    """Return the value with each ``Code``, also in lists, replaced by its result."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(built, value))
    return value.build() if isinstance(value, Code) else value

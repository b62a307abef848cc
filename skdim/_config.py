"""All that training is told, and the error where it diverges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ._spec import ModelSpec

__all__ = ["Data", "FitConfig", "checked", "divergence"]


@dataclass(frozen=True)
class FitConfig:
    """All that training needs to know, resolved: no "auto" is left."""

    model: ModelSpec
    batch_size: int
    max_iter: int
    learning_rate: float
    weight_decay: float
    tol: float | None
    n_iter_no_change: int
    seed: int
    device: torch.device
    scaling: tuple[np.ndarray, np.ndarray] | None = None  # mean and scale of inputs


@dataclass(frozen=True)
class Data:
    """Rows and, if training is supervised, their classes."""

    rows: Any
    labels: np.ndarray | None = None


def checked(value: float) -> float:
    """Return a number; raise ValueError if it is none."""
    if not math.isfinite(value):
        raise divergence(value)
    return value


def divergence(value: float) -> ValueError:
    """Return the error that says what to do where training diverged."""
    return ValueError(
        f"Training diverged: the information or the codes became {value}; lower "
        f"'learning_rate_init'."
    )

"""What a trained model is used for: codes, features and information of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._utils.rows import batches
from .batches import BatchSource, even_batches
from .config import ModelSpec
from .losses import information
from .model import Model
from .runtime import sandbox, seeded_generator, take

__all__ = ["mean_information", "representation", "restored", "torch_type", "transform"]

_EVALUATION_STREAM = 2  # added to the seed, so that noise differs from that of training


@contextmanager
def restored(
    spec: ModelSpec,
    weights: dict[str, np.ndarray],
    rows: Any,
    seed: int,
    device: torch.device,
    gradients: bool = False,
) -> Iterator[Model]:
    """Rebuild a trained model, ready to predict for these rows, inside the sandbox.

    Parameters
    ----------
    spec : ModelSpec
    weights : dict of str to ndarray
        As ``Model.weights`` returns them.
    rows : array-like
        The model computes in their data type.
    seed : int
        For a user's encoder that draws from torch's global generator.
    device : torch.device
    gradients : bool
        Whether gradients are needed; the model then computes in double precision,
        because determinants are made of them.
    """
    with sandbox(gradients=gradients, global_seed=spec.global_seed(seed)):
        model = Model(spec, generator=None)
        state = {k: torch.tensor(v, device="cpu") for k, v in weights.items()}
        model.load_state_dict(state, assign=True)
        dtype = torch.float64 if gradients else torch_type(rows)
        model.network.to_dtype(dtype)
        model.critics.to(dtype)
        yield model.to(device).eval()


def transform(
    model: Model, rows: Any, device: torch.device, to: torch.device | str = "cpu"
) -> Tensor:
    """Return the outputs of all rows, codes before the map to their distribution.

    Parameters
    ----------
    model : Model
        In evaluation mode.
    rows : array-like of shape (n_rows, *input_shape)
    device : torch.device
        Computes.
    to : torch.device or str
        Holds the result.

    Returns
    -------
    outputs : Tensor of shape (n_rows, n_outputs)
    """
    shape = (len(rows), model.network.n_outputs)
    with torch.inference_mode(False):  # or the caller could not compute with it
        outputs = torch.empty(shape, dtype=torch_type(rows), device=to)
    for chunk in batches(len(rows), math.prod(rows.shape[1:])):
        outputs[chunk] = model.network(take(rows, chunk, device)).to(to)
    return outputs


def representation(
    model: Model, rows: Any, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Return standardised rows and the features that the model learned of them.

    Parameters
    ----------
    model : Model
        In evaluation mode.
    rows : array-like of shape (n_rows, *input_shape)
    device : torch.device

    Returns
    -------
    standardized : ndarray of shape (n_rows, n_inputs)
        Flattened; outliers are not bounded.
    features : ndarray of shape (n_rows, n_features)
        The layer below the code, not standardised.
    """
    network, parts = model.network, []
    for chunk in batches(len(rows), math.prod(rows.shape[1:])):
        some = take(rows, chunk, device)
        standardized = network.input.standardized(some).flatten(1)
        both = standardized, network.representation(some)
        parts.append([part.cpu().numpy() for part in both])
    standardized, features = map(np.concatenate, zip(*parts, strict=True))
    return standardized, features


def mean_information(
    model: Model,
    source: BatchSource,
    batch_size: int,
    seed: int,
    max_batches: int | None = None,
) -> float:
    """Return the reported information in nats, averaged over batches of one size.

    The order of the rows, the views and the noise depend on ``seed`` alone.

    Parameters
    ----------
    model : Model
        In evaluation mode.
    source : BatchSource
    batch_size : int
    seed : int
    max_batches : int or None
        Number of batches to average over; None takes all rows.
    """
    generator = seeded_generator(seed + _EVALUATION_STREAM, source.device)
    with sandbox(gradients=False, global_seed=model.spec.global_seed(seed)):
        values = [
            float(
                information(
                    model, model.encode(source.draw(index, generator)), generator
                )
            )
            for index in even_batches(len(source), batch_size, seed)[:max_batches]
        ]
        return float(np.mean(values))


def torch_type(rows: Any) -> torch.dtype:
    """Return the type to compute in: double for double precision, else single."""
    is_double = rows.dtype in (torch.float64, np.dtype("<f8"), np.dtype(">f8"))
    return torch.float64 if is_double else torch.float32

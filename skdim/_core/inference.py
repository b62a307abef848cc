"""Use of a trained model: codes and features of rows, and mutual information."""

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
from .network import InputLayer
from .runtime import sandbox, seeded_generator, take

__all__ = [
    "as_trained_on",
    "is_double",
    "mean_information",
    "representation",
    "restored",
    "transform",
]

_EVALUATION_STREAM = 2  # added to the seed: not the views and noise of training


@contextmanager
def restored(
    spec: ModelSpec,
    weights: dict[str, np.ndarray],
    is_double: bool,
    seed: int,
    device: torch.device,
    gradients: bool = False,
) -> Iterator[Model]:
    """Rebuild a trained model from its weights, for use inside a ``with`` block.

    The model is in evaluation mode.  The block runs in ``runtime.sandbox``, so that the
    caller's torch settings have no effect.

    Parameters
    ----------
    spec : ModelSpec
        Configuration with which the model was trained.
    weights : dict of str to ndarray
        Weights and buffers by name, as ``Model.weights`` returns them.
    is_double : bool
        True makes the model compute in double precision.  False computes in single
        precision and rounds rows to it, as training does (``InputLayer``).
    seed : int
        Seed of torch's global generator in the block.  Only used if the model runs the
        user's code, which is an encoder or an augmentation.
    device : torch.device
        Where the model computes.
    gradients : bool, default=False
        True records gradients in the block, False does not.

    Yields
    ------
    model : Model
    """
    with sandbox(gradients=gradients, global_seed=spec.global_seed(seed)):
        model = Model(spec, generator=None)
        state = {k: torch.tensor(v, device="cpu") for k, v in weights.items()}
        model.load_state_dict(state, assign=True)
        model.network.to_dtype(torch.float64 if is_double else torch.float32)
        yield model.to(device).eval()


def transform(
    model: Model, rows: Any, device: torch.device, to: torch.device | str = "cpu"
) -> Tensor:
    """Return the output of the network for all rows: codes, or the layer below them.

    The configuration of the network (``output_layer``) says which.  Codes follow
    N(0, I) as far as training succeeded; they are not mapped to
    ``output_distribution`` here.

    Parameters
    ----------
    model : Model
        In evaluation mode.
    rows : array-like of shape (n_rows, *input_shape)
        Rows before scaling.
    device : torch.device
        Where the model is.
    to : torch.device or str, default="cpu"
        Where the result is stored.

    Returns
    -------
    outputs : Tensor of shape (n_rows, n_outputs)
        ``n_outputs`` is the number of components, or of units of the layer below.  In
        double precision for float64 rows, otherwise in single precision.  A user's
        encoder always gets single precision.
    """
    shape = (len(rows), model.network.n_outputs)
    dtype = torch.float64 if is_double(rows) else torch.float32
    with torch.inference_mode(False):  # for callers that record gradients
        outputs = torch.empty(shape, dtype=dtype, device=to)
    for chunk in batches(len(rows), math.prod(rows.shape[1:])):
        outputs[chunk] = model.network(take(rows, chunk, device)).to(to)
    return outputs


def representation(
    model: Model, rows: Any, device: torch.device
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, standardised rows and learned features, for outlier detectors.

    Parameters
    ----------
    model : Model
        In evaluation mode and in double precision.
    rows : array-like of shape (n_rows, *input_shape)
        Rows before scaling.
    device : torch.device
        Where the model is.

    Returns
    -------
    rounded : ndarray of shape (n_rows, n_inputs)
        Flattened rows as training saw them, in double precision: a detector must
        recognise them (``InputLayer.rounded``).
    standardized : ndarray of shape (n_rows, n_inputs)
        The same rows, standardised by column or channel, without the soft clipping of
        ``InputLayer``.
    features : ndarray of shape (n_rows, n_features)
        The layer below the code, flattened and not standardised.  For a user's encoder
        without the parts "features", "hidden" and "code", its output instead.
    """
    network, parts = model.network, []
    for chunk in batches(len(rows), math.prod(rows.shape[1:])):
        some = network.input.rounded(take(rows, chunk, device)).double()
        standardized = network.input.standardized(some).flatten(1)
        part = some.flatten(1), standardized, network.representation(some)
        parts.append([array.cpu().numpy() for array in part])
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


def as_trained_on(rows: Any) -> np.ndarray:
    """Return rows, rounded as training on them would round them (``InputLayer``).

    Parameters
    ----------
    rows : array-like of shape (n_rows, ...)
        All rows of a data set.

    Returns
    -------
    rounded : ndarray of shape (n_rows, n_inputs)
        Flattened rows in double precision.
    """
    with sandbox(gradients=False):
        layer = InputLayer(tuple(rows.shape[1:]))
        layer.fit(rows)
        layer.to_dtype(torch.float32)
        parts = [
            layer.rounded(take(rows, chunk)).double().flatten(1).numpy()
            for chunk in batches(len(rows), math.prod(rows.shape[1:]))
        ]
        return np.concatenate(parts)


def mean_information(
    model: Model,
    source: BatchSource,
    batch_size: int,
    seed: int,
    max_batches: int | None = None,
) -> float:
    """Return the mutual information estimated for a data set, averaged over batches.

    It is the information between codes of views and noisy codes or, for a model without
    noise, between codes and features of the encoder (``losses.information``).  For
    reports, and for early stopping on held-out rows.  Order of the rows, views and
    noise depend on ``seed`` alone, so that the result is reproducible.

    Parameters
    ----------
    model : Model
        In evaluation mode.
    source : BatchSource
        The data set, from which batches of rows and views are drawn.
    batch_size : int
        Number of rows in a batch; a smaller data set is one batch.
    seed : int
        Seed of the order of the rows, of views and of noise.
    max_batches : int or None, default=None
        Largest number of batches to average over; None uses all rows.

    Returns
    -------
    information : float
        In nats.
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


def is_double(rows: Any) -> bool:
    """Return True if ``rows``, an array or a tensor, are in double precision."""
    return rows.dtype in (torch.float64, np.dtype("<f8"), np.dtype(">f8"))

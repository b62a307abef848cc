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
from .runtime import sandbox, seeded_generator, take

__all__ = ["mean_information", "representation", "restored", "torch_type", "transform"]

_EVALUATION_STREAM = 2  # added to the seed: not the views and noise of training


@contextmanager
def restored(
    spec: ModelSpec,
    weights: dict[str, np.ndarray],
    rows: Any,
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
    rows : array-like
        Rows to predict for.  Only their data type is used: the model computes in double
        precision for float64, and otherwise in single precision.
    seed : int
        Seed of torch's global generator in the block.  Only used if the model runs the
        user's code, which is an encoder or an augmentation.
    device : torch.device
        Where the model computes.
    gradients : bool, default=False
        True records gradients in the block and makes the model compute in double
        precision, for determinants of Jacobians.  False records no gradients.

    Yields
    ------
    model : Model
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
    with torch.inference_mode(False):  # for callers that record gradients
        outputs = torch.empty(shape, dtype=torch_type(rows), device=to)
    for chunk in batches(len(rows), math.prod(rows.shape[1:])):
        outputs[chunk] = model.network(take(rows, chunk, device)).to(to)
    return outputs


def representation(
    model: Model, rows: Any, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Return standardised rows and learned features of them, for outlier detectors.

    Parameters
    ----------
    model : Model
        In evaluation mode.
    rows : array-like of shape (n_rows, *input_shape)
        Rows before scaling.
    device : torch.device
        Where the model is.

    Returns
    -------
    standardized : ndarray of shape (n_rows, n_inputs)
        Flattened rows, standardised by column or channel, without the soft clipping of
        ``InputLayer``.
    features : ndarray of shape (n_rows, n_features)
        The layer below the code, flattened and not standardised.  For a user's encoder
        without the parts "features", "hidden" and "code", its output instead.
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


def torch_type(rows: Any) -> torch.dtype:
    """Return the data type to compute in for ``rows``, an array or a tensor.

    It is ``torch.float64`` for rows in double precision, and ``torch.float32`` for all
    others.
    """
    is_double = rows.dtype in (torch.float64, np.dtype("<f8"), np.dtype(">f8"))
    return torch.float64 if is_double else torch.float32

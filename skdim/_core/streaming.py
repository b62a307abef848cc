"""Training by ``partial_fit``: each call trains for one epoch on the rows it is given.

The learning rate is constant.  Each call takes the weights and the ``StreamState`` that
the previous call returned.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .batches import Data
from .calibration import NOISE_STREAM
from .config import TrainingConfig
from .memory import Memory
from .runtime import sandbox, seeded_generator
from .training import Optimizers, TrainingResult, prepare, run_epoch, settle

__all__ = ["StreamState", "train_on"]

# Constant learning rate, as a share of the largest one of ``fit``.  A stream has no
# known end, so there can be no schedule that falls towards it.
_RATE_SHARE = 1 / 3
_SEEDS_APART = 7919  # between two calls, so that views and noise differ


@dataclass
class StreamState:
    """What the next call of ``partial_fit`` needs besides weights, as plain values.

    Attributes
    ----------
    n_calls : int
        Number of calls so far; 0 after a ``fit``.
    n_remembered : int
        Number of rows that ``moments`` count as (``Memory.n_rows``); after many calls,
        fewer than there were.
    moments : dict of str to list of ndarray
        Moments from which evaluation is calibrated, by name (``Memory.values``), over
        the rows of a ``fit`` and of all calls since.  Earlier rows count for less, but
        for "inputs", which are those of the rows that have set the scale.
    optimizers : dict
        Running averages of gradients and of their squares, and the number of steps, as
        Adam and AdamW keep them.
        ``optimizers[name][i]`` is a dict of arrays for parameter i, where ``name`` is
        "encoder" or "discriminator".  Empty after a ``fit``.
    """

    n_calls: int = 0
    n_remembered: int = 0
    moments: dict[str, list[np.ndarray]] = field(default_factory=dict)
    optimizers: dict[str, dict[int, dict[str, np.ndarray]]] = field(
        default_factory=dict
    )

    @classmethod
    def after(
        cls,
        result: TrainingResult,
        n_calls: int = 0,
        optimizers: Optimizers | None = None,
    ) -> StreamState:
        """Return the state after a ``fit`` or a call, for the next ``partial_fit``.

        Parameters
        ----------
        result : TrainingResult
            What training returned.  The state keeps its ``memory``.
        n_calls : int, default=0
            Number of calls of ``partial_fit`` so far.
        optimizers : Optimizers or None, default=None
            Optimisers of this call, whose running averages the state keeps.  None,
            after a ``fit``, lets the next call start without averages.

        Returns
        -------
        state : StreamState
        """
        named = optimizers.named() if optimizers else {}
        averages = {name: _averages(optimizer) for name, optimizer in named.items()}
        return cls(n_calls, result.memory.n_rows, result.memory.values, averages)


def train_on(
    config: TrainingConfig,
    data: Data,
    weights: dict[str, np.ndarray] | None,
    state: StreamState,
) -> tuple[TrainingResult, StreamState]:
    """Train for one epoch on the rows of one call of ``partial_fit``.

    Parameters
    ----------
    config : TrainingConfig
        The same in every call.  A third of its learning rate is used, and a seed that
        depends on the number of calls.
    data : Data
        Rows of this call.
    weights : dict of str to ndarray or None
        Weights and buffers after the previous call, or after a ``fit``.  None, in the
        first call, draws new weights and sets the scaling of inputs from
        ``config.scaling`` or, if that is None, from ``data``.
    state : StreamState
        As the previous call returned it, or ``StreamState()`` in the first call.

    Returns
    -------
    result : TrainingResult
        Trained weights, and the information and divergence of this epoch.
    state : StreamState
        For the next call.

    Raises
    ------
    ValueError
        If training diverges, or the user's encoder or augmentation does not fit the
        data.
    """
    config = _of_call(config, state.n_calls)
    result = TrainingResult()
    with sandbox(gradients=True, global_seed=config.model.global_seed(config.seed)):
        generator = seeded_generator(config.seed)
        noise = seeded_generator(config.seed + NOISE_STREAM, config.device)
        model, source = prepare(config, data, weights, generator, keeps_scaling=True)
        optimizers = Optimizers.of(model, config, n_steps=None)
        for name, optimizer in optimizers.named().items():
            _put_back(optimizer, state.optimizers.get(name, {}))
        information, divergence = run_epoch(
            model, optimizers, source, config, generator, noise
        )
        result.information_curve.append(information)
        result.match_curve.append(divergence)
    memory = Memory(state.n_remembered, state.moments)
    settle(model, config, source, generator, result, memory)
    return result, StreamState.after(result, state.n_calls + 1, optimizers)


def _of_call(config: TrainingConfig, n_calls: int) -> TrainingConfig:
    """Return the configuration of the call of ``partial_fit`` after ``n_calls`` others.

    It is ``config`` with a third of the learning rate, and with a seed that depends on
    ``n_calls``, so that views and noise differ between calls.
    """
    return replace(
        config,
        learning_rate=_RATE_SHARE * config.learning_rate,
        seed=(config.seed + _SEEDS_APART * n_calls) % 2**31,
    )


def _averages(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, np.ndarray]]:
    """Return an optimiser's running averages of gradients as arrays, to be pickled.

    The result maps the index of each parameter to a dict of arrays by name: averages in
    the shape of the parameter, and the number of steps.
    """
    state = optimizer.state_dict()["state"]
    return {
        i: {k: v.cpu().numpy() for k, v in part.items()} for i, part in state.items()
    }


def _put_back(optimizer: torch.optim.Optimizer, averages: dict[int, Any]) -> None:
    """Set an optimiser's running averages of gradients, so that it goes on from them.

    ``averages`` is what ``_averages`` returned for the optimiser of the previous call.
    If it is empty, nothing is changed.
    """
    if not averages:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    whole = optimizer.state_dict()
    whole["state"] = {
        i: {k: _laid_out(v, parameters[i]) for k, v in part.items()}
        for i, part in averages.items()
    }
    optimizer.load_state_dict(whole)


def _laid_out(value: np.ndarray, parameter: Tensor) -> Tensor:
    """Return ``value`` as a tensor with the memory layout of ``parameter``.

    ``value`` is an optimiser's running average for this parameter, of the same shape.
    A pickle changes the memory layout of convolutions.  A fused optimiser goes through
    memory in order, and would then use the averages of other weights.  The number of
    steps, which has another shape, becomes a tensor as it is.
    """
    value = torch.tensor(value, device="cpu")
    if value.shape != parameter.shape:  # the number of steps
        return value
    return torch.empty_like(parameter, device="cpu").copy_(value)

"""Training on a stream: one pass over each part of it, at a constant learning rate."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .batches import Data
from .calibration import NOISE_STREAM, Memory
from .config import TrainingConfig
from .runtime import sandbox, seeded_generator
from .training import Optimizers, TrainingResult, prepare, run_epoch, settle

__all__ = ["StreamState", "train_on"]

# A stream has no end that a schedule could know.  This is about the mean of the
# schedule of ``fit``.
_RATE_SHARE = 1 / 3
_SEEDS_APART = 7919  # between two parts, so that their noise differs


@dataclass
class StreamState:
    """What the next part needs besides the weights, as plain values and arrays.

    Attributes
    ----------
    n_calls : int
        Number of parts so far.
    n_remembered : int
    moments : dict of str to list of ndarray
        Both as of ``Memory``.
    optimizers : dict
        The running averages of each optimiser, by name and index of the parameter.
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
        """Return the state after a ``fit``, or after a part of a stream."""
        named = optimizers.named() if optimizers else {}
        averages = {name: _averages(optimizer) for name, optimizer in named.items()}
        return cls(n_calls, result.memory.n_rows, result.memory.values, averages)


def train_on(
    config: TrainingConfig,
    data: Data,
    weights: dict[str, np.ndarray] | None,
    state: StreamState,
) -> tuple[TrainingResult, StreamState]:
    """Train on the next part of a stream, once through its rows.

    Parameters
    ----------
    config : TrainingConfig
    data : Data
        The part.
    weights : dict of str to ndarray or None
        Weights so far; None for the first part, which sets the scaling of inputs.
    state : StreamState

    Returns
    -------
    result : TrainingResult
    state : StreamState
        For the next part.

    Raises
    ------
    ValueError
        If training diverges.
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
    """Return the configuration of one part: its learning rate and its own seed."""
    return replace(
        config,
        learning_rate=_RATE_SHARE * config.learning_rate,
        seed=(config.seed + _SEEDS_APART * n_calls) % 2**31,
    )


def _averages(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, np.ndarray]]:
    """Return the optimiser's running averages as arrays."""
    state = optimizer.state_dict()["state"]
    return {
        i: {k: v.cpu().numpy() for k, v in part.items()} for i, part in state.items()
    }


def _put_back(optimizer: torch.optim.Optimizer, averages: dict[int, Any]) -> None:
    """Give an optimiser the running averages that ``_averages`` returned."""
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
    """Return an average as a tensor, laid out in memory as its parameter is.

    A pickle changes the layout of convolutions, and a fused optimiser, which goes
    through memory in order, would use the averages of other weights.
    """
    value = torch.tensor(value, device="cpu")
    if value.shape != parameter.shape:  # the number of steps
        return value
    return torch.empty_like(parameter, device="cpu").copy_(value)

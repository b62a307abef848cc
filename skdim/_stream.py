"""Training on a stream: one pass over each part of it, at a constant rate."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._config import Data, FitConfig
from ._descent import Descent
from ._runtime import sandbox, seeded_generator
from ._statistics import Memory
from ._trainer import TrainResult, set_up, settle

__all__ = ["StreamState", "train_on"]

# No schedule can know the end: about the mean of the one that a fit has.
_RATE_SHARE = 1 / 3
_SEEDS_APART = 7919  # of two parts, so that they see other noise


@dataclass
class StreamState:
    """What the next part needs besides the weights, as plain values and arrays."""

    n_calls: int = 0
    n_remembered: int = 0
    moments: dict[str, list[np.ndarray]] = field(default_factory=dict)
    optimizers: dict[str, dict[int, dict[str, np.ndarray]]] = field(
        default_factory=dict
    )

    @classmethod
    def after(
        cls,
        result: TrainResult,
        n_calls: int = 0,
        descent: Descent | None = None,
    ) -> StreamState:
        """Return what a stream goes on from, after a fit or a part of it."""
        all_of = _optimizers(descent) if descent else {}
        held = {name: _held(optimizer) for name, optimizer in all_of.items()}
        return cls(n_calls, result.memory.n_rows, result.memory.values, held)


def train_on(
    config: FitConfig,
    data: Data,
    weights: dict[str, np.ndarray] | None,
    state: StreamState,
) -> tuple[TrainResult, StreamState]:
    """Train on the next part of a stream; without weights, on its first part.

    The scaling of inputs stays that of the first part, or of the weights.
    """
    config = _of_call(config, state.n_calls)
    result = TrainResult()
    with sandbox(gradients=True, global_seed=config.model.global_seed(config.seed)):
        generator = seeded_generator(config.seed)
        model, source = set_up(config, data, weights, generator, keeps_scaling=True)
        descent = Descent(model, config, source, generator, n_steps=None)
        for name, optimizer in _optimizers(descent).items():
            _put_back(optimizer, state.optimizers.get(name, {}))
        information_of_pass, gap = descent.epoch()
        result.add_epoch(information_of_pass, gap)
        result.fell_back = descent.fell_back
    memory = Memory(state.n_remembered, state.moments)
    settle(model, config, source, generator, result, memory)
    return result, StreamState.after(result, state.n_calls + 1, descent)


def _of_call(config: FitConfig, n_calls: int) -> FitConfig:
    return replace(
        config,
        learning_rate=_RATE_SHARE * config.learning_rate,
        seed=(config.seed + _SEEDS_APART * n_calls) % 2**31,
    )


def _optimizers(descent: Descent) -> dict[str, torch.optim.Optimizer]:
    """Return the optimiser of the encoder, and those that terms have of their own."""
    own = {name: term.start() for name, term in descent.model.terms.items()}
    own = {name: optimizer for name, optimizer in own.items() if optimizer is not None}
    return {"encoder": descent.optimizer} | own


def _held(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, np.ndarray]]:
    """Return the optimiser's averages as arrays."""
    state = optimizer.state_dict()["state"]
    return {
        i: {k: v.cpu().numpy() for k, v in part.items()} for i, part in state.items()
    }


def _put_back(optimizer: torch.optim.Optimizer, held: dict[int, Any]) -> None:
    if not held:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    whole = optimizer.state_dict()
    whole["state"] = {
        i: {k: _laid_out(v, parameters[i]) for k, v in part.items()}
        for i, part in held.items()
    }
    optimizer.load_state_dict(whole)


def _laid_out(value: np.ndarray, parameter: Tensor) -> Tensor:
    """Return a tensor of an average, laid out in memory as its parameter is.

    A pickle changes the layout of convolutions, and a fused optimiser, which goes
    through memory in order, would take the averages of other weights.
    """
    value = torch.tensor(value, device="cpu")
    if value.shape != parameter.shape:  # the number of steps
        return value
    return torch.empty_like(parameter, device="cpu").copy_(value)

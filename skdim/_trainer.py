"""The training loop."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from ._config import Data, FitConfig, checked
from ._descent import Descent
from ._model import (
    InfoMax,
    check_shape,
    check_view,
    information,
    make_source,
    torch_type,
)
from ._network import encoder_failure
from ._runtime import sandbox, seeded_generator, take
from ._source import Source
from ._statistics import MAX_BATCHES, Memory, finalize
from ._utils.process import uninterrupted
from ._utils.progress import Watcher

__all__ = ["TrainResult", "set_up", "settle", "train"]


@dataclass
class TrainResult:
    """What training leaves behind."""

    weights: dict[str, np.ndarray] = field(default_factory=dict)
    encoder: str | nn.Module = ""  # its name, or the user's module
    n_outputs: int = 0
    information: float = math.nan
    information_curve: list[float] = field(default_factory=list)
    gap_curve: list[float] = field(default_factory=list)
    validation_curve: list[float] = field(default_factory=list)
    stopped: bool = False  # by itself, before max_iter
    interrupted: bool = False  # by the user
    memory: Memory | None = None  # of statistics, for a stream to go on from
    fell_back: bool = False  # to a lower learning rate, because training diverged

    def add_epoch(
        self, information: float, gap: float, validation: float | None = None
    ) -> None:
        """Note the end of an epoch in all curves at once."""
        self.information_curve.append(information)
        self.gap_curve.append(gap)
        if validation is not None:
            self.validation_curve.append(validation)


def train(
    config: FitConfig,
    data: Data,
    validation_data: Data | None = None,
    *,
    weights: dict[str, np.ndarray] | None = None,
    watcher: Watcher | None = None,
) -> TrainResult:
    """Train on ``data``; given validation data, keep the epoch that suits it best.

    Training starts from ``weights`` where there are any.
    """
    result = TrainResult()
    with sandbox(gradients=True, global_seed=config.model.global_seed(config.seed)):
        generator = seeded_generator(config.seed)
        model, source = set_up(config, data, weights, generator)
        validation = validation_data and _source(model, config, validation_data)
        monitor = _Monitor(config.tol, config.n_iter_no_change)
        n_steps = config.max_iter * (len(source) // config.batch_size)
        descent = Descent(model, config, source, generator, n_steps)
        if weights is not None and validation is not None:
            monitor.keep_if_best(_validated(descent, validation), model)
        try:
            _run(descent, validation, monitor, result, watcher or Watcher())
        except KeyboardInterrupt:
            if descent.n_done == 0:
                raise
            result.interrupted = True
            descent.rescue()
    try:
        with uninterrupted() as presses:
            settle(model, config, source, generator, result)
    except KeyboardInterrupt:  # pressed while it settled, which is done by now
        if not result.weights:
            raise
    result.interrupted |= bool(presses)
    return result


def set_up(
    config: FitConfig,
    data: Data,
    weights: dict[str, np.ndarray] | None,
    generator: torch.Generator,
    keeps_scaling: bool = False,
) -> tuple[InfoMax, Source]:
    """Return a model, new or of these weights, and where its batches come from.

    Inputs are scaled by ``data`` or as given, unless those of the weights are kept.
    """
    model = InfoMax(config.model, generator)
    if weights is not None:
        _load(model, weights)
    if weights is None or not keeps_scaling:
        model.network.input.fit(data.rows, config.scaling)
    model.network.input.to(torch_type(data.rows))
    model.to(config.device)
    _check_user_code(model, data.rows, config.device)
    return model, _source(model, config, data)


def settle(
    model: InfoMax,
    config: FitConfig,
    source: Source,
    generator: torch.Generator,
    result: TrainResult,
    memory: Memory | None = None,
) -> None:
    """Set the statistics that end training, and put the model into the result."""
    result.memory = finalize(model, config, source, generator, memory)
    result.information = checked(
        information(model, source, config.batch_size, config.seed, MAX_BATCHES)
    )
    result.weights = model.weights()
    result.n_outputs = model.network.n_outputs
    result.encoder = config.model.network.encoder
    if config.model.network.is_own_encoder:
        model.zero_grad()
        result.encoder = model.network.encoder.cpu()


def _load(model: InfoMax, weights: dict[str, np.ndarray]) -> None:
    """Set all weights; raise ValueError if they are those of another model."""
    state = {name: torch.tensor(value, device="cpu") for name, value in weights.items()}
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    if shapes != {name: tuple(v.shape) for name, v in model.state_dict().items()}:
        raise ValueError(
            "warm_start=True goes on from the fitted model, but other data or "
            "parameters ask for one of another shape; set warm_start=False, or put "
            "back what determines the shape."
        )
    model.load_state_dict(state)


def _source(model: InfoMax, config: FitConfig, data: Data) -> Source:
    return make_source(model, data.rows, config.seed, config.device, data.labels)


def _check_user_code(model: InfoMax, rows: Any, device: torch.device) -> None:
    """Raise ValueError if the user's encoder or view does not fit the data."""
    spec = model.spec
    inputs = model.network.input(take(rows, slice(2), device))
    for step in filter(callable, spec.views.steps):
        view = step(inputs.clone(), seeded_generator(0, device))
        check_view(view, tuple(inputs.shape))
    try:
        outputs = model.network.encode(inputs)
    except RuntimeError as error:
        raise encoder_failure(inputs, error) from error
    check_shape("encoder", outputs, (len(inputs), spec.network.n_components))
    if not outputs.requires_grad:
        raise ValueError("The encoder must have parameters that can be trained.")


def _run(
    descent: Descent,
    validation: Source | None,
    monitor: _Monitor,
    result: TrainResult,
    watcher: Watcher,
) -> None:
    """Train for up to ``max_iter`` epochs; ``result`` is filled as they pass."""
    model, config = descent.model, descent.config

    def snapshot() -> TrainResult:
        frozen, other = copy.deepcopy(model), copy.deepcopy(result)
        generator = seeded_generator(config.seed)
        settle(frozen, config, descent.source, generator, other)
        return other

    try:
        for _ in range(config.max_iter):
            watcher.epoch_begins()
            value, gap = descent.epoch()
            curves = {"information": value, "gap": gap}
            if validation is not None:
                value = _validated(descent, validation)
                curves["validation"] = value
                monitor.keep_if_best(value, model)
            result.fell_back = descent.fell_back
            result.add_epoch(**curves)
            is_asked = watcher.epoch_ends(result, snapshot)
            if is_asked or monitor.should_stop(value):
                result.stopped = True
                break
    finally:
        monitor.restore_best(model)


class _Monitor:
    """Decide when to stop, and hold on to the best weights seen."""

    def __init__(self, tol: float | None, patience: int) -> None:
        self.tol, self.patience = tol, patience
        self.best, self.n_stale = -math.inf, 0
        self.best_kept, self.best_state = -math.inf, None

    def keep_if_best(self, value: float, model: nn.Module) -> None:
        if value > self.best_kept:
            self.best_kept = value
            state = model.state_dict()
            self.best_state = {name: v.clone() for name, v in state.items()}

    def should_stop(self, value: float) -> bool:
        if self.tol is None:
            return False
        self.n_stale = 0 if value > self.best + self.tol else self.n_stale + 1
        self.best = max(self.best, value)
        return self.n_stale >= self.patience

    def restore_best(self, model: nn.Module) -> None:
        if self.best_state is not None:
            model.load_state_dict(self.best_state)


def _validated(descent: Descent, source: Source) -> float:
    """Return the information of held-out rows, if need be after falling back."""
    value = _validate(descent.model, descent.config, source)
    if not math.isfinite(value):
        descent.fall_back()
        value = checked(_validate(descent.model, descent.config, source))
    return value


def _validate(model: InfoMax, config: FitConfig, source: Source) -> float:
    model.eval()
    model.network.normalizer.settle()
    return information(model, source, config.batch_size, config.seed)

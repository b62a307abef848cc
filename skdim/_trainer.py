"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ._model import NOISE, InfoMax, ModelSpec, information, torch_type
from ._runtime import batches, sandbox, seeded_generator, take

__all__ = ["FitConfig", "TrainResult", "train"]

# Enough batches to know the information after training to about 0.01 nats.
_MAX_BATCHES = 20


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
    verbose: bool = False


@dataclass
class TrainResult:
    """What training leaves behind."""

    weights: dict[str, np.ndarray] = field(default_factory=dict)
    encoder: str | nn.Module = ""  # its name, or the user's module
    information: float = math.nan
    information_curve: list[float] = field(default_factory=list)
    validation_curve: list[float] = field(default_factory=list)
    stopped: bool = False  # by itself, before max_iter
    interrupted: bool = False  # by the user

    def add_epoch(self, information: float, validation: float | None = None) -> None:
        """Note the end of an epoch in all curves at once."""
        self.information_curve.append(information)
        if validation is not None:
            self.validation_curve.append(validation)


def train(
    config: FitConfig, rows: np.ndarray, validation_rows: np.ndarray | None = None
) -> TrainResult:
    """Train on ``rows``; given validation rows, keep the epoch that suits them best."""
    result = TrainResult()
    global_seed = config.model.global_seed(config.seed)
    with sandbox(gradients=True, global_seed=global_seed):
        generator = seeded_generator(config.seed)
        model = InfoMax(config.model, generator)
        model.network.input.fit(rows)
        model.network.input.to(torch_type(rows))
        model.to(config.device)
        check_user_code(model, rows, config.device)
        try:
            _run(model, config, rows, validation_rows, generator, result)
        except KeyboardInterrupt:
            result.interrupted = True
    finalize(model, config, rows, generator)
    result.information = information(
        model, rows, config.batch_size, config.seed, config.device, _MAX_BATCHES
    )
    result.weights = model.weights()
    result.encoder = config.model.network.encoder
    if config.model.network.is_own_encoder:
        model.zero_grad()
        result.encoder = model.network.encoder.cpu()
    return result


def check_user_code(model: InfoMax, rows: np.ndarray, device: torch.device) -> None:
    """Raise ValueError if the user's encoder or view does not fit the data."""
    spec = model.spec
    inputs = model.network.input(take(rows, slice(2), device))
    if spec.view is not None:
        view = spec.view(inputs, seeded_generator(0, device))
        _check_shape("'views' callable", view, tuple(inputs.shape))
        if not torch.isfinite(view).all():
            raise ValueError("The 'views' callable must return finite numbers.")
    try:
        outputs = model.network.encode(inputs)
    except RuntimeError as error:
        raise ValueError(
            f"The encoder failed on inputs of shape {tuple(inputs.shape)}: {error}"
        ) from error
    _check_shape("encoder", outputs, (len(inputs), spec.network.n_components))
    if not outputs.requires_grad:
        raise ValueError("The encoder must have parameters that can be trained.")


def _check_shape(name: str, output: object, expected: tuple[int, ...]) -> None:
    got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output)
    if got != expected:
        raise ValueError(
            f"The {name} must return a tensor of shape {expected} for a batch of "
            f"{expected[0]} rows. Got {got} instead."
        )


def _run(
    model: InfoMax,
    config: FitConfig,
    rows: np.ndarray,
    validation_rows: np.ndarray | None,
    generator: torch.Generator,
    result: TrainResult,
) -> None:
    """Train for up to ``max_iter`` epochs; ``result`` is filled as they pass."""
    n_batches = len(rows) // config.batch_size
    optimizer, scheduler = _optimizer(model, config, config.max_iter * n_batches)
    noise = seeded_generator(config.seed + NOISE, config.device)
    monitor = _Monitor(config.tol, config.n_iter_no_change)
    try:
        for _ in range(config.max_iter):
            model.train()
            order = torch.randperm(len(rows), generator=generator, device="cpu").numpy()
            batched = order[: n_batches * config.batch_size].reshape(n_batches, -1)
            bounds = []
            for index in batched:
                bound = model(take(rows, index, config.device), noise)
                optimizer.zero_grad()
                bound.neg().backward()
                optimizer.step()
                scheduler.step()
                bounds.append(bound.detach())
            value = _checked(float(torch.stack(bounds).mean()))
            curves = {"information": value}
            if validation_rows is not None:
                value = _validate(model.eval(), config, validation_rows)
                curves["validation"] = value
                monitor.keep_if_best(value, model)
            result.add_epoch(**curves)
            _report(config, result)
            if monitor.should_stop(value):
                result.stopped = True
                break
    finally:
        monitor.restore_best(model)


def _optimizer(
    model: InfoMax, config: FitConfig, n_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW under a one-cycle schedule; critics have a rate of their own."""
    rates = [config.learning_rate]
    groups = [{"params": list(model.network.parameters())}]
    if critic_parameters := list(model.critic.parameters()):
        groups.append({"params": critic_parameters, "weight_decay": 0.0})
        rates.append(config.learning_rate * model.critic.learning_rate_factor)
    optimizer = torch.optim.AdamW(
        groups, config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=n_steps + 1, pct_start=0.15
    )
    return optimizer, scheduler


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


def _validate(model: InfoMax, config: FitConfig, rows: np.ndarray) -> float:
    return information(model, rows, config.batch_size, config.seed, config.device)


def _checked(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(
            f"Training diverged: the information or the codes became {value}; lower "
            f"'learning_rate_init' or raise 'noise_scale'."
        )
    return value


def _report(config: FitConfig, result: TrainResult) -> None:
    if config.verbose:
        n_iter, curve = len(result.information_curve), result.validation_curve
        line = f"Epoch {n_iter}/{config.max_iter}, information = "
        line += f"{result.information_curve[-1]:.4f} nats"
        print(line + (f", validation = {curve[-1]:.4f} nats" if curve else ""))


def finalize(
    model: InfoMax, config: FitConfig, rows: np.ndarray, generator: torch.Generator
) -> None:
    """Replace running averages by statistics of all clean training rows.

    Batch norm of the encoder first, as it changes what the normaliser sees; the
    normaliser's affine map last.
    """
    model.eval()
    device = config.device
    global_seed = config.model.global_seed(config.seed)
    with sandbox(gradients=False, global_seed=global_seed):
        order = torch.randperm(len(rows), generator=generator, device="cpu").numpy()
        chunks = [order[chunk] for chunk in batches(*rows.shape)]
        with _precise_batch_norm(model.network.encoder) as has_batch_norm:
            for chunk in chunks if has_batch_norm else []:
                model.network.encode(model.network.input(take(rows, chunk, device)))
        _fit_normalizer(model, rows, chunks, device)


@contextmanager
def _precise_batch_norm(encoder: nn.Module) -> Iterator[bool]:
    """Let batch norm collect plain averages over what is passed through."""
    layers = [m for m in encoder.modules() if isinstance(m, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    yield bool(layers)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()


def _fit_normalizer(
    model: InfoMax, rows: np.ndarray, chunks: list[np.ndarray], device: torch.device
) -> None:
    """Set the output's affine map from the moments over all rows."""
    network = model.network
    total = square = 0.0
    for chunk in chunks:
        outputs = network.encode(network.input(take(rows, chunk, device))).double()
        total = total + outputs.sum(0)
        square = square + outputs.T @ outputs
    mean = total / len(rows)
    covariance = square / len(rows) - torch.outer(mean, mean)
    _checked(float(covariance.sum()))
    # A critic that was learned knows the components as they are.
    whiten = not model.critic.is_learned
    network.normalizer.fit(mean, covariance, len(rows), whiten)

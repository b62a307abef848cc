"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ._critics import regression
from ._model import (
    NOISE,
    InfoMax,
    ModelSpec,
    check_shape,
    even_batches,
    information,
    make_source,
    torch_type,
)
from ._network import Network
from ._runtime import batches, sandbox, seeded_generator, take
from ._source import Source

__all__ = ["Data", "FitConfig", "TrainResult", "train"]

# Enough batches to know the information after training to about 0.01 nats.
_MAX_BATCHES = 20
# Enough rows to know the spread of norms to a hundredth.
_MOST_NORMS = 8192


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
    n_outputs: int = 0
    information: float = math.nan
    information_curve: list[float] = field(default_factory=list)
    gap_curve: list[float] = field(default_factory=list)
    validation_curve: list[float] = field(default_factory=list)
    stopped: bool = False  # by itself, before max_iter
    interrupted: bool = False  # by the user

    def add_epoch(
        self, information: float, gap: float, validation: float | None = None
    ) -> None:
        """Note the end of an epoch in all curves at once."""
        self.information_curve.append(information)
        self.gap_curve.append(gap)
        if validation is not None:
            self.validation_curve.append(validation)


@dataclass(frozen=True)
class Data:
    """Rows and, if training is supervised, their classes."""

    rows: np.ndarray
    labels: np.ndarray | None = None


def train(
    config: FitConfig, data: Data, validation_data: Data | None = None
) -> TrainResult:
    """Train on ``data``; given validation data, keep the epoch that suits it best."""
    result, rows = TrainResult(), data.rows
    global_seed = config.model.global_seed(config.seed)
    with sandbox(gradients=True, global_seed=global_seed):
        generator = seeded_generator(config.seed)
        model = InfoMax(config.model, generator)
        model.network.input.fit(rows)
        model.network.input.to(torch_type(rows))
        model.to(config.device)
        check_user_code(model, rows, config.device)
        source = _source(model, config, data)
        validation = validation_data and _source(model, config, validation_data)
        try:
            _run(model, config, source, validation, generator, result)
        except KeyboardInterrupt:
            result.interrupted = True
        except torch.linalg.LinAlgError as error:  # whitening met NaN
            raise _divergence(math.nan) from error
    finalize(model, config, source, generator)
    result.information = information(
        model, source, config.batch_size, config.seed, _MAX_BATCHES
    )
    result.weights = model.weights()
    result.n_outputs = model.network.n_outputs
    result.encoder = config.model.network.encoder
    if config.model.network.is_own_encoder:
        model.zero_grad()
        result.encoder = model.network.encoder.cpu()
    return result


def _source(model: InfoMax, config: FitConfig, data: Data) -> Source:
    return make_source(model, data.rows, config.seed, config.device, data.labels)


def check_user_code(model: InfoMax, rows: np.ndarray, device: torch.device) -> None:
    """Raise ValueError if the user's encoder or view does not fit the data."""
    spec = model.spec
    inputs = model.network.input(take(rows, slice(2), device))
    for step in filter(callable, spec.views.steps):
        view = step(inputs.clone(), seeded_generator(0, device))
        check_shape("'views' callable", view, tuple(inputs.shape))
        if not torch.isfinite(view).all():
            raise ValueError("The 'views' callable must return finite numbers.")
    try:
        outputs = model.network.encode(inputs)
    except RuntimeError as error:
        raise ValueError(
            f"The encoder failed on inputs of shape {tuple(inputs.shape)}: {error}"
        ) from error
    check_shape("encoder", outputs, (len(inputs), spec.network.n_components))
    if not outputs.requires_grad:
        raise ValueError("The encoder must have parameters that can be trained.")


def _run(
    model: InfoMax,
    config: FitConfig,
    source: Source,
    validation: Source | None,
    generator: torch.Generator,
    result: TrainResult,
) -> None:
    """Train for up to ``max_iter`` epochs; ``result`` is filled as they pass."""
    n_batches = len(source) // config.batch_size
    optimizer, scheduler = _optimizer(model, config, config.max_iter * n_batches)
    noise = seeded_generator(config.seed + NOISE, config.device)
    monitor = _Monitor(config.tol, config.n_iter_no_change)
    try:
        for _ in range(config.max_iter):
            model.train()
            order = torch.randperm(len(source), generator=generator, device="cpu")
            batched = order[: n_batches * config.batch_size].view(n_batches, -1).numpy()
            terms = []
            for index in batched:
                term = model(source, index, noise)
                optimizer.zero_grad()
                term.objective.neg().backward()
                optimizer.step()
                scheduler.step()
                terms.append(torch.stack([term.information, term.gap]))
            value, gap = torch.stack(terms).mean(0).tolist()
            curves = {"information": _checked(value), "gap": gap}
            if validation is not None:
                value = _validate(model, config, validation)
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


def _validate(model: InfoMax, config: FitConfig, source: Source) -> float:
    model.eval()
    model.network.normalizer.settle()
    return information(model, source, config.batch_size, config.seed)


def _checked(value: float) -> float:
    if not math.isfinite(value):
        raise _divergence(value)
    return value


def _divergence(value: float) -> ValueError:
    return ValueError(
        f"Training diverged: the information or the codes became {value}; lower "
        f"'learning_rate_init' or raise 'noise_scale'."
    )


def _report(config: FitConfig, result: TrainResult) -> None:
    if config.verbose:
        n_iter, curve = len(result.information_curve), result.validation_curve
        line = f"Epoch {n_iter}/{config.max_iter}, information = "
        line += f"{result.information_curve[-1]:.4f} nats"
        print(line + (f", validation = {curve[-1]:.4f} nats" if curve else ""))


def finalize(
    model: InfoMax, config: FitConfig, source: Source, generator: torch.Generator
) -> None:
    """Replace running averages by statistics of all clean training rows.

    Batch norm of the encoder first, as it changes what the normaliser sees; then the
    normaliser's affine map and its map of norms; what the critic knows of pairs of
    codes last.
    """
    model.eval()
    network, device, rows = model.network, config.device, source.rows
    global_seed = config.model.global_seed(config.seed)
    with sandbox(gradients=False, global_seed=global_seed):
        order = torch.randperm(len(rows), generator=generator, device="cpu").numpy()
        chunks = [order[chunk] for chunk in batches(*rows.shape)]
        with _precise_batch_norm(network.encoder) as has_batch_norm:
            for chunk in chunks if has_batch_norm else []:
                network.encode(network.input(take(rows, chunk, device)))
        moments = _moments(network, network.encode, source, chunks)
        network.normalizer.fit(*moments, len(rows))
        if network.norms is not None:
            _fit_norms(network, source, chunks)
        if network.standardizer is not None:
            moments = _moments(network, network.hidden, source, chunks)
            network.standardizer.fit(*moments, len(rows))
        if model.critic.is_matched:
            _fit_critic(model, config, source)


def _fit_critic(model: InfoMax, config: FitConfig, source: Source) -> None:
    """Set what the critic knows of pairs from many batches."""
    generator = seeded_generator(config.seed + NOISE, config.device)
    batched = even_batches(len(source), config.batch_size, config.seed)[:_MAX_BATCHES]
    model.critic.fit(
        [regression(*model.pairs(source, index, generator)) for index in batched]
    )


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


def _fit_norms(network: Network, source: Source, chunks: list[np.ndarray]) -> None:
    """Set the map of the codes' norms, its power from as many rows as tell it."""

    def drawn_in(inputs: Tensor) -> Tensor:
        return network.norms.drawn_in(network.normalizer(network.encode(inputs)))

    some = chunks[: max(1, _MOST_NORMS // len(chunks[0]))]
    codes = [drawn_in(network.input(source.take(chunk))) for chunk in some]
    network.norms.fit_power(torch.cat(codes))  # which was 1 so far
    if network.norms.power < 1:
        mean, covariance = _moments(network, drawn_in, source, chunks)
        network.norms.fit(mean, covariance.diagonal())


def _moments(
    network: Network,
    outputs: Callable[[Tensor], Tensor],
    source: Source,
    chunks: list[np.ndarray],
) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of an output over all rows."""
    total = square = 0.0
    for chunk in chunks:
        values = outputs(network.input(source.take(chunk))).double()
        total = total + values.sum(0)
        square = square + values.T @ values
    mean = total / len(source)
    covariance = square / len(source) - torch.outer(mean, mean)
    _checked(float(covariance.sum()))
    return mean, covariance

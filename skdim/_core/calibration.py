"""Calibration: after training, moments over all training rows replace running ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .._utils.rows import batches
from .batches import BatchSource, even_batches
from .config import TrainingConfig
from .critics import regression
from .model import Model
from .network import Network
from .runtime import sandbox, seeded_generator

__all__ = ["MAX_BATCHES", "NOISE_STREAM", "Memory", "calibrate", "checked", "diverged"]

NOISE_STREAM = 1  # added to the seed, so that noise differs from weights and batches
# Enough batches to know the information after training to about 0.01 nats.
MAX_BATCHES = 20
# Enough rows to know the spread of norms to one per cent.
_ROWS_FOR_NORMS = 8192
_ROWS_REMEMBERED = 4096  # of a stream: more are steadier, but lag further behind


class Memory:
    """Running moments of a stream, in which old rows fade.

    Parameters
    ----------
    n_rows : int
        Number of rows behind the moments.
    values : dict of str to list of ndarray
        Moments by name.
    """

    def __init__(
        self, n_rows: int = 0, values: dict[str, list[np.ndarray]] | None = None
    ) -> None:
        self.n_rows, self.values = n_rows, dict(values or {})

    def blend(self, name: str, n_rows: int, *news: Tensor) -> list[Tensor]:
        """Remember and return the mean of old and new moments, weighted by rows.

        Parameters
        ----------
        name : str
            Of the moments.
        n_rows : int
            Number of rows behind the new ones; the old ones count for at most 4,096.
        *news : Tensor
            New moments.
        """
        weight = n_rows / (n_rows + min(self.n_rows, _ROWS_REMEMBERED))
        olds = self.values.get(name)
        if olds is not None:
            news = [
                torch.lerp(torch.tensor(o, device="cpu").to(v), v, weight)
                for o, v in zip(olds, news, strict=True)
            ]
        self.values[name] = [new.cpu().numpy() for new in news]
        return list(news)

    def blend_moments(
        self, name: str, n_rows: int, mean: Tensor, spread: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mean and spread of old and new rows together.

        The spread is a covariance matrix, or the variances alone.
        """
        raw = spread + _square(mean, spread)
        mean, raw = self.blend(name, n_rows, mean, raw)
        return mean, raw - _square(mean, spread)

    def add(self, n_rows: int) -> None:
        """Count the rows whose moments were blended in."""
        self.n_rows = min(self.n_rows, _ROWS_REMEMBERED) + n_rows


def calibrate(
    model: Model,
    config: TrainingConfig,
    source: BatchSource,
    generator: torch.Generator,
    memory: Memory | None = None,
) -> Memory:
    """Replace running averages by moments over all training rows, without views.

    In the order in which one depends on the other: batch norm of the encoder; the
    normaliser; the map of the norms; the standardised layer below the code; and the
    critic's moments of pairs.

    Parameters
    ----------
    model : Model
        Is changed, and put into evaluation mode.
    config : TrainingConfig
    source : BatchSource
        The training rows.
    generator : torch.Generator
        For the order of the rows.
    memory : Memory or None
        Moments of earlier parts of a stream, of which these rows are the newest.
        Batch norm then keeps its running averages.

    Returns
    -------
    memory : Memory
        With these rows blended in.

    Raises
    ------
    ValueError
        If a moment is not finite, because training diverged.
    """
    model.eval()
    memory = memory or Memory()
    network, n_rows = model.network, len(source)
    n_features = math.prod(source.rows.shape[1:])
    global_seed = config.model.global_seed(config.seed)
    with sandbox(gradients=False, global_seed=global_seed), _divergence_named():
        order = torch.randperm(n_rows, generator=generator, device="cpu").numpy()
        # Sorted within a chunk, because files are read faster so.
        chunks = [np.sort(order[chunk]) for chunk in batches(n_rows, n_features)]
        if not memory.n_rows:
            _fit_batch_norm(network, source, chunks)
        if config.model.network.normalizes:
            moments = _moments(network.encode, source, chunks)
            moments = memory.blend_moments("codes", n_rows, *moments)
            network.normalizer.fit(*moments, n_rows + memory.n_rows)
        if network.norm_shrinker is not None:
            _fit_norm_shrinker(network, source, chunks, memory)
        if network.standardizer is not None:
            moments = _moments(network.layer_below_code, source, chunks, joint=False)
            moments = memory.blend_moments("below", n_rows, *moments)
            network.standardizer.fit_moments(*moments)
        if "channel" in model.critics and model.critics["channel"].has_moments:
            _fit_critic(model, config, source)
    _check_finite_moments(network)
    memory.add(n_rows)
    return memory


def checked(value: float) -> float:
    """Return a finite number as it is; raise ValueError for any other."""
    if not math.isfinite(value):
        raise diverged(value)
    return value


def diverged(value: float) -> ValueError:
    """Return the error to raise where training diverged."""
    return ValueError(
        f"Training diverged: the information or the codes became {value}; lower "
        f"'learning_rate_init'."
    )


@contextmanager
def _divergence_named() -> Iterator[None]:
    """Turn the failure to decompose a matrix of moments into the error to raise."""
    try:
        yield
    except torch.linalg.LinAlgError as error:
        raise diverged(math.nan) from error


def _check_finite_moments(network: Network) -> None:
    """Raise ValueError if a moment overflowed the type that it is kept in."""
    layers = [network.normalizer, network.norm_shrinker, network.standardizer]
    layers += [m for m in network.encoder.modules() if isinstance(m, _BatchNorm)]
    for layer in filter(None, layers):
        for value in layer.buffers():
            checked(float(value.abs().amax()))


def _square(mean: Tensor, spread: Tensor) -> Tensor:
    """Return the squared mean, as a matrix if the spread is one."""
    return torch.outer(mean, mean) if spread.ndim == 2 else mean.square()


def _fit_batch_norm(
    network: Network, source: BatchSource, chunks: list[np.ndarray]
) -> None:
    """Set the statistics of batch norm to plain averages over all rows."""
    with _averaging_batch_norm(network.encoder) as has_batch_norm:
        for chunk in chunks if has_batch_norm else []:
            network.encode(source.take(chunk))


@contextmanager
def _averaging_batch_norm(encoder: nn.Module) -> Iterator[bool]:
    """Let batch norm collect plain averages; yield whether there is batch norm."""
    layers = [m for m in encoder.modules() if isinstance(m, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    try:
        yield bool(layers)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()


def _fit_critic(model: Model, config: TrainingConfig, source: BatchSource) -> None:
    """Set the critic's moments of pairs from up to 20 batches of views."""
    generator = seeded_generator(config.seed + NOISE_STREAM, config.device)
    batched = even_batches(len(source), config.batch_size, config.seed)[:MAX_BATCHES]
    model.critics["channel"].fit(
        [
            regression(*model.code_pairs(source.draw(index, generator)))
            for index in batched
        ]
    )


def _fit_norm_shrinker(
    network: Network, source: BatchSource, chunks: list[np.ndarray], memory: Memory
) -> None:
    """Set the power of the norms from some rows, and its moments from all of them."""
    shrinker, n_rows = network.norm_shrinker, len(source)

    def shrunk(inputs: Tensor) -> Tensor:
        return shrinker.shrink(network.normalizer(network.encode(inputs)))

    shrinker.reset()
    some = chunks[: max(1, _ROWS_FOR_NORMS // len(chunks[0]))]
    shrinker.fit_power(torch.cat([shrunk(source.take(chunk)) for chunk in some]))
    shrinker.power.copy_(*memory.blend("power", n_rows, shrinker.power))
    if shrinker.power < 1:
        moments = _moments(shrunk, source, chunks, joint=False)
        moments = memory.blend_moments("norms", n_rows, *moments)
        shrinker.standardizer.fit_moments(*moments)


def _moments(
    function: Callable[[Tensor], Tensor],
    source: BatchSource,
    chunks: list[np.ndarray],
    joint: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return mean and covariance, or variances, of a function of all rows.

    Computed in double precision, a chunk of rows at a time.
    """
    total = square = 0.0
    for chunk in chunks:
        values = function(source.take(chunk)).double()
        total = total + values.sum(0)
        square = square + (values.T @ values if joint else values.square().sum(0))
    mean = total / len(source)
    spread = square / len(source)
    spread = spread - _square(mean, spread)
    checked(float(spread.sum()))
    return mean, spread

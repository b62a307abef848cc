"""What is set at the end of training: statistics of all clean rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ._config import FitConfig, checked, divergence
from ._critics import regression
from ._model import NOISE, InfoMax, even_batches
from ._network import Network
from ._runtime import sandbox, seeded_generator
from ._source import Source
from ._utils.rows import batches

__all__ = ["MAX_BATCHES", "Memory", "finalize"]

# Enough batches to know the information after training to about 0.01 nats.
MAX_BATCHES = 20
# Enough rows to know the spread of norms to a hundredth.
_MOST_NORMS = 8192


_MOST_REMEMBERED = 4096  # rows: the more, the steadier, and the longer behind


class Memory:
    """Statistics of a stream, of which rows of long ago are forgotten.

    Parameters
    ----------
    n_rows : int
        Number of rows that ``values`` stand for.
    values : dict of str to list of ndarray
    """

    def __init__(self, n_rows: int, values: dict[str, list[np.ndarray]]) -> None:
        self.n_rows, self.values = n_rows, dict(values)

    def blend(self, name: str, n_rows: int, *news: Tensor) -> list[Tensor]:
        """Return averages of what is remembered and what so many rows say now."""
        weight = n_rows / (n_rows + min(self.n_rows, _MOST_REMEMBERED))
        olds = self.values.get(name)
        if olds is not None:
            news = [
                torch.lerp(torch.tensor(o).to(v), v, weight)
                for o, v in zip(olds, news, strict=True)
            ]
        self.values[name] = [new.cpu().numpy() for new in news]
        return list(news)

    def add(self, n_rows: int) -> None:
        """Count the rows that were blended in."""
        self.n_rows = min(self.n_rows, _MOST_REMEMBERED) + n_rows


def finalize(
    model: InfoMax,
    config: FitConfig,
    source: Source,
    generator: torch.Generator,
    memory: Memory | None = None,
) -> Memory:
    """Replace running averages by statistics of all clean training rows.

    Batch norm of the encoder first, as it changes what the normaliser sees; then the
    normaliser's affine map and its map of norms; what the critic knows of pairs of
    codes last.  With the memory of a stream, these rows are its newest part; batch
    norm then keeps its running averages.
    """
    model.eval()
    memory = memory or Memory(0, {})
    network, n_rows = model.network, len(source)
    n_features = math.prod(source.rows.shape[1:])
    global_seed = config.model.global_seed(config.seed)
    with sandbox(gradients=False, global_seed=global_seed), _named_divergence():
        order = torch.randperm(n_rows, generator=generator, device="cpu").numpy()
        # In the order they are stored within a chunk: files are read faster so.
        chunks = [np.sort(order[chunk]) for chunk in batches(n_rows, n_features)]
        if not memory.n_rows:
            _fit_batch_norm(network, source, chunks)
        if config.model.network.normalizes:
            moments = _moments(network, network.encode, source, chunks)
            moments = _blended(memory, "codes", n_rows, *moments)
            network.normalizer.fit(*moments, n_rows + memory.n_rows)
        if network.norms is not None:
            _fit_norms(network, source, chunks, memory)
        if network.standardizer is not None:
            moments = _moments(network, network.below, source, chunks, joint=False)
            moments = _blended(memory, "below", n_rows, *moments)
            network.standardizer.fit(*moments)
        if "channel" in model.terms and model.terms["channel"].critic.is_matched:
            _fit_critic(model, config, source)
    _check_range(network)
    memory.add(n_rows)
    return memory


@contextmanager
def _named_divergence() -> Iterator[None]:
    """Say what to do where a matrix of moments has no eigenvalues."""
    try:
        yield
    except torch.linalg.LinAlgError as error:
        raise divergence(math.nan) from error


def _check_range(network: Network) -> None:
    """Raise ValueError if moments left the range of the type they are kept in."""
    layers = [network.normalizer, network.norms, network.standardizer]
    layers += [m for m in network.encoder.modules() if isinstance(m, _BatchNorm)]
    for layer in filter(None, layers):
        for value in layer.buffers():
            checked(float(value.abs().amax()))


def _blended(
    memory: Memory, name: str, n_rows: int, mean: Tensor, spread: Tensor
) -> tuple[Tensor, Tensor]:
    """Return mean and spread of what is remembered and what is new together.

    The spread is a covariance matrix or the variances alone.
    """
    mean, square = memory.blend(name, n_rows, mean, spread + _square(mean, spread))
    return mean, square - _square(mean, spread)


def _square(mean: Tensor, spread: Tensor) -> Tensor:
    return torch.outer(mean, mean) if spread.ndim == 2 else mean.square()


def _fit_batch_norm(network: Network, source: Source, chunks: list[np.ndarray]) -> None:
    """Set the statistics of batch norm to plain averages over all rows."""
    with _precise_batch_norm(network.encoder) as has_batch_norm:
        for chunk in chunks if has_batch_norm else []:
            network.encode(source.take(chunk))


def _fit_critic(model: InfoMax, config: FitConfig, source: Source) -> None:
    """Set what the critic knows of pairs from many batches."""
    generator = seeded_generator(config.seed + NOISE, config.device)
    batched = even_batches(len(source), config.batch_size, config.seed)[:MAX_BATCHES]
    model.terms["channel"].critic.fit(
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
    try:
        yield bool(layers)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()


def _fit_norms(
    network: Network, source: Source, chunks: list[np.ndarray], memory: Memory
) -> None:
    """Set the map of the codes' norms, its power from as many rows as tell it."""
    norms, n_rows = network.norms, len(source)

    def drawn_in(inputs: Tensor) -> Tensor:
        return norms.drawn_in(network.normalizer(network.encode(inputs)))

    norms.reset()
    some = chunks[: max(1, _MOST_NORMS // len(chunks[0]))]
    codes = [drawn_in(source.take(chunk)) for chunk in some]
    norms.fit_power(torch.cat(codes))
    norms.power.copy_(*memory.blend("power", n_rows, norms.power))
    if norms.power < 1:
        moments = _moments(network, drawn_in, source, chunks, joint=False)
        norms.fit(*_blended(memory, "norms", n_rows, *moments))


def _moments(
    network: Network,
    outputs: Callable[[Tensor], Tensor],
    source: Source,
    chunks: list[np.ndarray],
    joint: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of an output, or its variances if not joint."""
    total = square = 0.0
    for values in _outputs(network, outputs, source, chunks):
        total = total + values.sum(0)
        square = square + (values.T @ values if joint else values.square().sum(0))
    mean = total / len(source)
    spread = square / len(source)
    spread = spread - _square(mean, spread)
    checked(float(spread.sum()))
    return mean, spread


def _outputs(
    network: Network,
    outputs: Callable[[Tensor], Tensor],
    source: Source,
    chunks: list[np.ndarray],
) -> Iterator[Tensor]:
    """Yield an output of all rows, in double precision, some at a time."""
    for chunk in chunks:
        yield outputs(source.take(chunk)).double()

"""Calibration: set the moments that evaluation uses, from all training rows.

In training, a network normalises codes by the moments of each batch.  In evaluation,
the code of a row must not depend on other rows, so every layer uses stored moments.
"""

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

NOISE_STREAM = 1  # added to the seed: noise and views have a generator of their own
# Batches to average over after training: the information is then known to about 0.01
# nats.
MAX_BATCHES = 20
# Enough rows to know the standard deviation of norms to one per cent.
_ROWS_FOR_NORMS = 8192
# Rows of a stream that count at most: more would be steadier, but lag further behind.
_ROWS_REMEMBERED = 4096


class Memory:
    """Moments that ``calibrate`` computed, over a fit and calls of ``partial_fit``.

    ``calibrate`` averages those of the rows of each call with those stored here, which
    weigh as much as ``n_rows`` rows, at most 4,096: older rows count for less.

    Parameters
    ----------
    n_rows : int, default=0
        Number of rows that the moments stand for; 0 if there are no moments yet.
    values : dict of str to list of ndarray or None, default=None
        Moments by name, such as "codes" for mean and second moment of the encoder's
        output, as ``blend`` stores them.  None stands for an empty dict.

    Attributes
    ----------
    n_rows : int
        Changed by ``add``.
    values : dict of str to list of ndarray
        Changed by ``blend``.
    """

    def __init__(
        self, n_rows: int = 0, values: dict[str, list[np.ndarray]] | None = None
    ) -> None:
        self.n_rows, self.values = n_rows, dict(values or {})

    def blend(self, name: str, n_rows: int, *news: Tensor) -> list[Tensor]:
        """Average new moments with stored ones, store the result, and return it.

        Averages are weighted by numbers of rows.  If nothing is stored under this name,
        the new moments are stored and returned as they are.

        Parameters
        ----------
        name : str
            Name under which these moments are stored, such as "codes".
        n_rows : int
            Number of rows behind the new moments.  Stored ones count for
            ``min(self.n_rows, 4096)`` rows.
        *news : Tensor
            New moments, in the same order and of the same shapes in every call.

        Returns
        -------
        averages : list of Tensor
            One for each new moment, with the shape, dtype and device of that moment.
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
        """Return mean and covariance of new and earlier rows together, and store them.

        What ``blend`` averages and stores is the mean and the second moment about 0.

        Parameters
        ----------
        name : str
            Name under which these moments are stored, such as "codes".
        n_rows : int
            Number of new rows.
        mean : Tensor of shape (d,)
            Mean of the new rows.
        spread : Tensor of shape (d, d) or (d,)
            Covariance matrix of the new rows, or their variances, divided by
            ``n_rows``.

        Returns
        -------
        mean : Tensor of shape (d,)
            Mean of new and earlier rows.
        spread : Tensor of shape (d, d) or (d,)
            Covariance matrix or variances of new and earlier rows, like the argument.
        """
        raw = spread + _square(mean, spread)
        mean, raw = self.blend(name, n_rows, mean, raw)
        return mean, raw - _square(mean, spread)

    def add(self, n_rows: int) -> None:
        """Add ``n_rows`` to ``self.n_rows``, which is first reduced to at most 4,096.

        Called after ``blend`` has averaged all moments of the new rows with the stored
        ones, so that the weights of later averages are right.
        """
        self.n_rows = min(self.n_rows, _ROWS_REMEMBERED) + n_rows


def calibrate(
    model: Model,
    config: TrainingConfig,
    source: BatchSource,
    generator: torch.Generator,
    memory: Memory | None = None,
) -> Memory:
    """Set the moments that a model uses in evaluation, from all training rows.

    In evaluation, codes are normalised by these moments instead of those of a batch.
    Each step uses the moments that the steps before it have set:

    1. running mean and variance of batch norm in the encoder;
    2. mean and covariance of the encoder's output, for ``Normalizer``;
    3. the power to which norms of codes are raised, and the mean and variance of the
       resulting codes, for ``NormShrinker``;
    4. mean and variance of the layer below the code, if the network returns that layer;
    5. slope and residual variance of predicting codes from codes of views, for
       ``ChannelCritic``.

    Rows are augmented in step 5 only.  Steps for layers that the model does not have
    are left out.

    Parameters
    ----------
    model : Model
        Is changed, and put into evaluation mode.
    config : TrainingConfig
        Configuration of the model; its seed, device and batch size are used for the
        views of step 5.
    source : BatchSource
        The training rows.
    generator : torch.Generator
        Shuffles the rows, because step 3 computes the power from the first of them.
    memory : Memory or None, default=None
        Moments of earlier calls of ``partial_fit``, with which the moments of steps 2
        to 4 are averaged.  If it holds any, step 1 is left out, so that batch norm
        keeps its running statistics.  None uses the moments of these rows alone.

    Returns
    -------
    memory : Memory
        The argument ``memory``, or a new one if that is None, with the moments of these
        rows included.

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
    """Return ``value`` if it is finite; else raise the ValueError of ``diverged``.

    For losses, moments and weights, which stop being finite if training diverges.
    """
    if not math.isfinite(value):
        raise diverged(value)
    return value


def diverged(value: float) -> ValueError:
    """Return, without raising it, a ValueError which says that training diverged.

    ``value`` is NaN or infinity, the number that showed it; the message quotes it.
    """
    return ValueError(
        f"Training diverged: the information or the codes became {value}; lower "
        f"'learning_rate_init'."
    )


@contextmanager
def _divergence_named() -> Iterator[None]:
    """Turn torch's LinAlgError in the ``with`` block into the error of ``diverged``.

    In ``calibrate``, torch fails to decompose a matrix if moments are not finite,
    because training diverged.
    """
    try:
        yield
    except torch.linalg.LinAlgError as error:
        raise diverged(math.nan) from error


def _check_finite_moments(network: Network) -> None:
    """Raise ValueError unless all moments that a network uses in evaluation are finite.

    Checked at the end of ``calibrate``.  Moments are computed in double precision and
    can overflow in the single precision of the layers of ``network``.
    """
    layers = [network.normalizer, network.norm_shrinker, network.standardizer]
    layers += [m for m in network.encoder.modules() if isinstance(m, _BatchNorm)]
    for layer in filter(None, layers):
        for value in layer.buffers():
            checked(float(value.abs().amax()))


def _square(mean: Tensor, spread: Tensor) -> Tensor:
    """Return what to add to a covariance to get the second moment about 0.

    ``mean`` has the shape (d,).  The result has the shape of ``spread``: the outer
    product of the mean with itself if ``spread`` is a covariance matrix of shape
    (d, d), and the squared mean if ``spread`` holds variances of shape (d,).
    """
    return torch.outer(mean, mean) if spread.ndim == 2 else mean.square()


def _fit_batch_norm(
    network: Network, source: BatchSource, chunks: list[np.ndarray]
) -> None:
    """Set the running statistics of batch norm in the encoder from all rows.

    Running mean and variance become unweighted averages over chunks of rows.  Does
    nothing if the encoder has no batch norm.

    Parameters
    ----------
    network : Network
        Its encoder is changed.
    source : BatchSource
        The training rows.
    chunks : list of ndarray
        Indices of all rows, in chunks that are read one at a time.
    """
    with _averaging_batch_norm(network.encoder) as has_batch_norm:
        for chunk in chunks if has_batch_norm else []:
            network.encode(source.take(chunk))


@contextmanager
def _averaging_batch_norm(encoder: nn.Module) -> Iterator[bool]:
    """Let batch norm average over all batches of the ``with`` block, without decay.

    Before the block, the running statistics of all batch norm layers in ``encoder`` are
    reset.  After the block, the layers have their old momentum and are in evaluation
    mode.  Yields True if the encoder has such layers, else False.
    """
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
    """Set the slope and the residual variance that a ChannelCritic uses in evaluation.

    Both are regression moments of predicting codes of rows from codes of views,
    averaged over up to 20 batches.

    Parameters
    ----------
    model : Model
        Its critic "channel" is set.
    config : TrainingConfig
        Gives batch size, seed and device.
    source : BatchSource
        The training rows.
    """
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
    """Set the power and the moments of the layer that reduces large norms of codes.

    Norms are raised to the power; the moments are the mean and the variance of the
    resulting codes, which the layer then standardises.

    Parameters
    ----------
    network : Network
        Its ``norm_shrinker`` is set; its ``normalizer`` must be set already.
    source : BatchSource
        The training rows.
    chunks : list of ndarray
        Indices of all rows, in chunks of at most 8,192.  The power is computed from
        about the first 8,192 rows, the moments from all rows.
    memory : Memory
        Power and moments of earlier calls of ``partial_fit``, with which the new ones
        are averaged.  Stores the averages.
    """
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
    """Return the mean, and covariance or variances, of a function's values at all rows.

    Parameters
    ----------
    function : callable
        Maps scaled inputs of shape (n, *input_shape) to a tensor of shape (n, d), such
        as codes.
    source : BatchSource
        The rows.
    chunks : list of ndarray
        Indices of all rows, in chunks that are read one at a time.
    joint : bool, default=True
        True computes the covariance matrix, False only the variances.

    Returns
    -------
    mean : Tensor of shape (d,)
        In double precision.
    spread : Tensor of shape (d, d) or (d,)
        Covariance matrix or variances in double precision; sums are divided by the
        number of rows.

    Raises
    ------
    ValueError
        If ``spread`` is not finite, because training diverged.
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

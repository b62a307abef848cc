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
from .memory import Memory, square_of_mean
from .model import Model
from .network import Network
from .runtime import sandbox, seeded_generator, take
from .transport import MAX_ROWS

__all__ = [
    "MAX_BATCHES",
    "NOISE_STREAM",
    "calibrate",
    "checked",
    "diverged",
    "remember_inputs",
]

NOISE_STREAM = 1  # added to the seed: noise and views have a generator of their own
_TRANSPORT_STREAM = 3  # so has the final map
_TINY = 1e-12  # in the place of variances and deviations of 0
# Batches to average over after training: the information is then known to about 0.01
# nats.
MAX_BATCHES = 20


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
    3. the layers of ``Transport``, and the rotation that orders components;
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
        Shuffles the rows, because step 3 uses the first 20,000 of them.
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
        if network.transport is not None:
            some = batches(min(n_rows, MAX_ROWS), n_features)
            some = [np.sort(order[chunk]) for chunk in some]
            _fit_transport(network, source, some, config, memory)
        if network.standardizer is not None:
            moments = _moments(network.layer_below_code, source, chunks, joint=False)
            moments = memory.blend_moments("below", n_rows, *moments)
            network.standardizer.fit_moments(*moments)
        if "channel" in model.critics and model.critics["channel"].has_moments:
            _fit_critic(model, config, source)
    _check_finite_moments(network)
    memory.add(n_rows)
    return memory


def remember_inputs(network: Network, source: BatchSource, memory: Memory) -> None:
    """Store the moments of softly clipped inputs, with which ``report`` compares rows.

    A few huge values can set the scale of a column.  Then its clipped inputs do not
    have about the mean 0 and the deviation 1, not even those of the training rows.

    Parameters
    ----------
    network : Network
        Its first layer scales the inputs.
    source : BatchSource
        The training rows; 20,000 of them are used, evenly spaced.
    memory : Memory
        Stores "inputs": mean and deviation of each column or channel.  If it has them
        already, nothing is changed, because the first rows have set the scale.
    """
    if "inputs" in memory.values:
        return
    n_rows = len(source)
    index = np.linspace(0, n_rows - 1, min(n_rows, MAX_ROWS)).astype(np.intp)
    count = total = squares = 0
    with sandbox(gradients=False):
        for chunk in batches(len(index), 2 * math.prod(source.rows.shape[1:])):
            rows = take(source.rows, index[chunk], source.device)
            inputs = network.input.clipped(rows).double().movedim(1, -1).flatten(0, -2)
            count += len(inputs)
            total, squares = total + inputs.sum(0), squares + inputs.square().sum(0)
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    memory.blend("inputs", n_rows, mean, deviation)


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
    layers = [network.normalizer, network.transport, network.standardizer]
    layers += [m for m in network.encoder.modules() if isinstance(m, _BatchNorm)]
    for layer in filter(None, layers):
        for value in layer.buffers():
            checked(float(value.abs().sum()))


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


def _fit_transport(
    network: Network,
    source: BatchSource,
    chunks: list[np.ndarray],
    config: TrainingConfig,
    memory: Memory,
) -> None:
    """Fit the map that brings codes to N(0, I), and choose its last rotation.

    Components are ordered by the share of the variance of the scaled inputs that they
    explain, each by linear regression.  In ``partial_fit``, the first call chooses.

    Parameters
    ----------
    network : Network
        Its ``transport`` is set; its ``normalizer`` must be set already.
    source : BatchSource
        The training rows.
    chunks : list of ndarray
        Indices of up to 20,000 rows, in chunks that are read one at a time.
    config : TrainingConfig
        Gives the seed.
    memory : Memory
        What earlier calls of ``partial_fit`` have found, which is averaged with what
        these rows show.  Stores the averages: "explained", the share of the variance of
        the inputs that each component explains, and for tables "loadings", the
        correlation of each component with each column.
    """
    transport = network.transport
    codes = [network.normalized(network.encode(source.take(chunk))) for chunk in chunks]
    generator = seeded_generator(config.seed + _TRANSPORT_STREAM)
    transport.fit(torch.cat(codes), generator, memory)
    codes = [transport(part).double() for part in codes]
    covariance, variance = _covariance_with_inputs(codes, network, source, chunks)
    if not memory.n_rows:
        turn = torch.linalg.eigh(covariance @ covariance.T)[1]
        # Variances of codes are near 1, but few rows or values can change the order.
        deviations = torch.cat([part @ turn for part in codes]).std(0, correction=0)
        shares = (turn.T @ covariance).norm(dim=1) / deviations.clamp_min(_TINY)
        turn = turn[:, shares.argsort(descending=True, stable=True)]
        of_turned = turn.T @ covariance
        largest = of_turned.gather(1, of_turned.abs().argmax(1, keepdim=True))
        turn *= torch.where(largest < 0, -1.0, 1.0).T
        covariance, codes = turn.T @ covariance, [part @ turn for part in codes]
        transport.turn(turn)
    deviations = torch.cat(codes).std(0, correction=0).clamp_min(_TINY)[:, None]
    covariance = covariance / deviations
    explained = covariance.square().sum(1) / variance.sum().clamp_min(_TINY)
    memory.blend("explained", len(source), explained)
    if not config.model.network.is_image:
        loadings = covariance * variance.clamp_min(_TINY).rsqrt()
        memory.blend("loadings", len(source), loadings)


def _covariance_with_inputs(
    codes: list[Tensor],
    network: Network,
    source: BatchSource,
    chunks: list[np.ndarray],
) -> tuple[Tensor, Tensor]:
    """Return covariances of codes and standardised inputs, and variances of inputs.

    Parameters
    ----------
    codes : list of Tensor of shape (n_rows, n_components)
        Codes of the rows of each chunk.
    network : Network
        Its first layer standardises the inputs.
    source : BatchSource
        The training rows.
    chunks : list of ndarray
        Indices of rows.

    Returns
    -------
    covariance : Tensor of shape (n_components, n_inputs)
    variance : Tensor of shape (n_inputs,)
        Both in double precision.
    """
    n_rows, mean = sum(map(len, codes)), torch.cat(codes).mean(0)
    products = total = squares = 0
    first = None  # moments about the first row lose no digits
    for part, chunk in zip(codes, chunks, strict=True):
        rows = take(source.rows, chunk, source.device)
        inputs = network.input.standardized(rows).flatten(1).double()
        first = inputs[0] if first is None else first
        inputs = inputs - first
        products = products + (part - mean).T @ inputs
        total, squares = total + inputs.sum(0), squares + inputs.square().sum(0)
    return products / n_rows, squares / n_rows - (total / n_rows).square()


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
    spread = spread - square_of_mean(mean, spread)
    checked(float(spread.sum()))
    return mean, spread

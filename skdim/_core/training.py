"""The training loop: draw, encode, objective, step, log; then the end of training."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._utils.process import uninterrupted
from .._utils.progress import Watcher
from .batches import BatchSource, Data, check_shape, check_view
from .calibration import (
    MAX_BATCHES,
    NOISE_STREAM,
    calibrate,
    checked,
    diverged,
    remember_inputs,
)
from .config import TrainingConfig
from .inference import mean_information
from .losses import match_divergence, objective
from .memory import Memory
from .model import Model
from .network import encoder_failure
from .runtime import sandbox, seeded_generator, take

__all__ = ["Optimizers", "TrainingResult", "prepare", "run_epoch", "settle", "train"]

_TRANSPORT = "network.transport."  # names of the arrays of the final map begin so
# All measured: docs/defaults.md.
_SPEED_TO_STOP = 2  # through the rest of the schedule, once patience has run out
_ROWS_DRAWN = 2048  # held-out rows times draws of their views and noise
_MOST_DRAWS = 8
_CLEARLY_BETTER = 0.05  # nats; held-out rows are too few to tell smaller differences
_SEEDS_APART = 7919  # between two of these draws


@dataclass
class TrainingResult:
    """What training returns; information and divergences are in nats.

    Attributes
    ----------
    weights : dict of str to ndarray
        Weights and buffers of the model by name; empty until training has ended.
    encoder : str or nn.Module
        Name of the encoder, or the user's module as trained.
    n_outputs : int
        Number of columns that the trained network returns.
    information : float
        Mutual information between codes and noisy codes or, without noise, features.
        Estimated with the trained model on training rows (``mean_information``).
    information_curve : list of float
        The same information during training, for each epoch: mean over batches.
    match_curve : list of float
        Sliced Kullback-Leibler divergence of codes from N(0, I), for each epoch: mean
        over batches.
    validation_curve : list of float
        The same information on held-out rows, for each epoch; empty if no rows are held
        out.
    interrupted : bool
        True if Ctrl-C was pressed: in an epoch, which ended training early, or in
        ``settle`` after the last one.
    memory : Memory or None
        Moments that ``calibrate`` computed, from which ``partial_fit`` goes on; None
        until training has ended.
    """

    weights: dict[str, np.ndarray] = field(default_factory=dict)
    encoder: str | nn.Module = ""
    n_outputs: int = 0
    information: float = math.nan
    information_curve: list[float] = field(default_factory=list)
    match_curve: list[float] = field(default_factory=list)
    validation_curve: list[float] = field(default_factory=list)
    interrupted: bool = False
    memory: Memory | None = None


@dataclass
class Optimizers:
    """The optimisers of one run of training, and the schedule of the learning rate.

    Attributes
    ----------
    encoder : AdamW
        Optimiser of all parameters of the network (encoder included) and the critics.
    schedule : OneCycleLR or None
        Sets the learning rate of the optimiser ``encoder`` step by step; None keeps
        this rate constant.
    discriminator : Adam or None
        Optimiser of the discriminator; None if the model has no discriminator.
    speed : float
        Number of steps of the schedule for each step of training.
    """

    encoder: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler | None
    discriminator: torch.optim.Optimizer | None
    speed: float = 1.0

    @classmethod
    def of(
        cls, model: Model, config: TrainingConfig, n_steps: int | None
    ) -> Optimizers:
        """Return new optimisers for a model.

        Parameters
        ----------
        model : Model
            Its parameters are optimised.
        config : TrainingConfig
            Gives learning rate and weight decay.
        n_steps : int or None
            Number of steps of the schedule, over which the learning rate first rises
            and then falls to almost 0.  None keeps the learning rate constant.

        Returns
        -------
        optimizers : Optimizers
        """
        encoder = torch.optim.AdamW(
            model.parameter_groups(config.learning_rate),
            config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        schedule = discriminator = None
        if n_steps is not None:
            rates = [group["lr"] for group in encoder.param_groups]
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                encoder, rates, total_steps=n_steps + 1, pct_start=0.15
            )
        if model.discriminator is not None:
            discriminator = model.discriminator.optimizer()
        return cls(encoder, schedule, discriminator)

    def step_schedule(self) -> None:
        """Set the learning rate of the next step, if there is a schedule."""
        if self.schedule is not None:
            self.schedule.last_epoch += self.speed - 1
            self.schedule.step()

    def hurry(self, n_epochs: int) -> int:
        """Go through the rest of the schedule faster, from now on.

        Stopping at once would leave a model trained at a high learning rate, which
        knows less than the same model after the rate has fallen.

        Parameters
        ----------
        n_epochs : int
            Number of epochs that are left.

        Returns
        -------
        n_epochs : int
            Number of epochs that are left now.  Unchanged if the schedule is already
            gone through faster.
        """
        if self.speed > 1 or not n_epochs:
            return n_epochs
        n_left = math.ceil(n_epochs / _SPEED_TO_STOP)
        self.speed = n_epochs / n_left
        return n_left

    def named(self) -> dict[str, torch.optim.Optimizer]:
        """Return a dict of the optimisers: "encoder" and, if any, "discriminator"."""
        both = {"encoder": self.encoder, "discriminator": self.discriminator}
        return {name: one for name, one in both.items() if one is not None}


def train(
    config: TrainingConfig,
    data: Data,
    validation_data: Data | None = None,
    *,
    weights: dict[str, np.ndarray] | None = None,
    watcher: Watcher | None = None,
) -> TrainingResult:
    """Train a model for ``fit``, for up to ``config.max_iter`` epochs.

    At the end, the moments that evaluation uses are set from all training rows.

    Parameters
    ----------
    config : TrainingConfig
        Configuration of the model and of training.
    data : Data
        Training rows.
    validation_data : Data or None, default=None
        Held-out rows.  The weights of the last epoch are kept, unless an epoch had 0.05
        nats more information on these rows; then, or if training was cut short, those
        of the best epoch.  After ``config.patience`` epochs without a rise in the
        second half of ``config.max_iter``, the rest of the schedule is gone through
        faster.  None keeps the weights of the last epoch.
    weights : dict of str to ndarray or None, default=None
        Weights to start from, with ``warm_start``; with held-out rows, they count as an
        epoch.  None draws new weights.
    watcher : Watcher or None, default=None
        Is called before and after every epoch, and may stop training.  None shows
        nothing.

    Returns
    -------
    result : TrainingResult
        Trained weights, and curves over epochs.  After Ctrl-C, what was learned until
        then.

    Raises
    ------
    ValueError
        If training diverges, ``weights`` are those of another model, or the user's
        encoder or augmentation does not fit the data.
    KeyboardInterrupt
        If Ctrl-C was pressed before the first step, or twice during ``settle``.
    """
    result, watcher = TrainingResult(), watcher or Watcher()
    if weights is not None:  # the final map is fitted anew
        weights = {k: v for k, v in weights.items() if not k.startswith(_TRANSPORT)}
    with sandbox(gradients=True, global_seed=config.model.global_seed(config.seed)):
        generator = seeded_generator(config.seed)
        noise = seeded_generator(config.seed + NOISE_STREAM, config.device)
        model, source = prepare(config, data, weights, generator)
        best = _BestEpoch(model, config, validation_data, source)
        if weights is not None:
            best.look(is_epoch=False)
        n_steps = config.max_iter * (len(source) // config.batch_size)
        optimizers = Optimizers.of(model, config, n_steps)
        n_left = config.max_iter
        try:
            while n_left:
                watcher.epoch_begins()
                information, divergence = run_epoch(
                    model, optimizers, source, config, generator, noise
                )
                validation = best.look()
                result.information_curve.append(information)
                result.match_curve.append(divergence)
                result.validation_curve += validation
                is_asked = watcher.epoch_ends(
                    result, lambda: _as_if_ended(model, config, source, result)
                )
                if is_asked:
                    break
                n_left -= 1
                if best.is_stale:
                    n_left = optimizers.hurry(n_left)
        except KeyboardInterrupt:
            if not optimizers.encoder.state:  # no step was taken
                raise
            result.interrupted = True
        best.restore(0.0 if n_left else _CLEARLY_BETTER)
    presses: list[int] = []
    try:
        with uninterrupted(at_most_once=True) as presses:
            settle(model, config, source, generator, result)
    except KeyboardInterrupt:
        if not result.weights:
            raise
    result.interrupted |= bool(presses)
    return result


def run_epoch(
    model: Model,
    optimizers: Optimizers,
    source: BatchSource,
    config: TrainingConfig,
    generator: torch.Generator,
    noise: torch.Generator,
) -> tuple[float, float]:
    """Train for one epoch: take a step for every full batch of the shuffled rows.

    Up to ``config.batch_size - 1`` rows, which do not fill a batch, are left out.

    Parameters
    ----------
    model : Model
        Is put into training mode, and changed.
    optimizers : Optimizers
        The optimisers of this model.
    source : BatchSource
        Draws batches of training rows.
    config : TrainingConfig
        Gives the batch size.
    generator : torch.Generator
        Shuffles the rows; on the CPU.
    noise : torch.Generator
        Draws views, noise and slices; on ``config.device``.

    Returns
    -------
    information : float
        Estimated mutual information (``losses.Objective``) in nats; mean over batches.
    divergence : float
        Sliced Kullback-Leibler divergence of codes from N(0, I) in nats; mean over
        batches.

    Raises
    ------
    ValueError
        If the objective or the codes are not finite, because training diverged.
    """
    model.train()
    log = []
    order = torch.randperm(len(source), generator=generator, device="cpu").numpy()
    n_batches = len(order) // config.batch_size
    for index in order[: n_batches * config.batch_size].reshape(n_batches, -1):
        batch = source.draw(index, noise)
        try:
            encoded = model.encode(batch)
        except torch.linalg.LinAlgError as error:  # whitening met NaN
            raise diverged(math.nan) from error
        if optimizers.discriminator is not None:
            codes = model.channel.squash(encoded.normalized.detach())
            draws = model.channel.sample(codes, noise)
            loss = model.discriminator.classification_loss(codes, draws)
            _step(optimizers.discriminator, loss)
        divergence = match_divergence(model, encoded, noise)
        value, information = objective(model, encoded, divergence, noise)
        # Read as numbers at once: small tensors that stay would fragment memory.
        figures = [information, divergence.detach(), value.detach()]
        figures = torch.stack(figures).tolist()
        checked(sum(figures))
        _step(optimizers.encoder, -value)
        optimizers.step_schedule()
        log.append(figures[:2])
    return tuple(np.mean(log, axis=0).tolist())


def _step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def prepare(
    config: TrainingConfig,
    data: Data,
    weights: dict[str, np.ndarray] | None,
    generator: torch.Generator,
    keeps_scaling: bool = False,
) -> tuple[Model, BatchSource]:
    """Return a model to train, and the source of its batches.

    The user's encoder and augmentations are first tried on two rows.

    Parameters
    ----------
    config : TrainingConfig
        Configuration of the model and of training.
    data : Data
        Training rows.
    weights : dict of str to ndarray or None
        Weights to start from; None draws new weights.
    generator : torch.Generator
        Draws new weights; on the CPU.
    keeps_scaling : bool, default=False
        True keeps the scaling of inputs that is stored in ``weights``.  False, or
        ``weights=None``, sets the scaling from ``config.scaling`` or, if that is None,
        from ``data``.

    Returns
    -------
    model : Model
        On ``config.device``.
    source : BatchSource
        Draws batches of scaled inputs from ``data``.

    Raises
    ------
    ValueError
        If ``weights`` are those of another model, or the user's encoder or augmentation
        does not fit the data.
    """
    model = Model(config.model, generator)
    if weights is not None:
        _load(model, weights)
    if weights is None or not keeps_scaling:
        model.network.input.fit(data.rows, config.scaling)
    model.network.input.to_dtype(torch.float32)
    model.to(config.device)
    _check_users_code(model, data, config.device)
    return model, _source(model, config, data)


def settle(
    model: Model,
    config: TrainingConfig,
    source: BatchSource,
    generator: torch.Generator,
    result: TrainingResult,
    memory: Memory | None = None,
) -> None:
    """End training: set the moments that evaluation uses, and fill in the result.

    The moments are computed from all training rows (``calibration.calibrate``).

    Parameters
    ----------
    model : Model
        Is changed, and put into evaluation mode.
    config : TrainingConfig
        Configuration of the model and of training.
    source : BatchSource
        Draws batches of training rows.
    generator : torch.Generator
        Shuffles the rows; on the CPU.
    result : TrainingResult
        Is changed: weights, encoder, number of outputs, information and memory are set.
    memory : Memory or None, default=None
        Moments of the rows of earlier calls of ``partial_fit``, which are averaged with
        those of ``source``.  None uses the rows of ``source`` alone.

    Raises
    ------
    ValueError
        If weights, moments or information are not finite, because training diverged.
    """
    with sandbox(gradients=False):  # no objective has checked the last step
        checked(float(sum(p.double().sum() for p in model.parameters())))
    result.memory = calibrate(model, config, source, generator, memory)
    remember_inputs(model.network, source, result.memory)
    result.information = checked(
        mean_information(model, source, config.batch_size, config.seed, MAX_BATCHES)
    )
    result.n_outputs = model.network.n_outputs
    result.encoder = config.model.network.encoder
    if config.model.network.is_own_encoder:
        model.zero_grad()
        result.encoder = model.network.encoder.cpu()
    result.weights = model.weights()


def _as_if_ended(
    model: Model, config: TrainingConfig, source: BatchSource, result: TrainingResult
) -> TrainingResult:
    """Return the result that training would have if it ended now, for callbacks.

    ``model``, ``config`` and ``source`` are those of the training in progress, and
    ``result`` holds its curves so far.  ``model`` and ``result`` stay unchanged,
    because copies are used.
    """
    model, result = copy.deepcopy(model), copy.deepcopy(result)
    settle(model, config, source, seeded_generator(config.seed), result)
    return result


def _load(model: Model, weights: dict[str, np.ndarray]) -> None:
    """Set all weights and buffers of ``model`` from ``weights``, arrays by name.

    For training that goes on from a fit.  Without arrays of the final map, the model
    keeps its own, which is fitted when training ends.

    Raises
    ------
    ValueError
        If names or shapes are not those of the model's weights and buffers.
    """
    state = {
        name: value
        for name, value in model.state_dict().items()
        if name.startswith(_TRANSPORT)
    }
    state |= {
        name: torch.tensor(value, device="cpu") for name, value in weights.items()
    }
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    if shapes != {name: tuple(v.shape) for name, v in model.state_dict().items()}:
        raise ValueError(
            "warm_start=True goes on from the fitted model, but other data or "
            "parameters ask for one of another shape; set warm_start=False, or put "
            "back what determines the shape."
        )
    model.load_state_dict(state)


def _source(
    model: Model,
    config: TrainingConfig,
    data: Data,
    lender: BatchSource | None = None,
) -> BatchSource:
    scale, pairs = model.network.input, config.model.pairs
    return BatchSource(data, scale, pairs, config.seed, config.device, lender)


def _check_users_code(model: Model, data: Data, device: torch.device) -> None:
    """Raise ValueError if the user's encoder or augmentation does not fit the data.

    Both are tried on the first two rows of ``data``, on ``device``, so that errors come
    before training.  Shapes are checked, views must be finite, and the encoder must
    have parameters that can be trained.
    """
    spec = model.spec
    inputs = model.network.input(take(data.rows, slice(2), device))
    for step in filter(callable, spec.pairs.augmentations):
        check_view(_tried_view(step, inputs), tuple(inputs.shape))
    try:
        outputs = model.network.encode(inputs)
    except RuntimeError as error:
        raise encoder_failure(inputs, error) from error
    check_shape("encoder", outputs, (len(inputs), spec.network.n_components))
    if not outputs.requires_grad:
        raise ValueError("The encoder must have parameters that can be trained.")


def _tried_view(augmentation: Callable[..., Any], inputs: Tensor) -> Any:
    """Return what the user's augmentation makes of ``inputs``.

    Raises
    ------
    ValueError
        If it cannot be called as ``(inputs, generator)``.
    """
    try:
        return augmentation(inputs.clone(), seeded_generator(0, inputs.device))
    except TypeError as error:
        raise ValueError(
            f"The 'views' callable is called as views(inputs, generator). Got "
            f"{getattr(augmentation, '__name__', augmentation)}, which failed so "
            f"({error}); pass a function of these two."
        ) from error


class _BestEpoch:
    """Remember the weights of the epoch with the most information on held-out rows.

    Parameters
    ----------
    model : Model
        The model in training.
    config : TrainingConfig
        Gives batch size, seed, ``max_iter`` and ``patience``.
    validation_data : Data or None
        Held-out rows.  With None, methods do nothing and ``is_stale`` is False.
    source : BatchSource
        The training rows: they calibrate the model, and views of held-out rows may take
        values from them.

    Attributes
    ----------
    is_stale : bool
        True if the information has not risen for ``config.patience`` epochs of the
        second half of ``config.max_iter``, else False.  In the first half the learning
        rate is high, and a rest says little about what comes when the rate falls.
    """

    def __init__(
        self,
        model: Model,
        config: TrainingConfig,
        validation_data: Data | None,
        source: BatchSource,
    ) -> None:
        self._model, self._config, self._training = model, config, source
        self._source = None
        if validation_data is not None:
            self._source = _source(model, config, validation_data, source)
            n_draws = min(_MOST_DRAWS, math.ceil(_ROWS_DRAWN / len(self._source)))
            self._seeds = [config.seed + _SEEDS_APART * i for i in range(n_draws)]
        self._information = self._last = -math.inf
        self._state = None
        self._n_epochs = self._n_stale = 0

    @property
    def is_stale(self) -> bool:
        return self._source is not None and self._n_stale >= self._config.patience

    def look(self, is_epoch: bool = True) -> list[float]:
        """Measure the information on held-out rows, after an epoch.

        The weights are remembered if this information is the largest so far.  It is
        that of the model as training would leave it now: a copy is calibrated.

        Parameters
        ----------
        is_epoch : bool, default=True
            False before the first epoch, if training goes on from a fit.

        Returns
        -------
        information : list of float
            One number in nats (``inference.mean_information``), the mean over up to 8
            draws of views and noise.  Empty without held-out rows.
        """
        if self._source is None:
            return []
        model, config = copy.deepcopy(self._model), self._config
        # The information is that of codes before the final map.
        model.network.transport = None
        calibrate(model, config, self._training, seeded_generator(config.seed))
        size = config.batch_size
        values = [mean_information(model, self._source, size, s) for s in self._seeds]
        value = checked(float(np.mean(values)))
        self._last = value
        self._n_epochs += is_epoch
        self._n_stale += self._n_epochs > self._config.max_iter / 2
        if value > self._information:
            self._information, self._n_stale = value, 0
            state = self._model.state_dict()
            self._state = {name: v.clone() for name, v in state.items()}
        return [value]

    def restore(self, margin: float = 0.0) -> None:
        """Give the model the weights that were remembered, if there are any.

        The weights stay as they are if the last information was less than ``margin``
        nats below the largest one.
        """
        if self._state is not None and self._information >= self._last + margin:
            self._model.load_state_dict(self._state)

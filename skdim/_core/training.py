"""The training loop: draw, encode, objective, step, log; then the end of training."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from .._utils.process import uninterrupted
from .._utils.progress import Watcher
from .batches import BatchSource, Data, check_shape, check_view
from .calibration import (
    MAX_BATCHES,
    NOISE_STREAM,
    Memory,
    calibrate,
    checked,
    diverged,
)
from .config import TrainingConfig
from .inference import mean_information, torch_type
from .losses import objective
from .model import Model
from .network import encoder_failure
from .runtime import sandbox, seeded_generator, take

__all__ = ["Optimizers", "TrainingResult", "prepare", "run_epoch", "settle", "train"]


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
        Information that the trained model reports for training rows, as of
        ``inference.mean_information``.
    information_curve : list of float
        Mean information that batches reported, for each epoch.
    match_curve : list of float
        Mean sliced Kullback-Leibler divergence of codes from N(0, I), for each epoch.
    validation_curve : list of float
        Information on held-out rows after each epoch; empty if none are held out.
    interrupted : bool
        True if Ctrl-C ended training early, else False.
    memory : Memory or None
        Moments of the codes, with which ``partial_fit`` goes on; None until training
        has ended.
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
        Of the network and the critics.
    schedule : OneCycleLR or None
        Learning rate of ``encoder`` step by step; None keeps it constant.
    discriminator : Adam or None
        Of the discriminator; None if the model has none.
    """

    encoder: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler | None
    discriminator: torch.optim.Optimizer | None

    @classmethod
    def of(
        cls, model: Model, config: TrainingConfig, n_steps: int | None
    ) -> Optimizers:
        """Return new optimisers for a model.

        Parameters
        ----------
        model : Model
        config : TrainingConfig
            Gives learning rate and weight decay.
        n_steps : int or None
            Number of steps of the schedule, over which the learning rate first rises
            and then falls to almost 0.  None keeps the learning rate constant.
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

    def named(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimisers that exist by name: "encoder" and "discriminator"."""
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
    """Train a model for up to ``config.max_iter`` epochs, and calibrate it.

    Parameters
    ----------
    config : TrainingConfig
    data : Data
        Training rows.
    validation_data : Data or None, default=None
        Held-out rows.  The weights of the epoch with the most information on them are
        kept, and training stops after ``config.patience`` epochs without a rise.  None
        keeps the weights of the last epoch.
    weights : dict of str to ndarray or None, default=None
        Weights to start from; with held-out rows, they are kept if no epoch is better.
        None draws new ones.
    watcher : Watcher or None, default=None
        Is called before and after every epoch, and may stop training.

    Returns
    -------
    result : TrainingResult
        After Ctrl-C, what was learned until then.

    Raises
    ------
    ValueError
        If training diverges, or the user's encoder or augmentation does not fit the
        data.
    KeyboardInterrupt
        If Ctrl-C was pressed before the first step.
    """
    result, watcher = TrainingResult(), watcher or Watcher()
    with sandbox(gradients=True, global_seed=config.model.global_seed(config.seed)):
        generator = seeded_generator(config.seed)
        noise = seeded_generator(config.seed + NOISE_STREAM, config.device)
        model, source = prepare(config, data, weights, generator)
        best = _BestEpoch(model, config, validation_data)
        if weights is not None:
            best.look()
        n_steps = config.max_iter * (len(source) // config.batch_size)
        optimizers = Optimizers.of(model, config, n_steps)
        try:
            for _ in range(config.max_iter):
                watcher.epoch_begins()
                information, divergence = run_epoch(
                    model, optimizers, source, config, generator, noise
                )
                result.information_curve.append(information)
                result.match_curve.append(divergence)
                result.validation_curve += best.look()
                is_asked = watcher.epoch_ends(
                    result, lambda: _as_if_ended(model, config, source, result)
                )
                if is_asked or best.is_stale:
                    break
        except KeyboardInterrupt:
            if not optimizers.encoder.state:  # no step was taken
                raise
            result.interrupted = True
        best.restore()
    presses: list[int] = []
    try:
        with uninterrupted() as presses:
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

    Rows that do not fill a batch are left out.

    Parameters
    ----------
    model : Model
        Is put into training mode, and changed.
    optimizers : Optimizers
    source : BatchSource
        Training rows.
    config : TrainingConfig
        Gives the batch size.
    generator : torch.Generator
        Shuffles the rows; on the CPU.
    noise : torch.Generator
        Draws views, noise and slices; on ``config.device``.

    Returns
    -------
    information, divergence : float
        Reported information, and sliced Kullback-Leibler divergence of codes from N(0,
        I), in nats; means over batches.

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
        value, information, divergence = objective(model, encoded, noise)
        # Read as numbers at once: small tensors that stay would fragment memory.
        figures = torch.stack([information, divergence, value.detach()]).tolist()
        checked(sum(figures))
        _step(optimizers.encoder, -value)
        if optimizers.schedule is not None:
            optimizers.schedule.step()
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

    Parameters
    ----------
    config : TrainingConfig
    data : Data
        Training rows.
    weights : dict of str to ndarray or None
        Weights to start from; None draws new ones.
    generator : torch.Generator
        Draws new weights.
    keeps_scaling : bool, default=False
        True keeps the scaling of inputs that ``weights`` hold, if they are given.
        False sets it from ``config.scaling`` or, if that is None, from ``data``.

    Returns
    -------
    model : Model
    source : BatchSource

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
    model.network.input.to(torch_type(data.rows))
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
    """End training: calibrate the model, measure its information, fill in the result.

    Calibration sets the moments that evaluation uses, from all training rows.

    Parameters
    ----------
    model : Model
        Is changed, and put into evaluation mode.
    config : TrainingConfig
    source : BatchSource
        Training rows.
    generator : torch.Generator
        Shuffles the rows.
    result : TrainingResult
        All of it is set, except its curves and ``interrupted``.
    memory : Memory or None, default=None
        Moments of earlier calls of ``partial_fit``; None uses these rows alone.

    Raises
    ------
    ValueError
        If weights, moments or information are not finite, because training diverged.
    """
    with sandbox(gradients=False):  # no objective has checked the last step
        checked(float(sum(p.double().sum() for p in model.parameters())))
    result.memory = calibrate(model, config, source, generator, memory)
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

    ``result`` holds the curves so far.  Copies of ``model`` and ``result`` are used,
    and the originals stay unchanged.
    """
    model, result = copy.deepcopy(model), copy.deepcopy(result)
    settle(model, config, source, seeded_generator(config.seed), result)
    return result


def _load(model: Model, weights: dict[str, np.ndarray]) -> None:
    """Set all weights and buffers of a model from arrays by name.

    Raises
    ------
    ValueError
        If they are those of another model, by their names or shapes.
    """
    state = {name: torch.tensor(value, device="cpu") for name, value in weights.items()}
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    if shapes != {name: tuple(v.shape) for name, v in model.state_dict().items()}:
        raise ValueError(
            "warm_start=True goes on from the fitted model, but other data or "
            "parameters ask for one of another shape; set warm_start=False, or put "
            "back what determines the shape."
        )
    model.load_state_dict(state)


def _source(model: Model, config: TrainingConfig, data: Data) -> BatchSource:
    pairs = config.model.pairs
    return BatchSource(data, model.network.input, pairs, config.seed, config.device)


def _check_users_code(model: Model, data: Data, device: torch.device) -> None:
    """Raise ValueError if the user's encoder or augmentation does not fit the data.

    Both are tried on the first two rows of ``data``.
    """
    spec = model.spec
    inputs = model.network.input(take(data.rows, slice(2), device))
    for step in filter(callable, spec.pairs.augmentations):
        view = step(inputs.clone(), seeded_generator(0, device))
        check_view(view, tuple(inputs.shape))
    try:
        outputs = model.network.encode(inputs)
    except RuntimeError as error:
        raise encoder_failure(inputs, error) from error
    check_shape("encoder", outputs, (len(inputs), spec.network.n_components))
    if not outputs.requires_grad:
        raise ValueError("The encoder must have parameters that can be trained.")


class _BestEpoch:
    """Remember the weights of the epoch with the most information on held-out rows.

    Parameters
    ----------
    model : Model
        The model in training.
    config : TrainingConfig
    validation_data : Data or None
        Held-out rows; None makes all methods do nothing.

    Attributes
    ----------
    is_stale : bool
        True if the information has not risen for ``config.patience`` epochs, else
        False.
    """

    def __init__(
        self, model: Model, config: TrainingConfig, validation_data: Data | None
    ) -> None:
        self._model, self._config = model, config
        self._source = None
        if validation_data is not None:
            self._source = _source(model, config, validation_data)
        self._information, self._state, self._n_stale = -math.inf, None, 0

    @property
    def is_stale(self) -> bool:
        return self._source is not None and self._n_stale >= self._config.patience

    def look(self) -> list[float]:
        """Measure the information on held-out rows; remember the weights if it rose.

        The model is left in evaluation mode, which uses running moments of the codes
        here.

        Returns
        -------
        information : list of float
            One number in nats, or none without held-out rows.
        """
        if self._source is None:
            return []
        model, config = self._model.eval(), self._config
        model.network.normalizer.use_running_moments()
        value = checked(
            mean_information(model, self._source, config.batch_size, config.seed)
        )
        self._n_stale += 1
        if value > self._information:
            self._information, self._n_stale = value, 0
            state = model.state_dict()
            self._state = {name: v.clone() for name, v in state.items()}
        return [value]

    def restore(self) -> None:
        """Give the model the weights that were remembered, if there are any."""
        if self._state is not None:
            self._model.load_state_dict(self._state)

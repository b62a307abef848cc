"""The model that is trained: network, channel, critic and objective together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ._channels import CHANNELS, Channel
from ._critics import CRITICS
from ._network import NetworkSpec, build_network
from ._objectives import OBJECTIVES
from ._rows import batches
from ._runtime import sandbox, seeded_generator, take
from ._slices import radial_gap, random_directions, sliced_gap
from ._source import Source, nearest
from ._views import VIEWS

__all__ = [
    "EVALUATION",
    "NOISE",
    "InfoMax",
    "ModelSpec",
    "Terms",
    "ViewSpec",
    "check_shape",
    "check_view",
    "even_batches",
    "information",
    "make_source",
    "restored",
    "torch_type",
    "transform",
]


# Added to the fitted seed: streams that must not be those of the weights and batches.
NOISE, EVALUATION = 1, 2

# Slices of each step; few where they are only looked at.
_N_SLICES, _N_SLICES_SEEN = 128, 8
_RADIAL_SHARE = 1 / 16  # of the weight of slices

UserView = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class ViewSpec:
    """How the two sides of a pair are made from one row.

    Parameters
    ----------
    steps : tuple of str or callable
        Keys of ``VIEWS`` and functions ``(inputs, generator) -> inputs``, in order.
    strength : float or None
        Of every named step; None is each one's own default.
    n_neighbors : int
        Of the steps that take cells of near rows.
    sides : {"both", "one"}
        Whether the row that is sent is altered too.
    n_views : int
        Number of views that are compared with what was sent.
    """

    steps: tuple[str | UserView, ...] = ()
    strength: float | None = None
    n_neighbors: int = 5
    sides: str = "both"
    n_views: int = 1

    @property
    def needs_neighbors(self) -> bool:
        """Whether a step takes cells of near rows."""
        named = (VIEWS[step] for step in self.steps if isinstance(step, str))
        return any(view.source == "neighbors" for view in named)


@dataclass(frozen=True)
class ModelSpec:
    """What is needed to build the model again, its weights aside.

    ``noise_distribution``, ``critic`` and ``objective`` are keys of the tables;
    ``n_draws`` is how often the noise is drawn for each code in training.
    """

    network: NetworkSpec
    noise_distribution: str
    noise_scale: float
    critic: str
    objective: str
    views: ViewSpec = ViewSpec()
    is_supervised: bool = False
    agreement_weight: float = 0.0
    sliced_weight: float = 0.0
    n_draws: int = 1

    @property
    def channel(self) -> Channel:
        """The channel of the chosen noise."""
        return CHANNELS[self.noise_distribution](self.noise_scale)

    @property
    def has_pairs(self) -> bool:
        """Whether a code is compared with another code than the one that was sent."""
        return bool(self.views.steps) or self.is_supervised

    def global_seed(self, seed: int) -> int | None:
        """Return ``seed`` if code of the user's runs inside, which may need it."""
        own_views = any(callable(step) for step in self.views.steps)
        return seed if own_views or self.network.is_own_encoder else None


class Terms(NamedTuple):
    """What a batch is worth."""

    objective: Tensor  # what is maximised
    information: Tensor  # a lower bound, in nats, without gradient
    gap: Tensor  # what slices lack to their capacity, in nats


class InfoMax(nn.Module):
    """Bound on ``I(f(x'); f(x) + z)``, the objective of arXiv 2410.06993, section 3."""

    def __init__(self, spec: ModelSpec, generator: torch.Generator | None) -> None:
        super().__init__()
        self.spec = spec
        self.channel = spec.channel
        self.network = build_network(spec.network, generator)
        n_components = spec.network.n_components
        self.critic = CRITICS[spec.critic](
            self.channel, n_components, spec.has_pairs, generator
        )
        self.objective = OBJECTIVES[spec.objective]

    def forward(
        self, source: Source, index: np.ndarray, generator: torch.Generator
    ) -> Terms:
        """Return what the rows of these indices give, noise and views drawn afresh."""
        codes, n_sent = self._codes(source, index, generator)
        gap, lack = self._gaps(codes[:n_sent], generator)
        sent, *seen = self.channel.squash(codes).split(len(index))
        bounds = []
        for u in seen or [sent]:
            self.critic.observe(u, sent)
            for _ in range(self.spec.n_draws if self.training else 1):
                received = sent + self.channel.noise(sent, generator)
                bounds.append(self._bound(u, sent, received))
        objective, information = (
            torch.stack(part).mean() for part in zip(*bounds, strict=True)
        )
        objective = objective - self.spec.sliced_weight * lack
        return Terms(objective, information, gap.detach())

    def pairs(
        self, source: Source, index: np.ndarray, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return codes of views and the codes that were sent, row by row."""
        codes, _ = self._codes(source, index, generator)
        sent, *seen = self.channel.squash(codes).split(len(index))
        return torch.cat(seen), sent.repeat(len(seen), 1)

    def _codes(
        self, source: Source, index: np.ndarray, generator: torch.Generator
    ) -> tuple[Tensor, int]:
        """Return codes of what is sent and then of each view; and how many are bound.

        Bound to mean 0 and variance 1 are the codes that are sent; views are too where
        both sides are made alike.
        """
        if not self.spec.has_pairs:
            return self.network.code(self.network.input(source.take(index))), len(index)
        views = self.spec.views
        alike = views.sides == "both"
        sides = [self._side(source, index, generator, altered=alike)]
        sides += [self._side(source, index, generator) for _ in range(views.n_views)]
        inputs = torch.cat(sides)
        n_bound = len(inputs) if alike else len(index)
        return self.network.code(inputs, None if alike else n_bound), n_bound

    def _side(
        self,
        source: Source,
        index: np.ndarray,
        generator: torch.Generator,
        altered: bool = True,
    ) -> Tensor:
        """Return scaled inputs of one side of the pairs."""
        if not altered:
            return self.network.input(source.take(index))
        index = source.partners(index, generator)
        inputs = self.network.input(source.take(index))
        views = self.spec.views
        for step in views.steps:
            if callable(step):
                shape = tuple(inputs.shape)
                inputs = step(inputs, generator)
                check_view(inputs, shape)
                continue
            view = VIEWS[step]
            other = []
            if view.source == "neighbors":
                other = [self.network.input(source.neighbors(index, generator))]
            strength = view.strength if views.strength is None else views.strength
            inputs = view.alter(inputs, *other, strength, generator)
        return inputs

    def _bound(
        self, u: Tensor, sent: Tensor, received: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what is maximised, and the information to report."""
        scores = self.critic(u, received)
        objective = self.objective.maximized(scores)
        is_agreement = self.objective.is_for_densities
        if weight := 1.0 if is_agreement else self.spec.agreement_weight:
            agreed = self.critic.agreement(u, sent, scores)
            objective = torch.lerp(objective, agreed, weight)
        with torch.no_grad():
            scores = self.critic.judged(u, received, scores)
            return objective, self.objective.estimate(scores)

    def _gaps(self, codes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the mean gap of random slices, and that with the gap of the norms.

        Only training asks for it.
        """
        zero = codes.new_zeros(())
        if not self.training:
            return zero, zero
        is_used = self.spec.sliced_weight > 0
        n_slices = _N_SLICES if is_used else _N_SLICES_SEEN
        with nullcontext() if is_used else torch.no_grad():
            shape = codes.shape[1], n_slices
            directions = random_directions(*shape, codes, generator)
            gap = sliced_gap(codes, directions)
            if not is_used:
                return gap, zero
            return gap, gap + _RADIAL_SHARE * radial_gap(codes)

    def weights(self) -> dict[str, np.ndarray]:
        """Return all weights as arrays that no device or torch is needed to hold.

        Contiguous, as a pickle returns them: sums of another layout round differently.
        """
        state = self.state_dict()
        return {
            name: np.array(value.detach().cpu().numpy(), order="C")
            for name, value in state.items()
        }


def check_shape(name: str, output: object, expected: tuple[int, ...]) -> None:
    """Raise ValueError if this is no tensor of that shape."""
    got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output)
    if got != expected:
        raise ValueError(
            f"The {name} must return a tensor of shape {expected} for a batch of "
            f"{expected[0]} rows. Got {got} instead."
        )


def check_view(view: object, expected: tuple[int, ...]) -> None:
    """Raise ValueError if a view of the user's has another shape, or NaN."""
    check_shape("'views' callable", view, expected)
    if not torch.isfinite(view).all():
        raise ValueError("The 'views' callable must return finite numbers.")


@contextmanager
def restored(
    spec: ModelSpec,
    weights: dict[str, np.ndarray],
    rows: Any,
    seed: int,
    device: torch.device,
) -> Iterator[InfoMax]:
    """Build a trained model that computes in the type of ``rows``, in a sandbox."""
    with sandbox(gradients=False, global_seed=spec.global_seed(seed)):
        model = InfoMax(spec, generator=None)
        state = {k: torch.tensor(v, device="cpu") for k, v in weights.items()}
        model.load_state_dict(state, assign=True)
        model.to(device, torch_type(rows)).eval()
        if model.network.is_own_encoder:
            model.network.encoder.float()
        yield model


def transform(
    model: InfoMax, rows: Any, device: torch.device, to: torch.device | str = "cpu"
) -> Tensor:
    """Return the standard outputs of all rows, without noise, on device ``to``."""
    shape = (len(rows), model.network.n_outputs)
    with torch.inference_mode(False):  # or the caller could not compute with it
        outputs = torch.empty(shape, dtype=torch_type(rows), device=to)
    for chunk in batches(len(rows), math.prod(rows.shape[1:])):
        outputs[chunk] = model.network(take(rows, chunk, device)).to(to)
    return outputs


def make_source(
    model: InfoMax,
    rows: Any,
    seed: int,
    device: torch.device,
    labels: np.ndarray | None = None,
) -> Source:
    """Return rows to take batches from, with their neighbours if these are needed."""
    spec, near = model.spec, None
    in_class = labels is not None and not spec.network.is_image
    if spec.views.needs_neighbors or in_class:
        n_neighbors = spec.views.n_neighbors
        with sandbox(gradients=False):
            near = nearest(rows, model.network.input, n_neighbors, labels, seed, device)
    return Source(rows, device, near, labels)


def information(
    model: InfoMax,
    source: Source,
    batch_size: int,
    seed: int,
    max_batches: int | None = None,
) -> float:
    """Return the bound, averaged over batches of one size.

    The order of the rows, the views and the noise depend on ``seed`` only.
    """
    generator = seeded_generator(seed + EVALUATION, source.device)
    with sandbox(gradients=False, global_seed=model.spec.global_seed(seed)):
        batched = even_batches(len(source), batch_size, seed)[:max_batches]
        values = [
            float(model(source, index, generator).information) for index in batched
        ]
        return float(np.mean(values))


def even_batches(n_rows: int, batch_size: int, seed: int) -> np.ndarray:
    """Return indices of shape (n_batches, batch_size), shuffled.

    The last batch is filled up with rows from the beginning, because the size of a
    batch sets how much a bound can report.
    """
    batch_size = min(batch_size, n_rows)
    order = np.random.default_rng(seed).permutation(n_rows)
    return np.resize(order, (-(-n_rows // batch_size), batch_size))


def torch_type(rows: Any) -> torch.dtype:
    """Return the type to compute in: double for double precision, else single."""
    is_double = rows.dtype in (torch.float64, np.dtype("<f8"), np.dtype(">f8"))
    return torch.float64 if is_double else torch.float32

"""Terms of what is maximised; the model adds up whichever it has.

Each sees what the network made of a batch and returns what it is worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ._core.bounds import BOUNDS, Bound
from ._core.channels import Channel
from ._critics import LEARNED, Critic
from ._critics import build as build_critic
from ._encoders import linear, multilayer_perceptron
from ._network import Network, NetworkSpec
from ._slices import radial_gap, random_directions, sliced_gap
from ._spec import ModelSpec

__all__ = [
    "ChannelTerm",
    "ColumnGroups",
    "Encoded",
    "FeatureTerm",
    "PriorTerm",
    "SlicedTerm",
    "Term",
    "Worth",
    "build_terms",
]


class Encoded(NamedTuple):
    """What the network makes of a batch.

    ``features`` belong to ``seen``: the views, or without any the rows that are sent
    themselves.
    """

    sent: Tensor  # (n_rows, n_components)
    seen: list[Tensor]  # of each view, the same shape
    bound: Tensor  # the codes that are held to the law
    features: list[Tensor]  # (n_rows, n_channels, ...), if a term asks for them


class Worth(NamedTuple):
    """What a batch is worth to a term."""

    objective: Tensor | None  # what is maximised, times the term's weight
    information: Tensor | None = None  # in nats, without gradient


def _mean_worth(worths: list[tuple[Tensor, Tensor]]) -> Worth:
    """Return means of objectives and of information."""
    return Worth(*(torch.stack(part).mean() for part in zip(*worths, strict=True)))


class Term(nn.Module):
    """Base of all terms.

    Attributes
    ----------
    weight : float
    learning_rate_factor : float
        Rate of the parameters of ``learned``, as a multiple of the encoder's.
    """

    learning_rate_factor = 1.0

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def learned(self) -> list[nn.Parameter]:
        """Return the parameters that the encoder's optimiser moves too."""
        return list(self.parameters())

    def start(self) -> torch.optim.Optimizer | None:
        """Return the optimiser that the term has of its own; most have none."""
        return None

    def forget(self) -> None:
        """Drop what is held of batches before, which may be no number."""

    def forward(self, encoded: Encoded, generator: torch.Generator) -> Worth:
        """Return what a batch is worth."""
        raise NotImplementedError


class ChannelTerm(Term):
    """Bound on ``I(f(x'); f(x) + z)``, the objective of arXiv 2410.06993, section 3.

    Parameters
    ----------
    channel : Channel
    critic : Critic
    bound : Bound
    agreement_weight : float
        Share of the agreement bound in what is maximised.
    n_draws : int
        How often the noise is drawn for each code in training.
    """

    def __init__(
        self,
        channel: Channel,
        critic: Critic,
        bound: Bound,
        agreement_weight: float,
        n_draws: int,
    ) -> None:
        super().__init__(weight=1.0)
        self.channel, self.critic, self.bound = channel, critic, bound
        self.agreement_weight = agreement_weight
        self.n_draws = n_draws
        self.learning_rate_factor = critic.learning_rate_factor

    def forget(self) -> None:
        self.critic.forget()

    def forward(self, encoded: Encoded, generator: torch.Generator) -> Worth:
        sent, bounds = self.channel.squash(encoded.sent), []
        for u in map(self.channel.squash, encoded.seen):
            self.critic.observe(u, sent)
            for _ in range(self.n_draws if self.training else 1):
                received = sent + self.channel.noise(sent, generator)
                bounds.append(self._bound(u, sent, received))
        return _mean_worth(bounds)

    def _bound(
        self, u: Tensor, sent: Tensor, received: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what is maximised, and the information to report."""
        scores = self.critic(u, received)
        objective = self.bound.objective(scores)
        if self.agreement_weight:
            agreed = self.critic.agreement(u, sent, scores)
            objective = torch.lerp(objective, agreed, self.agreement_weight)
        with torch.no_grad():
            scores = self.critic.judged(u, received, scores)
            return objective, self.bound.estimate(scores)


class SlicedTerm(Term):
    """What random slices and norms of the codes lack to their capacity, in nats.

    A weight of 0 only looks at few slices.  Only training asks for it.
    """

    n_slices, n_slices_seen = 128, 8
    radial_share = 1 / 16  # of the weight of slices

    def __init__(self, weight: float) -> None:
        super().__init__(weight)
        self.gap = math.nan  # of the slices of the last batch, in nats

    def forward(self, encoded: Encoded, generator: torch.Generator) -> Worth:
        codes = encoded.bound
        if not self.training:
            self.gap = codes.new_zeros(())
            return Worth(None)
        with torch.set_grad_enabled(self.weight > 0):
            n_slices = self.n_slices if self.weight else self.n_slices_seen
            shape = codes.shape[1], n_slices
            gap = sliced_gap(codes, random_directions(*shape, codes, generator))
            self.gap = gap.detach()
            if not self.weight:
                return Worth(None)
            return Worth(-(gap + self.radial_share * radial_gap(codes)))


class ColumnGroups(nn.Module):
    """Features of a table at positions: of each group of columns that stand together.

    What patches are to an image; each group has weights of its own.
    """

    most, n_channels = 8, 64

    def __init__(self, n_columns: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.n_positions = min(self.most, n_columns)
        self.layers = nn.ModuleList(
            linear(len(part), self.n_channels, generator)
            for part in torch.arange(n_columns).tensor_split(self.n_positions)
        )

    def forward(self, columns: Tensor) -> Tensor:
        """Return features of shape (n_rows, n_channels, n_positions)."""
        parts = columns.tensor_split(self.n_positions, dim=1)
        pairs = zip(self.layers, parts, strict=True)
        return torch.stack([layer(part) for layer, part in pairs], 2).relu()


class FeatureTerm(Term):
    """Information between the code and features of the encoder; arXiv 1808.06670.

    Global (equation 5 there): the features as a whole.  Local (equation 6): those at
    each position, averaged over positions.

    Parameters
    ----------
    weight : float
    spec : ModelSpec
        Of the critic, the objective and the channel that codes go through.
    shape : tuple of int
        Numbers of channels and of positions of the features.
    is_local : bool
    groups : ColumnGroups or None
        What makes the features of a table at positions.
    generator : torch.Generator or None
    """

    # Positions of each batch: memory grows with them, and with pairs written out more.
    most_positions: ClassVar = {"separable": 16, "bilinear": 16, "concatenated": 2}

    def __init__(
        self,
        weight: float,
        spec: ModelSpec,
        shape: tuple[int, int],
        is_local: bool,
        groups: ColumnGroups | None,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__(weight)
        self.bound, self.channel = BOUNDS[spec.objective], spec.channel
        self.is_local, self.groups = is_local, groups
        n_channels, self.n_positions = shape
        self.n_chosen = min(self.n_positions, self.most_positions[spec.feature_critic])
        n_u = n_channels if is_local else n_channels * self.n_positions
        n_y = spec.network.n_components
        self.critic = LEARNED[spec.feature_critic](n_u, n_y, generator)
        self.learning_rate_factor = self.critic.learning_rate_factor

    def forward(self, encoded: Encoded, generator: torch.Generator) -> Worth:
        sent = self.channel.squash(encoded.sent)
        worths = []
        for features in encoded.features:
            received = sent + self.channel.noise(sent, generator)
            scores = self.critic(self._chosen(features, generator), received)
            value = self.bound.objective(scores)
            worths.append((value, self.bound.estimated(scores.detach(), value)))
        return _mean_worth(worths)

    def _chosen(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Return features, whole or at some positions: (n_positions, n_rows, ...)."""
        if not self.is_local:
            return features.flatten(1)
        if self.groups is not None:
            features = self.groups(features)
        maps = features.flatten(2).permute(2, 0, 1)
        if self.n_chosen == self.n_positions:
            return maps
        order = torch.randperm(
            self.n_positions, generator=generator, device=generator.device
        )
        return maps[order[: self.n_chosen]]


class PriorTerm(Term):
    """Adversarial match to the law; equation (7) of arXiv 1808.06670.

    A discriminator learns to tell codes from draws of the law, by an optimiser of its
    own, one step a batch, whose rate is always the same; the encoder learns to be taken
    for the law, by the non-saturating loss of Goodfellow et al., arXiv 1406.2661.

    Parameters
    ----------
    weight : float
    channel : Channel
        Whose law is the prior.
    n_components : int
    generator : torch.Generator or None
    """

    hidden_layer_sizes = (1000, 200)  # as in arXiv 1808.06670
    learning_rate = 2e-3  # 20 times the paper's, which takes far more steps
    betas = (0.5, 0.999)  # less momentum, as is usual where two play against each other

    def __init__(
        self,
        weight: float,
        channel: Channel,
        n_components: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__(weight)
        self.channel = channel
        sizes = self.hidden_layer_sizes
        self.discriminator = multilayer_perceptron(n_components, sizes, generator)
        self.discriminator.append(linear(sizes[-1], 1, generator))
        self.forget()

    def learned(self) -> list[nn.Parameter]:
        return []

    def forget(self) -> None:
        self.optimizer = None

    def start(self) -> torch.optim.Optimizer:
        """Return the optimiser of the discriminator, a new one if there is none."""
        if self.optimizer is None:
            parameters = self.discriminator.parameters()
            self.optimizer = torch.optim.Adam(
                parameters, self.learning_rate, betas=self.betas, fused=True
            )
        return self.optimizer

    def forward(self, encoded: Encoded, generator: torch.Generator) -> Worth:
        if not self.training:
            return Worth(None)
        codes = self.channel.squash(encoded.bound)
        self._learn(codes.detach(), self.channel.sample(codes.detach(), generator))
        with self._fixed():
            return Worth(-softplus(-self.discriminator(codes)).mean())

    def _learn(self, codes: Tensor, law: Tensor) -> None:
        """Take a step of the discriminator."""
        optimizer = self.start()
        is_law, is_code = self.discriminator(torch.cat([law, codes])).split(len(law))
        optimizer.zero_grad()
        (softplus(-is_law).mean() + softplus(is_code).mean()).backward()
        optimizer.step()

    @contextmanager
    def _fixed(self) -> Iterator[None]:
        """Let no gradient reach the discriminator's weights."""
        self.discriminator.requires_grad_(False)
        try:
            yield
        finally:
            self.discriminator.requires_grad_(True)


def build_terms(
    spec: ModelSpec, network: Network, generator: torch.Generator | None
) -> dict[str, Term]:
    """Return the terms of a model by name, in the order they are computed in."""
    terms: dict[str, Term] = {"sliced": SlicedTerm(spec.sliced_weight)}
    if spec.critic is not None:
        terms["channel"] = _channel_term(spec, generator)
    for name in ("global", "local"):
        if weight := getattr(spec, f"{name}_weight"):
            is_local = name == "local"
            terms[name] = _feature_term(spec, weight, is_local, network, generator)
    if weight := spec.prior_weight:
        n_components = spec.network.n_components
        terms["prior"] = PriorTerm(weight, spec.channel, n_components, generator)
    return terms


def _channel_term(spec: ModelSpec, generator: torch.Generator | None) -> ChannelTerm:
    channel, n_components = spec.channel, spec.network.n_components
    critic = build_critic(spec.critic, channel, n_components, spec.has_pairs, generator)
    bound = BOUNDS[spec.objective]
    return ChannelTerm(channel, critic, bound, spec.agreement_weight, spec.n_draws)


def _feature_term(
    spec: ModelSpec,
    weight: float,
    is_local: bool,
    network: Network,
    generator: torch.Generator | None,
) -> FeatureTerm:
    (n_channels, *places), groups = network.feature_shape(), None
    shape = n_channels, math.prod(places)
    if is_local and not places:
        _check_is_table(spec.network, network)
        groups = ColumnGroups(n_channels, generator)
        shape = groups.n_channels, groups.n_positions
    return FeatureTerm(weight, spec, shape, is_local, groups, generator)


def _check_is_table(spec: NetworkSpec, network: Network) -> None:
    """Raise ValueError if features without positions are those of images."""
    if not spec.is_image:
        return
    kind = type(network.encoder).__name__
    got = f"a module of type {kind}" if spec.is_own_encoder else repr(spec.encoder)
    raise ValueError(
        f"local_weight above 0 needs an encoder of images whose features keep their "
        f"positions, such as encoder='conv'. Got {got} instead; set local_weight=0, or "
        f"use encoder='conv'."
    )

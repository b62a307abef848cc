"""The model: the network with its critics and, for a prior, its discriminator."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .adversary import Discriminator
from .batches import Batch
from .channels import CHANNELS
from .config import ModelSpec
from .critics import CRITICS, Critic, channel_critic
from .features import build_feature_critic
from .network import build_network

__all__ = ["Encoded", "Model"]


class Encoded(NamedTuple):
    """Codes of a batch, of mean 0 and variance 1, and features.

    ``features`` are those of the views, or without pairs those of the rows.
    """

    codes: Tensor  # of the rows, which go through the noise: (n_rows, n_components)
    views: list[Tensor]  # what they are compared with, each of that shape
    normalized: Tensor  # all codes that are held to the distribution
    features: tuple[Tensor, ...]  # each (n_rows, n_channels, ...); empty if unused


class Model(nn.Module):
    """Network, critics and discriminator; ``losses.objective`` says how it is trained.

    Parameters
    ----------
    spec : ModelSpec
    generator : torch.Generator or None
        Draws the weights; None leaves them unset, to be loaded.

    Attributes
    ----------
    network : Network
    critics : nn.ModuleDict
        For the terms that exist: "channel", "global", "local".
    discriminator : Discriminator or None
    feature_weights : dict of str to float
        Weights of "global" and "local", where these exist.
    """

    def __init__(self, spec: ModelSpec, generator: torch.Generator | None) -> None:
        super().__init__()
        self.spec = spec
        self.channel = CHANNELS[spec.noise_distribution](spec.noise_scale)
        self.network = build_network(spec.network, generator)
        weights = {"global": spec.global_weight, "local": spec.local_weight}
        self.feature_weights = {name: w for name, w in weights.items() if w}
        critics = {}
        if spec.critic is not None:
            critics["channel"] = self._code_critic(generator)
        for name in self.feature_weights:
            is_local = name == "local"
            critics[name] = build_feature_critic(
                spec, self.network, is_local, generator
            )
        self.critics = nn.ModuleDict(critics)
        self.discriminator = None
        if spec.prior_weight:
            self.discriminator = Discriminator(spec.network.n_components, generator)

    def _code_critic(self, generator: torch.Generator | None) -> Critic:
        """Return the critic between codes and noisy codes."""
        name, n_components = self.spec.critic, self.spec.network.n_components
        if name == "channel":
            has_pairs = self.spec.pairs.has_pairs
            return channel_critic(self.channel, n_components, has_pairs)
        return CRITICS[name](n_components, n_components, generator)

    def encode(self, batch: Batch) -> Encoded:
        """Return the codes of a batch.

        Rows and views are normalised together, by moments of both where both are made
        in the same way, and otherwise by those of the rows.
        """
        n_rows = len(batch.rows)
        alike = not batch.views or self.spec.pairs.sides == "both"
        inputs = torch.cat([batch.rows, *batch.views])
        features = ()
        if self.feature_weights:
            features, outputs = self.network.features_and_output(inputs)
            features = features.split(n_rows)
        else:
            outputs = self.network.encode(inputs)
        normalized = self.network.normalized(outputs, None if alike else n_rows)
        codes, *views = normalized.split(n_rows)
        return Encoded(
            codes,
            views or [codes],
            normalized if alike else codes,
            features[1:] or features,
        )

    def code_pairs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return codes of views and codes of their rows, in the channel's units.

        Both have the shape (n_views * n_rows, n_components).
        """
        encoded, squash = self.encode(batch), self.channel.squash
        views = squash(torch.cat(encoded.views))
        return views, squash(encoded.codes).repeat(len(encoded.views), 1)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        """Return what the encoder's optimiser moves: the network and the critics.

        Critics have no weight decay and may have a learning rate of their own.
        """
        groups = [{"params": list(self.network.parameters())}]
        for critic in self.critics.values():
            if parameters := list(critic.parameters()):
                rate = learning_rate * critic.learning_rate_factor
                groups.append({"params": parameters, "weight_decay": 0.0, "lr": rate})
        return groups

    def weights(self) -> dict[str, np.ndarray]:
        """Return all weights and buffers as arrays, by name.

        Contiguous, as a pickle returns them: sums in another layout round differently.
        """
        state = self.state_dict()
        return {
            name: np.array(value.detach().cpu().numpy(), order="C")
            for name, value in state.items()
        }

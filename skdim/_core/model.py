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
    """Codes and features of a batch, from which the objective is computed.

    Codes have mean 0 and variance 1, unless the network does not normalise them.
    """

    # Codes of the rows, to which noise is added; of shape (n_rows, n_components).
    codes: Tensor
    # Codes of each view, of the same shape; without views, ``[codes]``.
    views: list[Tensor]
    # All codes that the objective holds to the target distribution, in one tensor:
    # ``codes``, and ``views`` if both are augmented.
    normalized: Tensor
    # Features of each view, or without views of the rows; each of shape (n_rows,
    # n_channels, ...).  Empty if the objective does not use them.
    features: tuple[Tensor, ...]


class Model(nn.Module):
    """All that is trained: network, critics and, for a prior, the discriminator.

    ``losses.objective`` is what the network and the critics are trained to maximise.

    Parameters
    ----------
    spec : ModelSpec
    generator : torch.Generator or None
        Draws the weights; None leaves them unset, to be loaded.

    Attributes
    ----------
    channel : Channel
        Noise and target distribution of the codes.
    network : Network
    critics : nn.ModuleDict
        For the terms that exist: "channel", "global", "local".
    discriminator : Discriminator or None
        None if the prior has no weight.
    feature_weights : dict of str to float
        Weights in the objective of the terms "global" and "local", where these exist.
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
        """Return the critic that scores codes with noisy codes.

        ``spec.critic`` names it.  ``generator`` draws its weights; None leaves them
        unset, to be loaded.
        """
        name, n_components = self.spec.critic, self.spec.network.n_components
        if name == "channel":
            has_pairs = self.spec.pairs.has_pairs
            return channel_critic(self.channel, n_components, has_pairs)
        return CRITICS[name](n_components, n_components, generator)

    def encode(self, batch: Batch) -> Encoded:
        """Return normalised codes of a batch, and features if the objective uses them.

        In training, rows and views are normalised together, by moments of both if both
        are augmented, and otherwise by the moments of the rows.  In evaluation, stored
        moments are used.
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
        """Return the codes of all views and, row by row, the codes they belong to.

        They are for the regression of codes on codes of views.  Codes are mapped to the
        target distribution.

        Parameters
        ----------
        batch : Batch
            Without views, codes are returned twice.

        Returns
        -------
        views, codes : Tensor of shape (n_views * n_rows, n_components)
        """
        encoded, squash = self.encode(batch), self.channel.squash
        views = squash(torch.cat(encoded.views))
        return views, squash(encoded.codes).repeat(len(encoded.views), 1)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        """Return the parameters of network and critics, as groups for an optimiser.

        The discriminator has an optimiser of its own.  Critics have no weight decay,
        and their learning rate is ``learning_rate`` times their
        ``learning_rate_factor``.

        Parameters
        ----------
        learning_rate : float
            That of the network.
        """
        groups = [{"params": list(self.network.parameters())}]
        for critic in self.critics.values():
            if parameters := list(critic.parameters()):
                rate = learning_rate * critic.learning_rate_factor
                groups.append({"params": parameters, "weight_decay": 0.0, "lr": rate})
        return groups

    def weights(self) -> dict[str, np.ndarray]:
        """Return copies of all weights and buffers as arrays, by name.

        Arrays are contiguous, as a pickle returns them: sums in another layout in
        memory round differently.
        """
        state = self.state_dict()
        return {
            name: np.array(value.detach().cpu().numpy(), order="C")
            for name, value in state.items()
        }

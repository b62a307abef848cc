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

    Attributes
    ----------
    codes : Tensor of shape (n_rows, n_components)
        Codes of the rows, to which noise is added.
    views : list of Tensor of shape (n_rows, n_components)
        Codes of each view; without views, ``[codes]``.
    normalized : Tensor of shape (n_codes, n_components)
        All codes that the objective compares with N(0, I): ``codes``, followed by the
        codes of the views if rows and views are both augmented.
    features : tuple of Tensor of shape (n_rows, n_channels, ...)
        Features of each view, or without views those of the rows.  Empty if the
        objective does not use features.
    """

    codes: Tensor
    views: list[Tensor]
    normalized: Tensor
    features: tuple[Tensor, ...]


class Model(nn.Module):
    """All that is trained: network, critics and, for a prior, the discriminator.

    The network and the critics are trained to maximise ``losses.objective``.  There is
    no ``forward``: ``encode`` returns the codes of a batch, and ``network`` those of
    rows.

    Parameters
    ----------
    spec : ModelSpec
        Configuration of the model.
    generator : torch.Generator or None
        Draws the network weights; None leaves them unset, to be loaded.

    Attributes
    ----------
    channel : Channel
        Noise and target distribution of the codes.
    network : Network
        Maps rows to codes.
    critics : nn.ModuleDict
        For the terms of the objective that exist.  "channel" scores codes with noisy
        codes, "global" and "local" score features with codes.
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
        """Return the critic that scores codes with noisy codes, as ``spec`` names it.

        ``generator`` draws the weights of the critic; None leaves them unset, to be
        loaded.
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

        Parameters
        ----------
        batch : Batch
            Scaled inputs of rows, and of views of them.

        Returns
        -------
        encoded : Encoded
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
        """Return codes of views, and the code of the row that each of them belongs to.

        For the regression of codes on codes of views.  Both are mapped from N(0, I) to
        the target distribution.

        Parameters
        ----------
        batch : Batch
            Without views, the codes of the rows are returned twice.

        Returns
        -------
        views, codes : Tensor of shape (n_views * n_rows, n_components)
            Row i of ``codes`` is the code of the row that row i of ``views`` belongs
            to.
        """
        encoded, squash = self.encode(batch), self.channel.squash
        views = squash(torch.cat(encoded.views))
        return views, squash(encoded.codes).repeat(len(encoded.views), 1)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        """Return the parameters of network and critics, as groups for an optimiser.

        The discriminator is not included; it has a separate optimiser.  Critics have no
        weight decay.  The learning rate of a critic is ``learning_rate`` times the
        ``learning_rate_factor`` of this critic.

        Parameters
        ----------
        learning_rate : float
            Learning rate of the network.

        Returns
        -------
        groups : list of dict
            As ``torch.optim`` takes them: the network's group, which has the default
            options of the optimiser, then one for each critic with parameters.
        """
        groups = [{"params": list(self.network.parameters())}]
        for critic in self.critics.values():
            if parameters := list(critic.parameters()):
                rate = learning_rate * critic.learning_rate_factor
                groups.append({"params": parameters, "weight_decay": 0.0, "lr": rate})
        return groups

    def weights(self) -> dict[str, np.ndarray]:
        """Return copies of all weights and buffers as arrays, by name, for storage.

        Arrays are contiguous, as a pickle returns them: sums in another layout in
        memory round differently.
        """
        state = self.state_dict()
        return {
            name: np.array(value.detach().cpu().numpy(), order="C")
            for name, value in state.items()
        }

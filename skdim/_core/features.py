"""Critics between noisy codes and the encoder's features, global or at positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .config import ModelSpec
from .critics import CRITICS
from .encoders import linear
from .network import Network

__all__ = ["ColumnGroups", "FeatureCritic", "build_feature_critic"]

# Positions that are scored in each batch.  Memory grows with them, more so for critics
# that write out every pair.
_MOST_POSITIONS = {"concatenated": 2}
_MOST_POSITIONS_OTHERWISE = 16


class ColumnGroups(nn.Module):
    """Features of a table at positions: one for each group of neighbouring columns.

    Groups take the place of an image's patches; each has a linear layer of its own.

    Parameters
    ----------
    n_columns : int
    generator : torch.Generator or None
        Draws the weights.
    """

    most, n_channels = 8, 64

    def __init__(self, n_columns: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.n_positions = min(self.most, n_columns)
        self.layers = nn.ModuleList(
            linear(len(part), self.n_channels, generator)
            for part in torch.arange(n_columns, device="cpu").tensor_split(
                self.n_positions
            )
        )

    def forward(self, columns: Tensor) -> Tensor:
        """Return features of shape (n_rows, n_channels, n_positions)."""
        parts = columns.tensor_split(self.n_positions, dim=1)
        pairs = zip(self.layers, parts, strict=True)
        return torch.stack([layer(part) for layer, part in pairs], 2).relu()


class FeatureCritic(nn.Module):
    """Score codes with features: as a whole, or at each of some random positions.

    Equations (5) and (6) of arXiv 1808.06670.

    Parameters
    ----------
    name : str
        A key of ``CRITICS``.
    shape : tuple of (n_channels, n_positions)
        Of one row's features.
    n_components : int
    is_local : bool
        Whether positions are scored one by one.
    groups : ColumnGroups or None
        Makes features at positions of a table's columns.
    generator : torch.Generator or None
        Draws the weights.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, int],
        n_components: int,
        is_local: bool,
        groups: ColumnGroups | None,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.is_local, self.groups = is_local, groups
        n_channels, self.n_positions = shape
        most = _MOST_POSITIONS.get(name, _MOST_POSITIONS_OTHERWISE)
        self.n_chosen = min(self.n_positions, most)
        n_u = n_channels if is_local else n_channels * self.n_positions
        self.critic = CRITICS[name](n_u, n_components, generator)
        self.learning_rate_factor = self.critic.learning_rate_factor

    def forward(
        self, features: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return scores of shape (n_rows, n_rows), or (n_chosen, n_rows, n_rows).

        Parameters
        ----------
        features : Tensor of shape (n_rows, n_channels, ...)
        y : Tensor of shape (n_rows, n_components)
            Codes, with noise if the channel has any.
        generator : torch.Generator
            Chooses positions.
        """
        return self.critic(self.chosen(features, generator), y)

    def chosen(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Return flat features (n_rows, n_u), or (n_chosen, n_rows, n_channels)."""
        if not self.is_local:
            return features.flatten(1)
        if self.groups is not None:
            features = self.groups(features)
        at_positions = features.flatten(2).permute(2, 0, 1)
        if self.n_chosen == self.n_positions:
            return at_positions
        order = torch.randperm(
            self.n_positions, generator=generator, device=generator.device
        )
        return at_positions[order[: self.n_chosen]]


def build_feature_critic(
    spec: ModelSpec,
    network: Network,
    is_local: bool,
    generator: torch.Generator | None,
) -> FeatureCritic:
    """Return the critic of the global or the local term.

    Raises
    ------
    ValueError
        If the local term is asked for images whose features have no positions.
    """
    (n_channels, *places), groups = network.feature_shape(), None
    shape = n_channels, math.prod(places)
    if is_local and not places:
        _check_is_table(spec, network)
        groups = ColumnGroups(n_channels, generator)
        shape = groups.n_channels, groups.n_positions
    n_components = spec.network.n_components
    return FeatureCritic(
        spec.feature_critic, shape, n_components, is_local, groups, generator
    )


def _check_is_table(spec: ModelSpec, network: Network) -> None:
    """Raise ValueError if features without positions are those of images."""
    if not spec.network.is_image:
        return
    kind = type(network.encoder).__name__
    is_own = spec.network.is_own_encoder
    got = f"a module of type {kind}" if is_own else repr(spec.network.encoder)
    raise ValueError(
        f"local_weight above 0 needs an encoder of images whose features keep their "
        f"positions, such as encoder='conv'. Got {got} instead; set local_weight=0, or "
        f"use encoder='conv'."
    )

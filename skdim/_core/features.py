"""Critics between codes and features of the encoder.

Features are the output of the encoder's first part, or the scaled inputs where it has
no parts.  The critics serve the global and the local information of ``DeepInfoMax``: a
global critic scores a code with all features of a row, a local one with the features at
one position.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .config import ModelSpec
from .critics import CRITICS
from .encoders import linear
from .network import Network

__all__ = ["ColumnGroups", "FeatureCritic", "build_feature_critic"]

# Most positions that a local critic scores in a batch.  Memory grows with their number,
# more so for a critic that stores a hidden layer for every pair.
_MOST_POSITIONS = {"concatenated": 2}
_MOST_POSITIONS_OTHERWISE = 16


class ColumnGroups(nn.Module):
    """Make features of a table at positions, which are groups of neighbouring columns.

    A table has no image patches; these groups serve the local critic in their place.
    There are 8 groups, or one for each column if there are fewer.  Each group has a
    linear layer of its own, followed by a ReLU.

    Parameters
    ----------
    n_columns : int
        Number of columns of the table.
    generator : torch.Generator or None
        Draws the network weights; None leaves them unset, to be loaded.

    Attributes
    ----------
    n_positions : int
        Number of groups.
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
        """Return features of shape (n_rows, 64, n_positions).

        ``columns`` has the shape (n_rows, n_columns).
        """
        parts = columns.tensor_split(self.n_positions, dim=1)
        pairs = zip(self.layers, parts, strict=True)
        return torch.stack([layer(part) for layer, part in pairs], 2).relu()


class FeatureCritic(nn.Module):
    """Score features with codes: all features at once, or at each of some positions.

    Equations (5) and (6) of Hjelm et al., arXiv:1808.06670.

    Parameters
    ----------
    name : str
        Kind of critic, a key of ``CRITICS``.
    shape : tuple of (n_channels, n_positions)
        Shape of the features of one row, those of ``groups`` if there are groups.
    n_components : int
        Number of components of the code.
    is_local : bool
        True scores each position on its own; False scores all features at once.
    groups : ColumnGroups or None
        Makes features at positions from the columns of a table, for a local critic;
        None takes the features as they are.
    generator : torch.Generator or None
        Draws the network weights; None leaves them unset, to be loaded.

    Attributes
    ----------
    n_chosen : int
        Number of positions that a local critic scores in each batch: at most 16, and at
        most 2 for "concatenated", because memory grows with it.
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
        """Return scores of every row's features with every row's code.

        Parameters
        ----------
        features : Tensor of shape (n_rows, n_channels, *positions)
            Features of rows; (n_rows, n_columns) for a table.
        y : Tensor of shape (n_rows, n_components)
            Codes of the same rows.
        generator : torch.Generator
            Draws the positions anew for each call.

        Returns
        -------
        scores : Tensor of shape (n_rows, n_rows) or (n_chosen, n_rows, n_rows)
            ``scores[..., i, j]`` scores the features of row i with code j; the first
            axis is that of the positions of a local critic.
        """
        return self.critic(self.chosen(features, generator), y)

    def chosen(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Return the features at the chosen positions, in the shape that critics take.

        Parameters
        ----------
        features : Tensor of shape (n_rows, n_channels, *positions)
            Features of rows; (n_rows, n_columns) for a table.
        generator : torch.Generator
            Draws ``n_chosen`` different positions, the same for all rows; not used if
            these are all positions.

        Returns
        -------
        u : Tensor of shape (n_rows, n_u) or (n_chosen, n_rows, n_channels)
            For a global critic all features, flattened
            (``n_u = n_channels * n_positions``); for a local one the features at each
            chosen position.
        """
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
    """Return the critic of the global or the local term of the objective.

    Parameters
    ----------
    spec : ModelSpec
        Names the kind of critic and the number of components.
    network : Network
        Its encoder gives the shape of the features.
    is_local : bool
        True for the local term, False for the global one.
    generator : torch.Generator or None
        Draws the network weights; None leaves them unset, to be loaded.

    Raises
    ------
    ValueError
        If ``is_local`` and the rows are images whose features have no positions.
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
    """Raise ValueError if rows are images, for which a local critic needs positions.

    It is called if a local critic is asked for and the encoder's features have no
    positions, that is no height and width.  In a table, groups of columns then serve as
    positions; in an image nothing does.  ``spec`` tells tables from images, and the
    message names the encoder of ``network``.
    """
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

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


class ColumnGroups(nn.Module):
    """Make features of a table at positions, which are groups of neighbouring columns.

    A local critic scores features at each position of an image.  A table has no such
    positions, and groups of columns take their place.  There are 8 groups, or one for
    each column if there are fewer than 8 columns.  Each group has a separate linear
    layer with 64 outputs, followed by a ReLU.

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
    n_channels : int
        Number of features of each group, 64.
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
        """Return the features of each group of columns, for a local critic.

        ``columns`` holds scaled inputs, or features that an encoder makes of them, and
        has the shape (n_rows, n_columns).  The result has the shape (n_rows, 64,
        n_positions).
        """
        parts = columns.tensor_split(self.n_positions, dim=1)
        pairs = zip(self.layers, parts, strict=True)
        return torch.stack([layer(part) for layer, part in pairs], 2).relu()


class FeatureCritic(nn.Module):
    """Score features with codes: all features at once, or at each of some positions.

    For the global and the local term of ``DeepInfoMax``: bounds on the mutual
    information of features and codes are computed from the scores.  Equations (5) and
    (6) of Hjelm et al., arXiv:1808.06670.

    Parameters
    ----------
    name : str
        Kind of critic, a key of ``CRITICS``.
    shape : tuple of (n_channels, n_positions)
        Shape of the features of one row.  If ``groups`` is given, the shape of what it
        makes of them.
    n_components : int
        Number of components of the code.
    is_local : bool
        True gives a local critic, which scores the features at each position
        separately; False gives a global critic, which scores all features at once.
    groups : ColumnGroups or None
        Makes features at positions from the columns of a table, for a local critic;
        None takes the features as they are.
    generator : torch.Generator or None
        Draws the network weights; None leaves them unset, to be loaded.

    Attributes
    ----------
    critic : Critic
        The critic of the kind ``name``.
    n_positions : int
        Number of positions, the second number of ``shape``.
    n_chosen : int
        Number of positions that a local critic scores in each batch: ``n_positions``,
        but at most 16, or at most 2 for "concatenated", because memory grows with this
        number.
    learning_rate_factor : float
        Learning rate of the parameters divided by that of the encoder.
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
        self.n_chosen = min(self.n_positions, CRITICS[name].most_positions)
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
            Draws the positions that a local critic scores, anew for each call.

        Returns
        -------
        scores : Tensor of shape (n_rows, n_rows) or (n_chosen, n_rows, n_rows)
            ``scores[..., i, j]`` scores the features of row i with code j.  A local
            critic returns one such matrix for each chosen position.
        """
        return self.critic(self.chosen(features, generator), y)

    def chosen(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Return the features to score, in the shape that ``Critic`` takes as ``u``.

        Parameters
        ----------
        features : Tensor of shape (n_rows, n_channels, *positions)
            Features of rows; (n_rows, n_columns) for a table.
        generator : torch.Generator
            For a local critic, draws ``n_chosen`` different positions, the same for all
            rows; not used if ``n_chosen`` is the number of positions.

        Returns
        -------
        u : Tensor of shape (n_rows, n_u) or (n_chosen, n_rows, n_channels)
            For a global critic, all features of each row, flattened: ``n_u`` is
            ``n_channels * n_positions``.  For a local critic, the features at each
            chosen position, made by ``groups`` if it is given.
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
    """Return a new critic for the global or the local term of the objective.

    Parameters
    ----------
    spec : ModelSpec
        Gives the kind of critic and the number of components.
    network : Network
        Its encoder gives the shape of the features.
    is_local : bool
        True for the local term, False for the global one.
    generator : torch.Generator or None
        Draws the network weights; None leaves them unset, to be loaded.

    Returns
    -------
    critic : FeatureCritic
        With ``groups``, which make positions from columns, if it is local and the
        features have no positions.

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
    """Raise ValueError if rows are images, for a local critic without positions.

    Called if a local critic is wanted and the encoder's features have no positions,
    that is no height and width.  In a table, groups of columns can serve as positions;
    in an image nothing can.  ``spec`` says if rows are images, and the message names
    the encoder of ``network``.
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

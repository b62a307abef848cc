"""What is needed to build a model again, its weights aside: plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ._core.channels import CHANNELS, Channel
from ._network import NetworkSpec
from ._views import VIEWS

__all__ = ["ModelSpec", "ViewSpec"]

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

    def makes_pairs(self, is_supervised: bool) -> bool:
        """Return whether a code is compared with another than the one that was sent."""
        return bool(self.steps or is_supervised)


@dataclass(frozen=True)
class ModelSpec:
    """What is needed to build the model again, its weights aside.

    Parameters
    ----------
    network : NetworkSpec
    noise_distribution : {"normal", "uniform"}
        Law of the codes, and of noise on them.
    noise_scale : float
        0 is a channel without noise, and ``critic`` then None.
    critic : str or None
        Between codes and noisy codes, one of ``CRITICS``; None leaves out the term of
        the information through the channel.
    objective : str
        A key of ``BOUNDS``.
    views : ViewSpec
    is_supervised : bool
    agreement_weight : float
        Share of the agreement bound in the term of the channel.
    sliced_weight, global_weight, local_weight, prior_weight : float
        Of the other terms; without weight there is no such term.
    feature_critic : str
        Between codes and features, a key of ``LEARNED``.
    n_draws : int
        How often the noise is drawn for each code in training.
    """

    network: NetworkSpec
    noise_distribution: str
    noise_scale: float
    critic: str | None
    objective: str
    views: ViewSpec = ViewSpec()
    is_supervised: bool = False
    agreement_weight: float = 0.0
    sliced_weight: float = 0.0
    global_weight: float = 0.0
    local_weight: float = 0.0
    prior_weight: float = 0.0
    feature_critic: str = "separable"
    n_draws: int = 1

    @property
    def channel(self) -> Channel:
        """The channel of the chosen noise."""
        return CHANNELS[self.noise_distribution](self.noise_scale)

    @property
    def has_pairs(self) -> bool:
        """Whether a code is compared with another than the one that was sent."""
        return self.views.makes_pairs(self.is_supervised)

    def global_seed(self, seed: int) -> int | None:
        """Return ``seed`` if code of the user's runs inside, which may need it."""
        own_views = any(callable(step) for step in self.views.steps)
        return seed if own_views or self.network.is_own_encoder else None

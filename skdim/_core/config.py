"""What a model and its training are made of, as plain values: no "auto" is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["ModelSpec", "NetworkSpec", "PairSpec", "TrainingConfig"]

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class NetworkSpec:
    """The network: encoder, normalisation and the layer that ``transform`` returns.

    Parameters
    ----------
    encoder : str, nn.Module or callable
        A key of ``ENCODERS``, a module to copy, or a callable ``(input_shape,
        n_components) -> module``.
    sizes : tuple of int
        Widths of the hidden layers of a built-in encoder; empty for a user's encoder.
    input_shape : tuple of int
        Shape of one row: ``(n_features,)``, or ``(channels, height, width)``.
    n_components : int
        Number of components of the code.
    output_layer : {"code", "hidden", "features"}
        Layer that ``transform`` returns.  The layers below the code are those of an
        encoder with the three named parts of ``PARTS``.
    normalizes : bool
        Whether codes are brought to mean 0 and variance 1 at all.
    shrinkage : float or None
        None whitens the codes of every batch and, after training, those of all rows.
        A number leaves correlations alone during training and whitens only after it,
        with the correlation matrix shrunk towards the identity by at least this share.
    shrinks_norms : bool
        Whether norms of codes that vary too much are pulled in after training.
    """

    encoder: str | nn.Module | Callable[[tuple[int, ...], int], nn.Module]
    sizes: tuple[int, ...]
    input_shape: tuple[int, ...]
    n_components: int
    output_layer: str = "code"
    normalizes: bool = True
    shrinkage: float | None = None
    shrinks_norms: bool = False

    @property
    def is_image(self) -> bool:
        """Whether rows are images of shape (channels, height, width)."""
        return len(self.input_shape) > 1

    @property
    def is_own_encoder(self) -> bool:
        """Whether the encoder is the user's, not one of ``ENCODERS``."""
        return not isinstance(self.encoder, str)


@dataclass(frozen=True)
class PairSpec:
    """How the two rows of a pair are made from one row.

    Parameters
    ----------
    augmentations : tuple of str or callable
        Applied in this order.  Keys of ``AUGMENTATIONS``, or callables ``(inputs,
        generator) -> inputs``.
    strength : float or None
        Strength of every named augmentation; None takes the default of each.
    sides : {"both", "one"}
        Whether the row whose code is sent through the noise is a view too, or the row
        as it is.
    n_views : int
        Number of views that are compared with each noisy code.
    n_neighbors : int
        Number of near rows that augmentations and partners are drawn from.
    by_class : bool
        Whether the two rows of a pair are different rows of one class.
    """

    augmentations: tuple[str | Augmentation, ...] = ()
    strength: float | None = None
    sides: str = "both"
    n_views: int = 1
    n_neighbors: int = 5
    by_class: bool = False

    @property
    def has_views(self) -> bool:
        """Whether rows are augmented."""
        return bool(self.augmentations)

    @property
    def has_pairs(self) -> bool:
        """Whether a code is compared with that of another row or view, not itself."""
        return self.has_views or self.by_class


@dataclass(frozen=True)
class ModelSpec:
    """The model: network, pairs, noise, and the terms of the objective.

    The weights are those of the equation in ``losses.objective``; a term of weight 0
    does not exist.

    Parameters
    ----------
    network : NetworkSpec
    pairs : PairSpec
    noise_distribution : str
        A key of ``CHANNELS``; also names the distribution that codes are held to.
    noise_scale : float
        Scale of the noise in units of the code; 0 is a channel without noise.
    critic : str or None
        Critic between codes and noisy codes: "channel" or a key of ``CRITICS``.  None
        leaves out the information through the channel.
    bound : str
        A key of ``BOUNDS``.
    agreement_weight : float
        ``w``, share of the Barber-Agakov bound in the information through the channel.
    sliced_weight : float
        ``lambda``, weight of the sliced and radial Kullback-Leibler divergences.
    global_weight, local_weight : float
        ``alpha`` and ``beta``, weights of the information between codes and features.
    prior_weight : float
        ``gamma``, weight of the adversarial match to the prior.
    feature_critic : str
        Critic between codes and features, a key of ``CRITICS``.
    n_noise_draws : int
        Number of draws of the noise for each code of a training batch.
    """

    network: NetworkSpec
    pairs: PairSpec = PairSpec()
    noise_distribution: str = "normal"
    noise_scale: float = 0.0
    critic: str | None = None
    bound: str = "infonce"
    agreement_weight: float = 0.0
    sliced_weight: float = 0.0
    global_weight: float = 0.0
    local_weight: float = 0.0
    prior_weight: float = 0.0
    feature_critic: str = "separable"
    n_noise_draws: int = 1

    def global_seed(self, seed: int) -> int | None:
        """Return the seed of torch's global generator, or None to leave it alone.

        Only the user's code, an encoder or an augmentation, may draw from it.
        """
        own = any(callable(step) for step in self.pairs.augmentations)
        return seed if own or self.network.is_own_encoder else None


@dataclass(frozen=True)
class TrainingConfig:
    """One run of training.

    Parameters
    ----------
    model : ModelSpec
    batch_size : int
        Rows per step.
    max_iter : int
        Number of epochs.
    learning_rate : float
        Peak learning rate of AdamW.
    weight_decay : float
    patience : int or None
        Epochs without a rise of the validation information before training stops;
        None if no rows are held out.
    seed : int
    device : torch.device
    scaling : tuple of (mean, scale) or None
        Of the inputs, one number for each column or channel; None takes the data's.
    """

    model: ModelSpec
    batch_size: int
    max_iter: int
    learning_rate: float
    weight_decay: float
    patience: int | None
    seed: int
    device: torch.device
    scaling: tuple[np.ndarray, np.ndarray] | None = None

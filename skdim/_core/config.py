"""Configuration of a model and of its training, as plain values.

"auto" does not occur here: ``_resolve`` has replaced it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["ModelSpec", "NetworkSpec", "PairSpec", "TrainingConfig"]

Augmentation = Callable[[Tensor, torch.Generator], Tensor]  # of the user


@dataclass(frozen=True)
class NetworkSpec:
    """Configuration of the network: its encoder, normalisation and output.

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
        Layer that the network, and ``transform``, returns.  Layers other than "code"
        need an encoder with the submodules "features", "hidden" and "code".
    normalizes : bool
        True brings codes to mean 0 and variance 1.  False leaves the encoder's output
        as it is, and ``shrinkage`` is not used.
    shrinkage : float or None
        None whitens the codes of every training batch by the moments of that batch and,
        after training, all codes by the moments of all training rows.  A number from 0
        to 1 brings the codes of a batch to mean 0 and variance 1 without whitening, and
        whitens after training.  The correlation matrix used for whitening is then first
        averaged with the identity, and ``shrinkage`` is the smallest weight of the
        identity.
    final_map : str
        Map that brings codes to N(0, I) after training, a key of
        ``transport.FINAL_MAPS``.  Not used for layers other than "code".
    """

    encoder: str | nn.Module | Callable[[tuple[int, ...], int], nn.Module]
    sizes: tuple[int, ...]
    input_shape: tuple[int, ...]
    n_components: int
    output_layer: str = "code"
    normalizes: bool = True
    shrinkage: float | None = None
    final_map: str = "linear"

    @property
    def is_image(self) -> bool:
        """True if rows are images, of shape (channels, height, width), else False."""
        return len(self.input_shape) > 1

    @property
    def is_own_encoder(self) -> bool:
        """True if ``encoder`` is the user's module or callable, False if it is a name.

        A name, a key of ``ENCODERS``, stands for a built-in encoder.
        """
        return not isinstance(self.encoder, str)


@dataclass(frozen=True)
class PairSpec:
    """Configuration of pairs: how views, randomly changed copies of rows, are made.

    The code of a row, with noise added in ``NoiseInjectedDIM``, is compared with the
    codes of views of the row; in ``DeepInfoMax``, without noise, with their features.

    Parameters
    ----------
    augmentations : tuple of str or callable
        Functions that change a row into a view, applied in this order.  Keys of
        ``AUGMENTATIONS``, or callables ``(inputs, generator) -> inputs``.
    strength : float or None
        Strength of every named augmentation; None takes the default strength of each.
    sides : {"both", "one"}
        "both" compares the code of one more view of the row with the views, "one" the
        code of the row without augmentation.  Noise, if any, is added to that code.
    n_views : int
        Number of views that each of these codes is compared with.
    n_neighbors : int
        Number of nearest rows of each row, from which the augmentation "neighbors"
        draws.  In a table, partners of a row are drawn from them, too.
    by_class : bool
        True makes views of a random partner, which is a row of the same class; a row of
        unknown class is its own partner.  False makes views of the row itself.
    """

    augmentations: tuple[str | Augmentation, ...] = ()
    strength: float | None = None
    sides: str = "both"
    n_views: int = 1
    n_neighbors: int = 5
    by_class: bool = False

    @property
    def has_views(self) -> bool:
        """True if there are augmentations that change rows into views, else False."""
        return bool(self.augmentations)

    @property
    def has_pairs(self) -> bool:
        """True if codes are compared with views or partners of a row, else False.

        If there are neither augmentations nor partners of the same class, a code is
        compared with itself, or in ``DeepInfoMax`` with features of its own row.
        """
        return self.has_views or self.by_class


@dataclass(frozen=True)
class ModelSpec:
    """Configuration of a model: network, pairs, noise, and terms of the objective.

    Greek letters and ``w`` are those of the equation in ``losses.objective``.  A term
    of weight 0 is not computed.

    Parameters
    ----------
    network : NetworkSpec
        Encoder, normalisation and output.
    pairs : PairSpec
        How views of rows are made.
    noise_distribution : str
        Distribution of the noise and target distribution of the codes, a key of
        ``CHANNELS``.
    noise_scale : float
        Scale of the noise in units of the code; 0 adds no noise.
    critic : str or None
        Critic that scores codes with noisy codes: "channel" or a key of ``CRITICS``.
        None leaves the mutual information of codes and noisy codes out of the
        objective.
    bound : str
        Bound on mutual information, a key of ``BOUNDS``.
    agreement_weight : float
        ``w``, from 0 to 1: weight of the Barber-Agakov bound on the mutual information
        of codes and noisy codes; ``bound`` has the weight ``1 - w``.
    sliced_weight : float
        ``lambda``, weight of the sliced and radial Kullback-Leibler divergences of the
        codes from N(0, I).
    global_weight, local_weight : float
        ``alpha`` and ``beta``, weights of bounds on the mutual information of codes and
        features of the encoder.  The global bound is that of all features together, the
        local one that of the features at one position, averaged over positions.
    prior_weight : float
        ``gamma``, weight of the adversarial loss that makes codes follow the prior.
    feature_critic : str
        Critic that scores features with codes, a key of ``CRITICS``.
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
        """Return the seed for torch's global random generator, for ``sandbox``.

        The user's encoder or augmentation may draw from the global generator; code of
        this library does not.  So the result is ``seed``, the seed of training, if the
        encoder or an augmentation is the user's.  Otherwise it is None, which leaves
        the global generator alone.
        """
        own = any(callable(step) for step in self.pairs.augmentations)
        return seed if own or self.network.is_own_encoder else None


@dataclass(frozen=True)
class TrainingConfig:
    """Configuration of one run of training.

    Parameters
    ----------
    model : ModelSpec
        What is trained.
    batch_size : int
        Number of rows in a batch.
    max_iter : int
        Largest number of epochs.
    learning_rate : float
        Largest learning rate of the network in AdamW's schedule; ``partial_fit`` uses a
        constant third of it.
    weight_decay : float
        Weight decay of AdamW for the network; critics have none.
    patience : int or None
        After this many epochs in the second half of ``max_iter`` in which the mutual
        information estimated on held-out rows has not risen, training goes through the
        rest of its schedule faster, and stops.  None if no rows are held out.
    seed : int
        Seed of initial weights, order of rows, views and noise.
    device : torch.device
        Where the model is trained.
    scaling : tuple of (mean, scale) or None
        Two arrays of one number for each column or channel: ``mean`` is subtracted from
        inputs, which are then divided by ``scale``.  None takes mean and standard
        deviation of the training rows.
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

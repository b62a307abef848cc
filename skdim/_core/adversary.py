"""The adversary that holds codes to a prior; equation (7) of arXiv 1808.06670."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .encoders import linear, multilayer_perceptron

__all__ = ["Discriminator"]


class Discriminator(nn.Module):
    """A perceptron that learns to tell codes from draws of the prior.

    Its two losses, both cross-entropies in nats, are minimised in turn: that of
    ``classification_loss`` by an optimiser of its own, that of ``fooling_loss`` by the
    encoder (the non-saturating loss of Goodfellow et al., arXiv 1406.2661).

    Parameters
    ----------
    n_components : int
    generator : torch.Generator or None
        Draws the weights.
    """

    hidden_layer_sizes = (1000, 200)  # as in arXiv 1808.06670
    learning_rate = 2e-3  # 20 times the paper's, which takes far more steps
    betas = (0.5, 0.999)  # less momentum, as is usual for adversaries

    def __init__(self, n_components: int, generator: torch.Generator | None) -> None:
        super().__init__()
        sizes = self.hidden_layer_sizes
        self.layers = multilayer_perceptron(n_components, sizes, generator)
        self.layers.append(linear(sizes[-1], 1, generator))

    def optimizer(self) -> torch.optim.Optimizer:
        """Return a new optimiser of the discriminator; its rate stays constant."""
        return torch.optim.Adam(
            self.parameters(), self.learning_rate, betas=self.betas, fused=True
        )

    def classification_loss(self, codes: Tensor, draws: Tensor) -> Tensor:
        """Return the cross-entropy of telling codes from draws of the prior."""
        of_draws, of_codes = self.layers(torch.cat([draws, codes])).split(len(draws))
        return softplus(-of_draws).mean() + softplus(of_codes).mean()

    def fooling_loss(self, codes: Tensor) -> Tensor:
        """Return the cross-entropy of codes being taken for draws of the prior.

        Its gradient reaches the codes and not the discriminator.
        """
        with self._frozen():
            return softplus(-self.layers(codes)).mean()

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        self.requires_grad_(False)
        try:
            yield
        finally:
            self.requires_grad_(True)

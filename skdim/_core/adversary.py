"""The discriminator: the encoder's adversary, which matches codes to a prior.

Equation (7) of Hjelm et al., arXiv:1808.06670.
"""

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

    The prior is the distribution that codes are trained to follow.  Two losses are
    minimised in turn: the optimiser from ``optimizer`` lowers ``classification_loss``
    by training the discriminator, and the optimiser of the encoder lowers
    ``fooling_loss``, until codes look like draws of the prior (the non-saturating loss
    of Goodfellow et al., arXiv:1406.2661).

    Parameters
    ----------
    n_components : int
        Number of components of the code.
    generator : torch.Generator or None
        Draws the network weights; None leaves them unset, to be loaded.

    Attributes
    ----------
    layers : nn.Sequential
        Maps codes of shape (n_rows, n_components) to logits of shape (n_rows, 1), the
        log odds that a code is a draw of the prior.  Two hidden layers, of 1000 and 200
        units.
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
        """Return a new Adam optimiser for the parameters of the discriminator.

        Its learning rate, 2e-3, stays constant during training.
        """
        return torch.optim.Adam(
            self.parameters(), self.learning_rate, betas=self.betas, fused=True
        )

    def classification_loss(self, codes: Tensor, draws: Tensor) -> Tensor:
        """Return the loss that trains the discriminator to tell codes from draws.

        Parameters
        ----------
        codes : Tensor of shape (n_rows, n_components)
            Codes, mapped to the prior by ``Channel.squash`` and detached from the
            encoder.
        draws : Tensor of shape (n_rows, n_components)
            Random draws from the prior.

        Returns
        -------
        loss : Tensor of shape ()
            Sum of the mean cross-entropies of codes and of draws, in nats; ``2 log(2)``
            if the discriminator cannot tell them apart.
        """
        of_draws, of_codes = self.layers(torch.cat([draws, codes])).split(len(draws))
        return softplus(-of_draws).mean() + softplus(of_codes).mean()

    def fooling_loss(self, codes: Tensor) -> Tensor:
        """Return the loss that trains the encoder to make codes look like draws.

        The loss is low if the discriminator takes codes for draws of the prior.  Its
        gradient reaches the codes but not the parameters of the discriminator.

        Parameters
        ----------
        codes : Tensor of shape (n_rows, n_components)
            Codes, mapped to the prior by ``Channel.squash`` and attached to the
            encoder.

        Returns
        -------
        loss : Tensor of shape ()
            Mean cross-entropy in nats; ``log(2)`` if the discriminator cannot tell
            codes from draws.
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

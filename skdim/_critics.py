"""Critics: ``(u, y) -> scores[i, j]``, the pairs that belong together on the diagonal.

A critic is built as ``Critic(channel, n_components, has_views, generator)``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._channels import Channel
from ._encoders import linear, multilayer_perceptron

__all__ = ["CRITICS", "ChannelCritic", "SeparableCritic"]


class ChannelCritic(nn.Module):
    """The channel's own noise density: the best critic there is, and nothing to learn.

    With views the code of ``x'`` misses the code of ``x`` by more than the noise; the
    excess variance (width, for the uniform law) is the one learned number.
    """

    is_learned = False
    learning_rate_factor = 20.0  # one scalar, to settle while the encoder still moves

    def __init__(
        self,
        channel: Channel,
        n_components: int,
        has_views: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.channel = channel
        zero = torch.zeros((), dtype=torch.float32, device="cpu")
        self.log_excess = nn.Parameter(zero) if has_views else None

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        excess = None if self.log_excess is None else self.log_excess.exp()
        return self.channel.log_kernel(u, y, excess)


class SeparableCritic(nn.Module):
    """Inner product of two learned embeddings, ``g(u)^T h(y)``."""

    is_learned = True
    learning_rate_factor = 1.0
    hidden_layer_sizes = (256, 256)
    n_embedding = 64

    def __init__(
        self,
        channel: Channel,
        n_components: int,
        has_views: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.embed_u = self._embedding(n_components, generator)
        self.embed_y = self._embedding(n_components, generator)

    def _embedding(self, n_in: int, generator: torch.Generator) -> nn.Module:
        hidden = multilayer_perceptron(n_in, self.hidden_layer_sizes, generator)
        return hidden.append(
            linear(self.hidden_layer_sizes[-1], self.n_embedding, generator)
        )

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        return self.embed_u(u) @ self.embed_y(y).T / self.n_embedding**0.5


CRITICS: dict[str, type[nn.Module]] = {
    "channel": ChannelCritic,
    "separable": SeparableCritic,
}

"""Critics: ``(u, y) -> scores[i, j]``, the pairs that belong together on the diagonal.

Those that learn also take ``u`` of shape (n_positions, n_rows, n_u), such as features
at positions of images, and return a matrix of scores for each position.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._core.bounds import barber_agakov
from ._core.channels import Channel, UniformChannel
from ._encoders import linear, multilayer_perceptron

__all__ = ["CRITICS", "LEARNED", "ChannelCritic", "Critic", "build", "regression"]

_PLAIN = {"dtype": torch.float32, "device": "cpu"}


class Critic(nn.Module):
    """Base of all critics.

    Attributes
    ----------
    learning_rate_factor : float
        Rate of the critic's parameters, as a multiple of the encoder's.
    is_matched : bool
        Whether it holds moments of pairs, to be set by ``fit`` after training.
    """

    learning_rate_factor = 1.0
    is_matched = False

    def observe(self, u: Tensor, sent: Tensor) -> None:
        """Take note of codes and of what was sent for them; most need not."""

    def judged(self, u: Tensor, y: Tensor, scores: Tensor) -> Tensor:
        """Return scores to report, where those in training have seen the batch."""
        return scores

    def forget(self) -> None:
        """Drop what is held of the batch before, which may be no number."""

    def agreement(self, u: Tensor, sent: Tensor, scores: Tensor) -> Tensor:
        """Return the agreement bound, which ``scores`` hold for one draw of noise."""
        return barber_agakov(scores)


class ChannelCritic(Critic):
    """The channel's own noise density: the best critic there is, and nothing to learn.

    With views the code ``u`` of ``x'`` misses the code ``s`` of ``x``: ``s = b u + r``,
    component by component, with the slope ``b`` and the variance of ``r`` taken from
    the batch, without gradient.  At these values the density of the batch is highest,
    so the gradient of the bound is what it would be through them (envelope theorem).
    In evaluation they are averages over batches, and none has fitted them to itself;
    so is what training reports, by averages up to the batch before; only the first
    batch has no other moments than its own.
    """

    momentum = 0.1

    def __init__(self, channel: Channel, n_components: int, has_views: bool) -> None:
        super().__init__()
        self.channel, self.has_views = channel, has_views
        if has_views:
            self.register_buffer("slope", torch.ones(n_components, **_PLAIN))
            self.register_buffer("excess", torch.zeros(n_components, **_PLAIN))
            self.of_batch = None

    @property
    def is_matched(self) -> bool:
        """Whether there are moments of pairs to know."""
        return self.has_views

    @torch.no_grad()
    def observe(self, u: Tensor, sent: Tensor) -> None:
        if not (self.has_views and self.training):
            return
        before, self.of_batch = self.of_batch, regression(u, sent)
        weight = self.momentum if before else 1.0  # the first batch is all there is
        averages = self.slope, self.excess
        for average, value in zip(averages, before or self.of_batch, strict=True):
            average.lerp_(value, weight)

    def forget(self) -> None:
        if self.has_views:
            self.of_batch = None

    def fit(self, moments: list[tuple[Tensor, Tensor]]) -> None:
        """Set the averages to those of many batches."""
        for average, values in zip(
            (self.slope, self.excess), zip(*moments, strict=True), strict=True
        ):
            average.copy_(torch.stack(values).mean(0))

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        if not self.has_views:
            return self.channel.log_ratio(u, y, 1.0, 0.0)
        moments = self.of_batch if self.training else (self.slope, self.excess)
        return self.channel.log_ratio(u, y, *moments)

    def agreement(self, u: Tensor, sent: Tensor, scores: Tensor) -> Tensor:
        """Return it averaged over the noise, in closed form: nothing is left to chance.

        The noise is as large as the codes, and the gradient without it much steadier.
        """
        moments = self.of_batch if self.training else (self.slope, self.excess)
        return self.channel.mean_log_ratio(u, sent, *moments)

    def judged(self, u: Tensor, y: Tensor, scores: Tensor) -> Tensor:
        if not (self.has_views and self.training):
            return scores
        return self.channel.log_ratio(u, y, self.slope, self.excess)


def regression(u: Tensor, sent: Tensor) -> tuple[Tensor, Tensor]:
    """Return slope and residual variance of ``sent`` on ``u``, by component."""
    u, sent = u - u.mean(0), sent - sent.mean(0)
    variance = u.square().mean(0).clamp_min(1e-12)
    slope = (u * sent).mean(0) / variance
    return slope, (sent - slope * u).square().mean(0)


class WidthCritic(Critic):
    """The channel's density, widened by one learned number.

    For uniform noise under views, where no closed form is at hand.
    """

    learning_rate_factor = 20.0  # one scalar, to settle while the encoder still moves

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self.channel = channel
        self.log_excess = nn.Parameter(torch.zeros((), **_PLAIN))

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        return self.channel.log_ratio(u, y, 1.0, self.log_excess.exp())


def channel_critic(channel: Channel, n_components: int, has_views: bool) -> Critic:
    """Return the critic that the channel's noise density makes."""
    if isinstance(channel, UniformChannel) and has_views:
        return WidthCritic(channel)
    return ChannelCritic(channel, n_components, has_views)


class Embedding(nn.Module):
    """A linear map plus a perceptron with one hidden layer, normalised by row.

    What the linear map finds at once, the perceptron need not learn: with it and the
    layer norm, as in arXiv 1808.06670, appendix, bounds rise several times faster.
    """

    def __init__(
        self, n_in: int, n_hidden: int, n_out: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.direct = linear(n_in, n_out, generator)
        self.curved = multilayer_perceptron(n_in, [n_hidden], generator)
        self.curved.append(linear(n_hidden, n_out, generator))
        self.norm = nn.LayerNorm(n_out, **_PLAIN)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.norm(self.direct(inputs) + self.curved(inputs))


class SeparableCritic(Critic):
    """Inner product of two learned embeddings, ``g(u)^T h(y)``.

    "Encode-and-dot" of arXiv 1808.06670, where on features at positions ``g`` is made
    of convolutions with kernels of one pixel.
    """

    n_hidden = n_embedding = 256

    def __init__(self, n_u: int, n_y: int, generator: torch.Generator | None) -> None:
        super().__init__()
        sizes = self.n_hidden, self.n_embedding
        self.embed_u = Embedding(n_u, *sizes, generator)
        self.embed_y = Embedding(n_y, *sizes, generator)

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        # In rows for y: objectives search the u of one y, and rows are faster.
        scores = self.embed_y(y) @ self.embed_u(u).mT
        return scores.mT / self.n_embedding**0.5


class BilinearCritic(Critic):
    """``u^T W y`` with a learned matrix, plus learned terms of one side each.

    The log density ratio of a normal channel is of this form: with
    ``-|u|^2 / 2`` and ``-|y|^2 / 2`` scaled by learned numbers, it can be reached.
    """

    learning_rate_factor = 10.0  # few numbers, which may have far to go

    def __init__(self, n_u: int, n_y: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.product = linear(n_u, n_y, generator)
        self.squares_u = nn.Parameter(torch.zeros(n_u, **_PLAIN))
        self.squares_y = nn.Parameter(torch.zeros(n_y, **_PLAIN))
        self.offset = nn.Parameter(torch.zeros((), **_PLAIN))

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        of_u, of_y = u.square() @ self.squares_u, y.square() @ self.squares_y
        return self.product(u) @ y.T + of_u[..., None] + of_y + self.offset


class ConcatenatedCritic(Critic):
    """A perceptron on every pair ``[u, y]``; memory grows as the batch squared.

    On features at positions this is "concatenate-and-convolve" of arXiv 1808.06670.
    """

    hidden_layer_sizes = (128, 64)

    def __init__(self, n_u: int, n_y: int, generator: torch.Generator | None) -> None:
        super().__init__()
        first, *rest = self.hidden_layer_sizes
        # The first layer of [u, y] is a sum of two: no pair is ever written out.
        self.from_u = linear(n_u, first, generator)
        self.from_y = linear(n_y, first, generator)
        self.hidden = multilayer_perceptron(first, rest, generator)
        self.score = linear(rest[-1], 1, generator)

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        pairs = torch.relu(self.from_u(u)[..., None, :] + self.from_y(y))
        return self.score(self.hidden(pairs)).squeeze(-1)


LEARNED: dict[str, type[Critic]] = {
    "separable": SeparableCritic,
    "bilinear": BilinearCritic,
    "concatenated": ConcatenatedCritic,
}
CRITICS = ("channel", *LEARNED)


def build(
    name: str,
    channel: Channel,
    n_components: int,
    has_views: bool,
    generator: torch.Generator | None,
) -> Critic:
    """Return the critic of this name between codes and noisy codes."""
    if name == "channel":
        return channel_critic(channel, n_components, has_views)
    return LEARNED[name](n_components, n_components, generator)

"""Critics: ``critic(u, y)`` scores every code or feature with every noisy code.

``scores[..., i, j]`` belongs to ``u_i`` and ``y_j``; pairs that belong together are on
the diagonal.  ``u`` has the shape (n_rows, n_u), or (n_positions, n_rows, n_u) for
features at positions of an image, which gives a matrix for each position.  ``y`` has
the shape (n_rows, n_components).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .bounds import barber_agakov
from .channels import Channel
from .encoders import linear, multilayer_perceptron
from .runtime import PLAIN

__all__ = [
    "CRITICS",
    "ChannelCritic",
    "Critic",
    "channel_critic",
    "regression",
]


class Critic(nn.Module):
    """Base of all critics; one that learns needs ``forward`` alone.

    Attributes
    ----------
    learning_rate_factor : float
        Learning rate of the critic's parameters, as a multiple of the encoder's.
    has_moments : bool
        Whether calibration is to set the moments of pairs by ``fit``.
    """

    learning_rate_factor = 1.0
    has_moments = False

    def observe(self, u: Tensor, codes: Tensor) -> None:
        """Update running moments by a training batch, for critics that have any."""

    def reported(self, u: Tensor, y: Tensor, scores: Tensor) -> Tensor:
        """Return scores for reporting that were not fitted to this batch.

        ``scores`` are those of training, which most critics report as they are.
        """
        return scores

    def agreement(self, u: Tensor, codes: Tensor, scores: Tensor) -> Tensor:
        """Return the Barber-Agakov bound, in nats, of views ``u`` and ``codes``.

        ``scores`` are those of one draw of the noise, which most critics average.
        """
        return barber_agakov(scores)


class ChannelCritic(Critic):
    r"""The log density ratio of the channel itself: the best critic, nothing to learn.

    With ``u`` the code of a view, ``y = s + z`` the noisy code of its row and noise of
    standard deviation sigma, component k of the code is predicted by ``b_k u_k`` with
    residual variance ``r_k``, so that ``log p(y_j | u_i) / p(y_j)`` is

        T_ij = 1/2 sum_k [ ln((1 + sigma^2) / (sigma^2 + r_k))
                           - (y_jk - b_k u_ik)^2 / (sigma^2 + r_k)
                           + y_jk^2 / (1 + sigma^2) ]

    for normal noise (``Channel.log_ratio``).  Without pairs ``u = s``, ``b = 1`` and
    ``r = 0``.

    Parameters
    ----------
    channel : Channel
    n_components : int
    has_pairs : bool
        Whether codes are compared with those of views.

    Notes
    -----
    In training, ``b`` and ``r`` are the batch's, without gradient.  They maximise
    the mean of the paired scores, whose gradient is therefore the same with and without
    theirs (envelope theorem).  What is *reported* uses running moments of earlier
    batches, since moments fitted to a batch would flatter it; the first batch has none
    but its own.  Evaluation uses moments of many batches, set by ``fit``.
    """

    momentum = 0.1

    def __init__(self, channel: Channel, n_components: int, has_pairs: bool) -> None:
        super().__init__()
        self.channel, self.has_pairs = channel, has_pairs
        if has_pairs:
            self.register_buffer("slope", torch.ones(n_components, **PLAIN))
            self.register_buffer("residual", torch.zeros(n_components, **PLAIN))
            self.batch_moments = None

    @property
    def has_moments(self) -> bool:
        """Whether there are moments of pairs."""
        return self.has_pairs

    @torch.no_grad()
    def observe(self, u: Tensor, codes: Tensor) -> None:
        """Take the moments of this batch; fold those of the batch before into the mean.

        Parameters
        ----------
        u, codes : Tensor of shape (n_rows, n_components)
            Codes of views and codes of their rows.
        """
        if not (self.has_pairs and self.training):
            return
        before, self.batch_moments = self.batch_moments, regression(u, codes)
        weight = self.momentum if before else 1.0
        for average, value in zip(
            self._running, before or self.batch_moments, strict=True
        ):
            average.lerp_(value, weight)

    @property
    def _running(self) -> tuple[Tensor, Tensor]:
        return self.slope, self.residual

    @property
    def _moments(self) -> tuple[Tensor, Tensor] | tuple[float, float]:
        """Return slope and residual variance: of the batch, running, or 1 and 0."""
        if not self.has_pairs:
            return 1.0, 0.0
        return self.batch_moments if self.training else self._running

    def fit(self, moments: list[tuple[Tensor, Tensor]]) -> None:
        """Set the running moments to the mean of those of many batches.

        Parameters
        ----------
        moments : list of (slope, residual variance)
            As ``regression`` returns them.
        """
        for average, values in zip(
            self._running, zip(*moments, strict=True), strict=True
        ):
            average.copy_(torch.stack(values).mean(0))

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        return self.channel.log_ratio(u, y, *self._moments)

    def agreement(self, u: Tensor, codes: Tensor, scores: Tensor) -> Tensor:
        """Return the Barber-Agakov bound in closed form, averaged over the noise.

        The noise is as large as the codes, so that this gradient is much less noisy
        than that of one draw.
        """
        return self.channel.mean_log_ratio(u, codes, *self._moments)

    def reported(self, u: Tensor, y: Tensor, scores: Tensor) -> Tensor:
        if not (self.has_pairs and self.training):
            return scores
        return self.channel.log_ratio(u, y, *self._running)


def regression(u: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return slope and residual variance of regressing ``codes`` on ``u``.

    Each component is regressed on the same component alone.

    Parameters
    ----------
    u, codes : Tensor of shape (n_rows, n_components)

    Returns
    -------
    slope, residual : Tensor of shape (n_components,)
    """
    u, codes = u - u.mean(0), codes - codes.mean(0)
    variance = u.square().mean(0).clamp_min(1e-12)
    slope = (u * codes).mean(0) / variance
    return slope, (codes - slope * u).square().mean(0)


class WidthCritic(Critic):
    """The channel's log density ratio, widened by one learned number.

    For pairs under uniform noise, whose density ratio has no closed form.
    """

    learning_rate_factor = 20.0  # one number, to settle while the encoder still moves

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self.channel = channel
        self.log_width = nn.Parameter(torch.zeros((), **PLAIN))

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        return self.channel.log_ratio(u, y, 1.0, self.log_width.exp())


def channel_critic(channel: Channel, n_components: int, has_pairs: bool) -> Critic:
    """Return the critic made of the channel's own density."""
    if has_pairs and not channel.has_residual_variance:
        return WidthCritic(channel)
    return ChannelCritic(channel, n_components, has_pairs)


class Embedding(nn.Module):
    """Sum of a linear map and a perceptron with one hidden layer, then layer norm.

    The appendix of arXiv 1808.06670.  The perceptron need not learn what the linear map
    finds at once: bounds rise several times faster than without it.
    """

    def __init__(
        self, n_in: int, n_hidden: int, n_out: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.direct = linear(n_in, n_out, generator)
        self.curved = multilayer_perceptron(n_in, [n_hidden], generator)
        self.curved.append(linear(n_hidden, n_out, generator))
        self.norm = nn.LayerNorm(n_out, **PLAIN)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.norm(self.direct(inputs) + self.curved(inputs))


class SeparableCritic(Critic):
    """Inner product of two learned embeddings, ``g(u)^T h(y)``.

    "Encode-and-dot" of arXiv 1808.06670; on features at positions, ``g`` is a network
    of 1x1 convolutions there.
    """

    n_hidden = n_embedding = 256

    def __init__(self, n_u: int, n_y: int, generator: torch.Generator | None) -> None:
        super().__init__()
        sizes = self.n_hidden, self.n_embedding
        self.embed_u = Embedding(n_u, *sizes, generator)
        self.embed_y = Embedding(n_y, *sizes, generator)

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        # Stored by rows of y: bounds normalise over u, and rows are faster.
        scores = self.embed_y(y) @ self.embed_u(u).mT
        return scores.mT / self.n_embedding**0.5


class BilinearCritic(Critic):
    """``u^T W y`` with a learned matrix, plus learned squares of each side.

    The log density ratio of a normal channel has this form.
    """

    learning_rate_factor = 10.0  # few numbers, which may have far to go

    def __init__(self, n_u: int, n_y: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.product = linear(n_u, n_y, generator)
        self.squares_u = nn.Parameter(torch.zeros(n_u, **PLAIN))
        self.squares_y = nn.Parameter(torch.zeros(n_y, **PLAIN))
        self.offset = nn.Parameter(torch.zeros((), **PLAIN))

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        of_u, of_y = u.square() @ self.squares_u, y.square() @ self.squares_y
        return self.product(u) @ y.T + of_u[..., None] + of_y + self.offset


class ConcatenatedCritic(Critic):
    """A perceptron on every pair ``[u_i, y_j]``; memory grows with the batch squared.

    "Concatenate-and-convolve" of arXiv 1808.06670.
    """

    hidden_layer_sizes = (128, 64)

    def __init__(self, n_u: int, n_y: int, generator: torch.Generator | None) -> None:
        super().__init__()
        first, *rest = self.hidden_layer_sizes
        # The first layer of [u, y] is a sum of two, so that no pair is stored.
        self.from_u = linear(n_u, first, generator)
        self.from_y = linear(n_y, first, generator)
        self.hidden = multilayer_perceptron(first, rest, generator)
        self.score = linear(rest[-1], 1, generator)

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        pairs = torch.relu(self.from_u(u)[..., None, :] + self.from_y(y))
        return self.score(self.hidden(pairs)).squeeze(-1)


# Critics that learn: name -> class of (n_u, n_y, generator).
CRITICS: dict[str, type[Critic]] = {
    "separable": SeparableCritic,
    "bilinear": BilinearCritic,
    "concatenated": ConcatenatedCritic,
}

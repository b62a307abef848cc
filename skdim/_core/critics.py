"""Critics: ``critic(u, y)`` returns the scores of every ``u_i`` with every ``y_j``.

``u`` holds codes and ``y`` noisy codes, or ``u`` holds features of rows and ``y``
codes.  In the result, ``scores[..., i, j]`` scores ``u_i`` with ``y_j``, and pairs
drawn together are on the diagonal.  ``u`` has the shape (n_rows, n_u), or (n_positions,
n_rows, n_u) for features at positions of an image, which gives one score matrix for
each position.  ``y`` has the shape (n_rows, n_y).  The bounds on mutual information
(``bounds``) are computed from these scores.
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
    """Base of all critics; a critic that learns by gradients defines ``forward`` only.

    ``forward(u, y)`` returns the scores.  ``observe``, ``reported`` and ``agreement``
    are for critics between codes and noisy codes that are made of the channel's
    density.

    Attributes
    ----------
    learning_rate_factor : float
        Learning rate of the critic's parameters, as a multiple of the encoder's.
    has_moments : bool
        True if the critic has a method ``fit`` for its regression moments, which is
        called after training; else False.
    """

    learning_rate_factor = 1.0
    has_moments = False

    def observe(self, u: Tensor, codes: Tensor) -> None:
        """Update the running moments that a critic scores by; called before each batch.

        These are moments of the regression of ``codes`` on ``u``.  A critic that learns
        has none, so that this base method does nothing.

        Parameters
        ----------
        u, codes : Tensor of shape (n_rows, n_components)
            Codes of views, and codes of the rows that the views were made from, without
            noise.
        """

    def reported(self, u: Tensor, y: Tensor, scores: Tensor) -> Tensor:
        """Return the scores from which the reported mutual information is estimated.

        They should not depend on anything fitted to this very batch, which would
        flatter the estimate.  Most critics have nothing of that kind and return
        ``scores``.

        Parameters
        ----------
        u, y : Tensor of shape (n_rows, n_components)
            Codes of views, and noisy codes of their rows.
        scores : Tensor of shape (n_rows, n_rows)
            Scores of training, ``forward(u, y)``.

        Returns
        -------
        scores : Tensor of shape (n_rows, n_rows)
        """
        return scores

    def agreement(self, u: Tensor, codes: Tensor, scores: Tensor) -> Tensor:
        """Return the Barber-Agakov bound on the information of views and noisy codes.

        By default it is the mean of the paired scores, which come from one draw of the
        noise.

        Parameters
        ----------
        u, codes : Tensor of shape (n_rows, n_components)
            Codes of views, and codes of their rows before the noise is added.  Not used
            here.
        scores : Tensor of shape (n_rows, n_rows)
            Scores ``forward(u, y)`` for one draw of the noisy codes ``y``.

        Returns
        -------
        bound : Tensor of shape ()
            In nats.
        """
        return barber_agakov(scores)


class ChannelCritic(Critic):
    """The log density ratio of the channel itself: the best critic, nothing to learn.

    Let ``u`` be the code of a view (or of another row of the class), ``s`` the code of
    its row, ``y = s + noise``, and sigma the standard deviation of normal noise.
    Component k of ``s`` is predicted by ``b_k u_k`` with residual variance ``r_k``, so
    that ``log p(y_j | u_i) / p(y_j)`` is

        T_ij = 1/2 sum_k [ ln((1 + sigma^2) / (sigma^2 + r_k))
                           - (y_jk - b_k u_ik)^2 / (sigma^2 + r_k)
                           + y_jk^2 / (1 + sigma^2) ]

    as ``NormalChannel.log_ratio`` computes it.  Without pairs ``u = s``, ``b = 1`` and
    ``r = 0``, for any channel.  The slopes ``b`` and residual variances ``r`` are
    called the regression moments.

    Parameters
    ----------
    channel : Channel
        The channel that adds the noise; normal if ``has_pairs``.
    n_components : int
        Number of components of the code.
    has_pairs : bool
        True if noisy codes are compared with codes of views or of other rows; False if
        they are compared with the codes that the noise was added to.

    Notes
    -----
    In training, ``forward`` uses the regression moments of the current batch, without
    gradient.  They maximise the mean of the paired scores, so its gradient would be the
    same if they had one (envelope theorem).  What is *reported* uses running moments of
    earlier calls of ``observe``, since moments fitted to a batch would flatter it; the
    first batch has only its own.  Evaluation uses the moments set by ``fit`` or, before
    that, the running ones.
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
        """True if there are regression moments to be set by ``fit``, else False."""
        return self.has_pairs

    @torch.no_grad()
    def observe(self, u: Tensor, codes: Tensor) -> None:
        """Compute the regression moments of a batch, and update the running moments.

        The new moments serve ``forward``.  Those of the call before now join the
        running moments with a weight of 0.1, so that ``reported`` does not use moments
        fitted to these very codes.  The first call sets both.  Does nothing in
        evaluation mode or without pairs.

        Parameters
        ----------
        u, codes : Tensor of shape (n_rows, n_components)
            Codes of views, and codes of their rows before the noise is added.
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
        """Slope and residual variance that ``forward`` uses.

        Each has the shape (n_components,).  They are those of the batch in training,
        the running ones in evaluation, and the numbers 1 and 0 without pairs.
        """
        if not self.has_pairs:
            return 1.0, 0.0
        return self.batch_moments if self.training else self._running

    def fit(self, moments: list[tuple[Tensor, Tensor]]) -> None:
        """Store the unweighted mean of ``moments`` over batches, for use in evaluation.

        Called after training, with moments of the trained model, which replace the
        running ones.

        Parameters
        ----------
        moments : list of (slope, residual variance)
            One pair of tensors of shape (n_components,) for each batch, as
            ``regression`` returns it.
        """
        for average, values in zip(
            self._running, zip(*moments, strict=True), strict=True
        ):
            average.copy_(torch.stack(values).mean(0))

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        return self.channel.log_ratio(u, y, *self._moments)

    def agreement(self, u: Tensor, codes: Tensor, scores: Tensor) -> Tensor:
        """Return the Barber-Agakov bound in nats, as an expectation over the noise.

        Parameters are those of ``Critic.agreement``; ``scores`` is not used.  The noise
        can be as large as the codes, so the gradient of the expectation is much less
        noisy than that of one draw.
        """
        return self.channel.mean_log_ratio(u, codes, *self._moments)

    def reported(self, u: Tensor, y: Tensor, scores: Tensor) -> Tensor:
        if not (self.has_pairs and self.training):
            return scores
        return self.channel.log_ratio(u, y, *self._running)


def regression(u: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return slope and residual variance of predicting ``codes`` from ``u``.

    They tell a ``ChannelCritic`` how well codes of views predict those of their rows.
    Each component of ``codes`` is regressed, with an intercept, on the same component
    of ``u`` alone.

    Parameters
    ----------
    u, codes : Tensor of shape (n_rows, n_components)
        Codes of views, and codes of their rows.

    Returns
    -------
    slope, residual : Tensor of shape (n_components,)
        ``residual`` is the mean squared residual, a sum divided by ``n_rows``.
    """
    u, codes = u - u.mean(0), codes - codes.mean(0)
    variance = u.square().mean(0).clamp_min(1e-12)
    slope = (u * codes).mean(0) / variance
    return slope, (codes - slope * u).square().mean(0)


class WidthCritic(Critic):
    """The channel's log density ratio, with noise widened by one learned number.

    For codes of views under uniform noise.  The difference between the code of a view
    and that of its row has no density in closed form.  It is treated as a box, too,
    whose half-width is learned: one number, added to the noise scale, for all
    components.

    Parameters
    ----------
    channel : Channel
        The channel that adds the noise.
    """

    learning_rate_factor = 20.0  # one number, to settle early while the encoder moves

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self.channel = channel
        self.log_width = nn.Parameter(torch.zeros((), **PLAIN))

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        return self.channel.log_ratio(u, y, 1.0, self.log_width.exp())


def channel_critic(channel: Channel, n_components: int, has_pairs: bool) -> Critic:
    """Return the critic that scores by the channel's own density of a noisy code.

    It is a ``WidthCritic``, which learns one width, if the noise is uniform and
    ``has_pairs``; else a ``ChannelCritic``.

    Parameters
    ----------
    channel : Channel
        The channel that adds the noise.
    n_components : int
        Number of components of the code.
    has_pairs : bool
        True if noisy codes are compared with codes of views or of other rows; False if
        they are compared with the codes that the noise was added to.
    """
    if has_pairs and not channel.has_residual_variance:
        return WidthCritic(channel)
    return ChannelCritic(channel, n_components, has_pairs)


class Embedding(nn.Module):
    """Sum of a linear map and a perceptron with one hidden layer, then layer norm.

    One half of a ``SeparableCritic``, as in the appendix of arXiv:1808.06670.  The
    perceptron need not learn what the linear map finds at once: bounds rise several
    times faster than without it.

    Parameters
    ----------
    n_in, n_hidden, n_out : int
        Numbers of inputs, hidden units and outputs; they are on the last axis.
    generator : torch.Generator or None
        Draws the network weights; None leaves them unset, to be loaded.
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
    """Scaled inner product of two learned embeddings, ``g(u)^T h(y) / sqrt(256)``.

    "Encode-and-dot" of arXiv:1808.06670.  For features at positions of an image, ``g``
    is the same at every position, like a network of 1x1 convolutions.

    Parameters
    ----------
    n_u, n_y : int
        Numbers of columns of ``u`` and ``y``.
    generator : torch.Generator or None
        Draws the network weights; None leaves them unset, to be loaded.
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
    """``u^T W y`` with a learned matrix, plus learned lower-order terms.

    These are weighted sums of the squares of ``u`` and of ``y``, a linear term in ``y``
    and a constant.  The log density ratio of a normal channel has this form.

    Parameters
    ----------
    n_u, n_y : int
        Numbers of columns of ``u`` and ``y``.
    generator : torch.Generator or None
        Draws ``W`` and the linear term; None leaves them unset, to be loaded.
    """

    learning_rate_factor = 10.0  # these few numbers can become large

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
    """A perceptron applied to every pair ``[u_i, y_j]``.

    "Concatenate-and-convolve" of arXiv:1808.06670.  Memory grows with the square of the
    batch size.

    Parameters
    ----------
    n_u, n_y : int
        Numbers of columns of ``u`` and ``y``.
    generator : torch.Generator or None
        Draws the network weights; None leaves them unset, to be loaded.
    """

    hidden_layer_sizes = (128, 64)

    def __init__(self, n_u: int, n_y: int, generator: torch.Generator | None) -> None:
        super().__init__()
        first, *rest = self.hidden_layer_sizes
        # The first layer of [u, y] is a sum of two, so that no input pair is stored.
        self.from_u = linear(n_u, first, generator)
        self.from_y = linear(n_y, first, generator)
        self.hidden = multilayer_perceptron(first, rest, generator)
        self.score = linear(rest[-1], 1, generator)

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        pairs = torch.relu(self.from_u(u)[..., None, :] + self.from_y(y))
        return self.score(self.hidden(pairs)).squeeze(-1)


# Critics that learn, by name; each class is called with (n_u, n_y, generator).
CRITICS: dict[str, type[Critic]] = {
    "separable": SeparableCritic,
    "bilinear": BilinearCritic,
    "concatenated": ConcatenatedCritic,
}

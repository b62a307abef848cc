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
    """Base of critics: functions that score every ``u_i`` with every ``y_j``.

    Bounds on the mutual information of u and y are computed from the scores.  Either
    ``u`` holds codes (of views, if there are views) and ``y`` noisy codes of the same
    rows, or ``u`` holds features of rows and ``y`` codes of the same rows.

    ``forward(u, y)`` takes ``u`` of shape (n_rows, n_u), or (n_positions, n_rows, n_u)
    for features at positions of an image, and ``y`` of shape (n_rows, n_y).  It returns
    scores of shape (n_rows, n_rows), or (n_positions, n_rows, n_rows), where
    ``scores[..., i, j]`` scores ``u_i`` with ``y_j``; pairs, which belong to the same
    row, are on the diagonal.

    For noisy codes, ``observe`` is called before ``forward``, ``reported`` gives the
    scores for the reported mutual information, and ``agreement`` gives the
    Barber-Agakov bound.  ``ChannelCritic`` overrides these three methods; other critics
    define ``forward`` only.

    Attributes
    ----------
    learning_rate_factor : float
        Learning rate of the critic's parameters divided by that of the encoder.
    most_positions : int
        Most positions of features that are scored in a batch, because memory grows with
        their number.
    has_moments : bool
        True if the critic has a method ``fit`` that sets regression moments after
        training, else False.
    """

    learning_rate_factor = 1.0
    most_positions = 16
    has_moments = False

    def observe(self, u: Tensor, codes: Tensor) -> None:
        """Update moments that the critic scores by, from the codes of a batch.

        Called before ``forward``.  ``ChannelCritic`` computes how well codes of views
        predict codes of rows.  Other critics have no such moments, so this base method
        does nothing.

        Parameters
        ----------
        u, codes : Tensor of shape (n_rows, n_components)
            Codes of views, and codes of the rows that the views were made from, without
            noise.
        """

    def reported(self, u: Tensor, y: Tensor, scores: Tensor) -> Tensor:
        """Return the scores from which the reported mutual information is estimated.

        These scores should not depend on moments fitted to the same batch, because the
        estimate would be too large.  Only ``ChannelCritic`` has such moments; this base
        method returns ``scores`` unchanged.

        Parameters
        ----------
        u, y : Tensor of shape (n_rows, n_components)
            Codes of views, and noisy codes of the rows that the views were made from.
        scores : Tensor of shape (n_rows, n_rows)
            ``forward(u, y)``, the scores that training uses.

        Returns
        -------
        scores : Tensor of shape (n_rows, n_rows)
            ``scores[i, j]`` scores ``u_i`` with ``y_j``.
        """
        return scores

    def agreement(self, u: Tensor, codes: Tensor, scores: Tensor) -> Tensor:
        """Return the Barber-Agakov bound on the information of views and noisy codes.

        Training maximises it with the weight ``agreement_weight``.  This base method
        returns the mean of the paired scores, which depend on one draw of the noise.

        Parameters
        ----------
        u, codes : Tensor of shape (n_rows, n_components)
            Codes of views, and codes of the rows that the views were made from, before
            the noise is added.  Not used by this base method.
        scores : Tensor of shape (n_rows, n_rows)
            ``forward(u, y)`` for one draw of the noisy codes ``y``; pairs are on the
            diagonal.

        Returns
        -------
        bound : Tensor of shape ()
            In nats.
        """
        return barber_agakov(scores)


class ChannelCritic(Critic):
    """A critic that is the log density ratio of the channel, with nothing to learn.

    ``forward(u, y)`` takes codes ``u`` and noisy codes ``y``, both of shape (n_rows,
    n_components), and returns scores T of shape (n_rows, n_rows), where ``T[i, j]``
    scores ``u_i`` with ``y_j``; pairs are on the diagonal.

    Let ``u`` be the code of a view (or of another row of the class), ``c`` the code of
    the row that the view was made from, ``y = c + z`` with noise ``z``, and sigma the
    standard deviation of normal noise.  Component k of ``c`` is predicted by
    ``b_k u_k`` with residual variance ``r_k``, so that ``log p(y_j | u_i) / p(y_j)`` is

        T_ij = 1/2 sum_k [ ln((1 + sigma^2) / (sigma^2 + r_k))
                           - (y_jk - b_k u_ik)^2 / (sigma^2 + r_k)
                           + y_jk^2 / (1 + sigma^2) ]

    as ``NormalChannel.log_ratio`` computes it.  If ``has_pairs`` is False, ``u = c``,
    ``b = 1`` and ``r = 0``, for any channel.  The slopes ``b`` and residual variances
    ``r`` are called the regression moments.

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
    gradient.  These moments maximise the mean of the paired scores, so the gradient of
    this mean would be the same if the moments had a gradient, too (envelope theorem).
    ``reported`` uses running moments of earlier calls of ``observe``, because an
    estimate with moments fitted to the same batch would be too large; for the first
    batch there are no others.  Evaluation uses the moments set by ``fit`` or, before
    that, the running moments.
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
        """True if ``fit`` must set regression moments after training, else False."""
        return self.has_pairs

    @torch.no_grad()
    def observe(self, u: Tensor, codes: Tensor) -> None:
        """Compute the regression moments of a batch, and update the running moments.

        Called once for each view.  The moments of this call are for ``forward``.  Those
        of the previous call are averaged into the running moments with a weight of 0.1,
        so that ``reported`` does not use moments fitted to this ``u`` and ``codes``.
        The first call sets both kinds.  Does nothing in evaluation mode, or if
        ``has_pairs`` is False.

        Parameters
        ----------
        u, codes : Tensor of shape (n_rows, n_components)
            Codes of views, and codes of the rows that the views were made from, before
            the noise is added.
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
        """Slope and residual variance of regressing codes on codes of their views.

        For ``forward``: two tensors of shape (n_components,), in training those of the
        current batch, in evaluation those set by ``fit`` or, before that, the running
        moments.  If ``has_pairs`` is False, codes are compared with themselves and this
        is 1.0 and 0.0.
        """
        if not self.has_pairs:
            return 1.0, 0.0
        return self.batch_moments if self.training else self._running

    def fit(self, moments: list[tuple[Tensor, Tensor]]) -> None:
        """Set the regression moments that evaluation uses, by averaging over batches.

        Called after training, with moments of the trained model.  Their unweighted mean
        replaces the running moments.

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
        """Return the Barber-Agakov bound as an expectation over the noise.

        The noise can be as large as the codes, so the gradient of the expectation is
        much less noisy than the gradient for one draw of the noise.

        Parameters
        ----------
        u, codes : Tensor of shape (n_rows, n_components)
            Codes of views, and codes of the rows that the views were made from, before
            the noise is added.
        scores : Tensor of shape (n_rows, n_rows)
            Not used.

        Returns
        -------
        bound : Tensor of shape ()
            In nats.
        """
        bound = self.channel.mean_log_ratio(u, codes, *self._moments)
        return super().agreement(u, codes, scores) if bound is None else bound

    def reported(self, u: Tensor, y: Tensor, scores: Tensor) -> Tensor:
        if not (self.has_pairs and self.training):
            return scores
        return self.channel.log_ratio(u, y, *self._running)


def regression(u: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return slope and residual variance of predicting ``codes`` from ``u``.

    A ``ChannelCritic`` scores codes of views with noisy codes by these two moments.
    Each component of ``codes`` is regressed, with an intercept, on the same component
    of ``u`` alone.

    Parameters
    ----------
    u, codes : Tensor of shape (n_rows, n_components)
        Codes of views, and codes of the rows that the views were made from.

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
    """The log density ratio of a uniform channel, with a learned width of the noise.

    For codes of views under uniform noise.  The difference between the code of a view
    and the code of the row that it was made from has no density in closed form.  The
    critic treats this difference as more uniform noise: it adds one learned number, for
    all components, to the half-width of the noise.

    ``forward(u, y)`` takes codes of views ``u`` and noisy codes of rows ``y``, both of
    shape (n_rows, n_components), and returns scores of shape (n_rows, n_rows), where
    ``scores[i, j]`` scores ``u_i`` with ``y_j``; pairs are on the diagonal.

    Parameters
    ----------
    channel : Channel
        The channel that adds the noise.

    Attributes
    ----------
    log_width : nn.Parameter of shape ()
        Logarithm of the learned number.
    """

    learning_rate_factor = 20.0  # one number, to settle early while the encoder moves

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self.channel = channel
        self.log_width = nn.Parameter(torch.zeros((), **PLAIN))

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        return self.channel.log_ratio(u, y, 1.0, self.log_width.exp())


def channel_critic(channel: Channel, n_components: int, has_pairs: bool) -> Critic:
    """Return a new critic that scores by the log density ratio of the channel.

    It scores codes, or codes of views, with noisy codes.

    Parameters
    ----------
    channel : Channel
        The channel that adds the noise.
    n_components : int
        Number of components of the code.
    has_pairs : bool
        True if noisy codes are compared with codes of views or of other rows; False if
        they are compared with the codes that the noise was added to.

    Returns
    -------
    critic : WidthCritic or ChannelCritic
        A ``WidthCritic``, which learns one width, if ``has_pairs`` is True and the
        noise is uniform; else a ``ChannelCritic``.
    """
    if has_pairs and not channel.has_residual_variance:
        return WidthCritic(channel)
    return ChannelCritic(channel, n_components, has_pairs)


class Embedding(nn.Module):
    """Sum of a linear map and a perceptron with one hidden layer, then layer norm.

    A ``SeparableCritic`` has one for each of its two arguments, as in the appendix of
    arXiv:1808.06670.  The perceptron need not learn what the linear map finds at once:
    bounds rise several times faster than without the linear map.  Takes a tensor of
    shape (..., n_in) and returns one of shape (..., n_out).

    Parameters
    ----------
    n_in, n_hidden, n_out : int
        Numbers of inputs, hidden units and outputs.
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
    """A critic that is an inner product of embeddings, ``g(u)^T h(y) / sqrt(256)``.

    "Encode-and-dot" of arXiv:1808.06670.  Both embeddings are learned and have the
    width 256.  The embedding ``g`` is the same at every position of an image, like a
    network of 1x1 convolutions.

    ``forward(u, y)`` takes codes or features ``u`` of shape (n_rows, n_u), or features
    at positions of an image of shape (n_positions, n_rows, n_u), and noisy codes or
    codes ``y`` of shape (n_rows, n_y).  It returns scores of shape (n_rows, n_rows), or
    (n_positions, n_rows, n_rows), where ``scores[..., i, j]`` scores ``u_i`` with
    ``y_j``; pairs, which belong to the same row, are on the diagonal.

    Parameters
    ----------
    n_u, n_y : int
        Lengths of the vectors ``u_i`` and ``y_j``.
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
    """A critic ``u^T W y + a^T u^2 + b^T y^2 + c^T y + d`` with learned coefficients.

    Squares are elementwise.  The log density ratio of a normal channel has this form.

    ``forward(u, y)`` takes codes or features ``u`` of shape (n_rows, n_u), or features
    at positions of an image of shape (n_positions, n_rows, n_u), and noisy codes or
    codes ``y`` of shape (n_rows, n_y).  It returns scores of shape (n_rows, n_rows), or
    (n_positions, n_rows, n_rows), where ``scores[..., i, j]`` scores ``u_i`` with
    ``y_j``; pairs, which belong to the same row, are on the diagonal.

    Parameters
    ----------
    n_u, n_y : int
        Lengths of the vectors ``u_i`` and ``y_j``.
    generator : torch.Generator or None
        Draws ``W`` and ``c``; None leaves them unset, to be loaded.  The other
        coefficients start at 0.
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
    """A critic that applies a perceptron to every pair, as one vector ``[u_i, y_j]``.

    "Concatenate-and-convolve" of arXiv:1808.06670.  Memory grows with the square of the
    batch size.

    ``forward(u, y)`` takes codes or features ``u`` of shape (n_rows, n_u), or features
    at positions of an image of shape (n_positions, n_rows, n_u), and noisy codes or
    codes ``y`` of shape (n_rows, n_y).  It returns scores of shape (n_rows, n_rows), or
    (n_positions, n_rows, n_rows), where ``scores[..., i, j]`` scores ``u_i`` with
    ``y_j``; pairs, which belong to the same row, are on the diagonal.

    Parameters
    ----------
    n_u, n_y : int
        Lengths of the vectors ``u_i`` and ``y_j``.
    generator : torch.Generator or None
        Draws the network weights; None leaves them unset, to be loaded.
    """

    hidden_layer_sizes = (128, 64)
    most_positions = 2  # a hidden layer is stored for every pair

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

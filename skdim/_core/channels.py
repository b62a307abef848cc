"""Noisy channels: random noise that is added to codes, and its log density ratio.

A channel turns a code ``u`` into a noisy code ``y = u + noise``.  The mutual
information of ``u`` and ``y`` is at most the capacity of the channel, which is finite.
Maximising the information therefore makes codes follow a known distribution: N(0, I)
under normal noise, and nearly the uniform distribution under narrow uniform noise
(Butakov et al., arXiv:2410.06993, section 3).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

__all__ = ["CHANNELS", "Channel", "NormalChannel", "UniformChannel"]


@dataclass(frozen=True)
class Channel(ABC):
    """Base of noisy channels: random noise added to codes of a target distribution.

    Parameters
    ----------
    noise_scale : float
        Scale of the noise, in the units of the code: the standard deviation of normal
        noise or the half-width of uniform noise.  0 stands for no noise; only
        ``squash`` and ``sample`` may then be used.

    Attributes
    ----------
    distribution : str
        Target distribution of the codes, a key of ``DISTRIBUTIONS`` in
        ``_utils.distributions``.
    widest_noise : float
        Largest noise scale that ``for_batch`` chooses, found by measurement
        (docs/defaults.md); infinity stands for no limit.
    has_residual_variance : bool
        True if the argument ``residual`` of ``log_ratio`` is a variance, which a
        regression gives in closed form; False if ``residual`` is a half-width, which
        has to be learned.
    """

    noise_scale: float
    distribution: ClassVar[str]
    widest_noise: ClassVar[float] = math.inf
    has_residual_variance: ClassVar[bool] = False

    @classmethod
    def for_batch(
        cls, batch_size: int, n_components: int, share: float = 1.0
    ) -> Channel:
        """Return a channel whose capacity can be measured with batches of this size.

        For the default noise scale.  InfoNCE reports at most ``log(batch_size)`` nats,
        so more mutual information than this could not be seen.

        Parameters
        ----------
        batch_size : int
            Number of rows of a training batch, above 1.
        n_components : int
            Number of components of the code.
        share : float, default=1.0
            The capacity is ``share * log(batch_size)`` nats, for all components
            together.  If this would take a noise scale above ``widest_noise``, the
            noise scale is ``widest_noise``, and the capacity is larger.

        Returns
        -------
        channel : Channel
            Of the class that the method is called on.
        """
        channel = cls.with_capacity(share * math.log(batch_size), n_components)
        return cls(min(channel.noise_scale, cls.widest_noise))

    @classmethod
    @abstractmethod
    def with_capacity(cls, capacity: float, n_components: int) -> Channel:
        """Return the channel with this capacity; the inverse of ``capacity``.

        Parameters
        ----------
        capacity : float
            In nats, for all components together; above 0.
        n_components : int
            Number of components of the code.
        """

    @abstractmethod
    def capacity(self, n_components: int) -> float:
        """Return the capacity: the largest mutual information of codes and noisy codes.

        Needs a ``noise_scale`` above 0.  The maximum is over distributions of codes
        that are limited in power or range, as the subclass says.  For uniform noise it
        is an upper bound, exact if ``1 / (2 * noise_scale)`` is an integer.

        Parameters
        ----------
        n_components : int
            Number of components of the code.

        Returns
        -------
        capacity : float
            In nats, for all components together.
        """

    @property
    @abstractmethod
    def noise_share(self) -> float:
        """Variance of the noise divided by the variance of a noisy code, in [0, 1).

        A number for codes that follow ``distribution``.  The correlation matrix of
        noisy codes is that of the codes, shrunk towards the identity with this weight.
        So a ``Normalizer`` whose ``shrinkage`` is this number whitens noisy codes
        rather than codes.
        """

    @abstractmethod
    def squash(self, standardized: Tensor) -> Tensor:
        """Map values from N(0, 1), elementwise, to values that follow ``distribution``.

        Codes are mapped by ``squash`` before noise is added to them.

        Parameters
        ----------
        standardized : Tensor of any shape
            Any real numbers.

        Returns
        -------
        squashed : Tensor of the same shape
            Numbers in the support of ``distribution``.
        """

    @abstractmethod
    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Return random noise to add to codes, independent in every element.

        The noise has the shape, dtype and device of the codes ``like``.  ``generator``
        draws it, and must be on the same device.
        """

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Return random draws from ``distribution``, independent in every element.

        A discriminator learns to tell codes from these draws of the prior.  The result
        has the shape, dtype and device of ``like``; ``generator`` must be on the same
        device.
        """
        return self.squash(torch.empty_like(like).normal_(generator=generator))

    @abstractmethod
    def log_ratio(
        self, u: Tensor, y: Tensor, slope: Tensor | float, residual: Tensor | float
    ) -> Tensor:
        """Return the log density ratio ``log p(y_j | u_i) / p(y_j)`` for every i and j.

        This is the critic of the channel, from which bounds on the mutual information
        of ``u`` and ``y`` are computed.  It assumes that the codes to which the noise
        was added follow ``distribution``.  If ``u`` holds other codes, such as those of
        augmented views, each component of the code behind ``y`` is predicted as ``slope
        * u``, with an error of size ``residual``.

        Parameters
        ----------
        u : Tensor of shape (n_codes, n_components)
            Codes without noise.
        y : Tensor of shape (n_noisy, n_components)
            Noisy codes.
        slope : Tensor of shape (n_components,) or float
            Slope of the prediction; 1 if ``u`` holds the codes to which the noise was
            added.
        residual : Tensor of shape (n_components,) or float
            Size of the error of prediction: its variance under normal noise, its
            half-width under uniform noise; 0 if ``u`` holds the codes to which the
            noise was added.

        Returns
        -------
        scores : Tensor of shape (n_codes, n_noisy)
            In nats.
        """

    def mean_log_ratio(
        self, u: Tensor, codes: Tensor, slope: Tensor, residual: Tensor
    ) -> Tensor | None:
        """Return the mean of the paired ``log_ratio`` over all noise, in nats, or None.

        None if it has no closed form: the mean over one draw of the noise is then used.
        Shapes are those of ``NormalChannel.mean_log_ratio``.
        """
        return None


class NormalChannel(Channel):
    """A channel that adds noise N(0, noise_scale^2 I) to codes that follow N(0, I).

    The capacity, ``n_components / 2 * log(1 + 1 / noise_scale^2)`` nats, is that for
    codes whose components have a mean square of at most 1.  Codes that follow N(0, I)
    reach it.  Chosen by ``noise_distribution="normal"``, whatever
    ``output_distribution`` is, or by ``prior="normal"`` of ``DeepInfoMax``.  Its
    ``log_ratio`` scores codes with noisy codes.

    Parameters
    ----------
    noise_scale : float
        Standard deviation of the noise.
    """

    distribution = "normal"
    has_residual_variance = True

    @classmethod
    def with_capacity(cls, capacity: float, n_components: int) -> NormalChannel:
        return cls(1 / math.sqrt(math.expm1(2 * capacity / n_components)))

    def capacity(self, n_components: int) -> float:
        noise = self.noise_scale
        if noise > 1:
            return n_components * 0.5 * math.log1p(noise**-2)
        # The same, but it does not overflow where noise**-2 would.
        return n_components * (0.5 * math.log1p(noise**2) - math.log(noise))

    @property
    def noise_share(self) -> float:
        return self.noise_scale**2 / (1 + self.noise_scale**2)

    def squash(self, standardized: Tensor) -> Tensor:
        return standardized

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.empty_like(like).normal_(std=self.noise_scale, generator=generator)

    def log_ratio(
        self, u: Tensor, y: Tensor, slope: Tensor | float, residual: Tensor | float
    ) -> Tensor:
        total = 1 + self.noise_scale**2
        variance = _like(u, self.noise_scale**2 + residual)
        log_width = 0.5 * (math.log(total) - variance.log()).expand(u.shape[1]).sum()
        predicted, scaled = slope * u / variance.sqrt(), y / variance.sqrt()
        # -|scaled - predicted|^2 / 2 + |y|^2 / (2 total) + log_width, as one matrix
        # product: other operations on matrices of batch by batch would cost more.
        of_u = log_width - _half_square(predicted)
        of_y = _half_square(y) / total - _half_square(scaled)
        left = torch.cat([scaled, torch.ones_like(of_y), of_y], 1)
        right = torch.cat([predicted, of_u, torch.ones_like(of_u)], 1)
        # Scores of one y lie side by side in memory: InfoNCE normalises over them.
        return (left @ right.T).T

    def mean_log_ratio(
        self, u: Tensor, codes: Tensor, slope: Tensor, residual: Tensor
    ) -> Tensor:
        """Return the Barber-Agakov bound as an expectation over the noise.

        The bound is the mean of the diagonal of ``log_ratio(u, y, slope, residual)``
        with ``y = codes + noise``.  Its expectation is computed in closed form, so that
        the result and its gradient do not depend on a random draw of the noise.

        Parameters
        ----------
        u : Tensor of shape (n_codes, n_components)
            Codes of views.
        codes : Tensor of shape (n_codes, n_components)
            Codes of the same rows, before the noise is added to them.
        slope, residual : Tensor of shape (n_components,)
            Slope and residual variance of predicting each component of ``codes`` from
            the same component of ``u``, as in ``log_ratio``.

        Returns
        -------
        bound : Tensor of shape ()
            In nats.
        """
        noise = self.noise_scale**2
        total, variance = 1 + noise, _like(u, noise + residual)
        error = (codes - slope * u).square() + noise  # means over the noise
        square = codes.square() + noise
        ratio = square / total - error / variance + (total / variance).log()
        return 0.5 * ratio.sum(1).mean()


def _like(x: Tensor, value: Tensor | float) -> Tensor:
    """Return ``value`` as a tensor with the dtype and device of ``x``."""
    return torch.as_tensor(value, dtype=x.dtype, device=x.device)


def _half_square(x: Tensor) -> Tensor:
    """Return half the squared norm of each row, for ``NormalChannel.log_ratio``.

    ``x`` has the shape (n, d) and the result (n, 1).
    """
    return x.square().sum(1, keepdim=True) / 2


class UniformChannel(Channel):
    """A channel that adds noise U[-noise_scale, noise_scale]^d to codes in [0, 1]^d.

    Codes are trained to follow U[0, 1]^d.  The capacity of the channel is
    ``d * log(1 + 1 / (2 * noise_scale))`` nats.

    The critic of this channel, ``log_ratio``, scores a code ``u`` with a noisy code
    ``y``.  The exact log density of the noise would be a box: flat inside, minus
    infinity outside, without a useful gradient.  The critic uses the sum over
    components of ``-|(y - u) / noise_scale|^8`` instead, which is nearly flat inside
    and steep at the walls.  Bounds on the mutual information stay valid with this
    critic; they are only less tight.

    The codes that carry most information under uniform noise lie on a grid of spacing
    ``2 * noise_scale``.  The smooth density blurs a fine grid, so that training yields
    uniform codes while the noise is at most ``widest_noise``.

    Parameters
    ----------
    noise_scale : float
        Half-width of the noise.
    """

    distribution = "uniform"
    widest_noise = 0.2

    @classmethod
    def with_capacity(cls, capacity: float, n_components: int) -> UniformChannel:
        return cls(0.5 / math.expm1(capacity / n_components))

    def capacity(self, n_components: int) -> float:
        if self.noise_scale > 1e-300:
            return n_components * math.log1p(0.5 / self.noise_scale)
        return n_components * -math.log(2 * self.noise_scale)  # as 0.5 / it overflows

    @property
    def noise_share(self) -> float:
        # Variances: 1 / 12 of the code, noise_scale^2 / 3 of the noise.
        return 4 * self.noise_scale**2 / (1 + 4 * self.noise_scale**2)

    def squash(self, standardized: Tensor) -> Tensor:
        return torch.special.ndtr(standardized)

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.empty_like(like).uniform_(
            -self.noise_scale, self.noise_scale, generator=generator
        )

    def log_ratio(
        self, u: Tensor, y: Tensor, slope: Tensor | float, residual: Tensor | float
    ) -> Tensor:
        width = _like(u, self.noise_scale + residual)
        # The integral of exp(-|x / width|^8) is 2 width Gamma(9/8).
        log_volume = (2 * math.gamma(9 / 8) * width).log().expand(u.shape[1]).sum()
        scores = _SmoothBox.apply(slope * u / width, y / width)
        return scores - log_volume - self._log_marginal(y)

    def _log_marginal(self, y: Tensor) -> Tensor:
        """Return the log density of each noisy code: ``log p(y)`` of ``log_ratio``.

        Takes ``y`` of shape (n_noisy, n_components) and returns a tensor of shape
        (n_noisy,), in nats.  The density of a uniform code plus uniform noise is a
        trapezoid in each component.  Densities are clipped to a small positive number,
        so that logarithms are finite outside the trapezoid too.
        """
        reach = self.noise_scale
        overlap = (y + reach).clamp(max=1) - (y - reach).clamp(min=0)
        return (overlap.clamp_min(1e-6 * reach) / (2 * reach)).log().sum(1)


class _SmoothBox(torch.autograd.Function):
    """Scores ``-sum_k |y_jk - u_ik|^8``, a smooth replacement of a box's log density.

    An autograd function with a hand-written gradient, for ``UniformChannel.log_ratio``.
    ``_SmoothBox.apply(u, y)`` takes codes ``u`` of shape (n_codes, n_components) and
    noisy codes ``y`` of shape (n_noisy, n_components), both in units of the half-width
    of the box, and returns scores of shape (n_codes, n_noisy).  Beyond a difference of
    2, straight lines continue the power, so that scores of distant pairs are finite and
    have a finite gradient other than 0.  Components are added one by one, so that
    memory does not grow with ``n_components``.
    """

    knee = 2.0
    slope = 8 * knee**7

    @staticmethod
    def forward(ctx, u: Tensor, y: Tensor) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(u, y)
        scores = u.new_zeros(len(u), len(y))
        for u_k, y_k in zip(u.T, y.T, strict=True):
            gap = y_k - u_k[:, None]
            inner = gap.clamp(-_SmoothBox.knee, _SmoothBox.knee)
            beyond = gap.sub_(inner).abs_()
            scores.sub_(inner.square_().square_().square_())
            scores.sub_(beyond, alpha=_SmoothBox.slope)
        return scores

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN001
        u, y = ctx.saved_tensors
        grad_u, grad_y = torch.empty_like(u), torch.empty_like(y)
        for k, (u_k, y_k) in enumerate(zip(u.T, y.T, strict=True)):
            inner = (y_k - u_k[:, None]).clamp_(-_SmoothBox.knee, _SmoothBox.knee)
            power = inner.square().mul_(inner)  # the third; below, the seventh
            power = power.square_().mul_(inner).mul_(grad)
            grad_u[:, k], grad_y[:, k] = power.sum(1), power.sum(0)
        return grad_u.mul_(8), grad_y.mul_(-8)


# Classes of channels by distribution: its name is the same for codes and noise.
CHANNELS: dict[str, type[Channel]] = {
    channel.distribution: channel for channel in (NormalChannel, UniformChannel)
}

"""Noisy channels: one object holds all that belongs to one output law.

The encoder sends a code ``u``; the receiver sees ``y = u + z``.  The information that
gets through has a ceiling, the capacity, and the ceiling is reached only when the
codes follow the channel's own law (Butakov et al., arXiv 2410.06993, section 3).
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
    """A law for the codes with the noise that makes it the best one to send.

    Parameters
    ----------
    noise_scale : float
        Scale of the noise, in units of the code; a channel of 0 is law alone.
    """

    noise_scale: float
    distribution: ClassVar[str]  # of the codes, a key of DISTRIBUTIONS
    # No more "auto" noise than this, by measurement (docs/defaults.md).
    widest_noise: ClassVar[float] = math.inf
    # Whether ``log_ratio`` takes the variance of a residual, which has a closed form.
    has_residual_variance: ClassVar[bool] = False

    @classmethod
    def for_batch(
        cls, batch_size: int, n_components: int, share: float = 1.0
    ) -> Channel:
        """Return the channel of this share of what a batch of this size can measure."""
        channel = cls.with_capacity(share * math.log(batch_size), n_components)
        noise_scale = channel.noise_scale
        return cls(min(noise_scale, cls.widest_noise))

    @classmethod
    @abstractmethod
    def with_capacity(cls, capacity: float, n_components: int) -> Channel:
        """Return the channel whose ``n_components`` together carry ``capacity``."""

    @abstractmethod
    def capacity(self, n_components: int) -> float:
        """Return the largest information, in nats, that can get through."""

    @property
    @abstractmethod
    def noise_share(self) -> float:
        """Share of the noise in the variance of what is received."""

    @abstractmethod
    def squash(self, standardized: Tensor) -> Tensor:
        """Map components of mean 0 and variance 1 into the support of the law."""

    @abstractmethod
    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw noise of the shape, type and device of ``like``."""

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw from the law, in the shape, type and on the device of ``like``."""
        return self.squash(torch.empty_like(like).normal_(generator=generator))

    @abstractmethod
    def log_ratio(
        self, u: Tensor, y: Tensor, slope: Tensor | float, excess: Tensor | float
    ) -> Tensor:
        """Return ``T[i, j] = log p(y_j | u_i) / p(y_j)`` of codes of the channel's law.

        The code of a *view* is off from the code that was sent: it predicts ``slope``
        times its own value, give or take the noise and ``excess`` (a variance or, for
        uniform noise, a width).  Both are numbers or one value a component.
        """


class NormalChannel(Channel):
    """Law N(0, I), noise N(0, noise_scale^2 I), power limited to one per component."""

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
        self, u: Tensor, y: Tensor, slope: Tensor | float, excess: Tensor | float
    ) -> Tensor:
        total = 1 + self.noise_scale**2
        variance = _like(u, self.noise_scale**2 + excess)
        log_width = 0.5 * (math.log(total) - variance.log()).expand(u.shape[1]).sum()
        sent, received = slope * u / variance.sqrt(), y / variance.sqrt()
        # -|received - sent|^2 / 2 + |y|^2 / 2 total + log_width as one matrix product:
        # no other pass over a matrix of batch by batch.
        of_u = log_width - _half_square(sent)
        of_y = _half_square(y) / total - _half_square(received)
        left = torch.cat([received, torch.ones_like(of_y), of_y], 1)
        right = torch.cat([sent, of_u, torch.ones_like(of_u)], 1)
        # In rows for y: objectives search the codes of one y, and rows are faster.
        return (left @ right.T).T

    def mean_log_ratio(
        self, u: Tensor, sent: Tensor, slope: Tensor, excess: Tensor
    ) -> Tensor:
        """Return the mean of ``T`` over pairs ``u_i``, ``sent_i`` and all noise."""
        noise = self.noise_scale**2
        total, variance = 1 + noise, _like(u, noise + excess)
        missed = (sent - slope * u).square() + noise
        received = sent.square() + noise
        ratio = received / total - missed / variance + (total / variance).log()
        return 0.5 * ratio.sum(1).mean()


def _like(x: Tensor, value: Tensor | float) -> Tensor:
    return torch.as_tensor(value, dtype=x.dtype, device=x.device)


def _half_square(x: Tensor) -> Tensor:
    return x.square().sum(1, keepdim=True) / 2


class UniformChannel(Channel):
    """Law U[0, 1]^d, noise U[-noise_scale, noise_scale]^d.

    The exact kernel is a box, flat inside and minus infinity outside: it has no
    gradient.  The critic uses ``-|(y - u) / noise_scale|^8`` instead, which is nearly
    flat inside and steep at the walls.  A critic other than the exact one can only
    lower the bound.

    Of codes under noise as wide as this, the best are not uniform but a grid of spacing
    ``2 noise_scale``; the smooth kernel hides the grid while it is fine.
    """

    distribution = "uniform"
    widest_noise = 0.2

    @classmethod
    def with_capacity(cls, capacity: float, n_components: int) -> UniformChannel:
        return cls(0.5 / math.expm1(capacity / n_components))

    def capacity(self, n_components: int) -> float:
        return n_components * math.log1p(0.5 / self.noise_scale)

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
        self, u: Tensor, y: Tensor, slope: Tensor | float, excess: Tensor | float
    ) -> Tensor:
        width = _like(u, self.noise_scale + excess)
        # The integral of exp(-|x / width|^8) is 2 width Gamma(9/8).
        log_volume = (2 * math.gamma(9 / 8) * width).log().expand(u.shape[1]).sum()
        scores = _SmoothBox.apply(slope * u / width, y / width)
        return scores - log_volume - self._log_marginal(y)

    def _log_marginal(self, y: Tensor) -> Tensor:
        """Log density of uniform codes plus noise: a trapezoid for each component."""
        reach = self.noise_scale
        overlap = (y + reach).clamp(max=1) - (y - reach).clamp(min=0)
        return (overlap.clamp_min(1e-6 * reach) / (2 * reach)).log().sum(1)


class _SmoothBox(torch.autograd.Function):
    """``T[i, j] = -sum_k |y_jk - u_ik|^8``, with straight lines beyond ``|.| = 2``.

    One component at a time, so that memory is ``B^2`` and not ``B^2 d``.  The straight
    lines keep far pairs finite and their gradient alive.
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
            flow = inner.square().mul_(inner)  # cube
            flow = flow.square_().mul_(inner).mul_(grad)
            grad_u[:, k], grad_y[:, k] = flow.sum(1), flow.sum(0)
        return grad_u.mul_(8), grad_y.mul_(-8)


# By the distribution of codes, and of the noise that goes with it.
CHANNELS: dict[str, type[Channel]] = {
    channel.distribution: channel for channel in (NormalChannel, UniformChannel)
}

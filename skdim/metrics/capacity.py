"""Capacity of a noisy channel."""

from __future__ import annotations

import sys
from numbers import Integral, Real

from .. import _core

__all__ = ["channel_capacity"]


def channel_capacity(
    noise_scale: float, n_components: int, noise_distribution: str = "normal"
) -> float:
    """Return the capacity of a noisy channel: the most information that it can carry.

    The channel adds independent noise to each component of a code.  Its capacity is the
    largest mutual information between code and noisy code, over all distributions of
    the code with the variance or the range given below.

    For components of variance 1 and normal noise of standard deviation s, the capacity
    is ``n_components / 2 * log(1 + 1 / s**2)``.  For components in [0, 1] and uniform
    noise on [-e, e], it is ``n_components * log(1 + 1 / (2 * e))``.  The second formula
    is exact if ``1 / (2 * e)`` is an integer, and an upper bound otherwise.

    Parameters
    ----------
    noise_scale : float
        Standard deviation s of the normal noise or half-width e of the uniform noise,
        in the units of the code; above 0.
    n_components : int
        Number of components of the code.
    noise_distribution : {"normal", "uniform"}, default="normal"
        Distribution of the noise, the same for every component.

    Returns
    -------
    capacity : float
        In nats, for all components together.

    Raises
    ------
    ValueError
        If a parameter is invalid.

    References
    ----------
    Shannon, "A mathematical theory of communication", Bell System Technical Journal 27,
    1948, theorem 17. Butakov et al., arXiv:2410.06993, for the uniform channel.

    Examples
    --------
    >>> from skdim.metrics import channel_capacity
    >>> round(channel_capacity(1.0, 2), 4)  # log(2)
    0.6931
    >>> round(channel_capacity(0.5, 2, "uniform"), 4)
    1.3863
    """
    channels = _core.channels.CHANNELS
    if not isinstance(noise_distribution, str) or noise_distribution not in channels:
        raise ValueError(
            f"The 'noise_distribution' parameter must be one of {sorted(channels)}, "
            f"but got {noise_distribution!r}; pass one of these names."
        )
    if not (isinstance(noise_scale, Real) and 0 < noise_scale <= sys.float_info.max):
        raise ValueError(
            f"The 'noise_scale' parameter must be a number above 0, but got "
            f"{noise_scale!r}; pass the scale of the noise in the units of the code."
        )
    if not (isinstance(n_components, Integral) and 0 < n_components <= sys.maxsize):
        raise ValueError(
            f"The 'n_components' parameter must be an integer from 1 to {sys.maxsize}, "
            f"but got {n_components!r}; pass the number of components of the code."
        )
    channel = channels[noise_distribution](float(noise_scale))
    return channel.capacity(int(n_components))

"""Output laws: any continuous distribution, by the probability integral transform."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from scipy import special, stats

__all__ = ["LAWS", "Law"]


class Law:
    """A continuous distribution of one component, and its way from and to N(0, 1).

    Parameters
    ----------
    distribution : str or scipy.stats distribution
        A key of ``LAWS``, a continuous distribution of ``scipy.stats`` with its
        parameters frozen, or one of its newer random variables such as
        ``scipy.stats.Normal(mu=1)``.

    Raises
    ------
    ValueError
        If it is none of these.
    """

    def __init__(self, distribution: Any) -> None:
        self.name = distribution if isinstance(distribution, str) else None
        is_known = self.name in LAWS
        self.distribution = LAWS[self.name] if is_known else distribution
        if _is_newer(distribution):
            self._ppf, self._isf = distribution.icdf, distribution.iccdf
            self._cdf, self._sf = distribution.cdf, distribution.ccdf
        elif is_known or _is_frozen_continuous(distribution):
            self._ppf, self._isf = self.distribution.ppf, self.distribution.isf
            self._cdf, self._sf = self.distribution.cdf, self.distribution.sf
        else:
            raise _no_law(distribution)
        if not is_known and not self._is_continuous():
            raise _no_law(distribution)

    def check_copies(self) -> None:
        """Raise ValueError if copies are of another kind.

        Those of ``scipy.stats.Normal`` are: standard at times, whatever its parameters.
        """
        try:
            is_kept = type(copy.deepcopy(self.distribution)) is type(self.distribution)
        except Exception:  # whatever it is that copying fails with
            is_kept = False
        if not is_kept:
            raise ValueError(
                f"The 'output_distribution' parameter must be a distribution that "
                f"copies keep as it is, which clone and pickle need. Got "
                f"{self.distribution!r}, whose copies are another; freeze a classic "
                f"one, such as scipy.stats.norm(loc, scale)."
            )

    def _is_continuous(self) -> bool:
        """Whether there is one distribution, whose quantiles have their shares."""
        shares = np.linspace(0.1, 0.9, 9)[:, None]
        try:
            found = np.asarray(self._cdf(self._ppf(shares)))
        except (TypeError, ValueError):
            return False
        return found.shape == shares.shape and np.allclose(found, shares, atol=1e-6)

    def from_normal(self, z: np.ndarray) -> np.ndarray:
        """Send N(0, 1) to the law, ``F^-1(Phi(z))``, in double precision.

        Each half goes by the tail it lies in, so that far codes stay apart; the tail is
        never 0, so that they stay finite.
        """
        if self.name == "normal":
            return z
        tail = special.ndtr(-np.abs(np.asarray(z, dtype=np.float64)))
        tail = np.maximum(tail, np.finfo(np.float64).tiny)
        return np.where(z < 0, self._ppf(tail), self._isf(tail))

    def to_normal(self, x: np.ndarray) -> np.ndarray:
        """Send the law to N(0, 1); values outside its support go to its ends."""
        if self.name == "normal":
            return x
        tiny = np.finfo(np.float64).eps / 2
        below, above = (np.maximum(p(x), tiny) for p in (self._cdf, self._sf))
        return np.where(below < above, special.ndtri(below), -special.ndtri(above))

    def sample(self, shape: tuple[int, ...], rng: np.random.RandomState) -> np.ndarray:
        """Draw independent components."""
        return self.from_normal(rng.standard_normal(shape))


def _no_law(distribution: Any) -> ValueError:
    return ValueError(
        f"The 'output_distribution' parameter must be one of {sorted(LAWS)} or a "
        f"continuous distribution of scipy.stats with its parameters, numbers it "
        f"allows, such as scipy.stats.expon(). Got {distribution!r} instead."
    )


def _is_newer(distribution: Any) -> bool:
    if isinstance(distribution, type):
        return False
    return hasattr(distribution, "icdf") and hasattr(distribution, "sample")


def _is_frozen_continuous(distribution: Any) -> bool:
    if isinstance(distribution, stats.rv_continuous):
        return distribution.numargs == 0  # nothing to freeze
    return isinstance(getattr(distribution, "dist", None), stats.rv_continuous)


LAWS = {"normal": stats.norm(), "uniform": stats.uniform()}

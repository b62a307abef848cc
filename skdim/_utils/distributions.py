"""Target distributions of codes, mapped to and from the standard normal one."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from scipy import special, stats

__all__ = ["DISTRIBUTIONS", "Distribution"]


class Distribution:
    """A continuous distribution on the real line, with its maps to and from N(0, 1).

    Estimators learn codes whose components follow N(0, 1), and map them to the
    distribution that the user asked for.  The maps are the probability integral
    transform and its inverse, applied to each number on its own.

    Parameters
    ----------
    distribution : str or scipy.stats distribution
        A key of ``DISTRIBUTIONS``, a continuous distribution of ``scipy.stats`` with
        its parameters frozen, such as ``scipy.stats.expon(scale=2)``, or one of its
        newer random variables, such as ``scipy.stats.Normal(mu=1)``.
    name : str, default=None
        Key of the distribution in ``DISTRIBUTIONS``.  Only the code that builds
        ``DISTRIBUTIONS`` passes it.

    Attributes
    ----------
    name : str or None
        The key in ``DISTRIBUTIONS``; None for a distribution that was passed as an
        object.
    distribution : scipy.stats distribution
        The distribution as an object of scipy.

    Raises
    ------
    ValueError
        If ``distribution`` is none of these, or its parameters are invalid.
    """

    def __init__(self, distribution: Any, name: str | None = None) -> None:
        if isinstance(distribution, str) and distribution in DISTRIBUTIONS:
            name = distribution
            distribution = DISTRIBUTIONS[name].distribution
        self.name, self.distribution = name, distribution
        if _is_newer(distribution):
            self._ppf, self._isf = distribution.icdf, distribution.iccdf
            self._cdf, self._sf = distribution.cdf, distribution.ccdf
        elif _is_frozen_continuous(distribution):
            self._ppf, self._isf = distribution.ppf, distribution.isf
            self._cdf, self._sf = distribution.cdf, distribution.sf
        else:
            raise _not_a_distribution(distribution)
        if not self._is_continuous():
            raise _not_a_distribution(distribution)

    def check_copies(self) -> None:
        """Raise ValueError if copying the distribution changes it.

        It guards estimators that have the distribution as a parameter, because
        ``sklearn.base.clone`` and pickle copy parameters.  In some versions of scipy a
        copy of ``scipy.stats.Normal`` is a standard normal, whatever its parameters
        were.
        """
        try:
            is_kept = type(copy.deepcopy(self.distribution)) is type(self.distribution)
        except Exception:  # copying runs code of the distribution, which may fail
            is_kept = False
        if not is_kept:
            raise ValueError(
                f"The 'output_distribution' parameter must be a distribution that can "
                f"be copied, as clone and pickle do. Got {self.distribution!r}, whose "
                f"copies differ from it; pass a frozen distribution instead, such as "
                f"scipy.stats.norm(loc, scale)."
            )

    def _is_continuous(self) -> bool:
        """Return True if this is one valid continuous distribution, else False.

        It is True if the distribution function inverts the quantile function at nine
        points.  Invalid parameters give NaN there, and arrays of parameters, which
        stand for several distributions, give results of another shape.
        """
        probabilities = np.linspace(0.1, 0.9, 9)[:, None]
        try:
            found = np.asarray(self._cdf(self._ppf(probabilities)))
        except (TypeError, ValueError):
            return False
        return found.shape == probabilities.shape and np.allclose(
            found, probabilities, atol=1e-6
        )

    def moments(self) -> tuple[float, float]:
        """Return the mean and the variance, which may be infinite or NaN."""
        law = self.distribution
        variance = law.variance if _is_newer(law) else law.var
        # Parameters may be arrays of one number.
        return np.asarray(law.mean()).item(), np.asarray(variance()).item()

    def from_normal(self, z: np.ndarray) -> np.ndarray:
        """Map values that follow N(0, 1) to values that follow this distribution.

        Parameters
        ----------
        z : ndarray of any shape
            Values that follow N(0, 1), such as normalised codes.

        Returns
        -------
        x : ndarray of the same shape
            ``F^-1(Phi(z))`` in double precision, where F is the distribution function
            of this distribution and Phi that of N(0, 1).  For "normal", z itself.
        """
        if self.name == "normal":
            return z
        # Probabilities near 1 cannot be told apart, those near 0 can: each half is
        # mapped by its own tail.  A tail above 0 keeps the result finite.
        tail = special.ndtr(-np.abs(np.asarray(z, dtype=np.float64)))
        tail = np.maximum(tail, np.finfo(np.float64).tiny)
        return np.where(z < 0, self._ppf(tail), self._isf(tail))

    def to_normal(self, x: np.ndarray) -> np.ndarray:
        """Map values that follow this distribution to values that follow N(0, 1).

        Parameters
        ----------
        x : ndarray of any shape
            Values that follow this distribution.  A value outside its support counts as
            the nearest end of the support.

        Returns
        -------
        z : ndarray of the same shape
            ``Phi^-1(F(x))``, clipped to about [-8.2, 8.2], where F is the distribution
            function of this distribution and Phi that of N(0, 1).  For "normal", x
            itself.
        """
        if self.name == "normal":
            return x
        smallest = np.finfo(np.float64).eps / 2
        below, above = (np.maximum(tail(x), smallest) for tail in (self._cdf, self._sf))
        return np.where(below < above, special.ndtri(below), -special.ndtri(above))

    def sample(self, shape: tuple[int, ...], rng: np.random.RandomState) -> np.ndarray:
        """Return independent draws from this distribution.

        Parameters
        ----------
        shape : tuple of int
            Shape of the result.
        rng : numpy.random.RandomState
            Source of the draws.

        Returns
        -------
        x : ndarray of that shape
        """
        return self.from_normal(rng.standard_normal(shape))


def _not_a_distribution(distribution: Any) -> ValueError:
    """Return the ValueError to raise for an object that is no valid distribution."""
    if hasattr(distribution, "__len__") and not isinstance(distribution, str):
        return ValueError(
            f"The 'output_distribution' parameter must be a distribution, but got what "
            f"looks like a sample, of type {type(distribution).__name__}; to compare "
            f"two samples, call skdim.metrics.two_sample_test."
        )
    return ValueError(
        f"The 'output_distribution' parameter must be one of {sorted(DISTRIBUTIONS)} "
        f"or a continuous distribution of scipy.stats with valid parameters, such as "
        f"scipy.stats.expon(). Got {distribution!r} instead."
    )


def _is_newer(distribution: Any) -> bool:
    """Return True if the object is a random variable such as ``scipy.stats.Normal()``.

    These were new in scipy 1.15.  False for older distributions, which scipy calls
    frozen, and for classes.
    """
    if isinstance(distribution, type):
        return False
    return hasattr(distribution, "icdf") and hasattr(distribution, "sample")


def _is_frozen_continuous(distribution: Any) -> bool:
    """Return True if the object is a frozen continuous ``scipy.stats`` distribution.

    Frozen means that all shape parameters are set, as in ``scipy.stats.gamma(2)``.  A
    distribution without shape parameters, such as ``scipy.stats.norm``, counts as
    frozen.  False for any other object.
    """
    if isinstance(distribution, stats.rv_continuous):
        return distribution.numargs == 0  # it has no shape parameters to freeze
    return isinstance(getattr(distribution, "dist", None), stats.rv_continuous)


DISTRIBUTIONS: dict[str, Distribution] = {
    "normal": Distribution(stats.norm(), name="normal"),
    "uniform": Distribution(stats.uniform(), name="uniform"),
}

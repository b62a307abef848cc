"""Averages over the rows of a fit and of the calls of ``partial_fit`` after it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["Memory", "square_of_mean"]

# Rows of a stream that count at most: more would be steadier, but lag further behind.
_ROWS_REMEMBERED = 4096


class Memory:
    """Moments that ``calibrate`` computed, over a fit and calls of ``partial_fit``.

    ``calibrate`` averages those of the rows of each call with those stored here, which
    weigh as much as ``n_rows`` rows, at most 4,096: older rows count for less.

    Parameters
    ----------
    n_rows : int, default=0
        Number of rows that the moments stand for; 0 if there are no moments yet.
    values : dict of str to list of ndarray or None, default=None
        Moments by name, such as "codes" for mean and second moment of the encoder's
        output, as ``blend`` stores them.  None stands for an empty dict.

    Attributes
    ----------
    n_rows : int
        Changed by ``add``.
    values : dict of str to list of ndarray
        Changed by ``blend``.
    """

    def __init__(
        self, n_rows: int = 0, values: dict[str, list[np.ndarray]] | None = None
    ) -> None:
        self.n_rows, self.values = n_rows, dict(values or {})

    @property
    def n_remembered(self) -> int:
        """Number of rows that stored moments count as in an average, at most 4,096."""
        return min(self.n_rows, _ROWS_REMEMBERED)

    def blend(self, name: str, n_rows: int, *news: Tensor) -> list[Tensor]:
        """Average new moments with stored ones, store the result, and return it.

        Averages are weighted by numbers of rows.  If nothing is stored under this name,
        the new moments are stored and returned as they are.

        Parameters
        ----------
        name : str
            Name under which these moments are stored, such as "codes".
        n_rows : int
            Number of rows behind the new moments.  Stored ones count for
            ``self.n_remembered`` rows.
        *news : Tensor
            New moments, in the same order and of the same shapes in every call.

        Returns
        -------
        averages : list of Tensor
            One for each new moment, with the shape, dtype and device of that moment.
        """
        weight = n_rows / (n_rows + self.n_remembered)
        olds = self.values.get(name)
        if olds is not None:
            news = [
                torch.lerp(torch.tensor(o, device="cpu").to(v), v, weight)
                for o, v in zip(olds, news, strict=True)
            ]
        self.values[name] = [new.cpu().numpy() for new in news]
        return list(news)

    def blend_moments(
        self, name: str, n_rows: int, mean: Tensor, spread: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mean and covariance of new and earlier rows together, and store them.

        What ``blend`` averages and stores is the mean and the second moment about 0.

        Parameters
        ----------
        name : str
            Name under which these moments are stored, such as "codes".
        n_rows : int
            Number of new rows.
        mean : Tensor of shape (d,)
            Mean of the new rows.
        spread : Tensor of shape (d, d) or (d,)
            Covariance matrix of the new rows, or their variances, divided by
            ``n_rows``.

        Returns
        -------
        mean : Tensor of shape (d,)
            Mean of new and earlier rows.
        spread : Tensor of shape (d, d) or (d,)
            Covariance matrix or variances of new and earlier rows, like the argument.
        """
        raw = spread + square_of_mean(mean, spread)
        mean, raw = self.blend(name, n_rows, mean, raw)
        return mean, raw - square_of_mean(mean, spread)

    def add(self, n_rows: int) -> None:
        """Add ``n_rows`` to ``self.n_rows``, which is first reduced to at most 4,096.

        Called after ``blend`` has averaged all moments of the new rows with the stored
        ones, so that the weights of later averages are right.
        """
        self.n_rows = self.n_remembered + n_rows


def square_of_mean(mean: Tensor, spread: Tensor) -> Tensor:
    """Return what to add to a covariance to get the second moment about 0.

    ``mean`` has the shape (d,).  The result has the shape of ``spread``: the outer
    product of the mean with itself if ``spread`` is a covariance matrix of shape
    (d, d), and the squared mean if ``spread`` holds variances of shape (d,).
    """
    return torch.outer(mean, mean) if spread.ndim == 2 else mean.square()

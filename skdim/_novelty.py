"""How unlike training rows a row is: four views of it, and their sum.

Each view has a scale of its own.  Among the training rows, each scored as if it had
been left out, a value becomes a p-value, and the sum of ``-log p`` over the views is
what Fisher's method combines tests by (R. A. Fisher, *Statistical Methods for Research
Workers*, 1925, section 21.1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from ._utils.rows import batches

__all__ = ["Columns", "Neighbors", "Novelty", "Reconstruction", "Scaling", "Surprise"]

_NOT_TRAINED_ON = -1
_TINY = 1e-6  # Of numbers of variance 1: what is nearer than this is equal
_FAR = 1e9  # Its square is still a number
_LEAST_VARIANCE = 0.01  # Of errors; smaller differences are not looked at
_LEAST_EXCESS = 0.01  # In nats or parts of a distance
_N_NEIGHBORS = 5
_SHRINKAGE = 0.3  # Of their weights, relative to their mean square distance from center
_RIDGE = 1e-4  # Of the map from features to rows, relative to their mean square
_TAIL = 0.05  # Share of the surprises that lie on a straight line
_DECIMALS = 6  # Sums of floats round differently in batches of another size


class Scaling:
    """Rows as flat numbers of variance 1; columns that never vary are left out.

    Columns of a table have a scale each, the pixels of images one for all.
    """

    def __init__(self, rows: np.ndarray) -> None:
        is_image, flat = rows.ndim > 2, self.flat(rows)
        largest = np.abs(flat).max(None if is_image else 0)
        self.unit = np.where(largest > 0, largest, 1)  # so that squares are numbers
        flat = flat / self.unit
        self.mean, scale = flat.mean(0), flat.std(0)
        least = 10 * np.finfo(np.float64).eps
        if is_image:  # where pixels never varied, something may appear
            whole = np.sqrt((scale**2).mean())
            scale = np.full_like(scale, whole if whole > least else 1)
        varies = scale > least
        self.inverse = np.divide(1, scale, where=varies, out=np.zeros_like(scale))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return rows on this scale, in double precision."""
        with np.errstate(over="ignore"):
            away = np.clip(self.flat(rows) / self.unit - self.mean, -1e300, 1e300)
            return np.clip(away * self.inverse, -_FAR, _FAR)

    @staticmethod
    def flat(rows: np.ndarray) -> np.ndarray:
        """Return rows as they are, flat and in double precision."""
        return rows.reshape(len(rows), -1).astype(np.float64)


class Neighbors:
    """How far a row is from what its nearest training rows make of it.

    These are mixed to come close to the row, with weights that are kept small: a local
    linear model, of which a single neighbour and the mean of all are the two ends.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
        Those trained on.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self.n_neighbors = min(_N_NEIGHBORS, len(rows) - 1)
        self._fit_index()
        near = self.near(rows)
        distances = self._distances(rows, near, self.own(rows, near))
        self.floor = 1e-3 * distances.mean() + _TINY
        self.left_out = np.log(distances + self.floor)

    def _fit_index(self) -> None:
        n_near = self.n_neighbors + 1
        self.index = NearestNeighbors(n_neighbors=n_near).fit(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the index: it is made of the rows, and of another library."""
        return {name: value for name, value in vars(self).items() if name != "index"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._fit_index()

    def __call__(
        self, rows: np.ndarray, near: np.ndarray, own: np.ndarray
    ) -> np.ndarray:
        """Return log-distances.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_columns)
        near : ndarray of shape (n_rows, n_neighbors + 1)
            The training rows that are nearest.
        own : ndarray of shape (n_rows,)
            The training row that each row is equal to and that is left out, or -1.
        """
        return np.log(self._distances(rows, near, own) + self.floor)

    def near(self, rows: np.ndarray) -> np.ndarray:
        """Return the nearest training rows of each row, one more than is used."""
        return self.index.kneighbors(rows, return_distance=False)

    def own(self, rows: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Return the training row that each row is equal to, or -1."""
        found = np.full(len(rows), _NOT_TRAINED_ON)
        for chunk in self._chunks(rows):
            same = (self.rows[near[chunk]] == rows[chunk, None]).all(2)
            first = np.take_along_axis(near[chunk], same.argmax(1)[:, None], 1)[:, 0]
            found[chunk] = np.where(same.any(1), first, _NOT_TRAINED_ON)
        return found

    def _chunks(self, rows: np.ndarray) -> list[slice]:
        return batches(len(rows), rows.shape[1] * (self.n_neighbors + 1))

    def _distances(
        self, rows: np.ndarray, near: np.ndarray, own: np.ndarray
    ) -> np.ndarray:
        left_out = near == own[:, None]
        left_out[~left_out.any(1), -1] = True
        near = near[~left_out].reshape(len(rows), -1)
        parts = [
            self._residual(rows[c], self.rows[near[c]]) for c in self._chunks(rows)
        ]
        return np.concatenate(parts)

    def _residual(self, rows: np.ndarray, near: np.ndarray) -> np.ndarray:
        center = near.mean(1)
        spread, away = near - center[:, None], rows - center
        gram = spread @ spread.mT
        ridge = _SHRINKAGE * np.trace(gram, axis1=1, axis2=2) / self.n_neighbors
        gram += np.maximum(ridge, _TINY)[:, None, None] * np.eye(self.n_neighbors)
        weights = np.linalg.solve(gram, spread @ away[..., None])
        return np.linalg.norm(away - (weights.mT @ spread)[:, 0], axis=1)


class Reconstruction:
    """How unlikely the error of a row is that features are mapped to, linearly.

    Ridge regression of rows on features, its errors weighed by their covariance.  For a
    row that was trained on, the error is that of the regression without it, by its
    leverage (Allen, *Technometrics* 1974), and so is the covariance.
    """

    def __init__(self, rows: np.ndarray, features: np.ndarray) -> None:
        self.n_rows = len(rows)
        self.center, self.mean = features.mean(0), rows.mean(0)
        centered = features - self.center
        gram = centered.T @ centered
        ridge = _RIDGE * np.trace(gram) / len(gram) + _TINY
        self.inverse = np.linalg.inv(gram + ridge * np.eye(len(gram)))
        self.weights = self.inverse @ (centered.T @ (rows - self.mean))
        own = np.arange(len(rows))
        errors = self._errors(rows, features, own)
        # Directions of the errors: no more of them than rows, however wide these are.
        _, sizes, self.directions = np.linalg.svd(errors, full_matrices=False)
        self.variances = sizes**2 / len(rows) + _LEAST_VARIANCE
        self.left_out = self._size(errors, own)

    def __call__(
        self, rows: np.ndarray, features: np.ndarray, own: np.ndarray
    ) -> np.ndarray:
        """Return the logarithm of the squared error, whitened."""
        return self._size(self._errors(rows, features, own), own)

    def _errors(
        self, rows: np.ndarray, features: np.ndarray, own: np.ndarray
    ) -> np.ndarray:
        centered = features - self.center
        leverage = np.einsum("ij,ij->i", centered @ self.inverse, centered)
        leverage += 1 / self.n_rows  # of the mean, which is fitted too
        is_own = own != _NOT_TRAINED_ON
        kept = np.where(is_own, np.maximum(1 - leverage, _TINY), 1)
        return (rows - self.mean - centered @ self.weights) / kept[:, None]

    def _size(self, errors: np.ndarray, own: np.ndarray) -> np.ndarray:
        along = errors @ self.directions.T
        across = np.maximum((errors**2).sum(1) - (along**2).sum(1), 0)
        size = (along**2 / self.variances).sum(1) + across / _LEAST_VARIANCE
        # By Sherman and Morrison; a row trained on has at most the size n_rows.
        is_own = own != _NOT_TRAINED_ON
        left = np.where(is_own, np.maximum(1 - size / self.n_rows, _TINY), 1)
        return np.log(size / left + _TINY)


class Columns:
    """How far out each column is, by its rank among training rows, all together.

    The sum of ``-log p`` over the columns, two-sided, as if these were independent
    (Li et al., ECOD, arXiv 2201.00382).
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.sorted = np.sort(rows, axis=0)
        self.left_out = self(rows, np.arange(len(rows)))

    def __call__(self, rows: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Return the sum of negative logarithms."""
        itself = (own != _NOT_TRAINED_ON).astype(int)
        n_others = len(self.sorted) - itself
        total = np.zeros(len(rows))
        for column, ranked in zip(rows.T, self.sorted.T, strict=True):
            below = 1 + np.searchsorted(ranked, column, "right") - itself
            above = 1 + n_others - np.searchsorted(ranked, column, "left")
            tail = 2 * np.maximum(np.minimum(below, above), 1) / (n_others + 1)
            total -= np.log(np.minimum(tail, 1))
        return total


class Surprise:
    """``-log p`` of a value among those of training rows.

    In the largest twentieth it is a straight line, as for the excesses of most
    laws (Pickands, *Annals of Statistics* 1975): ranks could not tell how far out a
    value is that is larger than all.
    """

    def __init__(self, values: np.ndarray) -> None:
        values = values.round(_DECIMALS)
        self.points = np.unique(values)
        first = np.searchsorted(np.sort(values), self.points)
        self.levels = -np.log1p(-(first + 0.5) / len(values))
        self.edge = np.quantile(values, 1 - _TAIL)
        excess = values[values > self.edge] - self.edge
        self.excess = max(excess.mean() if len(excess) else 0, _LEAST_EXCESS)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return numbers from 0 up, in nats."""
        values = values.round(_DECIMALS)
        inside = np.interp(np.minimum(values, self.edge), self.points, self.levels)
        return inside + np.maximum(values - self.edge, 0) / self.excess


class Novelty:
    """The sum of what all views find surprising in a row.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, ...)
        Those trained on.
    features : ndarray of shape (n_rows, n_features)
        What a model learned of them.
    """

    def __init__(self, rows: np.ndarray, features: np.ndarray) -> None:
        self.scaling = Scaling(rows)
        scaled = self.scaling(rows)
        self.views = {
            "rows": Neighbors(scaled),
            "features": Neighbors(features),
            "reconstruction": Reconstruction(scaled, features),
        }
        if rows.ndim == 2:  # a pixel alone says little: images move
            self.views["columns"] = Columns(self.scaling.flat(rows))
        left_out = {name: view.left_out for name, view in self.views.items()}
        self.surprises = {name: Surprise(values) for name, values in left_out.items()}
        self.left_out = self._sum(self._surprising(left_out))

    def parts(self, rows: np.ndarray, features: np.ndarray) -> dict[str, np.ndarray]:
        """Return the surprise of each view; rows trained on count as left out."""
        flat, rows = self.scaling.flat(rows), self.scaling(rows)
        near = self.views["rows"].near(rows)
        own = self.views["rows"].own(rows, near)
        inputs = {
            "rows": (rows, near, own),
            "features": (features, self.views["features"].near(features), own),
            "reconstruction": (rows, features, own),
            "columns": (flat, own),
        }
        values = {name: view(*inputs[name]) for name, view in self.views.items()}
        return self._surprising(values)

    def __call__(self, rows: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Return the sum over the views, in nats."""
        return self._sum(self.parts(rows, features))

    def _surprising(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: self.surprises[name](value) for name, value in values.items()}

    @staticmethod
    def _sum(parts: dict[str, np.ndarray]) -> np.ndarray:
        return sum(parts.values()).round(_DECIMALS)

"""The score of the outlier detector: four parts, and Fisher's sum of their p-values.

Each part has a scale of its own.  Among the training rows, each scored as if it had
been left out, its value becomes a p-value, and the score is the sum of ``-log p`` over
the parts, by which Fisher's method combines tests (R. A. Fisher, *Statistical Methods
for Research Workers*, 1925, section 21.1).

The higher a score, the more unlike the training rows a row is.  Fitted objects hold
arrays and numbers only: ``state`` returns these as a dict to be saved, and ``restored``
makes an object from the dict again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from ._utils.rows import batches

__all__ = ["Columns", "Neighbors", "Novelty", "Reconstruction", "Surprise"]

_NOT_TRAINED_ON = -1
_TINY = 1e-6  # for numbers of variance 1: smaller differences count as none
_LEAST_VARIANCE = 0.01  # added to variances of residuals
_LEAST_EXCESS = 0.01  # smallest mean excess over the 95 % quantile of a part
_N_NEIGHBORS = 5
_RIDGE_OF_WEIGHTS = 0.3  # relative to the neighbours' mean square distance
_RIDGE_OF_MAP = 1e-4  # relative to the features' mean square
_TAIL = 0.05  # share of values whose -log p lies on a straight line
_DECIMALS = 6  # sums of floats round differently in batches of another size


class _Plain:
    """Base of fitted objects that are saved as a dict of their attributes.

    Subclasses are fitted when they are made, and give values of new rows when called.
    Their attributes are arrays and numbers.

    Attributes
    ----------
    left_out : ndarray of shape (n_rows,)
        Value of each training row as if it had been left out of the training rows.  It
        is needed while the detector is fitted, and not saved.
    """

    left_out: np.ndarray

    def state(self) -> dict[str, Any]:
        """Return a dict of all attributes but one, from which ``restored`` builds this.

        The attribute ``left_out``, scores of the training rows, is not needed later.
        """
        return {name: v for name, v in vars(self).items() if name != "left_out"}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> _Plain:
        """Return a new object of this class with the attributes in ``state``.

        ``state`` is what the method ``state`` of the saved object returned.
        """
        self = cls.__new__(cls)
        vars(self).update(state)
        return self


class Neighbors(_Plain):
    """Log-distance of a row from a weighted mean of its five nearest training rows.

    The weights bring the mean close to the row.  They add up to 1 and come from a ridge
    regression of the row on its neighbours, which pulls them towards equal weights.
    Calling the object returns the log-distances of new rows, ``left_out`` holds those
    of the training rows.  Distances are Euclidean.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
        Training rows, at least two.  With fewer than six, all other rows are
        neighbours.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self.n_neighbors = min(_N_NEIGHBORS, len(rows) - 1)
        near = self.near(rows)
        distances = self._distances(rows, near, self.own(rows, near))
        self.floor = float(1e-3 * distances.mean() + _TINY)
        self.left_out = np.log(distances + self.floor)

    def __call__(
        self, rows: np.ndarray, near: np.ndarray, own: np.ndarray
    ) -> np.ndarray:
        """Return the log-distance of each row from a weighted mean of its neighbours.

        The larger the log-distance, the more unusual is the row.  The weights are
        chosen for each row so that the mean comes close to it.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_columns)
            New rows, or training rows.
        near : ndarray of int of shape (n_rows, n_neighbors + 1)
            Indices of the nearest training rows, from the method ``near``.
        own : ndarray of int of shape (n_rows,)
            Index of the training row that equals each row.  A row's own training row is
            not counted as its neighbour.  -1 where no training row is equal: the
            nearest ``n_neighbors`` training rows are then the neighbours.

        Returns
        -------
        log_distances : ndarray of shape (n_rows,)
        """
        return np.log(self._distances(rows, near, own) + self.floor)

    def near(self, rows: np.ndarray) -> np.ndarray:
        """Return the indices of the training rows nearest to each row, nearest first.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_columns)
            New rows, or training rows.

        Returns
        -------
        near : ndarray of int of shape (n_rows, n_neighbors + 1)
            One index more than there are neighbours, because the search finds a
            training row as its own nearest row.
        """
        n_near = self.n_neighbors + 1
        index = NearestNeighbors(n_neighbors=n_near).fit(self.rows)
        return index.kneighbors(rows, return_distance=False)

    def own(self, rows: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Return the index of the training row that equals each row.

        Rows that were trained on are so recognised, to be scored as if they had been
        left out of the training rows.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_columns)
            New rows, or training rows.
        near : ndarray of int of shape (n_rows, n_neighbors + 1)
            Indices of the training rows nearest to each row.  Only these are compared
            with it.

        Returns
        -------
        own : ndarray of int of shape (n_rows,)
            -1 where no training row is equal.
        """
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
        """Return the distance of each row from a weighted mean of its neighbours.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_columns)
            New rows, or training rows.
        near : ndarray of int of shape (n_rows, n_neighbors + 1)
            Indices of the training rows nearest to each row, nearest first.
        own : ndarray of int of shape (n_rows,)
            Index of the training row that equals each row, which is dropped from
            ``near``.  Where it is -1 or not in ``near``, the last index is dropped.

        Returns
        -------
        distances : ndarray of shape (n_rows,)
        """
        left_out = near == own[:, None]
        left_out[~left_out.any(1), -1] = True
        near = near[~left_out].reshape(len(rows), -1)
        parts = [
            self._residual(rows[c], self.rows[near[c]]) for c in self._chunks(rows)
        ]
        return np.concatenate(parts)

    def _residual(self, rows: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Return the distance of each row from the weighted mean of given neighbours.

        The weights come from the ridge regression that the class describes.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_columns)
        near : ndarray of shape (n_rows, n_neighbors, n_columns)
            The neighbours of each row.

        Returns
        -------
        distances : ndarray of shape (n_rows,)
        """
        center = near.mean(1)
        spread, away = near - center[:, None], rows - center
        gram = spread @ spread.mT
        ridge = np.trace(gram, axis1=1, axis2=2) / self.n_neighbors
        ridge = np.maximum(_RIDGE_OF_WEIGHTS * ridge, _TINY)
        gram += ridge[:, None, None] * np.eye(self.n_neighbors)
        weights = np.linalg.solve(gram, spread @ away[..., None])
        return np.linalg.norm(away - (weights.mT @ spread)[:, 0], axis=1)


class Reconstruction(_Plain):
    """How badly a row can be reconstructed from its features by ridge regression.

    The value of a row is the log of its squared residual, whitened by the covariance of
    the residuals of training rows.  A training row gets its leave-one-out residual,
    computed from its leverage (PRESS: Allen, *Technometrics* 16 (1974) 125) and
    whitened by the covariance of the other training rows' residuals.  Calling the
    object returns the values of new rows, ``left_out`` holds those of the training
    rows.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
        Training rows, standardised.
    features : ndarray of shape (n_rows, n_features)
        Learned features of these rows.
    """

    def __init__(self, rows: np.ndarray, features: np.ndarray) -> None:
        self.n_rows = len(rows)
        self.center, self.mean = features.mean(0), rows.mean(0)
        centered = features - self.center
        gram = centered.T @ centered
        ridge = _RIDGE_OF_MAP * np.trace(gram) / len(gram) + _TINY
        self.inverse = np.linalg.inv(gram + ridge * np.eye(len(gram)))
        self.weights = self.inverse @ (centered.T @ (rows - self.mean))
        own = np.arange(len(rows))
        errors = self._residuals(rows, features, own)
        # There are at most as many directions as rows, however wide these are.
        _, sizes, self.directions = np.linalg.svd(errors, full_matrices=False)
        self.variances = sizes**2 / len(rows) + _LEAST_VARIANCE
        self.left_out = self.sizes = self._size(errors, own)

    def __call__(
        self, rows: np.ndarray, features: np.ndarray, own: np.ndarray
    ) -> np.ndarray:
        """Return the log of the whitened squared residual of each row.

        The larger it is, the worse the row can be reconstructed from its features.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_columns)
            Standardised rows.
        features : ndarray of shape (n_rows, n_features)
            Learned features of these rows.
        own : ndarray of int of shape (n_rows,)
            Index of the training row that equals each row; the row then gets its
            leave-one-out residual.  -1 where no training row is equal.

        Returns
        -------
        sizes : ndarray of shape (n_rows,)
        """
        sizes = self._size(self._residuals(rows, features, own), own)
        # With few training rows, what is left of a row without itself is so little that
        # rounding, which depends on the batch, shows.  So it is computed only once.
        return np.where(own == _NOT_TRAINED_ON, sizes, self.sizes[own])

    def _residuals(
        self, rows: np.ndarray, features: np.ndarray, own: np.ndarray
    ) -> np.ndarray:
        """Return the residuals of rows: what their features do not explain.

        Parameters
        ----------
        rows, features, own
            As in ``__call__``.

        Returns
        -------
        residuals : ndarray of shape (n_rows, n_columns)
            Rows that equal a training row get their leave-one-out residual.
        """
        centered = features - self.center
        leverage = np.einsum("ij,ij->i", centered @ self.inverse, centered)
        leverage += 1 / self.n_rows  # of the mean, which is fitted too
        is_own = own != _NOT_TRAINED_ON
        kept = np.where(is_own, np.maximum(1 - leverage, _TINY), 1)
        return (rows - self.mean - centered @ self.weights) / kept[:, None]

    def _size(self, errors: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Return the log of the whitened squared residual of each row.

        Parameters
        ----------
        errors : ndarray of shape (n_rows, n_columns)
            Residuals, as ``_residuals`` returns them.
        own : ndarray of int of shape (n_rows,)
            Index of the training row that equals each row, or -1.  The covariance that
            whitens the residual is computed without that training row.

        Returns
        -------
        sizes : ndarray of shape (n_rows,)
        """
        along = errors @ self.directions.T
        across = np.maximum((errors**2).sum(1) - (along**2).sum(1), 0)
        size = (along**2 / self.variances).sum(1) + across / _LEAST_VARIANCE
        # The covariance without the row, by the formula of Sherman and Morrison.
        is_own = own != _NOT_TRAINED_ON
        left = np.where(is_own, np.maximum(1 - size / self.n_rows, _TINY), 1)
        return np.log(size / left + _TINY)


class Columns(_Plain):
    """How far out the columns of a row are: the sum over columns of ``-log p``.

    In each column, p is about twice the share of training rows that lie at least as far
    out on the same side as the row: at or above its number, or at or below it,
    whichever are fewer.  It is at most 1.  The sum treats columns as independent (ECOD:
    Li et al., arXiv 2201.00382).  Calling the object returns the sums of new rows,
    ``left_out`` holds those of the training rows.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
        Training rows, not standardised.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.sorted = np.sort(rows, axis=0)
        self.left_out = self(rows, np.arange(len(rows)))

    def __call__(self, rows: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Return the sum of ``-log p`` over the columns of each row.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_columns)
            Rows, not standardised.
        own : ndarray of int of shape (n_rows,)
            Index of the training row that equals each row; p is computed without that
            training row.  -1 where no training row is equal.

        Returns
        -------
        total : ndarray of shape (n_rows,)
            In nats, at least 0; the larger, the farther out.
        """
        itself = (own != _NOT_TRAINED_ON).astype(int)
        n_others = len(self.sorted) - itself
        total = np.zeros(len(rows))
        for column, ranked in zip(rows.T, self.sorted.T, strict=True):
            below = 1 + np.searchsorted(ranked, column, "right") - itself
            above = 1 + n_others - np.searchsorted(ranked, column, "left")
            tail = 2 * np.maximum(np.minimum(below, above), 1) / (n_others + 1)
            total -= np.log(np.minimum(tail, 1))
        return total


class Surprise(_Plain):
    """How unusual a value of one part of the score is: ``-log p``, in nats.

    p is about the share of training values that are at least as large.  Above the 95 %
    quantile of the training values, ``-log p`` continues as a straight line, because
    ranks cannot tell how far a value lies above the largest one.  The line stands for
    the exponential tail that most distributions have (Pickands, *Annals of Statistics*
    3 (1975) 119).  Calling the object returns ``-log p`` of new values.

    Parameters
    ----------
    values : ndarray of shape (n_rows,)
        Values that one part of the score gives to the training rows, each as if it had
        been left out: ``left_out`` of that part.
    """

    def __init__(self, values: np.ndarray) -> None:
        values = values.round(_DECIMALS)
        self.points = np.unique(values)
        first = np.searchsorted(np.sort(values), self.points)
        self.levels = -np.log1p(-(first + 0.5) / len(values))
        self.edge = float(np.quantile(values, 1 - _TAIL))
        excess = values[values > self.edge] - self.edge
        excess = excess.mean() if len(excess) else 0
        self.excess = float(max(excess, _LEAST_EXCESS))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return ``-log p`` of each value, in nats, above 0.

        p is about the share of training values that are at least as large, as the class
        says.  ``values`` and the result are arrays of shape (n_rows,).
        """
        values = values.round(_DECIMALS)
        inside = np.interp(np.minimum(values, self.edge), self.points, self.levels)
        return inside + np.maximum(values - self.edge, 0) / self.excess


_PARTS = {
    "rows": Neighbors,
    "features": Neighbors,
    "reconstruction": Reconstruction,
    "columns": Columns,
}


class Novelty:
    """How unlike the training rows a row is: the sum of ``-log p`` over four parts.

    The parts are ``Neighbors`` of rows, ``Neighbors`` of features, ``Reconstruction``
    and, in tables, ``Columns``; ``Surprise`` turns the values of each part into
    ``-log p``.  Calling the object returns the scores of new rows.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
        Training rows, flattened.
    standardized : ndarray of shape (n_rows, n_columns)
        The same rows, standardised.
    features : ndarray of shape (n_rows, n_features)
        Features that a fitted estimator computes for these rows.
    has_columns : bool
        True adds the part ``Columns``, as in tables.  False leaves it out, as for
        images, whose single pixels say little.

    Attributes
    ----------
    left_out : ndarray of shape (n_rows,)
        Score of each training row as if it had been left out.
    """

    def __init__(
        self,
        rows: np.ndarray,
        standardized: np.ndarray,
        features: np.ndarray,
        has_columns: bool,
    ) -> None:
        self.parts = {
            "rows": Neighbors(standardized),
            "features": Neighbors(features),
            "reconstruction": Reconstruction(standardized, features),
        }
        if has_columns:
            self.parts["columns"] = Columns(rows)
        left_out = {name: part.left_out for name, part in self.parts.items()}
        self.surprises = {name: Surprise(values) for name, values in left_out.items()}
        self.left_out = self._sum(self._surprising(left_out))

    def state(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return all that was fitted, to be saved, as nested dicts.

        ``state()[kind][part][attribute]`` is an array or a number, where kind is
        "parts" or "surprises" and part is "rows", "features", "reconstruction" or
        "columns".
        """
        both = {"parts": self.parts, "surprises": self.surprises}
        return {
            kind: {name: one.state() for name, one in ones.items()}
            for kind, ones in both.items()
        }

    @classmethod
    def restored(cls, state: dict[str, dict[str, dict[str, Any]]]) -> Novelty:
        """Return a Novelty from what the method ``state`` returned.

        A detector keeps only that state, and restores it whenever it scores rows.  The
        result has no attribute ``left_out``.
        """
        self = cls.__new__(cls)
        self.parts = {n: _PARTS[n].restored(s) for n, s in state["parts"].items()}
        self.surprises = {
            n: Surprise.restored(s) for n, s in state["surprises"].items()
        }
        return self

    def each(
        self, rows: np.ndarray, standardized: np.ndarray, features: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return how unusual each row is by each part of the score, as ``-log p``.

        ``p`` is about the share of training rows that are at least as unusual.  A row
        that equals a training row is scored as if that training row had been left out.

        Parameters
        ----------
        rows, standardized : ndarray of shape (n_rows, n_columns)
            Rows, flattened; and the same standardised.
        features : ndarray of shape (n_rows, n_features)
            Features that the fitted estimator computes for these rows.

        Returns
        -------
        surprises : dict of str to ndarray of shape (n_rows,)
            In nats.  "rows": by the distance of the standardised row from a weighted
            mean of its nearest training rows; "features": the same among features;
            "reconstruction": by the residual of predicting the row from its features;
            "columns", in tables only: by how extreme its values rank within their
            columns, summed over columns.
        """
        near = self.parts["rows"].near(standardized)
        own = self.parts["rows"].own(standardized, near)
        inputs = {
            "rows": (standardized, near, own),
            "features": (features, self.parts["features"].near(features), own),
            "reconstruction": (standardized, features, own),
            "columns": (rows, own),
        }
        values = {name: part(*inputs[name]) for name, part in self.parts.items()}
        return self._surprising(values)

    def __call__(
        self, rows: np.ndarray, standardized: np.ndarray, features: np.ndarray
    ) -> np.ndarray:
        """Return how unlike the training rows each row is: the sum over parts, in nats.

        Parameters
        ----------
        rows, standardized : ndarray of shape (n_rows, n_columns)
            Rows, flattened; and the same standardised.
        features : ndarray of shape (n_rows, n_features)
            Features that the fitted estimator computes for these rows.

        Returns
        -------
        scores : ndarray of shape (n_rows,)
            At least 0; the higher, the more unlike.
        """
        return self._sum(self.each(rows, standardized, features))

    def _surprising(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return ``-log p`` of values of each part of the score.

        ``values`` and the result are dicts that map the name of each part to an array
        of shape (n_rows,).
        """
        return {name: self.surprises[name](value) for name, value in values.items()}

    @staticmethod
    def _sum(parts: dict[str, np.ndarray]) -> np.ndarray:
        """Return the sum over the parts of the score, an array of shape (n_rows,).

        ``parts`` maps the name of each part to an array of that shape.  The sum is
        rounded to 6 decimals, so that a row scores the same in any batch.
        """
        return sum(parts.values()).round(_DECIMALS)

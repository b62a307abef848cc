"""Means over tables and seeds of the results of features.py; needs no torch."""

import numpy as np
from scipy.stats import rankdata

from benchmarks._common import grouped

CLASSIFIERS = "LR", "LDA", "GNB", "QDA", "kNN"
USES = [*CLASSIFIERS, *(f"{name}, 10 %" for name in CLASSIFIERS)]


def summary(rows):
    """Return a row for each representation: means over tables, and its mean rank.

    ``rows`` are the results of features.py.  Representations are ranked by accuracy on
    each table with each classifier; rank 1 is the best.
    """
    kinds, tables = (
        list(dict.fromkeys(row[key] for row in rows))
        for key in ("representation", "table")
    )
    groups = grouped(rows, "representation", "table")

    def means(kind, key):
        """Return an array: the mean over seeds of column ``key``, for each table."""
        return np.array(
            [np.mean([row[key] for row in groups[kind, table]]) for table in tables]
        )

    accuracy = np.array([[means(kind, use) for use in USES] for kind in kinds])
    ranks = rankdata(-accuracy.round(3), axis=0).mean((1, 2))
    return [
        {
            "representation": kind,
            "mean rank": rank,
            **dict(zip(USES, accuracies.mean(1), strict=True)),
            "match, median": np.median(means(kind, "match")),
            "seconds, mean": means(kind, "seconds").mean(),
        }
        for kind, rank, accuracies in zip(kinds, ranks, accuracy, strict=True)
    ]

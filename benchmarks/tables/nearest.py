"""Which rows are nearest: by absolute (L1) or squared (L2) differences of columns.

The library looks for near rows in two places.  The view "neighbors" replaces cells by
those of a near row, and the detector measures distances from near rows.  Each place is
tried with both: accuracy and match of codes of tables to classify, with the metric of
the view; AUROC and average precision of the detector, fitted on half of the normal rows
of ``DATA/adbench/*.npz``, with the metric of the detector.
"""

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import LabelEncoder

from benchmarks._common import arguments, save
from benchmarks.tables._data import halves, tables
from benchmarks.tables.defaults import CLASSIFIERS
from skdim import InfoMaxOutlierDetector, NoiseInjectedDIM, _novelty
from skdim._core import neighbors
from skdim.metrics import match_score

MOST_ROWS = 2000  # to train the detector on, and as many of each kind to judge it


@contextmanager
def metric_of_view(p):
    """Let the view "neighbors" look for near rows by the Minkowski metric ``p``."""

    def cdist(queries, reference, **_):
        return distance(queries, reference, p=p)

    distance = torch.cdist
    with patch.object(neighbors.torch, "cdist", cdist):
        yield


@contextmanager
def metric_of_detector(p):
    """Let the detector look for near rows by the Minkowski metric ``p``."""
    with patch.object(_novelty, "NearestNeighbors", partial(NearestNeighbors, p=p)):
        yield


def of_view(X, X_test, y, y_test, seed):
    """Return {name: value} of the accuracy of classifiers on codes, and their match."""
    dim = NoiseInjectedDIM(min(16, X.shape[1]), random_state=seed).fit(X)
    codes, codes_test = dim.transform(X), dim.transform(X_test)
    scores = [
        make().fit(codes, y).score(codes_test, y_test) for make in CLASSIFIERS.values()
    ]
    return {"accuracy": np.mean(scores), "match": -match_score(dim, X_test)}


def of_detector(X, X_test, is_outlier, seed):
    """Return {name: value} of how well scores rank outliers above normal rows."""
    detector = InfoMaxOutlierDetector(calibration_size=0, random_state=seed).fit(X)
    scores = -detector.score_samples(X_test)
    return {
        "AUROC": roc_auc_score(is_outlier, scores),
        "AP": average_precision_score(is_outlier, scores),
    }


def outlier_tables(folder):
    """Yield (name, normal rows, outliers) of the tables of outliers in ``folder``."""
    for path in sorted(Path(folder or ".", "adbench").glob("*.npz")):
        with np.load(path) as file:
            X, y = file["X"].astype(float), file["y"]
        yield path.stem, X[y == 0], X[y == 1]


def main():
    """Measure, and store the results."""
    options, rows = arguments(__doc__), []
    for seed in range(options.seeds):
        for name, (X, y) in tables(options.data).items():
            split = halves(X, LabelEncoder().fit_transform(y), seed)
            X, X_test, y, y_test = split
            for p in (1, 2):
                with metric_of_view(p):
                    found = of_view(X, X_test, y, y_test, seed)
                rows.append({"of": "view", "table": name, "seed": seed, "p": p} | found)
        for name, normal, odd in outlier_tables(options.data):
            rng = np.random.default_rng(seed)
            normal = rng.permutation(normal)[: 2 * MOST_ROWS]
            odd = rng.permutation(odd)[:MOST_ROWS]
            X, rest = np.array_split(normal, 2)
            is_outlier = np.r_[np.zeros(len(rest)), np.ones(len(odd))]
            for p in (1, 2):
                with metric_of_detector(p):
                    found = of_detector(X, np.r_[rest, odd], is_outlier, seed)
                row = {"of": "detector", "table": name, "seed": seed, "p": p}
                rows.append(row | found)
        print(f"seed {seed} done", flush=True)
    save("tables/nearest", rows)


if __name__ == "__main__":
    main()

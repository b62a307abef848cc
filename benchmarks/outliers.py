"""Outlier detectors on the tables of ADBench (Han et al., arXiv 2206.09426).

Tables are looked for in the folder ``adbench`` of the data.  Of each, at most 10,000
rows are drawn.  One-class: a random half of the normal rows is trained on, and the
rest judged by.  Contaminated: all rows are trained on and judged by.  Columns that
never vary in training are dropped and the others standardised, for all methods alike.
With nothing to split, contaminated tables are run with one seed.

Our detector is run with more seeds, for the rates of flagged rows alone.

Rows of results are kept as they come, so that a run that was cut off goes on.
"""

import json
import time
import warnings
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _common import RESULTS, arguments, save
from _outlier_scores import OURS, TRIALS, crossed, distance, ours
from joblib import Parallel, delayed
from pyod.models.lunar import LUNAR
from sklearn.covariance import MinCovDet
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import StandardScaler

MOST_ROWS = 10_000
LEVELS = (0.01, 0.05)
SHARES = (0.5, 0.75, 0.9)  # of rows held out


def names(folder):
    """Return the names of the tables, by their number."""
    found = (path.stem for path in (Path(folder) / "adbench").glob("*.npz"))
    return sorted(found, key=lambda name: int(name.split("_")[0]))


def split(folder, name, seed, is_one_class):
    """Return rows to train on and to judge by, and which of these are outliers."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    X, y = drawn(folder, name, rng)
    normal = np.flatnonzero(y == 0)
    train = np.sort(rng.choice(normal, len(normal) // 2, False))
    test = np.setdiff1d(np.arange(len(y)), train)
    if not is_one_class:
        train = test = np.arange(len(y))
    X_train, X_test = X[train], X[test]
    varies = np.ptp(X_train, axis=0) > 0
    scaler = StandardScaler().fit(X_train[:, varies])
    rows = [scaler.transform(part[:, varies]) for part in (X_train, X_test)]
    return *rows, y[test]


def drawn(folder, name, rng):
    """Return at most so many rows, with their share of outliers."""
    with np.load(Path(folder) / "adbench" / f"{name}.npz", allow_pickle=True) as file:
        X, y = file["X"].astype(float), file["y"].ravel().astype(int)
    if len(y) <= MOST_ROWS:
        return X, y
    out, normal = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    n_out = min(len(out), int(np.ceil(len(out) / len(y) * MOST_ROWS)))
    index = [rng.choice(out, n_out, False)]
    index.append(rng.choice(normal, MOST_ROWS - n_out, False))
    index = np.sort(np.concatenate(index))
    return X[index], y[index]


# Methods take rows to train on, rows to judge and a seed, and return scores by name,
# the higher the more of an outlier; with them p-values, if there are any.


def neighbors(k):
    """Return the method of the k-th neighbour."""
    return lambda X, X_test, seed: ({"": distance(X, X_test, k)}, None)


def forest(X, X_test, seed):
    """Return the score of an isolation forest."""
    return {"": -IsolationForest(random_state=seed).fit(X).score_samples(X_test)}, None


def factor(X, X_test, seed):
    """Return the local outlier factor."""
    if X is X_test:
        return {"": -LocalOutlierFactor().fit(X).negative_outlier_factor_}, None
    return {"": -LocalOutlierFactor(novelty=True).fit(X).score_samples(X_test)}, None


def mixture(X, X_test, seed):
    """Return the log-density of ten normal laws."""
    n_components = min(10, len(X) // 2)
    model = GaussianMixture(n_components, random_state=seed).fit(X)
    return {"": -model.score_samples(X_test)}, None


def lunar(X, X_test, seed):
    """Return the score of LUNAR (Goodge et al., arXiv 2112.05355), from PyOD."""
    torch.manual_seed(seed)
    detector = LUNAR(random_state=seed).fit(X)
    is_same = X is X_test  # it scores what it was fitted on by itself
    return {
        "": detector.decision_scores_ if is_same else detector.decision_function(X_test)
    }, None


def covariance(X, X_test, seed):
    """Return the Mahalanobis distance by the minimum covariance determinant."""
    return {"": MinCovDet(random_state=seed).fit(X).mahalanobis(X_test)}, None


def variant(**params):
    """Return the method of our detector with these parameters, by its name."""
    named = ", ".join(f"{name}={value}" for name, value in params.items())
    return {f"{OURS}({named})": partial(ours, **params)}


METHODS = {
    "5 neighbours": neighbors(5),
    "1 neighbour": neighbors(1),
    "isolation forest": forest,
    "local outlier factor": factor,
    "10 normal laws": mixture,
    "LUNAR": lunar,
    OURS: ours,
    **variant(calibration_size=0),
    **variant(calibration_size=0.5),
    **variant(calibration_size=0.9),
    "cross-conformal, 4 folds": crossed,
    **TRIALS,
}
MORE_SEEDS = {OURS: 6}  # rates of what is rare scatter more than ranks
OF_CONTAMINATED = {
    **variant(calibration_size=0),
    **variant(calibration_size=0, support_fraction=0.7),
    "5 neighbours": neighbors(5),
    "isolation forest": forest,
    "local outlier factor": factor,
    "minimum covariance determinant": covariance,
}
TOO_SLOW = {("minimum covariance determinant", "17_InternetAds")}


def measure(folder, name, seed, method, is_one_class):
    """Return rows of results, one a score."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    X, X_test, y = split(folder, name, seed, is_one_class)
    X_test = X if not is_one_class else X_test
    start = time.perf_counter()
    methods = METHODS if is_one_class else OF_CONTAMINATED
    scores, p = methods[method](X, X_test, seed)
    seconds = time.perf_counter() - start
    row = {"table": name, "seed": seed, "of": method, "seconds": seconds}
    row["one-class"] = is_one_class
    if p is not None:
        row |= {f"flagged at {a}": float((p[y == 0] <= a).mean()) for a in LEVELS}
        row |= {f"found at {a}": float((p[y == 1] <= a).mean()) for a in LEVELS}
    return [
        row
        | {"method": method + suffix}
        | {"AUROC": roc_auc_score(y, s), "AP": average_precision_score(y, s)}
        for suffix, s in scores.items()
    ]


def floors(folder, n_repeats=1000):
    """Return how far conformal p-values are off where scores are exchangeable.

    By the share of rows held out, the mean absolute deviation of the share of flagged
    rows from each level, over the tables and by simulation.
    """
    rng, off = np.random.default_rng(0), {}
    for name in names(folder):
        X, _, y = split(folder, name, 0, True)
        for share in SHARES:
            n_held, n_normal = round(share * len(X)), int((y == 0).sum())
            held = np.sort(rng.random((n_repeats, n_held)), axis=1)
            for level in LEVELS:
                n_above = int(level * (n_held + 1))
                rate = 1 - held[:, -n_above] if n_above else np.zeros(n_repeats)
                flagged = rng.binomial(n_normal, rate) / n_normal
                of_share = off.setdefault(str(share), {str(a): [] for a in LEVELS})
                of_share[str(level)].append(np.abs(flagged - level).mean())
    return {
        share: {level: float(np.mean(gaps)) for level, gaps in of_share.items()}
        for share, of_share in off.items()
    }


def main():
    """Run what is not known yet."""
    args = arguments(__doc__, jobs=1)
    path = RESULTS / "outliers.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    known = {(r["table"], r["seed"], r["of"], r["one-class"]) for r in rows}
    asked = [
        (table, seed, method, is_one_class)
        for is_one_class, methods in ((True, METHODS), (False, OF_CONTAMINATED))
        for method in methods
        for seed in range(MORE_SEEDS.get(method, args.seeds) if is_one_class else 1)
        for table in names(args.data)
        if (method, table) not in TOO_SLOW
    ]
    asked = [each for each in asked if each not in known]
    by_chance = floors(args.data)
    pool = Parallel(args.jobs, return_as="generator_unordered")
    for found in pool(delayed(measure)(args.data, *each) for each in asked):
        rows += found
        save("outliers", rows, floors=by_chance, seeds=args.seeds)


if __name__ == "__main__":
    main()

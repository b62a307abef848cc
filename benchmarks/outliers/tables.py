"""Outlier detectors on the tables of ADBench (Han et al., arXiv 2206.09426).

Tables come from the folder ``adbench`` of the data; at most 10,000 rows of each are
drawn.  One-class: detectors are fitted to a random half of the normal rows and scored
on all other rows.  Contaminated: they are fitted to all rows and scored on the same
rows.  These runs have one seed, because nothing is split.  For all methods, columns
that are constant in training are dropped and the others standardised.

``InfoMaxOutlierDetector`` has more seeds, used only for the rates of flagged rows.

Every result is written at once, so that a run that was stopped can be continued.
"""

import time
import warnings
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from pyod.models.lunar import LUNAR
from sklearn.covariance import MinCovDet
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import StandardScaler

from benchmarks._common import arguments, save, stored
from benchmarks.outliers._scores import OURS, TRIALS, crossed, distance, ours

MOST_ROWS = 10_000
LEVELS = (0.01, 0.05)
SHARES = (0.5, 0.75, 0.9)  # shares of the training rows that are held out for p-values


def names(folder):
    """Return the names of the tables, in the order of their numbers."""
    found = (path.stem for path in (Path(folder) / "adbench").glob("*.npz"))
    return sorted(found, key=lambda name: int(name.split("_")[0]))


def split(folder, name, seed, is_one_class):
    """Return X_train, X_test, and y: 1 for outliers among the test rows, 0 else."""
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
    """Return X, y of at most MOST_ROWS rows of a table, with its share of outliers."""
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


# A method takes rows to train on, rows to score and a seed.  It returns {name: scores}
# and p-values or None.  Outliers have high scores; a method's only score is named "".


def neighbors(k):
    """Return a method that scores by the distance to the k-th neighbour."""
    return lambda X, X_test, seed: ({"": distance(X, X_test, k)}, None)


def forest(X, X_test, seed):
    """Score by an isolation forest."""
    return {"": -IsolationForest(random_state=seed).fit(X).score_samples(X_test)}, None


def factor(X, X_test, seed):
    """Score by the local outlier factor."""
    if X is X_test:
        return {"": -LocalOutlierFactor().fit(X).negative_outlier_factor_}, None
    return {"": -LocalOutlierFactor(novelty=True).fit(X).score_samples(X_test)}, None


def mixture(X, X_test, seed):
    """Score by the negative log-density of a mixture of ten normal distributions."""
    n_components = min(10, len(X) // 2)
    model = GaussianMixture(n_components, random_state=seed).fit(X)
    return {"": -model.score_samples(X_test)}, None


def lunar(X, X_test, seed):
    """Score by LUNAR of PyOD (Goodge et al., arXiv 2112.05355)."""
    torch.manual_seed(seed)
    detector = LUNAR(random_state=seed).fit(X)
    is_same = X is X_test  # the fit has scored the training rows
    return {
        "": detector.decision_scores_ if is_same else detector.decision_function(X_test)
    }, None


def covariance(X, X_test, seed):
    """Score by the Mahalanobis distance, with the minimum covariance determinant."""
    return {"": MinCovDet(random_state=seed).fit(X).mahalanobis(X_test)}, None


def variant(**params):
    """Return {name: method} for InfoMaxOutlierDetector with these parameters."""
    named = ", ".join(f"{name}={value}" for name, value in params.items())
    return {f"{OURS}({named})": partial(ours, **params)}


METHODS = {
    "5 neighbours": neighbors(5),
    "1 neighbour": neighbors(1),
    "isolation forest": forest,
    "local outlier factor": factor,
    "Gaussian mixture, 10 components": mixture,
    "LUNAR": lunar,
    OURS: ours,
    **variant(calibration_size=0),
    **variant(calibration_size=0.5),
    **variant(calibration_size=0.9),
    "cross-conformal, 4 folds": crossed,
    **TRIALS,
}
MORE_SEEDS = {OURS: 6}  # rates of flagged rows vary more than AUROC
OF_CONTAMINATED = {
    **variant(calibration_size=0),
    **variant(calibration_size=0, support_fraction=0.7),
    "5 neighbours": neighbors(5),
    "isolation forest": forest,
    "local outlier factor": factor,
    "minimum covariance determinant": covariance,
}
TOO_SLOW = {("minimum covariance determinant", "17_InternetAds")}


def measure(folder, table, seed, method, is_one_class):
    """Run one method on one table; return a row of results for each of its scores."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    X, X_test, y = split(folder, table, seed, is_one_class)
    X_test = X if not is_one_class else X_test
    start = time.perf_counter()
    methods = METHODS if is_one_class else OF_CONTAMINATED
    scores, p = methods[method](X, X_test, seed)
    seconds = time.perf_counter() - start
    row = {"table": table, "seed": seed, "one-class": is_one_class}
    row |= {"method": method, "seconds": seconds}
    if p is not None:
        row |= {f"flagged at {a}": float((p[y == 0] <= a).mean()) for a in LEVELS}
        row |= {f"found at {a}": float((p[y == 1] <= a).mean()) for a in LEVELS}
    return [
        row
        | {"score": name}
        | {"AUROC": roc_auc_score(y, s), "AP": average_precision_score(y, s)}
        for name, s in scores.items()
    ]


def floors(folder, n_repeats=1000):
    """Simulate the error that valid conformal p-values have by chance.

    The error is the mean absolute difference between the share of flagged normal rows
    and the level, over ``n_repeats`` draws and all tables.  Simulated scores are
    independent and identically distributed, so the p-values are valid.  Returns
    {share of training rows held out: {level: error}}.
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
    """Do all runs that are missing; save after each."""
    args = arguments(__doc__, jobs=1)
    rows = stored("outliers/tables")
    known = {(r["table"], r["seed"], r["method"], r["one-class"]) for r in rows}
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
        save("outliers/tables", rows, floors=by_chance, seeds=args.seeds)


if __name__ == "__main__":
    main()

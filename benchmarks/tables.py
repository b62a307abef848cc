"""Features for classifiers of tables: ours beside what else can be had.

Every representation is fitted to standardised training rows without labels (those
marked with a star use them), and classifiers to its output, on all labels and on a
tenth, drawn five times.  The rest of the rows judges: accuracy; and the match, the
sliced 2-Wasserstein distance to N(0, I) as a multiple of that of a true sample.
"""

import time
import warnings
from functools import partial
from importlib.util import find_spec

import _peers as peers
import numpy as np
import torch
from _common import arguments, save
from defaults import MOST_ROWS, tables
from scipy.stats import rankdata
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.ensemble import RandomTreesEmbedding
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, NeighborhoodComponentsAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)

from skdim import NoiseInjectedDIM
from skdim.metrics import sample_floor, sliced_wasserstein_distance

WIDTH, STEPS = 64, 400
FEW, N_DRAWS = 0.1, 5  # share of the labels, and how often they are drawn
USES = {
    "LR": partial(LogisticRegression, max_iter=300),
    "LDA": partial(LinearDiscriminantAnalysis, solver="lsqr", shrinkage=0.01),
    "GNB": GaussianNB,
    "QDA": partial(QuadraticDiscriminantAnalysis, solver="eigen", shrinkage=0.1),
    "kNN": KNeighborsClassifier,
}


def ours(X, y, seed, n_components=WIDTH, **parameters):
    """Fit skdim; return its transform."""
    dim = NoiseInjectedDIM(n_components, random_state=seed, **parameters)
    return dim.fit(X, y).transform


def beside(X, y, seed, **parameters):
    """Fit skdim; return codes and inputs side by side."""
    transform = ours(X, y, seed, **parameters)
    return lambda X: np.hstack([transform(X), X])


def several(X, y, seed, n_fits=3, **parameters):
    """Fit skdim from several seeds; return all codes side by side."""
    fits = [ours(X, y, seed + 100 * k, **parameters) for k in range(n_fits)]
    return lambda X: np.hstack([transform(X) for transform in fits])


def matching(X, y, seed):
    """Fit skdim with as many components as columns, up to 32."""
    return ours(X, y, seed, n_components=min(32, X.shape[1]))


def matching_plain(X, y, seed):
    """Do the same without views."""
    return ours(X, y, seed, n_components=min(32, X.shape[1]), views=None)


def theirs(make):
    """Return a function that fits a scikit-learn transformer."""

    def fit(X, y, seed):
        known = y >= 0
        model = make(seed)
        model.fit(X, y) if known.all() else model.fit(X[known], y[known])
        return lambda X: np.asarray(model.transform(X))

    return fit


def quantile(seed):
    """Return a quantile transformer to the normal law."""
    return QuantileTransformer(
        n_quantiles=200, output_distribution="normal", random_state=seed
    )


def whitening():
    """Return principal components of variance 1."""
    return PCA(0.999, whiten=True, svd_solver="full")


def random_trees(seed):
    """Return leaves of random trees, brought to as many columns as ours."""
    trees = RandomTreesEmbedding(100, max_depth=5, random_state=seed)
    return make_pipeline(trees, TruncatedSVD(WIDTH, random_state=seed))


class SomeNeighborhoodComponents(NeighborhoodComponentsAnalysis):
    """Cut n_components to the number of columns."""

    def fit(self, X, y):
        """Fit with at most as many components as columns."""
        self.n_components = min(WIDTH, X.shape[1])
        return super().fit(X, y)


def representations():
    """Return {name: function (X, y, seed) -> transform}."""
    found = {
        "inputs": theirs(lambda seed: FunctionTransformer()),
        "skdim": ours,
        "skdim, hidden layer": partial(ours, output_layer="hidden"),
        "skdim and inputs": beside,
        "skdim, 3 seeds": several,
        "skdim, views=None": partial(ours, views=None),
        "skdim, d=min(D, 32)": matching,
        "skdim, d=min(D, 32), views=None": matching_plain,
        "PCA, whitened": theirs(lambda seed: whitening()),
        "quantiles": theirs(quantile),
        "quantiles, PCA whitened": theirs(
            lambda seed: make_pipeline(quantile(seed), whitening())
        ),
        "power transform": theirs(lambda seed: PowerTransformer()),
        "splines": theirs(lambda seed: SplineTransformer(knots="quantile")),
        "Nystroem": theirs(
            lambda seed: Nystroem(n_components=WIDTH, random_state=seed)
        ),
        "random trees, SVD": theirs(random_trees),
        "untrained layer": lambda X, y, seed: peers.untrained(X, seed),
        "autoencoder": lambda X, y, seed: peers.autoencoder(X, WIDTH, STEPS, seed),
    }
    for name, make_loss in peers.LOSSES.items():
        found[name] = partial(self_supervised, make_loss)
    if find_spec("zuko"):
        found["normalising flow"] = lambda X, y, seed: peers.flow(X, STEPS, seed)
    return found | {
        "skdim, supervised*": partial(ours, supervised=True),
        "LDA*": theirs(lambda seed: LinearDiscriminantAnalysis()),
        "NCA*": theirs(
            lambda seed: SomeNeighborhoodComponents(max_iter=50, random_state=seed)
        ),
    }


def self_supervised(make_loss, X, y, seed):
    """Fit a peer's loss."""
    return peers.self_supervised(make_loss, X, WIDTH, STEPS, seed)


def split(X, y, seed):
    """Return standardised halves of at most MOST_ROWS rows."""
    if len(X) > MOST_ROWS:
        X, _, y, _ = train_test_split(
            X, y, train_size=MOST_ROWS, random_state=0, stratify=y
        )
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=0.5, random_state=seed, stratify=y
    )
    scaler = StandardScaler().fit(X)
    return scaler.transform(X), scaler.transform(X_test), y, y_test


def some(y, seed):
    """Return the labels of a tenth of each class, at least two; -1 elsewhere."""
    rng = np.random.default_rng(seed)
    known = np.full(len(y), -1)
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        rows = rows[: max(2, round(FEW * len(rows)))]
        known[rows] = label
    return known


def accuracies(Z, Z_test, y, y_test):
    """Return the accuracy, in percent, of every use; -1 in ``y`` is unlabelled."""
    rows = y >= 0
    found = {}
    for name, make in USES.items():
        try:
            model = make().fit(Z[rows], y[rows])
            found[name] = 100 * model.score(Z_test, y_test)
        except np.linalg.LinAlgError:
            found[name] = 0.0
    return found


def measure(fit, uses_labels, X, X_test, y, y_test, seed):
    """Fit one representation to one split and judge it.

    With few labels, one that uses labels is fitted again to these alone.
    """
    start = time.perf_counter()
    transform = fit(X, y, seed)
    seconds = time.perf_counter() - start
    Z, Z_test = transform(X), transform(X_test)
    row = {"seconds": seconds, "components": Z.shape[1]}
    row |= accuracies(Z, Z_test, y, y_test)
    floor = sample_floor(sliced_wasserstein_distance, *Z_test.shape)
    row["match"] = sliced_wasserstein_distance(Z_test) / floor
    few = []
    for draw in range(N_DRAWS):
        known = some(y, seed + 100 * draw)
        if uses_labels:
            transform = fit(X, known, seed)
            Z, Z_test = transform(X), transform(X_test)
        few.append(accuracies(Z, Z_test, known, y_test))
    return row | {f"{use}, 10 %": np.mean([f[use] for f in few]) for use in USES}


def summary(rows):
    """Return one row per representation: means over tables, and the mean rank."""
    kinds = list(dict.fromkeys(row["representation"] for row in rows))
    names = list(dict.fromkeys(row["table"] for row in rows))
    uses = [key for key in rows[0] if key.split(",")[0] in USES]

    def of(kind, name, key):
        picked = (row for row in rows if row["representation"] == kind)
        return np.mean([row[key] for row in picked if row["table"] == name])

    scores = np.array([[[of(k, n, u) for u in uses] for n in names] for k in kinds])
    ranks = rankdata(-scores.round(3), axis=0)
    found = []
    for kind, score, rank in zip(kinds, scores, ranks, strict=True):
        row = {"representation": kind, "mean rank": float(rank.mean())}
        row |= {
            use: float(value) for use, value in zip(uses, score.mean(0), strict=True)
        }
        match = [of(kind, name, "match") for name in names]
        seconds = [of(kind, name, "seconds") for name in names]
        row |= {"match, median": float(np.median(match))}
        row |= {"seconds, mean": float(np.mean(seconds))}
        found.append(row | {"seconds, most": float(np.max(seconds))})
    return found


def main():
    """Run everything and save it."""
    args = arguments(__doc__)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    data = tables(args.data)
    data.pop("digits, 200 rows")
    rows = []
    for name, (X, y) in data.items():
        y = np.unique(y, return_inverse=True)[1]
        for seed in range(args.seeds):
            halves = split(X, y, seed)
            for kind, fit in representations().items():
                result = measure(fit, kind.endswith("*"), *halves, seed)
                row = {"representation": kind, "table": name, "seed": seed}
                rows.append(row | result)
        print(name, len(rows), flush=True)
    for row in summary(rows):
        print({k: v if isinstance(v, str) else round(v, 2) for k, v in row.items()})
    save("tables", summary(rows), splits=args.seeds, tables=list(data), each=rows)


if __name__ == "__main__":
    main()

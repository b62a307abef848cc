"""Features for classifiers of tables: skdim beside other representations.

Every representation is fitted to the standardised rows of one half of a table, without
labels; those with a star use them.  Classifiers are fitted to its output, with all
labels and with a tenth of them, drawn five times.  Measured on the other half: the
accuracy, and the match.  Self-supervised peers are also measured with the final map of
skdim behind them.  The match is the sliced 2-Wasserstein distance of the output
to N(0, I), divided by the mean distance of samples drawn from N(0, I).

Stored results are kept, and what is missing is added: move the file away to run all.
In this file a transform is a function from an array of rows to an array of features.
"""

import time
import warnings
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.ensemble import RandomTreesEmbedding
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
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

from benchmarks._common import arguments, save, shown, stored
from benchmarks.tables import _peers as peers
from benchmarks.tables._data import halves, tables
from benchmarks.tables._summary import summary
from skdim import NoiseInjectedDIM
from skdim._core.memory import Memory
from skdim._core.runtime import seeded_generator
from skdim._core.transport import Transport
from skdim.metrics import sample_floor, sliced_wasserstein_distance

WIDTH, STEPS = 64, 400
FEW, N_DRAWS = 0.1, 5  # share of the labels, and how often they are drawn
CLASSIFIERS = {
    "LR": partial(LogisticRegression, max_iter=300),
    "LDA": partial(LinearDiscriminantAnalysis, solver="lsqr", shrinkage=0.01),
    "GNB": GaussianNB,
    "QDA": partial(QuadraticDiscriminantAnalysis, solver="eigen", shrinkage=0.1),
    "kNN": KNeighborsClassifier,
}


def ours(X, y, seed, n_components=WIDTH, **parameters):
    """Fit NoiseInjectedDIM with these parameters; return its transform."""
    dim = NoiseInjectedDIM(n_components, random_state=seed, **parameters)
    return dim.fit(X, y).transform


def beside(X, y, seed, **parameters):
    """Fit skdim; return a transform to codes and inputs side by side."""
    transform = ours(X, y, seed, **parameters)
    return lambda X: np.hstack([transform(X), X])


def several(X, y, seed, n_fits=3, **parameters):
    """Fit skdim from several seeds; return a transform to all codes side by side."""
    fits = [ours(X, y, seed + 100 * k, **parameters) for k in range(n_fits)]
    return lambda X: np.hstack([transform(X) for transform in fits])


def matching(X, y, seed):
    """Fit skdim with as many components as columns, up to 32."""
    return ours(X, y, seed, n_components=min(32, X.shape[1]))


def matching_plain(X, y, seed):
    """Fit skdim with as many components as columns, up to 32, and without views."""
    return ours(X, y, seed, n_components=min(32, X.shape[1]), views=None)


def theirs(make):
    """Return a function that fits the transformer ``make(seed)`` to labelled rows.

    Rows with the label -1 are left out.  It returns the transform.
    """

    def fit(X, y, seed):
        known = y >= 0
        model = make(seed)
        model.fit(X, y) if known.all() else model.fit(X[known], y[known])
        return lambda X: np.asarray(model.transform(X))

    return fit


def quantile(seed):
    """Return an unfitted quantile transformer to the normal distribution."""
    return QuantileTransformer(
        n_quantiles=200, output_distribution="normal", random_state=seed
    )


def whitening():
    """Return an unfitted PCA whose components have variance 1."""
    return PCA(0.999, whiten=True, svd_solver="full")


def random_trees(seed):
    """Return an unfitted embedding by leaves of random trees, with WIDTH columns."""
    trees = RandomTreesEmbedding(100, max_depth=5, random_state=seed)
    return make_pipeline(trees, TruncatedSVD(WIDTH, random_state=seed))


class SomeNeighborhoodComponents(NeighborhoodComponentsAnalysis):
    """Neighbourhood components analysis with at most as many components as columns."""

    def fit(self, X, y):
        """Fit with ``n_components`` set from the number of columns."""
        self.n_components = min(WIDTH, X.shape[1])
        return super().fit(X, y)


def representations():
    """Return {name: function (X, y, seed) -> transform}; a star marks use of y."""
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
    """Train a network by the loss of a peer; return its transform."""
    return peers.self_supervised(make_loss, X, WIDTH, STEPS, seed)


def split(X, y, seed):
    """Return X, X_test, y, y_test: halves of a table, standardised by the first."""
    X, X_test, y, y_test = halves(X, y, seed)
    scaler = StandardScaler().fit(X)
    return scaler.transform(X), scaler.transform(X_test), y, y_test


def some(y, seed):
    """Return y with labels for a tenth of each class, at least two rows; else -1."""
    rng = np.random.default_rng(seed)
    known = np.full(len(y), -1)
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        rows = rows[: max(2, round(FEW * len(rows)))]
        known[rows] = label
    return known


def accuracies(Z, Z_test, y, y_test):
    """Return {classifier: accuracy in percent}; -1 in ``y`` marks unlabelled rows.

    A classifier that cannot be fitted has 0.
    """
    rows = y >= 0
    found = {}
    for name, make in CLASSIFIERS.items():
        try:
            model = make().fit(Z[rows], y[rows])
            found[name] = 100 * model.score(Z_test, y_test)
        except np.linalg.LinAlgError:
            found[name] = 0.0
    return found


def measure(fit, kind, X, X_test, y, y_test, seed):
    """Fit a representation by ``fit(X, y, seed)``; return its rows of results.

    A representation that uses labels is fitted again when there are few labels.  A peer
    has a second row, with the final map of skdim behind it.
    """
    start = time.perf_counter()
    transform = fit(X, y, seed)
    taken = {"representation": kind, "seconds": time.perf_counter() - start}
    rows = [taken | judged(transform, fit, kind, X, X_test, y, y_test, seed)]
    if kind in peers.LOSSES:
        mapped, kind = final_map(transform, X, seed), f"{kind}, final map"
        taken = {"representation": kind, "seconds": time.perf_counter() - start}
        rows.append(taken | judged(mapped, fit, kind, X, X_test, y, y_test, seed))
    return rows


def final_map(transform, X, seed):
    """Return ``transform`` followed by the final map of skdim, fitted to rows X."""
    transport = Transport(WIDTH, "gentle", whitens=True)
    codes = torch.tensor(transform(X), dtype=torch.float64)
    transport.fit(codes, seeded_generator(seed), Memory())
    transport.double()
    return lambda X: transport(torch.tensor(transform(X)).double()).numpy()


def judged(transform, fit, kind, X, X_test, y, y_test, seed):
    """Return a dict: accuracies with all and with few labels, and the match."""
    Z, Z_test = transform(X), transform(X_test)
    row = accuracies(Z, Z_test, y, y_test)
    floor = sample_floor(sliced_wasserstein_distance, *Z_test.shape)
    row["match"] = sliced_wasserstein_distance(Z_test) / floor
    few = []
    for draw in range(N_DRAWS):
        known = some(y, seed + 100 * draw)
        if kind.endswith("*"):
            transform = fit(X, known, seed)
            Z, Z_test = transform(X), transform(X_test)
        few.append(accuracies(Z, Z_test, known, y_test))
    return row | {f"{use}, 10 %": np.mean([f[use] for f in few]) for use in CLASSIFIERS}


def main():
    """Run what is missing, and save it."""
    args = arguments(__doc__)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = stored("tables/features")
    known = {(row["representation"], row["table"], row["seed"]) for row in rows}
    for name, (X, y) in tables(args.data).items():
        y = np.unique(y, return_inverse=True)[1]
        for seed in range(args.seeds):
            parts = split(X, y, seed)
            for kind, fit in representations().items():
                if (kind, name, seed) in known:
                    continue
                found = measure(fit, kind, *parts, seed)
                rows += [{"table": name, "seed": seed} | row for row in found]
        print(name, len(rows), flush=True)
        save("tables/features", rows)
    for row in summary(rows):
        print(shown(row))


if __name__ == "__main__":
    main()

"""Reasons for the default parameters: each is varied, the others keep their default.

Half of the rows of each table are held out.  There are as many components as columns,
up to 16.  "match" is the sliced 2-Wasserstein distance of held-out codes to their
target distribution, as a multiple of that of a true sample.  LR, GNB and kNN are
accuracies of logistic regression, naive Bayes and five nearest neighbours on the codes.

The stored results are older than some names.  Their ``alpha`` is ``weight_decay``, and
their ``view_strength``, ``n_neighbors``, ``view_sides`` and ``n_views`` are parameters
of ``Views``.  They also hold values of ``whiten``, a parameter that was removed.
"""

import math

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from benchmarks._common import arguments, save, shown
from benchmarks.tables._data import halves, tables
from skdim import NoiseInjectedDIM, Views
from skdim._core import network
from skdim._core.channels import CHANNELS
from skdim.metrics import sample_floor, sliced_wasserstein_distance

BATCH, STEPS = 256, 400
BOUND = "bound on outliers of the input, in deviations"

CLASSIFIERS = {
    "LR": lambda: LogisticRegression(max_iter=500),
    "GNB": GaussianNB,
    "kNN": KNeighborsClassifier,
}


SWEEPS = {
    "views": (None, "jitter", "marginal", "neighbors"),
    "views__strength": (0.3, 0.5, 0.7),
    "views__n_neighbors": (3, 5, 10),
    "views__sides": ("both", "one"),
    "views__n_views": (1, 2),
    "sliced_weight": (0, 8, 32),
    "agreement_weight": (0, 0.25, 0.5),
    "output_layer": ("code", "hidden"),
    "capacity / ln(batch)": (0.5, 1.0, 1.5),
    "steps": (200, 400, 1000),
    "batch_size": (128, 256, 512),
    "weight_decay": (1e-3, 0.5, 2.0),
    "learning_rate_init": (1e-3, 3e-3, 6e-3, 1e-2),
    "hidden_layer_sizes": ((128,), (256,), (512,), (128, 128)),
    BOUND: (3.0, 1e6),
}


DEFAULTS = {
    "views": "neighbors",
    "views__strength": 0.5,
    "views__n_neighbors": 5,
    "views__sides": "both",
    "views__n_views": 1,
    "sliced_weight": 0,
    "agreement_weight": 0,
    "output_layer": "code",
    "capacity / ln(batch)": 1.0,
    "steps": STEPS,
    "batch_size": BATCH,
    "weight_decay": 0.5,
    "learning_rate_init": 6e-3,
    "hidden_layer_sizes": (256,),
    BOUND: 3.0,
}


def variants():
    """Yield (name of a setting, its value, {setting: value} besides the defaults)."""
    for name, values in SWEEPS.items():
        for value in values:
            yield name, str(value), {} if value == DEFAULTS[name] else {name: value}
    yield from matching_variants()


def matching_variants():
    """Yield variants without views, which match the target distribution best."""
    for share in (0.5, 1.0, 1.5):
        settings = {"views": None, "capacity / ln(batch)": share}
        yield "no views: capacity / ln(batch)", share, settings
    for decay in (1e-3, 0.5, 2.0):
        yield "no views: weight_decay", decay, {"views": None, "weight_decay": decay}
    for noise in ("uniform", "normal"):
        settings = {"views": None, "output_distribution": "uniform"}
        settings["noise_distribution"] = noise
        yield "no views, uniform distribution: noise", noise, settings


def build(n_rows, n_components, seed, settings):
    """Return the unfitted estimator for these settings and sizes of the data."""
    settings = dict(settings)
    batch = min(settings.pop("batch_size", BATCH), n_rows)
    steps = settings.pop("steps", STEPS)
    if share := settings.pop("capacity / ln(batch)", None):
        capacity = share * math.log(batch)
        channel = CHANNELS["normal"].with_capacity(capacity, n_components)
        settings["noise_scale"] = channel.noise_scale
    network._OUTLIER_BOUND = settings.pop(BOUND, 3.0)
    dim = NoiseInjectedDIM(
        n_components,
        views=Views(),
        batch_size=batch,
        max_iter=math.ceil(steps / (n_rows // batch)),
        random_state=seed,
    )
    return dim.set_params(**settings)


def measure(X, y, seed, settings):
    """Fit one variant to half of a table; return match and accuracies on the other."""
    X, X_test, y, y_test = halves(X, y, seed)
    dim = build(len(X), min(16, X.shape[1]), seed, settings)
    codes, held_out = dim.fit_transform(X), dim.transform(X_test)
    target = dim.output_distribution
    floor = sample_floor(sliced_wasserstein_distance, *held_out.shape, target)
    result = {"match": sliced_wasserstein_distance(held_out, target) / floor}
    for name, make in CLASSIFIERS.items():
        result[name] = make().fit(codes, y).score(held_out, y_test)
    return result


def main():
    """Run everything and save it."""
    args = arguments(__doc__, seeds=2)
    rows, known, data = [], {}, tables(args.data)
    X, y = data["digits"]
    data["digits, 200 rows"] = X[:400], y[:400]  # half of them are held out
    for varied, value, settings in variants():
        if str(settings) not in known:
            known[str(settings)] = [
                measure(X, y, seed, settings)
                for X, y in data.values()
                for seed in range(args.seeds)
            ]
        results = known[str(settings)]
        match = [result["match"] for result in results]
        row = {
            "varied": varied,
            "value": value,
            "match, median": float(np.median(match)),
            "match, worst": float(np.max(match)),
        }
        for name in CLASSIFIERS:
            row[name] = float(np.mean([result[name] for result in results]))
        rows.append(row)
        print(shown(row), flush=True)
    save("tables/defaults", rows, tables=list(data))


if __name__ == "__main__":
    main()

"""The choices behind the defaults: each one varied while the others stay.

Real tables, half of the rows held out, ``n_components`` as many as columns up to 16.
"match" is the sliced 2-Wasserstein distance of held-out codes to the law as a multiple
of the floor; LR and GNB are accuracies of logistic regression and naive Bayes on the
codes.
"""

import math
from pathlib import Path

import numpy as np
from _common import arguments, save
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB

from skdim import NoiseInjectedDIM, _network
from skdim._channels import CHANNELS
from skdim.metrics import sample_floor, sliced_wasserstein_distance

MOST_ROWS = 4000
BATCH, STEPS = 256, 500


def tables(folder):
    """Return {name: (X, y)}; one of them has only 200 rows to train on."""
    loaders = {
        "breast cancer": load_breast_cancer,
        "wine": load_wine,
        "digits": load_digits,
    }
    sets = {name: load(return_X_y=True) for name, load in loaders.items()}
    if folder:
        for path in sorted(Path(folder, "tables").glob("*.npz")):
            with np.load(path) as file:
                sets[path.stem] = file["X"].astype(float), file["y"]
    X, y = sets["digits"]
    sets["digits, 200 rows"] = X[:400], y[:400]
    return sets


def variants():
    """Yield (what is varied, its value, parameters)."""
    for share in (0.25, 0.5, 0.75, 1.0):
        yield "normal: capacity / ln(batch)", share, {"share": share}
    for steps in (125, 250, 500, 1000, 2000):
        yield "steps", steps, {"steps": steps}
    for batch in (64, 128, 256, 512):
        yield "batch_size", batch, {"batch": batch}
    for alpha in (1e-4, 0.1, 1.0, 2.0, 4.0):
        yield "alpha", alpha, {"alpha": alpha}
    for rate in (1e-3, 3e-3, 1e-2):
        yield "learning_rate_init", rate, {"learning_rate_init": rate}
    for sizes in ((128,), (128, 128), (256, 256)):
        yield "hidden_layer_sizes", str(sizes), {"hidden_layer_sizes": sizes}
    for bound in (3.0, 1e6):
        name = "3 deviations" if bound < 10 else "none"
        yield "bound on outliers of the input", name, {"bound": bound}
    for widest in (0.1, 0.2, 0.35, 1e9):
        name = "none" if widest > 1 else widest
        yield "uniform: widest noise", name, {"law": "uniform", "widest": widest}


def build(n_rows, n_components, seed, settings):
    """Return the estimator of a variant."""
    settings = dict(settings)
    law = settings.pop("law", "normal")
    batch = min(settings.pop("batch", BATCH), n_rows)
    steps = settings.pop("steps", STEPS)
    channel = CHANNELS[law]
    capacity = settings.pop("share", 1.0) * math.log(batch)
    noise = channel.with_capacity(capacity, n_components).noise_scale
    _network._OUTLIER_BOUND = settings.pop("bound", 3.0)
    return NoiseInjectedDIM(
        n_components,
        output_distribution=law,
        noise_scale=min(noise, settings.pop("widest", channel.widest_noise)),
        batch_size=batch,
        max_iter=math.ceil(steps / (n_rows // batch)),
        random_state=seed,
        **settings,
    )


def measure(X, y, seed, settings):
    """Fit one variant to one table and judge its held-out codes."""
    if len(X) > MOST_ROWS:
        X, _, y, _ = train_test_split(
            X, y, train_size=MOST_ROWS, random_state=0, stratify=y
        )
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=0.5, random_state=seed, stratify=y
    )
    dim = build(len(X), min(16, X.shape[1]), seed, settings)
    codes, held_out = dim.fit_transform(X), dim.transform(X_test)
    law = dim.output_distribution
    floor = sample_floor(sliced_wasserstein_distance, *held_out.shape, law)
    linear = LogisticRegression(max_iter=500)
    return {
        "match": sliced_wasserstein_distance(held_out, law) / floor,
        "LR": linear.fit(codes, y).score(held_out, y_test),
        "GNB": GaussianNB().fit(codes, y).score(held_out, y_test),
    }


def main():
    """Run everything and save it."""
    args = arguments(__doc__, seeds=2)
    rows = []
    for varied, value, settings in variants():
        results = [
            measure(X, y, seed, settings)
            for X, y in tables(args.data).values()
            for seed in range(args.seeds)
        ]
        match = [result["match"] for result in results]
        row = {
            "varied": varied,
            "value": value,
            "match, median": float(np.median(match)),
            "match, worst": float(np.max(match)),
            "LR": float(np.mean([result["LR"] for result in results])),
            "GNB": float(np.mean([result["GNB"] for result in results])),
        }
        rows.append(row)
        print(row, flush=True)
    save("defaults", rows, tables=list(tables(args.data)))


if __name__ == "__main__":
    main()

"""Learn features that follow N(0, I) on data that scikit-learn ships; draw a picture.

Run with ``make demo``.  Every number is measured on held-out rows.
"""

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, QuantileTransformer
from sklearn.preprocessing import StandardScaler as Scaler

from skdim import NoiseInjectedDIM
from skdim.metrics import sample_floor, sliced_wasserstein_distance

PICTURE = "demo.png"


@dataclass
class Case:
    """A data set, and the class whose rows serve as outliers."""

    name: str
    X: np.ndarray
    y: np.ndarray
    outlier: int


def cases():
    """Return the three data sets, as a list of ``Case``."""
    digits, cancer = load_digits(), load_breast_cancer()
    images = digits.images[..., None].astype(np.uint8)
    return [
        Case("digits, images 8x8", images, digits.target, 9),
        Case("digits, rows of 64", digits.data, digits.target, 9),
        Case("breast cancer, 30 columns", cancer.data, cancer.target, 0),
    ]


def flat(X):
    """Return images as flat rows of floats."""
    return X.reshape(len(X), -1).astype(float)


def rows():
    """Return a pipeline that flattens inputs and standardises their columns."""
    return make_pipeline(FunctionTransformer(flat), Scaler())


def times_floor(codes):
    """Return the sliced Wasserstein distance to N(0, I), divided by its sample floor.

    The floor is the distance of a true sample of the same size, so 1 is perfect.
    """
    floor = sample_floor(sliced_wasserstein_distance, *codes.shape)
    return sliced_wasserstein_distance(codes) / floor


def matches(dim, train, test):
    """Return distances of test codes to N(0, I), of skdim and of alternatives."""
    n_quantiles = min(1000, len(train))
    others = {
        "StandardScaler": Scaler(),
        "QuantileTransformer": QuantileTransformer(
            n_quantiles=n_quantiles, output_distribution="normal"
        ),
        "PCA(16, whiten)": PCA(16, whiten=True),
    }
    plain = NoiseInjectedDIM(views=None, random_state=0).fit(train)
    distances = {
        "skdim": times_floor(dim.transform(test)),
        "skdim, views=None": times_floor(plain.transform(test)),
    }
    for name, other in others.items():
        other = make_pipeline(FunctionTransformer(flat), other).fit(train)
        distances[name] = times_floor(other.transform(test))
    return distances


def accuracies(dim, X, X_test, y, y_test):
    """Return the accuracy of logistic regression on inputs, codes and both."""
    scaled = rows().fit(X)
    inputs = {
        "inputs": (scaled.transform(X), scaled.transform(X_test)),
        "codes": (dim.transform(X), dim.transform(X_test)),
    }
    inputs["both"] = [np.hstack(pair) for pair in zip(*inputs.values(), strict=True)]
    return {
        name: LogisticRegression(max_iter=2000).fit(train, y).score(test, y_test)
        for name, (train, test) in inputs.items()
    }


def outlier_aurocs(case):
    """Return the AUROC of isolation forest on inputs and on codes.

    It is fitted without the outlier class and judged on held-out rows of all classes.
    """
    normal = case.y != case.outlier
    X, X_test = train_test_split(case.X[normal], test_size=0.4, random_state=0)
    X_test = np.concatenate([X_test, case.X[~normal]])
    is_outlier = np.arange(len(X_test)) >= len(X_test) - (~normal).sum()
    aurocs = {}
    for name, steps in {
        "inputs": rows(),
        "codes": NoiseInjectedDIM(random_state=0),
    }.items():
        detector = make_pipeline(steps, IsolationForest(random_state=0)).fit(X)
        aurocs[name] = roc_auc_score(is_outlier, -detector.score_samples(X_test))
    return aurocs


def draw_codes(axes, codes):
    """Draw two components, and circles that contain 39 % and 86 % of N(0, I)."""
    axes.plot(*codes[:, :2].T, ".", ms=3, alpha=0.6)
    angle = np.linspace(0, 2 * np.pi, 100)
    for radius in (1, 2):
        axes.plot(radius * np.cos(angle), radius * np.sin(angle), "k", lw=1)
        share = 1 - np.exp(-(radius**2) / 2)
        inside = (np.hypot(*codes[:, :2].T) < radius).mean()
        label = f"{inside:.0%} inside ({share:.0%} expected)"
        white = {"facecolor": "white", "alpha": 0.8, "pad": 1, "lw": 0}
        axes.text(0, -radius, label, ha="center", va="top", fontsize=7, bbox=white)
    axes.set(xlim=(-4, 4), ylim=(-4, 4), xlabel="component 1", ylabel="component 2")
    axes.set_aspect("equal")


def draw_slices(axes, codes):
    """Draw the quantiles of 30 random slices against those of N(0, 1)."""
    directions = np.random.default_rng(0).normal(size=(codes.shape[1], 30))
    slices = np.sort(codes @ (directions / np.linalg.norm(directions, axis=0)), axis=0)
    expected = stats.norm.ppf((np.arange(len(codes)) + 0.5) / len(codes))
    axes.plot(expected, slices, color="C0", lw=0.5, alpha=0.5)
    axes.plot([-3, 3], [-3, 3], "k", lw=1)
    axes.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), xlabel="quantiles of N(0, 1)")
    axes.set_ylabel("quantiles along 30 directions")
    axes.set_aspect("equal")


def draw_information(axes, dim, held_out):
    """Draw the information in training, and the capacity."""
    width = max(1, dim.n_iter_ // 25)
    mean = np.convolve(dim.information_curve_, np.ones(width) / width, "valid")
    axes.plot(np.arange(len(mean)) + width, mean, label=f"training, {width} epochs")
    axes.axhline(dim.capacity_, color="k", ls="--", label="capacity")
    axes.plot(dim.n_iter_, held_out, "o", color="C1", label="held out, at the end")
    axes.set(xlabel="epoch", ylabel="information (nats)", ylim=(0, 1.1 * dim.capacity_))
    axes.legend(fontsize=7)


def run(case, column):
    """Fit, evaluate and draw one case; return its numbers."""
    train, test, y, y_test = train_test_split(
        case.X, case.y, test_size=0.4, random_state=0, stratify=case.y
    )
    start = time.perf_counter()
    dim = NoiseInjectedDIM(random_state=0).fit(train)
    seconds = time.perf_counter() - start
    codes, held_out = dim.transform(test), dim.score(test)
    column[0].set_title(case.name)
    draw_codes(column[0], codes)
    draw_slices(column[1], codes)
    draw_information(column[2], dim, held_out)
    return {
        "name": case.name,
        "rows": len(train),
        "held out": len(test),
        "seconds": seconds,
        "information": held_out,
        "capacity": dim.capacity_,
        "distance": matches(dim, train, test),
        "accuracy": accuracies(dim, train, test, y, y_test),
        "auroc": outlier_aurocs(case),
    }


def show(numbers):
    """Print the numbers of one case."""
    print(f"\n{numbers['name']}")
    print(
        f"  {numbers['rows']} rows to train on, {numbers['held out']} held out; fit in "
        f"{numbers['seconds']:.1f} s"
    )
    print(
        f"  held-out information: {numbers['information']:.2f} nats of a capacity of "
        f"{numbers['capacity']:.2f}"
    )
    titles = {
        "distance": "distance to N(0, I) / that of a true sample",
        "accuracy": "accuracy of logistic regression",
        "auroc": "AUROC of isolation forest",
    }
    for key, title in titles.items():
        print(f"  {title}")
        for name, value in numbers[key].items():
            print(f"    {name:20s} {value:6.3f}")


def main():
    """Run all cases; print the numbers and write the picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    path = parser.parse_args().json
    figure, axes = plt.subplots(3, 3, figsize=(11, 10), layout="constrained")
    results = []
    NoiseInjectedDIM(max_iter=1).fit(np.eye(5))  # imports torch before timing starts
    for column, case in zip(axes.T, cases(), strict=True):
        results.append(run(case, column))
        show(results[-1])
    figure.suptitle("Held-out codes of NoiseInjectedDIM() against N(0, I)")
    figure.savefig(PICTURE, dpi=110)
    print(f"\nwrote {PICTURE}")
    if path:
        machine = {
            "command": "python examples/demo.py",
            "cores": os.cpu_count(),
            "torch": version("torch"),
            "python": platform.python_version(),
        }
        path.write_text(json.dumps({**machine, "rows": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()

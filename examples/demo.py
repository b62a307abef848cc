"""Learn features that follow N(0, I) on data that scikit-learn ships; draw a picture.

Run with ``make demo``.  Every number is of rows that were not seen in training.
"""

import time
import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, QuantileTransformer
from sklearn.preprocessing import StandardScaler as Scaler

from skdim import NoiseInjectedDIM
from skdim.metrics import sample_floor, sliced_wasserstein_distance

PICTURE = "demo.png"


@dataclass
class Case:
    """A data set, how to see it as rows, and the class that plays the outlier."""

    name: str
    X: np.ndarray
    y: np.ndarray
    outlier: int


def cases():
    """Return the three data sets."""
    digits, cancer = load_digits(), load_breast_cancer()
    images = digits.images[..., None].astype(np.uint8)
    return [
        Case("digits, images 8x8", images, digits.target, 9),
        Case("digits, rows of 64", digits.data, digits.target, 9),
        Case("breast cancer, 30 columns", cancer.data, cancer.target, 0),
    ]


def flat(X):
    """See images as rows."""
    return X.reshape(len(X), -1).astype(float)


def rows():
    """Return inputs as scaled rows."""
    return make_pipeline(FunctionTransformer(flat), Scaler())


def times_floor(codes):
    """Return the distance to N(0, I) as a multiple of a true sample's."""
    floor = sample_floor(sliced_wasserstein_distance, *codes.shape)
    return sliced_wasserstein_distance(codes) / floor


def matches(dim, train, test):
    """Return distances to N(0, I): ours and those of what one would use instead."""
    n_quantiles = min(1000, len(train))
    others = {
        "StandardScaler": Scaler(),
        "QuantileTransformer": QuantileTransformer(
            n_quantiles=n_quantiles, output_distribution="normal"
        ),
        "PCA(16, whiten)": PCA(16, whiten=True),
    }
    distances = {"skdim": times_floor(dim.transform(test))}
    for name, other in others.items():
        other = make_pipeline(FunctionTransformer(flat), other).fit(train)
        distances[name] = times_floor(other.transform(test))
    return distances


def accuracies(case):
    """Return the accuracy of logistic regression on rows, codes and both."""
    X, X_test, y, y_test = train_test_split(
        case.X, case.y, test_size=0.4, random_state=0, stratify=case.y
    )
    inputs = {
        "inputs": rows(),
        "codes": NoiseInjectedDIM(random_state=0),
        "both": FeatureUnion(
            [("rows", rows()), ("dim", NoiseInjectedDIM(random_state=0))]
        ),
    }
    return {
        name: make_pipeline(steps, LogisticRegression(max_iter=2000))
        .fit(X, y)
        .score(X_test, y_test)
        for name, steps in inputs.items()
    }


def outlier_aurocs(case):
    """Return how well isolation forest ranks the outlier class, fitted without it."""
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
    """Draw two components under circles that hold 39 % and 86 % of N(0, I)."""
    axes.plot(*codes[:, :2].T, ".", ms=3, alpha=0.6)
    angle = np.linspace(0, 2 * np.pi, 100)
    for radius in (1, 2):
        axes.plot(radius * np.cos(angle), radius * np.sin(angle), "k", lw=1)
        share = 1 - np.exp(-(radius**2) / 2)
        inside = (np.hypot(*codes[:, :2].T) < radius).mean()
        label = f"{inside:.0%} inside ({share:.0%} expected)"
        axes.text(0, -radius, label, ha="center", va="bottom", fontsize=7)
    axes.set(xlim=(-4, 4), ylim=(-4, 4), xlabel="component 1", ylabel="component 2")
    axes.set_aspect("equal")


def draw_slices(axes, codes):
    """Draw quantiles along random directions against those of N(0, 1)."""
    directions = np.random.default_rng(0).normal(size=(codes.shape[1], 30))
    slices = np.sort(codes @ (directions / np.linalg.norm(directions, axis=0)), axis=0)
    expected = stats.norm.ppf((np.arange(len(codes)) + 0.5) / len(codes))
    axes.plot(expected, slices, color="C0", lw=0.5, alpha=0.5)
    axes.plot([-3, 3], [-3, 3], "k", lw=1)
    axes.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), xlabel="quantiles of N(0, 1)")
    axes.set_ylabel("quantiles along 30 directions")
    axes.set_aspect("equal")


def draw_information(axes, dim, held_out):
    """Draw the training curve under its ceiling."""
    axes.plot(np.arange(1, dim.n_iter_ + 1), dim.information_curve_, label="training")
    axes.axhline(dim.capacity_, color="k", ls="--", label="capacity")
    axes.plot(dim.n_iter_, held_out, "o", color="C1", label="held out, at the end")
    axes.set(xlabel="epoch", ylabel="information (nats)", ylim=(0, 1.1 * dim.capacity_))
    axes.legend(fontsize=7)


def main():
    """Run all cases; print the tables and write the picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    warnings.filterwarnings("error", module="skdim")
    figure, axes = plt.subplots(3, 3, figsize=(11, 10), layout="constrained")
    for column, case in zip(axes.T, cases(), strict=True):
        train, test = train_test_split(
            case.X, test_size=0.4, random_state=0, stratify=case.y
        )
        start = time.perf_counter()
        dim = NoiseInjectedDIM(random_state=0).fit(train)
        seconds = time.perf_counter() - start
        codes, held_out = dim.transform(test), dim.score(test)
        print(f"\n{case.name}: {len(train)} rows to train on, {len(test)} held out")
        print(
            f"  fit in {seconds:.1f} s; held-out information {held_out:.2f} nats of a "
            f"capacity of {dim.capacity_:.2f}"
        )
        lines = {
            "distance to N(0, I), times the floor of a true sample": matches(
                dim, train, test
            ),
            "accuracy of logistic regression": accuracies(case),
            "AUROC of isolation forest": outlier_aurocs(case),
        }
        for title, values in lines.items():
            shown = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
            print(f"  {title}: {shown}")
        column[0].set_title(case.name)
        draw_codes(column[0], codes)
        draw_slices(column[1], codes)
        draw_information(column[2], dim, held_out)
    figure.suptitle("Held-out codes of NoiseInjectedDIM() against N(0, I)")
    figure.savefig(PICTURE, dpi=110)
    print(f"\nwrote {PICTURE}")


if __name__ == "__main__":
    main()

"""Compare the false-alarm rate of a detector with the rate that was chosen.

``python examples/outliers.py --picture FILE`` uses the breast cancer data that
scikit-learn ships.  It splits the benign rows 40 times and fits a detector to two
thirds of them.  It counts how many of the other benign rows, and of the malignant rows,
are flagged.
"""

import argparse

import numpy as np
from scipy import stats
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skdim import InfoMaxOutlierDetector

N_SPLITS = 40
RATES = np.arange(0.01, 0.205, 0.005)


def chi_square(train, *others):
    """Return chi-square p-values of Mahalanobis distances, one array for each sample.

    They are exact if the rows are jointly normal with the estimated covariance.
    """
    scaler = StandardScaler().fit(train)
    model = LedoitWolf().fit(scaler.transform(train))
    distances = (model.mahalanobis(scaler.transform(rows)) for rows in others)
    return [stats.chi2.sf(distance, train.shape[1]) for distance in distances]


def conformal(train, *others, rng):
    """Return the p-values of a fitted detector, one array for each sample."""
    detector = InfoMaxOutlierDetector(random_state=rng).fit(train)
    return [detector.p_values(rows) for rows in others]


def measure():
    """Return the p-values of benign and of malignant rows for each method.

    Each array has shape (N_SPLITS, number of rows).
    """
    X, y = load_breast_cancer(return_X_y=True)
    found = {}
    rng = np.random.RandomState(0)
    for _ in range(N_SPLITS):
        train, test = train_test_split(X[y == 1], test_size=1 / 3, random_state=rng)
        pairs = {
            "conformal": conformal(train, test, X[y == 0], rng=rng),
            "chi-square of Mahalanobis distances": chi_square(train, test, X[y == 0]),
        }
        for name, pair in pairs.items():
            found.setdefault(name, []).append(pair)
    return {
        name: [np.array(p) for p in zip(*pairs, strict=True)]
        for name, pairs in found.items()
    }


def flagged(p):
    """Return the share of p-values at or below each rate; one row for each split."""
    return (p[..., None] <= RATES).mean(1)


def draw(found, path):
    """Draw the share of benign and of malignant rows flagged at each chosen rate."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for name, both in found.items():
        for ax, p in zip(axes, both, strict=True):
            shares = 100 * flagged(p)
            low, high = np.quantile(shares, [0.1, 0.9], axis=0)
            (line,) = ax.plot(100 * RATES, shares.mean(0), label=name)
            ax.fill_between(100 * RATES, low, high, color=line.get_color(), alpha=0.15)
    axes[0].plot(100 * RATES, 100 * RATES, "k--", lw=1, label="as promised")
    axes[0].set(ylabel="benign rows flagged, %", ylim=(0, 30))
    axes[1].set(ylabel="malignant rows flagged, %", ylim=(0, 101))
    for ax in axes:
        ax.set_xlabel("false-alarm rate chosen, %")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main():
    """Measure and print the shares, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", default="outliers.png")
    args = parser.parse_args()
    found = measure()
    for name, both in found.items():
        for rate in (0.01, 0.05):
            benign, malignant = (100 * (p <= rate).mean() for p in both)
            print(
                f"{name} at {rate:.0%}: {benign:.1f} % of benign rows flagged, "
                f"{malignant:.1f} % of malignant ones"
            )
    draw(found, args.picture)


if __name__ == "__main__":
    main()

"""How the scale of the noise changes codes of MNIST: the claims of arXiv 2410.06993.

The paper claims three things.  Information follows the capacity up to ln(batch).  More
noise brings the codes closer to their target distribution.  The accuracy of a
classifier on the codes falls moderately.  The estimator has no views and no slices.

Also draws the figure ``docs/images/claims.png``.
"""

import math

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from benchmarks._common import ROOT, arguments, grouped, mnist, save, shown
from skdim import NoiseInjectedDIM
from skdim.metrics import (
    channel_capacity,
    kolmogorov_smirnov_distance,
    sample_floor,
    sliced_wasserstein_distance,
)

FIGURE = ROOT / "docs" / "images" / "claims.png"
SCALES = [0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0]
CASES = [("normal", 2), ("normal", 4), ("uniform", 2)]
BATCH, N_HELD_OUT = 512, 10_000


def measure(parts, distribution, n_components, scale, seed):
    """Fit once; return the row of results on held-out rows.

    ``parts`` is (X, y, X_held_out, y_held_out), and ``scale`` that of the noise.
    """
    X, y, X_rest, y_rest = parts
    dim = NoiseInjectedDIM(
        n_components,
        output_distribution=distribution,
        noise_distribution=distribution,
        noise_scale=scale,
        views=None,
        sliced_weight=0,
        encoder="mlp",
        image_shape=(28, 28),
        hidden_layer_sizes=(256, 128),
        batch_size=BATCH,
        max_iter=3,
        random_state=seed,
    ).fit(X)
    codes = dim.transform(X_rest)
    floors = {
        name: sample_floor(distance, *codes.shape, distribution)
        for name, distance in DISTANCES.items()
    }
    near = KNeighborsClassifier().fit(dim.transform(X), y)
    return {
        "distribution": distribution,
        "n_components": n_components,
        "noise_scale": scale,
        "seed": seed,
        "capacity": dim.capacity_,
        "information": dim.score(X_rest),
        "kNN": near.score(codes, y_rest),
        **{n: of(codes, distribution) / floors[n] for n, of in DISTANCES.items()},
    }


DISTANCES = {"KS": kolmogorov_smirnov_distance, "SW2": sliced_wasserstein_distance}


def draw(rows):
    """Save the figure: information, distance and accuracy by scale of the noise."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    fine = np.geomspace(min(SCALES), max(SCALES), 100)
    for (distribution, d), color in zip(CASES, ("C0", "C1", "C2"), strict=True):
        label = f"{distribution}, d = {d}"
        capacity = [channel_capacity(scale, d, distribution) for scale in fine]
        axes[0].plot(fine, capacity, color, lw=1)
        for axis, key in zip(axes, ("information", "SW2", "kNN"), strict=True):
            means = [mean(rows, distribution, d, scale, key) for scale in SCALES]
            style = "o" if key == "information" else "o-"
            axis.plot(SCALES, means, style, color=color, label=label)
    axes[0].axhline(math.log(BATCH), color="gray", ls="--", label=f"ln({BATCH})")
    axes[0].set(ylim=(0, 9), title="information follows the capacity (lines), nats")
    axes[1].axhline(1, color="gray", ls="--", label="a sample of the target")
    axes[1].set(yscale="log", title="distance to the target / that of a sample of it")
    axes[2].set(ylim=(0, 1), title="accuracy of 5 nearest neighbours")
    for axis in axes:
        axis.set(xscale="log", xlabel="noise_scale")
        axis.legend()
    figure.savefig(FIGURE, dpi=120)


def mean(rows, distribution, n_components, scale, key):
    """Return the mean of column ``key`` over seeds."""
    groups = grouped(rows, "distribution", "n_components", "noise_scale")
    return np.mean([row[key] for row in groups[distribution, n_components, scale]])


def main():
    """Run everything, save it and draw it."""
    args = arguments(__doc__)
    X, y, *_ = mnist(args.data)
    order = np.random.default_rng(0).permutation(len(X))
    rest, part = np.split(order, [N_HELD_OUT])
    parts = X[part], y[part], X[rest], y[rest]
    rows = []
    for distribution, n_components in CASES:
        for scale in SCALES:
            for seed in range(args.seeds):
                rows.append(measure(parts, distribution, n_components, scale, seed))
                print(shown(rows[-1]), flush=True)
    save("distribution/claims", rows)
    draw(rows)


if __name__ == "__main__":
    main()

"""How closely held-out codes of MNIST follow the promised law, channel by critic.

Two held-out sets of 10,000: MNIST's own test file, and rows held out from the training
file.  The test file was written by other people and its pixels differ in distribution
(``drift``: mean of the test file along the leading principal components of the
training file, root mean square, in deviations; a sample of that size drawn from the
same distribution has 0.011).
"""

import time

import numpy as np
from _common import arguments, mnist, save
from sklearn.decomposition import PCA

from skdim import NoiseInjectedDIM
from skdim.metrics import (
    kolmogorov_smirnov_distance,
    sample_floor,
    sliced_wasserstein_distance,
)

NOISE = {"normal": 0.2, "uniform": 0.1}


def fit(train, law, critic, seed):
    """Fit 2 components without views, five epochs; return estimator and seconds."""
    dim = NoiseInjectedDIM(
        2,
        output_distribution=law,
        noise_scale=NOISE[law],
        noise_distribution=law,
        views=None,
        critic=critic,
        encoder="mlp",
        image_shape=(28, 28),
        hidden_layer_sizes=(512, 256),
        batch_size=512,
        max_iter=5,
        random_state=seed,
    )
    start = time.perf_counter()
    return dim.fit(train), time.perf_counter() - start


def measure(dim, held_out, law):
    """Return the distances of held-out codes to the law."""
    codes = dim.transform(held_out)
    return {
        "KS": kolmogorov_smirnov_distance(codes, law),
        "SW2": sliced_wasserstein_distance(codes, law),
        "information": dim.score(held_out),
        "capacity": dim.capacity_,
    }


def drift(train, test):
    """Return how far the test file is off along 40 principal components."""
    pca = PCA(40, random_state=0).fit(train[::3].astype(np.float32))
    shift = pca.transform(test.astype(np.float32)).mean(0)
    shift -= pca.transform(train.astype(np.float32)).mean(0)
    return float(np.sqrt(np.mean(shift**2 / pca.explained_variance_)))


def main():
    """Run everything and save it."""
    args = arguments(__doc__)
    train, _, test, _ = mnist(args.data)
    order = np.random.default_rng(0).permutation(len(train))
    part, held_out = train[order[10_000:]], train[order[:10_000]]
    floors = {
        law: {
            "KS": sample_floor(kolmogorov_smirnov_distance, 10_000, 2, law),
            "SW2": sample_floor(sliced_wasserstein_distance, 10_000, 2, law),
        }
        for law in NOISE
    }
    rows = []
    for law in NOISE:
        for critic in ("channel", "separable"):
            for seed in range(args.seeds):
                setting = {"law": law, "critic": critic, "seed": seed}
                sets = {"test file": (train, test), "training file": (part, held_out)}
                for name, (fitted_on, rest) in sets.items():
                    dim, seconds = fit(fitted_on, law, critic, seed)
                    row = {**setting, "held out from": name, "seconds": seconds}
                    rows.append(row | measure(dim, rest, law))
                    print(rows[-1], flush=True)
    save("match_mnist", rows, floors=floors, drift=drift(train, test))


if __name__ == "__main__":
    main()

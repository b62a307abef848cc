"""How closely held-out codes of MNIST follow the target distribution.

Each target distribution is tried with each critic.  There are two held-out sets of
10,000 rows: MNIST's test file, and rows held out from the training file.  Other people
wrote the digits of the test file, so its pixels are distributed differently.
``drift`` measures this: the mean of the test file along the leading principal
components of the training file, in standard deviations, as a root mean square.  A
sample of that size from the same distribution has 0.011.
"""

import numpy as np
from sklearn.decomposition import PCA

from benchmarks._common import arguments, mnist, save, shown
from skdim import NoiseInjectedDIM
from skdim.metrics import (
    kolmogorov_smirnov_distance,
    sample_floor,
    sliced_wasserstein_distance,
)

NOISE = {"normal": 0.2, "uniform": 0.1}


def fit(train, distribution, critic, seed):
    """Return an estimator with 2 components, fitted to ``train`` without views."""
    return NoiseInjectedDIM(
        2,
        output_distribution=distribution,
        noise_scale=NOISE[distribution],
        noise_distribution=distribution,
        views=None,
        critic=critic,
        encoder="mlp",
        image_shape=(28, 28),
        hidden_layer_sizes=(512, 256),
        batch_size=512,
        max_iter=5,
        random_state=seed,
    ).fit(train)


def measure(dim, held_out, distribution):
    """Return a dict: distances of held-out codes to their target, and information."""
    codes = dim.transform(held_out)
    return {
        "KS": kolmogorov_smirnov_distance(codes, distribution),
        "SW2": sliced_wasserstein_distance(codes, distribution),
        "information": dim.score(held_out),
        "capacity": dim.capacity_,
    }


def drift(train, test):
    """Return the root mean square shift of the test mean, in standard deviations.

    It is taken along 40 principal components of ``train``.
    """
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
        distribution: {
            "KS": sample_floor(kolmogorov_smirnov_distance, 10_000, 2, distribution),
            "SW2": sample_floor(sliced_wasserstein_distance, 10_000, 2, distribution),
        }
        for distribution in NOISE
    }
    rows = []
    for distribution in NOISE:
        for critic in ("channel", "separable"):
            for seed in range(args.seeds):
                setting = {"distribution": distribution, "critic": critic}
                setting["seed"] = seed
                sets = {"test file": (train, test), "training file": (part, held_out)}
                for name, (fitted_on, rest) in sets.items():
                    dim = fit(fitted_on, distribution, critic, seed)
                    row = setting | {"held out from": name}
                    rows.append(row | measure(dim, rest, distribution))
                    print(shown(rows[-1]), flush=True)
    save("distribution/match_mnist", rows, floors=floors, drift=drift(train, test))


if __name__ == "__main__":
    main()

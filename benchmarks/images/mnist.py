"""All 60,000 rows of MNIST, 64 components, in about ten minutes on one core.

Everything but the batch size and the number of epochs is at its default.  Measured on
the test file: the match, and the accuracy of nearest neighbours and of a linear probe.
"""

import time

from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from benchmarks._common import arguments, mnist, save, shown
from skdim import NoiseInjectedDIM
from skdim.metrics import norm_spread, sample_floor, sliced_wasserstein_distance

BATCH, EPOCHS = 512, 18


def measure(X, y, X_test, y_test, seed):
    """Fit to X and judge on X_test; return the row of results."""
    dim = NoiseInjectedDIM(
        64,
        image_shape=(28, 28),
        batch_size=BATCH,
        max_iter=EPOCHS,
        random_state=seed,
    )
    start = time.perf_counter()
    dim.fit(X)
    seconds = time.perf_counter() - start
    Z, Z_test = dim.transform(X), dim.transform(X_test)
    return {
        "seed": seed,
        "seconds": seconds,
        "match": sliced_wasserstein_distance(Z_test),
        "floor": sample_floor(sliced_wasserstein_distance, *Z_test.shape),
        "norms": norm_spread(Z_test),
        "kNN": KNeighborsClassifier().fit(Z, y).score(Z_test, y_test),
        "linear": LogisticRegression(max_iter=500).fit(Z, y).score(Z_test, y_test),
    }


def main():
    """Run all seeds and save them."""
    args = arguments(__doc__)
    data = mnist(args.data)
    rows = []
    for seed in range(args.seeds):
        rows.append(measure(*data, seed))
        print(shown(rows[-1]), flush=True)
    save("images/mnist", rows)


if __name__ == "__main__":
    main()

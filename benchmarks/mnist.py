"""MNIST in earnest: all 60,000 rows, 64 components, in about ten minutes on one core.

All else is at its default but the size of the batch and the number of epochs, which
the time allows.  The test file judges: nearest neighbours, a linear probe, and the
match.
"""

import time

from _common import arguments, mnist, save
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from skdim import NoiseInjectedDIM
from skdim.metrics import norm_spread, sample_floor, sliced_wasserstein_distance

BATCH, EPOCHS = 512, 18


def measure(X, y, X_test, y_test, seed):
    """Fit once; return match, accuracies and seconds."""
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
        print(rows[-1], flush=True)
    save("mnist", rows)


if __name__ == "__main__":
    main()

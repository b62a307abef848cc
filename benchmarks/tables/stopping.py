"""What early stopping costs or gains: information on rows that no fit has seen.

Two thirds of the rows are for fitting.  Three estimators of one seed are compared: one
fitted to all of these rows, one that holds out a tenth of them for early stopping, and
one fitted to the rows that the second one trained on.  The second and the third differ
by stopping alone.  All have the default parameters and number of epochs.
"""

import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from benchmarks._common import arguments, mnist, save, shown
from benchmarks.tables._data import MOST_ROWS, tables
from skdim import NoiseInjectedDIM

# The rule was chosen on these data, and reported on the others.
CHOSEN_ON = {"digits", "breast cancer", "ionosphere", "segment", "sonar"}


def data_sets(folder):
    """Return {name: X} of tables, of digits as images, and of rows of MNIST."""
    found = {name: X for name, (X, _) in tables(folder).items()}
    found["digits, images"] = load_digits().images.astype(np.uint8)[..., None]
    if folder:
        found["MNIST, 5,000 rows"] = mnist(folder)[0][:5000].astype(np.float32)
    return found


def information(dim, X):
    """Return the information about rows in nats: ``score``, mean over five seeds."""
    state, values = dim._state, []
    for seed in range(5):
        dim._state = state | {"seed": seed}
        values.append(dim.score(X))
    return float(np.mean(values))


def measure(name, X, seed):
    """Return a row of results: information and epochs of the three estimators."""
    if len(X) > MOST_ROWS and X.shape[1] < 784:
        X = X[np.random.default_rng(0).permutation(len(X))[:MOST_ROWS]]
    X, X_test = train_test_split(X, test_size=1 / 3, random_state=seed)
    d = min(16, X[0].size)

    def fitted(rows, n_trained, **settings):
        batch = min(256, n_trained)
        n_epochs = -(-400 // (n_trained // batch))
        dim = NoiseInjectedDIM(d, max_iter=n_epochs, random_state=seed, **settings)
        return dim.fit(rows)

    n_trained = len(X) - round(0.1 * len(X))
    stopped = fitted(X, n_trained, early_stopping=True)
    kept, held_out = stopped._split(X, None, stopped._state["split_seed"])
    same = fitted(kept.rows[:], n_trained)
    every = fitted(X, len(X))
    return {
        "data": name,
        "chosen on": name in CHOSEN_ON,
        "seed": seed,
        "held out": len(held_out.rows),
        "all rows": information(every, X_test),
        "same rows": information(same, X_test),
        "stopped": information(stopped, X_test),
        "epochs": stopped.n_iter_ / same.n_iter_,
    }


def main():
    """Run everything and save it."""
    args = arguments(__doc__, seeds=2, jobs=1)
    cases = [
        (name, X, seed)
        for name, X in data_sets(args.data).items()
        for seed in range(args.seeds)
    ]
    rows = []
    run = Parallel(n_jobs=args.jobs, return_as="generator")
    for row in run(delayed(measure)(*case) for case in cases):
        rows.append(row)
        print(shown(row), flush=True)
        save("tables/stopping", rows)  # after every row: it takes a while


if __name__ == "__main__":
    main()

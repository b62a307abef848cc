"""Two ways to bring codes to N(0, I) in equal time: noise, and an adversary.

Every method trains the same encoder for the same time on one core.  A first run of each
method tells how many epochs fit into that time.  It is processor time, so that other
processes do not matter.  ``NoiseInjectedDIM`` runs at its defaults; ``DeepInfoMax`` has
the weights of its paper.  Measured on held-out rows: the distance to N(0, I) divided by
that of a sample drawn from it, the spread of norms, and the accuracy of a linear and a
nearest-neighbour probe on the codes.
"""

import time

import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._common import arguments, mnist, save, shown
from skdim import DeepInfoMax, NoiseInjectedDIM
from skdim.metrics import match_score, norm_spread

N_COMPONENTS = 8
N_IMAGES = 12_800
DEEP = {"prior": "normal", "objective": "infonce"}


def deep(preset, **params):
    """Return a function that makes an unfitted DeepInfoMax with a preset of weights."""
    fixed = DEEP | DeepInfoMax.PRESETS[preset] | params
    return lambda **given: DeepInfoMax(N_COMPONENTS, **fixed, **given)


METHODS = {
    "noise": lambda **given: NoiseInjectedDIM(N_COMPONENTS, **given),
    "noise, no views": lambda **given: NoiseInjectedDIM(
        N_COMPONENTS, views=None, **given
    ),
    "adversary, local": deep("local"),
    "adversary, local, views": deep("local", views="auto"),
    "adversary, global": deep("global"),
    "adversary, both": deep("both"),
}


def data(folder):
    """Yield (name, seconds of training, (X, X_test, y, y_test))."""
    rows = {"digits, rows": load_digits, "breast cancer": load_breast_cancer}
    for name, load in rows.items():
        X, y = load(return_X_y=True)
        yield name, 8.0, train_test_split(X, y, test_size=0.4, random_state=0)
    X, y, X_test, y_test = mnist(folder)
    images = (part.reshape(-1, 28, 28, 1) for part in (X[:N_IMAGES], X_test))
    yield "MNIST, images", 25.0, (*images, y[:N_IMAGES], y_test)


def seconds_per_epoch(make, X):
    """Return processor seconds of one epoch, and of the rest of a fit."""
    times = []
    for n_epochs in (1, 3):
        start = time.process_time()
        make(max_iter=n_epochs, random_state=0).fit(X)
        times.append(time.process_time() - start)
    epoch = (times[1] - times[0]) / 2
    return epoch, times[0] - epoch


def judged(dim, X, X_test, y, y_test):
    """Return a dict: match and norms of test codes, and accuracies of probes."""
    Z, Z_test = dim.transform(X), dim.transform(X_test)
    probes = {
        "linear": LogisticRegression(max_iter=300),
        "kNN": KNeighborsClassifier(),
    }
    return {
        "match": -match_score(dim, X_test),
        "norms": norm_spread(Z_test),
    } | {
        name: make_pipeline(StandardScaler(), probe).fit(Z, y).score(Z_test, y_test)
        for name, probe in probes.items()
    }


def main():
    """Run everything and save the rows."""
    args = arguments(__doc__, seeds=5)
    torch.set_num_threads(1)
    rows = []
    for name, budget, (X, X_test, y, y_test) in data(args.data):
        for method, make in METHODS.items():
            make(max_iter=1, random_state=0).fit(X)  # warm up
            epoch, besides = seconds_per_epoch(make, X)
            n_epochs = max(1, int((budget - besides) / epoch))
            for seed in range(args.seeds):
                start = time.process_time()
                dim = make(max_iter=n_epochs, random_state=seed).fit(X)
                taken = {"epochs": n_epochs, "seconds": time.process_time() - start}
                row = {"data": name, "method": method, "seed": seed} | taken
                rows.append(row | judged(dim, X, X_test, y, y_test))
                print(shown(rows[-1]), flush=True)
            save("distribution/adversary", rows, components=N_COMPONENTS)


if __name__ == "__main__":
    main()

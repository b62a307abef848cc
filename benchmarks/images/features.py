"""Features of images: skdim beside self-supervised methods, the peers.

Every method has the same encoder, augmentations, batches, steps and optimiser; only the
loss differs.  Codes are judged twice: as trained, and after the final map of skdim,
which is fitted to training codes of every method in the same way.  With it, skdim is at
its defaults.  Each peer is tried with up to three values of its
most important weight.  The value with the best accuracy on validation rows is kept; it
is chosen at the smaller number of steps.  The test file judges each method once per
seed.  Other settings of skdim are for the trade-off curves.

Every result is written at once, so that a run that was stopped can be continued.
"""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from benchmarks._common import arguments, save, shown, stored
from benchmarks.images._training import OURS, PEERS, Case, layers, load, trained
from skdim._core.memory import Memory
from skdim._core.runtime import seeded_generator
from skdim._core.transport import MAX_ROWS, Transport
from skdim.metrics import norm_spread, sample_floor, sliced_wasserstein_distance

CASES = [
    Case("mnist", 16, 250),
    Case("mnist", 64, 250),
    Case("cifar10", 64, 200),
    Case("mnist", 16, 750),
    Case("mnist", 64, 750),
    Case("cifar10", 64, 600),
]
# Settings of skdim; the defaults are the first.
SETTINGS = [
    {},
    {"noise_scale": 0.5},
    {"noise_scale": 1.5},
    {"sliced_weight": 0},
    {"sliced_weight": 8},
    {"sliced_weight": 24},
    {"sliced_weight": 256},
    {"sliced_weight": 1024},
    {"agreement_weight": 0},
    {"agreement_weight": 1},
]


def outputs(network, images):
    """Return two arrays: codes of images, and the hidden layer below the codes."""
    codes, hidden, _ = zip(*layers(network, images), strict=True)
    return torch.cat(codes).double().numpy(), torch.cat(hidden).double().numpy()


def standardizer(Z):
    """Return a function that standardises arrays by the column moments of ``Z``."""
    mean, scale = Z.mean(0), Z.std(0)
    return lambda Z: (Z - mean) / np.maximum(scale, 1e-6)


def final_map(Z, seed):
    """Return a function: the final map of skdim, fitted to the codes ``Z``."""
    transport = Transport(Z.shape[1], "gentle", whitens=True)
    transport.fit(torch.tensor(Z[:MAX_ROWS]), seeded_generator(seed), Memory())
    return lambda Z: transport.double()(torch.tensor(Z)).numpy()


def accuracy(Z, y, Z_test, y_test):
    """Return test accuracies of nearest neighbours and a linear probe fitted to Z."""
    near = KNeighborsClassifier().fit(Z.astype(np.float32), y)
    linear = LogisticRegression(C=1.0, max_iter=200).fit(Z.astype(np.float32), y)
    return {
        "kNN": near.score(Z_test.astype(np.float32), y_test),
        "linear": linear.score(Z_test.astype(np.float32), y_test),
    }


def judged(Z, y, Z_test, y_test):
    """Return a dict: distances of test codes to N(0, I) and accuracies on them."""
    return {
        "match": sliced_wasserstein_distance(Z_test),
        "norms": norm_spread(Z_test),
        **accuracy(Z, y, Z_test, y_test),
    }


def judge(network, X, y, X_test, y_test, with_hidden):
    """Return a dict: distances of test codes to N(0, I) and accuracies on them.

    Classifiers are fitted to the codes of X.  Codes are judged as trained and, in
    columns that end in "map", after the final map.  If ``with_hidden``, accuracies are
    also measured on the hidden layer.
    """
    (Z, hidden), (Z_test, hidden_test) = outputs(network, X), outputs(network, X_test)
    row = {"floor": sample_floor(sliced_wasserstein_distance, *Z_test.shape)}
    for end, function in (("", standardizer(Z)), (", map", final_map(Z, 0))):
        measures = judged(function(Z), y, function(Z_test), y_test)
        row |= {name + end: value for name, value in measures.items()}
    if with_hidden:
        affine = standardizer(hidden)
        uses = accuracy(affine(hidden), y, affine(hidden_test), y_test)
        row |= {use + ", hidden layer": value for use, value in uses.items()}
    return {key: float(value) for key, value in row.items()}


@dataclass(frozen=True)
class Run:
    """One training, and the held-out rows to judge it: "validation" or "test"."""

    case: Case
    method: str
    setting: object
    seed: int
    held_out: str

    @property
    def asked(self):
        """The columns that identify this run in the results, as a dict."""
        asked = asdict(self.case) | {"method": self.method, "setting": self.setting}
        return asked | {"seed": self.seed, "held out": self.held_out}

    def result(self, folder):
        """Train and judge; return the row of results, a dict."""
        torch.set_num_threads(1)
        X, y, X_test, y_test = load(folder, self.case.data, self.held_out)
        network = trained(self.method, self.setting, self.case, X, self.seed)
        with_hidden = self.held_out == "test"
        return self.asked | judge(network, X, y, X_test, y_test, with_hidden)


class Study:
    """The stored results, to which new runs are added."""

    def __init__(self, folder, n_jobs):
        self.folder, self.n_jobs = folder, n_jobs
        self.rows = stored("images/features")

    def row(self, run):
        """Return the stored row of a run, or None if it is missing."""
        return next((r for r in self.rows if run.asked.items() <= r.items()), None)

    def measure(self, runs):
        """Do the runs that are missing, and save after each."""
        missing = [run for run in runs if self.row(run) is None]
        pool = Parallel(self.n_jobs, return_as="generator_unordered")
        for row in pool(delayed(Run.result)(run, self.folder) for run in missing):
            self.rows.append(row)
            print(shown(row), flush=True)
            save("images/features", self.rows)

    def chosen(self, case, method):
        """Return a peer's setting of best accuracy on validation rows; {} for skdim."""
        if method == OURS:
            return {}
        rows = [self.row(run) for run in tuning(case.short, method)]
        return max(rows, key=lambda row: row["kNN"] + row["linear"])["setting"]


def tuning(case, method):
    """Return one run for each setting of a method, judged on validation rows."""
    settings = SETTINGS if method == OURS else PEERS[method][1]
    return [Run(case, method, setting, 0, "validation") for setting in settings]


def main():
    """Do all runs that are missing."""
    args = arguments(__doc__, jobs=1)
    study = Study(args.data, args.jobs)
    methods = [OURS, *PEERS]
    study.measure(run for c in CASES[:3] for peer in PEERS for run in tuning(c, peer))
    for seed in range(args.seeds):
        study.measure(
            Run(case, method, study.chosen(case, method), seed, "test")
            for case in CASES
            for method in methods
        )
    study.measure(run for case in CASES[:3] for run in tuning(case, OURS))


if __name__ == "__main__":
    main()

"""Features of images: ours beside self-supervised peers, on equal footing.

Every method has the same encoder, views, batches, steps, optimiser and precise
statistics at the end; only the loss differs.  Each peer has three settings of its most
important weight, of which validation rows pick the one of best accuracy (at the
smaller number of steps, kept for the larger); the test file judges it once per seed.
Ours runs at its defaults; its other settings are there for the trade-off curves.

Rows of results are kept in the file of results as they come, so that a run that was
cut off goes on where it stood.
"""

import json
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import _losses as losses
import numpy as np
import torch
from _common import RESULTS, arguments, save
from joblib import Parallel, delayed
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from skdim import NoiseInjectedDIM
from skdim._model import InfoMax, make_source
from skdim._network import Network
from skdim._runtime import sandbox, seeded_generator, take
from skdim._statistics import finalize
from skdim._utils.rows import batches
from skdim.metrics import norm_spread, sample_floor, sliced_wasserstein_distance

ENCODER = {"hidden_layer_sizes": (16, 32, 64)}
RATE, WEIGHT_DECAY = 6e-3, 0.5  # our defaults
N_VALIDATION = 5000


@dataclass(frozen=True)
class Case:
    """Data, width of the code and length of training."""

    data: str
    n_components: int
    steps: int

    @property
    def batch_size(self):
        """Rows in a batch; 50 batches are an epoch."""
        return 512 if self.data == "mnist" else 256

    @property
    def short(self):
        """The case that settings are chosen in."""
        return replace(self, steps=250 if self.data == "mnist" else 200)


CASES = [
    Case("mnist", 16, 250),
    Case("mnist", 64, 250),
    Case("cifar10", 64, 200),
    Case("mnist", 16, 750),
    Case("mnist", 64, 750),
    Case("cifar10", 64, 600),
]


# A maker of the loss from the number of components and a setting, and the settings.
PEERS = {
    "SimCLR": (lambda n, t: partial(losses.simclr, temperature=t), (0.1, 0.2, 0.5)),
    "VICReg": (lambda n, w: partial(losses.vicreg, invariance=w), (5, 10, 25)),
    "Barlow Twins": (
        lambda n, w: partial(losses.barlow_twins, weight=w),
        (5e-3, 0.02, 0.08),
    ),
    "LeJEPA": (lambda n, w: partial(losses.lejepa, weight=w), (0.02, 0.05, 0.2)),
    "DIM": (lambda n, w: losses.DeepInfoMax(n), (None,)),
    "DIM, sliced Wasserstein": (
        lambda n, w: losses.DeepInfoMax(n, losses.sliced_wasserstein, w),
        (1, 10, 100),
    ),
    "DIM, MMD": (
        lambda n, w: losses.DeepInfoMax(n, losses.discrepancy, w),
        (1, 10, 100),
    ),
    "DIM, adversarial": (
        lambda n, w: losses.DeepInfoMax(n, losses.Adversary(n), w),
        (0.03, 0.1, 0.3),
    ),
}

OURS = "skdim"
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


def load(folder, name, held_out):
    """Return rows to train on and to judge by, with labels."""
    with np.load(Path(folder) / f"{name}.npz") as file:
        data = {key: file[key] for key in ("X_train", "y_train", "X_test", "y_test")}
    X, y = data["X_train"], data["y_train"]
    X = X.reshape(len(X), 28, 28, 1) if name == "mnist" else X
    n_train = 50 * (512 if name == "mnist" else 256)
    order = np.random.default_rng(0).permutation(len(X))
    train, rest = order[:n_train], order[-N_VALIDATION:]
    if held_out == "validation":
        return X[train], y[train], X[rest], y[rest]
    X_test = data["X_test"].reshape(-1, *X.shape[1:])
    return X[train], y[train], X_test, data["y_test"]


def trained(method, setting, case, images, seed):
    """Train one method; return its network."""
    if method != OURS:
        torch.manual_seed(seed)  # of what a loss has to learn
        loss = PEERS[method][0](case.n_components, setting)
        return trained_by(loss, case, images, seed)
    model, config, source, generators = prepared(case, images, seed, None, setting)
    minimize(
        lambda index: -model(source, index, generators[1]).objective,
        *(model, None, source, case, generators),
    )
    finalize(model, config, source, generators[0])
    return model.network.cpu()


def trained_by(loss, case, images, seed, encoder=None):
    """Train our encoder by the loss of a peer on two views; return its network."""
    model, config, source, generators = prepared(case, images, seed, encoder)

    def loss_of_batch(index):
        views = [model._side(source, index, generators[1]) for _ in range(2)]
        return loss(*model.network.encode(torch.cat(views)).chunk(2))

    minimize(loss_of_batch, model, loss, source, case, generators)
    finalize(model, config, source, generators[0])
    return model.network.cpu()


def prepared(case, images, seed, encoder=None, setting=None):
    """Return model, configuration, batches and generators of a training.

    Without a setting of ours, nothing that ours does to its own codes is done.  The
    first generator orders rows, on the CPU; the second draws on the device.
    """
    estimator = NoiseInjectedDIM(
        case.n_components,
        batch_size=case.batch_size,
        max_iter=case.steps // (len(images) // case.batch_size),
        learning_rate_init=RATE,
        alpha=WEIGHT_DECAY,
        **(encoder or ENCODER),
        **(setting or {}),
    )
    rows = images.reshape(len(images), -1)
    estimator.n_features_in_ = rows.shape[1]
    config = estimator._resolve(len(images), images.shape[1:], seed)
    torch.manual_seed(seed)
    generators = seeded_generator(seed), seeded_generator(seed + 1, config.device)
    spec = config.model
    if setting is None:
        plain = replace(spec.network, whiten=False, draws_in=False)
        spec = replace(spec, network=plain)
    model = InfoMax(spec, generators[0])
    model.network.input.fit(rows)
    model.network.input.float()
    model.to(config.device)
    source = make_source(model, rows, seed, config.device)
    return model, config, source, generators


def minimize(loss_of_batch, model, loss, source, case, generators):
    """Take the steps that make a loss small, which may have weights of its own."""
    groups = [{"params": list(model.parameters())}]
    if isinstance(loss, torch.nn.Module):
        loss.to(source.device)
        groups.append({"params": list(loss.parameters()), "weight_decay": 0})
    optimizer = torch.optim.AdamW(groups, RATE, weight_decay=WEIGHT_DECAY, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=case.steps + 1, pct_start=0.15
    )
    model.train()
    for index in indices(len(source), case, generators[0]):
        value = loss_of_batch(index)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        scheduler.step()


def indices(n_rows, case, generator):
    """Yield the rows of each batch."""
    per_epoch = n_rows // case.batch_size
    for _ in range(case.steps // per_epoch):
        order = torch.randperm(n_rows, generator=generator)
        yield from order[: per_epoch * case.batch_size].view(per_epoch, -1).numpy()


def layers(network: Network, images):
    """Yield codes, the layer below them and the map of features, some at a time."""
    rows = images.reshape(len(images), -1)
    with sandbox(gradients=False):
        for chunk in batches(*rows.shape):
            encoder, inputs = network.encoder, network.input(take(rows, chunk)).float()
            features = encoder.features(inputs)
            hidden = encoder.hidden(features)
            yield network.normalized(encoder.code(hidden)), hidden, features


def outputs(network: Network, images):
    """Return codes and the layer below them, standardised later."""
    codes, hidden, _ = zip(*layers(network, images), strict=True)
    return torch.cat(codes).double().numpy(), torch.cat(hidden).double().numpy()


def standardizer(Z):
    """Return a function that brings columns to the mean and scale of ``Z``."""
    mean, scale = Z.mean(0), Z.std(0)
    return lambda Z: (Z - mean) / np.maximum(scale, 1e-6)


def whitener(Z):
    """Return the symmetric whitening of ``Z``."""
    mean = Z.mean(0)
    values, vectors = np.linalg.eigh(np.cov(Z.T))
    matrix = vectors / np.sqrt(np.maximum(values, 1e-9)) @ vectors.T
    return lambda Z: (Z - mean) @ matrix


def accuracy(Z, y, Z_test, y_test):
    """Return the accuracies of nearest neighbours and of a linear probe."""
    near = KNeighborsClassifier().fit(Z.astype(np.float32), y)
    linear = LogisticRegression(C=1.0, max_iter=200).fit(Z.astype(np.float32), y)
    return {
        "kNN": near.score(Z_test.astype(np.float32), y_test),
        "linear": linear.score(Z_test.astype(np.float32), y_test),
    }


def judge(network, X, y, X_test, y_test, with_hidden):
    """Return the match and the uses of codes, plain and whitened."""
    (Z, hidden), (Z_test, hidden_test) = outputs(network, X), outputs(network, X_test)
    floor = sample_floor(sliced_wasserstein_distance, *Z_test.shape)
    row = {"floor": floor}
    maps = {"": standardizer(Z), ", whitened": whitener(Z)}
    for name, affine in maps.items():
        V, V_test = affine(Z), affine(Z_test)
        row["match" + name] = sliced_wasserstein_distance(V_test)
        row["norms" + name] = norm_spread(V_test)
        uses = accuracy(V, y, V_test, y_test)
        row |= {use + name: value for use, value in uses.items()}
    if with_hidden:
        affine = standardizer(hidden)
        uses = accuracy(affine(hidden), y, affine(hidden_test), y_test)
        row |= {use + ", hidden layer": value for use, value in uses.items()}
    return {key: float(value) for key, value in row.items()}


@dataclass(frozen=True)
class Run:
    """One training and what it is judged by."""

    case: Case
    method: str
    setting: object
    seed: int
    held_out: str

    @property
    def asked(self):
        """What tells its row of results from others."""
        asked = asdict(self.case) | {"method": self.method, "setting": self.setting}
        return asked | {"seed": self.seed, "held out": self.held_out}

    def result(self, folder):
        """Return the row of results."""
        torch.set_num_threads(1)
        X, y, X_test, y_test = load(folder, self.case.data, self.held_out)
        start = time.perf_counter()
        network = trained(self.method, self.setting, self.case, X, self.seed)
        seconds = {"seconds": time.perf_counter() - start}
        judged = judge(network, X, y, X_test, y_test, self.held_out == "test")
        return self.asked | judged | seconds


class Study:
    """Results so far, and the means to add to them."""

    def __init__(self, folder, n_jobs):
        self.folder, self.n_jobs, self.rows = folder, n_jobs, []
        path = RESULTS / "images.json"
        if path.exists():
            self.rows = json.loads(path.read_text())["rows"]

    def row(self, run):
        """Return the row of a run, or None if it is not known yet."""
        return next((r for r in self.rows if run.asked.items() <= r.items()), None)

    def measure(self, runs):
        """Add the rows of all runs that are not known yet."""
        missing = [run for run in runs if self.row(run) is None]
        pool = Parallel(self.n_jobs, return_as="generator_unordered")
        for row in pool(delayed(Run.result)(run, self.folder) for run in missing):
            self.rows.append(row)
            print(row, flush=True)
            save("images", self.rows)

    def chosen(self, case, method):
        """Return the setting that validation rows prefer."""
        if method == OURS:
            return {}
        rows = [self.row(run) for run in tuning(case.short, method)]
        return max(rows, key=lambda row: row["kNN"] + row["linear"])["setting"]


def tuning(case, method):
    """Return the runs that choose a setting, or draw the trade-off."""
    settings = SETTINGS if method == OURS else PEERS[method][1]
    return [Run(case, method, setting, 0, "validation") for setting in settings]


def main():
    """Run what is not known yet."""
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

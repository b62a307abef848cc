"""Deep InfoMax and its peers on CIFAR-10: accuracy of classifiers on each layer.

All methods have the same encoder, batches and steps.  Deep InfoMax as in its paper, the
VAE and the adversarial autoencoder see plain images.  Methods that compare two views
see the augmentations that skdim has for colour images.  Three classifiers, the probes,
are fitted to the code (Y), the layer below (fc) and the flattened map of features
(conv), each standardised: logistic regression, a perceptron with one hidden layer of
200 units, and nearest neighbours.

Results also hold two methods that are no longer run, because the parameter was removed:
``NoiseInjectedDIM`` with a weight of 0.1 and 0.5 on local information.

``--paper`` runs the setting of arXiv 1808.06670 instead: its encoder and all training
images, for 200 epochs; the paper has 1,000, in batches of 64.  It needs a GPU.
"""

import argparse
import itertools
import os
import traceback
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from torch import nn

from benchmarks import _losses as losses
from benchmarks._common import RESULTS, save, shown, stored
from benchmarks.images import _autoencoders
from benchmarks.images import _training as training
from skdim import DeepInfoMax, NoiseInjectedDIM
from skdim.metrics import match_score, sample_floor, sliced_wasserstein_distance

N_COMPONENTS, BATCH = 64, 256
PRESETS = DeepInfoMax.PRESETS
OURS = {
    "DIM(G), JSD": partial(DeepInfoMax, **PRESETS["global"]),
    "DIM(G), InfoNCE": partial(DeepInfoMax, objective="infonce", **PRESETS["global"]),
    "DIM(L), JSD": DeepInfoMax,
    "DIM(L), InfoNCE": partial(DeepInfoMax, objective="infonce"),
    "DIM(L), DV": partial(DeepInfoMax, objective="dv"),
    "DIM(L+G), InfoNCE": partial(DeepInfoMax, objective="infonce", **PRESETS["both"]),
    "DIM(L), InfoNCE, views": partial(DeepInfoMax, objective="infonce", views="auto"),
    "NoiseInjectedDIM": NoiseInjectedDIM,
}
OF_VIEWS = {
    "SimCLR": partial(losses.simclr, temperature=0.2),
    "VICReg": partial(losses.vicreg, invariance=10),
    "LeJEPA": partial(losses.lejepa, weight=0.05),
}
AUTOENCODERS = {
    "VAE": _autoencoders.VAE,
    "adversarial autoencoder": _autoencoders.AdversarialAutoencoder,
}
METHODS = [*OURS, *OF_VIEWS, *AUTOENCODERS, "PCA", "untrained"]


class PaperEncoder(nn.Module):
    """The encoder of arXiv 1808.06670 for images of 32 pixels."""

    def __init__(self, input_shape, n_components):
        super().__init__()
        channels = [input_shape[0], 64, 128, 256]
        self.features = nn.Sequential()
        for n_in, n_out in itertools.pairwise(channels):
            self.features.append(nn.Conv2d(n_in, n_out, 4, stride=2, padding=1))
            self.features.append(nn.BatchNorm2d(n_out)).append(nn.ReLU())
        dense = nn.Linear(256 * 4 * 4, 1024)
        self.hidden = nn.Sequential(
            nn.Flatten(), dense, nn.BatchNorm1d(1024), nn.ReLU()
        )
        self.code = nn.Linear(1024, n_components)

    def forward(self, inputs):
        """Return the codes of a batch of images."""
        return self.code(self.hidden(self.features(inputs)))


def load(folder, n_train):
    """Return X, y, X_test, y_test of CIFAR-10, with ``n_train`` training images."""
    with np.load(Path(folder) / "cifar10.npz") as file:
        X, y, X_test, y_test = (
            file[key] for key in ("X_train", "y_train", "X_test", "y_test")
        )
    order = np.random.default_rng(0).permutation(len(X))[:n_train]
    return X[order], y[order], X_test, y_test


def estimator_of(method, args, seed):
    """Return the unfitted estimator of skdim for a method of that name."""
    return OURS[method](
        N_COMPONENTS,
        batch_size=BATCH,
        max_iter=args.epochs,
        random_state=seed,
        **args.encoder,
    )


def network_of(method, X, args, seed):
    """Train a method; return its network, and its estimator or None if a peer."""
    if method in OURS:
        dim = estimator_of(method, args, seed).fit(X)
        with dim._restored(is_double=False) as (model, _):
            return model.network.cpu(), dim
    case = training.Case("cifar10", N_COMPONENTS, args.epochs * (len(X) // BATCH))
    if method in OF_VIEWS:
        network = training.trained_by(OF_VIEWS[method], case, X, seed, args.encoder)
    else:
        make = AUTOENCODERS.get(method)
        options = args.encoder, args.sizes
        network = _autoencoders.trained(make, case, X, seed, *options)
    return network, None


def standardized(train, test):
    """Yield both arrays, standardised by the moments of ``train``."""
    mean, scale = train.mean(0), np.maximum(train.std(0), 1e-6)
    return ((part - mean) / scale for part in (train, test))


def probe(train, test, y, y_test):
    """Return {probe: accuracy on test}; probes are classifiers fitted to ``train``."""
    train, test = standardized(train, test)
    linear = LogisticRegression(C=0.01 if train.shape[1] > 500 else 0.1, max_iter=60)
    perceptron = MLPClassifier(
        200, early_stopping=True, n_iter_no_change=3, max_iter=30, random_state=0
    )
    probes = {"linear": linear, "MLP": perceptron, "kNN": KNeighborsClassifier()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {k: p.fit(train, y).score(test, y_test) for k, p in probes.items()}


def measure(method, seed, args):
    """Train one method and return its row of results."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    X, y, X_test, y_test = load(args.data, args.images)
    row = {"method": method, "seed": seed, "epochs": args.epochs, "images": len(X)}
    if method == "PCA":
        pca = PCA(N_COMPONENTS, whiten=True, random_state=seed)
        parts = [pca.fit_transform(X.reshape(len(X), -1)).astype("f4")]
        parts.append(pca.transform(X_test.reshape(len(X_test), -1)).astype("f4"))
        found = {"Y": parts}
    else:
        network, dim = network_of(method, X, args, seed)
        if dim is not None:
            row["match, floors"] = -match_score(dim, X_test)
        both = [layers(network, part) for part in (X, X_test)]
        found = dict(zip(("Y", "fc", "conv"), zip(*both, strict=True), strict=True))
    if "match, floors" not in row:
        Z = np.concatenate([*standardized(*found["Y"])][1:])
        floor = sample_floor(sliced_wasserstein_distance, *Z.shape)
        row["match, floors"] = sliced_wasserstein_distance(Z) / floor
    for layer, (train, test) in found.items():
        uses = probe(train, test, y, y_test)
        row |= {f"{layer}, {name}": value for name, value in uses.items()}
    return row


def attempt(method, seed, args):
    """Return the row of results of one method, or a row with its error."""
    try:
        return measure(method, seed, args)
    except Exception as error:  # the other methods go on
        traceback.print_exc()
        return {"failed": f"{method}, seed {seed}: {error!r}"}


def layers(network, X):
    """Return three arrays for images X: codes, hidden layer, flattened feature map."""
    parts = zip(*training.layers(network, X), strict=True)
    return [torch.cat([p.flatten(1) for p in part]).float().numpy() for part in parts]


def arguments():
    """Return the parsed options, and with them the sizes of the encoder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("SKDIM_DATA"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--paper", action="store_true")
    args = parser.parse_args()
    args.sizes = (64, 128, 256) if args.paper else (32, 64, 128)
    args.encoder = {"hidden_layer_sizes": args.sizes}
    if args.paper:
        args.encoder = {"encoder": PaperEncoder}
        args.epochs, args.images = 200, 50_000
    return args


def main():
    """Run methods and seeds without stored results; save after each."""
    args = arguments()
    name = "images/probes_paper" if args.paper else "images/probes"
    rows = stored(name)
    setting = args.epochs, args.images
    if any((row["epochs"], row["images"]) != setting for row in rows):
        raise SystemExit(
            f"{RESULTS / name}.json holds rows of other settings; move it away."
        )
    known = {(row["method"], row["seed"]) for row in rows}
    asked = [(m, s) for s in range(args.seeds) for m in METHODS if (m, s) not in known]
    pool = Parallel(args.jobs, return_as="generator_unordered")
    failed = []
    for row in pool(delayed(attempt)(method, seed, args) for method, seed in asked):
        if "failed" in row:
            failed.append(row["failed"])
            continue
        rows.append(row)
        print(shown(row), flush=True)
        save(name, rows)
    if failed:
        raise SystemExit("\n".join(["These failed; run again for them:", *failed]))


if __name__ == "__main__":
    main()

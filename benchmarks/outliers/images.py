"""Outlier detectors on images: fitted to one class, they must find the others.

Methods that learn have the same encoder, batch size and number of steps.  Images have
32 x 32 pixels; those of MNIST get an empty border.  Every result is written at once.

A method takes images to train on, images to score and a seed.  It returns {name:
scores}, with high scores for outliers.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from torch import nn

from benchmarks._common import arguments, save, stored
from benchmarks.images._autoencoders import Decoder
from benchmarks.outliers._scores import distance, parts_of
from skdim import InfoMaxOutlierDetector
from skdim._core.encoders import ENCODERS
from skdim._core.runtime import seeded_generator

N_TRAIN, N_TEST = 1000, 2000
STEPS, BATCH, RATE = 200, 256, 1e-3
SIZES, N_COMPONENTS = (32, 64, 128), 32


def load(folder, data):
    """Return [X_train, y_train, X_test, y_test]; images have 32 x 32 pixels."""
    with np.load(Path(folder) / f"{data}.npz") as file:
        parts = [file[k] for k in ("X_train", "y_train", "X_test", "y_test")]
    if data == "mnist":
        border = ((0, 0), (2, 2), (2, 2), (0, 0))
        for k in (0, 2):
            parts[k] = np.pad(parts[k].reshape(-1, 28, 28, 1), border)
    return parts


def ours(X, X_test, seed):
    """Return the scores of InfoMaxOutlierDetector and of each of its parts."""
    detector = InfoMaxOutlierDetector(calibration_size=0, random_state=seed).fit(X)
    parts = parts_of(detector, X_test)
    return {"": sum(parts.values())} | {f"{k} alone": v for k, v in parts.items()}


def near(X, X_test, seed):
    """Score by the distance to the fifth neighbour on 64 principal components."""
    pca = PCA(64, random_state=seed).fit(flat(X))
    return {"": distance(pca.transform(flat(X)), pca.transform(flat(X_test)))}


def forest(X, X_test, seed):
    """Score by an isolation forest on 64 principal components."""
    pca = PCA(64, random_state=seed).fit(flat(X))
    model = IsolationForest(random_state=seed).fit(pca.transform(flat(X)))
    return {"": -model.score_samples(pca.transform(flat(X_test)))}


def flat(images):
    """Return uint8 images as flat rows of numbers from 0 to 1."""
    return images.reshape(len(images), -1) / 255


class Autoencoder(nn.Module):
    """A convolutional autoencoder; the squared error is its loss and its score."""

    def __init__(self, shape, generator):
        super().__init__()
        self.encoder = ENCODERS["conv"](shape, N_COMPONENTS, SIZES, generator)
        self.decoder = Decoder(N_COMPONENTS, SIZES, shape[0])

    def forward(self, images):
        """Return the mean squared error of each image."""
        error = self.decoder(self.encoder(images)) - images
        return error.square().flatten(1).mean(1)


class DeepSVDD(nn.Module):
    """Score by the distance of codes to a fixed center (Ruff et al., ICML 2018).

    The center is the mean code of the first batch, before training.
    """

    def __init__(self, shape, generator):
        super().__init__()
        self.encoder = ENCODERS["conv"](shape, N_COMPONENTS, SIZES, generator)
        self.center = None

    def forward(self, images):
        """Return the squared distance of each image's code from the center."""
        codes = self.encoder(images)
        if self.center is None:
            self.center = codes.detach().mean(0)
        return (codes - self.center).square().sum(1)


def learned(make):
    """Return the method that trains a module to minimise its score of training images.

    ``make(shape, generator)`` returns the module.
    """

    def scores(X, X_test, seed):
        torch.manual_seed(seed)
        generator = seeded_generator(seed)
        train, test = (
            torch.tensor(part / 255, dtype=torch.float32).permute(0, 3, 1, 2)
            for part in (X, X_test)
        )
        model = make(tuple(train.shape[1:]), generator).train()
        optimizer = torch.optim.Adam(model.parameters(), RATE, weight_decay=1e-6)
        for _ in range(STEPS):
            index = torch.randint(len(train), (BATCH,), generator=generator)
            optimizer.zero_grad()
            model(train[index]).mean().backward()
            optimizer.step()
        with torch.no_grad():
            parts = [model.eval()(part) for part in test.split(500)]
        return {"": torch.cat(parts).numpy()}

    return scores


METHODS = {
    "InfoMaxOutlierDetector": ours,
    "5 neighbours on 64 principal components": near,
    "isolation forest on 64 principal components": forest,
    "convolutional autoencoder": learned(Autoencoder),
    "DeepSVDD": learned(DeepSVDD),
}


def measure(data, images, normal, method, seed):
    """Return rows of results for one normal class, a row for each score of a method."""
    X, y, X_test, y_test = images
    rng = np.random.default_rng(seed)
    train = rng.permutation(np.flatnonzero(y == normal))[:N_TRAIN]
    test = rng.permutation(len(X_test))[:N_TEST]
    is_other = y_test[test] != normal
    scores = METHODS[method](X[train], X_test[test], seed)
    row = {"data": data, "normal": normal, "seed": seed, "method": method}
    return [
        row | {"score": name, "AUROC": roc_auc_score(is_other, s)}
        for name, s in scores.items()
    ]


def main():
    """Run what is missing."""
    args = arguments(__doc__, seeds=1)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = stored("outliers/images")
    known = {(r["data"], r["normal"], r["method"], r["seed"]) for r in rows}
    for data in ("mnist", "cifar10"):
        images = load(args.data, data)
        for seed in range(args.seeds):
            for normal in range(10):
                for method in METHODS:
                    if (data, normal, method, seed) not in known:
                        rows += measure(data, images, normal, method, seed)
                        save("outliers/images", rows)


if __name__ == "__main__":
    main()

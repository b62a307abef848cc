"""Scores of outliers by skdim: the detector, its parts, and others that were tried.

Each function takes rows to train on, rows to score and a seed.  It returns {name:
scores} and p-values or None.  Outliers have high scores.
"""

import math
from collections import OrderedDict
from functools import partial

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.neighbors import KernelDensity, NearestNeighbors
from torch import nn

from skdim import InfoMaxOutlierDetector, NoiseInjectedDIM, Views, _outlier_detector
from skdim._novelty import Novelty
from skdim._outlier_detector import default_estimator
from skdim._resolve import BATCH_SIZE

OURS = "InfoMaxOutlierDetector"


def ours(X, X_test, seed, **params):
    """Score by InfoMaxOutlierDetector, with p-values if it holds out rows for them."""
    detector = InfoMaxOutlierDetector(random_state=seed, **params).fit(X)
    scores = {"": -detector.score_samples(X_test)}
    p = detector.p_values(X_test) if detector.calibration_size else None
    return scores, p


def crossed(X, X_test, seed, n_folds=4):
    """Score with cross-conformal p-values: each row is held out from one of the fits.

    See Vovk, Annals of Mathematics and Artificial Intelligence 2015, arXiv 1208.0806.
    The score is the mean over all fits.
    """
    total, n_higher = 0, 1
    for train, held in KFold(n_folds, shuffle=True, random_state=seed).split(X):
        detector = InfoMaxOutlierDetector(calibration_size=0, random_state=seed)
        detector.fit(X[train])
        ranked = np.sort(-detector.score_samples(X[held]))
        scores = -detector.score_samples(X_test)
        n_higher = n_higher + len(held) - np.searchsorted(ranked, scores, "left")
        total = total + scores / n_folds
    return {"": total}, n_higher / (1 + len(X))


def parts_of(detector, X):
    """Return {name: scores} of each part of a detector's score."""
    novelty = Novelty.restored(detector._state["novelty"])
    return novelty.each(*_outlier_detector._inputs(detector.estimator_, X))


def ours_by_parts(X, X_test, seed):
    """Score by each part of the detector's score alone, and by the other parts."""
    detector = InfoMaxOutlierDetector(calibration_size=0, random_state=seed).fit(X)
    parts = parts_of(detector, X_test)
    scores = {f"{name} alone": part for name, part in parts.items()}
    for name, part in parts.items():
        scores[f"without {name}"] = sum(parts.values()) - part
    return scores, None


def relearned(X, X_test, seed, steps=200, **params):
    """Return the score of the detector with other parameters of its estimator."""
    estimator = default_estimator(X, steps).set_params(**params)
    return ours(X, X_test, seed, estimator=estimator, calibration_size=0)


def at_capacity(X, X_test, seed, share):
    """Score by the detector with another noise: ``share`` of the default capacity."""
    nats = share * math.log(min(BATCH_SIZE, len(X)))
    scale = 1 / math.sqrt(math.expm1(2 * nats / default_estimator(X).n_components))
    return relearned(X, X_test, seed, noise_scale=min(max(scale, 1e-6), 1e6))


def at_several_capacities(X, X_test, seed):
    """Score by the sum of three detectors: half, the same and twice the capacity."""
    parts = [at_capacity(X, X_test, seed, share)[0][""] for share in (0.5, 1, 2)]
    return {"": sum(parts)}, None


class Residual(nn.Module):
    """The sum of a linear map and a perceptron, which starts as the identity."""

    def __init__(self, n_in, n_out, width=256):
        super().__init__()
        self.straight = nn.Linear(n_in, n_out)
        nn.init.eye_(self.straight.weight)
        self.bent = nn.Sequential(nn.Linear(n_in, width), nn.ReLU())
        self.last = nn.Linear(width, n_out)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, X):
        """Return the sum of both for rows X."""
        return self.straight(X) + self.last(self.bent(X))


def residual(input_shape, n_outputs):
    """Return an encoder whose features, before training, are its input rows."""
    (n_in,) = input_shape
    parts = [nn.Identity(), Residual(n_in, n_in), nn.Linear(n_in, n_outputs)]
    names = ("features", "hidden", "code")
    return nn.Sequential(OrderedDict(zip(names, parts, strict=True)))


def model_alone(X, X_test, seed, **params):
    """Return scores that a NoiseInjectedDIM gives without a detector."""
    params = {"n_components": default_estimator(X).n_components} | params
    dim = NoiseInjectedDIM(random_state=seed, **params).fit(X)
    density, trained_on = -dim.score_samples(X_test), -dim.score_samples(X)
    codes, codes_test = dim.transform(X), dim.transform(X_test)
    hidden, hidden_test = (dim._representation(rows)[-1] for rows in (X, X_test))
    kernels = KernelDensity(bandwidth=dim.noise_scale_).fit(codes)
    errors = X_test - Ridge().fit(codes, X).predict(codes_test)
    scores = {
        "norm of codes": (codes_test**2).sum(1),
        "log-density": density,
        "typicality": np.abs(density - np.mean(trained_on[np.isfinite(trained_on)])),
        "density of codes under the noise": -kernels.score_samples(codes_test),
        "error of rows from codes": (errors**2).sum(1),
        "neighbours of codes": distance(codes, codes_test),
        "neighbours of features": distance(hidden, hidden_test),
    }
    return {name: np.nan_to_num(s, posinf=1e9) for name, s in scores.items()}, None


def distance(X, X_test, k=5):
    """Return the distance of each row of X_test to its k-th neighbour in X.

    If X_test is X, no row is its own neighbour.
    """
    k = min(k, len(X) - 1)
    index = NearestNeighbors(n_neighbors=k).fit(X)
    return (index.kneighbors() if X is X_test else index.kneighbors(X_test))[0][:, -1]


JITTER = Views("jitter", strength=0.3)
# Names are those of the stored results; in one of them ``view_strength`` is ``JITTER``.
TRIALS = {
    "parts": ours_by_parts,
    "untrained features": partial(relearned, max_iter=1, learning_rate_init=1e-9),
    "100 steps": partial(relearned, steps=100),
    "400 steps": partial(relearned, steps=400),
    "512 hidden units": partial(relearned, hidden_layer_sizes=512),
    "residual encoder": partial(relearned, encoder=residual),
    "early stopping": partial(relearned, early_stopping=True),
    "features of views='jitter'": partial(relearned, views=JITTER),
    "features of views=None": partial(relearned, views=None),
    "half the capacity": partial(at_capacity, share=0.5),
    "twice the capacity": partial(at_capacity, share=2),
    "three capacities": at_several_capacities,
    "NoiseInjectedDIM": model_alone,
    "NoiseInjectedDIM(views=None)": partial(model_alone, views=None),
    "NoiseInjectedDIM(view_strength=0.3, views='jitter')": partial(
        model_alone, views=JITTER
    ),
}

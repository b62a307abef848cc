"""Peers trained like skdim: same inputs, network, views, steps and output scale.

Losses follow the papers' formulas with the papers' weights.  All output the layer that
their loss is put on, as skdim does, standardised by the training rows.
"""

import math

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

BATCH, RATE, WEIGHT_DECAY = 256, 3e-3, 1e-2
SIZES = (256,)
N_NEIGHBORS, SWAPPED = 5, 0.5


def bounded(X):
    """Return standardised rows with outliers bounded to 3, as a tensor."""
    X = torch.from_numpy(np.asarray(X, np.float32))
    return X / (1 + (X / 3).square()).sqrt()


def network(n_in, n_out, sizes=SIZES):
    """Return a multi-layer perceptron with ReLU."""
    layers = nn.Sequential()
    for size in sizes:
        layers.append(nn.Linear(n_in, size)).append(nn.ReLU())
        n_in = size
    return layers.append(nn.Linear(n_in, n_out))


class Views:
    """Batches of rows in which cells are swapped with those of near rows."""

    def __init__(self, X, seed):
        self.X = bounded(X)
        n_neighbors = min(N_NEIGHBORS, len(X) - 1)
        near = NearestNeighbors(n_neighbors=n_neighbors, metric="manhattan")
        near.fit(self.X.numpy())
        self.near = torch.from_numpy(near.kneighbors(return_distance=False))
        self.generator = torch.Generator().manual_seed(seed)

    def batches(self, n_steps):
        """Yield indices of rows."""
        size = min(BATCH, len(self.X))
        order = []
        for _ in range(n_steps):
            if len(order) < size:
                order = torch.randperm(len(self.X), generator=self.generator)
            yield order[:size]
            order = order[size:]

    def __call__(self, index):
        """Return an altered copy of these rows."""
        X, shape = self.X[index], (len(index),)
        pick = torch.randint(self.near.shape[1], shape, generator=self.generator)
        other = self.X[self.near[index, pick]]
        return torch.where(
            torch.rand(X.shape, generator=self.generator) < SWAPPED, other, X
        )


def simclr(a, b, temperature=0.5):
    """NT-Xent (Chen et al., arXiv 2002.05709)."""
    n = len(a)
    z = F.normalize(torch.cat([a, b]), dim=1)
    scores = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    return F.cross_entropy(scores, torch.arange(2 * n).roll(n))


def vicreg(a, b):
    """Variance, invariance, covariance (Bardes et al., arXiv 2105.04906)."""
    loss = 25 * F.mse_loss(a, b)
    for z in (a, b):
        loss = loss + 12.5 * F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()
        covariance = z.T.cov()
        away = covariance.square().sum() - covariance.diagonal().square().sum()
        loss = loss + away / z.shape[1]
    return loss


def barlow_twins(a, b, weight=5e-3):
    """Cross-correlation to the identity (Zbontar et al., arXiv 2103.03230)."""
    a, b = (F.batch_norm(z, None, None, training=True) for z in (a, b))
    correlation = a.T @ b / len(a)
    of_same = correlation.diagonal()
    away = correlation.square().sum() - of_same.square().sum()
    return (1 - of_same).square().sum() + weight * away


def lejepa(a, b, weight=0.05, n_slices=64):
    """Invariance and SIGReg (Balestriero and LeCun, arXiv 2511.08544)."""
    knots = torch.linspace(0, 3, 17)
    gauss = (-knots.square() / 2).exp()
    weights = torch.full_like(knots, 2 * 3 / 16) * gauss
    weights[[0, -1]] /= 2
    center = (a + b) / 2
    invariance = ((a - center).square().mean() + (b - center).square().mean()) / 2
    regularizer = 0
    slices = F.normalize(torch.randn(a.shape[1], n_slices), dim=0)
    for z in (a, b):
        angle = (z @ slices)[..., None] * knots
        error = (angle.cos().mean(0) - gauss).square() + angle.sin().mean(0).square()
        regularizer = regularizer + len(z) * (error @ weights).mean() / 2
    return weight * regularizer + (1 - weight) * invariance


LOSSES = {
    "SimCLR": simclr,
    "VICReg": vicreg,
    "Barlow Twins": barlow_twins,
    "LeJEPA": lejepa,
}


def train(parameters, loss_of_batch, batches, n_steps, rate=RATE):
    """Minimise with AdamW under a one-cycle schedule."""
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=WEIGHT_DECAY)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=n_steps + 1, pct_start=0.15
    )
    for index in batches:
        optimizer.zero_grad()
        loss_of_batch(index).backward()
        optimizer.step()
        scheduler.step()


@torch.no_grad()
def transformer(module, X):
    """Return a function on arrays that applies the module and standardises."""
    scaler = StandardScaler().fit(module(bounded(X)).numpy())

    @torch.no_grad()
    def transform(X):
        return scaler.transform(module(bounded(X)).numpy())

    return transform


def self_supervised(loss, X, n_components, n_steps, seed):
    """Train an encoder by a loss on two views; return its transform."""
    torch.manual_seed(seed)
    views, encoder = Views(X, seed), network(X.shape[1], n_components)

    def loss_of_batch(index):
        both = torch.cat([views(index), views(index)])
        return loss(*encoder(both).chunk(2))

    train(encoder.parameters(), loss_of_batch, views.batches(n_steps), n_steps)
    return transformer(encoder, X)


def autoencoder(X, n_components, n_steps, seed):
    """Train to restore rows from views of them; return the code's transform."""
    torch.manual_seed(seed)
    views, encoder = Views(X, seed), network(X.shape[1], n_components)
    model = nn.Sequential(encoder, network(n_components, X.shape[1]))
    train(
        model.parameters(),
        lambda index: F.mse_loss(model(views(index)), views.X[index]),
        views.batches(n_steps),
        n_steps,
    )
    return transformer(encoder, X)


def untrained(X, seed):
    """Return the hidden layer of the network before training."""
    torch.manual_seed(seed)
    return transformer(network(X.shape[1], 1)[:-1], X)


def flow(X, n_steps, seed):
    """Fit a normalising flow by likelihood; return the map to its base law."""
    import zuko

    torch.manual_seed(seed)
    views = Views(X, seed)
    model = zuko.flows.MAF(X.shape[1], transforms=3, hidden_features=(64, 64))
    train(
        model.parameters(),
        lambda index: -model().log_prob(views.X[index]).mean(),
        views.batches(n_steps),
        n_steps,
        rate=1e-3,
    )
    return transformer(lambda X: model().transform(X), X)

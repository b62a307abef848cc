"""Peers trained like skdim: the same inputs, network, augmentations and steps.

A peer is another method that learns features.  Losses have the weights of their papers.
The output is the layer to which the loss is applied, as in skdim, standardised by the
training rows.
"""

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from benchmarks import _losses as losses

BATCH, RATE, WEIGHT_DECAY = 256, 6e-3, 0.5  # as in skdim
SIZES = (256,)
N_NEIGHBORS, SWAPPED = 5, 0.5


def bounded(X):
    """Return standardised rows as a float32 tensor, with values squashed to [-3, 3]."""
    X = torch.from_numpy(np.asarray(X, np.float32))
    return X / (1 + (X / 3).square()).sqrt()


def network(n_in, n_out, sizes=SIZES):
    """Return a multi-layer perceptron with ReLU and hidden layers of these sizes."""
    layers = nn.Sequential()
    for size in sizes:
        layers.append(nn.Linear(n_in, size)).append(nn.ReLU())
        n_in = size
    return layers.append(nn.Linear(n_in, n_out))


class Views:
    """Draw batches of rows of X, and views of them with cells taken from near rows."""

    def __init__(self, X, seed):
        self.X = bounded(X)
        n_neighbors = min(N_NEIGHBORS, len(X) - 1)
        near = NearestNeighbors(n_neighbors=n_neighbors, metric="manhattan")
        near.fit(self.X.numpy())
        self.near = torch.from_numpy(near.kneighbors(return_distance=False))
        self.generator = torch.Generator().manual_seed(seed)

    def batches(self, n_steps):
        """Yield a tensor with the indices of a batch of rows for each step."""
        size = min(BATCH, len(self.X))
        order = []
        for _ in range(n_steps):
            if len(order) < size:
                order = torch.randperm(len(self.X), generator=self.generator)
            yield order[:size]
            order = order[size:]

    def __call__(self, index):
        """Return a view of the rows with these indices: a random augmented copy."""
        X, shape = self.X[index], (len(index),)
        pick = torch.randint(self.near.shape[1], shape, generator=self.generator)
        other = self.X[self.near[index, pick]]
        return torch.where(
            torch.rand(X.shape, generator=self.generator) < SWAPPED, other, X
        )


# Name of a peer -> function from the number of components to the loss.
LOSSES = {
    "SimCLR": lambda n: losses.simclr,
    "VICReg": lambda n: losses.vicreg,
    "Barlow Twins": lambda n: losses.barlow_twins,
    "LeJEPA": lambda n: losses.lejepa,
    "LeJEPA, projector": lambda n: losses.Projected(n, losses.lejepa),
    "VISReg": lambda n: losses.visreg,
    "KerJEPA": lambda n: losses.kerjepa,
    "DIM": losses.DeepInfoMax,
    "DIM, sliced Wasserstein": lambda n: losses.DeepInfoMax(
        n, losses.sliced_wasserstein, 10
    ),
    "DIM, MMD": lambda n: losses.DeepInfoMax(n, losses.discrepancy, 10),
    "DIM, adversarial": lambda n: losses.DeepInfoMax(n, losses.Adversary(n), 0.1),
}


def train(parameters, loss_of_batch, batches, n_steps, rate=RATE):
    """Minimise ``loss_of_batch(index)`` with AdamW on a one-cycle schedule."""
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
    """Return a function on arrays that applies ``module``, standardised on X."""
    scaler = StandardScaler().fit(module(bounded(X)).numpy())

    @torch.no_grad()
    def transform(X):
        return scaler.transform(module(bounded(X)).numpy())

    return transform


def self_supervised(make_loss, X, n_components, n_steps, seed):
    """Train an encoder by a loss on two views; return a function from rows to codes."""
    torch.manual_seed(seed)
    views, encoder = Views(X, seed), network(X.shape[1], n_components)
    loss = make_loss(n_components)
    parameters = list(encoder.parameters())
    if isinstance(loss, nn.Module):
        parameters += loss.parameters()

    def loss_of_batch(index):
        both = torch.cat([views(index), views(index)])
        return loss(*encoder(both).chunk(2))

    train(parameters, loss_of_batch, views.batches(n_steps), n_steps)
    return transformer(encoder, X)


def autoencoder(X, n_components, n_steps, seed):
    """Train to restore rows from their views; return a function from rows to codes."""
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
    """Return a function from rows to the hidden layer of an untrained network."""
    torch.manual_seed(seed)
    return transformer(network(X.shape[1], 1)[:-1], X)


def flow(X, n_steps, seed):
    """Fit a normalising flow by likelihood; return the map to its base variables."""
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

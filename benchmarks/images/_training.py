"""Training of images, the same for all methods, and the losses of the peers.

Every method has the same encoder, augmentations, batches, steps, optimiser and
calibration; only the loss differs.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks import _losses as losses
from skdim import NoiseInjectedDIM, _resolve
from skdim._core.batches import Data
from skdim._core.calibration import calibrate
from skdim._core.losses import match_divergence, objective
from skdim._core.network import Network
from skdim._core.runtime import sandbox, seeded_generator, take
from skdim._core.training import prepare
from skdim._utils.images import ChannelsFirst
from skdim._utils.rows import batches

ENCODER = {"hidden_layer_sizes": (16, 32, 64)}
RATE, WEIGHT_DECAY = 6e-3, 0.5  # the defaults of skdim
N_VALIDATION = 5000
OURS = "skdim"


@dataclass(frozen=True)
class Case:
    """One comparison: data set, number of components and number of training steps."""

    data: str
    n_components: int
    steps: int

    @property
    def batch_size(self):
        """Number of rows in a batch; an epoch has 50 batches."""
        return 512 if self.data == "mnist" else 256

    @property
    def short(self):
        """The same case with few steps, on which settings of peers are chosen."""
        return replace(self, steps=250 if self.data == "mnist" else 200)


def jepa(function, n_components, setting):
    """Return a loss by one of the functions of LeJEPA and the methods like it."""
    loss = partial(function, weight=setting["weight"])
    return losses.Projected(n_components, loss) if setting["projector"] else loss


def of_jepa(*weights):
    """Return settings to try: these weights, each without and with a projector."""
    return [
        {"weight": weight, "projector": projector}
        for projector in (False, True)
        for weight in weights
    ]


# Name of a peer -> function (n_components, setting) -> loss, and settings to try.
PEERS = {
    "SimCLR": (lambda n, t: partial(losses.simclr, temperature=t), (0.1, 0.2, 0.5)),
    "VICReg": (lambda n, w: partial(losses.vicreg, invariance=w), (5, 10, 25)),
    "Barlow Twins": (
        lambda n, w: partial(losses.barlow_twins, weight=w),
        (5e-3, 0.02, 0.08),
    ),
    "LeJEPA": (partial(jepa, losses.lejepa), of_jepa(0.02, 0.05, 0.2)),
    "VISReg": (partial(jepa, losses.visreg), of_jepa(0.5, 0.9, 0.97)),
    "KerJEPA": (partial(jepa, losses.kerjepa), of_jepa(0.5, 0.9, 0.98)),
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


def load(folder, name, held_out):
    """Return X, y, X_held_out, y_held_out of the data set ``name`` in ``folder``.

    ``held_out`` is "validation", for rows of the training file, or "test".  X has 50
    batches.
    """
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
    """Train one method with a setting on images; return its network on the CPU."""
    if method != OURS:
        torch.manual_seed(seed)  # for the initial weights of a loss that is a module
        loss = PEERS[method][0](case.n_components, setting)
        return trained_by(loss, case, images, seed)
    model, config, source, generators = prepared(case, images, seed, None, setting)

    def loss_of_batch(index):
        encoded = model.encode(source.draw(index, generators[1]))
        divergence = match_divergence(model, encoded, generators[1])
        return -objective(model, encoded, divergence, generators[1]).value

    minimize(loss_of_batch, model, None, source, case, generators)
    calibrate(model, config, source, generators[0])
    return model.network.cpu()


def trained_by(loss, case, images, seed, encoder=None):
    """Train an encoder by a loss on the codes of two views; return its network.

    ``encoder`` is a dict of parameters of the encoder, or None for ``ENCODER``.
    """
    model, config, source, generators = prepared(case, images, seed, encoder)

    def loss_of_batch(index):
        batch = source.draw(index, generators[1])
        inputs = torch.cat([batch.rows, *batch.views])
        return loss(*model.network.encode(inputs).chunk(2))

    minimize(loss_of_batch, model, loss, source, case, generators)
    calibrate(model, config, source, generators[0])
    return model.network.cpu()


def prepared(case, images, seed, encoder=None, setting=None):
    """Return model, configuration, source of batches and two generators for a training.

    Without a setting the model is made for a peer: its codes are standardised, and
    neither whitened nor shrunk.  No model has a final map.  The first generator orders
    rows, on the CPU; the second draws noise and views, on the device.
    """
    estimator = NoiseInjectedDIM(
        case.n_components,
        batch_size=case.batch_size,
        max_iter=case.steps // (len(images) // case.batch_size),
        learning_rate_init=RATE,
        weight_decay=WEIGHT_DECAY,
        **(encoder or ENCODER),
        **(setting or {}),
    )
    params = estimator.get_params(deep=False)
    rows, size = ChannelsFirst(images, images.shape[1:]), case.batch_size
    spec = _resolve.noise_injected(params, rows.shape[1:], size)
    plain = {"shrinkage": 1.0} if setting is None else {}
    network = replace(spec.network, final_map="linear", **plain)
    spec = replace(spec, network=network)
    config = _resolve.training(params, spec, len(rows), size, seed)
    torch.manual_seed(seed)  # for an encoder that is not one of ours
    generators = seeded_generator(seed), seeded_generator(seed + 1, config.device)
    model, source = prepare(config, Data(rows), None, generators[0])
    return model, config, source, generators


def minimize(loss_of_batch, model, loss, source, case, generators):
    """Minimise ``loss_of_batch(index)`` with AdamW on a one-cycle schedule.

    The weights of the model are trained and, if ``loss`` is a module, its weights too.
    """
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
    """Yield an array with the indices of the rows of each batch of the case."""
    per_epoch = n_rows // case.batch_size
    for _ in range(case.steps // per_epoch):
        order = torch.randperm(n_rows, generator=generator)
        yield from order[: per_epoch * case.batch_size].view(per_epoch, -1).numpy()


def layers(network: Network, images):
    """Yield codes, the hidden layer below them and the map of features, in chunks."""
    rows, encoder = ChannelsFirst(images, images.shape[1:]), network.encoder
    with sandbox(gradients=False):
        for chunk in batches(len(rows), math.prod(rows.shape[1:])):
            features = encoder.features(network.input(take(rows, chunk)))
            hidden = encoder.hidden(features)
            yield network.normalized(encoder.code(hidden)), hidden, features

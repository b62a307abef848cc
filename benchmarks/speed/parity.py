"""Speed of ``fit`` and ``transform`` against plain torch and bare matrix products.

The hand-written loop does the same arithmetic as ``fit`` on MNIST without views and
with an MLP: scaling, training on codes that each batch whitens, calibration, and the
information at the end.  The two run in turn, so that a change of the machine's speed
affects both.  Everything runs on one thread.  Times are processor times, so that other
processes matter little.
"""

import itertools
import math
import time

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.nn import functional as F

from benchmarks._common import arguments, mnist, save, shown
from skdim import NoiseInjectedDIM

EPOCHS, BATCH, SIZES, D, SIGMA = 5, 512, (512, 256), 16, 1.0


def plain_encoder():
    """Return the encoder as a user of torch would write it."""
    return nn.Sequential(
        nn.Linear(784, SIZES[0]),
        nn.ReLU(),
        nn.Linear(SIZES[0], SIZES[1]),
        nn.ReLU(),
        nn.Linear(SIZES[1], D),
    )


def bound(u, noise):
    """Return InfoNCE in nats between codes ``u`` and noisy codes ``u + SIGMA * noise``.

    The critic is the Gaussian density of the noise.
    """
    y = u + SIGMA * noise
    scores = u @ y.T - 0.5 * (u.square().sum(1)[:, None] + y.square().sum(1))
    return math.log(len(u)) + F.log_softmax(scores / SIGMA**2, 0).diagonal().mean()


def whitening(covariance):
    """Return the matrix that makes rows of this covariance white."""
    factor = torch.linalg.cholesky(covariance + 1e-4 * torch.eye(D))
    return torch.linalg.solve_triangular(factor, torch.eye(D), upper=False).T


def plain_fit(X):
    """Train with a loop written by hand; return a function from rows to codes."""
    encoder, rows = plain_encoder(), torch.from_numpy(X)
    mean = rows.double().mean().float()
    scale = 1 / rows.double().std().float()
    steps = EPOCHS * (len(rows) // BATCH)
    optimizer = torch.optim.AdamW(
        encoder.parameters(), 3e-3, weight_decay=1.0, fused=True
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 3e-3, total_steps=steps + 1, pct_start=0.15
    )
    for _ in range(EPOCHS):
        order = torch.randperm(len(rows))
        for index in order[: len(rows) // BATCH * BATCH].split(BATCH):
            u = encoder((rows[index] - mean) * scale)
            u = F.batch_norm(u, None, None, training=True)
            u = u @ whitening(u.T @ u / len(u))
            optimizer.zero_grad()
            bound(u, torch.randn_like(u)).neg().backward()
            optimizer.step()
            scheduler.step()
    with torch.no_grad():
        outputs = [encoder((part - mean) * scale) for part in rows.split(1337)]
        matrix = whitening(torch.cov(torch.cat(outputs).T))
        center = torch.cat(outputs).mean(0)
        for index in torch.randperm(len(rows))[: 20 * BATCH].split(BATCH):
            u = (encoder((rows[index] - mean) * scale) - center) @ matrix
            bound(u, torch.randn_like(u))
    return lambda part: (encoder((part - mean) * scale) - center) @ matrix


def plain_transform(codes_of, X):
    """Return the codes of X, computed in batches of a size that suits the cache."""
    with torch.inference_mode():
        return torch.cat([codes_of(part) for part in torch.from_numpy(X).split(1337)])


def training_products():
    """Yield (number of operations, function) of each matrix product of a step."""
    for layer, (n_in, n_out) in enumerate(itertools.pairwise([784, *SIZES, D])):
        x, w = torch.randn(BATCH, n_in), torch.randn(n_out, n_in)
        g = torch.randn(BATCH, n_out)
        operations = 2 * BATCH * n_in * n_out
        yield operations, lambda x=x, w=w: x @ w.T
        yield operations, lambda x=x, g=g: g.T @ x
        if layer:
            yield operations, lambda w=w, g=g: g @ w


def product_rate(steps):
    """Return operations per second of the matrix products of ``steps`` steps alone."""
    total, operations = 0.0, 0
    for count, product in training_products():
        product()
        total += seconds(lambda p=product: [p() for _ in range(steps)])[0]
        operations += count * steps
    return operations / total


def fit_operations(n_rows):
    """Return the number of operations of all matrix products of ``fit``.

    It includes calibration and the information at the end.
    """
    steps = EPOCHS * (n_rows // BATCH)
    per_step = sum(count for count, _ in training_products())
    per_row = sum(2 * n * m for n, m in itertools.pairwise([784, *SIZES, D]))
    return steps * per_step + (n_rows + 20 * BATCH) * per_row


def seconds(call):
    """Return the processor time of ``call()`` in seconds, and its result."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def measure(X, cancer, seed):
    """Time everything once on X and on breast cancer; return the row of results."""
    dim = NoiseInjectedDIM(
        D,
        noise_scale=SIGMA,
        views=None,
        sliced_weight=0,
        encoder="mlp",
        image_shape=(28, 28),
        hidden_layer_sizes=SIZES,
        batch_size=BATCH,
        max_iter=EPOCHS,
        random_state=seed,
    )
    rate_before = product_rate(100)
    fit, _ = seconds(lambda: dim.fit(X))
    rate_after = product_rate(100)
    plain, codes_of = seconds(lambda: plain_fit(X))
    transform, _ = seconds(lambda: dim.transform(X))
    forward, _ = seconds(lambda: plain_transform(codes_of, X))
    table, _ = seconds(lambda: NoiseInjectedDIM(random_state=seed).fit(cancer))
    rate = fit_operations(len(X)) / fit
    return {
        "seed": seed,
        "fit_seconds": fit,
        "fit_to_plain": fit / plain,
        "fit_to_product_rate": 2 * rate / (rate_before + rate_after),
        "transform_to_forward": transform / forward,
        "breast_cancer_seconds": table,
    }


def main():
    """Run everything and save it."""
    args = arguments(__doc__, seeds=5)
    torch.set_num_threads(1)
    X, *_ = mnist(args.data)
    X = X.astype(np.float32)
    cancer, _ = load_breast_cancer(return_X_y=True)
    measure(X[:5000], cancer, 0)  # warm up
    rows = []
    for seed in range(args.seeds):
        rows.append(measure(X, cancer, seed))
        print(shown(rows[-1]), flush=True)
    save("speed/parity", rows)


if __name__ == "__main__":
    main()

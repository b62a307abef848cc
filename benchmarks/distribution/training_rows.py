"""How close held-out codes come to N(0, I), by the number of training rows.

Rows of MNIST, from its training file, are learned from with all parameters but those
named at their defaults; 10,000 others are held out.  "Perfect codes" shows what any
method can reach that estimates its final map from so few rows: codes are draws from
N(0, I), training codes and held-out ones alike, and the same map is fitted to them.
The sampling error of whitening, and of the map, is then all there is.
"""

import numpy as np
import torch

from benchmarks._common import arguments, mnist, save, shown
from benchmarks.distribution.final_map import closeness
from skdim import NoiseInjectedDIM
from skdim._core.memory import Memory
from skdim._core.runtime import seeded_generator
from skdim._core.transport import Transport

N_HELD_OUT = 10_000
SIZES = [500, 1000, 2000, 5000, 10_000, 20_000]
MAPS = {"auto": "gentle", "none": "close"}  # what "auto" means with and without views


def learned(train, held_out, d, views, final_map, seed):
    """Return held-out codes of an estimator that was fitted to ``train``."""
    dim = NoiseInjectedDIM(d, views=views, final_map=final_map, random_state=seed)
    return dim.fit(train).transform(held_out)


def perfect(n_rows, d, kind, seed):
    """Return held-out draws from N(0, I), after a map fitted to other draws from it."""
    rng = np.random.default_rng(seed)
    train, held_out = (
        torch.tensor(rng.normal(size=(n, d))) for n in (n_rows, N_HELD_OUT)
    )
    transport = Transport(d, kind, whitens=True)
    transport.fit(train, seeded_generator(seed), Memory())
    return transport.double()(held_out).numpy()


def main():
    """Measure all cases and save the rows."""
    options = arguments(__doc__)
    X, *_ = mnist(options.data)
    X, rows = X.astype(np.float32), []
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(X))
        held_out = X[order[:N_HELD_OUT]]
        for n_rows in SIZES:
            train = X[order[N_HELD_OUT:][:n_rows]]
            for d in (8, 16):
                for views in ("auto", None):
                    kind = MAPS[views or "none"]
                    codes = {
                        "linear": learned(train, held_out, d, views, "linear", seed),
                        "auto": learned(train, held_out, d, views, "auto", seed),
                        "perfect codes": perfect(n_rows, d, kind, seed),
                    }
                    key = {"rows": n_rows, "d": d, "views": views or "none"}
                    for final_map, found in codes.items():
                        row = key | {"map": final_map, "seed": seed}
                        rows.append(row | closeness(found))
                        print(shown(rows[-1]), flush=True)
        save("distribution/training_rows", rows)


if __name__ == "__main__":
    main()

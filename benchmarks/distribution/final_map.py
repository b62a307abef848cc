"""How close each final map brings codes of held-out rows, and what classifiers lose.

Tables are all of at least 4,000 rows in ``tables/*.npz`` and ``adbench/*.npz`` of the
folder of data, and the rows of MNIST (from its training file).  2,000 rows are held out
of tables below 20,000 rows, and 10,000 of larger ones; at most 6,000 and 10,000 others
(20,000 of MNIST) are trained on.  All parameters but those named have their defaults.
"""

from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from benchmarks._common import arguments, mnist, save, shown
from skdim import NoiseInjectedDIM
from skdim.metrics import (
    bhep_test,
    excess_distance,
    sample_floor,
    sliced_wasserstein_distance,
)

FEWEST_ROWS, MANY_ROWS = 4000, 20_000
SETTINGS = [(d, views) for d in (8, 16) for views in ("auto", None)]
MAPS = ["linear", "auto"]


def tables(folder):
    """Return {name: (X, y)}; tables with rows of another one are left out."""
    found = {}
    for path in sorted(Path(folder).glob("tables/*.npz")) + sorted(
        Path(folder).glob("adbench/*.npz")
    ):
        with np.load(path) as file:
            if len(file["X"]) >= FEWEST_ROWS:
                found[path.stem] = file["X"].astype(float), file["y"].astype(int)
    X, y, _, _ = mnist(folder)
    found["MNIST rows"] = X.astype(np.float32), y
    copies = "19_landsat", "31_satimage-2"  # of the rows of "satimage"
    return {name: data for name, data in found.items() if name not in copies}


def split(X, y, seed):
    """Return (X, X_held_out, y, y_held_out)."""
    order = np.random.default_rng(seed).permutation(len(X))
    is_large = len(X) >= MANY_ROWS
    n_held_out = 10_000 if is_large else 2000
    most = 20_000 if len(X) == 60_000 else 10_000 if is_large else 6000
    test, train = order[:n_held_out], order[n_held_out:][:most]
    return X[train], X[test], y[train], y[test]


def closeness(codes, law="normal"):
    """Return measures of how close codes are to their distribution, a dict."""
    found = {}
    for n_rows in (2000, 10_000):
        if len(codes) >= n_rows:
            part = codes[:n_rows]
            distance = sliced_wasserstein_distance(part, law)
            floor = sample_floor(sliced_wasserstein_distance, *part.shape, law)
            found[f"match {n_rows}"] = distance / floor
    found["excess"] = excess_distance(codes, law).distance
    found["p"] = bhep_test(codes[:1000], law).pvalue
    return found


def measure(parts, n_components, views, final_map, seed):
    """Fit once; return the row of results on held-out rows."""
    X, X_rest, y, y_rest = parts
    dim = NoiseInjectedDIM(
        n_components, views=views, final_map=final_map, random_state=seed
    ).fit(X)
    codes, codes_rest = dim.transform(X), dim.transform(X_rest)
    row = closeness(codes_rest)
    for name, model in (
        ("linear", LogisticRegression(max_iter=300)),
        ("kNN", KNeighborsClassifier(10)),
    ):
        model.fit(codes[:6000], y[:6000])
        row[name] = model.score(codes_rest[:2000], y_rest[:2000])
    return row


def main():
    """Measure all cases and save the rows."""
    options = arguments(__doc__)
    rows = []
    for name, (X, y) in tables(options.data).items():
        for seed in range(options.seeds):
            parts = split(X, y, seed)
            for d, views in SETTINGS:
                for final_map in MAPS:
                    key = {"data": name, "rows": len(parts[0]), "d": d}
                    key |= {"views": views or "none", "map": final_map, "seed": seed}
                    rows.append(key | measure(parts, d, views, final_map, seed))
                    print(shown(rows[-1]), flush=True)
        save("distribution/final_map", rows)


if __name__ == "__main__":
    main()

"""Whether ``excess_distance`` and its interval are right, on samples of known distance.

Each case is a distribution and a target.  For each number of components and of rows,
samples are drawn, with the seeds 0, 1, 2 and so on.  A row of the results has the root
mean square of the distances, their median, and the share of 95 % intervals that contain
the true distance.  Where that is not given, it is the median distance of four samples
of 200,000 rows.  (A mean would be that of the one most extreme row, for heavy tails.)
"""

import numpy as np
from scipy import stats

from benchmarks._common import arguments, save, shown
from skdim.metrics import excess_distance

NORMAL = np.random.Generator.standard_normal
N_ROWS = {100: 100, 500: 100, 2000: 100, 20_000: 40}  # rows of a sample: samples
LARGE = 200_000


def correlated(rng, shape, rho=0.3):
    """Return normal rows, where any two components have the correlation ``rho``."""
    common = rng.normal(size=(shape[0], 1))
    return np.sqrt(1 - rho) * rng.normal(size=shape) + np.sqrt(rho) * common


def student(rng, shape, df):
    """Return components that follow Student's t, scaled to variance 1."""
    return rng.standard_t(df, size=shape) / np.sqrt(df / (df - 2))


# Target, numbers of components, function that draws rows, and the true distance.
MANY, FEW = (1, 2, 8, 16, 64), (1, 8)
GAMMA = stats.gamma(4)
CASES = {
    "normal": ("normal", MANY, NORMAL, 0),
    "normal, 10 % too wide": ("normal", MANY, lambda r, s: 1.1 * NORMAL(r, s), 0.1),
    "normal, means at 0.1": ("normal", MANY, lambda r, s: 0.1 + NORMAL(r, s), 0.1),
    "normal, correlations of 0.3": ("normal", MANY[1:], correlated, None),
    "Student, 10 degrees of freedom": (
        "normal",
        MANY,
        lambda r, s: student(r, s, 10),
        None,
    ),
    "Student, 5 degrees of freedom": (
        "normal",
        MANY,
        lambda r, s: student(r, s, 5),
        None,
    ),
    "uniform": ("uniform", FEW, lambda r, s: r.uniform(size=s), 0),
    "uniform, 10 % too wide": (
        "uniform",
        FEW,
        lambda r, s: r.uniform(-0.05, 1.05, size=s),
        0.1,
    ),
    "gamma of shape 4": (GAMMA, FEW, lambda r, s: r.gamma(4, size=s), 0),
    "gamma of shape 4, 10 % too wide": (
        GAMMA,
        FEW,
        lambda r, s: 4 + 1.1 * (r.gamma(4, size=s) - 4),
        0.1,
    ),
}


def results_of(target, draw, n_rows, n_components, n_samples):
    """Return an array of (distance, low, high), one row for each sample."""
    generators = (np.random.default_rng(seed) for seed in range(n_samples))
    samples = (draw(rng, (n_rows, n_components)) for rng in generators)
    return np.array([excess_distance(Z, target) for Z in samples])


def rms(distances):
    """Return the root mean square."""
    return float(np.mean(np.square(distances)) ** 0.5)


def main():
    """Measure all cases and save the rows."""
    arguments(__doc__)
    rows = []
    for name, (target, sizes, draw, known) in CASES.items():
        for d in sizes:
            true = known
            if true is None:
                large = results_of(target, draw, LARGE, d, 4)
                true = float(np.median(large[:, 0]))
            is_slow = target != "normal" and d > 1
            for n_rows, n_samples in N_ROWS.items():
                n_samples = 40 if is_slow else n_samples
                found = results_of(target, draw, n_rows, d, n_samples)
                distance, low, high = found.T
                row = {"case": name, "components": d, "rows": n_rows, "true": true}
                row["samples"] = n_samples
                row["rms"], row["median"] = rms(distance), float(np.median(distance))
                row["contained"] = float(np.mean((low <= true) & (true <= high)))
                rows.append(row)
                print(shown(row), flush=True)
        save("distribution/excess", rows)


if __name__ == "__main__":
    main()

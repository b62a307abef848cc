"""How far codes of other seeds agree, up to a rotation and component by component.

Halves of each table are trained on with several seeds, and codes of the other half are
compared, for each pair of seeds.
"""

import itertools

from scipy.linalg import svdvals

from benchmarks._common import arguments, save, shown
from benchmarks.tables._data import halves, tables
from skdim import NoiseInjectedDIM


def agreement(one, other):
    """Return how far two sets of codes of the same rows agree, a dict.

    "rotated" is the mean correlation of components after the best rotation of one set
    (orthogonal Procrustes), and "first", "second" and "all" are absolute correlations
    of components of the same place.
    """
    one, other = ((Z - Z.mean(0)) / Z.std(0) for Z in (one, other))
    correlation = one.T @ other / len(one)
    same = abs(correlation.diagonal())
    return {
        "rotated": svdvals(correlation).mean(),
        "first": same[0],
        "second": same[1],
        "all": same.mean(),
    }


def main():
    """Measure all tables and save the rows."""
    options = arguments(__doc__)
    rows = []
    for name, (X, y) in tables(options.data).items():
        train, test, _, _ = halves(X, y, seed=0)
        for d in (4, 16):
            seeds = range(options.seeds)
            dims = (NoiseInjectedDIM(d, random_state=seed).fit(train) for seed in seeds)
            codes = [dim.transform(test) for dim in dims]
            for (i, one), (j, other) in itertools.combinations(enumerate(codes), 2):
                key = {"data": name, "d": d, "seeds": f"{i} and {j}"}
                rows.append(key | agreement(one, other))
            print(shown(rows[-1]), flush=True)
    save("tables/agreement", rows)


if __name__ == "__main__":
    main()

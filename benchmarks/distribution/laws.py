"""How close the final map brings codes to distributions other than N(0, I).

The tables, the held-out rows and the measures are those of
``benchmarks.distribution.final_map``.  The distributions are U[0, 1]^d and
``scipy.stats.gamma(4)``, whose components are skewed.  All parameters but those named
have their defaults.
"""

from scipy import stats

from benchmarks._common import arguments, save, shown
from benchmarks.distribution.final_map import MAPS, SETTINGS, closeness, split, tables
from skdim import NoiseInjectedDIM

LAWS = {"uniform": "uniform", "gamma(4)": stats.gamma(4)}


def main():
    """Measure all cases and save the rows."""
    options = arguments(__doc__)
    rows = []
    for data, (X, y) in tables(options.data).items():
        for seed in range(options.seeds):
            train, held_out, _, _ = split(X, y, seed)
            for name, law in LAWS.items():
                for d, views in SETTINGS:
                    for final_map in MAPS:
                        dim = NoiseInjectedDIM(
                            d,
                            output_distribution=law,
                            views=views,
                            final_map=final_map,
                            random_state=seed,
                        ).fit(train)
                        key = {"data": data, "law": name, "rows": len(train), "d": d}
                        key |= {"views": views or "none", "map": final_map}
                        row = key | {"seed": seed}
                        row |= closeness(dim.transform(held_out), law)
                        rows.append(row)
                        print(shown(row), flush=True)
        save("distribution/laws", rows)


if __name__ == "__main__":
    main()

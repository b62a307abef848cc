"""Find out that the source of the data has changed, and in which column.

``python examples/drift.py --picture FILE`` uses the diabetes data that scikit-learn
ships, 442 rows of 10 columns, and fits ``NoiseInjectedDIM`` to half of them.  The other
half is split 30 times into reference rows and new rows.  In the new rows, blood
pressure (``bp``) reads too high, as if its instrument drifted.
"""

import argparse

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from skdim import NoiseInjectedDIM
from skdim.metrics import two_sample_test

COLUMN = "bp"
DRIFTS = np.arange(0, 1.6, 0.25)  # in standard deviations of the column
SHOWN = 1.0  # the drift of the second picture
N_SPLITS = 30


def compare(dim, reference, new):
    """Return the result of the test of codes, with tables and loadings passed."""
    return two_sample_test(
        dim.transform(reference),
        dim.transform(new),
        X_reference=reference,
        X_new=new,
        loadings=dim.loadings_,
        feature_names=dim.feature_names_in_,
    )


def measure():
    """Return the results as a dict, with a list over splits for each drift."""
    X = load_diabetes(as_frame=True).data
    train, rest = train_test_split(X, test_size=1 / 2, random_state=0)
    dim = NoiseInjectedDIM(8, random_state=0).fit(train)
    found = {}
    for seed in range(N_SPLITS):
        reference, new = train_test_split(rest, test_size=1 / 2, random_state=seed)
        for drift in DRIFTS:
            moved = new.assign(**{COLUMN: new[COLUMN] + drift * train[COLUMN].std()})
            found.setdefault(drift, []).append(compare(dim, reference, moved))
    return found


def is_named(result, by):
    """Return whether the column leads in its measured or in its expected shift."""
    first = max(result.columns, key=lambda column: abs(getattr(column, by)))
    return first.column == COLUMN


def shares(found):
    """Return the shares of splits, by what they say, as arrays over drifts."""
    questions = {
        "codes differ (p ≤ 0.05)": lambda result: result.pvalue <= 0.05,
        "bp first, from the inputs": lambda result: is_named(result, "statistic"),
        "bp first, from codes and loadings": lambda result: is_named(
            result, "expected"
        ),
    }
    return {
        name: np.array(
            [np.mean([holds(r) for r in results]) for results in found.values()]
        )
        for name, holds in questions.items()
    }


def mean_shift(results, name, by):
    """Return the mean over splits of the measured or expected shift of a column."""
    tables = ({column.column: column for column in r.columns} for r in results)
    return np.mean([getattr(table[name], by) for table in tables])


def draw(found, path):
    """Draw how often a drift is found, and by how much columns shift."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for name, share in shares(found).items():
        axes[0].plot(list(found), 100 * share, "o-", label=name)
    axes[0].axhline(5, color="k", ls="--", lw=1, label="5 %")
    axes[0].set(xlabel=f"drift of {COLUMN}, standard deviations", ylabel="splits, %")
    axes[0].legend(fontsize=8)
    names = sorted(column.column for column in found[SHOWN][0].columns)[::-1]
    places = np.arange(len(names))
    for offset, by, label in (
        (0.2, "shift", "measured"),
        (-0.2, "expected", "by codes"),
    ):
        values = [mean_shift(found[SHOWN], name, by) for name in names]
        axes[1].barh(places + offset, values, height=0.4, label=label)
    axes[1].set_yticks(places, names)
    axes[1].axvline(0, color="k", lw=0.8)
    axes[1].set(xlabel=f"mean shift, standard deviations; {COLUMN} drifted by {SHOWN}")
    axes[1].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main():
    """Measure and print what is found, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", default="drift.png")
    args = parser.parse_args()
    found = measure()
    for name, share in shares(found).items():
        values = ", ".join(f"{s:.0%}" for s in share)
        print(f"{name}, for a drift of {DRIFTS.tolist()}: {values}")
    print(f"\nOne split, drift of {SHOWN}:\n{found[SHOWN][-1]}")
    draw(found, args.picture)


if __name__ == "__main__":
    main()

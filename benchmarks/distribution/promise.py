"""When ``report`` says that codes are as promised: good fits and poor ones.

scikit-learn's small tables are split at random, with 30 % of the rows held out.
Settings differ in the numbers of components, of training rows and of steps, and in the
views.  The thresholds of ``skdim/_report.py`` were chosen on the rows of the results.
"""

import warnings

import numpy as np
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_wine,
)
from sklearn.model_selection import train_test_split

from benchmarks._common import arguments, save, shown
from skdim import DeepInfoMax, NoiseInjectedDIM

LOADERS = {
    "digits": load_digits,
    "breast cancer": load_breast_cancer,
    "wine": load_wine,
    "diabetes": load_diabetes,
}
# Name: class, parameters, and the largest number of training rows.
SETTINGS = {
    f"{d} components{'' if views else ', views=None'}": (
        NoiseInjectedDIM,
        {"n_components": d} | ({} if views else {"views": None}),
        None,
    )
    for d in (4, 8, 16, 64)
    for views in (True, False)
}
for n_rows, d in ((40, 8), (40, 16), (80, 8), (150, 8), (150, 16)):
    name = f"{d} components, views=None, {n_rows} rows"
    params = {"n_components": d, "views": None}
    SETTINGS[name] = (NoiseInjectedDIM, params, n_rows)
SETTINGS |= {
    f"8 components, max_iter={n}": (
        NoiseInjectedDIM,
        {"n_components": 8, "max_iter": n},
        None,
    )
    for n in (3, 30)
}
SETTINGS["DeepInfoMax(8)"] = (DeepInfoMax, {"n_components": 8}, None)


def change(curve):
    """Return the mean of the last fifth of a curve, and its change from that before.

    Both are None for curves of fewer than 10 epochs.
    """
    fifth = len(curve) // 5
    if fifth < 2:
        return None, None
    before, last = np.reshape(curve[-2 * fifth :], (2, fifth)).mean(axis=1)
    return float(last), float(last - before)


def measured(X, setting, seed):
    """Return one row of results: what ``report`` says of a fit with this setting."""
    kind, params, n_rows = SETTINGS[setting]
    train, test = train_test_split(X, test_size=0.3, random_state=seed)
    train = train[:n_rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dim = kind(random_state=seed, **params).fit(train)
    found = dim.report(test)
    row = {"training rows": len(train), "rows": len(test)}
    row["components"], row["columns"] = dim.n_components, X.shape[1]
    row["steps"] = dim.n_iter_ * max(1, len(train) // dim.batch_size_)
    row |= found.distance._asdict()
    for name in ("norm_spread", "pvalue", "information", "training_information"):
        row[name] = getattr(found, name)
    row["holds"] = found.holds
    row["information at the end"], row["rise"] = change(dim.information_curve_)
    row["match at the end"], row["fall"] = change(dim.match_curve_)
    return row


def main():
    """Measure all settings and save the rows."""
    options = arguments(__doc__, seeds=2)
    rows = []
    for seed in range(options.seeds):
        for name, load in LOADERS.items():
            X = load().data
            for setting in SETTINGS:
                row = {"data": name, "setting": setting, "seed": seed}
                rows.append(row | measured(X, setting, seed))
                print(shown(rows[-1]), flush=True)
        save("distribution/promise", rows)


if __name__ == "__main__":
    main()

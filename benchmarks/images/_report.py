"""Tables of the documents on features of images."""

import numpy as np

from benchmarks._common import grouped, load
from benchmarks._markdown import how, paragraphs, spreads, table

DATA = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
CASE = "data", "n_components", "steps"
TITLES = {
    "match": "match",
    "kNN": "kNN",
    "linear": "linear",
    "match, map": "map: match",
    "norms, map": "map: norms",
    "kNN, map": "map: kNN",
    "linear, map": "map: linear",
    "kNN, hidden layer": "hidden: kNN",
    "linear, hidden layer": "hidden: linear",
}
DIGITS = dict.fromkeys(TITLES, 3) | {"norms, map": 2}
MNIST = {"match": 3, "norms": 2, "kNN": 4, "linear": 4, "seconds": 0}
LAYERS = "Y", "fc", "conv"
PROBES = "linear", "MLP", "kNN"


def on_test_file():
    """Return {case: rows} of the results on the test file, and all these results."""
    results = load("images/features")
    results["rows"] = [row for row in results["rows"] if row["held out"] == "test"]
    cases = grouped(results["rows"], *CASE)
    return dict(
        sorted(cases.items(), key=lambda case: case[0][0], reverse=True)
    ), results


def images():
    """Return the comparison of features, one Markdown table for each case."""
    cases, results = on_test_file()
    parts = []
    for (data, n_components, steps), rows in cases.items():
        n_seeds = len({row["seed"] for row in rows})
        parts.append(
            f"**{DATA[data]}, {n_components} components, {steps} steps** "
            f"({n_seeds} seed{'s' * (n_seeds > 1)}; match of a true sample: "
            f"{rows[0]['floor']:.3f})"
        )
        parts.append(of_case(rows))
    return paragraphs(*parts, how(results))


def of_case(rows):
    """Return the table of one case, the closest match first."""
    shown = {key: n for key, n in DIGITS.items() if rows[0][key] is not None}
    closest = "match, map" if "match, map" in shown else "match"
    groups = grouped(rows, "method").values()
    lines = []
    for group in sorted(groups, key=lambda g: mean_of(g, closest)):
        lines.append([named(group[0]), *spreads(group, shown)])
    return table(["method (weight)", *(TITLES[key] for key in shown)], lines)


def named(row):
    """Return the name of the method of a row, and its setting."""
    method, setting = row["method"], row["setting"]
    if not setting:
        return method
    if isinstance(setting, dict):
        projector = ", projector" if setting["projector"] else ""
        setting = f"{setting['weight']}{projector}"
    return f"{method} ({setting})"


def mean_of(rows, key):
    """Return the mean of column ``key``."""
    return np.mean([row[key] for row in rows])


def versus():
    """Return a Markdown table: skdim with its final map beside peers with it."""
    cases, results = on_test_file()
    rows = []
    for (data, n_components, steps), of_case in cases.items():
        if of_case[0]["linear, map"] is not None:
            case = f"{DATA[data]}, {n_components}, {steps} steps"
            rows.append([case, *against_peers(of_case)])
    header = ["case", "match", "kNN", "linear", "best peer of each"]
    header += ["peers ahead in match and linear", "peers ahead in match and kNN"]
    return paragraphs(table(header, rows), how(results, "means"))


def against_peers(rows):
    """Return cells of one case: skdim, the best peers, and peers that are ahead.

    All have the final map.  A peer is ahead if it is closer to the distribution and a
    classifier is more accurate on its codes.
    """
    keys = "match, map", "kNN, map", "linear, map"
    mean = {
        method: [mean_of(group, key) for key in keys]
        for (method,), group in grouped(rows, "method").items()
    }
    ours = mean.pop("skdim")
    best = [min(mean, key=lambda m: mean[m][0])]
    best += [max(mean, key=lambda m, i=i: mean[m][i]) for i in (1, 2)]
    peers = [f"{name} {mean[name][i]:.3f}" for i, name in enumerate(best)]
    ahead = [
        ", ".join(m for m, of in mean.items() if of[0] < ours[0] and of[i] > ours[i])
        for i in (2, 1)
    ]
    cells = [f"{value:.3f}" for value in ours]
    return [*cells, "; ".join(peers), *(names or "none" for names in ahead)]


def mnist():
    """Return a Markdown table: results of training on all rows of MNIST."""
    results = load("images/mnist")
    rows = results["rows"]
    floor = f"Match of a true sample: {rows[0]['floor']:.3f}."
    return paragraphs(table(list(MNIST), [spreads(rows, MNIST)]), floor, how(results))


def probes():
    """Return a Markdown table: accuracy of each probe on each layer of each method."""
    results = load("images/probes")
    names = [f"{layer}, {use}" for layer in LAYERS for use in PROBES]
    rows = []
    for (method,), group in grouped(results["rows"], "method").items():
        kept = [name for name in names if group[0][name] is not None]
        values = [f"{100 * np.mean([row[n] for row in group]):.1f}" for n in kept]
        widest = max(np.ptp([100 * row[n] for row in group]) for n in kept)
        values += ["-"] * (len(names) - len(kept))
        match = f"{np.mean([row['match, floors'] for row in group]):.1f}"
        rows.append([method, *values, f"{widest:.1f}", match])
    header = ["method", *names, "widest range", "match"]
    return paragraphs(table(header, rows), how(results, "means"))


TABLES = {"images": images, "versus": versus, "mnist": mnist, "probes": probes}

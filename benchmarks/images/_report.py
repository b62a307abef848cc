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
    "norms": "norms",
    "match, whitened": "match, whitened",
    "kNN, hidden layer": "hidden: kNN",
    "linear, hidden layer": "hidden: linear",
}
DIGITS = dict.fromkeys(TITLES, 3) | {"norms": 2}
USES = ["kNN", "linear", "kNN, hidden layer", "linear, hidden layer"]
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
        parts.append(
            f"**{DATA[data]}, {n_components} components, {steps} steps** "
            f"(match of a true sample: {rows[0]['floor']:.3f})"
        )
        parts.append(of_case(rows))
    return paragraphs(*parts, how(results))


def of_case(rows):
    """Return the table of one case, the closest match first."""
    groups = grouped(rows, "method").values()
    lines = []
    for group in sorted(groups, key=lambda g: np.mean([row["match"] for row in g])):
        method, setting = group[0]["method"], group[0]["setting"]
        name = f"{method} ({setting})" if setting else method
        lines.append([name, *spreads(group, DIGITS)])
    return table(["method (weight)", *TITLES.values()], lines)


def versus():
    """Return a Markdown table: skdim and the best peer by each measure, as means."""
    cases, results = on_test_file()
    rows = [
        [f"{DATA[data]}, {n_components}, {steps} steps", *against_peers(of_case)]
        for (data, n_components, steps), of_case in cases.items()
    ]
    header = ["case", "match: skdim / closest peer", "match, all whitened"]
    header += [*(TITLES[use] for use in USES), "norms of skdim"]
    return paragraphs(table(header, rows), how(results, "means"))


def against_peers(rows):
    """Return cells of one case: ratios of the match, leads in accuracy, norms.

    skdim is compared with the best peer by each measure.
    """
    mean = {
        method: {key: np.mean([row[key] for row in group]) for key in TITLES}
        for (method,), group in grouped(rows, "method").items()
    }
    ours = mean.pop("skdim")
    ratios = []
    for key in ("match", "match, whitened"):
        closest = min(peer[key] for peer in mean.values())
        ratio = ours[key] / closest
        ratios.append(f"{ours[key]:.3f} / {closest:.3f} = {ratio:.2f}")
    leads = [ours[use] - max(peer[use] for peer in mean.values()) for use in USES]
    return [*ratios, *(f"{lead:+.3f}" for lead in leads), f"{ours['norms']:.2f}"]


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

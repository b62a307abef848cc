"""Tables of the documents on features of tables and on the defaults."""

import numpy as np

from benchmarks._common import grouped, load
from benchmarks._markdown import how, paragraphs, table
from benchmarks.tables._summary import summary

DEFAULTS = "varied", "value", "match, median", "match, worst", "LR", "GNB", "kNN"
GAINS = [
    "skdim",
    "skdim, supervised*",
    "autoencoder",
    "VICReg",
    "Nystroem",
    "power transform",
    "untrained layer",
    "NCA*",
    "LDA*",
]
# Where rows are near, figure, unit (100: points) and digits.
NEAREST = [
    ("view", "accuracy", 100, 2),
    ("view", "match", 1, 3),
    ("detector", "AUROC", 100, 2),
    ("detector", "AP", 100, 2),
]
USES = ["LR", "LDA", "GNB", "kNN", "LR, 10 %", "GNB, 10 %", "kNN, 10 %"]


def defaults():
    """Return a Markdown table: match and accuracy for values of each parameter."""
    results = load("tables/defaults")
    rows = [
        [
            *(row["varied"], row["value"]),
            *(f"{row[key]:.2f}" for key in ("match, median", "match, worst")),
            *(f"{100 * row[key]:.1f}" for key in ("LR", "GNB", "kNN")),
        ]
        for row in results["rows"]
    ]
    names = "Tables: " + ", ".join(results["tables"]) + "."
    return paragraphs(table(DEFAULTS, rows), names, how(results))


def summarized(what):
    """Return the summary of all representations, and the text above and below it."""
    results = load("tables/features")
    n_tables, n_splits = (
        len({row[key] for row in results["rows"]}) for key in ("table", "seed")
    )
    text = (
        f"{what}, mean over {n_tables} tables and {n_splits} splits of each; a star "
        "marks features that use labels:"
    )
    rows = summary(results["rows"])
    return rows, text, how(results | {"rows": rows})


def features():
    """Return a Markdown table: accuracy and match of all representations."""
    found, text, below = summarized("Accuracy in percent")
    header = list(found[0])
    rows = [
        [row["representation"], *(f"{row[key]:.1f}" for key in header[1:])]
        for row in sorted(found, key=lambda row: row["mean rank"])
    ]
    return paragraphs(text, table(header, rows), below)


def gains():
    """Return a Markdown table: accuracy of representations minus that of the inputs."""
    found, text, below = summarized("Points of accuracy over the standardised inputs")
    found = {row["representation"]: row for row in found}
    rows = [
        [kind, *(f"{found[kind][use] - found['inputs'][use]:+.1f}" for use in USES)]
        for kind in GAINS
    ]
    return paragraphs(text, table(["representation", *USES], rows), below)


def nearest():
    """Return a Markdown table: what L2 instead of L1 changes in view and detector."""
    results = load("tables/nearest")
    rows = [
        [where, name, f"{mean:+.{digits}f}", f"{error:.{digits}f}", n]
        for where, name, unit, digits in NEAREST
        for mean, error, n in [difference(results["rows"], where, name, unit)]
    ]
    header = ["near rows of the", "figure", "L2 minus L1", "standard error", "tables"]
    return paragraphs(table(header, rows), how(results, "means"))


def difference(rows, where, name, unit):
    """Return mean, standard error over tables, and number of tables, of L2 minus L1.

    ``unit`` is what the differences are multiplied by.
    """
    values = {}
    for row in rows:
        if row["of"] == where:
            sign = 1 if row["p"] == 2 else -1
            values.setdefault(row["table"], []).append(2 * sign * row[name])
    means = unit * np.array([np.mean(value) for value in values.values()])
    return means.mean(), means.std(ddof=1) / len(means) ** 0.5, len(means)


def agreement():
    """Return a Markdown table: correlation of codes of two seeds, by table."""
    results = load("tables/agreement")
    rows = []
    for d in (4, 16):
        parts = [row for row in results["rows"] if row["d"] == d]
        for (name,), group in grouped(parts, "data").items():
            rows.append([d, name, *_correlations(group)])
        rows.append([d, "*mean*", *_correlations(parts)])
    header = ["d", "table", "after a rotation", "first", "second", "all components"]
    return paragraphs(table(header, rows), how(results))


def _correlations(group):
    names = "rotated", "first", "second", "all"
    return [f"{np.mean([row[name] for row in group]):.2f}" for name in names]


def stopping():
    """Return a Markdown table: information with and without early stopping."""
    results = load("tables/stopping")
    rows = []
    groups = grouped(results["rows"], "chosen on", "data")
    for is_chosen, name in sorted(groups, key=lambda key: not key[0]):
        group = groups[is_chosen, name]
        stopped, same, every, epochs = (
            np.mean([row[key] for row in group])
            for key in ("stopped", "same rows", "all rows", "epochs")
        )
        gains = f"{stopped - same:+.3f}", f"{stopped - every:+.3f}"
        use = "chosen on" if is_chosen else "confirmed on"
        held_out = group[0]["held out"]
        values = f"{stopped:.2f}", *gains, f"{epochs:.2f}"
        rows.append([use, name, held_out, *values])
    header = ["rule", "data", "held-out rows", "information"]
    header += ["difference to the same rows", "to all rows", "epochs"]
    return paragraphs(table(header, rows), how(results, "means"))


TABLES = {
    "agreement": agreement,
    "defaults": defaults,
    "features": features,
    "gains": gains,
    "nearest": nearest,
    "stopping": stopping,
}

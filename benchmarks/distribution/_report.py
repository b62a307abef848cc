"""Tables of the documents on how closely codes follow their target distribution."""

import numpy as np

from benchmarks._common import grouped, load
from benchmarks._markdown import how, paragraphs, spreads, table

MATCH = {"KS": 4, "SW2": 3, "information": 2}
CLAIMS = {"information": 2, "KS": 2, "SW2": 2, "kNN": 2}
FINAL_MAP = {
    "match 2000": 2,
    "match 10000": 2,
    "excess": 3,
    "p": 3,
    "linear": 3,
    "kNN": 3,
}
ADVERSARY = {"match": 2, "norms": 2, "linear": 3, "kNN": 3, "seconds": 1}


def match():
    """Return a Markdown table: match on MNIST by distribution, critic and test set."""
    results = load("distribution/match_mnist")
    groups = grouped(results["rows"], "distribution", "critic", "held out from")
    rows = [
        [*key, *spreads(group, MATCH), f"{group[0]['capacity']:.2f}"]
        for key, group in groups.items()
    ]
    for distribution, floor in results["floors"].items():
        values = f"{floor['KS']:.4f}", f"{floor['SW2']:.3f}"
        rows.append([distribution, "*true sample*", "", *values, "", ""])
    header = ["distribution", "critic", "held out from", *MATCH, "capacity"]
    drift = f"Drift of the test file: {results['drift']:.3f} (a sample: 0.011)."
    return paragraphs(table(header, rows), drift, how(results))


def claims():
    """Return a Markdown table: information, match and accuracy by scale of noise."""
    results = load("distribution/claims")
    groups = grouped(results["rows"], "distribution", "n_components", "noise_scale")
    rows = [
        [*key, f"{group[0]['capacity']:.2f}", *spreads(group, CLAIMS)]
        for key, group in groups.items()
    ]
    header = ["distribution", "d", "noise_scale", "capacity", *CLAIMS]
    return paragraphs(table(header, rows), how(results))


def adversary():
    """Return a Markdown table that compares noise with an adversary."""
    results = load("distribution/adversary")
    groups = grouped(results["rows"], "data", "method")
    rows = [
        [*key, group[0]["epochs"], *spreads(group, ADVERSARY)]
        for key, group in groups.items()
    ]
    header = ["data", "method", "epochs", *ADVERSARY]
    return paragraphs(table(header, rows), how(results))


def demo():
    """Return the results of ``make demo`` as a Markdown table."""
    results = load("demo")
    rows = []
    for row in results["rows"]:
        information = f"{row['information']:.2f} of {row['capacity']:.2f}"
        distances = [f"{value:.2f}" for value in row["distance"].values()]
        accuracies = [f"{value:.3f}" for value in row["accuracy"].values()]
        seconds = f"{row['seconds']:.1f}"
        rows.append([row["name"], information, *distances, *accuracies, seconds])
    methods = results["rows"][0]["distance"]
    header = ["data", "information", *methods, "LR: inputs", "codes", "both", "fit, s"]
    text = (
        "Distance of held-out codes to N(0, I) as a multiple of that of a true sample "
        "(1 is perfect), and accuracy of logistic regression:"
    )
    return paragraphs(text, table(header, rows), how(results))


def excess():
    """Return a Markdown table: excess distance of samples of known distance."""
    results = load("distribution/excess")
    sizes = list(dict.fromkeys(row["rows"] for row in results["rows"]))
    rows = []
    for (name,), group in grouped(results["rows"], "case").items():
        middle = [row for row in group if row["components"] == 8]
        found = [f"{row['rms']:.3f}" for row in middle]
        parts = grouped(group, "rows").values()
        share = [100 * np.mean([row["contained"] for row in part]) for part in parts]
        lowest = 100 * min(row["contained"] for row in group)
        shares = [*(f"{value:.0f}" for value in share), f"{lowest:.0f}"]
        rows.append([name, f"{middle[0]['true']:.3f}", *found, *shares])
    header = [
        "sample",
        "distance",
        *(f"{size:,} rows" for size in sizes),
        *(f"contained, {size:,} rows, %" for size in sizes),
        "lowest, %",
    ]
    text = (
        "True distance for 8 components; root mean square of `excess_distance` for "
        "samples of so many rows; share of 95 % intervals that contain the truth, mean "
        "over 1 to 64 components (1 and 8 for the uniform and the gamma distribution), "
        "and its lowest value:"
    )
    return paragraphs(text, table(header, rows), how(results))


def final_map():
    """Return a Markdown table: match and accuracy with and without the final map."""
    results = load("distribution/final_map")
    rows = []
    for key, group in grouped(results["rows"], "d", "views", "data").items():
        rows.append([*key, f"{group[0]['rows']:,}", *_before_and_after(group)])
    for key, group in grouped(results["rows"], "d", "views").items():
        rows.append([*key, "*mean*", "", *_before_and_after(group)])
    rows.sort(key=lambda row: (row[0], row[1], row[2] == "*mean*"))
    header = ["d", "views", "data", "training rows", *FINAL_MAP]
    return paragraphs(table(header, rows), how(results, "means"))


def laws():
    """Return a Markdown table: match to other distributions, without and with a map."""
    results = load("distribution/laws")
    digits = {key: FINAL_MAP[key] for key in ("match 2000", "match 10000", "excess")}
    rows = [
        [*key, len({row["data"] for row in group}), *_before_and_after(group, digits)]
        for key, group in grouped(results["rows"], "law", "d", "views").items()
    ]
    header = ["distribution", "d", "views", "tables", *digits]
    return paragraphs(table(header, rows), how(results, "means"))


def training_rows():
    """Return a Markdown table: excess distance by the number of training rows."""
    results = load("distribution/training_rows")
    sizes = list(dict.fromkeys(row["rows"] for row in results["rows"]))
    rows = []
    for key, group in grouped(results["rows"], "d", "views", "map").items():
        of_size = grouped(group, "rows")
        found = [np.mean([row["excess"] for row in of_size[(n,)]]) for n in sizes]
        rows.append([*key, *(f"{value:.3f}" for value in found)])
    rows.sort(key=lambda row: row[:2])
    header = ["d", "views", "codes", *(f"{n:,} rows" for n in sizes)]
    return paragraphs(table(header, rows), how(results, "means"))


def _before_and_after(group, measures=FINAL_MAP):
    """Return a cell for each measure: its mean with "linear", and with "auto"."""
    cells = []
    for measure, digits in measures.items():
        halves = [
            [row[measure] for row in group if row["map"] == kind]
            for kind in ("linear", "auto")
        ]
        halves = [[v for v in half if v is not None] for half in halves]
        means = np.median if measure == "p" else np.mean
        found = [f"{means(half):.{digits}f}" for half in halves if half]
        cells.append(" → ".join(found))
    return cells


def promise():
    """Return a Markdown table: how far codes are, by training rows per component."""
    results = load("distribution/promise")
    limits = (0, 5, 15, 30, np.inf)
    names = ("below 5", "5 to 15", "15 to 30", "30 or more")
    rows = []
    for name, least, most in zip(names, limits, limits[1:], strict=False):
        group = [
            row
            for row in results["rows"]
            if least <= row["training rows"] / row["components"] < most
        ]
        low, high = np.array([(row["low"], row["high"]) for row in group]).T
        distances = [row["distance"] for row in group]
        spreads = [
            row["norm_spread"] for row in group if row["components"] <= row["columns"]
        ]
        rows.append(
            [
                name,
                len(group),
                f"{np.median(distances):.2f} ({max(distances):.2f})",
                f"{100 * np.mean(low > 0.15):.0f}",
                f"{100 * np.mean(high <= 0.15):.0f}",
                f"{min(spreads):.2f} to {max(spreads):.2f}",
            ]
        )
    header = [
        "training rows for each component",
        "fits",
        "distance, median (largest)",
        "interval above 0.15, %",
        "at most 0.15, %",
        "spread of norms",
    ]
    text = (
        "Digits, breast cancer, wine and diabetes, 30 % of the rows held out; 4 to 64 "
        "components, with and without views, and some with few training rows or steps. "
        "The spread of norms is that of fits with no more components than columns:"
    )
    return paragraphs(text, table(header, rows), how(results))


TABLES = {
    "promise": promise,
    "match": match,
    "claims": claims,
    "adversary": adversary,
    "results": demo,
    "excess": excess,
    "final_map": final_map,
    "laws": laws,
    "training_rows": training_rows,
}

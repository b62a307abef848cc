"""Tables of the documents on outlier detectors."""

import numpy as np

from benchmarks._common import grouped, load
from benchmarks._markdown import how, paragraphs, spread, table

DETECTOR = "InfoMaxOutlierDetector"
CROSSED = "cross-conformal, 4 folds"
PEERS = [
    "1 neighbour",
    "5 neighbours",
    "Gaussian mixture, 10 components",
    "LUNAR",
    "isolation forest",
    "local outlier factor",
]
LEVELS = 0.01, 0.05


def on_tables(is_one_class=True, more_seeds=False):
    """Return the results on tables, and {name of a score: {seed: rows}}.

    The score with the best mean AUROC comes first.  Seeds that only one method has are
    left out unless ``more_seeds`` is True.
    """
    results = load("outliers/tables")
    results["rows"] = [
        row | {"name": name_of(row)}
        for row in results["rows"]
        if row["one-class"] == is_one_class
        and (more_seeds or row["seed"] < results["seeds"])
    ]
    groups = {}
    for (name, seed), rows in grouped(results["rows"], "name", "seed").items():
        groups.setdefault(name, {})[seed] = rows
    order = sorted(groups, key=lambda n: mean_of(groups[n], "AUROC"), reverse=True)
    return results, {name: groups[name] for name in order}


def name_of(row):
    """Return the name of the score in a row: its method and, if several, which one."""
    parts = [row["method"], row["score"]]
    return ", ".join(part for part in parts if part not in ("parts", ""))


def mean_of(seeds, key):
    """Return the mean of column ``key`` over all rows of {seed: rows}."""
    return np.mean([row[key] for rows in seeds.values() for row in rows])


def over_tables(seeds, key, digits=3, scale=1.0):
    """Return the mean of a column over tables as text, with its range over seeds."""
    means = [scale * np.mean([row[key] for row in rows]) for rows in seeds.values()]
    return spread(means, digits)


def off(seeds, level):
    """Return the error of the share of flagged normal rows, as text.

    It is the mean absolute difference from the level over tables, in percentage points,
    with its range over seeds, or "" without p-values.
    """
    key = f"flagged at {level}"
    if seeds[0][0][key] is None:
        return ""
    gaps = [np.mean([abs(row[key] - level) for row in v]) for v in seeds.values()]
    return spread([100 * gap for gap in gaps], 2)


def outliers():
    """Return a Markdown table: detectors that are fitted to normal rows only."""
    results, groups = on_tables()
    shown = [*PEERS, DETECTOR, f"{DETECTOR}(calibration_size=0)"]
    lines = [
        [
            *(name, over_tables(seeds, "AUROC"), over_tables(seeds, "AP")),
            *(off(seeds, level) for level in LEVELS),
            f"{np.mean([sum(r['seconds'] for r in v) for v in seeds.values()]):.0f}",
        ]
        for name, seeds in groups.items()
        if name in shown
    ]
    gaps = [f"{100 * gap:.2f}" for gap in results["floors"]["0.75"].values()]
    lines.append(["*perfect p-values, simulated*", "", "", *gaps, ""])
    header = ["detector", "AUROC", "AP", "flagged at 1 %: off by, points"]
    header += ["at 5 %: off by, points", "seconds, all tables"]
    return paragraphs(table(header, lines), how(results))


def outliers_held():
    """Return a Markdown table: errors of p-values by the share of held-out rows."""
    results, groups = on_tables(more_seeds=True)
    shown = {f"{DETECTOR}(calibration_size=0.5)": "0.5", DETECTOR: "0.75"}
    shown |= {f"{DETECTOR}(calibration_size=0.9)": "0.9", CROSSED: CROSSED}
    lines = []
    for method, share in shown.items():
        seeds, perfect = groups[method], results["floors"].get(share, {})
        line = [f"{share} ({len(seeds)} seeds)"]
        for level in LEVELS:
            floor = perfect.get(str(level))
            line += [off(seeds, level), f"{100 * floor:.2f}" if floor else ""]
        line += [over_tables(seeds, f"found at {a}", 1, 100) for a in LEVELS]
        lines.append(line)
    header = ["`calibration_size`"]
    header += ["flagged at 1 %: off by, points", "perfect p-values"]
    header += ["at 5 %: off by, points", "perfect p-values"]
    header += ["outliers found at 1 %, in %", "at 5 %, in %"]
    below = how(results | {"rows": []})  # the first column names the seeds
    return paragraphs(table(header, lines), below)


def outliers_tried():
    """Return a Markdown table: parts of the detector's score, and other trials."""
    results, groups = on_tables()
    lines = [
        [name, over_tables(seeds, "AUROC"), over_tables(seeds, "AP")]
        for name, seeds in groups.items()
        if name not in (*PEERS, CROSSED) and f"{DETECTOR}(" not in name
    ]
    return paragraphs(table(["score", "AUROC", "AP"], lines), how(results))


def outliers_neighbors():
    """Return a Markdown table: AUROC by data set, the detector's largest gain first."""
    results, _ = on_tables()
    methods = [DETECTOR, "1 neighbour", "5 neighbours", "LUNAR"]
    groups = grouped(results["rows"], "table", "name")
    found = {
        name: [np.mean([r["AUROC"] for r in groups[name, m]]) for m in methods]
        for name in dict.fromkeys(row["table"] for row in results["rows"])
    }
    order = sorted(found, key=lambda name: found[name][1] - found[name][0])
    lines = [[name, *(f"{value:.3f}" for value in found[name])] for name in order]
    text = table(["table (AUROC, mean)", *methods], lines)
    return paragraphs(text, how(results, "means"))


def outliers_contaminated():
    """Return a Markdown table: detectors that are fitted to outliers too."""
    results, groups = on_tables(is_one_class=False)
    n_tables = {name: len(groups[name][0]) for name in groups}
    most = max(n_tables.values())
    lines = [
        [
            name if n_tables[name] == most else f"{name} ({n_tables[name]} tables)",
            *(over_tables(seeds, key) for key in ("AUROC", "AP")),
        ]
        for name, seeds in groups.items()
    ]
    text = table(["detector", "AUROC", "AP"], lines)
    return paragraphs(text, how(results, "means"))


def outlier_images():
    """Return a Markdown table: AUROC of detectors on images, over normal classes."""
    results = load("outliers/images")
    groups = {}
    for row in results["rows"]:
        by_data = groups.setdefault(name_of(row), {})
        by_data.setdefault(row["data"], []).append(row["AUROC"])
    data = ["mnist", "cifar10"]
    order = sorted(groups, key=lambda name: -np.mean(groups[name]["mnist"]))
    lines = [
        [name, *(spread(groups[name][d]) if d in groups[name] else "" for d in data)]
        for name in order
    ]
    header = ["score", "MNIST, AUROC", "CIFAR-10, AUROC"]
    shown = "mean (lowest to highest class)"
    return paragraphs(table(header, lines), how(results, shown))


TABLES = {
    "outliers": outliers,
    "outliers_held": outliers_held,
    "outliers_tried": outliers_tried,
    "outliers_neighbors": outliers_neighbors,
    "outliers_contaminated": outliers_contaminated,
    "outlier_images": outlier_images,
}

"""Write the tables of docs/ and README.md from benchmarks/results/; --check compares.

A table stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.
"""

import itertools
import json
import re
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
FILES = ["README.md"]
FILES += [
    f"docs/{name}.md"
    for name in ("results", "defaults", "contract", "practice", "outliers")
]


def load(name):
    """Return one file of results."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def spread(values, digits=3):
    """Return mean, lowest and highest as text."""
    low, mean, high = min(values), np.mean(values), max(values)
    if len(values) == 1:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(header, rows):
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def how(results, shown="mean (lowest to highest)"):
    """Return the line that says how the numbers were made."""
    n_seeds = len({row["seed"] for row in results["rows"] if "seed" in row})
    seeds = f"{n_seeds} seed{'s' * (n_seeds > 1)}; {shown}; " if n_seeds else ""
    return (
        f"`{results['command']}`; {seeds}{results['cores']} cores, "
        f"torch {results['torch']}, Python {results['python']}."
    )


def match():
    """Held-out match on MNIST by law, critic and held-out set."""
    results = load("match_mnist")
    groups = {}
    for row in results["rows"]:
        key = row["law"], row["critic"], row["held out from"]
        groups.setdefault(key, []).append(row)
    rows = [
        [
            *(law, critic, held_out),
            spread([row["KS"] for row in group], 4),
            spread([row["SW2"] for row in group]),
            spread([row["information"] for row in group], 2),
            f"{group[0]['capacity']:.2f}",
        ]
        for (law, critic, held_out), group in groups.items()
    ]
    for law, floor in results["floors"].items():
        values = f"{floor['KS']:.4f}", f"{floor['SW2']:.3f}"
        rows.append([law, "*true sample*", "", *values, "", ""])
    header = ["law", "critic", "held out from", "KS", "SW2", "information", "capacity"]
    drift = f"Drift of the test file: {results['drift']:.3f} (a sample: 0.011)."
    return "\n\n".join([table(header, rows), drift, how(results)])


def claims():
    """Information, match and accuracy of held-out rows against the noise."""
    results = load("claims")
    groups = {}
    for row in results["rows"]:
        key = row["law"], row["n_components"], row["noise_scale"]
        groups.setdefault(key, []).append(row)
    rows = [
        [
            *(*key, f"{group[0]['capacity']:.2f}"),
            *(spread([row[k] for row in group], 2) for k in ("information", "KS")),
            *(spread([row[k] for row in group], 2) for k in ("SW2", "kNN")),
        ]
        for key, group in groups.items()
    ]
    header = ["law", "d", "noise_scale", "capacity", "information", "KS", "SW2", "kNN"]
    return table(header, rows) + "\n\n" + how(results)


NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
CASE = "data", "n_components", "steps"
IMAGES = {
    "match": ("match", 3),
    "kNN": ("kNN", 3),
    "linear": ("linear", 3),
    "norms": ("norms", 2),
    "match, whitened": ("match, whitened", 3),
    "kNN, hidden layer": ("hidden: kNN", 3),
    "linear, hidden layer": ("hidden: linear", 3),
}


def _image_cases():
    """Return the rows of the test file by case and method, and all results."""
    results = load("images")
    judged = [row for row in results["rows"] if row["held out"] == "test"]
    cases = {}
    for row in judged:
        methods = cases.setdefault(tuple(row[key] for key in CASE), {})
        methods.setdefault(row["method"], []).append(row)
    cases = sorted(cases.items(), reverse=True, key=lambda case: case[0][0])
    return dict(cases), results | {"rows": judged}


def images():
    """Compare features of images, one table for each case."""
    cases, judged = _image_cases()
    parts = []
    for (data, n_components, steps), methods in cases.items():
        floor = next(iter(methods.values()))[0]["floor"]
        parts.append(
            f"**{NAMES[data]}, {n_components} components, {steps} steps** "
            f"(a true sample's match: {floor:.3f})"
        )
        parts.append(_images_of_case(methods))
    return "\n\n".join([*parts, how(judged)])


def versus():
    """Put ours beside the best peer of each measure, by their means."""
    cases, judged = _image_cases()
    uses = ["kNN", "linear", "kNN, hidden layer", "linear, hidden layer"]
    rows = []
    for (data, n_components, steps), methods in cases.items():
        mean = {
            method: {key: np.mean([row[key] for row in group]) for key in IMAGES}
            for method, group in methods.items()
        }
        ours = mean.pop("skdim")
        ratios = []
        for key in ("match", "match, whitened"):
            closest = min(peer[key] for peer in mean.values())
            ratio = ours[key] / closest
            ratios.append(f"{ours[key]:.3f} / {closest:.3f} = {ratio:.2f}")
        leads = [ours[use] - max(peer[use] for peer in mean.values()) for use in uses]
        rows.append(
            [
                f"{NAMES[data]}, {n_components}, {steps} steps",
                *ratios,
                *(f"{lead:+.3f}" for lead in leads),
                f"{ours['norms']:.2f}",
            ]
        )
    titles = [IMAGES[use][0] for use in uses]
    header = ["case", "match, ours / the closest peer's", "all whitened", *titles]
    header.append("norms, ours")
    return table(header, rows) + "\n\n" + how(judged, "means")


def _images_of_case(methods):
    rows = []
    for method, group in sorted(methods.items(), key=_mean_match):
        setting = group[0]["setting"]
        name = f"{method} ({setting})" if setting else method
        spreads = [
            spread([row[key] for row in group], digits)
            for key, (_, digits) in IMAGES.items()
        ]
        rows.append([name, *spreads])
    titles = [title for title, _ in IMAGES.values()]
    return table(["method (weight)", *titles], rows)


def _mean_match(item):
    return np.mean([row["match"] for row in item[1]])


def image_time():
    """Put the time of each method beside ours, round by round."""
    results = load("image_time")
    seconds = {
        (row["method"], row["data"], row["seed"]): row["seconds"]
        for row in results["rows"]
    }
    methods, data, seeds = (
        list(dict.fromkeys(key[k] for key in seconds)) for k in range(3)
    )

    def ratios(method, name):
        usual = [seconds["skdim", name, seed] for seed in seeds]
        own = [seconds[method, name, seed] for seed in seeds]
        return spread(np.divide(own, usual), 2)

    rows = [[method, *(ratios(method, name) for name in data)] for method in methods]
    header = ["method", *(NAMES[name] for name in data)]
    return table(header, rows) + "\n\n" + how(results)


def mnist():
    """Tabulate MNIST with all its rows."""
    results = load("mnist")
    digits = {"match": 3, "norms": 2, "kNN": 4, "linear": 4, "seconds": 0}
    row = [spread([r[k] for r in results["rows"]], n) for k, n in digits.items()]
    floor = f"A true sample's match: {results['rows'][0]['floor']:.3f}."
    return "\n\n".join([table(list(digits), [row]), floor, how(results)])


PARITY = {
    "fit_seconds": "`fit`, seconds",
    "fit_to_plain": "`fit` / hand-written loop",
    "fit_to_product_rate": "rate of `fit` / rate of the bare matrix products",
    "transform_to_forward": "`transform` / bare forward pass",
    "breast_cancer_seconds": "defaults on breast cancer (569 x 30), seconds",
}


def parity():
    """Speed against plain torch."""
    results = load("parity")
    rows = []
    for key, title in PARITY.items():
        values = [row[key] for row in results["rows"]]
        rows.append([title, f"{np.median(values):.2f}", spread(values, 2)])
    return table(["", "median", "mean (range)"], rows) + "\n\n" + how(results)


def defaults():
    """Tabulate what each choice was worth."""
    results = load("defaults")
    rows = [
        [
            *(row["varied"], row["value"]),
            *(f"{row[key]:.2f}" for key in ("match, median", "match, worst")),
            *(f"{100 * row[key]:.1f}" for key in ("LR", "GNB", "kNN")),
        ]
        for row in results["rows"]
    ]
    header = ["varied", "value", "match, median", "match, worst", "LR", "GNB", "kNN"]
    tables = "Tables: " + ", ".join(results["tables"]) + "."
    return "\n\n".join([table(header, rows), tables, how(results)])


def features():
    """Compare features for classifiers of tables."""
    results = load("tables")
    kept = [key for key in results["rows"][0] if "seconds, most" not in key]
    rows = [
        [
            row["representation"],
            *(f"{row[key]:.1f}" for key in kept[1:]),
        ]
        for row in sorted(results["rows"], key=lambda row: row["mean rank"])
    ]
    text = _of_tables("Accuracy in percent", results)
    return "\n\n".join([text, table(kept, rows), how(results)])


def _of_tables(what, results):
    return (
        f"{what}, mean over {len(results['tables'])} tables and {results['splits']} "
        f"splits of each; a star marks features that use labels:"
    )


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


def gains():
    """Put some representations of tables beside the inputs themselves."""
    results = load("tables")
    found = {row["representation"]: row for row in results["rows"]}
    uses = ["LR", "LDA", "GNB", "kNN", "LR, 10 %", "GNB, 10 %", "kNN, 10 %"]
    rows = [
        [kind, *(f"{found[kind][use] - found['inputs'][use]:+.1f}" for use in uses)]
        for kind in GAINS
    ]
    text = _of_tables("Points of accuracy over the standardised inputs", results)
    header = ["representation", *uses]
    return "\n\n".join([text, table(header, rows), how(results)])


def demo():
    """Tabulate what ``make demo`` prints."""
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
    text = "Distance of held-out codes to N(0, I) as a multiple of a true sample's "
    text += "(1 is perfect), and accuracy of logistic regression:"
    return "\n\n".join([text, table(header, rows), how(results)])


def contract():
    """Put our score of the contract beside those of peers."""
    results = load("contract")
    rows = [
        [
            f"{row['name']} {row['version']}",
            _checks(row),
            "-" if row["ungenerated"] is None else f"{row['ungenerated']} of 11",
            row["repeatable"],
            ", ".join(row["rng_changed"]) or "none",
            row["pickle"],
            row["skops"],
            row["fork"],
        ]
        for row in results["rows"]
    ]
    header = ["estimator", "checks passed", "checks never generated", "repeatable"]
    header += ["global generators changed", "pickle", "skops", "forked child"]
    versions = f"scikit-learn {results['scikit-learn']}, {how(results)}"
    return "\n\n".join([table(header, rows), versions])


def _checks(row):
    """Return what was passed, of what, and what was left out."""
    if not row["total"]:
        return "none can be generated"
    skipped = f" ({row['skipped']} skipped)" if row["skipped"] else ""
    tag = ", non_deterministic" if row["non_deterministic"] else ""
    return f"{row['passed']} of {row['total']}{skipped}{tag}"


def memory():
    """Tabulate memory beyond data on disk."""
    results = load("memory")
    rows = [
        [
            *(row["form"], row["views"] or "none"),
            *(f"{row[name]:.0f}" for name in MEMORY),
        ]
        for row in results["rows"]
    ]
    text = (
        f"Memory beyond {results['data']} of data on disk, and time, sampling included:"
    )
    return "\n\n".join([text, table(["form", "views", *MEMORY], rows), how(results)])


MEMORY = ["fit, MiB", "transform, MiB", "output, MiB", "fit, s", "transform, s"]


def fuzz():
    """Count what was tried at random, and what became of it."""
    results = load("fuzz")
    counts = ["examples", "fitted", "refused", "diverged", "failed"]
    rows = [
        [row["value"], *(row.get(name, 0) for name in counts)]
        for row in results["rows"]
        if row["by"] == "data"
    ]
    text = f"{results['examples']} examples, {results['n_failures']} failures:"
    return "\n\n".join([text, table(["data", *counts], rows), how(results)])


ADVERSARY = {"match": 2, "norms": 2, "linear": 3, "kNN": 3, "seconds": 1}


def adversary():
    """Put an adversary beside noise, the worst seed beside the mean."""
    results = load("adversary")
    groups = {}
    for row in results["rows"]:
        groups.setdefault((row["data"], row["method"]), []).append(row)
    rows = [
        [
            *key,
            group[0]["epochs"],
            *(spread([row[k] for row in group], n) for k, n in ADVERSARY.items()),
        ]
        for key, group in groups.items()
    ]
    header = ["data", "method", "epochs", *ADVERSARY]
    return "\n\n".join([table(header, rows), how(results)])


LAYERS = "Y", "fc", "conv"


def probes():
    """Tabulate what each layer of each method is good for."""
    results = load("probes")
    methods = {}
    for row in results["rows"]:
        methods.setdefault(row["method"], []).append(row)
    names = [f"{layer}, {use}" for layer in LAYERS for use in ("linear", "MLP", "kNN")]
    rows = []
    for method, group in methods.items():
        kept = [name for name in names if name in group[0]]
        values = [f"{100 * np.mean([row[n] for row in group]):.1f}" for n in kept]
        spreads = [np.ptp([100 * row[n] for row in group]) for n in kept]
        values += ["-"] * (len(names) - len(kept))
        match = f"{np.mean([row['match, floors'] for row in group]):.1f}"
        rows.append([method, *values, f"{max(spreads):.1f}", match])
    header = ["method", *names, "widest range", "match, floors"]
    return table(header, rows) + "\n\n" + how(results, "means")


DETECTOR = "InfoMaxOutlierDetector"
CROSSED = "cross-conformal, 4 folds"


def outlier_rows(is_one_class=True, more_seeds=False):
    """Return results on tables, and those of each method and seed."""
    results = load("outliers")
    rows = [row for row in results["rows"] if row["one-class"] == is_one_class]
    rows = [row for row in rows if more_seeds or row["seed"] < results["seeds"]]
    results["rows"], groups = rows, {}
    for row in rows:
        of_method = groups.setdefault(row["method"], {})
        of_method.setdefault(row["seed"], []).append(row)
    return results, groups


def over_tables(seeds, key, digits=3, scale=1.0):
    """Return the mean over tables, as it varies with the seed."""
    return spread(
        [scale * np.mean([r[key] for r in v]) for v in seeds.values()], digits
    )


def off(seeds, level):
    """Return how far the share of flagged normal rows is from the level, in points."""
    key = f"flagged at {level}"
    if key not in seeds[0][0]:
        return ""
    gaps = [np.mean([abs(row[key] - level) for row in v]) for v in seeds.values()]
    return spread([100 * gap for gap in gaps], 2)


def ranked(groups):
    """Return methods, the best mean AUROC first."""

    def mean(name):
        return np.mean([r["AUROC"] for rows in groups[name].values() for r in rows])

    return sorted(groups, key=mean, reverse=True)


def is_peer(method):
    """Whether this is a detector of its own and not a part, a trial or a variant."""
    first = method.split(",")[0].split("(")[0]
    return first in {
        *("1 neighbour", "5 neighbours", "10 normal laws", "LUNAR"),
        *("isolation forest", "local outlier factor"),
    }


def outliers():
    """Our detector beside others, one-class."""
    results, groups = outlier_rows()
    lines = [
        [
            *(name, over_tables(seeds, "AUROC"), over_tables(seeds, "AP")),
            *(off(seeds, 0.01), off(seeds, 0.05)),
            f"{seconds(seeds):.0f}",
        ]
        for name in ranked(groups)
        for seeds in [groups[name]]
        if is_peer(name) or name in (DETECTOR, f"{DETECTOR}(calibration_size=0)")
    ]
    gaps = [f"{100 * gap:.2f}" for gap in results["floors"]["0.75"].values()]
    lines.append(["*perfect p-values, simulated*", "", "", *gaps, ""])
    header = ["detector", "AUROC", "AP", "flagged at 1 %: off by, points"]
    header += ["at 5 %: off by, points", "seconds, all tables"]
    return "\n\n".join([table(header, lines), how(results)])


def seconds(seeds):
    """Return the mean over seeds of the seconds of all tables."""
    return np.mean([sum(row["seconds"] for row in rows) for rows in seeds.values()])


def outliers_held():
    """P-values by the share of rows held out."""
    results, groups = outlier_rows(more_seeds=True)
    shown = {f"{DETECTOR}(calibration_size=0.5)": "0.5", DETECTOR: "0.75"}
    shown |= {f"{DETECTOR}(calibration_size=0.9)": "0.9", CROSSED: CROSSED}
    lines = []
    for method, share in shown.items():
        seeds, perfect = groups[method], results["floors"].get(share, {})
        line = [f"{share} ({len(seeds)} seeds)"]
        for level in (0.01, 0.05):
            floor = perfect.get(str(level))
            line += [off(seeds, level), f"{100 * floor:.2f}" if floor else ""]
        line += [over_tables(seeds, f"found at {a}", 1, 100) for a in (0.01, 0.05)]
        lines.append(line)
    header = ["`calibration_size`", "flagged at 1 %: off by, points", "if perfect"]
    header += ["at 5 %: off by, points", "if perfect"]
    header += ["outliers found at 1 %: %", "at 5 %: %"]
    results["rows"] = []  # with as many seeds as are named
    return "\n\n".join([table(header, lines), how(results)])


def outliers_tried():
    """Scores that the detector is made of, and others of a learned model."""
    results, groups = outlier_rows()
    lines = [
        [name.replace("parts, ", ""), over_tables(s, "AUROC"), over_tables(s, "AP")]
        for name in ranked(groups)
        for s in [groups[name]]
        if not is_peer(name) and name != CROSSED and f"{DETECTOR}(" not in name
    ]
    return "\n\n".join([table(["score", "AUROC", "AP"], lines), how(results)])


def outliers_neighbors():
    """AUROC by table, where the detector gains most first."""
    results, groups = outlier_rows()
    methods = [DETECTOR, "1 neighbour", "5 neighbours", "LUNAR"]
    means = {}
    for method in methods:
        for row in itertools.chain(*groups[method].values()):
            means.setdefault(row["table"], {}).setdefault(method, []).append(
                row["AUROC"]
            )
    found = {t: [np.mean(m[k]) for k in methods] for t, m in means.items()}
    order = sorted(found, key=lambda t: found[t][1] - found[t][0])
    lines = [[t, *(f"{value:.3f}" for value in found[t])] for t in order]
    text = table(["table (AUROC, mean)", *methods], lines)
    return "\n\n".join([text, how(results, "means")])


def outliers_contaminated():
    """Detectors fitted on outliers too."""
    results, groups = outlier_rows(is_one_class=False)
    n_tables = {name: len(groups[name][0]) for name in groups}
    most = max(n_tables.values())
    lines = [
        [
            name if n_tables[name] == most else f"{name} ({n_tables[name]} tables)",
            *(over_tables(groups[name], key) for key in ("AUROC", "AP")),
        ]
        for name in ranked(groups)
    ]
    text = table(["detector", "AUROC", "AP"], lines)
    return "\n\n".join([text, how(results, "means")])


def outlier_images():
    """Mean AUROC over the classes of images."""
    results = load("outlier_images")
    groups = {}
    for row in results["rows"]:
        of_method = groups.setdefault(row["method"], {})
        of_method.setdefault(row["data"], []).append(row["AUROC"])
    kinds = ["mnist", "cifar10"]
    order = sorted(groups, key=lambda m: -np.mean(groups[m][kinds[0]]))
    lines = [
        [m, *(spread(groups[m][k]) if k in groups[m] else "" for k in kinds)]
        for m in order
    ]
    header = ["score", "MNIST, AUROC", "CIFAR-10, AUROC"]
    shown = "mean (lowest to highest class)"
    return "\n\n".join([table(header, lines), how(results, shown)])


TABLES = {
    "outliers": outliers,
    "outliers_held": outliers_held,
    "outliers_tried": outliers_tried,
    "outliers_neighbors": outliers_neighbors,
    "outliers_contaminated": outliers_contaminated,
    "outlier_images": outlier_images,
    "probes": probes,
    "adversary": adversary,
    "results": demo,
    "match": match,
    "claims": claims,
    "images": images,
    "versus": versus,
    "image_time": image_time,
    "mnist": mnist,
    "parity": parity,
    "defaults": defaults,
    "features": features,
    "gains": gains,
    "contract": contract,
    "memory": memory,
    "fuzz": fuzz,
}


def render(text):
    """Return the text with each table between its marks made afresh."""

    def fill(found):
        name = found[1]
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        return f"{begin}\n{TABLES[name]()}\n{end}"

    return re.sub(r"<!-- (\w+):begin -->.*?<!-- \1:end -->", fill, text, flags=re.S)


def main():
    """Write the files, or say which are stale."""
    stale = []
    for name in FILES:
        path = ROOT / name
        old = path.read_text()
        new = render(old)
        if "--check" in sys.argv and new != old:
            stale.append(name)
        elif new != old:
            path.write_text(new)
    if stale:
        sys.exit(f"stale tables in {stale}: run python benchmarks/report.py")


if __name__ == "__main__":
    main()

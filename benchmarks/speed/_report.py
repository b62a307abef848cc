"""Tables of the documents on time and memory."""

import numpy as np

from benchmarks._common import load
from benchmarks._markdown import how, paragraphs, spread, table

DATA = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
PARITY = {
    "fit_seconds": "`fit`, seconds",
    "fit_to_plain": "`fit` / hand-written loop",
    "fit_to_product_rate": "rate of `fit` / rate of the bare matrix products",
    "transform_to_forward": "`transform` / bare forward pass",
    "breast_cancer_seconds": "defaults on breast cancer (569 x 30), seconds",
}
MEMORY = ["fit, MiB", "transform, MiB", "output, MiB", "fit, s", "transform, s"]


def parity():
    """Return a Markdown table: speed compared with plain torch."""
    results = load("speed/parity")
    rows = []
    for key, title in PARITY.items():
        values = [row[key] for row in results["rows"]]
        rows.append([title, f"{np.median(values):.2f}", spread(values, 2)])
    return paragraphs(table(["", "median", "mean (range)"], rows), how(results))


def image_time():
    """Return a Markdown table: time of each method, divided by that of skdim."""
    results = load("speed/image_time")
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
    header = ["method", *(DATA[name] for name in data)]
    return paragraphs(table(header, rows), how(results))


def memory():
    """Return a Markdown table: time and memory for data on disk."""
    results = load("speed/memory")
    rows = [
        [row["form"], row["views"] or "none", *(f"{row[name]:.0f}" for name in MEMORY)]
        for row in results["rows"]
    ]
    text = (
        f"Memory in addition to {results['data']} of data on disk, and time, which "
        "includes the sampling of memory:"
    )
    return paragraphs(text, table(["form", "views", *MEMORY], rows), how(results))


TABLES = {"parity": parity, "image_time": image_time, "memory": memory}

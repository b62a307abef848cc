"""Draw match against accuracy of images, from results/images/features.json.

Each method has an open mark for its codes as trained and a filled one for its codes
after the final map of skdim, both means over seeds on the test file.
"""

import numpy as np

from benchmarks._common import ROOT, grouped, load
from benchmarks.images._report import DATA, named

FIGURES = ROOT / "docs" / "images"


def draw(rows, title, path):
    """Save one picture to ``path``: nearest neighbours and a linear probe."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(13, 4.5), layout="constrained")
    for axis, use in zip(axes, ("kNN", "linear"), strict=True):
        groups = sorted(grouped(rows, "method").items(), key=lambda g: g[0] != "skdim")
        for index, (_, group) in enumerate(groups):
            before, after = (
                [np.mean([row[key + end] for row in group]) for key in ("match", use)]
                for end in ("", ", map")
            )
            is_ours = group[0]["method"] == "skdim"
            color = "k" if is_ours else f"C{index}"
            axis.plot(*zip(before, after, strict=True), color=color, lw=1)
            axis.plot(*before, "o", color=color, mfc="white")
            axis.plot(*after, "o", color=color, label=named(group[0]))
        axis.axvline(rows[0]["floor"], color="gray", ls=":", label="draws of N(0, I)")
        axis.set(
            xscale="log",
            xlabel="sliced 2-Wasserstein distance to N(0, I)",
            ylabel=f"accuracy, {'nearest neighbours' if use == 'kNN' else 'linear'}",
        )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right")
    figure.suptitle(f"{title}: as trained (open), with the final map (filled)")
    figure.savefig(path, dpi=110)


def main():
    """Draw one picture for each case that was judged with the final map."""
    rows = [row for row in load("images/features")["rows"] if row["held out"] == "test"]
    for (data, d, steps), group in grouped(
        rows, "data", "n_components", "steps"
    ).items():
        mine = [row for row in group if row["match, map"] is not None]
        if mine:
            title = f"{DATA[data]}, {d} components, {steps} steps"
            draw(mine, title, FIGURES / f"frontier_{data}_{d}_{steps}.png")


if __name__ == "__main__":
    main()

"""Draw match against accuracy of images, from results/images/features.json.

Shown are validation rows of one seed and the shorter training of each case.  A line
joins the settings of one method, in the order of the match.  skdim has a line for each
parameter that is varied.
"""

from benchmarks._common import ROOT, load

FIGURES = ROOT / "docs" / "images"
TITLES = {
    ("mnist", 16): "MNIST, 16 components, 250 steps",
    ("mnist", 64): "MNIST, 64 components, 250 steps",
    ("cifar10", 64): "CIFAR-10, 64 components, 200 steps",
}
OURS = {
    "skdim, sliced_weight": "sliced_weight",
    "skdim, noise_scale": "noise_scale",
    "skdim, agreement_weight": "agreement_weight",
}
STYLES = dict(zip(OURS, ("ko-", "k^-", "ks-"), strict=True))


def curves(rows):
    """Return {name of a line: rows}; the defaults of skdim are on all its lines."""
    lines = {}
    for row in rows:
        if row["method"] != "skdim":
            lines.setdefault(row["method"], []).append(row)
            continue
        for name, key in OURS.items():
            if key in row["setting"] or not row["setting"]:
                lines.setdefault(name, []).append(row)
    return lines


def draw(rows, title, path):
    """Save one picture to ``path``: nearest neighbours and a linear probe."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(13, 4.5), layout="constrained")
    for axis, key in zip(axes, ("kNN", "linear"), strict=True):
        for index, (name, line) in enumerate(sorted(curves(rows).items())):
            line = sorted(line, key=lambda row: row["match"])
            points = [[row[k] for row in line] for k in ("match", key)]
            style = STYLES.get(name, f"C{index}x--")
            axis.plot(*points, style, label=name)
        best = max(row[key] for row in rows)
        axis.set(
            xscale="log",
            xlabel="sliced 2-Wasserstein distance to N(0, I)",
            ylabel=f"accuracy, {'nearest neighbours' if key == 'kNN' else 'linear'}",
            ylim=(best - 0.12, best + 0.01),
        )
        axis.axvline(
            rows[0]["floor"], color="gray", ls=":", label="a sample of N(0, I)"
        )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def main():
    """Draw one picture for each case."""
    rows = load("images/features")["rows"]
    for (data, n_components), title in TITLES.items():
        asked = {"data": data, "n_components": n_components, "held out": "validation"}
        mine = [row for row in rows if asked.items() <= row.items()]
        if mine:
            draw(mine, title, FIGURES / f"trade_off_{data}_{n_components}.png")


if __name__ == "__main__":
    main()

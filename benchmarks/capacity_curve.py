"""Information against noise on MNIST: it should follow the capacity up to ln(batch).

Also writes the figure ``docs/images/capacity_curve.png``.
"""

import math
from pathlib import Path

import numpy as np
from _common import arguments, mnist, save

from skdim import NoiseInjectedDIM
from skdim.metrics import kolmogorov_smirnov_distance

FIGURE = Path(__file__).parent.parent / "docs" / "images" / "capacity_curve.png"
SCALES = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0]
BATCH = 512


def measure(train, test, scale, n_components, seed):
    """Fit once and return the information of the test rows with its ceilings."""
    dim = NoiseInjectedDIM(
        n_components,
        noise_scale=scale,
        views=None,
        whiten=False,
        sliced_weight=0,
        encoder="mlp",
        image_shape=(28, 28),
        hidden_layer_sizes=(256, 128),
        batch_size=BATCH,
        max_iter=3,
        random_state=seed,
    ).fit(train)
    return {
        "n_components": n_components,
        "noise_scale": scale,
        "seed": seed,
        "capacity": dim.capacity_,
        "information": dim.score(test),
        "KS": kolmogorov_smirnov_distance(dim.transform(test)),
    }


def draw(rows):
    """Draw information and capacity over the noise."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for n_components, color in zip(
        sorted({row["n_components"] for row in rows}), ("C0", "C1"), strict=True
    ):
        mine = [row for row in rows if row["n_components"] == n_components]
        scale = np.geomspace(min(SCALES), max(SCALES), 100)
        capacity = n_components / 2 * np.log1p(scale**-2)
        axes.plot(scale, capacity, color, label=f"capacity, d = {n_components}")
        x, y = ([row[k] for row in mine] for k in ("noise_scale", "information"))
        axes.plot(x, y, "o", color=color, label=f"measured, d = {n_components}")
    axes.axhline(math.log(BATCH), color="gray", ls="--", label=f"ln({BATCH})")
    axes.set(
        xscale="log",
        xlabel="noise_scale",
        ylabel="information of held-out rows (nats)",
        ylim=(0, 9),
        title="MNIST: information follows the capacity up to ln(batch)",
    )
    axes.legend()
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=120)


def main():
    """Run everything, save it and draw it."""
    args = arguments(__doc__)
    train, test = mnist(args.data)
    rows = []
    for n_components in (2, 4):
        for scale in SCALES:
            for seed in range(args.seeds):
                rows.append(measure(train, test, scale, n_components, seed))
                print(rows[-1], flush=True)
    save("capacity_curve", rows)
    draw(rows)


if __name__ == "__main__":
    main()

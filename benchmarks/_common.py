"""What the benchmark scripts share: data, machine, results."""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import numpy as np
import sklearn
import torch

RESULTS = Path(__file__).parent / "results"


def arguments(description, **defaults):
    """Parse the options every script has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--data",
        default=os.environ.get("SKDIM_DATA"),
        help="folder with mnist.npz and tables/*.npz (default: $SKDIM_DATA); without "
        "it MNIST comes from fetch_openml and tables from scikit-learn alone",
    )
    parser.add_argument("--seeds", type=int, default=defaults.get("seeds", 3))
    return parser.parse_args()


def mnist(folder):
    """Return (X_train, X_test), uint8 rows of 784 pixels."""
    if folder:
        with np.load(Path(folder) / "mnist.npz") as file:
            train, test = file["X_train"], file["X_test"]
    else:
        from sklearn.datasets import fetch_openml

        X = fetch_openml("mnist_784", as_frame=False, parser="auto").data
        train, test = X[:60_000].astype(np.uint8), X[60_000:].astype(np.uint8)
    return train.reshape(-1, 784), test.reshape(-1, 784)


def save(name, rows, **more):
    """Write rows of results with what is needed to run them again."""
    RESULTS.mkdir(exist_ok=True)
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}"])
    seeds = [a for a in sys.argv[1:] if a.startswith("--seeds")]
    content = {
        "command": " ".join([command, *seeds]),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        **more,
        "rows": rows,
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"wrote {path}")

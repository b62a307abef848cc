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
    if "jobs" in defaults:
        parser.add_argument("--jobs", type=int, default=defaults["jobs"])
    return parser.parse_args()


def mnist(folder):
    """Return (X_train, y_train, X_test, y_test); uint8 rows of 784 pixels."""
    if folder:
        with np.load(Path(folder) / "mnist.npz") as file:
            X_train, X_test = file["X_train"], file["X_test"]
            y_train, y_test = file["y_train"], file["y_test"]
    else:
        from sklearn.datasets import fetch_openml

        data = fetch_openml("mnist_784", as_frame=False, parser="auto")
        X_train, X_test = np.split(data.data.astype(np.uint8), [60_000])
        y_train, y_test = np.split(data.target.astype(np.int64), [60_000])
    return X_train.reshape(-1, 784), y_train, X_test.reshape(-1, 784), y_test


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

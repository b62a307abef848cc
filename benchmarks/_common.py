"""Shared by all benchmarks: options, MNIST, and the files of results.

A file of results is JSON.  It holds the command and the versions that made it, the
names of the columns, and one row of values a line.  A value that a row lacks is null,
or is cut off at the end of the line.
"""

import argparse
import itertools
import json
import os
import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DIGITS = 7  # significant digits that are stored: with fewer, a shown digit may change


def arguments(description, **defaults):
    """Parse the options that all scripts share: --data, --seeds and --jobs.

    Only scripts that pass a default for ``jobs`` have --jobs.
    """
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
    """Write rows of results to ``results/NAME.json``.

    Parameters
    ----------
    name : str
        Room and script, such as "tables/features".
    rows : list of dict
        What was measured.  Rows need not have the same keys.
    more : dict
        What else to store.  It replaces what is stored by default, such as ``command``.
    """
    content = {"command": command(), **machine(), **more}
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(compact(content, rows))
    print(f"wrote {path}")


def command():
    """Return the command of this run, without the options that change no result."""
    script = Path(sys.argv[0]).resolve().relative_to(ROOT).with_suffix("")
    local = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    local.add_argument("--data")
    local.add_argument("--jobs")
    _, options = local.parse_known_args(sys.argv[1:])
    return shlex.join(["python", "-m", ".".join(script.parts), *options])


def machine():
    """Return the number of cores and threads, and the versions in use."""
    import torch  # not at the top: the report does without it

    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scikit-learn": version("scikit-learn"),
    }


def compact(content, rows):
    """Return a file of results as text: columns, and one row of values a line."""
    columns = list(dict.fromkeys(itertools.chain(*rows)))
    # Columns that many rows lack come last, where they are cut off.
    columns.sort(key=lambda column: sum(column not in row for row in rows))
    head = rounded({**content, "columns": columns})
    entries = [f" {json.dumps(k)}: {json.dumps(v)}" for k, v in head.items()]
    lines = (json.dumps(rounded(_values(row, columns))) for row in rows)
    entries.append(' "rows": [\n  ' + ",\n  ".join(lines) + "\n ]")
    return "{\n" + ",\n".join(entries) + "\n}\n"


def _values(row, columns):
    values = [row.get(column) for column in columns]
    while values and values[-1] is None:
        values.pop()
    return values


def rounded(value, digits=DIGITS):
    """Return a number, or those in a list or dictionary, with significant digits."""
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def load(name):
    """Return a file of results as a dictionary; its rows are dictionaries too.

    Each row has all columns, with None where it has no value.
    """
    results = json.loads((RESULTS / f"{name}.json").read_text())
    if columns := results.pop("columns", None):
        results["rows"] = [
            dict(itertools.zip_longest(columns, row)) for row in results["rows"]
        ]
    return results


def stored(name):
    """Return the rows of a file of results, from which a run continues, or none."""
    return load(name)["rows"] if (RESULTS / f"{name}.json").exists() else []


def grouped(rows, *keys):
    """Return the rows by the values of these keys, in the order of the rows."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def shown(row):
    """Return a row of results as text to print, with four significant digits."""
    return str(rounded(row, 4))

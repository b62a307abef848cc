"""Shared by all benchmarks: options, MNIST, and the files of results.

A file of results is JSON.  It holds the command and the versions that made it, the
names of the columns, and one row of values on each line.  A missing value is null, and
null values at the end of a line are left out.
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
DIGITS = 7  # significant digits to store; fewer could change a digit that is shown


def arguments(description, **defaults):
    """Return the parsed options that all scripts share: --data, --seeds and --jobs.

    ``description`` is the text of --help.  ``seeds`` and ``jobs`` set the defaults of
    their options; --jobs exists only if a default is passed.
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
    """Return X_train, y_train, X_test, y_test of MNIST; X are uint8 rows of 784 pixels.

    They come from ``mnist.npz`` in ``folder``, or from OpenML if that is None.
    """
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
        Folder and script, such as "tables/features".
    rows : list of dict
        Measurements.  Rows need not have the same keys.
    more : dict
        More entries to store.  They replace default entries, such as ``command``.
    """
    content = {"command": command(), **machine(), **more}
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(compact(content, rows))
    print(f"wrote {path}")


def command():
    """Return the command of this run, without options that cannot change results."""
    script = Path(sys.argv[0]).resolve().relative_to(ROOT).with_suffix("")
    local = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    local.add_argument("--data")
    local.add_argument("--jobs")
    _, options = local.parse_known_args(sys.argv[1:])
    return shlex.join(["python", "-m", ".".join(script.parts), *options])


def machine():
    """Return {name: value} of the number of cores and threads and of versions."""
    import torch  # here, so that the report runs without torch

    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scikit-learn": version("scikit-learn"),
    }


def compact(content, rows):
    """Return the text of a file of results: columns, and a line for each row of values.

    ``content`` is a dict of the other entries, and ``rows`` a list of dicts.
    """
    columns = list(dict.fromkeys(itertools.chain(*rows)))
    # Columns that many rows lack come last, because nulls at the end are left out.
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
    """Return ``value`` with all floats, also in lists and dicts, rounded.

    ``digits`` is the number of significant digits that are kept.
    """
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def load(name):
    """Return the file of results ``results/NAME.json`` as a dict.

    The entry "rows" is a list of dicts.  Each of them has all columns, with None for
    missing values.
    """
    results = json.loads((RESULTS / f"{name}.json").read_text())
    if columns := results.pop("columns", None):
        results["rows"] = [
            dict(itertools.zip_longest(columns, row)) for row in results["rows"]
        ]
    return results


def stored(name):
    """Return the stored rows of results, or [] without a file, to continue a run."""
    return load(name)["rows"] if (RESULTS / f"{name}.json").exists() else []


def grouped(rows, *keys):
    """Return {values of these keys: list of rows with them}, in the order of rows."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def shown(row):
    """Return a row of results as text to print, with four significant digits."""
    return str(rounded(row, 4))

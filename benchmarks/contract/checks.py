"""How well estimators that use torch keep the contract of scikit-learn.

Every estimator goes through five parts: the checks that scikit-learn generates, those
that it never generates for other packages, a fit that is watched for side effects, two
ways to store it, and a fit in a forked child.  Each part runs in a process of its own,
so that a crash does not end the run.  Peers that are not installed are named in the
results and left out.  ``--only`` runs some estimators again and keeps the other rows.
"""

import argparse
import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import multiprocessing
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest import SkipTest

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale
from sklearn.utils import estimator_checks
from torch import nn

from benchmarks._common import RESULTS, ROOT, load, save

sys.path.insert(0, str(ROOT / "tests"))
from estimators import SMALL, UNGENERATED

NAME = "contract/checks"
CHECK_SECONDS = 20
CHECKS_SECONDS = 120
FORK_SECONDS = 25
PART_SECONDS = 300  # only reached by code that no alarm can interrupt


class Classifier(nn.Module):
    """A small network for skorch that takes numbers of any type and any width.

    skorch leaves both to the module.  A narrower module would fail checks through no
    fault of skorch.  Few checks have more than three classes.
    """

    def __init__(self, n_classes=3):
        super().__init__()
        self.hidden, self.output = nn.LazyLinear(32), nn.Linear(32, n_classes)

    def forward(self, X):
        """Return the probabilities of the classes, of shape (n_rows, n_classes)."""
        return self.output(self.hidden(X.float()).relu()).softmax(1)


def keras_model(X, y):
    """Return a small compiled Keras model that is as wide as its data and target."""
    import keras

    width = y.shape[1] if y.ndim > 1 else 1
    layers = [keras.layers.Dense(8, activation="relu"), keras.layers.Dense(width)]
    model = keras.Sequential([keras.layers.Input(X.shape[1:]), *layers])
    model.compile(loss="mse", optimizer="adam")
    return model


def keep_tabnet_short(cls):
    """Make one epoch the default of ``cls.fit``, as TabNet has no parameter for it."""
    epochs = inspect.signature(cls.fit).parameters["max_epochs"].default
    cls.fit.__defaults__ = tuple(1 if v == epochs else v for v in cls.fit.__defaults__)


@dataclass(frozen=True)
class Case:
    """An estimator to check: "module:class", kind, parameters and, optionally, more.

    ``distribution`` is the name of the installed package if it differs from that of the
    module, and ``prepare`` a function that changes the class before use.
    """

    path: str
    kind: str
    params: dict = field(default_factory=dict)
    distribution: str | None = None
    prepare: Callable | None = None

    @functools.cached_property
    def cls(self):
        """The class, imported and prepared."""
        module, name = self.path.split(":")
        cls = getattr(importlib.import_module(module), name)
        if self.prepare:
            self.prepare(cls)
        return cls

    @property
    def version(self):
        """Version of the package that the class comes from."""
        package = self.cls.__module__.split(".")[0]
        return importlib.metadata.version(self.distribution or package)

    @property
    def seed_parameter(self):
        """Name of the parameter that makes a fit repeatable, or None."""
        names = inspect.signature(self.cls).parameters
        return next((n for n in ("random_state", "seed") if n in names), None)

    def make(self, **more):
        """Return an unfitted estimator, with ``more`` parameters."""
        return self.cls(**self.params | more)

    def seeded(self, X):
        """Return an unfitted estimator with a fixed seed, if it takes one.

        Its parameter ``n_features``, if it has one, is the number of columns of X.
        """
        seed = {self.seed_parameter: 0} if self.seed_parameter else {}
        width = {"n_features": X.shape[1]} if "n_features" in self.params else {}
        return self.make(**seed, **width)

    def fitted(self, X, y):
        """Return an estimator fitted to X and y; not every ``fit`` returns ``self``."""
        estimator = self.seeded(X)
        estimator.fit(X, y)
        return estimator


def ours(name, kind="transformer", **params):
    """Return the case of an estimator of skdim, small and with few epochs."""
    return Case(f"skdim:{name}", kind, SMALL | params)


SHORT = {"epoch_num": 2, "verbose": 0}
PLAIN = {"max_iter": 5, "backend": None}  # the usual backend is a package of its own
CASES = {
    "skdim NoiseInjectedDIM": ours("NoiseInjectedDIM"),
    "skdim DeepInfoMax": ours("DeepInfoMax"),
    "scikit-learn PCA": Case(
        "sklearn.decomposition:PCA", "transformer", distribution="scikit-learn"
    ),
    "scikit-learn MLPClassifier": Case(
        "sklearn.neural_network:MLPClassifier",
        "classifier",
        distribution="scikit-learn",
    ),
    "CEBRA": Case(
        "cebra:CEBRA", "transformer", {"max_iterations": 5, "batch_size": 32}
    ),
    "Keras SKLearnTransformer": Case(
        "keras.wrappers:SKLearnTransformer", "transformer", {"model": keras_model}
    ),
    "TorchDR PCA": Case("torchdr:PCA", "transformer"),
    "TorchDR UMAP": Case("torchdr:UMAP", "transformer", PLAIN),
    "TorchDR InfoTSNE": Case("torchdr:InfoTSNE", "transformer", PLAIN),
    "pyod AutoEncoder": Case("pyod.models.auto_encoder:AutoEncoder", "detector", SHORT),
    "pyod AutoEncoder, batches of 2": Case(
        "pyod.models.auto_encoder:AutoEncoder", "detector", SHORT | {"batch_size": 2}
    ),
    "pyod VAE": Case("pyod.models.vae:VAE", "detector", SHORT),
    "pyod VAE, batches of 2": Case(
        "pyod.models.vae:VAE", "detector", SHORT | {"batch_size": 2}
    ),
    "pyod DeepSVDD": Case(
        "pyod.models.deep_svdd:DeepSVDD",
        "detector",
        {"n_features": 30, "epochs": 2, "verbose": 0},
    ),
    "skorch NeuralNetClassifier": Case(
        "skorch:NeuralNetClassifier",
        "classifier",
        {"module": Classifier, "verbose": 0},
    ),
    "pytabkit RealMLP": Case(
        "pytabkit:RealMLP_TD_Classifier", "classifier", {"n_epochs": 2}
    ),
    "TabNet": Case(
        "pytorch_tabnet.tab_model:TabNetClassifier",
        "classifier",
        {"verbose": 0},
        prepare=keep_tabnet_short,
    ),
}


class OutOfTime(BaseException):
    """Raised when time is up; no Exception, so that estimators do not catch it."""


def stop(*_):
    """Handle the alarm signal by raising ``OutOfTime``."""
    raise OutOfTime


def outcome(check, seconds):
    """Call ``check``; return "passed", "failed", "skipped" or "out of time".

    ``seconds`` is the limit.
    """
    if seconds <= 0:
        return "out of time"
    # The alarm repeats every second, because code called from C can swallow exceptions.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        check()
        return "passed"
    except SkipTest:
        return "skipped"
    except OutOfTime:
        return "out of time"
    except Exception:
        traceback.print_exc()
        return "failed"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def name_of(check):
    """Return the name of a check that scikit-learn generated, with its options."""
    options = ", ".join(f"{k}={v}" for k, v in check.keywords.items())
    return f"{check.func.__name__}({options})" if options else check.func.__name__


def outcomes(checks):
    """Run (name, check) pairs; return (name, outcome) pairs.

    Checks for which no time is left are "out of time".
    """
    end = time.monotonic() + CHECKS_SECONDS
    found = []
    for name, check in checks:
        print(f"--- {name}", file=sys.stderr, flush=True)
        left = end - time.monotonic()
        found.append((name, outcome(check, min(CHECK_SECONDS, left))))
    return found


def is_non_deterministic(estimator):
    """Return the tag ``non_deterministic`` of an estimator, or None without tags."""
    try:
        return bool(estimator.__sklearn_tags__().non_deterministic)
    except Exception:
        return None


def generated(case):
    """Run the checks that scikit-learn generates; return counts by outcome."""
    estimator = case.make()
    row = {"non_deterministic": is_non_deterministic(estimator)}
    try:
        pairs = list(estimator_checks.estimator_checks_generator(estimator))
    except Exception as error:
        return row | {"error": describe(error)}
    found = outcomes((name_of(c), functools.partial(c, e)) for e, c in pairs)
    names = {kind: [n for n, o in found if o == kind] for _, kind in found}
    counts = {k: len(names.get(k, [])) for k in ("passed", "failed", "skipped")}
    return row | {
        **counts,
        "total": len(found),
        "failed_checks": names.get("failed", []),
        "out_of_time": names.get("out of time", []),
    }


def ungenerated(case):
    """Run checks that scikit-learn generates only for its own transformers.

    Returns the number that pass and the names of the others; {} for other kinds.
    """
    if case.kind != "transformer":
        return {}
    pairs = []
    for name in UNGENERATED:
        check = getattr(estimator_checks, name)
        pairs.append((name, functools.partial(check, case.cls.__name__, case.make())))
    found = outcomes(pairs)
    missed = [name for name, result in found if result != "passed"]
    return {"ungenerated": len(found) - len(missed), "ungenerated_missed": missed}


def small_table():
    """Return X and y: 300 standardised rows of breast cancer, in random order."""
    X, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))[:300]
    return scale(X)[order].astype(np.float32), y[order]


def wide_table():
    """Return X of noise and y, so wide that torch uses several threads for a batch."""
    X = np.random.default_rng(0).standard_normal((1200, 1000), np.float32)
    return X, (X[:, 0] > 0).astype(np.int64)


def output(estimator, X):
    """Return the output of an estimator for rows: codes, probabilities or decisions."""
    if hasattr(estimator, "embedding_"):  # TorchDR may have no output for new rows
        return torch.as_tensor(estimator.embedding_).detach().numpy()
    uses = ["transform", "predict_proba", "decision_function"]
    use = next(use for use in uses if hasattr(estimator, use))
    return np.asarray(getattr(estimator, use)(X))


GENERATORS = {
    "torch": lambda: torch.get_rng_state().numpy().tobytes(),
    "numpy": lambda: pickle.dumps(np.random.get_state()),  # noqa: NPY002
    "python": random.getstate,
}
SETTINGS = {
    "threads": torch.get_num_threads,
    "default type": torch.get_default_dtype,
    "gradients": torch.is_grad_enabled,
    "determinism": torch.are_deterministic_algorithms_enabled,
    "matmul precision": torch.get_float32_matmul_precision,
}


def seed_everything(seed):
    """Seed the global generators of torch, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


@contextlib.contextmanager
def watched(row):
    """Record in ``row`` which global generators and settings the block has changed."""
    watch = {**GENERATORS, **SETTINGS}
    before = {name: state() for name, state in watch.items()}
    yield
    changed = [name for name, state in watch.items() if state() != before[name]]
    row["rng_changed"] = [name for name in changed if name in GENERATORS]
    row["settings_changed"] = [name for name in changed if name in SETTINGS]


def effects(case):
    """Return side effects of constructor and fit, and whether a fit is repeatable."""
    torch.set_num_threads(3)  # a number that no fit sets by itself
    X, y = small_table()
    row = {}
    with watched(row):
        case.fitted(X, y)
    if case.seed_parameter is None:
        return row | {"repeatable": "no seed parameter"}
    outputs = []
    for global_seed in (101, 202):
        estimator = case.seeded(X)
        seed_everything(global_seed)  # a user may draw numbers before the fit
        estimator.fit(X, y)
        outputs.append(output(estimator, X))
    return row | {"repeatable": "yes" if np.array_equal(*outputs) else "no"}


def through_pickle(estimator):
    """Return a copy of the estimator that was stored and loaded with pickle."""
    return pickle.loads(pickle.dumps(estimator))


def through_skops(estimator):
    """Return a copy that was stored and loaded with skops, with all types trusted."""
    import skops.io

    data = skops.io.dumps(estimator)
    return skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))


def storage(case):
    """Return, by way of storage, whether a loaded estimator has the same output."""
    X, y = small_table()
    estimator = case.fitted(X, y)
    ways = {"pickle": through_pickle}
    if importlib.util.find_spec("skops"):
        ways["skops"] = through_skops
    row = {}
    for name, way in ways.items():
        try:
            same = np.array_equal(output(estimator, X), output(way(estimator), X))
            row[name] = "ok" if same else "fails"
        except Exception:
            traceback.print_exc()
            row[name] = "fails"
    return row


def fork(case):
    """Return whether a fit ends in a child forked after a fit on two threads."""
    torch.set_num_threads(2)
    X, y = wide_table()
    start = time.monotonic()
    case.fitted(X, y)
    usual = time.monotonic() - start
    context = multiprocessing.get_context("fork")
    child = context.Process(target=case.fitted, args=(X, y))
    child.start()
    child.join(FORK_SECONDS + 3 * usual)  # a child is as slow as its parent, or slower
    if child.is_alive():
        child.kill()
        return {"fork": "hangs"}
    return {"fork": "fails" if child.exitcode else "ok"}


# The parts, each with its results if it does not end.
PARTS = {
    generated: {
        **dict.fromkeys(["passed", "failed", "skipped", "total"], 0),
        "failed_checks": [],
        "out_of_time": [],
        "non_deterministic": None,
    },
    ungenerated: {"ungenerated": None, "ungenerated_missed": []},
    effects: {"repeatable": "fails", "rng_changed": None, "settings_changed": None},
    storage: {"skops": None, "pickle": "fails"},
    fork: {"fork": "fails"},
}


def describe(error):
    """Return type and first line of an error, without paths of this machine."""
    text = next(iter(str(error).splitlines()), "")
    return re.sub(r" \(/.*\)", "", f"{type(error).__name__}: {text}")


def work(part, name, path):
    """Run one part for the case ``name`` here, and write its results to ``path``."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, stop)
    problem = "left out"
    try:
        found = {"version": CASES[name].version}
        problem = "error"
        found |= part(CASES[name])
    except Exception as error:
        traceback.print_exc()
        found = {problem: describe(error)}
    Path(path).write_text(json.dumps(found))


def environment():
    """Return the environment variables of a part, which must be set before imports."""
    asked = {"SCIPY_ARRAY_API": "1", "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
    return os.environ | asked | {"PYTHONPATH": str(ROOT)}


def apart(part, name, is_shown):
    """Run one part in a new process and return its results.

    The process and its children are killed at the end.  If ``is_shown``, their output
    is printed.
    """
    with tempfile.TemporaryDirectory() as folder:  # some peers write files
        path = Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks.contract.checks", "--only", name]
        command += ["--part", part.__name__, "--out", str(path)]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(),
            stdout=None if is_shown else subprocess.DEVNULL,
            stderr=None if is_shown else subprocess.DEVNULL,
            start_new_session=True,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PART_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if path.exists():
            return json.loads(path.read_text())
    return {"error": f"ended with {process.returncode}"}


def score(name, is_shown):
    """Run all parts for one estimator; return its row of results.

    If it cannot be imported, the row is {"left out": reason}.
    """
    row = {"name": name, "version": None, "kind": CASES[name].kind}
    errors = {}
    for part, default in PARTS.items():
        found = apart(part, name, is_shown)
        if "left out" in found:
            return found
        if "error" in found:
            errors[part.__name__] = found.pop("error")
        row |= default | found
    return row | {"errors": errors}


def earlier():
    """Return {name: row} and {name: reason to leave it out} of the stored results."""
    content = load(NAME) if (RESULTS / f"{NAME}.json").exists() else {}
    rows = {row["name"]: row for row in content.get("rows", [])}
    return rows, content.get("left_out", {})


# Columns to store; a run prints more, such as the names of failed checks.
COLUMNS = ["name", "version", "passed", "skipped", "total", "non_deterministic"]
COLUMNS += ["ungenerated", "repeatable", "rng_changed", "skops", "pickle", "fork"]


def options():
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="NAME")
    parser.add_argument("--show", action="store_true", help="show tracebacks of checks")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    """Check the estimators that were asked for, and save their rows of results."""
    args = options()
    if args.part:
        parts = {part.__name__: part for part in PARTS}
        return work(parts[args.part], args.only[0], args.out)
    torch.set_num_threads(1)
    rows, left_out = earlier() if args.only else ({}, {})
    for name in args.only or CASES:
        row = score(name, args.show)
        print(row, flush=True)
        rows.pop(name, None)
        left_out.pop(name, None)
        if "left out" in row:
            left_out[name] = row["left out"]
        else:
            rows[name] = row
    ordered = [rows[name] for name in CASES if name in rows]
    kept = [{key: row[key] for key in COLUMNS} for row in ordered]
    # Not the command of this run: with --only it made only some of the rows.
    command = f"python -m benchmarks.{NAME.replace('/', '.')}"
    save(NAME, kept, command=command, left_out=left_out)


if __name__ == "__main__":
    main()

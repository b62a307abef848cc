"""Searches on several workers, several threads at once, and forks during a fit.

Tests that may hang, or need torch on several threads, use ``alone``.  It runs a
function of this file in a new Python process and stops it if it hangs.
"""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from estimators import CLASSES
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, cross_val_score

from skdim import DeepInfoMax, NoiseInjectedDIM

LIMIT = 120  # seconds
N_JOBS = 2


class Noisy(torch.nn.Module):
    """An encoder whose weights and masks come from torch's global generator."""

    def __init__(self, input_shape, n_components):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(*input_shape, 16),
            torch.nn.Dropout(0.2),
            torch.nn.ReLU(),
            torch.nn.Linear(16, n_components),
        )

    def forward(self, x):
        return self.layers(x)


def jittered(inputs, generator):
    """Return inputs plus noise from torch's global generator, not the one passed."""
    return inputs + 0.3 * torch.randn_like(inputs)


OWN_CODE = {
    "built-in": {},
    "own-encoder": {"encoder": Noisy},
    "own-view": {"views": jittered},
}


def small(code="built-in", of=NoiseInjectedDIM, **params):
    defaults = {"hidden_layer_sizes": (16,), "max_iter": 3, "random_state": 0}
    if of is DeepInfoMax:
        defaults |= {"critic": "bilinear", "max_iter": 2}  # which take less time
    return of(2, **(defaults | OWN_CODE[code] | params))


def rows():
    return load_breast_cancer().data[:160]


def outcome(dim, X):
    """Return what a fitted estimator learned and computes for X, as one array."""
    values = dim.information_curve_, dim.information_, dim.score(X), dim.transform(X)
    return np.concatenate([np.ravel(value) for value in values])


# In a new Python process


def alone(function, *args):
    """Call a function of this file in a new Python; return the last line it prints."""
    code = f"import {Path(__file__).stem} as this; this.{function.__name__}(*{args})"
    # Without limits of the user, so that joblib sets its own.
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    env["JOBLIB_START_METHOD"] = "fork"  # of the multiprocessing backend
    env["OMP_WAIT_POLICY"] = "PASSIVE"  # a busy machine is very slow otherwise
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with its workers
        process.wait()
        pytest.fail(f"{function.__name__}{args} hangs")
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="needs fork"
)


def compute_on_two_threads():
    """Compute something, so that torch starts threads that a forked child lacks."""
    torch.set_num_threads(2)
    matrix = torch.ones(1000, 1000)
    return matrix @ matrix


@contextmanager
def workers(backend):
    """Make joblib use two workers of this backend."""
    with ExitStack() as stack:
        if backend == "dask":
            from distributed import Client, LocalCluster

            cluster = LocalCluster(
                n_workers=N_JOBS,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
            )
            stack.enter_context(Client(stack.enter_context(cluster)))
        stack.enter_context(parallel_config(backend, n_jobs=N_JOBS))
        yield


def search_scores():
    """Return cross-validated scores of all estimators, and with own code of a user."""
    X, options, scores = rows(), {"cv": 2, "error_score": "raise"}, {}
    for name, cls in CLASSES.items():
        search = GridSearchCV(
            small(of=cls), {"weight_decay": [0.1, 1.0]}, **options
        ).fit(X)
        for k in (0, 1):
            scores[f"{name} split{k}"] = search.cv_results_[f"split{k}_test_score"]
    for code in OWN_CODE:  # one estimator is enough: all run it alike
        scores[code] = cross_val_score(small(code), X, **options)
    return {name: values.tolist() for name, values in scores.items()}


THREADS_SEEN = []


def watching(inputs, generator):
    """Return inputs plus noise, and record the number of torch's threads."""
    THREADS_SEEN.append(torch.get_num_threads())
    return inputs + 0.3 * torch.randn(inputs.shape, generator=generator)


def threads_inside(dim, X, y=None):
    """Return the number of threads that ``dim.score`` used; serves as a scorer."""
    dim.score(X)
    return THREADS_SEEN[-1]


def measure(backend):
    """Print scores and numbers of threads on workers, and the scores without them."""
    compute_on_two_threads()
    with workers(backend):
        found = {
            "parallel": search_scores(),
            "inside": cross_val_score(
                small(views=watching), rows(), cv=2, scoring=threads_inside
            ).tolist(),
            "outside": Parallel()(delayed(torch.get_num_threads)() for _ in range(2)),
            "processes": Parallel()(delayed(os.getpid)() for _ in range(2)),
        }
    found |= {"own_process": os.getpid(), "n_cpus": joblib.cpu_count()}
    # With the number of threads of a worker: other numbers may round differently.
    torch.set_num_threads(int(found["inside"][0]))
    found["serial"] = search_scores()
    print(json.dumps(found))


BACKENDS = [
    "loky",
    "threading",
    pytest.param("multiprocessing", marks=needs_fork),
    "dask",
]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_of_parallel_searches_are_those_of_serial_ones(backend):
    if backend == "dask":
        pytest.importorskip("distributed")
    found = alone(measure, backend)
    is_elsewhere = found["own_process"] not in found["processes"]
    assert is_elsewhere == (backend != "threading")
    firsts = {scores[0] for scores in found["parallel"].values()}
    assert len(firsts) > len(OWN_CODE)  # own code is used
    assert found["parallel"].keys() == found["serial"].keys()
    for name, scores in found["parallel"].items():
        # Threads that compete for cores may split sums differently: only rounding.
        assert scores == pytest.approx(found["serial"][name], rel=1e-6)
    if backend == "loky":  # no more threads than there are cores
        most = max(1, found["n_cpus"] // N_JOBS)
        assert max(found["inside"] + found["outside"]) <= most
    if backend == "multiprocessing":  # forked workers compute on one thread
        assert found["inside"] == [1, 1]


def use_in_forked_workers(*methods):
    """Print the methods that came to an end in workers forked after torch computed."""
    X = np.random.default_rng(0).normal(size=(600, 784))
    compute_on_two_threads()
    dim, done = small(hidden_layer_sizes=(512,), max_iter=1), []
    for method in methods:
        if method != "fit":  # for which the core is first imported in the child
            dim.fit(X)
        with workers("multiprocessing"):
            Parallel()(delayed(getattr(dim, method))(X) for _ in range(2))
        done.append(method)
        print(json.dumps(done), flush=True)


@pytest.mark.slow
@needs_fork
def test_forked_workers_do_not_hang():
    # On layers that are large enough for torch to want several threads.
    methods = ["fit", "transform", "score"]
    assert alone(use_in_forked_workers, *methods) == methods


# Several threads at once


@pytest.fixture
def frequent_switches():
    """Make Python switch between threads far more often than normally."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def at_once(*functions):
    """Call all functions at once, each in its own thread; return their results."""
    start, results = threading.Barrier(len(functions)), [None] * len(functions)

    def call(k, function):
        start.wait()
        try:
            results[k] = function()
        except Exception as error:
            results[k] = error

    threads = [
        threading.Thread(target=call, args=pair, daemon=True)
        for pair in enumerate(functions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive(), "a thread hangs"
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def repeated(function, n):
    """Return a function that calls ``function`` ``n`` times and returns all results."""
    return lambda: np.array([function() for _ in range(n)])


def fitting(code, seed, X, of=NoiseInjectedDIM):
    """Return a function that fits a new estimator and returns its ``outcome``."""
    return lambda: outcome(small(code, of, random_state=seed).fit(X), X)


@pytest.mark.usefixtures("frequent_switches")
@pytest.mark.parametrize("n_threads", [2, 4])
@pytest.mark.parametrize("code", OWN_CODE)
@pytest.mark.parametrize("of", CLASSES.values())
def test_threads_share_one_fitted_estimator(cancer, of, code, n_threads):
    train, test = (part[:120] for part in cancer)
    dim = small(code, of).fit(train)

    def using(X):
        return lambda: np.append(dim.transform(X), dim.score(X))

    uses = [using(test[k : k + 100]) for k in range(n_threads)]
    expected = [use() for use in uses]
    results = at_once(*(repeated(use, 20) for use in uses))
    for found, one in zip(results, expected, strict=True):
        np.testing.assert_array_equal(found, [one] * 20)


PAIRS = [
    ("built-in", "built-in"),
    ("built-in", "own-encoder"),
    ("own-encoder", "own-encoder"),
    ("own-view", "own-view"),
    ("own-encoder", "own-view"),
]


@pytest.mark.usefixtures("frequent_switches")
@pytest.mark.parametrize("codes", PAIRS, ids="+".join)
@pytest.mark.parametrize("of", CLASSES.values())
def test_fits_at_once_are_those_of_each_alone(cancer, of, codes):
    X = cancer[0][:120]
    fits = [fitting(code, seed, X, of) for seed, code in enumerate(codes)]
    expected = [fit() for fit in fits]
    results = at_once(*(repeated(fit, 5) for fit in fits))
    for found, one in zip(results, expected, strict=True):
        np.testing.assert_array_equal(found, [one] * 5)


def global_state():
    return (
        torch.random.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        random.getstate(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        at_once(torch.get_num_threads),  # that of new threads
    )


@pytest.mark.usefixtures("frequent_switches")
@pytest.mark.parametrize("codes", PAIRS, ids="+".join)
def test_fits_at_once_leave_global_state_untouched(cancer, codes):
    before = global_state()
    for _ in range(5):
        at_once(*(fitting(code, s, cancer[0][:120]) for s, code in enumerate(codes)))
        assert global_state() == before


# Forks and threads


@contextmanager
def fit_that_waits(X):
    """Fit in a thread that waits in the encoder's constructor until the block ends."""
    inside, done = threading.Event(), threading.Event()

    def waiting(input_shape, n_components):
        inside.set()
        done.wait(LIMIT)
        return Noisy(input_shape, n_components)

    dim = small(encoder=waiting)
    thread = threading.Thread(target=dim.fit, args=(X,), daemon=True)
    thread.start()
    assert inside.wait(LIMIT / 4)
    yield dim
    done.set()
    thread.join(LIMIT / 4)
    assert hasattr(dim, "information_"), "the thread that waited hangs"


def in_child(function):
    """Call a function in a forked child; return its result, or None if it hangs."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(function()), daemon=True)
    child.start()
    result = receiver.recv() if receiver.poll(LIMIT / 4) else None
    child.kill()
    return result


def fork_while_a_thread_fits():
    """Return what a fit finds alone, and in a child forked during another fit."""
    X = rows()
    torch.set_num_threads(1)
    fit = fitting("own-encoder", 0, X)
    expected = fit()
    compute_on_two_threads()
    with fit_that_waits(X):
        found = in_child(fit)
    return [expected.tolist(), found if found is None else found.tolist()]


def fit_in_a_child_while_its_thread_fits():
    """Return the number of torch's threads in a child after fits in its own threads.

    The first of these fits begins before a fit in the child's main thread and ends
    after it.
    """
    X = rows()
    compute_on_two_threads()

    def fit_beside():
        with fit_that_waits(X):
            small().fit(X)
        at_once(*(repeated(fitting("built-in", k, X), 3) for k in range(4)))
        return [torch.get_num_threads(), *at_once(torch.get_num_threads)]

    return in_child(fit_beside)


def fork_twice():
    """Print what comes out of both."""
    both = fork_while_a_thread_fits(), fit_in_a_child_while_its_thread_fits()
    print(json.dumps(both))


@pytest.mark.slow
@needs_fork
def test_children_forked_while_threads_fit_compute_as_any_other():
    (expected, found), n_threads = alone(fork_twice)
    assert found is not None, "the child forked while a thread fits hangs"
    assert found == expected
    assert n_threads is not None, "the child whose threads fit at once hangs"
    assert n_threads == [2, 2]


@pytest.mark.slow
@needs_fork
def test_a_child_that_imports_skdim_after_the_fork_does_not_hang():
    code = f"""
import multiprocessing, torch
torch.set_num_threads(2)
torch.ones(1000, 1000) @ torch.ones(1000, 1000)

def fit():
    from sklearn.datasets import load_iris
    from skdim import NoiseInjectedDIM
    NoiseInjectedDIM(2, max_iter=2).fit(load_iris().data)

child = multiprocessing.get_context("fork").Process(target=fit, daemon=True)
child.start()
child.join({LIMIT / 2})
print(child.exitcode)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "0", run.stderr

"""The property that must hold for all cases: refused properly, or sound codes."""

import faulthandler
import io
import linecache
import pickle
import sys
import traceback
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import sklearn
from pandas.api.types import is_extension_array_dtype
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from torch.optim.optimizer import register_optimizer_step_pre_hook

import skdim

__all__ = ["failure_key", "outcome"]

# Seconds after which an example counts as hung; the slowest ones take about one.
LIMIT = 120

OWN = [Path(package.__file__).parent for package in (skdim, sklearn)]


def outcome(case):
    """Fit the case and assert that the property holds.

    Returns "fitted", "diverged" or "refused: NAME" with the name of the error's class.
    """
    X, y, dim = case.build()
    before = fingerprint(X)
    with quiet(), counted_steps() as steps:
        try:
            getattr(dim, case.method)(X, y)
        except (ValueError, TypeError) as error:
            check_refused(error, steps)
            check_unfitted(dim)
            assert fingerprint(X) == before, "fit changed X"
            if is_divergence(error):
                return "diverged"
            return f"refused: {type(error).__name__}"
        assert fingerprint(X) == before, "fit changed X"
        check_fitted(dim, X, y, case.method)
        assert fingerprint(X) == before, "transform changed X"
    return "fitted"


@contextmanager
def quiet():
    """Silence output and warnings, and end the process if it hangs."""
    faulthandler.dump_traceback_later(LIMIT, exit=True, file=sys.__stderr__)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def counted_steps():
    """Yield a list that gets an entry for each step of an optimizer."""
    steps = []
    hook = register_optimizer_step_pre_hook(lambda *_: steps.append(1))
    try:
        yield steps
    finally:
        hook.remove()


def fingerprint(X):
    array = np.asarray(X)
    # Bytes of objects are addresses, and those of long doubles have gaps.
    is_plain = array.dtype.itemsize <= 8 and array.dtype != object
    return array.tobytes() if is_plain else repr(array.tolist())


def check_refused(error, steps):
    """Assert that our code or scikit-learn raised the error, and before training.

    ``steps`` has an entry for each training step; a divergence may come after some.
    """
    deepest = traceback.extract_tb(error.__traceback__)[-1]
    path = Path(deepest.filename)
    place = f"{path.name}:{deepest.lineno}: {type(error).__name__}: {error}"
    assert any(map(path.is_relative_to, OWN)), f"raw error at {place}"
    line = linecache.getline(deepest.filename, deepest.lineno)
    # NumPy and torch raise errors in compiled code, which leaves no frame.
    is_raised = line.lstrip().startswith("raise ") or path.is_relative_to(OWN[1])
    assert is_raised, f"raw error at {place}"
    assert str(error).strip(), f"no message at {place}"
    assert is_divergence(error) or not steps, (
        f"refused after {len(steps)} steps at {place}"
    )


def is_divergence(error):
    return str(error).startswith("Training diverged")


def check_unfitted(dim):
    """Assert that a fit that failed left no attributes."""
    left = vars(dim).keys() - dim.get_params().keys()
    assert not left, f"a failed fit left {sorted(left)}"
    try:
        check_is_fitted(dim)
    except NotFittedError:
        return
    raise AssertionError("fitted after an error")


def check_fitted(dim, X, y, method):
    codes = dim.transform(X)
    check_codes(codes, dim, X)
    unseen = far(X)
    check_codes(dim.transform(unseen), dim, unseen)
    assert np.isfinite(dim.information_), f"information_ is {dim.information_}"
    again = {
        "a second transform": dim,
        "a pickled copy": pickle.loads(pickle.dumps(dim)),
        "a clone fitted again": getattr(clone(dim), method)(X, y),
    }
    for name, other in again.items():
        assert np.array_equal(other.transform(X), codes), f"{name} gives other codes"


def far(X):
    """Return rows with the largest and smallest values that the type of X allows."""
    array = np.asarray(X)
    is_plain = array.dtype.kind in "fiu" and array.dtype.itemsize <= 8
    if not is_plain or hasattr(X, "columns"):
        return X
    limits = (np.finfo if array.dtype.kind == "f" else np.iinfo)(array.dtype)
    return np.where(array > 0, limits.max, limits.min).astype(array.dtype)


def check_codes(codes, dim, X):
    """Assert that codes of X have the documented shape and type and are finite."""
    array = np.asarray(X)
    assert array.ndim in (2, 4), f"fitted {array.ndim} dimensions"
    assert is_finite(array), "fitted values that are not finite"
    assert codes.shape == (len(array), n_outputs(dim, array)), f"shape {codes.shape}"
    assert codes.dtype == expected_dtype(X), f"dtype {codes.dtype} for {array.dtype}"
    assert np.isfinite(codes).all(), "codes are not finite"


def is_finite(array):
    with np.errstate(over="ignore"):
        return np.isfinite(array.astype(np.float64)).all()


def n_outputs(dim, array):
    """Return the number of output columns, and assert that it is the documented one."""
    n_columns = len(dim.get_feature_names_out())
    if dim.output_layer == "code":
        assert n_columns == dim.n_components
    elif dim.encoder == "mlp" or (dim.image_shape is None and array.ndim == 2):
        sizes = dim.hidden_layer_sizes
        sizes = [256] if isinstance(sizes, str) else np.atleast_1d(sizes).tolist()
        assert n_columns == (sizes or [array[0].size])[-1]
    return n_columns


def expected_dtype(X):
    """Return the documented type of codes: single if single precision can hold X."""
    if hasattr(X, "dtypes") and any(map(is_extension_array_dtype, X.dtypes)):
        return np.float64  # scikit-learn converts them to doubles
    dtype = np.asarray(X).dtype.newbyteorder("=")
    is_single = dtype in (np.float32, np.float16, np.uint8)
    return np.float32 if is_single else np.float64


def failure_key(error):
    """Return a label with the place of a failure, so that equal causes are counted."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(OWN[0])]
    frame = (own or frames)[-1]
    place = f"{Path(frame.filename).name}:{frame.name}"
    message = str(error).splitlines()[0][:80] if str(error) else ""
    return f"{type(error).__name__} in {place}: {message}"

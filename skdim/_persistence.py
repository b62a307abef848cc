"""What a saved estimator says of itself, and what is refused when it is loaded."""

import warnings
import zlib

import numpy as np
from sklearn.exceptions import InconsistentVersionWarning

from ._version import __version__

__all__ = ["Stamped"]

_STAMP = "_skdim_stamp"
_OF_FIT = ("_state", "_model", "_calibration")  # beside public attributes


class Stamped:
    """An estimator that is saved with a stamp, by which it is checked when loaded."""

    def __getstate__(self):
        return _stamped(super().__getstate__())

    def __setstate__(self, state):
        super().__setstate__(_checked(state, type(self).__name__))


def _stamped(state):
    """Return the state of an estimator with its version and a checksum."""
    stamp = {"version": __version__}
    if fitted := _fitted(state):
        stamp["checksum"] = _checksum(fitted)
    return state | {_STAMP: stamp}


def _checked(state, name):
    """Return a state without its stamp.

    Raises
    ------
    ValueError
        If this is no state of such an estimator, or its weights have changed since.

    Warns
    -----
    InconsistentVersionWarning
        If it was saved by another version.
    """
    if not isinstance(state, dict) or not isinstance(state.get(_STAMP), dict):
        raise ValueError(
            f"This file holds no {name} that skdim saved. Got a state of type "
            f"{type(state).__name__} without skdim's stamp; save a fitted estimator "
            f"with pickle, joblib or skops."
        )
    state, stamp = dict(state), state[_STAMP]
    del state[_STAMP]
    version = stamp.get("version")
    if version != __version__:
        warnings.warn(
            InconsistentVersionWarning(
                estimator_name=name,
                current_sklearn_version=f"skdim {__version__}",
                original_sklearn_version=f"skdim {version}",
            ),
            stacklevel=4,
        )
    if _fitted(state) or "checksum" in stamp:
        _check_fitted(state, stamp.get("checksum"), name)
    return state


def _fitted(state):
    """Return what fit sets, the public attributes and the model."""
    is_public = {k for k in state if k.endswith("_") and not k.startswith("_")}
    return {name: state[name] for name in {*is_public, *_OF_FIT} & state.keys()}


def _check_fitted(state, checksum, name):
    try:
        found = _checksum(_fitted(state))
    except Exception:  # whatever a damaged file may hold
        found = None
    if found is None or found != checksum:
        raise ValueError(
            f"This file of a {name} is damaged: what was fitted is not what was saved. "
            f"Load another copy, or fit again."
        )


def _checksum(value, total=0):
    """Return a checksum of plain values and arrays, in dicts and lists of these.

    Our own objects count by what they hold, others, such as a user's encoder, by their
    type alone.
    """
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            total = _checksum(value[key], zlib.crc32(str(key).encode(), total))
        return total
    if isinstance(value, (list, tuple)):
        for item in value:
            total = _checksum(item, total)
        return zlib.crc32(str(len(value)).encode(), total)
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return _checksum(value.tolist(), total)
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.ascontiguousarray(value)
        total = zlib.crc32(f"{array.dtype.str}{array.shape}".encode(), total)
        return zlib.crc32(array.tobytes(), total)
    if value is None or isinstance(value, (bool, int, float, str)):
        return zlib.crc32(repr(value).encode(), total)
    total = zlib.crc32(type(value).__name__.encode(), total)
    is_ours = type(value).__module__.partition(".")[0] == __package__
    return _checksum(vars(value), total) if is_ours else total

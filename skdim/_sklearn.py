"""The one door to names that scikit-learn keeps private or has only in new versions."""

from collections.abc import Mapping
from functools import cache

from sklearn import get_config
from sklearn.base import _fit_context
from sklearn.utils import _array_api, _param_validation
from sklearn.utils._param_validation import HasMethods, Interval

from . import _core
from ._utils.rows import is_lazy

try:
    from sklearn.callback import CallbackSupportMixin

    HAS_CALLBACKS = True
except ImportError:  # before scikit-learn 1.9
    HAS_CALLBACKS = False

    class CallbackSupportMixin:
        """Stands in where scikit-learn has no callbacks."""


__all__ = [
    "CALLBACK_STATE",
    "HAS_CALLBACKS",
    "CallbackSupportMixin",
    "Constraints",
    "HasMethods",
    "Interval",
    "StrOptions",
    "fit_context",
    "namespace",
    "to_numpy",
]

# Attributes that callbacks need to be torn down, whatever becomes of the fit.
CALLBACK_STATE = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")

fit_context = _fit_context(prefer_skip_nested_validation=True)


class StrOptions(_param_validation.StrOptions):
    """Strings to choose from, which errors list in the same order in every process."""

    def __str__(self):
        options = ", ".join(map(repr, sorted(self.options)))
        return f"a str among {{{options}}}"


class Constraints(Mapping):
    """Constraints of parameters, by name, that are made when one is asked for.

    They name what the tables of the core hold, and these import torch, which neither
    importing skdim nor showing an estimator may.
    """

    def __init__(self, make):
        def made():
            _core.load_torch(for_training=True)
            return make()

        self._make = cache(made)

    def __getitem__(self, name):
        return self._make()[name]

    def __iter__(self):
        return iter(self._make())

    def __len__(self):
        return len(self._make())


def namespace(X):
    """Return the array namespace of X and its name; no name unless dispatch is on."""
    if not get_config()["array_api_dispatch"] or is_lazy(X):
        return None, None
    xp, _ = _array_api.get_namespace(X)
    return xp, xp.__name__.split(".")[-1]


def to_numpy(X, xp):
    """Return a NumPy array of these values."""
    return _array_api._convert_to_numpy(X, xp)

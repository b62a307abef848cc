"""The one door to scikit-learn's private and new names, and what adapts to it.

Constraints of parameters, callbacks, array namespaces, and the version stamp of saved
estimators.
"""

import sys
import warnings
from numbers import Real

from sklearn import get_config
from sklearn.base import _fit_context
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils import _array_api, _param_validation
from sklearn.utils._param_validation import HasMethods, Interval

from . import _core
from ._utils.progress import Watcher
from ._utils.rows import is_lazy
from ._version import __version__

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
    "CallbackWatcher",
    "HasMethods",
    "Interval",
    "NameIn",
    "Stamped",
    "StrOptions",
    "fit_context",
    "namespace",
    "to_numpy",
    "weight",
]

# Attributes that callbacks need to be torn down, whatever becomes of the fit.
CALLBACK_STATE = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")
_LARGEST = sys.float_info.max  # a larger int is no float

fit_context = _fit_context(prefer_skip_nested_validation=True)


class StrOptions(_param_validation.StrOptions):
    """Strings to choose from, which errors list in the same order in every process."""

    def __str__(self):
        options = ", ".join(map(repr, sorted(self.options)))
        return f"a str among {{{options}}}"


class NameIn(StrOptions):
    """A name in a registry of the core, or one of some further words.

    The registry is read when a parameter is checked: it imports torch, and entries may
    be added to it at any time.

    Parameters
    ----------
    module, registry : str
        A dict of that name in that module of ``_core``.
    *words : str
    """

    def __init__(self, module, registry, *words):
        # Not the base class's, which would ask for the names, and import torch.
        self.type, self.deprecated, self.hidden = str, set(), False
        self._module, self._registry, self._words = module, registry, set(words)

    @property
    def options(self):
        """All names that are allowed now."""
        return self._words | set(getattr(getattr(_core, self._module), self._registry))


def weight():
    """Return the constraint of weights: finite numbers from 0."""
    return Interval(Real, 0, _LARGEST, closed="both")


def namespace(X):
    """Return the array namespace of X and its name; None twice without dispatch."""
    if not get_config()["array_api_dispatch"] or is_lazy(X):
        return None, None
    xp, _ = _array_api.get_namespace(X)
    return xp, xp.__name__.split(".")[-1]


def to_numpy(X, xp):
    """Return an array of another namespace as a NumPy array."""
    return _array_api._convert_to_numpy(X, xp)


class CallbackWatcher(Watcher):
    """Tell the callbacks of scikit-learn 1.9 of every epoch: each is a task of the fit.

    Parameters
    ----------
    estimator : estimator with ``CallbackSupportMixin``
    X, y : array-like
        As given to ``fit``.
    n_epochs : int
        The most there can be.
    attributes : callable
        Returns the fitted attributes for a result of training.
    """

    def __init__(self, estimator, X, y, n_epochs, attributes):
        self._told = {"estimator": estimator, "X": X, "y": y}
        self._attributes = attributes
        self._fit = estimator._init_callback_context(max_subtasks=n_epochs)
        self._fit.call_on_fit_task_begin(**self._told)
        self._epoch = None

    def epoch_begins(self):
        """Begin the task of an epoch."""
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._told)

    def epoch_ends(self, result, snapshot):
        """End the task of an epoch; return whether a callback asks to stop."""
        return self._epoch.call_on_fit_task_end(
            **self._told,
            reconstruction_attributes=lambda: self._attributes(snapshot()),
        )

    def close(self):
        """End the task of the fit."""
        self._fit.call_on_fit_task_end(**self._told)


class Stamped:
    """An estimator whose saved state names the version of skdim that saved it."""

    def __getstate__(self):
        return super().__getstate__() | {"_skdim_version": __version__}

    def __setstate__(self, state):
        """Restore a saved state; warn if another version saved it.

        Raises
        ------
        ValueError
            If this is not the state of an estimator that skdim saved.
        """
        name = type(self).__name__
        if not isinstance(state, dict) or "_skdim_version" not in state:
            raise ValueError(
                f"This file holds no {name} that skdim saved. Got a state of type "
                f"{type(state).__name__} without a version; save a fitted estimator "
                f"with pickle, joblib or skops."
            )
        state = dict(state)
        version = state.pop("_skdim_version")
        if version != __version__:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=name,
                    current_sklearn_version=f"skdim {__version__}",
                    original_sklearn_version=f"skdim {version}",
                ),
                stacklevel=3,
            )
        super().__setstate__(state)

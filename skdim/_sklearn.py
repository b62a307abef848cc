"""All that skdim uses of scikit-learn's private or recent names, in one module.

These are constraints of parameters, callbacks and array namespaces.  The stamp that
saved estimators bear is here too.
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
        """Empty base class, for versions of scikit-learn that have no callbacks."""


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

# Attributes of an estimator that scikit-learn needs to tear callbacks down, also if the
# fit fails.
CALLBACK_STATE = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")
_LARGEST = sys.float_info.max  # a larger int cannot become a float

fit_context = _fit_context(prefer_skip_nested_validation=True)


class StrOptions(_param_validation.StrOptions):
    """Constraint of an estimator's parameter to one of some strings.

    Error messages list the strings in sorted order, so that messages are the same in
    every process.

    Parameters
    ----------
    options : set of str
        The strings that are allowed.
    """

    def __str__(self):
        options = ", ".join(map(repr, sorted(self.options)))
        return f"a str among {{{options}}}"


class NameIn(StrOptions):
    """Constraint of a parameter to the keys of a dict in ``_core`` or to other words.

    The dict is looked up only when a parameter is checked: looking it up imports torch,
    and keys may be added to the dict at any time.

    Parameters
    ----------
    module : str
        Name of a module of ``_core``, such as "bounds".
    registry : str
        Name of a dict in that module, such as "BOUNDS".
    *words : str
        Further strings that are allowed, such as "auto".
    """

    def __init__(self, module, registry, *words):
        # Options.__init__ is skipped: it would look the dict up and import torch.
        super(_param_validation.Options, self).__init__()
        self.type, self.deprecated = str, set()
        self._module, self._registry, self._words = module, registry, set(words)

    @property
    def options(self):
        """Set of the strings that the parameter may be: names in the dict, and words.

        Read anew each time, because names can be added to the dict later.
        """
        return self._words | set(getattr(getattr(_core, self._module), self._registry))


def weight():
    """Return the constraint of an estimator's parameter to finite numbers from 0 on."""
    return Interval(Real, 0, _LARGEST, closed="both")


def namespace(X):
    """Return the array API namespace of the user's X, and its short name.

    They tell in which array library results are to be returned, for instance the module
    ``torch`` and "torch".  Both are None if scikit-learn's ``array_api_dispatch`` is
    off, or if X is an object that is read by batches.
    """
    if not get_config()["array_api_dispatch"] or is_lazy(X):
        return None, None
    xp, _ = _array_api.get_namespace(X)
    return xp, xp.__name__.split(".")[-1]


def to_numpy(X, xp):
    """Return X, an array of the array API namespace ``xp``, as a NumPy array."""
    return _array_api._convert_to_numpy(X, xp)


class CallbackWatcher(Watcher):
    """Tell the callbacks of scikit-learn 1.9 when an epoch begins and when it ends.

    For callbacks, the fit is a task and each of its epochs is a task within it.

    Parameters
    ----------
    estimator : estimator with ``CallbackSupportMixin``
        The estimator whose ``fit`` is running.
    X, y : array-like
        As the user gave them to ``fit``; callbacks may ask for them.
    n_epochs : int
        Largest number of epochs.
    attributes : callable
        ``attributes(result)`` returns the fitted attributes, a dict by name, for a
        result of training.  From them callbacks can make a fitted estimator.
    """

    def __init__(self, estimator, X, y, n_epochs, attributes):
        self._told = {"estimator": estimator, "X": X, "y": y}
        self._attributes = attributes
        self._fit = estimator._init_callback_context(max_subtasks=n_epochs)
        self._fit.call_on_fit_task_begin(**self._told)
        self._epoch = None

    def epoch_begins(self):
        """Tell callbacks that an epoch begins."""
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._told)

    def epoch_ends(self, result, snapshot):
        """Tell callbacks that an epoch has ended, and return whether training stops.

        Parameters
        ----------
        result : object
            Not used.
        snapshot : callable
            ``snapshot()`` returns the result that training would have if it ended here.

        Returns
        -------
        stops : bool
            True if a callback asks to stop training, else False.
        """
        return self._epoch.call_on_fit_task_end(
            **self._told,
            reconstruction_attributes=lambda: self._attributes(snapshot()),
        )

    def close(self):
        """Tell callbacks that the fit has ended; not called after an error."""
        self._fit.call_on_fit_task_end(**self._told)


class Stamped:
    """Mixin that saves skdim's version with an estimator, and checks it on loading.

    Loading an estimator that another version saved warns, because the results of the
    two versions may differ.
    """

    def __getstate__(self):
        return super().__getstate__() | {"_skdim_version": __version__}

    def __setstate__(self, state):
        """Restore a saved state, and warn if another version of skdim saved it.

        The warning is scikit-learn's InconsistentVersionWarning.

        Parameters
        ----------
        state : dict
            As ``__getstate__`` returned it: attributes by name, with "_skdim_version".

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

"""The one door to names that scikit-learn keeps private or has only in new versions."""

from sklearn import get_config
from sklearn.base import _fit_context
from sklearn.utils import _array_api
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from ._rows import is_lazy

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


def namespace(X):
    """Return the array namespace of X and its name; "numpy" unless dispatch is on."""
    if not get_config()["array_api_dispatch"] or is_lazy(X):
        return None, "numpy"
    xp, _ = _array_api.get_namespace(X)
    return xp, xp.__name__.split(".")[-1]


def to_numpy(X, xp):
    """Return a NumPy array of these values."""
    return _array_api._convert_to_numpy(X, xp)

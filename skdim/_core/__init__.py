"""The part of skdim that computes with torch.

Modules are imported when they are first accessed as attributes, so that importing skdim
does not import torch: ``from . import _core`` does not, and ``_core.bounds`` does.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from types import ModuleType

from .._utils.process import uninterrupted

_TRAINING = {"divergence", "streaming", "training"}  # modules that make optimizers


def __getattr__(name: str) -> ModuleType:
    """Import the module ``name`` of this package and return it, for ``_core.name``.

    Python calls this on the first access only; the module is an attribute from then on.
    So importing skdim does not import torch.

    Raises
    ------
    AttributeError
        If there is no such module.
    """
    if name not in __dir__():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    load_torch(for_training=name in _TRAINING)
    return import_module(f".{name}", __name__)


def __dir__() -> list[str]:
    """Return the names of all modules of this package, imported or not."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


@cache
def load_torch(for_training: bool = False) -> None:
    """Import torch, and hold back Ctrl-C until the import is complete.

    An import of torch that is interrupted cannot be repeated in the same process.

    Parameters
    ----------
    for_training : bool, default=False
        True also imports what torch loads when the first optimizer is made, which is
        much more; False imports torch alone.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C was pressed during the import; raised when the import is complete.
    """
    with uninterrupted():
        import torch

        if for_training:
            torch.optim.Adam([torch.nn.Parameter(torch.zeros(1, device="cpu"))])

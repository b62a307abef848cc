"""The part of skdim that computes with torch.

Its modules are attributes that are imported on first use: ``from . import _core`` does
not import torch, and ``_core.bounds`` does.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from types import ModuleType

from .._utils.process import uninterrupted

_TRAINING = {"divergence", "streaming", "training"}


def __getattr__(name: str) -> ModuleType:
    """Import the module of this name; called once, before it is an attribute."""
    if name not in __dir__():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    load_torch(for_training=name in _TRAINING)
    return import_module(f".{name}", __name__)


def __dir__() -> list[str]:
    """Return the names of all modules, imported or not."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


@cache
def load_torch(for_training: bool = False) -> None:
    """Import torch as a whole, even if the user presses Ctrl-C meanwhile.

    An import of torch that is broken off cannot be repeated in the same process.

    Parameters
    ----------
    for_training : bool, default=False
        Whether to import what the first optimizer needs as well, which is much more.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C was pressed, once the import is complete.
    """
    with uninterrupted():
        import torch

        if for_training:
            torch.optim.Adam([torch.nn.Parameter(torch.zeros(1, device="cpu"))])

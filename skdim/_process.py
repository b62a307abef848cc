"""The process that imported skdim; torch-free, so that it is known before a fork."""

import os

__all__ = ["is_forked"]

_IMPORTING_PROCESS = os.getpid()


def is_forked() -> bool:
    """Return whether this process was forked from the one that imported skdim."""
    return os.getpid() != _IMPORTING_PROCESS

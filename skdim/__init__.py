"""scikit-learn transformers that learn features with a known distribution.

Importing this package does not import torch; the first ``fit`` does.
"""

from . import _process, metrics  # noqa: F401 (_process notes who imported us)
from ._noise_injected_dim import NoiseInjectedDIM
from ._version import __version__

__all__ = ["NoiseInjectedDIM", "__version__", "metrics"]

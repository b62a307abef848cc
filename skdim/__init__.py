"""scikit-learn transformers that learn features with a known distribution.

Importing this package does not import torch; the first ``fit`` does.
"""

from . import metrics
from ._noise_injected_dim import NoiseInjectedDIM
from ._version import __version__

__all__ = ["NoiseInjectedDIM", "__version__", "metrics"]

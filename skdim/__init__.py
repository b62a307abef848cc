"""scikit-learn transformers that learn features with a known distribution.

Importing this package imports neither torch nor matplotlib; the first ``fit`` and the
first picture do.
"""

from . import metrics
from ._deep_infomax import DeepInfoMax
from ._display import InformationDisplay, MatchDisplay
from ._noise_injected_dim import NoiseInjectedDIM
from ._outlier_detector import InfoMaxOutlierDetector
from ._utils import process  # noqa: F401 (it notes which process imported us)
from ._version import __version__
from ._views import Views

__all__ = [
    "DeepInfoMax",
    "InfoMaxOutlierDetector",
    "InformationDisplay",
    "MatchDisplay",
    "NoiseInjectedDIM",
    "Views",
    "__version__",
    "metrics",
]

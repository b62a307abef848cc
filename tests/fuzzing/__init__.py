"""Random data and parameters, and the property that must hold for all of them.

``outcome(case)`` fits one case.  Either ``fit`` refuses it, by an error of our own or
of scikit-learn and before any training.  Or the codes are finite, of the right shape
and type, and the same to the bit each time.  A case is a short recipe, and its repr is
code, so that a failure can be read, stored and run again.
"""

from .inputs import Data
from .own_code import Code
from .soundness import failure_key, outcome
from .strategies import Case, cases, image_cases, table_cases

__all__ = [
    "Case",
    "Code",
    "Data",
    "cases",
    "failure_key",
    "image_cases",
    "outcome",
    "table_cases",
]

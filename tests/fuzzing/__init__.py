"""Random data and parameters, and the one property that must hold of all of them.

``outcome(case)`` fits one case: ``fit`` either refuses it, by an error of our own or of
scikit-learn and before any training, or codes come out that are finite, of the right
shape and type, and the same to the bit each time.  A case is a recipe: small, and its
repr is code, so that what fails can be read, stored and run again.
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

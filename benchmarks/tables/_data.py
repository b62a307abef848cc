"""Tables to classify, and their split into halves."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.model_selection import train_test_split

MOST_ROWS = 4000
LOADERS = {
    "breast cancer": load_breast_cancer,
    "wine": load_wine,
    "digits": load_digits,
}


def tables(folder):
    """Return {name: (X, y)} of scikit-learn's tables and of ``folder/tables/*.npz``."""
    found = {name: load(return_X_y=True) for name, load in LOADERS.items()}
    if folder:
        for path in sorted(Path(folder, "tables").glob("*.npz")):
            with np.load(path) as file:
                found[path.stem] = file["X"].astype(float), file["y"]
    return found


def halves(X, y, seed):
    """Return (X, X_test, y, y_test): stratified halves of at most MOST_ROWS rows."""
    if len(X) > MOST_ROWS:
        X, _, y, _ = train_test_split(
            X, y, train_size=MOST_ROWS, random_state=0, stratify=y
        )
    return train_test_split(X, y, test_size=0.5, random_state=seed, stratify=y)

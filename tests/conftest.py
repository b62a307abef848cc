"""Fixtures shared by all tests; no test reads the global generators."""

import os
import signal

# Set before scipy is imported, so that scikit-learn accepts tensors.
os.environ["SCIPY_ARRAY_API"] = "1"

import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

# A shell ignores Ctrl-C for what it runs in the background, and tests would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Several threads that wait for each other make a busy machine very slow.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Skip slow tests, unless continuous integration runs them."""
    if os.environ.get("CI"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            reason = "slow; continuous integration runs it, and CI=1 make test"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def cancer():
    """Breast cancer, 569 rows of 30 columns of very different scales, split in two."""
    X, _ = load_breast_cancer(return_X_y=True)
    return train_test_split(X, test_size=0.4, random_state=0)


@pytest.fixture(scope="session")
def digit_rows():
    """Digits as 1,797 rows of 64 pixels, split in two."""
    X, _ = load_digits(return_X_y=True)
    return train_test_split(X, test_size=0.4, random_state=0)


@pytest.fixture(scope="session")
def digits_by_class():
    """Digits as rows, and their classes: X_train, X_test, y_train, y_test."""
    return train_test_split(*load_digits(return_X_y=True), random_state=0)


@pytest.fixture(scope="session")
def digit_images(digit_rows):
    """Digits as uint8 images of shape (n, 8, 8, 1)."""
    return tuple(part.astype("uint8").reshape(-1, 8, 8, 1) for part in digit_rows)

"""Rows in single and in double precision, or as integers, give one fitted model."""

import numpy as np
import pytest
from estimators import CLASSES, quick
from numpy.testing import assert_allclose, assert_array_equal

from skdim import InfoMaxOutlierDetector, NoiseInjectedDIM


def weights(fitted):
    return fitted._state["weights"]


def assert_same_weights(one, other):
    for name, value in weights(one).items():
        assert value.dtype == weights(other)[name].dtype, name
        assert_array_equal(value, weights(other)[name], err_msg=name)


def assert_same_model(one, other, X, like):
    """Check that two estimators, fitted on X and on a copy of type ``like``, agree."""
    assert_same_weights(one, other)
    assert one.information_ == other.information_
    assert one.score(X) == other.score(X.astype(like))
    assert_allclose(one.transform(X), other.transform(X.astype(like)), atol=1e-4)


SETTINGS = {
    "default": {},
    "no views": {"views": None},
    "neighbors": {"views": "neighbors"},
    "jitter": {"views": "jitter"},
    "classes": {"supervised": True},
    "held-out rows": {"early_stopping": True},
    "given scaling": {"input_scaling": (100.0, 70.0)},
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("of", CLASSES.values())
def test_both_precisions_train_the_same_weights(cancer, of, setting):
    X = cancer[0]
    y = (X[:, 0] > 14).astype(int)
    one, other = (
        quick(of, max_iter=10, **SETTINGS[setting]).fit(rows, y)
        for rows in (X, X.astype(np.float32))
    )
    assert_same_model(one, other, X, np.float32)


@pytest.mark.parametrize("of", CLASSES.values())
def test_both_precisions_of_images_train_the_same_weights(digit_images, of):
    images = digit_images[0][:200] / 7  # whole numbers would be exact
    shape = {"hidden_layer_sizes": (4, 8)}
    one, other = (
        quick(of, **shape).fit(rows) for rows in (images, images.astype(np.float32))
    )
    assert_same_model(one, other, images, np.float32)


def test_both_precisions_go_on_alike(cancer):
    X = cancer[0]
    streams, warm = [], []
    for rows in (X, X.astype(np.float32)):
        stream = quick().partial_fit(rows[:200]).partial_fit(rows[200:])
        streams.append(stream)
        warm.append(quick(warm_start=True).fit(rows).fit(rows[50:]).partial_fit(rows))
    assert_same_model(*streams, X, np.float32)
    assert_same_model(*warm, X, np.float32)
    # Precision may change between calls.
    mixed = quick().partial_fit(X[:200]).partial_fit(X[200:].astype(np.float32))
    assert_same_weights(mixed, streams[0])


@pytest.mark.parametrize("form", ["memory map", "items"])
def test_rows_that_are_read_in_batches_are_rounded_too(cancer, tmp_path, form):
    class Items:
        def __init__(self, rows):
            self.rows = rows

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, i):
            return self.rows[i]

    X = cancer[0]
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    rows = mapped if form == "memory map" else Items(X)
    assert_same_weights(quick().fit(rows), quick().fit(X.astype(np.float32)))


@pytest.mark.parametrize("kind", ["int64", "int16", "uint8", "float16", "float32"])
def test_whole_numbers_train_the_same_weights_in_every_type(digit_rows, kind):
    X = digit_rows[0][:300]
    one, other = (quick().fit(rows) for rows in (X, X.astype(kind)))
    assert_same_model(one, other, X, kind)


@pytest.mark.parametrize("support_fraction", [None, 0.8])
def test_both_precisions_make_the_same_detector(cancer, support_fraction):
    params = {"support_fraction": support_fraction, "random_state": 0}
    model = NoiseInjectedDIM(2, hidden_layer_sizes=(16,), max_iter=3)
    train, test = cancer
    one, other = (
        InfoMaxOutlierDetector(model, **params).fit(rows)
        for rows in (train, train.astype(np.float32))
    )
    assert_array_equal(one.support_, other.support_)
    for rows in (train, test):  # training rows are recognised in both precisions
        assert_array_equal(
            one.score_samples(rows), other.score_samples(rows.astype(np.float32))
        )
        assert_array_equal(one.p_values(rows), one.p_values(rows.astype(np.float32)))


COLUMNS = {
    "large mean": (1e9, 1.0),
    "tiny": (0.0, 1e-60),
    "huge": (1e200, 1e199),
    "huge values, small mean": (0.0, 1e60),
    "larger than single precision": (3e38, 1e38),
}


# Such a column in single precision is constant, infinite or coarse: other data.
@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("of", CLASSES.values())
def test_a_column_that_single_precision_would_blur_is_learned_as_any_other(of, name):
    mean, deviation = COLUMNS[name]
    z = np.random.default_rng(0).normal(size=(600, 1))
    X = mean + deviation * z
    params = {"n_components": 1, "views": None}
    dim, expected = quick(of, **params).fit(X), quick(of, **params).fit(z)
    codes, known = dim.transform(X)[:, 0], expected.transform(z)[:, 0]
    assert np.corrcoef(codes, known)[0, 1] > 0.99  # rounding grows in training
    with np.errstate(over="ignore"):
        single = X.astype(np.float32)
    if np.isfinite(single).all():
        assert np.isfinite(quick(of, n_components=1).fit_transform(single)).all()


def test_one_such_column_leaves_the_others_alike(cancer):
    X = cancer[0].copy()
    same = X.astype(np.float32).astype(np.float64)  # as read from a file of singles
    X[:, 3] = same[:, 3] = 1e9 + np.random.default_rng(0).normal(size=len(X))
    assert_same_weights(quick().fit(X), quick().fit(same))
    for rows in (X, same):
        dim = quick(max_iter=50, views=None).fit(rows)
        moved = rows.copy()
        moved[:, 3] += 2
        assert np.abs(dim.transform(moved) - dim.transform(rows)).max() > 0.1


def test_a_column_of_rounding_errors_is_constant():
    X = np.random.default_rng(0).normal(size=(300, 3))
    X[:, 1] = 0.3
    X[::2, 1] = 0.1 + 0.2  # differs from 0.3 in the last digit
    assert weights(quick().fit(X))["network.input.inverse_scale"][1] == 0

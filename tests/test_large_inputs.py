"""Rows on disk, in small types or read in batches: same codes, little memory."""

import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from estimators import quick
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skdim._utils.rows import LazyRows, Subset, is_lazy


class Items:
    """A dataset of rows and their classes, read one at a time."""

    def __init__(self, rows, convert=lambda row: (row, 1)):
        self.rows, self.convert = rows, convert

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.convert(self.rows[i])


class ManyItems(Items):
    def __getitems__(self, index):
        return [self[i] for i in index]


def on_disk(rows, tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, rows)
    return np.load(path, mmap_mode="r")


def in_hdf5(rows, tmp_path):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(tmp_path / "rows.h5", "w")
    return file.create_dataset("rows", data=rows, chunks=(50, *rows.shape[1:]))


def in_zarr(rows, tmp_path):
    zarr = pytest.importorskip("zarr")
    stored = zarr.create_array(
        store=str(tmp_path / "rows.zarr"),
        shape=rows.shape,
        chunks=(50, *rows.shape[1:]),
        dtype=rows.dtype,
    )
    stored[:] = rows
    return stored


FORMS = {
    "memory map": on_disk,
    "HDF5": in_hdf5,
    "Zarr": in_zarr,
    "items": lambda rows, _: Items(rows),
    "many items": lambda rows, _: ManyItems(rows, lambda row: row),
    "torch dataset": lambda rows, _: torch.utils.data.TensorDataset(
        torch.tensor(rows), torch.zeros(len(rows))
    ),
    "torch subset": lambda rows, _: torch.utils.data.Subset(
        torch.utils.data.TensorDataset(torch.tensor(rows)), range(len(rows))
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("early_stopping", [True, False])
def test_every_form_gives_the_codes_of_an_array(
    digit_rows, tmp_path, form, early_stopping
):
    rows = digit_rows[0].astype(np.float32)
    X = FORMS[form](rows, tmp_path)
    expected = quick(early_stopping=early_stopping).fit(rows)
    dim = quick(early_stopping=early_stopping).fit(X)
    np.testing.assert_array_equal(dim.transform(X), expected.transform(rows))
    assert dim.score(X) == expected.score(rows)
    assert dim.n_features_in_ == 64


@pytest.mark.parametrize("form", FORMS)
def test_images_in_every_form(digit_images, tmp_path, form):
    images = digit_images[0][:120]
    X = FORMS[form](images, tmp_path)
    settings = {"hidden_layer_sizes": (4, 8), "max_iter": 2}
    codes = quick(**settings).fit(X).transform(X)
    np.testing.assert_array_equal(codes, quick(**settings).fit_transform(images))


@pytest.mark.parametrize("form", ["HDF5", "items"])
def test_streams_and_classes_in_batches(digits_by_class, tmp_path, form):
    rows, _, y, _ = digits_by_class
    X = FORMS[form](rows, tmp_path)
    one, two = (quick(supervised=True).partial_fit(part, y) for part in (X, rows))
    np.testing.assert_array_equal(one.transform(rows), two.transform(X))


TYPES = ["float16", ">f4", ">f8", "uint8", "int16", "float64"]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("form", ["memory map", "items", "HDF5"])
def test_types_of_numbers(digit_rows, tmp_path, kind, form):
    rows = digit_rows[0].astype(kind)  # whole numbers, so the same in every type
    codes = quick().fit(rows).transform(FORMS[form](rows, tmp_path))
    is_single = kind in ("float16", ">f4", "uint8")
    assert codes.dtype == (np.float32 if is_single else np.float64)
    single = rows.astype(np.float32 if is_single else np.float64)
    np.testing.assert_array_equal(codes, quick().fit(single).transform(single))


STATUS = Path("/proc/self/status")


def held():
    """Return the anonymous memory of this process, in bytes."""
    return 1024 * int(STATUS.read_text().split("RssAnon:")[1].split()[0])


@contextmanager
def watched_memory():
    """Yield a list that collects the growth of this process's memory, in bytes."""
    start, beyond, is_over = held(), [], threading.Event()

    def watch():
        while not is_over.wait(0.002):
            beyond.append(held() - start)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield beyond
    finally:
        is_over.set()
        thread.join()


@pytest.mark.skipif(not STATUS.exists(), reason="needs the files of Linux")
@pytest.mark.parametrize(("kind", "order"), [("uint8", "F"), ("float16", "C")])
def test_images_are_not_copied_as_a_whole(kind, order):
    rng = np.random.default_rng(0)
    images = np.asarray(
        rng.integers(0, 255, (30_000, 28, 28, 1)), dtype=kind, order=order
    )
    dim = quick(hidden_layer_sizes=(2,), max_iter=1, batch_size=512, views=None)
    # What is held anyway, also by the allocator, which returns little of it.
    dim.fit(images[:3000]).transform(images[:3000])
    with watched_memory() as beyond:
        dim.fit(images).transform(images)
    assert max(beyond) < 3 * images.size  # bytes; a copy as floats has 4 times


@pytest.mark.parametrize(
    "convert",
    [
        lambda row: row.astype(np.longdouble),
        lambda row: torch.tensor(row).bfloat16(),  # whole numbers below 17
        lambda row: torch.tensor(row, requires_grad=True),
    ],
    ids=["long double", "bfloat16", "gradients"],
)
def test_rows_of_other_kinds(digit_rows, convert):
    rows = digit_rows[0]
    codes = quick().fit(rows).transform(Items(rows, convert))
    np.testing.assert_allclose(codes, quick().fit_transform(rows), atol=1e-4)


def test_lazy_rows_are_read_in_any_order(digit_rows, tmp_path):
    rows = digit_rows[0]
    index = np.array([5, 3, 3, 900, 0])
    for form in ("HDF5", "Zarr", "items"):
        lazy = LazyRows(FORMS[form](rows, tmp_path), "Some")
        np.testing.assert_array_equal(lazy[index], rows[index])
        np.testing.assert_array_equal(lazy[10:13], rows[10:13])
        np.testing.assert_array_equal(Subset(lazy, index)[1:4], rows[index[1:4]])


def test_what_is_read_lazily(digit_rows):
    rows = digit_rows[0]
    assert is_lazy(Items(rows))
    arrays = [rows, rows.tolist(), pd.DataFrame(rows), torch.tensor(rows), {"a": 1}]
    assert not any(map(is_lazy, [*arrays, "text", 5, None, range(3)]))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (Items(np.ones((0, 3))), "0 sample"),
        (Items(np.ones((1, 3))), "1 sample"),
        (Items(np.ones((9, 0))), "0 feature"),
        (Items(np.ones(9)), "rows of 1 dimension or images of 3"),
        (Items(np.ones((9, 2, 2))), "give images a channel axis"),
        (Items(np.full((9, 3), np.nan)), "contains NaN"),
        (Items(np.full((9, 3), np.inf)), "infinity"),
        (Items(np.full((9, 3), "a")), "rows of numbers"),
        (Items([[1.0, 2.0]] * 5 + [[1.0]]), "all of one shape"),
        (Items([[1.0, 2.0]] * 5, lambda row: {"x": row}), "rows of numbers"),
    ],
)
def test_bad_batches_are_named(X, message):
    dim = quick()
    with pytest.raises(ValueError, match=message):
        dim.fit(X)
    assert not hasattr(dim, "n_features_in_")


def test_a_bad_row_is_found_before_training(digit_rows):
    rows = digit_rows[0].copy()
    rows[-1, 3] = np.nan
    calls = []

    def view(inputs, generator):
        calls.append(1)
        return inputs

    with pytest.raises(ValueError, match="contains NaN"):
        quick(views=view).fit(Items(rows))
    assert not calls


def test_width_of_batches_is_compared(digit_rows):
    dim = quick().fit(digit_rows[0])
    with pytest.raises(ValueError, match="X has 3 features, but"):
        dim.transform(Items(np.ones((5, 3))))


# Missing values and categories


def test_missing_values_name_the_two_ways_out(cancer):
    X = cancer[0].copy()
    X[3, 3] = np.nan
    for bad in (X, pd.DataFrame(X), X.astype(np.float16)):
        with pytest.raises(ValueError, match=r"contains NaN.*SimpleImputer.*ColumnTr"):
            quick().fit(bad)
    dim = quick().fit(cancer[0])
    with pytest.raises(ValueError, match="SimpleImputer"):
        dim.transform(X)


MIXED = pd.DataFrame(
    {
        "age": [30.0, np.nan, 51.0, 44.0, 60.0, 23.0] * 20,
        "income": np.linspace(1e3, 9e4, 120),
        "city": ["Oslo", "Rome", None, "Rome", "Oslo", "Bonn"] * 20,
        "kind": pd.Categorical(["a", "b", "a", "c", "b", "a"] * 20),
    }
)


@pytest.mark.parametrize("column", ["city", "kind"])
def test_text_names_the_way_out(column):
    filled = MIXED[["income", column]].assign(city="Oslo")
    for bad in (filled, filled.to_numpy()):
        with pytest.raises(ValueError, match=r"text.*ColumnTransformer.*OneHotEncoder"):
            quick().fit(bad)


DAYS = pd.Series(pd.date_range("2020-01-01", periods=120))
DATED = {
    "beside numbers": MIXED[["income"]].assign(day=DAYS),
    "alone": pd.DataFrame({"day": DAYS}),
    "with a gap": pd.DataFrame({"day": DAYS.where(DAYS.index > 0)}),
    "of a zone": MIXED[["income"]].assign(day=DAYS.dt.tz_localize("UTC")),
    "spans": MIXED[["income"]].assign(since=DAYS - DAYS[0]),
    "months": pd.DataFrame({"month": DAYS.dt.to_period("M")}),
    "an array": DAYS.to_numpy()[:, None],
}


@pytest.mark.parametrize("bad", DATED.values(), ids=DATED)
def test_dates_name_the_way_out(bad):
    with pytest.raises(ValueError, match=r"takes numbers only.*days since the first"):
        quick().fit(bad)


def test_objects_that_are_no_numbers_name_the_way_out():
    for bad in (DAYS.dt.date.to_numpy()[:, None], np.full((120, 1), {"a": 1})):
        with pytest.raises(TypeError, match=r"no numbers.*days since the first"):
            quick().fit(bad)


def test_dates_of_polars_name_the_way_out():
    polars = pytest.importorskip("polars")
    bad = polars.DataFrame({"day": DAYS.dt.date.tolist(), "x": np.arange(120.0)})
    for columns in (bad, bad[["day"]]):
        with pytest.raises(ValueError, match=r"contains dates \(Date\)"):
            quick().fit(columns)


def test_the_recipe_for_a_mixed_table_works():
    numbers = make_column_selector(dtype_include="number")
    others = make_column_selector(dtype_exclude="number")
    dim = make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False), others),
        ),
        quick(),
    )
    codes = dim.fit_transform(MIXED)
    assert codes.shape == (120, 2) and np.isfinite(codes).all()
    unseen = MIXED.head().assign(city="Lima", age=np.nan)
    assert np.isfinite(dim.transform(unseen)).all()
    dim.set_output(transform="pandas")
    assert list(dim.transform(unseen).columns) == list(dim.get_feature_names_out())

"""Batches: which rows, partners and views are drawn."""

import numpy as np
import pytest
import torch
from estimators import quick

from skdim._core import batches
from skdim._core.batches import BatchSource, Data, even_batches
from skdim._core.config import PairSpec

INDEX = np.arange(100, 150)


def rows(n=300, d=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def source(data, labels=None, scale=lambda x: x, **pairs):
    pairs = PairSpec(**pairs)
    return BatchSource(Data(data, labels), scale, pairs, 0, torch.device("cpu"))


def added(inputs, generator):
    """Add one random number, above 1, to all cells of each row."""
    return inputs + 1 + torch.rand(len(inputs), 1, generator=generator)


# What is drawn


def test_without_pairs_rows_are_drawn_alone():
    data = rows()
    batch = source(data, scale=lambda x: 2 * x).draw(INDEX, generator())
    np.testing.assert_array_equal(batch.rows, 2 * data[INDEX])
    assert batch.views == []


@pytest.mark.parametrize("shape", [(4,), (3, 5, 6)])
@pytest.mark.parametrize("sides", ["both", "one"])
@pytest.mark.parametrize("n_views", [1, 3])
def test_rows_and_views_have_the_shape_of_their_inputs(shape, sides, n_views):
    data = np.random.default_rng(0).normal(size=(160, *shape)).astype(np.float32)
    name = "jitter" if len(shape) == 1 else "shift"
    drawn = source(data, augmentations=(name,), sides=sides, n_views=n_views)
    batch = drawn.draw(INDEX, generator())
    assert len(batch.views) == n_views
    for inputs in (batch.rows, *batch.views):
        assert inputs.shape == (50, *shape) and inputs.dtype == torch.float32
    # Each view is drawn afresh.
    assert all(not torch.equal(view, batch.rows) for view in batch.views)
    assert n_views == 1 or not torch.equal(*batch.views[:2])


@pytest.mark.parametrize("sides", ["both", "one"])
def test_sides_say_whether_the_row_itself_is_augmented(sides):
    data = rows()
    drawn = source(data, augmentations=(added,), sides=sides)
    batch = drawn.draw(INDEX, generator())
    offsets = [x.numpy() - data[INDEX] for x in (batch.rows, *batch.views)]
    for offset in offsets:
        np.testing.assert_allclose(offset, np.repeat(offset[:, :1], 4, axis=1))
    assert (offsets[1] >= 1).all()
    assert (offsets[0] == 0).all() if sides == "one" else (offsets[0] >= 1).all()


def test_augmentations_are_applied_in_order_and_by_strength():
    def doubled(inputs, generator):
        return 2 * inputs

    def moved(inputs, generator):
        return inputs + 1

    data = rows()
    steps = doubled, moved, doubled
    views = source(data, augmentations=steps).draw(INDEX, generator()).views
    np.testing.assert_allclose(views[0], 4 * data[INDEX] + 2)
    for strength, expected in ((None, 0.3), (0.0, 0.0), (2.0, 2.0)):
        drawn = source(data, augmentations=("jitter",), strength=strength)
        noise = drawn.draw(np.arange(300), generator()).views[0].numpy() - data
        assert noise.std() == pytest.approx(expected, rel=0.1)


def test_draws_repeat_by_seed_and_spare_the_global_generator():
    drawn = source(rows(), augmentations=("neighbors", "jitter"))
    before = torch.random.get_rng_state()
    one, two, other = (drawn.draw(INDEX, generator(s)) for s in (0, 0, 1))
    assert torch.equal(one.rows, two.rows) and torch.equal(one.views[0], two.views[0])
    assert not torch.equal(one.rows, other.rows)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_views_of_the_users_are_checked_in_every_batch():
    def halved(inputs, generator):
        return inputs[: len(inputs) // 2]

    def spoiled(inputs, generator):
        return inputs * float("nan")

    with pytest.raises(ValueError, match=r"'views' callable must return a tensor of"):
        source(rows(), augmentations=(halved,)).draw(INDEX, generator())
    with pytest.raises(ValueError, match="'views' callable must return finite"):
        source(rows(), augmentations=(spoiled,)).draw(INDEX, generator())


# Neighbours and partners


def test_neighbours_are_drawn_from_the_near_rows():
    data = rows()
    drawn = source(data, augmentations=("neighbors",), strength=1.0, sides="one")
    # At strength 1 every cell is that of the near row.
    view = drawn.draw(INDEX, generator()).views[0].numpy()
    which = (view[:, None] == data[drawn.near[INDEX]]).all(2)
    assert which.any(1).all() and len(np.unique(which.argmax(1))) == 5


def test_each_cell_of_a_view_of_neighbours_is_that_of_another_row():
    data = 3 + 2 * rows(50)
    drawn = source(data, augmentations=("neighbors",), strength=1.0)
    batch = drawn.draw(np.arange(50), generator(1))
    for view in (batch.rows, *batch.views):
        is_of_row = (view[:, None] == torch.from_numpy(data)).any(1)
        assert is_of_row.all() and not (view == torch.from_numpy(data)).any()


def test_views_of_held_out_rows_take_cells_from_the_lender():
    pairs, device = PairSpec(("neighbors",), strength=0.5), torch.device("cpu")
    lender = source(10 + rows(50), augmentations=("neighbors",))
    held_out = BatchSource(Data(rows(20)), lambda x: x, pairs, 0, device, lender)
    for view in held_out.draw(np.arange(20), generator()).views:
        is_own = view == torch.from_numpy(rows(20))
        is_lent = (view[:, None] == torch.from_numpy(lender.rows)).any(1)
        assert (is_own | is_lent).all() and is_own.any() and is_lent.any()


def test_rows_with_classes_have_partners_that_are_held_out_too():
    pairs, labels = PairSpec(by_class=True), np.repeat([0, 1], 10)
    lender = source(rows(50), np.repeat([0, 1], 25), by_class=True)
    data = Data(10 + rows(20), labels)
    device = torch.device("cpu")
    held_out = BatchSource(data, lambda x: x, pairs, 0, device, lender)
    batch = held_out.draw(np.arange(20), generator())
    for view in (batch.rows, *batch.views):
        assert (view[:, None] == torch.from_numpy(data.rows)).all(2).any(1).all()


@pytest.mark.parametrize("is_table", [False, True])
def test_partners_share_the_class_and_unknown_rows_are_their_own(is_table):
    # In tables partners are near rows of the class, among images any of the class.
    data, labels = rows(), np.repeat([0, 1, -1], 100)
    drawn = source(
        data if is_table else data.reshape(300, 1, 2, 2),
        labels,
        by_class=True,
        sides="one",
    )
    assert (drawn.near is not None) == is_table
    batch = drawn.draw(np.arange(300), generator())
    own, other = batch.rows.flatten(1), batch.views[0].flatten(1)
    np.testing.assert_array_equal(own, data)
    partners = (other[:, None] == torch.from_numpy(data)).all(2).int().argmax(1).numpy()
    np.testing.assert_array_equal(other, data[partners])
    assert (labels[partners] == labels).all()
    np.testing.assert_array_equal(partners[200:], np.arange(200, 300))
    assert (partners[:200] != np.arange(200)).mean() > 0.9
    if is_table:
        assert (drawn.near[:200] == partners[:200, None]).any(1).all()


def test_both_sides_of_a_pair_are_partners():
    data, labels = rows(), np.repeat([0, 1, -1], 100)
    drawn = source(data, labels, by_class=True)
    batch = drawn.draw(np.arange(200), generator())
    for inputs in (batch.rows, batch.views[0]):
        is_row = (inputs[:, None] == torch.from_numpy(data)).all(2)
        assert (labels[is_row.int().argmax(1)] == labels[:200]).all()
        assert (is_row.int().argmax(1).numpy() != np.arange(200)).mean() > 0.9
    assert (batch.rows != batch.views[0]).any(1).double().mean() > 0.5


# Inputs kept in memory


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_that_are_kept_are_those_made_anew(dtype, monkeypatch):
    X = rows().astype(dtype)
    kept = quick(max_iter=3).fit(X)
    monkeypatch.setattr(batches, "_LARGEST_TABLE_KEPT", 0)
    anew = quick(max_iter=3).fit(X)
    np.testing.assert_array_equal(kept.transform(X), anew.transform(X))


def test_views_of_the_users_cannot_change_inputs_that_are_kept():
    def zeroed(inputs, generator):
        return inputs.mul_(0).add_(torch.randn(inputs.shape, generator=generator))

    data = torch.from_numpy(rows())
    drawn = source(data.numpy(), scale=lambda x: 2 * x, augmentations=(zeroed,))
    assert drawn._inputs is not None
    zeroed(drawn.take(np.arange(9)), generator())
    drawn.draw(np.arange(9), generator())
    torch.testing.assert_close(drawn.take(np.arange(9)), 2 * data[:9])


# Batches of evaluation


@pytest.mark.parametrize(("n_rows", "n_batches", "size"), [(10, 4, 3), (2, 1, 2)])
def test_batches_of_evaluation_are_full_and_miss_no_row(n_rows, n_batches, size):
    found = even_batches(n_rows, 3, seed=0)
    assert found.shape == (n_batches, size)
    assert set(found.ravel()) == set(range(n_rows))
    np.testing.assert_array_equal(found, even_batches(n_rows, 3, seed=0))
    assert all(len(set(batch)) == size for batch in found)

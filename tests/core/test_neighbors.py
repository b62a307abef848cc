import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from skdim._core import neighbors
from skdim._core.neighbors import nearest_others, nearest_rows

CPU = torch.device("cpu")


def rows(n=300, d=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def near(data, k=5, labels=None):
    return nearest_rows(data, lambda x: x, k, labels, 0, CPU)


def test_neighbours_are_the_nearest_other_rows():
    data = rows()
    expected = (
        NearestNeighbors(n_neighbors=5, p=1).fit(data).kneighbors(return_distance=False)
    )
    np.testing.assert_array_equal(np.sort(near(data)), np.sort(expected))


def test_neighbours_are_of_the_same_class_or_any_if_unknown():
    data = rows()
    labels = np.repeat([0, 1, -1], 100)
    found = near(data, labels=labels)
    assert (labels[found[:200]] == labels[:200, None]).all()
    any_row = near(data)
    np.testing.assert_array_equal(np.sort(found[200:]), np.sort(any_row[200:]))


@pytest.mark.parametrize("n", [1, 2, 4])
def test_few_rows_have_few_neighbours(n):
    found = near(rows(n))
    assert found.shape == (n, max(1, n - 1)) and found.min() >= 0 and found.max() < n
    if n > 1:
        assert (found != np.arange(n)[:, None]).all()


def test_small_classes_repeat_their_neighbours():
    labels = np.repeat([0, 1], [3, 297])
    found = near(rows(), labels=labels)
    assert found.shape == (300, 5) and (found[:3] < 3).all()
    assert (found[:3] != np.arange(3)[:, None]).all()


def test_equal_rows_have_neighbours_other_than_themselves_or_equal():
    found = near(np.zeros((20, 3)))
    assert found.shape == (20, 5) and (found != np.arange(20)[:, None]).all()


def test_neighbours_in_large_data_come_from_a_sample(monkeypatch):
    monkeypatch.setattr(neighbors, "_MOST_DIFFERENCES", 0)
    monkeypatch.setattr(neighbors, "_FEWEST_CANDIDATES", 50)
    found = near(rows())
    assert len(np.unique(found)) <= 50
    assert (found != np.arange(300)[:, None]).all()


def test_more_neighbours_than_rows_are_all_others():
    found = near(rows()[:5], k=10**20)
    assert (np.sort(found) == [np.delete(np.arange(5), i) for i in range(5)]).all()


def test_neighbours_in_other_data_are_the_nearest_there():
    data, others = rows(40, seed=1), rows(300, seed=0)
    others[7] = data[3]  # an equal row is a neighbour: it is another row
    found = nearest_others(data, others, lambda x: x, 5, 0, CPU)
    search = NearestNeighbors(n_neighbors=5, metric="manhattan").fit(others)
    np.testing.assert_array_equal(found, search.kneighbors(data)[1])
    assert found[3, 0] == 7


def test_other_data_may_have_few_rows():
    found = nearest_others(rows(40), rows(3, seed=1), lambda x: x, 5, 0, CPU)
    assert (np.sort(found) == np.arange(3)).all()

"""Progress bars, or plain lines."""

import sys

import pytest
from estimators import quick

BARS = {"tqdm": "tqdm.auto", "rich": "rich.progress"}


def without(monkeypatch, *packages):
    """Make the import of these packages fail."""
    for package in packages:
        monkeypatch.setitem(sys.modules, BARS[package], None)


def test_verbose_shows_a_bar_of_tqdm(cancer, capsys):
    pytest.importorskip("tqdm")
    quick(verbose=1).fit(cancer[0])
    shown = capsys.readouterr()
    assert "3/3" in shown.err and "information = " in shown.err and not shown.out


def test_verbose_shows_a_bar_of_rich(cancer, capsys, monkeypatch):
    pytest.importorskip("rich")
    without(monkeypatch, "tqdm")
    quick(verbose=True).fit(cancer[0])
    shown = capsys.readouterr().out
    assert "3/3" in shown and "information = " in shown


@pytest.mark.parametrize("verbose", [1, 2])
def test_verbose_prints_lines_where_there_is_no_bar(
    cancer, capsys, monkeypatch, verbose
):
    without(monkeypatch, *(("tqdm", "rich") if verbose == 1 else ()))
    quick(verbose=verbose, early_stopping=True).fit(cancer[0])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"Epoch {i}/3" for i in (1, 2, 3)]
    assert all("validation = " in line for line in lines)


def test_nothing_is_shown_by_default(cancer, capsys):
    quick().fit(cancer[0])
    shown = capsys.readouterr()
    assert not shown.out and not shown.err

"""Callbacks of scikit-learn: an epoch is a task of the fit."""

import sys
import warnings

import pytest
from estimators import quick
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9")


class Recorder:
    """Record the tasks that end, and stop the fit at an epoch if one is given."""

    def __init__(self, stop_at=None):
        self.ended, self.stop_at, self.scores, self.torn_down = [], stop_at, [], 0

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, X, fitted_estimator):
        self.ended.append((context.task_name, context.task_id))
        if fitted_estimator is not None:
            self.scores.append(fitted_estimator.transform(X).std())
        return context.task_id + 1 == self.stop_at

    def teardown(self, estimator, context):
        self.torn_down += 1


def test_every_epoch_is_a_task(cancer):
    recorder = Recorder()
    dim = quick().set_callbacks(recorder).fit(cancer[0])
    assert recorder.ended == [("epoch", 0), ("epoch", 1), ("epoch", 2), ("fit", 0)]
    assert len(recorder.scores) == 3 and recorder.torn_down == 1
    assert recorder.scores[-1] == pytest.approx(
        dim.transform(cancer[0]).std(), rel=0.01
    )


def test_a_callback_can_stop_training_and_changes_nothing_else(cancer):
    stopped = quick(max_iter=9).set_callbacks(Recorder(stop_at=2)).fit(cancer[0])
    assert stopped.n_iter_ == 2
    watched = quick().set_callbacks(Recorder()).fit_transform(cancer[0])
    assert (watched == quick().fit_transform(cancer[0])).all()


def test_callbacks_are_torn_down_where_fit_fails(cancer):
    recorder = Recorder()
    dim = quick().fit(cancer[0]).set_callbacks(recorder)

    def fail(inputs, generator):
        raise RuntimeError("a view fails")

    with pytest.raises(RuntimeError, match="a view fails"):
        dim.set_params(views=fail).fit(cancer[0])
    codes = dim.transform(cancer[1])
    recorder.on_fit_task_end = lambda estimator, context: 1 / 0
    with pytest.raises(ZeroDivisionError):
        dim.set_params(views=None).fit(cancer[0])
    assert recorder.torn_down == 2
    assert not [name for name in vars(dim) if "callback_fit_ctx" in name]
    assert (dim.transform(cancer[1]) == codes).all()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_progress_bar_of_scikit_learn_shows_epochs(cancer, capsys, n_jobs):
    pytest.importorskip("rich")
    bar = callback.ProgressBar(max_propagation_depth=None)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), quick()),
        {"noiseinjecteddim__weight_decay": [0.1, 1.0]},
        cv=2,
        n_jobs=n_jobs,
    )
    search.set_callbacks(bar).fit(cancer[0])
    shown = capsys.readouterr().out
    assert shown.count("NoiseInjectedDIM") >= 4 and "100%" in shown


class Filing(Recorder):
    """Append the tasks that end to a file, so that worker processes are seen too."""

    def __init__(self, path):
        self.path = path

    def on_fit_task_end(self, estimator, context):
        with self.path.open("a") as file:
            file.write(f"{context.task_name} {context.task_id}\n")

    def teardown(self, estimator, context):
        pass


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_every_fit_of_a_search_tells_of_its_epochs(cancer, tmp_path, n_jobs):
    path = tmp_path / "tasks"
    steps = make_pipeline(StandardScaler(), quick().set_callbacks(Filing(path)))
    grid = {"noiseinjecteddim__weight_decay": [0.1, 1.0]}
    GridSearchCV(steps, grid, cv=2, n_jobs=n_jobs).fit(cancer[0])
    told = path.read_text().splitlines()
    n_fits = 2 * 2 + 1  # each in each split, and the best on all rows
    epochs = ["epoch 0", "epoch 1", "epoch 2"]
    assert [told.count(epoch) for epoch in epochs] == [n_fits] * 3


def test_progress_bar_in_a_plain_fit_and_a_pipeline(cancer, capsys):
    pytest.importorskip("rich")
    for estimator in (quick(), make_pipeline(StandardScaler(), quick())):
        bar = callback.ProgressBar(max_propagation_depth=None)
        estimator.set_callbacks(bar).fit(cancer[0])
        assert "NoiseInjectedDIM" in capsys.readouterr().out


def test_a_bar_of_rich_gives_way_to_lines_where_another_is_shown(
    cancer, capsys, monkeypatch
):
    pytest.importorskip("rich")
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)  # not installed
    bar = callback.ProgressBar(max_propagation_depth=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(verbose=1).set_callbacks(bar).fit(cancer[0])
    assert "NoiseInjectedDIM" in capsys.readouterr().out

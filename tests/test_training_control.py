"""Warm start, streams, divergence and interrupts do not lose what was learned."""

import itertools
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from estimators import quick
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

from skdim import DeepInfoMax, NoiseInjectedDIM, Views
from skdim._core import calibration, training
from skdim._core.memory import Memory
from skdim._core.training import _BestEpoch
from skdim._utils.process import uninterrupted
from skdim.metrics import sample_floor, sliced_wasserstein_distance

# Settings with which the information still rises when training ends.
SLOW = {"learning_rate_init": 1e-3, "batch_size": 128, "max_iter": 10}


def match(codes):
    floor = sample_floor(sliced_wasserstein_distance, *codes.shape)
    return sliced_wasserstein_distance(codes) / floor


# Warm start


def test_warm_start_goes_on_where_fit_ended(digit_rows):
    train, _ = digit_rows
    settings = SLOW | {"warm_start": True}
    dim = quick(**settings).fit(train)
    first = list(dim.information_curve_)
    dim.fit(train)
    assert dim.n_iter_ == 20 and dim.information_curve_[:10] == first
    assert dim.information_curve_[10] > first[0] + 0.2
    assert dim.information_curve_[-1] > first[-1]
    cold = quick(**settings | {"warm_start": False}).fit(train).fit(train)
    assert cold.information_curve_ == first


def test_warm_start_of_another_shape_is_refused(digit_rows):
    dim = quick(warm_start=True).fit(digit_rows[0])
    codes = dim.transform(digit_rows[1])
    with pytest.raises(ValueError, match="set warm_start=False"):
        dim.set_params(n_components=3).fit(digit_rows[0])
    np.testing.assert_array_equal(dim.transform(digit_rows[1]), codes)


def test_warm_start_keeps_training_an_own_encoder(digit_rows):
    def build(input_shape, n_components):
        return torch.nn.Sequential(
            torch.nn.Linear(*input_shape, 8),
            torch.nn.ReLU(),
            torch.nn.Linear(8, n_components),
        )

    dim = quick(**SLOW, encoder=build, warm_start=True)
    first = list(dim.fit(digit_rows[0]).information_curve_)
    dim.fit(digit_rows[0])
    assert dim.information_curve_[10] > first[0] + 0.2


def test_warm_start_of_another_encoder_is_refused(digit_rows):
    dim = quick(warm_start=True, encoder=torch.nn.Linear(64, 2)).fit(digit_rows[0])
    codes = dim.transform(digit_rows[1])
    with pytest.raises(ValueError, match="'encoder' parameter asks for another"):
        dim.set_params(encoder="mlp").fit(digit_rows[0])
    np.testing.assert_array_equal(dim.transform(digit_rows[1]), codes)


def test_warm_start_fits_the_final_map_anew(digit_rows):
    dim = quick(warm_start=True, final_map="close").fit(digit_rows[0])
    assert dim._state["weights"]["network.transport.shifts"].any()
    dim.set_params(final_map="linear").fit(digit_rows[0])
    assert not dim._state["weights"]["network.transport.shifts"].size
    dim.set_params(final_map="gentle").fit(digit_rows[0])
    codes = dim.transform(digit_rows[0])
    np.testing.assert_allclose(codes.mean(0), 0, atol=0.05)
    np.testing.assert_allclose(codes.std(0), 1, atol=0.1)


def test_warm_start_does_not_end_worse_than_it_began(digit_rows):
    train, test = digit_rows
    dim = quick(early_stopping=True, warm_start=True, max_iter=20).fit(train)
    best, n_iter = max(dim.validation_information_curve_), dim.n_iter_
    dim.set_params(learning_rate_init=1.0, weight_decay=0.0, max_iter=2).fit(train)
    assert max(dim.validation_information_curve_[n_iter:]) < best - 0.5
    assert dim.score(test) > best - 0.3


# Streams


def test_a_stream_learns_the_distribution_and_keeps_information(digit_rows):
    train, test = digit_rows
    dim = quick(n_components=4, views=None, hidden_layer_sizes="auto")
    rng = np.random.default_rng(0)
    for _ in range(40):
        dim.partial_fit(train[rng.permutation(len(train))[:512]])
    assert dim.n_iter_ == 40 and dim.n_samples_seen_ == 40 * 512
    assert match(dim.transform(test)) < 2
    fitted = quick(n_components=4, views=None, hidden_layer_sizes="auto", max_iter=80)
    assert dim.score(test) > 0.9 * fitted.fit(train).score(test)


def test_the_first_part_fixes_the_scaling(digit_rows):
    train, _ = digit_rows
    dim = quick().partial_fit(train[:300])
    scaling = dim._state["weights"]["network.input.mean"].copy()
    dim.partial_fit(train[300:] + 100)
    np.testing.assert_array_equal(dim._state["weights"]["network.input.mean"], scaling)
    fitted = quick().fit(train[:300])
    np.testing.assert_array_equal(
        fitted._state["weights"]["network.input.mean"], scaling
    )


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_scaling_can_be_given(digit_rows, method):
    train, _ = digit_rows
    scaling = (train.mean(0), np.where(train.std(0) > 0, train.std(0), 0))
    whole = quick(input_scaling=scaling)
    weights = getattr(whole, method)(train[:300])._state["weights"]
    own = quick().fit(train)._state["weights"]
    for name in ("network.input.mean", "network.input.inverse_scale"):
        np.testing.assert_allclose(weights[name], own[name], rtol=1e-6)


def test_scaling_of_images_is_by_channel(digit_images):
    one, two = (
        quick(input_scaling=scaling, max_iter=1).fit_transform(digit_images[0][:60])
        for scaling in ((5, 6), ([5.0], [6.0]))
    )
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("scaling", [(1,), (0, [1, 2]), (0, -1), (0, np.nan), ("a", 1)])
def test_bad_scaling_is_named(digit_rows, scaling):
    with pytest.raises(ValueError, match="'input_scaling' parameter must hold"):
        quick(input_scaling=scaling).fit(digit_rows[0])


def test_a_stream_is_reproducible_and_survives_a_pickle(digit_rows):
    train, test = digit_rows
    one = quick().partial_fit(train[:300]).partial_fit(train[300:600])
    two = pickle.loads(pickle.dumps(quick().partial_fit(train[:300])))
    two.partial_fit(train[300:600])
    np.testing.assert_array_equal(one.transform(test), two.transform(test))


@pytest.mark.parametrize("of", [DeepInfoMax, NoiseInjectedDIM])
def test_a_stream_of_images_survives_a_pickle(of, digit_images):
    train, _ = digit_images
    one = quick(of, hidden_layer_sizes=(8, 16)).partial_fit(train[:300])
    two = pickle.loads(pickle.dumps(one))
    for dim in (one, two):
        dim.partial_fit(train[300:600])
    for name, value in one._state["weights"].items():
        np.testing.assert_array_equal(two._state["weights"][name], value, name)


def test_a_stream_goes_on_from_a_fit(digit_rows):
    train, _ = digit_rows
    dim = quick(**SLOW).fit(train)
    curve = list(dim.information_curve_)
    dim.partial_fit(train)
    assert dim.n_iter_ == 11 and dim.information_curve_[:10] == curve
    assert dim.information_curve_[10] > curve[0] + 0.2


def test_moments_of_a_stream_remember_what_came_before():
    memory, rows = Memory(0, {}), torch.arange(3.0)
    assert (memory.blend("codes", 100, rows)[0] == rows).all()
    memory.add(100)
    torch.testing.assert_close(memory.blend("codes", 300, rows + 4)[0], rows + 3)
    memory.add(10**6)
    assert memory.n_remembered == 4096
    weight = 4096 / (4096 + memory.n_remembered)
    blended = memory.blend("codes", 4096, rows + 5)[0]
    torch.testing.assert_close(blended, torch.lerp(rows + 3, rows + 5, weight))


def test_a_small_part_does_not_spoil_the_codes(digit_rows):
    train, test = digit_rows
    dim = quick(n_components=8, max_iter=40).fit(train)
    before = match(dim.transform(test))
    dim.partial_fit(train[:3])
    assert match(dim.transform(test)) < 1.5 * before


def test_partial_fit_refuses_what_it_cannot_do(digit_rows):
    train, _ = digit_rows
    with pytest.raises(ValueError, match="does not support early_stopping"):
        quick(early_stopping=True).partial_fit(train)
    dim = quick().partial_fit(train)
    codes = dim.transform(train)
    for bad in (train[:1], train[:, :3], np.full_like(train, np.nan)):
        with pytest.raises(ValueError):
            dim.partial_fit(bad)
    np.testing.assert_array_equal(dim.transform(train), codes)
    assert dim.n_iter_ == 1


def test_a_small_first_part_does_not_set_the_size_of_batches(digit_rows):
    small, whole = (quick().partial_fit(digit_rows[0][:n]) for n in (10, 1000))
    assert small.batch_size_ == whole.batch_size_ == 256
    assert small.noise_scale_ == whole.noise_scale_


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_components": 3}, "ask for another: .*n_components"),
        ({"sliced_weight": 1, "critic": "bilinear"}, "another: critic, sliced_weight"),
        ({"views": Views(n_views=2, sides="one")}, r"another: views\."),
        ({"supervised": True}, r"another: supervised\."),
        ({"batch_size": 64}, "another: batch_size"),
        ({"hidden_layer_sizes": (3,)}, "another: hidden_layer_sizes"),
        ({"encoder": torch.nn.Linear(64, 2)}, "'encoder' parameter asks for another"),
        ({"learning_rate_init": -1}, "'learning_rate_init' parameter"),
    ],
)
def test_a_part_asks_for_no_other_model(digit_rows, changes, message):
    refuse(quick(), changes, message, digit_rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local_weight": 2.0, "critic": "bilinear"}, "another: critic, local_weight"),
        ({"prior": "normal"}, r"another: prior\."),
    ],
)
def test_a_part_asks_for_no_other_terms(digit_rows, changes, message):
    refuse(quick(DeepInfoMax), changes, message, digit_rows)


def refuse(dim, changes, message, digit_rows):
    """Assert that ``partial_fit`` refuses these changes and alters nothing else."""
    train, test = digit_rows
    labels = np.arange(len(train)) % 2
    codes = dim.partial_fit(train, labels).transform(test)
    with pytest.raises(ValueError, match=message):
        dim.set_params(**changes).partial_fit(train, labels)
    np.testing.assert_array_equal(dim.transform(test), codes)


# Divergence


def spoil(monkeypatch, step):
    """Make the objective NaN in training step ``step``, counted from 0."""
    calls, objective = itertools.count(), training.objective

    def spoiled(*args):
        found = objective(*args)
        if next(calls) == step:
            return found._replace(value=found.value * float("nan"))
        return found

    monkeypatch.setattr(training, "objective", spoiled)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("of", [DeepInfoMax, NoiseInjectedDIM])
def test_a_divergence_is_an_error_and_changes_nothing(
    of, digit_rows, monkeypatch, method
):
    train, test = digit_rows
    dim = quick(of, batch_size=64).fit(train)
    before, codes = vars(dim).copy(), dim.transform(test)
    spoil(monkeypatch, 7)
    with pytest.raises(ValueError, match=r"diverged.*lower 'learning_rate_init'"):
        getattr(dim, method)(train)
    assert vars(dim) == before
    np.testing.assert_array_equal(dim.transform(test), codes)


def test_a_divergence_in_the_first_fit_leaves_an_unfitted_estimator(
    digit_rows, monkeypatch
):
    spoil(monkeypatch, 0)
    dim = quick()
    before = vars(dim).copy()
    with pytest.raises(ValueError, match="lower 'learning_rate_init'"):
        dim.fit(digit_rows[0])
    assert vars(dim) == before


@pytest.mark.parametrize("step", [0, 69])
def test_weights_that_turn_bad_are_an_error(digit_rows, monkeypatch, step):
    # The objective of the same step does not show it, and step 69 is the last one.
    calls, take_step = itertools.count(), training._step

    def spoiled(optimizer, loss):
        take_step(optimizer, loss)
        if next(calls) == step:
            optimizer.param_groups[0]["params"][0].data.fill_(float("nan"))

    train = digit_rows[0][:1000]
    dim = quick(batch_size=70, max_iter=5).fit(train)
    before, codes = vars(dim).copy(), dim.transform(digit_rows[1])
    assert len(train) // 70 * 5 == 70
    monkeypatch.setattr(training, "_step", spoiled)
    with pytest.raises(ValueError, match="lower 'learning_rate_init'"):
        dim.fit(train)
    assert vars(dim) == before
    np.testing.assert_array_equal(dim.transform(digit_rows[1]), codes)


def test_a_rate_that_is_far_too_high_is_an_error(digit_rows):
    dim = quick(learning_rate_init=1e30, weight_decay=0.0, max_iter=9)
    with pytest.raises(ValueError, match="lower 'learning_rate_init'"):
        dim.fit(digit_rows[0])
    assert not hasattr(dim, "information_")


def test_views_that_turn_bad_are_blamed_not_the_learning_rate(digit_rows):
    calls = itertools.count()

    def view(inputs, generator):
        return inputs * (float("nan") if next(calls) > 20 else 0.5)

    with pytest.raises(ValueError, match="'views' callable must return finite"):
        quick(views=view, batch_size=32).fit(digit_rows[0])


@pytest.mark.parametrize("is_warm", [False, True])
def test_information_of_held_out_rows_that_is_no_number_is_an_error(
    digit_rows, monkeypatch, is_warm
):
    dim = quick(early_stopping=True, warm_start=is_warm).fit(digit_rows[0])
    before, codes = vars(dim).copy(), dim.transform(digit_rows[1])
    calls, measure = itertools.count(), training.mean_information

    def spoiled(*args):
        return float("nan") if next(calls) == 1 else measure(*args)

    monkeypatch.setattr(training, "mean_information", spoiled)
    with pytest.raises(ValueError, match="lower 'learning_rate_init'"):
        dim.fit(digit_rows[0])
    assert vars(dim) == before
    np.testing.assert_array_equal(dim.transform(digit_rows[1]), codes)


def test_a_decay_of_more_than_all_is_refused(digit_rows):
    with pytest.raises(ValueError, match=r"at most 1\. Got 0\.5 times 3"):
        quick(learning_rate_init=0.5, weight_decay=3).fit(digit_rows[0])


# Interrupts


def interrupt(monkeypatch, module, name, call):
    """Send Ctrl-C at call number ``call`` of ``module.name``, counted from 0."""
    calls, function = itertools.count(), getattr(module, name)

    def interrupted(*args, **kwargs):
        if next(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return function(*args, **kwargs)

    monkeypatch.setattr(module, name, interrupted)


def test_an_interrupt_before_anything_is_learned_leaves_what_was(
    digit_rows, monkeypatch
):
    dim = quick().fit(digit_rows[0])
    codes = dim.transform(digit_rows[1])
    interrupt(monkeypatch, training, "objective", 0)
    with pytest.raises(KeyboardInterrupt):
        dim.fit(digit_rows[0][:200])
    np.testing.assert_array_equal(dim.transform(digit_rows[1]), codes)


@pytest.mark.parametrize("name", ["calibrate", "mean_information"])
def test_an_interrupt_at_the_end_keeps_all_that_was_learned(
    digit_rows, monkeypatch, name
):
    expected = quick().fit(digit_rows[0]).transform(digit_rows[1])
    interrupt(monkeypatch, training, name, 0)
    with pytest.warns(ConvergenceWarning, match="interrupted after 3 of 3"):
        dim = quick().fit(digit_rows[0])
    np.testing.assert_array_equal(dim.transform(digit_rows[1]), expected)


def test_an_interrupted_fit_returns_to_the_best_epoch(digit_rows, monkeypatch):
    settings = {"early_stopping": True, "batch_size": 64, "learning_rate_init": 0.1}
    quick(**settings, max_iter=8).fit(digit_rows[0])
    interrupt(monkeypatch, training, "run_epoch", 7)
    dim = quick(**settings, max_iter=30)
    best = []
    look = _BestEpoch.look

    def note(self):
        value = look(self)
        best.append(self._state["network.encoder.code.weight"].numpy().copy())
        return value

    monkeypatch.setattr(_BestEpoch, "look", note)
    with pytest.warns(ConvergenceWarning, match="interrupted after 7 of 30"):
        dim.fit(digit_rows[0])
    np.testing.assert_array_equal(
        dim._state["weights"]["network.encoder.code.weight"], best[-1]
    )


@pytest.mark.parametrize("name", ["calibrate", "mean_information"])
def test_an_interrupt_while_a_callback_looks_ends_training(
    digit_rows, monkeypatch, name
):
    pytest.importorskip("sklearn.callback")
    interrupt(monkeypatch, training, name, 0)
    dim = quick(max_iter=6).set_callbacks(Looking())
    with pytest.warns(ConvergenceWarning, match="interrupted after 1 of 6"):
        dim.fit(digit_rows[0])
    assert np.isfinite(dim.transform(digit_rows[1])).all()


class Looking:
    """A callback that asks for the fitted estimator after every epoch."""

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        pass

    def teardown(self, estimator, context):
        pass


def test_an_interrupted_average_leaves_batch_norm_as_it_was(digit_rows, monkeypatch):
    def build(input_shape, n_components):
        norm = torch.nn.BatchNorm1d(n_components, momentum=0.2)
        return torch.nn.Sequential(torch.nn.Linear(*input_shape, n_components), norm)

    interrupt(monkeypatch, calibration, "_moments", 0)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        dim = quick(encoder=build).fit(digit_rows[0])
    assert dim._state["spec"]["network"]["encoder"][1].momentum == 0.2


IMPORTING = """
import os, pickle, signal, sys
from sklearn.datasets import load_iris
from skdim import NoiseInjectedDIM
X = load_iris().data

class Presses:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

dim = NoiseInjectedDIM(2, max_iter=1)
if {saved!r}:
    dim = pickle.load(open({saved!r}, "rb"))
calls = [dim.transform, dim.fit] if {saved!r} else [dim.fit]
sys.meta_path.insert(0, Presses())
for call in calls:
    try:
        call(X)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
for call in calls:
    call(X)
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["torch.nn", "torch._dynamo"])
@pytest.mark.parametrize("is_loaded", [False, True])
def test_an_interrupt_while_torch_is_imported_breaks_nothing(
    tmp_path, module, is_loaded
):
    path = ""
    if is_loaded:
        path = str(tmp_path / "dim")
        Path(path).write_bytes(pickle.dumps(quick().fit(load_iris().data)))
    command = [sys.executable, "-c", IMPORTING.format(module=module, saved=path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.stdout.split() == ["interrupted", "done"], run.stderr


def test_an_interrupt_after_the_end_keeps_what_was_learned(digit_rows, monkeypatch):
    interrupt(monkeypatch, NoiseInjectedDIM, "_set", 0)
    dim, expected = quick(), quick()
    with pytest.raises(KeyboardInterrupt):
        dim.fit(digit_rows[0])
    codes = expected.fit(digit_rows[0]).transform(digit_rows[1])
    np.testing.assert_array_equal(dim.transform(digit_rows[1]), codes)


def test_a_handler_of_the_users_is_always_told(digit_rows, monkeypatch):
    told = []
    before = signal.signal(signal.SIGINT, lambda *_: told.append(True))
    try:
        interrupt(monkeypatch, training, "calibrate", 0)
        with pytest.warns(ConvergenceWarning, match="interrupted after 3 of 3"):
            quick().fit(digit_rows[0])
    finally:
        signal.signal(signal.SIGINT, before)
    assert told == [True]


def test_ctrl_c_is_not_lost_where_the_block_fails():
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        raise ValueError


def test_ctrl_c_is_held_back_and_then_raised():
    handler = signal.getsignal(signal.SIGINT)
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted() as presses:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append(True)
    assert done and signal.getsignal(signal.SIGINT) is handler
    assert len(presses) == 2
    with uninterrupted() as presses:
        pass
    assert not presses and signal.getsignal(signal.SIGINT) is handler


def test_a_second_press_may_act_at_once():
    with pytest.raises(KeyboardInterrupt), uninterrupted(at_most_once=True):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second was held back too")


def test_a_second_interrupt_breaks_the_calibration_off(digit_rows, monkeypatch):
    dim = quick().fit(digit_rows[0])
    codes = dim.transform(digit_rows[1])

    def pressed_twice(*args):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training, "calibrate", pressed_twice)
    with pytest.raises(KeyboardInterrupt):
        dim.fit(digit_rows[0][:200])
    np.testing.assert_array_equal(dim.transform(digit_rows[1]), codes)


def test_several_presses_are_told_to_a_handler_of_the_users_once():
    told = []
    before = signal.signal(signal.SIGINT, lambda *_: told.append(True))
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            assert not told
    finally:
        signal.signal(signal.SIGINT, before)
    assert told == [True]


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_another_module_of_the_same_class_is_refused(digit_rows, method):
    def module(width):
        return torch.nn.Sequential(
            torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 2)
        )

    dim = quick(encoder=module(8), warm_start=True).fit(digit_rows[0])
    codes = dim.transform(digit_rows[1])
    with pytest.raises(ValueError, match=r"out_features=50.* instead of"):
        getattr(dim.set_params(encoder=module(50)), method)(digit_rows[0])
    np.testing.assert_array_equal(dim.transform(digit_rows[1]), codes)

from dataclasses import replace

import numpy as np
import pytest
import torch

from skdim._core import training
from skdim._core.batches import BatchSource, Data
from skdim._core.calibration import calibrate
from skdim._core.config import ModelSpec, NetworkSpec, PairSpec, TrainingConfig
from skdim._core.critics import CRITICS
from skdim._core.encoders import ENCODERS
from skdim._core.model import Model
from skdim._core.runtime import seeded_generator
from skdim._core.training import Optimizers, TrainingResult, _BestEpoch, train


def jitter(inputs, generator):
    return inputs + 0.1 * torch.randn(inputs.shape, generator=generator)


def config(encoder="mlp", critic="channel", augmentations=(), **changes):
    values = {
        "model": ModelSpec(
            NetworkSpec(encoder, (8,), (1, 4, 4), 2),
            PairSpec(augmentations),
            noise_scale=0.5,
            critic=critic,
        ),
        "batch_size": 32,
        "max_iter": 2,
        "learning_rate": 1e-2,
        "weight_decay": 0.0,
        "patience": None,
        "seed": 0,
        "device": torch.device("cpu"),
    }
    return TrainingConfig(**(values | changes))


def some_rows(n=100, shape=(1, 4, 4)):
    return np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32)


def source_of(model, config, rows):
    scale, pairs = model.network.input, config.model.pairs
    return BatchSource(Data(rows), scale, pairs, config.seed, config.device)


@pytest.mark.parametrize("views", [(), (jitter,)])
@pytest.mark.parametrize("critic", ["channel", *CRITICS])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_parameter_moves(encoder, critic, views):
    conf = config(encoder, critic, views)
    model = Model(conf.model, seeded_generator(conf.seed))
    start = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    end = train(conf, Data(some_rows())).weights
    for name, value in start.items():
        assert (end[name] != value).any(), name


def test_information_rises():
    rows = np.exp(some_rows(320))  # normal rows would leave nothing to learn
    curve = train(config(max_iter=30), Data(rows)).information_curve
    assert len(curve) == 30
    assert curve[-1] > curve[0] + 0.05


def test_calibration_leaves_no_trace_of_the_running_averages():
    # The moments of the training codes are exact, whatever the running averages were.
    conf = config("conv")
    rows = some_rows(500)
    model = Model(conf.model, seeded_generator(0))
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.fill_(100.0)
    calibrate(model, conf, source_of(model, conf, rows), seeded_generator(1))
    with torch.no_grad():
        codes = model.network(torch.from_numpy(rows)).numpy()
    assert abs(codes.mean(0)).max() < 1e-3
    assert codes.std(0) == pytest.approx(1, abs=0.05)
    assert abs(np.corrcoef(codes.T)[0, 1]) < 0.1
    assert not any(layer.training for layer in model.modules())


def test_rows_in_order_of_class_do_not_spoil_the_batch_statistics():
    # Two clusters far apart, one after the other: statistics of ordered batches would
    # miss the variance between them.
    rows = some_rows(4000, (1, 28, 28))
    rows[2000:] += 5
    network = NetworkSpec("conv", (8,), (1, 28, 28), 2)
    conf = config(model=ModelSpec(network, noise_scale=0.5, critic="channel"))
    model = Model(conf.model, seeded_generator(0))
    model.network.input.to_dtype(torch.float32)
    calibrate(model, conf, source_of(model, conf, rows), seeded_generator(1))
    first = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    with torch.no_grad():
        conv = model.network.encoder.features[0]
        outputs = conv(model.network.input(torch.from_numpy(rows)))
    true = outputs.var((0, 2, 3))
    torch.testing.assert_close(first.running_var, true, rtol=0.02, atol=1e-4)


def best_epoch(monkeypatch, values, patience=2, max_iter=2):
    """Return a model and its ``_BestEpoch``, whose looks find these values in turn."""
    conf, rows = config(patience=patience, max_iter=max_iter), some_rows()
    model, found = Model(conf.model, seeded_generator(0)), iter(values)
    monkeypatch.setattr(training, "mean_information", lambda *args: next(found))
    monkeypatch.setattr(training, "_MOST_DRAWS", 1)
    return model, _BestEpoch(model, conf, Data(rows), source_of(model, conf, rows))


def test_the_best_epoch_comes_back(monkeypatch):
    values = [1.0, 3.0, 2.0]
    model, best = best_epoch(monkeypatch, values)
    weight = model.network.encoder.code.weight
    for value in values:
        weight.data.fill_(value)
        assert best.look() == [value]
    best.restore()
    assert (weight == 3.0).all()


def test_a_last_epoch_that_is_hardly_worse_is_kept(monkeypatch):
    model, best = best_epoch(monkeypatch, [1.0, 0.9])
    weight = model.network.encoder.code.weight
    for value in (1.0, 0.9):
        weight.data.fill_(value)
        best.look()
    best.restore(margin=0.2)
    assert (weight == weight.new_tensor(0.9)).all()
    best.restore(margin=0.05)
    assert (weight == 1.0).all()


def test_epochs_without_a_rise_are_stale(monkeypatch):
    # A value that is only as high as the best one is no rise.
    values = [1.0, 0.5, 2.0, 2.0, 1.0, 3.0]
    _, best = best_epoch(monkeypatch, values)
    is_stale = []
    for _ in values:
        best.look()
        is_stale.append(best.is_stale)
    assert is_stale == [False, False, False, False, True, False]


def test_patience_is_counted_while_the_learning_rate_is_low(monkeypatch):
    _, best = best_epoch(monkeypatch, [1.0] * 8, max_iter=8)
    is_stale = []
    for _ in range(8):
        best.look()
        is_stale.append(best.is_stale)
    assert is_stale == [False] * 5 + [True] * 3


def test_a_look_at_held_out_rows_leaves_training_as_it_was():
    rows, conf = some_rows(200), config(max_iter=4)
    with_rows = train(replace(conf, patience=10), Data(rows[:100]), Data(rows[100:]))
    without = train(conf, Data(rows[:100]))
    assert with_rows.information_curve == without.information_curve
    assert with_rows.match_curve == without.match_curve


def test_without_held_out_rows_no_epoch_is_best():
    conf = config()
    model = Model(conf.model, seeded_generator(0)).train()
    weight = model.network.encoder.code.weight
    best = _BestEpoch(model, conf, None, source_of(model, conf, some_rows()))
    assert best.look() == [] and not best.is_stale and model.training
    weight.data.fill_(1.0)
    best.restore()
    assert (weight == 1.0).all()


def test_information_of_held_out_rows_that_is_no_number_is_an_error(monkeypatch):
    _, best = best_epoch(monkeypatch, [1.0, float("nan")])
    best.look()
    with pytest.raises(ValueError, match="lower 'learning_rate_init'"):
        best.look()


def test_the_best_epoch_is_what_is_left(monkeypatch):
    seen, look, name = [], _BestEpoch.look, "network.encoder.code.weight"

    def note(self):
        value = look(self)
        seen.append((value[0], self._model.state_dict()[name].numpy().copy()))
        return value

    monkeypatch.setattr(_BestEpoch, "look", note)
    monkeypatch.setattr(training, "_CLEARLY_BETTER", 0.0)
    rows = some_rows(200)
    conf = config(max_iter=300, learning_rate=0.1, patience=3)
    weights = train(conf, Data(rows[:100]), Data(rows[100:])).weights[name]
    best = int(np.argmax([value for value, _ in seen]))
    assert best < len(seen) - 1 and (seen[-1][1] != seen[best][1]).any()
    np.testing.assert_array_equal(weights, seen[best][1])


def test_validation_is_on_the_rows_given_for_it():
    rows = some_rows(300)
    one, two = (
        train(config(patience=10), Data(rows[:100]), Data(rows[held_out]))
        for held_out in (slice(100, 200), slice(200, 300))
    )
    assert one.information_curve == two.information_curve
    assert one.validation_curve != two.validation_curve


def test_validation_stops_training(monkeypatch):
    rates, step = [], Optimizers.step_schedule

    def note(self):
        rates.append(self.encoder.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(Optimizers, "step_schedule", note)
    rows = some_rows(200)
    conf = config(max_iter=200, learning_rate=0.1, patience=3)
    result = train(conf, Data(rows[:100]), Data(rows[100:]))
    # Patience runs out in the second half; the rest takes half of its epochs.
    n_epochs = len(result.validation_curve)
    assert len(result.information_curve) == n_epochs == len(rates) // 3
    assert 150 < n_epochs < 200
    # The learning rate still falls to almost 0.
    assert max(rates) == pytest.approx(0.1, rel=1e-3)
    assert rates[-1] < 1e-4 and (np.diff(rates[100:]) < 0).all()


@pytest.mark.parametrize(
    ("n_epochs", "n_left"), [(0, 0), (1, 1), (2, 1), (5, 3), (100, 50)]
)
def test_hurrying_takes_half_of_the_epochs_once(n_epochs, n_left):
    conf = config()
    model = Model(conf.model, seeded_generator(0))
    optimizers = Optimizers.of(model, conf, 700)
    assert optimizers.hurry(n_epochs) == n_left
    if n_left > 0:
        assert optimizers.speed * n_left == n_epochs
    if n_epochs > 1:
        assert optimizers.hurry(n_left) == n_left


def test_training_leaves_results_for_every_epoch():
    result = train(config(), Data(some_rows()))
    assert len(result.information_curve) == len(result.match_curve) == 2
    assert result.validation_curve == TrainingResult().validation_curve == []
    assert not result.interrupted and result.n_outputs == 2
    assert np.isfinite(result.information) and result.encoder == "mlp"

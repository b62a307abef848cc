import numpy as np
import pytest
import torch

from skdim._config import Data, FitConfig
from skdim._critics import CRITICS
from skdim._encoders import ENCODERS
from skdim._model import InfoMax, make_source
from skdim._network import NetworkSpec
from skdim._runtime import seeded_generator
from skdim._source import Source
from skdim._spec import ModelSpec, ViewSpec
from skdim._statistics import finalize
from skdim._trainer import _Monitor, train


def jitter(inputs, generator):
    return inputs + 0.1 * torch.randn(inputs.shape, generator=generator)


def config(encoder="mlp", critic="channel", views=(), **changes):
    shape = (4, 4, 1)
    network = NetworkSpec(encoder, (8,), shape, False, 2)
    model = ModelSpec(network, "normal", 0.5, critic, "infonce", ViewSpec(views))
    values = {
        "model": model,
        "batch_size": 32,
        "max_iter": 2,
        "learning_rate": 1e-2,
        "weight_decay": 0.0,
        "tol": None,
        "n_iter_no_change": 10,
        "seed": 0,
        "device": torch.device("cpu"),
    }
    return FitConfig(**(values | changes))


def some_rows(n=100, n_features=16):
    return np.random.default_rng(0).normal(size=(n, n_features)).astype(np.float32)


@pytest.mark.parametrize("views", [(), (jitter,)])
@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_parameter_moves(encoder, critic, views):
    conf = config(encoder, critic, views)
    model = InfoMax(conf.model, seeded_generator(conf.seed))
    start = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    end = train(conf, Data(some_rows())).weights
    for name, value in start.items():
        assert (end[name] != value).any(), name


def test_information_rises():
    rows = np.exp(some_rows(320))  # projections of normal rows would be best as is
    curve = train(config(max_iter=30), Data(rows)).information_curve
    assert len(curve) == 30
    assert curve[-1] > curve[0] + 0.05


def test_finalize_leaves_no_trace_of_the_running_averages():
    # The codes of the training rows are exact to rounding, whatever came before.
    conf = config("conv")
    rows = some_rows(500)
    model = InfoMax(conf.model, seeded_generator(0))
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.fill_(100.0)
    finalize(
        model, conf, Source(rows, model.network.input, conf.device), seeded_generator(1)
    )
    with torch.no_grad():
        codes = model.network(torch.from_numpy(rows)).numpy()
    assert abs(codes.mean(0)).max() < 1e-3
    assert codes.std(0) == pytest.approx(1, abs=1e-3)
    assert abs(np.corrcoef(codes.T)[0, 1]) < 0.1
    assert not any(layer.training for layer in model.modules())


def test_rows_in_order_of_class_do_not_spoil_the_batch_statistics():
    # Two clusters far apart, one after the other: statistics of ordered batches would
    # miss the variance between them.
    rows = some_rows(4000, 784)
    rows[2000:] += 5
    network = NetworkSpec("conv", (8,), (28, 28, 1), False, 2)
    conf = config(max_iter=1)
    model = InfoMax(
        ModelSpec(network, "normal", 0.5, "channel", "infonce"), seeded_generator(0)
    )
    model.network.input.float()
    finalize(
        model, conf, Source(rows, model.network.input, conf.device), seeded_generator(1)
    )
    first = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    with torch.no_grad():
        conv = model.network.encoder.features[0]
        outputs = conv(model.network.input(torch.from_numpy(rows)))
    true = outputs.var((0, 2, 3))
    torch.testing.assert_close(first.running_var, true, rtol=0.02, atol=1e-4)


def test_monitor_returns_to_the_best_epoch():
    layer, monitor = torch.nn.Linear(1, 1), _Monitor(tol=0.0, patience=10)
    for value in [1.0, 3.0, 2.0]:
        layer.weight.data.fill_(value)
        monitor.keep_if_best(value, layer)
    monitor.restore_best(layer)
    assert layer.weight.item() == 3.0


def test_the_best_epoch_is_what_is_left(monkeypatch):
    seen, keep, name = [], _Monitor.keep_if_best, "network.encoder.code.weight"

    def note(self, value, model):
        seen.append((value, model.state_dict()[name].numpy().copy()))
        keep(self, value, model)

    monkeypatch.setattr(_Monitor, "keep_if_best", note)
    rows = some_rows(200)
    conf = config(max_iter=300, learning_rate=0.1, tol=0.0, n_iter_no_change=3)
    weights = train(conf, Data(rows[:100]), Data(rows[100:])).weights[name]
    best = int(np.argmax([value for value, _ in seen]))
    assert best < len(seen) - 1 and (seen[-1][1] != seen[best][1]).any()
    np.testing.assert_array_equal(weights, seen[best][1])


def test_validation_is_on_the_rows_given_for_it():
    rows = some_rows(300)
    one, two = (
        train(config(), Data(rows[:100]), Data(rows[held_out]))
        for held_out in (slice(100, 200), slice(200, 300))
    )
    assert one.information_curve == two.information_curve
    assert one.validation_curve != two.validation_curve


def test_validation_stops_training():
    rows = some_rows(200)
    conf = config(max_iter=300, learning_rate=0.1, tol=0.0, n_iter_no_change=3)
    result = train(conf, Data(rows[:100]), Data(rows[100:]))
    curve = result.validation_curve
    assert result.stopped and len(curve) < 300
    assert np.argmax(curve) == len(curve) - 4


def test_tol_stops_training():
    result = train(
        config(max_iter=200, tol=10.0, n_iter_no_change=3), Data(some_rows())
    )
    assert result.stopped
    assert len(result.information_curve) == 4


def test_each_cell_of_a_view_of_neighbors_is_that_of_a_row():
    rows = 3 + 2 * some_rows(50, 4)
    network = NetworkSpec("mlp", (8,), (4,), False, 2)
    views = ViewSpec(("neighbors",), strength=1.0)
    spec = ModelSpec(network, "normal", 0.5, "channel", "infonce", views)
    model = InfoMax(spec, seeded_generator(0))
    model.network.input.fit(rows)
    inputs = model.network.input(torch.from_numpy(rows))
    source = make_source(model, rows, 0, torch.device("cpu"))
    view = model._side(source, np.arange(50), seeded_generator(1))
    is_of_row = (view[:, None] == inputs).any(1)
    assert is_of_row.all() and not (view == inputs).any()

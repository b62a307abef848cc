"""A loaded estimator gives the same results, or warns that it may not."""

import copy
import pickle
import pickletools
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from estimators import quick
from scipy import stats
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdim import InfoMaxOutlierDetector, NoiseInjectedDIM, Views, _sklearn

KINDS = {
    "table": {},
    "supervised": {"supervised": True},
    "uniform": {"output_distribution": "uniform"},
    "hidden": {"output_layer": "hidden"},
    "learned critic": {"critic": "concatenated", "views": ["jitter", "marginal"]},
    "early stopping": {"early_stopping": True},
    "views": {"views": Views("jitter", strength=0.1)},
}


@pytest.fixture(params=KINDS)
def fitted(request, cancer):
    y = np.arange(len(cancer[0])) % 2
    return quick(**KINDS[request.param]).fit(cancer[0], y)


def through_skops(dim, path):
    skops = pytest.importorskip("skops.io")
    skops.dump(dim, path)
    trusted = skops.get_untrusted_types(file=path)
    # The safe way: nothing but our own classes has to be trusted.
    own = {"skdim._noise_injected_dim.NoiseInjectedDIM", "skdim._views.Views"}
    assert set(trusted) <= own
    return skops.load(path, trusted=trusted)


def through_joblib(dim, path, **options):
    joblib.dump(dim, path)
    return joblib.load(path, **options)


WAYS = {
    "pickle": lambda dim, path: pickle.loads(pickle.dumps(dim)),
    "joblib": through_joblib,
    "joblib, memory-mapped": lambda dim, path: through_joblib(dim, path, mmap_mode="r"),
    "skops": through_skops,
    "deepcopy": lambda dim, path: copy.deepcopy(dim),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_round_trip_gives_identical_output(fitted, cancer, tmp_path, way):
    codes, score = fitted.transform(cancer[1]), fitted.score(cancer[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = WAYS[way](fitted, tmp_path / "dim")
    np.testing.assert_array_equal(loaded.transform(cancer[1]), codes)
    assert loaded.score(cancer[1]) == score
    one, other = (
        {name: repr(value) if name == "views" else value for name, value in params}
        for params in (dim.get_params().items() for dim in (loaded, fitted))
    )
    np.testing.assert_equal(one, other)
    public = {name for name in vars(fitted) if name.endswith("_")}
    assert {name for name in vars(loaded) if name.endswith("_")} == public


def test_images_and_pipelines_pass_through_skops(digit_images, cancer, tmp_path):
    dim = quick(hidden_layer_sizes=(4, 8)).fit(digit_images[0][:100])
    loaded = through_skops(dim, tmp_path / "images")
    np.testing.assert_array_equal(
        loaded.transform(digit_images[1]), dim.transform(digit_images[1])
    )
    pipeline = make_pipeline(StandardScaler(), quick()).fit(cancer[0])
    loaded = through_skops(pipeline, tmp_path / "pipeline")
    np.testing.assert_array_equal(
        loaded.transform(cancer[1]), pipeline.transform(cancer[1])
    )


def test_a_distribution_of_scipy_is_pickled(cancer):
    dim = quick(output_distribution=stats.expon(scale=2)).fit(cancer[0])
    loaded = pickle.loads(pickle.dumps(dim))
    np.testing.assert_array_equal(loaded.transform(cancer[1]), dim.transform(cancer[1]))


def test_a_stream_goes_on_after_skops(digit_rows, tmp_path):
    train, test = digit_rows
    one = quick().partial_fit(train[:300])
    two = through_skops(one, tmp_path / "stream")
    codes = [dim.partial_fit(train[300:600]).transform(test) for dim in (one, two)]
    np.testing.assert_array_equal(*codes)


def test_a_pickle_holds_no_path_device_or_generator(fitted):
    operations = list(pickletools.genops(pickle.dumps(fitted)))
    texts = [value for _, value, _ in operations if isinstance(value, str)]
    assert not [text for text in texts if text.startswith(("/", "\\")) or ":\\" in text]
    assert not [text for text in texts if str(Path.cwd()) in text]
    assert not [text for text in texts if "torch" in text or "Generator" in text]
    assert not [text for text in texts if "cuda" in text or text == "cpu"]


def test_loading_imports_no_torch(cancer, tmp_path):
    path = tmp_path / "dim"
    joblib.dump(quick().fit(cancer[0]), path)
    code = f"import joblib, sys; dim = joblib.load({str(path)!r}); repr(dim); "
    code += "print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr


def test_a_model_of_another_device_computes_on_the_cpu(cancer):
    dim = quick().fit(cancer[0])
    codes = dim.transform(cancer[1])
    dim.set_params(device="cuda:7")
    with pytest.warns(UserWarning, match="'cuda:7' cannot be used here"):
        np.testing.assert_array_equal(dim.transform(cancer[1]), codes)
    with pytest.raises(ValueError, match="'device' parameter"):
        dim.fit(cancer[0])


def test_another_version_warns(cancer, monkeypatch):
    dim = quick().fit(cancer[0])
    saved = pickle.dumps(dim)
    monkeypatch.setattr(_sklearn, "__version__", "9.9.9")
    with pytest.warns(InconsistentVersionWarning, match=r"skdim 0.*skdim 9\.9\.9"):
        loaded = pickle.loads(saved)
    np.testing.assert_array_equal(loaded.transform(cancer[1]), dim.transform(cancer[1]))


def test_another_version_of_a_detector_warns(cancer, monkeypatch):
    detector = InfoMaxOutlierDetector(quick(), random_state=0).fit(cancer[0])
    saved = pickle.dumps(detector)
    monkeypatch.setattr(_sklearn, "__version__", "9.9.9")
    name = "InfoMaxOutlierDetector from version skdim 0"
    with pytest.warns(InconsistentVersionWarning, match=name):
        pickle.loads(saved)
    with pytest.raises(ValueError, match="no InfoMaxOutlierDetector that skdim saved"):
        detector.__setstate__({"contamination": 0.1})


def test_skops_needs_to_trust_our_own_classes_for_a_detector(cancer):
    skops = pytest.importorskip("skops.io")
    detector = InfoMaxOutlierDetector(quick(), random_state=0).fit(cancer[0])
    data = skops.dumps(detector)
    trusted = skops.get_untrusted_types(data=data)
    assert trusted and all(name.startswith("skdim.") for name in trusted)
    loaded = skops.loads(data, trusted=trusted)
    np.testing.assert_array_equal(
        loaded.p_values(cancer[1]), detector.p_values(cancer[1])
    )


@pytest.mark.parametrize("state", [{"n_components": 3}, {}, None, [1], {"_state": {}}])
def test_a_foreign_state_is_refused(state):
    with pytest.raises(ValueError, match="holds no NoiseInjectedDIM that skdim saved"):
        NoiseInjectedDIM().__setstate__(state)


def test_an_unfitted_estimator_is_pickled():
    loaded = pickle.loads(pickle.dumps(quick(n_components=5)))
    assert loaded.n_components == 5


def test_own_encoder_is_pickled_once_trained(cancer):
    module = torch.nn.Sequential(torch.nn.Linear(30, 4), torch.nn.ReLU())
    module.append(torch.nn.Linear(4, 2))
    dim = quick(encoder=module).fit(cancer[0])
    loaded = pickle.loads(pickle.dumps(dim))
    np.testing.assert_array_equal(loaded.transform(cancer[1]), dim.transform(cancer[1]))

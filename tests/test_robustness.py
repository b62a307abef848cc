"""Unusual surroundings: forked processes, settings of torch, and encoders of users."""

import functools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from estimators import CLASSES, quick
from scipy import stats
from sklearn.datasets import load_breast_cancer

from skdim import InfoMaxOutlierDetector, NoiseInjectedDIM, metrics
from skdim._core.runtime import sandbox

LIMIT = 60  # seconds; only guards against hangs
ROWS = load_breast_cancer().data[:200, :6]
LABELS = (ROWS[:, 0] > np.median(ROWS[:, 0])).astype(int)


# Forks

FORKS = """
import os, signal, time, torch
torch.set_num_threads(2)
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
child = os.fork()
if child == 0:
    try:
        import numpy as np
        from skdim import NoiseInjectedDIM
        X = np.random.default_rng(0).normal(size=(600, 784))
        NoiseInjectedDIM(2, hidden_layer_sizes=(512,), max_iter=1).fit(X)
        os._exit(0)
    finally:
        os._exit(1)
stop = time.monotonic() + {limit}
while True:
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        print(os.waitstatus_to_exitcode(status))
        break
    if time.monotonic() > stop:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print("hangs")
        break
    time.sleep(0.05)
"""


# Servers such as gunicorn fork workers that import skdim only after the fork.
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_plain_fork_that_imports_skdim_first_does_not_hang():
    # Without limits of the user, so that torch starts threads, which a fork loses.
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    run = subprocess.run(
        [sys.executable, "-c", FORKS.format(limit=LIMIT / 3)],
        env=env | {"OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert run.stdout.strip() == "0", run.stdout + run.stderr


# Default device


class Plain(torch.nn.Module):
    """An encoder whose layers are created on the default device of torch."""

    def __init__(self, input_shape, n_components):
        super().__init__()
        self.layer = torch.nn.Linear(*input_shape, n_components)

    def forward(self, x):
        return self.layer(x)


@functools.cache
def fitted(cls):
    return quick(cls).fit(ROWS)


@functools.cache
def fitted_detector():
    return InfoMaxOutlierDetector(quick(), random_state=0).fit(ROWS)


def streamed(cls):
    dim = quick(cls)
    for _ in range(3):
        dim.partial_fit(ROWS)
    return dim.transform(ROWS)


USES = {}
for cls in CLASSES.values():
    USES |= {
        f"{cls.__name__}-fit": lambda cls=cls: quick(cls).fit_transform(ROWS),
        f"{cls.__name__}-partial_fit": lambda cls=cls: streamed(cls),
        f"{cls.__name__}-transform": lambda cls=cls: fitted(cls).transform(ROWS),
        f"{cls.__name__}-score": lambda cls=cls: fitted(cls).score(ROWS),
        f"{cls.__name__}-score_samples": lambda cls=cls: fitted(cls).score_samples(
            ROWS
        ),
    }
USES |= {
    "own-encoder-fit": lambda: quick(encoder=Plain).fit_transform(ROWS),
    "detector-fit": lambda: (
        InfoMaxOutlierDetector(quick(), random_state=0).fit(ROWS).offset_
    ),
    "detector-p_values": lambda: fitted_detector().p_values(ROWS),
    "neural_dependency_measure": lambda: metrics.neural_dependency_measure(
        ROWS[:, :2], n_steps=50
    ),
    "neural_mutual_information": lambda: metrics.neural_mutual_information(
        ROWS[:, :2], ROWS[:, 1:3], n_steps=50
    ),
}
del cls


# Users who build a large model have often set a default device for it.
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_the_default_device_of_the_caller_makes_no_difference(use):
    expected = use()  # also fills caches, outside of the context
    assert np.isfinite(expected).all()
    with torch.device("meta"):
        in_context = use()
    torch.set_default_device("meta")
    try:
        by_default = use()
    finally:
        torch.set_default_device(None)
    np.testing.assert_array_equal(in_context, expected)
    np.testing.assert_array_equal(by_default, expected)


# Precision of matrix products

PRODUCTS = torch.backends.mkldnn.matmul  # settings for the CPU


class Watching(Plain):
    """An encoder that records the precision of matrix products while it runs."""

    seen = ()

    def forward(self, x):
        type(self).seen += (PRODUCTS.fp32_precision,)
        return super().forward(x)


def lower_everywhere():
    torch.set_float32_matmul_precision("medium")


def lower_on_cpu():
    """Lower the precision in the newer way; the older getter may then raise."""
    PRODUCTS.fp32_precision = "bf16"


@pytest.fixture(params=[lower_everywhere, lower_on_cpu])
def lower(request):
    """Return a function that lowers the precision, as users often do for training."""
    yield request.param
    torch.set_float32_matmul_precision("highest")


# The same seed must give the same codes, whatever the user's program has set before.
@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform", "score"])
def test_products_are_computed_in_full_precision(lower, method):
    dim = quick(encoder=Watching).fit(ROWS)
    Watching.seen = ()
    lower()
    getattr(dim, method)(ROWS)
    assert set(Watching.seen) == {"ieee"}
    assert PRODUCTS.fp32_precision == "bf16"  # the setting of the caller is restored


# On processors without products in bfloat16 this passes in any case.
def test_the_precision_of_the_caller_makes_no_difference(lower):
    expected = quick(hidden_layer_sizes=(64,)).fit_transform(ROWS)
    lower()
    codes = quick(hidden_layer_sizes=(64,)).fit_transform(ROWS)
    np.testing.assert_array_equal(codes, expected)


# Encoders of users


class Double(torch.nn.Module):
    """An encoder that computes in double precision inside."""

    def __init__(self, input_shape=(6,), n_components=2):
        super().__init__()
        self.layer = torch.nn.Linear(*input_shape, n_components, dtype=torch.float64)

    def forward(self, x):
        return self.layer(x.double())


def double_module():
    torch.manual_seed(0)
    return Double()


# A fit may take hours, so the fitted estimator must be usable.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("encoder", [Double, double_module()], ids=["class", "module"])
@pytest.mark.parametrize("cls", CLASSES.values())
def test_an_encoder_in_double_precision_serves_after_fit_as_in_it(cls, encoder, dtype):
    X = ROWS.astype(dtype)
    dim = quick(cls, encoder=encoder).fit(X)
    codes = dim.transform(X)
    assert codes.dtype == dtype
    assert dim.score(X) == pytest.approx(dim.information_, abs=1e-4)
    assert np.isfinite(dim.score_samples(X)).all()
    if cls is NoiseInjectedDIM:  # fit gives its codes these moments
        np.testing.assert_allclose(codes.mean(0), 0, atol=0.1)
        np.testing.assert_allclose(codes.std(0), 1, atol=0.2)
    again = dim.partial_fit(X).transform(X)
    assert again.shape == codes.shape
    assert np.isfinite(again).all()


class Returning(torch.nn.Module):
    """An encoder that returns its output changed by the given function."""

    def __init__(self, wrap):
        super().__init__()
        self.layer, self.wrap = torch.nn.Linear(6, 2), wrap

    def forward(self, x):
        return self.wrap(self.layer(x))


WRAPS = {
    "tuple": lambda y: (y, y),
    "dict": lambda y: {"codes": y},
    "NoneType": lambda y: None,
    "ndarray": lambda y: y.detach().numpy(),
}


# Variational encoders return mean and variance, encoders from model hubs a dict.
@pytest.mark.parametrize("kind", WRAPS)
@pytest.mark.parametrize("cls", CLASSES.values())
def test_an_encoder_that_returns_no_tensor_is_named_with_what_it_returned(cls, kind):
    dim = quick(cls, encoder=Returning(WRAPS[kind]))
    with pytest.raises(ValueError, match="encoder") as caught:
        dim.fit(ROWS)
    assert kind in str(caught.value)
    assert "tensor" in str(caught.value)


class WithoutArguments(torch.nn.Module):
    """An encoder with fixed sizes, as in most notebooks."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(6, 2)

    def forward(self, x):
        return self.layer(x)


UNFIT = {
    "Linear": torch.nn.Linear,
    "Sequential": torch.nn.Sequential,
    "WithoutArguments": WithoutArguments,
    "lambda": lambda input_shape: WithoutArguments(),
}


# A class instead of an instance is a common mistake; torch's message does not help.
@pytest.mark.parametrize("name", UNFIT)
def test_an_encoder_that_cannot_be_called_is_told_how_it_is_called(name):
    with pytest.raises(ValueError, match=r"encoder\(input_shape, n_components\)") as e:
        quick(encoder=UNFIT[name]).fit(ROWS)
    assert e.value.__cause__ is not None  # the message of the callable itself
    if isinstance(UNFIT[name], type):
        assert f"class {name}" in str(e.value)


# Messages


# Following the advice must help, so it may not be to lower the weight decay.
def test_a_learning_rate_that_is_far_out_is_the_one_to_lower():
    with pytest.raises(ValueError, match="lower 'learning_rate_init'"):
        quick(learning_rate_init=50).fit(ROWS)


# Output distribution


# With pairs of one class, as with views, uniform codes are the normal ones, squashed.
def test_pairs_of_a_class_make_uniform_codes_as_views_make_them():
    params = {"supervised": True, "views": None}
    normal, uniform = (
        quick(output_distribution=name, **params).fit(ROWS, LABELS)
        for name in ("normal", "uniform")
    )
    assert uniform.noise_scale_ == normal.noise_scale_
    assert uniform.capacity_ == normal.capacity_
    np.testing.assert_allclose(
        uniform.transform(ROWS), stats.norm.cdf(normal.transform(ROWS)), atol=1e-6
    )


# Several threads share the precision of products, and none may end it for the others.
def test_precision_holds_until_the_last_thread_leaves():
    torch.set_float32_matmul_precision("medium")
    inside, may_leave, seen = threading.Event(), threading.Event(), []

    def first():
        with sandbox(gradients=False):
            inside.set()
            may_leave.wait(LIMIT)

    thread = threading.Thread(target=first)
    try:
        thread.start()
        inside.wait(LIMIT)
        with sandbox(gradients=False):
            may_leave.set()
            thread.join(LIMIT)
            seen.append(PRODUCTS.fp32_precision)
        assert seen == ["ieee"] and PRODUCTS.fp32_precision == "bf16"
    finally:
        torch.set_float32_matmul_precision("highest")


# Who sets the precision of everything at once must be able to change it again.
def test_an_inherited_precision_is_still_inherited_after_a_fit():
    run = subprocess.run(
        [sys.executable, "-c", INHERITED], capture_output=True, text=True, timeout=LIMIT
    )
    assert run.stdout.split() == ["bf16", "ieee"], run.stderr


INHERITED = """
import numpy as np, torch
from skdim import NoiseInjectedDIM
torch.backends.fp32_precision = "bf16"
X = np.random.default_rng(0).normal(size=(50, 3))
NoiseInjectedDIM(2, max_iter=1).fit(X)
print(torch.backends.mkldnn.matmul.fp32_precision)
torch.backends.fp32_precision = "ieee"
print(torch.backends.mkldnn.matmul.fp32_precision)
"""


# A library may set this for its own sake.
def test_the_default_type_of_the_caller_makes_no_difference_to_own_encoders():
    def build(input_shape, n_components):
        layer = torch.nn.Linear(*input_shape, n_components)
        weights = np.random.default_rng(0).normal(size=layer.weight.shape)
        layer.weight.data.copy_(torch.from_numpy(weights))
        layer.bias.data.zero_()
        return layer

    expected = quick(encoder=build).fit_transform(ROWS)
    torch.set_default_dtype(torch.float64)
    try:
        codes = quick(encoder=build).fit_transform(ROWS)
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(codes, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (lambda rows: rows, r"is called as views\(inputs, generator\)"),
        (lambda rows, generator: rows * np.nan, "Got NaN or infinity in 2 of 2 rows"),
    ],
)
def test_views_that_cannot_be_used_say_why(views, message):
    with pytest.raises(ValueError, match=message):
        quick(views=views).fit(ROWS)


@pytest.mark.parametrize("X", [{1: 2}, {1, 2}, object(), "text", None])
def test_what_is_no_array_is_named_as_input(X):
    with pytest.raises((TypeError, ValueError), match=r"Input X contains|Expected 2D"):
        quick().fit(X)


def test_images_of_five_dimensions_are_told_what_is_taken():
    with pytest.raises(ValueError, match=r"images of 4\. Got 5 dimensions"):
        quick().fit(np.zeros((4, 2, 2, 2, 1)))

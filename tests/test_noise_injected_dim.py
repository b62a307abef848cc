import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from estimators import quick
from scipy import sparse, stats
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdim import NoiseInjectedDIM, Views
from skdim._core import losses
from skdim._core.channels import CHANNELS
from skdim._validation import check_labels
from skdim.metrics import norm_spread, sample_floor, sliced_wasserstein_distance


class TinyNet(torch.nn.Module):
    def __init__(self, input_shape, n_components):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.LazyLinear(8),
            torch.nn.Dropout(0.1),
            torch.nn.ReLU(),
            torch.nn.Linear(8, n_components),
        )
        self.layers(torch.zeros(1, *input_shape))

    def forward(self, x):
        return self.layers(x)


def add_noise(inputs, generator):
    return inputs + 0.5 * torch.randn(inputs.shape, generator=generator)


def halve_after(n_calls, error, once=False):
    """Return an augmentation that raises ``error`` from call ``n_calls`` on.

    Calls are counted from 0.  With ``once`` only that call raises the error.
    """
    calls = itertools.count()

    def view(inputs, generator):
        call = next(calls)
        if call == n_calls or (call > n_calls and not once):
            raise error
        return 0.5 * inputs

    return view


# The promise: held-out codes follow the distribution


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_held_out_codes_follow_the_distribution(digit_rows, distribution):
    # Against 3.0: whitened PCA, which matches mean and covariance, has 3.3 times the
    # floor here for the normal distribution.
    train, test = digit_rows
    dim = NoiseInjectedDIM(2, output_distribution=distribution, random_state=0)
    codes = dim.fit(train).transform(test)
    floor = sample_floor(sliced_wasserstein_distance, *codes.shape, distribution)
    assert sliced_wasserstein_distance(codes, distribution) < 2 * floor
    if distribution == "uniform":
        assert codes.min() >= 0 and codes.max() <= 1


def test_codes_of_the_training_rows_are_standardised_and_uncorrelated(cancer):
    train, _ = cancer
    for views in (None, "auto"):
        codes = NoiseInjectedDIM(4, views=views, random_state=0).fit_transform(train)
        assert abs(codes.mean(0)).max() < 0.02
        assert codes.std(0) == pytest.approx(1, abs=0.03)
        assert abs(np.corrcoef(codes.T) - np.eye(4)).max() < 0.1


def test_components_are_ordered_by_what_they_explain_and_say_of_which_columns(cancer):
    train, _ = cancer
    train = np.column_stack([train, np.full(len(train), 3.0)])  # explains nothing
    dim = NoiseInjectedDIM(4, random_state=0).fit(train)
    codes = dim.transform(train)
    columns = train[:, :-1]
    expected = np.corrcoef(codes.T, columns.T)[:4, 4:]
    assert dim.loadings_.shape == (4, 31)
    np.testing.assert_allclose(dim.loadings_[:, :-1], expected, atol=2e-3)
    assert (dim.loadings_[:, -1] == 0).all()
    assert (dim.loadings_.max(1) == abs(dim.loadings_).max(1)).all()
    explained = dim.explained_variance_ratio_
    assert (np.diff(explained) < 0).all() and 0.4 < explained.sum() < 1
    np.testing.assert_allclose(explained, (expected**2).mean(1), atol=2e-3)


def test_components_are_in_order_for_few_values_too():
    groups = np.random.default_rng(0).integers(6, size=400)
    rows = np.eye(6)[groups]
    for seed in range(3):
        dim = NoiseInjectedDIM(3, max_iter=5, hidden_layer_sizes=(32,))
        dim.set_params(random_state=seed).fit(rows)
        assert (np.diff(dim.explained_variance_ratio_) <= 0).all()


def test_what_is_said_of_components_is_a_copy(cancer):
    dim = NoiseInjectedDIM(2, max_iter=1, random_state=0).fit(cancer[0])
    dim.loadings_[:] = 7
    assert abs(dim.loadings_).max() <= 1


def test_loadings_are_those_of_codes_before_their_distribution(cancer):
    one, two = (
        NoiseInjectedDIM(3, output_distribution=law, random_state=0).fit(cancer[0])
        for law in ("normal", "uniform")
    )
    np.testing.assert_array_equal(one.loadings_, two.loadings_)


def test_images_and_layers_below_the_code_have_no_loadings(digit_images, digit_rows):
    images = quick(max_iter=1).fit(digit_images[0])
    assert images.explained_variance_ratio_.shape == (2,)
    assert not hasattr(images, "loadings_")
    hidden = quick(max_iter=1, output_layer="hidden").fit(digit_rows[0])
    assert not hasattr(hidden, "loadings_")
    assert not hasattr(hidden, "explained_variance_ratio_")


def test_a_stream_keeps_the_meaning_of_its_components(digit_rows):
    train, _ = digit_rows
    dim = quick(n_components=4)
    for _ in range(3):
        dim.partial_fit(train)
    before = dim.loadings_
    dim.partial_fit(train)
    for one, two in zip(before, dim.loadings_, strict=True):
        assert np.corrcoef(one, two)[0, 1] > 0.9


def test_a_closer_map_is_closer_and_keeps_the_information(digit_rows):
    train, test = digit_rows

    def fit(final_map):
        dim = NoiseInjectedDIM(4, views=None, final_map=final_map, random_state=0)
        dim.fit(train)
        return sliced_wasserstein_distance(dim.transform(test)), dim.score(test)

    linear, gentle, close = map(fit, ("linear", "gentle", "close"))
    assert close[0] < gentle[0] < linear[0]
    assert linear[1] == gentle[1] == close[1]


def test_information_approaches_the_capacity(digit_rows):
    train, test = digit_rows
    dim = NoiseInjectedDIM(2, noise_scale=0.1, views=None, random_state=0).fit(train)
    assert 0.8 * dim.capacity_ < dim.information_ < dim.capacity_ + 0.05
    assert 0.8 * dim.capacity_ < dim.score(test) < dim.capacity_ + 0.05
    assert dim.information_curve_[-1] > dim.information_curve_[0]


def test_channel_critic_beats_the_separable_one(digit_rows):
    train, test = digit_rows
    settings = {"noise_scale": 1.0, "max_iter": 30, "views": None, "random_state": 0}
    channel, separable = (
        NoiseInjectedDIM(8, critic=critic, **settings).fit(train)
        for critic in ("channel", "separable")
    )
    assert channel.score(test) > separable.score(test) + 0.05
    near, far = (
        sliced_wasserstein_distance(dim.transform(test)) for dim in (channel, separable)
    )
    assert near < far


def test_score_cannot_exceed_the_log_of_the_batch(cancer):
    train, test = cancer
    dim = quick(noise_scale=0.001, batch_size=16, max_iter=30).fit(train)
    assert dim.score(test) <= np.log(16)
    assert dim.score(test[:4]) <= np.log(4)


def test_views_make_the_codes_forget_what_they_change(digit_rows):
    train, test = digit_rows
    rng = np.random.default_rng(0)

    def drift(dim):
        codes, noisy = (
            dim.transform(test),
            dim.transform(test + rng.normal(0, 3, test.shape)),
        )
        return np.mean((codes - noisy) ** 2)

    plain = NoiseInjectedDIM(4, views=None, random_state=0).fit(train)
    robust = NoiseInjectedDIM(4, views=add_noise, random_state=0).fit(train)
    assert drift(robust) < 0.7 * drift(plain)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_a_view_that_shrinks_cannot_lift_the_power_limit(digit_rows, distribution):
    # Codes and views together would have variance 1, and codes alone more.
    dim = NoiseInjectedDIM(
        8,
        output_distribution=distribution,
        noise_scale=1.0,
        views=Views(lambda inputs, generator: 0.5 * inputs, sides="one"),
        random_state=0,
        max_iter=60,
    ).fit(digit_rows[0])
    assert np.mean(dim.information_curve_[-10:]) < dim.capacity_ + 0.05


def test_learned_critic_is_judged_on_the_codes_it_knows(digit_rows):
    dim = NoiseInjectedDIM(8, critic="separable", views=None, random_state=0)
    dim.fit(digit_rows[0])
    curve = dim.information_curve_
    assert dim.information_ == pytest.approx(np.mean(curve[-10:]), abs=0.25)


# Common uses of a scikit-learn estimator


def test_fitted_attributes(cancer):
    train, _ = cancer
    frame = pd.DataFrame(train).add_prefix("x")
    dim = quick().fit(frame)
    assert dim.n_features_in_ == 30
    assert list(dim.feature_names_in_[:2]) == ["x0", "x1"]
    assert dim.n_iter_ == len(dim.information_curve_) == 3
    assert dim.batch_size_ == 256
    assert list(dim.get_feature_names_out()) == [
        "noiseinjecteddim0",
        "noiseinjecteddim1",
    ]
    out = dim.set_output(transform="pandas").transform(frame)
    assert list(out.columns) == list(dim.get_feature_names_out())


def test_auto_noise_depends_on_batch_and_width():
    X = np.random.default_rng(0).normal(size=(600, 3))
    scales = {
        (d, b): quick(n_components=d, batch_size=b, max_iter=1).fit(X).noise_scale_
        for d in (2, 16)
        for b in (64, 512)
    }
    assert scales[2, 512] < scales[2, 64]
    assert scales[2, 64] < scales[16, 64]


@pytest.mark.parametrize(
    ("params", "share"),
    [({"views": None}, 0.5), ({}, 1.0), ({"supervised": True}, 1.0)],
)
def test_auto_noise_carries_half_as_much_without_views(cancer, params, share):
    y = np.arange(len(cancer[0])) % 2
    dim = quick(batch_size=100, max_iter=1, **params).fit(cancer[0], y)
    assert dim.capacity_ == pytest.approx(share * np.log(100))


def test_pipeline_and_grid_search_without_labels(digit_rows):
    train, _ = digit_rows
    pipe = make_pipeline(StandardScaler(), quick(max_iter=10))
    grid = {"noiseinjecteddim__noise_scale": [0.3, 3.0]}
    search = GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(train)
    # Less noise lets more through; all else is equal.
    assert search.best_params_ == {"noiseinjecteddim__noise_scale": 0.3}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_before_a_classifier_and_an_outlier_detector(digit_rows):
    X, y = load_digits(return_X_y=True)
    make_pipeline(quick(), IsolationForest(n_estimators=5)).fit(X).predict(X)
    classify = make_pipeline(
        NoiseInjectedDIM(16, random_state=0), LogisticRegression(max_iter=1000)
    )
    assert classify.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]) > 0.6


def test_images_in_every_form_give_the_same_codes(digit_images):
    images, _ = digit_images
    codes = quick(max_iter=1).fit_transform(images)
    first = quick(max_iter=1).fit_transform(images.transpose(0, 3, 1, 2))
    rows = images.reshape(len(images), -1)
    flat = quick(max_iter=1, image_shape=(8, 8)).fit_transform(rows)
    as_float = quick(max_iter=1).fit_transform(images.astype(np.float32))
    for other in (first, flat, as_float):
        np.testing.assert_allclose(other, codes, atol=1e-4)


def test_convolutional_encoder_is_the_default_for_images(digit_images):
    images, test = digit_images
    dim = NoiseInjectedDIM(4, random_state=0, max_iter=4).fit(images)
    assert any(weight.ndim == 4 for weight in dim._state["weights"].values())
    assert dim.transform(test).dtype == np.float32
    search = GridSearchCV(quick(), {"n_components": [1, 2]}, cv=2)
    assert search.fit(images[:200]).transform(test).shape[1] in (1, 2)


@pytest.mark.parametrize("make", [lambda: TinyNet((64,), 2), lambda: TinyNet])
def test_own_encoder(digit_rows, make):
    train, test = digit_rows
    dim = quick(encoder=make())
    before = torch.random.get_rng_state()
    codes = dim.fit(train).transform(test)
    np.testing.assert_array_equal(codes, dim.fit(train).transform(test))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert codes.shape == (len(test), 2)


class DrawsWhenEvaluated(torch.nn.Linear):
    def forward(self, x):
        assert x.dtype == torch.float32
        return super().forward(x + 0.1 * torch.randn(x.shape))


def test_own_encoder_that_draws_is_repeatable_and_sees_single_precision(digit_rows):
    train, test = digit_rows
    dim = quick(encoder=DrawsWhenEvaluated(64, 2))
    before = torch.random.get_rng_state()
    dim.fit(train)
    np.testing.assert_array_equal(dim.transform(test), dim.transform(test))
    assert dim.score(test) == dim.score(test)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_own_module_is_copied_not_trained(digit_rows):
    module = TinyNet((64,), 2)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    quick(encoder=module).fit(digit_rows[0])
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_early_stopping_records_validation(cancer):
    train, _ = cancer
    dim = quick(early_stopping=True, max_iter=300, n_iter_no_change=2)
    dim.fit(train)
    assert len(dim.validation_information_curve_) == dim.n_iter_ < 300
    dim.set_params(early_stopping=False, max_iter=2).fit(train)
    assert not hasattr(dim, "validation_information_curve_")


@pytest.mark.parametrize("seed", [0, 1])
def test_early_stopping_costs_no_more_information_than_its_rows(digit_rows, seed):
    # 0.1 nats pay for the rows that are held out, and for luck: seeds differ by 0.1.
    train, test = digit_rows
    dim = NoiseInjectedDIM(4, random_state=seed)
    plain = dim.fit(train).score(test)
    assert dim.set_params(early_stopping=True).fit(train).score(test) > plain - 0.1


def test_held_out_information_is_that_of_new_rows(digit_rows):
    # Views of few held-out rows must not be farther from them than those of new rows.
    train, test = digit_rows
    dim = NoiseInjectedDIM(early_stopping=True, max_iter=40, random_state=0).fit(train)
    assert abs(max(dim.validation_information_curve_) - dim.score(test)) < 0.4


# Small and awkward data


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize(
    ("shape", "d"), [((2, 1), 1), ((2, 3), 8), ((7, 1), 5), ((33, 4), 2)]
)
def test_small_data(shape, d, distribution):
    X = np.random.default_rng(0).normal(size=shape)
    dim = quick(n_components=d, output_distribution=distribution, max_iter=5)
    codes = dim.set_params(batch_size=32).fit_transform(X)
    assert codes.shape == (shape[0], d)
    assert np.isfinite(codes).all() and np.isfinite(dim.score(X))
    assert dim.transform(X[:1]).shape == (1, d)


@pytest.mark.parametrize("encoder", ["conv", "mlp"])
@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (5, 2, 3, 1), (3, 3, 9, 9)])
def test_small_images(shape, encoder):
    images = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    assert np.isfinite(quick(encoder=encoder).fit_transform(images)).all()


def test_constant_columns_and_wild_scales_do_no_harm(cancer):
    train, test = cancer
    rng = np.random.default_rng(0)
    factor = 10.0 ** rng.integers(-250, 250, 30)
    wild = [
        np.column_stack([part * factor, np.full(len(part), 1e6)]) for part in cancer
    ]
    codes = quick().fit(train).transform(test)
    # Columns are scaled first, so units do not matter.  The constant column only
    # changes the draw of the initial weights, which have one column more.
    other = quick().fit(wild[0]).transform(wild[1])
    assert np.isfinite(other).all()
    assert other.std(0) == pytest.approx(codes.std(0), abs=0.3)
    wild[1][:, -1] = -5.0
    np.testing.assert_array_equal(quick().fit(wild[0]).transform(wild[1]), other)


def test_constant_data_gives_constant_codes():
    codes = quick().fit_transform(np.ones((40, 3)))
    assert (codes == 0).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda X: np.asfortranarray(X),
        lambda X: X[::-1][::-1],
        lambda X: X.astype(">f8"),
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    ],
)
def test_memory_layout_does_not_matter(cancer, change):
    train, _ = cancer
    expected = quick().fit_transform(train)
    changed = change(train)
    changed.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(quick().fit_transform(changed), expected)


# Bad input


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.array([[1.0, np.nan], [0, 1]]), ValueError, "contains NaN"),
        (np.array([[1.0, np.inf], [0, 1]]), ValueError, "infinity"),
        (np.array([["a", "b"], ["c", "d"]]), ValueError, "could not convert|numeric"),
        (sparse.eye(4).tocsr(), TypeError, "[Ss]parse"),
        (np.ones((4, 2), complex), ValueError, "Complex data"),
        (np.empty((0, 3)), ValueError, "0 sample"),
        (np.empty((3, 0)), ValueError, "0 feature"),
        (np.ones((1, 3)), ValueError, "minimum of 2"),
        (np.ones(5), ValueError, "1D array"),
        (np.ones((4, 5, 6)), ValueError, r"X\[..., None\]"),
        (np.full((4, 8, 8, 1), np.nan), ValueError, "contains NaN"),
    ],
)
def test_bad_data(X, error, message):
    with pytest.raises(error, match=message):
        quick().fit(X)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_components": 0}, "'n_components' parameter"),
        ({"noise_scale": 0}, "'noise_scale' parameter"),
        ({"output_distribution": "cauchy"}, "'output_distribution' parameter"),
        ({"encoder": "resnet"}, "'encoder' parameter"),
        ({"encoder": "conv"}, "needs images"),
        ({"hidden_layer_sizes": (8, 0)}, "integers above 0"),
        ({"hidden_layer_sizes": (8, 2.5)}, "integers above 0"),
        ({"hidden_layer_sizes": (True,)}, "integers above 0"),
        ({"hidden_layer_sizes": [[8], [4, 4]]}, "integers above 0"),
        ({"noise_scale": 1e200}, "'noise_scale' parameter"),
        ({"image_shape": (8, 9)}, "asks for 72 values"),
        ({"image_shape": (8,)}, "'image_shape' parameter"),
        ({"image_shape": (8, "8")}, "'image_shape' parameter"),
        ({"image_shape": (-8, -8)}, "'image_shape' parameter"),
        ({"image_shape": (True, 64)}, "'image_shape' parameter"),
        ({"image_shape": np.array(8)}, "'image_shape' parameter"),
        ({"device": "abacus"}, "'device' parameter"),
        ({"encoder": torch.nn.Linear(64, 5)}, r"tensor of shape \(2, 2\)"),
        ({"encoder": torch.nn.Linear(63, 2)}, "encoder failed"),
        ({"encoder": lambda shape, d: 3}, "must return a torch.nn.Module"),
        ({"encoder": torch.nn.Linear(64, 2).requires_grad_(False)}, "can be trained"),
        ({"views": lambda x, g: x[:, :3]}, r"tensor of shape \(2, 64\)"),
        ({"views": lambda x, g: x / 0}, "finite numbers"),
    ],
)
def test_bad_parameters_are_named_and_leave_a_fitted_estimator(
    digit_rows, params, message
):
    train, test = digit_rows
    dim = quick().fit(train)
    codes, score = dim.transform(test), dim.score(test)
    with pytest.raises(ValueError, match=message):
        dim.set_params(**params).fit(np.round(train, 1)[:, ::-1])
    dim.set_params(device="auto")  # the one parameter that transform reads too
    np.testing.assert_array_equal(dim.transform(test), codes)
    assert dim.score(test) == score


def test_failed_fit_of_other_data_leaves_a_fitted_estimator(cancer, digit_rows):
    dim = quick().fit(digit_rows[0])
    codes = dim.transform(digit_rows[1])
    with pytest.raises(ValueError, match="needs images"):
        dim.set_params(encoder="conv").fit(cancer[0])
    assert dim.n_features_in_ == 64
    np.testing.assert_array_equal(dim.transform(digit_rows[1]), codes)


def test_error_during_training_leaves_a_fitted_estimator(digit_rows):
    train, test = digit_rows
    dim = quick().fit(train)
    codes = dim.transform(test)
    with pytest.raises(ZeroDivisionError):
        dim.set_params(views=halve_after(5, ZeroDivisionError())).fit(train)
    np.testing.assert_array_equal(dim.transform(test), codes)


def test_divergence_is_an_error_and_leaves_a_fitted_estimator(digit_rows):
    train, test = digit_rows
    dim = quick().fit(train)
    codes = dim.transform(test)
    for views in ("auto", None):  # without and with whitening
        with pytest.raises(ValueError, match="Training diverged"):
            dim.set_params(learning_rate_init=1e30, weight_decay=0, views=views).fit(
                train
            )
    np.testing.assert_array_equal(dim.transform(test), codes)


def test_transform_checks_width_and_image_shape(digit_rows, digit_images):
    rows, images = digit_rows[0], digit_images[0]
    with pytest.raises(ValueError, match=r"63 features.*64 features"):
        quick().fit(rows).transform(rows[:, 1:])
    with pytest.raises(ValueError, match=r"\(7, 8, 1\).*fitted on \(8, 8, 1\)"):
        quick().fit(images).transform(images[:, 1:])
    with pytest.raises(ValueError, match=r"\(8, 8, 1\).*rows of shape \(64,\)"):
        quick().fit(rows).transform(images)
    with pytest.raises(ValueError, match="must be two or three integers"):
        quick(image_shape=(8, "8")).fit(images)
    with pytest.raises(ValueError, match=r"\(8, 8, 1\).*\(4, 16, 1\)"):
        quick(image_shape=(4, 16)).fit(images)
    with pytest.raises(NotFittedError):
        quick().transform(rows)


def test_early_stopping_needs_rows():
    with pytest.raises(ValueError, match="at least 2 rows to train on"):
        quick(early_stopping=True).fit(np.ones((3, 2)))


# Warnings


def test_saturated_bound_warns_and_says_what_to_change(cancer):
    dim = quick(noise_scale=0.01, batch_size=8, max_iter=20, views=None)
    with pytest.warns(ConvergenceWarning, match="raise 'noise_scale' or 'batch_size'"):
        dim.fit(cancer[0])


def test_a_saturated_bound_does_not_matter_where_slices_hold_the_codes(cancer):
    dim = quick(noise_scale=0.01, batch_size=8, max_iter=20, views=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dim.set_params(sliced_weight=1.0).fit(cancer[0])


@pytest.mark.parametrize("params", [{}, {"early_stopping": True}])
def test_defaults_do_not_warn(cancer, params):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NoiseInjectedDIM(random_state=0, **params).fit(cancer[0])


def test_an_estimate_above_the_capacity_warns(cancer):
    dim = quick(n_components=4, objective="dv", noise_scale=0.01, views=None)
    dim.set_params(hidden_layer_sizes=(256,), max_iter=20)
    with pytest.warns(ConvergenceWarning, match="is above the capacity"):
        dim.fit(cancer[0])


def test_box_noise_warns_when_the_batch_cannot_measure_its_channel(cancer):
    box = {"output_distribution": "uniform", "views": None}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(max_iter=20, **box).fit(cancer[0])
        quick(n_components=16, **box).fit(cancer[0])  # under normal noise
    box["noise_distribution"] = "uniform"
    with pytest.warns(ConvergenceWarning, match="lower 'n_components'"):
        quick(n_components=16, **box).fit(cancer[0])


def test_interrupted_fit_warns_and_is_usable(digit_rows):
    train, test = digit_rows
    interrupted_once = halve_after(10, KeyboardInterrupt(), once=True)
    dim = quick(views=Views(interrupted_once, sides="one"), max_iter=50)
    with pytest.warns(ConvergenceWarning, match="interrupted after 2 of 50"):
        dim.fit(train)
    assert dim.n_iter_ == 2
    codes = dim.transform(train)
    assert codes.std(0) == pytest.approx(1, abs=0.03)
    assert np.isfinite(dim.score(test))


# Reproducible, and nobody else's business


def test_same_seed_same_bits_other_seed_other_codes(cancer):
    one, two, three = (
        quick(random_state=seed).fit_transform(cancer[0]) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, two)
    assert abs(one - three).max() > 0.1


def test_torch_settings_of_the_caller_do_not_reach_inside(cancer):
    expected = quick().fit_transform(cancer[0])
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.device("meta"):
            codes = quick().fit_transform(cancer[0])
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize(
    ("data", "views", "most"),
    [
        ("digit_rows", None, 0.03),
        ("digit_rows", "auto", 0.08),  # only the noisy code is whitened
        ("digit_images", "auto", 0.03),
    ],
)
def test_transform_is_the_map_that_was_fitted(request, data, views, most):
    # The codes of the training rows are as uncorrelated as calibration leaves them.
    rows, _ = request.getfixturevalue(data)
    codes = quick(n_components=4, views=views, max_iter=20).fit_transform(rows)
    assert abs(np.corrcoef(codes.T) - np.eye(4)).max() < most


def test_parameters_changed_after_fit_do_not_change_the_fitted_model(cancer):
    dim = quick().fit(cancer[0])
    codes, score = dim.transform(cancer[1]), dim.score(cancer[1])
    dim.set_params(output_distribution="uniform", n_components=5, noise_scale=9.0)
    np.testing.assert_array_equal(dim.transform(cancer[1]), codes)
    assert dim.score(cancer[1]) == score


# The complete method


@pytest.mark.parametrize("noise", ["normal", "uniform"])
@pytest.mark.parametrize("distribution", ["normal", "uniform", stats.expon(scale=2)])
def test_any_distribution_is_reached_from_any_noise(digit_rows, distribution, noise):
    train, test = digit_rows
    dim = NoiseInjectedDIM(2, noise_distribution=noise, views=None, random_state=0)
    dim.set_params(output_distribution=distribution)
    codes = dim.fit(train).transform(test)
    known = {"normal": stats.norm(), "uniform": stats.uniform()}
    frozen = known.get(str(distribution), distribution)
    assert codes.dtype == test.dtype
    distance = stats.kstest(codes.ravel(), frozen.cdf).statistic
    assert distance < 0.06  # 1,438 values of the target: 99 % are below 0.043


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_noise_is_normal_whatever_the_output_distribution(digit_rows):
    def capacity(d, **params):
        dim = quick(n_components=d, output_distribution="uniform", views=None, **params)
        return dim.fit(digit_rows[0]).capacity_

    assert capacity(2) == pytest.approx(0.5 * np.log(256))
    assert capacity(16) == pytest.approx(0.5 * np.log(256))
    assert capacity(2, noise_distribution="uniform") == pytest.approx(np.log(256))
    assert capacity(16, noise_distribution="uniform") > 2 * np.log(256)


@pytest.mark.parametrize("critic", ["channel", "separable", "bilinear", "concatenated"])
@pytest.mark.parametrize("objective", ["infonce", "dv", "nwj", "jsd", "smile"])
def test_objective_and_critic_are_two_words(digit_rows, objective, critic):
    params = {"objective": objective, "critic": critic, "learning_rate_init": 1e-2}
    dim = quick(max_iter=8, batch_size=64, noise_scale=0.5, **params)
    dim.fit(digit_rows[0])
    assert 0 < dim.score(digit_rows[1]) < dim.capacity_ + 0.3


def test_agreement_alone_keeps_what_views_share(digit_rows):
    train, test = digit_rows
    dim = quick(agreement_weight=1.0, noise_scale=0.5, max_iter=30).fit(train)
    assert 0.3 * dim.capacity_ < dim.score(test) < dim.capacity_


def test_agreement_mixes_with_the_objective(digit_rows):
    train, test = digit_rows
    mixed, alone, without = (
        quick(agreement_weight=weight).fit(train).transform(test)
        for weight in (0.5, 1.0, 0.0)
    )
    for one, other in itertools.combinations([mixed, alone, without], 2):
        assert abs(one - other).max() > 0.01


def test_agreement_alone_leaves_nothing_of_the_objective(digit_rows):
    train, test = digit_rows
    one, other = (
        quick(agreement_weight=1.0, objective=objective).fit(train).transform(test)
        for objective in ("infonce", "nwj")
    )
    np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"objective": "agreement"}, "'objective' parameter"),
        ({"agreement_weight": 0.5, "views": None}, "needs views"),
        ({"agreement_weight": 0.5, "critic": "separable"}, "critic='channel'"),
        ({"views": "crop"}, "for a table. Got 'crop'"),
        ({"views": ["jitter", 3]}, "Got 3 instead"),
        ({"views": Views(["jitter", "marginal"], strength=1.5)}, "share for 'marg"),
        ({"output_distribution": stats.poisson(3)}, "continuous distribution"),
        ({"output_layer": "hidden", "encoder": TinyNet}, "of three parts"),
    ],
)
def test_bad_combinations_say_what_to_do(digit_rows, params, message):
    with pytest.raises(ValueError, match=message):
        quick(**params).fit(digit_rows[0])


def test_views_of_tables_are_refused_for_images(digit_images):
    with pytest.raises(ValueError, match=r"for images\. Got 'neighbors'"):
        quick(views="neighbors").fit(digit_images[0])


@pytest.mark.parametrize("sides", ["both", "one"])
@pytest.mark.parametrize("steps", ["jitter", "marginal", ["neighbors", add_noise]])
def test_views_of_tables(digit_rows, steps, sides):
    views = Views(steps, sides=sides, n_views=2, strength=0.2)
    one, two = (quick(views=views).fit(digit_rows[0]) for _ in range(2))
    codes = one.transform(digit_rows[1])
    np.testing.assert_array_equal(codes, two.transform(digit_rows[1]))
    assert np.isfinite(codes).all()


@pytest.mark.parametrize("channels_first", [False, True])
def test_views_of_color_images(channels_first):
    images = np.random.default_rng(0).integers(0, 255, (60, 9, 8, 3), dtype=np.uint8)
    images = images.transpose(0, 3, 1, 2) if channels_first else images
    views = ["crop", "shift", "affine", "flip", "color", "blur", "erase"]
    for given in ("auto", views):
        codes = quick(views=given, max_iter=1).fit_transform(images)
        assert codes.shape == (60, 2) and np.isfinite(codes).all()


@pytest.mark.parametrize(("sides", "ratio"), [("both", 4 / 2), ("one", 3 / 1)])
def test_sides_and_number_of_views_are_what_was_asked_for(digit_rows, sides, ratio):
    def n_calls(n_views):
        calls = itertools.count()

        def view(inputs, generator):
            next(calls)
            return inputs + 0

        views = Views(view, sides=sides, n_views=n_views)
        quick(views=views).fit(digit_rows[0])
        return next(calls) - 1  # one is a trial on two rows

    assert n_calls(3) / n_calls(1) == ratio


def test_number_of_neighbours_is_what_was_asked_for(digit_rows):
    one, five = (
        quick(views=Views(n_neighbors=n)).fit_transform(digit_rows[0]) for n in (1, 5)
    )
    assert abs(one - five).max() > 1e-3


def test_views_are_what_grid_search_tunes(digit_rows):
    dim = quick(max_iter=1, views=Views("jitter"))
    nested = {
        "views__augmentations": ["jitter", "neighbors"],
        "views__strength": [0.2, 0.5],
    }
    whole = {"views": ["jitter", None, Views("marginal", n_views=2)]}
    for grid in (nested, whole):
        search = GridSearchCV(dim, grid, cv=2, error_score="raise").fit(digit_rows[0])
        scores = search.cv_results_["mean_test_score"]
        assert np.isfinite(scores).all() and len(set(scores)) == len(scores)


SHORT_FORMS = ["auto", None, "jitter", add_noise, ["jitter", "marginal"]]
SHORT_NAMES = ["auto", "none", "name", "function", "list"]


@pytest.mark.parametrize("short", SHORT_FORMS, ids=SHORT_NAMES)
def test_short_forms_are_views_of_them(digit_rows, short):
    one, other = (
        quick(views=views).fit(digit_rows[0]) for views in (short, Views(short))
    )
    test = digit_rows[1]
    np.testing.assert_array_equal(one.transform(test), other.transform(test))
    assert one.score(test) == other.score(test)


def test_views_are_cloned_with_the_estimator(digit_rows):
    dim = quick(views=Views(["jitter", add_noise], strength=0.1, n_neighbors=2))
    copied = clone(dim).set_params(views__strength=0.9, views__sides="one")
    assert copied.views is not dim.views
    assert dim.views.get_params() == {
        "augmentations": ["jitter", add_noise],
        "strength": 0.1,
        "sides": "both",
        "n_views": 1,
        "n_neighbors": 2,
    }
    codes = dim.fit_transform(digit_rows[0])
    assert abs(copied.fit_transform(digit_rows[0]) - codes).max() > 1e-3
    assert dim.views.get_params() == clone(dim.views).get_params()
    np.testing.assert_array_equal(clone(dim).fit_transform(digit_rows[0]), codes)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (Views("crop"), "'views' parameter must hold .* for a table. Got 'crop'"),
        (Views(["jitter", 3]), "'views' parameter must hold .* Got 3"),
        (Views("none such"), "'augmentations' parameter of Views"),
        (Views(3), "'augmentations' parameter of Views"),
        (Views(strength=-1), "'strength' parameter of Views"),
        (Views(strength="strong"), "'strength' parameter of Views"),
        (Views(strength=np.nan), "'strength' parameter of Views"),
        (Views(strength=1.5), "'strength' of Views is a share for 'neighbors'"),
        (Views(sides="left"), "'sides' parameter of Views"),
        (Views(n_views=0), "'n_views' parameter of Views"),
        (Views(n_views=1.5), "'n_views' parameter of Views"),
        (Views(n_neighbors=0), "'n_neighbors' parameter of Views"),
        ("none such", "'views' parameter of NoiseInjectedDIM"),
        (3, "'views' parameter of NoiseInjectedDIM"),
        (Views, "'views' parameter"),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_bad_views_are_named(digit_rows, views, message, method):
    dim = quick(views=views)
    with pytest.raises(ValueError, match=message):
        getattr(dim, method)(digit_rows[0])
    assert not hasattr(dim, "n_features_in_")


def test_another_kind_of_views_is_named_in_a_stream(digit_rows):
    dim = quick(views=Views("jitter")).partial_fit(digit_rows[0])
    with pytest.raises(ValueError, match=r"ask for another: views\."):
        dim.set_params(views__strength=0.9).partial_fit(digit_rows[0])


def test_default_views_help_classifiers(digits_by_class):
    X_train, X_test, y_train, y_test = digits_by_class

    def accuracy(**params):
        dim = NoiseInjectedDIM(16, random_state=0, **params).fit(X_train)
        nearest = KNeighborsClassifier().fit(dim.transform(X_train), y_train)
        return nearest.score(dim.transform(X_test), y_test)

    assert accuracy() > accuracy(views=None) + 0.02


@pytest.mark.parametrize("noise", ["normal", "uniform"])
def test_sliced_weight_brings_the_slices_closer(digit_images, noise):
    def gap(weight):
        dim = quick(n_components=8, max_iter=10, sliced_weight=weight)
        dim.set_params(noise_distribution=noise, agreement_weight=0.0)
        return dim.fit(digit_images[0]).match_curve_[-1]

    assert gap(100.0) < 0.7 * gap(0.0)


def test_noise_of_images_is_drawn_several_times(digit_images, digit_rows, monkeypatch):
    drawn = []
    noise = CHANNELS["normal"].noise
    monkeypatch.setattr(
        CHANNELS["normal"],
        "noise",
        lambda *args: drawn.append(0) or noise(*args),
    )
    n_steps, n_evaluated = 2 * 4, 5  # batches of 256 of 1,078 rows
    quick(max_iter=2).fit(digit_images[0])
    assert len(drawn) == 4 * n_steps + n_evaluated
    drawn.clear()
    quick(max_iter=2).fit(digit_rows[0])
    assert len(drawn) == n_steps + n_evaluated


def test_sliced_weight_brings_the_norms_closer(digit_images, monkeypatch):
    # Slices of many components are nearly normal whatever their norms are.
    train, test = digit_images

    def off(share):
        monkeypatch.setattr(losses, "RADIAL_SHARE", share)
        dim = quick(
            n_components=32, max_iter=20, sliced_weight=50.0, final_map="linear"
        )
        return abs(norm_spread(dim.fit(train).transform(test)) - 1)

    assert off(losses.RADIAL_SHARE) < 0.8 * off(0.0)


@pytest.mark.parametrize(
    ("params", "agreement", "sliced"),
    [
        ({"n_components": 4}, 0.95, 6),
        ({"n_components": 16}, 0.95, 6),
        ({"n_components": 32}, 0.5, 6),
        ({"n_components": 64, "batch_size": 16}, 0.25, 3),
        ({"n_components": 16, "views": None}, 0, 6),
        ({"n_components": 16, "critic": "separable"}, 0, 6),
        ({"sliced_weight": 3, "agreement_weight": 0.1}, 0.1, 3),
    ],
)
def test_weights_for_images_follow_the_number_of_components(
    digit_images, params, agreement, sliced
):
    params = {"batch_size": 32} | params
    dim = quick(max_iter=1, **params).fit(digit_images[0][:50])
    assert dim.agreement_weight_ == pytest.approx(agreement)
    assert dim.sliced_weight_ == pytest.approx(sliced)


@pytest.mark.parametrize(
    ("n_components", "batch_size", "weight"),
    [(2, 256, 48), (16, 512, 128), (64, 256, 48), (64, 512, 256), (100, 900, 256)],
)
def test_slices_of_images_weigh_more_in_full_batches(
    digit_images, n_components, batch_size, weight
):
    dim = quick(n_components=n_components, batch_size=batch_size, max_iter=1)
    assert dim.fit(digit_images[0]).sliced_weight_ == pytest.approx(weight)


def test_hidden_layer_is_standardised(digit_rows):
    train, test = digit_rows
    dim = quick(output_layer="hidden").fit(train)
    features = dim.transform(train)
    assert features.shape == (len(train), 16) == (len(train), dim._n_features_out)
    varies = features.std(0) > 0
    assert varies.sum() > 8
    assert features[:, varies].std(0) == pytest.approx(1, abs=1e-2)
    assert len(dim.get_feature_names_out()) == 16
    assert dim.score(test) == pytest.approx(quick().fit(train).score(test))


def test_labels_make_rows_of_a_class_alike(digits_by_class):
    X_train, X_test, y_train, y_test = digits_by_class
    few = np.where(np.arange(len(y_train)) % 2 == 0, y_train, -1)

    def accuracy(y, **params):
        dim = NoiseInjectedDIM(16, random_state=0, max_iter=40, **params)
        codes = dim.fit(X_train, y).transform(X_train)
        classifier = GaussianNB().fit(codes, y_train)
        return classifier.score(dim.transform(X_test), y_test)

    without = accuracy(y_train)
    assert accuracy(y_train, supervised=True) > without + 0.02
    assert accuracy(few, supervised=True) > without


def test_labels_are_ignored_unless_asked_for(digits_by_class):
    X_train, X_test, y_train, _ = digits_by_class
    with_labels = quick().fit(X_train, y_train).transform(X_test)
    np.testing.assert_array_equal(with_labels, quick().fit(X_train).transform(X_test))


def test_rows_without_a_class_are_marked_by_the_number(digits_by_class):
    X, _, y, _ = digits_by_class
    few = np.where(np.arange(len(y)) % 2 == 0, y, -1)
    text = np.array([f"class {c}" for c in range(10)], dtype=object)[y]
    text[few == -1] = -1
    as_numbers, as_text, as_objects, as_a_class = (
        quick(supervised=True, max_iter=2).fit(X, labels).transform(X)
        for labels in (few, text, few.astype(object), np.where(few < 0, 10, few))
    )
    np.testing.assert_array_equal(as_text, as_numbers)
    np.testing.assert_array_equal(as_objects, as_numbers)
    assert abs(as_a_class - as_numbers).max() > 1e-3
    none = quick(supervised=True, max_iter=1).fit(X, np.full(len(X), -1))
    assert np.isfinite(none.transform(X)).all()


def test_labels_of_any_kind_and_images(digit_images, digits_by_class):
    y = digits_by_class[2][:1000]
    images = digit_images[0][:1000]
    names = np.array([f"digit {label}" for label in y])
    codes = [
        quick(supervised=True, max_iter=1).fit(images, labels).transform(images)
        for labels in (y, names)
    ]
    np.testing.assert_array_equal(*codes)


def test_a_number_and_its_text_are_two_classes(digit_rows):
    rows = digit_rows[0]
    y = np.array([1, "1", -1], dtype=object)[np.arange(len(rows)) % 3]
    labels = check_labels(quick(), y, rows)
    assert labels.tolist() == [0, 1, -1] * (len(rows) // 3) + [0, 1][: len(rows) % 3]


def test_a_view_that_changes_shape_in_training_is_named(digit_rows):
    def views(inputs, generator):
        return inputs if len(inputs) == 2 else inputs[:, 1:]

    with pytest.raises(ValueError, match="'views' callable must return a tensor"):
        quick(views=views).fit(digit_rows[0])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed"),
        ([0, 1], "inconsistent numbers"),
        (np.linspace(0, 1, 1078), "Unknown label type"),
        (np.array(["a", -1])[np.arange(1078) % 2], "by the number -1"),
    ],
)
def test_bad_labels_are_refused(digit_rows, y, message):
    with pytest.raises(ValueError, match=message):
        quick(supervised=True).fit(digit_rows[0], y)


def test_score_uses_labels_as_fit_did(digits_by_class):
    X_train, X_test, y_train, y_test = digits_by_class
    dim = NoiseInjectedDIM(4, supervised=True, max_iter=40, random_state=0)
    dim.fit(X_train, y_train)
    assert dim.score(X_test, y_test) != dim.score(X_test)
    plain = quick().fit(X_train)
    assert plain.score(X_test, y_test) == plain.score(X_test)

"""DeepInfoMax as its users see it, and what it shares with NoiseInjectedDIM."""

import re

import numpy as np
import pytest
import torch
from estimators import quick

from skdim import DeepInfoMax, NoiseInjectedDIM, Views
from skdim.metrics import (
    capacity_share_score,
    match_score,
    sample_floor,
    sliced_wasserstein_distance,
)


def deep(**params):
    return quick(DeepInfoMax, **params)


SMALL_CONV = {"hidden_layer_sizes": (8, 16)}


# The prior


@pytest.mark.slow
@pytest.mark.parametrize(("prior", "most"), [("normal", 2.0), ("uniform", 3.0)])
def test_the_discriminator_holds_unseen_codes_to_the_prior(digit_rows, prior, most):
    train, test = digit_rows
    settings = {"n_components": 4, "max_iter": 40, "hidden_layer_sizes": "auto"}
    settings |= {"critic": "bilinear", "learning_rate_init": 4e-3}
    held, free = (
        deep(prior=prior, prior_weight=weight, **settings).fit(train)
        for weight in (0.1, 0.0)
    )
    codes = trained_codes(held, test)
    floor = sample_floor(sliced_wasserstein_distance, *codes.shape)
    assert sliced_wasserstein_distance(codes) < most * floor
    others = sliced_wasserstein_distance(trained_codes(free, test))
    assert sliced_wasserstein_distance(codes) < others - 0.5 * floor
    assert abs(codes.mean()) < 0.2 and abs(codes.std() - 1) < 0.2
    assert -match_score(held, test) < most
    if prior == "uniform":
        codes = held.transform(test)
        assert 0 <= codes.min() and codes.max() <= 1


def trained_codes(dim, X):
    """Return codes before the final map, which brings any codes to the prior."""
    with dim._restored(True) as (model, _):
        network = model.network
        inputs = network.input(torch.tensor(X, dtype=torch.float64))
        return network.normalized(network.encode(inputs)).numpy()


def test_codes_are_not_normalised_in_training_but_at_the_end(digit_rows):
    train, test = digit_rows
    dim = deep(prior="normal", prior_weight=0, n_components=4).fit(train)
    codes = trained_codes(dim, train)
    assert (abs(codes.mean(0)) > 1e-2).any() and (abs(codes.std(0) - 1) > 1e-2).all()
    assert dim.output_distribution_ == "normal"
    assert -match_score(dim, test) < 2


# Information


@pytest.mark.parametrize("preset", DeepInfoMax.PRESETS)
@pytest.mark.parametrize("objective", ["jsd", "infonce", "dv"])
def test_presets_learn_information(digit_rows, preset, objective):
    weights = DeepInfoMax.PRESETS[preset]
    settings = {"max_iter": 20, "learning_rate_init": 6e-3, "batch_size": 128}
    dim = deep(objective=objective, **settings, **weights).fit(digit_rows[0][:512])
    assert dim.information_curve_[-1] > dim.information_curve_[0] + 0.2
    assert dim.score(digit_rows[1]) > 0.3


def test_score_is_the_mean_of_the_terms_by_their_weights(digit_rows):
    train, test = digit_rows
    both = deep(global_weight=3.0, local_weight=1.0).fit(train)
    spec = both._state["spec"]
    scores = {}
    for name in ("global", "local"):
        other = {"global": "local", "local": "global"}[name]
        spec[f"{other}_weight"], kept = 1e-12, spec[f"{other}_weight"]
        scores[name] = both.score(test)
        spec[f"{other}_weight"] = kept
    expected = 0.75 * scores["global"] + 0.25 * scores["local"]
    assert both.score(test) == pytest.approx(expected, abs=1e-4)


def test_views_and_classes_share_less_than_a_row_with_itself(digits_by_class):
    X_train, X_test, y_train, y_test = digits_by_class
    settings = {"max_iter": 15, "objective": "infonce", "n_components": 4}
    settings |= DeepInfoMax.PRESETS["global"] | {"prior_weight": 0}
    pairs = ({}, {"views": Views("jitter", strength=1.5)}, {"supervised": True})
    alone, views, classes = (
        deep(**settings, **pair).fit(X_train, y_train).score(X_test, y_test)
        for pair in pairs
    )
    assert 0.1 < views < alone - 0.2
    assert 0.3 < classes < alone - 0.1
    assert classes < np.log(10) + 0.1  # no more than which of ten classes it is


@pytest.mark.parametrize("of", [DeepInfoMax, NoiseInjectedDIM])
@pytest.mark.parametrize("critic", ["separable", "bilinear", "concatenated"])
def test_every_parameter_gets_a_gradient_and_moves(digit_images, of, critic):
    own = {"critic": critic, "weight_decay": 0, "warm_start": True, "max_iter": 1}
    if of is DeepInfoMax:
        own |= {"local_weight": 1.0, "global_weight": 1.0}
    settings = own | SMALL_CONV
    images = digit_images[0][:200]
    dim = quick(of, **settings).fit(images)
    before = dim._state["weights"]
    dim.fit(images)
    for name, value in dim._state["weights"].items():
        if name.endswith(("weight", "bias", "offset")) or ".squares" in name:
            assert (value != before[name]).any(), name
    parts = {name.split(".")[1] for name in before if name.startswith("critics.")}
    assert parts == ({"global", "local"} if of is DeepInfoMax else {"channel"})


# Outputs


@pytest.mark.parametrize("of", [DeepInfoMax, NoiseInjectedDIM])
@pytest.mark.parametrize(
    ("layer", "n_outputs"), [("hidden", 256), ("features", 16 * 4 * 4)]
)
def test_layers_below_the_code_are_standardised(digit_images, of, layer, n_outputs):
    images = digit_images[0][:300]
    dim = quick(of, output_layer=layer, **SMALL_CONV).fit(images)
    codes = dim.transform(images)
    assert codes.shape == (len(images), n_outputs)
    assert len(dim.get_feature_names_out()) == n_outputs
    varies = codes.std(0) > 0
    np.testing.assert_allclose(codes[:, varies].std(0), 1, atol=1e-3)
    np.testing.assert_allclose(codes.mean(0), 0, atol=1e-3)
    assert dim.output_distribution_ is None


def test_features_keep_their_place():
    # A bright spot moves to the right, and so does the bright place in the map.
    images = np.zeros((200, 8, 8, 1), dtype="float32")
    rng = np.random.default_rng(0)
    columns = rng.integers(8, size=200)
    images[np.arange(200), rng.integers(8, size=200), columns] = 9
    dim = deep(output_layer="features", hidden_layer_sizes=(4,), max_iter=1)
    maps = dim.fit_transform(images).reshape(200, 4, 8, 8)
    place = np.square(maps).mean((1, 2)).argmax(1)
    assert (abs(place - columns) <= 1).mean() > 0.95


# Streams and stopping


def test_a_stream_of_small_parts_reaches_the_prior(digit_rows):
    train, test = digit_rows
    dim = deep(prior="normal", n_components=4, hidden_layer_sizes="auto")
    dim.set_params(critic="bilinear", learning_rate_init=4e-3)
    rng = np.random.default_rng(0)
    for _ in range(80):  # one step each
        dim.partial_fit(train[rng.permutation(len(train))[:256]])
    assert -match_score(dim, test) < 3
    assert dim.information_curve_[-1] > dim.information_curve_[0] + 0.5


def test_early_stopping_watches_held_out_information(digit_rows):
    dim = deep(early_stopping=True, max_iter=40, learning_rate_init=0.02)
    dim.set_params(batch_size=128).fit(digit_rows[0][:400])
    assert len(dim.validation_information_curve_) == dim.n_iter_ <= 40
    assert max(dim.validation_information_curve_) > 0.5


def test_parts_are_refused_by_the_names_of_parameters(digit_rows):
    dim = deep().partial_fit(digit_rows[0])
    with pytest.raises(ValueError, match=r"ask for another: critic, prior\."):
        dim.set_params(prior="normal", critic="bilinear").partial_fit(digit_rows[0])


# Own encoders, and what is refused


def own_encoder(input_shape, n_components):
    n_inputs = int(np.prod(input_shape))
    layer = torch.nn.Linear(n_inputs, n_components)
    return torch.nn.Sequential(torch.nn.Flatten(), layer)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (deep(local_weight=0), "Got global_weight=0 and local_weight=0"),
        (deep(output_layer="features"), "needs encoder='conv'"),
        (
            quick(encoder=own_encoder, output_layer="hidden"),
            "needs an encoder of three parts .* Got a module of type Sequential",
        ),
        (deep(objective="agreement"), "'objective' parameter"),
        (deep(critic="channel"), "'critic' parameter"),
        (deep(prior="cauchy"), "'prior' parameter"),
    ],
)
def test_what_makes_no_sense_is_named(digit_rows, estimator, message):
    with pytest.raises(ValueError, match=message):
        estimator.fit(digit_rows[0])
    assert not hasattr(estimator, "n_features_in_")


@pytest.mark.parametrize("of", [DeepInfoMax, NoiseInjectedDIM])
def test_errors_list_choices_in_order(of, digit_rows):
    for name in ("objective", "critic", "output_layer", "views"):
        with pytest.raises(ValueError, match=f"'{name}' parameter") as caught:
            of(**{name: "none such"}).fit(digit_rows[0])
        listed = re.search("among {(.*?)}", str(caught.value))[1].split(", ")
        assert listed == sorted(listed) and len(listed) > 2


@pytest.mark.parametrize("preset", DeepInfoMax.PRESETS)
def test_own_encoders_of_tables_have_both_terms(digit_rows, preset):
    weights = DeepInfoMax.PRESETS[preset]
    settings = {"max_iter": 20, "learning_rate_init": 6e-3, "batch_size": 128}
    dim = deep(encoder=own_encoder, **settings, **weights).fit(digit_rows[0][:512])
    assert dim.information_curve_[-1] > dim.information_curve_[0] + 0.2


class Parts(torch.nn.Module):
    """An encoder with the same named parts as the built-in encoders."""

    def __init__(self, input_shape, n_components):
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(input_shape[0], 6, 4, stride=2, padding=1), torch.nn.ReLU()
        )
        self.hidden = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.LazyLinear(10), torch.nn.ReLU()
        )
        self.code = torch.nn.Linear(10, n_components)
        self.forward(torch.zeros(2, *input_shape))  # settles the lazy layer

    def forward(self, inputs):
        return self.code(self.hidden(self.features(inputs)))


@pytest.mark.parametrize("of", [DeepInfoMax, NoiseInjectedDIM])
@pytest.mark.parametrize(
    ("layer", "n_outputs"), [("code", 2), ("hidden", 10), ("features", 6 * 4 * 4)]
)
def test_own_encoders_of_named_parts_have_layers_and_positions(
    digit_images, of, layer, n_outputs
):
    dim = quick(of, output_layer=layer, encoder=Parts).fit(digit_images[0][:300])
    assert dim.transform(digit_images[1]).shape == (len(digit_images[1]), n_outputs)
    if of is DeepInfoMax:
        name = "critics.local.critic.embed_u.direct.weight"
        assert dim._state["weights"][name].shape[1] == 6
    assert np.isfinite(dim.score(digit_images[1]))


def test_positions_of_images_need_a_map(digit_images):
    for encoder, name in ((own_encoder, "a module of type Seq"), ("mlp", "'mlp'")):
        message = f"features keep their positions, .* Got {name}"
        with pytest.raises(ValueError, match=message):
            deep(encoder=encoder).fit(digit_images[0])
    weights = DeepInfoMax.PRESETS["global"]
    assert deep(encoder="mlp", **weights).fit(digit_images[0]).score(digit_images[1])


def test_there_is_no_share_of_a_capacity(digit_rows):
    dim = deep().fit(digit_rows[0])
    with pytest.raises(ValueError, match="needs an estimator with a noisy channel"):
        capacity_share_score(dim, digit_rows[1])

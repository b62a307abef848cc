"""Parameters and the shape of the data become a configuration, without an estimator."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from skdim import Views, _resolve
from skdim._core.config import ModelSpec, NetworkSpec, PairSpec
from skdim._core.critics import ChannelCritic
from skdim._core.model import Model

TABLE, IMAGES = (30,), (1, 8, 8)

SHARED = {
    "n_components": 16,
    "views": "auto",
    "supervised": False,
    "encoder": "auto",
    "hidden_layer_sizes": "auto",
    "output_layer": "code",
    "final_map": "auto",
    "max_iter": "auto",
    "batch_size": "auto",
    "learning_rate_init": 6e-3,
    "weight_decay": 0.5,
    "early_stopping": False,
    "n_iter_no_change": 10,
    "input_scaling": "auto",
    "device": "cpu",
}
NOISE_INJECTED = SHARED | {
    "output_distribution": "normal",
    "noise_distribution": "normal",
    "noise_scale": "auto",
    "objective": "infonce",
    "agreement_weight": "auto",
    "sliced_weight": "auto",
    "critic": "channel",
}
DEEP = SHARED | {
    "global_weight": 0.0,
    "local_weight": 1.0,
    "prior_weight": 0.1,
    "prior": "uniform",
    "objective": "jsd",
    "critic": "separable",
    "views": None,
}


def noise_injected(input_shape=TABLE, batch_size=256, **params):
    return _resolve.noise_injected(NOISE_INJECTED | params, input_shape, batch_size)


def deep_infomax(input_shape=TABLE, **params):
    return _resolve.deep_infomax(DEEP | params, input_shape)


def training(n_rows=1000, batch_size=256, input_shape=TABLE, **params):
    model = noise_injected(input_shape)
    return _resolve.training(NOISE_INJECTED | params, model, n_rows, batch_size, seed=7)


# The noise


def noise_of_capacity(capacity, n_components):
    """Return the s for which ``n_components / 2 * ln(1 + 1 / s^2)`` is the capacity."""
    return 1 / math.sqrt(math.exp(2 * capacity / n_components) - 1)


@pytest.mark.parametrize("batch_size", [2, 100, 512])
@pytest.mark.parametrize("n_components", [1, 16, 64])
@pytest.mark.parametrize(
    ("params", "share"),
    [
        ({}, 1.0),
        ({"views": None}, 0.5),
        ({"views": ()}, 0.5),
        ({"views": None, "supervised": True}, 1.0),
        ({"views": Views(None)}, 0.5),
        ({"views": lambda inputs, generator: inputs}, 1.0),
    ],
)
def test_noise_of_tables(params, share, n_components, batch_size):
    model = noise_injected(TABLE, batch_size, n_components=n_components, **params)
    expected = noise_of_capacity(share * math.log(batch_size), n_components)
    assert model.noise_scale == pytest.approx(expected)


@pytest.mark.parametrize("views", ["auto", None])
@pytest.mark.parametrize("n_components", [2, 8, 64])
def test_noise_of_images_is_at_most_one(n_components, views):
    model = noise_injected(IMAGES, 256, n_components=n_components, views=views)
    expected = min(1, noise_of_capacity(math.log(256), n_components))
    assert model.noise_scale == pytest.approx(expected)


@pytest.mark.parametrize("shape", [TABLE, IMAGES])
@pytest.mark.parametrize("views", ["auto", None])
@pytest.mark.parametrize("n_components", [2, 8, 64])
def test_uniform_noise_is_at_most_a_fifth(n_components, views, shape):
    params = {"n_components": n_components, "views": views}
    model = noise_injected(shape, 256, noise_distribution="uniform", **params)
    # n_components * ln(1 + 1 / (2 e)) = ln(256)
    expected = 0.5 / (math.exp(math.log(256) / n_components) - 1)
    assert model.noise_scale == pytest.approx(min(0.2, expected))


def test_noise_is_what_was_asked_for():
    assert noise_injected(noise_scale=3).noise_scale == 3.0
    assert noise_injected(IMAGES, noise_scale=3).noise_scale == 3.0


# The weights


@pytest.mark.parametrize("n_components", [1, 16, 17, 32, 64, 100])
def test_agreement_of_images(n_components):
    model = noise_injected(IMAGES, n_components=n_components)
    expected = min(0.95, max(0.25, 16 / n_components))
    assert model.agreement_weight == pytest.approx(expected)


@pytest.mark.parametrize(
    ("shape", "params"),
    [
        (TABLE, {}),
        (TABLE, {"supervised": True}),
        (IMAGES, {"views": None}),
        (IMAGES, {"critic": "separable"}),
        (IMAGES, {"agreement_weight": 0}),
    ],
)
def test_there_is_no_agreement_elsewhere(shape, params):
    assert noise_injected(shape, **params).agreement_weight == 0


def test_agreement_of_classes_of_images():
    params = {"views": None, "supervised": True, "n_components": 32}
    assert noise_injected(IMAGES, **params).agreement_weight == 0.5


@pytest.mark.parametrize("batch_size", [2, 16, 128, 255, 256, 300, 512, 900])
@pytest.mark.parametrize("n_components", [2, 16, 40, 64, 100])
def test_slices_of_images(n_components, batch_size):
    d, fullness = min(max(n_components, 16), 64), min(1, batch_size / 512)
    least = 96 * fullness if batch_size < 256 else 48
    expected = max(least, 32 * math.sqrt(d) * fullness**3)
    for views in ("auto", None):
        params = {"n_components": n_components, "views": views}
        found = noise_injected(IMAGES, batch_size, **params).sliced_weight
        assert found == pytest.approx(expected)


def test_slices_of_tables_and_as_asked_for():
    assert noise_injected(TABLE).sliced_weight == 0
    assert noise_injected(TABLE, sliced_weight=2).sliced_weight == 2
    assert noise_injected(IMAGES, sliced_weight=0).sliced_weight == 0


# Pairs


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1,), ("neighbors",)),
        (TABLE, ("neighbors",)),
        ((1, 8, 8), ("affine",)),
        ((2, 8, 8), ("crop",)),
        ((3, 8, 8), ("crop", "flip", "color")),
        ((4, 8, 8), ("crop", "flip", "color")),
        ((5, 8, 8), ("crop",)),
    ],
)
def test_default_augmentations(shape, expected):
    for views in ("auto", Views()):
        for model in (noise_injected(shape, views=views), deep(shape, views=views)):
            assert model.pairs == PairSpec(expected)


def deep(shape, **params):
    weights = {"global_weight": 1.0, "local_weight": 0.0}
    return deep_infomax(shape, **(weights | params))


def keep(inputs, generator):
    return inputs


@pytest.mark.parametrize(
    ("short", "steps"),
    [
        (None, ()),
        ((), ()),
        ("jitter", ("jitter",)),
        (keep, (keep,)),
        (["jitter", keep], ("jitter", keep)),
    ],
)
def test_short_forms_of_views(short, steps):
    for views in (short, Views(short)):
        assert noise_injected(views=views).pairs == PairSpec(steps)


def test_views_say_how_pairs_are_made():
    views = Views("marginal", strength=1, sides="one", n_views=3, n_neighbors=2)
    found = noise_injected(views=views, supervised=True).pairs
    assert found == PairSpec(("marginal",), 1.0, "one", 3, 2, by_class=True)
    assert found.has_pairs
    assert not PairSpec().has_pairs and PairSpec(by_class=True).has_pairs


@pytest.mark.parametrize("output_distribution", ["uniform", "normal", stats.expon()])
def test_classes_without_views_are_pairs_for_everything(output_distribution):
    # For norms, noise and the critic alike; whitening is another matter.
    params = {"supervised": True, "views": None}
    params |= {"output_distribution": output_distribution, "n_components": 2}
    model = noise_injected(**params)
    assert model.pairs.has_pairs and model.network.final_map == "gentle"
    assert model.network.shrinkage is None
    assert model.noise_distribution == "normal"
    critic = Model(model, torch.Generator().manual_seed(0)).critics["channel"]
    assert type(critic) is ChannelCritic and critic.has_pairs
    alone = noise_injected(**(params | {"supervised": False}))
    critic = Model(alone, torch.Generator().manual_seed(0)).critics["channel"]
    assert type(critic) is ChannelCritic and not critic.has_pairs


# The network


@pytest.mark.parametrize(
    ("shape", "params", "encoder", "sizes"),
    [
        (TABLE, {}, "mlp", (256,)),
        (IMAGES, {}, "conv", (32, 64, 128)),
        (IMAGES, {"encoder": "mlp"}, "mlp", (256,)),
        (TABLE, {"hidden_layer_sizes": 5}, "mlp", (5,)),
        (TABLE, {"hidden_layer_sizes": np.array([4, 3])}, "mlp", (4, 3)),
        (TABLE, {"hidden_layer_sizes": ()}, "mlp", ()),
        (TABLE, {"encoder": keep}, keep, ()),
    ],
)
def test_encoder_and_its_sizes(shape, params, encoder, sizes):
    for model in (noise_injected(shape, **params), deep(shape, **params)):
        assert model.network.encoder == encoder
        assert model.network.sizes == sizes
        assert model.network.input_shape == shape


@pytest.mark.parametrize("shape", [TABLE, IMAGES])
def test_the_final_map_is_gentle_where_codes_serve_classifiers(shape):
    for resolve in (noise_injected, deep_infomax):
        views = "jitter" if shape == TABLE else "erase"
        assert resolve(shape, views=views).network.final_map == "gentle"
        assert resolve(shape, views=None).network.final_map == "close"
        classes = resolve(shape, views=None, supervised=True)
        assert classes.network.final_map == "gentle"
        for asked in ("close", "gentle", "linear"):
            assert resolve(shape, final_map=asked).network.final_map == asked


def test_codes_are_normalized_by_what_they_are_for():
    table, alone = noise_injected().network, noise_injected(views=None).network
    images = noise_injected(IMAGES).network
    of_prior = deep_infomax().network
    assert table.shrinkage is not None
    assert alone.shrinkage is None and images.shrinkage is None
    assert alone.normalizes and not of_prior.normalizes
    assert noise_injected(IMAGES).n_noise_draws == 4
    assert noise_injected(IMAGES, encoder="mlp").n_noise_draws == 1
    assert noise_injected().n_noise_draws == 1


@pytest.mark.parametrize("params", [{}, {"supervised": True}, {"views": "jitter"}])
def test_noisy_codes_of_tables_with_views_are_whitened(params):
    model = noise_injected(n_components=2, **params)
    noise = model.noise_scale**2
    assert model.network.shrinkage == pytest.approx(noise / (1 + noise))


def test_deep_infomax_has_its_terms_and_no_noise():
    expected = ModelSpec(
        network=NetworkSpec(
            "mlp", (256,), TABLE, 16, normalizes=False, final_map="close"
        ),
        noise_distribution="uniform",
        bound="jsd",
        local_weight=1.0,
        prior_weight=0.1,
    )
    assert deep_infomax() == expected
    assert expected.noise_scale == 0 and expected.critic is None


# Training


@pytest.mark.parametrize(
    ("n_rows", "batch_size"), [(2, 2), (255, 255), (256, 256), (1000, 256), (10**6, 64)]
)
def test_epochs_make_400_steps(n_rows, batch_size):
    expected = math.ceil(400 / (n_rows // batch_size))
    assert training(n_rows, batch_size).max_iter == expected
    assert training(n_rows, batch_size, max_iter=3).max_iter == 3


def test_a_stream_may_have_fewer_rows_than_a_batch():
    assert training(n_rows=10, batch_size=256).max_iter == 400


def test_full_batches():
    assert _resolve.full_batch_size({"batch_size": "auto"}) == 256
    assert _resolve.full_batch_size({"batch_size": 9}) == 9


def test_training_takes_parameters_as_they_are():
    found = training(learning_rate_init=1, weight_decay=0, max_iter=np.int64(2))
    assert (found.learning_rate, found.weight_decay, found.max_iter) == (1.0, 0.0, 2)
    assert (found.seed, found.device, found.scaling) == (7, torch.device("cpu"), None)
    assert found.patience is None
    assert training(early_stopping=True, n_iter_no_change=4).patience == 4


@pytest.mark.parametrize(
    ("scaling", "shape", "mean", "scale"),
    [
        ((0, 255), IMAGES, [0.0], [255.0]),
        ((0.5, [1, 2, 0]), (3,), [0.5, 0.5, 0.5], [1.0, 2.0, 0.0]),
        (([1, 2, 3], 2), (3, 4, 4), [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]),
    ],
)
def test_scaling_has_a_number_for_each_column_or_channel(scaling, shape, mean, scale):
    found = training(input_shape=shape, input_scaling=scaling).scaling
    np.testing.assert_array_equal(found, [mean, scale])


# Refusals


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ((0, [1, 2]), "mean and scale, numbers or arrays of 30 numbers"),
        ((0,), "mean and scale"),
        (("a", 1), "mean and scale"),
        (3, "mean and scale"),
        ((np.nan, 1), "finite numbers"),
        ((0, np.inf), "finite numbers"),
        ((0, -1), "scales of 0 or well above"),
        ((0, 1e-320), "scales of 0 or well above"),
    ],
)
def test_bad_scaling_is_refused(scaling, message):
    with pytest.raises(ValueError, match=f"'input_scaling' parameter .*{message}"):
        training(input_scaling=scaling)


@pytest.mark.parametrize(
    ("rate", "decay", "culprit"),
    [(1e3, 0.5, "learning_rate_init"), (0.1, 11, "weight")],
)
def test_a_step_must_not_shrink_weights_below_nothing(rate, decay, culprit):
    with pytest.raises(ValueError, match=f"at most 1.* lower '{culprit}"):
        training(learning_rate_init=rate, weight_decay=decay)
    assert training(learning_rate_init=0.5, weight_decay=2).weight_decay == 2


@pytest.mark.parametrize(
    ("resolve", "shape", "params", "message"),
    [
        (noise_injected, TABLE, {"views": "crop"}, "for a table. Got 'crop'"),
        (noise_injected, IMAGES, {"views": "jitter"}, "for images. Got 'jitter'"),
        (noise_injected, TABLE, {"views": ["jitter", 3]}, "Got 3"),
        (noise_injected, TABLE, {"views": [Views()]}, r"Got Views\(\)"),
        (noise_injected, TABLE, {"views": Views}, "Got <class"),
        (
            noise_injected,
            TABLE,
            {"views": Views(strength=1.1)},
            "'strength' of Views is a share for 'neighbors', at most 1. Got 1.1",
        ),
        (noise_injected, TABLE, {"views": Views(n_views=0)}, "'n_views' parameter"),
        (noise_injected, TABLE, {"encoder": "conv"}, "needs images"),
        (noise_injected, TABLE, {"output_layer": "features"}, "needs encoder='conv'"),
        (noise_injected, TABLE, {"hidden_layer_sizes": (8, 0)}, "integers above 0"),
        (
            noise_injected,
            TABLE,
            {"agreement_weight": 0.5, "views": None},
            "needs views or supervised=True",
        ),
        (
            noise_injected,
            TABLE,
            {"agreement_weight": 0.5, "critic": "bilinear"},
            "needs critic='channel'. Got 'bilinear'",
        ),
        (
            noise_injected,
            TABLE,
            {"output_distribution": stats.poisson(3)},
            "continuous distribution",
        ),
        (deep_infomax, TABLE, {"local_weight": 0}, "needs information to maximise"),
    ],
)
def test_what_does_not_go_together_is_refused(resolve, shape, params, message):
    with pytest.raises(ValueError, match=message):
        resolve(shape, **params)


def test_strengths_beyond_one_are_for_what_is_no_share():
    found = noise_injected(views=Views(["jitter"], strength=1e3)).pairs
    assert found.strength == 1000.0


# Differences


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, []),
        ({"views": Views()}, []),
        ({"views": "neighbors"}, []),
        ({"n_components": 3, "noise_scale": 2.0}, ["n_components", "noise_scale"]),
        ({"hidden_layer_sizes": 9}, ["hidden_layer_sizes"]),
        ({"views": Views(strength=0.1, sides="one")}, ["views"]),
        ({"views": Views(n_views=2)}, ["views"]),
        ({"views": Views(n_neighbors=2)}, ["views"]),
        ({"views": "jitter"}, ["views"]),
        ({"views": ["jitter"], "supervised": True}, ["supervised", "views"]),
        ({"objective": "dv", "critic": "bilinear"}, ["critic", "objective"]),
        ({"output_layer": "hidden"}, ["output_layer"]),
        ({"sliced_weight": 1, "agreement_weight": 0.5}, None),
        ({"learning_rate_init": 1.0, "max_iter": 3}, []),
    ],
)
def test_differences_are_named_by_parameters(params, expected):
    one, other = noise_injected(), noise_injected(**params)
    expected = sorted(params) if expected is None else expected
    assert _resolve.differences(other, one) == expected
    assert _resolve.differences(one, other) == expected


def test_differences_are_named_as_the_estimator_names_them():
    one, other = deep_infomax(), deep_infomax(prior="normal", critic="bilinear")
    names = {"noise_distribution": "prior", "feature_critic": "critic"}
    assert _resolve.differences(one, other, names) == ["critic", "prior"]
    found = _resolve.differences(one, deep_infomax(global_weight=2), names)
    assert found == ["global_weight"]


def test_rounding_is_no_difference():
    one = noise_injected()
    other = replace(one, noise_scale=one.noise_scale * (1 + 1e-12))
    assert other != one and _resolve.differences(one, other) == []


def test_an_encoder_of_the_user_is_gone_on_with():
    module = torch.nn.Linear(30, 16)
    one = noise_injected(encoder=keep)
    other = _resolve.with_encoder(one, module)
    assert other.network.encoder is module
    assert _resolve.differences(one, other) == ["encoder"]
    assert _resolve.with_encoder(one, "mlp") is one

"""One entry in a registry of the core is all that a new part needs."""

import math
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from estimators import quick
from sklearn.base import clone

from skdim import DeepInfoMax, NoiseInjectedDIM, Views, metrics
from skdim._core.augmentations import AUGMENTATIONS, Augmentation
from skdim._core.bounds import BOUNDS, Bound, donsker_varadhan_of, infonce
from skdim._core.channels import CHANNELS, Channel, NormalChannel
from skdim._core.critics import CRITICS, Critic
from skdim._core.encoders import ENCODERS, linear


class LaplaceChannel(Channel):
    """Normal codes under Laplace noise, of which ``noise_scale`` is the deviation."""

    distribution = "normal"

    @classmethod
    def with_capacity(cls, capacity, n_components):
        return cls(1 / math.sqrt(math.expm1(2 * capacity / n_components)))

    def capacity(self, n_components):
        return n_components * 0.5 * math.log1p(self.noise_scale**-2)

    @property
    def noise_share(self):
        return self.noise_scale**2 / (1 + self.noise_scale**2)

    def squash(self, standardized):
        return standardized

    def noise(self, like, generator):
        draws = torch.empty_like(like).uniform_(-1, 1, generator=generator)
        sizes = -(1 - draws.abs()).clamp_min(1e-7).log() / math.sqrt(2)
        return self.noise_scale * draws.sign() * sizes

    def log_ratio(self, u, y, slope, excess):
        width = torch.as_tensor(self.noise_scale + excess, dtype=u.dtype) / 2**0.5
        gaps = (y - (slope * u)[:, None]).abs()
        total = 1 + self.noise_scale**2
        of_y = 0.5 * (y.square() / total + math.log(2 * math.pi * total))
        return (of_y - gaps / width - (2 * width).log()).sum(-1)


class ScaledNormalChannel(NormalChannel):
    """A normal channel with a limit of its own."""

    widest_noise = 0.05


class DistanceCritic(Critic):
    """Minus the squared distance of a map of ``u`` to ``y``."""

    def __init__(self, n_u, n_y, generator):
        super().__init__()
        self.map = linear(n_u, n_y, generator)

    def forward(self, u, y):
        return -(self.map(u)[..., None, :] - y).square().sum(-1)


def half_infonce(scores):
    return infonce(scores) / 2


def of_first_pairs(scores):
    n = scores.shape[-1]
    shifted = scores.roll(1, -1).diagonal(dim1=-2, dim2=-1)
    return donsker_varadhan_of(scores.diagonal(dim1=-2, dim2=-1), shifted, n).mean()


def brighten(x, strength, generator):
    shape = (len(x), *[1] * (x.ndim - 1))
    return x + strength * torch.randn(shape, generator=generator, device=x.device)


def between(x, near, strength, generator):
    return torch.lerp(x, near, strength)


def narrow(input_shape, n_components, sizes, generator):
    n_in = math.prod(input_shape)
    size = sizes[0] if sizes else 7
    parts = {
        "features": torch.nn.Flatten(),
        "hidden": torch.nn.Sequential(linear(n_in, size, generator), torch.nn.Tanh()),
        "code": linear(size, n_components, generator),
    }
    return torch.nn.Sequential(OrderedDict(parts))


def plain(input_shape, n_components, sizes, generator):
    n_in = math.prod(input_shape)
    layer = linear(n_in, n_components, generator)
    return torch.nn.Sequential(torch.nn.Flatten(), layer)


BOTH = (NoiseInjectedDIM, DeepInfoMax)
# Kind -> registry, entries to try, and how each estimator asks for an entry.
KINDS = {
    "channel": (
        CHANNELS,
        [LaplaceChannel, ScaledNormalChannel],
        {NoiseInjectedDIM: "noise_distribution", DeepInfoMax: "prior"},
    ),
    "critic": (CRITICS, [DistanceCritic], dict.fromkeys(BOTH, "critic")),
    "bound": (
        BOUNDS,
        [Bound(half_infonce, infonce, math.log), Bound(infonce, of_first_pairs)],
        dict.fromkeys(BOTH, "objective"),
    ),
    "augmentation": (
        AUGMENTATIONS,
        [Augmentation(brighten, 0.2), Augmentation(between, 0.3, needs_neighbors=True)],
        dict.fromkeys(BOTH, "views"),
    ),
    "encoder": (ENCODERS, [narrow, plain], dict.fromkeys(BOTH, "encoder")),
}
CASES = [
    pytest.param(kind, entry, id=f"{kind}-{k}")
    for kind, (_, entries, _) in KINDS.items()
    for k, entry in enumerate(entries)
]
each = pytest.mark.parametrize(("kind", "entry"), CASES)
of_both = pytest.mark.parametrize("of", BOTH)


@pytest.fixture
def name(monkeypatch, kind, entry):
    """Register the entry by one line, and return the parameter that asks for it."""
    registry, _, parameters = KINDS[kind]
    monkeypatch.setitem(registry, "toy", entry)
    return parameters


def check_use(dim, train, test, y=None):
    """Fit, transform, score and pickle."""
    dim.fit(train, y)
    codes, score = dim.transform(test), dim.score(test)
    assert codes.shape == (len(test), dim.n_components)
    assert np.isfinite(codes).all() and np.isfinite(score)
    for other in (pickle.loads(pickle.dumps(dim)), clone(dim).fit(train, y)):
        np.testing.assert_array_equal(other.transform(test), codes)
        assert other.score(test) == score


@of_both
@each
def test_an_entry_is_used_by_its_name(name, of, digit_rows):
    train, test = (part[:200] for part in digit_rows)
    dim = quick(of, batch_size=64, **{name[of]: "toy"})
    check_use(dim, train, test)
    other = quick(of, batch_size=64).fit(train)
    assert dim.score(test) != other.score(test)  # it is used
    dim.partial_fit(train[:100])
    assert np.isfinite(dim.transform(test)).all()


@pytest.mark.parametrize("views", ["jitter", None])
@pytest.mark.parametrize("supervised", [False, True])
@each
def test_an_entry_works_with_and_without_pairs(
    name, kind, views, supervised, digit_rows
):
    train, test = (part[:100] for part in digit_rows)
    params = {"views": views, "supervised": supervised, "batch_size": 32}
    dim = quick(**(params | {name[NoiseInjectedDIM]: "toy"}))
    check_use(dim, train, test, np.arange(len(train)) % 2)


@of_both
@each
def test_an_entry_works_with_images(name, kind, entry, of, digit_images, monkeypatch):
    train, test = (part[:80] for part in digit_images)
    params = {"batch_size": 32, "max_iter": 1, "hidden_layer_sizes": (4, 8)}
    if of is DeepInfoMax:  # a term for images without positions as well
        params |= DeepInfoMax.PRESETS["global"]
    if kind == "augmentation":
        entry = Augmentation(entry.augment, 0.2, True, entry.needs_neighbors)
        monkeypatch.setitem(AUGMENTATIONS, "toy", entry)
    check_use(quick(of, **params, **{name[of]: "toy"}), train, test)


@of_both
@each
def test_an_unknown_name_lists_the_entry(name, of, digit_rows):
    with pytest.raises(ValueError, match=f"'{name[of]}' parameter of .*'toy'"):
        quick(of, **{name[of]: "toyy"}).fit(digit_rows[0])


@pytest.mark.parametrize(("kind", "entry"), [CASES[0].values], ids=["laplace"])
def test_a_channel_has_its_capacity_and_scorers(name, digit_rows):
    train, test = digit_rows
    dim = quick(noise_distribution="toy", max_iter=20, views=None).fit(train)
    expected = metrics.channel_capacity(dim.noise_scale_, 2, "toy")
    assert dim.capacity_ == pytest.approx(expected)
    assert 0.2 < metrics.capacity_share_score(dim, test) <= 1
    with pytest.raises(ValueError, match=r"one of .*'toy'"):
        metrics.channel_capacity(1.0, 2, "toyy")
    deep = quick(DeepInfoMax, prior="toy").fit(train)
    assert deep.output_distribution_ == "normal"


def test_a_channel_limits_its_automatic_noise(monkeypatch, digit_rows):
    monkeypatch.setitem(CHANNELS, "toy", ScaledNormalChannel)
    params = {"n_components": 16, "max_iter": 1}
    found = quick(noise_distribution="toy", **params).fit(digit_rows[0])
    assert found.noise_scale_ == 0.05 < quick(**params).fit(digit_rows[0]).noise_scale_


@pytest.mark.parametrize(("kind", "entry"), [CASES[5].values], ids=["brighten"])
def test_an_augmentation_has_its_strength_and_kind(name, digit_rows, digit_images):
    train = digit_rows[0]
    codes = [
        quick(views=views).fit_transform(train)
        for views in ("toy", Views("toy", strength=0.2), Views(["toy"], strength=0.9))
    ]
    np.testing.assert_array_equal(codes[0], codes[1])
    assert abs(codes[0] - codes[2]).max() > 1e-3
    assert np.isfinite(quick(views=["jitter", "toy"]).fit_transform(train)).all()
    with pytest.raises(ValueError, match="share for 'toy', at most 1"):
        quick(views=Views("toy", strength=1.1)).fit(train)
    with pytest.raises(ValueError, match=r"among \[.*'toy'.*\] for a table"):
        quick(views=["toyy"]).fit(train)
    with pytest.raises(ValueError, match=r"for images\. Got 'toy'"):
        quick(views="toy").fit(digit_images[0])


@pytest.mark.parametrize(("kind", "entry"), [CASES[7].values], ids=["narrow"])
def test_an_encoder_has_its_sizes_and_layers(name, digit_rows):
    train, test = digit_rows
    auto = quick(encoder="toy", hidden_layer_sizes="auto", output_layer="hidden")
    assert auto.fit(train).transform(test).shape == (len(test), 7)
    given = clone(auto).set_params(hidden_layer_sizes=(5,))
    assert given.fit(train).transform(test).shape == (len(test), 5)

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skdim
from skdim import InformationDisplay, MatchDisplay, NoiseInjectedDIM

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fitted(cancer):
    train, _ = cancer
    dim = NoiseInjectedDIM(3, max_iter=4, early_stopping=True, random_state=0)
    return dim.fit(train)


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def share_inside(display):
    return int(labels(display.axes_[0])[1].split(", ")[1].split("%")[0])


def test_match_of_an_estimator_is_that_of_its_codes(fitted, cancer):
    _, test = cancer
    display = MatchDisplay.from_estimator(fitted, test, n_projections=7)
    same = MatchDisplay.from_codes(fitted.transform(test), n_projections=7)
    assert display.slices.shape == (len(test), 7)
    np.testing.assert_array_equal(display.slices, same.slices)
    np.testing.assert_array_equal(display.codes, fitted.transform(test))
    assert display.figure_ is display.axes_[0].figure


@pytest.mark.parametrize("n_samples", [50, 5000])
def test_slices_of_a_true_sample_are_in_the_band(n_samples):
    Z = np.random.default_rng(0).normal(size=(n_samples, 20))
    assert 92 <= share_inside(MatchDisplay.from_codes(Z)) <= 98
    assert share_inside(MatchDisplay.from_codes(2 * Z)) < 50


@pytest.mark.parametrize("distribution", ["uniform", stats.expon()])
def test_other_distributions_are_mapped_to_the_normal_one(distribution):
    z = np.random.default_rng(0).normal(size=(100, 2))
    frozen = stats.uniform() if distribution == "uniform" else distribution
    display = MatchDisplay.from_codes(frozen.ppf(stats.norm.cdf(z)), distribution)
    np.testing.assert_allclose(display.codes, z)
    assert "to N(0, 1)" in display.axes_[2].get_xlabel()


def test_the_title_has_the_distance_of_the_codes():
    Z = np.random.default_rng(0).normal(size=(3000, 4))
    for scale in (1.0, 1.3):
        found = skdim.metrics.excess_distance(scale * Z)
        title = MatchDisplay.from_codes(scale * Z).axes_[0].get_title()
        assert title.startswith(f"slices: distance {found.distance:.3g} (")
    assert MatchDisplay(Z, np.sort(Z, axis=0)).plot().axes_[0].get_title() == "slices"


def test_norms_are_named_with_their_spread():
    Z = 2 * np.random.default_rng(0).normal(size=(2000, 16))
    display = MatchDisplay.from_codes(Z)
    spread = skdim.metrics.norm_spread(Z)
    assert f"rows, {spread:.2f} times its spread" in labels(display.axes_[1])


def test_circles_count_all_codes_though_few_are_drawn():
    Z = np.random.default_rng(0).normal(size=(9000, 2))
    axes = MatchDisplay.from_codes(Z).axes_[2]
    inside = (np.hypot(*Z.T) < 1).mean()
    shown = axes.texts[0].get_text()
    assert shown.startswith(f"{inside:.0%} inside, ") and shown.endswith("39%")
    assert len(axes.lines[0].get_xdata()) <= 2000


def test_one_component_has_a_histogram():
    axes = MatchDisplay.from_codes(np.linspace(-1, 1, 20)[:, None]).axes_[2]
    assert axes.get_xlabel() == "component 1"
    assert len(axes.patches) > 0


def test_match_is_drawn_on_given_axes():
    figure, axes = plt.subplots(1, 3)
    Z = np.random.default_rng(0).normal(size=(20, 2))
    display = MatchDisplay.from_codes(Z, ax=axes)
    assert display.figure_ is figure
    assert list(display.axes_) == list(axes)
    with pytest.raises(ValueError, match="draws on 3 Axes, but got 1"):
        display.plot(ax=axes[0])


def test_information_has_its_curves_and_ceilings(fitted):
    axes, right = InformationDisplay.from_estimator(fitted).axes_
    np.testing.assert_array_equal(right.lines[0].get_ydata(), fitted.match_curve_)
    training, validation, *_ = axes.lines
    np.testing.assert_array_equal(training.get_ydata(), fitted.information_curve_)
    curve = fitted.validation_information_curve_
    np.testing.assert_array_equal(validation.get_ydata(), curve)
    assert f"capacity: {fitted.capacity_:.2f}" in labels(axes)
    batch = fitted.batch_size_
    assert f"log(batch of {batch}): {np.log(batch):.2f}" in labels(axes)


def test_bounds_without_a_ceiling_are_drawn_without_one(cancer):
    dim = NoiseInjectedDIM(2, objective="nwj", max_iter=2, random_state=0)
    axes = InformationDisplay.from_estimator(dim.fit(cancer[0])).axes_[0]
    assert not any("log(batch" in label for label in labels(axes))


def test_no_epoch_is_no_curve():
    display = InformationDisplay([], capacity=1.0, batch_size=4, match_curve=[])
    assert len(display.plot().axes_[0].lines[0].get_xdata()) == 0


def test_the_hidden_layer_has_no_distribution_to_draw(cancer):
    train, test = cancer
    dim = NoiseInjectedDIM(2, output_layer="hidden", max_iter=1, random_state=0)
    with pytest.raises(ValueError, match="no target distribution"):
        MatchDisplay.from_estimator(dim.fit(train), test)


def test_a_long_curve_is_drawn_under_its_mean():
    curve = np.random.default_rng(0).random(100)
    display = InformationDisplay(curve, capacity=1.0, batch_size=4).plot()
    raw, mean, *_ = display.axes_[0].lines
    np.testing.assert_array_equal(raw.get_ydata(), curve)
    assert mean.get_ydata()[-1] == pytest.approx(curve[-4:].mean())
    assert mean.get_xdata()[-1] == 100


def test_match_curve_is_drawn_on_the_right():
    curve = np.array([0.3, 0.1, 0.05])
    display = InformationDisplay(
        curve + 1, capacity=2.0, batch_size=8, match_curve=curve
    ).plot()
    main, twin = display.axes_
    np.testing.assert_array_equal(twin.lines[0].get_ydata(), curve)
    assert "match (right axis)" in labels(main)


def test_a_pipeline_is_drawn_as_its_last_step(fitted, cancer):
    _, test = cancer
    scaler = StandardScaler(with_mean=False, with_std=False).fit(test)
    pipeline = make_pipeline(scaler, fitted)
    display = MatchDisplay.from_estimator(pipeline, test)
    np.testing.assert_array_equal(display.codes, fitted.transform(test))
    drawn = InformationDisplay.from_estimator(pipeline)
    assert drawn.information_curve is fitted.information_curve_


@pytest.mark.parametrize(
    "draw",
    [MatchDisplay.from_estimator, lambda e, X: InformationDisplay.from_estimator(e)],
)
def test_what_has_no_codes_is_an_error(draw, cancer):
    train, _ = cancer
    with pytest.raises(ValueError, match="but got PCA"):
        draw(PCA(2).fit(train), train)


def test_matplotlib_is_missed_in_words():
    code = (
        "import sys, numpy, skdim\n"
        "sys.modules['matplotlib'] = None\n"
        "try: skdim.MatchDisplay.from_codes(numpy.eye(3))\n"
        "except ImportError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.startswith("MatchDisplay needs matplotlib"), run.stderr

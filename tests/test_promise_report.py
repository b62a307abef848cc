"""``report``: what it measures, and the situations that it must name or must not."""

import warnings
from dataclasses import FrozenInstanceError, replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from estimators import quick
from scipy import stats
from sklearn.exceptions import ConvergenceWarning, NotFittedError

import skdim
from skdim import DeepInfoMax, InfoMaxOutlierDetector, NoiseInjectedDIM, metrics

TRAINING = "ignore::sklearn.exceptions.ConvergenceWarning"


@pytest.fixture(scope="module")
def good(digit_rows):
    """A fit with nothing to say against it."""
    return NoiseInjectedDIM(4, views=None, random_state=0).fit(digit_rows[0])


@pytest.fixture(scope="module")
def report(good, digit_rows):
    return good.report(digit_rows[1])


def about(report, *words):
    """Return the sentences of advice that hold all of these words."""
    return [text for text in report.advice if all(word in text for word in words)]


# What is measured


def test_a_good_fit_holds_and_needs_no_advice(report):
    assert report.holds is True
    assert report.advice == []
    assert report.verdict.startswith("As promised:")


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("params", [{}, {"views": None}])
def test_good_fits_of_other_seeds_need_no_advice_either(digit_rows, params, seed):
    train, test = digit_rows
    dim = NoiseInjectedDIM(8, random_state=seed, **params).fit(train)
    assert dim.report(test).advice == []


def test_numbers_are_those_of_the_metrics(good, report, digit_rows):
    train, test = digit_rows
    codes = good.transform(test)
    assert report.distance == metrics.excess_distance(codes)
    assert report.pvalue == metrics.bhep_test(codes).pvalue
    assert report.norm_spread == metrics.norm_spread(codes)
    assert report.total_correlation == metrics.total_correlation(codes)
    assert report.information == good.score(test)
    assert report.training_information == good.information_
    assert report.capacity == good.capacity_
    assert report.ceiling == pytest.approx(np.log(good.batch_size_))
    sizes = report.n_samples, report.n_components, report.n_training_samples
    assert sizes == (len(test), 4, len(train))


def test_chance_correlation_is_exceeded_by_a_twentieth_of_true_samples():
    from skdim._report import _measured

    rng = np.random.default_rng(0)
    limit = _measured(rng.normal(size=(50, 6)), "normal")["chance_correlation"]
    largest = [
        np.abs(np.triu(np.corrcoef(rng.normal(size=(6, 50))), 1)).max()
        for _ in range(2000)
    ]
    assert 0.03 < np.mean(np.array(largest) > limit) < 0.07


@pytest.mark.parametrize("n_samples", [5000, 5001, 9999, 12345])
def test_the_test_uses_as_many_rows_as_it_says(n_samples, monkeypatch):
    from skdim import _report

    seen = []
    bhep_test = _report.bhep_test
    monkeypatch.setattr(
        _report, "bhep_test", lambda Z: seen.append(Z) or bhep_test(Z[:100])
    )
    Z = np.random.default_rng(0).normal(size=(n_samples, 2))
    _report._measured(Z, "normal")
    assert len(np.unique(seen[0], axis=0)) == 5000
    np.testing.assert_array_equal(seen[0][[0, -1]], Z[[0, -1]])


@pytest.mark.parametrize(("n", "d"), [(25, 16), (100, 16), (400, 3)])
def test_chance_total_correlation_is_the_mean_of_true_samples(n, d):
    from skdim._report import _measured

    rng = np.random.default_rng(0)
    expected = _measured(rng.normal(size=(n, d)), "normal")["chance_total_correlation"]
    draws = (rng.normal(size=(n, d)) for _ in range(300))
    found = np.mean([metrics.total_correlation(draw) for draw in draws])
    assert found == pytest.approx(expected, rel=0.1)


def test_constant_components_have_no_correlations():
    from skdim._report import _measured

    Z = np.random.default_rng(0).normal(size=(200, 4))
    expected = _measured(Z[:, :2], "normal")["largest_correlation"]
    Z[:, 2:] = 0.1  # whose mean is another number, so that deviations are not exactly 0
    assert _measured(Z, "normal")["largest_correlation"] == pytest.approx(expected)
    assert _measured(Z[:, 1:], "normal")["largest_correlation"] == 0


@pytest.mark.filterwarnings(TRAINING)
@pytest.mark.parametrize("law", ["uniform", stats.expon(), stats.cauchy()])
def test_other_distributions_are_measured_as_they_are(cancer, law):
    train, test = cancer
    dim = quick(output_distribution=law, views=None).fit(train)
    found = dim.report(test)
    if isinstance(law, str) or np.isfinite(law.var()):
        assert found.distance == metrics.excess_distance(dim.transform(test), law)
    normal = metrics.norm_spread(dim.transform(test), law)
    assert found.norm_spread == pytest.approx(normal)


@pytest.mark.filterwarnings(TRAINING)
def test_one_component_has_no_correlations(cancer):
    found = quick(n_components=1).fit(cancer[0]).report(cancer[1])
    assert found.largest_correlation is None and found.total_correlation is None
    assert "correlation" not in str(found)


@pytest.mark.filterwarnings(TRAINING)
def test_fewer_rows_than_components_have_no_total_correlation(cancer):
    found = quick(n_components=30).fit(cancer[0]).report(cancer[1][:25])
    assert found.total_correlation is None
    assert "total" not in str(found) and "largest correlation" in str(found)


@pytest.mark.filterwarnings(TRAINING)
def test_deep_infomax_and_images_are_reported(digit_images):
    train, test = digit_images
    found = quick(DeepInfoMax, max_iter=1).fit(train[:200]).report(test[:100])
    assert found.capacity is None and found.ceiling == np.inf
    names = [line.split("  ")[0] for line in str(found).splitlines()]
    assert "components" in names
    assert not {"capacity of the channel", "most that a batch can show"} & set(names)


@pytest.mark.filterwarnings(TRAINING)
def test_data_frames_and_data_sets_give_the_same_report(cancer):
    train, test = cancer
    expected = quick().fit(train).report(test)
    dim = quick().set_output(transform="pandas").fit(pd.DataFrame(train))
    assert str(dim.report(pd.DataFrame(test))) == str(expected)

    class Rows:
        def __len__(self):
            return len(test)

        def __getitem__(self, i):
            return test[i]

    assert str(quick().fit(train).report(Rows())) == str(expected)


def test_report_leaves_the_estimator_and_the_generators_alone(good, digit_rows):
    before, of_torch = dict(vars(good)), torch.get_rng_state()
    of_numpy = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (str(good.report(digit_rows[1][:200])) for _ in range(2))
    assert first == second
    assert vars(good) == before
    np.testing.assert_array_equal(np.random.get_state()[1], of_numpy)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), of_torch)


# What is refused


@pytest.mark.filterwarnings(TRAINING)
def test_layers_below_the_code_have_no_report(cancer):
    dim = quick(output_layer="hidden").fit(cancer[0])
    with pytest.raises(ValueError, match="output_layer='hidden'; use output_layer="):
        dim.report(cancer[1])


def test_too_few_rows_are_an_error(good, digit_rows):
    with pytest.raises(ValueError, match=r"at least 20 rows.*Got 19; pass more"):
        good.report(digit_rows[1][:19])
    good.report(digit_rows[1][:20])


def test_report_needs_a_fitted_estimator(digit_rows):
    with pytest.raises(NotFittedError):
        NoiseInjectedDIM().report(digit_rows[1])


# What is shown


def test_text_has_the_verdict_first_then_the_distance(report):
    lines = str(report).splitlines()
    assert lines[0].startswith("As promised:")
    assert lines[2].startswith("distance from the distribution ")
    assert str(report.distance) in lines[2]
    assert repr(report) == str(report) and max(map(len, lines)) <= 88
    assert "What to change" not in str(report)


def test_text_lists_the_advice(report):
    text = str(replace(report, advice=["Lower 'n_components'.", "long " * 40]))
    assert "What to change:\n- Lower 'n_components'.\n- long" in text
    assert max(map(len, text.splitlines())) <= 88


def test_html_is_well_formed_and_escaped(report):
    class Tags(HTMLParser):
        opened, seen = (), set()

        def handle_starttag(self, tag, attrs):
            self.opened += (tag,)
            self.seen.add(tag)
            assert not [name for name, _ in attrs if name.startswith("on")]

        def handle_endtag(self, tag):
            assert self.opened[-1] == tag
            self.opened = self.opened[:-1]

    evil = "<script>alert(1)</script>"
    page = replace(report, verdict=f"{evil}&", advice=[evil])._repr_html_()
    parser = Tags()
    parser.feed(page)
    assert parser.opened == () and {"table", "li"} <= parser.seen
    assert "script" not in parser.seen and page.count("&lt;script&gt;") == 2
    assert "color" not in page  # those of the notebook are readable in light and dark


def test_reports_are_values_that_cannot_be_changed(good, report, digit_rows):
    assert good.report(digit_rows[1]) == report
    with pytest.raises(FrozenInstanceError):
        report.holds = False


# What is found


@pytest.mark.filterwarnings(TRAINING)
def test_too_few_steps(digit_rows):
    train, test = digit_rows
    dim = NoiseInjectedDIM(4, max_iter=5, random_state=0).fit(train)
    assert about(dim.report(test), "only 20 steps", "raise 'max_iter'")


@pytest.mark.filterwarnings(TRAINING)
def test_steps_of_a_fit_and_of_the_parts_after_it_are_counted(digit_rows):
    train, test = digit_rows
    params = {"batch_size": 50, "views": None}
    dim = quick(max_iter=6, **params).fit(train[:1000])  # 120 steps
    assert not about(dim.report(test), "Training took only")
    assert not about(dim.partial_fit(train[:60]).report(test), "Training took only")
    stream = quick(**params)
    for size in (99, 99, 99, 20):  # half of each part fills no batch
        stream.partial_fit(train[:size])
    found = about(stream.report(test), "only 4 steps", "train on more parts")
    assert found and "max_iter" not in found[0]
    again = quick(max_iter=2, warm_start=True, **params).fit(train[:100])
    assert about(again.fit(train[:200]).report(test), "only 12 steps", "'max_iter'")


@pytest.mark.filterwarnings(TRAINING)
def test_advice_for_streams_names_no_parameter_of_fit(digit_rows, monkeypatch):
    train, test = digit_rows
    stream = quick(views=None).partial_fit(train)
    monkeypatch.setattr(stream, "information_curve_", list(np.linspace(1, 3, 100)))
    monkeypatch.setattr(stream, "match_curve_", [0.2] * 100)
    found = stream.report(test)
    assert about(found, "information was still rising", "train on more parts")
    assert not about(found, "max_iter")
    from skdim._report import _doubts_of_distance

    far = {"distance": metrics.effect_size.ExcessDistance(0.3, 0.25, 0.35)}
    (text,) = _doubts_of_distance(stream, far, False, is_explained=False)
    assert "were so in training; train on more parts" in text
    assert "max_iter" not in text


@pytest.mark.parametrize("name", ["information_curve_", "match_curve_"])
@pytest.mark.parametrize("improves", [True, False])
def test_curves_that_still_improve(good, digit_rows, name, improves, monkeypatch):
    noise = np.random.default_rng(0).normal(size=100)
    if name == "match_curve_":  # falls from 0.2, or stays
        curve = 0.2 - 0.0015 * np.arange(100) * improves + 0.005 * noise
    else:
        curve = 2 + 0.02 * np.arange(100) * improves + 0.1 * noise
    monkeypatch.setattr(good, name, list(curve))
    found = about(good.report(digit_rows[1]), "when training ended", "'max_iter'")
    assert len(found) == improves


@pytest.mark.filterwarnings(TRAINING)
def test_a_slow_fit_is_found_by_its_curve(cancer):
    train, test = cancer
    params = {"noise_scale": 0.01, "learning_rate_init": 1e-3, "max_iter": 20}
    found = NoiseInjectedDIM(2, random_state=1, **params).fit(train).report(test)
    assert about(found, "information was still rising", "'max_iter'")


@pytest.mark.filterwarnings(TRAINING)
def test_too_many_components_for_so_few_rows(digit_rows):
    train, test = digit_rows
    found = NoiseInjectedDIM(16, views=None, random_state=0).fit(train[:100])
    found = found.report(test)
    assert found.holds is False and found.verdict.startswith("Not as promised")
    assert about(found, "100 training rows for 16 components", "'n_components'")


def test_rows_held_out_for_early_stopping_are_not_counted(cancer):
    params = {"early_stopping": True, "validation_fraction": 0.5, "views": None}
    dim = NoiseInjectedDIM(16, random_state=0, **params).fit(cancer[0])
    assert about(dim.report(cancer[1]), "171 training rows")


@pytest.mark.filterwarnings(TRAINING)
def test_more_components_than_columns():
    X = np.random.default_rng(0).normal(size=(1000, 3))
    X = np.column_stack([X, np.ones(1000)])  # a constant column counts as none
    dim = quick(n_components=4, views=None).fit(X[:500])
    assert about(dim.report(X[500:]), "4 components and 3 columns", "to 3 or less")
    dim = quick(n_components=3, views=None).fit(X[:500])
    assert not about(dim.report(X[500:]), "columns that vary")
    constant = np.ones((100, 3))
    assert about(quick().fit(constant).report(constant), "No column", "varied")


@pytest.mark.filterwarnings(TRAINING)
def test_a_saturated_bound(cancer):
    train, test = cancer
    dim = NoiseInjectedDIM(4, noise_scale=0.01, batch_size=8, views=None)
    found = dim.set_params(random_state=0).fit(train).report(test)
    assert about(found, "a batch of 8 rows can report", "'batch_size'")
    assert not found.verdict.startswith("As promised:")


@pytest.mark.filterwarnings(TRAINING)
def test_training_rows_known_by_heart(digit_rows):
    train, test = digit_rows
    dim = NoiseInjectedDIM(16, views=None, random_state=0).fit(train[:40])
    assert about(dim.report(test), "by heart", "'weight_decay'")
    assert not about(dim.report(train[:40]), "by heart")


def test_rows_of_another_source(good, digit_rows):
    test = digit_rows[1]
    other = test.reshape(-1, 8, 8).transpose(0, 2, 1).reshape(len(test), -1)
    found = good.report(other)
    assert found.holds is False and found.advice


@pytest.mark.filterwarnings(TRAINING)
def test_inputs_in_another_unit_are_named(cancer):
    train, test = (pd.DataFrame(X).add_prefix("size ") for X in cancer)
    dim = quick(views=None).fit(train)
    assert not about(dim.report(test), "off the scale")
    column = test["size 7"]
    for changed in (100 * column, column / 20, column + 5 * column.std()):
        other = dim.report(test.assign(**{"size 7": changed}))
        assert about(other, "off the scale", "in column size 7: ")


def heavy_tailed(name, n, rng):
    """Return rows of which a few huge values set the scale of a column."""
    if name == "outlier":
        rows = rng.normal(size=(n, 8))
        rows[0, 0] = 1e4
        return rows
    draws = {"log-normal": lambda: rng.lognormal(0, 2, (n, 8))}
    return draws.get(name, lambda: rng.standard_t(1.5, (n, 8)))()


@pytest.mark.filterwarnings(TRAINING)
@pytest.mark.parametrize("name", ["outlier", "log-normal", "Student's t"])
def test_heavy_tails_are_on_the_scale_of_the_training_rows(name):
    rng = np.random.default_rng(0)
    train = heavy_tailed(name, 500, rng)
    dim = quick(views=None).fit(train)
    others = (heavy_tailed(name, n, rng) for n in (500, 30))
    for rows in (train, *others, rng.permutation(train)[:30]):
        assert not about(dim.report(rows), "off the scale")
    moved = train.copy()
    moved[:, 3] = 100 * np.abs(moved[:, 3]) + 10 * train[:, 3].std()
    assert about(dim.report(moved), "off the scale", "in column 3: ")


@pytest.mark.filterwarnings(TRAINING)
def test_numbers_of_inputs_off_the_scale_are_those_of_the_decision():
    train = np.random.default_rng(0).normal(size=(400, 3))
    dim = quick(views=None).fit(train)
    z = 4 + (train[:, 1] - train[:, 1].mean()) / train[:, 1].std()
    clipped = z / np.sqrt(1 + (z / 3) ** 2)
    moved = train + 4 * train.std(axis=0) * [0, 1, 0]
    numbers = f"the mean {clipped.mean():.2g} and the deviation {clipped.std():.2g}"
    assert about(dim.report(moved), "in column 1: ", numbers)


@pytest.mark.filterwarnings(TRAINING)
def test_a_given_scaling_that_does_not_fit_is_named():
    train = np.random.default_rng(0).normal(size=(400, 3))
    right = quick(views=None, input_scaling=(0.0, 1.0)).fit(train)
    assert not about(right.report(train), "off the scale")
    wrong = quick(views=None, input_scaling=(0.0, [1.0, 1.0, 1e-2])).fit(train)
    assert about(wrong.report(train), "in column 2: ", "with another scaling")


@pytest.mark.filterwarnings(TRAINING)
def test_streams_that_drift_leave_the_scale_of_their_first_part():
    first = np.random.default_rng(0).normal(size=(300, 3))
    stream = quick(views=None)
    for part in (first, first + 10, first + 10):
        stream.partial_fit(part)
    assert about(stream.report(first + 10), "off the scale")
    assert not about(stream.report(first), "off the scale")


@pytest.mark.filterwarnings(TRAINING)
def test_channels_of_images_in_another_unit_are_named(digit_images):
    train, test = digit_images
    dim = quick(max_iter=1).fit(train[:200])
    assert not about(dim.report(test[:100]), "off the scale")
    found = about(dim.report(test[:100] / 255.0), "off the scale", "in channel 0:")
    assert found


@pytest.mark.parametrize("n_rows", [20, 50])
@pytest.mark.parametrize("seed", [0, 1])
def test_few_rows_of_the_same_source_are_on_the_scale(digit_rows, n_rows, seed, good):
    test = digit_rows[1]
    rows = np.random.default_rng(seed).permutation(len(test))[:n_rows]
    assert not about(good.report(test[rows]), "off the scale")


def test_too_few_rows_to_tell_are_no_verdict(good, digit_rows):
    found = good.report(digit_rows[1][:30])
    assert found.holds is None
    assert found.verdict.startswith("Cannot tell: the 30 rows of X only show")
    assert about(found, "pass more held-out rows")


@pytest.mark.parametrize(
    ("spread", "distance", "verdict", "advice"),
    [
        (2.5, (0.05, 0.03, 0.07), "although codes are only 0.05", "vary too much"),
        (0.2, (0.05, 0.03, 0.07), "although codes are only 0.05", "vary too little"),
        (2.5, (0.16, 0.13, 0.19), "and codes are 0.13 to 0.19", "vary too much"),
        (1.0, (0.15, 0.149, 0.151), "about the limit of 0.15", "at the limit"),
        (1.0, (0.1, 0.0, 0.2), "rows of X only show", "too few rows"),
        (1.0, (0.2, 0.18, 0.22), "are 0.2 standard deviations", "are far from it"),
    ],
)
def test_advice_speaks_of_what_the_verdict_names(
    good, spread, distance, verdict, advice
):
    from skdim import _report

    found = {
        "distance": metrics.effect_size.ExcessDistance(*distance),
        "norm_spread": spread,
        "n_samples": 1_000_000,
    }
    holds = _report._holds(found)
    (text,) = _report._doubts_of_distance(good, found, holds, is_explained=False)
    assert verdict in _report._verdict(found, holds, [text])
    assert advice in text
    sentences = "vary too", "at the limit", "too few rows", "are far from it"
    assert sum(sentence in text for sentence in sentences) == 1


# Warnings of fit


def test_fit_warns_of_too_few_rows_for_the_components(digit_rows):
    with pytest.warns(ConvergenceWarning, match="70 training rows for 16 components"):
        NoiseInjectedDIM(16, max_iter=10, random_state=0).fit(digit_rows[0][:70])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NoiseInjectedDIM(16, max_iter=10, random_state=0).fit(digit_rows[0][:80])
        for params in ({"output_layer": "hidden"}, {"final_map": "linear"}):
            quick(n_components=16, **params).fit(digit_rows[0][:70])
        InfoMaxOutlierDetector(random_state=0).fit(digit_rows[0][:70])


def test_streams_do_not_warn(digit_rows):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick().partial_fit(digit_rows[0][:300])


def test_every_transformer_has_the_report():
    for name in ("NoiseInjectedDIM", "DeepInfoMax"):
        assert callable(getattr(skdim, name).report)

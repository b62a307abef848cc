"""Are codes as promised?  What is measured on rows, and what to change if they are not.

``BaseInfoMax.report`` returns a ``PromiseReport``; ``fit`` warns of ``grave_doubts``.
"""

import html
import math
import textwrap
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from . import _core
from ._utils.distributions import Distribution
from .metrics.effect_size import ExcessDistance, excess_distance
from .metrics.normality import bhep_test
from .metrics.samples import normal_sample
from .metrics.summaries import norm_spread, total_correlation

__all__ = ["PromiseReport", "grave_doubts", "make_report"]

_FEWEST_ROWS = 20
_MOST_ROWS = 5000  # for what takes the square of their number, and for inputs
_LEVEL = 0.05  # of the test, and of what chance gives

# The thresholds were chosen on held-out rows of four tables, with 4 to 64 components:
# benchmarks/distribution/promise.py, seeds 0 and 1, table in docs/practice.md.
#
# With 30 or more training rows for each component, the interval of the distance was
# never wholly above 0.15, with 15 to 30 in 7 % of fits.  Below 5, it was in 62 %, and
# never wholly below.
_FAR = 0.15
_FEW_ROWS_EACH, _TOO_FEW_ROWS_EACH = 15, 5
# With 15 or more, and no more components than columns, norms had a spread of 0.77 to
# 1.43; with more components than columns, of up to 2.8.
_NORMS = (0.6, 1.5)
# Of the information on training rows after 400 steps, fits of 3 to 12 steps lacked 12
# to 21 %, and those of 30 to 120 steps 4 to 13 %.
_FEW_STEPS = 100
# Between the last two fifths of the curves, information rose by up to 4.7 % in fits of
# 400 steps, and the match fell by up to 0.006 nats.
_RISE, _FALL, _FEWEST_EPOCHS = 0.05, 0.02, 10
# Without neighbours as views, the information of held-out rows was below this share of
# that of training rows only for 40 or 80 training rows, and for DeepInfoMax on tables
# of at most 309 rows.
_KEPT = 0.75
_MATCHED = 0.1  # divergence of slices in training, in nats; 0.26 if untrained
# Means of softly clipped inputs, and deviations of these, in training deviations.  On
# 50 random splits of the same tables with 30 % held out, means had moved by up to 0.5,
# and deviations were up to 1.13.
_MOVED, _WIDE, _NARROW = 0.8, 1.6, 0.3
# Where a few huge values of the training rows set the scale, so that clipped inputs of
# these have a deviation below this, X can lack such values by chance: of 2,000 rows of
# 8 log-normal columns (sigma 2), 20 others had a narrow column in 69 % of draws without
# this limit, and in none with it.
_SPREAD = 0.6


@dataclass(frozen=True, repr=False)
class PromiseReport:
    """Whether codes are as promised, and what to change if they are not.

    ``report`` of an estimator returns it.  ``print`` writes it as text, and a notebook
    shows a table.  Distances are in standard deviations of the target distribution,
    information is in nats.

    Attributes
    ----------
    verdict : str
        One sentence.
    holds : bool or None
        True if the whole interval of the distance is at most 0.15 and the norms are not
        far off.  False if the whole interval is above 0.15, or the norms are far off.
        None if X has too few rows to tell.
    advice : list of str
        Sentences that say what is wrong and which parameter to change; empty if nothing
        was found.
    distance : ExcessDistance
        ``excess_distance`` of the codes: ``distance``, ``low`` and ``high``.
    pvalue : float
        Of ``bhep_test``, on at most 5,000 rows.
    largest_correlation : float or None
        Largest absolute correlation of two components, mapped to N(0, 1).  None for one
        component.
    chance_correlation : float or None
        What independent components exceed in 5 % of samples of this size.
    total_correlation : float or None
        Of the components.  None for one component, or no more rows than components.
    chance_total_correlation : float or None
        About what independent components have, in samples of this size.
    norm_spread : float
        Spread of the norms of codes, divided by that of the distribution.
    information : float
        ``score`` of X.
    training_information : float
        ``information_``, that of the training rows.
    capacity : float or None
        ``capacity_``; None for an estimator without a noisy channel.
    ceiling : float
        The most that the objective can report: ``log(batch_size_)``, or infinity.
    n_samples : int
        Number of rows of X.
    n_components : int
        Number of components of the codes.
    n_training_samples : int
        ``n_samples_seen_``.
    """

    verdict: str
    holds: bool | None
    advice: list[str]
    distance: ExcessDistance
    pvalue: float
    largest_correlation: float | None
    chance_correlation: float | None
    total_correlation: float | None
    chance_total_correlation: float | None
    norm_spread: float
    information: float
    training_information: float
    capacity: float | None
    ceiling: float
    n_samples: int
    n_components: int
    n_training_samples: int

    def _lines(self):
        """Return what was measured, as a list of pairs of text: what, and its value."""
        n = min(self.n_samples, _MOST_ROWS)
        pvalue = "< 0.0001" if self.pvalue < 1e-4 else f"= {self.pvalue:.2g}"
        seen = "no departure is" if self.pvalue >= _LEVEL else "a departure is"
        lines = [
            ("distance from the distribution", str(self.distance)),
            ("BHEP test", f"p {pvalue}: {seen} visible with {n} rows"),
        ]
        if self.largest_correlation is not None:
            value = f"{self.largest_correlation:.2f} (by chance up to "
            value += f"{self.chance_correlation:.2f})"
            lines.append(("largest correlation", value))
        if self.total_correlation is not None:
            value = f"{self.total_correlation:.2g} nats (by chance about "
            value += f"{self.chance_total_correlation:.2g})"
            lines.append(("total correlation", value))
        error = 2 / math.sqrt(2 * self.n_samples)
        value = f"{self.norm_spread:.2f} of the promised one (by chance "
        value += f"{1 - error:.2f} to {1 + error:.2f})"
        lines.append(("spread of norms", value))
        lines.append(("information on X", f"{self.information:.2f} nats"))
        value = f"{self.training_information:.2f} nats"
        lines.append(("information on training rows", value))
        if self.capacity is not None:
            lines.append(("capacity of the channel", f"{self.capacity:.2f} nats"))
        if math.isfinite(self.ceiling):
            lines.append(("most that a batch can show", f"{self.ceiling:.2f} nats"))
        value = f"{self.n_samples} (trained on {self.n_training_samples})"
        return [*lines, ("rows", value), ("components", str(self.n_components))]

    def __repr__(self):
        lines = self._lines()
        width = max(len(name) for name, _ in lines) + 2
        text = [textwrap.fill(self.verdict, 88), ""]
        text += [f"{name:{width}}{value}" for name, value in lines]
        if self.advice:
            text += ["", "What to change:"]
            indents = {"initial_indent": "- ", "subsequent_indent": "  "}
            text += [textwrap.fill(advice, 88, **indents) for advice in self.advice]
        return "\n".join(text)

    def _repr_html_(self):
        # Without colours of its own, so that it is readable in light and dark.
        rows = "".join(
            f'<tr><th scope="row" style="text-align: left">{html.escape(name)}</th>'
            f'<td style="text-align: left">{html.escape(value)}</td></tr>'
            for name, value in self._lines()
        )
        advice = "".join(f"<li>{html.escape(text)}</li>" for text in self.advice)
        advice = f"<p>What to change:</p><ul>{advice}</ul>" if advice else ""
        verdict = html.escape(self.verdict)
        return f"<p><b>{verdict}</b></p><table><tbody>{rows}</tbody></table>{advice}"


def make_report(estimator, X, y=None):
    """Return the PromiseReport of a fitted estimator; see ``BaseInfoMax.report``.

    ``X`` and ``y`` are as the user gave them.
    """
    rows = estimator._check_rows(X, "report", min_samples=2)
    if estimator.output_distribution_ is None:
        raise ValueError(
            f"report needs codes, because layers below them follow no distribution. "
            f"Got output_layer={estimator.output_layer!r}; use output_layer='code'."
        )
    if len(rows) < _FEWEST_ROWS:
        raise ValueError(
            f"report needs at least {_FEWEST_ROWS} rows, because fewer tell nothing "
            f"about a distribution. Got {len(rows)}; pass more held-out rows."
        )
    codes = estimator.transform(X)
    codes = codes.cpu().numpy() if hasattr(codes, "cpu") else np.asarray(codes)
    distribution = estimator.output_distribution_
    found = _measured(codes.astype(np.float64), distribution)
    found |= {
        "information": estimator.score(X, y),
        "training_information": estimator.information_,
        "capacity": getattr(estimator, "capacity_", None),
        "ceiling": estimator._ceiling(),
        "n_training_samples": estimator.n_samples_seen_,
    }
    advice = [
        *estimator._doubts(),
        *_doubts_of_steps(estimator),
        *_doubts_of_rows(estimator, _FEW_ROWS_EACH),
        *_doubts_of_curves(estimator),
        *_doubts_of_width(estimator),
        *_doubts_of_inputs(estimator, rows),
        *_doubts_of_information(estimator, found),
    ]
    holds = _holds(found)
    advice += _doubts_of_distance(estimator, found, holds, is_explained=bool(advice))
    verdict = _verdict(found, holds, advice)
    return PromiseReport(verdict=verdict, holds=holds, advice=advice, **found)


def _measured(codes, distribution):
    """Return what codes alone show: fields of ``PromiseReport``, a dict by name.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_components)
    distribution : {"normal", "uniform"} or scipy.stats distribution
        Their target distribution.
    """
    n_samples, n_components = codes.shape
    normal = normal_sample(codes, distribution)
    _, variance = Distribution(distribution).moments()
    # Distances need a variance that doubles hold, as codes mapped to N(0, 1) have.
    has_variance = np.finfo(float).tiny <= variance < np.inf
    as_is = (codes, distribution) if has_variance else (normal, "normal")
    few = normal[_evenly_spaced(n_samples)]
    found = {
        "distance": excess_distance(*as_is),
        "pvalue": float(bhep_test(few).pvalue),
        "norm_spread": norm_spread(normal),
        "n_samples": n_samples,
        "n_components": n_components,
    }
    names = "largest_correlation", "chance_correlation"
    names += "total_correlation", "chance_total_correlation"
    found |= dict.fromkeys(names)
    n_pairs = n_components * (n_components - 1) // 2
    if n_pairs:
        # Constant components are left out: their deviations are rounding errors.
        varying = normal[:, np.ptp(normal, axis=0) > 0]
        R = np.corrcoef(varying, rowvar=False) if varying.shape[1] > 1 else np.eye(1)
        t = stats.t.isf(-math.expm1(math.log1p(-_LEVEL) / n_pairs) / 2, n_samples - 2)
        found["largest_correlation"] = float(np.abs(np.triu(R, 1)).max())
        found["chance_correlation"] = float(t / math.sqrt(n_samples - 2 + t**2))
    if n_pairs and n_samples > n_components:
        found["total_correlation"] = total_correlation(normal)
        # Its expectation for independent normal components, by the determinant of a
        # Wishart matrix.
        lost = special.digamma((n_samples - np.arange(1, varying.shape[1] + 1)) / 2)
        chance = 0.5 * np.sum(special.digamma((n_samples - 1) / 2) - lost)
        found["chance_total_correlation"] = float(chance)
    return found


def _evenly_spaced(n_samples):
    """Return the indices of at most 5,000 of so many rows: an ndarray of int."""
    most = min(n_samples, _MOST_ROWS)
    return np.linspace(0, n_samples - 1, most).astype(np.intp)


def _holds(found):
    """Return if the promise holds: True, False, or None if X has too few rows to tell.

    ``found`` holds fields of ``PromiseReport`` by name.
    """
    if found["distance"].low > _FAR or _is_off(found):
        return False
    return True if found["distance"].high <= _FAR else None


def _is_off(found):
    """Return True if the spread of norms is too far from 1 to be chance."""
    error = 3 / math.sqrt(2 * found["n_samples"])
    return not _NORMS[0] - error <= found["norm_spread"] <= _NORMS[1] + error


def _is_at_limit(found):
    """Return True if the interval of the distance is about the limit, else False."""
    return found["distance"].low > _FAR / 2 and found["distance"].high > _FAR


def _verdict(found, holds, advice):
    """Return one sentence that says if codes are as promised.

    ``found`` holds fields of ``PromiseReport`` by name; ``holds`` and ``advice`` are
    further ones.
    """
    distance, n_samples = found["distance"], found["n_samples"]
    unit = "standard deviations"
    ends = f"{distance.low:.3g} to {distance.high:.3g} {unit}"
    if holds is None and _is_at_limit(found):
        return (
            f"Cannot tell: codes of X are {ends} from their distribution, which is "
            f"about the limit of {_FAR}."
        )
    if holds is None:
        return (
            f"Cannot tell: the {n_samples} rows of X only show that codes are {ends} "
            f"from their distribution, where at most {_FAR} is good."
        )
    if not holds and distance.low > _FAR:
        return (
            f"Not as promised: codes of X are {distance.distance:.2g} {unit} from "
            f"their distribution, where at most {_FAR} is good."
        )
    if not holds:
        is_near = distance.high <= _FAR
        in_slices = f"although codes are only {distance.distance:.2g} {unit} from it"
        in_slices = in_slices if is_near else f"and codes are {ends} from it"
        return (
            f"Not as promised: norms of the codes of X vary {found['norm_spread']:.2g} "
            f"times as much as those of their distribution, {in_slices} in each "
            f"direction."
        )
    start = "As promised, with doubts:" if advice else "As promised:"
    return (
        f"{start} codes of X are at most {distance.high:.2g} {unit} from their "
        f"distribution."
    )


def grave_doubts(estimator):
    """Return warnings about a fit that is poor for certain, as a list of str.

    ``fit`` issues them.  They need no rows beside those of ``fit``.  A short training
    is not among them, because whoever sets "max_iter" knows it.
    """
    if estimator.final_map == "linear":  # no match is asked for, as by the detector
        return []
    return _doubts_of_rows(estimator, _TOO_FEW_ROWS_EACH)


def _n_training_rows(estimator):
    """Return how many rows the weights were trained on."""
    n_rows = estimator.n_samples_seen_
    if estimator.early_stopping and not _is_stream(estimator):
        n_rows -= estimator._n_held_out(n_rows)
    return n_rows


def _is_stream(estimator):
    """Return True if ``partial_fit`` was the last to train, else False."""
    return estimator._state["stream"]["n_calls"] > 0


def _train_longer(estimator):
    """Return what to do for a longer training, as text."""
    return "train on more parts" if _is_stream(estimator) else "raise 'max_iter'"


def _doubts_of_rows(estimator, fewest_each):
    """Return a sentence if there are fewer training rows than these per component."""
    n_rows = _n_training_rows(estimator)
    n_components = estimator._state["n_outputs"]
    is_code = estimator.output_distribution_ is not None
    if not is_code or n_rows >= fewest_each * n_components:
        return []
    return [
        f"There were only {n_rows} training rows for {n_components} components, so "
        f"that codes of other rows cannot be expected to follow the distribution; "
        f"lower 'n_components', or train on more rows."
    ]


def _doubts_of_steps(estimator):
    """Return a sentence if there were too few training steps."""
    n_steps = estimator._state["n_steps"]
    if n_steps >= _FEW_STEPS:
        return []
    return [
        f"Training took only {n_steps} step{'s' * (n_steps > 1)} of at most "
        f"{estimator.batch_size_} rows, so that the encoder has learned little; "
        f"{_train_longer(estimator)}."
    ]


def _doubts_of_curves(estimator):
    """Return a sentence if information or match was still improving at the end.

    The means over the last two fifths of the curves are compared.
    """
    n_epochs = len(estimator.information_curve_)
    if n_epochs < _FEWEST_EPOCHS:
        return []
    fifth = n_epochs // 5

    def change(curve):
        before, last = np.asarray(curve)[-2 * fifth :].reshape(2, fifth)
        spread = np.hypot(before.std(), last.std()) / math.sqrt(fifth)
        return last.mean() - before.mean(), 2 * spread, abs(last.mean())

    rise, noise, level = change(estimator.information_curve_)
    if rise > max(noise, _RISE * level, _RISE):
        return [
            f"The information was still rising when training ended, by {rise:.2f} nats "
            f"between its last two fifths; {_train_longer(estimator)}."
        ]
    rise, noise, _ = change(estimator.match_curve_)
    if -rise > max(noise, _FALL):
        return [
            f"The match was still improving when training ended, by {-rise:.2g} nats "
            f"between its last two fifths; {_train_longer(estimator)}."
        ]
    return []


def _doubts_of_width(estimator):
    """Return a sentence if a table has more components than columns that vary."""
    scale = np.asarray(estimator._state["weights"]["network.input.inverse_scale"])
    n_columns, n_components = int((scale > 0).sum()), estimator._state["n_outputs"]
    if scale.ndim > 1 or n_components <= n_columns:  # images, or wide enough
        return []
    if n_columns == 0:
        return ["No column of the training rows varied; train on other rows."]
    return [
        f"There are {n_components} components and {n_columns} columns that vary, so "
        f"that codes lie on a surface and cannot fill their distribution; lower "
        f"'n_components' to {n_columns} or less."
    ]


def _doubts_of_inputs(estimator, rows):
    """Return a sentence if inputs are off the scale that the estimator was fitted on.

    Parameters
    ----------
    estimator : BaseInfoMax
        Fitted.
    rows : array-like of shape (n_rows, *input_shape)
        Checked rows; images have channels first.
    """
    weights = estimator._state["weights"]
    mean, scale = (
        np.asarray(weights[f"network.input.{name}"], dtype=np.float64)
        for name in ("mean", "inverse_scale")
    )
    index = _evenly_spaced(len(rows))
    inputs = _core.runtime.take(rows, index).double().numpy()
    z = np.clip((inputs - mean) * scale, -1e9, 1e9)
    z = np.moveaxis(z, 1, -1).reshape(-1, len(mean))
    is_own = isinstance(estimator.input_scaling, str)
    expected = np.stack([np.zeros(len(mean)), np.ones(len(mean))])
    if is_own:  # another scaling promises the mean 0 and the deviation 1
        expected = np.stack(estimator._state["stream"]["moments"]["inputs"])
    found, is_off = _off_scale(z, expected, scale.ravel() > 0, len(index))
    if not is_off.any():
        return []
    order = np.flatnonzero(is_off)
    order = order[np.argsort(-np.abs(found - expected)[0, order], kind="stable")]
    names = np.arange(len(mean))
    if mean.ndim == 1:
        names = getattr(estimator, "feature_names_in_", names)
    names = [str(name) for name in names[order]]
    kind = "column" if mean.ndim == 1 else "channel"
    kind += "s" * (len(names) > 1)
    others = f" and {len(names) - 5} more" if len(names) > 5 else ""
    of = "of the training rows" if is_own else "that 'input_scaling' gives"
    got, due = found[:, order[0]], expected[:, order[0]].round(2) + 0.0
    return [
        f"X is off the scale {of} in {kind} {', '.join(names[:5])}{others}: on this "
        f"scale, softly clipped at 3, {names[0]} has the mean {got[0]:.2g} and the "
        f"deviation {got[1]:.2g}, not about {due[0]:.2g} and {due[1]:.2g}; give X in "
        f"the units of the training rows, or fit again"
        f"{'' if is_own else ' with another scaling'}."
    ]


def _off_scale(z, expected, varies, n_rows):
    """Return the moments of softly clipped inputs, and which columns are off the scale.

    Parameters
    ----------
    z : ndarray of shape (n_values, n_columns)
        Scaled rows of X, or pixels with channels as columns.
    expected : ndarray of shape (2, n_columns)
        Mean and deviation that clipped inputs should have.
    varies : ndarray of bool of shape (n_columns,)
        False for columns that were constant in training.
    n_rows : int
        Number of rows, of which z may hold several values each.

    Returns
    -------
    found : ndarray of shape (2, n_columns)
        Mean and deviation of the clipped inputs.
    is_off : ndarray of bool of shape (n_columns,)
    """
    # Clipped as tables are in training, so that a few large numbers show no shift.
    clipped = z / np.sqrt(1 + (z / 3) ** 2)
    found = np.stack([clipped.mean(axis=0), clipped.std(axis=0)])
    is_off = np.abs(found[0] - expected[0]) > max(_MOVED, 4 / math.sqrt(n_rows))
    is_off |= found[1] > _WIDE * np.maximum(1, expected[1])
    is_narrow = (found[1] < _NARROW * expected[1]) & (expected[1] > _SPREAD)
    for i in np.flatnonzero(is_narrow & varies & ~is_off):
        # Rare values may be missing by chance; values that differ are another unit.
        is_off[i] = np.unique(z[:, i], return_counts=True)[1].max() < len(z) / 2
    return found, is_off


def _doubts_of_information(estimator, found):
    """Return a sentence if training rows have much more information than X.

    Parameters
    ----------
    estimator : BaseInfoMax
        Fitted.
    found : dict
        Fields of ``PromiseReport`` by name.
    """
    pairs = estimator._state["spec"]["pairs"]
    # Neighbours are farther away where rows are fewer, so that X cannot be compared.
    has_neighbors = "neighbors" in pairs["augmentations"] or pairs["by_class"]
    training, here = found["training_information"], found["information"]
    most = math.inf if math.isinf(found["ceiling"]) else math.log(found["n_samples"])
    # Small batches show less of the information, unless it is well below their ceiling.
    if has_neighbors or training > 0.75 * most or training < 0.5:
        return []
    if here >= _KEPT * training:
        return []
    return [
        f"Codes have {here:.2f} nats of information on X, and {training:.2f} on the "
        f"training rows: the encoder knows these by heart, or X is from another "
        f"source; raise 'weight_decay', lower 'n_components', set 'early_stopping', or "
        f"train on more rows."
    ]


def _doubts_of_distance(estimator, found, holds, is_explained):
    """Return a sentence about codes that are far from their distribution, or unclear.

    Parameters
    ----------
    estimator : BaseInfoMax
        Fitted.
    found : dict
        Fields of ``PromiseReport`` by name.
    holds : bool or None
        Result of ``_holds``.
    is_explained : bool
        True if other sentences say why codes are far.
    """
    low, high = found["distance"].low, found["distance"].high
    if holds is None and _is_at_limit(found):
        return [
            f"Codes are about at the limit of {_FAR}: lower 'n_components' or train on "
            f"more rows to come closer, or pass more held-out rows to tell the sides "
            f"of the limit apart."
        ]
    if holds is None:
        n = math.ceil(found["n_samples"] * (high / _FAR) ** 2 / 10) * 10
        about = f"; about {n} would show a good match" if low == 0 else ""
        return [f"X has too few rows to tell: pass more held-out rows{about}."]
    if holds or is_explained:
        return []
    if low <= _FAR:  # the norms only
        what = "vary too little, so that codes lie near a sphere"
        if found["norm_spread"] > 1:
            what = "vary too much, so that rows are far out in all components at once"
        return [
            f"Norms of codes {what}, which distances along directions hardly show: "
            f"look at the rows with the largest and smallest norms; if they belong to "
            f"the source of the training rows, lower 'n_components' or train on more "
            f"rows."
        ]
    if np.mean(estimator.match_curve_[-5:]) > _MATCHED:
        return [
            f"Codes are far from their distribution, and were so in training; "
            f"{_train_longer(estimator)}, or change 'learning_rate_init'."
        ]
    return [
        "Codes of training rows were matched to the distribution, and those of X are "
        "far from it: make sure that X is from the source of the training rows; if it "
        "is, lower 'n_components' or train on more rows."
    ]

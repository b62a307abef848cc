"""Pictures of a fitted estimator; matplotlib is imported when one is drawn."""

import math

import numpy as np
from scipy import stats
from sklearn.utils import check_random_state

from ._utils.distributions import Distribution
from .metrics.effect_size import excess_distance
from .metrics.samples import normal_sample, random_directions
from .metrics.scorers import distribution_of, last_step
from .metrics.summaries import norm_spread

__all__ = ["InformationDisplay", "MatchDisplay"]

_BAND = 0.95
_MOST_POINTS = 2000  # more make a blot of a scatter plot
_N_QUANTILES = 100  # evenly spaced, so that the tails are seen


class MatchDisplay:
    """How well codes follow their distribution, in three panels.

    - *slices*: for each random direction, the quantiles of the codes' projections on it
      minus those of N(0, 1).  A grey band shows where each quantile of a sample of
      N(0, 1) of this size lies with probability 0.95.  The title has the distance of
      the codes to N(0, I) in standard deviations, with its interval, as
      ``metrics.excess_distance`` finds it;
    - *norms*: a histogram of the norms of codes, and the density of the chi
      distribution, which the norms of N(0, I) have;
    - *codes*: a scatter plot of the first two components, and two circles, each with
      the share of codes inside it and the share that N(0, I) has there.  With one
      component, its histogram and the density of N(0, 1).

    Codes of any other distribution are mapped to N(0, I) first, component by component.
    Make a display with ``from_estimator`` or ``from_codes``.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_components)
        Codes, mapped to N(0, I).
    slices : ndarray of shape (n_samples, n_projections)
        Projections of the codes on random directions; each column is sorted.
    distance : ExcessDistance or None, default=None
        Distance of the codes to N(0, I), with its interval; None leaves it out.
    distribution_name : str, default="normal"
        Name of the distribution that codes were mapped from.  Any name but "normal"
        makes the axis labels say that codes were mapped to N(0, 1).

    Attributes
    ----------
    figure_ : matplotlib Figure
        Figure that holds the panels.
    axes_ : ndarray of shape (3,)
        The matplotlib Axes of slices, norms and codes.

    See Also
    --------
    InformationDisplay : How training went.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from skdim import MatchDisplay
    >>> codes = np.random.default_rng(1).normal(size=(500, 3))
    >>> display = MatchDisplay.from_codes(codes)
    >>> display.axes_[0].get_title()
    'slices: distance 0.0469 (0 to 0.108)'
    """

    def __init__(self, codes, slices, *, distance=None, distribution_name="normal"):
        self.codes = codes
        self.slices = slices
        self.distance = distance
        self.distribution_name = distribution_name

    @classmethod
    def from_estimator(cls, estimator, X, *, n_projections=30, random_state=0, ax=None):
        """Draw how well the codes of X follow their distribution.

        Parameters
        ----------
        estimator : NoiseInjectedDIM, DeepInfoMax or Pipeline that ends in one
            Fitted.
        X : array-like
            Rows or images, as ``estimator.transform`` takes them; at least two.  Rows
            that the estimator was not trained on show the match best.
        n_projections : int, default=30
            Number of random directions.
        random_state : int, RandomState instance or None, default=0
            Seed of the random directions.
        ax : array-like of three matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : MatchDisplay
            With the picture drawn.

        Raises
        ------
        ValueError
            If the estimator returns another layer than the code, which follows no
            distribution, or if ``ax`` is not three Axes.
        ImportError
            If matplotlib is not installed.
        """
        return cls.from_codes(
            estimator.transform(X),
            distribution_of(estimator),
            n_projections=n_projections,
            random_state=random_state,
            ax=ax,
        )

    @classmethod
    def from_codes(
        cls,
        Z,
        output_distribution="normal",
        *,
        n_projections=30,
        random_state=0,
        ax=None,
    ):
        """Draw how well a sample follows a distribution.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            The sample, such as held-out codes; at least two rows.
        output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
            Distribution that each component should follow, independently of the others.
        n_projections : int, default=30
            Number of random directions.
        random_state : int, RandomState instance or None, default=0
            Seed of the random directions.
        ax : array-like of three matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : MatchDisplay
            With the picture drawn.

        Raises
        ------
        ValueError
            If Z is not a table of finite numbers, the distribution is invalid, or
            ``ax`` is not three Axes.
        ImportError
            If matplotlib is not installed.
        """
        codes = normal_sample(Z, output_distribution, min_rows=2)
        rng = check_random_state(random_state)
        directions = random_directions(codes.shape[1], n_projections, rng)
        slices = np.sort(codes @ directions, axis=0)
        name = Distribution(output_distribution).name or "given"
        distance = excess_distance(codes, random_state=0)
        return cls(codes, slices, distance=distance, distribution_name=name).plot(ax=ax)

    def plot(self, ax=None):
        """Draw the three panels.

        Parameters
        ----------
        ax : array-like of three matplotlib Axes, default=None
            Where to draw slices, norms and codes; None makes a figure.

        Returns
        -------
        self : MatchDisplay
            With ``figure_`` and ``axes_`` set.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If ``ax`` is not three Axes.
        """
        self.figure_, self.axes_ = _axes(type(self), ax, 3, (12, 4))
        slices, norms, codes = self.axes_
        self._plot_slices(slices)
        self._plot_norms(norms)
        if self.codes.shape[1] > 1:
            self._plot_codes(codes)
        else:
            self._plot_component(codes)
        return self

    def _plot_slices(self, axes):
        """Draw the panel of slices on the matplotlib Axes ``axes``.

        For each slice it shows the quantiles minus those of N(0, 1), and for all of
        them the band in which each quantile of a sample of N(0, 1) lies with
        probability 0.95.
        """
        n_samples = len(self.slices)
        end = stats.norm.isf(0.5 / n_samples)
        shares = stats.norm.cdf(np.linspace(-end, end, _N_QUANTILES))
        ranks = np.unique((n_samples * shares - 0.5).round().astype(int))
        expected = stats.norm.ppf((ranks + 0.5) / n_samples)
        order = stats.beta(ranks + 1, n_samples - ranks)  # of uniform order statistics
        ends = stats.norm.ppf([order.ppf((1 + s * _BAND) / 2) for s in (-1, 1)])
        low, high = ends - expected
        gaps = self.slices[ranks] - expected[:, None]
        inside = ((low[:, None] <= gaps) & (gaps <= high[:, None])).mean()
        label = f"true sample, {_BAND:.0%} inside"
        axes.fill_between(expected, low, high, color="0.8", label=label)
        lines = axes.plot(expected, gaps, color="C0", lw=0.6, alpha=0.5)
        lines[0].set_label(f"{gaps.shape[1]} random slices, {inside:.0%} inside")
        axes.axhline(0, color="k", lw=0.8)
        title = "slices"
        if self.distance is not None:
            distance, *ends = (f"{value:.3g}" for value in self.distance)
            title += f": distance {distance} ({' to '.join(ends)})"
        axes.set(title=title, xlabel="quantile of N(0, 1)")
        axes.set_ylabel(f"departure of the slice{self._unit()}")
        _legend(axes)

    def _plot_norms(self, axes):
        """Draw on ``axes`` a histogram of the norms of codes, and the chi density."""
        norms = np.linalg.norm(self.codes, axis=1)
        chi = stats.chi(self.codes.shape[1])
        label = f"rows, {norm_spread(self.codes):.2f} times its spread"
        axes.hist(norms, bins="auto", density=True, color="C0", alpha=0.5, label=label)
        grid = np.linspace(chi.ppf(1e-4), chi.isf(1e-4), 200)
        label = f"chi distribution, d = {self.codes.shape[1]}"
        axes.plot(grid, chi.pdf(grid), color="k", label=label)
        axes.set(title="norms", ylabel="density")
        axes.set_xlabel(f"norm of a row{self._unit()}")
        _legend(axes)

    def _plot_codes(self, axes):
        """Draw on ``axes`` the first two components, and circles of radius 1 and 2."""
        step = math.ceil(len(self.codes) / _MOST_POINTS)
        points = self.codes[::step, :2]
        axes.plot(*points.T, ".", color="C0", ms=3, alpha=0.5)
        angle = np.linspace(0, 2 * np.pi, 200)
        for radius in (1, 2):
            axes.plot(radius * np.cos(angle), radius * np.sin(angle), "k", lw=0.8)
            self._label_circle(axes, radius)
        axes.set(title="codes", ylabel="component 2")
        axes.set_xlabel(f"component 1{self._unit()}")
        axes.set_aspect("equal", adjustable="datalim")

    def _label_circle(self, axes, radius):
        """Write the share of codes inside a circle, and the share N(0, I) has there.

        Parameters
        ----------
        axes : matplotlib Axes
            Where to write.
        radius : float
            Radius of the circle around 0, in the plane of the first two components.
        """
        inside = (np.hypot(*self.codes[:, :2].T) < radius).mean()
        expected = -math.expm1(-(radius**2) / 2)
        white = {"facecolor": "white", "alpha": 0.8, "pad": 1, "lw": 0}
        text = f"{inside:.0%} inside, expected {expected:.0%}"
        style = {"ha": "center", "va": "top", "fontsize": "small", "bbox": white}
        axes.text(0, -radius, text, **style)

    def _plot_component(self, axes):
        """Draw on ``axes`` a histogram of the only component, and N(0, 1)'s density."""
        axes.hist(self.codes[:, 0], bins="auto", density=True, color="C0", alpha=0.5)
        grid = np.linspace(-4, 4, 200)
        axes.plot(grid, stats.norm.pdf(grid), color="k", label="N(0, 1)")
        axes.set(title="codes", xlabel=f"component 1{self._unit()}", ylabel="density")
        _legend(axes)

    def _unit(self):
        """Return the text to append to labels of axes that show codes.

        It is ", mapped to N(0, 1)", or empty if codes needed no map because their own
        distribution is N(0, I).
        """
        return "" if self.distribution_name == "normal" else ", mapped to N(0, 1)"


class InformationDisplay:
    """How training went: the mutual information of each epoch, and its ceilings.

    The mutual information is that between codes and noisy codes.  It is at most the
    capacity of the channel; as InfoNCE measures it, also at most the logarithm of the
    batch size.  A curve at the logarithm of the batch size says that the batch is too
    small; a curve far below both ceilings says that training was too short.  Make a
    display with ``from_estimator``.

    Parameters
    ----------
    information_curve : ndarray of shape (n_iter,)
        Information of each epoch, in nats: ``information_curve_`` of an estimator.
    capacity : float
        Capacity of the noisy channel, in nats; drawn as a horizontal line.
    batch_size : int, default=None
        Rows per training step; its logarithm is drawn as a second horizontal line.
        None draws no second line, as for objectives other than InfoNCE.
    validation_information_curve : ndarray of shape (n_iter,), default=None
        Information on held-out rows after each epoch, in nats; None draws no such
        curve.
    match_curve : ndarray of shape (n_iter,), default=None
        Kullback-Leibler divergence of random slices of the codes from N(0, 1), for each
        epoch, in nats: ``match_curve_`` of an estimator.  0 is a perfect match.  None
        draws no such curve.

    Attributes
    ----------
    figure_ : matplotlib Figure
        Figure that holds the picture.
    axes_ : ndarray of shape (1,) or (2,)
        The matplotlib Axes of the information and, if there is a ``match_curve``, those
        of the match, with their scale on the right.

    See Also
    --------
    MatchDisplay : How well codes follow their distribution.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from skdim import InformationDisplay, NoiseInjectedDIM
    >>> X = load_digits().data
    >>> dim = NoiseInjectedDIM(4, max_iter=5, random_state=0).fit(X)
    >>> display = InformationDisplay.from_estimator(dim)
    >>> display.axes_[0].get_ylabel()
    'information (nats)'
    """

    def __init__(
        self,
        information_curve,
        *,
        capacity,
        batch_size=None,
        validation_information_curve=None,
        match_curve=None,
    ):
        self.information_curve = information_curve
        self.capacity = capacity
        self.batch_size = batch_size
        self.validation_information_curve = validation_information_curve
        self.match_curve = match_curve

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Draw how the training of an estimator went.

        Parameters
        ----------
        estimator : NoiseInjectedDIM or Pipeline that ends in one
            Fitted.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : InformationDisplay
            With the picture drawn.

        Raises
        ------
        ValueError
            If the estimator has no noisy channel, as ``DeepInfoMax``, or if ``ax`` is
            more than one Axes.
        ImportError
            If matplotlib is not installed.
        """
        last = last_step(estimator)
        if not hasattr(last, "capacity_"):
            raise ValueError(
                f"InformationDisplay needs an estimator with a noisy channel, such as "
                f"NoiseInjectedDIM. Got {type(last).__name__} instead."
            )
        is_bounded = math.isfinite(last._ceiling())
        return cls(
            last.information_curve_,
            capacity=last.capacity_,
            batch_size=last.batch_size_ if is_bounded else None,
            validation_information_curve=getattr(
                last, "validation_information_curve_", None
            ),
            match_curve=getattr(last, "match_curve_", None),
        ).plot(ax=ax)

    def plot(self, ax=None):
        """Draw the information of each epoch, and the most that it can reach.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        self : InformationDisplay
            With ``figure_`` and ``axes_`` set.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If ``ax`` is more than one Axes.
        """
        self.figure_, (main,) = _axes(type(self), ax, 1, (6, 4))
        curves = [_draw_curve(main, self.information_curve, "C0", "training")]
        if self.validation_information_curve is not None:
            curve = self.validation_information_curve
            curves.append(_draw_curve(main, curve, "C1", "validation"))
        curves += self._plot_ceilings(main)
        main.set(xlabel="epoch", ylabel="information (nats)")
        low, high = main.get_ylim()
        main.set_ylim(min(0, low), 1.05 * high)
        self.axes_ = np.array([main])
        if self.match_curve is not None:
            twin = main.twinx()
            curves.append(
                _draw_curve(twin, self.match_curve, "C2", "match (right axis)")
            )
            twin.set(ylabel="divergence of a slice (nats)", ylim=(0, None))
            self.axes_ = np.array([main, twin])
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1)}
        main.legend(handles=curves, fontsize="small", ncols=2, **place)
        return self

    def _plot_ceilings(self, axes):
        """Draw the capacity and the logarithm of the batch size as horizontal lines.

        A line above 1.5 times the other would squeeze the curves, so it is only named
        in the legend.

        Parameters
        ----------
        axes : matplotlib Axes

        Returns
        -------
        lines : list of matplotlib Line2D
            To be passed to the legend.
        """
        ceilings = {"capacity": (self.capacity, "--")}
        if self.batch_size is not None:
            name = f"log(batch of {self.batch_size})"
            ceilings[name] = (math.log(self.batch_size), ":")
        top = 1.5 * min(value for value, _ in ceilings.values())
        lines = []
        for name, (value, style) in ceilings.items():
            label = f"{name}: {value:.2f}" + (", above" if value > top else "")
            y = value if value <= top else math.nan
            lines.append(axes.axhline(y, color="k", lw=1, ls=style, label=label))
        return lines


def _draw_curve(axes, curve, color, label):
    """Draw a curve of one number for each epoch, for ``InformationDisplay.plot``.

    Parameters
    ----------
    axes : matplotlib Axes
        Where to draw.
    curve : array-like of shape (n_epochs,)
        The numbers.  A curve of 50 epochs or more is drawn faintly, under its running
        mean.
    color : str
        Color of the curve and of its running mean.
    label : str
        Name of the curve in the legend.

    Returns
    -------
    line : matplotlib Line2D
        The curve, or its running mean, to be passed to the legend.
    """
    curve = np.asarray(curve, dtype=np.float64)
    epochs = np.arange(1, len(curve) + 1)
    width = max(1, len(curve) // 25)
    if width > 1:
        axes.plot(epochs, curve, color=color, lw=0.6, alpha=0.3)
        label = f"{label} (mean of {width})"
    # An interrupted first epoch leaves no curve.
    mean = np.convolve(curve, np.ones(width) / width, "valid") if len(curve) else curve
    marker = "o" if len(curve) == 1 else None
    (line,) = axes.plot(
        epochs[width - 1 :], mean, color=color, label=label, marker=marker
    )
    return line


def _legend(axes):
    """Show the legend of matplotlib Axes, in new room above what is drawn on them."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.25 * (high - low))
    axes.legend(fontsize="small", loc="upper left")


def _axes(display, ax, n_axes, size):
    """Return the figure and the Axes that a display draws on.

    Parameters
    ----------
    display : type
        Class of the display, named in error messages.
    ax : None, matplotlib Axes or array-like of these
        As the user gave it; None makes a new figure.
    n_axes : int
        Number of Axes that the display needs.
    size : tuple of (width, height)
        Size of a new figure, in inches.

    Returns
    -------
    figure : matplotlib Figure
    axes : ndarray of shape (n_axes,)

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If ``ax`` does not hold ``n_axes`` Axes.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{display.__name__} needs matplotlib, which is not installed; install it "
            f"with 'pip install matplotlib'."
        ) from error
    if ax is None:
        figure, axes = plt.subplots(
            1, n_axes, figsize=size, layout="constrained", squeeze=False
        )
        return figure, axes[0]
    axes = np.ravel(np.asarray(ax, dtype=object))
    if len(axes) != n_axes:
        raise ValueError(
            f"{display.__name__} draws on {n_axes} Axes, but got {len(axes)} as 'ax'; "
            f"leave it at None or pass {n_axes}."
        )
    return axes[0].figure, axes

"""The final map: an invertible map of codes to N(0, I), fitted when training has ended.

Training leaves codes close to N(0, I), not at it.  ``Transport`` removes what is left.
It is a sequence of layers

    c <- g(c Q),    g = one smooth increasing function for each component,

and a last rotation.  Each ``Q`` is a random rotation, and each ``g`` moves the
distribution of its component part of the way to N(0, 1).  Codes whose projections on
all directions are N(0, 1) follow N(0, I) (Cramer and Wold), so that many layers bring
all of the codes there.  In many dimensions, projections are nearly normal whatever the
norms of codes are.  So every tenth layer begins with a function of the norm alone.

It is iterative Gaussianization (Laparra et al., IEEE Trans. Neural Netw. 22 (2011) 537;
Dai and Seljak, arXiv:2007.00674) with damped steps, which leave neighbours neighbours,
and with a limit to what chance explains.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import special, stats
from torch import Tensor, nn

from .memory import Memory
from .normalization import Normalizer
from .runtime import PLAIN

__all__ = ["FINAL_MAPS", "MAX_ROWS", "FinalMap", "Transport"]


class FinalMap(NamedTuple):
    """What ``final_map`` stands for.

    Attributes
    ----------
    n_layers : int
        Number of layers.
    caution : float
        A layer moves codes only as far as they deviate by more than ``caution`` times
        what chance explains, with up to 16 components.  With more, chance adds up over
        more directions, and caution grows with their number.
    """

    n_layers: int
    caution: float


# Found by measurement: docs/defaults.md.
FINAL_MAPS = {
    "close": FinalMap(n_layers=300, caution=0.5),
    "gentle": FinalMap(n_layers=100, caution=2.0),
    "linear": FinalMap(n_layers=0, caution=0.0),
}
_MANY_COMPONENTS = 16  # caution grows with more of them
MAX_ROWS = 20_000  # more rows hardly bring held-out codes closer
_STEP = 0.4  # share of the way to N(0, 1) that one layer goes
_TOP, _SPACING = 3.2, 0.4  # knots from -3.2 to 3.2
_N_KNOTS = round(2 * _TOP / _SPACING) + 1
_ROWS_BEYOND = 10  # fewer rows than these beyond a knot do not say where it should be
# Codes are fitted with this much noise, so that layers cannot pull equal codes apart
# without end.
_JITTER = 0.03
_N_CHECKED = 2000  # rows, to see which layers bring codes closer
_FEWEST_CHECKED = 1000  # rows of a stream, which else decide by chance
_HARM = 1.2  # factor of the mean squared way to go that is more than chance
_LAYERS_PER_NORM = 10  # of which the first begins with a function of the norm
# Rotations are used in turns: their products are other rotations.
_N_ROTATIONS = 16


class Transport(nn.Module):
    """Bring codes to N(0, I) by an invertible map, and choose their rotation.

    ``forward(c)`` takes codes of shape (n_rows, n_components) and returns codes of the
    same shape.  The code of a row does not depend on other rows.  Before ``fit``, codes
    are returned unchanged.

    Parameters
    ----------
    n_components : int
        Number of components of the code.
    kind : str
        A key of ``FINAL_MAPS``.
    whitens : bool, default=False
        True first brings codes to mean 0 and variance 1 and removes correlations, for
        models that do not normalise codes.

    Attributes
    ----------
    rotations : Tensor of shape (16, n_components, n_components)
        Layer ``i`` begins with rotation ``i % 16``.
    shifts : Tensor of shape (n_layers, n_components, 17)
        How far the function of each component moves each knot; 0 where it moves none.
    norm_shifts : Tensor of shape (n_layers / 10, 1, 17)
        The same for the function of the norm.
    turned : Tensor of shape (n_components, n_components)
        How ``turn`` has rotated codes.
    rotation : Tensor of shape (n_components, n_components)
        The last rotation.  It undoes all others, and turns codes by ``turned``.
    """

    def __init__(self, n_components: int, kind: str, whitens: bool = False) -> None:
        super().__init__()
        n_layers, caution = FINAL_MAPS[kind]
        self.caution = caution * max(1.0, n_components / _MANY_COMPONENTS)
        self.normalizer = Normalizer(n_components).eval() if whitens else None
        # Rounded to single precision, they would not be rotations exactly.
        identity = torch.eye(n_components, dtype=torch.float64, device="cpu")
        n_rotations = min(_N_ROTATIONS, n_layers)
        shape = (n_layers, n_components, _N_KNOTS)
        of_norms = (-(-n_layers // _LAYERS_PER_NORM), 1, _N_KNOTS)
        self.register_buffer("rotations", identity.repeat(n_rotations, 1, 1))
        self.register_buffer("shifts", torch.zeros(shape, **PLAIN))
        self.register_buffer("norm_shifts", torch.zeros(of_norms, **PLAIN))
        self.register_buffer("turned", identity.clone())
        self.register_buffer("rotation", identity.clone())

    def train(self, mode: bool = True) -> Transport:
        """Stay in evaluation mode: the map is no part of training."""
        return super().train(False)

    def forward(self, c: Tensor) -> Tensor:
        if self.normalizer is not None:
            c = self.normalizer(c)
        for step in self._steps(c.dtype):
            c = step(c)
        return c @ self.rotation.to(c.dtype)

    def log_det(self, c: Tensor) -> Tensor:
        """Return the log-determinant of the Jacobian of the map at each code.

        Parameters
        ----------
        c : Tensor of shape (n_rows, n_components)
            Codes before the map.

        Returns
        -------
        log_det : Tensor of shape (n_rows,)
            Logarithm of the factor by which the map changes volumes.
        """
        total = c.new_zeros(len(c))
        if self.normalizer is not None:
            c, total = self.normalizer(c), total + self.normalizer.log_det()
        for step in self._steps(c.dtype):
            c, total = step(c), total + step.log_det(c)
        return total

    def inverse(self, codes: Tensor) -> Tensor:
        """Return the codes before the map; ``codes`` are those after it."""
        c = codes @ self.rotation.T.to(codes.dtype)
        for step in reversed(list(self._steps(codes.dtype))):
            c = step.inverse(c)
        return c if self.normalizer is None else self.normalizer.inverse(c)

    def _steps(self, dtype: torch.dtype) -> Iterator[_Slices | _Norms]:
        """Yield the layers up to the last that moves codes, computed in ``dtype``."""
        n_layers = self._n_moving()
        rotations = self.rotations.to(dtype)
        splines = _splines(self.shifts[:n_layers].to(dtype))
        of_norms = _splines(self.norm_shifts.to(dtype))
        for i, spline in enumerate(splines):
            if i % _LAYERS_PER_NORM == 0:
                yield _Norms(of_norms[i // _LAYERS_PER_NORM], self.shifts.shape[1])
            yield _Slices(rotations[i % _N_ROTATIONS], spline)

    def _n_moving(self) -> int:
        """Return the number of layers up to the last that moves codes."""
        moves = self.shifts.any(2).any(1)
        moves[::_LAYERS_PER_NORM] |= self.norm_shifts.any(2).any(1)
        return 1 + int(moves.nonzero().max()) if moves.any() else 0

    @torch.no_grad()
    def fit(self, c: Tensor, generator: torch.Generator, memory: Memory) -> None:
        """Fit the map to codes of training rows.

        Parameters
        ----------
        c : Tensor of shape (n_rows, n_components)
            Codes before the map.
        generator : torch.Generator
            Draws rotations and noise; on the CPU.
        memory : Memory
            Distribution functions of earlier calls of ``partial_fit``, which are
            averaged with those of ``c``.  Stores the averages.  If it holds any, the
            rotations of layers and ``turned`` stay, so that components keep their
            meaning.
        """
        n_rows, d = c.shape
        n_known = n_rows + memory.n_remembered
        is_first = not memory.n_rows
        for rotation in self.rotations if is_first else []:
            rotation.copy_(_random_rotation(d, generator))
        if self.normalizer is not None:
            c = self._fit_normalizer(c, memory)
        noise = torch.empty(c.shape, **PLAIN).normal_(generator=generator)
        noisy = c.float() + _JITTER * noise.to(c.device)
        some = torch.randperm(n_rows, generator=generator, device="cpu")[:_N_CHECKED]
        c = torch.cat([noisy, c[some.to(c.device)].float()])  # the latter only to check
        norms, ways = _Norms(None, d), []
        goal_of_norms = _Goal(norms.law, n_known, self.caution)
        goal_of_slices = _Goal(stats.norm(), n_known, self.caution)
        check = _Goal(stats.norm(), len(c) - n_rows, 0.0)
        for i, shifts in enumerate(self.shifts):
            if i % _LAYERS_PER_NORM == 0:
                j = i // _LAYERS_PER_NORM
                shares = _shares_below(norms.scores(c[:n_rows]))
                (shares,) = memory.blend(f"norms {j}", n_rows, shares)
                self.norm_shifts[j].copy_(goal_of_norms.shifts(shares))
                c = _Norms(_splines(self.norm_shifts[j : j + 1])[0], d)(c)
            rotation = self.rotations[i % _N_ROTATIONS]
            c = c @ rotation.float()
            ways.append(check.gaps(_shares_below(c[n_rows:]))[1])
            (shares,) = memory.blend(f"slices {i}", n_rows, _shares_below(c[:n_rows]))
            shifts.copy_(goal_of_slices.shifts(shares))
            (spline,) = _splines(shifts[None])
            c = c if spline is None else spline(c)
        if is_first or n_rows >= _FEWEST_CHECKED:
            self._drop_layers_that_harm(ways)
        back = torch.eye(d, dtype=torch.float64, device=c.device)
        for i in range(self._n_moving()):
            back = self.rotations[i % _N_ROTATIONS].T @ back
        self.rotation.copy_(back @ self.turned)

    def _drop_layers_that_harm(self, ways: list[float]) -> None:
        """Make the layers after the closest one do nothing.

        Codes that are equal for many rows cannot be spread out.  They come closer with
        some layers, and then move away.

        Parameters
        ----------
        ways : list of float
            Mean squared way to go before each layer, for codes without noise.
        """
        blocks = [
            np.mean(ways[start : start + _LAYERS_PER_NORM])
            for start in range(0, len(ways), _LAYERS_PER_NORM)
        ]
        if blocks and blocks[-1] > _HARM * min(blocks):
            closest = int(np.argmin(blocks))
            self.norm_shifts[closest:] = 0
            self.shifts[closest * _LAYERS_PER_NORM :] = 0

    def _fit_normalizer(self, c: Tensor, memory: Memory) -> Tensor:
        """Set the moments that codes ``c`` are whitened by; return whitened codes."""
        mean, n_rows = c.double().mean(0), len(c)
        centered = c.double() - mean
        covariance = centered.T @ centered / n_rows
        moments = memory.blend_moments("raw codes", n_rows, mean, covariance)
        self.normalizer.fit(*moments, n_rows + memory.n_remembered)
        return self.normalizer(c.float())

    def turn(self, rotation: Tensor) -> None:
        """Rotate all codes that ``forward`` returns.

        Columns of ``rotation``, of shape (n_components, n_components), are the new
        components.
        """
        self.turned.copy_(self.turned @ rotation.to(self.turned))
        self.rotation.copy_(self.rotation @ rotation.to(self.rotation))


def _random_rotation(d: int, generator: torch.Generator) -> Tensor:
    """Return a random orthogonal matrix of shape (d, d), uniformly distributed."""
    matrix = torch.empty(d, d, dtype=torch.float64, device="cpu")
    q, r = torch.linalg.qr(matrix.normal_(generator=generator))
    return q * r.diagonal().sign()


def _grid(like: Tensor) -> Tensor:
    """Return the knots, from -3.2 to 3.2, in the data type and on the device given."""
    steps = torch.arange(_N_KNOTS, dtype=like.dtype, device=like.device)
    return steps * _SPACING - _TOP


def _shares_below(scores: Tensor) -> Tensor:
    """Return the share of rows below each knot, for each column.

    Half a row is added below and half a row above, so that no share is 0 or 1.
    ``scores`` has the shape (n_rows, d), and the result, in double precision, the shape
    (d, n_knots).
    """
    n_rows, d = scores.shape
    bins = ((scores + _TOP) / _SPACING).ceil().clamp(0, _N_KNOTS).long()
    bins += (_N_KNOTS + 1) * torch.arange(d, device=scores.device)
    counts = torch.bincount(bins.flatten(), minlength=d * (_N_KNOTS + 1))
    below = counts.reshape(d, -1).cumsum(1)[:, :-1].double()
    return (below + 0.5) / (n_rows + 1)


class _Goal:
    """Where the knots of a layer should move, so that its scores follow a law.

    A knot below which the share p of the rows lies should move to the quantile of p.
    All knots of a layer go the same part of their way: ``_STEP``, times the share of
    the mean squared way that is above ``caution`` times what draws from the law have
    (a positive-part James-Stein estimate).  Knots with fewer than 10 rows on one side
    move with their neighbours.

    Parameters
    ----------
    law : scipy.stats distribution
        Continuous, with mean 0 and variance 1.
    n_rows : int
        Number of rows that shares are computed from.
    caution : float
    """

    def __init__(self, law: Any, n_rows: int, caution: float) -> None:
        self.law, self.n_rows = law, n_rows
        self.knots = np.arange(_N_KNOTS) * _SPACING - _TOP
        shares, density = law.cdf(self.knots)[None], law.pdf(self.knots)
        self.weights = density / density.sum()
        # The variance of a sample quantile.
        chance = shares * (1 - shares) / (n_rows * density**2)
        chance = _well_supported(chance, shares, n_rows)
        self.by_chance = caution * float(chance[0] @ self.weights)

    def gaps(self, shares: Tensor) -> tuple[np.ndarray, float]:
        """Return how far the knots should move, and the mean square of this.

        ``shares``, the share of the rows below each knot, and the first result have the
        shape (d, n_knots).
        """
        shares = shares.cpu().numpy()
        gaps = self.law.ppf(shares) - self.knots
        gaps = _well_supported(gaps, shares, self.n_rows)
        return gaps, max(float((gaps**2 @ self.weights).mean()), 1e-12)

    def shifts(self, shares: Tensor) -> Tensor:
        """Return how far the knots move, of the shape (d, n_knots) of ``shares``."""
        gaps, way = self.gaps(shares)
        share = _STEP * max(0.0, 1 - self.by_chance / way)
        return torch.tensor(gaps * share, device="cpu")


def _well_supported(values: np.ndarray, shares: np.ndarray, n_rows: int) -> np.ndarray:
    """Replace values at knots with fewer than 10 rows on one side.

    They become the values at the nearest knot that has as many, or 0 if there is none.
    ``values`` and ``shares``, the share of the rows below each knot, have the shape
    (d, n_knots).
    """
    is_good = np.minimum(shares, 1 - shares) * n_rows >= _ROWS_BEYOND
    first = is_good.argmax(1)[:, None]
    last = _N_KNOTS - 1 - is_good[:, ::-1].argmax(1)[:, None]
    places = np.clip(np.arange(_N_KNOTS), first, last)
    values = np.take_along_axis(values, places, 1)
    return np.where(is_good.any(1, keepdims=True), values, 0)


class _Slices:
    """A layer: rotate codes, and apply an increasing function to each component.

    ``spline`` is None if the functions change nothing.
    """

    def __init__(self, rotation: Tensor, spline: _Spline | None) -> None:
        self.rotation, self.spline = rotation, spline

    def __call__(self, c: Tensor) -> Tensor:
        turned = c @ self.rotation
        return turned if self.spline is None else self.spline(turned)

    def inverse(self, codes: Tensor) -> Tensor:
        turned = codes if self.spline is None else self.spline.inverse(codes)
        return turned @ self.rotation.T

    def log_det(self, c: Tensor) -> Tensor:
        if self.spline is None:
            return c.new_zeros(len(c))
        return self.spline.slope(c @ self.rotation).log().sum(1)


class _Norms:
    """A layer that changes the norm of each code, and not its direction.

    An increasing function is applied to the logarithm of the squared norm, standardised
    as that of N(0, I).  ``spline`` is None if the function changes nothing.
    """

    def __init__(self, spline: _Spline | None, d: int) -> None:
        self.spline, self.d = spline, d
        self.mean = float(special.digamma(d / 2) - math.log(d / 2))
        self.deviation = math.sqrt(special.polygamma(1, d / 2))

    @property
    def law(self) -> Any:
        """Distribution of the scores of codes that follow N(0, I)."""
        location = -special.digamma(self.d / 2) / self.deviation
        return stats.loggamma(self.d / 2, location, 1 / self.deviation)

    def scores(self, c: Tensor) -> Tensor:
        """Return standardised logarithms of squared norms, of shape (n_rows, 1)."""
        largest = torch.finfo(c.dtype).max
        square = c.square().mean(1, keepdim=True).clamp(1e-12, largest)
        return (square.log() - self.mean) / self.deviation

    def __call__(self, c: Tensor) -> Tensor:
        if self.spline is None:
            return c
        scores = self.scores(c)
        return c * (self.deviation / 2 * (self.spline(scores) - scores)).exp()

    def inverse(self, codes: Tensor) -> Tensor:
        if self.spline is None:
            return codes
        scores = self.scores(codes)
        return (
            codes * (self.deviation / 2 * (self.spline.inverse(scores) - scores)).exp()
        )

    def log_det(self, c: Tensor) -> Tensor:
        if self.spline is None:
            return c.new_zeros(len(c))
        scores = self.scores(c)
        stretch = self.deviation / 2 * (self.spline(scores) - scores)
        return (self.d * stretch + self.spline.slope(scores).log())[:, 0]


def _splines(shifts: Tensor) -> list[_Spline | None]:
    """Return the functions of each layer, or None for a layer that changes nothing.

    ``shifts`` has the shape (n_layers, d, n_knots).  The slope at a knot is the
    harmonic mean of the mean slopes beside it (Fritsch and Butland, SIAM J. Sci. Stat.
    Comput. 5 (1984) 300), and 1 at the outermost knots.
    """
    mean_slopes = 1 + shifts.diff(dim=-1) / _SPACING
    left, right = mean_slopes[..., :-1], mean_slopes[..., 1:]
    inner = 2 * left * right / (left + right)
    one = torch.ones_like(mean_slopes[..., :1])
    slopes = torch.cat([one, inner, one], -1)
    starts = (_grid(shifts) + shifts)[..., :-1]
    tables = torch.stack([starts, mean_slopes, slopes[..., :-1], slopes[..., 1:]], -1)
    is_active = shifts.flatten(1).any(1).tolist()
    return [
        _Spline(table) if active else None
        for table, active in zip(tables, is_active, strict=True)
    ]


class _Spline:
    """Increasing functions, one for each component: monotone rational quadratics.

    Between two knots a function is a quotient of two quadratics (Gregory and Delbourgo,
    IMA J. Numer. Anal. 2 (1982) 123), which has a closed inverse.  Its slope is
    continuous, and 1 outside of the knots.

    Parameters
    ----------
    table : Tensor of shape (d, n_knots - 1, 4)
        For each interval between two knots: value at its left end, mean slope, and
        slopes at its left and at its right end.
    """

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def __call__(self, x: Tensor) -> Tensor:
        """Return the values at ``x``, of shape (n_rows, d)."""
        place, t, outside = self._place(x)
        value, mean, left, right = self._entries(place)
        rest = t * (1 - t)
        bent = mean + (left + right - 2 * mean) * rest
        rise = mean * (mean * t.square() + left * rest) / bent
        return value + _SPACING * rise + outside

    def slope(self, x: Tensor) -> Tensor:
        """Return the derivative at ``x``, of shape (n_rows, d)."""
        place, t, _ = self._place(x)
        _, mean, left, right = self._entries(place)
        rest = t * (1 - t)
        bent = mean + (left + right - 2 * mean) * rest
        edges = right * t.square() + 2 * mean * rest + left * (1 - t).square()
        return edges * (mean / bent).square()

    def inverse(self, y: Tensor) -> Tensor:
        """Return where the values are ``y``, of shape (n_rows, d)."""
        starts = self.table[..., 0]
        ends = starts[:, -1:] + _SPACING * self.table[:, -1:, 1]
        inside = torch.minimum(torch.maximum(y, starts[:, 0]), ends[:, 0])
        place = torch.searchsorted(starts.contiguous(), inside.T.contiguous()).T - 1
        place = place.clamp_min(0)
        value, mean, left, right = self._entries(place)
        rise = (inside - value) / _SPACING
        bend = rise * (left + right - 2 * mean)
        a, b = mean * (mean - left) + bend, mean * left - bend
        root = (b.square() + 4 * a * mean * rise).clamp_min(0).sqrt()
        t = 2 * mean * rise / (b + root)
        return (place + t) * _SPACING - _TOP + (y - inside)

    def _place(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the interval of each value, its place there, and what lies outside.

        Places run from 0 to 1; what lies outside is the distance to the outermost knot.
        All have the shape of ``x``.
        """
        inside = x.clamp(-_TOP, _TOP)
        steps = (inside + _TOP) / _SPACING
        place = steps.detach().floor().clamp(0, _N_KNOTS - 2)
        return place.long(), (steps - place).clamp(0, 1), x - inside

    def _entries(self, place: Tensor) -> tuple[Tensor, ...]:
        """Return the four columns of the table at each value's interval."""
        d, n_intervals, _ = self.table.shape
        rows = place + n_intervals * torch.arange(d, device=place.device)
        return self.table.flatten(0, 1)[rows].unbind(-1)

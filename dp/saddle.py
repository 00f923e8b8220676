"""Where the law of a sum of losses must be known, and how finely: estimates that move bounds, never their validity.

Everything here is computed from the exact laws of the releases, not on a grid. K is the log moment generating function
of the sum, λ the tilt, at which the tilted sum has mean K'(λ) and variance K''(λ).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dp.composition import log_peak
from dp.pairs import TooManyNodesError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from dp.pairs import Law

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["LEFT_OUT", "MANY", "Grid", "Saddle", "Window"]

LEFT_OUT = 12.0
"""e^-12: what tails and wrapped mass may cost, relative to δ."""

_MOST_TILT = 1e4
"""Times the largest loss: beyond it only the largest loss has weight."""

MANY = 1 << 16
"""A window of more points is worth a second look."""

_ROUNDING = 1e-14
"""Of an FFT, relative."""

_LEAST_NOISE = 1e-5
"""What rounding may cost, relative to δ, at least."""

_ATOM = 0.01

_TRIES = 40

_FAR = 1 / 32
"""What a cell may add to the log of a Chernoff bound."""

_MOST_CELLS = 1 << 18
"""Of one size in one release: their nodes take about 50 MB."""

_COARSEST = 16.0
"""Spacing of the grid, at most."""


class Saddle:
    """The laws of the releases in one direction, tilted. Holds state.

    Args:
        laws: pairs (count >= 1, law).
        log_budget: log of what truncated tails may cost in δ, together.
    """

    def __init__(self, laws: Sequence[tuple[int, Law]], log_budget: float) -> None:
        self.laws = laws
        self.count = sum(count for count, _ in laws)
        self.log_tail = min(-40.0, log_budget - math.log(2 * self.count))
        self.log_truncated = self.log_tail + math.log(2 * self.count)
        self.points = [_Points(count, law, self.log_tail) for count, law in laws]
        self.tilt = self.mean = 0.0

    def moments(self, tilt: float) -> tuple[float, float, float]:
        """Return K, K' and K'' at a tilt."""
        parts = [point.moments(tilt) for point in self.points]
        total, mean, variance = (math.fsum(column) for column in zip(*parts, strict=True))
        return total, mean, variance

    def log_delta(self, tilt: float, epsilon: float | None = None) -> float:
        """Estimate log δ at ε = K'(tilt), or at a given ε near it, by a normal law of the tilted sum."""
        from scipy import special  # noqa: PLC0415 -- slow to import

        total, mean, variance = self.moments(tilt)
        deviation = max(math.sqrt(variance), 1e-100) * math.sqrt(2)
        near = special.erfcx(tilt * deviation / 2) - special.erfcx((tilt + 1) * deviation / 2)
        return total - tilt * (mean if epsilon is None else epsilon) + math.log(max(near, 1e-300) / 2)

    def aim_at_delta(self, log_delta: float) -> None:
        """Tilt so that δ at the mean of the tilted sum is as given, about."""
        self._aim(lambda tilt: self.log_delta(tilt) - log_delta)

    def limit(self, most: float) -> None:
        """Take less tilt if it leaves nothing but an atom at the largest loss."""
        if self.tilt > most and self.tilt**2 * self.moments(self.tilt)[2] < _ATOM:
            self.tilt = most
            self.mean = self.moments(most)[1]

    def aim_at_epsilon(self, epsilon: float) -> None:
        """Tilt so that the tilted sum has mean ε, or not at all if its mean is larger."""
        self._aim(lambda tilt: epsilon - self.moments(tilt)[1])

    def _aim(self, excess: Callable[[float], float]) -> None:
        low, high = 0.0, 1.0
        most = _MOST_TILT / max([1e-100, *(float(np.abs(point.loss).max()) for point in self.points)])
        while excess(high) > 0 and high < most:
            low, high = high, 2 * high
        while high - low > 0.02 * high and high > 1e-4:  # noqa: PLR2004 -- near enough
            middle = (low + high) / 2
            if excess(middle) > 0:
                low = middle
            else:
                high = middle
        self.tilt = high
        self.mean = self.moments(self.tilt)[1]

    def window(self, log_delta: float, epsilon: float, allowed: float) -> Window:
        """Choose a tilt for the composition, and losses between which nearly all of the tilted sum lies.

        At the tilt of `aim_at_epsilon` rounding of the FFT costs least. Where few large losses dominate the sum tilted
        like that, the window is wide, and a little less tilt is better.

        Args:
            log_delta: log of the δ, and
            epsilon: the ε, at which the law is wanted.
            allowed: mean squared width of the cells, see `grid`.
        """
        best = self._window(self.tilt, log_delta, epsilon)
        step = math.sqrt(allowed)
        if best.high - best.low < MANY * step:
            return best
        noise = max(_LEAST_NOISE, self.count * allowed * self.tilt * (self.tilt + 1) / 25)
        for share in (0.9, 0.8, 0.7, 0.6, 0.5):
            tilt = share * self.tilt
            amplified = self.moments(tilt)[0] - tilt * epsilon - log_delta
            norm = 1 / ((1 + tilt) * math.sqrt(2 * tilt * step))
            if self.count * _ROUNDING * norm * math.exp(min(amplified, 700.0)) > noise:
                break
            window = self._window(tilt, log_delta, epsilon)
            if window.high - window.low < best.high - best.low:
                best = window
        return best

    def _window(self, tilt: float, log_delta: float, epsilon: float) -> Window:
        here, _, variance = self.moments(tilt)
        target = min(log_delta - (here - tilt * epsilon) - log_peak(tilt), 0.0) - LEFT_OUT
        guess = math.sqrt(-2 * target) / max(math.sqrt(variance), 1e-100)
        steps = guess * np.exp(np.linspace(-2.5, 2.5, 11))
        high, above = min(((self.moments(tilt + t)[0] - here - target) / t, t) for t in steps)
        low, below = max(((here + target - self.moments(tilt - t)[0]) / t, t) for t in steps)
        return Window(tilt, min(low, epsilon), max(high, epsilon), (float(below), float(above)))

    def grid(self, allowed: float, finest: float, log_delta: float, epsilon: float, escape: float) -> Grid:
        """Choose a grid and knots with mean squared width of the cells, weighed by tilted mass, about `allowed`.

        Args:
            allowed: in squared loss.
            finest: the grid is not finer than that.
            log_delta: log of the δ, and
            epsilon: the ε, at which the law is wanted.
            escape: a tilt at which the tail must stay about what it is, for the sake of a Chernoff bound.
        """
        spacing = min(_COARSEST, max(finest, 2 * math.sqrt(allowed)))
        threshold = allowed / 32
        log_chernoff = self.moments(self.tilt)[0] - self.tilt * epsilon - log_delta
        lattice = self.laws[0][1].lattice if len(self.laws) == 1 else 0.0
        for _ in range(_TRIES):
            if lattice > finest:
                spacing = lattice / math.ceil(lattice / spacing)
            chosen = [
                point.knots(
                    self.tilt,
                    spacing,
                    threshold * self.count / point.count,
                    log_delta=log_delta,
                    epsilon=epsilon,
                    log_chernoff=log_chernoff,
                    escape=escape,
                )
                for point in self.points
            ]
            share = [point.count / self.count for point in self.points]
            cost = sum(s * c for s, (_, _, c, _) in zip(share, chosen, strict=True))
            stuck = sum(s * c for s, (_, _, _, c) in zip(share, chosen, strict=True))
            if stuck > allowed / 2 and spacing > finest:
                spacing = max(finest, spacing * min(0.8, math.sqrt(allowed / 2 / stuck)))
            elif cost - stuck > allowed / 2:
                threshold *= min(0.5, max(0.01, 0.5 * allowed / (cost - stuck)))
            else:
                break
        return Grid(spacing, [knots for knots, _, _, _ in chosen], [offset for _, offset, _, _ in chosen])


class Window(NamedTuple):
    """Where a sum of losses is composed.

    Args:
        tilt: >= 0.
        low: least loss.
        high: largest loss.
        escape: t of the Chernoff bounds below and above.
    """

    tilt: float
    low: float
    high: float
    escape: tuple[float, float]


class Grid:
    """A grid for the sum of losses and for every release the knots on it.

    Args:
        spacing: h > 0.
        knots: for each release (k) int64, ascending.
        offsets: the knots of a release lie at offset + h·knots.
    """

    def __init__(self, spacing: float, knots: list[Integers], offsets: list[float]) -> None:
        self.spacing = spacing
        self.knots = knots
        self.offsets = offsets


class _Points:
    """One release's exact law as points of loss with mass, ascending."""

    def __init__(self, count: int, law: Law, log_tail: float) -> None:
        nodes = law.nodes(np.empty(0), log_tail)
        mass = nodes.mass.ravel()
        self.count = count
        self.loss = nodes.loss.ravel()[mass > 0]
        self.mass = mass[mass > 0]
        self._log_mass = np.log(self.mass)
        self._atoms = nodes.loss.shape[1] == 1
        self._above = self._at_least(self.mass)

    def _at_least(self, weight: Floats) -> Floats:
        """Return weights summed from the right: what is at or above each point."""
        return np.append(np.cumsum(weight[::-1])[::-1], 0.0)

    def _cells(self, above: Floats, edges: Floats) -> Floats:
        """Return what lies between edges (2, k); points that stand for an interval are spread over it."""
        if self._atoms:
            beyond = above[np.searchsorted(self.loss, edges)]
        else:
            beyond = np.interp(edges, self.loss, (above[:-1] + above[1:]) / 2, left=above[0], right=0.0)
        between: Floats = beyond[0] - beyond[1]
        return between

    def moments(self, tilt: float) -> tuple[float, float, float]:
        exponent = self._log_mass + tilt * self.loss
        top = float(exponent.max())
        weight = np.exp(exponent - top)
        whole = float(weight.sum())
        mean = float(weight @ self.loss) / whole
        variance = float(weight @ (self.loss - mean) ** 2) / whole
        return self.count * (top + math.log(whole)), self.count * mean, self.count * variance

    def offset(self, spacing: float) -> float:
        """Put a knot where most mass is within one step: at a peak that no grid resolves, half a step would be lost."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.mass)])
        end = np.searchsorted(self.loss, self.loss + spacing)
        start = int(np.argmax(cumulative[end] - cumulative[:-1]))
        peak = slice(start, int(end[start]))
        mean = float(self.mass[peak] @ self.loss[peak] / self.mass[peak].sum())
        return mean - spacing * math.floor(mean / spacing)

    def knots(
        self,
        tilt: float,
        spacing: float,
        threshold: float,
        *,
        log_delta: float,
        epsilon: float,
        log_chernoff: float,
        escape: float,
    ) -> tuple[Integers, float, float, float]:
        """Halve cells until each costs at most a threshold, or has the width of the grid.

        The cost of a cell is its squared width times its tilted mass, even if all of it were at the upper end. Where a
        single large loss makes ε, little tilted mass is near it: what lies above ε/2 counts relative to δ as well, be
        it alone or with others (Chernoff).

        Returns: the knots; their offset; the cost of all cells; the cost of those that cannot be halved.
        Raises:
            TooManyNodesError: they would take more memory than allowed.
        """
        offset = self.offset(spacing)
        first = math.floor((self.loss[0] - offset) / spacing) - 1
        last = math.ceil((self.loss[-1] - offset) / spacing) + 1
        log_total = self.moments(tilt)[0] / self.count
        log_escape = self.moments(escape)[0] / self.count
        log_tilted = self._log_mass + tilt * self.loss - log_total
        tilted = self._at_least(np.exp(log_tilted))
        alone = np.minimum(self._log_mass - log_delta, log_tilted + log_chernoff)
        alone = np.where(self.loss >= epsilon / 2, np.exp(np.minimum(alone, 700.0)), 0.0)
        jumps = self._at_least(alone / max(tilt, 1.0) ** 2)
        length = 1 << (last - first - 1).bit_length()
        start = np.array([first])
        knots: list[Integers] = []
        total = stuck = 0.0
        while start.size:
            width = spacing * length
            edges = offset + spacing * np.stack([start, start + length])
            here = self._cells(self._above, edges)
            lifted = here * np.exp(np.minimum(tilt * edges[1] - log_total, 700.0))
            far = here * np.exp(np.minimum(escape * edges[1] - log_escape, 600.0)) * min(1.0, escape * width) ** 2
            cost = np.maximum(
                (self._cells(tilted, edges) + self._cells(jumps, edges)) * width**2,
                lifted * min(width, 1 / tilt if tilt else width) ** 2,
            )
            if start.size > _MOST_CELLS:
                raise TooManyNodesError
            split = (cost > threshold) | (self.count * far > _FAR) if length > 1 else np.zeros(start.size, dtype=bool)
            stuck = float(cost.sum()) if length == 1 else 0.0
            knots += [start[~split], start[~split] + length]
            total += float(cost[~split].sum())
            length //= 2
            start = np.concatenate([start[split], start[split] + length])
            start = start[start < last]
        return np.unique(np.minimum(np.concatenate(knots), last)), offset, total, stuck

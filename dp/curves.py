"""What δ(ε) leaves to an attacker: advantage, hits at few false alarms, the nearest Gaussian mechanism.

A test that tells two neighbouring data sets apart with false alarms α misses at least f(α) = 1 - TPR. From δ(ε), an
upper bound for both directions, f(α) >= max over ε >= 0 of 1 - δ(ε) - e^ε·α and e^-ε·(1 - δ(ε) - α): every ε gives two
valid lines, more of them a better bound.

Source: Dong, Roth, Su 2022 (arXiv 1905.02383), Propositions 2.4 and 2.12: lines from δ(ε). Gaussian DP with a regret:
Gomez, Kulynych et al. 2025 (arXiv 2503.10945).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dp.pld import pld_delta, pld_epsilon

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dp.events import Event, NeighboringRelation

    Floats = NDArray[np.float64]

__all__ = ["Tradeoff", "tradeoff"]

_POINTS = 32

_LEAST_DELTA = 1e-9
"""Beyond this ε lines add nothing to see."""


@dataclass(frozen=True, slots=True, eq=False)
class Tradeoff:
    """A certified lower bound on the trade-off function of an event: misses of a test against its false alarms.

    Args:
        epsilon: (k) float64, ascending from 0.
        delta: (k) float64, in [0, 1], upper bounds.
    """

    epsilon: Floats
    delta: Floats

    @property
    def advantage(self) -> float:
        """Largest TPR - FPR of any test, at most: δ(0)."""
        return float(self.delta[0])

    def misses(self, false_alarms: float) -> float:
        """Return f: no test with so many false alarms, in [0, 1], misses less."""
        if not 0 <= false_alarms <= 1:
            msg = f"a rate of false alarms is in [0, 1], got {false_alarms}"
            raise ValueError(msg)
        hidden = 1 - self.delta
        lines = (hidden - np.exp(self.epsilon) * false_alarms, np.exp(-self.epsilon) * (hidden - false_alarms))
        return max(0.0, float(max(line.max() for line in lines)))

    def tpr_at(self, false_alarms: float) -> float:
        """Return the largest true-positive rate of any test with so many false alarms, at most."""
        return 1 - self.misses(false_alarms)

    def mu(self, regret: float) -> float:
        """Return μ with f >= G_μ - regret everywhere: as hard to attack as N(0, 1) against N(μ, 1), but for the regret.

        Between two corners f is linear and G_μ convex, so that corners suffice; the least μ is found to 10^-6 and
        rounded up.

        Args:
            regret: in (0, 1); with none at all, no finite μ may do.
        """
        if not 0 < regret < 1:
            msg = f"regret is in (0, 1), got {regret}"
            raise ValueError(msg)
        corners = [(alpha, self.misses(alpha)) for alpha in self._corners()]
        low, high = 0.0, 1.0
        while self._regret(high, corners) > regret:
            low, high = high, 2 * high
        while high - low > 1e-6 * high:
            middle = (low + high) / 2
            low, high = (middle, high) if self._regret(middle, corners) > regret else (low, middle)
        return high

    def _corners(self) -> Floats:
        """Return where two lines of the bound may meet, or one meets 0."""
        hidden = 1 - self.delta
        slope = np.concatenate([-np.exp(self.epsilon), -np.exp(-self.epsilon), [0.0]])
        height = np.concatenate([hidden, np.exp(-self.epsilon) * hidden, [0.0]])
        first, second = np.triu_indices(slope.size, 1)
        steeper = slope[first] != slope[second]
        first, second = first[steeper], second[steeper]
        alpha = (height[second] - height[first]) / (slope[first] - slope[second])
        return np.concatenate([[0.0, 1.0], alpha[(alpha > 0) & (alpha < 1)]])

    @staticmethod
    def _regret(mu: float, corners: list[tuple[float, float]]) -> float:
        from scipy import special  # noqa: PLC0415 -- slow to import

        alpha, misses = np.array(corners).T
        return float((special.ndtr(-special.ndtri(alpha) - mu) - misses).max())


def tradeoff(event: Event, *, neighboring_relation: NeighboringRelation) -> Tradeoff:
    """Bound the trade-off function of an event from below.

    Args:
        event: any event tree.
        neighboring_relation: "add-or-remove-one", "replace-one" or "zero-out".
    Raises:
        UnsupportedEventError: names the sub-event without a bound.

    >>> from dp.events import Gaussian
    >>> bound = tradeoff(Gaussian(1.0), neighboring_relation="add-or-remove-one")
    >>> round(bound.advantage, 2), round(bound.tpr_at(0.01), 3), round(bound.mu(regret=0.01), 1)
    (0.38, 0.093, 1.0)
    """
    largest = pld_epsilon(event, _LEAST_DELTA, neighboring_relation=neighboring_relation, accuracy=0.1).upper
    if not 0 < largest < math.inf:
        return Tradeoff(np.zeros(1), np.array([0.0 if largest == 0 else 1.0]))
    epsilon = largest * np.linspace(0, 1, _POINTS) ** 2
    delta = [pld_delta(event, float(e), neighboring_relation=neighboring_relation, accuracy=0.01) for e in epsilon]
    return Tradeoff(epsilon, np.array([found.upper for found in delta]))

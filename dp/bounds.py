"""What accountants return: an interval and how it was found. The one by Rényi DP alone is here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dp.conversion import check_delta, check_epsilon, rdp_to_delta, rdp_to_epsilon
from dp.gaussian_equivalent import GaussianEquivalent, sampler_distance
from dp.rdp import rdp_curve

if TYPE_CHECKING:
    from collections.abc import Callable

    from dp.events import Event, NeighboringRelation

__all__ = ["RDP", "Interval", "corrected_epsilon", "rdp_delta", "rdp_epsilon"]

RDP = "RDP upper bound"

_GUESSES = 20

_LARGEST = 700.0
"""e^ε overflows soon after."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A number that is known to lie between two others.

    Args:
        lower: >= 0; 0 where nothing better is known.
        upper: what may be promised.
        method: how the upper bound was found.
    """

    lower: float
    upper: float
    method: str

    def __contains__(self, value: float) -> bool:
        """Whether a value lies in the interval."""
        return self.lower <= value <= self.upper


def rdp_epsilon(
    event: Event, delta: float, *, neighboring_relation: NeighboringRelation, method: str = RDP
) -> Interval:
    """Bound ε by Rényi DP alone, at the best order; what integer samplers lack in exactness is added to δ.

    Args:
        event: any event tree.
        delta: in (0, 1).
        neighboring_relation: "add-or-remove-one", "replace-one" or "zero-out".
        method: what to call it.
    Returns: 0 <= ε <= upper.
    Raises:
        UnsupportedEventError: names the sub-event without a bound.

    >>> from dp.events import Gaussian
    >>> round(rdp_epsilon(Gaussian(1.0), 1e-5, neighboring_relation="add-or-remove-one").upper, 4)
    4.7284
    """
    check_delta(delta)
    curve = rdp_curve(event, neighboring_relation=neighboring_relation)
    if (distance := sampler_distance(event)) == 0:
        return Interval(0.0, rdp_to_epsilon(curve, delta), method)
    sampled = GaussianEquivalent(event, 0.0, distance)
    return Interval(0.0, corrected_epsilon(sampled, delta, lambda d: rdp_to_epsilon(curve, d)), method)


def corrected_epsilon(corrected: GaussianEquivalent, delta: float, bound: Callable[[float], float]) -> float:
    """Bound ε of a mechanism whose laws are e^κ-close, up to η, to those of another one.

    δ is reduced by what closeness costs at a guess of ε; ε at the reduced δ, if it is below the guess, holds.

    Args:
        corrected: κ and η.
        delta: in (0, 1).
        bound: δ -> upper bound on ε of the other mechanism; it need not be smooth.
    Returns: >= 0; infinite if closeness costs all of δ.
    """
    guess = bound(delta) + 2 * corrected.log_ratio
    for _ in range(_GUESSES):
        guess = 1.001 * guess + 1e-3
        if guess > _LARGEST:
            break
        left = (delta - corrected.distance * (1 + math.exp(guess))) * math.exp(-corrected.log_ratio)
        if left <= 0:
            break
        epsilon = bound(left) + 2 * corrected.log_ratio
        if epsilon <= guess:
            return epsilon
        guess = epsilon
    return math.inf


def rdp_delta(
    event: Event, epsilon: float, *, neighboring_relation: NeighboringRelation, method: str = RDP
) -> Interval:
    """Bound δ by Rényi DP alone; see `rdp_epsilon`.

    >>> from dp.events import Gaussian
    >>> round(rdp_delta(Gaussian(1.0), 4.72838, neighboring_relation="add-or-remove-one").upper, 7)
    1e-05
    """
    check_epsilon(epsilon)
    curve = rdp_curve(event, neighboring_relation=neighboring_relation)
    if (distance := sampler_distance(event)) == 0:
        return Interval(0.0, rdp_to_delta(curve, epsilon), method)
    sampled = GaussianEquivalent(event, 0.0, distance)
    return Interval(0.0, sampled.delta(epsilon, lambda e: rdp_to_delta(curve, e)), method)

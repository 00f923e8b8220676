"""What accountants return: an interval and how it was found. The one by Rényi DP alone is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dp.conversion import check_delta, check_epsilon, rdp_to_delta, rdp_to_epsilon
from dp.gaussian_equivalent import GaussianEquivalent, sampler_distance
from dp.rdp import rdp_curve

if TYPE_CHECKING:
    from dp.events import Event, NeighboringRelation

__all__ = ["RDP", "Interval", "rdp_delta", "rdp_epsilon"]

RDP = "RDP upper bound"


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
    return Interval(0.0, sampled.epsilon(delta, lambda d: rdp_to_epsilon(curve, d)), method)


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

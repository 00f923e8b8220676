"""What has been released so far, composed once: the only place where counts are applied.

Composition is by RDP: curves add up, also when later releases are chosen after looking at earlier ones (Mironov 2017,
arXiv 1702.07476, Proposition 1). Every ε comes with δ, the unit and the neighbouring relation it is about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from typing import TYPE_CHECKING

from dp.conversion import check_delta, rdp_to_delta, rdp_to_epsilon
from dp.events import Composed, check_count, check_neighboring_relation, check_unit
from dp.rdp import release_curve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dp.events import Event, NeighboringRelation, Unit
    from dp.rdp import RdpCurve

__all__ = ["Ledger", "PrivacySpent", "rdp_curve"]

_SHOWN = Context(prec=5, rounding=ROUND_CEILING)
"""A printed ε is never below the computed one."""


@dataclass(frozen=True, slots=True)
class PrivacySpent:
    """An (ε, δ) statement with everything it depends on.

    Args:
        epsilon: upper bound on ε, >= 0.
        delta: in (0, 1).
        unit: whose data may differ.
        neighboring_relation: how they may differ.
        method: what kind of bound this is.

    >>> print(PrivacySpent(epsilon=2.10004, delta=1e-5, unit="patient", neighboring_relation="zero-out"))
    ε ≤ 2.1001 at δ = 1e-05 (unit: patient, relation: zero-out; RDP upper bound)
    """

    epsilon: float
    delta: float
    unit: Unit
    neighboring_relation: NeighboringRelation
    method: str = "RDP upper bound"

    def __str__(self) -> str:
        """Print the whole statement, ε rounded up."""
        epsilon = float(_SHOWN.create_decimal_from_float(self.epsilon))
        return (
            f"ε ≤ {epsilon:.5g} at δ = {self.delta!r} "
            f"(unit: {self.unit}, relation: {self.neighboring_relation}; {self.method})"
        )


class Ledger:
    """The events that touched one population's data, and what they cost together.

    Holds state; not thread-safe: use one thread at a time.

    Args:
        unit: whose privacy the ledger is about: "example", "patient" or "institution".
        neighboring_relation: "add-or-remove-one", "replace-one" or "zero-out".

    >>> from dp.events import Gaussian, PoissonSampled
    >>> ledger = Ledger(unit="patient", neighboring_relation="add-or-remove-one")
    >>> ledger.compose(PoissonSampled(0.05, Gaussian(4.0)), 500)
    >>> print(ledger.spent(delta=1e-6))
    ε ≤ 1.3449 at δ = 1e-06 (unit: patient, relation: add-or-remove-one; RDP upper bound)
    """

    def __init__(self, *, unit: Unit, neighboring_relation: NeighboringRelation) -> None:
        self._unit = check_unit(unit)
        self._neighboring_relation = check_neighboring_relation(neighboring_relation)
        self._counts: dict[Event, int] = {}

    @property
    def unit(self) -> Unit:
        """Whose privacy the ledger is about."""
        return self._unit

    @property
    def neighboring_relation(self) -> NeighboringRelation:
        """How neighbouring data sets differ."""
        return self._neighboring_relation

    @property
    def events(self) -> Composed:
        """All releases so far, equal ones merged, in the order in which they first occurred."""
        return Composed(self._counts.items())

    def compose(self, event: Event, count: int = 1) -> None:
        """Book an event that happens `count` times (>= 0).

        Raises:
            UnsupportedEventError: names the sub-event without a bound; nothing is booked.
        """
        releases = list(_releases(event, check_count(count)))
        for release, _ in releases:
            if release not in self._counts:
                release_curve(release, neighboring_relation=self._neighboring_relation)
        for release, times in releases:
            self._counts[release] = self._counts.get(release, 0) + times

    def spent(self, delta: float) -> PrivacySpent:
        """Return ε, an upper bound, at a given δ in (0, 1). An empty ledger spends ε = 0."""
        epsilon = rdp_to_epsilon(self._curve(), check_delta(delta))
        return PrivacySpent(epsilon, float(delta), self._unit, self._neighboring_relation)

    def delta(self, epsilon: float) -> float:
        """Return δ, an upper bound in [1e-300, 1], at a given finite ε >= 0, for this ledger's unit and relation."""
        return rdp_to_delta(self._curve(), epsilon)

    def _curve(self) -> RdpCurve:
        return rdp_curve(self.events, neighboring_relation=self._neighboring_relation)


def rdp_curve(event: Event, *, neighboring_relation: NeighboringRelation) -> RdpCurve:
    """Return the RDP curve of an event, composed or not.

    Args:
        event: any event tree; the counts of every `Composed` in it are applied here.
        neighboring_relation: "add-or-remove-one", "replace-one" or "zero-out".
    Returns: order α > 1 -> RDP at α, >= 0.
    Raises:
        UnsupportedEventError: names the sub-event without a bound.
    Source: Mironov 2017 (arXiv 1702.07476), Proposition 1.

    >>> from dp.events import Gaussian
    >>> curve = rdp_curve(Composed([(Gaussian(2.0), 3)]), neighboring_relation="add-or-remove-one")
    >>> curve(8.0)
    3.0
    """
    relation = check_neighboring_relation(neighboring_relation)
    curves = [(times, release_curve(release, neighboring_relation=relation)) for release, times in _releases(event, 1)]

    def curve(order: float) -> float:
        if not 1 < order < math.inf:
            msg = f"an order is finite and > 1, got {order}"
            raise ValueError(msg)
        return math.fsum(times * release(order) for times, release in curves if times)

    return curve


def _releases(event: Event, count: int) -> Iterator[tuple[Event, int]]:
    """Walk through an event tree: single releases with the product of the counts above them."""
    if not isinstance(event, Composed):
        yield event, count
        return
    for part, times in event.events:
        yield from _releases(part, count * times)

"""What has been released so far, and what it cost together.

ε is the upper end of the certified interval of `dp.pld`, or a bound by Rényi DP where there is none; `method` says
which. Every ε comes with δ, the unit and the neighbouring relation it is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from typing import TYPE_CHECKING, Literal

from dp.bounds import rdp_delta, rdp_epsilon
from dp.events import Composed, check_neighboring_relation, check_unit, releases
from dp.pld import check_supported, pld_delta, pld_epsilon
from dp.rdp import rdp_curve

if TYPE_CHECKING:
    from dp.events import Event, NeighboringRelation, Unit

__all__ = ["Accountant", "Ledger", "PrivacySpent", "rdp_curve"]

Accountant = Literal["pld", "rdp"]
"""By the law of the privacy loss, with Rényi DP where that has no answer; or by Rényi DP alone."""

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
        lower: ε is at least that, as far as is known.

    >>> print(PrivacySpent(epsilon=2.10004, delta=1e-5, unit="patient", neighboring_relation="zero-out"))
    ε ≤ 2.1001 at δ = 1e-05 (unit: patient, relation: zero-out; RDP upper bound)
    """

    epsilon: float
    delta: float
    unit: Unit
    neighboring_relation: NeighboringRelation
    method: str = "RDP upper bound"
    lower: float = 0.0

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
    ε ≤ 1.2458 at δ = 1e-06 (unit: patient, relation: add-or-remove-one; PLD certified interval)
    >>> print(ledger.spent(delta=1e-6, accountant="rdp"))
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
        booked = releases(Composed([(event, count)]))
        for release, _ in booked:
            if release not in self._counts:
                check_supported(release, neighboring_relation=self._neighboring_relation)
        for release, times in booked:
            self._counts[release] = self._counts.get(release, 0) + times

    def spent(self, delta: float, *, accountant: Accountant = "pld") -> PrivacySpent:
        """Return ε, an upper bound, at a given δ in (0, 1). An empty ledger spends ε = 0.

        Args:
            delta: in (0, 1).
            accountant: "pld", or "rdp" for the bound by Rényi DP alone, which is looser, and faster for many releases.
        Raises:
            UnsupportedEventError: this accountant cannot compose all of the events; names one.
        """
        by = pld_epsilon if accountant == "pld" else rdp_epsilon
        found = by(self.events, delta, neighboring_relation=self._neighboring_relation)
        return PrivacySpent(
            found.upper, float(delta), self._unit, self._neighboring_relation, found.method, found.lower
        )

    def delta(self, epsilon: float, *, accountant: Accountant = "pld") -> float:
        """Return δ, an upper bound in [0, 1], at a given finite ε >= 0, for this ledger's unit and relation."""
        by = pld_delta if accountant == "pld" else rdp_delta
        return by(self.events, epsilon, neighboring_relation=self._neighboring_relation).upper

"""A data set's privacy budget, kept in a file that outlives every process.

    budget = Budget.open("heart.budget")
    with budget.reserve(event, purpose="logistic regression, heart, plan 3f1c") as reservation:
        ...             # compute; whatever fails up to here gives the reservation back
        reservation.spend()
        ...             # only now may a byte leave

ε does not add up, so what is reserved are events: a reservation is admitted if everything spent, reserved and asked
passes the filter of `renyi_filter`, also when it was chosen after looking at earlier results. A plan fixed in advance
(one event, composed or not) that is alone in its budget may instead be certified as a whole by `dp.pld`, which is
tighter; it then usually leaves no room for anything else. Everything admitted together is (ε, δ)-DP.

A reservation counts from the moment it is made. After a crash it stands where it was: "spent" for ever; "reserved"
counts until somebody releases it, which is safe, since `spend` then fails in whatever process still holds it.

What the file cannot see: that events say what was really done; that nobody sends without spending; that whoever chose
the next release looked at nothing but earlier releases; that everybody uses this very file (see `budget_store`).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Context
from functools import lru_cache
from typing import TYPE_CHECKING, Self

import msgspec

from dp.budget_store import BudgetFileError, BudgetStore, Entry, ReservationError, now
from dp.conversion import check_delta
from dp.errors import PrivacyError, UnsupportedEventError
from dp.event_json import event_from_bytes, event_to_bytes
from dp.events import NeighboringRelation, Unit, check_neighboring_relation, check_unit
from dp.gaussian_equivalent import sampler_distance
from dp.ledger import Ledger, PrivacySpent
from dp.pld import pld_epsilon
from dp.rdp import rdp_curve
from dp.renyi_filter import filter_limits, filter_orders, share_used
from secagg.errors import DecodeError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from types import TracebackType

    from dp.events import Event

__all__ = ["Budget", "BudgetExceededError", "BudgetFileError", "Entry", "Reservation", "ReservationError"]

_MOST_EPSILON = 100.0
_MOST_PURPOSE = 200


class BudgetExceededError(PrivacyError):
    """The budget has no room for an event. Nothing was reserved.

    Attributes:
        spent: what everything spent or reserved costs, composed by itself.
        asked: what the refused event costs, by itself.
        budget: the budget, as a statement.
        left: share of the budget that is free, in [0, 1], at the order that decided.
    """

    def __init__(
        self, spent: PrivacySpent, budget: PrivacySpent, *, asked: PrivacySpent, shares: tuple[float, float]
    ) -> None:
        self.spent = spent
        self.asked = asked
        self.budget = budget
        self.left = max(0.0, 1 - shares[0])
        super().__init__(
            f"refused: the budget is ε = {budget.epsilon:g} at δ = {budget.delta!r} (unit: {budget.unit}, relation: "
            f"{budget.neighboring_relation}); spent or reserved {_percent(shares[0])} of it (by itself ε ≤ "
            f"{_digits(spent.epsilon)}), asked {_percent(shares[1])} (by itself ε ≤ {_digits(asked.epsilon)}), left "
            f"{math.floor(1e3 * self.left) / 10:g} %"
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room for one event in a budget. As a context it releases itself on leaving, unless spent.

    Attributes:
        number: under which the budget lists it.
        event: what may be released.
        purpose: what for.
    """

    number: int
    event: Event
    purpose: str
    _store: BudgetStore = field(repr=False)

    def spend(self) -> None:
        """Mark it spent, durably and for ever. Send nothing before this has returned, nor if it raises.

        Raises:
            ReservationError: it is spent or released already.
            BudgetFileError: the file could not be written; it may count as spent.
        """
        self._store.settle(self.number, "spent")

    def release(self) -> None:
        """Give it back: nothing was sent, and nothing can be any more.

        Raises:
            ReservationError: it is spent, or released already.
        """
        self._store.settle(self.number, "released")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release it if it still is reserved."""
        if any(entry.number == self.number and entry.state == "reserved" for entry in self._store.entries()):
            self.release()


class Budget:
    """What may still be released about one data set. Safe to share between threads and processes.

    Args:
        store: its file.

    Attributes:
        epsilon, delta: everything that the budget ever admits is together (ε, δ)-DP.
        unit: whose privacy this is about.
        neighboring_relation: how neighbouring data sets differ.
    """

    def __init__(self, store: BudgetStore) -> None:
        try:
            terms = msgspec.json.decode(store.terms(), type=_Terms)
        except msgspec.MsgspecError as error:
            msg = f"{store.path}: damaged terms: {error}"
            raise BudgetFileError(msg) from error
        self.epsilon, self.delta = terms.epsilon, terms.delta
        self.unit, self.neighboring_relation = terms.unit, terms.neighboring_relation
        self._store = store
        self._orders = terms.orders
        self._limits = filter_limits(terms.epsilon, terms.delta, terms.orders)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        epsilon: float,
        delta: float,
        unit: Unit,
        neighboring_relation: NeighboringRelation,
    ) -> Self:
        """Make the file of a new budget.

        Args:
            path: must not exist; a local disk.
            epsilon: in (0, 100].
            delta: in (0, 1), well below 1 / number of units.
            unit: "example", "patient" or "institution".
            neighboring_relation: "add-or-remove-one", "replace-one" or "zero-out".
        Raises:
            FileExistsError: the path is taken.
            BudgetFileError: it cannot be written.
        """
        if not 0 < epsilon <= _MOST_EPSILON:
            msg = f"the ε of a budget is in (0, {_MOST_EPSILON:g}], got {epsilon}"
            raise ValueError(msg)
        orders = filter_orders(float(epsilon), float(check_delta(delta)))
        relation = check_neighboring_relation(neighboring_relation)
        terms = _Terms(float(epsilon), float(delta), check_unit(unit), relation, orders)
        store = BudgetStore(path)
        store.create(msgspec.json.encode(terms).decode())
        return cls(store)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open the file of a budget.

        Raises:
            FileNotFoundError: there is none.
            BudgetFileError: it is something else, damaged, of another version, or cannot be read now.
        """
        return cls(BudgetStore(path))

    def reserve(self, event: Event, *, purpose: str) -> Reservation:
        """Take room for an event, durably, before the data are touched.

        Args:
            event: everything that will be released on this account.
            purpose: 1 to 200 printable characters, for whoever reads the list.
        Raises:
            BudgetExceededError: there is not enough room; says what is spent, asked and left.
            UnsupportedEventError: no bound for the event under this neighbouring relation; names the sub-event.
            BudgetFileError: the file cannot be read or written.
        """
        if not (0 < len(purpose) <= _MOST_PURPOSE and purpose.isprintable()):
            msg = f"a purpose is 1 to {_MOST_PURPOSE} printable characters, got {purpose[: _MOST_PURPOSE + 1]!r}"
            raise ValueError(msg)
        text = event_to_bytes(event).decode()
        self._ledger([text])  # refuses what no theorem covers
        asked = self._costs([text])
        as_a_plan = share_used(asked, self._limits)[0] > 1 and self._certified(event)
        self._costs(_booked(self._store.entries()))  # slow the first time: not while everybody waits for the lock
        with self._store.deciding() as (entries, write):
            booked = _booked(entries)
            before = self._costs(booked)
            share, k = share_used([sum(pair) for pair in zip(before, asked, strict=True)], self._limits)
            if share <= 1 or (as_a_plan and not booked):
                number = len(entries) + 1
                write(Entry(number, text, purpose, "reserved", now(), ""))
                return Reservation(number, event, purpose, self._store)
        shares = before[k] / self._limits[k], asked[k] / self._limits[k]
        raise BudgetExceededError(self._spent(booked), self._whole, asked=self._spent([text]), shares=shares)

    def reservation(self, number: int) -> Reservation:
        """Return a reservation by its number, say after a crash; ReservationError if there is none."""
        for entry in self._store.entries():
            if entry.number == number:
                return Reservation(number, self._event(entry.event), entry.purpose, self._store)
        msg = f"{self._store.path} has no reservation {number}"
        raise ReservationError(msg)

    def entries(self) -> list[Entry]:
        """Return every reservation ever made, in order."""
        return self._store.entries()

    def used(self) -> float:
        """Return which share of the budget is spent or reserved: >= 0; above 1 after a plan certified as a whole.

        A share at one fixed order adds up; the order is the one where the share is least.
        """
        return share_used(self._costs(_booked(self.entries())), self._limits)[0]

    def spent(self) -> PrivacySpent:
        """Return the ε of everything spent or reserved, as if all of it had been fixed in advance.

        Where later releases were chosen after looking at earlier ones, the budget's own ε is what holds.
        """
        return self._spent(_booked(self.entries()))

    @property
    def _whole(self) -> PrivacySpent:
        return PrivacySpent(self.epsilon, self.delta, self.unit, self.neighboring_relation, "budget")

    def _certified(self, plan: Event) -> bool:
        """Whether a plan is (ε, δ)-DP as a whole; closely, so that one calibrated to the budget is."""
        relation = self.neighboring_relation
        return any(
            pld_epsilon(plan, self.delta, neighboring_relation=relation, accuracy=accuracy).upper <= self.epsilon
            for accuracy in (1e-2, 1e-4)
        )

    def _spent(self, texts: Iterable[str]) -> PrivacySpent:
        return self._ledger(texts).spent(self.delta)

    def _ledger(self, texts: Iterable[str]) -> Ledger:
        ledger = Ledger(unit=self.unit, neighboring_relation=self.neighboring_relation)
        for text, count in Counter(texts).items():
            ledger.compose(self._event(text), count)
        return ledger

    def _costs(self, texts: Iterable[str]) -> tuple[float, ...]:
        """Return what these events cost together, as `share_used` takes it."""
        rows = [(0.0,) * (1 + len(self._orders))]
        for text, count in Counter(texts).items():
            row = _cost(self._event(text), self.neighboring_relation, self._orders)
            rows.append(tuple(count * cost for cost in row))
        return tuple(map(math.fsum, zip(*rows, strict=True)))

    def _event(self, text: str) -> Event:
        try:
            return event_from_bytes(text.encode())
        except DecodeError as error:
            msg = f"{self._store.path}: a reservation cannot be read: {error}"
            raise BudgetFileError(msg) from error


class _Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    epsilon: float
    delta: float
    unit: Unit
    neighboring_relation: NeighboringRelation
    orders: tuple[float, ...]


def _booked(entries: Iterable[Entry]) -> list[str]:
    return [entry.event for entry in entries if entry.state != "released"]


@lru_cache(maxsize=1 << 12)
def _cost(event: Event, relation: NeighboringRelation, orders: tuple[float, ...]) -> tuple[float, ...]:
    """Return the distance of an event's samplers to exact ones, and its RDP at every order; slow for a long plan."""
    try:
        curve = rdp_curve(event, neighboring_relation=relation)
    except UnsupportedEventError:  # a plan that only its privacy loss bounds
        return (sampler_distance(event), *(math.inf for _ in orders))
    return (sampler_distance(event), *map(curve, orders))


def _digits(epsilon: float) -> str:
    """Write an upper bound, rounded up."""
    return f"{float(Context(prec=4, rounding=ROUND_CEILING).create_decimal_from_float(epsilon)):.4g}"


def _percent(share: float) -> str:
    """Write a share, rounded up."""
    return f"{math.ceil(1e3 * share) / 10:g} %" if share < math.inf else "∞"

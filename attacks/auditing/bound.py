"""What an audit says: a lower bound on ε, with everything it depends on."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dp.events import NeighboringRelation, Unit

__all__ = ["LowerBound", "check_levels"]

_SHOWN = Context(prec=4, rounding=ROUND_FLOOR)
"""A printed lower bound is never above the computed one."""


@dataclass(frozen=True, slots=True)
class LowerBound:
    """With this confidence, the mechanism is not (ε', δ)-DP for any ε' < ε.

    Attributes:
        epsilon: >= 0; 0 says nothing.
        delta: in [0, 1).
        confidence: at least this share of audits of any mechanism state a bound that is true.
        unit: whose data the canaries stand for.
        neighboring_relation: how data sets with and without a canary differ.
        method: which test.
        assumption_free: False if the confidence rests on a guess about the mechanism; then it never fails a build.

    >>> print(LowerBound(1.56789, 1e-5, 0.999, "example", "add-or-remove-one", "one run", assumption_free=True))
    ε ≥ 1.567 at δ = 1e-05 with confidence 0.999 (unit: example, relation: add-or-remove-one; one run)
    """

    epsilon: float
    delta: float
    confidence: float
    unit: Unit
    neighboring_relation: NeighboringRelation
    method: str
    assumption_free: bool

    def __str__(self) -> str:
        """Print the whole statement, ε rounded down."""
        epsilon = float(_SHOWN.create_decimal_from_float(self.epsilon))
        method = self.method if self.assumption_free else f"{self.method}: an estimate that assumes, not a proof"
        return (
            f"ε ≥ {epsilon:.4g} at δ = {self.delta!r} with confidence {self.confidence!r} "
            f"(unit: {self.unit}, relation: {self.neighboring_relation}; {method})"
        )


def check_levels(delta: float, confidence: float) -> None:
    """Raise `ValueError` unless delta is in [0, 1) and confidence in (0, 1)."""
    if not 0 <= delta < 1:
        msg = f"delta is in [0, 1), got {delta}"
        raise ValueError(msg)
    if not 0 < confidence < 1:
        msg = f"confidence is in (0, 1), got {confidence}"
        raise ValueError(msg)

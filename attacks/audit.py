"""The gate: what an audit proves must not exceed what the ledger promises.

Only an assumption-free bound at 99.9 % or more may fail a build: of a thousand audits of a mechanism that keeps its
promise, at most one does. A bound below the promise proves nothing; audits see gross faults, and
`attacks.auditing.checks` sees the rest.

>>> import dp
>>> import numpy as np
>>> from attacks.auditing import GradientCanaries, one_run_bound
>>> rng = np.random.default_rng(0)
>>> canaries = GradientCanaries.draw(1_000, dimension=10_000, norm=1.0, rng=rng)
>>> release = canaries.total() + rng.normal(0.0, 1.0, 10_000)
>>> bound = one_run_bound(canaries.scores(release), canaries.included, delta=1e-5, confidence=0.999, unit="example")
>>> ledger = dp.Ledger(unit="example", neighboring_relation="add-or-remove-one")
>>> ledger.compose(dp.Gaussian(noise_multiplier=1.0))
>>> require_consistent(bound, ledger.spent(delta=1e-5))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dp.errors import PrivacyError

if TYPE_CHECKING:
    from attacks.auditing.bound import LowerBound
    from dp.ledger import PrivacySpent

__all__ = ["LEAST_CONFIDENCE", "AuditFailedError", "require_consistent"]

LEAST_CONFIDENCE = 0.999


class AuditFailedError(PrivacyError):
    """An audit disproved the ledger's statement.

    Attributes:
        bound: what was shown.
        spent: what was promised.
    """

    def __init__(self, bound: LowerBound, spent: PrivacySpent) -> None:
        self.bound, self.spent = bound, spent
        super().__init__(
            f"the mechanism leaks more than its ledger says: an audit shows {bound}, the ledger promises {spent}; "
            "look at its noise, clipping and sampling"
        )


def require_consistent(bound: LowerBound, spent: PrivacySpent) -> None:
    """Raise if an audit disproves what the ledger promises.

    Args:
        bound: assumption-free, at `LEAST_CONFIDENCE` or more, at a δ not below the ledger's.
        spent: the ledger's statement for the same unit and relation; "zero-out" and "add-or-remove-one" cost the same
            only where the ledger says so: they must match, too.

    Raises:
        AuditFailedError: the lower bound exceeds the upper bound.
        ValueError: the two statements cannot be compared, or the bound is not fit to fail anything.
    """
    if not bound.assumption_free or bound.confidence < LEAST_CONFIDENCE:
        msg = f"only an assumption-free bound with confidence {LEAST_CONFIDENCE} or more is a gate, got: {bound}"
        raise ValueError(msg)
    about, promised = ((statement.unit, statement.neighboring_relation) for statement in (bound, spent))
    if about != promised or bound.delta < spent.delta:
        msg = f"statements about different things cannot be compared: {bound}, against {spent}"
        raise ValueError(msg)
    if bound.epsilon > spent.epsilon:
        raise AuditFailedError(bound, spent)

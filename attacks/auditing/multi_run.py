"""Many runs with one canary and many without: exact intervals for both errors of a threshold give a bound on ε.

(ε, δ)-DP means, for every test and in both directions, P[says "in" | in] <= e^ε·P[says "in" | out] + δ. The threshold
must be fixed before the runs that are counted: `best_threshold` picks it on others.

Source: Jagielski, Ullman, Oprea 2020 (arXiv 2006.07709), sec. 4; intervals: Clopper and Pearson 1934.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from attacks.auditing.bound import LowerBound, check_levels
from attacks.metrics import proportion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dp.events import NeighboringRelation, Unit

__all__ = ["best_threshold", "multi_run_bound"]


def multi_run_bound(
    members: NDArray[np.float64],
    others: NDArray[np.float64],
    threshold: float,
    *,
    delta: float,
    confidence: float,
    unit: Unit,
    neighboring_relation: NeighboringRelation = "add-or-remove-one",
) -> LowerBound:
    """Bound ε from independent runs.

    Args:
        members: (runs,) score of the canary in runs with it.
        others: (runs,) its score in runs without it.
        threshold: scores above say "in"; chosen without looking at these runs.
        delta: in [0, 1).
        confidence: of the bound; both directions use the same two one-sided limits, each with half of the error.
        unit: whose data the canary stands for.
        neighboring_relation: how runs with and without it differ.
    """
    check_levels(delta, confidence)
    found = proportion(int((members > threshold).sum()), len(members), confidence=confidence)
    wrong = proportion(int((others > threshold).sum()), len(others), confidence=confidence)
    epsilon = max(_log_ratio(found.low - delta, wrong.high), _log_ratio(1 - wrong.high - delta, 1 - found.low))
    return LowerBound(epsilon, delta, confidence, unit, neighboring_relation, "Clopper-Pearson", assumption_free=True)


def best_threshold(members: NDArray[np.float64], others: NDArray[np.float64], *, delta: float) -> float:
    """Pick the threshold whose bound would be largest at confidence 0.95 if these runs were the ones counted."""
    candidates = np.unique(np.concatenate([members, others]))

    def promise(threshold: float) -> float:
        bound = multi_run_bound(members, others, threshold, delta=delta, confidence=0.95, unit="example")
        return bound.epsilon

    return float(max(candidates, key=promise))


def _log_ratio(numerator: float, denominator: float) -> float:
    return max(0.0, math.log(numerator / denominator)) if numerator > 0 else 0.0

"""One run, many canaries: each is included by a fair coin, and an auditor who guesses coins too well disproves ε.

Against an (ε, δ)-DP mechanism, whatever it does otherwise, r guesses about m coins are right v times or more with
probability at most

    p(ε) = P[B >= v] + 2mδ·max over i in 1..v of P[v > B >= v - i] / i,    B ~ Binomial(r, e^ε / (1 + e^ε)).

With c = 2mδ this is the maximum over i of (1 - c/i)·P[B >= v] + (c/i)·P[B >= v - i]. We take 0 for 1 - c/i where it is
negative (i < c): larger, hence still valid, and every term then grows with ε. So does p, and the ε that the guesses
reject are an interval from 0, whose end is the bound.

The number of guesses must not look at the coins. We try several, fixed in advance, each at its share of the error
(Bonferroni): the auditor guesses "in" for the highest scores, "out" for as many of the lowest, and abstains between.

Source: Steinke, Nasr, Jagielski 2023 (arXiv 2305.08846), Corollary 5.4 for p(ε) and Appendix D for its computation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from attacks.auditing.bound import LowerBound, check_levels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dp.events import NeighboringRelation, Unit

__all__ = ["epsilon_from_guesses", "one_run_bound", "one_run_p_value"]

_LARGEST = 64.0
"""No run tells such ε apart: 1 - e^ε/(1 + e^ε) is below what a double resolves around 1."""

_STEPS = 30
"""Bisections: to 64·2^-30, below."""

_SHARES = (0.05, 0.1, 0.3, 1.0)
"""Guesses tried, as shares of the canaries: few where the noise hides most of them, all where it hides none."""


def one_run_p_value(canaries: int, guesses: int, correct: int, *, epsilon: float, delta: float) -> float:
    """Return the largest probability, under (ε, δ)-DP, of so many right guesses.

    Args:
        canaries: m, each included by its own fair coin.
        guesses: r <= m, not counting abstentions.
        correct: v <= r.
        epsilon: >= 0.
        delta: in [0, 1).
    Source: Steinke et al. 2023, Corollary 5.4.

    >>> round(one_run_p_value(1000, 100, 75, epsilon=0.673, delta=1e-4), 4)
    0.05
    """
    from scipy.special import bdtrc, expit  # noqa: PLC0415 -- slow to import, needed only here

    if not 0 <= correct <= guesses <= canaries or canaries < 1:
        msg = f"0 <= correct <= guesses <= canaries, got {correct}, {guesses}, {canaries}"
        raise ValueError(msg)
    if epsilon < 0 or not 0 <= delta < 1:
        msg = f"epsilon >= 0 and delta in [0, 1), got {epsilon} and {delta}"
        raise ValueError(msg)
    if not correct:
        return 1.0
    q = float(expit(epsilon))
    shares = 2 * canaries * delta / np.arange(1, correct + 1)
    less = np.append(bdtrc(np.arange(correct - 2, -1, -1), guesses, q), 1.0)  # P[B >= v - i] for i = 1..v
    terms = np.maximum(1 - shares, 0) * bdtrc(correct - 1, guesses, q) + shares * less
    return min(1.0, float(terms.max()))


def epsilon_from_guesses(canaries: int, guesses: int, correct: int, *, delta: float, error: float) -> float:
    """Return the largest ε whose p-value is at most `error`: a lower bound, wrong with at most that probability.

    Args:
        canaries, guesses, correct, delta: as for `one_run_p_value`.
        error: in (0, 1).
    Returns: >= 0, at most 64.

    >>> round(epsilon_from_guesses(1000, 100, 75, delta=1e-4, error=0.05), 3)  # the paper's example, Appendix D
    0.673
    """
    low, high = 0.0, _LARGEST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if one_run_p_value(canaries, guesses, correct, epsilon=middle, delta=delta) <= error:
            low = middle
        else:
            high = middle
    return low


def one_run_bound(
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    *,
    delta: float,
    confidence: float,
    unit: Unit,
    neighboring_relation: NeighboringRelation = "add-or-remove-one",
    guesses: Sequence[int] | None = None,
) -> LowerBound:
    """Bound ε from one run with canaries.

    Args:
        scores: (m,) one a canary, from the output alone; higher says that it was in.
        included: (m,), the fair coins.
        delta: in [0, 1), well below 1 / 2m: beyond it there is little to prove.
        confidence: of the bound, whatever the mechanism.
        unit: whose data a canary stands for.
        neighboring_relation: "add-or-remove-one", or "zero-out" where canaries left out send zeros.
        guesses: numbers of guesses tried, chosen before the run; None: four shares of m, from 5 % to all.
    Raises:
        ValueError: scores and coins do not match.
    """
    check_levels(delta, confidence)
    m = len(scores)
    if scores.shape != included.shape or scores.ndim != 1 or not m or np.isnan(scores).any():
        msg = f"one score, not NaN, and one coin a canary, got {scores.shape} and {included.shape}"
        raise ValueError(msg)
    tried = sorted({max(2, math.ceil(share * m)) for share in _SHARES} if guesses is None else set(guesses))
    in_order = included[np.argsort(scores, kind="stable")]
    right = {r: int(in_order[m - (r + 1) // 2 :].sum() + (~in_order[: r // 2]).sum()) for r in tried}
    error = (1 - confidence) / len(tried)
    epsilon = max(epsilon_from_guesses(m, r, right[r], delta=delta, error=error) for r in tried)
    return LowerBound(epsilon, delta, confidence, unit, neighboring_relation, "one run", assumption_free=True)

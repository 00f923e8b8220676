"""An estimate that believes the scores Gaussian: sharp where that is so, and worth nothing as a proof where it is not.

If scores are N(0, s²) without and N(μs, s²) with a canary, independent over canaries, the mechanism looks μ-GDP, and
the gap between the means in deviations estimates μ. Its lower confidence limit, turned into ε at δ, is far closer to
the truth than a one-run bound. A mechanism that fails only in its tail passes unseen; one that is not Gaussian may be
convicted wrongly. Hence `assumption_free=False`.

Source: Nasr et al. 2023 (arXiv 2302.07956) and Andrew et al. 2023 (arXiv 2302.03098) for the idea; Balle and Wang 2018
(arXiv 1805.06530), Theorem 8, for ε.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attacks.auditing.bound import LowerBound, check_levels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dp.events import NeighboringRelation, Unit

__all__ = ["gaussian_epsilon", "gaussian_estimate"]

_LARGEST = 1e6
_TOLERANCE = 1e-9


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the ε of the Gaussian mechanism whose sensitivity is `mu` deviations, exact up to 10^-9.

    Args:
        mu: >= 0.
        delta: in (0, 1).

    >>> round(gaussian_epsilon(1.0, 1e-5), 3)
    4.377
    """
    from scipy import optimize, special  # noqa: PLC0415 -- slow to import, needed only here

    if mu == 0:
        return 0.0

    def excess(epsilon: float) -> float:
        tail = special.log_ndtr(-epsilon / mu - mu / 2) + epsilon
        return float(special.ndtr(mu / 2 - epsilon / mu) - math.exp(min(tail, 0.0))) - delta

    if excess(0.0) <= 0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, min(_LARGEST, mu * mu / 2 + 40 * mu), xtol=_TOLERANCE))


def gaussian_estimate(
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    *,
    delta: float,
    confidence: float,
    unit: Unit,
    neighboring_relation: NeighboringRelation = "add-or-remove-one",
) -> LowerBound:
    """Estimate ε from one run with canaries, as if scores were Gaussian and independent.

    Args:
        scores: (m,) one a canary; higher says that it was in.
        included: (m,), which were in.
        delta: in (0, 1).
        confidence: of the estimate, if what it assumes holds; the limit of μ is the usual normal one.
        unit, neighboring_relation: as for `one_run_bound`.
    Raises:
        ValueError: fewer than two canaries in or out.
    """
    from scipy.special import ndtri  # noqa: PLC0415 -- slow to import, needed only here

    check_levels(delta, confidence)
    inside, outside = scores[included], scores[~included]
    if min(len(inside), len(outside)) < 2:  # noqa: PLR2004 -- a variance needs two
        msg = f"two canaries in and two out at least, got {len(inside)} and {len(outside)}"
        raise ValueError(msg)
    freedom = len(scores) - 2
    variance = (((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum()) / freedom
    gap = float(inside.mean() - outside.mean())
    mu = gap / math.sqrt(variance) if variance > 0 else (math.inf if gap > 0 else 0.0)
    error = math.sqrt(1 / len(inside) + 1 / len(outside) + min(mu * mu, _LARGEST) / (2 * freedom))
    lower = max(0.0, min(mu - float(ndtri(confidence)) * error, math.sqrt(_LARGEST)))
    epsilon = gaussian_epsilon(lower, delta)
    return LowerBound(epsilon, delta, confidence, unit, neighboring_relation, "Gaussian scores", assumption_free=False)

"""From an RDP curve to (ε, δ) and back: the best bound that any single order gives, over all real orders.

Let L = dP/dQ for the outputs on neighbouring data sets, A = exp((α - 1)·RDP(α)) >= E_Q[L^α] and c = e^ε; the least δ is
E_Q[(L - c)_+]. For s in [0, 1] let h(L) = L^α - αs^(α-1)L + (α - 1)s^α, which is L^α minus its tangent at s, hence >= 0
for L >= 0. Since E_Q[L] = 1, E_Q[h(L)] <= e := A - αs^(α-1) + (α - 1)s^α. So if L - c <= (δ/e)·h(L) for all L >= 0, the
mechanism is (ε, δ)-DP. The smallest such c is the maximum of the concave function L - (δ/e)·h(L). With r = e/(αδ) it
lies at M = (s^(α-1) + r)^(1/(α-1)) and equals

    c(α, s) = (1 - 1/α)·(M + s^(α-1)·(M - s)/r).

Every (α, s) gives a valid ε = log c(α, s); we minimise over both. s = 0 is Proposition 12 of Canonne, Kamath, Steinke
2020, ε = RDP(α) - log(αδ)/(α - 1) + log(1 - 1/α). It uses the upper tail of L alone, so that ε stays above about
log(1/δ)/α: a floor, where the curve explodes at a finite order (small q). s near 1 also uses E_Q[L] = 1 and has no
floor: α = 2 gives e^ε - 1 = (A - 1)/(4δ).

Source: Canonne, Kamath, Steinke 2020 (arXiv 2004.00010 v4), Proposition 12, for s = 0. For general s, the derivation
above. The minimum over s is attained by two-point distributions (L = s or M), hence the optimum for one order; see
Asoodeh et al. 2020 (arXiv 2001.05990) for one order and Riess et al. 2026 (PMLR 306) for a whole curve.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dp.rdp import RdpCurve

__all__ = ["check_delta", "check_epsilon", "rdp_to_delta", "rdp_to_epsilon"]

_LOWEST, _HIGHEST = -18.0, 24.0
"""Orders searched: log(α - 1) in this range."""

_HUGE = 30.0
"""Above it, log(e^x - 1) is x in double precision."""

_SMALL = 1e-2
"""Up to it log(1 + x) - x is summed as a series, nine terms of which reach 1e-18."""

_NEARLY_ONE = 1 - 1e-9

_SMALLEST_DELTA = 1e-300


def rdp_to_epsilon(curve: RdpCurve, delta: float) -> float:
    """Return the smallest ε found such that every mechanism with this RDP curve is (ε, δ)-DP.

    Args:
        curve: order α > 1 -> RDP at α, >= 0.
        delta: in (0, 1).
    Returns: ε >= 0, an upper bound.
    Guarantees: valid for every curve; the search over orders assumes one minimum only in order to find it.
    Source: module docstring.

    >>> round(rdp_to_epsilon(lambda order: order / 2, 1e-5), 4)
    4.7284
    """
    return max(0.0, _log_ratio_bound(curve, check_delta(delta)))


def rdp_to_delta(curve: RdpCurve, epsilon: float) -> float:
    """Return the smallest δ found such that every mechanism with this RDP curve is (ε, δ)-DP.

    Args:
        curve: order α > 1 -> RDP at α, >= 0.
        epsilon: finite, >= 0.
    Returns: δ in [1e-300, 1], an upper bound: `rdp_to_epsilon` at this δ (below 1) is at most `epsilon`.

    >>> round(rdp_to_delta(lambda order: order / 2, 4.72838), 7)
    1e-05
    """
    from scipy import optimize  # noqa: PLC0415 -- slow to import, needed only here

    check_epsilon(epsilon)

    def excess(log_delta: float) -> float:
        return _log_ratio_bound(curve, math.exp(log_delta)) - epsilon

    lowest, highest = math.log(_SMALLEST_DELTA), -1e-12
    if excess(highest) > 0:
        return 1.0
    if excess(lowest) <= 0:
        return _SMALLEST_DELTA
    log_delta = float(optimize.brentq(excess, lowest, highest, xtol=1e-10))
    while log_delta < highest and excess(log_delta) > 0:
        log_delta += 1e-10
    return math.exp(log_delta)


def check_delta(delta: float) -> float:
    """Return δ if it is in (0, 1), or raise."""
    if not 0 < delta < 1:
        msg = f"delta is in (0, 1), well below 1 / number of records, got {delta}"
        raise ValueError(msg)
    return delta


def check_epsilon(epsilon: float) -> float:
    """Return ε if it is finite and >= 0, or raise."""
    if not 0 <= epsilon < math.inf:
        msg = f"epsilon is finite and >= 0, got {epsilon}"
        raise ValueError(msg)
    return epsilon


def _log_ratio_bound(curve: RdpCurve, delta: float) -> float:
    """Minimise log c(α, s); negative values mean that δ alone covers everything.

    Walks downhill in log(α - 1) from α = 2 by unit steps, then minimises within the last two.
    """
    from scipy import optimize  # noqa: PLC0415 -- slow to import, needed only here

    def objective(x: float) -> float:
        order = 1 + math.exp(x)
        return _best_tangent((order - 1) * curve(order), order, delta)

    x, value, step = 0.0, objective(0.0), 1.0
    ahead = objective(x + step)
    if ahead >= value:
        step = -1.0
        ahead = objective(x + step)
    while ahead < value:
        x, value = x + step, ahead
        if not _LOWEST < x < _HIGHEST:
            break
        ahead = objective(x + step)
    if value == -math.inf:
        return value
    best = optimize.minimize_scalar(objective, bounds=(x - 1, x + 1), method="bounded", options={"xatol": 1e-6})
    return min(value, float(best.fun))


def _best_tangent(log_moment: float, order: float, delta: float) -> float:
    """Minimise log c(α, s) over s for one order; log_moment = log A.

    At the minimum h(M)/e = (M - s)/(1 - s), hence 1 - s = δ·(M - s)/(M - c), where (M - s)/(M - c) = h'(M)·(M - s)/h(M)
    lies between 2 (h is quadratic near s) and α (h is a power far from s).
    """
    from scipy import optimize  # noqa: PLC0415 -- slow to import, needed only here

    if log_moment == 0:
        return -math.inf
    log_scale = math.log(order * delta)
    upper_tail_only = (log_moment - log_scale) / (order - 1) + math.log1p(-1 / order)  # s = 0: Proposition 12
    lowest, highest = min(2.0, order) * delta, min(1.01 * max(2.0, order) * delta, _NEARLY_ONE)
    if lowest >= highest:
        return upper_tail_only

    def objective(log_w: float) -> float:
        return _log_ratio(log_moment, order, log_scale, math.exp(log_w))

    bounds = (math.log(lowest), math.log(highest))
    best = optimize.minimize_scalar(objective, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return min(upper_tail_only, float(best.fun))


def _log_ratio(log_moment: float, order: float, log_scale: float, w: float) -> float:
    """Return log c(α, s) for s = 1 - w and log_scale = log(αδ), without overflow, for 0 < w < 1."""
    n = order - 1
    log_s = math.log1p(-w)
    log_tangent = n * _log1p_minus(-w) + _log1p_minus(n * w)  # of αs^(α-1) - (α - 1)s^α, <= 0
    if log_moment < _HUGE:
        log_e = math.log(math.expm1(log_moment) - math.expm1(log_tangent))
    else:
        log_e = log_moment + math.log1p(-math.exp(log_tangent - log_moment))
    log_r = log_e - log_scale - n * log_s  # log(r / s^(α-1))
    log_growth = (log_r + math.log1p(math.exp(-log_r)) if log_r > 0 else math.log1p(math.exp(log_r))) / n  # log(M/s)
    log_rise = math.log(math.expm1(log_growth)) if log_growth < _HUGE else log_growth  # log((M - s)/s)
    small, large = sorted((log_growth, log_rise - log_r))
    return math.log1p(-1 / order) + log_s + large + math.log1p(math.exp(small - large))


def _log1p_minus(x: float) -> float:
    """Return log(1 + x) - x, accurate near 0."""
    if abs(x) > _SMALL:
        return math.log1p(x) - x
    return -x * x * math.fsum((-x) ** k / (k + 2) for k in range(9))

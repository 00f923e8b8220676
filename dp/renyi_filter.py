"""A Rényi filter: what a budget (ε, δ) still admits when each release is chosen after seeing the ones before.

Composing curves and then taking the best order is a theorem for releases fixed in advance. An analyst who looks at
results first may choose what comes next such that the best order depends on them, and then no single order bounds the
whole. So orders α_k are fixed when the budget is created, each with a share w_k of δ (sum w_k = 1) and a limit

    B_k = the largest B such that D_{α_k} <= B, in both directions, implies (ε, w_k·δ)-closeness,

and a release is admitted if afterwards some k has V_k <= B_k, where V_k sums the RDP at α_k of everything admitted.

The whole is (ε, δ)-DP. Proof: let W_k sum what really ran. The interaction stopped before W_k would exceed B_k is
(α_k, B_k)-RDP (Feldman, Zrnic), hence (ε, w_k·δ)-DP. Every transcript of ours ends with W_k <= V_k <= B_k for some k;
take the first such k, a function of the transcript. W_k only grows, so the transcript is also one of the interaction
stopped for this k, with the same probability. Adding P[S, k] <= e^ε·Q[S, k] + w_k·δ over k gives P[S] <= e^ε·Q[S] + δ.

Limits: let c = e^ε and L = dP/dQ with E_Q[(L - c)_+] = δ (a larger excess only raises E_Q[L^α], which mixing L with 1
shows). Replacing L by its mean on {L > c} and by its mean on the rest keeps E_Q[L] = 1 and the excess, and does not
raise E_Q[L^α] (Jensen). So its least value is attained by two values; with p = Q[L > c] these are c + δ/p and
(1 - pc - δ)/(1 - p), which gives

    A(p) = p^(1-α)·(pc + δ)^α + (1 - p)^(1-α)·(1 - pc - δ)^α,   0 < p <= (1 - δ)/c,

convex in p (perspectives of x^α), and B = log(min A)/(α - 1).

Integer noise is drawn up to a small statistical distance η, of all releases together, from what the curves are about:
that adds at most (1 + e^ε)·η to δ, for which a thousandth of δ is set aside.

Source: Feldman and Zrnic 2021 (arXiv 2008.11193), Theorem 3.1, where the budget holds for every transcript, and
Theorem 4.3, the filter, both for one order. The union over orders and the limits: above. Regehr et al. 2026 (arXiv
2602.15815) show that comparing whole privacy profiles, without such a union, is not a filter in general.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dp.conversion import check_delta, check_epsilon

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["filter_limits", "filter_orders", "share_used"]

_SIDE_ORDERS = tuple(1 + 2.0 ** (0.75 * k - 1) for k in range(13))
"""1.5 to 257: where releases other than the Gaussian are cheapest."""

_MAIN_SHARE = 0.5
"""Of δ, for the first order; the others share the rest equally."""

_SAMPLERS_SHARE = 1e-3
"""Of δ, for what integer samplers lack in exactness."""

_ROUNDING = 1e-9
"""Limits are rounded down by it: relative, and by a thousandth of it in log A."""


def filter_orders(epsilon: float, delta: float) -> tuple[float, ...]:
    """Choose the orders of a budget: first the one at which most Gaussian noise fits, then others for other releases.

    Args:
        epsilon: of the budget, finite, > 0.
        delta: of the budget, in (0, 1).
    Returns: 14 orders > 1.

    >>> [round(order, 2) for order in filter_orders(1.0, 1e-5)[:3]]
    [19.06, 1.5, 1.84]
    """
    from scipy import optimize  # noqa: PLC0415 -- slow to import, needed only here

    def price(x: float) -> float:
        order = 1 + math.exp(x)
        return -_limit(order, epsilon, _MAIN_SHARE * delta) / order

    best = optimize.minimize_scalar(price, bounds=(-3.0, 9.0), method="bounded", options={"xatol": 1e-3})
    return (1 + math.exp(best.x), *_SIDE_ORDERS)


def filter_limits(epsilon: float, delta: float, orders: Sequence[float]) -> tuple[float, ...]:
    """Return how far all releases together may be from exact sampling, and the limit B_k of each order.

    Args:
        epsilon: of the budget, finite, > 0.
        delta: of the budget, in (0, 1).
        orders: two or more, each > 1; the first has half of δ, nearly, the others share the rest.
    Returns: a statistical distance, then the limits, rounded down; 0 where one is lost in rounding: it is not used.

    >>> [round(limit, 4) for limit in filter_limits(1.0, 1e-5, (18.0, 4.0))[1:]]
    [0.5091, 0.0003]
    """
    rest = (1 - _SAMPLERS_SHARE) * delta
    side = (1 - _MAIN_SHARE) * rest / (len(orders) - 1)
    shares = [_MAIN_SHARE * rest] + [side] * (len(orders) - 1)
    limits = (_limit(order, epsilon, share) for order, share in zip(orders, shares, strict=True))
    return (_SAMPLERS_SHARE * delta / (1 + math.exp(epsilon)), *limits)


def share_used(costs: Sequence[float], limits: Sequence[float]) -> tuple[float, int]:
    """Return which share of a budget releases use, >= 0, and what decides it; they are within it up to 1.

    Args:
        costs: their statistical distance to exact sampling, then their RDP at each order; >= 0, possibly infinite.
        limits: as `filter_limits` returns them.
    Returns: the share, and its place in both; the least share of any order, unless that of the distance is larger.

    >>> share_used([0.0, 0.2, 0.3], [1e-9, 0.1, 0.6])
    (0.5, 2)
    """
    shares = [cost / limit if limit > 0 else math.inf for cost, limit in zip(costs, limits, strict=True)]
    best = min(range(1, len(shares)), key=shares.__getitem__)
    return max((shares[best], best), (shares[0], 0))


def _limit(order: float, epsilon: float, delta: float) -> float:
    """Return log(min A)/(α - 1), rounded down, by the second formula of the module docstring.

    At the minimum (M - s)/(M - c) lies between 2 and α, where M and s are the two values (`conversion`), so that
    p = δ/(M - c) >= δ·(min(2, α) - 1)/c.
    """
    from scipy import optimize  # noqa: PLC0415 -- slow to import, needed only here

    c = math.exp(check_epsilon(epsilon))
    check_delta(delta)

    def log_moment(log_p: float) -> float:
        p = math.exp(log_p)
        upper = order * math.log(p * c + delta) - (order - 1) * log_p
        lower = order * math.log(1 - p * c - delta) - (order - 1) * math.log1p(-p)
        return max(upper, lower) + math.log1p(math.exp(-abs(upper - lower)))

    lowest, highest = math.log(delta * (min(2.0, order) - 1) / c), math.log((1 - delta) / c)
    best = optimize.minimize_scalar(log_moment, bounds=(lowest - 1, highest), method="bounded", options={"xatol": 1e-8})
    return max(0.0, float(best.fun) * (1 - _ROUNDING) - 1e-3 * _ROUNDING) / (order - 1)

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import logsumexp

from dp.conversion import _best_tangent, rdp_to_epsilon
from dp.events import Event, Gaussian, NeighboringRelation, PoissonSampled
from dp.rdp import rdp_curve
from dp.renyi_filter import filter_limits, filter_orders, share_used

BUDGETS = [(0.1, 1e-5), (0.5, 1e-6), (1.0, 1e-5), (3.0, 1e-5), (8.0, 1e-5), (1.0, 1e-8)]
RELATION: NeighboringRelation = "add-or-remove-one"


def excess(ratios: np.ndarray, weights: np.ndarray, epsilon: float) -> float:
    """E_Q[(L - e^ε)_+]: the least δ."""
    return float(weights @ np.maximum(ratios - math.exp(epsilon), 0.0))


def renyi(ratios: np.ndarray, weights: np.ndarray, order: float) -> float:
    with np.errstate(divide="ignore"):
        return float(logsumexp(order * np.log(ratios), b=weights)) / (order - 1)


@given(
    st.lists(st.tuples(st.floats(0.0, 1e3), st.floats(1e-6, 1.0)), min_size=2, max_size=5),
    st.floats(1.2, 30.0),
    st.floats(0.05, 4.0),
    st.floats(1e-6, 0.2),
)
def test_a_pair_within_a_limit_is_close(
    points: list[tuple[float, float]], order: float, epsilon: float, delta: float
) -> None:
    limit = filter_limits(epsilon, delta, (order, 2.0))[1]  # this order's share of δ is just below a half
    ratios, weights = (np.array(column) for column in zip(*points, strict=True))
    weights = weights / weights.sum()
    if (mean := float(weights @ ratios)) < 1e-3:
        return
    ratios = ratios / mean
    low, high = 0.0, 1.0  # mix with the certain 1 until the divergence is just within the limit
    for _ in range(60):
        middle = (low + high) / 2
        within = renyi(1 + middle * (ratios - 1), weights, order) <= limit
        low, high = (middle, high) if within else (low, middle)
    assert excess(1 + low * (ratios - 1), weights, epsilon) <= delta / 2 * (1 + 1e-6) + 1e-15


@pytest.mark.parametrize(("epsilon", "delta"), BUDGETS)
def test_limits_are_the_largest_possible(epsilon: float, delta: float) -> None:
    orders = filter_orders(epsilon, delta)
    for k, (order, limit) in enumerate(zip(orders, filter_limits(epsilon, delta, orders)[1:], strict=True)):
        share = delta / 2 if k == 0 else delta / 2 / (len(orders) - 1)
        if limit < 1e-9:
            continue
        # two values, the upper one with probability p, that exceed ε by more than the share of δ
        more = 1.01 * share
        p = np.geomspace(1e-2 * share / math.exp(epsilon), (1 - more) / math.exp(epsilon), 4_000)[:-1]
        ratios = np.array([math.exp(epsilon) + more / p, (1 - p * math.exp(epsilon) - more) / (1 - p)])
        weights = np.array([p, 1 - p])
        assert excess(ratios[:, 7], weights[:, 7], epsilon) > share
        found = float(logsumexp(order * np.log(ratios), b=weights, axis=0).min()) / (order - 1)
        assert limit < found < 1.03 * limit


@pytest.mark.parametrize(("epsilon", "delta"), BUDGETS)
def test_no_limit_is_beyond_what_one_order_proves(epsilon: float, delta: float) -> None:
    orders = filter_orders(epsilon, delta)
    for order, limit in zip(orders, filter_limits(epsilon, delta, orders)[1:], strict=True):
        # a curve that is known at one order only: monotone, so flat below it
        share = delta / 2 if order == orders[0] else delta / 2 / (len(orders) - 1)
        curve = lambda at, order=order, limit=limit: limit if at <= order else 1e9 * at  # noqa: E731
        if limit > 1e-9:
            assert rdp_to_epsilon(curve, share) == pytest.approx(epsilon, rel=0.02)


def steps_admitted(event: Event, epsilon: float, delta: float) -> float:
    orders = filter_orders(epsilon, delta)
    curve = rdp_curve(event, neighboring_relation=RELATION)
    return 1 / share_used([0.0, *map(curve, orders)], filter_limits(epsilon, delta, orders))[0]


@pytest.mark.parametrize(("epsilon", "delta"), BUDGETS)
@pytest.mark.parametrize("event", [Gaussian(50.0), PoissonSampled(0.01, Gaussian(4.0))])
def test_choosing_adaptively_costs_little_where_noise_is_ample(event: Event, epsilon: float, delta: float) -> None:
    steps = steps_admitted(event, epsilon, delta)
    fixed = rdp_to_epsilon(lambda order: 1.15 * steps * rdp_curve(event, neighboring_relation=RELATION)(order), delta)
    assert fixed > epsilon  # 15 % more steps would not fit even if they were fixed in advance
    exactly = rdp_to_epsilon(lambda order: steps * rdp_curve(event, neighboring_relation=RELATION)(order), delta)
    assert exactly <= epsilon


def test_share_counts_the_order_where_it_is_least_and_skips_orders_that_are_not_used() -> None:
    assert share_used([0.0, 0.2, 0.3, 0.0], [1.0, 0.1, 0.6, 0.0]) == (0.5, 2)
    assert share_used([0.0, math.inf, 0.3], [1.0, 0.1, 0.1]) == pytest.approx((3.0, 2))
    assert share_used([0.0, math.inf, math.inf], [1.0, 0.1, 0.1])[0] == math.inf
    assert share_used([0.7, 0.2, 0.3], [1.0, 0.1, 0.6]) == (0.7, 0)


@pytest.mark.parametrize(("epsilon", "delta"), BUDGETS)
def test_all_shares_of_delta_add_up_to_delta(epsilon: float, delta: float) -> None:
    # read back from the limits: by the conversion, each limit is worth its share
    orders = filter_orders(epsilon, delta)
    distance, *limits = filter_limits(epsilon, delta, orders)
    total = distance * (1 + math.exp(epsilon))
    for order, limit in zip(orders, limits, strict=True):
        moment = (order - 1) * limit
        if limit > 1e-9:
            excess_at = lambda x, order=order, moment=moment: _best_tangent(moment, order, math.exp(x)) - epsilon  # noqa: E731
            total += math.exp(brentq(excess_at, math.log(delta) - 7, math.log(delta)))
    assert total <= delta * 1.0001
    assert total > 0.9 * delta or min(limits) < 1e-9


def worst_excess(epsilon: float, limits: tuple[float, ...], orders: tuple[float, ...], *, steps: int) -> float:
    """Let an analyst who sees every answer choose the next question so as to hurt most, within the filter.

    Questions are two randomised responses, one of which costs more at low orders and less at high ones, and a third
    that almost never says anything but then says all. Exact, by dynamic programming over (L, counts).
    """
    c = math.exp(epsilon)
    questions = []
    for outcomes in (
        [(0.6, 0.4), (0.4, 0.6)],
        [(0.52, 0.48), (0.48, 0.52)],
        [(0.002, 0.0001), (0.0001, 0.002), (0.9979, 0.9979)],
    ):
        p, q = np.array(outcomes).T
        questions.append((p, q, [float(logsumexp(a * np.log(p) + (1 - a) * np.log(q))) / (a - 1) for a in orders]))

    @cache
    def best(ratio: float, counts: tuple[int, ...]) -> float:
        value = max(ratio - c, 0.0)
        if sum(counts) == steps:
            return value
        for k, (p, q, _) in enumerate(questions):
            after = tuple(n + (j == k) for j, n in enumerate(counts))
            costs = np.array(after) @ np.array([question[2] for question in questions])
            if share_used([0.0, *costs], limits)[0] <= 1:
                answers = zip(p, q, strict=True)
                value = max(value, sum(w * best(round(ratio * v / w, 12), after) for v, w in answers))
        return value

    return best(1.0, (0,) * len(questions))


@pytest.mark.parametrize(("epsilon", "delta"), [(1.0, 0.01), (0.5, 0.05), (2.0, 1e-3)])
def test_an_analyst_who_looks_at_every_answer_stays_within_the_budget(epsilon: float, delta: float) -> None:
    orders = filter_orders(epsilon, delta)
    assert worst_excess(epsilon, filter_limits(epsilon, delta, orders), orders, steps=12) <= delta


def test_the_analyst_would_break_limits_that_were_too_wide() -> None:
    orders = filter_orders(1.0, 0.01)
    wide = tuple(3 * limit for limit in filter_limits(1.0, 0.01, orders))
    assert worst_excess(1.0, wide, orders, steps=12) > 0.01

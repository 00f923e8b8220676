import math

import numpy as np
import pytest
from dp_accounting.rdp import compute_epsilon
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

import dp
from dp.conversion import _best_tangent, rdp_to_delta, rdp_to_epsilon
from dp.rdp import RdpCurve, release_curve

DELTA = st.floats(-12, -1.5).map(lambda x: 10**x)


def gaussian(sigma: float, steps: int = 1) -> RdpCurve:
    return lambda order: steps * order / (2 * sigma**2)


def sampled(q: float, sigma: float, steps: int) -> RdpCurve:
    curve = release_curve(dp.PoissonSampled(q, dp.Gaussian(sigma)), neighboring_relation="add-or-remove-one")
    return lambda order: steps * curve(order)


def delta_of_gaussian(sigma: float, epsilon: float) -> float:
    """Exact: Balle and Wang 2018, Theorem 8."""

    def cdf(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    return cdf(1 / (2 * sigma) - epsilon * sigma) - math.exp(epsilon) * cdf(-1 / (2 * sigma) - epsilon * sigma)


def worst_delta_of_two_points(order: float, rdp: float, epsilon: float) -> float:
    """max p - e^ε r over Bernoulli pairs (p, r) with Rényi divergence of that order at most rdp, by brute force."""

    def excess(p: float, r: float) -> float:
        upper = order * math.log(p) + (1 - order) * math.log(r)
        lower = order * math.log1p(-p) + (1 - order) * math.log1p(-r)
        return float(np.logaddexp(upper, lower)) - (order - 1) * rdp

    def delta(log_r: float) -> float:
        r, top = math.exp(log_r), 1 - 1e-13
        p = top if excess(top, r) <= 0 else float(brentq(excess, r, top, args=(r,), xtol=1e-18, rtol=1e-14))
        return p - math.exp(epsilon) * r

    best = max(np.linspace(-100, -0.01, 800), key=delta)
    return max(delta(log_r) for log_r in np.linspace(best - 0.2, min(best + 0.2, -0.01), 200))


@pytest.mark.parametrize("order", [1.3, 2.0, 5.0, 40.0])
@pytest.mark.parametrize(("rdp", "delta"), [(1e-4, 1e-3), (0.05, 1e-3), (0.05, 1e-5), (1.0, 1e-4), (1.0, 1e-2)])
def test_one_order_is_converted_as_tightly_as_two_point_distributions_allow(
    order: float, rdp: float, delta: float
) -> None:
    epsilon = _best_tangent((order - 1) * rdp, order, delta)
    assert epsilon > 0
    assert worst_delta_of_two_points(order, rdp, epsilon) == pytest.approx(delta, rel=2e-4)


@given(rdp=st.floats(-8, 3).map(lambda x: 10**x), order=st.floats(1.02, 200), delta=DELTA)
def test_never_looser_than_proposition_12_at_any_order(rdp: float, order: float, delta: float) -> None:
    proposition_12, _ = compute_epsilon([order], [rdp], delta)
    assert max(_best_tangent((order - 1) * rdp, order, delta), 0.0) <= proposition_12 + 1e-12


@given(sigma=st.floats(-0.5, 3).map(lambda x: 10**x), delta=DELTA)
def test_gaussian_is_never_below_its_exact_epsilon(sigma: float, delta: float) -> None:
    epsilon = rdp_to_epsilon(gaussian(sigma), delta)
    assert delta_of_gaussian(sigma, epsilon) <= delta * (1 + 1e-9)


@pytest.mark.parametrize(
    ("q", "sigma", "steps", "delta"),
    [
        (0.01, 1.0, 1_000, 1e-5),
        (1e-4, 1.0, 10, 1e-5),
        (0.2, 0.3, 50_000, 1e-10),
        (0.2, 4.0, 10, 1e-5),
        (0.01, 0.6, 10, 1e-10),
        (1.0, 300.0, 1, 1e-5),
    ],
)
def test_search_finds_the_best_of_a_dense_grid_of_orders(q: float, sigma: float, steps: int, delta: float) -> None:
    curve = sampled(q, sigma, steps)
    orders = 1 + np.exp(np.linspace(-10, 9, 400))
    best = min(_best_tangent((order - 1) * curve(order), order, delta) for order in orders)
    assert rdp_to_epsilon(curve, delta) <= best + 1e-9


def test_small_epsilon_has_no_floor() -> None:
    """True ε .00109. Proposition 12 alone, over all orders, stops at .4285; order grids give .43."""
    assert rdp_to_epsilon(sampled(1e-4, 1.0, 10), 1e-5) < 0.0042


@pytest.mark.parametrize("sigma", [10.0, 1e3, 1e5])
def test_epsilon_of_weak_gaussians_stays_within_a_third_of_the_truth(sigma: float) -> None:
    delta = 1e-5 / sigma
    true_epsilon = brentq(lambda epsilon: delta_of_gaussian(sigma, epsilon) - delta, 0, 10)
    assert true_epsilon <= rdp_to_epsilon(gaussian(sigma), delta) <= 4 / 3 * true_epsilon


@settings(max_examples=30)
@given(
    sigma=st.floats(-0.5, 2).map(lambda x: 10**x),
    q=st.floats(-6, 0).map(lambda x: 10**x),
    steps=st.integers(1, 10**6),
    delta=DELTA,
    factor=st.floats(1.001, 10),
)
def test_larger_delta_never_costs_a_larger_epsilon(
    sigma: float, q: float, steps: int, delta: float, factor: float
) -> None:
    curve = sampled(q, sigma, steps)
    epsilon = rdp_to_epsilon(curve, delta)
    assert 0 <= rdp_to_epsilon(curve, delta * factor) <= epsilon * (1 + 1e-9) + 1e-9 < math.inf


@pytest.mark.parametrize(("q", "sigma", "steps"), [(0.01, 1.0, 1_000), (1.0, 10.0, 1_000), (0.2, 4.0, 10)])
@pytest.mark.parametrize("delta", [1e-12, 1e-5, 1e-3])
def test_delta_and_epsilon_are_inverse_to_each_other(q: float, sigma: float, steps: int, delta: float) -> None:
    curve = sampled(q, sigma, steps)
    epsilon = rdp_to_epsilon(curve, delta)
    recovered = rdp_to_delta(curve, epsilon)
    assert recovered == pytest.approx(delta, rel=1e-6)
    assert rdp_to_epsilon(curve, recovered) <= epsilon


def test_delta_is_clamped_to_where_it_means_something() -> None:
    assert rdp_to_delta(gaussian(0.01), 0.0) == 1.0
    assert rdp_to_delta(lambda _: 0.0, 0.0) == 1e-300
    assert rdp_to_delta(gaussian(1.0), 1e6) == 1e-300


@pytest.mark.parametrize(
    ("q", "sigma", "steps"),
    [
        (1.0, 1e-6, 10**9),
        (0.5, 1e-6, 1),
        (0.01, 1e-4, 10),
        (0.5, 0.01, 10),
        (1.0, 1e9, 1),
        (0.3, 1e4, 10**7),
        (1e-300, 1.0, 10**6),
        (1 - 2**-53, 1.0, 1_000),
    ],
)
@pytest.mark.parametrize("delta", [1e-300, 1e-10, 0.999])
def test_extreme_parameters_give_a_finite_epsilon(q: float, sigma: float, steps: int, delta: float) -> None:
    assert 0 <= rdp_to_epsilon(sampled(q, sigma, steps), delta) < math.inf


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan, math.inf])
def test_delta_outside_the_open_unit_interval_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match=r"delta is in \(0, 1\)"):
        rdp_to_epsilon(gaussian(1.0), delta)


@pytest.mark.parametrize("epsilon", [-1e-9, math.nan, math.inf])
def test_epsilon_below_zero_or_infinite_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon is finite and >= 0"):
        rdp_to_delta(gaussian(1.0), epsilon)

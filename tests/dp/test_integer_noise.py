"""Sums and roundings of discrete Gaussians against brute force; the account built on them against exact profiles."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from dp.errors import UnsupportedEventError
from dp.events import Composed, DiscreteGaussian, Event, Gaussian, Laplace, PoissonSampled, Skellam
from dp.gaussian_equivalent import (
    SAMPLER_DISTANCE,
    GaussianEquivalent,
    closeness_of_sum,
    gaussian_equivalent,
    has_integer_noise,
    rounding_variance,
    sampler_distance,
)
from dp.integer_events import DiscreteGaussianSum, Distributed

Floats = NDArray[np.float64]


def law(sigma: float, reach: int) -> Floats:
    """The discrete Gaussian on [-reach, reach]."""
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    normalised: Floats = weights / weights.sum()
    return normalised


def theta(a: float) -> float:
    return 2 * sum(math.exp(-2 * (math.pi * a * k) ** 2) for k in range(1, 20))


def gaussian_delta(noise_multiplier: float, epsilon: float) -> float:
    """Balle and Wang 2018, Theorem 8."""
    s = 1 / noise_multiplier
    return float(norm.cdf(s / 2 - epsilon / s) - math.exp(epsilon) * norm.cdf(-s / 2 - epsilon / s))


@pytest.mark.parametrize("sigma", [0.5, 0.6, 0.8, 1.0])
@pytest.mark.parametrize("shares", [2, 3, 8])
def test_a_sum_of_shares_is_as_close_to_a_discrete_gaussian_as_stated(sigma: float, shares: int) -> None:
    reach = 12
    total = law(sigma, reach)
    for _ in range(shares - 1):
        total = np.convolve(total, law(sigma, reach))
    middle = len(total) // 2
    single = law(sigma * math.sqrt(shares), middle)
    near = slice(middle - 6, middle + 7)  # further out the truncated tails show
    gap = float(np.abs(np.log(total[near] / single[near])).max())
    stated = closeness_of_sum(sigma, shares)
    assert gap <= stated * (1 + 1e-6) + 1e-9
    if shares == 2:
        assert gap > stated / 2


@pytest.mark.parametrize("parts", [[2.0, 0.8], [1.5, 1.0, 0.7], [0.9, 0.9, 0.9]])
def test_a_sum_of_unlike_parts_is_as_close_to_a_discrete_gaussian_as_stated(parts: list[float]) -> None:
    total = law(parts[0], 16)
    for part in parts[1:]:
        total = np.convolve(total, law(part, 16))
    middle = len(total) // 2
    single = law(math.hypot(*parts), middle)
    near = slice(middle - 6, middle + 7)
    gap = float(np.abs(np.log(total[near] / single[near])).max())
    assert gap <= (len(parts) - 1) * 2 * math.atanh(theta(min(parts) / math.sqrt(2))) + 1e-9


def test_unlike_parts_cost_what_their_total_costs() -> None:
    total = DiscreteGaussian(1000.0, 500.0, 16)
    whole = gaussian_equivalent(DiscreteGaussianSum(total, least_part=50.0, parts=40))
    assert whole.event == gaussian_equivalent(total).event
    assert whole.log_ratio == gaussian_equivalent(total).log_ratio  # nothing, at this size of parts
    assert whole.distance == 40 * 16 * SAMPLER_DISTANCE
    close = DiscreteGaussianSum(total, least_part=2.2, parts=40)
    assert gaussian_equivalent(close).log_ratio == pytest.approx(16 * 39 * 2 * math.atanh(theta(2.2 / math.sqrt(2))))
    with pytest.raises(UnsupportedEventError, match="finer grid"):
        gaussian_equivalent(DiscreteGaussianSum(total, least_part=1.0, parts=40))
    sampled = gaussian_equivalent(PoissonSampled(0.1, DiscreteGaussianSum(total, least_part=50.0, parts=40)))
    assert sampled.event == PoissonSampled(0.1, whole.event)


@pytest.mark.parametrize(
    ("total", "least", "parts", "error"),
    [
        (Skellam(9.0), 1.0, 2, TypeError),
        (DiscreteGaussian(9.0), 0.0, 2, ValueError),
        (DiscreteGaussian(9.0), math.inf, 2, ValueError),
        (DiscreteGaussian(9.0), 1.0, 0, ValueError),
        (DiscreteGaussian(9.0), 1.0, 1.5, TypeError),
    ],
)
def test_a_sum_of_no_parts_is_refused(total: Any, least: float, parts: Any, error: type) -> None:
    with pytest.raises(error):
        DiscreteGaussianSum(total, least, parts)


@pytest.mark.parametrize(("sigma", "s"), [(1.0, 0.5), (1.2, 0.6), (2.0, 0.8), (0.9, 0.7)])
def test_a_rounded_gaussian_is_as_close_to_a_discrete_one_as_stated(sigma: float, s: float) -> None:
    z = np.arange(-40, 41)
    w = np.linspace(-14, 14, 56_001)  # the trapezoidal rule is exact to rounding for such integrands
    rounding = np.exp(-((z[:, None] - w) ** 2) / (2 * s**2))
    rounding /= rounding.sum(axis=0)
    density = norm.pdf(w, scale=math.sqrt(sigma**2 - s**2))
    rounded = (rounding * density).sum(axis=1) * (w[1] - w[0])
    near = np.abs(z) <= 5
    gap = float(np.abs(np.log(rounded[near] / law(sigma, 40)[near])).max())
    assert 0 < gap <= 2 * math.atanh(theta(s))


def exact_profile(p: Floats, q: Floats, epsilon: float) -> float:
    return float(np.maximum(p - math.exp(epsilon) * q, 0).sum())


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("shift", [(3, 0), (2, 2), (1, 3)])
def test_two_dimensional_noise_costs_at_most_what_its_equivalent_costs(epsilon: float, shift: tuple[int, int]) -> None:
    sigma, shares, reach = 2.0, 3, 30
    one = law(sigma, reach)
    total = np.convolve(np.convolve(one, one), one)
    moved = [np.roll(total, step) for step in shift]
    exact = exact_profile(np.outer(total, total), np.outer(*moved), epsilon)
    event = Distributed(DiscreteGaussian(sigma, math.hypot(*shift), 2), shares)
    equivalent = gaussian_equivalent(event)
    assert isinstance(equivalent.event, Gaussian)
    noise = equivalent.event.noise_multiplier
    bound = equivalent.delta(epsilon, lambda eps: gaussian_delta(noise, eps))
    assert exact <= bound
    assert bound < gaussian_delta(sigma * math.sqrt(shares) / math.hypot(*shift) * 0.92, epsilon)


def test_one_dimensional_noise_agrees_with_dp_accounting() -> None:
    from dp_accounting.pld import privacy_loss_distribution as pld

    theirs = pld.from_discrete_gaussian_mechanism(10.0, sensitivity=1).self_compose(1000).get_epsilon_for_delta(1e-5)
    equivalent = gaussian_equivalent(Composed([(DiscreteGaussian(10.0), 1000)]))
    assert isinstance(equivalent.event, Composed)
    (gaussian, count) = equivalent.event.events[0]
    assert count == 1000
    assert isinstance(gaussian, Gaussian)
    noise = gaussian.noise_multiplier / math.sqrt(1000)

    def epsilon_of(delta: float) -> float:
        low, high = 0.0, 100.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if gaussian_delta(noise, middle) <= delta else (middle, high)
        return high

    ours = equivalent.epsilon(1e-5, epsilon_of)
    assert theirs * 0.999 < ours < theirs * 1.02


@given(st.floats(1.5, 1e4), st.integers(1, 400), st.integers(1, 10**7), st.integers(1, 10**4))
def test_an_equivalent_loses_little_and_never_gains(sigma: float, shares: int, dimension: int, delta: int) -> None:
    event = Distributed(DiscreteGaussian(sigma, delta, dimension), shares)
    try:
        equivalent = gaussian_equivalent(event)
    except UnsupportedEventError:
        assert sigma < 2.1
        return
    assert isinstance(equivalent.event, Gaussian)
    ideal, ours = shares * sigma**2, (equivalent.event.noise_multiplier * delta) ** 2
    assert ideal - 3.5 < ours < ideal
    assert 0 <= equivalent.log_ratio <= 2**-20
    assert equivalent.distance == pytest.approx(shares * dimension * 2.0**-107)


@pytest.mark.parametrize(
    ("share", "senders"), [(DiscreteGaussian(1.0, 5.0, 10), 3), (DiscreteGaussian(1.2), 1), (DiscreteGaussian(0.6), 2)]
)
def test_noise_too_small_for_its_grid_is_refused(share: DiscreteGaussian, senders: int) -> None:
    with pytest.raises(UnsupportedEventError, match="finer grid") as caught:
        gaussian_equivalent(Distributed(share, senders))
    assert caught.value.event == Distributed(share, senders)


def test_closeness_of_many_shares_is_bounded_by_their_first_terms() -> None:
    every = sum(2 * math.atanh(theta(1.5 * math.sqrt(k / (k + 1)))) for k in range(1, 1000))
    assert every <= closeness_of_sum(1.5, 1000) < every * 1.05
    assert closeness_of_sum(1.5, 1) == 0
    assert closeness_of_sum(0.1, 2) == math.inf


def test_rounding_adds_no_more_than_stated() -> None:
    for dimension in (1, 1000, 10**9):
        assert 2 * dimension * math.atanh(theta(math.sqrt(rounding_variance(dimension)))) < 1e-12


@pytest.mark.parametrize(
    "event",
    [
        Skellam(100.0),
        Distributed(Skellam(100.0), 3),
        PoissonSampled(0.1, Skellam(100.0)),
        Composed([(Gaussian(1.0), 1), (Skellam(100.0), 1)]),
    ],
)
def test_skellam_noise_has_no_gaussian_equivalent(event: Event) -> None:
    with pytest.raises(UnsupportedEventError, match="Skellam"):
        gaussian_equivalent(event)


def test_only_gaussians_of_one_sample_are_merged() -> None:
    with pytest.raises(UnsupportedEventError, match="merged"):
        gaussian_equivalent(PoissonSampled(0.1, Composed([(Laplace(1.0), 1), (DiscreteGaussian(10.0), 1)])))


def test_integer_noise_under_an_unknown_event_is_refused() -> None:
    class Mystery(Event):
        event = DiscreteGaussian(100.0)

        def __repr__(self) -> str:
            return "Mystery"

    assert has_integer_noise(Mystery())
    with pytest.raises(UnsupportedEventError, match="Mystery"):
        gaussian_equivalent(Mystery())


def test_events_without_integer_noise_stay_as_they_are() -> None:
    for event in (Gaussian(1.0), PoissonSampled(0.1, Gaussian(1.0)), Composed([(Laplace(1.0), 3)])):
        assert gaussian_equivalent(event) == GaussianEquivalent(event, 0.0, 0.0)
        assert not has_integer_noise(event)


def test_a_sum_in_a_tree_is_replaced_where_it_stands() -> None:
    leaf = Distributed(DiscreteGaussian(100.0, 50.0, 16), 4)
    tree = Composed([(PoissonSampled(0.2, leaf), 150), (Gaussian(3.0), 1)])
    equivalent = gaussian_equivalent(tree)
    single = gaussian_equivalent(leaf)
    assert equivalent.event == Composed([(PoissonSampled(0.2, single.event), 150), (Gaussian(3.0), 1)])
    assert equivalent.log_ratio == pytest.approx(150 * single.log_ratio)
    assert equivalent.distance == pytest.approx(150 * 4 * 16 * SAMPLER_DISTANCE)
    assert sampler_distance(Skellam(1.0, 1.0, 7)) == 7 * SAMPLER_DISTANCE


def test_slack_is_paid_for_in_delta_and_in_epsilon() -> None:
    slack = GaussianEquivalent(Gaussian(1.0), log_ratio=0.01, distance=1e-8)
    delta = slack.delta(1.0, lambda eps: gaussian_delta(1.0, eps))
    assert delta == pytest.approx(math.exp(0.01) * gaussian_delta(1.0, 0.98) + 1e-8 * (1 + math.e))
    assert slack.delta(0.019, lambda _: 0.5) == pytest.approx(
        0.5 + (1e-8 + 1 - math.exp(-0.01)) * (1 + math.exp(0.019))
    )
    assert slack.delta(1e4, lambda _: 0.0) == 1
    epsilon = slack.epsilon(delta, lambda d: _inverse(lambda eps: gaussian_delta(1.0, eps), d))
    assert epsilon == pytest.approx(1.0, abs=1e-6)
    assert epsilon >= 1.0 - 1e-12
    assert slack.epsilon(1e-9, lambda _: 0.0) == math.inf


def _inverse(profile: Any, delta: float) -> float:
    low, high = 0.0, 50.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if profile(middle) <= delta else (middle, high)
    return high


@pytest.mark.parametrize(
    ("share", "senders", "error"),
    [
        (Gaussian(1.0), 3, TypeError),
        (Distributed(Skellam(1.0), 1), 3, TypeError),
        (Skellam(1.0), 0, ValueError),
        (Skellam(1.0), -1, ValueError),
        (Skellam(1.0), 1.5, TypeError),
    ],
)
def test_a_distributed_event_needs_integer_shares_of_somebody(share: Any, senders: Any, error: type) -> None:
    with pytest.raises(error):
        Distributed(share, senders)

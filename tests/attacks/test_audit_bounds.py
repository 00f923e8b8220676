"""Lower bounds on ε against the paper's numbers, exact laws of simple mechanisms, and independent formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from dp_accounting import get_epsilon_gaussian
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from attacks.auditing import (
    GradientCanaries,
    LowerBound,
    best_threshold,
    epsilon_from_guesses,
    gaussian_epsilon,
    gaussian_estimate,
    multi_run_bound,
    one_run_bound,
    one_run_p_value,
)

COUNTS = st.tuples(st.integers(1, 120), st.integers(0, 120), st.integers(0, 120)).map(
    lambda counts: tuple(sorted(counts, reverse=True))  # canaries, guesses, right ones
)
LEVELS: dict[str, Any] = {"delta": 1e-5, "confidence": 0.95, "unit": "example"}


def paper_p_value(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    """Corollary 5.4 as it is printed."""
    law = stats.binom(r, 1 / (1 + math.exp(-epsilon)))
    alpha = max((law.cdf(v - 1) - law.cdf(v - i - 1)) / i for i in range(1, v + 1)) if v else 0.0
    return min(1.0, float(law.sf(v - 1) + 2 * m * delta * alpha))


@pytest.mark.parametrize(
    ("counts", "delta", "printed"),
    [((1000, 100, 75), 1e-4, 0.673), ((100_000, 1510, 1439), 1e-5, 2.675)],
)
def test_bounds_are_those_printed_in_the_paper(counts: tuple[int, int, int], delta: float, printed: float) -> None:
    assert epsilon_from_guesses(*counts, delta=delta, error=0.05) == pytest.approx(printed, abs=1e-3)


@settings(max_examples=50)
@given(COUNTS, st.floats(0, 6), st.floats(0, 0.4))
def test_p_value_is_the_printed_formula(counts: tuple[int, int, int], epsilon: float, share: float) -> None:
    delta = share / (2 * counts[0])
    ours = one_run_p_value(*counts, epsilon=epsilon, delta=delta)
    assert ours == pytest.approx(paper_p_value(*counts, epsilon, delta), rel=1e-6, abs=1e-12)


@settings(max_examples=50)
@given(COUNTS, st.floats(0, 6), st.floats(0, 3), st.floats(0, 0.1))
def test_p_value_grows_with_epsilon_and_is_never_below_the_printed_one(
    counts: tuple[int, int, int], epsilon: float, more: float, delta: float
) -> None:
    here, beyond = (one_run_p_value(*counts, epsilon=e, delta=delta) for e in (epsilon, epsilon + more))
    assert beyond >= here * (1 - 1e-9)
    assert here >= paper_p_value(*counts, epsilon, delta) * (1 - 1e-6) - 1e-12


@given(COUNTS, st.floats(0, 0.01), st.floats(1e-4, 0.5))
def test_the_bound_is_where_the_p_value_crosses_the_error(
    counts: tuple[int, int, int], delta: float, error: float
) -> None:
    bound = epsilon_from_guesses(*counts, delta=delta, error=error)
    assert one_run_p_value(*counts, epsilon=bound + 1e-6, delta=delta) > error or bound > 20
    assert bound == 0 or one_run_p_value(*counts, epsilon=bound, delta=delta) <= error


@settings(max_examples=40)
@given(st.integers(1, 150), st.floats(0, 4), st.sampled_from([0.0, 1e-3, 1e-2]), st.sampled_from([0.05, 0.001]))
def test_leaky_randomised_response_is_convicted_no_more_often_than_stated(
    m: int, epsilon: float, delta: float, error: float
) -> None:
    right = delta + (1 - delta) / (
        1 + math.exp(-epsilon)
    )  # tells a bit with probability delta, else flips it at random
    law = stats.binom(m, right)
    convicted = [v for v in range(m + 1) if one_run_p_value(m, m, v, epsilon=epsilon, delta=delta) <= error]
    assert sum(law.pmf(v) for v in convicted) <= error * (1 + 1e-9)


def test_p_value_of_plain_randomised_response_is_exact() -> None:
    for v in (300, 520, 560):
        expected = stats.binom(1000, 1 / (1 + math.exp(-0.1))).sf(v - 1)
        assert one_run_p_value(1000, 1000, v, epsilon=0.1, delta=0.0) == pytest.approx(expected, rel=1e-9)


def gaussian_run(mu: float, rng: np.random.Generator, m: int = 1000) -> tuple[Any, Any]:
    canaries = GradientCanaries.draw(m, dimension=10 * m, norm=mu, rng=rng)
    return canaries.scores(canaries.total() + rng.normal(size=10 * m)), canaries.included


@pytest.mark.parametrize("mu", [0.5, 1.0, 4.0])
def test_one_run_bounds_stay_below_the_truth_and_above_nothing(mu: float) -> None:
    rng = np.random.default_rng(1)
    bounds = [one_run_bound(*gaussian_run(mu, rng), **LEVELS).epsilon for _ in range(15)]
    assert max(bounds) <= gaussian_epsilon(mu, 1e-5)
    assert np.median(bounds) > {0.5: 0.4, 1.0: 1.35, 4.0: 4.0}[mu]


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_only_the_order_of_scores_matters(seed: int) -> None:
    scores, included = gaussian_run(2.0, np.random.default_rng(seed), m=100)
    assume(len(np.unique(np.arctan(scores))) == 100)
    plain, curved = (one_run_bound(s, included, **LEVELS) for s in (scores, np.arctan(scores)))
    assert plain == curved


def test_perfect_and_useless_guesses() -> None:
    included = np.random.default_rng(0).random(200) < 0.5
    perfect, constant, wrong = (
        one_run_bound(scores, included, guesses=[200], **LEVELS).epsilon
        for scores in (included.astype(float), np.zeros(200), -included.astype(float))
    )
    balanced = 2 * min(included.sum(), 200 - included.sum())
    assert perfect == epsilon_from_guesses(200, 200, int(balanced + abs(100 - included.sum())), delta=1e-5, error=0.05)
    assert constant < 0.5
    assert wrong == 0.0


def test_more_numbers_of_guesses_pay_for_the_choice() -> None:
    scores, included = gaussian_run(1.0, np.random.default_rng(3))
    alone = [one_run_bound(scores, included, guesses=[r], **LEVELS).epsilon for r in (100, 1000)]
    both = one_run_bound(scores, included, guesses=[100, 1000, 100], **LEVELS).epsilon
    strict = dict(LEVELS, confidence=0.975)
    assert both == max(one_run_bound(scores, included, guesses=[r], **strict).epsilon for r in (100, 1000)) < max(alone)


@pytest.mark.parametrize(
    "call",
    [
        lambda: one_run_p_value(10, 5, 6, epsilon=1.0, delta=0.0),
        lambda: one_run_p_value(10, 11, 6, epsilon=1.0, delta=0.0),
        lambda: one_run_p_value(10, 5, 3, epsilon=-1.0, delta=0.0),
        lambda: one_run_p_value(10, 5, 3, epsilon=1.0, delta=1.0),
        lambda: one_run_bound(np.zeros(3), np.zeros(4, dtype=np.bool_), **LEVELS),
        lambda: one_run_bound(np.full(3, np.nan), np.zeros(3, dtype=np.bool_), **LEVELS),
        lambda: one_run_bound(np.zeros(3), np.zeros(3, dtype=np.bool_), delta=1.5, confidence=0.9, unit="example"),
        lambda: one_run_bound(np.zeros(3), np.zeros(3, dtype=np.bool_), delta=0.0, confidence=1.0, unit="example"),
        lambda: gaussian_estimate(np.zeros(3), np.ones(3, dtype=np.bool_), **LEVELS),
    ],
)
def test_arguments_out_of_range_are_refused(call: Any) -> None:
    with pytest.raises(ValueError, match="got"):
        call()


def test_multi_run_bound_is_clopper_pearsons() -> None:
    members, others = np.repeat([1.0, 0.0], [180, 20]), np.repeat([1.0, 0.0], [10, 190])
    bound = multi_run_bound(members, others, 0.5, **LEVELS)
    tpr_low, fpr_high = stats.beta.ppf(0.025, 180, 21), stats.beta.ppf(0.975, 11, 190)
    expected = max(math.log((tpr_low - 1e-5) / fpr_high), math.log((1 - fpr_high - 1e-5) / (1 - tpr_low)))
    assert bound.epsilon == pytest.approx(expected)
    mirrored = multi_run_bound(-others, -members, -0.5, **LEVELS)
    assert mirrored.epsilon == pytest.approx(bound.epsilon)
    assert multi_run_bound(others, members, 0.5, **LEVELS).epsilon == 0


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_multi_run_bound_of_randomised_response_is_wrong_no_more_often_than_stated(epsilon: float) -> None:
    runs, q = 40, 1 / (1 + math.exp(-epsilon))
    pmf = {"in": stats.binom(runs, q).pmf(range(runs + 1)), "out": stats.binom(runs, 1 - q).pmf(range(runs + 1))}
    answers = [np.repeat([1.0, 0.0], [k, runs - k]) for k in range(runs + 1)]
    wrong = sum(
        pmf["in"][i] * pmf["out"][j]
        for i in range(runs + 1)
        for j in range(runs + 1)
        if pmf["in"][i] * pmf["out"][j] > 1e-9
        and multi_run_bound(answers[i], answers[j], 0.5, delta=0.0, confidence=0.9, unit="example").epsilon > epsilon
    )
    assert wrong <= 0.1


def test_a_threshold_picked_on_other_runs_works_on_these() -> None:
    rng = np.random.default_rng(5)
    members, others = 2 + rng.normal(size=2000), rng.normal(size=2000)
    threshold = best_threshold(members[:500], others[:500], delta=1e-5)
    bound = multi_run_bound(members[500:], others[500:], threshold, **LEVELS)
    assert 2.5 < bound.epsilon < gaussian_epsilon(2.0, 1e-5)


@settings(max_examples=30)
@given(st.floats(0.01, 20), st.sampled_from([1e-3, 1e-5, 1e-10]))
def test_gaussian_epsilon_is_dp_accountings(mu: float, delta: float) -> None:
    assert gaussian_epsilon(mu, delta) == pytest.approx(get_epsilon_gaussian(1 / mu, delta), rel=1e-5, abs=1e-6)


def test_gaussian_epsilon_of_nothing_is_nothing() -> None:
    assert gaussian_epsilon(0.0, 1e-5) == gaussian_epsilon(1e-9, 1e-5) == 0.0


def test_gaussian_estimate_is_sharp_where_scores_are_gaussian() -> None:
    rng = np.random.default_rng(2)
    estimates = [gaussian_estimate(*gaussian_run(1.0, rng), **LEVELS).epsilon for _ in range(100)]
    assert np.median(estimates) > 3.5
    assert np.mean(np.array(estimates) > gaussian_epsilon(1.0, 1e-5)) <= 0.12


def test_gaussian_estimate_convicts_an_innocent_mechanism_that_is_not_gaussian() -> None:
    rng = np.random.default_rng(4)
    included = rng.random(1000) < 0.5
    answers = np.where(rng.random(1000) < 1 / (1 + math.exp(-1.0)), included, ~included)  # randomised response, ε = 1
    estimate = gaussian_estimate(answers.astype(float), included, **LEVELS)
    assert estimate.epsilon > 2
    assert not estimate.assumption_free
    assert "assumes" in str(estimate)
    assert one_run_bound(answers.astype(float), included, **LEVELS).epsilon <= 1


@pytest.mark.parametrize(("spread", "gap", "epsilon"), [(0.0, 1.0, math.inf), (1.0, -5.0, 0.0), (0.0, 0.0, 0.0)])
def test_gaussian_estimate_at_the_edges(spread: float, gap: float, epsilon: float) -> None:
    included = np.arange(100) % 2 == 0
    noise = spread * np.random.default_rng(0).normal(size=100)
    estimate = gaussian_estimate(noise + gap * included, included, **LEVELS).epsilon
    assert estimate == epsilon or (epsilon == math.inf and estimate > 1e4)


def test_a_printed_bound_is_rounded_down_and_says_what_it_is_about() -> None:
    bound = LowerBound(1.99999, 1e-5, 0.999, "patient", "zero-out", "one run", assumption_free=True)
    assert str(bound) == "ε ≥ 1.999 at δ = 1e-05 with confidence 0.999 (unit: patient, relation: zero-out; one run)"

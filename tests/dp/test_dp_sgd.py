"""DP-SGD planned as one: what is sampled, clipped, added and divided is what is accounted."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dp.dp_sgd import RELATION, DpSgd
from dp.events import Composed, Gaussian, PoissonSampled
from dp.ledger import Ledger

CHOICES: dict[str, Any] = {
    "dimension": 5,
    "clients": 4,
    "least_senders": 3,
    "units": 300,
    "expected_units": 500,
    "sampling_probability": 0.2,
    "steps": 50,
    "clip_norm": 2.0,
}
PLAN = DpSgd(**CHOICES, noise_multiplier=2.0)


def epsilon_of(noise: float, q: float, steps: int) -> float:
    ledger = Ledger(unit="patient", neighboring_relation=RELATION)
    ledger.compose(PoissonSampled(q, Gaussian(noise)), steps)
    return ledger.spent(1e-5).epsilon


def test_the_event_costs_what_central_dp_sgd_with_the_same_noise_costs() -> None:
    assert PLAN.spent(1e-5).epsilon == pytest.approx(epsilon_of(2.0, 0.2, 50), rel=0.01)
    assert PLAN.spent(1e-5, steps=10).epsilon == pytest.approx(epsilon_of(2.0, 0.2, 10), rel=0.01)
    assert isinstance(PLAN.event, Composed)
    assert PLAN.event.events == ((PLAN.step, 50),)


def test_colluders_do_not_lower_what_is_promised_but_raise_every_share() -> None:
    colluding = replace(PLAN, colluders=1)
    assert colluding.spent(1e-5).epsilon == pytest.approx(PLAN.spent(1e-5).epsilon, rel=0.01)
    assert colluding.codec.share_variance == pytest.approx(1.5 * PLAN.codec.share_variance, rel=0.01)


def test_a_unit_at_two_clients_is_sampled_more_often_and_weighs_twice() -> None:
    twice = replace(PLAN, copies=2)
    assert twice.spent(1e-5).epsilon == pytest.approx(epsilon_of(1.0, 1 - 0.8**2, 50), rel=0.01)
    assert twice.spent(1e-5).epsilon > 2 * PLAN.spent(1e-5).epsilon


@pytest.mark.parametrize(("target", "copies"), [(1.0, 1), (3.0, 2)])
def test_the_noise_for_a_target_reaches_it_and_wastes_little(target: float, copies: int) -> None:
    made = DpSgd.for_target(target_epsilon=target, target_delta=1e-5, copies=copies, **CHOICES)
    assert 0.985 * target < made.spent(1e-5).epsilon <= target
    assert replace(made, noise_multiplier=0.97 * made.noise_multiplier).spent(1e-5).epsilon > target


def test_samples_are_poisson_samples() -> None:
    drawn = [PLAN.sample(200) for _ in range(400)]
    sizes = np.array([len(one) for one in drawn])
    assert stats.kstest(sizes + np.random.default_rng(0).uniform(-0.5, 0.5, 400), _binomial_cdf).pvalue > 1e-4
    times = Counter(int(i) for one in drawn for i in one)
    counts = np.array([times[i] for i in range(200)])
    assert stats.chisquare(counts, np.full(200, counts.mean())).statistic * 1.25 < 300  # variance npq, not np
    together = sum(1 for one in drawn if {3, 4} <= set(one.tolist()))
    assert 4 <= together <= 35  # 16 expected: units enter on their own


def _binomial_cdf(x: Any) -> Any:
    low = np.floor(x + 0.5) - 0.5
    below = stats.binom.cdf(low - 0.5, 200, 0.2)
    return below + (x - low) * stats.binom.pmf(np.rint(low + 0.5), 200, 0.2)


def test_the_same_bytes_draw_the_same_sample_and_others_another() -> None:
    assert PLAN.sample(300, random=bytes(32)).tolist() == PLAN.sample(300, random=bytes(32)).tolist()
    assert PLAN.sample(300, random=bytes(32)).tolist() != PLAN.sample(300, random=b"\1" * 32).tolist()
    assert replace(PLAN, sampling_probability=1).sample(7).tolist() == list(range(7))


def test_sums_are_divided_by_a_public_constant_whoever_was_sampled() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 5))
    rows *= 1.9 / np.linalg.norm(rows, axis=1)[:, None]
    quiet = replace(PLAN, noise_multiplier=0.01)
    for count in (0, 1, 40):
        total = quiet.encode(rows[:count]).vector
        assert np.abs(quiet.gradient(total) - rows[:count].sum(axis=0) / 100).max() < 0.01


def test_longer_gradients_count_as_the_clip_norm() -> None:
    quiet = replace(PLAN, noise_multiplier=0.01)
    total = quiet.encode(np.array([[300.0, 400.0, 0, 0, 0]])).vector
    assert np.abs(quiet.gradient(total) - np.array([1.2, 1.6, 0, 0, 0]) / 100).max() < 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        {"sampling_probability": 0.0},
        {"sampling_probability": 1.1},
        {"expected_units": 0},
        {"steps": 0},
        {"copies": 5},
        {"copies": 0},
        {"unit": "visit"},
        {"colluders": 3},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)) if "colluders" not in wrong else "colluding"):
        replace(PLAN, **wrong)


def test_more_units_than_the_public_bound_are_refused() -> None:
    with pytest.raises(ValueError, match="public bound is 300"):
        PLAN.sample(301)

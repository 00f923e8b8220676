"""The trade-off function against closed forms of the Gaussian mechanism."""

import math

import numpy as np
import pytest
from scipy.stats import norm

import dp

GAUSSIAN = dp.tradeoff(dp.Composed([(dp.Gaussian(2.0), 4)]), neighboring_relation="add-or-remove-one")  # μ = 1
SAMPLED = dp.tradeoff(
    dp.Composed([(dp.PoissonSampled(0.01, dp.Gaussian(1.0)), 1_000)]), neighboring_relation="add-or-remove-one"
)


def test_advantage_is_the_total_variation_of_two_normals() -> None:
    exact = 2 * norm.cdf(0.5) - 1
    assert exact <= GAUSSIAN.advantage <= exact * 1.02


@pytest.mark.parametrize("alpha", [0.0, 1e-4, 0.01, 0.1, 0.5, 0.9, 1.0])
def test_misses_stay_below_those_of_the_best_test_and_close(alpha: float) -> None:
    exact = float(norm.cdf(norm.isf(alpha) - 1))
    assert GAUSSIAN.misses(alpha) <= exact
    assert GAUSSIAN.misses(alpha) >= exact - 0.01
    assert GAUSSIAN.tpr_at(alpha) == 1 - GAUSSIAN.misses(alpha)


def test_gaussian_mechanism_has_its_own_mu_but_for_the_regret() -> None:
    assert 0.95 <= GAUSSIAN.mu(regret=0.005) <= 1.01


@pytest.mark.parametrize("bound", [GAUSSIAN, SAMPLED])
@pytest.mark.parametrize("regret", [0.003, 0.02])
def test_tradeoff_is_never_further_below_that_of_mu_than_the_regret(bound: dp.Tradeoff, regret: float) -> None:
    mu = bound.mu(regret)
    for alpha in np.linspace(0, 1, 501):
        assert bound.misses(float(alpha)) >= norm.cdf(norm.isf(alpha) - mu) - regret - 1e-9


def test_more_regret_allows_a_smaller_mu() -> None:
    assert SAMPLED.mu(0.02) < SAMPLED.mu(0.005)


def test_nothing_released_helps_no_attacker() -> None:
    bound = dp.tradeoff(dp.Composed([]), neighboring_relation="zero-out")
    assert bound.advantage == 0
    assert bound.tpr_at(0.25) == pytest.approx(0.25)


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_rates_and_regrets_out_of_range_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="false alarms is in"):
        GAUSSIAN.misses(bad)
    with pytest.raises(ValueError, match="regret is in"):
        GAUSSIAN.mu(bad)

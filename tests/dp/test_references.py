"""ε between a lower bound that an attack proves and the upper bound of another accountant, far and wide."""

import itertools
import logging
import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant, compute_epsilon
from scipy import stats

import dp
from dp.conversion import rdp_to_epsilon
from tests.dp.references import CASES, Case

SWEEP_NOISE, SWEEP_PROBABILITY = [0.3, 0.6, 1.0, 4.0], [1e-4, 0.01, 0.2]
SWEEP_STEPS, SWEEP_DELTA = [10, 1_000, 50_000], [1e-5, 1e-10]


def spent(event: dp.Event, delta: float) -> float:
    return rdp_to_epsilon(dp.rdp_curve(event, neighboring_relation="add-or-remove-one"), delta)


def proved_by_attack(q: float, sigma: float, steps: int, delta: float) -> float:
    """Keep one bit of every step (output above a threshold) and count: binomial, so δ(ε) >= P[S] - e^ε Q[S] exactly."""
    best = 0.0
    for threshold in np.linspace(-2 * sigma, 1 + 4 * sigma, 25):
        without = stats.norm.sf(threshold / sigma)
        with_unit = (1 - q) * without + q * stats.norm.sf((threshold - 1) / sigma)
        spread = math.sqrt(steps * with_unit * (1 - with_unit))
        count = np.unique(np.clip(np.rint(steps * with_unit + np.linspace(-6, 8, 400) * spread), 1, steps))
        caught = stats.binom.sf(count - 1, steps, with_unit) - delta
        false_alarm = stats.binom.logsf(count - 1, steps, without)
        usable = (caught > 1e-12) & np.isfinite(false_alarm)
        if usable.any():
            best = max(best, float(np.max(np.log(caught[usable]) - false_alarm[usable])))
    return best


@pytest.mark.parametrize("case", CASES)
def test_reference_case_is_between_the_truth_and_other_rdp_accountants(case: Case) -> None:
    epsilon = spent(case.event(), case.delta)
    assert case.true_epsilon <= epsilon <= case.rdp_epsilon + 1e-4
    assert proved_by_attack(case.sampling_probability, case.noise_multiplier, case.steps, case.delta) <= epsilon


@pytest.mark.parametrize("sigma", SWEEP_NOISE)
@pytest.mark.parametrize("q", SWEEP_PROBABILITY)
def test_sweep_is_never_above_dp_accounting_and_never_below_an_attack(
    sigma: float, q: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    accountant = RdpAccountant()
    accountant.compose(PoissonSampledDpEvent(q, GaussianDpEvent(sigma)))
    for steps, delta in itertools.product(SWEEP_STEPS, SWEEP_DELTA):
        epsilon = spent(dp.Composed([(dp.PoissonSampled(q, dp.Gaussian(sigma)), steps)]), delta)
        theirs, _ = compute_epsilon(accountant._orders, steps * accountant._rdp, delta)
        assert math.isfinite(epsilon)
        assert proved_by_attack(q, sigma, steps, delta) <= epsilon <= theirs * (1 + 1e-9)


def test_attack_proves_most_of_what_is_spent_where_steps_are_few_and_noise_is_small() -> None:
    """The lower bounds above are worth something: half of ε here."""
    event = dp.Composed([(dp.PoissonSampled(0.2, dp.Gaussian(0.3)), 10)])
    assert proved_by_attack(0.2, 0.3, 10, 1e-5) >= spent(event, 1e-5) / 2


def test_heterogeneous_ledger_is_never_above_dp_accounting() -> None:
    parts = [(0.01, 1.0, 500), (0.02, 1.5, 100), (1.0, 20.0, 3)]
    accountant = RdpAccountant()
    for q, sigma, count in parts:
        accountant.compose(PoissonSampledDpEvent(q, GaussianDpEvent(sigma)), count)
    ledger = dp.Ledger(unit="patient", neighboring_relation="add-or-remove-one")
    for q, sigma, count in parts:
        ledger.compose(dp.PoissonSampled(q, dp.Gaussian(sigma)), count)
    theirs = accountant.get_epsilon(1e-5)
    assert 0.98 * theirs <= ledger.spent(1e-5, accountant="rdp").epsilon <= theirs
    assert ledger.spent(1e-5).epsilon <= ledger.spent(1e-5, accountant="rdp").epsilon

"""Every planted bug is caught by the tests that its row names; a sound sum is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from attacks.planted_bugs import BUGS, Check, Federation, PlantedBug, examine, promise

RUNS = 5


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_every_bug_is_caught_by_the_tests_named(bug: PlantedBug) -> None:
    rng = np.random.default_rng(1)
    for _ in range(RUNS):
        assert set(bug.caught_by) <= examine(bug.federation, rng)


@pytest.mark.parametrize("survivors", [16, 20])
def test_a_sound_sum_raises_no_alarm(survivors: int) -> None:
    rng = np.random.default_rng(2)
    assert [examine(Federation(survivors=survivors), rng) for _ in range(RUNS)] == [frozenset()] * RUNS


def test_the_one_run_audit_does_not_see_half_the_noise() -> None:
    half = next(bug for bug in BUGS if bug.name == "σ / 2")
    rng = np.random.default_rng(3)
    assert not any(Check.AUDIT in examine(half.federation, rng) for _ in range(RUNS))


def test_the_promise_is_of_a_strength_that_people_ask_for() -> None:
    assert 0.8 < promise().epsilon < 1.2

"""Removable noise: exact variances in rational arithmetic, exact removal, refusals."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dp import xnoise
from dp.events import DiscreteGaussian, Skellam
from dp.integer_events import DiscreteGaussianSum
from dp.xnoise import Part, XNoise
from secagg.errors import PlanError, ThresholdError

PARTS: list[Part] = ["skellam", "discrete-gaussian"]
SECRETS = [bytes([i]) * 32 for i in range(10)]


@given(st.integers(2, 60), st.integers(0, 40), st.integers(0, 20), st.floats(1.0, 1e6))
def test_honest_noise_is_the_target_however_many_are_missing(
    clients: int, tolerance: int, colluders: int, variance: float
) -> None:
    assume(tolerance + colluders < clients)
    noise = XNoise(variance, clients, tolerance, colluders)
    for missing in range(tolerance + 1):
        survivors = clients - missing
        removed = noise.removed(survivors=survivors)
        kept = [Fraction(part) for k, part in enumerate(noise.variances) if k not in removed]
        honest = (survivors - colluders) * sum(kept)
        assert 1 <= honest / Fraction(variance) < 1 + Fraction(1, 10**11)


def test_the_parts_are_those_of_the_paper() -> None:
    variance, n, tolerance = 100.0, 10, 4
    parts = XNoise(variance, n, tolerance).variances
    # Dordis, XNoise: sigma^2 / |U|, then sigma^2 / ((|U| - k + 1)(|U| - k))
    assert parts == pytest.approx(
        [variance / n, *(variance / ((n - k + 1) * (n - k)) for k in range(1, tolerance + 1))]
    )


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("missing", [0, 1, 3])
def test_what_is_left_is_exactly_the_parts_that_were_not_removed(missing: int, part: Part) -> None:
    noise = XNoise(50.0, 10, 3, part=part)
    survivors = 10 - missing
    removed = noise.removed(survivors=survivors)
    for secret in SECRETS[:2]:
        seeds = noise.seeds(secret)
        revealed = seeds[removed[0]] if removed else None
        left = noise.added(seeds, 100) - noise.excess(revealed, 100, survivors=survivors)
        parts = [k for k in range(4) if k not in removed]
        alone = sum(noise._expanded({k: seeds[k]}, 100) for k in parts)
        assert np.array_equal(left, alone)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("missing", [0, 1, 3])
def test_the_released_sum_has_the_target_variance(missing: int, part: Part) -> None:
    noise, size = XNoise(400.0, 10, 3, part=part), 60_000
    total = np.zeros(size, dtype=np.int64)
    for secret in SECRETS[missing:]:
        seeds = noise.seeds(secret)
        total += noise.added(seeds, size)
        revealed = seeds[missing + 1] if missing < 3 else None
        total -= noise.excess(revealed, size, survivors=10 - missing)
    assert abs((total.astype(float) ** 2).mean() / 400 - 1) < 4 * (2 / size) ** 0.5


def test_seeds_differ_by_part_and_by_secret_and_repeat_for_a_retransmission() -> None:
    noise = XNoise(50.0, 10, 3)
    seeds = [seed for secret in SECRETS for seed in noise.seeds(secret)]
    assert len(set(seeds)) == len(seeds) == 40
    assert noise.seeds(SECRETS[0]) == noise.seeds(SECRETS[0])
    assert all(len(seed) == 32 for seed in seeds)


def test_beyond_the_tolerance_nothing_is_removed_and_the_round_ends() -> None:
    with pytest.raises(ThresholdError) as caught:
        XNoise(50.0, 10, 3).removed(survivors=6)
    assert (caught.value.needed, caught.value.survivors) == (7, 6)
    with pytest.raises(PlanError, match="11 survivors"):
        XNoise(50.0, 10, 3).removed(survivors=11)


def test_a_seed_is_wanted_if_and_only_if_something_is_too_much() -> None:
    noise = XNoise(50.0, 10, 3)
    with pytest.raises(ValueError, match=r"parts \[2, 3\] are removed, got no seed"):
        noise.excess(None, 5, survivors=9)
    with pytest.raises(ValueError, match=r"parts \[\] are removed, got a seed"):
        noise.excess(bytes(32), 5, survivors=7)
    assert not noise.excess(None, 5, survivors=7).any()


def test_a_seed_leads_to_those_after_it_and_without_the_secret_to_no_other() -> None:
    noise, more = XNoise(50.0, 10, 3), XNoise(5_000.0, 60, 30)
    own, *chain = noise.seeds(SECRETS[0])
    for place, seed in enumerate(chain):
        assert xnoise._chain(seed, 3 - place) == tuple(chain[place:])
        assert not {own, *chain[:place]} & set(xnoise._chain(seed, 100))
    assert more.seeds(SECRETS[0])[:4] == (own, *chain)
    assert len(XNoise(50.0, 10, 0).seeds(SECRETS[0])) == 1


def test_a_server_that_hides_dropouts_would_remove_more_than_it_may() -> None:
    """Why survivor sets are signed: claiming 10 survivors of 8 leaves 80 % of the noise promised."""
    noise = XNoise(50.0, 10, 3)
    honest, claimed = noise.removed(survivors=8), noise.removed(survivors=10)
    assert set(honest) < set(claimed)
    left = 8 * sum(part for k, part in enumerate(noise.variances) if k not in claimed)
    assert left == pytest.approx(0.8 * 50)


def test_the_event_is_noise_of_the_target() -> None:
    assert XNoise(50.0, 10, 3).event(sensitivity=7.5, dimension=20) == Skellam(50.0, 7.5, 20)
    event = XNoise(900.0, 10, 3, part="discrete-gaussian").event(sensitivity=7.5, dimension=20)
    assert isinstance(event, DiscreteGaussianSum)
    assert event.total == DiscreteGaussian(30.0, 7.5, 20)
    assert event.least_part == pytest.approx(10**0.5)
    assert event.parts == 7 * 4  # with three missing


@given(st.integers(2, 30), st.integers(0, 20), st.integers(0, 5))
def test_an_event_counts_no_fewer_parts_than_any_sum_has(clients: int, tolerance: int, colluders: int) -> None:
    assume(tolerance + colluders < clients)
    noise = XNoise(1e6, clients, tolerance, colluders, "discrete-gaussian")
    event = noise.event(sensitivity=1.0, dimension=4)
    assert isinstance(event, DiscreteGaussianSum)
    assert event.least_part**2 <= min(noise.variances)
    for missing in range(tolerance + 1):
        kept = tolerance + 1 - len(noise.removed(survivors=clients - missing))
        assert kept * (clients - missing - colluders) <= event.parts


@pytest.mark.parametrize(
    "wrong",
    [
        {"tolerance": -1},
        {"tolerance": 10},
        {"tolerance": 5, "colluders": 5},
        {"colluders": -1},
        {"variance": 0.0},
        {"variance": float("nan")},
        {"variance": float("inf")},
        {"variance": 1e-6},
        {"variance": 1e12},
        {"variance": 1.0, "part": "discrete-gaussian"},
        {"part": "laplace"},
    ],
)
def test_noise_that_cannot_be_kept_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PlanError):
        XNoise(**({"variance": 50.0, "clients": 10, "tolerance": 3} | wrong))

"""The integer pipeline end to end: what it sends, what comes out, what it promises, and what it refuses."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import secagg
from dp.conversion import rdp_to_epsilon
from dp.distributed import Noise, NoisySum
from dp.errors import UnsupportedEventError
from dp.events import Composed, Gaussian, PoissonSampled, Skellam
from dp.gaussian_equivalent import gaussian_equivalent
from dp.integer_events import Distributed
from dp.rdp import rdp_curve
from secagg.errors import EncodingError, PlanError, ThresholdError
from secagg.rounds import Total

NOISES: list[Noise] = ["discrete-gaussian", "skellam", "xnoise-discrete-gaussian", "xnoise-skellam"]
SECRETS = [bytes([i]) * 32 for i in range(20)]


def noisy_sum(**changes: Any) -> NoisySum:
    return NoisySum(
        **{
            "dimension": 20,
            "clip_norm": 2.0,
            "noise_multiplier": 1.5,
            "clients": 5,
            "least_senders": 4,
            "units": 30,
            **changes,
        }
    )


def records(seed: int, units: int = 30, dimension: int = 20) -> Any:
    return np.random.default_rng(seed).normal(0, 0.2, (units, dimension))


def total_of(noisy: NoisySum, senders: int, units: int) -> Any:
    rows = [records(i, units, noisy.dimension) for i in range(senders)]
    vectors = [noisy.encode(row, random=SECRETS[i]).vector for i, row in enumerate(rows)]
    modulus = np.uint64((1 << noisy.modulus_bits) - 1)
    total = np.sum([vector.astype(np.uint64) for vector in vectors], axis=0) & modulus
    return total.astype(vectors[0].dtype), np.concatenate(rows)


@pytest.mark.parametrize("rotation", [b"", bytes(32)])
@pytest.mark.parametrize("noise", NOISES)
def test_a_sum_is_the_sum_of_the_clipped_rows_and_noise_of_the_stated_size(noise: Noise, rotation: bytes) -> None:
    noisy = noisy_sum(dimension=3000, noise=noise, rotation=rotation, units=4)
    total, rows = total_of(noisy, senders=5, units=4)
    clipped = rows * np.minimum(1, 2.0 / np.linalg.norm(rows, axis=1, keepdims=True))
    if noisy.is_removable:
        revealed: dict[Any, bytes] = {i: noisy.extras(SECRETS[i])[noisy.clients - 5] for i in range(5)}
        total = noisy.without_excess(Total(total, tuple(range(5)), (), noisy.digest, revealed))
    error = noisy.decode(total) - clipped.sum(axis=0)
    stated = noisy.noise_stddev(senders=5)
    assert abs(error.std() / stated - 1) < 0.06
    assert abs(error.mean()) < 4 * stated / 3000**0.5
    target = 1.5 * 2.0 * noisy.sensitivity / noisy.steps
    expected = target if noisy.is_removable else target * math.sqrt(5 / 4)
    assert stated == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("masking", ["masking", "lattice"])
def test_it_goes_through_a_secure_sum_with_dropouts(masking: Any) -> None:
    noisy = noisy_sum(wrap_probability=0, least_senders=4)
    plan = secagg.plan(noisy, dropout=0.2, corrupted=0, masking=masking)
    noisy.check(plan)
    rows = {i: records(i) for i in range(5)}
    updates = {i: noisy.encode(row) for i, row in rows.items()}
    total = secagg.simulate(plan, updates, dropouts={2: "masked_input"})
    expected = sum(row.sum(axis=0) for i, row in rows.items() if i != 2)
    assert total.dropouts == (2,)
    assert np.abs(noisy.decode(total) - expected).max() < 6 * noisy.noise_stddev(senders=4)


@pytest.mark.parametrize("noise", NOISES[2:])
def test_removable_noise_is_removed_after_a_secure_sum(noise: Noise) -> None:
    noisy = noisy_sum(noise=noise, dimension=2000, units=1, clients=6, least_senders=5)
    plan = secagg.plan(noisy, dropout=0.16, corrupted=0, extras=1)
    noisy.check(plan)
    updates = {i: noisy.encode(np.zeros((1, 2000)), random=SECRETS[i]) for i in range(6)}
    extras = {i: noisy.extras(SECRETS[i]) for i in range(6)}
    for lost in ({}, {4: "masked_input"}, {1: "unmask"}):
        total = secagg.simulate(plan, updates, dropouts=lost, extras=extras)
        left = noisy.decode(noisy.without_excess(total))
        assert abs(left.std() / noisy.noise_stddev(senders=len(total.survivors)) - 1) < 4 / (2 * 2000) ** 0.5
        with pytest.raises(ValueError, match="are removed, got"):
            noisy.without_excess(replace(total, extras={} if total.extras else {0: bytes(32)}))
    with pytest.raises(ThresholdError):
        noisy.without_excess(replace(total, survivors=total.survivors[:4]))


@given(
    st.integers(1, 5000),
    st.floats(0.3, 30),
    st.integers(1, 20),
    st.integers(0, 5),
    st.sampled_from(NOISES),
    st.booleans(),
)
def test_the_event_promises_the_noise_of_the_honest_senders_only(
    dimension: int, z: float, honest: int, colluders: int, noise: Noise, rotated: bool
) -> None:
    noisy = noisy_sum(
        dimension=dimension,
        noise_multiplier=z,
        clients=honest + colluders + 3,
        least_senders=honest + colluders,
        colluders=colluders,
        noise=noise,
        rotation=bytes(32) if rotated else b"",
    )
    event = noisy.event
    if noise == "xnoise-skellam":
        assert event == Skellam((z * noisy.sensitivity) ** 2, noisy.sensitivity, noisy.length)
        return
    if isinstance(event, Distributed):
        assert event.honest_senders == honest
        assert (event.share.dimension, event.share.sensitivity) == (noisy.length, noisy.sensitivity)
    if isinstance(event, Distributed) and isinstance(event.share, Skellam):
        assert honest * event.share.variance >= (z * noisy.sensitivity) ** 2
        return
    equivalent = gaussian_equivalent(event).event
    assert isinstance(equivalent, Gaussian)
    assert z * (1 - 1e-9) <= equivalent.noise_multiplier < z * (1 + 1e-9)


@pytest.mark.parametrize("noise", NOISES)
def test_training_costs_what_a_central_gaussian_costs(noise: Noise) -> None:
    noisy = noisy_sum(noise_multiplier=6.0, clients=4, least_senders=4, noise=noise)

    def epsilon(event: Any) -> float:
        steps = Composed([(PoissonSampled(0.2, event), 150)])
        return rdp_to_epsilon(rdp_curve(steps, neighboring_relation="add-or-remove-one"), 1e-5)

    assert epsilon(Gaussian(6.0)) <= epsilon(noisy.event) < epsilon(Gaussian(6.0)) * 1.001


def integers(noisy: NoisySum, vector: Any) -> Any:
    half = 1 << (noisy.modulus_bits - 1)
    values = vector.astype(object)
    return np.where(values >= half, values - 2 * half, values)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("rotation", [b"", bytes(32)])
def test_sums_stay_within_the_modulus(noise: Noise, rotation: bytes) -> None:
    """Every client sends the longest row, all in one direction: the largest sum there is."""
    noisy = noisy_sum(dimension=64, noise=noise, rotation=rotation, units=3, noise_multiplier=0.5, least_senders=2)
    row = np.zeros((3, 64))
    row[:, 5] = 9.0
    exact = 0
    for secret in SECRETS[:5]:
        exact = exact + integers(noisy, noisy.encode(row, random=secret).vector)
    half = 1 << (noisy.modulus_bits - 1)
    assert np.abs(exact).max() < half
    if not rotation:
        assert np.abs(exact).max() > half / 8  # and the modulus is not much larger than it must be


def test_a_rotation_saves_modulus_bits_and_certainty_costs_some() -> None:
    many = {"dimension": 1 << 16, "clients": 100, "least_senders": 70, "units": 1, "steps": 1 << 14}
    plain, rotated = noisy_sum(**many), noisy_sum(**many, rotation=bytes(32))
    assert rotated.modulus_bits <= plain.modulus_bits - 2
    assert noisy_sum(**many, rotation=bytes(32), wrap_probability=0).modulus_bits >= rotated.modulus_bits + 2
    assert noisy_sum(**many, noise="skellam").modulus_bits == plain.modulus_bits


def test_the_wrap_probability_bounds_how_often_noise_leaves_the_modulus() -> None:
    for noise in ("discrete-gaussian", "skellam"):
        noisy = noisy_sum(dimension=20_000, clip_norm=1.0, units=1, noise=noise, wrap_probability=0.05, steps=8)
        largest = []
        for trial in range(8):
            keys = [bytes([trial, i]) * 16 for i in range(5)]
            vectors = [integers(noisy, noisy.encode(np.zeros((0, 20_000)), random=key).vector) for key in keys]
            largest.append(max(abs(sum(vectors))))
        assert max(largest) < 1 << (noisy.modulus_bits - 1)


def test_a_retransmission_is_identical_and_another_release_is_not() -> None:
    for noise in NOISES:
        noisy = noisy_sum(noise=noise)
        sent = [noisy.encode(records(0), random=secret).vector for secret in (SECRETS[0], SECRETS[0], SECRETS[1])]
        assert np.array_equal(sent[0], sent[1])
        assert not np.array_equal(sent[0], sent[2])
    fresh = noisy_sum()
    assert not np.array_equal(fresh.encode(records(0)).vector, fresh.encode(records(0)).vector)


def test_an_empty_sample_sends_noise_alone() -> None:
    noisy = noisy_sum(dimension=4000)
    sent = noisy.encode(np.zeros((0, 4000)), random=SECRETS[3])
    assert abs(integers(noisy, sent.vector).astype(float).std() / math.sqrt(noisy.share_variance) - 1) < 0.06
    assert sent.clipped == 0


def test_long_rows_are_cut_and_counted() -> None:
    noisy = noisy_sum(noise_multiplier=1e-3, units=2)
    rows = np.zeros((2, 20))
    rows[:, 3] = [200.0, 0.5]
    sent = noisy.encode(rows, random=SECRETS[0])
    assert sent.clipped == 1
    assert noisy.decode(sent.vector)[3] == pytest.approx(2.5, abs=0.01)


def test_equal_parameters_have_equal_digests_and_others_have_not() -> None:
    digests = {
        noisy_sum(**changes).digest
        for changes in (
            {},
            {"clip_norm": 2},
            {"noise_multiplier": np.float64(1.5)},
            {"noise_multiplier": 1.6},
            {"rotation": bytes(32)},
            {"noise": "skellam"},
            {"units": 31},
        )
    }
    assert len(digests) == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"dimension": 0},
        {"clients": 5.0},
        {"units": 0},
        {"clip_norm": 0.0},
        {"noise_multiplier": math.inf},
        {"least_senders": 6},
        {"least_senders": 0},
        {"colluders": 4},
        {"noise": "laplace"},
        {"rotation": b"short"},
        {"wrap_probability": 1.0},
        {"steps": 1 << 16},
        {"units": 1 << 60},
    ],
)
def test_parameters_without_privacy_or_without_a_sum_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(EncodingError):
        noisy_sum(**wrong)


def test_noise_too_small_for_its_grid_is_refused() -> None:
    with pytest.raises(UnsupportedEventError, match="finer grid"):
        noisy_sum(steps=1, noise_multiplier=0.1)


def test_a_plan_that_breaks_the_promise_is_refused() -> None:
    noisy = noisy_sum(clients=10, least_senders=8)
    good = replace(secagg.plan(noisy, dropout=0.1, corrupted=0), threshold=8)
    noisy.check(good)
    for change, words in (
        ({"encoding": b"other"}, "another encoding"),
        ({"threshold": 7}, "opens sums of 7"),
        ({"corrupted": 1}, "corrupted"),
        ({"masking": "plain"}, "its own share"),
    ):
        with pytest.raises(PlanError, match=words):
            noisy.check(replace(good, **change))
    lattice = secagg.plan(noisy, dropout=0.1, corrupted=0, masking="lattice")
    assert not lattice.wraps
    with pytest.raises(PlanError, match="wrap_probability=0"):
        noisy.check(replace(lattice, threshold=8))


def test_what_cannot_be_encoded_is_refused() -> None:
    noisy = noisy_sum()
    for rows, error in (
        (records(0, units=31), EncodingError),
        (records(0, dimension=19), EncodingError),
        (np.full((1, 20), np.nan), ValueError),
        (np.ones((1, 20), dtype=int), TypeError),
    ):
        with pytest.raises(error):
            noisy.encode(rows)
    with pytest.raises(EncodingError, match="say it"):
        noisy_sum(noise="xnoise-skellam").encode(records(0))
    with pytest.raises(EncodingError, match="xnoise"):
        noisy.seeds(SECRETS[0])

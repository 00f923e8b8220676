"""The gate, on real runs of this library's mechanisms: no audit may show more than the ledger promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import secagg
from attacks.audit import AuditFailedError, require_consistent
from attacks.auditing import ClientCanaries, GradientCanaries, InputCanaries, LowerBound, one_run_bound
from attacks.membership import PrivateSgd, Training, train_together
from attacks.models import make_mlp
from attacks.planted_bugs import BUGS, SOUND, Check, PlantedBug, promise
from dp.clipping import clip_rows
from dp.discrete import add_discrete_gaussian, add_skellam
from dp.distributed import NoisySum
from dp.dp_sgd import DpSgd
from dp.events import Event, Gaussian, Unit
from dp.ledger import Ledger, PrivacySpent
from dp.rounding import round_rows, rounded_norm_squared

DELTA, CONFIDENCE = 1e-5, 0.999
CANARIES, DIMENSION, GRID = 500, 5_000, 256

Run = tuple[np.ndarray, np.ndarray, Event]
"""Scores, coins, and the event that the ledger hears of."""


def spent(event: Event, unit: Unit = "example") -> PrivacySpent:
    ledger = Ledger(unit=unit, neighboring_relation="add-or-remove-one")
    ledger.compose(event)
    return ledger.spent(delta=DELTA)


def on_grid(canaries: GradientCanaries | ClientCanaries, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Clip and round canaries five times too long as a client would, and return their sum and its sensitivity."""
    norm_squared = rounded_norm_squared(GRID, DIMENSION)
    rows = clip_rows(5 * GRID * canaries.vectors(), GRID).values
    return round_rows(rows, norm_squared=norm_squared, key=rng.bytes(32)).sum(axis=0), norm_squared**0.5


def gaussian(rng: np.random.Generator) -> Run:
    canaries = GradientCanaries.draw(CANARIES, dimension=DIMENSION, norm=1.0, rng=rng)
    clipped = clip_rows(3 * canaries.vectors(), 1.0)
    release = clipped.values.sum(axis=0) + rng.normal(0, 0.5, DIMENSION)
    return canaries.scores(release), canaries.included, Gaussian(0.5)


def discrete_gaussian(rng: np.random.Generator) -> Run:
    canaries = GradientCanaries.draw(CANARIES, dimension=DIMENSION, norm=1.0, rng=rng)
    total, sensitivity = on_grid(canaries, rng)
    release, event = add_discrete_gaussian(total, sigma=GRID / 2, sensitivity=sensitivity, random=rng.bytes(32))
    return canaries.scores(release.astype(np.float64)), canaries.included, event


def skellam(rng: np.random.Generator) -> Run:
    canaries = GradientCanaries.draw(CANARIES, dimension=DIMENSION, norm=1.0, rng=rng)
    total, sensitivity = on_grid(canaries, rng)
    release, event = add_skellam(total, variance=float(GRID**2), sensitivity=sensitivity, random=rng.bytes(32))
    return canaries.scores(release.astype(np.float64)), canaries.included, event


def client_updates(rng: np.random.Generator) -> Run:
    canaries = ClientCanaries.draw(100, dimension=DIMENSION, norm=1.0, rng=rng)
    total, sensitivity = on_grid(canaries, rng)
    release, event = add_discrete_gaussian(total, sigma=float(GRID), sensitivity=sensitivity, random=rng.bytes(32))
    return canaries.scores(release.astype(np.float64)), canaries.included, event


def secure_sum(rng: np.random.Generator) -> Run:
    """Eight clients, each with its share of the noise, under masks; one drops out."""
    codec = NoisySum(dimension=DIMENSION, clip_norm=1.0, noise_multiplier=0.7, clients=8, least_senders=6, units=64)
    plan = secagg.plan(codec, dropout=0.2, corrupted=0.0)
    codec.check(plan)
    canaries = GradientCanaries.draw(CANARIES, dimension=DIMENSION, norm=10.0, rng=rng)
    rows = canaries.vectors()
    total = secagg.simulate(
        plan,
        {client: codec.encode(rows[client::7], random=rng.bytes(32)) for client in range(7)}
        | {7: codec.encode(rows[:0])},
        dropouts={7: "masked_input"},
    )
    return canaries.scores(codec.decode(total)), canaries.included, codec.event


def sampled_steps(rng: np.random.Generator) -> Run:
    """Ten steps of two clients, every canary in each with probability 1/2: the auditor sees all sums."""
    plan = DpSgd(
        dimension=DIMENSION,
        clients=2,
        least_senders=2,
        units=CANARIES,
        expected_units=CANARIES,
        sampling_probability=0.5,
        steps=10,
        clip_norm=1.0,
        noise_multiplier=1.0,
    )
    canaries = GradientCanaries.draw(CANARIES, dimension=DIMENSION, norm=3.0, rng=rng)
    rows, released = canaries.vectors(), np.zeros(DIMENSION)
    for _ in range(plan.steps):
        words = [
            plan.encode(own[plan.sample(len(own), random=rng.bytes(32))], random=rng.bytes(32)).vector
            for own in (rows[::2], rows[1::2])
        ]
        released += plan.gradient((words[0] + words[1]) & words[0].dtype.type((1 << plan.codec.modulus_bits) - 1))
    return canaries.scores(released), canaries.included, plan.event


def final_model(rng: np.random.Generator) -> Run:
    """DP-SGD, with the finished model's answers on mislabelled records as all that the auditor sees."""
    y = rng.integers(0, 4, 300)
    x = (2 * np.eye(4)[y] + rng.normal(size=(300, 4))).astype(np.float32)
    canaries = InputCanaries.draw(x, y, 100, classes=4, rng=rng)
    training = Training(
        epochs=5, batch_size=60, learning_rate=0.3, momentum=0, privacy=PrivateSgd(clip_norm=1.0, noise_multiplier=0.5)
    )
    ensemble = train_together(
        lambda generator: make_mlp(4, [16], 4, generator=generator),
        canaries.x,
        canaries.y,
        canaries.members()[None],
        training,
        rng=rng,
    )
    return canaries.scores(ensemble.log_odds[0]), canaries.included, training.event(int(canaries.members().sum()))


MECHANISMS = (
    gaussian,
    discrete_gaussian,
    skellam,
    client_updates,
    secure_sum,
    sampled_steps,
    final_model,
)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_no_audit_shows_more_than_the_ledger_promises(mechanism: Callable[[np.random.Generator], Run]) -> None:
    rng = np.random.default_rng(2026)
    for _ in range(2):
        scores, included, event = mechanism(rng)
        bound = one_run_bound(scores, included, delta=DELTA, confidence=CONFIDENCE, unit="example")
        require_consistent(bound, spent(event))
        assert mechanism in {client_updates, final_model} or bound.epsilon > 0.5  # the canaries were heard


@pytest.mark.parametrize("bug", [bug for bug in BUGS if Check.AUDIT in bug.caught_by], ids=lambda bug: bug.name)
def test_the_gate_closes_on_a_broken_sum(bug: PlantedBug) -> None:
    rng = np.random.default_rng(2026)
    canaries = GradientCanaries.draw(300, dimension=SOUND.dimension, norm=100.0, rng=rng)
    scores = canaries.scores(bug.federation.release(canaries.vectors(), rng))
    bound = one_run_bound(scores, canaries.included, delta=DELTA, confidence=CONFIDENCE, unit="example")
    with pytest.raises(AuditFailedError, match="leaks more than its ledger says") as caught:
        require_consistent(bound, promise())
    assert caught.value.bound is bound
    assert str(bound) in str(caught.value)
    assert str(promise()) in str(caught.value)


BOUND = LowerBound(1.0, 1e-5, 0.999, "example", "add-or-remove-one", "one run", assumption_free=True)
SPENT = PrivacySpent(2.0, 1e-5, "example", "add-or-remove-one")


def test_a_bound_up_to_the_promise_passes_and_one_above_it_does_not() -> None:
    require_consistent(BOUND, SPENT)
    require_consistent(replace(BOUND, epsilon=2.0, delta=1e-4, confidence=0.9999), SPENT)
    with pytest.raises(AuditFailedError):
        require_consistent(replace(BOUND, epsilon=2.0 + 1e-9), SPENT)


@pytest.mark.parametrize(
    "bound",
    [
        replace(BOUND, assumption_free=False),
        replace(BOUND, confidence=0.99),
        replace(BOUND, unit="patient"),
        replace(BOUND, neighboring_relation="replace-one"),
        replace(BOUND, delta=1e-6),
    ],
)
def test_statements_that_cannot_be_compared_are_refused(bound: LowerBound) -> None:
    with pytest.raises(ValueError, match=r"only an assumption-free bound|cannot be compared"):
        require_consistent(bound, SPENT)

"""Which test catches which bug: a private sum as it should be, the classic ways to break it, and one examination.

A step of `dp.dp_sgd.DpSgd`, twenty clients of whom sixteen survive as promised, each adding its share of the noise
(`dp.distributed.NoisySum`). Each bug replaces one part, as it happened to others. The examiner plants canaries hundreds
of times longer than the clip norm, knows what the sum should have been, and sees who was sampled.

Half the noise is the lesson: no audit of one run sees it, a look at the noise sees it at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from attacks.audit import AuditFailedError, require_consistent
from attacks.auditing import (
    GradientCanaries,
    clipping_p_value,
    fit_p_value,
    one_run_bound,
    sampler_p_value,
    variance_p_value,
)
from dp.distributed import NoisySum
from dp.dp_sgd import RELATION, DpSgd
from dp.ledger import Ledger
from secagg.encoding import Encoded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dp.ledger import PrivacySpent

__all__ = ["BUGS", "PLAN", "SOUND", "Check", "Federation", "PlantedBug", "examine", "promise"]

_TOO_LONG = 200.0
"""Norm of a canary before clipping, in clip norms: far too long, and short enough for the modulus."""
_CANARIES = 300
_DELTA, _ERROR = 1e-5, 1e-3

PLAN = DpSgd(
    dimension=3_000,
    clients=20,
    least_senders=16,
    units=1_000,
    expected_units=20_000,
    sampling_probability=0.05,
    steps=200,
    clip_norm=1.0,
    noise_multiplier=4.0,
    unit="example",
)
SOUND = PLAN.codec
"""What the ledger hears of, and what sound clients do."""


class Check(StrEnum):
    """The tests of one examination, each wrong about a sound sum at most once in a thousand times."""

    AUDIT = "one-run audit above the ledger"
    VARIANCE = "variance of the noise"
    FIT = "goodness of fit of the noise"
    CLIPPING = "sensitivity to a long canary"
    SAMPLER = "Poisson sampler"


@dataclass(frozen=True, slots=True)
class Federation:
    """Clients that sum privately, as they should.

    Args:
        codec: with which they encode, clip and add noise.
        sampler: with which they draw batches.
        survivors: clients whose vectors arrive.
    """

    codec: NoisySum = SOUND
    sampler: DpSgd = PLAN
    survivors: int = 16

    def encoder(self, client: int) -> NoisySum:  # noqa: ARG002 -- some bugs look at it
        """Return a client's codec."""
        return self.codec

    def sample(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Draw all batches of one client: (steps, units)."""
        taken = np.zeros((PLAN.steps, PLAN.units), dtype=np.bool_)
        for step in taken:
            step[self.sampler.sample(PLAN.units, random=rng.bytes(32))] = True
        return taken

    def release(self, rows: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Deal rows, (rows, dimension), out to the survivors and decode the sum of what they send: (dimension,)."""
        vectors = [
            self.encoder(client).encode(rows[client :: self.survivors], random=rng.bytes(32)).vector
            for client in range(self.survivors)
        ]
        total: NDArray[np.uint64] = np.sum(vectors, axis=0, dtype=np.uint64)
        total &= np.uint64((1 << self.codec.modulus_bits) - 1)
        return self.codec.decode(total.astype(vectors[0].dtype))


class Noiseless(NoisySum):
    """A flag that turns noise off for debugging stays on."""

    def _noise(self, random: bytes) -> NDArray[np.int64]:  # noqa: ARG002
        return np.zeros(self.length, dtype=np.int64)


class Unclipped(NoisySum):
    """Rows are added as they come."""

    def encode(self, records: NDArray[Any], *, random: bytes | None = None) -> Encoded:
        """Put rows on the grid as they are, and add noise."""
        total = np.rint(records * (self.steps / self.clip_norm)).astype(np.int64).sum(axis=0)
        return Encoded(self._words(total + self._noise(random or os.urandom(32))), 0, self.digest)


class OneNoisyClient(Federation):
    """One client was updated to the version that adds noise."""

    def encoder(self, client: int) -> NoisySum:
        """Return the sound codec to the first client only."""
        return as_broken(Noiseless) if client else SOUND


class ShuffledBatches(Federation):
    """Batches of a shuffled pass are booked as Poisson samples (Chua et al. 2024, arXiv 2403.17673)."""

    def sample(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Cut shuffled passes into batches of the expected size."""
        batches = round(1 / PLAN.sampling_probability)
        passes = [rng.permutation(np.arange(PLAN.units) % batches) for _ in range(PLAN.steps // batches)]
        return np.concatenate([batch == np.arange(batches)[:, None] for batch in passes])


def as_broken(kind: type[NoisySum]) -> NoisySum:
    """Return the sound codec with one step replaced."""
    return kind(**{name: getattr(SOUND, name) for name in SOUND.__slots__})


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """A bug and the tests each of which must catch it."""

    name: str
    federation: Federation
    caught_by: tuple[Check, ...]


BUGS = (
    PlantedBug("no noise", Federation(as_broken(Noiseless)), (Check.AUDIT, Check.VARIANCE)),
    PlantedBug("σ / 2", Federation(replace(SOUND, noise_multiplier=2.0)), (Check.FIT, Check.VARIANCE)),
    PlantedBug("noise on one client only", OneNoisyClient(), (Check.VARIANCE,)),
    PlantedBug("clipping off", Federation(as_broken(Unclipped)), (Check.CLIPPING, Check.AUDIT)),
    PlantedBug(
        "shares scaled for all although some dropped", Federation(replace(SOUND, least_senders=20)), (Check.VARIANCE,)
    ),
    PlantedBug(
        "wrong q: twice the rate", Federation(sampler=replace(PLAN, sampling_probability=0.1)), (Check.SAMPLER,)
    ),
    PlantedBug("wrong q: shuffled batches", ShuffledBatches(), (Check.SAMPLER,)),
)


@cache
def promise() -> PrivacySpent:
    """What one sum costs, as the ledger says."""
    ledger = Ledger(unit=PLAN.unit, neighboring_relation=RELATION)
    ledger.compose(SOUND.event)
    return ledger.spent(delta=_DELTA)


def examine(federation: Federation, rng: np.random.Generator) -> frozenset[Check]:
    """Run a federation once and return the tests that raise an alarm."""
    canaries = GradientCanaries.draw(_CANARIES, dimension=SOUND.dimension, norm=_TOO_LONG, rng=rng)
    release = federation.release(canaries.vectors(), rng)
    noise = np.rint((release - canaries.total() / _TOO_LONG) * SOUND.steps).astype(np.int64)
    deviation = SOUND.noise_stddev(senders=federation.survivors)
    scores = canaries.scores(release)
    p_values = {
        Check.VARIANCE: variance_p_value(noise, (SOUND.noise_multiplier * SOUND.sensitivity) ** 2),
        Check.FIT: fit_p_value(noise, deviation * SOUND.steps),
        Check.CLIPPING: clipping_p_value(scores[canaries.included], SOUND.clip_norm, deviation),
        Check.SAMPLER: sampler_p_value(federation.sample(rng), PLAN.sampling_probability),
    }
    bound = one_run_bound(scores, canaries.included, delta=_DELTA, confidence=1 - _ERROR, unit=PLAN.unit)
    alarms = {check for check, p_value in p_values.items() if p_value < _ERROR}
    try:
        require_consistent(bound, promise())
    except AuditFailedError:
        alarms.add(Check.AUDIT)
    return frozenset(alarms)

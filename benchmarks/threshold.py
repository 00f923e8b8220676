"""What sums under a threshold key cost, next to TenSEAL CKKS at a setting often used with NVFlare, for the same values.

The peer is called as NVFlare's filters call it (one vector, symmetric encryption, values in slots) with N = 8192 and
primes [60, 40, 40, 60]. Ours is one client's whole work from floats to bytes, and, for decryption, that of one of the
t decryptors and of the server that takes t partial decryptions off and decodes. The sum must come out exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tenseal as ts

import secagg
from benchmarks.harness import Report, Target, interleaved, main, progress, require
from benchmarks.homomorphic import FOUR_PRIMES, default_context, serialized_bytes
from secagg.homomorphic import threshold_sums as sums
from secagg.homomorphic.threshold import ThresholdContext, ThresholdKey
from secagg.homomorphic.threshold_parameters import ThresholdParameters
from secagg.homomorphic.threshold_rounds import ThresholdUpload
from secagg.params import Plan
from secagg.setups import Setup, new_session

if TYPE_CHECKING:
    from secagg.encoding.fixed_point import Encoded

DIMENSION = 1_000_000
CLIENTS = 100
CORRUPTED = 10
SUM_BITS = 32
UPDATE_BITS = 25


def run(report: Report) -> None:
    """Measure everything."""
    progress(f"threshold sums, d = {DIMENSION}, n = {CLIENTS}")
    codec = secagg.Encoding(dimension=DIMENSION, clip=1.0, bits=UPDATE_BITS, clients=CLIENTS)
    require(codec.modulus_bits == SUM_BITS)
    plan = Plan(
        clients=CLIENTS,
        length=codec.length,
        modulus_bits=codec.modulus_bits,
        threshold=2 * CLIENTS // 3 + 1,
        degree=CLIENTS - 1,
        corrupted=CORRUPTED,
        encoding=codec.digest,
        signed_length=codec.signed_length,
    )
    parties = Parties(plan)
    made = parties.context.parameters
    report.row(
        measured="threshold parameters",
        degree=made.degree,
        primes=made.primes,
        digits=made.digits,
        decryptors=made.threshold,
        rounds=made.rounds,
        share_bytes=made.share_bytes,
        security_bits=made.classical_bits,
        post_quantum_bits=made.quantum_bits,
    )
    update = np.random.default_rng(0).uniform(-1, 1, DIMENSION)
    packed = -(-codec.length * codec.modulus_bits // 8)
    sent = ThresholdUpload.vector_bytes(plan)
    report.figure("threshold.expansion", sent / packed, Target(1.4, at_most=True))
    context = default_context(FOUR_PRIMES)
    theirs = ts.ckks_vector(context, update)
    report.row(measured="threshold upload", ours=sent, tenseal=serialized_bytes(theirs))

    encoded = codec.encode(update)
    seconds = interleaved(
        {
            "ours": lambda: parties.upload(codec.encode(update)),
            "ours, without encoding": lambda: parties.upload(encoded),
            "tenseal": lambda: ts.ckks_vector(context, update).serialize(),
        },
        repetitions=7,
    )
    report.figure("threshold.encrypt_vs_tenseal", seconds["tenseal"] / seconds["ours"], Target(20))
    for name, value in seconds.items():
        report.row(measured="threshold encrypt", what=name, s=value, values_per_s=DIMENSION / value)
    decryption(report, parties, encoded, theirs)


class Parties:
    """The decryptors of a round and their server. All clients have one secret, which costs and hides the same here."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.session, self.round = plan, new_session(), 0
        made = ThresholdParameters.of(plan)
        setup = self.setup()
        self.context = ThresholdContext(
            parameters=made,
            plan=plan.digest,
            roster=setup.roster_digest,
            session=self.session,
            round=0,
            transcript=bytes(32),
        )
        self.everyone = list(range(plan.clients))
        secret = sums.draw_secret(made, b"s" * 32)
        share_for = sums.share_out(made, secret, b"p" * 32)
        packed = sums.pack_share(made, secret)
        self.keys = {
            i: ThresholdKey(
                self.context,
                i,
                secret=packed,
                shares=[sums.pack_share(made, share_for(i))] * plan.clients,
                seeds={j: bytes([min(i, j), max(i, j)]) * 16 for j in self.everyone if j != i},
                flooding=bytes([i]) * 32,
            )
            for i in self.everyone
        }

    def setup(self) -> Setup:
        """The next round's."""
        self.round += 1
        return Setup(
            plan=self.plan,
            roster=range(self.plan.clients),
            session=self.session,
            round=self.round,
            assume_honest_server=True,
        )

    def upload(self, vector: Encoded) -> memoryview:
        """One client's upload of the next round."""
        return self.keys[0].encrypt(self.setup(), vector.vector.copy(), b"r" * 32)


def decryption(report: Report, parties: Parties, vector: Encoded, theirs: ts.CKKSVector) -> None:
    """One decryptor's part, and the server's: all partial decryptions taken off the sum, which is decoded."""
    setup, made = parties.setup(), parties.context.parameters
    upload = parties.keys[0].encrypt(setup, vector.vector.copy(), b"r" * 32)
    total = sums.RunningSum(made)
    for _ in parties.everyone:
        total.add(upload)
    chosen = parties.context.decryptors(setup, parties.everyone)
    partials = [parties.keys[j].decrypt(setup, parties.everyone) for j in chosen]
    total._settle()  # noqa: SLF001
    before = total._total.copy()  # noqa: SLF001 -- put back for every repetition
    expected = vector.vector.astype(np.uint64) * np.uint64(CLIENTS) % np.uint64(1 << SUM_BITS)

    opened = np.zeros(len(expected), np.uint32)

    def combine() -> None:
        np.copyto(total._total, before)  # noqa: SLF001
        for partial in partials:
            total.subtract(partial)
        opened[:] = total.open(CLIENTS)

    def part() -> None:
        parties.keys[chosen[0]].decrypt(setup, parties.everyone)

    seconds = interleaved({"one part": part, "combining": combine, "tenseal": theirs.decrypt}, repetitions=7)
    require(bool((opened == expected).all()))
    ours = seconds["one part"] + seconds["combining"]
    report.figure("threshold.decrypt_vs_tenseal", seconds["tenseal"] / ours, Target(5))
    for name, value in seconds.items():
        report.row(measured="threshold decrypt", what=name, s=value, values_per_s=DIMENSION / value)


if __name__ == "__main__":
    main(__doc__ or "", run)

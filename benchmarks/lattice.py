"""What lattice masks cost: against masks as long as the vector, CKKS as NVFlare sets it, and Joye-Libert in declearn.

All sums are below 2^32 and take 32 bits, d = 10^6. Whole steps of real sessions are timed: `unmask` is what the server
does from the last share to the sum, key agreement and reconstruction included (reading the shares as they arrive, the
same for both, is reported beside it), and the client's time is that of all its steps. Peers are called as their own
code calls them.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal
from unittest.mock import patch

import numpy as np
import tenseal as ts

import secagg
from benchmarks.harness import Report, Target, interleaved, main, progress, require
from benchmarks.homomorphic import FOUR_PRIMES, default_context, serialized_bytes
from secagg.encoding.packing import packed_bytes, reduce
from secagg.lattice.rlwe import CipherSum, conceal
from secagg.primitives.prg import add_masks
from secagg.transitions import steps_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from secagg import Plan, Setup
    from secagg.encoding.packing import Words

DIMENSION = 1_000_000
SUM_BITS = 32
DROPPED = 0.1
SMALL = 200
"""Clients of the rounds that are repeated."""
JOYE_LIBERT = 2_000
"""Values that declearn encrypts: at its speed a million would take a quarter of an hour."""


def run(report: Report) -> None:
    """Measure everything."""
    client_speed(report)
    expansion(report)
    growth(report)
    unmask(report, SMALL, Target(12), "lattice.server_vs_pairwise", repetitions=7)
    unmask(report, SMALL, Target(None), "lattice.server_vs_pairwise_malicious", repetitions=3, server="malicious")
    unmask(report, 1_000, Target(10), "lattice.unmask_1k_vs_masking", repetitions=1)  # minutes
    client_against_masking(report)


def counts(n: int) -> secagg.Counts:
    """Sums of n vectors that take exactly 32 bits."""
    codec = secagg.Counts(dimension=DIMENSION, maximum=((1 << SUM_BITS) - 1) // n, clients=n)
    require(codec.modulus_bits == SUM_BITS)
    return codec


def vector_of(n: int) -> Words:
    """A made-up vector: what is in it does not change what it costs."""
    return np.random.default_rng(0).integers(0, counts(n).maximum, DIMENSION, endpoint=True).astype(np.uint32)


def setup_of(plan: Plan) -> Setup:
    """A round of this plan among numbered clients."""
    return secagg.Setup(plan=plan, roster=range(plan.clients), session=bytes(16), round=0, assume_honest_server=True)


def client_speed(report: Report) -> None:
    """Encode and encrypt, bytes of the upload included: ours, TenSEAL's CKKS and declearn's Joye-Libert."""
    from declearn.secagg import joye_libert  # noqa: PLC0415

    n = 100
    progress(f"one client's upload, d = {DIMENSION}")
    codec = secagg.Encoding(dimension=DIMENSION, clip=1.0, bits=25, clients=n)
    require(codec.modulus_bits == SUM_BITS)
    plan = secagg.plan(codec, masking="lattice")
    setup, values = setup_of(plan), np.random.default_rng(0).uniform(-1, 1, DIMENSION)
    context = default_context(FOUR_PRIMES)
    theirs: Any = vars(joye_libert)["JoyeLibertEncrypter"](secrets.randbits(2_048), clipval=1.0, bitsize=25)
    few = values[:JOYE_LIBERT]

    def ours() -> None:
        conceal(setup, codec.encode(values).vector, bytes(32))

    seconds = interleaved(
        {
            "lattice": ours,
            "TenSEAL CKKS": lambda: ts.ckks_vector(context, values).serialize(),
            "Joye-Libert": lambda: theirs.encrypt_numpy_array(few),
        },
        repetitions=5,
    )
    seconds["Joye-Libert"] *= DIMENSION / JOYE_LIBERT
    report.figure("lattice.client_vs_tenseal", seconds["TenSEAL CKKS"] / seconds["lattice"], Target(60))
    report.figure("joye_libert.slowdown", seconds["Joye-Libert"] / seconds["lattice"], Target(None))
    for name, value in seconds.items():
        report.row(measured="encode and encrypt", what=name, s=value, values_per_s=DIMENSION / value)


def expansion(report: Report) -> None:
    """Bytes of an upload over those of the bit-packed vector, and of NVFlare's."""
    plan = secagg.plan(counts(100), masking="lattice")
    require(plan.lattice is not None)
    upload = plan.lattice.upload_bytes if plan.lattice else 0
    theirs = serialized_bytes(ts.ckks_vector(default_context(FOUR_PRIMES), np.linspace(-1, 1, DIMENSION)))
    report.figure("lattice.expansion", upload / packed_bytes(DIMENSION, SUM_BITS), Target(1.16, at_most=True))
    report.figure("lattice.expansion_vs_ckks", theirs / upload, Target(15))
    for n in (10, 100, 1_000, 10_000):
        ring = secagg.plan(counts(n), masking="lattice").lattice
        if ring is not None:
            sizes = {"degree": ring.degree, "primes": len(ring.primes), "digits": ring.digits}
            report.row(measured="bytes", n=n, expansion=ring.expansion(SUM_BITS), **sizes)


def growth(report: Report) -> None:
    """The server's one expansion and decoding, for 10 and for 1000 clients."""
    progress("expansion and decoding, n = 10 and n = 1000")
    calls: dict[str, Callable[[], object]] = {}
    for n in (10, 1_000):
        plan = secagg.plan(counts(n), masking="lattice")
        setup = setup_of(plan)
        words, c = conceal(setup, vector_of(n), bytes(32))

        def call(plan: Plan = plan, setup: Setup = setup, words: Words = words, c: bytearray = c) -> None:
            total = CipherSum(plan)
            total.add(memoryview(c))
            start = time.perf_counter()
            total.open(setup, words)
            spent[plan.clients].append(time.perf_counter() - start)

        calls[str(n)] = call
    spent: dict[int, list[float]] = {10: [], 1_000: []}
    interleaved(calls, repetitions=41)
    medians = {n: float(np.median(times[1:])) for n, times in spent.items()}
    report.figure("lattice.expand_growth", medians[1_000] / medians[10], Target(1.1, at_most=True))
    report.row(measured="expand and decode", **{f"n{n}_s": value for n, value in medians.items()})


@dataclass
class Watch:
    """What one kind of round cost.

    Attributes:
        unmask: seconds of the server from the last share to the sum.
        reading: seconds in which it read the shares as they arrived.
        long: seconds of work on masks and ciphertexts alone, if asked for: no key agreement, no reconstruction.
        client: mean seconds of a client in all steps.
    """

    unmask: float = 0.0
    reading: float = 0.0
    long: float = 0.0
    client: float = 0.0


class LastCall(secagg.Trace):
    """Counts, and keeps how long the last call took."""

    last = 0.0

    def on_work(self, step: str, role: Literal["client", "server"], seconds: float) -> None:
        """Add it, and keep it."""
        super().on_work(step, role, seconds)
        self.last = seconds


def whole_round(plan: Plan, vector: Words) -> Watch:
    """Run a round in which a tenth of the clients vanish after sharing their keys, and check its sum."""
    watch, n = Watch(), plan.clients
    dropped = int(DROPPED * n)
    trace = LastCall()
    total = secagg.simulate(
        plan, lambda _: vector, dropouts=dict.fromkeys(range(dropped), "masked_input"), observers=[trace]
    )
    expected = vector.astype(np.uint64) * np.uint64(n - dropped)
    reduce(expected, SUM_BITS)
    require(bool((total.vector == expected).all()))
    watch.unmask = trace.last
    watch.reading = trace.seconds["unmask", "server"] - trace.last
    for step in steps_of(plan.masking, plan.server):
        watch.client += trace.seconds[step, "client"] / max(trace.messages[step, "up"], 1)
    return watch


def with_long_work(plan: Plan, vector: Words) -> Watch:
    """Run another such round, in which keys are agreed on before masks are removed, so that the latter can be timed."""
    from secagg.masking import unmasking  # noqa: PLC0415

    long = 0.0

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            nonlocal long
            start = time.perf_counter()
            result = call(*arguments, **options)
            long += time.perf_counter() - start
            return result

        return inner

    def masks_alone(vector: Words, masks: Any) -> None:  # noqa: ANN401
        listed = list(masks)
        timed(add_masks)(vector, listed)

    with (
        patch.object(unmasking, "add_masks", masks_alone),
        patch.object(CipherSum, "open", timed(CipherSum.open)),
    ):
        whole_round(plan, vector)
    return replace(whole_round(plan, vector), long=long)


def unmask(
    report: Report,
    n: int,
    target: Target,
    name: str,
    *,
    repetitions: int,
    server: Literal["semi-honest", "malicious"] = "semi-honest",
) -> None:
    """The server's unmask step, 10 % of the clients gone after they shared their keys, at the planned degree."""
    plans = {masking: secagg.plan(counts(n), masking=masking, server=server) for masking in both()}
    progress(f"unmasking, n = {n}, degree {plans['masking'].degree}, d = {DIMENSION}, a tenth dropped out")
    vector = vector_of(n)
    watched: dict[str, list[Watch]] = {masking: [] for masking in both()}
    for plan in plans.values():
        if repetitions > 1:
            whole_round(plan, vector)  # compiles
    for _ in range(repetitions):
        for masking, plan in plans.items():
            watched[masking].append(with_long_work(plan, vector))
    parts = ("unmask", "reading", "long")
    medians = {
        masking: {part: float(np.median([getattr(watch, part) for watch in watches])) for part in parts}
        for masking, watches in watched.items()
    }
    for part, figure, wanted in (
        ("unmask", name, target),
        ("long", f"{name}_long_work", Target(30 if name == "lattice.server_vs_pairwise" else None)),
    ):
        report.figure(figure, medians["masking"][part] / medians["lattice"][part], wanted)
    for masking, plan in plans.items():
        report.row(measured="unmask", n=n, k=plan.degree, what=masking, **medians[masking])


def client_against_masking(report: Report) -> None:
    """A client's time at the degree that a malicious server asks for, n = 1000; few clients are run, none drops out.

    What a client does depends on its number of neighbours alone: a complete graph of degree + 1 clients stands in.
    """
    real = secagg.plan(counts(1_000), server="malicious")
    n = real.degree + 1
    progress(f"a client with {real.degree} neighbours, d = {DIMENSION}")
    vector = vector_of(n)
    plans = {
        masking: replace(
            secagg.plan(counts(n), server="malicious", graph="complete", masking=masking), dropouts=int(DROPPED * n)
        )
        for masking in both()
    }
    spent: dict[str, list[float]] = {masking: [] for masking in both()}
    for _ in range(3):
        for masking, plan in plans.items():
            spent[masking].append(whole_round(plan, vector).client)
    seconds = {masking: float(np.median(times)) for masking, times in spent.items()}
    report.figure("lattice.client_vs_masking", seconds["masking"] / seconds["lattice"], Target(2))
    report.row(measured="client, all steps", neighbours=real.degree, **seconds)


def both() -> tuple[Literal["masking"], Literal["lattice"]]:
    """What is compared."""
    return "masking", "lattice"


if __name__ == "__main__":
    main(__doc__ or "", run)

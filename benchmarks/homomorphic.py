"""What homomorphic encryption costs: CKKS as tuned here, next to NVFlare's default settings of the same library.

TenSEAL is called as NVFlare's filters call it, with the context that NVFlare provisions: one vector a variable,
symmetric encryption, values in slots. Both sum the updates of ten clients. Ours is measured twice: with sums of 32
bits, and with the finest encoding there is, sums of 36 bits, whose error happens to equal that of NVFlare's scale of
2^40. In both, what CKKS itself does to the integers must be nothing; the error is the encoding's rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tenseal as ts
from nvflare.lighter.impl.he import HEBuilder  # type: ignore[import-untyped]

import secagg
from benchmarks.harness import Report, Target, interleaved, main, progress, require
from secagg.homomorphic.ckks import CkksKeys
from secagg.homomorphic.ckks_parameters import FINGERPRINT_BYTES
from secagg.homomorphic.ckks_ring import SEED_BYTES, CiphertextSum, pack_residues

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DIMENSION = 1_000_000
CLIENTS = 10
BITS = {32: 28, 36: 32}
"""Bits of the sum of ten clients: bits of an update's coordinate."""

FOUR_PRIMES = [60, 40, 40, 60]
"""A setting often seen in TenSEAL's and NVFlare's examples; the builder's own default has three primes."""


def run(report: Report) -> None:
    """Measure everything."""
    ckks(report)


def ckks(report: Report) -> None:
    """One client's upload and decryption, the server's addition, and the error of the mean."""
    progress(f"CKKS, d = {DIMENSION}, n = {CLIENTS}")
    rng = np.random.default_rng(0)
    updates = [rng.uniform(-1, 1, DIMENSION) for _ in range(CLIENTS)]
    mean = np.mean(updates, axis=0)
    short, ours = (ours_alone(report, bits, updates, mean) for bits in BITS)
    nvflare = nvflare_alone(report, "NVFlare's default", default_context(), updates, mean)
    slower = default_context(FOUR_PRIMES)
    wide = serialized_bytes(ts.ckks_vector(slower, updates[0])) / DIMENSION
    report.row(measured="CKKS", what=f"NVFlare, primes {FOUR_PRIMES}", upload_bytes_per_value=wide)
    report.figure("ckks.bytes_per_32_bit_sum", short["bytes"], Target(None))
    report.figure("ckks.bytes_vs_default", nvflare["bytes"] / ours["bytes"], Target(2))
    report.figure("ckks.bytes_vs_default_32_bit_sum", nvflare["bytes"] / short["bytes"], Target(2))
    report.figure("ckks.bytes_vs_four_primes_32_bit_sum", wide / short["bytes"], Target(2))
    report.figure("ckks.error_vs_default", ours["rms"] / nvflare["rms"], Target(1.01, at_most=True))
    report.figure("ckks.largest_error_vs_default", ours["error"] / nvflare["error"], Target(None))
    speed(report, updates[0])


def codec_and_plan(bits: int) -> tuple[secagg.Encoding, secagg.Plan]:
    """An encoding of as many coordinates, whose sums take so many bits, and a plan for it."""
    codec = secagg.Encoding(dimension=DIMENSION, clip=1.0, bits=BITS[bits], clients=CLIENTS)
    require(codec.modulus_bits == bits)
    return codec, secagg.plan(codec)


def ours_alone(
    report: Report, bits: int, updates: list[NDArray[np.float64]], mean: NDArray[np.float64]
) -> dict[str, float]:
    """Sum all updates under CKKS; every coordinate of the sum must be exact."""
    codec, plan = codec_and_plan(bits)
    keys = CkksKeys.generate(plan)
    made = keys.context.parameters
    total, expected = CiphertextSum.zero(made, plan.length), np.zeros(plan.length, np.uint64)
    octets = 0
    for update in updates:
        vector = codec.encode(update).vector
        expected += vector
        seed, c0 = keys.encrypt(vector)
        packed = pack_residues(c0, made)
        octets = FINGERPRINT_BYTES + SEED_BYTES + len(packed)
        total.add(seed, packed, made)
    unrounded = keys._unrounded(total)  # noqa: SLF001 -- its distance from the integers is measured, and goes nowhere
    noise = float(np.abs(unrounded / made.scale - np.rint(unrounded / made.scale)).max())
    opened = keys.decrypt(total)
    require(bool((opened == expected % (1 << bits)).all()))
    values = {"bytes": octets / DIMENSION, **errors(codec.decode(opened), mean)}
    report.row(
        measured="CKKS",
        what=f"ours, sums of {bits} bits",
        upload_bytes_per_value=values["bytes"],
        download_bytes_per_value=(len(total.c0) + len(total.c1)) * made.prime_bits / 8 / DIMENSION,
        error_of_the_mean=values["error"],
        rms=values["rms"],
        wrong_integers=0,
        noise_over_scale=noise,
        proved_bound=made.noise_bound / made.scale,
        key_bytes=len(keys.to_bytes()),
        context_bytes=len(keys.context.to_bytes()),
    )
    return values


def nvflare_alone(
    report: Report, what: str, context: ts.Context, updates: list[NDArray[np.float64]], mean: NDArray[np.float64]
) -> dict[str, float]:
    """Sum all updates as NVFlare's encryptor and aggregator do."""
    total: Any = None
    for update in updates:
        vector = ts.ckks_vector(context, update)
        octets = serialized_bytes(vector)
        total = vector if total is None else total + vector
    values = {"bytes": octets / DIMENSION, **errors(np.array(total.decrypt()) / CLIENTS, mean)}
    report.row(
        measured="CKKS",
        what=what,
        upload_bytes_per_value=values["bytes"],
        download_bytes_per_value=serialized_bytes(total) / DIMENSION,
        error_of_the_mean=values["error"],
        rms=values["rms"],
        context_bytes=len(context.serialize(save_secret_key=False)),
    )
    return values


def errors(got: NDArray[np.float64], mean: NDArray[np.float64]) -> dict[str, float]:
    """Largest and root mean square error."""
    return {"error": float(np.abs(got - mean).max()), "rms": float(np.sqrt(np.mean((got - mean) ** 2)))}


def default_context(primes: list[int] | None = None) -> ts.Context:
    """The context that NVFlare provisions."""
    builder = HEBuilder() if primes is None else HEBuilder(coeff_mod_bit_sizes=primes)
    builder.initialize({}, {})
    return builder._context  # noqa: SLF001 -- it offers no other way


def serialized_bytes(vector: Any) -> int:  # noqa: ANN401 -- tenseal has no types
    """How many bytes NVFlare sends for a vector."""
    return len(vector.serialize())


def speed(report: Report, update: NDArray[np.float64]) -> None:
    """Encrypt, add and decrypt, bytes to bytes where a message travels."""
    codec, plan = codec_and_plan(32)
    keys = CkksKeys.generate(plan)
    made, vector = keys.context.parameters, codec.encode(update).vector
    context = default_context()
    seed, c0 = keys.encrypt(vector)
    packed = pack_residues(c0, made)
    total = CiphertextSum.zero(made, plan.length)
    total.add(seed, packed, made)
    once = CiphertextSum(total.c0.copy(), total.c1.copy())
    theirs = ts.ckks_vector(context, update)
    sent = theirs.serialize()
    running = theirs.copy()

    def encrypt() -> None:
        _, fresh = keys.encrypt(vector)
        pack_residues(fresh, made)

    def add() -> None:
        running.add_(ts.ckks_vector_from(context, sent))

    steps: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "encrypt": (encrypt, lambda: ts.ckks_vector(context, update).serialize()),
        "add": (lambda: total.add(seed, packed, made), add),
        "decrypt": (lambda: keys.decrypt(once), theirs.decrypt),
    }
    for step, (our_call, their_call) in steps.items():
        seconds = interleaved({"ours": our_call, "NVFlare's default": their_call}, repetitions=5)
        report.figure(f"ckks.{step}_vs_default", seconds["NVFlare's default"] / seconds["ours"], Target(None))
        for name, value in seconds.items():
            report.row(measured=f"CKKS, {step}", what=name, s=value, values_per_s=DIMENSION / value)


if __name__ == "__main__":
    main(__doc__ or "", run)

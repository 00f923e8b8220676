"""What masking costs: against raw AES-256-CTR, against Flower's own functions, and in memory.

The bound of a masked round is its keystream: no implementation that expands full-length masks with AES can be faster.
Flower's functions are called as its own mod calls them, at its default modulus of 2^32.
"""

from __future__ import annotations

import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import secagg
from benchmarks.harness import Report, Target, interleaved, main, progress, require
from secagg import tags
from secagg.primitives.keys import derive_key
from secagg.primitives.prg import add_masks
from secagg.primitives.shamir import combine, split
from secagg.primitives.threads import available_threads
from secagg.transitions import steps_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from secagg import Plan, Setup

T = TypeVar("T")

DIMENSION = 1_000_000
NEIGHBOURS = 20
WORD_BYTES = 4
RAW_CHUNK = 1 << 18


def run(report: Report) -> None:
    """Measure everything."""
    mask_speed(report)
    shamir_speed(report)
    round_speed(report)
    server_memory(report)


def raw_keystream(octets: int) -> None:
    """Make that many bytes of one AES-256-CTR stream into one reused buffer: OpenSSL and nothing else."""
    stream = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
    zeros, out = bytes(RAW_CHUNK), bytearray(RAW_CHUNK)
    for _ in range(octets // RAW_CHUNK):
        stream.update_into(zeros, out)


def raw_keystream_in_threads(octets: int, threads: int) -> None:
    """The same, split over threads."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(raw_keystream, [octets // threads] * threads))


def mask_speed(report: Report) -> None:
    """One client's self mask and 20 pairwise masks on a vector of 10^6 coordinates in 32-bit words."""
    from flwr.common.secure_aggregation.ndarrays_arithmetic import parameters_addition  # noqa: PLC0415
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen  # noqa: PLC0415

    progress(f"masks of {NEIGHBOURS} neighbours, d = {DIMENSION}")
    secrets = [os.urandom(32) for _ in range(NEIGHBOURS + 1)]
    vector = np.zeros(DIMENSION, dtype=np.uint32)
    octets = DIMENSION * WORD_BYTES * len(secrets)

    def ours(threads: int) -> Callable[[], None]:
        def call() -> None:
            masks = (
                (derive_key(secret, tags.PAIRWISE_MASK, secret), 1 - 2 * (i % 2)) for i, secret in enumerate(secrets)
            )
            add_masks(vector, masks, threads=threads)

        return call

    def flower() -> None:
        total = [np.zeros(DIMENSION, dtype=np.int64)]
        for secret in secrets:
            total = parameters_addition(total, pseudo_rand_gen(secret, 1 << 32, [(DIMENSION,)]))

    threads = available_threads()
    seconds = interleaved(
        {
            "ours, 1 thread": ours(1),
            f"ours, {threads} threads": ours(threads),
            "raw AES-256-CTR, 1 thread": lambda: raw_keystream(octets),
            "Flower": flower,
        },
        repetitions=9,
    )
    one = seconds["ours, 1 thread"]
    report.figure("masking.keystream_fraction", seconds["raw AES-256-CTR, 1 thread"] / one, Target(0.6))
    report.figure("masking.vs_flower", seconds["Flower"] / one, Target(4))
    for name, value in seconds.items():
        report.row(measured="masks", what=name, ms=1e3 * value, gb_per_s=octets / value / 1e9)


def shamir_speed(report: Report) -> None:
    """Share one 32-byte secret 334-of-500 and recover it."""
    from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares  # noqa: PLC0415

    n, t, secret = 500, 334, os.urandom(32)
    progress(f"Shamir n = {n}, t = {t}")
    points = np.arange(1, n + 1, dtype=np.uint64)

    def ours() -> None:
        shares = split([secret], points, t=t, random=os.urandom(32))
        require(combine(points, shares, t=t) == [secret])

    def flower() -> None:
        require(combine_shares(create_shares(secret, t, n)[:t]) == secret)

    seconds = interleaved({"ours": ours, "Flower": flower}, repetitions=3)
    report.figure("shamir.vs_flower", seconds["Flower"] / seconds["ours"], Target(200))
    for name, value in seconds.items():
        report.row(measured="shamir", what=name, ms=1e3 * value)


def round_plan(n: int) -> tuple[Plan, secagg.Encoded]:
    """A k-regular plan as the planner makes it, and one encoded vector that every client sends."""
    codec = secagg.Encoding(dimension=DIMENSION, clip=1.0, bits=16, clients=n)
    plan = secagg.plan(codec, dropout=0.1, corrupted=0.1, graph="sparse")
    return plan, codec.encode(np.random.default_rng(0).uniform(-1, 1, DIMENSION))


def mask_bytes(setup: Setup, dropouts: int) -> int:
    """Bytes of mask stream that a round makes if clients 0..dropouts-1 vanish after sharing their keys."""
    n, k = setup.plan.clients, setup.plan.degree
    shared_with_dropouts = sum(int((setup.graph.neighbours(i) >= dropouts).sum()) for i in range(dropouts))
    masks = (n - dropouts) * (1 + k) + (n - dropouts) + shared_with_dropouts
    return masks * setup.plan.length * WORD_BYTES


def round_speed(report: Report) -> None:
    """A whole in-memory round of 100 clients, 10 of which vanish after sharing their keys."""
    n, dropped = 100, 10
    plan, encoded = round_plan(n)
    progress(f"whole round n = {n}, d = {DIMENSION}, k = {plan.degree}")
    session = bytes(16)
    octets = mask_bytes(
        secagg.Setup(plan=plan, roster=range(n), session=session, round=0, assume_honest_server=True), dropped
    )
    trace = secagg.Trace()
    threads = available_threads()

    def whole_round(observer: secagg.Trace | None = None) -> None:
        total = secagg.simulate(
            plan,
            lambda _: encoded,
            dropouts=dict.fromkeys(range(dropped), "masked_input"),
            session=session,
            observers=[observer] if observer else [],
        )
        require(len(total.survivors) == n - dropped)

    seconds = interleaved(
        {
            "round": whole_round,
            f"raw AES-256-CTR, {threads} threads": lambda: raw_keystream_in_threads(octets, threads),
            "raw AES-256-CTR, 1 thread": lambda: raw_keystream(octets),
        },
        repetitions=7,
    )
    whole_round(trace)
    bound = seconds[f"raw AES-256-CTR, {threads} threads"]
    report.figure("round.seconds_over_mask_bound", seconds["round"] / bound, Target(2, at_most=True))
    report.figure(
        "round.seconds_over_one_thread_mask_bound",
        seconds["round"] / seconds["raw AES-256-CTR, 1 thread"],
        Target(None),
    )
    report.row(measured="round", n=n, d=DIMENSION, degree=plan.degree, threshold=plan.threshold, mask_gb=octets / 1e9)
    for name, value in seconds.items():
        report.row(measured="round", what=name, s=value)
    for step in steps_of(plan.masking):
        report.row(
            measured="round",
            step=step,
            clients_s=trace.seconds.get((step, "client"), 0.0),
            server_s=trace.seconds.get((step, "server"), 0.0),
            bytes_up=trace.bytes[step, "up"],
            bytes_down=trace.bytes[step, "down"],
        )


def server_memory(report: Report) -> None:
    """Peak of the server's allocations in that round, in vectors of length d of the plan's words."""
    peaks = {}
    for n in (100, 200):
        progress(f"server memory n = {n}")
        peaks[n] = server_peak(n) / (DIMENSION * WORD_BYTES)
        report.row(measured="server memory", n=n, vectors=peaks[n])
    report.figure("server.vectors_resident", peaks[100], Target(8, at_most=True))
    report.figure("server.vectors_resident_n200", peaks[200], Target(8, at_most=True))


def server_peak(n: int) -> int:
    """Drive a round by hand and follow what the server's calls allocate and keep, in bytes."""
    plan, encoded = round_plan(n)
    setup = secagg.Setup(plan=plan, roster=range(n), session=bytes(16), round=0, assume_honest_server=True)
    server = secagg.Server(setup)
    clients = {client_id: secagg.Client(setup, client_id, lambda: encoded) for client_id in setup.roster}
    held = peak = 0

    def measured(call: Callable[[], T]) -> T:
        nonlocal held, peak
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        result = call()
        after, top = tracemalloc.get_traced_memory()
        peak = max(peak, held + top - before)
        held += after - before
        return result

    def whole_round() -> None:
        for step in steps_of(plan.masking):
            for client_id, request in measured(server.close_round).items():
                if int(client_id) < n // 10 and step in {"masked_input", "unmask"}:
                    continue
                measured(partial(server.receive, client_id, clients[client_id].receive(request)))
        measured(server.close_round)

    tracemalloc.start()
    try:
        whole_round()
    finally:
        tracemalloc.stop()
    return peak


if __name__ == "__main__":
    main(__doc__ or "", run)

"""What the protocol costs: bytes against the vector itself, a distrusted server against a trusted one, and growth.

Expansion counts what Bonawitz et al. 2017 (Table 1) count: all bytes of one client in both directions over all rounds,
without the model's download, over its vector at two bytes a value; from the exact sizes of the messages.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

import secagg
from benchmarks.harness import Report, Target, interleaved, main, progress, require
from secagg.planned_cost import cost_of

if TYPE_CHECKING:
    from secagg import Plan
    from secagg.encoding.packing import Words

VALUE_BITS = 16
DIMENSION = 1_000_000
GIBI = 1 << 30


def run(report: Report) -> None:
    """Measure everything."""
    expansion(report)
    malicious_overhead(report)
    growth(report)
    ten_thousand_clients(report)


def counts(n: int, d: int) -> secagg.Counts:
    """Sums of n vectors of d 16-bit values."""
    return secagg.Counts(dimension=d, maximum=(1 << VALUE_BITS) - 1, clients=n)


def vectors(n: int, d: int) -> list[Words]:
    """A few made-up vectors for clients to share: what is in them does not change what a round costs."""
    del n
    rng = np.random.default_rng(0)
    return [rng.integers(0, 1 << VALUE_BITS, d).astype(np.uint32) for _ in range(4)]


def one_round(plan: Plan, inputs: list[Words], dropped: int = 0, observer: secagg.Trace | None = None) -> None:
    """Run a round in which the first clients vanish after sharing their keys, and check its sum."""
    n = plan.clients
    total = secagg.simulate(
        plan,
        lambda client: inputs[client % len(inputs)],
        dropouts=dict.fromkeys(range(dropped), "masked_input"),
        observers=[observer] if observer else [],
    )
    expected = np.sum([inputs[i % len(inputs)][:8].astype(np.uint64) for i in range(dropped, n)], axis=0)
    require(total.vector[:8].tolist() == (expected % (1 << plan.modulus_bits)).tolist())


def expansion(report: Report) -> None:
    """Bytes at the two sizes that Bonawitz et al. 2017 tabulate."""
    for name, n, d, target in (
        ("secagg.expansion_1k", 1 << 10, 1 << 20, 1.66),
        ("secagg.expansion_16k", 1 << 14, 1 << 24, 1.90),
    ):
        plan = secagg.plan(counts(n, d), graph="sparse")
        cost = cost_of(plan)
        report.figure(name, cost.expansion_two_bytes, Target(target, at_most=True))
        report.row(measured="bytes", n=n, d=d, degree=plan.degree, up=cost.bytes_up, down=cost.bytes_down)


def malicious_overhead(report: Report) -> None:
    """A whole round of 100 clients against a server that is not trusted, and against one that is."""
    n = 100
    progress(f"whole rounds n = {n}, d = {DIMENSION}, both server models")
    codec, inputs = counts(n, DIMENSION), vectors(n, DIMENSION)
    malicious = secagg.plan(codec, server="malicious")
    trusted = replace(malicious, server="semi-honest")
    planned = secagg.plan(codec)
    seconds = interleaved(
        {
            "malicious": partial(one_round, malicious, inputs),
            "semi-honest, same graph": partial(one_round, trusted, inputs),
            "semi-honest, its own degree": partial(one_round, planned, inputs),
        },
        repetitions=5,
    )
    same, own = seconds["semi-honest, same graph"], seconds["semi-honest, its own degree"]
    report.figure("secagg.malicious_overhead", seconds["malicious"] / same, Target(1.35, at_most=True))
    report.figure("secagg.malicious_over_planned", seconds["malicious"] / own, Target(None))
    report.row(measured="server models", degree=malicious.degree, planned_degree=planned.degree, **seconds)


def growth(report: Report) -> None:
    """Server time per client, four times as many clients apart."""
    d = 10_000
    per_client: dict[int, list[float]] = {500: [], 2_000: []}
    for repetition in range(4):
        for n, times in per_client.items():
            progress(f"server time n = {n}, d = {d}")
            trace = secagg.Trace()
            one_round(secagg.plan(counts(n, d)), vectors(n, d), dropped=n // 20, observer=trace)
            if repetition:
                times.append(sum(value for (_, role), value in trace.seconds.items() if role == "server") / n)
    medians = {n: float(np.median(times)) for n, times in per_client.items()}
    report.figure("secagg.growth", medians[2_000] / medians[500], Target(1.3, at_most=True))
    for n, value in medians.items():
        degree = secagg.plan(counts(n, d)).degree
        report.row(measured="server time", n=n, degree=degree, ms_per_client=1e3 * value)


def ten_thousand_clients(report: Report) -> None:
    """One round of 10,000 clients: 5 % may side with the server, another 5 % drop out; memory is the process's peak."""
    n, d = 10_000, 10_000
    unit = 1 if sys.platform == "darwin" else 1024
    servers: tuple[secagg.params.ServerModel, ...] = ("semi-honest", "malicious")
    for server in servers:  # the hungrier one last: the peak is of the whole process
        progress(f"one round n = {n}, d = {d}, {server} server (minutes)")
        plan = secagg.plan(counts(n, d), dropout=0.05, corrupted=0.05, server=server)
        start = time.perf_counter()
        one_round(plan, vectors(n, d), dropped=n // 20)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIBI
        report.row(measured="10,000 clients", server=server, degree=plan.degree, seconds=seconds, peak_gib=peak)
    report.figure("secagg.clients_10k", peak, Target(8, at_most=True))


if __name__ == "__main__":
    main(__doc__ or "", run)

"""What a round costs: run one on random vectors and tabulate seconds and bytes per protocol round.

The vectors are made up (a numpy generator, as nothing here is secret); keys and masks come from the operating system.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from secagg.encoding import Encoding
from secagg.planning import plan as make_plan
from secagg.simulation import Trace, simulate
from secagg.transitions import steps_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from secagg.encoding.packing import Words
    from secagg.params import ClientId, KeyAgreement, Masking, Plan, ServerModel
    from secagg.setups import Setup
    from secagg.simulation import Direction, Observer

__all__ = ["RoundCost", "StepCost", "measure_round", "parse_drops"]

FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """One protocol round.

    Attributes:
        client_seconds: mean over the clients that answered.
        server_seconds: in all.
        bytes_up, bytes_down: mean per client that took part.
        clients: how many answered.
    """

    step: str
    client_seconds: float
    server_seconds: float
    bytes_up: float
    bytes_down: float
    clients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundCost:
    """A whole round.

    Attributes:
        seconds: wall-clock time, all clients one after the other in this process.
        exact: whether the secure sum equals the plain integer sum of the survivors' vectors, coordinate by coordinate.
        survivors: how many vectors are in the sum.
        upload_over_float32: bytes one surviving client sends in all ÷ bytes of its vector as float32.
    """

    plan: Plan
    steps: tuple[StepCost, ...]
    seconds: float
    exact: bool
    survivors: int
    upload_over_float32: float


def parse_drops(drops: Sequence[str], plan: Plan) -> dict[int, str]:
    """Turn ["10@masked_input", "2@unmask"] into dropouts of the first clients, in that order.

    Raises:
        ValueError: not COUNT@ROUND, no such round, or more clients than there are.
    """
    steps = steps_of(plan.masking, plan.server)
    order: list[str] = []
    for drop in drops:
        count, _, step = drop.partition("@")
        if not count.isdecimal() or step not in steps:
            msg = f"--drop {drop}: expected COUNT@ROUND with ROUND one of {', '.join(steps)}"
            raise ValueError(msg)
        fits = len(count) <= len(str(plan.clients)) and len(order) + int(count) <= plan.clients
        if not fits:
            msg = f"--drop {drop}: more dropouts than the {plan.clients} clients"
            raise ValueError(msg)
        order += [step] * int(count)
    return dict(enumerate(order))


def measure_round(
    *,
    clients: int,
    dimension: int,
    drops: Sequence[str] = (),
    bits: int = 16,
    dropout: float = 0.1,
    corrupted: float = 0.1,
    graph: Literal["auto", "complete", "sparse"] = "auto",
    masking: Masking | Literal["auto"] = "masking",
    server: ServerModel = "semi-honest",
    key_agreement: KeyAgreement = "x25519",
    progress: bool = False,
) -> RoundCost:
    """Sum random vectors once and say what it cost.

    Args:
        clients, dimension: n and d.
        drops: "COUNT@ROUND" each.
        bits, dropout, corrupted, graph, masking, server, key_agreement: as in `Encoding` and `plan`.
        progress: show a progress bar on stderr (needs rich).
    Raises:
        EncodingError, PlanError, ValueError: the parameters do not work.
        ThresholdError: too many dropped out.
    """
    codec = Encoding(dimension=dimension, clip=1.0, bits=bits, clients=clients)
    plan = make_plan(
        codec,
        dropout=dropout,
        corrupted=corrupted,
        graph=graph,
        masking=masking,
        server=server,
        key_agreement=key_agreement,
    )
    dropouts = parse_drops(drops, plan)
    expected = np.zeros(codec.length, dtype=np.uint64)
    trace = Trace()

    def vector(client_id: int) -> Words:
        rng = np.random.default_rng(client_id)
        encoded = codec.encode(rng.uniform(-1, 1, dimension).astype(np.float32)).vector
        if dropouts.get(client_id) in {None, "consistency_check", "unmask", "decrypt"}:
            np.add(expected, encoded, out=expected)
        return encoded

    start = time.perf_counter()
    rounds = steps_of(plan.masking, server)
    with _watched(clients * len(rounds), shown=progress) as observers:
        total = simulate(plan, vector, dropouts=dropouts, observers=[trace, *observers])
    seconds = time.perf_counter() - start
    modulus_mask = np.uint64((1 << codec.modulus_bits) - 1)
    steps = tuple(_step_cost(step, trace) for step in rounds)
    return RoundCost(
        plan=plan,
        steps=steps,
        seconds=seconds,
        exact=bool(np.array_equal(total.vector, expected & modulus_mask)),
        survivors=len(total.survivors),
        upload_over_float32=sum(step.bytes_up for step in steps) / (FLOAT32_BYTES * dimension),
    )


def _step_cost(step: str, trace: Trace) -> StepCost:
    answers = trace.messages[step, "up"]
    return StepCost(
        step=step,
        client_seconds=trace.seconds.get((step, "client"), 0.0) / max(answers, 1),
        server_seconds=trace.seconds.get((step, "server"), 0.0),
        bytes_up=trace.bytes[step, "up"] / max(answers, 1),
        bytes_down=trace.bytes[step, "down"] / max(trace.messages[step, "down"], 1),
        clients=answers,
    )


@contextmanager
def _watched(messages: int, *, shown: bool) -> Iterator[list[Observer]]:
    """Show a progress bar that moves with every client's answer."""
    if not shown:
        yield []
        return
    from rich.console import Console  # noqa: PLC0415 -- needs the [cli] extra
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=messages)

        class Bar:
            def on_start(self, setup: Setup) -> None:
                del setup

            def on_message(self, step: str, direction: Direction, client_id: ClientId, data: bytes) -> None:
                del client_id, data
                if direction == "up":
                    progress.update(task, advance=1, description=step)

            def on_work(self, step: str, role: Literal["client", "server"], seconds: float) -> None:
                del step, role, seconds

        yield [Bar()]

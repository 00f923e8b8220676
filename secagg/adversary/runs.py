"""Runs a liar and reports what came of it."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from secagg.adversary.liar import Outcome
from secagg.adversary.opening import MASK_KEY, SEED, holders_of_both, opened_sums, rebuilt_secrets
from secagg.adversary.stage import ALLY, CLIENTS, LIAR, STEPS, Stage
from secagg.encoding.packing import reduce
from secagg.errors import SecAggError
from secagg.masking.messages import UnmaskShares
from secagg.server_session import Server
from secagg.wire import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from secagg.adversary.liar import Liar

__all__ = ["run_liar"]

Result = TypeVar("Result")


def run_liar(liar: Liar) -> Outcome:
    """Run one round with fresh identities in which this liar lies.

    Returns: what honest parties raised, and what the server and the liar could open; nothing of it is taken from the
        liar's expectation.
    """
    return _lying_server(liar) if liar.who == "server" else _lying_client(liar)


def _lying_server(liar: Liar) -> Outcome:
    stage = Stage(puppet=ALLY if liar.ally else "", models=liar.models)
    began: int | None = None
    for step in ("setup", *STEPS, "afterwards"):
        outbox = stage.requests(step)
        if step in liar.server_lies:
            outbox = liar.server_lies[step](stage, outbox)
            began = len(stage.exchanges) if began is None else began
        for client, frames in outbox.items():
            for frame in frames if _speaks(liar, client, step) else ():
                stage.deliver(step, client, frame)
    return _outcome(liar, stage, began or 0, "none")


def _lying_client(liar: Liar) -> Outcome:
    stage = Stage(puppet=LIAR, models=liar.models)
    server = Server(stage.setup)
    began: int | None = None
    for step in STEPS:
        outbox = _attempt(stage, server.close_round)
        if outbox is None:
            break
        for client in CLIENTS:
            request = outbox.get(client, b"")
            if client == LIAR and step in liar.client_lies:
                began = len(stage.exchanges) if began is None else began
                frames = liar.client_lies[step](stage, request)
            elif request and _speaks(liar, client, step):
                stage.deliver(step, client, request)
                frames = [stage.answers[step][client]] if client in stage.answers[step] else []
            else:
                frames = []
            for frame in frames:
                _attempt(stage, partial(server.receive, client, frame))
    else:
        _attempt(stage, server.close_round)
    return _outcome(liar, stage, began or 0, _total(stage, server))


def _speaks(liar: Liar, client: str, step: str) -> bool:
    return client not in liar.silent or step not in (*STEPS[STEPS.index(liar.silent[client]) :], "afterwards")


def _attempt(stage: Stage, call: Callable[[], Result]) -> Result | None:
    """Let the honest server act; keep its error."""
    try:
        return call()
    except SecAggError as error:
        stage.blame("server", error)
        return None


def _total(stage: Stage, server: Server) -> Literal["exact", "wrong", "none"]:
    if server.round != "done":
        return "none"
    total = server.total()
    expected = np.zeros_like(total.vector)
    for client in total.survivors:
        expected += stage.vectors[str(client)]
    reduce(expected, stage.setup.plan.modulus_bits)
    return "exact" if np.array_equal(total.vector, expected) else "wrong"


def _outcome(liar: Liar, stage: Stage, began: int, total: Literal["exact", "wrong", "none"]) -> Outcome:
    revealed = {
        each.client
        for each in stage.exchanges[began:]
        if each.client != stage.puppet and kind_of(each.answer) == UnmaskShares.KIND
    }
    answers: dict[tuple[str, int], set[bytes]] = defaultdict(set)
    for each in stage.exchanges:
        answers[each.client, kind_of(each.answer)].add(each.answer)
    changed = {client for (client, _), given in answers.items() if len(given) > 1 and client != stage.puppet}
    secrets = rebuilt_secrets(stage)
    both = [client for client, found in secrets.items() if client != stage.puppet and {SEED, MASK_KEY} <= found.keys()]
    return Outcome(
        liar=liar.name,
        reactions=tuple(stage.reactions),
        revealed="".join(sorted(revealed)),
        changed="".join(sorted(changed)),
        two_kinds=holders_of_both(stage),
        both="".join(sorted(both)),
        opened=opened_sums(stage),
        total=total,
    )

"""Damaged messages sent to `secagg.Client` and `secagg.Server`, in whole rounds that then end with the exact sum.

The pure steps are fuzzed by `secagg.testing.fuzz_steps`; here it is the objects around them whose state must survive.
Everything sent is damage, so each message must be refused. Rounds draw their keys from the operating system, so a seed
fixes what is done to the messages, not their bytes.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

from secagg.errors import SecAggError
from secagg.server_session import Server
from secagg.session import Client
from secagg.testing.fuzz_steps import ROUNDS, FuzzError, Tally
from secagg.testing.mutations import Dice, Target, damaged
from secagg.testing.scripted import Script
from secagg.transitions import protocol_of, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from secagg.params import ClientId
    from secagg.testing.mutations import Sent

__all__ = ["fuzz_sessions"]

_EACH = 24
"""Messages to one party before the genuine one."""
_REMEMBERED = 64


def fuzz_sessions(*, messages: int, seed: int, progress: Callable[[int], None] | None = None) -> Tally:
    """Send damaged messages to every party of one round after the other.

    Args:
        messages: how many at least; rounded up to whole rounds.
        seed: fixes what is done to the messages.
        progress: told the number sent so far, after each round.
    Raises:
        FuzzError: something else than a refusal came out, damage was accepted, or the sum is not exact.
    """
    dice, tally = Dice(seed), Tally()
    seen: list[bytes] = []
    for number in itertools.count():
        if tally.messages >= messages:
            return tally
        name, plan, _ = ROUNDS[number % len(ROUNDS)]
        script = Script(plan=plan, round=number, session=b"session " * 2, label=str(seed))
        _Round(name, script, seen[-_REMEMBERED:], dice, tally).run(seen)
        del seen[:-_REMEMBERED]
        if progress is not None:
            progress(tally.messages)
    raise AssertionError


class _Round:
    """One round whose parties are all sent damage besides the genuine messages."""

    def __init__(self, name: str, script: Script, seen: list[bytes], dice: Dice, tally: Tally) -> None:
        self._name, self._script, self._dice, self._tally = name, script, dice, tally
        self._setup = script.setup()
        self._server = Server(self._setup)
        self._clients: dict[ClientId, Client] = {
            i: Client(self._setup, i, script.vector(i), identity=script.identity(i), extras=script.extras(i) or None)
            for i in range(script.plan.clients)
        }
        self._others = tuple(seen)
        table = protocol_of(script.plan.masking, script.plan.server).server.values()
        kinds = [step.collects for step in table if step.collects is not None]
        self._tails = {kind.KIND: kind.vector_bytes(self._setup.plan) for kind in kinds}

    def run(self, seen: list[bytes]) -> None:
        """Run it to its sum, and add its messages to what later rounds replay."""
        for step in steps_of(self._script.plan.masking, self._script.plan.server):
            for i, request in self._server.close_round().items():
                self._damage(f"client/{step}/{i}", request, self._clients[i].receive)
                answer = self._clients[i].receive(request)
                self._damage(f"server/{step}/{i}", answer, partial(self._server.receive, i))
                self._server.receive(i, answer)
                seen += (request, answer)
        if self._server.close_round():
            msg = f"{self._name}: the round does not end"
            raise FuzzError(msg)
        rows = [self._script.vector(i).tolist() for i in range(self._script.plan.clients)]
        expected = [sum(column) % (1 << self._script.plan.modulus_bits) for column in zip(*rows, strict=True)]
        if self._server.total().vector.tolist() != expected:
            msg = f"{self._name}: after damaged messages the sum is not exact"
            raise FuzzError(msg)
        self._tally.rounds += 1

    def _damage(self, where: str, genuine: bytes, receive: Callable[[Sent], object]) -> None:
        target = Target(genuine, self._tails.get(genuine[1], 0), self._others)
        for _ in range(_EACH):
            data = damaged(target, self._dice)
            try:
                receive(data)
            except SecAggError as error:
                self._tally.refused[f"sessions/{self._name}/{where}", type(error).__name__] += 1
            except TypeError as error:
                if isinstance(data, bytes):
                    raise self._finding(where, data, error) from error
                self._tally.refused[f"sessions/{self._name}/{where}", "TypeError"] += 1
            except Exception as error:
                raise self._finding(where, data, error) from error
            else:
                raise self._finding(where, data, "damage was accepted")
        self._tally.messages += _EACH

    def _finding(self, where: str, data: Sent, what: object) -> FuzzError:
        shown = data.hex() if isinstance(data, bytes) else repr(data)
        return FuzzError(f"sessions/{self._name}/{where}: {what!r}\n  by {shown}")

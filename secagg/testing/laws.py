"""What any pair of client and server must do, whatever is inside: a law-suite for other people's stacks, and for ours.

    from secagg.testing.laws import Subject, check_laws

    check_laws(Subject(clients=4, threshold=3, length=5, modulus_bits=12, steps=4, sums_after=2, make=my_round))

`my_round` takes every client's vector and returns fresh parties: clients by number, and a server, with the interface of
`secagg.Client` and `secagg.Server`. A law that does not hold raises `LawError`, with the case that breaks it.
Needs Hypothesis (the extra `testing`).
"""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import numpy as np
from hypothesis import HealthCheck, given, settings

from secagg.errors import SecAggError, ThresholdError
from secagg.testing.mutations import Dice, Target, damaged
from secagg.testing.strategies import inputs_of, rounds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from secagg.encoding.packing import Words
    from secagg.params import ClientId

__all__ = [
    "ClientLike",
    "LawError",
    "Parties",
    "ServerLike",
    "Subject",
    "check_laws",
    "damage_changes_nothing",
    "every_survivor_set_sums_exactly",
    "finished_parties_refuse",
    "messages_come_once",
    "random_rounds_sum_exactly",
]

_DAMAGED = 12
_MEMORY = 1 << 20
_SHOWN = 2_000


class LawError(AssertionError):
    """A law does not hold; the text says which, and for which case."""


class ClientLike(Protocol):
    """One client's side of a round."""

    def receive(self, message: bytes, /) -> bytes:
        """Take the server's message and return the answer."""


class TotalLike(Protocol):
    """What the server learns."""

    @property
    def vector(self) -> Words:
        """The sum modulo 2^modulus_bits."""

    @property
    def survivors(self) -> tuple[ClientId, ...]:
        """Whose vectors are in it."""


class ServerLike(Protocol):
    """The server's side of a round."""

    def receive(self, client_id: ClientId, message: bytes, /) -> None:
        """Take one client's message of the current round."""

    def close_round(self) -> Mapping[ClientId, bytes]:
        """End the round and return the next requests; nothing when the sum is ready."""

    def total(self) -> TotalLike:
        """Return the sum."""


class Parties(NamedTuple):
    """Fresh parties of one round: clients 0..n-1 and their server."""

    clients: Mapping[ClientId, ClientLike]
    server: ServerLike


Inputs: TypeAlias = "Mapping[int, Words]"
"""By client, its vector: (length,) uint64, in [0, 2^modulus_bits)."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A stack under test.

    Attributes:
        clients, length, modulus_bits: of its rounds.
        threshold: how many must take part in every step for the sum to come out.
        sums_after: the step, from 0, whose answer carries the vector: who answered it is in the sum.
        steps: requests that a client answers in a round.
        make: fresh parties, given every client's vector.
        refusal: what its parties raise to refuse a message.
        too_few: what they raise where too few remain.
        finishers: given fresh parties and whose vectors are in the sum, who has to answer every later step; None:
            nobody in particular.
    """

    clients: int
    threshold: int
    length: int
    modulus_bits: int
    steps: int
    sums_after: int
    make: Callable[[Inputs], Parties]
    refusal: tuple[type[Exception], ...] = (SecAggError, TypeError)
    too_few: tuple[type[Exception], ...] = (ThresholdError,)
    finishers: Callable[[Parties, set[int]], set[int]] | None = None


def check_laws(subject: Subject, *, examples: int = 50) -> None:
    """Check every law.

    Args:
        examples: random rounds to try, besides the exhaustive ones.
    Raises:
        LawError: one does not hold.
    """
    if (subject.steps + 1) ** subject.clients <= _EXHAUSTIBLE:
        every_survivor_set_sums_exactly(subject)
    random_rounds_sum_exactly(subject, examples=examples)
    damage_changes_nothing(subject)
    messages_come_once(subject)
    finished_parties_refuse(subject)


_EXHAUSTIBLE = 2_000
"""Ways to drop out that are still all tried."""


def every_survivor_set_sums_exactly(subject: Subject) -> None:
    """Whoever drops out at whichever step: the sum of the survivors' vectors is exact, or too few is said.

    Raises:
        LawError: otherwise.
    """
    inputs = _some_inputs(subject)
    for last in product(range(subject.steps + 1), repeat=subject.clients):
        _sums_exactly(subject, inputs, dict(enumerate(last)))


def random_rounds_sum_exactly(subject: Subject, *, examples: int = 50) -> None:
    """The same for any vectors, extreme ones too.

    Raises:
        LawError: otherwise.
    """

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(inputs_of(subject.clients, subject.length, subject.modulus_bits), rounds_of(subject.clients, subject.steps))
    def law(inputs: Inputs, last: dict[int, int]) -> None:
        _sums_exactly(subject, inputs, last)

    law()


def damage_changes_nothing(subject: Subject, *, seed: int = 0) -> None:
    """Damaged, foreign and oversized messages are refused, in little memory, and the sum is exact afterwards.

    Raises:
        LawError: otherwise.
    """
    inputs, dice = _some_inputs(subject), Dice(seed)
    earlier = tuple(_frames(subject, inputs))
    parties = subject.make(inputs)
    for step in range(subject.steps):
        for client, request in parties.server.close_round().items():
            where = f"step {step}, client {client}"
            _refused(subject, parties.clients[client].receive, Target(request, 0, earlier), dice, f"{where} receives")
            answer = parties.clients[client].receive(request)
            _refused(
                subject, partial(parties.server.receive, client), Target(answer, 0, earlier), dice, f"{where} sends"
            )
            parties.server.receive(client, answer)
    parties.server.close_round()
    _compare(subject, inputs, set(range(subject.clients)), parties.server, "after damaged messages")


def messages_come_once(subject: Subject) -> None:
    """No request gets two answers; the server refuses an answer twice, and another client's, and neither harms the sum.

    Raises:
        LawError: otherwise.
    """
    inputs = _some_inputs(subject)
    parties = subject.make(inputs)
    for step in range(subject.steps):
        requests = parties.server.close_round()
        answers = {i: parties.clients[i].receive(request) for i, request in requests.items()}
        wrong = dict(zip(answers, [*list(answers.values())[1:], b""], strict=True))
        for client, answer in answers.items():
            case = f"step {step}, client {client}"
            _same_or_refused(subject, parties.clients[client], requests[client], answer, f"{case}: a request twice")
            _must_refuse(subject, partial(parties.server.receive, client, wrong[client]), f"{case}: another's answer")
            parties.server.receive(client, answer)
            _must_refuse(subject, partial(parties.server.receive, client, answer), f"{case}: an answer twice")
    parties.server.close_round()
    _compare(subject, inputs, set(range(subject.clients)), parties.server, "after repeated messages")


def finished_parties_refuse(subject: Subject) -> None:
    """After its last answer a client answers nothing else; after the sum a server takes nothing more.

    Raises:
        LawError: otherwise.
    """
    inputs = _some_inputs(subject)
    parties = subject.make(inputs)
    seen: list[tuple[ClientId, bytes, bytes]] = []
    for _ in range(subject.steps):
        for i, request in parties.server.close_round().items():
            seen.append((i, request, parties.clients[i].receive(request)))
            parties.server.receive(i, seen[-1][2])
    parties.server.close_round()
    for i, request, answer in seen:
        _same_or_refused(subject, parties.clients[i], request, answer, "a finished client is asked again")
        _must_refuse(subject, partial(parties.clients[i].receive, answer), "a finished client is sent something else")
        _must_refuse(subject, partial(parties.server.receive, i, answer), "a finished server is sent an answer")


def _sums_exactly(subject: Subject, inputs: Inputs, last: Mapping[int, int]) -> None:
    """Run a round in which client i answers the first last[i] requests only."""
    parties = subject.make(inputs)
    case = f"clients answering {dict(last)} of {subject.steps} requests"
    reach = [{i for i, count in last.items() if count > step} for step in range(subject.steps)]
    enough = all(len(members) >= subject.threshold for members in reach)
    if enough and subject.finishers is not None:
        needed = subject.finishers(parties, reach[subject.sums_after])
        enough = all(needed <= members for members in reach[subject.sums_after :])
    try:
        for step in range(subject.steps):
            for i, request in parties.server.close_round().items():
                if i in reach[step]:
                    parties.server.receive(i, parties.clients[i].receive(request))
        parties.server.close_round()
    except subject.too_few as error:
        if enough:
            msg = f"{case}: enough remain, yet {error!r}"
            raise LawError(msg) from error
        return
    except Exception as error:
        msg = f"{case}: {error!r}"
        raise LawError(msg) from error
    if not enough:
        msg = f"{case}: a sum came out although fewer than {subject.threshold} remain, or not all that it needs"
        raise LawError(msg)
    _compare(subject, inputs, reach[subject.sums_after], parties.server, case)


def _compare(subject: Subject, inputs: Inputs, survivors: set[int], server: ServerLike, case: str) -> None:
    total = server.total()
    rows = [[int(value) for value in inputs[i]] for i in sorted(survivors)]
    expected = [sum(column) % (1 << subject.modulus_bits) for column in zip(*rows, strict=True)]
    if [int(value) for value in total.vector] != expected or set(total.survivors) != survivors:
        msg = f"{case}: the sum is not that of the vectors of {sorted(survivors)}"
        raise LawError(msg)


def _refused(subject: Subject, receive: Callable[[bytes], object], target: Target, dice: Dice, where: str) -> None:
    for _ in range(_DAMAGED):
        data = damaged(target, dice, any_format=True)
        tracemalloc.start()
        try:
            _must_refuse(subject, partial(receive, data), where)
            used = tracemalloc.get_traced_memory()[1]
        except LawError as error:
            msg = f"{error}: {_shown(data)}"
            raise LawError(msg) from error
        finally:
            tracemalloc.stop()
        if used > _MEMORY:
            msg = f"{where}: {used} bytes of memory to refuse {_shown(data)}"
            raise LawError(msg)


def _must_refuse(subject: Subject, call: Callable[[], object], case: str) -> None:
    try:
        call()
    except subject.refusal:
        return
    except Exception as error:
        msg = f"{case}: not a refusal but {error!r}"
        raise LawError(msg) from error
    msg = f"{case}: accepted"
    raise LawError(msg)


def _same_or_refused(subject: Subject, client: ClientLike, request: bytes, answer: bytes, case: str) -> None:
    """A request that was answered gets the very same bytes again, or none: another answer would give secrets away."""
    try:
        again = client.receive(request)
    except subject.refusal:
        return
    except Exception as error:
        msg = f"{case}: not a refusal but {error!r}"
        raise LawError(msg) from error
    if again != answer:
        msg = f"{case}: another answer"
        raise LawError(msg)


def _frames(subject: Subject, inputs: Inputs) -> list[bytes]:
    """Every message of one more round, to splice with."""
    parties, seen = subject.make(inputs), []
    for _ in range(subject.steps):
        for i, request in parties.server.close_round().items():
            answer = parties.clients[i].receive(request)
            parties.server.receive(i, answer)
            seen += [request, answer]
    return seen


def _some_inputs(subject: Subject) -> Inputs:
    return {i: _vector(subject, i) for i in range(subject.clients)}


def _vector(subject: Subject, client: int) -> Words:
    top = (1 << subject.modulus_bits) - 1
    vector: Words = np.array([(top - 7 * client * at) % (top + 1) for at in range(subject.length)], dtype=np.uint64)
    return vector


def _shown(data: object) -> str:
    shown = f"bytes.fromhex({data.hex()!r})" if isinstance(data, bytes) else repr(data)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}... ({len(shown)} characters)"

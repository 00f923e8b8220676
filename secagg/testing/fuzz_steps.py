"""Mutated messages over every pure step of every protocol.

Three things must hold, whatever arrives: only errors of `SecAggError`'s tree come out (and `TypeError` for what is not
bytes), memory stays bounded by the size of a message, and a refused message changes nothing: the genuine one is
accepted afterwards, gives the very bytes it gave before, and the sum is exact. Damage must be refused; a well-formed
lie may be accepted, and then the steps after it must hold out as well.

Each lane is one step of one party in a round with fixed randomness, so that a lane's name and a message reproduce what
was found (`reproduce`).
"""

from __future__ import annotations

import tracemalloc
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from secagg.errors import SERVER, SecAggError
from secagg.lattice.parameters import choose
from secagg.params import Plan
from secagg.rounds import Outcome
from secagg.testing.liars import repair_of_answer, repair_of_request
from secagg.testing.mutations import Dice, Sent, Target, damaged, lie
from secagg.testing.scripted import Script, State, arrive, deliver, fresh, play
from secagg.transitions import protocol_of
from secagg.wire import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from secagg.testing.scripted import ClientVisit, ServerVisit, Transcript
    from secagg.wire import Message

__all__ = ["ROUNDS", "FuzzError", "Lane", "Tally", "fuzz_steps", "lanes", "reproduce"]

_BATCH = 64
"""Messages sent to one state before the genuine one."""
_TRACED = 8
"""One batch in so many is run with its memory measured."""
_MEMORY = 1 << 16
_MEMORY_PER_BYTE = 8
_FOLLOWED = 4
"""One accepted lie in so many is followed into the steps after it."""


ROUNDS: tuple[tuple[str, Plan, dict[int, str]], ...] = (
    ("complete", Plan(clients=4, length=5, modulus_bits=12, threshold=3, degree=3), {3: "masked_input"}),
    ("sparse", Plan(clients=6, length=3, modulus_bits=8, threshold=4, degree=4, dropouts=1), {5: "masked_input"}),
    (
        "malicious",
        Plan(clients=4, length=5, modulus_bits=12, threshold=3, degree=3, server="malicious", corrupted=1),
        {3: "masked_input"},
    ),
    (
        "hybrid",
        Plan(
            clients=4,
            length=3,
            modulus_bits=12,
            threshold=3,
            degree=3,
            server="malicious",
            key_agreement="x25519+ml-kem-768",
        ),
        {3: "masked_input"},
    ),
    (
        "lattice",
        Plan(
            clients=4,
            length=5,
            modulus_bits=12,
            threshold=3,
            degree=3,
            masking="lattice",
            lattice=choose(length=5, digit_bits=14, clients=4),
        ),
        {3: "masked_input"},
    ),
    (
        "extras",
        Plan(clients=5, length=3, modulus_bits=12, threshold=4, degree=4, server="malicious", corrupted=2, extras=1),
        {},
    ),
    ("plain", Plan(clients=3, length=5, modulus_bits=12, threshold=1, degree=2, masking="plain"), {2: "upload"}),
)
"""Name, plan and dropouts of the rounds that are fuzzed."""


class FuzzError(AssertionError):
    """A message did what no message may do. The text says how to reproduce it."""


@dataclass(slots=True)
class Tally:
    """What a run saw.

    Attributes:
        messages: how many were sent.
        refused: by lane and class of error.
        accepted: by lane.
        rounds: genuine rounds that were checked afterwards.
        peak: the most bytes that handling one message took beyond what was held before.
    """

    messages: int = 0
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    peak: int = 0

    def add(self, other: Tally) -> None:
        """Add another run's."""
        self.messages += other.messages
        self.refused.update(other.refused)
        self.accepted.update(other.accepted)
        self.rounds += other.rounds
        self.peak = max(self.peak, other.peak)


class Lane:
    """One step of one party, and what to send it.

    Attributes:
        name: "protocol/side/round/position".
        target: the genuine message to spoil.
    """

    def __init__(self, name: str, target: Target, party: ClientParty | ServerParty) -> None:
        self.name = name
        self.target = target
        self._party = party

    def run(self, dice: Dice, tally: Tally, *, messages: int, traced: bool = False) -> None:
        """Send a batch of mutated messages and then the genuine one.

        Raises:
            FuzzError: something else than a refusal came out, damage was accepted, memory was not bounded, or the
                genuine message has another effect than before.
        """
        self._party.begin(dice)
        self._party.attempt(self.target.genuine, follow=True)  # loads what is loaded late
        self._party.begin(dice)
        if traced:
            tracemalloc.start()
        try:
            for _ in range(messages):
                spoil = dice.choose((damaged, lie))
                data = spoil(self.target, dice)
                self.send(data, tally, must_fail=spoil is damaged, follow=dice.chance(_FOLLOWED), traced=traced)
        finally:
            tracemalloc.stop()
        try:
            self._party.finish()
        except (SecAggError, AssertionError) as error:
            msg = f"{self.name}: after {messages} refused messages the genuine round went wrong: {error}"
            raise FuzzError(msg) from error
        tally.messages += messages
        tally.rounds += 1

    def send(self, data: Sent, tally: Tally, *, must_fail: bool, follow: bool, traced: bool = False) -> None:
        """Send one message; with `follow`, go on from where it leads if it is accepted.

        Raises:
            FuzzError: as above.
        """
        if traced:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
        try:
            self._party.attempt(data, follow=follow)
        except SecAggError as error:
            tally.refused[self.name, type(error).__name__] += 1
        except TypeError as error:
            if isinstance(data, bytes):
                raise self._finding(data, f"{type(error).__name__}: {error}") from error
            tally.refused[self.name, "TypeError"] += 1
        except Exception as error:
            raise self._finding(data, f"{type(error).__name__}: {error}") from error
        else:
            if must_fail:
                raise self._finding(data, "damage was accepted")
            tally.accepted[self.name] += 1
        if traced:
            used = tracemalloc.get_traced_memory()[1] - before
            tally.peak = max(tally.peak, used)
            if used > _MEMORY + _MEMORY_PER_BYTE * len(self.target.genuine):
                raise self._finding(data, f"{used} bytes of memory for a message of {len(data)}")

    def _finding(self, data: Sent, what: str) -> FuzzError:
        shown = f"bytes.fromhex({data.hex()!r})" if isinstance(data, bytes) else repr(data)
        return FuzzError(f"{what}\n  secagg.testing.fuzz_steps.reproduce({self.name!r}, {shown})")


class ClientParty:
    """A client in one state. States are frozen, so every message meets the same one; an accepted lie is followed on."""

    def __init__(self, transcript: Transcript, step: str, position: int) -> None:
        self._visit: ClientVisit = transcript.clients[step][position]
        self._table = protocol_of(transcript.script.plan.masking, transcript.script.plan.server).client
        names = [each.round for each in self._table.values()]
        following = names[names.index(step) + 1 :]
        self._next = [transcript.clients[name][position] for name in following if position in transcript.clients[name]]
        self.genuine = self._visit.request

    def begin(self, dice: Dice) -> None:
        """Nothing to set up."""

    def attempt(self, data: Sent, *, follow: bool) -> None:
        """Take one message; raises what the step raises, nothing if it is accepted."""
        visit = self._visit
        state, _ = self._step(visit, visit.state, data)
        if not follow:
            return
        for later in self._next:
            try:
                state, _ = self._step(later, state, later.request)
            except SecAggError:
                return

    def finish(self) -> None:
        """The genuine request gets the answer it got before."""
        visit = self._visit
        state, answer = self._step(visit, visit.state, visit.request, stored=visit.answer)
        if answer != self._visit.answer or type(state) is not type(self._visit.following):
            msg = "another answer to the genuine request"
            raise AssertionError(msg)

    @staticmethod
    def _step(visit: ClientVisit, state: State, data: Sent, stored: bytes | None = None) -> tuple[State, bytes]:
        step = visit.step
        message = deliver(step.awaits, data, state.setup, state.position, step.round, SERVER)
        if stored is None or step.again is None:
            following, answer = step.step(state, message, visit.random)
        else:
            following, answer = step.again(state, message, visit.random, stored)
        return following, encode(answer, state.setup)


class ServerParty:
    """The server in one round, with one client's message still to come. Refused messages all meet one state object."""

    def __init__(self, transcript: Transcript, step: str, position: int) -> None:
        self._transcript = transcript
        self._visit: ServerVisit = transcript.server[step]  # its inbox is what closed it
        self._position = position
        self.genuine = self._visit.inbox[position]

    def begin(self, dice: Dice) -> None:
        """Start the round anew; some of the other clients have answered before, the others will after."""
        self._before = [i for i in self._visit.inbox if i != self._position and dice.chance(2)]
        self._state = fresh(self._visit.state)
        self._parsed: dict[int, Any] = {}
        for i in self._before:
            self._state, self._parsed[i] = arrive(self._visit.step, self._state, i, self._visit.inbox[i])
        self._kept = fresh(self._state)

    def attempt(self, data: Sent, *, follow: bool) -> None:
        """Take one message; raises what the step raises, nothing if it is accepted."""
        state, parsed = arrive(self._visit.step, self._state, self._position, data)
        clean, _ = arrive(self._visit.step, fresh(self._kept), self._position, data)
        if _inside(state) != _inside(clean):
            msg = "a message refused earlier had changed the state"
            raise AssertionError(msg)
        self._state = fresh(self._kept)  # one accepted lie does not spoil the next message's chances
        if not follow:
            return
        try:
            self._close(state, {**self._parsed, self._position: parsed})
        except SecAggError:
            return

    def finish(self) -> None:
        """The genuine messages are accepted and lead where they led before."""
        state, parsed = arrive(self._visit.step, self._state, self._position, self.genuine)
        following, outbox = self._close(state, {**self._parsed, self._position: parsed})
        if outbox != self._visit.outbox or _inside(following) != _inside(self._visit.following):
            msg = "other requests or another state than before"
            raise AssertionError(msg)
        if isinstance(following, Outcome) and not _exact(self._transcript, following):
            msg = "the sum is not exact"
            raise AssertionError(msg)

    def _close(self, state: State, parsed: dict[int, Any]) -> tuple[State, dict[int, bytes]]:
        """Let everyone else answer, and close the round."""
        for i in self._visit.inbox:
            if i not in parsed:
                state, parsed[i] = arrive(self._visit.step, state, i, self._visit.inbox[i])
        ordered = {i: parsed[i] for i in self._visit.inbox}
        following, messages = self._visit.step.close(state, ordered)
        return following, {i: encode(message, self._transcript.setup) for i, message in messages.items()}


def lanes() -> list[Lane]:
    """Return every step of every party in five rounds: complete, sparse, malicious, hybrid and plain."""
    made: list[Lane] = []
    for name, plan, dropouts in ROUNDS:
        transcript, elsewhere = (play(Script(plan=plan, dropouts=dropouts, label="fuzz", round=i)) for i in (0, 1))
        for (where, kind, data), (_, _, foreign) in zip(_frames(transcript), _frames(elsewhere), strict=True):
            side, step, position = where
            party: ClientParty | ServerParty
            if side == "client":
                party, repair = ClientParty(transcript, step, position), repair_of_request(transcript, step, position)
            else:
                party, repair = ServerParty(transcript, step, position), repair_of_answer(transcript, step, position)
            others = (foreign, *(other for there, _, other in _frames(transcript) if there != where))
            target = Target(data, kind.vector_bytes(transcript.setup.plan), others, repair)
            made.append(Lane(f"{name}/{side}/{step}/{position}", target, party))
    return made


def _frames(transcript: Transcript) -> Iterator[tuple[tuple[str, str, int], type[Message], bytes]]:
    """Yield every message of a round: which party takes it in which step, its kind, and its frame."""
    for step, visits in transcript.clients.items():
        for position, visit in visits.items():
            yield ("client", step, position), visit.step.awaits, visit.request
    for step, collecting in transcript.server.items():
        for position, data in collecting.inbox.items():
            if collecting.step.collects is not None:
                yield ("server", step, position), collecting.step.collects, data


def _inside(state: State) -> tuple[object, object]:
    """Return what a server's step may change in place, to compare."""
    total = getattr(getattr(state, "unmasking", state), "total", None)
    return getattr(state, "owners", None), None if total is None else total.tolist()


def _exact(transcript: Transcript, outcome: Outcome) -> bool:
    plan, script = transcript.script.plan, transcript.script
    rows = [script.vector(i).tolist() for i in outcome.survivors]
    total: list[int] = outcome.vector.tolist()
    return total == [sum(column) % (1 << plan.modulus_bits) for column in zip(*rows, strict=True)]


def fuzz_steps(*, messages: int, seed: int, progress: Callable[[int], None] | None = None) -> Tally:
    """Send mutated messages over all lanes in turn.

    Args:
        messages: how many at least; rounded up to whole batches.
        seed: the same seed sends the same messages.
        progress: told the number sent so far, now and then.
    Raises:
        FuzzError: see above; says how to reproduce it.
    """
    dice, tally = Dice(seed), Tally()
    every = lanes()
    batch = 0
    while tally.messages < messages:
        lane = every[batch % len(every)]
        lane.run(dice, tally, messages=_BATCH, traced=dice.chance(_TRACED))
        batch += 1
        if progress is not None and batch % len(every) == 0:
            progress(tally.messages)
    return tally


def reproduce(name: str, data: Sent) -> Tally:
    """Send one message to one lane, as a finding says, and the genuine one after it.

    Raises:
        FuzzError: the finding is still there.
        KeyError: no such lane.
    """
    lane = {lane.name: lane for lane in lanes()}[name]
    dice, tally = Dice(0), Tally()
    lane.run(dice, tally, messages=0)
    lane.send(data, tally, must_fail=False, follow=True)
    return tally

"""A whole round over the pure steps, with fixed randomness, in which every state and every message is kept.

The same script gives the same bytes, always; with hybrid keys only if it is given the answers of round share_keys too.
It is for tests and vectors only: its randomness is public.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from secagg.errors import SERVER, DecodeError, RemoteProtocolError
from secagg.identity import Identity
from secagg.setups import Setup
from secagg.transitions import ClientStep, ServerStep, protocol_of
from secagg.wire import Message, decode, encode, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from secagg.encoding.packing import Words
    from secagg.params import ClientId, Plan
    from secagg.rounds import Outcome

__all__ = [
    "ClientVisit",
    "Pinned",
    "Script",
    "ServerVisit",
    "State",
    "Transcript",
    "answer",
    "arrive",
    "begun",
    "deliver",
    "fresh",
    "play",
]


State: TypeAlias = Any
"""A party's state: which one, the transition tables say."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """The least a directory can be: identities, and a digest that names it."""

    members: Mapping[ClientId, bytes]
    digest: bytes = bytes(32)


@dataclass(frozen=True, kw_only=True)
class Script:
    """All that decides a round.

    Attributes:
        plan, session, round, model: as in `Setup`; the roster is 0..n-1.
        dropouts: roster position -> the round from which nothing of it arrives any more.
        label: another label gives other randomness.
        shared: roster position -> the answer of round share_keys of an earlier play of the same script, to be given
            again: what hybrid keys encapsulate is drawn afresh otherwise.
    """

    plan: Plan
    session: bytes = bytes(range(16))
    round: int = 0
    model: bytes = b""
    dropouts: Mapping[int, str] = field(default_factory=dict)
    label: str = ""
    shared: Mapping[int, bytes] = field(default_factory=dict)

    def identity(self, position: int) -> Identity | None:
        """Return what a client signs with: the 32 bytes position + 1, over and over."""
        return Identity.from_private(bytes([position + 1]) * 32) if self.plan.server == "malicious" else None

    def setup(self) -> Setup:
        """Return what all parties agree on."""
        positions = range(self.plan.clients)
        pinned: dict[ClientId, bytes] = {i: identity.public for i in positions if (identity := self.identity(i))}
        return Setup(
            plan=self.plan,
            roster=Pinned(pinned) if pinned else positions,
            session=self.session,
            round=self.round,
            model=self.model,
            assume_honest_server=not pinned,
        )

    def vector(self, position: int) -> Words:
        """Return a client's vector: (length,) words in [0, 2^modulus_bits), from the label."""
        plan = self.plan
        numbers = [int.from_bytes(self.random(f"vector {i}", position)[:8], "little") for i in range(plan.length)]
        return np.array([number % (1 << plan.modulus_bits) for number in numbers], dtype=np.uint64)

    def extras(self, position: int) -> tuple[bytes, ...]:
        """Return a client's extra secrets: as many as the plan asks for, from the label."""
        return tuple(self.random(f"extra {number}", position) for number in range(self.plan.extras))

    def random(self, step: str, position: int) -> bytes:
        """Return the 32 bytes a client draws for one step."""
        return hashlib.sha256(f"secagg test randomness|{self.label}|{step}|{position}".encode()).digest()


@dataclass(frozen=True, slots=True)
class ClientVisit:
    """One client's step: the state before and after, what came, and what went."""

    step: ClientStep
    state: State
    request: bytes
    random: bytes
    following: State
    answer: bytes


@dataclass(frozen=True, slots=True)
class ServerVisit:
    """One round of the server: the state before it (use `fresh`), what arrived, what closing it gave and sent."""

    step: ServerStep
    state: State
    inbox: dict[int, bytes]
    following: State
    outbox: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Transcript:
    """Everything that happened, by round and position. `server` begins with the round "open"."""

    script: Script
    setup: Setup
    clients: dict[str, dict[int, ClientVisit]]
    server: dict[str, ServerVisit]
    outcome: Outcome


def play(script: Script) -> Transcript:
    """Run a script to its sum.

    Raises:
        ThresholdError: its dropouts leave too few.
    """
    setup = script.setup()
    protocol = protocol_of(script.plan.masking, script.plan.server)
    names = [step.round for step in protocol.client.values()]
    states: dict[int, State] = {
        i: begun(setup, i, script.vector(i), script.identity(i), script.extras(i)) for i in range(script.plan.clients)
    }
    state: State = next(iter(protocol.server))(setup)
    clients: dict[str, dict[int, ClientVisit]] = {name: {} for name in names}
    server: dict[str, ServerVisit] = {}
    inbox: dict[int, bytes] = {}
    while type(state) in protocol.server:
        step = protocol.server[type(state)]
        before = fresh(state)
        working = fresh(state)
        parsed: dict[int, Message | None] = {}
        for position, data in inbox.items():
            working, parsed[position] = arrive(step, working, position, data)
        following, messages = step.close(working, parsed)
        outbox = {position: encode(message, setup) for position, message in messages.items()}
        server[step.round] = ServerVisit(step, before, inbox, fresh(following), outbox)
        state, inbox = following, {}
        for position, request in outbox.items():
            visit = answer(protocol.client[type(states[position])], states[position], request, script)
            clients[visit.step.round][position] = visit
            states[position] = visit.following
            gone = script.dropouts.get(position)
            if gone is None or names.index(gone) > names.index(visit.step.round):
                inbox[position] = visit.answer
    return Transcript(script, setup, clients, server, state)


def begun(
    setup: Setup, position: int, vector: Words, identity: Identity | None, extras: tuple[bytes, ...] = ()
) -> State:
    """Return the state in which a client begins a round."""
    state = next(iter(protocol_of(setup.plan.masking, setup.plan.server).client))
    return state(setup, position, vector, identity, **({"extras": extras} if extras else {}))


def answer(step: ClientStep, state: State, request: bytes, script: Script) -> ClientVisit:
    """Have a client answer one request with the script's randomness."""
    random = script.random(step.round, state.position)
    message = deliver(step.awaits, request, state.setup, state.position, step.round, SERVER)
    if step.again is not None and state.position in script.shared:
        following, made = step.again(state, message, random, script.shared[state.position])
    else:
        following, made = step.step(state, message, random)
    return ClientVisit(step, state, request, random, following, encode(made, state.setup))


def arrive(step: ServerStep, state: State, position: int, data: bytes) -> tuple[State, Message | None]:
    """Have the server take one message: the state that it leads to, and what of it is kept for closing the round."""
    if step.collects is None:
        msg = f"nothing is collected in round {step.round}"
        raise ValueError(msg)
    message = deliver(step.collects, data, state.setup, position, step.round, state.setup.roster[position])
    if step.check is not None:
        step.check(state, message)
    return (state, message) if step.fold is None else (step.fold(state, message), None)


def deliver(
    awaits: type[Message], data: bytes, setup: Setup, position: int, step_round: str, sender: ClientId
) -> Message:
    """Read the message awaited on one client's channel, as a session does.

    Raises:
        DecodeError: not one, or one of another client's channel.
        RemoteProtocolError: a message of another kind.
    """
    if kind_of(data) != awaits.KIND:
        text = f"not the {awaits.NAME} awaited"
        raise RemoteProtocolError(text, round=step_round, culprits=[sender])
    message = decode(awaits, data, setup)
    if message.client != position:
        msg = f"this {awaits.NAME} belongs to another client's channel"
        raise DecodeError(msg)
    return message


def fresh(state: State) -> State:
    """Copy what a server's step may change in place: the owners of keys and the running sum."""
    if not is_dataclass(state) or isinstance(state, type):
        return state
    if hasattr(state, "unmasking"):
        return replace(state, unmasking=fresh(state.unmasking))
    if hasattr(state, "owners"):
        return replace(state, owners=dict(state.owners))
    if hasattr(state, "total"):
        sums = {name: getattr(state, name, None) for name in ("total", "ciphertexts")}
        return replace(state, **{name: value.copy() for name, value in sums.items() if value is not None})
    return state

"""Client and server objects for live transports: one transition table over the pure steps.

A session takes bytes in, gives bytes out, and knows no sockets, clocks or threads. A message that cannot be accepted
raises a typed error and changes nothing, so a caller may drop the message and go on. Randomness for each step comes
from the operating system. Sessions are for one thread at a time: a call that comes while another runs is refused, and a
session cannot be copied or pickled, since two copies would answer twice and give secrets away.

    while outbox := server.close_round():          # {client_id: bytes}; whoever does not answer has dropped out
        for client_id, request in outbox.items():
            server.receive(client_id, clients[client_id].receive(request))
    total = server.total()
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex

from secagg.errors import (
    SERVER,
    DecodeError,
    FaultyClientError,
    FaultyServerError,
    LocalProtocolError,
    PlanError,
    RemoteProtocolError,
    SecAggError,
    VersionError,
)
from secagg.rounds import Outcome
from secagg.transitions import protocol_of
from secagg.wire import Message, decode, encode, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secagg.encoding.packing import Words
    from secagg.identity import Identity
    from secagg.params import ClientId, Setup
    from secagg.rounds import Contribution

__all__ = ["Client", "Server", "Total"]


@dataclass(frozen=True, slots=True, eq=False)
class Total:
    """What the server learns from a round.

    Attributes:
        vector: (length,) unsigned, in [0, 2^modulus_bits): the sum modulo 2^modulus_bits.
        survivors: whose vectors are in it, in roster order.
        dropouts: whose are not.
        encoding: digest of the encoding it was summed under.
    """

    vector: Words = field(repr=False)
    survivors: tuple[ClientId, ...]
    dropouts: tuple[ClientId, ...]
    encoding: bytes = field(repr=False)


class _OneCallAtATime:
    """Refuses concurrent and re-entrant calls, copies, and calls after one that was interrupted halfway."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._broken = False

    @contextmanager
    def _call(self, step_round: str) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            text = "another call of this session is still running"
            raise LocalProtocolError(text, round=step_round)
        try:
            if self._broken:
                text = "an earlier call was interrupted halfway: this session cannot go on, start a new round"
                raise LocalProtocolError(text, round=step_round)
            yield
        finally:
            self._lock.release()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be copied or pickled."""
        msg = f"a {type(self).__name__} cannot be copied or pickled: it holds secrets that may be used once"
        raise TypeError(msg)


class Client(_OneCallAtATime):
    """One client's side of one round. Not thread-safe: a concurrent call is refused.

    Args:
        setup: what was agreed; equal at every party.
        client_id: this client's id, in the roster.
        contribution: the encoded vector, or a callable that makes it in round masked_input.
        identity: this client's, whose public key the roster pins; where the server is assumed honest, none.

    Raises:
        KeyError: the roster does not hold this client id.
        PlanError: no identity, another than the roster pins, or one that would not be used.
    """

    def __init__(
        self, setup: Setup, client_id: ClientId, contribution: Contribution, *, identity: Identity | None = None
    ) -> None:
        super().__init__()
        if client_id not in setup.roster:
            msg = f"client {client_id!r} is not in the roster"
            raise KeyError(msg)
        self._setup = setup
        self._position = setup.position(client_id)
        self._steps = protocol_of(setup.plan.masking, setup.plan.server).client
        _check_identity(setup, self._position, identity)
        self._state: Any = next(iter(self._steps))(setup, self._position, contribution, identity)

    @property
    def done(self) -> bool:
        """Whether this client has sent its last message."""
        return self._state is None

    def receive(self, message: bytes) -> bytes:
        """Take the server's message and return the answer.

        Raises:
            LocalProtocolError: this client has finished, or another call is running.
            RemoteProtocolError: not the message awaited (early, late or repeated).
            FaultyServerError, SuspectedPeerError: the message is not acceptable.
            VersionError: the server speaks another wire version.
            ThresholdError: too few clients remain.
        """
        with self._call("done" if self.done else self._steps[type(self._state)].round):
            if self.done:
                text = "this client has sent its last message; make a new Client for the next round"
                raise LocalProtocolError(text, round="done")
            awaits, step_round, step = self._steps[type(self._state)]
            try:
                parsed = _parse(message, awaits, self._setup, self._position, step_round, SERVER)
            except VersionError:
                raise
            except DecodeError as error:
                raise FaultyServerError(str(error), round=step_round, culprits=[SERVER]) from error
            state, answer = step(self._state, parsed, os.urandom(32))
            framed = encode(answer, self._setup)
            self._state = state
            return framed

    def __repr__(self) -> str:
        """Say who it is and what it waits for; never what it holds."""
        waiting = "done" if self.done else f"awaits {self._steps[type(self._state)].awaits.NAME}"
        return f"<secagg.Client {self._setup.roster[self._position]!r} {waiting}>"


class Server(_OneCallAtATime):
    """The server's side of one round. Not thread-safe: a concurrent call is refused.

    `close_round` first returns the invitations; then, round by round, hand in answers with `receive` and call
    `close_round` when everyone answered or you waited long enough. When it returns an empty dict, `total` is ready.

    Args:
        setup: what was agreed; equal at every party.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self._setup = setup
        self._steps = protocol_of(setup.plan.masking, setup.plan.server).server
        self._state: Any = next(iter(self._steps))(setup)
        self._inbox: dict[int, Message | None] = {}
        self._awaited: frozenset[int] = frozenset()

    @property
    def round(self) -> str:
        """The round being collected, or "done"."""
        return "done" if self._finished else self._steps[type(self._state)].round

    @property
    def waiting_for(self) -> tuple[ClientId, ...]:
        """Clients that were asked and have not answered, in roster order."""
        return tuple(self._setup.roster[position] for position in sorted(self._awaited - self._inbox.keys()))

    @property
    def _finished(self) -> bool:
        return isinstance(self._state, Outcome)

    def receive(self, client_id: ClientId, message: bytes) -> None:
        """Take one client's message of the current round.

        Raises:
            KeyError: no such client.
            LocalProtocolError: no round is open, another call is running, or one was interrupted halfway.
            RemoteProtocolError: this client was not asked, or answered already, or sends another round's message.
            FaultyClientError: the message is not acceptable.
            VersionError: the client speaks another wire version.
        """
        with self._call(self.round):
            self._receive(client_id, self._setup.position(client_id), message)

    def _receive(self, client_id: ClientId, position: int, message: bytes) -> None:
        step = self._steps.get(type(self._state))
        if step is None or step.collects is None:
            text = "no round is open: call close_round to begin, or make a new Server for the next round"
            raise LocalProtocolError(text, round=self.round)
        if position not in self._awaited:
            text = "not asked in this round: dropped out earlier"
            raise RemoteProtocolError(text, round=step.round, culprits=[client_id])
        if position in self._inbox:
            text = "answered this round already"
            raise RemoteProtocolError(text, round=step.round, culprits=[client_id])
        try:
            parsed = _parse(message, step.collects, self._setup, position, step.round, client_id)
        except VersionError:
            raise
        except DecodeError as error:
            raise FaultyClientError(str(error), round=step.round, culprits=[client_id]) from error
        if step.check is not None:
            step.check(self._state, parsed)
        if step.fold is None:
            self._inbox[position] = parsed
            return
        with self._in_place():
            self._state = step.fold(self._state, parsed)
            self._inbox[position] = None

    def close_round(self) -> dict[ClientId, bytes]:
        """End the current round with what has arrived and return the next messages; {} when the sum is ready.

        Raises:
            LocalProtocolError: the sum is ready already, another call is running, or one was interrupted halfway.
            ThresholdError: too few answered; the round stays open, so more answers can be received.
            RemoteProtocolError: what arrived does not fit together.
        """
        with self._call(self.round):
            if self._finished:
                text = "the sum is ready already"
                raise LocalProtocolError(text, round="done")
            step = self._steps[type(self._state)]
            with self._in_place():
                state, outbox = step.close(self._state, self._inbox)
                framed = {
                    self._setup.roster[client]: encode(message, self._setup) for client, message in outbox.items()
                }
                self._state, self._inbox, self._awaited = state, {}, frozenset(outbox)
            return framed

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        """Guard work on the running sum: our own errors come before it begins, anything else leaves it half done."""
        try:
            yield
        except SecAggError:
            raise
        except BaseException:
            self._broken = True
            raise

    def total(self) -> Total:
        """Return the sum.

        Raises:
            LocalProtocolError: it is not ready.
        """
        if not self._finished:
            text = "the sum is not ready: close_round has not returned {} yet"
            raise LocalProtocolError(text, round=self.round)
        outcome: Outcome = self._state
        present = set(outcome.survivors)
        roster = self._setup.roster
        return Total(
            outcome.vector,
            tuple(roster[position] for position in outcome.survivors),
            tuple(client_id for position, client_id in enumerate(roster) if position not in present),
            self._setup.plan.encoding,
        )

    def __repr__(self) -> str:
        """Say which round it collects and from how many."""
        return f"<secagg.Server {self.round} {len(self._inbox)}/{len(self._awaited)} answers>"


def _check_identity(setup: Setup, position: int, identity: Identity | None) -> None:
    if setup.plan.server != "malicious":
        if identity is not None:
            msg = "this plan assumes an honest server and would not use an identity: make it with server='malicious'"
            raise PlanError(msg)
        return
    if identity is None:
        msg = f"client {setup.roster[position]!r} signs against this server: pass its identity"
        raise PlanError(msg)
    if identity.public != setup.identities[position]:
        msg = f"the roster pins another identity for client {setup.roster[position]!r}"
        raise PlanError(msg)


def _parse(
    data: bytes, awaits: type[Message], setup: Setup, position: int, step_round: str, sender: ClientId
) -> Message:
    """Decode the one message that the current state awaits, on the channel of one client."""
    if kind_of(data) != awaits.KIND:
        text = f"sent message kind {data[1]} while {awaits.NAME} is awaited: early, late or repeated"
        raise RemoteProtocolError(text, round=step_round, culprits=[sender])
    message = decode(awaits, data, setup)
    if message.client != position:
        msg = f"this {awaits.NAME} belongs to another client's channel"
        raise DecodeError(msg)
    return message

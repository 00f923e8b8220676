"""The client object for live transports: one transition table over the pure steps.

A session takes bytes in, gives bytes out, and knows no sockets, clocks or threads. A message that cannot be accepted
raises a typed error and changes nothing, so a caller may drop the message and go on. Sessions are for one thread at a
time: a call that comes while another runs is refused, and a session cannot be copied or pickled, since two copies would
answer twice and give secrets away.

A client is a function of one master secret, drawn from the operating system when it begins, and of the requests it
answered: each step's randomness is derived from the secret, the setup, the step and the request. Only what hybrid keys
encapsulate to others is drawn besides; whoever resumes reads it from the answer. With a `Journal` the client survives
its process. A server needs none: it draws no secrets, and a sum cut short is lost, not leaked.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from secagg import tags
from secagg.encoding.packing import word_dtype
from secagg.errors import (
    SERVER,
    DecodeError,
    FaultyServerError,
    LocalProtocolError,
    PlanError,
    PolicyError,
    SecAggError,
    VersionError,
)
from secagg.masking.extras import check_given, made
from secagg.one_call import OneCallAtATime
from secagg.primitives.keys import KEY_BYTES, derive_key
from secagg.transitions import KEYED, protocol_of
from secagg.wire import decode_awaited, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from secagg.encoding.fixed_point import Encoded
    from secagg.encoding.packing import Words
    from secagg.history import History
    from secagg.homomorphic.ckks import CkksKeys
    from secagg.homomorphic.threshold import ThresholdKey
    from secagg.identity import Identity
    from secagg.journal import Journal
    from secagg.masking.extras import Extras
    from secagg.params import ClientId, Codec
    from secagg.policy import Policy
    from secagg.setups import Setup

__all__ = ["Client"]


@dataclass(frozen=True, slots=True, eq=False)
class _Memory:
    """What a client knows besides its state.

    Attributes:
        master: 32 bytes, from which all randomness is derived; empty at the end.
        request, answer: SHA-256 of the last request answered, and the answer; empty before the first.
    """

    master: bytes = field(repr=False)
    request: bytes = field(default=b"", repr=False)
    answer: bytes = field(default=b"", repr=False)


class Client(OneCallAtATime):
    """One client's side of one round. Not thread-safe: a concurrent call is refused.

    The request answered last gets the very same bytes whenever it comes again, so that an answer lost on the way can be
    fetched once more. No second answer to a step is ever made.

    Args:
        setup: what was agreed; equal at every party.
        client_id: this client's id, in the roster.
        contribution: the encoded vector, or a callable that makes it in round masked_input. Not looked at any more once
            a journal holds the masked input.
        identity: this client's, whose public key the roster pins; where the server is assumed honest, none.
        keys: this client's: the one that all share, for sums under CKKS, or its own part of a threshold key.
        extras: where the plan has clients share extra secrets, these: fresh and uniform, 32 bytes each; or a callable
            that makes them of 32 secret bytes, before the contribution is asked for. The bytes are derived from this
            client's master secret: on resuming from a journal they are the same, while a sequence is handed in again,
            the same as before.
        key_setup: take part in the set-up of a threshold key instead of in a sum. `contribution` is then a callable
            that keeps the finished `ThresholdKey`, before it is confirmed.
        policy: what this client refuses, here and before it reveals anything; None refuses nothing.
        codec: what it encodes with, for the policy.
        history: what it remembers, for the policy: the newest there is, also on resuming.
        journal: begun or resumed here, closed by the caller; None keeps everything in memory.

    Raises:
        KeyError: the roster does not hold this client id.
        PolicyError: the policy refuses this setup.
        PlanError: no identity, another than the roster pins, or one that would not be used; the same of extra secrets.
        LocalProtocolError: the journal is another's, or aborted; or a round at least as high was begun already.
        DecodeError: the journal is damaged or sealed under another key.
        OSError: the journal cannot be read or written.
    """

    def __init__(
        self,
        setup: Setup,
        client_id: ClientId,
        contribution: Encoded | Words | Callable[..., Any],
        *,
        identity: Identity | None = None,
        keys: CkksKeys | ThresholdKey | None = None,
        extras: Extras | None = None,
        key_setup: bool = False,
        policy: Policy | None = None,
        codec: Codec | None = None,
        history: History | None = None,
        journal: Journal | None = None,
    ) -> None:
        super().__init__()
        if client_id not in setup.roster:
            msg = f"client {client_id!r} is not in the roster"
            raise KeyError(msg)
        self._setup = setup
        self._position = setup.position(client_id)
        self._steps = protocol_of(setup.plan.masking, setup.plan.server, key_setup=key_setup).client
        self._journal = journal
        self._aborted = False
        self._policy, self._history = policy, history
        resuming = journal is not None  # whose `Rounds` refuses to begin a round twice
        if policy is not None:
            policy.check(setup, codec, history=history, resuming=resuming)
        if history is not None and not (resuming and history.begun(setup)):
            self._history = history.with_round(setup)
        _check_identity(setup, self._position, identity)
        check_given(setup.plan, extras)
        begin = _begin(setup, next(iter(self._steps)), keys, key_setup=key_setup)
        if journal is None:
            self._memory = _Memory(os.urandom(KEY_BYTES))
            self._state: Any = begin(setup, self._position, contribution, identity)
            self._share(extras)
            return
        nothing = partial(np.zeros, setup.plan.length, word_dtype(setup.plan.modulus_bits))
        self._state = begin(setup, self._position, nothing, identity)
        self._resume(contribution, extras, journal)

    @property
    def history(self) -> History | None:
        """What to remember instead of the history given: keep it before any answer is sent on."""
        return self._history

    @property
    def done(self) -> bool:
        """Whether this client has sent its last message."""
        return self._state is None and not self._aborted

    @property
    def _round(self) -> str:
        if self._state is None:
            return "aborted" if self._aborted else "done"
        return self._steps[type(self._state)].round

    def receive(self, message: bytes) -> bytes:
        """Take the server's message and return the answer; the very same answer if the message is the last one again.

        Raises:
            LocalProtocolError: this client is done or aborted, another call is running, or one was interrupted.
            RemoteProtocolError: not the message awaited (early, late or repeated).
            FaultyServerError, SuspectedPeerError: the message is not acceptable.
            PolicyError: the policy refuses these survivors.
            VersionError: the server speaks another wire version.
            ThresholdError: too few clients remain.
            OSError: the answer cannot be stored, and is therefore not given; make a new Client from the journal.
        """
        with self._call(self._round):
            if self._aborted:
                text = "this client was aborted; make a new Client for the next round"
                raise LocalProtocolError(text, round="aborted")
            request = hashlib.sha256(message).digest() if isinstance(message, bytes) else b"?"
            if request == self._memory.request:
                return self._memory.answer
            if self.done:
                text = "this client has sent its last message; make a new Client for the next round"
                raise LocalProtocolError(text, round="done")
            state, answer = self._step(message, request)
            self._broken = True  # until the answer is stored and remembered
            if self._journal is not None:
                self._journal.append(message, answer, last=state is None)
            self._memory = _Memory(b"" if state is None else self._memory.master, request, answer)
            self._state, self._broken = state, False
            return answer

    def delivered(self) -> None:
        """Say that the last answer arrived: it is kept no longer, and its request, come again, is refused."""
        with self._call(self._round, even_broken=True):
            self._memory = replace(self._memory, request=b"", answer=b"")

    def abort(self) -> None:
        """Give up: delete all secrets, here and in the journal. Every later message is refused.

        Raises:
            LocalProtocolError: another call is running, or the journal is closed.
            OSError: the journal cannot be written; call again.
        """
        with self._call(self._round, even_broken=True):
            self._aborted, self._broken = True, False
            self._state, self._memory = None, _Memory(b"")
            if self._journal is not None:
                self._journal.erase()

    def _step(self, message: bytes, request: bytes, stored: bytes | None = None) -> tuple[Any, bytes]:
        """Answer a message by the table; all randomness is of this step and of this message, whose SHA-256 is given.

        Args:
            stored: the answer given before, on resuming: what was encapsulated to others cannot be drawn again.
        """
        step = self._steps[type(self._state)]
        try:
            parsed = decode_awaited(step.awaits, message, self._setup, self._position, (step.round, SERVER))
        except VersionError:
            raise
        except DecodeError as error:
            raise FaultyServerError(str(error), round=step.round, culprits=[SERVER]) from error
        random = derive_key(self._memory.master, tags.STEP, self._setup.digest, step.round.encode(), request)
        if stored is None or step.again is None:
            state, answer = step.step(self._state, parsed, random)
        else:
            state, answer = step.again(self._state, parsed, random, stored)
        survivors = None if step.told is None else step.told(self._setup, self._position, parsed)
        if survivors is not None:
            if self._policy is not None:
                self._policy.check_survivors(self._setup, survivors, self._history)
            if self._history is not None:
                self._history = self._history.with_survivors(self._setup, survivors)
        return state, encode(answer, self._setup)

    def _share(self, extras: Extras | None) -> None:
        """Hand the extra secrets to the first state."""
        if extras is not None:
            secret = derive_key(self._memory.master, tags.EXTRA_SECRET, self._setup.digest)
            self._state = replace(self._state, extras=made(self._setup.plan, extras, secret))

    def _resume(self, contribution: Any, extras: Extras | None, journal: Journal) -> None:  # noqa: ANN401 -- as given
        """Walk the table over the requests of a journal, and hand over the contribution if it is still to be used."""
        progress = journal.begin(self._setup, self._position)
        self._memory = _Memory(progress.master, *progress.finished)
        if any(progress.finished):
            self._state = None
            return
        self._share(extras)
        for message, stored in progress.answered:
            request = hashlib.sha256(message).digest()
            try:
                state, answer = self._step(message, request, stored)
            except SecAggError as error:
                raise (error if isinstance(error, PolicyError) else self._not_ours()) from error
            masked = hasattr(self._state, "contribution") and not hasattr(state, "contribution")
            if answer != stored and not masked:  # a masked input was made of nothing just now: not the one we sent
                raise self._not_ours()
            self._state, self._memory = state, _Memory(progress.master, request, stored)
        if hasattr(self._state, "contribution"):
            self._state = replace(self._state, contribution=contribution)

    def _not_ours(self) -> LocalProtocolError:
        text = (
            "the journal was written by another version of this library, or with other extra secrets: resume it with "
            "those, or start a new round"
        )
        return LocalProtocolError(text, round=self._round)

    def __repr__(self) -> str:
        """Say who it is and what it waits for; never what it holds."""
        waiting = self._round if self._state is None else f"awaits {self._steps[type(self._state)].awaits.NAME}"
        return f"<secagg.Client {self._setup.roster[self._position]!r} {waiting}>"


def _begin(setup: Setup, state: type, keys: CkksKeys | ThresholdKey | None, *, key_setup: bool) -> Callable[..., Any]:
    masking = setup.plan.masking
    if masking in KEYED and not key_setup:
        return partial(state, keys=keys)
    if keys is not None:
        msg = f"a round whose masking is {masking!r}{' sets a key up and' * key_setup} would not use a key"
        raise PlanError(msg)
    return state


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

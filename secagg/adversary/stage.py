"""A round of five clients in memory, on which a server or a client lies.

A lying server uses nothing of `secagg.Server`: it composes its own frames, checks nothing, and goes on with whoever
still answers. A lying client, or the ally of a lying server, is a `Puppet`, which runs the pure steps, so that the liar
can look into and change its state. Everybody else is a `secagg.Client`, or the `secagg.Server`, as any caller uses it.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from secagg.adversary.liar import Reaction
from secagg.encoding import Counts
from secagg.errors import RemoteProtocolError, SecAggError
from secagg.identity import Identity
from secagg.masking.client_states import ClientState0, ClientState1, ClientState3
from secagg.masking.messages import (
    AdvertiseKeys,
    ConsistencyCheck,
    PeerKeys,
    PeerShares,
    PeerSignatures,
    ShareKeys,
    Survivors,
    cut,
    from_bitmap,
    sealed_bytes,
)
from secagg.masking.parties import bitmap_for, hashes_for, mask_of
from secagg.params import ClientId, Plan
from secagg.primitives.keys import KeyPair
from secagg.rounds import invite
from secagg.session import Client
from secagg.setups import Setup, new_session
from secagg.transitions import protocol_of, steps_of
from secagg.wire import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from secagg.adversary.liar import Outbox
    from secagg.encoding.packing import Words

__all__ = ["ALLY", "CLIENTS", "LIAR", "PLAN", "STEPS", "VICTIM", "Directory", "Exchange", "Puppet", "Stage"]

CLIENTS = "ABCDE"
VICTIM, LIAR, ALLY = "A", "D", "E"
LENGTH = 15
STEPS = steps_of("masking", "malicious")

_CODEC = Counts(dimension=LENGTH, maximum=255, clients=len(CLIENTS))
PLAN = Plan(
    clients=len(CLIENTS),
    length=LENGTH,
    modulus_bits=_CODEC.modulus_bits,
    threshold=4,
    degree=len(CLIENTS) - 1,
    server="malicious",
    encoding=_CODEC.digest,
    dropouts=1,
    corrupted=1,
)
"""Five clients of which one may side with the server and one may vanish; four shares open a secret."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Identities, pinned by every client."""

    members: Mapping[ClientId, bytes]
    digest: bytes = bytes(32)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that a client accepted, and its answer."""

    step: str
    client: str
    request: bytes
    answer: bytes


class Puppet:
    """A client in the liar's hands: the true steps over a state that anybody may change. Not thread-safe.

    Attributes:
        setup: its own.
        identity: its own; whoever plays it can sign with it.
        state: of `secagg.masking.client`; None at the end.
        mask_keys: the pairs it advertised.
        shares: owner -> the two shares that it was dealt, as soon as it has them.
    """

    def __init__(self, setup: Setup, position: int, vector: Words, identity: Identity) -> None:
        self.setup = setup
        self.identity = identity
        self.state: Any = ClientState0(setup, position, vector, identity)
        self.mask_keys: list[KeyPair] = []
        self.shares: dict[int, tuple[bytes, ...]] = {}

    def receive(self, message: bytes) -> bytes:
        """Answer as an honest client in this state would."""
        step = protocol_of("masking", "malicious").client[type(self.state)]
        self.state, answer = step.step(self.state, decode(step.awaits, message, self.setup), os.urandom(32))
        if isinstance(self.state, ClientState1) and isinstance(self.state.mask, KeyPair):
            self.mask_keys.append(self.state.mask)
        if isinstance(self.state, ClientState3):
            self.shares = self.state.entries
        return encode(answer, self.setup)


class Stage:
    """One round and all that its server sees. Not thread-safe.

    Args:
        puppet: id of the client that lies or is the liar's ally; "" for nobody.
        models: client id -> model digest, for those that are given another model than the rest.
        number: round number.
        before: an earlier stage of the same clients, identities and session.

    Attributes:
        setups, clients, vectors, identities: by client id.
        exchanges: every request that was accepted, with its answer.
        answers: step -> client id -> its last answer.
        reactions: errors that honest parties raised.
        kept: frames that a lying client keeps for later.
    """

    def __init__(
        self,
        *,
        puppet: str = "",
        models: Mapping[str, bytes] | None = None,
        number: int = 7,
        before: Stage | None = None,
    ) -> None:
        fresh = {client: Identity.generate() for client in CLIENTS}
        self.identities: dict[str, Identity] = before.identities if before else fresh
        self.session: bytes = before.session if before else new_session()
        self.puppet = puppet
        self.number = number
        directory = Directory(self.members)
        self.setups = {
            client: Setup(
                plan=PLAN,
                roster=directory,
                session=self.session,
                round=number,
                model=(models or {}).get(client, b""),
            )
            for client in CLIENTS
        }
        self.setup = self.setups[CLIENTS[-1]]
        self.vectors = {client: _vector(client) for client in CLIENTS}
        self.clients: dict[str, Client | Puppet] = {client: self._enter(client) for client in CLIENTS}
        self.exchanges: list[Exchange] = []
        self.answers: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.reactions: list[Reaction] = []
        self.kept: list[bytes] = []
        self._earlier: dict[int, Stage] = {}

    @property
    def members(self) -> dict[ClientId, bytes]:
        """Client id -> public identity."""
        return {client: identity.public for client, identity in self.identities.items()}

    @property
    def liar(self) -> Puppet:
        """The client that lies, or the liar's ally."""
        puppet = self.clients.get(self.puppet)
        if not isinstance(puppet, Puppet):
            msg = "nobody but the server lies on this stage, and it has no ally"
            raise TypeError(msg)
        return puppet

    def _enter(self, client: str) -> Client | Puppet:
        setup, vector, identity = self.setups[client], self.vectors[client], self.identities[client]
        if client == self.puppet:
            return Puppet(setup, setup.position(client), vector, identity)
        return Client(setup, client, vector, identity=identity)

    def deliver(self, step: str, client: str, request: bytes) -> None:
        """Send a client a frame; keep its answer, or its error."""
        try:
            answer = self.clients[client].receive(request)
        except SecAggError as error:
            self.blame(client, error)
            return
        self.exchanges.append(Exchange(step, client, request, answer))
        self.answers[step][client] = answer

    def propose(self, client: str, make: Callable[[], object]) -> None:
        """Have a client build a plan, setup or roster that was proposed to it; keep its error."""
        try:
            make()
        except SecAggError as error:
            self.blame(client, error)

    def blame(self, party: str, error: SecAggError) -> None:
        """Keep an honest party's error; what a puppet raises is nobody's reaction."""
        if party == self.puppet:
            return
        culprits = error.culprits if isinstance(error, RemoteProtocolError) else ()
        self.reactions.append(Reaction(party, type(error).__name__, tuple(map(str, culprits)), str(error)))

    def earlier(self, *, number: int | None = None) -> Stage:
        """Play an honest round of the same clients: the one before this, or a given number. Each is played once."""
        played = self.number - 1 if number is None else number
        if played not in self._earlier:
            stage = self._earlier[played] = Stage(number=played, before=self)
            for step in STEPS:
                for client, frames in stage.requests(step).items():
                    stage.deliver(step, client, frames[0])
        return self._earlier[played]

    def requests(self, step: str) -> Outbox:
        """Compose what an honest server would send in a step, to all who answered the step before."""
        if step not in STEPS:
            return {}
        if step == STEPS[0]:
            invitations = invite(self.setup)
            return {client: [encode(invitations[self.at(client)], self.setup)] for client in CLIENTS}
        compose = {
            "share_keys": self.peer_keys,
            "masked_input": self.peer_shares,
            "consistency_check": self.survivors,
            "unmask": self.signatures,
        }[step]
        present = sorted(self.answers[STEPS[STEPS.index(step) - 1]])
        return {client: [compose(client, present)] for client in present}

    def peer_keys(self, client: str, among: Iterable[str]) -> bytes:
        """Tell a client that these advertised keys, and which."""
        peers = self.peers(client, among)
        parts = [self.said(AdvertiseKeys, "advertise_keys", peer) for peer in peers]
        keys = b"".join(part.sealing_key + part.mask_key + part.signature for part in parts)
        return encode(PeerKeys(self.at(client), self.bitmap(client, peers), keys, b""), self.setup)

    def peer_shares(self, client: str, among: Iterable[str]) -> bytes:
        """Tell a client that these shared their secrets, and hand it what they sealed to it: those that it knows."""
        known = [peer for peer in self.peers(client, among) if self.acquainted(client, peer)]
        bundles = b"".join(self.bundle(peer, client) for peer in known)
        return encode(PeerShares(self.at(client), self.bitmap(client, known), bundles, b""), self.setup)

    def survivors(self, client: str, among: Iterable[str]) -> bytes:
        """Tell a client that these survived."""
        return encode(Survivors(self.at(client), self.bitmap(client, self.peers(client, among))), self.setup)

    def signatures(self, client: str, among: Iterable[str]) -> bytes:
        """Show a client what these signed."""
        peers = self.peers(client, among)
        signed = b"".join(self.said(ConsistencyCheck, "consistency_check", peer).signature for peer in peers)
        return encode(PeerSignatures(self.at(client), self.bitmap(client, peers), signed), self.setup)

    def acquainted(self, one: str, other: str) -> bool:
        """Tell whether each of two clients was told that the other advertised keys."""
        pairs = ((one, other), (other, one))
        return all(self.at(peer) in self.told(PeerKeys, "share_keys", client) for client, peer in pairs)

    def bundle(self, sender: str, recipient: str) -> bytes:
        """Cut what one client sealed to another, with its hashes, out of what it sent."""
        told = self.told(PeerKeys, "share_keys", sender)
        message = self.said(ShareKeys, "share_keys", sender)
        sealed = cut(message.sealed, sealed_bytes(self.setup.plan), len(told), "sealed bundles")
        advertised = mask_of(self.setup, [*told, self.at(sender)])
        at = self.at(recipient)
        return sealed[told.index(at)] + hashes_for(self.setup, advertised, message.hashes, self.at(sender), at)

    def told(self, kind: type[Any], step: str, client: str) -> list[int]:
        """Read from the last request of a step that a client accepted which peers it named, as positions."""
        request = next(each.request for each in reversed(self.exchanges) if (each.step, each.client) == (step, client))
        return from_bitmap(decode(kind, request, self.setup).present, self.setup.graph.neighbours(self.at(client)))

    def said(self, kind: type[Any], step: str, client: str) -> Any:  # noqa: ANN401 -- the message of that kind
        """Read a client's last answer in a step."""
        return decode(kind, self.answers[step][client], self.setup)

    def at(self, client: str) -> int:
        """Return a client's roster position."""
        return self.setup.position(client)

    def peers(self, client: str, among: Iterable[str]) -> list[str]:
        """Sort a set of clients, without one."""
        return sorted(set(among) - {client})

    def bitmap(self, client: str, members: Iterable[str]) -> bytes:
        """Name some of a client's neighbours, as they are named on the wire."""
        return bitmap_for(self.setup, self.at(client), mask_of(self.setup, map(self.at, members)))


def _vector(client: str) -> Words:
    """Make a vector that looks random and is the same every time: (15,), in [0, 255]."""
    digest = hashlib.sha256(b"vector of " + client.encode()).digest()[:LENGTH]
    return _CODEC.encode(np.frombuffer(digest, dtype=np.uint8)).vector

"""The server's side of a threshold key's set-up: it passes on what clients say to each other, and holds no secret.

    state                        collects          check                      close
    ThresholdSetupServerState0   nothing           -                          server_open
    ThresholdSetupServerState1   SetupKey          server_check_key           server_advertise
    ThresholdSetupServerState2   SetupShares       server_check_shares        server_share
    ThresholdSetupServerState3   SetupConfirmed    server_check_confirmed     server_hold -> Outcome, see there

Everybody has to take part: a secret that was not shared, or shares that nobody holds, would be missing in every round.
Memory: all n² sealed shares at once, 2.2 GB for 100 clients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from secagg.errors import DecodeError, RemoteProtocolError, ThresholdError
from secagg.homomorphic.threshold_parameters import ThresholdParameters
from secagg.homomorphic.threshold_setup_messages import (
    SetupConfirmed,
    SetupKey,
    SetupPeerKeys,
    SetupPeerShares,
    SetupShares,
    bundle_bytes,
    confirmation,
    context_of,
    digest_of_keys,
    key_statement,
    published_bytes,
    shares_statement,
)
from secagg.masking.hybrid import check_public_key
from secagg.masking.messages import HASH_BYTES, cut, signature_bytes
from secagg.masking.parties import check_signature, faulty
from secagg.rounds import Outbox, Outcome, invite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from secagg.homomorphic.threshold import ThresholdContext
    from secagg.setups import Setup

__all__ = [
    "ThresholdSetupServerState0",
    "ThresholdSetupServerState1",
    "ThresholdSetupServerState2",
    "ThresholdSetupServerState3",
    "server_advertise",
    "server_check_confirmed",
    "server_check_key",
    "server_check_shares",
    "server_hold",
    "server_open",
    "server_share",
]


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdSetupServerState0:
    """Before the set-up.

    Raises:
        PlanError: no threshold key can be made for this plan; says why.
    """

    setup: Setup

    def __post_init__(self) -> None:
        """Notice a wrong plan before anybody is invited."""
        ThresholdParameters.of(self.setup.plan)


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdSetupServerState1:
    """Collects `SetupKey` from everyone; `owners` says who advertised each key accepted, and grows."""

    setup: Setup
    owners: dict[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdSetupServerState2:
    """Collects `SetupShares` from everyone; `keys` is the hash of their public keys."""

    setup: Setup
    keys: bytes


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdSetupServerState3:
    """Collects `SetupConfirmed` from everyone; `context` is the public side of the key."""

    setup: Setup
    context: ThresholdContext


def server_open(
    state: ThresholdSetupServerState0, inbox: Mapping[int, None]
) -> tuple[ThresholdSetupServerState1, Outbox]:
    """Invite every client of the roster; nothing has arrived yet."""
    del inbox
    return ThresholdSetupServerState1(state.setup), invite(state.setup)


def server_check_key(state: ThresholdSetupServerState1, message: SetupKey) -> None:
    """Refuse keys that are no valid points, repeated, or not signed.

    Raises:
        FaultyClientError: so. Of a key that two clients advertised, the later one is blamed: it saw the first.
    """
    setup, client = state.setup, message.client
    _check_signed(setup, client, key_statement(setup, client, message.key), message.signature, "advertise_keys")
    try:
        check_public_key(setup.plan, message.key)
    except ValueError as error:
        raise faulty(setup, client, "a public key is not a valid X25519 point", "advertise_keys") from error
    if state.owners.setdefault(message.key, client) != client:
        raise faulty(setup, client, "another client advertised the same public key", "advertise_keys")


def server_advertise(
    state: ThresholdSetupServerState1, inbox: Mapping[int, SetupKey]
) -> tuple[ThresholdSetupServerState2, Outbox]:
    """Hand everybody's keys to everybody.

    Raises:
        ThresholdError: someone is missing; the state stands, so that late keys still help.
    """
    setup = state.setup
    everyone = _everyone(setup, inbox, "clients that advertised a key (all are needed)")
    keys = b"".join(inbox[client].key + inbox[client].signature for client in everyone)
    digest = digest_of_keys(setup, [inbox[client].key for client in everyone])
    return ThresholdSetupServerState2(setup, digest), {client: SetupPeerKeys(client, keys) for client in everyone}


def server_check_shares(state: ThresholdSetupServerState2, message: SetupShares) -> None:
    """Refuse other than one sealed share and one hash per client, and hashes that are not signed.

    Raises:
        FaultyClientError: so.
    """
    setup, client, n = state.setup, message.client, state.setup.plan.clients
    try:
        cut(message.sealed, bundle_bytes(setup.plan), n - 1, "sealed shares")
        size = HASH_BYTES if signature_bytes(setup.plan) else 0
        cut(message.hashes, size, n, "hashes")
    except DecodeError as error:
        raise faulty(setup, client, str(error), "share_keys") from error
    statement = shares_statement(state.keys, client, message.hashes)
    _check_signed(setup, client, statement, message.signature, "share_keys")


def server_share(
    state: ThresholdSetupServerState2, inbox: Mapping[int, SetupShares]
) -> tuple[ThresholdSetupServerState3, Outbox]:
    """Route every sealed share to its holder, and all hashes to everybody.

    Raises:
        ThresholdError: someone is missing; the state stands, so that late shares still help.
    """
    setup = state.setup
    everyone = _everyone(setup, inbox, "clients that shared their secret (all are needed)")
    size = bundle_bytes(setup.plan)
    published = b"".join(inbox[client].hashes + inbox[client].signature for client in everyone)
    assert len(published) == published_bytes(setup.plan) * len(everyone)  # noqa: S101 -- checked as they came
    outbox: Outbox = {}
    for holder in everyone:
        sealed = [
            inbox[dealer].sealed[size * place : size * (place + 1)]
            for dealer in everyone
            if dealer != holder
            for place in [holder - (dealer < holder)]
        ]
        outbox[holder] = SetupPeerShares(holder, b"".join(sealed), published)
    hashes = [inbox[client].hashes for client in everyone]
    context = context_of(setup, ThresholdParameters.of(setup.plan), state.keys, hashes)
    return ThresholdSetupServerState3(setup, context), outbox


def server_check_confirmed(state: ThresholdSetupServerState3, message: SetupConfirmed) -> None:
    """Refuse a key with another public side than this server's.

    Raises:
        RemoteProtocolError: so; this client, or the way to it, changed what was passed on.
        FaultyClientError: not signed by its identity.
    """
    setup, client = state.setup, message.client
    if message.fingerprint != state.context.fingerprint:
        text = "holds another key than was set up: what it was shown was changed on the way"
        raise RemoteProtocolError(text, round="hold_shares", culprits=[setup.roster[client]])
    _check_signed(setup, client, confirmation(state.context), message.signature, "hold_shares")


def server_hold(state: ThresholdSetupServerState3, inbox: Mapping[int, SetupConfirmed]) -> tuple[Outcome, Outbox]:
    """End the set-up, once everybody has its key.

    Returns: in place of a sum, the bytes of the key's `ThresholdContext`, (size,) uint8, to be kept for the rounds.
    Raises:
        ThresholdError: someone is missing; the state stands, so that late confirmations still help.
    """
    everyone = _everyone(state.setup, inbox, "clients that hold their key (all are needed)")
    return Outcome(np.frombuffer(state.context.to_bytes(), np.uint8), everyone), {}


def _everyone(setup: Setup, inbox: Mapping[int, object], what: str) -> list[int]:
    n = setup.plan.clients
    if len(inbox) < n:
        raise ThresholdError(needed=n, survivors=len(inbox), what=what)
    return list(range(n))


def _check_signed(setup: Setup, client: int, statement: bytes, signature: bytes, step: str) -> None:
    if setup.plan.server == "malicious":
        check_signature(setup, client, statement, signature, step)
    elif signature:
        raise faulty(setup, client, "a signature where none is asked for", step)

"""The messages of a threshold key's set-up, their lengths, and what is signed and hashed, byte for byte.

Everybody of the roster takes part, so that what is said of clients stands in the order of their positions, and every
length follows from the setup.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar

import msgspec

from secagg import tags
from secagg.homomorphic.threshold import ThresholdContext
from secagg.homomorphic.threshold_parameters import ThresholdParameters
from secagg.masking.messages import HASH_BYTES, SALT_BYTES, signature_bytes
from secagg.masking.streams import position_bytes
from secagg.primitives.aead import TAG_BYTES
from secagg.primitives.keys import KEY_BYTES
from secagg.wire import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from secagg.params import Plan
    from secagg.setups import Setup

__all__ = [
    "SetupConfirmed",
    "SetupKey",
    "SetupPeerKeys",
    "SetupPeerShares",
    "SetupShares",
    "bundle_bytes",
    "confirmation",
    "context_of",
    "digest_of_keys",
    "key_bytes",
    "key_statement",
    "published_bytes",
    "salt_bytes",
    "share_hash",
    "shares_statement",
]


class SetupKey(Message, frozen=True):
    """Client -> server, round advertise_keys.

    Attributes:
        key: X25519, 32 bytes, for this set-up only.
        signature: of its identity, 64 bytes; empty where the server is assumed honest.
    """

    KIND: ClassVar[int] = 24
    NAME: ClassVar[str] = "setup_key"

    key: bytes
    signature: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        return key_bytes(setup.plan)


class SetupPeerKeys(Message, frozen=True):
    """Server -> client: everyone's key and signature, by position, the recipient's included."""

    KIND: ClassVar[int] = 25
    NAME: ClassVar[str] = "setup_peer_keys"

    keys: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        return key_bytes(setup.plan) * setup.plan.clients


class SetupShares(Message, frozen=True):
    """Client -> server, round share_keys.

    Attributes:
        sealed: per other client, by position, its share and the salt, sealed.
        hashes: against a malicious server, 32 bytes per client, this one included: of salted shares.
        signature: of its identity over the hashes, 64 bytes; empty like them otherwise.
    """

    KIND: ClassVar[int] = 26
    NAME: ClassVar[str] = "setup_shares"

    sealed: bytes
    hashes: bytes
    signature: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        return bundle_bytes(setup.plan) * (setup.plan.clients - 1) + published_bytes(setup.plan)


class SetupPeerShares(Message, frozen=True):
    """Server -> client.

    Attributes:
        sealed: per other client, by position, what it sealed to the recipient.
        published: per client, by position, its hashes and their signature; empty where the server is assumed honest.
    """

    KIND: ClassVar[int] = 27
    NAME: ClassVar[str] = "setup_peer_shares"

    sealed: bytes
    published: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        n = setup.plan.clients
        return bundle_bytes(setup.plan) * (n - 1) + published_bytes(setup.plan) * n


class SetupConfirmed(Message, frozen=True):
    """Client -> server, round hold_shares: the client has its key.

    Attributes:
        fingerprint: 32 bytes, of the key's public side, so that an honest server notices a difference in time.
        signature: of its identity over that, 64 bytes; empty where the server is assumed honest.
    """

    KIND: ClassVar[int] = 30
    NAME: ClassVar[str] = "setup_confirmed"

    fingerprint: bytes
    signature: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        return HASH_BYTES + signature_bytes(setup.plan)


def key_bytes(plan: Plan) -> int:
    """Return the length of one client's public key and its signature."""
    return KEY_BYTES + signature_bytes(plan)


def bundle_bytes(plan: Plan) -> int:
    """Return the length of one sealed share."""
    return ThresholdParameters.of(plan).share_bytes + salt_bytes(plan) + TAG_BYTES


def salt_bytes(plan: Plan) -> int:
    """Return the length of a share's salt: 0 where the server is assumed honest, and nothing is hashed."""
    return SALT_BYTES if plan.server == "malicious" else 0


def published_bytes(plan: Plan) -> int:
    """Return the length of one dealer's hashes and signature: 0 where the server is assumed honest."""
    return HASH_BYTES * plan.clients + signature_bytes(plan) if plan.server == "malicious" else 0


def key_statement(setup: Setup, position: int, key: bytes) -> bytes:
    """Say: this is my public key for this set-up."""
    return tags.THRESHOLD_SIGNED_KEY + msgspec.msgpack.encode([setup.digest, position, key])


def shares_statement(keys: bytes, position: int, hashes: bytes) -> bytes:
    """Say: among the holders of these keys, I answer for shares with these hashes."""
    return tags.THRESHOLD_SIGNED_SHARES + msgspec.msgpack.encode([keys, position, hashes])


def confirmation(context: ThresholdContext) -> bytes:
    """Say: I hold a key with this public side."""
    return tags.THRESHOLD_SIGNED_SETUP + context.fingerprint


def digest_of_keys(setup: Setup, public: Sequence[bytes]) -> bytes:
    """Hash everyone's public keys, by position: 32 bytes."""
    return hashlib.sha256(tags.THRESHOLD_KEYS + msgspec.msgpack.encode([setup.digest, *public])).digest()


def share_hash(keys: bytes, dealer: int, holder: int, entry: bytes) -> bytes:
    """Hash a share and its salt: 32 bytes that bind the dealer and hide the share."""
    where = keys + position_bytes(dealer) + position_bytes(holder)
    return hashlib.sha256(tags.THRESHOLD_SHARE_HASH + where + entry).digest()


def context_of(
    setup: Setup, parameters: ThresholdParameters, keys: bytes, published: Sequence[bytes]
) -> ThresholdContext:
    """Make the public side of the key that a set-up ends in.

    Args:
        published: by dealer, its hashes; empty ones where the server is assumed honest.
    """
    transcript = hashlib.sha256(tags.THRESHOLD_TRANSCRIPT + msgspec.msgpack.encode([keys, *published])).digest()
    return ThresholdContext(
        parameters=parameters,
        plan=setup.plan.digest,
        roster=setup.roster_digest,
        session=setup.session,
        round=setup.round,
        transcript=transcript,
    )

"""The messages of a masked round, after the `Invitation` that all protocols share.

Sets of clients travel as bitmaps over the recipient's neighbours in ascending order; keys and shares as
concatenations in the same order. So every size follows from the setup, and positions are never the server's choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from secagg.encoding.packing import packed_bytes
from secagg.errors import DecodeError
from secagg.primitives.aead import TAG_BYTES
from secagg.primitives.kem import KEM_CIPHERTEXT_BYTES, KEM_PUBLIC_BYTES, KEM_SECRET_BYTES, KEM_SEED_BYTES
from secagg.primitives.keys import KEY_BYTES
from secagg.primitives.merkle import NODE_BYTES, path_bytes
from secagg.primitives.shamir import SHARE_BYTES
from secagg.wire import Message, VectorMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from secagg.params import ClientId, Plan
    from secagg.setups import Setup

__all__ = [
    "AdvertiseKeys",
    "ConsistencyCheck",
    "MaskedInput",
    "PeerKeys",
    "PeerShares",
    "PeerSignatures",
    "ShareKeys",
    "Survivors",
    "UnmaskShares",
]
SIGNATURE_BYTES = 64
SALT_BYTES = 16
HASH_BYTES = 32


class AdvertiseKeys(Message, frozen=True):
    """Client -> server, round advertise_keys.

    Attributes:
        sealing_key, mask_key: the client's two fresh public keys: X25519, 32 bytes each, followed by ML-KEM-768, 1184
            bytes, where keys are hybrid.
        signature: of its identity over them, 64 bytes; empty where the server is assumed honest.
        model: digest of the model it was given, 32 bytes or none, so that an honest server notices a stale one in time.
    """

    KIND: ClassVar[int] = 2
    NAME: ClassVar[str] = "advertise_keys"

    sealing_key: bytes
    mask_key: bytes
    signature: bytes
    model: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        return keys_bytes(setup.plan) + HASH_BYTES


class PeerKeys(Message, frozen=True):
    """Server -> client: which neighbours advertised keys, and those keys.

    Attributes:
        present: bitmap over the recipient's neighbours.
        keys: per present neighbour, sealing key then mask key, and the 64-byte signature if there is one.
        proof: where the graph is drawn from the keys, the root of all of them and the path from the recipient's own;
            empty elsewhere.
    """

    KIND: ClassVar[int] = 3
    NAME: ClassVar[str] = "peer_keys"

    present: bytes
    keys: bytes
    proof: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        plan, k = setup.plan, setup.plan.degree
        return proof_bytes(plan) + bitmap_bytes(k) + keys_bytes(plan) * k


class ShareKeys(Message, frozen=True):
    """Client -> server, round share_keys.

    Attributes:
        commitment: 32 bytes that the self-mask seed determines and that do not reveal it; then 32 per extra secret.
        sealed: one bundle per neighbour that advertised keys: its entries (share of the self-mask seed, of the mask
            key, of each extra secret), sealed.
        hashes: against a malicious server, per share holder, this client included, 32 bytes for each of its entries.
        signature: of its identity over commitment and hashes, 64 bytes; empty like `hashes` otherwise.
        encapsulated: where keys are hybrid, per recipient of a bundle the 1088-byte ciphertext to its sealing key;
            then, per recipient of a higher position, the ciphertext to its mask key and a 32-byte confirmation.
        envelope: where keys are hybrid, the mask pair and the secrets encapsulated to mask keys, sealed under the key
            that is shared in the mask key's place.
    """

    KIND: ClassVar[int] = 4
    NAME: ClassVar[str] = "share_keys"

    commitment: bytes
    sealed: bytes
    hashes: bytes
    signature: bytes
    encapsulated: bytes
    envelope: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        plan, k = setup.plan, setup.plan.degree
        escrow = encapsulated_bytes(plan, k, k) + envelope_bytes(plan, k)
        dealt = commitment_bytes(plan) + sealed_bytes(plan) * k
        return dealt + hashes_bytes(plan) * (k + 1) + signature_bytes(plan) + escrow


class PeerShares(Message, frozen=True):
    """Server -> client: which neighbours shared their secrets, and the bundles they sealed to the recipient.

    Attributes:
        present: bitmap over the recipient's neighbours; over everyone else where the graph is drawn from the keys.
        sealed: per present neighbour, the bundle it sealed to the recipient, and the hashes of its entries if there are
            any.
        encapsulated: where keys are hybrid, per present neighbour the ciphertext to the recipient's sealing key; then,
            per present neighbour of a lower position, the ciphertext to its mask key and the confirmation.
    """

    KIND: ClassVar[int] = 5
    NAME: ClassVar[str] = "peer_shares"

    present: bytes
    sealed: bytes
    encapsulated: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        plan, k = setup.plan, setup.plan.degree
        return told_bytes(plan) + (sealed_bytes(plan) + hashes_bytes(plan)) * k + encapsulated_bytes(plan, k, k)


class MaskedInput(VectorMessage, frozen=True):
    """Client -> server, round masked_input: the vector under all its masks, packed.

    With lattice masks it is the short secret that comes first, and the vector's ciphertext after it.
    """

    KIND: ClassVar[int] = 6
    NAME: ClassVar[str] = "masked_input"

    @classmethod
    def vector_bytes(cls, plan: Plan) -> int:
        """Return the length of what follows the fields."""
        return packed_bytes(*plan.masked) + (0 if plan.lattice is None else plan.lattice.ciphertext_bytes)


class Survivors(Message, frozen=True):
    """Server -> client: whose masked inputs arrived.

    One bitmap decides, for each neighbour that shared its secrets, which of its two shares is asked for: never both.

    Attributes:
        present: bitmap over the recipient's neighbours; over everyone else where the graph is drawn from the keys.
    """

    KIND: ClassVar[int] = 7
    NAME: ClassVar[str] = "survivors"

    present: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        return told_bytes(setup.plan)


class ConsistencyCheck(Message, frozen=True):
    """Client -> server, round consistency_check: its signature over whom it was told survived, 64 bytes."""

    KIND: ClassVar[int] = 10
    NAME: ClassVar[str] = "consistency_check"

    signature: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        return signature_bytes(setup.plan)


class PeerSignatures(Message, frozen=True):
    """Server -> client: signatures over the same survivors.

    Attributes:
        present: bitmap over everyone else; over the committee where the graph is drawn from the keys.
        signatures: 64 bytes for each of them.
    """

    KIND: ClassVar[int] = 11
    NAME: ClassVar[str] = "peer_signatures"

    present: bytes
    signatures: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        signers = setup.plan.degree + 1
        return bitmap_bytes(signers) + signature_bytes(setup.plan) * signers


class UnmaskShares(Message, frozen=True):
    """Client -> server, round unmask: one share per peer (and its own), by ascending position.

    Attributes:
        entries: each a share (40 bytes) and its salt, if there is one: of the self mask of a survivor, of the mask key
            of a dropout. Then, by ascending position, a share of every survivor's extra secret that is revealed, if one
            is.
    """

    KIND: ClassVar[int] = 8
    NAME: ClassVar[str] = "unmask"

    entries: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        return revealed_bytes(setup.plan) * (setup.plan.degree + 1)


def signature_bytes(plan: Plan) -> int:
    """Return the length of a signature: 0 where the server is assumed honest."""
    return SIGNATURE_BYTES if plan.server == "malicious" else 0


def entry_bytes(plan: Plan) -> int:
    """Return the length of one share and its salt, if there is one."""
    return SHARE_BYTES + (SALT_BYTES if plan.server == "malicious" else 0)


def entries_dealt(plan: Plan) -> int:
    """Return how many secrets each client shares: two of its own, and extra ones."""
    return 2 + plan.extras


def sealed_bytes(plan: Plan) -> int:
    """Return the length of one peer's entries, sealed."""
    return entries_dealt(plan) * entry_bytes(plan) + TAG_BYTES


def hashes_bytes(plan: Plan) -> int:
    """Return the length of the hashes of one peer's entries: 0 where the server is assumed honest."""
    return entries_dealt(plan) * HASH_BYTES if plan.server == "malicious" else 0


def commitment_bytes(plan: Plan) -> int:
    """Return the length of the commitments to a self-mask seed and to extra secrets."""
    return HASH_BYTES * (1 + plan.extras)


def revealed_bytes(plan: Plan) -> int:
    """Return the most bytes that are revealed of one client's secrets: all of them, if nobody drops out."""
    return entry_bytes(plan) * (2 if plan.extras else 1)


def keys_bytes(plan: Plan) -> int:
    """Return the length of one client's public keys and their signature."""
    return 2 * key_bytes(plan) + signature_bytes(plan)


def is_hybrid(plan: Plan) -> bool:
    """Return whether keys are agreed on by X25519 and ML-KEM-768 together."""
    return plan.key_agreement == "x25519+ml-kem-768"


def key_bytes(plan: Plan) -> int:
    """Return the length of one public key."""
    return KEY_BYTES + (KEM_PUBLIC_BYTES if is_hybrid(plan) else 0)


def mask_entry_bytes(plan: Plan) -> int:
    """Return the length of what one client sends to another's mask key: ciphertext and confirmation."""
    return KEM_CIPHERTEXT_BYTES + HASH_BYTES if is_hybrid(plan) else 0


def encapsulated_bytes(plan: Plan, bundles: int, masks: int) -> int:
    """Return the length of the ciphertexts of so many bundles and of so many mask entries."""
    return KEM_CIPHERTEXT_BYTES * bundles + mask_entry_bytes(plan) * masks if is_hybrid(plan) else 0


def envelope_bytes(plan: Plan, masks: int) -> int:
    """Return the length of the envelope of a client that sends so many mask entries."""
    if not is_hybrid(plan):
        return 0
    return KEY_BYTES + KEM_SEED_BYTES + KEM_SECRET_BYTES * masks + TAG_BYTES


def bitmap_bytes(clients: int) -> int:
    """Return the length of a bitmap over so many clients."""
    return -(-clients // 8)


def told_bytes(plan: Plan) -> int:
    """Return the length of a bitmap that says who shared or survived."""
    return bitmap_bytes(plan.clients - 1 if plan.keys_draw_graph else plan.degree)


def proof_bytes(plan: Plan) -> int:
    """Return the length of the root of all keys and one path to it; 0 where the graph does not depend on them."""
    return NODE_BYTES + path_bytes(plan.clients) if plan.keys_draw_graph else 0


def told_of(setup: Setup, position: int) -> NDArray[np.int64]:
    """Whom a bitmap that says who shared or survived runs over: a client's neighbours, or everyone else.

    Where the graph is drawn from the keys, everyone is told of everyone, so that a server cannot hide a gap in it.
    """
    if setup.plan.keys_draw_graph:
        return np.delete(np.arange(setup.plan.clients), position)
    return setup.graph.neighbours(position)


def signers_of(setup: Setup, position: int) -> tuple[NDArray[np.int64], int]:
    """Whose signatures a client may be shown, and how many of them it needs: t with its own if it sees all others'."""
    if setup.plan.keys_draw_graph:
        return setup.committee, setup.plan.threshold
    return setup.graph.neighbours(position), setup.plan.threshold - 1


def to_bitmap(members: NDArray[np.bool_]) -> bytes:
    """Pack one bool per neighbour, first neighbour in the lowest bit."""
    return np.packbits(members, bitorder="little").tobytes()


def from_bitmap(bitmap: bytes, clients: NDArray[np.int64]) -> list[int]:
    """Read which of some clients a bitmap names: their positions, in that order.

    Raises:
        DecodeError: wrong length or unused bits set.
    """
    if len(bitmap) != bitmap_bytes(len(clients)):
        msg = f"a bitmap over {len(clients)} clients takes {bitmap_bytes(len(clients))} bytes, got {len(bitmap)}"
        raise DecodeError(msg)
    bits = np.unpackbits(np.frombuffer(bitmap, dtype=np.uint8), bitorder="little").astype(np.bool_)
    if bits[len(clients) :].any():
        msg = "a bitmap has bits set beyond the last client"
        raise DecodeError(msg)
    named: list[int] = clients[bits[: len(clients)]].tolist()
    return named


def everyone_in(setup: Setup, position: int, message: Survivors) -> frozenset[ClientId] | None:
    """Name the survivors and the client itself, or None if a message tells of its neighbours only.

    Raises:
        DecodeError: malformed.
    """
    if not (setup.plan.is_complete or setup.plan.keys_draw_graph):
        return None
    named = from_bitmap(message.present, told_of(setup, position))
    return frozenset(setup.roster[client] for client in (position, *named))


def cut(data: bytes, size: int, count: int, what: str) -> Sequence[bytes]:
    """Cut a concatenation into `count` pieces of `size` bytes.

    Raises:
        DecodeError: wrong total length.
    """
    if len(data) != size * count:
        msg = f"expected {count} {what} of {size} bytes, got {len(data)} bytes"
        raise DecodeError(msg)
    return [data[size * i : size * (i + 1)] for i in range(count)]

"""Hybrid key agreement: X25519 and ML-KEM-768 together, so that a key is secret while either of the two holds.

Against whoever records today's messages and has a quantum computer later. Both pairs of a client are hybrid, and every
key that two clients share is HKDF(X25519 secret ‖ KEM secret ‖ ciphertext), bound to both parties' whole public keys.
A KEM is not symmetric, so somebody has to encapsulate: every sender to its recipient's sealing key, and of two
neighbours the one with the lower position to the other's mask key.

Whoever drops out leaves masks that only its mask pair and the secrets it encapsulated explain. It seals both in an
*envelope* under a recovery key that is drawn for nothing else, and shares that key instead of the mask key. The server
keeps envelopes and ciphertexts, n·k/2·1120 + n·(112 + 16·k) bytes, and can open the envelopes of dropouts alone.

What is sent to a mask key is followed by a *confirmation*, derived from the secret: an altered ciphertext gives another
secret without an error, and masks that do not cancel would ruin the sum unnoticed. The recipient checks it when its
shares arrive, and so does the server when it rebuilds; both parts are bound to the sender's sealed bundle besides, so
that a server cannot put a ciphertext of its own, whose secret it knows, in the place of a neighbour's.

A plan without ML-KEM runs through the same functions: everything here is then empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from secagg import tags
from secagg.errors import SERVER, DecodeError, FaultyServerError, SuspectedPeerError
from secagg.masking.messages import (
    cut,
    encapsulated_bytes,
    envelope_bytes,
    is_hybrid,
    mask_entry_bytes,
)
from secagg.masking.parties import peers_among
from secagg.masking.streams import position_bytes
from secagg.primitives.aead import open_sealed, seal
from secagg.primitives.kem import (
    KEM_CIPHERTEXT_BYTES,
    KEM_SECRET_BYTES,
    KEM_SEED_BYTES,
    KemKeyPair,
    check_kem_public,
    encapsulate,
)
from secagg.primitives.keys import KEY_BYTES, KeyPair, derive_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from secagg.masking.client_states import ClientState1
    from secagg.masking.messages import PeerShares, ShareKeys
    from secagg.params import Plan
    from secagg.setups import Setup

__all__ = [
    "Escrow",
    "HybridKeyPair",
    "KemParts",
    "PlanKeyPair",
    "check_escrow",
    "check_public_key",
    "confirmed",
    "cut_encapsulated",
    "derive_pair",
    "escrow",
    "halves",
    "open_envelope",
    "received",
    "recovery_key",
    "route_encapsulated",
]

_PROBE = KeyPair.from_private(bytes(KEY_BYTES))
"""A key everybody knows: agreeing with it shows whether a point has low order, and nothing else."""


@dataclass(frozen=True, slots=True, eq=False)
class HybridKeyPair:
    """An X25519 and an ML-KEM-768 key pair for one purpose.

    Attributes:
        public: both public keys, 32 + 1184 bytes, as sent on the wire.
    """

    x25519: KeyPair = field(repr=False)
    kem: KemKeyPair = field(repr=False)
    public: bytes

    @classmethod
    def from_private(cls, private: bytes) -> HybridKeyPair:
        """Make the pairs of a 32-byte X25519 private key and a 64-byte seed."""
        x25519, kem = KeyPair.from_private(private[:KEY_BYTES]), KemKeyPair.from_seed(private[KEY_BYTES:])
        return cls(x25519, kem, x25519.public + kem.public)

    def private_bytes(self) -> bytes:
        """Return the 96 private bytes, for the envelope only."""
        return self.x25519.private_bytes() + self.kem.seed_bytes()

    def agree(self, peer_public: bytes) -> bytes:
        """Return the X25519 half of what is shared with a peer; the other half comes from a ciphertext.

        Raises:
            ValueError: the X25519 half of the peer's key is not acceptable.
        """
        return self.x25519.agree(peer_public[:KEY_BYTES])


PlanKeyPair: TypeAlias = KeyPair | HybridKeyPair
"""A key pair of the kind that the plan asks for."""


@dataclass(frozen=True, slots=True, eq=False)
class KemParts:
    """What joins the X25519 secrets in one direction; of a plan without ML-KEM, and of whoever is missing, nothing.

    Attributes:
        sealing: by peer, KEM secret ‖ ciphertext of the key that a bundle is sealed under.
        mask: by peer, KEM secret ‖ ciphertext of the pairwise mask.
        entries: by peer, ciphertext ‖ confirmation as they travel, from the lower to the higher position.
    """

    sealing: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    mask: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    entries: Mapping[int, bytes] = field(default_factory=dict, repr=False)

    @property
    def encapsulated(self) -> bytes:
        """All ciphertexts, then all entries, as they are sent."""
        return b"".join((*(part[KEM_SECRET_BYTES:] for part in self.sealing.values()), *self.entries.values()))


def derive_pair(setup: Setup, random: bytes, tag: bytes, kem_tag: bytes) -> PlanKeyPair:
    """Derive a key pair for one purpose from the randomness of a step."""
    private = derive_key(random, tag, setup.digest)
    if not is_hybrid(setup.plan):
        return KeyPair.from_private(private)
    return HybridKeyPair.from_private(
        private + b"".join(derive_key(random, kem_tag, setup.digest, i) for i in (b"d", b"z"))
    )


def halves(plan: Plan, public: bytes) -> list[bytes]:
    """Cut a public key into the keys that it is made of: none of them may come twice."""
    return [public[:KEY_BYTES], public[KEY_BYTES:]] if is_hybrid(plan) else [public]


def check_public_key(plan: Plan, public: bytes) -> None:
    """Refuse a public key of the wrong length, of low order, not canonical, or whose ML-KEM half is none.

    Raises:
        ValueError: so.
    """
    x25519, *kem = halves(plan, public)
    _PROBE.agree(x25519)
    for half in kem:
        check_kem_public(half)


def confirmed(setup: Setup, low: int, high: int, secret: bytes, ciphertext: bytes) -> bytes:
    """Return what travels to a mask key: the ciphertext and 32 bytes that its secret alone explains."""
    parties = (position_bytes(low), position_bytes(high))
    return ciphertext + derive_key(secret, tags.MASK_CONFIRMATION, setup.digest, *parties)


def recovery_key(setup: Setup, random: bytes, mask: PlanKeyPair) -> bytes:
    """Return the 32 bytes to share, which explain a dropout's masks: its mask key, or the key of its envelope."""
    if isinstance(mask, KeyPair):
        return mask.private_bytes()
    return derive_key(random, tags.RECOVERY_KEY, setup.digest)


def escrow(
    state: ClientState1, public: Mapping[int, tuple[bytes, bytes]], recovery: bytes, sent: ShareKeys | None
) -> tuple[KemParts, bytes]:
    """Encapsulate to the neighbours, and seal what explains this client's masks; or recall what was sent before.

    Args:
        public: by ascending position, sealing and mask key of the neighbours present.
        recovery: 32 bytes that seal this envelope and nothing else.
        sent: the answer given before to the same keys, with the same randomness.
    Returns: what joins the X25519 secrets (of `sent`, for masks alone), and the envelope.
    Raises:
        FaultyServerError: an ML-KEM key is none.
        DecodeError: that answer is not this client's.
    """
    setup, me, mask = state.setup, state.position, state.mask
    if isinstance(mask, KeyPair):
        return KemParts(), b""
    if sent is not None:
        return _recalled(setup, me, list(public), (recovery, mask), sent), sent.envelope
    parts = _encapsulated(setup, me, public)
    content = mask.private_bytes() + b"".join(part[:KEM_SECRET_BYTES] for part in parts.mask.values())
    return parts, seal(recovery, content, associated_data=setup.digest + position_bytes(me))


def _encapsulated(setup: Setup, me: int, public: Mapping[int, tuple[bytes, bytes]]) -> KemParts:
    """Encapsulate to the sealing key of every neighbour, and to the mask key of those with a higher position."""
    sealing: dict[int, bytes] = {}
    mask: dict[int, bytes] = {}
    entries: dict[int, bytes] = {}
    try:
        for peer, (sealing_key, mask_key) in public.items():
            sealing[peer] = b"".join(encapsulate(sealing_key[KEY_BYTES:]))
            if peer > me:
                secret, ciphertext = encapsulate(mask_key[KEY_BYTES:])
                mask[peer], entries[peer] = secret + ciphertext, confirmed(setup, me, peer, secret, ciphertext)
    except ValueError as error:
        text = "a public key is not a valid ML-KEM-768 key"
        raise FaultyServerError(text, round="share_keys", culprits=[SERVER]) from error
    return KemParts(sealing, mask, entries)


def _recalled(
    setup: Setup, me: int, peers: Sequence[int], keys: tuple[bytes, HybridKeyPair], sent: ShareKeys
) -> KemParts:
    """Recall from an answer what was encapsulated to mask keys; to sealing keys it need not be known again."""
    recovery, mask = keys
    higher = [peer for peer in peers if peer > me]
    _, entries = cut_encapsulated(setup.plan, sent.encapsulated, peers, higher)
    pair, secrets = open_envelope(setup, me, recovery, sent.envelope, higher)
    recalled: dict[int, bytes] = {}
    for peer, secret in secrets.items():
        ciphertext = entries[peer][:KEM_CIPHERTEXT_BYTES]
        if confirmed(setup, me, peer, secret, ciphertext) != entries[peer]:
            msg = "this envelope holds other secrets than were confirmed"
            raise DecodeError(msg)
        recalled[peer] = secret + ciphertext
    if pair.public != mask.public:
        msg = "this envelope holds another mask key"
        raise DecodeError(msg)
    return KemParts(mask=recalled, entries=entries)


def open_envelope(
    setup: Setup, owner: int, recovery: bytes, envelope: bytes, higher: Sequence[int]
) -> tuple[HybridKeyPair, dict[int, bytes]]:
    """Open an envelope: its owner's mask pair, and by position the secrets that it encapsulated to mask keys.

    Args:
        higher: the neighbours with a higher position that it was shown, ascending.
    Raises:
        DecodeError: it does not open, or holds something else.
    """
    content = open_sealed(recovery, envelope, associated_data=setup.digest + position_bytes(owner))
    size = KEY_BYTES + KEM_SEED_BYTES
    secrets = cut(content[size:], KEM_SECRET_BYTES, len(higher), "mask secrets")
    return HybridKeyPair.from_private(content[:size]), dict(zip(higher, secrets, strict=True))


def received(
    setup: Setup, me: int, peers: Sequence[int], message: PeerShares, pairs: tuple[PlanKeyPair, PlanKeyPair]
) -> KemParts:
    """Decapsulate what neighbours sent to this client's sealing and mask pair.

    Raises:
        FaultyServerError: not one ciphertext each.
        SuspectedPeerError: a secret is another than its sender confirmed: a mask that would not cancel.
    """
    sealing_pair, mask_pair = pairs
    lower = [peer for peer in peers if peer < me]
    try:
        ciphertexts, entries = cut_encapsulated(setup.plan, message.encapsulated, peers, lower)
    except DecodeError as error:
        raise FaultyServerError(str(error), round="masked_input", culprits=[SERVER]) from error
    if isinstance(sealing_pair, KeyPair) or isinstance(mask_pair, KeyPair):
        return KemParts()
    sealing = {peer: sealing_pair.kem.decapsulate(text) + text for peer, text in ciphertexts.items()}
    mask: dict[int, bytes] = {}
    for peer, entry in entries.items():
        ciphertext = entry[:KEM_CIPHERTEXT_BYTES]
        secret = mask_pair.kem.decapsulate(ciphertext)
        if confirmed(setup, peer, me, secret, ciphertext) != entry:
            text = "the mask secret encapsulated by a peer is not the one it confirmed"
            raise SuspectedPeerError(text, round="masked_input", culprits=[setup.roster[peer]])
        mask[peer] = secret + ciphertext
    return KemParts(sealing, mask, entries)


def cut_encapsulated(
    plan: Plan, data: bytes, peers: Sequence[int], masked: Sequence[int]
) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Cut the field `encapsulated`: the ciphertexts to or from sealing keys, and the entries of mask keys, by position.

    Args:
        peers: who sends or gets a bundle. masked: those of them that send or get an entry; both ascending.
    Raises:
        DecodeError: wrong total length; always if there is anything although the plan has no ML-KEM.
    """
    if len(data) != encapsulated_bytes(plan, len(peers), len(masked)):
        msg = f"expected {len(peers)} ciphertexts and {len(masked)} mask entries, got {len(data)} bytes"
        raise DecodeError(msg)
    if not is_hybrid(plan):
        return {}, {}
    middle = encapsulated_bytes(plan, len(peers), 0)
    ciphertexts = cut(data[:middle], encapsulated_bytes(plan, 1, 0), len(peers), "ciphertexts")
    entries = cut(data[middle:], mask_entry_bytes(plan), len(masked), "mask entries")
    return dict(zip(peers, ciphertexts, strict=True)), dict(zip(masked, entries, strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Escrow:
    """What a server keeps of one client, to explain its masks if it, or a neighbour, drops out.

    Attributes:
        envelope: as sent.
        entries: by higher position, what it encapsulated to that mask key.
    """

    envelope: bytes = field(repr=False)
    entries: Mapping[int, bytes] = field(repr=False)


def check_escrow(plan: Plan, message: ShareKeys, recipients: Sequence[int]) -> None:
    """Refuse a number of ciphertexts, or a length of the envelope, other than that of the recipients.

    Raises:
        DecodeError: so; always if there is anything although the plan has no ML-KEM.
    """
    higher = [peer for peer in recipients if peer > message.client]
    cut_encapsulated(plan, message.encapsulated, recipients, higher)
    if len(message.envelope) != envelope_bytes(plan, len(higher)):
        msg = f"an envelope takes {envelope_bytes(plan, len(higher))} bytes here, got {len(message.envelope)}"
        raise DecodeError(msg)


def route_encapsulated(
    setup: Setup, advertised: NDArray[np.bool_], inbox: Mapping[int, ShareKeys]
) -> tuple[dict[int, bytes], dict[int, Escrow]]:
    """Sort what was encapsulated by recipient, and keep what explains masks.

    Returns: by recipient the field `encapsulated` of its `PeerShares`; by sender its escrow. Empty without ML-KEM.
    """
    if not is_hybrid(setup.plan):
        return {}, {}
    ciphertexts: dict[int, list[bytes]] = {client: [] for client in inbox}
    entries: dict[int, list[bytes]] = {client: [] for client in inbox}
    escrows: dict[int, Escrow] = {}
    for sender in sorted(inbox):  # ascending, as the recipients expect
        recipients = peers_among(setup, sender, advertised)
        higher = [peer for peer in recipients if peer > sender]
        sent = cut_encapsulated(setup.plan, inbox[sender].encapsulated, recipients, higher)
        for mail, parts in zip((ciphertexts, entries), sent, strict=True):
            for recipient in parts.keys() & inbox.keys():
                mail[recipient].append(parts[recipient])
        escrows[sender] = Escrow(inbox[sender].envelope, sent[1])
    return {client: b"".join(ciphertexts[client] + entries[client]) for client in inbox}, escrows

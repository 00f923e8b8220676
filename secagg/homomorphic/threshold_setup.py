"""The set-up of a threshold key: once per roster, with everyone of it; three rounds, then each client has its key.

    state                  message awaited        step              answer
    ThresholdSetupState0   Invitation             client_advertise  SetupKey
    ThresholdSetupState1   SetupPeerKeys          client_deal       SetupShares
    ThresholdSetupState2   SetupPeerShares        client_hold       SetupConfirmed; the key was handed over before

The server's side is `threshold_setup_server`. A client draws its long-lived secret from the discrete Gaussian, shares
it modulo each prime, seals every share to its holder (X25519, AES-256-GCM), and, against a malicious server, signs its
public key and salted hashes of all shares. A holder refuses a share that does not open or is not the one that was
hashed. What everybody was shown is hashed into the key: clients who were shown different things have different keys,
and can neither sign nor decrypt anything together.

Threat model: as for the rounds; corrupted clients are fixed before the set-up. Honest clients' secrets stay hidden from
fewer than t clients and the server (Shamir modulo each prime; the sealing). Not checked: that a dealer's shares lie on
one polynomial, or that its secret is short. Either spoils every sum that the dealer is in, and hides nobody's less,
since a dealer knows all it dealt. Private keys and polynomials are gone once the set-up is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from secagg import tags
from secagg.errors import SERVER, DecodeError, FaultyServerError, LocalProtocolError, SuspectedPeerError
from secagg.homomorphic import threshold_sums as sums
from secagg.homomorphic.threshold import ThresholdKey
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
    key_bytes,
    key_statement,
    published_bytes,
    salt_bytes,
    share_hash,
    shares_statement,
)
from secagg.masking.messages import HASH_BYTES, SALT_BYTES, cut
from secagg.masking.streams import position_bytes
from secagg.primitives.aead import open_sealed, seal
from secagg.primitives.keys import KEY_BYTES, KeyPair, derive_key
from secagg.primitives.prg import keystream
from secagg.rounds import accept_invitation
from secagg.signatures import verify_signature

if TYPE_CHECKING:
    from collections.abc import Sequence

    from secagg.identity import Identity
    from secagg.rounds import Invitation
    from secagg.setups import Setup

__all__ = [
    "ThresholdSetupState0",
    "ThresholdSetupState1",
    "ThresholdSetupState2",
    "client_advertise",
    "client_deal",
    "client_hold",
    "signed",
]

Keep: TypeAlias = Callable[[ThresholdKey], object]
"""Takes the finished key; must have stored it durably when it returns, like `lambda key: key.save(path)`."""


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdSetupState0:
    """Waits for `Invitation`.

    Attributes:
        contribution: takes the finished key.

    Raises:
        PlanError: no threshold key can be made for this plan; says why.
    """

    setup: Setup
    position: int
    contribution: Keep = field(repr=False)
    identity: Identity | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Notice a wrong plan before anything is drawn."""
        ThresholdParameters.of(self.setup.plan)


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdSetupState1:
    """Key advertised: waits for `SetupPeerKeys`."""

    setup: Setup
    position: int
    contribution: Keep = field(repr=False)
    identity: Identity | None = field(repr=False)
    pair: KeyPair = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdSetupState2:
    """Secret shared: waits for `SetupPeerShares`.

    Attributes:
        keys: hash of everyone's public keys.
        agreed: by peer, the 32-byte X25519 agreement.
        secret, own_share: s_i and its own share of it, packed.
        flooding: 32 bytes.
        hashes: what it published.
    """

    setup: Setup
    position: int
    contribution: Keep = field(repr=False)
    identity: Identity | None = field(repr=False)
    keys: bytes
    agreed: dict[int, bytes] = field(repr=False)
    secret: bytes = field(repr=False)
    own_share: bytes = field(repr=False)
    flooding: bytes = field(repr=False)
    hashes: bytes = field(repr=False)


def client_advertise(
    state: ThresholdSetupState0, message: Invitation, random: bytes
) -> tuple[ThresholdSetupState1, SetupKey]:
    """Make a key pair, for this set-up only.

    Args:
        random: 32 fresh bytes.
    Raises:
        FaultyServerError: the invitation is for another session, round, plan or roster; says which.
    """
    setup, me = state.setup, state.position
    accept_invitation(setup, message, "advertise_keys")
    pair = KeyPair.from_private(derive_key(random, tags.THRESHOLD_PRIVATE_KEY, setup.digest))
    signature = signed(setup, state.identity, key_statement(setup, me, pair.public))
    return ThresholdSetupState1(setup, me, state.contribution, state.identity, pair), SetupKey(
        me, pair.public, signature
    )


def client_deal(
    state: ThresholdSetupState1, message: SetupPeerKeys, random: bytes
) -> tuple[ThresholdSetupState2, SetupShares]:
    """Draw the secret and share it, sealed to each of the others.

    Args:
        random: 32 fresh bytes.
    Raises:
        FaultyServerError: malformed, a key that is repeated or no valid point or not signed by its owner, or another
            in the place of ours.
    """
    setup, me = state.setup, state.position
    made = ThresholdParameters.of(setup.plan)
    public = _vouched(state, message.keys)
    keys = digest_of_keys(setup, public)
    secret = sums.draw_secret(made, derive_key(random, tags.THRESHOLD_SECRET, setup.digest))
    share_for = sums.share_out(made, secret, derive_key(random, tags.THRESHOLD_POLYNOMIALS, setup.digest))
    salts = _salts(setup, random)
    agreed: dict[int, bytes] = {}
    sealed, hashes, own_share = [], [], b""
    for holder, (theirs, salt) in enumerate(zip(public, salts, strict=True)):
        share = sums.pack_share(made, share_for(holder))
        hashes.append(share_hash(keys, me, holder, share + salt) if salt else b"")
        if holder == me:
            own_share = share
            continue
        try:
            agreed[holder] = state.pair.agree(theirs)
        except ValueError as error:
            text = "a public key is not a valid X25519 point"
            raise FaultyServerError(text, round="share_keys", culprits=[SERVER]) from error
        key = _sealing_key(keys, agreed[holder], me, holder)
        sealed.append(seal(key, share + salt, associated_data=_channel(keys, me, holder)))
    published = b"".join(hashes)
    flooding = derive_key(random, tags.THRESHOLD_FLOODING_SEED, setup.digest)
    packed = sums.pack_share(made, secret)
    following = ThresholdSetupState2(
        setup, me, state.contribution, state.identity, keys, agreed, packed, own_share, flooding, published
    )
    signature = signed(setup, state.identity, shares_statement(keys, me, published))
    return following, SetupShares(me, b"".join(sealed), published, signature)


def client_hold(state: ThresholdSetupState2, message: SetupPeerShares, random: bytes) -> tuple[None, SetupConfirmed]:
    """Open and check everyone's shares, and hand the key over, to be stored, before saying so.

    Args:
        random: not used.
    Raises:
        FaultyServerError: malformed, hashes that their dealer did not sign, or others in the place of ours.
        SuspectedPeerError: a sealed share does not open, is no ring element, or not the one its dealer published.
        Whatever handing over raises: nothing was confirmed then, and the step can be repeated.
    """
    del random
    setup, me = state.setup, state.position
    made, n = ThresholdParameters.of(setup.plan), setup.plan.clients
    published = _published(state, message.published)
    try:
        bundles = iter(cut(message.sealed, bundle_bytes(setup.plan), n - 1, "sealed shares"))
    except DecodeError as error:
        raise FaultyServerError(str(error), round="hold_shares", culprits=[SERVER]) from error
    shares = [
        state.own_share if dealer == me else _open(state, dealer, next(bundles), published) for dealer in range(n)
    ]
    context = context_of(setup, made, state.keys, published)
    seeds = {
        peer: derive_key(agreed, tags.THRESHOLD_PAIR, context.fingerprint, *map(position_bytes, sorted((me, peer))))
        for peer, agreed in state.agreed.items()
    }
    key = ThresholdKey(context, me, secret=state.secret, shares=shares, seeds=seeds, flooding=state.flooding)
    state.contribution(key)
    signature = signed(setup, state.identity, confirmation(context))
    return None, SetupConfirmed(me, context.fingerprint, signature)


def signed(setup: Setup, identity: Identity | None, statement: bytes) -> bytes:
    """Sign, or return nothing where the server is assumed honest."""
    if setup.plan.server != "malicious":
        return b""
    if identity is None:  # the session refuses to begin like this
        text = "no identity to sign with"
        raise LocalProtocolError(text, round="set-up")
    return identity.sign(statement)


def _vouched(state: ThresholdSetupState1, data: bytes) -> list[bytes]:
    """Read everyone's public keys, once their identities' signatures hold."""
    setup, step = state.setup, "share_keys"
    try:
        entries = cut(data, key_bytes(setup.plan), setup.plan.clients, "public keys")
    except DecodeError as error:
        raise FaultyServerError(str(error), round=step, culprits=[SERVER]) from error
    public = [entry[:KEY_BYTES] for entry in entries]
    if len(set(public)) != len(public) or public[state.position] != state.pair.public:
        text = "a public key appears twice, or another in the place of this client's"
        raise FaultyServerError(text, round=step, culprits=[SERVER])
    if setup.plan.server == "malicious":
        for peer, entry in enumerate(entries):
            statement = key_statement(setup, peer, public[peer])
            _require_signature(setup, peer, statement, entry[KEY_BYTES:], "public key", step)
    return public


def _published(state: ThresholdSetupState2, data: bytes) -> list[bytes]:
    """Read every dealer's hashes, once their identities' signatures hold."""
    setup, step = state.setup, "hold_shares"
    n, size = setup.plan.clients, published_bytes(setup.plan)
    try:
        entries = cut(data, size, n, "dealers' hashes")
    except DecodeError as error:
        raise FaultyServerError(str(error), round=step, culprits=[SERVER]) from error
    hashes = [entry[: HASH_BYTES * n] for entry in entries]
    if hashes[state.position] != state.hashes:
        text = "the server shows other hashes in the place of this client's"
        raise FaultyServerError(text, round=step, culprits=[SERVER])
    for dealer, entry in enumerate(entries if size else []):
        statement = shares_statement(state.keys, dealer, hashes[dealer])
        _require_signature(setup, dealer, statement, entry[HASH_BYTES * n :], "hashes of shares", step)
    return hashes


def _open(state: ThresholdSetupState2, dealer: int, bundle: bytes, published: Sequence[bytes]) -> bytes:
    """Open one dealer's share, checked against what it published."""
    setup, me = state.setup, state.position
    made = ThresholdParameters.of(setup.plan)
    key = _sealing_key(state.keys, state.agreed[dealer], dealer, me)
    try:
        entry = open_sealed(key, bundle, associated_data=_channel(state.keys, dealer, me))
        share = entry[: made.share_bytes]
        sums.unpack_share(made, share)
    except DecodeError as error:
        text = f"the share sealed by a peer is unusable: {error}"
        raise SuspectedPeerError(text, round="hold_shares", culprits=[setup.roster[dealer]]) from error
    expected = published[dealer][HASH_BYTES * me :][:HASH_BYTES]
    if expected and share_hash(state.keys, dealer, me, entry) != expected:
        text = "the share sealed by a peer is not the one that it published a hash of"
        raise SuspectedPeerError(text, round="hold_shares", culprits=[setup.roster[dealer]])
    return share


def _require_signature(setup: Setup, peer: int, statement: bytes, signature: bytes, what: str, step: str) -> None:
    try:
        verify_signature(setup.identities[peer], statement, signature)
    except DecodeError as error:
        text = f"not signed by the identity of {setup.roster[peer]!r}: its {what}"
        raise FaultyServerError(text, round=step, culprits=[SERVER]) from error


def _sealing_key(keys: bytes, agreed: bytes, dealer: int, holder: int) -> bytes:
    return derive_key(agreed, tags.THRESHOLD_SEALED_SHARE, _channel(keys, dealer, holder))


def _channel(keys: bytes, dealer: int, holder: int) -> bytes:
    return keys + position_bytes(dealer) + position_bytes(holder)


def _salts(setup: Setup, random: bytes) -> Sequence[bytes]:
    n, size = setup.plan.clients, salt_bytes(setup.plan)
    stream = keystream(derive_key(random, tags.THRESHOLD_SALTS, setup.digest), SALT_BYTES * n).tobytes()
    return [stream[SALT_BYTES * holder :][:size] for holder in range(n)]

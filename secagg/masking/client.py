"""The client's four steps. Each takes a state and the server's message and returns the next state and the answer.

A state is used once; `secagg.Client` sees to that. On any error the old state stands and nothing was sent.
Security: semi-honest server. The sealing pair opens shares and is never shared or revealed; the mask pair's private
key is Shamir-shared so that neighbours can help remove a dropout's masks. They are independent, so that rebuilding
a dropout's mask key opens nothing that was sealed.
Source: Bonawitz et al. 2017, Fig. 4 (rounds 0, 1, 2, 4 without the signatures); Bell et al. 2020, Alg. 2 for
sparse graphs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from secagg import tags
from secagg.encoding.packing import pack, reduce
from secagg.errors import SERVER, DecodeError, FaultyServerError, SuspectedPeerError, ThresholdError
from secagg.masking.messages import (
    SEALED_BYTES,
    AdvertiseKeys,
    MaskedInput,
    PeerKeys,
    PeerShares,
    ShareKeys,
    Survivors,
    UnmaskShares,
    cut,
    from_bitmap,
)
from secagg.masking.streams import pairwise_mask_key, position_bytes, seed_commitment, self_mask_key
from secagg.primitives.aead import open_sealed, seal
from secagg.primitives.keys import KEY_BYTES, KeyPair, derive_key
from secagg.primitives.prg import add_masks
from secagg.primitives.shamir import shares_from_bytes, split
from secagg.rounds import accept_invitation, to_vector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from secagg.params import Setup
    from secagg.rounds import Contribution, Invitation

__all__ = [
    "ClientState0",
    "ClientState1",
    "ClientState2",
    "ClientState3",
    "client_advertise_keys",
    "client_masked_input",
    "client_share_keys",
    "client_unmask",
]


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """A neighbour's public keys and the single-use keys agreed with it."""

    mask_key: bytes
    incoming: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class ClientState0:
    """Before the round: waits for `Invitation`."""

    setup: Setup
    position: int
    contribution: Contribution = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class ClientState1:
    """Keys advertised: waits for `PeerKeys`."""

    setup: Setup
    position: int
    contribution: Contribution = field(repr=False)
    sealing: KeyPair = field(repr=False)
    mask: KeyPair = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class ClientState2:
    """Secrets shared: waits for `PeerShares`.

    Attributes:
        peers: by position, the neighbours it sealed shares to.
        own_share: (5,) uint64, its own share of its self-mask seed.
    """

    setup: Setup
    position: int
    contribution: Contribution = field(repr=False)
    mask: KeyPair = field(repr=False)
    self_mask_seed: bytes = field(repr=False)
    own_share: NDArray[np.uint64] = field(repr=False)
    peers: dict[int, Peer] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class ClientState3:
    """Masked input sent: waits for `Survivors`.

    Attributes:
        own_share: as before.
        peer_shares: by position, (2, 5) uint64: the peer's self-mask share and mask-key share.
    """

    setup: Setup
    position: int
    own_share: NDArray[np.uint64] = field(repr=False)
    peer_shares: dict[int, NDArray[np.uint64]] = field(repr=False)


def client_advertise_keys(
    state: ClientState0, message: Invitation, random: bytes
) -> tuple[ClientState1, AdvertiseKeys]:
    """Round 0: make two independent key pairs, for this round only.

    Args:
        random: 32 fresh bytes.
    Raises:
        FaultyServerError: the invitation is for another session, round, plan or roster; says which.
    """
    setup = state.setup
    accept_invitation(setup, message, "advertise_keys")
    sealing = KeyPair.from_private(derive_key(random, tags.SEALING_PRIVATE_KEY, setup.digest))
    mask = KeyPair.from_private(derive_key(random, tags.MASK_PRIVATE_KEY, setup.digest))
    following = ClientState1(setup, state.position, state.contribution, sealing, mask)
    return following, AdvertiseKeys(state.position, sealing.public, mask.public)


def client_share_keys(state: ClientState1, message: PeerKeys, random: bytes) -> tuple[ClientState2, ShareKeys]:
    """Round 1: share the self-mask seed and the mask key among self and neighbours, sealed to each.

    Args:
        random: 32 fresh bytes.
    Raises:
        FaultyServerError: malformed, or a key that is repeated, ours, or not a valid point.
        ThresholdError: fewer than t share holders advertised keys.
    """
    setup, me = state.setup, state.position
    present, keys = _members(message.present, message.keys, 2 * KEY_BYTES, state, "share_keys")
    public = {peer: (pair[:KEY_BYTES], pair[KEY_BYTES:]) for peer, pair in zip(present, keys, strict=True)}
    _require_holders(present, setup, "share holders that advertised keys")
    everyone = [key for pair in public.values() for key in pair] + [state.sealing.public, state.mask.public]
    if len(set(everyone)) != len(everyone):
        text = "a public key appears twice"
        raise FaultyServerError(text, round="share_keys", culprits=[SERVER])
    seed = derive_key(random, tags.SELF_MASK_SEED, setup.digest)
    holders = sorted([*present, me])
    shares = split(
        [seed, state.mask.private_bytes()],
        np.array(holders, dtype=np.uint64) + np.uint64(1),
        t=setup.plan.threshold,
        random=derive_key(random, tags.SHAMIR_COEFFICIENTS, setup.digest),
    )
    peers: dict[int, Peer] = {}
    sealed: list[bytes] = []
    for holder, share in zip(holders, shares, strict=True):
        if holder == me:
            own_share = share[0]
            continue
        sealing_key, mask_key = public[holder]
        secret = _agree(state.sealing, sealing_key, "share_keys")
        outgoing = _sealing_key(secret, setup, (me, state.sealing.public), (holder, sealing_key))
        incoming = _sealing_key(secret, setup, (holder, sealing_key), (me, state.sealing.public))
        sealed.append(seal(outgoing, share.astype("<u8").tobytes(), associated_data=_channel(setup, me, holder)))
        peers[holder] = Peer(mask_key, incoming)
    following = ClientState2(setup, me, state.contribution, state.mask, seed, own_share, peers)
    return following, ShareKeys(me, seed_commitment(setup, me, seed), b"".join(sealed))


def client_masked_input(state: ClientState2, message: PeerShares, random: bytes) -> tuple[ClientState3, MaskedInput]:
    """Round 2: open the peers' shares and send the vector under its self mask and one mask per sharing peer.

    Args:
        random: not used; every mask comes from secrets agreed before.
    Raises:
        FaultyServerError: malformed, or shares from a client that did not advertise keys.
        SuspectedPeerError: a sealed bundle does not open or holds no share.
        ThresholdError: fewer than t share holders shared their secrets.
        TypeError, ValueError, EncodingError: the contribution is not a vector of this plan.
    """
    del random
    setup, me = state.setup, state.position
    present, bundles = _members(message.present, message.sealed, SEALED_BYTES, state, "masked_input")
    _require_subset(present, state.peers, "masked_input", "advertise keys")
    _require_holders(present, setup, "share holders that shared their secrets")
    peer_shares = {peer: _open(state, peer, bundle) for peer, bundle in zip(present, bundles, strict=True)}
    y = to_vector(state.contribution, setup.plan)
    masks = [(self_mask_key(setup, me, state.self_mask_seed), 1)]
    for peer in present:
        secret = _agree(state.mask, state.peers[peer].mask_key, "masked_input")
        masks.append(pairwise_mask_key(setup, (me, state.mask.public), (peer, state.peers[peer].mask_key), secret))
    add_masks(y, masks)
    reduce(y, setup.plan.modulus_bits)
    following = ClientState3(setup, me, state.own_share, peer_shares)
    return following, MaskedInput(me, pack(y, setup.plan.modulus_bits))


def client_unmask(state: ClientState3, message: Survivors, random: bytes) -> tuple[None, UnmaskShares]:
    """Round 4: for every peer reveal one share: of its self mask if it survived, of its mask key if not.

    Args:
        random: not used.
    Raises:
        FaultyServerError: malformed, or a survivor that never shared its secrets.
        ThresholdError: fewer than t share holders survive, so that the sum cannot be recovered anyway.
    """
    del random
    setup, me = state.setup, state.position
    survivors, _ = _members(message.present, b"", 0, state, "unmask")
    _require_subset(survivors, state.peer_shares, "unmask", "share their secrets")
    _require_holders(survivors, setup, "share holders that survive")
    alive = set(survivors)
    revealed = {peer: shares[0 if peer in alive else 1] for peer, shares in state.peer_shares.items()}
    revealed[me] = state.own_share
    return None, UnmaskShares(me, b"".join(revealed[peer].astype("<u8").tobytes() for peer in sorted(revealed)))


def _sealing_key(secret: bytes, setup: Setup, sender: tuple[int, bytes], recipient: tuple[int, bytes]) -> bytes:
    context = [part for position, public in (sender, recipient) for part in (position_bytes(position), public)]
    return derive_key(secret, tags.SEALED_SHARE, setup.digest, *context)


def _channel(setup: Setup, sender: int, recipient: int) -> bytes:
    return setup.digest + position_bytes(sender) + position_bytes(recipient)


def _agree(pair: KeyPair, public: bytes, step: str) -> bytes:
    try:
        return pair.agree(public)
    except ValueError as error:
        text = "a public key is not a valid X25519 point"
        raise FaultyServerError(text, round=step, culprits=[SERVER]) from error


def _open(state: ClientState2, peer: int, bundle: bytes) -> NDArray[np.uint64]:
    channel = _channel(state.setup, peer, state.position)
    try:
        return shares_from_bytes(open_sealed(state.peers[peer].incoming, bundle, associated_data=channel))
    except DecodeError as error:
        text = f"the shares sealed by a peer are unusable: {error}"
        raise SuspectedPeerError(text, round="masked_input", culprits=[state.setup.roster[peer]]) from error


def _members(
    bitmap: bytes, data: bytes, size: int, state: ClientState1 | ClientState2 | ClientState3, step: str
) -> tuple[list[int], list[bytes]]:
    """Read which neighbours a message names and cut its data accordingly; blame the server for what does not fit."""
    try:
        members = from_bitmap(bitmap, state.setup)
        present = state.setup.graph.neighbours(state.position)[members].tolist()
        return present, list(cut(data, size, len(present), "entries")) if size else []
    except DecodeError as error:
        raise FaultyServerError(str(error), round=step, culprits=[SERVER]) from error


def _require_subset(present: list[int], known: Mapping[int, object], step: str, what: str) -> None:
    if not known.keys() >= set(present):
        text = f"the server names a client that did not {what}"
        raise FaultyServerError(text, round=step, culprits=[SERVER])


def _require_holders(present: list[int], setup: Setup, what: str) -> None:
    if len(present) + 1 < setup.plan.threshold:
        raise ThresholdError(needed=setup.plan.threshold, survivors=len(present) + 1, what=what)

"""The server's steps. Each closes a round: it takes the state and what arrived, and returns the next state and outbox.

A dropout is a missing key in the inbox. One step is a fold instead: masked inputs are added to a running sum as they
arrive, so memory is one vector whatever the number of clients, and masks are regenerated stream by stream.

The server is trusted to follow the protocol here; what it holds never includes a client's vector, and a secret it
rebuilds is a survivor's self-mask seed or a dropout's mask key, never both of one client.
Source: Bonawitz et al. 2017, Fig. 4; Bell et al. 2020, Alg. 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from secagg.encoding.packing import Words, add_packed, reduce, word_dtype
from secagg.errors import DecodeError, FaultyClientError, SuspectedPeerError, ThresholdError
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
    to_bitmap,
)
from secagg.masking.streams import pairwise_mask_key, seed_commitment, self_mask_key
from secagg.primitives.keys import KEY_BYTES, KeyPair
from secagg.primitives.prg import add_masks
from secagg.primitives.shamir import LIMBS, SHARE_BYTES, combine, shares_from_bytes
from secagg.rounds import Outbox, Outcome, invite

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from secagg.params import Setup

__all__ = [
    "ServerState0",
    "ServerState1",
    "ServerState2",
    "ServerState3",
    "ServerState4",
    "server_add_masked_input",
    "server_advertise_keys",
    "server_check_keys",
    "server_check_shares",
    "server_check_unmask",
    "server_masked_input",
    "server_open",
    "server_share_keys",
    "server_unmask",
]

_PROBE = KeyPair.from_private(bytes(KEY_BYTES))
"""A key everybody knows: agreeing with it shows whether a point has low order, and nothing else."""


@dataclass(frozen=True, slots=True, eq=False)
class ServerState0:
    """Before the round."""

    setup: Setup


@dataclass(frozen=True, slots=True, eq=False)
class ServerState1:
    """Collects `AdvertiseKeys` from everyone.

    Attributes:
        owners: public key -> who advertised it; grows with every key accepted.
    """

    setup: Setup
    owners: dict[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class ServerState2:
    """Collects `ShareKeys` from those who advertised (U1 of Bonawitz et al.).

    Attributes:
        keys: their public keys, by position.
        advertised: (n,) bool, who they are.
    """

    setup: Setup
    keys: Mapping[int, AdvertiseKeys]
    advertised: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ServerState3:
    """Adds up `MaskedInput` from those who shared (U2).

    Attributes:
        commitments: to their self-mask seeds, by position.
        shared: (n,) bool, who they are.
        total: (length,) words, the running sum; owned by this state and moved on.
    """

    setup: Setup
    keys: Mapping[int, AdvertiseKeys]
    commitments: Mapping[int, bytes]
    shared: NDArray[np.bool_]
    total: Words = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class ServerState4:
    """Collects `UnmaskShares` from the survivors (U3).

    Attributes:
        shared, survived: (n,) bool.
        commitments, total: as before; unmasking uses the total up.
    """

    setup: Setup
    keys: Mapping[int, AdvertiseKeys]
    commitments: Mapping[int, bytes]
    shared: NDArray[np.bool_]
    survived: NDArray[np.bool_]
    total: Words = field(repr=False)


def server_open(state: ServerState0, inbox: Mapping[int, None]) -> tuple[ServerState1, Outbox]:
    """Invite every client of the roster; nothing has arrived yet."""
    del inbox
    return ServerState1(state.setup), invite(state.setup)


def server_check_keys(state: ServerState1, message: AdvertiseKeys) -> None:
    """Refuse keys of the wrong length, points of low order, one key for both purposes, and a key already advertised.

    Raises:
        FaultyClientError: a malformed or low-order key (it would agree on a secret everybody knows), or a single key.
        SuspectedPeerError: another client advertised the same key; one of the two copied it.
    """
    setup = state.setup
    if message.sealing_key == message.mask_key:
        raise _faulty(setup, message.client, "one key for sealing and for masks", "advertise_keys")
    keys = (message.sealing_key, message.mask_key)
    for key in keys:
        if key in state.owners:
            culprits = [setup.roster[client] for client in sorted((message.client, state.owners[key]))]
            text = "two clients advertised the same public key"
            raise SuspectedPeerError(text, round="advertise_keys", culprits=culprits)
    try:
        for key in keys:
            _PROBE.agree(key)
    except ValueError as error:
        text = "a public key is not a valid X25519 point"
        raise _faulty(setup, message.client, text, "advertise_keys") from error
    state.owners.update(dict.fromkeys(keys, message.client))


def server_advertise_keys(state: ServerState1, inbox: Mapping[int, AdvertiseKeys]) -> tuple[ServerState2, Outbox]:
    """Hand every client its neighbours' keys.

    Raises:
        ThresholdError: someone has fewer than t share holders left.
    """
    setup = state.setup
    present = _mask(setup, inbox)
    _require_holders(setup, inbox, present, "share holders that advertised keys")
    outbox: Outbox = {}
    for client in inbox:
        peers = _peers(setup, client, present)
        keys = b"".join(inbox[peer].sealing_key + inbox[peer].mask_key for peer in peers)
        outbox[client] = PeerKeys(client, _bitmap(setup, client, present), keys)
    return ServerState2(setup, dict(inbox), present), outbox


def server_check_shares(state: ServerState2, message: ShareKeys) -> None:
    """Refuse a malformed commitment, and a number of sealed bundles other than that of neighbours with keys.

    Raises:
        FaultyClientError: so.
    """
    if len(message.commitment) != KEY_BYTES:
        raise _faulty(state.setup, message.client, f"a commitment has {KEY_BYTES} bytes", "share_keys")
    recipients = _peers(state.setup, message.client, state.advertised)
    try:
        cut(message.sealed, SEALED_BYTES, len(recipients), "sealed bundles")
    except DecodeError as error:
        raise _faulty(state.setup, message.client, str(error), "share_keys") from error


def server_share_keys(state: ServerState2, inbox: Mapping[int, ShareKeys]) -> tuple[ServerState3, Outbox]:
    """Route every sealed bundle to its recipient.

    Raises:
        ThresholdError: someone has fewer than t share holders left.
    """
    setup = state.setup
    shared = _mask(setup, inbox)
    _require_holders(setup, inbox, shared, "share holders that shared their secrets")
    mail: dict[int, list[bytes]] = {client: [] for client in inbox}
    for sender in sorted(inbox):  # ascending, so that every recipient's bundles are too
        recipients = _peers(setup, sender, state.advertised)
        bundles = cut(inbox[sender].sealed, SEALED_BYTES, len(recipients), "sealed bundles")
        for recipient, bundle in zip(recipients, bundles, strict=True):
            if recipient in mail:
                mail[recipient].append(bundle)
    outbox: Outbox = {
        client: PeerShares(client, _bitmap(setup, client, shared), b"".join(bundles))
        for client, bundles in mail.items()
    }
    total = np.zeros(setup.plan.length, dtype=word_dtype(setup.plan.modulus_bits))
    commitments = {client: message.commitment for client, message in inbox.items()}
    return ServerState3(setup, state.keys, commitments, shared, total), outbox


def server_add_masked_input(state: ServerState3, message: MaskedInput) -> ServerState3:
    """Add one masked input to the running sum: the one fold, whose sum moves on to the returned state.

    Raises:
        FaultyClientError: not a packed vector of the plan; the sum is unchanged.
    """
    try:
        add_packed(message.vector, state.setup.plan.modulus_bits, state.total)
    except DecodeError as error:
        raise _faulty(state.setup, message.client, str(error), "masked_input") from error
    return state


def server_masked_input(state: ServerState3, arrived: Collection[int]) -> tuple[ServerState4, Outbox]:
    """Tell the survivors who survived.

    Args:
        arrived: whose masked inputs are in the sum.
    Raises:
        ThresholdError: fewer survive than the plan asks for, or the shares they hold cannot rebuild some secret that is
            needed.
    """
    setup = state.setup
    least = setup.plan.least_survivors
    if len(arrived) < least:
        raise ThresholdError(needed=least, survivors=len(arrived), what="clients that delivered a masked input")
    survived = _mask(setup, arrived)
    following = ServerState4(setup, state.keys, state.commitments, state.shared, survived, state.total)
    _require_holders(setup, _owners_to_rebuild(following), survived, "share holders that survive")
    return following, {client: Survivors(client, _bitmap(setup, client, survived)) for client in sorted(arrived)}


def server_check_unmask(state: ServerState4, message: UnmaskShares) -> None:
    """Refuse a wrong number of shares, or shares outside the field.

    Raises:
        FaultyClientError: so.
    """
    expected = len(_share_owners(state, message.client))
    try:
        cut(message.shares, SHARE_BYTES, expected, "shares")
        shares_from_bytes(message.shares)
    except DecodeError as error:
        raise _faulty(state.setup, message.client, str(error), "unmask") from error


def server_unmask(state: ServerState4, inbox: Mapping[int, UnmaskShares]) -> tuple[Outcome, Outbox]:
    """Rebuild the survivors' self masks and the dropouts' pairwise masks, and remove them from the sum.

    Returns: the sum modulo 2^modulus_bits of the survivors' vectors; nothing is sent.
    Raises:
        ThresholdError: fewer than t shares of some secret arrived; the state stands, so late shares still help.
        SuspectedPeerError: shares do not combine to a secret, or to another than was committed to or advertised.
    """
    setup = state.setup
    owners = _owners_to_rebuild(state)
    _require_holders(setup, owners, _mask(setup, inbox), "share holders that sent shares")
    secrets = _rebuild(state, owners, inbox)
    masks = list(_masks_to_remove(state, secrets))
    add_masks(state.total, masks)
    reduce(state.total, setup.plan.modulus_bits)
    state.total.flags.writeable = False
    return Outcome(state.total, np.flatnonzero(state.survived).tolist()), {}


def _rebuild(state: ServerState4, owners: list[int], inbox: Mapping[int, UnmaskShares]) -> dict[int, bytes]:
    """Combine t shares of every owner's secret; owners whose t holders are the same are combined together."""
    setup, t = state.setup, state.setup.plan.threshold
    row_of = np.full(setup.plan.clients, -1)
    row_of[owners] = np.arange(len(owners))
    points = np.zeros((len(owners), t), dtype=np.uint64)
    shares = np.zeros((len(owners), t, LIMBS), dtype=np.uint64)
    filled = np.zeros(len(owners), dtype=np.int64)
    for holder in sorted(inbox):
        rows = row_of[_share_owners(state, holder)]
        useful = (rows >= 0) & (filled[rows] < t)
        rows = rows[useful]
        points[rows, filled[rows]] = holder + 1
        shares[rows, filled[rows]] = shares_from_bytes(inbox[holder].shares)[useful]
        filled[rows] += 1
    secrets: dict[int, bytes] = {}
    distinct, group_of = np.unique(points, axis=0, return_inverse=True)
    for group, xs in enumerate(distinct):
        rows = np.flatnonzero(group_of.reshape(-1) == group)
        try:
            found = combine(xs, shares[rows].swapaxes(0, 1), t=t)
        except DecodeError as error:
            culprits = [setup.roster[int(x) - 1] for x in xs]
            raise SuspectedPeerError(str(error), round="unmask", culprits=culprits) from error
        secrets |= {owners[row]: secret for row, secret in zip(rows.tolist(), found, strict=True)}
    return secrets


def _masks_to_remove(state: ServerState4, secrets: Mapping[int, bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield the survivors' self masks, and the masks that survivors share with dropouts, signed for removal."""
    setup = state.setup
    for owner, secret in secrets.items():
        if state.survived[owner]:
            if seed_commitment(setup, owner, secret) != state.commitments[owner]:
                raise _misfit(setup, owner, "seed than was committed to")
            yield self_mask_key(setup, owner, secret), -1
            continue
        pair = KeyPair.from_private(secret)
        if pair.public != state.keys[owner].mask_key:
            raise _misfit(setup, owner, "mask key than was advertised")
        for survivor in _peers(setup, owner, state.survived):
            public = state.keys[survivor].mask_key
            key, sign = pairwise_mask_key(setup, (survivor, public), (owner, pair.public), pair.agree(public))
            yield key, -sign


def _owners_to_rebuild(state: ServerState4) -> list[int]:
    """Survivors (self mask) and dropouts that share a mask with one (mask key), ascending."""
    dropouts: list[int] = np.flatnonzero(state.shared & ~state.survived).tolist()
    needed = [client for client in dropouts if _peers(state.setup, client, state.survived)]
    return sorted([*np.flatnonzero(state.survived).tolist(), *needed])


def _share_owners(state: ServerState4, holder: int) -> list[int]:
    """Whose shares a survivor sends, in order: its own and those of its neighbours that shared."""
    return sorted([holder, *_peers(state.setup, holder, state.shared)])


def _mask(setup: Setup, positions: Iterable[int]) -> NDArray[np.bool_]:
    mask = np.zeros(setup.plan.clients, dtype=np.bool_)
    mask[list(positions)] = True
    return mask


def _peers(setup: Setup, client: int, members: NDArray[np.bool_]) -> list[int]:
    """The client's neighbours among `members`, ascending."""
    neighbours = setup.graph.neighbours(client)
    peers: list[int] = neighbours[members[neighbours]].tolist()
    return peers


def _bitmap(setup: Setup, client: int, members: NDArray[np.bool_]) -> bytes:
    return to_bitmap(members[setup.graph.neighbours(client)])


def _require_holders(setup: Setup, owners: Iterable[int], holders: NDArray[np.bool_], what: str) -> None:
    """Raise unless every owner has t holders (itself and its neighbours) left."""
    counts = [int(holders[setup.graph.neighbours(owner)].sum()) + int(holders[owner]) for owner in owners]
    if min(counts, default=0) < setup.plan.threshold:
        raise ThresholdError(needed=setup.plan.threshold, survivors=min(counts, default=0), what=what)


def _misfit(setup: Setup, owner: int, what: str) -> SuspectedPeerError:
    holders = sorted([owner, *setup.graph.neighbours(owner).tolist()])
    text = f"the shares rebuild another {what}: {setup.roster[owner]!r} dealt wrong shares or a holder changed one"
    return SuspectedPeerError(text, round="unmask", culprits=[setup.roster[holder] for holder in holders])


def _faulty(setup: Setup, client: int, text: str, step: str) -> FaultyClientError:
    return FaultyClientError(text, round=step, culprits=[setup.roster[client]])

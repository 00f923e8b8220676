"""The client's steps. Each takes a state and the server's message and returns the next state and the answer.

A state is used once; `secagg.Client` sees to that. On any error the old state stands and nothing was sent.

The sealing pair opens shares and is never shared or revealed; the mask pair's private key is Shamir-shared so that
neighbours can help remove a dropout's masks. They are independent, so that rebuilding a dropout's mask key opens
nothing that was sealed. Where keys are hybrid (`hybrid`), the key of an envelope that holds the mask pair is shared.

Against a malicious server, public keys are signed by identities the caller pinned, and before a client reveals any
share it sees t signatures over the very same survivors, keys and model that it signed itself. As 2t > n + c, no two
survivor sets can both get so many, hence of each client at most one of its two secrets opens. What is hidden: every
honest client's vector, but for the sum over all honest survivors. Not promised: that the sum is right, or comes at all.
On a sparse graph that server might choose another graph, or who drops out of it: `secagg.odds` says what is done.
Source: Bonawitz et al. 2017, Fig. 4 (without and with the underlined parts) and sec. 6.2; Bell et al. 2020, Alg. 2 for
sparse graphs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from secagg import tags
from secagg.encoding.packing import pack, packed_bytes, reduce
from secagg.errors import SERVER, FaultyServerError, LocalProtocolError, ThresholdError
from secagg.masking.bundles import dealt_entries, open_bundles
from secagg.masking.client_states import ClientState0, ClientState1, ClientState2, ClientState3, ClientState4, Peer
from secagg.masking.extras import FIRST_EXTRA, commitments, revealed_number
from secagg.masking.hybrid import (
    derive_pair,
    escrow,
    halves,
    received,
    recovery_key,
)
from secagg.masking.messages import (
    AdvertiseKeys,
    ConsistencyCheck,
    MaskedInput,
    PeerKeys,
    PeerShares,
    PeerSignatures,
    ShareKeys,
    Survivors,
    UnmaskShares,
    hashes_bytes,
    is_hybrid,
    keys_bytes,
    sealed_bytes,
    told_of,
)
from secagg.masking.parties import mask_of
from secagg.masking.reading import (
    cut_entries,
    keyed,
    named,
    require_agreed,
    require_enough,
    require_subset,
    vouched_keys,
)
from secagg.masking.streams import channel, pairwise_mask_keys, sealing_key, self_mask_key
from secagg.masking.transcript import (
    consistency_statement,
    digest_of_keys,
    entry_hash,
    keys_statement,
    shared_by,
    shares_statement,
)
from secagg.primitives.aead import seal
from secagg.primitives.keys import derive_key
from secagg.primitives.prg import add_masks
from secagg.primitives.shamir import split
from secagg.rounds import accept_invitation, to_vector
from secagg.wire import decode

if TYPE_CHECKING:
    from secagg.masking.hybrid import PlanKeyPair
    from secagg.rounds import Invitation

__all__ = [
    "client_advertise_keys",
    "client_consistency_check",
    "client_masked_input",
    "client_share_keys",
    "client_share_keys_again",
    "client_unmask",
    "client_unmask_agreed",
]


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
    sealing = derive_pair(setup, random, tags.SEALING_PRIVATE_KEY, tags.SEALING_KEM_SEED)
    mask = derive_pair(setup, random, tags.MASK_PRIVATE_KEY, tags.MASK_KEM_SEED)
    signature = b""
    if state.identity is not None:
        signature = state.identity.sign(keys_statement(setup, state.position, sealing.public, mask.public))
    following = ClientState1(setup, state.position, state.contribution, state.identity, state.extras, sealing, mask)
    return following, AdvertiseKeys(state.position, sealing.public, mask.public, signature, setup.model)


def client_share_keys(state: ClientState1, message: PeerKeys, random: bytes) -> tuple[ClientState2, ShareKeys]:
    """Round 1: share the self-mask seed, the mask key and extra secrets among self and neighbours, sealed to each.

    Args:
        random: 32 fresh bytes; where keys are hybrid, encapsulation draws from the operating system besides.
    Raises:
        FaultyServerError: malformed, a key that is repeated, ours, not a valid point, or not signed by its owner, or
            a root of all keys that ours are not under.
        ThresholdError: fewer than t share holders advertised keys.
    """
    return _share_keys(state, message, random, None)


def client_share_keys_again(
    state: ClientState1, message: PeerKeys, random: bytes, stored: bytes
) -> tuple[ClientState2, ShareKeys]:
    """Round 1 once more, resuming: what was encapsulated cannot be drawn again, and is recalled from the stored answer.

    Args:
        stored: the frame that answered this message before, with the same randomness.
    Raises:
        DecodeError: it is not that.
        FaultyServerError, ThresholdError: as above.
    """
    return _share_keys(state, message, random, decode(ShareKeys, stored, state.setup))


def _share_keys(
    state: ClientState1, message: PeerKeys, random: bytes, sent: ShareKeys | None
) -> tuple[ClientState2, ShareKeys]:
    setup, me = keyed(state, message.proof), state.position
    present = named(message.present, setup.graph.neighbours(me), "share_keys")
    keys = cut_entries(message.keys, keys_bytes(setup.plan), present, "share_keys")
    public = vouched_keys(setup, present, keys)
    require_enough(present, setup, "share holders that advertised keys")
    whole = [key for pair in public.values() for key in pair] + [state.sealing.public, state.mask.public]
    everyone = [half for key in whole for half in halves(setup.plan, key)]
    if len(set(everyone)) != len(everyone):
        text = "a public key appears twice"
        raise FaultyServerError(text, round="share_keys", culprits=[SERVER])
    seed = derive_key(random, tags.SELF_MASK_SEED, setup.digest)
    recovery = recovery_key(setup, random, state.mask)
    parts, envelope = escrow(state, public, recovery, sent)
    holders = sorted([*present, me])
    shares = split(
        [seed, recovery, *state.extras],
        np.array(holders, dtype=np.uint64) + np.uint64(1),
        t=setup.plan.threshold,
        random=derive_key(random, tags.SHAMIR_COEFFICIENTS, setup.digest),
    )
    peers: dict[int, Peer] = {}
    sealed: list[bytes] = []
    hashes: list[bytes] = []
    for holder, entries in zip(holders, dealt_entries(setup, random, shares), strict=True):
        if state.identity is not None:
            hashes += [entry_hash(setup, me, holder, purpose, entry) for purpose, entry in enumerate(entries)]
        if holder == me:
            own_entry, own_extras = entries[0], entries[FIRST_EXTRA:]
            continue
        theirs, mask_key = public[holder]
        secret = _agree(state.sealing, theirs, "share_keys")
        peers[holder] = Peer(theirs, mask_key, secret, parts.mask.get(holder, b""))
        outgoing = secret + parts.sealing.get(holder, b"")
        key = sealing_key(setup, outgoing, (me, state.sealing.public), (holder, theirs))
        where = channel(setup, me, holder, parts.entries.get(holder, b""))
        sealed.append(seal(key, b"".join(entries), associated_data=where))
    advertised = {peer: sealing + mask for peer, (sealing, mask) in public.items()}
    known = digest_of_keys(setup, advertised | {me: state.sealing.public + state.mask.public})
    following = ClientState2(
        setup,
        me,
        state.contribution,
        state.identity,
        known,
        state.sealing,
        state.mask,
        seed,
        own_entry,
        own_extras,
        peers,
    )
    commitment, published, signature = commitments(setup, me, seed, state.extras), b"".join(hashes), b""
    bundles, encapsulated = b"".join(sealed), parts.encapsulated
    if sent is not None and is_hybrid(setup.plan):  # bundles were sealed under secrets that are gone
        bundles, encapsulated = sent.sealed, sent.encapsulated
    if state.identity is not None:
        statement = shares_statement(setup, me, commitment, published, encapsulated, envelope)
        signature = state.identity.sign(statement)
    return following, ShareKeys(me, commitment, bundles, published, signature, encapsulated, envelope)


def client_masked_input(state: ClientState2, message: PeerShares, random: bytes) -> tuple[ClientState3, MaskedInput]:
    """Round 2: open the peers' shares and send the vector under its self mask and one mask per sharing peer.

    Args:
        random: 32 fresh bytes for a lattice mask; every other mask comes from secrets agreed before.
    Raises:
        FaultyServerError: malformed, or shares from a client that did not advertise keys.
        SuspectedPeerError: a sealed bundle does not open, holds no share, or another than its dealer published.
        ThresholdError: fewer than t share holders shared their secrets.
        TypeError, ValueError, EncodingError: the contribution is not a vector of this plan.
    """
    setup, me = state.setup, state.position
    told = named(message.present, told_of(setup, me), "masked_input")
    neighbours = set(setup.graph.neighbours(me).tolist())
    present = [peer for peer in told if peer in neighbours]
    bundles = cut_entries(message.sealed, sealed_bytes(setup.plan) + hashes_bytes(setup.plan), present, "masked_input")
    require_subset(present, state.peers, "masked_input", "advertise keys")
    require_enough(present, setup, "share holders that shared their secrets")
    parts = received(setup, me, present, message, (state.sealing, state.mask))
    entries = open_bundles(state, present, bundles, parts)
    y, upload = to_vector(state.contribution, setup.plan), None
    if setup.plan.lattice is not None:
        from secagg.lattice.rlwe import conceal  # noqa: PLC0415 -- loads only where it is used

        y, upload = conceal(setup, y, random, room=packed_bytes(*setup.plan.masked))
    shared = mask_of(setup, [me, *told])
    pairs = [
        (
            (me, state.mask.public),
            (peer, state.peers[peer].mask_key),
            _agree(state.mask, state.peers[peer].mask_key, "masked_input")
            + parts.mask.get(peer, state.peers[peer].mask_part),
        )
        for peer in present
    ]
    pairwise = pairwise_mask_keys(setup, pairs, shared=shared_by(setup, shared))
    add_masks(y, [(self_mask_key(setup, me, state.self_mask_seed), 1), *pairwise])
    bits = setup.plan.masked[1]
    reduce(y, bits)
    following = ClientState3(setup, me, state.identity, state.keys, state.own_entry, state.own_extras, entries, shared)
    packed = pack(y, bits)
    if upload is not None:
        upload[: len(packed)] = packed
        packed = memoryview(upload)
    return following, MaskedInput(me, packed)


def client_unmask(state: ClientState3, message: Survivors, random: bytes) -> tuple[None, UnmaskShares]:
    """Round 4: for every peer reveal one share: of its self mask if it survived, of its mask key if not.

    And of one extra secret of each survivor, if there are any: which, the number of survivors says.

    Args:
        random: not used.
    Raises:
        FaultyServerError: malformed, or a survivor that never shared its secrets.
        ThresholdError: fewer than t share holders survive, so that the sum cannot be recovered anyway, or fewer clients
            than the plan asks for.
    """
    del random
    return None, _reveal(state, _survivors(state, message, "unmask"))


def client_consistency_check(
    state: ClientState3, message: Survivors, random: bytes
) -> tuple[ClientState4, ConsistencyCheck]:
    """Round 3, malicious server: sign who survived, with all that led there, before anything is revealed.

    Args:
        random: not used.
    Raises:
        FaultyServerError: malformed, or a survivor that never shared its secrets.
        ThresholdError: fewer than t share holders survive, so that the sum cannot be recovered anyway, or fewer clients
            than the plan asks for.
    """
    del random
    setup, me = state.setup, state.position
    alive = _survivors(state, message, "consistency_check")
    survived = mask_of(setup, [me, *alive])
    statement = consistency_statement(setup, state.keys, survived, shared=shared_by(setup, state.shared))
    if state.identity is None:  # the session refuses to begin like this
        text = "no identity to sign with"
        raise LocalProtocolError(text, round="consistency_check")
    following = ClientState4(setup, me, state.own_entry, state.own_extras, state.entries, survived, statement)
    return following, ConsistencyCheck(me, state.identity.sign(statement))


def client_unmask_agreed(state: ClientState4, message: PeerSignatures, random: bytes) -> tuple[None, UnmaskShares]:
    """Round 4, malicious server: reveal shares once t clients have signed the very same.

    On a complete graph this client is one of the t; on a sparse one all are of the committee.

    Args:
        random: not used.
    Raises:
        FaultyServerError: malformed, a signature of a client that did not survive, or one over something else: other
            survivors, keys or another model.
        ThresholdError: fewer than t clients signed.
    """
    del random
    require_agreed(state.setup, state.position, message, state.statement, state.alive, "unmask")
    return None, _reveal(state, np.flatnonzero(state.alive).tolist())


def _survivors(state: ClientState3, message: Survivors, step: str) -> list[int]:
    """Read who survived, and refuse those that cannot have, or too few."""
    setup = state.setup
    survivors = named(message.present, told_of(setup, state.position), step)
    if not state.shared[survivors].all():
        text = "the server names a client that did not share their secrets"
        raise FaultyServerError(text, round=step, culprits=[SERVER])
    holders = [peer for peer in survivors if peer in state.entries]
    require_enough(holders, setup, "share holders that survive")
    if (setup.plan.keys_draw_graph or setup.plan.extras) and len(survivors) + 1 < setup.plan.least_survivors:
        what = "clients that delivered a masked input"
        raise ThresholdError(needed=setup.plan.least_survivors, survivors=len(survivors) + 1, what=what)
    return survivors


def _reveal(state: ClientState3 | ClientState4, survivors: list[int]) -> UnmaskShares:
    """Choose one share of every peer that shared: of its self mask if it survived, of its mask key if not.

    And the share of every survivor's extra secret that these survivors open, if they open one.
    """
    me = state.position
    alive = {*survivors, me}
    chosen = {peer: entries[0 if peer in alive else 1] for peer, entries in state.entries.items()} | {
        me: state.own_entry
    }
    revealed = [chosen[peer] for peer in sorted(chosen)]
    number = revealed_number(state.setup.plan, len(alive))
    if number is not None:
        extras = {peer: entries[FIRST_EXTRA + number] for peer, entries in state.entries.items() if peer in alive}
        extras[me] = state.own_extras[number]
        revealed += [extras[peer] for peer in sorted(extras)]
    return UnmaskShares(me, b"".join(revealed))


def _agree(pair: PlanKeyPair, public: bytes, step: str) -> bytes:
    try:
        return pair.agree(public)
    except ValueError as error:
        text = "a public key is not a valid X25519 point"
        raise FaultyServerError(text, round=step, culprits=[SERVER]) from error

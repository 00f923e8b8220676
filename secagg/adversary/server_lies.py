"""Lies of a server, one function each: what it sends instead of what it should."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from secagg.adversary.stage import ALLY, CLIENTS, PLAN, VICTIM, Directory, Stage
from secagg.identity import Identity
from secagg.masking.messages import (
    SIGNATURE_BYTES,
    AdvertiseKeys,
    ConsistencyCheck,
    PeerKeys,
    PeerShares,
    PeerSignatures,
    sealed_bytes,
)
from secagg.masking.parties import mask_of
from secagg.masking.transcript import consistency_statement, digest_of_keys, keys_statement
from secagg.primitives.keys import KeyPair
from secagg.rounds import Invitation
from secagg.setups import Setup
from secagg.wire import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from secagg.adversary.liar import Outbox, ServerLie
    from secagg.params import ClientId, Plan

OTHERS = CLIENTS.replace(VICTIM, "")
HALVES = ("AB", "CDE")


# Before the round


def _propose(stage: Stage, outbox: Outbox, make: Callable[[Stage], object]) -> Outbox:
    for client in CLIENTS:
        stage.propose(client, lambda: make(stage))
    return outbox


def _setup_of(stage: Stage, plan: Plan, members: dict[ClientId, bytes]) -> Setup:
    return Setup(plan=plan, roster=Directory(members), session=stage.session, round=stage.number)


def _one_key_twice(stage: Stage) -> Setup:
    members = stage.members
    return _setup_of(stage, PLAN, members | {ALLY: members["D"]})


def _proposal(make: Callable[[Stage], object]) -> ServerLie:
    return partial(_propose, make=make)


lowered_threshold = _proposal(lambda _: replace(PLAN, threshold=PLAN.threshold - 1))
chosen_graph = _proposal(lambda _: replace(PLAN, degree=2, threshold=3))
duplicate_identities = _proposal(_one_key_twice)


# advertise_keys


def _invite(stage: Stage, setups: dict[str, Setup]) -> Outbox:
    return {
        client: [
            encode(
                Invitation(stage.at(client), setup.session, setup.round, setup.plan.digest, setup.roster_digest), setup
            )
        ]
        for client, setup in setups.items()
    }


def changed_modulus(stage: Stage, _: Outbox) -> Outbox:
    """Invite to a round whose sums wrap earlier."""
    members = stage.members
    other = _setup_of(stage, replace(PLAN, modulus_bits=PLAN.modulus_bits - 3), members)
    return _invite(stage, dict.fromkeys(CLIENTS, other))


def equivocating_roster(stage: Stage, _: Outbox) -> Outbox:
    """Invite each half to a roster in which the server plays two of the other half."""
    members = stage.members
    setups: dict[str, Setup] = {}
    for half, rest in (HALVES, HALVES[::-1]):
        played: dict[ClientId, bytes] = {client: Identity.generate().public for client in rest[:2]}
        setups |= dict.fromkeys(half, _setup_of(stage, PLAN, members | played))
    return _invite(stage, setups)


def earlier_round(stage: Stage, _: Outbox) -> Outbox:
    """Send the invitations of the round before."""
    return _invite(stage, stage.earlier().setups)


def victim_only(stage: Stage, outbox: Outbox) -> Outbox:
    """Invite nobody but the victim."""
    del stage
    return {VICTIM: outbox[VICTIM]}


def twice(stage: Stage, outbox: Outbox) -> Outbox:
    """Ask everybody twice."""
    del stage
    return {client: frames * 2 for client, frames in outbox.items()}


# share_keys


def _with_keys(stage: Stage, client: str, keys: dict[str, bytes]) -> bytes:
    """Name all peers to a client, some with other entries than they sent: two keys and a signature."""
    message = decode(PeerKeys, stage.peer_keys(client, CLIENTS), stage.setup)
    size = len(message.keys) // len(OTHERS)
    peers = stage.peers(client, CLIENTS)
    parts = [keys.get(peer, message.keys[size * i : size * (i + 1)]) for i, peer in enumerate(peers)]
    return encode(PeerKeys(message.client, message.present, b"".join(parts), message.proof), stage.setup)


def key_substitution(stage: Stage, _: Outbox) -> Outbox:
    """Stand between the victim and everybody else with key pairs of its own, signed by itself."""
    signer = Identity.generate()

    def entry(client: str) -> bytes:
        sealing, mask = (KeyPair.from_private(os.urandom(32)).public for _ in range(2))
        return sealing + mask + signer.sign(keys_statement(stage.setup, stage.at(client), sealing, mask))

    ours = {client: entry(client) for client in CLIENTS}
    shown = {client: OTHERS if client == VICTIM else VICTIM for client in CLIENTS}
    return {
        client: [_with_keys(stage, client, {peer: ours[peer] for peer in peers})] for client, peers in shown.items()
    }


def _entry_of(stage: Stage, client: str) -> bytes:
    said = stage.said(AdvertiseKeys, "advertise_keys", client)
    entry: bytes = said.sealing_key + said.mask_key + said.signature
    return entry


def replayed_keys(stage: Stage, _: Outbox) -> Outbox:
    """Show everybody two keys of the round before, signatures and all."""
    old = stage.earlier()
    return {
        client: [_with_keys(stage, client, {peer: _entry_of(old, peer) for peer in CLIENTS[:2]})] for client in CLIENTS
    }


def exchanged_keys(stage: Stage, _: Outbox) -> Outbox:
    """Show everybody the keys of the first two peers under each other's name."""
    outbox: Outbox = {}
    for client in CLIENTS:
        first, second = stage.peers(client, CLIENTS)[:2]
        exchanged = {first: _entry_of(stage, second), second: _entry_of(stage, first)}
        outbox[client] = [_with_keys(stage, client, exchanged)]
    return outbox


def restart_with_old_keys(stage: Stage, _: Outbox) -> Outbox:
    """Show a victim that began the round anew the keys of the others, of when the same round ran to its end."""
    return {VICTIM: [stage.earlier(number=stage.number).peer_keys(VICTIM, CLIENTS)]}


def restart_with_old_shares(stage: Stage, _: Outbox) -> Outbox:
    """Hand it what the others had sealed to it then."""
    return {VICTIM: [stage.earlier(number=stage.number).peer_shares(VICTIM, CLIENTS)]}


def cohort_of_one(stage: Stage, _: Outbox) -> Outbox:
    """Tell the victim that nobody else came, and leave the others out."""
    return {VICTIM: [stage.peer_keys(VICTIM, VICTIM)]}


def withheld_keys(stage: Stage, _: Outbox) -> Outbox:
    """Tell B that A did not advertise keys, and everybody else that all did."""
    return {client: [stage.peer_keys(client, "BCDE" if client == "B" else CLIENTS)] for client in CLIENTS}


def survivors_after_withheld_keys(stage: Stage, _: Outbox) -> Outbox:
    """Name to everybody those that it knows: A and B do not know each other."""
    known = {"A": "ACDE", "B": "BCDE"}
    return {client: [stage.survivors(client, known.get(client, CLIENTS))] for client in CLIENTS}


# masked_input


def _altered_shares(stage: Stage, alter: Callable[[bytes], bytes]) -> Outbox:
    message = decode(PeerShares, stage.peer_shares(VICTIM, CLIENTS), stage.setup)
    altered = PeerShares(message.client, message.present, alter(message.sealed), message.encapsulated)
    return {VICTIM: [encode(altered, stage.setup)]}


def swapped_recipients(stage: Stage, _: Outbox) -> Outbox:
    """Hand the victim what B sealed to C."""
    wrong = stage.bundle("B", "C")
    return _altered_shares(stage, lambda sealed: wrong + sealed[len(wrong) :])


def garbage_shares(stage: Stage, _: Outbox) -> Outbox:
    """Hand the victim random bytes in place of what B sealed."""
    size = sealed_bytes(stage.setup.plan)
    return _altered_shares(stage, lambda sealed: os.urandom(size) + sealed[size:])


def framed_dealer(stage: Stage, _: Outbox) -> Outbox:
    """Hand the victim another hash than B published."""
    at = sealed_bytes(stage.setup.plan)
    return _altered_shares(stage, lambda sealed: sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])


def truncated_shares(stage: Stage, _: Outbox) -> Outbox:
    """Cut the last byte off what the victim is handed."""
    return _altered_shares(stage, lambda sealed: sealed[:-1])


def another_channel(stage: Stage, outbox: Outbox) -> Outbox:
    """Hand everybody its neighbour's mail."""
    del stage
    return dict(zip(outbox, [*list(outbox.values())[1:], outbox[VICTIM]], strict=True))


def two_cohorts(stage: Stage, outbox: Outbox) -> Outbox:
    """Ask for the masked input a second time, with one peer less."""
    return {
        client: [*frames, stage.peer_shares(client, stage.peers(client, CLIENTS)[1:])]
        for client, frames in outbox.items()
    }


# consistency_check


def _nobodys(_: str) -> bytes:
    return os.urandom(SIGNATURE_BYTES)


def _signatures(stage: Stage, client: str, signature_of: Callable[[str], bytes]) -> bytes:
    peers = stage.peers(client, CLIENTS)
    signed = b"".join(map(signature_of, peers))
    return encode(PeerSignatures(stage.at(client), stage.bitmap(client, peers), signed), stage.setup)


def split_survivors(stage: Stage, _: Outbox) -> Outbox:
    """Tell one half that all survived, the other that the victim did not."""
    return {client: [stage.survivors(client, CLIENTS if client in HALVES[0] else OTHERS)] for client in CLIENTS}


def dropped(stage: Stage, _: Outbox) -> Outbox:
    """Tell everybody else that the victim dropped out, whose masked input has arrived."""
    return {client: [stage.survivors(client, OTHERS)] for client in OTHERS}


def alone(stage: Stage, _: Outbox) -> Outbox:
    """Tell the victim that nobody else survived."""
    return {VICTIM: [stage.survivors(VICTIM, VICTIM)]}


def revived(stage: Stage, outbox: Outbox) -> Outbox:
    """Count as a survivor whoever once advertised keys."""
    return {client: [stage.survivors(client, CLIENTS)] for client in outbox}


def asked_twice(stage: Stage, outbox: Outbox) -> Outbox:
    """Tell everybody that all survived, and then that the first peer did not."""
    return {
        client: [*frames, stage.survivors(client, stage.peers(client, CLIENTS)[1:])]
        for client, frames in outbox.items()
    }


def early_request(stage: Stage, outbox: Outbox) -> Outbox:
    """Ask for shares at once, with signatures of nobody."""
    return {client: [_signatures(stage, client, _nobodys)] for client in outbox}


def replayed_survivors(stage: Stage, _: Outbox) -> Outbox:
    """Send the frames of the round before."""
    return stage.earlier().requests("consistency_check")


# unmask


def forged_signatures(stage: Stage, outbox: Outbox) -> Outbox:
    """Show signatures that nobody made."""
    return {client: [_signatures(stage, client, _nobodys)] for client in outbox}


def replayed_signatures(stage: Stage, outbox: Outbox) -> Outbox:
    """Show the signatures of the round before, in frames of this one."""
    return {client: [_signatures(stage, client, partial(_signature_of, stage.earlier()))] for client in outbox}


def _signature_of(stage: Stage, client: str) -> bytes:
    signature: bytes = stage.said(ConsistencyCheck, "consistency_check", client).signature
    return signature


def too_few_signatures(stage: Stage, outbox: Outbox) -> Outbox:
    """Show one signature less than the plan asks for."""
    few = PLAN.threshold - 2
    return {client: [stage.signatures(client, stage.peers(client, CLIENTS)[:few])] for client in outbox}


def signed_by_ally(stage: Stage, _: Outbox) -> Outbox:
    """Have the ally sign for each half what that half was told."""
    keys = {}
    for client in CLIENTS:
        said = stage.said(AdvertiseKeys, "advertise_keys", client)
        keys[stage.at(client)] = said.sealing_key + said.mask_key
    outbox: Outbox = {}
    for client in CLIENTS.replace(ALLY, ""):
        alive = CLIENTS if client in HALVES[0] else OTHERS
        survived = mask_of(stage.setup, map(stage.at, alive))
        statement = consistency_statement(stage.setup, digest_of_keys(stage.setup, keys), survived)
        answer = ConsistencyCheck(stage.at(ALLY), stage.liar.identity.sign(statement))
        stage.answers["consistency_check"][ALLY] = encode(answer, stage.setup)
        outbox[client] = [stage.signatures(client, alive)]
    return outbox


def everyones_signatures(stage: Stage, _: Outbox) -> Outbox:
    """Show everybody what all signed."""
    return {client: [stage.signatures(client, CLIENTS)] for client in CLIENTS}


def model_by_model(stage: Stage, _: Outbox) -> Outbox:
    """Show everybody what those signed who got the others' model."""
    return {client: [stage.signatures(client, OTHERS)] for client in CLIENTS}


# afterwards


def other_shares(stage: Stage, _: Outbox) -> Outbox:
    """Come back, after shares were sent, with other survivors and then with the signatures again."""
    return {
        client: [stage.survivors(client, stage.peers(client, CLIENTS)[1:]), stage.signatures(client, CLIENTS)]
        for client in CLIENTS
    }

"""Lies that only a party with keys can tell: signed by their author, or sealed to their recipient.

Against a malicious server most lies die at a signature. A corrupt client has an identity too, so here its lies are
signed and sealed as the protocol asks, and what is behind those checks has to refuse them or live with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from secagg.masking.bundles import incoming
from secagg.masking.hybrid import KemParts, received
from secagg.masking.messages import (
    SIGNATURE_BYTES,
    PeerShares,
    cut,
    entries_dealt,
    entry_bytes,
    from_bitmap,
    hashes_bytes,
    key_bytes,
    keys_bytes,
    sealed_bytes,
)
from secagg.masking.transcript import consistency_statement, entry_hash, keys_statement, shares_statement
from secagg.primitives.aead import seal
from secagg.testing.mutations import Dice, Repair, changed_bytes
from secagg.wire import decode

if TYPE_CHECKING:
    from secagg.testing.scripted import Transcript

__all__ = ["repair_of_answer", "repair_of_request"]


def repair_of_answer(transcript: Transcript, step: str, position: int) -> Repair | None:
    """Return how a corrupt client signs its lies in one round; None where it signs nothing."""
    setup, identity = transcript.setup, transcript.script.identity(position)
    if identity is None:
        return None

    def keys(fields: list[Any], dice: Dice) -> list[Any]:
        del dice
        return [*fields[:3], identity.sign(keys_statement(setup, position, fields[1], fields[2])), *fields[4:]]

    def shares(fields: list[Any], dice: Dice) -> list[Any]:
        del dice
        signature = identity.sign(shares_statement(setup, position, fields[1], fields[3], *fields[5:]))
        return [*fields[:4], signature, *fields[5:]]

    def agreement(fields: list[Any], dice: Dice) -> list[Any]:
        return [fields[0], identity.sign(_statement(transcript, dice))]

    return {"advertise_keys": keys, "share_keys": shares, "consistency_check": agreement}.get(step)


def repair_of_request(transcript: Transcript, step: str, position: int) -> Repair | None:
    """Return how a server and the corrupt clients it works with sign and seal a lie to one client."""
    conspiracy = _Conspiracy(transcript, step, position)
    if transcript.script.plan.server == "malicious":
        return {
            "share_keys": conspiracy.sign_keys,
            "masked_input": conspiracy.seal_shares,
            "unmask": conspiracy.sign_survivors,
        }.get(step)
    return {"masked_input": conspiracy.seal_shares}.get(step)


class _Conspiracy:
    """What a server can do together with the clients that a message names."""

    def __init__(self, transcript: Transcript, step: str, position: int) -> None:
        self._transcript = transcript
        self._setup = transcript.setup
        self._visit = transcript.clients[step][position]
        self._position = position

    def sign_keys(self, fields: list[Any], dice: Dice) -> list[Any]:
        """Have somebody sign whatever keys the message says are its own."""
        found = self._liar(fields, keys_bytes(self._setup.plan), dice)
        if found is None:
            return fields
        peer, at = found
        size = key_bytes(self._setup.plan)
        sealing, mask = (fields[2][at + size * i : at + size * (i + 1)] for i in (0, 1))
        signature = self._sign(peer, keys_statement(self._setup, peer, sealing, mask))
        return [*fields[:2], _with(fields[2], at + 2 * size, signature), *fields[3:]]

    def seal_shares(self, fields: list[Any], dice: Dice) -> list[Any]:
        """Have somebody deal other shares, mostly with hashes that fit."""
        setup, state = self._setup, self._visit.state
        sealed, size, count = sealed_bytes(setup.plan), entry_bytes(setup.plan), entries_dealt(setup.plan)
        found = self._liar(fields, sealed + hashes_bytes(setup.plan), dice)
        if found is None or found[0] not in state.peers:
            return fields
        dealer, at = found
        dealt = changed_bytes(b"".join(self._visit.following.entries[dealer]), dice)
        dealt = dealt.ljust(count * size, b"\0")[: count * size]
        key, channel = incoming(state, dealer, self._parts())
        data = _with(fields[2], at, seal(key, dealt, associated_data=channel))
        if setup.plan.server == "malicious" and not dice.chance(4):
            entries = enumerate(cut(dealt, size, count, "shares"))
            hashes = [entry_hash(setup, dealer, self._position, purpose, entry) for purpose, entry in entries]
            data = _with(data, at + sealed, b"".join(hashes))
        return [*fields[:2], data, *fields[3:]]

    def _parts(self) -> KemParts:
        """What the dealers truly encapsulated to this client."""
        state, message = self._visit.state, decode(PeerShares, self._visit.request, self._setup)
        present = from_bitmap(message.present, self._setup.graph.neighbours(self._position))
        return received(self._setup, self._position, present, message, (state.sealing, state.mask))

    def sign_survivors(self, fields: list[Any], dice: Dice) -> list[Any]:
        """Have somebody sign that others survived."""
        found = self._liar(fields, SIGNATURE_BYTES, dice)
        if found is None:
            return fields
        return [*fields[:2], _with(fields[2], found[1], self._sign(found[0], _statement(self._transcript, dice)))]

    def _liar(self, fields: list[Any], size: int, dice: Dice) -> tuple[int, int] | None:
        """Choose one of the clients named whose entry is whole: its position, and where its entry begins."""
        try:
            named = from_bitmap(fields[1], self._setup.graph.neighbours(self._position))[: len(fields[2]) // size]
        except ValueError:
            return None
        if not named:
            return None
        at = dice.below(len(named))
        return named[at], at * size

    def _sign(self, position: int, statement: bytes) -> bytes:
        identity = self._transcript.script.identity(position)
        return b"" if identity is None else identity.sign(statement)


def _statement(transcript: Transcript, dice: Dice) -> bytes:
    """Say that other clients survived."""
    survived = np.array([dice.chance(2) for _ in range(transcript.setup.plan.clients)])
    return consistency_statement(transcript.setup, bytes(32), survived)


def _with(data: bytes, at: int, part: bytes) -> bytes:
    return data[:at] + part + data[at + len(part) :]

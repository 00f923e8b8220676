"""Lies of a client, D, one function each: what it answers instead of what it should.

It signs whatever it likes with its own true identity: no lie fails for want of a signature, unless that is the lie.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from secagg.adversary.stage import LIAR, VICTIM
from secagg.masking.messages import (
    HASH_BYTES,
    SIGNATURE_BYTES,
    AdvertiseKeys,
    ConsistencyCheck,
    MaskedInput,
    ShareKeys,
    UnmaskShares,
    entry_bytes,
    sealed_bytes,
)
from secagg.masking.transcript import keys_statement, shares_statement
from secagg.primitives.keys import KEY_BYTES, KeyPair
from secagg.wire import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from secagg.adversary.stage import Stage

_FIRST_HOLDER = slice(0, HASH_BYTES)
"""Where a dealer's hash of A's share of its self-mask seed stands."""


def _said(stage: Stage, step: str, kind: type[Any], request: bytes) -> Any:  # noqa: ANN401 -- of that kind
    stage.deliver(step, LIAR, request)
    return decode(kind, stage.answers[step][LIAR], stage.setup)


# advertise_keys


def _keys(stage: Stage, sealing: bytes, mask: bytes) -> bytes:
    at = stage.at(LIAR)
    signature = stage.liar.identity.sign(keys_statement(stage.setup, at, sealing, mask))
    return encode(AdvertiseKeys(at, sealing, mask, signature, stage.setup.model), stage.setup)


def unsigned_keys(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Advertise keys under a signature made up."""
    said = _said(stage, "advertise_keys", AdvertiseKeys, request)
    forged = msgspec.structs.replace(said, signature=os.urandom(SIGNATURE_BYTES))
    return [encode(forged, stage.setup)]


def low_order_key(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Advertise a mask key that agrees with every key on a secret everybody knows."""
    said = _said(stage, "advertise_keys", AdvertiseKeys, request)
    return [_keys(stage, said.sealing_key, bytes(KEY_BYTES))]


def one_key(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Advertise one key for sealing and for masks."""
    said = _said(stage, "advertise_keys", AdvertiseKeys, request)
    return [_keys(stage, said.sealing_key, said.sealing_key)]


def copied_keys(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Advertise the victim's keys as its own."""
    _said(stage, "advertise_keys", AdvertiseKeys, request)
    theirs = stage.said(AdvertiseKeys, "advertise_keys", VICTIM)
    return [_keys(stage, theirs.sealing_key, theirs.mask_key)]


def another_name(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Send what the victim sent, frame and all."""
    _said(stage, "advertise_keys", AdvertiseKeys, request)
    return [stage.answers["advertise_keys"][VICTIM]]


def earlier_answer(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Send what it sent in the round before."""
    _said(stage, "advertise_keys", AdvertiseKeys, request)
    return [stage.earlier().answers["advertise_keys"][LIAR]]


# share_keys


def _dealt(stage: Stage, request: bytes, alter: Callable[[ShareKeys], dict[str, bytes]]) -> Sequence[bytes]:
    """Deal truly, alter the message, and sign what came of it."""
    said: ShareKeys = _said(stage, "share_keys", ShareKeys, request)
    fields = {"commitment": said.commitment, "sealed": said.sealed, "hashes": said.hashes} | alter(said)
    statement = shares_statement(stage.setup, said.client, fields["commitment"], fields["hashes"])
    signature = stage.liar.identity.sign(statement)
    message = ShareKeys(client=said.client, signature=signature, encapsulated=b"", envelope=b"", **fields)
    return [encode(message, stage.setup)]


def truncated_bundle(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Cut the last byte off what it seals."""
    return _dealt(stage, request, lambda said: {"sealed": said.sealed[:-1]})


def garbage_bundle(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Seal garbage to the victim."""
    size = sealed_bytes(stage.setup.plan)
    return _dealt(stage, request, lambda said: {"sealed": os.urandom(size) + said.sealed[size:]})


def swapped_bundles(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Send the victim what is sealed to B."""
    size = sealed_bytes(stage.setup.plan)
    return _dealt(stage, request, lambda said: {"sealed": said.sealed[size : 2 * size] + said.sealed[size:]})


def wrong_hash(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Publish the hash of another share than it seals to the victim."""
    return _dealt(stage, request, lambda said: {"hashes": os.urandom(HASH_BYTES) + said.hashes[_FIRST_HOLDER.stop :]})


def another_seed(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Commit to another self-mask seed than it shares."""
    return _dealt(stage, request, lambda _: {"commitment": os.urandom(HASH_BYTES)})


def another_mask_key(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Share another mask key than it advertised, with true hashes."""
    liar = stage.liar
    liar.state = replace(liar.state, mask=KeyPair.from_private(os.urandom(KEY_BYTES)))
    return _dealt(stage, request, lambda _: {})


# masked_input


def _vector(stage: Stage, request: bytes, alter: Callable[[bytes], bytes]) -> Sequence[bytes]:
    said = _said(stage, "masked_input", MaskedInput, request)
    return [encode(MaskedInput(said.client, memoryview(alter(bytes(said.vector)))), stage.setup)]


def wrong_length(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Send a vector that is longer than agreed."""
    return _vector(stage, request, lambda vector: vector + b"\0")


def out_of_range(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Send a vector with bits above the modulus; they lie behind the last coordinate."""
    return _vector(stage, request, lambda vector: vector[:-1] + bytes([vector[-1] | 0x80]))


def twice(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Send its masked input twice, to count double."""
    return [*_vector(stage, request, lambda vector: vector), stage.answers["masked_input"][LIAR]]


def silence(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Answer nothing, and keep the answer."""
    stage.deliver("masked_input", LIAR, request)
    return []


def late(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Send the masked input one round late, unasked."""
    del request
    return [stage.answers["masked_input"][LIAR]]


# consistency_check, unmask


def forged_consent(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Sign something else."""
    said = _said(stage, "consistency_check", ConsistencyCheck, request)
    return [encode(ConsistencyCheck(said.client, os.urandom(SIGNATURE_BYTES)), stage.setup)]


def _revealed(stage: Stage, request: bytes, alter: Callable[[bytes], bytes]) -> Sequence[bytes]:
    said = _said(stage, "unmask", UnmaskShares, request)
    return [encode(UnmaskShares(said.client, alter(said.entries)), stage.setup)]


def truncated_reveal(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Reveal shares without the last byte."""
    return _revealed(stage, request, lambda entries: entries[:-1])


def garbage_reveal(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Reveal a share of the victim's secret that is off by one bit."""
    return _revealed(stage, request, lambda entries: bytes([entries[0] ^ 1]) + entries[1:])


def other_secret(stage: Stage, request: bytes) -> Sequence[bytes]:
    """Reveal its share of the victim's mask key, though the victim survived."""
    other = stage.liar.shares[stage.at(VICTIM)][1]
    return _revealed(stage, request, lambda entries: other + entries[entry_bytes(stage.setup.plan) :])

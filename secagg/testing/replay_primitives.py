"""Vectors of the parts that rounds are made of: derivations, masks, shares, packing, encodings, statements, graphs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from secagg import tags
from secagg.encoding.counts import Counts
from secagg.encoding.fixed_point import Encoding
from secagg.encoding.packing import add_packed, pack, word_dtype
from secagg.identity import Identity
from secagg.lattice.parameters import choose
from secagg.lattice.rlwe import conceal
from secagg.masking.messages import from_bitmap, to_bitmap
from secagg.masking.streams import pairwise_mask_key, position_bytes, seed_commitment, self_mask_key
from secagg.masking.transcript import (
    consistency_statement,
    digest_of_keys,
    entry_hash,
    keys_statement,
    shares_statement,
)
from secagg.params import Plan
from secagg.primitives.aead import open_sealed, seal
from secagg.primitives.graph import Graph
from secagg.primitives.keys import KeyPair, derive_key
from secagg.primitives.prg import keystream
from secagg.primitives.shamir import combine, shares_from_bytes, split
from secagg.setups import Setup

__all__ = ["PRIMITIVES"]

_Given: TypeAlias = Mapping[str, Any]
_SetupOf: TypeAlias = Callable[[_Given], Setup]
_SHOWN = 32
"""Bytes of a mask stream that a vector shows."""


def _derive_key(_: _SetupOf, given: _Given) -> dict[str, Any]:
    context = [bytes.fromhex(part) for part in given["context"]]
    return {"key": derive_key(bytes.fromhex(given["secret"]), bytes.fromhex(given["tag"]), *context).hex()}


def _derivations(setup_of: _SetupOf, given: _Given) -> dict[str, Any]:
    """All that one client derives in a round, and for one peer."""
    setup, me, peer = setup_of(given["setup"]), given["client"], given["peer"]
    first, second = bytes.fromhex(given["random_advertise_keys"]), bytes.fromhex(given["random_share_keys"])
    peer_sealing, peer_mask = bytes.fromhex(given["peer_sealing_key"]), bytes.fromhex(given["peer_mask_key"])
    sealing = KeyPair.from_private(derive_key(first, tags.SEALING_PRIVATE_KEY, setup.digest))
    mask = KeyPair.from_private(derive_key(first, tags.MASK_PRIVATE_KEY, setup.digest))
    seed = derive_key(second, tags.SELF_MASK_SEED, setup.digest)
    secret = sealing.agree(peer_sealing)
    mine, theirs = (position_bytes(me), sealing.public), (position_bytes(peer), peer_sealing)
    outgoing = derive_key(secret, tags.SEALED_SHARE, setup.digest, *mine, *theirs)
    incoming = derive_key(secret, tags.SEALED_SHARE, setup.digest, *theirs, *mine)
    pair_secret = mask.agree(peer_mask)
    pair_key, sign = pairwise_mask_key(setup, (me, mask.public), (peer, peer_mask), pair_secret)
    own_key = self_mask_key(setup, me, seed)
    derived: dict[str, bytes] = {
        "sealing_private": sealing.private_bytes(),
        "sealing_public": sealing.public,
        "mask_private": mask.private_bytes(),
        "mask_public": mask.public,
        "self_mask_seed": seed,
        "commitment": seed_commitment(setup, me, seed),
        "shamir_random": derive_key(second, tags.SHAMIR_COEFFICIENTS, setup.digest),
        "salts_key": derive_key(second, tags.SHARE_SALTS, setup.digest),
        "sealing_secret": secret,
        "outgoing_sealing_key": outgoing,
        "incoming_sealing_key": incoming,
        "pairwise_secret": pair_secret,
        "pairwise_mask_key": pair_key,
        "pairwise_mask_first_bytes": keystream(pair_key, _SHOWN).tobytes(),
        "self_mask_key": own_key,
        "self_mask_first_bytes": keystream(own_key, _SHOWN).tobytes(),
    }
    return {name: value.hex() for name, value in derived.items()} | {"pairwise_mask_sign": sign}


def _seal(_: _SetupOf, given: _Given) -> dict[str, Any]:
    key, data = bytes.fromhex(given["key"]), bytes.fromhex(given["associated_data"])
    if "sealed" in given:
        return {"plaintext": open_sealed(key, bytes.fromhex(given["sealed"]), associated_data=data).hex()}
    return {"sealed": seal(key, bytes.fromhex(given["plaintext"]), associated_data=data).hex()}


def _shamir_split(_: _SetupOf, given: _Given) -> dict[str, Any]:
    secrets = [bytes.fromhex(secret) for secret in given["secrets"]]
    points = np.array(given["points"], dtype=np.uint64)
    shares = split(secrets, points, t=given["threshold"], random=bytes.fromhex(given["random"]))
    return {"shares": [[share.astype("<u8").tobytes().hex() for share in row] for row in shares]}


def _shamir_combine(_: _SetupOf, given: _Given) -> dict[str, Any]:
    shares = np.stack([shares_from_bytes(bytes.fromhex(share)) for share in given["shares"]])
    points = np.array(given["points"], dtype=np.uint64)
    return {"secret": combine(points, shares, t=given["threshold"])[0].hex()}


def _packing(_: _SetupOf, given: _Given) -> dict[str, Any]:
    vector = np.array(given["vector"], dtype=word_dtype(given["bits"]))
    return {"packed": bytes(pack(vector, given["bits"])).hex()}


def _unpacking(_: _SetupOf, given: _Given) -> dict[str, Any]:
    vector = np.zeros(given["length"], dtype=word_dtype(given["bits"]))
    add_packed(bytes.fromhex(given["packed"]), given["bits"], vector)
    return {"vector": vector.tolist()}


def _bitmap(setup_of: _SetupOf, given: _Given) -> dict[str, Any]:
    clients = np.arange(setup_of(given["setup"]).plan.degree)
    members = from_bitmap(bytes.fromhex(given["bitmap"]), clients)
    return {"members": members, "encoded": to_bitmap(np.isin(clients, members)).hex()}


def _graph(_: _SetupOf, given: _Given) -> dict[str, Any]:
    graph = Graph.derive(given["clients"], given["degree"], randomness=bytes.fromhex(given["randomness"]))
    return {"neighbours": [graph.neighbours(i).tolist() for i in range(graph.n)]}


def _fixed_point(_: _SetupOf, given: _Given) -> dict[str, Any]:
    names = ("dimension", "clip", "bits", "clients", "max_weight")
    codec = Encoding(**{name: given[name] for name in names}, layout=bytes.fromhex(given["layout"]))
    encoded = codec.encode(
        np.array(given["update"], dtype=np.float64), weight=given["weight"], random=bytes.fromhex(given["random"])
    )
    return {
        "modulus_bits": codec.modulus_bits,
        "digest": codec.digest.hex(),
        "vector": encoded.vector.tolist(),
        "clipped": encoded.clipped,
        "decoded": codec.decode(encoded.vector).tolist(),
    }


def _lattice(_: _SetupOf, given: _Given) -> dict[str, Any]:
    """What a client makes of its vector under lattice masks: the short secret and the ciphertext, as hashes."""
    n, length, bits = given["clients"], given["length"], given["modulus_bits"]
    ring = choose(length=length, digit_bits=given["digit_bits"], clients=n)
    plan = Plan(
        clients=n,
        length=length,
        modulus_bits=bits,
        threshold=n,
        degree=n - 1,
        masking="lattice",
        lattice=ring,
        signed_length=given["signed_length"],
    )
    setup = Setup(plan=plan, roster=range(n), session=bytes(16), round=0, assume_honest_server=True)
    vector = np.array(given["vector"], dtype=word_dtype(bits))
    secret, ciphertext = conceal(setup, vector, bytes.fromhex(given["random"]))
    return {
        "ring": [ring.degree, len(ring.primes), ring.digits, ring.secret_bits],
        "digest": setup.digest.hex(),
        "first_of_secret": secret[:16].tolist(),
        "sha256_of_packed_secret": hashlib.sha256(pack(secret, ring.secret_bits)).hexdigest(),
        "sha256_of_ciphertext": hashlib.sha256(ciphertext).hexdigest(),
    }


def _counts(_: _SetupOf, given: _Given) -> dict[str, Any]:
    codec = Counts(**{name: given[name] for name in ("dimension", "maximum", "clients")})
    vector = codec.encode(np.array(given["counts"], dtype=np.int64)).vector
    return {"modulus_bits": codec.modulus_bits, "digest": codec.digest.hex(), "vector": vector.tolist()}


def _statements(setup_of: _SetupOf, given: _Given) -> dict[str, Any]:
    """Everything that one client signs or hashes against a malicious server."""
    setup, me = setup_of(given["setup"]), given["client"]
    identity = Identity.from_private(bytes.fromhex(given["identity_private"]))
    keys = {int(position): bytes.fromhex(value) for position, value in given["keys"].items()}
    survived = np.isin(np.arange(setup.plan.clients), given["survivors"])
    known = digest_of_keys(setup, keys)
    entry = bytes.fromhex(given["entry"])
    statements = {
        "keys": keys_statement(setup, me, keys[me][:32], keys[me][32:]),
        "shares": shares_statement(setup, me, bytes.fromhex(given["commitment"]), bytes.fromhex(given["hashes"])),
        "consistency": consistency_statement(setup, known, survived),
    }
    return {
        "identity_public": identity.public.hex(),
        "digest_of_keys": known.hex(),
        "entry_hash": entry_hash(setup, me, given["holder"], given["purpose"], entry).hex(),
        "statements": {name: statement.hex() for name, statement in statements.items()},
        "signatures": {name: identity.sign(statement).hex() for name, statement in statements.items()},
    }


PRIMITIVES: dict[str, Callable[[_SetupOf, _Given], dict[str, Any]]] = {
    "derive_key": _derive_key,
    "derivations": _derivations,
    "seal": _seal,
    "shamir_split": _shamir_split,
    "shamir_combine": _shamir_combine,
    "packing": _packing,
    "unpacking": _unpacking,
    "bitmap": _bitmap,
    "graph": _graph,
    "fixed_point": _fixed_point,
    "counts": _counts,
    "lattice": _lattice,
    "statements": _statements,
}
"""By kind: computes what is expected, given how to build a setup and the input."""

"""What a server can open, computed: every secret it can rebuild, and every sum it can strip of its masks.

This is the whole attack, not a sample of it: given the shares that were revealed and those that an ally holds, every
mask that can be rebuilt is removed, and every subset of the honest clients is compared with its true sum.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np

from secagg.adversary.stage import CLIENTS
from secagg.encoding.packing import add_packed, reduce, word_dtype
from secagg.errors import DecodeError
from secagg.masking.messages import (
    HASH_BYTES,
    AdvertiseKeys,
    MaskedInput,
    PeerKeys,
    PeerShares,
    ShareKeys,
    UnmaskShares,
    entry_bytes,
)
from secagg.masking.streams import pairwise_mask_key, self_mask_key
from secagg.masking.transcript import entry_hash
from secagg.primitives.keys import KEY_BYTES, KeyPair
from secagg.primitives.prg import add_masks
from secagg.primitives.shamir import SHARE_BYTES, combine, shares_from_bytes
from secagg.wire import decode, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secagg.adversary.stage import Stage
    from secagg.encoding.packing import Words

__all__ = ["MASK_KEY", "SEED", "holders_of_both", "opened_sums", "rebuilt_secrets"]

SEED, MASK_KEY = 0, 1
"""Which of a client's two secrets a share is of."""


def rebuilt_secrets(stage: Stage) -> dict[str, dict[int, bytes]]:
    """Rebuild every secret of which the server, with its ally, holds t shares.

    Returns: client -> {0: its self-mask seed, 1: its mask key}, whichever there are.
    """
    secrets: dict[str, dict[int, bytes]] = defaultdict(dict)
    t = stage.setup.plan.threshold
    for (owner, purpose), held in _shares(stage).items():
        if len(held) < t:
            continue
        points = np.array(sorted(held), dtype=np.uint64)
        values = np.stack([shares_from_bytes(held[x]) for x in sorted(held)])
        with suppress(DecodeError):  # shares of nothing: a lying dealer's
            secrets[owner][purpose] = combine(points, values, t=t)[0]
    return dict(secrets)


def holders_of_both(stage: Stage) -> str:
    """Find the honest clients that revealed shares of both secrets of one owner."""
    revealed = _shares(stage)
    owners = {owner for owner, _ in revealed}
    pairs = [(revealed.get((owner, SEED), {}), revealed.get((owner, MASK_KEY), {})) for owner in owners]
    points = {point for seeds, keys in pairs for point in seeds.keys() & keys.keys()}
    return "".join(CLIENTS[point - 1] for point in sorted(points) if CLIENTS[point - 1] != stage.puppet)


def _shares(stage: Stage) -> dict[tuple[str, int], dict[int, bytes]]:
    """Gather (owner, which secret) -> point -> share, of all that were revealed and all that the liar holds."""
    shares: dict[tuple[str, int], dict[int, bytes]] = defaultdict(dict)
    published = {client: _hashes(stage, client) for client in stage.answers["share_keys"]}
    for holder, entry in _revealed(stage):
        at = stage.at(holder)
        for owner, purpose in product(published, (SEED, MASK_KEY)):
            if entry_hash(stage.setup, stage.at(owner), at, purpose, entry) in published[owner]:
                shares[owner, purpose][at + 1] = entry[:SHARE_BYTES]
    if stage.puppet:
        for position, entries in stage.liar.shares.items():
            for purpose, entry in enumerate(entries):
                shares[CLIENTS[position], purpose][stage.at(stage.puppet) + 1] = entry[:SHARE_BYTES]
    return shares


def opened_sums(stage: Stage) -> tuple[str, ...]:
    """Find every set of honest clients whose plain sum the server can compute from all it saw."""
    secrets = rebuilt_secrets(stage)
    private = [KeyPair.from_private(found[MASK_KEY]) for found in secrets.values() if MASK_KEY in found]
    if stage.puppet:
        private += stage.liar.mask_keys
    known = {pair.public: pair for pair in private}
    stripped = {
        client: _stripped(stage, client, secrets.get(client, {}).get(SEED), known)
        for client in stage.answers["masked_input"]
        if client != stage.puppet
    }
    found = []
    for size in range(1, len(stripped) + 1):
        for members in combinations(sorted(stripped), size):
            ours = _sum(stage, [stripped[client] for client in members])
            if np.array_equal(ours, _sum(stage, [stage.vectors[client] for client in members])):
                found.append("".join(members))
    return tuple(found)


def _stripped(stage: Stage, client: str, seed: bytes | None, known: dict[bytes, KeyPair]) -> Words:
    """Take every mask that can be computed off what a client sent."""
    setup, me = stage.setups[client], stage.at(client)
    advertised = stage.said(AdvertiseKeys, "advertise_keys", client).mask_key
    masks = [] if seed is None else [(self_mask_key(setup, me, seed), -1)]
    shown = decode(PeerKeys, _last_request(stage, "share_keys", client), setup).keys
    entry = len(shown) // len(stage.told(PeerKeys, "share_keys", client))
    keys = {
        peer: shown[entry * i + KEY_BYTES : entry * i + 2 * KEY_BYTES]
        for i, peer in enumerate(stage.told(PeerKeys, "share_keys", client))
    }
    for peer in stage.told(PeerShares, "masked_input", client):
        pair, public = (
            (known.get(advertised), keys[peer]) if advertised in known else (known.get(keys[peer]), advertised)
        )
        if pair is not None:
            key, sign = pairwise_mask_key(setup, (me, advertised), (peer, keys[peer]), pair.agree(public))
            masks.append((key, -sign))
    vector = np.zeros(setup.plan.length, dtype=word_dtype(setup.plan.modulus_bits))
    add_packed(stage.said(MaskedInput, "masked_input", client).vector, setup.plan.modulus_bits, vector)
    add_masks(vector, masks)
    reduce(vector, setup.plan.modulus_bits)
    return vector


def _sum(stage: Stage, vectors: list[Words]) -> Words:
    total = np.zeros_like(vectors[0])
    for vector in vectors:
        total += vector
    reduce(total, stage.setup.plan.modulus_bits)
    return total


def _revealed(stage: Stage) -> Iterator[tuple[str, bytes]]:
    """Yield every share that any client sent to the server, with its holder."""
    size = entry_bytes(stage.setup.plan)
    for exchange in stage.exchanges:
        if kind_of(exchange.answer) == UnmaskShares.KIND:
            entries = decode(UnmaskShares, exchange.answer, stage.setup).entries
            for start in range(0, len(entries) - size + 1, size):
                yield exchange.client, entries[start : start + size]


def _hashes(stage: Stage, client: str) -> set[bytes]:
    hashes = stage.said(ShareKeys, "share_keys", client).hashes
    return {hashes[start : start + HASH_BYTES] for start in range(0, len(hashes), HASH_BYTES)}


def _last_request(stage: Stage, step: str, client: str) -> bytes:
    return next(each.request for each in reversed(stage.exchanges) if (each.step, each.client) == (step, client))

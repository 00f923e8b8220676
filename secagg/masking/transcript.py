"""What clients sign against a malicious server, byte for byte.

Source: Bonawitz et al. 2017, Fig. 4, rounds 0 and 3, with the session, parameters, model and all keys signed besides.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

import msgspec

from secagg import tags
from secagg.masking.messages import is_hybrid, to_bitmap

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from secagg.setups import Setup

__all__ = ["consistency_statement", "digest_of_keys", "entry_hash", "keys_statement", "shared_by", "shares_statement"]


def keys_statement(setup: Setup, position: int, sealing_key: bytes, mask_key: bytes) -> bytes:
    """Say: these are my two public keys of this session, round, plan and roster."""
    return tags.SIGNED_KEYS + msgspec.msgpack.encode([setup.agreed, position, sealing_key, mask_key])


def digest_of_keys(setup: Setup, keys: Mapping[int, bytes]) -> bytes:
    """Hash the public keys of everyone who advertised any: 32 bytes; the root that the graph was drawn from, if it was.

    Args:
        keys: roster position -> sealing key and mask key.
    """
    if setup.keys:
        return setup.keys
    ordered = [[position, keys[position]] for position in sorted(keys)]
    return hashlib.sha256(tags.ALL_KEYS + msgspec.msgpack.encode([setup.digest, ordered])).digest()


def entry_hash(setup: Setup, dealer: int, holder: int, purpose: int, entry: bytes) -> bytes:
    """Hash a share and its salt: 32 bytes that bind the dealer and hide the share.

    Args:
        purpose: 0, a share of the self-mask seed; 1, of the mask key; 2 + j, of extra secret number j.
        entry: share and salt.
    """
    where = struct.pack("<3Q", dealer, holder, purpose)
    return hashlib.sha256(tags.SHARE_HASH + setup.digest + where + entry).digest()


def shares_statement(
    setup: Setup, position: int, commitment: bytes, hashes: bytes, encapsulated: bytes = b"", envelope: bytes = b""
) -> bytes:
    """Say: I answer for a self-mask seed (and extra secrets) with this commitment, and for shares with these hashes.

    Where keys are hybrid: and for these ciphertexts, and for the envelope that the shares open.
    """
    escrow = [hashlib.sha256(part).digest() for part in (encapsulated, envelope)] if is_hybrid(setup.plan) else []
    return tags.SIGNED_SHARES + msgspec.msgpack.encode([setup.digest, position, commitment, hashes, *escrow])


def shared_by(setup: Setup, shared: NDArray[np.bool_]) -> bytes:
    """Say who shared their secrets, for masks and signatures, where the graph is drawn from the keys: else nothing."""
    return to_bitmap(shared) if setup.plan.keys_draw_graph else b""


def consistency_statement(setup: Setup, keys: bytes, survived: NDArray[np.bool_], *, shared: bytes = b"") -> bytes:
    """Say: in this session, round, plan and roster, with this model and these keys, these clients survived.

    Args:
        keys: `digest_of_keys`.
        survived: (n,) bool, by roster position.
        shared: who shared their secrets, where masks depend on it; empty elsewhere.
    """
    fields = [setup.digest, setup.model, keys, to_bitmap(survived), *([shared] if shared else [])]
    return tags.CONSISTENCY + msgspec.msgpack.encode(fields)

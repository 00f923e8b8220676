"""X25519 for many pairs at once, on all cores: what a server does once it has rebuilt the keys of dropouts.

OpenSSL does one pair at a time and Python's binding keeps the interpreter to itself meanwhile. Here 32 Montgomery
ladders run side by side in vector lanes, without the interpreter's lock.

Security: for private keys that whoever runs this has been given on purpose. The ladder takes no branch and reads no
address that depends on a key, but a compiler makes no promise of constant time: a client's own keys stay in OpenSSL.
Source: RFC 7748, sec. 5.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from secagg.primitives.curve25519.limbs import by_lane, from_lanes, from_limbs, pieces, to_limbs, words_of
from secagg.primitives.keys import KEY_BYTES, KeyPair, check_public
from secagg.primitives.threads import ahead

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["BASE_POINT", "exchange"]

BASE_POINT = (9).to_bytes(KEY_BYTES, "little")
"""What a private key agrees to its own public key with."""
_WORTH_IT = 64
"""Pairs; for fewer, OpenSSL is done before the kernels are even loaded."""
_CLAMP_AND = np.array([2**64 - 8, 2**64 - 1, 2**64 - 1, 2**63 - 1], dtype=np.uint64)
_CLAMP_OR = np.array([0, 0, 0, 2**62], dtype=np.uint64)


def exchange(private: Sequence[bytes], public: Sequence[bytes]) -> Iterator[bytes]:
    """Agree with a peer's public key, pair by pair; idle threads work on the pairs to come.

    Args:
        private: m private keys of 32 bytes (clamped here, as X25519 does).
        public: m public keys of 32 bytes.
    Returns: m shared secrets of 32 bytes, in order; each can be taken once.
    Raises:
        ValueError: not as many of either, a wrong length, or a public key that is not canonical; on the way, a public
            key of low order.
    """
    if len(private) != len(public) or any(len(key) != KEY_BYTES for key in private):
        msg = f"as many private keys of {KEY_BYTES} bytes as public keys are needed"
        raise ValueError(msg)
    for key in public:
        check_public(key)
    if len(public) < _WORTH_IT:
        return (KeyPair.from_private(mine).agree(theirs) for mine, theirs in zip(private, public, strict=True))
    return _secrets(b"".join(private), b"".join(public))


def _secrets(scalars: bytes, coordinates: bytes) -> Iterator[bytes]:
    """Multiply points by clamped scalars, 32 bytes each."""
    from secagg.primitives.curve25519 import kernels  # noqa: PLC0415 -- numba loads on first use

    bits, limbs, lanes = words_of(scalars) & _CLAMP_AND | _CLAMP_OR, to_limbs(words_of(coordinates)), kernels.LANES
    shares = pieces(len(bits), lanes)

    def work(piece: int) -> list[bytes]:
        rows = shares[piece]
        products = by_lane(limbs[rows], lanes)
        kernels.ladders(by_lane(bits[rows], lanes), products)
        found = from_limbs(from_lanes(products, lanes, rows.stop - rows.start))
        if not found.any(axis=1).all():
            msg = "a public key is a point of low order: it agrees to nothing secret"
            raise ValueError(msg)
        return [row.tobytes() for row in found.astype("<u8")]

    return chain.from_iterable(ahead(work, len(shares)))

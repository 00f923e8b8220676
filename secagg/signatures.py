"""Ed25519 signatures as every part of a protocol checks them, one or many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from secagg.errors import DecodeError
from secagg.primitives.curve25519.edwards import verify_each
from secagg.primitives.keys import PRIME

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_signing_key", "first_forgery", "verify_signature"]

_BYTES = 32
_ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_SMALL_ORDER = frozenset({0, 1, PRIME - 1, _ORDER_8, PRIME - _ORDER_8})
"""y coordinates of the eight points of small order: under such a key anybody can sign some messages."""
_WORTH_IT = 64
"""Signatures; for fewer, OpenSSL is done before the kernels are even loaded."""


def verify_signature(public: bytes, message: bytes, signature: bytes) -> None:
    """Check an Ed25519 signature.

    Args:
        public: 32 bytes, the signer's key as the caller pinned it.
        message: what was signed, label included.
        signature: 64 bytes, untrusted.
    Raises:
        DecodeError: the signature is not this key's over this message, or the key is not canonical or of small order,
            so that signatures under it prove nothing.
    Source: RFC 8032, sec. 5.1.7; the equation without cofactor, as OpenSSL checks it.
    """
    check_signing_key(public)
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature as error:
        msg = "the signature is not valid"
        raise DecodeError(msg) from error


def first_forgery(signed: Sequence[tuple[bytes, bytes, bytes]]) -> int | None:
    """Find the first of many signatures that `verify_signature` refuses.

    Many are verified on all cores, which takes seconds where the kernels were never compiled; OpenSSL has the last word
    on each that is refused.

    Args:
        signed: (public key, message, signature) as `verify_signature` takes them.
    Returns: its position, or None if all are valid.
    """
    valid = verify_each(signed) if len(signed) >= _WORTH_IT else [False] * len(signed)
    for position, (one, holds) in enumerate(zip(signed, valid, strict=True)):
        try:
            if holds:
                check_signing_key(one[0])
            else:
                verify_signature(*one)
        except DecodeError:
            return position
    return None


def check_signing_key(public: bytes) -> None:
    """Refuse a key under which a signature proves nothing, or which another key is equal to.

    Raises:
        DecodeError: not 32 bytes, not canonical, or of small order.
    """
    y = int.from_bytes(public, "little") & ((1 << 255) - 1)
    if len(public) != _BYTES or y >= PRIME or y in _SMALL_ORDER:
        msg = "not an Ed25519 public key of 32 bytes, or one under which signatures prove nothing (small order)"
        raise DecodeError(msg)

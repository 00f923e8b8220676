"""X25519 key pairs and HKDF-SHA256 derivation.

Threat model: private keys never leave this process except as Shamir shares made on purpose. Exchange and
derivation run in OpenSSL; Python cannot wipe memory, so an attacker who reads this process's memory is out of scope.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

__all__ = ["KEY_BYTES", "PRIME", "KeyPair", "check_public", "derive_from", "derive_key", "length_prefixed"]

KEY_BYTES = 32
PRIME = 2**255 - 19
"""Of the field of curve25519."""
_BLOCK_BYTES = 64
_INNER, _OUTER = (bytes(pad ^ octet for octet in range(256)) for pad in (0x36, 0x5C))
_NO_SALT_INNER, _NO_SALT_OUTER = (bytes(_BLOCK_BYTES).translate(pad) for pad in (_INNER, _OUTER))


def derive_key(secret: bytes, tag: bytes, *context: bytes) -> bytes:
    """Derive 32 bytes for one purpose from a secret.

    Args:
        secret: input key material, >= 32 bytes.
        tag: a label of `secagg.tags`; says the purpose.
        context: further values bound into the derivation, each length-prefixed.
    Returns: 32 bytes.
    Raises:
        ValueError: the secret is shorter than 32 bytes.
    Source: RFC 5869 (HKDF-SHA256, no salt: the secret is already uniform or a Diffie-Hellman output).
    """
    return derive_from(secret, length_prefixed(tag, *context))


def length_prefixed(*parts: bytes) -> bytes:
    """Join values so that no other values join to the same: each after its length as 4 bytes, little-endian."""
    return b"".join([piece for part in parts for piece in (len(part).to_bytes(4, "little"), part)])


def derive_from(secret: bytes, info: bytes) -> bytes:
    """Derive a key, as `derive_key`, from its tag and context already joined by `length_prefixed`."""
    if len(secret) < KEY_BYTES:
        msg = f"a secret of at least {KEY_BYTES} bytes is needed, got {len(secret)}"
        raise ValueError(msg)
    extracted = _hmac(_NO_SALT_INNER, _NO_SALT_OUTER, secret).ljust(_BLOCK_BYTES, b"\x00")
    return _hmac(extracted.translate(_INNER), extracted.translate(_OUTER), info + b"\x01")


def _hmac(inner: bytes, outer: bytes, message: bytes) -> bytes:
    """HMAC-SHA256 by its two padded keys (RFC 2104): two hashes, where a library's object costs three times that."""
    return sha256(outer + sha256(inner + message).digest()).digest()


def check_public(public: bytes) -> None:
    """Refuse a public key that X25519 would read as another: it ignores the top bit and reduces modulo 2^255 - 19.

    Raises:
        ValueError: not 32 bytes, or not the canonical encoding of a coordinate.
    """
    if len(public) != KEY_BYTES or int.from_bytes(public, "little") >= PRIME:
        msg = "a public key is the canonical encoding of a coordinate, 32 bytes"
        raise ValueError(msg)


@dataclass(frozen=True, slots=True, eq=False)
class KeyPair:
    """One X25519 key pair, fresh for one client, purpose and round.

    Attributes:
        public: 32 bytes, as sent on the wire.
    """

    _private: X25519PrivateKey = field(repr=False)
    public: bytes

    @classmethod
    def from_private(cls, private: bytes) -> KeyPair:
        """Make the pair of a 32-byte private key (clamped by X25519 itself)."""
        key = X25519PrivateKey.from_private_bytes(private)
        return cls(key, key.public_key().public_bytes_raw())

    def private_bytes(self) -> bytes:
        """Return the 32 private bytes, for Shamir sharing only."""
        return self._private.private_bytes(
            serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
        )

    def agree(self, peer_public: bytes) -> bytes:
        """Return the 32-byte X25519 shared secret with a peer.

        Raises:
            ValueError: the peer's key is not canonical, or is a low-order point (all-zero secret).
        Source: RFC 7748, sec. 6.1.
        """
        check_public(peer_public)
        return self._private.exchange(X25519PublicKey.from_public_bytes(peer_public))

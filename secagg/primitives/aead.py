"""AES-256-GCM under keys that seal one message each.

Every key is derived per (session, round, parameters, roster, sender, recipient) from key pairs that are fresh for
the round, and a client seals one message per recipient and round. So the nonce is all zeros; what must never
happen is a second message under the same key, and the session's one-shot states see to that.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg.errors import DecodeError

__all__ = ["TAG_BYTES", "open_sealed", "seal"]

TAG_BYTES = 16
_NONCE = bytes(12)


def seal(key: bytes, plaintext: bytes, *, associated_data: bytes) -> bytes:
    """Encrypt and authenticate one message under a single-use 32-byte key.

    Returns: len(plaintext) + 16 bytes.
    Source: NIST SP 800-38D.
    """
    return AESGCM(key).encrypt(_NONCE, plaintext, associated_data)


def open_sealed(key: bytes, ciphertext: bytes, *, associated_data: bytes) -> bytes:
    """Decrypt what `seal` made.

    Raises:
        DecodeError: not sealed under this key, or for this sender and recipient, or altered.
    """
    try:
        return AESGCM(key).decrypt(_NONCE, ciphertext, associated_data)
    except InvalidTag as error:
        msg = "sealed message does not open: altered, or sealed for another sender, recipient or round"
        raise DecodeError(msg) from error

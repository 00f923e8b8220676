"""Frames put together by hand, so that a test can send what `secagg.wire.encode` never would.

Written from the description of the format, not from the code: the check and the MessagePack headers are made here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Frame", "cut_frame", "pack_fields"]

CHECK_BYTES = 16
_HEAD = 18
_CHECKER = AESGCM(hashlib.sha256(b"secagg/v1/frame-check\0").digest())


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame in its parts.

    Attributes:
        version, kind: one byte each.
        context: 16 bytes.
        payload: MessagePack array of the fields.
        tail: packed vector, or empty.
    """

    version: int
    kind: int
    context: bytes
    payload: bytes
    tail: bytes = b""

    def to_bytes(self) -> bytes:
        """Join the parts and append the check that belongs to them."""
        body = bytes((self.version, self.kind)) + self.context + self.payload + self.tail
        return body + _CHECKER.encrypt(bytes(12), b"", body)


def cut_frame(data: bytes, *, tail: int = 0) -> Frame:
    """Take a genuine frame apart; `tail` is the length of its packed vector."""
    end = len(data) - CHECK_BYTES - tail
    return Frame(data[0], data[1], data[2:_HEAD], data[_HEAD:end], data[end : len(data) - CHECK_BYTES])


def pack_fields(fields: Sequence[object]) -> bytes:
    """Encode an array of fields canonically."""
    return msgspec.msgpack.encode(list(fields))

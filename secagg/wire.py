"""Frames: versioned, canonical, bounded bytes around one message.

    version (1) | kind (1) | context (16) | MessagePack array of the fields | packed vector, if any | check (16)

*context* is the head of the setup's digest: a frame from another session, round, plan or roster is refused. *check*
is AES-256-GMAC under a public key: it finds damage, it does not authenticate anybody (that is the transport's task).
Decoding bounds the length before anything is read, allocates no more than a few times the fields received, accepts
exactly the bytes that encoding would produce, and never copies a vector.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from secagg import tags
from secagg.encoding.packing import packed_bytes
from secagg.errors import DecodeError, RemoteProtocolError, VersionError
from secagg.params import WIRE_VERSION

if TYPE_CHECKING:
    from secagg.params import ClientId, Plan
    from secagg.setups import Setup

__all__ = ["Message", "VectorMessage", "decode", "decode_awaited", "encode", "kind_of"]

_CONTEXT = slice(2, 18)
_CHECK_BYTES = 16
_CHECK_KEY = algorithms.AES256(hashlib.sha256(tags.FRAME_CHECK).digest())
_CHECK_PIECE = 1 << 30
_NO_CONTEXT = bytes(16)
_OVERHEAD = _CONTEXT.stop + _CHECK_BYTES
_FIELD_OVERHEAD = 64
"""Upper bound on the MessagePack headers and small integers of any message."""

M = TypeVar("M", bound="Message")


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One message between the server and one client.

    Attributes:
        client: roster position of the client at the other end of the channel.
    """

    KIND: ClassVar[int]
    NAME: ClassVar[str]
    NAMES_ITS_SETUP: ClassVar[bool] = False
    """Whether its fields name the setup, so that the step can say which one differs; its context is then zero."""

    client: int

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes the variable fields take under a setup."""
        del setup
        return 0

    @classmethod
    def vector_bytes(cls, plan: Plan) -> int:
        """Return the length of the packed vector that follows the fields."""
        del plan
        return 0

    def __repr__(self) -> str:
        """Say what it is and for whom, never what it carries."""
        return f"<{type(self).__name__} client={self.client}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Keep rich, which asks structs for their fields, to the same."""
        return [("client", self.client)]


class VectorMessage(Message, frozen=True, array_like=True):
    """A message that carries one packed vector.

    Attributes:
        vector: ceil(length·modulus_bits / 8) bytes; a view of the frame when decoded.
    """

    vector: memoryview

    @classmethod
    def vector_bytes(cls, plan: Plan) -> int:
        """Return the length of the packed vector that follows the fields."""
        return packed_bytes(plan.length, plan.modulus_bits)


def encode(message: Message, setup: Setup) -> bytes:
    """Frame a message for a setup."""
    parts: tuple[bytes | memoryview, ...] = (bytes((WIRE_VERSION, message.KIND)), _context(type(message), setup))
    if isinstance(message, VectorMessage):
        parts = (*parts, msgspec.msgpack.encode(Message(message.client)), message.vector)
    else:
        parts = (*parts, msgspec.msgpack.encode(message))
    return b"".join((*parts, _check(*parts)))


def decode(kind: type[M], data: bytes, setup: Setup) -> M:
    """Read the frame of one expected message.

    Args:
        kind: the message expected.
        data: untrusted bytes.
    Raises:
        TypeError: not bytes.
        VersionError: another wire version; names both.
        DecodeError: too long or too short, damaged, of another kind, from another setup, or not canonical.
    """
    found = kind_of(data)
    tail = kind.vector_bytes(setup.plan)
    limit = _OVERHEAD + _FIELD_OVERHEAD + kind.max_payload(setup) + tail
    if not _OVERHEAD + tail < len(data) <= limit:
        msg = f"{kind.NAME} takes {_OVERHEAD + tail + 1} to {limit} bytes here, got {len(data)}"
        raise DecodeError(msg)
    if found != kind.KIND:
        msg = f"expected {kind.NAME}, got message kind {found}"
        raise DecodeError(msg)
    view = memoryview(data)
    body, check = view[:-_CHECK_BYTES], view[-_CHECK_BYTES:]
    if _check(body) != check:
        msg = "the frame is damaged or truncated"
        raise DecodeError(msg)
    if body[_CONTEXT] != _context(kind, setup):
        msg = "the frame belongs to another session, round, plan or roster"
        raise DecodeError(msg)
    fields = bytes(body[_CONTEXT.stop : len(body) - tail])
    parsed: Any
    try:
        parsed = _decoder(Message if tail else kind).decode(fields)
    except msgspec.MsgspecError as error:
        msg = f"not a {kind.NAME}: {error}"
        raise DecodeError(msg) from error
    if msgspec.msgpack.encode(parsed) != fields:
        msg = f"not the canonical encoding of {kind.NAME}"
        raise DecodeError(msg)
    if issubclass(kind, VectorMessage):
        parsed = kind(parsed.client, body[len(body) - tail :])
    message: M = parsed
    return message


def decode_awaited(kind: type[M], data: bytes, setup: Setup, position: int, sender: tuple[str, ClientId]) -> M:
    """Read the one message that a state awaits, on the channel of one client.

    Args:
        sender: the round, and whom to blame.
    Raises:
        TypeError, VersionError, DecodeError: as `decode`, or the message is another client's.
        RemoteProtocolError: a message of another kind.
    """
    if kind_of(data) != kind.KIND:
        text = f"sent message kind {data[1]} while {kind.NAME} is awaited: early, late or repeated"
        raise RemoteProtocolError(text, round=sender[0], culprits=[sender[1]])
    message = decode(kind, data, setup)
    if message.client != position:
        msg = f"this {kind.NAME} belongs to another client's channel"
        raise DecodeError(msg)
    return message


def kind_of(data: bytes) -> int:
    """Read the kind of a frame without trusting anything else in it.

    Raises:
        TypeError: not bytes.
        VersionError: another wire version.
        DecodeError: too short to be a frame.
    """
    if not isinstance(data, bytes):
        msg = f"a frame is bytes, got {type(data).__name__}"
        raise TypeError(msg)
    if len(data) < _OVERHEAD:
        msg = f"a frame has at least {_OVERHEAD} bytes, got {len(data)}"
        raise DecodeError(msg)
    if data[0] != WIRE_VERSION:
        raise VersionError(ours=WIRE_VERSION, theirs=data[0])
    return data[1]


def _context(kind: type[Message], setup: Setup) -> bytes:
    return _NO_CONTEXT if kind.NAMES_ITS_SETUP else setup.digest[:16]


@cache
def _decoder(kind: type[Message]) -> msgspec.msgpack.Decoder[Message]:
    return msgspec.msgpack.Decoder(kind)


def _check(*parts: bytes | memoryview) -> bytes:
    checker = Cipher(_CHECK_KEY, modes.GCM(bytes(12))).encryptor()
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), _CHECK_PIECE):  # OpenSSL counts the bytes of one call in 31 bits
            checker.authenticate_additional_data(view[start : start + _CHECK_PIECE])
    checker.finalize()
    return checker.tag

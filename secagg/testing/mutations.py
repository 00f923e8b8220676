"""Ways to spoil a message: damage that any decoder must refuse, and well-formed lies that reach what lies behind it.

A lie is framed with a check, a context and, where it takes one, a signature that are right, so only its content can be
refused. Every choice comes from a `Dice`, so that a seed names a run.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec
import numpy as np

from secagg.testing.frames import Frame, cut_frame, pack_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Dice", "Repair", "Sent", "Target", "changed_bytes", "damaged", "lie"]

T = TypeVar("T")

_POOL = 1 << 14
_LOW_ORDER = (
    bytes(32),
    b"\x01" + bytes(31),
    ((1 << 255) - 20).to_bytes(32, "little"),
    ((1 << 255) - 19).to_bytes(32, "little"),
    ((1 << 255) - 18).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    b"\xff" * 32,
)
"""X25519 points that agree on a secret everybody knows, and encodings that are not canonical."""
_BLOCKS = (8, 16, 32, 40, 56, 64, 96, 128)
_NUMBERS = (0, 1, 127, 128, 255, 256, 65_535, 65_536, (1 << 31) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_HUGE = 1 << 20
_NOT_FRAMES: tuple[object, ...] = (None, 7, "text", [], bytearray(64), memoryview(bytes(64)))


Sent: TypeAlias = Any
"""Bytes, or what somebody passes in their place."""


class Dice:
    """Uniform choices from a numpy generator, drawn in bulk: a choice costs well under a microsecond. Not thread-safe.

    Args:
        seed: the same seed gives the same choices.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._pool: list[int] = []

    def below(self, bound: int) -> int:
        """Return an integer in [0, bound); uniform to within 2^-40 for small bounds."""
        if not self._pool:
            self._pool = self._rng.integers(0, 1 << 62, _POOL).tolist()
        return self._pool.pop() % bound

    def chance(self, one_in: int) -> bool:
        """Return True once in `one_in` times."""
        return self.below(one_in) == 0

    def choose(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.below(len(options))]

    def octets(self, length: int) -> bytes:
        """Return random bytes."""
        return self._rng.bytes(length)


Repair: TypeAlias = Callable[[list[Any], Dice], list[Any]]
"""Takes changed fields; returns them as somebody who holds keys would send them."""


@dataclass(frozen=True, slots=True)
class Target:
    """A genuine message to spoil.

    Attributes:
        genuine: the frame.
        tail: length of its packed vector; 0 if it carries none.
        others: frames to replay and to splice with: of other clients, rounds, kinds and sessions.
        repair: makes changed fields plausible again (a liar signs its lies); None where nothing is signed.
    """

    genuine: bytes
    tail: int = 0
    others: tuple[bytes, ...] = ()
    repair: Repair | None = field(default=None, repr=False)


def damaged(target: Target, dice: Dice, *, any_format: bool = False) -> Sent:
    """Spoil a frame so that it must be refused: damage, a replay, a form that is not canonical, or no bytes at all.

    Args:
        any_format: only what is damage to any format that finds damage; not what knows our frames, and no replays.
    """
    while True:
        spoilt = dice.choose(_DAMAGE[:_ANY_FORMAT] if any_format else _DAMAGE)(target, dice)
        if type(spoilt) is not bytes or spoilt != target.genuine:
            return spoilt


def lie(target: Target, dice: Dice) -> bytes:
    """Change fields and frame them properly; what comes out may be acceptable."""
    while True:
        told = _told(target, dice)
        if told != target.genuine:
            return told


def _told(target: Target, dice: Dice) -> bytes:
    frame = cut_frame(target.genuine, tail=target.tail)
    fields = msgspec.msgpack.decode(frame.payload)
    for _ in range(1 + dice.below(3)):
        at = dice.below(len(fields) + 1)
        if at == len(fields):
            frame = _other_tail(frame, dice) if target.tail else frame
        elif isinstance(fields[at], int):
            if dice.chance(4):
                fields[at] = dice.choose((*_NUMBERS, -1, (fields[at] + 1) % (1 << 64)))
        elif isinstance(fields[at], bytes):
            fields[at] = changed_bytes(fields[at], dice)
    if target.repair is not None and not dice.chance(4):
        fields = target.repair(fields, dice)
    return Frame(frame.version, frame.kind, frame.context, pack_fields(fields), frame.tail).to_bytes()


def _other_tail(frame: Frame, dice: Dice) -> Frame:
    return Frame(frame.version, frame.kind, frame.context, frame.payload, changed_bytes(frame.tail, dice))


def changed_bytes(data: bytes, dice: Dice) -> bytes:
    """Change bytes in one of the ways that mean something here: bits, keys, blocks, lengths; possibly not at all."""
    return dice.choose(_BYTES)(data, dice)


def _flipped(data: bytes, dice: Dice) -> bytes:
    if not data:
        return b"\x01"
    spoilt = bytearray(data)
    for _ in range(1 + dice.below(3)):
        spoilt[dice.below(len(data))] ^= 1 << dice.below(8)
    return bytes(spoilt)


def _shortened(data: bytes, dice: Dice) -> bytes:
    by = dice.choose((1, *_BLOCKS))
    return data[:-by] if dice.chance(2) else data[by:]


def _lengthened(data: bytes, dice: Dice) -> bytes:
    return data + dice.octets(dice.choose((1, *_BLOCKS)))


def _swapped_blocks(data: bytes, dice: Dice) -> bytes:
    size = dice.choose(_BLOCKS)
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    if len(blocks) > 1:
        one, two = dice.below(len(blocks)), dice.below(len(blocks))
        blocks[one], blocks[two] = blocks[two], blocks[one]
    return b"".join(blocks)


def _repeated_block(data: bytes, dice: Dice) -> bytes:
    size = dice.choose(_BLOCKS)
    first, second = size * dice.below(4), size * dice.below(4)
    return data[:second] + data[first : first + size] + data[second + size :]


def _removed_block(data: bytes, dice: Dice) -> bytes:
    size = dice.choose(_BLOCKS)
    at = size * dice.below(1 + len(data) // size)
    return data[:at] + data[at + size :]


def _filled_block(data: bytes, dice: Dice) -> bytes:
    size = dice.choose(_BLOCKS)
    at = size * dice.below(1 + len(data) // size)
    return data[:at] + dice.choose((b"\0", b"\xff", b"\x7f")) * len(data[at : at + size]) + data[at + size :]


def _weak_key(data: bytes, dice: Dice) -> bytes:
    at = 32 * dice.below(1 + len(data) // 32)
    return data[:at] + dice.choose(_LOW_ORDER) + data[at + 32 :]


def _random_bytes(data: bytes, dice: Dice) -> bytes:
    return dice.octets(len(data))


_BYTES: tuple[Callable[[bytes, Dice], bytes], ...] = (
    _flipped,
    _flipped,
    _shortened,
    _lengthened,
    _swapped_blocks,
    _repeated_block,
    _removed_block,
    _filled_block,
    _weak_key,
    _random_bytes,
)


def _frame_flipped(target: Target, dice: Dice) -> bytes:
    return _flipped(target.genuine, dice)


def _frame_cut(target: Target, dice: Dice) -> bytes:
    return target.genuine[: dice.below(len(target.genuine))]


def _frame_lengthened(target: Target, dice: Dice) -> bytes:
    return target.genuine + dice.octets(1 + dice.below(64))


def _spliced(target: Target, dice: Dice) -> bytes:
    other = dice.choose(target.others) if target.others else target.genuine[::-1]
    return target.genuine[: dice.below(len(target.genuine))] + other[dice.below(len(other)) :]


def _replayed(target: Target, dice: Dice) -> bytes:
    return dice.choose(target.others) if target.others else b""


def _noise(target: Target, dice: Dice) -> bytes:
    return target.genuine[: dice.choose((0, 1, 2, 18))] + dice.octets(dice.below(2 * len(target.genuine)))


def _huge(target: Target, dice: Dice) -> bytes:
    """Return far more bytes than any message takes here; one in sixteen, as each costs as much as many others."""
    return target.genuine + bytes(_HUGE) if dice.chance(16) else target.genuine + bytes(4096)


def _not_bytes(target: Target, dice: Dice) -> object:
    return dice.choose((*_NOT_FRAMES, bytearray(target.genuine), memoryview(target.genuine)))


def _other_head(target: Target, dice: Dice) -> bytes:
    """Another version, kind or context under a right check."""
    frame = cut_frame(target.genuine, tail=target.tail)
    version, kind, context = frame.version, frame.kind, frame.context
    what = dice.below(3)
    if what == 0:
        version = (version + 1 + dice.below(255)) % 256
    elif what == 1:
        kind = (kind + 1 + dice.below(255)) % 256
    else:
        context = _flipped(context, dice)
    return Frame(version, kind, context, frame.payload, frame.tail).to_bytes()


def _other_payload(target: Target, dice: Dice) -> bytes:
    """A payload that is no canonical encoding of the fields, under a right check."""
    frame = cut_frame(target.genuine, tail=target.tail)
    payload = dice.choose(_PAYLOADS)(frame.payload, dice)
    if payload == frame.payload:
        payload = b""
    return Frame(frame.version, frame.kind, frame.context, payload, frame.tail).to_bytes()


_DAMAGE: tuple[Callable[[Target, Dice], Sent], ...] = (
    _frame_flipped,
    _frame_flipped,
    _frame_cut,
    _frame_lengthened,
    _spliced,
    _noise,
    _huge,
    _not_bytes,
    _replayed,
    _replayed,
    _other_head,
    _other_payload,
    _other_payload,
    _other_payload,
)
_ANY_FORMAT = 8
"""So many of them know nothing of our frames."""


def _wide_array(payload: bytes, dice: Dice) -> bytes:
    """The array header in a wider form than needed, or one that claims another number of fields."""
    count = payload[0] & 15
    if dice.chance(2):
        count = dice.choose((0, 1, count + 1, count + 2, 65_535, (1 << 32) - 1))
    if count <= 65_535 and dice.chance(2):  # noqa: PLR2004 -- the largest that 16 bits can say
        return b"\xdc" + count.to_bytes(2, "big") + payload[1:]
    return b"\xdd" + count.to_bytes(4, "big") + payload[1:]


def _other_count(payload: bytes, dice: Dice) -> bytes:
    return bytes([0x90 | ((payload[0] + 1 + dice.below(14)) & 15)]) + payload[1:]


def _wide_number(payload: bytes, dice: Dice) -> bytes:
    """The client's position, a small integer, in a wider form; or as something else that equals it."""
    position = payload[1] & 0x7F
    width = dice.choose((1, 2, 4, 8))
    unsigned = bytes([{1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF}[width]]) + position.to_bytes(width, "big")
    signed = bytes([{1: 0xD0, 2: 0xD1, 4: 0xD2, 8: 0xD3}[width]]) + position.to_bytes(width, "big")
    real = b"\xcb" + struct.pack(">d", position)
    return payload[:1] + dice.choose((unsigned, signed, real)) + payload[2:]


def _other_type(payload: bytes, dice: Dice) -> bytes:
    """The second field, and what follows, under a header of another type or of a false length."""
    header = dice.choose(
        (
            b"\xc6\xff\xff\xff\xff",  # bin32 of 4 GiB
            b"\xc5\xff\xff",
            b"\xc4\xff",
            b"\xdb\xff\xff\xff\xff",  # str32
            b"\xdd\xff\xff\xff\xff",  # array32
            b"\xdf\xff\xff\xff\xff",  # map32
            b"\xc9\xff\xff\xff\xff\x01",  # ext32
            b"\xc7\x04\xff",  # ext8, a timestamp
            b"\xd6\xff",  # fixext4, a timestamp
            b"\xc0",
            b"\xc1",  # reserved
            b"\xc3",
            b"\xa3abc",
            b"\x81\x01",
        )
    )
    return payload[:2] + header + payload[dice.choose((2, 3, 4)) :]


def _nested(payload: bytes, dice: Dice) -> bytes:
    """Arrays or maps in arrays, as deep as the message is long."""
    opening = dice.choose((b"\x91", b"\x81", b"\xdc\x00\x01"))
    return payload[: dice.choose((0, 2))] + opening * (len(payload) // len(opening))


def _cut_payload(payload: bytes, dice: Dice) -> bytes:
    return payload[: dice.below(len(payload))]


def _long_payload(payload: bytes, dice: Dice) -> bytes:
    return payload + dice.choose((b"\0", b"\xc0", payload, b"\x90", dice.octets(8)))


_PAYLOADS: tuple[Callable[[bytes, Dice], bytes], ...] = (
    _wide_array,
    _other_count,
    _wide_number,
    _other_type,
    _other_type,
    _nested,
    _cut_payload,
    _long_payload,
)

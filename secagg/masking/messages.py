"""The messages of a masked round, after the `Invitation` that all protocols share.

Sets of clients travel as bitmaps over the recipient's neighbours in ascending order; keys and shares as
concatenations in the same order. So every size follows from the setup, and positions are never the server's choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from secagg.errors import DecodeError
from secagg.primitives.aead import TAG_BYTES
from secagg.primitives.keys import KEY_BYTES
from secagg.primitives.shamir import SHARE_BYTES
from secagg.wire import Message, VectorMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from secagg.params import Setup

__all__ = [
    "AdvertiseKeys",
    "MaskedInput",
    "PeerKeys",
    "PeerShares",
    "ShareKeys",
    "Survivors",
    "UnmaskShares",
]
SEALED_BYTES = 2 * SHARE_BYTES + TAG_BYTES
"""One peer's share of the self-mask seed and of the mask key, sealed."""


class AdvertiseKeys(Message, frozen=True):
    """Client -> server, round advertise_keys: the client's two fresh public keys, 32 bytes each."""

    KIND: ClassVar[int] = 2
    NAME: ClassVar[str] = "advertise_keys"

    sealing_key: bytes
    mask_key: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:  # noqa: ARG003
        """Return the most bytes of the variable fields."""
        return 2 * KEY_BYTES


class PeerKeys(Message, frozen=True):
    """Server -> client: which neighbours advertised keys, and those keys.

    Attributes:
        present: bitmap over the recipient's neighbours.
        keys: per present neighbour, sealing key then mask key, 64 bytes.
    """

    KIND: ClassVar[int] = 3
    NAME: ClassVar[str] = "peer_keys"

    present: bytes
    keys: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        return bitmap_bytes(setup) + 2 * KEY_BYTES * setup.plan.degree


class ShareKeys(Message, frozen=True):
    """Client -> server, round share_keys.

    Attributes:
        commitment: 32 bytes that the self-mask seed determines and that do not reveal it.
        sealed: one bundle of 96 bytes per neighbour that advertised keys.
    """

    KIND: ClassVar[int] = 4
    NAME: ClassVar[str] = "share_keys"

    commitment: bytes
    sealed: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        return KEY_BYTES + SEALED_BYTES * setup.plan.degree


class PeerShares(Message, frozen=True):
    """Server -> client: which neighbours shared their secrets, and the bundles they sealed to the recipient.

    Attributes:
        present: bitmap over the recipient's neighbours.
        sealed: 96 bytes per present neighbour.
    """

    KIND: ClassVar[int] = 5
    NAME: ClassVar[str] = "peer_shares"

    present: bytes
    sealed: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        return bitmap_bytes(setup) + SEALED_BYTES * setup.plan.degree


class MaskedInput(VectorMessage, frozen=True):
    """Client -> server, round masked_input: the vector under all its masks, packed."""

    KIND: ClassVar[int] = 6
    NAME: ClassVar[str] = "masked_input"


class Survivors(Message, frozen=True):
    """Server -> client: which neighbours' masked inputs arrived.

    One bitmap decides, for each neighbour that shared its secrets, which of its two shares is asked for: never both.
    """

    KIND: ClassVar[int] = 7
    NAME: ClassVar[str] = "survivors"

    present: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        return bitmap_bytes(setup)


class UnmaskShares(Message, frozen=True):
    """Client -> server, round unmask: one share per peer (and its own), by ascending position.

    Attributes:
        shares: 40 bytes each: the self-mask share of a survivor, the mask-key share of a dropout.
    """

    KIND: ClassVar[int] = 8
    NAME: ClassVar[str] = "unmask"

    shares: bytes

    @classmethod
    def max_payload(cls, setup: Setup) -> int:
        """Return the most bytes of the variable fields."""
        return SHARE_BYTES * (setup.plan.degree + 1)


def bitmap_bytes(setup: Setup) -> int:
    """Return the length of a bitmap over one client's neighbours."""
    return -(-setup.plan.degree // 8)


def to_bitmap(members: NDArray[np.bool_]) -> bytes:
    """Pack one bool per neighbour, first neighbour in the lowest bit."""
    return np.packbits(members, bitorder="little").tobytes()


def from_bitmap(bitmap: bytes, setup: Setup) -> NDArray[np.bool_]:
    """Unpack a bitmap over one client's neighbours.

    Raises:
        DecodeError: wrong length or unused bits set.
    """
    if len(bitmap) != bitmap_bytes(setup):
        msg = f"a bitmap over {setup.plan.degree} neighbours takes {bitmap_bytes(setup)} bytes, got {len(bitmap)}"
        raise DecodeError(msg)
    bits = np.unpackbits(np.frombuffer(bitmap, dtype=np.uint8), bitorder="little").astype(np.bool_)
    if bits[setup.plan.degree :].any():
        msg = "a bitmap has bits set beyond the last neighbour"
        raise DecodeError(msg)
    return bits[: setup.plan.degree]


def cut(data: bytes, size: int, count: int, what: str) -> Sequence[bytes]:
    """Cut a concatenation into `count` pieces of `size` bytes.

    Raises:
        DecodeError: wrong total length.
    """
    if len(data) != size * count:
        msg = f"expected {count} {what} of {size} bytes, got {len(data)} bytes"
        raise DecodeError(msg)
    return [data[at : at + size] for at in range(0, len(data), size)]

"""Coordinates of curve25519 as the kernels take them: ten limbs of 26 and 25 bits in turn, by vector lane."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["by_lane", "from_lanes", "from_limbs", "pieces", "to_limbs", "words_of"]

_OFFSETS = np.array([0, 26, 51, 77, 102, 128, 153, 179, 204, 230], dtype=np.uint64)
"""Where the limbs of a coordinate begin."""
_BATCHES = 4
"""Batches of a thread at a time: enough that threads rarely wait for the interpreter's lock."""


def words_of(data: bytes) -> NDArray[np.uint64]:
    """Read values of 32 bytes as (m, 4) words, little-endian."""
    return np.frombuffer(data, dtype="<u8").astype(np.uint64).reshape(-1, 4)


def to_limbs(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Cut canonical coordinates, (m, 4) words, into (m, 10) limbs."""
    limbs = np.empty((len(words), len(_OFFSETS)), dtype=np.uint64)
    for limb, offset in enumerate(_OFFSETS.tolist()):
        word, shift = divmod(offset, 64)
        limbs[:, limb] = words[:, word] >> np.uint64(shift)
        if shift > 64 - 26:
            limbs[:, limb] |= words[:, word + 1] << np.uint64(64 - shift)
    limbs[:, 0::2] &= np.uint64((1 << 26) - 1)
    limbs[:, 1::2] &= np.uint64((1 << 25) - 1)
    return limbs


def from_limbs(limbs: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Join (m, 10) limbs in their ranges, below 2^255 in all, to (m, 4) words."""
    words = np.zeros((len(limbs), 4), dtype=np.uint64)
    for limb, offset in enumerate(_OFFSETS.tolist()):
        word, shift = divmod(offset, 64)
        words[:, word] |= limbs[:, limb] << np.uint64(shift)
        if shift > 64 - 26:
            words[:, word + 1] |= limbs[:, limb] >> np.uint64(64 - shift)
    return words


def pieces(count: int, lanes: int) -> list[slice]:
    """Share out rows to threads: a batch of the lanes, then four at a time."""
    edges = [min(edge * lanes, count) for edge in (0, 1, *range(_BATCHES, -(-count // lanes) + _BATCHES, _BATCHES))]
    return [slice(start, stop) for start, stop in pairwise(edges) if start < stop]


def by_lane(rows: NDArray[np.uint64], lanes: int) -> NDArray[np.uint64]:
    """Put the same word of all lanes of a batch side by side: (batches, words · lanes); zeros fill the last batch."""
    batches = -(-len(rows) // lanes)
    full = np.pad(rows, ((0, batches * lanes - len(rows)), (0, 0)))
    return full.reshape(batches, lanes, -1).swapaxes(1, 2).reshape(batches, -1)


def from_lanes(batches: NDArray[np.uint64], lanes: int, count: int) -> NDArray[np.uint64]:
    """Undo `by_lane`: the first `count` rows, (count, words)."""
    return batches.reshape(len(batches), -1, lanes).swapaxes(1, 2).reshape(len(batches) * lanes, -1)[:count]

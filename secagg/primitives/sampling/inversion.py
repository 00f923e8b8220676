"""Symmetric integers drawn from a key by inverting the distribution function of their magnitude.

Threat model: whoever lacks the key sees samples within statistical distance 2^-107 each of the exact distribution, as
far as AES-256 is pseudorandom. The number of stream bytes read does not depend on the samples. Table lookups and
branches do: they are *not* constant time, and a program that shares this core's caches may learn of the samples.

Sample i of a key is made of two words: h, bytes [8i, 8i + 8) of the key's AES-256-CTR stream, and l, bytes
[16i, 16i + 8) of the stream of HKDF(key, tag of the distribution) as `secagg.primitives.keys.derive_key` writes it,
both little-endian. Let F(m) = P[|X| <= m] and u = floor(h / 2)·2^64 + l, uniform in [0, 2^127). Then |x| is the number
of m in [0, K) with floor(2^127·F(m)) <= u, and x is negative if h is odd. The word l is only made when the 63 bits of h
equal those of a threshold, once in 2^63 / K samples; else it cannot change the outcome.

Distance to the exact distribution. K is the least m with P[|X| > m] <= 2^-110. Folded at K, the magnitude k < K is
drawn with probability (T_k - T_(k-1)) / 2^127, |T_m / 2^127 - F(m)| < 2^-127, so half the sum of differences is below
K·2^-127 + P[|X| > K] < 2^18·2^-127 + 2^-110 < 2^-107 for K < 2^18: the sign is exact. This takes F itself as exact;
the modules of the distributions bound by how much it is off.

Source: Devroye 1986, ch. III.2 (inversion, guide tables); Peikert 2010, sec. 4.1 (lazy bits of the tables).
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from secagg.primitives.keys import derive_key
from secagg.primitives.prg import keystream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["MAX_SIGMA", "Table", "checked", "draw", "tabulate", "thresholds_of"]

MAX_SIGMA = float(1 << 14)

_HIGH_BITS = 63
_LOW_BITS = 64
_TAIL_BITS = 110
"""What is cut off weighs at most 2^-110."""
_TIES = 64
"""Ties looked at one by one; were there more, all samples would be compared in full."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The thresholds T_m = floor(2^127·F(m)), m < K, cut into words.

    Attributes:
        high: (K,) uint64, floor(T_m / 2^64), below 2^63.
        low: (K,) uint64, T_m mod 2^64.
        guide: (G + 1,) int32, as `kernels.invert` wants it.
        guide_shift: 64 - log2(G).
        tag: of the words that settle ties.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    guide: NDArray[np.int32]
    guide_shift: int
    tag: bytes


def draw(key: bytes, size: int, start: int, table: Table) -> NDArray[np.int32]:
    """Draw samples `start` .. `start + size - 1` of a key: (size,) int32."""
    from secagg.primitives.sampling import kernels  # noqa: PLC0415 -- numba loads on first use

    if size < 0 or start < 0:
        msg = f"samples are numbered from 0 on, got {size} from {start}"
        raise ValueError(msg)
    before = start % 2  # streams are read in whole blocks of two words
    words = keystream(key, 8 * (size + before), offset=8 * (start - before)).view("<u8")[before:]
    out = np.empty(size, dtype=np.int32)
    ties = np.empty(_TIES, dtype=np.int64)
    count = kernels.invert(words, table.high, table.guide, table.guide_shift, ties, out)
    if count:
        places = ties[:count] if count <= _TIES else np.arange(size)
        settle(derive_key(key, table.tag), words, places, start, table, out)
    return out


def settle(
    key: bytes, words: NDArray[np.uint64], places: NDArray[np.int64], start: int, table: Table, out: NDArray[np.int32]
) -> None:
    """Decide samples by all their 127 bits."""
    for place in places:
        word = int(words[place])
        value = np.uint64(word >> 1)
        below = int(np.searchsorted(table.high, value, side="left"))
        equal = int(np.searchsorted(table.high, value, side="right"))
        low = keystream(key, 8, offset=16 * (start + int(place))).view("<u8")[0]
        magnitude = below + int(np.searchsorted(table.low[below:equal], low, side="right"))
        out[place] = -magnitude if word & 1 else magnitude


def tabulate(thresholds: Sequence[int], *, spread: float, tag: bytes) -> Table:
    """Cut thresholds into words, with a guide for a distribution of about this standard deviation."""
    octets = b"".join(threshold.to_bytes(16, "little") for threshold in thresholds)
    words = np.frombuffer(octets, dtype="<u8").astype(np.uint64).reshape(-1, 2)
    high, low = np.ascontiguousarray(words[:, 1]), np.ascontiguousarray(words[:, 0])
    bits = min(max(10, int(spread).bit_length() + 8), 16)
    edges = np.arange(1 << bits, dtype=np.uint64) << np.uint64(_HIGH_BITS - bits)
    guide = np.append(np.searchsorted(high, edges, side="left"), len(high)).astype(np.int32)
    return Table(high, low, guide, _HIGH_BITS + 1 - bits, tag)


def thresholds_of(weights: Sequence[int]) -> list[int]:
    """Compute T_m for m = 0 .. K - 1.

    Args:
        weights: proportional to P[X = 0], P[X = 1], ...; what is beyond them weighs nothing.
    """
    total = weights[0] + 2 * sum(weights[1:])  # both signs count but for 0
    thresholds, reached = [], 0
    for m, weight in enumerate(weights):
        reached += weight if m == 0 else 2 * weight
        if (total - reached) << _TAIL_BITS <= total:  # m is K: whatever is beyond counts as K
            break
        thresholds.append((reached << (_HIGH_BITS + _LOW_BITS)) // total)
    return thresholds


def checked(value: float, name: str, least: float, most: float) -> float:
    """Return a parameter as a float, or raise."""
    if isinstance(value, bool) or not isinstance(value, Real):
        msg = f"{name} is a number, got {type(value).__name__}"
        raise TypeError(msg)
    if not least <= value <= most:
        msg = f"{name} is in [{least:g}, {most:.0f}], got {value}"
        raise ValueError(msg)
    return float(value)

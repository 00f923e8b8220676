"""The discrete Gaussian over the integers, P[x] proportional to exp(-x²/2σ²): exact, reproducible, by inversion.

Threat model: whoever lacks the key sees samples within statistical distance 2^-100 each of the exact distribution, as
far as AES-256 is pseudorandom. The number of stream bytes read does not depend on the samples. Table lookups and
branches do: they are *not* constant time, and a program that shares this core's caches may learn of the samples.

Sample i of a key is made of two words: h, bytes [8i, 8i + 8) of the key's AES-256-CTR stream, and l, bytes
[16i, 16i + 8) of the stream of HKDF(key, tags.GAUSSIAN_TIES) as `secagg.primitives.keys.derive_key` writes it, both
little-endian. Let F(m) = P[|X| <= m] and u = floor(h / 2)·2^64 + l, uniform in [0, 2^127). Then |x| is the number of
m in [0, K) with floor(2^127·F(m)) <= u, and x is negative if h is odd. The word l is only made when the 63 bits of h
equal those of a threshold, once in 2^63 / K samples; else it cannot change the outcome.

Distance to the exact distribution. K is the least m with P[|X| > m] <= 2^-110. Folded at K, the magnitude k < K is
drawn with probability (T_k - T_(k-1)) / 2^127, |T_m / 2^127 - F(m)| < 2^-127, so half the sum of differences is below
K·2^-127 + P[|X| > K] < 2^18·2^-127 + 2^-110 < 2^-107 for σ <= 2^14: the sign is exact. F itself is computed with 320
fractional bits by recurrences whose errors stay below 2^-250, so that floors are those of the true numbers
unless one of them is followed by more than 120 equal bits.

Source: Devroye 1986, ch. III.2 (inversion, guide tables); Peikert 2010, sec. 4.1 (lazy bits of the tables).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from secagg import tags
from secagg.primitives.keys import derive_key
from secagg.primitives.prg import keystream

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_SIGMA", "MIN_SIGMA", "discrete_gaussian"]

MIN_SIGMA = 0.5
MAX_SIGMA = float(1 << 14)

_PRECISION = 320
"""Fractional bits while a table is computed."""
_HIGH_BITS = 63
_LOW_BITS = 64
_TAIL_BITS = 110
"""What is cut off weighs at most 2^-110."""
_TIES = 64
"""Ties looked at one by one; were there more, all samples would be compared in full."""


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """The thresholds T_m = floor(2^127·F(m)), m < K, cut into words.

    Attributes:
        high: (K,) uint64, floor(T_m / 2^64), below 2^63.
        low: (K,) uint64, T_m mod 2^64.
        guide: (G + 1,) int32, as `kernels.invert` wants it.
        guide_shift: 64 - log2(G).
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    guide: NDArray[np.int32]
    guide_shift: int


def discrete_gaussian(key: bytes, size: int, sigma: float, *, start: int = 0) -> NDArray[np.int32]:
    """Draw samples `start` .. `start + size - 1` of a key.

    Args:
        key: 32 bytes, made by `derive_key` for this purpose only.
        size: how many.
        sigma: σ, in [0.5, 2^14], the very float given. The variance is below σ²: by 14 % at σ = 0.5, by less than one
            part in 10^6 from σ = 1 on.
        start: of the first sample; drawing in pieces gives the same samples as at once.
    Returns: (size,) int32, |x| below 12.2·σ + 2.
    Raises:
        ValueError: σ or the range of samples out of range.
    Guarantees: statistical distance to the exact distribution below 2^-100 a sample; always 8 bytes of stream a sample.
    Security: table lookups are not constant time; see the module's docstring.
    """
    from secagg.primitives.sampling import kernels  # noqa: PLC0415 -- numba loads on first use

    if size < 0 or start < 0:
        msg = f"samples are numbered from 0 on, got {size} from {start}"
        raise ValueError(msg)
    table = _table(_checked(sigma))
    before = start % 2  # streams are read in whole blocks of two words
    words = keystream(key, 8 * (size + before), offset=8 * (start - before)).view("<u8")[before:]
    out = np.empty(size, dtype=np.int32)
    ties = np.empty(_TIES, dtype=np.int64)
    count = kernels.invert(words, table.high, table.guide, table.guide_shift, ties, out)
    if count:
        places = ties[:count] if count <= _TIES else np.arange(size)
        _settle(derive_key(key, tags.GAUSSIAN_TIES), words, places, start, table, out)
    return out


def _settle(
    key: bytes, words: NDArray[np.uint64], places: NDArray[np.int64], start: int, table: _Table, out: NDArray[np.int32]
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


def _checked(sigma: float) -> float:
    if isinstance(sigma, bool) or not isinstance(sigma, Real):
        msg = f"sigma is a number, got {type(sigma).__name__}"
        raise TypeError(msg)
    if not MIN_SIGMA <= sigma <= MAX_SIGMA:
        msg = f"sigma is in [{MIN_SIGMA}, {MAX_SIGMA:.0f}], got {sigma}"
        raise ValueError(msg)
    return float(sigma)


@lru_cache(maxsize=16)
def _table(sigma: float) -> _Table:
    """Compute the table of one σ: some milliseconds, up to a second at 2^14."""
    thresholds = _thresholds(sigma)
    octets = b"".join(threshold.to_bytes(16, "little") for threshold in thresholds)
    words = np.frombuffer(octets, dtype="<u8").astype(np.uint64).reshape(-1, 2)
    high, low = np.ascontiguousarray(words[:, 1]), np.ascontiguousarray(words[:, 0])
    bits = min(max(10, int(sigma).bit_length() + 8), 16)
    edges = np.arange(1 << bits, dtype=np.uint64) << np.uint64(_HIGH_BITS - bits)
    guide = np.append(np.searchsorted(high, edges, side="left"), len(high)).astype(np.int32)
    return _Table(high, low, guide, _HIGH_BITS + 1 - bits)


def _thresholds(sigma: float) -> list[int]:
    """T_m for m = 0 .. K - 1, by whole-number arithmetic only."""
    weights = _weights(Fraction(sigma))  # of 0, 1, 2, ...; both signs count but for 0
    total = weights[0] + 2 * sum(weights[1:])
    thresholds, reached = [], 0
    for m, weight in enumerate(weights):
        reached += weight if m == 0 else 2 * weight
        if (total - reached) << _TAIL_BITS <= total:  # m is K: whatever is beyond counts as K
            break
        thresholds.append((reached << (_HIGH_BITS + _LOW_BITS)) // total)
    return thresholds


def _weights(sigma: Fraction) -> list[int]:
    """exp(-m²/2σ²)·2^320 for m = 0, 1, ... until it vanishes: each from the last by the ratio exp(-(2m + 1)/2σ²)."""
    exponent = 1 / (2 * sigma * sigma)
    ratio, step = _exp_minus(exponent), _exp_minus(2 * exponent)
    weight, weights = 1 << _PRECISION, []
    while weight:
        weights.append(weight)
        weight = weight * ratio >> _PRECISION
        ratio = ratio * step >> _PRECISION
    return weights


def _exp_minus(x: Fraction) -> int:
    """exp(-x)·2^320 within one unit, for 0 < x <= 4: the alternating series, ten guard bits."""
    guard = _PRECISION + 10
    term, total, k = 1 << guard, 0, 0
    while term:
        total += -term if k % 2 else term
        k += 1
        term = term * x.numerator // (x.denominator * k)
    return total >> 10

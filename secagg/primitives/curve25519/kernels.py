"""The Montgomery ladder of curve25519 for 32 points at once, one per vector lane.

A coordinate is ten limbs of 26 and 25 bits in turn, sum of limb_k·2^ceil(25.5 k), modulo p = 2^255 - 19; an array holds
limb k of all lanes side by side, so that every loop over lanes is straight-line arithmetic which LLVM vectorises. Limbs
stay below 2^32 in words of 64 bits; the masks `& _LOW` cost nothing, they let LLVM multiply 32 bits by 32.

*Reduced* limbs are below 2^26 and 2^25 + 2^18. A sum or difference of two reduced coordinates has limbs below 1.5·2^27
and 1.6·2^26, of which 19 times fits 32 bits, and a limb of the product of two such is below 2^63.

Source: RFC 7748, sec. 5 (ladder); Bernstein, Schwabe 2012 (NEON crypto), sec. 4 (limbs in vector lanes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from secagg.primitives.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LANES", "ladders"]

LANES = 32
_TOP_BIT = 254
_LIMBS = 10
_SIZE = LANES * _LIMBS
_LOW = np.uint64((1 << 32) - 1)
_EVEN, _ODD = np.uint64((1 << 26) - 1), np.uint64((1 << 25) - 1)
_S26, _S25 = np.uint64(26), np.uint64(25)
_ONE, _N19 = np.uint64(1), np.uint64(19)
_A24 = np.uint64(121665)
_TWICE_P0, _TWICE_ODD, _TWICE_EVEN = np.uint64((1 << 27) - 38), np.uint64((1 << 26) - 2), np.uint64((1 << 27) - 2)
"""2p, limb by limb: added before a subtraction, so that nothing falls below zero."""
_INVERSION = np.array(
    [(0, 3, 0), (0, 1, 1), (2, 1, 1), (3, 5, 3), (4, 10, 4), (5, 20, 5), (6, 10, 4), (7, 50, 7), (8, 100, 8),
     (9, 50, 7), (10, 5, 2)]
)  # fmt: skip
"""Rows (f, k, g): the next power is power_f^(2^k)·power_g. From z: z^9, z^11, then z^(2^k - 1) for k = 5, 10, 20, 40,
50, 100, 200, 250, and z^(p-2)."""


@kernel
def _carry(
    r0: np.uint64, r1: np.uint64, r2: np.uint64, r3: np.uint64, r4: np.uint64,
    r5: np.uint64, r6: np.uint64, r7: np.uint64, r8: np.uint64, r9: np.uint64,
    out: NDArray[np.uint64], i: int,
) -> None:  # fmt: skip
    """Reduce ten limbs below 2^63 and store them: two carries run side by side, then meet."""
    r1, r0 = r1 + (r0 >> _S26), r0 & _EVEN
    r5, r4 = r5 + (r4 >> _S26), r4 & _EVEN
    r2, r1 = r2 + (r1 >> _S25), r1 & _ODD
    r6, r5 = r6 + (r5 >> _S25), r5 & _ODD
    r3, r2 = r3 + (r2 >> _S26), r2 & _EVEN
    r7, r6 = r7 + (r6 >> _S26), r6 & _EVEN
    r4, r3 = r4 + (r3 >> _S25), r3 & _ODD
    r8, r7 = r8 + (r7 >> _S25), r7 & _ODD
    r5, r4 = r5 + (r4 >> _S26), r4 & _EVEN
    r9, r8 = r9 + (r8 >> _S26), r8 & _EVEN
    r0, r9 = r0 + _N19 * (r9 >> _S25), r9 & _ODD
    r1, r0 = r1 + (r0 >> _S26), r0 & _EVEN
    out[i], out[LANES + i], out[2 * LANES + i], out[3 * LANES + i], out[4 * LANES + i] = r0, r1, r2, r3, r4
    out[5 * LANES + i], out[6 * LANES + i], out[7 * LANES + i], out[8 * LANES + i] = r5, r6, r7, r8
    out[9 * LANES + i] = r9


@kernel
def _multiply(f: NDArray[np.uint64], g: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """Set out = f·g, lane by lane; `out` is another array. d: twice f. h: 19 g, since 2^255 = 19."""
    for i in range(LANES):
        f0, f1 = f[0 * LANES + i] & _LOW, f[1 * LANES + i] & _LOW
        f2, f3 = f[2 * LANES + i] & _LOW, f[3 * LANES + i] & _LOW
        f4, f5 = f[4 * LANES + i] & _LOW, f[5 * LANES + i] & _LOW
        f6, f7 = f[6 * LANES + i] & _LOW, f[7 * LANES + i] & _LOW
        f8, f9 = f[8 * LANES + i] & _LOW, f[9 * LANES + i] & _LOW
        g0, g1 = g[0 * LANES + i] & _LOW, g[1 * LANES + i] & _LOW
        g2, g3 = g[2 * LANES + i] & _LOW, g[3 * LANES + i] & _LOW
        g4, g5 = g[4 * LANES + i] & _LOW, g[5 * LANES + i] & _LOW
        g6, g7 = g[6 * LANES + i] & _LOW, g[7 * LANES + i] & _LOW
        g8, g9 = g[8 * LANES + i] & _LOW, g[9 * LANES + i] & _LOW
        d1, d3, d5, d7, d9 = (f1 + f1) & _LOW, (f3 + f3) & _LOW, (f5 + f5) & _LOW, (f7 + f7) & _LOW, (f9 + f9) & _LOW
        h1, h2, h3 = (_N19 * g1) & _LOW, (_N19 * g2) & _LOW, (_N19 * g3) & _LOW
        h4, h5, h6 = (_N19 * g4) & _LOW, (_N19 * g5) & _LOW, (_N19 * g6) & _LOW
        h7, h8, h9 = (_N19 * g7) & _LOW, (_N19 * g8) & _LOW, (_N19 * g9) & _LOW
        r0 = f0 * g0 + d1 * h9 + f2 * h8 + d3 * h7 + f4 * h6 + d5 * h5 + f6 * h4 + d7 * h3 + f8 * h2 + d9 * h1
        r1 = f0 * g1 + f1 * g0 + f2 * h9 + f3 * h8 + f4 * h7 + f5 * h6 + f6 * h5 + f7 * h4 + f8 * h3 + f9 * h2
        r2 = f0 * g2 + d1 * g1 + f2 * g0 + d3 * h9 + f4 * h8 + d5 * h7 + f6 * h6 + d7 * h5 + f8 * h4 + d9 * h3
        r3 = f0 * g3 + f1 * g2 + f2 * g1 + f3 * g0 + f4 * h9 + f5 * h8 + f6 * h7 + f7 * h6 + f8 * h5 + f9 * h4
        r4 = f0 * g4 + d1 * g3 + f2 * g2 + d3 * g1 + f4 * g0 + d5 * h9 + f6 * h8 + d7 * h7 + f8 * h6 + d9 * h5
        r5 = f0 * g5 + f1 * g4 + f2 * g3 + f3 * g2 + f4 * g1 + f5 * g0 + f6 * h9 + f7 * h8 + f8 * h7 + f9 * h6
        r6 = f0 * g6 + d1 * g5 + f2 * g4 + d3 * g3 + f4 * g2 + d5 * g1 + f6 * g0 + d7 * h9 + f8 * h8 + d9 * h7
        r7 = f0 * g7 + f1 * g6 + f2 * g5 + f3 * g4 + f4 * g3 + f5 * g2 + f6 * g1 + f7 * g0 + f8 * h9 + f9 * h8
        r8 = f0 * g8 + d1 * g7 + f2 * g6 + d3 * g5 + f4 * g4 + d5 * g3 + f6 * g2 + d7 * g1 + f8 * g0 + d9 * h9
        r9 = f0 * g9 + f1 * g8 + f2 * g7 + f3 * g6 + f4 * g5 + f5 * g4 + f6 * g3 + f7 * g2 + f8 * g1 + f9 * g0
        _carry(r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, out, i)


@kernel
def _square(f: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """Set out = f·f, lane by lane; `out` is another array. d: twice f. q: four times f. h: 19 f."""
    for i in range(LANES):
        f0, f1 = f[0 * LANES + i] & _LOW, f[1 * LANES + i] & _LOW
        f2, f3 = f[2 * LANES + i] & _LOW, f[3 * LANES + i] & _LOW
        f4, f5 = f[4 * LANES + i] & _LOW, f[5 * LANES + i] & _LOW
        f6, f7 = f[6 * LANES + i] & _LOW, f[7 * LANES + i] & _LOW
        f8, f9 = f[8 * LANES + i] & _LOW, f[9 * LANES + i] & _LOW
        d0, d1, d2 = (f0 + f0) & _LOW, (f1 + f1) & _LOW, (f2 + f2) & _LOW
        d3, d4, d5 = (f3 + f3) & _LOW, (f4 + f4) & _LOW, (f5 + f5) & _LOW
        d6, d7, d8, d9 = (f6 + f6) & _LOW, (f7 + f7) & _LOW, (f8 + f8) & _LOW, (f9 + f9) & _LOW
        q1, q3, q5, q7 = (d1 + d1) & _LOW, (d3 + d3) & _LOW, (d5 + d5) & _LOW, (d7 + d7) & _LOW
        h5, h6, h7 = (_N19 * f5) & _LOW, (_N19 * f6) & _LOW, (_N19 * f7) & _LOW
        h8, h9 = (_N19 * f8) & _LOW, (_N19 * f9) & _LOW
        r0 = f0 * f0 + q1 * h9 + d2 * h8 + q3 * h7 + d4 * h6 + d5 * h5
        r1 = d0 * f1 + d2 * h9 + d3 * h8 + d4 * h7 + d5 * h6
        r2 = d0 * f2 + d1 * f1 + q3 * h9 + d4 * h8 + q5 * h7 + f6 * h6
        r3 = d0 * f3 + d1 * f2 + d4 * h9 + d5 * h8 + d6 * h7
        r4 = d0 * f4 + q1 * f3 + f2 * f2 + q5 * h9 + d6 * h8 + d7 * h7
        r5 = d0 * f5 + d1 * f4 + d2 * f3 + d6 * h9 + d7 * h8
        r6 = d0 * f6 + q1 * f5 + d2 * f4 + d3 * f3 + q7 * h9 + f8 * h8
        r7 = d0 * f7 + d1 * f6 + d2 * f5 + d3 * f4 + d8 * h9
        r8 = d0 * f8 + q1 * f7 + d2 * f6 + q3 * f5 + f4 * f4 + d9 * h9
        r9 = d0 * f9 + d1 * f8 + d2 * f7 + d3 * f6 + d4 * f5
        _carry(r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, out, i)


@kernel
def _times_a24(f: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """Set out = 121665·f, 121665 = (486662 - 2)/4 from the equation of the curve."""
    for i in range(LANES):
        f0, f1 = f[0 * LANES + i] & _LOW, f[1 * LANES + i] & _LOW
        f2, f3 = f[2 * LANES + i] & _LOW, f[3 * LANES + i] & _LOW
        f4, f5 = f[4 * LANES + i] & _LOW, f[5 * LANES + i] & _LOW
        f6, f7 = f[6 * LANES + i] & _LOW, f[7 * LANES + i] & _LOW
        f8, f9 = f[8 * LANES + i] & _LOW, f[9 * LANES + i] & _LOW
        _carry(
            _A24 * f0, _A24 * f1, _A24 * f2, _A24 * f3, _A24 * f4,
            _A24 * f5, _A24 * f6, _A24 * f7, _A24 * f8, _A24 * f9,
            out, i,
        )  # fmt: skip


@kernel
def _add_subtract(
    f: NDArray[np.uint64], g: NDArray[np.uint64], total: NDArray[np.uint64], difference: NDArray[np.uint64]
) -> None:
    """Set total = f + g and difference = f - g + 2p, for reduced f and g; four arrays."""
    for i in range(LANES):
        total[i], difference[i] = f[i] + g[i], f[i] + _TWICE_P0 - g[i]
    for limb in range(1, _LIMBS):
        twice = _TWICE_ODD if limb & 1 else _TWICE_EVEN
        for i in range(limb * LANES, (limb + 1) * LANES):
            total[i], difference[i] = f[i] + g[i], f[i] + twice - g[i]


@kernel
def _swap(mask: NDArray[np.uint64], f: NDArray[np.uint64], g: NDArray[np.uint64]) -> None:
    """Exchange f and g in the lanes whose mask is all ones; it is all zeros in the others."""
    for limb in range(_LIMBS):
        for i in range(LANES):
            change = mask[i] & (f[limb * LANES + i] ^ g[limb * LANES + i])
            f[limb * LANES + i] ^= change
            g[limb * LANES + i] ^= change


@kernel
def _power(
    chain: NDArray[np.int64], powers: NDArray[np.uint64], square: NDArray[np.uint64], spare: NDArray[np.uint64]
) -> None:
    """Raise to the power at the end of an addition chain: with `_INVERSION`, to 1/z, or 0 for 0.

    Args:
        chain: (11, 3) int64, rows as `_INVERSION` explains them.
        powers: (12, 10 · LANES) uint64; the first is z, the others are overwritten along the chain.
        square, spare: (10 · LANES,) uint64, overwritten.
    """
    for row in range(chain.shape[0]):
        f, doublings, g = chain[row, 0], chain[row, 1], chain[row, 2]
        _square(powers[f], square)
        for _ in range(1, doublings):
            for i in range(_SIZE):
                spare[i] = square[i]
            _square(spare, square)
        _multiply(square, powers[g], powers[row + 1])


@kernel
def _freeze(f: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """Write the canonical limbs of a reduced f, which is below 2p."""
    for i in range(LANES):
        carry = _N19
        for limb in range(_LIMBS):
            carry = (f[limb * LANES + i] + carry) >> (_S25 if limb & 1 else _S26)
        carry *= _N19  # 1 if f + 19 reaches 2^255, so f reaches p
        for limb in range(_LIMBS):
            value = f[limb * LANES + i] + carry
            out[limb * LANES + i] = value & (_ODD if limb & 1 else _EVEN)
            carry = value >> (_S25 if limb & 1 else _S26)


@kernel
def _ladder(scalars: NDArray[np.uint64], coordinates: NDArray[np.uint64]) -> None:
    """Multiply the point of every lane by its scalar, in place.

    Args:
        scalars: (4 · LANES,) uint64, little-endian words of clamped scalars, word by word.
        coordinates: (10 · LANES,) uint64, limbs of canonical x coordinates; receives those of the products, 0 for the
            point at infinity.
    """
    work = np.zeros((10, _SIZE), dtype=np.uint64)
    x2, z2, x3, z3 = work[0], work[1], work[2], work[3]
    a, b, c, d, aa, bb = work[4], work[5], work[6], work[7], work[8], work[9]
    for i in range(_SIZE):
        x3[i] = coordinates[i]
    for i in range(LANES):
        x2[i], z3[i] = _ONE, _ONE
    powers = np.empty((12, _SIZE), dtype=np.uint64)
    mask, before = np.empty(LANES, dtype=np.uint64), np.zeros(LANES, dtype=np.uint64)
    for position in range(_TOP_BIT, -1, -1):
        word, shift = (position >> 6) * LANES, np.uint64(position & 63)
        for i in range(LANES):
            bit = (scalars[word + i] >> shift) & _ONE
            mask[i] = np.uint64(0) - (bit ^ before[i])
            before[i] = bit
        _swap(mask, x2, x3)
        _swap(mask, z2, z3)
        _add_subtract(x2, z2, a, b)
        _add_subtract(x3, z3, c, d)
        _square(a, aa)
        _square(b, bb)
        _multiply(d, a, x3)
        _multiply(c, b, z3)
        _add_subtract(x3, z3, a, b)
        _square(a, x3)
        _square(b, c)
        _multiply(coordinates, c, z3)
        _multiply(aa, bb, x2)
        _add_subtract(aa, bb, c, a)
        _times_a24(a, c)
        _add_subtract(aa, c, b, d)
        _multiply(a, b, z2)
    for i in range(_SIZE):  # the last bits are zero: nothing is left to swap
        powers[0, i] = z2[i]
    _power(_INVERSION, powers, a, b)
    _multiply(x2, powers[11], a)
    _freeze(a, coordinates)


@kernel
def ladders(scalars: NDArray[np.uint64], coordinates: NDArray[np.uint64]) -> None:
    """Multiply points by scalars, in place, batch after batch: (batches, ...) of what `_ladder` takes."""
    for batch in range(scalars.shape[0]):
        _ladder(scalars[batch], coordinates[batch])

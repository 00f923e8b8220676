"""Edwards points of curve25519, 32 at a time, one per vector lane: -x^2 + y^2 = 1 + d·x^2·y^2.

A point is four coordinates X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z; a *ready* point, to be added to others, is
y + x, y - x, 2dxy and 2 (times Z, all of them). Coordinates are as in `curve25519.kernels`, which also says how high
limbs may be: what goes first into a product below may be a sum of a sum, below 2^28 and 2^27 + 2^20; what goes second
is a sum of two reduced coordinates at most. A product of the two still fits.

Everything here is public: signatures, and the keys that they are checked with. Addresses depend on it.
Source: Hisil, Wong, Carter, Dawson 2008, sec. 3.1 to 3.3 (a = -1, complete); RFC 8032, sec. 5.1.3 (decoding).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from secagg.primitives.curve25519.kernels import (
    _INVERSION,
    _LIMBS,
    _ONE,
    _SIZE,
    _TWICE_EVEN,
    _TWICE_ODD,
    _TWICE_P0,
    LANES,
    _add_subtract,
    _carry,
    _freeze,
    _multiply,
    _power,
    _square,
)
from secagg.primitives.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LANES", "combine"]

_MULTIPLES = 8
"""Of a key, kept ready: digits are in [-8, 8)."""
_UNIT, _EDWARDS_D, _TWICE_D, _ROOT = range(4)
"""Rows of the constants: 1, d, 2d and a square root of -1."""
_ROOT_CHAIN = np.vstack([_INVERSION[:-1], [(10, 2, 0)]])
"""To the power (p - 5)/8 = 2^252 - 3."""
_AFFINE = 3
"""Coordinates of a ready point with Z = 1."""


@kernel
def _twice_p(limb: int) -> np.uint64:
    """A limb of 2p."""
    return _TWICE_P0 if limb == 0 else _TWICE_ODD if limb & 1 else _TWICE_EVEN


@kernel
def _reduce(f: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """Carry: reduced limbs of the same coordinate."""
    for i in range(LANES):
        _carry(
            f[i], f[LANES + i], f[2 * LANES + i], f[3 * LANES + i], f[4 * LANES + i], f[5 * LANES + i],
            f[6 * LANES + i], f[7 * LANES + i], f[8 * LANES + i], f[9 * LANES + i], out, i,
        )  # fmt: skip


@kernel
def _negate(f: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """Set out = 2p - f, for a reduced f."""
    for limb in range(_LIMBS):
        twice = _twice_p(limb)
        for i in range(limb * LANES, (limb + 1) * LANES):
            out[i] = twice - f[i]


@kernel
def _double(point: NDArray[np.uint64], work: NDArray[np.uint64], extended: bool) -> None:  # noqa: FBT001
    """Double a point in place; its T is not read, and written only if asked for.

    Args:
        point: (4, 10 · LANES); work: (6, 10 · LANES), overwritten.
    """
    x, y, z = point[0], point[1], point[2]
    e, f, g, h, square, total = work[0], work[1], work[2], work[3], work[4], work[5]
    for i in range(_SIZE):
        total[i] = x[i] + y[i]
    _square(total, square)
    _square(x, e)
    _square(y, f)
    _square(z, total)
    _add_subtract(e, f, h, g)
    for limb in range(_LIMBS):
        twice = _twice_p(limb)
        for i in range(limb * LANES, (limb + 1) * LANES):
            e[i] = h[i] + twice - square[i]
            total[i] += total[i] + g[i]
    _reduce(total, f)
    _multiply(e, f, x)
    _multiply(g, h, y)
    _multiply(f, g, z)
    if extended:
        _multiply(e, h, point[3])


@kernel
def _add(point: NDArray[np.uint64], ready: NDArray[np.uint64], work: NDArray[np.uint64]) -> None:
    """Add a ready point to a point, in place.

    Args:
        point: (4, 10 · LANES).
        ready: (4, 10 · LANES), or (3, 10 · LANES) where Z = 1: of limbs as sums of two reduced coordinates.
        work: (6, 10 · LANES), overwritten.
    """
    x, y, z, t = point[0], point[1], point[2], point[3]
    a, b, c, d, e, f = work[0], work[1], work[2], work[3], work[4], work[5]
    _add_subtract(y, x, c, d)
    _multiply(d, ready[1], a)
    _multiply(c, ready[0], b)
    _multiply(t, ready[2], c)
    if len(ready) > _AFFINE:
        _multiply(z, ready[3], d)
    else:
        for i in range(_SIZE):
            d[i] = z[i] + z[i]
    _add_subtract(b, a, f, e)
    _add_subtract(d, c, a, b)
    _multiply(b, e, x)
    _multiply(a, f, y)
    _multiply(b, a, z)
    _multiply(e, f, t)


@kernel
def _decode(
    y: NDArray[np.uint64],
    odd: NDArray[np.uint64],
    constants: NDArray[np.uint64],
    x: NDArray[np.uint64],
    valid: NDArray[np.bool_],
) -> None:
    """Find the x of a y, even or odd as asked (unless it is 0), and say in which lanes there is one.

    Args:
        y: (10 · LANES,) canonical limbs.
        odd: (LANES,) uint64, 0 or 1.
        constants: as `combine` takes them.
        x: (10 · LANES,), receives reduced limbs.
        valid: (LANES,) bool, receives whether y belongs to a point.
    """
    work, powers = np.empty((8, _SIZE), dtype=np.uint64), np.empty((12, _SIZE), dtype=np.uint64)
    u, v, v3, found, straight, turned, a, b = work[0], work[1], work[2], work[3], work[4], work[5], work[6], work[7]
    _square(y, straight)
    _add_subtract(straight, constants[_UNIT], a, u)
    _multiply(straight, constants[_EDWARDS_D], a)
    _add_subtract(a, constants[_UNIT], v, b)
    _square(v, a)
    _multiply(a, v, v3)
    _square(v3, a)
    _multiply(a, v, b)
    _multiply(b, u, powers[0])
    _power(_ROOT_CHAIN, powers, a, b)
    _multiply(v3, u, a)
    _multiply(a, powers[11], x)
    _square(x, a)
    _multiply(a, v, b)
    _freeze(b, found)
    _reduce(u, a)
    _freeze(a, straight)
    _negate(a, b)
    _reduce(b, a)
    _freeze(a, turned)
    _multiply(x, constants[_ROOT], a)
    for i in range(LANES):
        is_root, is_turned = True, True
        for limb in range(_LIMBS):
            is_root &= found[limb * LANES + i] == straight[limb * LANES + i]
            is_turned &= found[limb * LANES + i] == turned[limb * LANES + i]
        valid[i] = is_root or is_turned
        if not is_root:
            for limb in range(_LIMBS):
                x[limb * LANES + i] = a[limb * LANES + i]
    _freeze(x, found)
    _negate(x, a)
    _reduce(a, b)
    for i in range(LANES):
        if (found[i] & _ONE) != odd[i]:
            for limb in range(_LIMBS):
                x[limb * LANES + i] = b[limb * LANES + i]


@kernel
def _multiples(point: NDArray[np.uint64], constants: NDArray[np.uint64], table: NDArray[np.uint64]) -> None:
    """Make ready 0, 1, ..., 8 times a point.

    Args:
        point: (4, 10 · LANES), with Z = 1; overwritten.
        table: (9, 4, 10 · LANES), receives them.
    """
    work = np.empty((6, _SIZE), dtype=np.uint64)
    for i in range(_SIZE):
        table[0, 0, i], table[0, 1, i] = constants[_UNIT, i], constants[_UNIT, i]
        table[0, 2, i], table[0, 3, i] = np.uint64(0), constants[_UNIT, i] + constants[_UNIT, i]
    for k in range(1, _MULTIPLES + 1):
        if k > 1:
            _add(point, table[1], work)
        _add_subtract(point[1], point[0], table[k, 0], table[k, 1])
        _multiply(point[3], constants[_TWICE_D], table[k, 2])
        for i in range(_SIZE):
            table[k, 3, i] = point[2, i] + point[2, i]


@kernel
def _choose(digit: int, table: NDArray[np.uint64], i: int, ready: NDArray[np.uint64]) -> None:
    """Make lane i of `ready` the multiple that a digit asks for.

    Args:
        table: (multiples, 3 or 4, limbs), the limbs of all lanes, or ten for all of them.
        ready: (3 or 4, 10 · LANES).
    """
    entry, step = table[abs(digit)], table.shape[2] // _LIMBS
    plus, minus = (1, 0) if digit < 0 else (0, 1)
    for limb in range(_LIMBS):
        of, to = limb * step + i % step, limb * LANES + i
        ready[0, to], ready[1, to], ready[2, to] = entry[plus, of], entry[minus, of], entry[2, of]
        if len(ready) > _AFFINE:
            ready[3, to] = entry[3, of]
        if digit < 0:
            ready[2, to] = _twice_p(limb) - ready[2, to]


@kernel
def _encode(
    point: NDArray[np.uint64], work: NDArray[np.uint64], y: NDArray[np.uint64], odd: NDArray[np.uint64]
) -> None:
    """Write y in canonical limbs, and whether x is odd."""
    powers = np.empty((12, _SIZE), dtype=np.uint64)
    for i in range(_SIZE):
        powers[0, i] = point[2, i]
    _power(_INVERSION, powers, work[0], work[1])
    _multiply(point[0], powers[11], work[0])
    _freeze(work[0], work[1])
    for i in range(LANES):
        odd[i] = work[1, i] & _ONE
    _multiply(point[1], powers[11], work[0])
    _freeze(work[0], y)


@kernel
def combine(
    coordinates: NDArray[np.uint64],
    odd: NDArray[np.uint64],
    digits: NDArray[np.int64],
    base_digits: NDArray[np.int64],
    base: NDArray[np.uint64],
    constants: NDArray[np.uint64],
    valid: NDArray[np.bool_],
) -> None:
    """Compute h·A + s·B in every lane, for points A and the base point B, batch after batch.

    Args:
        coordinates: (batches, 10 · LANES) uint64, canonical limbs of A's y; receives those of the result's.
        odd: (batches, LANES) uint64, 1 where A's x is odd; receives the same of the result's.
        digits: (batches, 64, LANES) int64 in [-8, 8): h = sum of digits[k]·16^k.
        base_digits: (batches, 32, LANES) int64 in [-128, 128): s = sum of base_digits[k]·256^k.
        base: (129, 3, 10) uint64: 0, 1, ..., 128 times B, ready, with Z = 1.
        constants: (4, 10 · LANES) uint64: 1, d, 2d and a square root of -1, in all lanes.
        valid: (batches, LANES) bool, receives whether there is such an A; what is written where not means nothing.
    """
    point, work = np.empty((4, _SIZE), dtype=np.uint64), np.empty((6, _SIZE), dtype=np.uint64)
    ready, affine = np.empty((4, _SIZE), dtype=np.uint64), np.empty((3, _SIZE), dtype=np.uint64)
    table = np.empty((_MULTIPLES + 1, 4, _SIZE), dtype=np.uint64)
    for batch in range(coordinates.shape[0]):
        _decode(coordinates[batch], odd[batch], constants, point[0], valid[batch])
        for i in range(_SIZE):
            point[1, i], point[2, i] = coordinates[batch, i], constants[_UNIT, i]
        _multiply(point[0], point[1], point[3])
        _multiples(point, constants, table)
        for i in range(_SIZE):
            point[0, i], point[1, i] = np.uint64(0), constants[_UNIT, i]
            point[2, i], point[3, i] = constants[_UNIT, i], np.uint64(0)
        for position in range(digits.shape[1] - 1, -1, -1):
            for doublings in range(1, 5):
                _double(point, work, doublings == 4)  # noqa: PLR2004
            for i in range(LANES):
                _choose(digits[batch, position, i], table, i, ready)
            _add(point, ready, work)
            if position & 1 == 0:
                for i in range(LANES):
                    _choose(base_digits[batch, position >> 1, i], base, i, affine)
                _add(point, affine, work)
        _encode(point, work, coordinates[batch], odd[batch])

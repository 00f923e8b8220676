"""Loops of threshold sums: sharing, wide noise, packed residues and digits. Not constant time.

Residues are of primes p < 2^27, a known factor w comes with v = floor(w·2^32 / p), as in
`secagg.primitives.ring.kernels`.
A row of residues is packed in lanes: of its C·32 values, value r·C + c is lane r of column c. A column's 32 values of
27 bits are its 27 words, first value in the lowest bits; word k of all columns lies before word k + 1 of any, so that
every inner loop runs over neighbours and LLVM makes vectors of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from secagg.primitives.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["add_wide", "evaluate", "fold", "from_digits", "pack", "to_digits", "unpack"]

U32 = np.uint32
U64 = np.uint64
_BITS = 27
_LANES = 32
_WORD = 32
_MASK = np.uint32((1 << 27) - 1)
_SPLIT = np.int64(26)
_LOW = np.int64((1 << 26) - 1)
_LIFT = np.int64(1 << 31)


@kernel
def _times(x: np.uint32, w: np.uint32, v: np.uint32, p: np.uint32) -> np.uint32:
    """x·w mod p, in [0, 2p): any x."""
    return U32(U32(x * w) - U32(U32((U64(x) * U64(v)) >> U64(32)) * p))


@kernel
def evaluate(coefficients: NDArray[np.uint32], x: int, moduli: NDArray[np.uint32], out: NDArray[np.uint32]) -> None:
    """Evaluate polynomials over each prime field at one point, by Horner's rule.

    Args:
        coefficients: (t, L, N) of x^0 .. x^(t-1), in [0, p).
        x: in [1, p).
        out: (L, N), receives the values, in [0, p).
    """
    t = coefficients.shape[0]
    for k in range(out.shape[0]):
        p = moduli[k]
        w = U32(x)
        v = U32((U64(w) << U64(32)) // U64(p))
        line = out[k]
        top = coefficients[t - 1, k]
        for j in range(line.shape[0]):
            line[j] = top[j]
        for i in range(t - 2, -1, -1):
            add = coefficients[i, k]
            for j in range(line.shape[0]):
                value = U32(_times(line[j], w, v, p) + add[j])  # < 3p
                value = min(value, U32(value - p))
                line[j] = min(value, U32(value - p))


@kernel
def add_wide(a: NDArray[np.uint32], wide: NDArray[np.int64], moduli: NDArray[np.uint32]) -> None:
    """Add integers below 2^56 in absolute value to residues (L, N), mod p; wide (N,)."""
    for k in range(a.shape[0]):
        p, line = moduli[k], a[k]
        w = U32(U32(1 << 26) % p)
        v = U32((U64(w) << U64(32)) // U64(p))
        lifted = U32((U64(1 << 31) * U64(w)) % U64(p))
        back = U32(p - lifted)
        twice, four = U32(p + p), U32(U32(4) * p)
        for j in range(line.shape[0]):
            high = U32((wide[j] >> _SPLIT) + _LIFT)
            value = U32(U32(_times(high, w, v, p) + U32(wide[j] & _LOW)) + U32(line[j] + back))  # < 2p + p + p + p
            value = min(value, U32(value - four))
            value = min(value, U32(value - twice))
            line[j] = min(value, U32(value - p))


@kernel
def pack(rows: NDArray[np.uint32], width: int, out: NDArray[np.uint32]) -> None:
    """Pack the first `width` residues of every row, in lanes.

    Args:
        rows: (L, N), below 2^27.
        width: a multiple of 32.
        out: (L, 27, width / 32), receives all of it.
    """
    columns = width // _LANES
    for k in range(rows.shape[0]):
        for r in range(_LANES):
            line = rows[k, r * columns : (r + 1) * columns]
            word, shift = (_BITS * r) // _WORD, U32((_BITS * r) % _WORD)
            low = out[k, word]
            if shift == 0:
                for c in range(columns):
                    low[c] = line[c]
            else:
                for c in range(columns):
                    low[c] |= U32(line[c] << shift)
            if shift > _WORD - _BITS:
                high, rest = out[k, word + 1], U32(U32(_WORD) - shift)
                for c in range(columns):
                    high[c] = U32(line[c] >> rest)


@kernel
def _add_row(words: NDArray[np.uint32], line: NDArray[np.uint32]) -> None:
    """Undo `pack` for one row, and add: (27, C) to (32·C,)."""
    columns = words.shape[1]
    for r in range(_LANES):
        target = line[r * columns : (r + 1) * columns]
        word, shift = (_BITS * r) // _WORD, U32((_BITS * r) % _WORD)
        low = words[word]
        if shift > _WORD - _BITS:
            high, rest = words[word + 1], U32(U32(_WORD) - shift)
            for c in range(columns):
                value = U32(U32(U32(low[c] >> shift) | U32(high[c] << rest)) & _MASK)
                target[c] = U32(target[c] + value)
        else:
            for c in range(columns):
                value = U32(U32(low[c] >> shift) & _MASK)
                target[c] = U32(target[c] + value)


@kernel
def unpack(words: NDArray[np.uint32], moduli: NDArray[np.uint32], out: NDArray[np.uint32]) -> bool:
    """Undo `pack`: (L, 27, width / 32) to the first `width` of each row of (L, N). Returns whether all are below p."""
    canonical = True
    for k in range(out.shape[0]):
        line = out[k, : words.shape[2] * _LANES]
        line[:] = U32(0)
        _add_row(words[k], line)
        largest = U32(0)
        for value in line:
            largest = max(largest, value)
        if largest >= moduli[k]:
            canonical = False
    return canonical


@kernel
def fold(
    batch: tuple[NDArray[np.uint32], ...],
    count: int,
    moduli: NDArray[np.uint32],
    last_width: int,
    rows: tuple[int, int],
    total: NDArray[np.uint32],
    subtract: bool,  # noqa: FBT001 -- numba takes no keywords
) -> None:
    """Add several packed vectors to a running sum, or subtract them, mod p; any 27 bits are a residue.

    A message is read once, and the sum once for all of them: memory is what this takes its time for.

    Args:
        batch: up to 31 of them: block after block, row after row; the last block's rows have `last_width` values.
        count: how many, from the first, are to be added.
        rows: from the first to before the last, of blocks·L rows.
        total: (blocks, L, N), in [0, p).
    """
    blocks, primes, degree = total.shape
    scratch = np.empty(degree, dtype=np.uint32)
    for row in range(rows[0], rows[1]):
        block, k = row // primes, row % primes
        width = last_width if block == blocks - 1 else degree
        columns = width // _LANES
        at = _BITS * (block * primes * (degree // _LANES) + k * columns)
        line, target = scratch[:width], total[block, k, :width]
        line[:] = U32(0)
        for i in range(count):
            _add_row(batch[i][at : at + _BITS * columns].reshape(_BITS, columns), line)
        p = moduli[k]
        v = U32((U64(1) << U64(32)) // U64(p))
        for j in range(width):
            value = _times(line[j], U32(1), v, p)
            value = min(value, U32(value - p))
            value = U32(p - value) if subtract else value
            value = U32(target[j] + value)
            target[j] = min(value, U32(value - p))


@kernel
def to_digits(values: NDArray[Any], digits: int, bits: int, planes: NDArray[np.uint32]) -> None:
    """Write numbers as digits of coefficients: coefficient i gets values[i·k .. i·k + k - 1], first one lowest.

    Args:
        values: (m,) unsigned, below 2^g.
        digits: k.
        bits: g, 1..71, of a digit.
        planes: (W, N) uint32, all zero, N·k >= m, W >= ceil(k·g / 32); receives the limbs, one plane after the other.
    """
    for digit in range(digits):
        word, shift = (digit * bits) // _WORD, U64((digit * bits) % _WORD)
        count, line = (values.shape[0] - digit + digits - 1) // digits, planes[word]
        for i in range(count):
            line[i] |= U32(U64(values[i * digits + digit]) << shift)
        if word + 1 < planes.shape[0]:
            line = planes[word + 1]
            for i in range(count):
                line[i] |= U32((U64(values[i * digits + digit]) << shift) >> U64(32))
        if word + 2 < planes.shape[0]:
            line = planes[word + 2]
            for i in range(count):
                line[i] |= U32((U64(values[i * digits + digit]) >> U64(1)) >> (U64(63) - shift))


@kernel
def from_digits(planes: NDArray[np.uint32], below: int, digits: int, bits: int, out: NDArray[Any]) -> None:
    """Undo `to_digits`, (W, N) to (m,) unsigned: the low g bits of each are a digit, or all that it has.

    Args:
        below: how many bits lie before the first digit.
    """
    for digit in range(digits):
        at = below + digit * bits
        word, shift = at // _WORD, U64(at % _WORD)
        count, line = (out.shape[0] - digit + digits - 1) // digits, planes[word]
        for i in range(count):  # what lies above a digit's own bits is left for the caller to cut off
            out[i * digits + digit] = U64(line[i]) >> shift
        if word + 1 < planes.shape[0]:
            line = planes[word + 1]
            for i in range(count):
                out[i * digits + digit] |= U64(line[i]) << (U64(_WORD) - shift)
        if word + 2 < planes.shape[0]:
            line = planes[word + 2]
            for i in range(count):
                out[i * digits + digit] |= (U64(line[i]) << (U64(63) - shift)) << U64(1)

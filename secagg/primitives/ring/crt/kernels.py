"""Loops between integers in 32-bit limbs and residues. Not constant time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from secagg.primitives.jit import kernel
from secagg.primitives.ring.kernels import _times

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["add_planes", "to_limbs"]

U32 = np.uint32
U64 = np.uint64
_WORD = np.uint64(32)
_WORD_MASK = np.uint64((1 << 32) - 1)
_PIECE = 512
"""Coefficients converted at a time: their digits and sums stay in a core's first cache."""


@kernel
def add_planes(
    planes: NDArray[np.uint32],
    weights: NDArray[np.uint32],
    weights_q: NDArray[np.uint32],
    moduli: NDArray[np.uint32],
    residues: NDArray[np.uint32],
) -> None:
    """Add sum_w limb_w·weight_w to residues, in place.

    Args:
        planes: (M, W, N) uint32, W <= 15.
        weights, weights_q: (L, W) uint32: scale·2^(32w) mod p, and quotients.
        moduli: (L,) uint32.
        residues: (M, L, N) uint32.
    """
    for m in range(planes.shape[0]):
        for k in range(moduli.shape[0]):
            p, line = moduli[k], residues[m, k]
            for w in range(planes.shape[1]):
                plane, weight, quotient = planes[m, w], weights[k, w], weights_q[k, w]
                for j in range(line.shape[0]):
                    line[j] = U32(line[j] + _times(plane[j], weight, quotient, p))  # < (1 + 2·W)·p <= 31p
            one = U32((U64(1) << _WORD) // U64(p))
            for j in range(line.shape[0]):
                value = _times(line[j], U32(1), one, p)
                line[j] = min(value, U32(value - p))


@kernel
def _digits(
    residues: NDArray[np.uint32],
    start: int,
    shift: NDArray[np.uint32],
    moduli: NDArray[np.uint32],
    inverses: NDArray[np.uint32],
    inverses_q: NDArray[np.uint32],
    out: NDArray[np.uint32],
) -> None:
    """Mixed-radix digits (Garner) of x + shift mod q for the coefficients from `start` on; out (L, piece)."""
    for i in range(moduli.shape[0]):
        p, residue, digit = moduli[i], residues[i, start : start + out.shape[1]], out[i]
        by, twice = shift[i], U32(moduli[i] + moduli[i])
        for j in range(digit.shape[0]):
            digit[j] = U32(residue[j] + by)  # < 2p
        for k in range(i):
            lower, w, v = out[k], inverses[i, k], inverses_q[i, k]
            for j in range(digit.shape[0]):  # a lower digit is below 2^27 < 2p
                digit[j] = _times(U32(digit[j] + U32(twice - lower[j])), w, v, p)
        for j in range(digit.shape[0]):
            digit[j] = min(digit[j], U32(digit[j] - p))


@kernel
def _weigh(
    digits: NDArray[np.uint32],
    weights: NDArray[np.uint32],
    skipped: int,
    total: NDArray[np.uint64],
    out: NDArray[np.uint32],
) -> np.uint64:
    """Write limbs skipped, skipped + 1, ... of sum_i digit_i·weight_i; out (W, piece). Returns 0 if all fit."""
    excess = U64(0)
    total[:] = U64(0)
    for limb in range(weights.shape[1]):
        for i in range(digits.shape[0]):
            line, weight = digits[i], U64(weights[i, limb])
            for j in range(line.shape[0]):  # at most 8 products below 2^59 and a carry below 2^31
                total[j] += U64(line[j]) * weight
        if limb - skipped >= out.shape[0]:
            for j in range(total.shape[0]):
                excess |= total[j]
        elif limb >= skipped:
            line = out[limb - skipped]
            for j in range(total.shape[0]):
                line[j] = U32(total[j] & _WORD_MASK)
        for j in range(total.shape[0]):
            total[j] >>= _WORD
    for limb in range(weights.shape[1] - skipped, out.shape[0]):
        out[limb] = U32(0)
    return excess


@kernel
def to_limbs(
    residues: NDArray[np.uint32],
    shift: NDArray[np.uint32],
    moduli: NDArray[np.uint32],
    inverses: NDArray[np.uint32],
    inverses_q: NDArray[np.uint32],
    weights: NDArray[np.uint32],
    skipped: int,
    out: NDArray[np.uint32],
) -> bool:
    """Limbs of floor(sum_i digit_i·weight_i / 2^(32·skipped)), digits those of x + shift mod q.

    Args:
        residues: (M, L, N) uint32, in [0, p), of x.
        shift: (L,) uint32, in [0, p).
        moduli: (L,) uint32.
        inverses, inverses_q: (L, L) uint32, as in `Tables`.
        weights: (L, K) uint32: integers in limbs; K holds every sum.
        skipped: low limbs left out.
        out: (M, W, N) uint32, receives the low W limbs of what is left, limb by limb.
    Returns: whether anything did not fit W limbs.
    """
    n = residues.shape[2]
    piece = min(n, _PIECE)
    digits = np.empty((moduli.shape[0], piece), dtype=np.uint32)
    total = np.empty(piece, dtype=np.uint64)
    excess = U64(0)
    for m in range(residues.shape[0]):
        for start in range(0, n, piece):
            _digits(residues[m], start, shift, moduli, inverses, inverses_q, digits)
            excess |= _weigh(digits, weights, skipped, total, out[m, :, start : start + piece])
    return bool(excess)

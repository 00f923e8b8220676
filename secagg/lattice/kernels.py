"""Digits in and out of the words of a ring coefficient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from secagg.primitives.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["place_digits", "read_digits"]


@kernel
def place_digits(digits: NDArray[Any], bits: int, planes: NDArray[np.uint32]) -> None:
    """Write digit j of coefficient i at the bits [j·bits, (j + 1)·bits) of its words.

    Args:
        digits: (D, N) unsigned, below 2^bits.
        planes: (W, N) uint32, little-endian limbs, zero before; D·bits <= 32·W.
    """
    for j in range(digits.shape[0]):
        limb, shift = (j * bits) >> 5, np.uint64((j * bits) & 31)
        line, low = digits[j], planes[limb]
        for i in range(line.shape[0]):
            low[i] |= np.uint32(np.uint64(line[i]) << shift)
        if shift + np.uint64(bits) > np.uint64(32):
            high = planes[limb + 1]
            for i in range(line.shape[0]):
                high[i] |= np.uint32((np.uint64(line[i]) << shift) >> np.uint64(32))
        if shift + np.uint64(bits) > np.uint64(64):
            last, left = planes[limb + 2], np.uint64(64) - shift
            for i in range(line.shape[0]):
                last[i] |= np.uint32(np.uint64(line[i]) >> left)


@kernel
def read_digits(planes: NDArray[np.uint32], bits: int, digits: NDArray[Any]) -> None:
    """Read them back, modulo the words of `digits`: the converse of `place_digits`."""
    mask = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(max(64 - bits, 0))
    for j in range(digits.shape[0]):
        limb, shift = (j * bits) >> 5, np.uint64((j * bits) & 31)
        low, line = planes[limb], digits[j]
        if shift + np.uint64(bits) <= np.uint64(32):
            for i in range(line.shape[0]):
                line[i] = (np.uint64(low[i]) >> shift) & mask
            continue
        high = planes[limb + 1]
        for i in range(line.shape[0]):
            line[i] = ((np.uint64(low[i]) | np.uint64(high[i]) << np.uint64(32)) >> shift) & mask
        if shift + np.uint64(bits) > np.uint64(64):
            last, left = planes[limb + 2], np.uint64(64) - shift
            for i in range(line.shape[0]):
                line[i] |= (np.uint64(last[i]) << left) & mask

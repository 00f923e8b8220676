"""The loop that inverts a distribution function. Not constant time: its loads and branches depend on the samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from secagg.primitives.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["invert"]

U64 = np.uint64
_ONE = np.uint64(1)


@kernel
def invert(
    words: NDArray[np.uint64],
    thresholds: NDArray[np.uint64],
    guide: NDArray[np.int32],
    guide_shift: int,
    ties: NDArray[np.int64],
    out: NDArray[np.int32],
) -> int:
    """Turn words into signed samples: sign from bit 0, magnitude the number of thresholds at or below the other 63.

    Args:
        words: (n,) uint64, uniform.
        thresholds: (K,) uint64, ascending, below 2^63.
        guide: (G + 1,) int32: entry b counts the thresholds t with 2t below b·2^guide_shift.
        guide_shift: a word shifted right by it is its entry of the guide.
        ties: (T,) int64, receives the places of samples whose 63 bits equal a threshold, the first T of them.
        out: (n,) int32, receives the samples.
    Returns: how many ties there were; may exceed T.
    """
    shift = U64(guide_shift)
    count = 0
    for i in range(words.shape[0]):
        word = words[i]
        entry = np.int64(word >> shift)
        low, high = guide[entry], guide[entry + 1]
        if low != high:
            value = word >> _ONE
            while low < high:
                middle = (low + high) >> 1
                if thresholds[middle] <= value:
                    low = middle + 1
                else:
                    high = middle
            if low > 0 and thresholds[low - 1] == value:
                if count < ties.shape[0]:
                    ties[count] = i
                count += 1
        negative = -np.int32(word & _ONE)
        out[i] = (np.int32(low) ^ negative) - negative
    return count

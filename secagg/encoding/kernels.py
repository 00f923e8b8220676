"""Loops over long vectors: fixed-point rounding and bit packing. Not constant time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from secagg.primitives.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["pack", "round_stochastically", "unpack_and_add"]

_WORD = 32
_WORD_MASK = np.uint64((1 << _WORD) - 1)


@kernel
def round_stochastically(
    values: NDArray[Any],
    randomness: NDArray[np.uint64],
    clip: float,
    scale: float,
    largest: int,
    out: NDArray[Any],
) -> tuple[int, int]:
    """Clip, scale and round up with probability equal to the fraction lost.

    Args:
        values: (d,) float32 or float64.
        randomness: (d,) uint64, uniform; used once.
        clip: largest absolute value kept.
        scale: steps per unit, after weighting.
        largest: bound on the result's absolute value.
        out: (d,) unsigned, receives the rounded integers modulo 2^word.
    Returns: how many values were clipped, and how many are NaN or infinite (then `out` is meaningless).
    """
    clipped, not_finite = 0, 0
    for i in range(values.shape[0]):
        value = float(values[i])
        if not np.isfinite(value):
            not_finite += 1
            continue
        if value > clip:
            value = clip
            clipped += 1
        elif value < -clip:
            value = -clip
            clipped += 1
        scaled = value * scale
        below = np.floor(scaled)
        fraction = scaled - below
        if fraction >= 1.0:  # a tiny negative value: its fraction rounds to one
            below += 1.0
            fraction = 0.0
        threshold = np.uint64(fraction * 18446744073709551616.0)  # in units of 2^-64, below 2^64
        rounded = np.int64(below)
        if randomness[i] < threshold:
            rounded += 1
        if rounded > largest:  # the product above may exceed `largest` by one float step
            rounded = np.int64(largest)
        elif rounded < -largest:
            rounded = np.int64(-largest)
        out[i] = np.uint64(rounded)
    return clipped, not_finite


@kernel
def pack(values: NDArray[Any], bits: int, out: NDArray[np.uint32]) -> None:
    """Write each value's low `bits` bits one after the other, least significant first.

    Args:
        values: (d,) unsigned, in [0, 2^bits).
        bits: 1..64.
        out: (ceil(d·bits / 32),) uint32, receives the bit stream.
    """
    low_bits = np.uint64(min(bits, _WORD))
    high_bits = np.uint64(max(bits - _WORD, 0))
    pending, filled, position = np.uint64(0), np.uint64(0), 0
    for i in range(values.shape[0]):
        value = np.uint64(values[i])
        pending |= (value & _WORD_MASK) << filled
        filled += low_bits
        if filled >= _WORD:
            out[position] = np.uint32(pending & _WORD_MASK)
            position += 1
            pending >>= np.uint64(_WORD)
            filled -= np.uint64(_WORD)
        if high_bits:
            pending |= (value >> np.uint64(_WORD)) << filled
            filled += high_bits
            if filled >= _WORD:
                out[position] = np.uint32(pending & _WORD_MASK)
                position += 1
                pending >>= np.uint64(_WORD)
                filled -= np.uint64(_WORD)
    if filled:
        out[position] = np.uint32(pending & _WORD_MASK)


@kernel
def unpack_and_add(stream: NDArray[np.uint32], bits: int, accumulator: NDArray[Any]) -> None:
    """Read what `pack` wrote and add it to a vector modulo 2^word.

    Args:
        stream: (ceil(d·bits / 32),) uint32.
        bits: 1..64.
        accumulator: (d,) unsigned, at least `bits` wide, changed in place.
    """
    low_bits = np.uint64(min(bits, _WORD))
    high_bits = np.uint64(max(bits - _WORD, 0))
    low_mask = (np.uint64(1) << low_bits) - np.uint64(1)
    high_mask = (np.uint64(1) << high_bits) - np.uint64(1)
    pending, filled, position = np.uint64(0), np.uint64(0), 0
    for i in range(accumulator.shape[0]):
        if filled < low_bits:
            pending |= np.uint64(stream[position]) << filled
            position += 1
            filled += np.uint64(_WORD)
        value = pending & low_mask
        pending >>= low_bits
        filled -= low_bits
        if high_bits:
            if filled < high_bits:
                pending |= np.uint64(stream[position]) << filled
                position += 1
                filled += np.uint64(_WORD)
            value |= (pending & high_mask) << np.uint64(_WORD)
            pending >>= high_bits
            filled -= high_bits
        accumulator[i] += value

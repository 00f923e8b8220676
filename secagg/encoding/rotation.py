"""Randomised Hadamard rotation: spreads a vector evenly over its coordinates, so that a smaller modulus holds its sums.

x -> H·D·x / sqrt(L), x padded with zeros to length L = 2^k, D a diagonal of random signs, H the Hadamard matrix. The
rotation is orthogonal: norms, and with them sensitivities, stay. For every x, over the signs, a coordinate of the
result is sub-Gaussian with variance |x|²/L (Hoeffding), whichever way x points. Seed and signs are public.

Source: Kairouz, Liu, Steinke 2021 (arXiv 2102.06387), sec. 4; Suresh et al. 2017 (arXiv 1611.00429), sec. 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from secagg import tags
from secagg.primitives.keys import derive_key
from secagg.primitives.prg import keystream

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["rotate", "rotated_length", "unrotate"]


def rotated_length(dimension: int) -> int:
    """Return L, the least power of two that is no less than the dimension."""
    return 1 << (dimension - 1).bit_length()


def rotate(vectors: NDArray[np.float64], seed: bytes) -> NDArray[np.float64]:
    """Rotate vectors.

    Args:
        vectors: (..., d) float64.
        seed: 32 bytes, public.
    Returns: (..., L) float64.
    """
    length = rotated_length(vectors.shape[-1])
    padded = np.zeros((*vectors.shape[:-1], length))
    padded[..., : vectors.shape[-1]] = vectors
    padded *= _signs(seed, length)
    return _hadamard(padded)


def unrotate(rotated: NDArray[np.float64], seed: bytes, dimension: int) -> NDArray[np.float64]:
    """Rotate (..., L) back to (..., dimension)."""
    back = _hadamard(np.array(rotated, dtype=np.float64))[..., :dimension]
    back *= _signs(seed, rotated.shape[-1])[:dimension]
    return back


def _signs(seed: bytes, length: int) -> NDArray[np.float64]:
    octets = keystream(derive_key(seed, tags.PUBLIC_ROTATION), -(-length // 8))
    return 1.0 - 2.0 * np.unpackbits(octets, count=length, bitorder="little").astype(np.float64)


def _hadamard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """H·x / sqrt(L) in place, by butterflies."""
    length, half = values.shape[-1], 1
    while half < length:
        pairs = values.reshape(*values.shape[:-1], -1, 2, half)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        difference = first - second
        first += second
        second[...] = difference
        half *= 2
    values *= length**-0.5
    return values

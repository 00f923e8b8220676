"""The noise that hides errors in a partial decryption: a discrete Gaussian far wider than tables reach.

Threat model: that of `secagg.primitives.sampling`, whose samples it adds up. Not constant time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from secagg import tags
from secagg.primitives.keys import derive_key
from secagg.primitives.sampling import discrete_gaussian

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["flooding_levels", "wide_gaussian"]

_BASE: Final = 1024.0
_STEP_BITS: Final = 8
_MOST_TOP: Final = 2 * _BASE


def flooding_levels(deviation: float) -> list[float]:
    """Return s_0, s_1, ...: the sum of 256^i·x_i, x_i of deviation s_i, has the deviation asked for.

    All are 1024 but for the last, which is in [6, 2048]. By Poisson summation the sum is within statistical distance
    2^-300 of the discrete Gaussian on the integers: 256^i·x_i is joined by what lies below it, whose deviation is at
    least 4·256^i, and that is far above the smoothing parameter.
    Source: Peikert 2010, theorem 3.1 (convolution); docs/threshold.md.
    """
    levels: list[float] = []
    left, unit = deviation**2, 1.0
    while left > (_MOST_TOP * unit) ** 2:
        levels.append(_BASE)
        left -= (_BASE * unit) ** 2
        unit *= 1 << _STEP_BITS
    return [*levels, math.sqrt(left) / unit]


def wide_gaussian(key: bytes, size: int, deviation: float, *, start: int = 0) -> NDArray[np.int64]:
    """Draw samples of a wide discrete Gaussian, numbers `start` .. `start + size - 1` of a key.

    Args:
        key: 32 bytes, for this purpose only.
        deviation: in [6, 2^52].
    Returns: (size,) int64, below 13·deviation in absolute value.
    """
    total = np.zeros(size, np.int64)
    for level, sigma in reversed(list(enumerate(flooding_levels(deviation)))):
        total <<= _STEP_BITS
        total += discrete_gaussian(
            derive_key(key, tags.THRESHOLD_FLOODING_LEVEL, bytes([level])), size, sigma, start=start
        )
    return total

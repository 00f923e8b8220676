"""Rows of real numbers rounded to integers without bias, and without leaving a ball whose radius is known beforehand.

Every coordinate is rounded up with probability equal to its fraction; a row whose norm comes out beyond the bound is
rounded again. The bound is checked on the integers, so that a sensitivity derived from it holds whatever floating point
did before. For a row of norm <= c in d dimensions the bound

    B² = min((c + sqrt(d))², c² + d/4 + sqrt(2·log(1/β))·(c + sqrt(d)/2)),  β = e^(-1/2),

is missed with probability at most β, so that 64 attempts fail together once in e^32 times; such a row is rounded
towards zero, which never lengthens it. How often a row is rounded depends on the row, and so does the time it takes.

Source: Kairouz, Liu, Steinke 2021 (arXiv 2102.06387), Theorem 1 and sec. 4 (conditional randomised rounding).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from secagg.primitives.prg import keystream

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["round_rows", "rounded_norm_squared"]

_ATTEMPTS = 64
_LOG_INVERSE_BETA = 0.5
_LARGEST = 1 << 26


def rounded_norm_squared(norm: float, dimension: int) -> int:
    """Return B², rounded down: a bound on the squared norm of a rounded row, an integer.

    Args:
        norm: c > 0, of rows before rounding, in steps of the grid; B stays below 2^26.
        dimension: d >= 1.

    >>> rounded_norm_squared(100.0, 16)
    10106
    """
    bound = 0
    if dimension == 1 and 0 < norm < _LARGEST:
        bound = math.ceil(norm) ** 2
    elif 0 < norm < _LARGEST:
        plain = (norm + math.sqrt(dimension)) ** 2
        slack = math.sqrt(2 * _LOG_INVERSE_BETA) * (norm + math.sqrt(dimension) / 2)
        bound = math.floor(min(plain, norm**2 + dimension / 4 + slack))
    if not 0 < bound < _LARGEST**2:
        msg = f"a norm of {norm:g} steps in {dimension} dimensions is out of range: rounded, it must stay below 2^26"
        raise ValueError(msg)
    return bound


def round_rows(rows: NDArray[np.float64], *, norm_squared: int, key: bytes) -> NDArray[np.int64]:
    """Round rows stochastically, on condition that the squared norm of each is at most `norm_squared`.

    Args:
        rows: (n, d) float64.
        norm_squared: what `rounded_norm_squared` says of the longest row.
        key: 32 bytes, fresh.
    Returns: (n, d) int64.
    Raises:
        ValueError: a row is longer than the bound even if rounded towards zero: it was not clipped.
    """
    below = np.floor(rows)
    fraction = rows - below
    result = np.trunc(rows)
    if not (np.square(result).sum(axis=1) <= norm_squared).all():  # exact: the bound is below 2^52
        msg = "a row is longer than the bound says: clip it first"
        raise ValueError(msg)
    result = result.astype(np.int64)
    pending, offset = np.arange(len(rows)), 0
    for _ in range(_ATTEMPTS):
        size = len(pending) * rows.shape[1]
        if not size:
            break
        words = keystream(key, 8 * size, offset=offset).view("<u8").reshape(len(pending), -1)
        offset += 8 * (size + size % 2)
        rounded = (below[pending] + ((words >> np.uint64(11)) * 2.0**-53 < fraction[pending])).astype(np.int64)
        kept = np.square(rounded).sum(axis=1) <= norm_squared
        result[pending[kept]] = rounded[kept]
        pending = pending[~kept]
    return result

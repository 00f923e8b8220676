"""Skellam noise over the integers, the difference of two equal Poisson variables: exact, reproducible, by inversion.

At variance v, P[X = k] = e^-v·I_|k|(v) with the modified Bessel functions I. Sums of independent Skellam variables are
Skellam, variances adding up: what parts of a noise may be taken away later without changing its kind.

Threat model, the bytes that make a sample and the distance to the exact distribution, below 2^-107 a sample: see
`secagg.primitives.sampling.inversion`. F comes from the recurrence I_(k-1) = I_(k+1) + (2k/v)·I_k, run downwards from
y_(N+1) = 0, y_N = 2^320 in whole numbers (Miller's algorithm). Its errors, N < 2^20:

* Start. I_k and (-1)^k·K_k, K the other Bessel function, solve the recurrence, so y_k is A·I_k·(1 + e_k) with
  |e_k| = (I_(N+1)/I_k)·(K_k/K_(N+1)) < I_(N+1)/I_k, as K_k grows with k. N is such that P[X > N] <= 2^-400 by
  Chernoff's bound; P[X = 0] > 2^-18, hence I_(N+1)/I_0 < 2^-380. All thresholds are over sums in which terms down to
  2^-120·I_0 matter: relative errors below 2^-260.
* Rounding down. y_k >= 2^311 for all k <= N (2N/v > 2^-9), and all terms are positive, so relative errors only add up:
  below N·2^-311.

So the floors are those of the true numbers unless one of them is followed by more than 120 equal bits.

Source: Skellam 1946; NIST DLMF 10.29.1 and 10.37 (recurrence, monotony), 3.6(v) (Miller's algorithm).
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from secagg import tags
from secagg.primitives.sampling.inversion import MAX_SIGMA, checked, draw, tabulate, thresholds_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from secagg.primitives.sampling.inversion import Table

__all__ = ["MAX_VARIANCE", "MIN_VARIANCE", "skellam"]

MIN_VARIANCE = 2.0**-20
MAX_VARIANCE = MAX_SIGMA**2

_PRECISION = 320
_LOG_TAIL = -400 * math.log(2)


def skellam(key: bytes, size: int, variance: float, *, start: int = 0) -> NDArray[np.int32]:
    """Draw samples `start` .. `start + size - 1` of a key.

    Args:
        key: 32 bytes, made by `derive_key` for this purpose only.
        size: how many.
        variance: in [2^-20, 2^28], the very float given; half of it is the mean of each Poisson variable.
        start: of the first sample; drawing in pieces gives the same samples as at once.
    Returns: (size,) int32, |x| below 12.2·sqrt(variance) + 30.
    Raises:
        ValueError: variance or the range of samples out of range.
    Guarantees: statistical distance to the exact distribution below 2^-107 a sample; always 8 bytes of stream a sample.
    Security: table lookups are not constant time; see `secagg.primitives.sampling.inversion`.
    """
    return draw(key, size, start, _table(checked(variance, "variance", MIN_VARIANCE, MAX_VARIANCE)))


@lru_cache(maxsize=64)
def _table(variance: float) -> Table:
    """Compute the table of one variance: some milliseconds, up to a second at 2^28."""
    return tabulate(_thresholds(variance), spread=math.sqrt(variance), tag=tags.SKELLAM_TIES)


def _thresholds(variance: float) -> list[int]:
    return thresholds_of(_weights(variance))


def _weights(variance: float) -> list[int]:
    """I_0, I_1, ..., I_N up to a common factor."""
    last = 16
    while _log_tail(last, variance) > _LOG_TAIL:
        last += last // 4
    twice = 2 / Fraction(variance)
    weights, above, current = [], 0, 1 << _PRECISION
    for k in range(last, 0, -1):
        weights.append(current)
        above, current = current, above + k * twice.numerator * current // twice.denominator
    return [current, *reversed(weights)]


def _log_tail(k: int, variance: float) -> float:
    """Chernoff's bound on log P[X >= k]: E[e^(tX)] = e^(v·(cosh t - 1)) at sinh t = k/v."""
    t = math.asinh(k / variance)
    return 2 * variance * math.sinh(t / 2) ** 2 - t * k

"""The discrete Gaussian over the integers, P[x] proportional to exp(-x²/2σ²): exact, reproducible, by inversion.

Threat model, the bytes that make a sample and the distance to the exact distribution, below 2^-107 a sample: see
`secagg.primitives.sampling.inversion`. F is computed with 320 fractional bits by recurrences whose errors stay below
2^-250, so that floors are those of the true numbers unless one of them is followed by more than 120 equal bits.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from secagg import tags
from secagg.primitives.sampling.inversion import MAX_SIGMA, checked, draw, tabulate, thresholds_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from secagg.primitives.sampling.inversion import Table

__all__ = ["MIN_SIGMA", "discrete_gaussian"]

MIN_SIGMA = 0.5

_PRECISION = 320
"""Fractional bits while a table is computed."""


def discrete_gaussian(key: bytes, size: int, sigma: float, *, start: int = 0) -> NDArray[np.int32]:
    """Draw samples `start` .. `start + size - 1` of a key.

    Args:
        key: 32 bytes, made by `derive_key` for this purpose only.
        size: how many.
        sigma: σ, in [0.5, 2^14], the very float given. The variance is below σ²: by 14 % at σ = 0.5, by less than one
            part in 10^6 from σ = 1 on.
        start: of the first sample; drawing in pieces gives the same samples as at once.
    Returns: (size,) int32, |x| below 12.2·σ + 2.
    Raises:
        ValueError: σ or the range of samples out of range.
    Guarantees: statistical distance to the exact distribution below 2^-107 a sample; always 8 bytes of stream a sample.
    Security: table lookups are not constant time; see `secagg.primitives.sampling.inversion`.
    """
    return draw(key, size, start, _table(checked(sigma, "sigma", MIN_SIGMA, MAX_SIGMA)))


@lru_cache(maxsize=64)
def _table(sigma: float) -> Table:
    """Compute the table of one σ: some milliseconds, up to a second at 2^14."""
    return tabulate(_thresholds(sigma), spread=sigma, tag=tags.GAUSSIAN_TIES)


def _thresholds(sigma: float) -> list[int]:
    return thresholds_of(_weights(Fraction(sigma)))


def _weights(sigma: Fraction) -> list[int]:
    """exp(-m²/2σ²)·2^320 for m = 0, 1, ... until it vanishes: each from the last by the ratio exp(-(2m + 1)/2σ²)."""
    exponent = 1 / (2 * sigma * sigma)
    ratio, step = _exp_minus(exponent), _exp_minus(2 * exponent)
    weight, weights = 1 << _PRECISION, []
    while weight:
        weights.append(weight)
        weight = weight * ratio >> _PRECISION
        ratio = ratio * step >> _PRECISION
    return weights


def _exp_minus(x: Fraction) -> int:
    """exp(-x)·2^320 within one unit, for 0 < x <= 4: the alternating series, ten guard bits."""
    guard = _PRECISION + 10
    term, total, k = 1 << guard, 0, 0
    while term:
        total += -term if k % 2 else term
        k += 1
        term = term * x.numerator // (x.denominator * k)
    return total >> 10

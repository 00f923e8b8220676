"""Chinese remaindering between integers in little-endian limbs and residues.

Digits. x in [0, q) is written in mixed radix, x = sum_i v_i·P_i with P_i = p_0···p_(i-1) and 0 <= v_i < p_i (Garner).

Division. For 0 <= y < q and a whole Δ >= 1, floor(y / Δ) is exact without dividing: take F with 2^F >= Δ·L·2^27 and
G_i = ceil(2^F·P_i / Δ), and let S = sum_i v_i·G_i. As 0 <= G_i - 2^F·P_i / Δ < 1, S / 2^F exceeds y / Δ by less than
sum_i v_i / 2^F < L·2^27 / 2^F <= 1 / Δ. And y = Δ·m + r with r <= Δ - 1, so m <= S / 2^F < m + (Δ - 1)/Δ + 1/Δ = m + 1.
Δ = 1 needs no F: G_i = P_i is exact.

Rounding. Let c = Δ·m + e mod q with |e| < Δ/2, 0 <= m and Δ·(m + 1) <= q, and h = floor(Δ / 2). Then e + h is in
[0, Δ) (odd Δ: |e| <= (Δ - 1)/2 = h; even Δ: |e| < h), so y = c + h mod q = Δ·m + (e + h) lies in [Δ·m, Δ·(m + 1)),
below q: no wrap is left, and floor(y / Δ) = m.

Source: Garner 1959; Granlund and Montgomery 1994 (division by invariant integers).
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from secagg.primitives.ring.tables import PRIME_BITS, limb_table, quotients, tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["add_planes", "limbs_for", "to_words"]

_LIMB_BITS = 32
_MAX_LIMBS = 15
"""Limbs of an integer added to residues: their lazy sum stays below 1 + 2·15 = 31 times the prime, within 32 bits."""


class _Divisor(NamedTuple):
    weights: NDArray[np.uint32]
    """(L, K): G_i in limbs, K enough for the largest S."""
    skipped: int
    """F / 32."""


def limbs_for(bound: int) -> int:
    """Return how many 32-bit limbs hold every integer in [0, bound]."""
    return max(1, -(-bound.bit_length() // _LIMB_BITS))


def add_planes(residues: NDArray[np.uint32], planes: NDArray[np.uint32], scale: int, degree: int, count: int) -> None:
    """Add scale times each integer, in place; residues (M, L, N) uint32, planes (M, W, N) uint32, limb by limb."""
    from secagg.primitives.ring.crt import kernels  # noqa: PLC0415 -- numba loads on first use

    width = planes.shape[1]
    if not 1 <= width <= _MAX_LIMBS:
        msg = f"integers have 1 to {_MAX_LIMBS} limbs of {_LIMB_BITS} bits, got {width}"
        raise ValueError(msg)
    table = tables(degree, count)
    weights, weights_q = _limb_weights(scale, width, degree, count)
    kernels.add_planes(planes, weights, weights_q, table.moduli, residues)


def to_words(
    residues: NDArray[np.uint32], shift: int, divisor: int, words: int, degree: int, count: int
) -> NDArray[np.uint32]:
    """floor((x + shift mod q) / divisor) in limbs; residues (M, L, N) uint32 -> (M, words, N) uint32, limb by limb.

    Raises:
        ValueError: a result does not fit that many limbs.
    """
    from secagg.primitives.ring.crt import kernels  # noqa: PLC0415

    table = tables(degree, count)
    by = np.array([shift % int(prime) for prime in table.moduli], dtype=np.uint32)
    weights, skipped = _divisor(divisor, degree, count)
    out = np.empty((len(residues), words, degree), dtype=np.uint32)
    if kernels.to_limbs(residues, by, table.moduli, table.inverses, table.inverses_q, weights, skipped, out):
        msg = f"a coefficient does not fit {words} limbs of {_LIMB_BITS} bits"
        raise ValueError(msg)
    return out


@lru_cache(maxsize=64)
def _limb_weights(scale: int, width: int, degree: int, count: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    moduli = [int(prime) for prime in tables(degree, count).moduli]
    weights = np.array(
        [[(scale << (_LIMB_BITS * w)) % prime for w in range(width)] for prime in moduli], dtype=np.uint32
    )
    return weights, quotients(weights, np.array(moduli, dtype=np.uint64)[:, None])


@lru_cache(maxsize=64)
def _divisor(divisor: int, degree: int, count: int) -> _Divisor:
    """Compute the weights G_i of the module's docstring, F a multiple of 32."""
    moduli = [int(prime) for prime in tables(degree, count).moduli]
    radices = [prod(moduli[:i]) for i in range(count)]
    skipped = limbs_for((divisor * count << PRIME_BITS) - 1) if divisor > 1 else 0
    weights = [-(-(radix << (_LIMB_BITS * skipped)) // divisor) for radix in radices]
    largest = sum((prime - 1) * weight for prime, weight in zip(moduli, weights, strict=True))
    return _Divisor(limb_table([*weights, largest])[:-1], skipped)

"""Primes, roots of unity and the constants that the ring's kernels read, all computed, in integers.

The transform sees a polynomial as a matrix of A rows and B columns, A·B = N, coefficient r·B + c at (r, c):

1. log2 A layers of butterflies split X^N + 1 into factors X^B - ζ_r, one a row;
2. entry (r, c) is multiplied by η_r^c, where η_r^B = -ζ_r ("twist"): every row is now taken mod Y^B + 1, X = η_r·Y;
3. the matrix is transposed, so that the same butterflies, with the same roots for every row, split it to the end.

All inner loops run over at least min(A, B) neighbours, none over the strides 1, 2, 4 that vectors cannot do.

Source: Harvey 2014, "Faster arithmetic for number-theoretic transforms"; Bailey 1990 (four-step); Shoup's quotients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["PRIME_BITS", "Tables", "exponents", "largest_primes", "limb_table", "quotients", "tables"]

PRIME_BITS = 27
_WORD = 32
_SPARE_RATIO = 32
"""One spare word in so many, for those that rejection skips; primes lie so close to 2^27 that it skips fewer."""


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Everything of one ring that kernels read; uint32, quotients (`_q`) as `quotients` returns them.

    Attributes:
        moduli: (L,) the primes p_l.
        rows: A, of the matrix that the module's docstring speaks of.
        roots, roots_q: (L, max(A, B)): entry m + i is the root that splits factor i of m.
        inverse_roots, inverse_roots_q: likewise, their inverses.
        twist, twist_q: (L, N) η_r^c.
        untwist, untwist_q: (L, N) η_r^-c / N.
        inverses, inverses_q: (L, L): [i, j] is 1 / p_j mod p_i for j < i, else 0.
        stream_words: words of the uniform stream that a row of residues may use, a multiple of 4.
    """

    moduli: NDArray[np.uint32]
    rows: int
    roots: NDArray[np.uint32]
    roots_q: NDArray[np.uint32]
    inverse_roots: NDArray[np.uint32]
    inverse_roots_q: NDArray[np.uint32]
    twist: NDArray[np.uint32]
    twist_q: NDArray[np.uint32]
    untwist: NDArray[np.uint32]
    untwist_q: NDArray[np.uint32]
    inverses: NDArray[np.uint32]
    inverses_q: NDArray[np.uint32]
    stream_words: int


@lru_cache(maxsize=64)
def largest_primes(degree: int, count: int) -> tuple[int, ...]:
    """Return the `count` largest primes p = 1 mod 2·degree below 2^27, in descending order."""
    step = 2 * degree
    found: list[int] = []
    candidate = ((1 << PRIME_BITS) - 2) // step * step + 1
    while len(found) < count:
        if candidate < 1 << (PRIME_BITS - 1):
            msg = f"there are only {len(found)} primes of {PRIME_BITS} bits for degree {degree}"
            raise ValueError(msg)
        if _is_prime(candidate):
            found.append(candidate)
        candidate -= step
    return tuple(found)


@lru_cache(maxsize=16)
def tables(degree: int, count: int) -> Tables:
    """Compute the tables of the ring of this degree over the largest `count` primes."""
    moduli = largest_primes(degree, count)
    p = np.array(moduli, dtype=np.uint64)[:, None]
    powers = np.stack([_powers(_root(prime, degree), 2 * degree, prime) for prime in moduli])
    rows = 1 << -(-(degree.bit_length() - 1) // 2)
    columns = degree // rows
    roots = _reversed_bits(degree, max(rows, columns))
    split = (exponents(degree, rows) + degree) // columns  # η_r as a power of ψ
    twist = (split[:, None] * np.arange(columns)).reshape(-1)
    per_degree = np.array([pow(degree, -1, prime) for prime in moduli], dtype=np.uint64)[:, None]
    order = 2 * degree
    made = {
        "roots": powers[:, roots],
        "inverse_roots": powers[:, -roots % order],
        "twist": powers[:, twist % order],
        "untwist": powers[:, -twist % order] * per_degree % p,
        "inverses": np.array(
            [[pow(q, -1, prime) if j < i else 0 for j, q in enumerate(moduli)] for i, prime in enumerate(moduli)],
            dtype=np.uint64,
        ),
    }
    values = {name: value.astype(np.uint32) for name, value in made.items()}
    shoup = {f"{name}_q": quotients(value, p) for name, value in values.items()}
    words = -(-(degree + degree // _SPARE_RATIO + _SPARE_RATIO) // 4) * 4
    table = Tables(moduli=p[:, 0].astype(np.uint32), rows=rows, stream_words=words, **values, **shoup)
    for array in (table.moduli, *values.values(), *shoup.values()):
        array.flags.writeable = False
    return table


def quotients(values: NDArray[np.uint32], moduli: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return floor(value·2^32 / p), what a multiplication by a known factor mod p needs besides it (Shoup)."""
    return ((values.astype(np.uint64) << np.uint64(_WORD)) // moduli).astype(np.uint32)


def exponents(degree: int, parts: int) -> NDArray[np.int64]:
    """Return e with X^N + 1 = product over i of (X^(N/parts) - ψ^e_i), in the order that the butterflies make."""
    i = np.arange(parts)
    return _reversed_bits(degree, parts)[parts // 2 + i // 2] + i % 2 * degree if parts > 1 else np.array([degree])


def limb_table(values: list[int]) -> NDArray[np.uint32]:
    """Write integers as rows of 32-bit limbs, least significant first, as many as the largest takes."""
    octets = 4 * max(1, -(-max(value.bit_length() for value in values) // _WORD))
    data = b"".join(value.to_bytes(octets, "little") for value in values)
    return np.frombuffer(data, dtype="<u4").reshape(len(values), -1).astype(np.uint32)


def _powers(base: int, count: int, prime: int) -> NDArray[np.uint64]:
    """base^0 .. base^(count - 1) mod prime; count a power of two."""
    powers = np.ones(count, dtype=np.uint64)
    done = 1
    while done < count:
        powers[done : 2 * done] = powers[:done] * np.uint64(pow(base, done, prime)) % np.uint64(prime)
        done *= 2
    return powers


def _reversed_bits(degree: int, count: int) -> NDArray[np.int64]:
    """0 .. count - 1, each read backwards as a number of log2(degree) bits."""
    reversed_ = np.zeros(count, dtype=np.int64)
    done, value = 1, degree // 2
    while done < count:
        reversed_[done : 2 * done] = reversed_[:done] + value
        done, value = 2 * done, value // 2
    return reversed_


def _root(prime: int, degree: int) -> int:
    """ψ of order 2N: the least g >= 2 that gives one, to the power (p - 1) / 2N."""
    candidates: Iterator[int] = (pow(g, (prime - 1) // (2 * degree), prime) for g in range(2, prime))
    return next(root for root in candidates if pow(root, degree, prime) == prime - 1)


def _is_prime(number: int) -> bool:
    """Fermat's test refuses most; trial division settles the rest, for odd numbers > 2."""
    return pow(2, number - 1, number) == 1 and all(number % d for d in range(3, isqrt(number) + 1, 2))

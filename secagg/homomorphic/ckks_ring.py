"""Vectors modulo the prime of a CKKS sum: what the server computes with. No keys, no TenSEAL.

A ciphertext is (c0, c1) with c0 + c1·s = Δ·m + noise modulo (X^N + 1, q) for the secret s. c0 is kept by coefficients,
and only those that carry digits; c1 by its values at the roots of X^N + 1, in SEAL's order. A fresh c1 is uniform, so
it travels as the 32-byte seed of its AES-256-CTR stream: half the size (SEAL's own seeded form uses BLAKE2 likewise;
the key being public, AES stands for a random function here, as in Kyber's 90s variant and FrodoKEM-AES).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.encoding.packing import Words, add_packed, pack, packed_bytes, word_dtype
from secagg.errors import DecodeError
from secagg.primitives.prg import keystream

if TYPE_CHECKING:
    from secagg.homomorphic.ckks_parameters import CkksParameters

__all__ = ["CiphertextSum", "Residues", "add_modulo", "from_digits", "pack_residues", "to_digits", "uniform"]

Residues: TypeAlias = NDArray[np.uint64]
"""A vector of values in [0, q)."""

SEED_BYTES = 32


@dataclass(frozen=True, slots=True, eq=False)
class CiphertextSum:
    """A running sum of ciphertexts, changed in place: 16 bytes a coefficient, whatever the number of clients.

    Attributes:
        c0: (coefficients,) uint64, in [0, q): only the coefficients that carry digits.
        c1: (padded,) uint64, in [0, q): values at the roots, polynomial after polynomial.
    """

    c0: Residues = field(repr=False)
    c1: Residues = field(repr=False)

    @classmethod
    def zero(cls, parameters: CkksParameters, length: int) -> CiphertextSum:
        """Begin a sum of vectors of so many coordinates."""
        return cls(np.zeros(parameters.coefficients(length), np.uint64), np.zeros(parameters.padded(length), np.uint64))

    def add(self, seed: bytes, packed: memoryview, parameters: CkksParameters) -> None:
        """Add one client's ciphertext.

        Raises:
            DecodeError: not residues modulo q; nothing was added.
        """
        c0 = unpack_residues(packed, len(self.c0), parameters)
        add_modulo(self.c1, uniform(seed, len(self.c1), parameters), parameters.modulus)
        add_modulo(self.c0, c0, parameters.modulus)


def add_modulo(total: Residues, term: Residues, modulus: int) -> None:
    """Add residues in place; the modulus has at most 63 bits."""
    total += term
    np.minimum(total, total - np.uint64(modulus), out=total)  # what is below q wraps to something huge


def pack_residues(values: Residues, parameters: CkksParameters) -> memoryview:
    """Pack residues to exactly the bits of q each."""
    return pack(values.astype(word_dtype(parameters.prime_bits), copy=False), parameters.prime_bits)


def residue_bytes(count: int, parameters: CkksParameters) -> int:
    """Return the length of so many packed residues."""
    return packed_bytes(count, parameters.prime_bits)


def unpack_residues(packed: memoryview, count: int, parameters: CkksParameters) -> Residues:
    """Unpack residues.

    Raises:
        DecodeError: wrong length, or a value that is not below q.
    """
    words: Words = np.zeros(count, word_dtype(parameters.prime_bits))
    add_packed(packed, parameters.prime_bits, words)
    values: Residues = words.astype(np.uint64, copy=False)
    if count and int(values.max()) >= parameters.modulus:
        msg = "a coefficient of a ciphertext is not below the modulus"
        raise DecodeError(msg)
    return values


def uniform(seed: bytes, count: int, parameters: CkksParameters) -> Residues:
    """Expand a seed to uniform residues: the words of its stream, cut to the bits of q, that lie below q.

    Args:
        seed: 32 bytes, used as the key of one stream only.
    Returns: (count,) uint64, in [0, q).
    """
    out = np.empty(count, np.uint64)
    mask = np.uint64((1 << parameters.prime_bits) - 1)
    filled = offset = 0
    while filled < count:
        octets = -(-8 * (count - filled) // 16) * 16
        words = keystream(seed, octets, offset=offset).view("<u8") & mask
        words = words[words < np.uint64(parameters.modulus)][: count - filled]
        out[filled : filled + len(words)] = words
        filled += len(words)
        offset += octets
    return out


def to_digits(words: Words, parameters: CkksParameters) -> NDArray[np.int64]:
    """Cut a vector modulo 2^b into balanced digits.

    Args:
        words: (length,) unsigned, in [0, 2^b).
    Returns: (k·length,) int64, in [-2^(w-1), 2^(w-1)): all lowest digits, then all second ones, and so on.
    """
    rest = words.astype(np.uint64)
    shift = np.int64(64 - parameters.digit_bits)
    out = np.empty((parameters.digits, len(words)), np.int64)
    for digit in out:
        np.right_shift((rest << np.uint64(shift)).view(np.int64), shift, out=digit)
        rest = (rest - digit.view(np.uint64)) >> np.uint64(parameters.digit_bits)
    return out.reshape(-1)


def from_digits(digits: NDArray[np.int64], parameters: CkksParameters) -> Words:
    """Put digit sums together, modulo 2^b.

    Args:
        digits: (k·length,) int64, any size.
    Returns: (length,) words in [0, 2^b).
    """
    rows = digits.reshape(parameters.digits, -1).view(np.uint64)
    total = np.zeros(rows.shape[1], np.uint64)
    for place, row in enumerate(rows):
        total += row << np.uint64(place * parameters.digit_bits)
    total &= np.uint64((1 << parameters.modulus_bits) - 1)
    return total.astype(word_dtype(parameters.modulus_bits), copy=False)

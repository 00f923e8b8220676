"""One long mask from a short secret: c_b = a_b·s + e_b + Δ·m_b, block by block, and the sum taken apart again.

The ring elements a_b are public and follow from the setup, so nobody chooses them. Client and server compute in blocks
of N coefficients, in parallel, and keep nothing but one vector of residues.

A client that sends other ring elements than `conceal` makes ruins the sum, and nothing but the sum: nobody can tell.

Threat model: the server learns Σs and Σc over the survivors, hence Σe and Σm; `secagg.lattice.parameters` says what is
hidden then. Secrets and errors follow from the randomness of one step, which serves one message only. Kernels are not
constant time.

Source: the construction of Bell et al. 2022 (ACORN, sec. 4) and Stevens et al. 2022, with discrete Gaussians as
Hint-RLWE asks for (Kim et al. 2023).
"""

from __future__ import annotations

import copy
import hashlib
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from secagg import tags
from secagg.encoding.packing import Words, add_packed, pack, packed_bytes, reduce, word_dtype
from secagg.errors import DecodeError, EncodingError, RemoteProtocolError
from secagg.lattice.parameters import PRIME_BITS, LatticeParameters
from secagg.primitives.keys import derive_key
from secagg.primitives.ring import Factor, Residues, Ring
from secagg.primitives.sampling import discrete_gaussian
from secagg.primitives.threads import in_slices

if TYPE_CHECKING:
    from secagg.params import Plan
    from secagg.setups import Setup

__all__ = ["CipherSum", "conceal"]

_BLOCKS_PER_THREAD = 4
_BLOCKS_AT_ONCE = 4
"""Blocks that go through one operation together: threads then rarely wait for the interpreter's lock."""


def conceal(setup: Setup, vector: Words, random: bytes, *, room: int = 0) -> tuple[Words, bytearray]:
    """Hide a vector under a fresh short secret.

    Args:
        vector: (length,) words in [0, 2^modulus_bits); used up.
        random: 32 fresh bytes, never used for anything else.
        room: bytes to leave free before c, a multiple of 4.
    Returns: the secret as (N,) words modulo 2^secret_bits, to be summed under masks; and c, packed.
    Raises:
        EncodingError: sums must not wrap, and a coordinate is so large that one of n such would.
    """
    parameters = _parameters(setup.plan)
    ring = _ring(parameters)
    if not setup.plan.wraps:
        _shift(vector, setup.plan)
    n, size = parameters.degree, _block_bytes(parameters)
    secret = discrete_gaussian(derive_key(random, tags.LATTICE_SECRET, setup.digest), n, parameters.sigma)
    noise = derive_key(random, tags.LATTICE_ERRORS, setup.digest)
    key, public = _secret_factor(ring, secret), _public_key(setup)
    out = bytearray(room + parameters.ciphertext_bytes)
    blocks = memoryview(out)[room:]

    def work(start: int, stop: int) -> None:
        for first in range(start, stop, _BLOCKS_AT_ONCE):
            last = min(first + _BLOCKS_AT_ONCE, stop)
            c = ring.uniform_blocks(public, first, last - first)
            ring.multiply(c, key, out=c)
            ring.inverse(c, out=c)
            ring.add_planes(c, _planes_of(vector, first, last, parameters), scale=parameters.delta, out=c)
            errors = discrete_gaussian(noise, (last - first) * n, parameters.sigma, start=first * n)
            ring.add_small(c, errors.reshape(-1, n), out=c)
            pack(c.reshape(-1), PRIME_BITS, out=blocks[first * size : last * size])

    in_slices(work, parameters.blocks, align=1, smallest=_BLOCKS_PER_THREAD)
    words = secret.astype(np.int64).astype(word_dtype(parameters.secret_bits))
    reduce(words, parameters.secret_bits)
    return words, out


class CipherSum:
    """The running sum of clients' c: one vector of residues, whatever their number. Not thread-safe.

    Attributes:
        clients: how many were added.
    """

    def __init__(self, plan: Plan) -> None:
        self._parameters = _parameters(plan)
        shape = (self._parameters.blocks, len(self._parameters.primes), self._parameters.degree)
        self._residues: Residues = np.zeros(shape, dtype=np.uint32)
        self.clients = 0

    def copy(self) -> CipherSum:
        """Return a sum of its own."""
        return copy.deepcopy(self)

    def add(self, packed: memoryview) -> None:
        """Add one client's c.

        Raises:
            DecodeError: a residue is not below its prime; the sum is unchanged.
        """
        ring, (blocks, _, _) = _ring(self._parameters), self._residues.shape
        size = _block_bytes(self._parameters)
        theirs = np.zeros_like(self._residues)

        def read(start: int, stop: int) -> None:
            for block in range(start, stop):
                add_packed(packed[block * size : (block + 1) * size], PRIME_BITS, theirs[block].reshape(-1))
            ring.check(theirs[start:stop])

        def add(start: int, stop: int) -> None:
            ring.add(self._residues[start:stop], theirs[start:stop], out=self._residues[start:stop])

        if len(packed) != blocks * size:
            msg = f"a ciphertext has {blocks * size} bytes here, got {len(packed)}"
            raise DecodeError(msg)
        for work in (read, add):
            in_slices(work, blocks, align=1, smallest=_BLOCKS_PER_THREAD)
        self.clients += 1

    def open(self, setup: Setup, secret: Words) -> Words:
        """Take the sum of the vectors out of the sum of the c, which is used up.

        Args:
            secret: (N,) words modulo 2^secret_bits, the sum of the secrets.
        Returns: (length,) words modulo 2^modulus_bits. If a c was not what `conceal` makes they are arbitrary, as where
            a client sends anything for a masked vector: nothing shows it, and what lies above the digits is dropped.
        Raises:
            RemoteProtocolError: no sum of as many honest secrets.
        """
        parameters, plan = self._parameters, setup.plan
        ring, n = _ring(parameters), parameters.degree
        centred = _centred(secret, parameters.secret_bits)
        if np.abs(centred).max() > self.clients * parameters.secret_bound:
            text = "the clients' secrets add up to more than that many honest ones can"
            raise RemoteProtocolError(text, round="unmask", culprits=[])
        key, public = _secret_factor(ring, centred.astype(np.int32)), _public_key(setup)
        dtype = word_dtype(plan.modulus_bits)
        sums = np.empty((parameters.blocks, parameters.digits, n), dtype=dtype)

        def work(start: int, stop: int) -> None:
            from secagg.lattice import kernels  # noqa: PLC0415 -- numba loads on first use

            for first in range(start, stop, _BLOCKS_AT_ONCE):
                last = min(first + _BLOCKS_AT_ONCE, stop)
                masks = ring.uniform_blocks(public, first, last - first)
                ring.multiply(masks, key, out=masks)
                ring.inverse(masks, out=masks)
                plain = ring.subtract(self._residues[first:last], masks, out=self._residues[first:last])
                planes = ring.round_planes(plain, parameters.delta)  # as many limbs as any residues need
                for block in range(first, last):
                    kernels.read_digits(planes[block - first], parameters.digit_bits, sums[block])

        in_slices(work, parameters.blocks, align=1, smallest=_BLOCKS_PER_THREAD)
        vector = sums.reshape(-1)[: parameters.length]
        if not plan.wraps:
            vector[: plan.signed_length] -= dtype.type(self.clients * _largest(plan) % (1 << 8 * dtype.itemsize))
        reduce(vector, plan.modulus_bits)
        return vector


def _parameters(plan: Plan) -> LatticeParameters:
    assert plan.lattice is not None  # noqa: S101 -- Plan refuses to be without
    return plan.lattice


@cache
def _ring(parameters: LatticeParameters) -> Ring:
    return Ring(parameters.degree, len(parameters.primes))


def _block_bytes(parameters: LatticeParameters) -> int:
    return packed_bytes(parameters.degree * len(parameters.primes), PRIME_BITS)


def _public_key(setup: Setup) -> bytes:
    """Hash what the public ring elements follow from: session, round, parameters, roster (and keys)."""
    return hashlib.sha256(tags.LATTICE_PUBLIC + setup.digest).digest()


def _secret_factor(ring: Ring, secret: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> Factor:
    zero = np.zeros((len(ring.moduli), ring.degree), dtype=np.uint32)
    return ring.factor(ring.forward(ring.add_small(zero, secret)))


def _planes_of(
    vector: Words, first: int, last: int, parameters: LatticeParameters
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
    """Lay the digits of the blocks first .. last - 1 into the words of their coefficients: (M, limbs, N) uint32."""
    from secagg.lattice import kernels  # noqa: PLC0415

    size = parameters.degree * parameters.digits
    part = vector[first * size : last * size]
    if len(part) < (last - first) * size:
        part = np.append(part, np.zeros((last - first) * size - len(part), dtype=vector.dtype))
    digits = part.reshape(last - first, parameters.digits, parameters.degree)
    limbs = -(-parameters.digits * parameters.digit_bits // 32)
    planes = np.zeros((last - first, limbs, parameters.degree), dtype=np.uint32)
    for block in range(last - first):
        kernels.place_digits(digits[block], parameters.digit_bits, planes[block])
    return planes


def _largest(plan: Plan) -> int:
    """Return S: n clients' coordinates in [-S, S] have a sum that no 2^modulus_bits wraps."""
    return ((1 << plan.modulus_bits) - 1) // plan.clients // 2


def _shift(vector: Words, plan: Plan) -> None:
    """Make every coordinate a digit: those of either sign are raised by S, so that sums stay below 2^modulus_bits.

    Raises:
        EncodingError: a coordinate too large for that.
    """
    most, largest = ((1 << plan.modulus_bits) - 1) // plan.clients, _largest(plan)
    signed, unsigned = vector[: plan.signed_length], vector[plan.signed_length :]
    signed += vector.dtype.type(largest)
    reduce(signed, plan.modulus_bits)
    if (signed > 2 * largest).any() or (unsigned > most).any():
        msg = (
            f"a coordinate is beyond what {plan.clients} clients can add up modulo 2^{plan.modulus_bits} without "
            "wrapping: lattice masking needs an encoding whose sums fit"
        )
        raise EncodingError(msg)


def _centred(words: Words, bits: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    values = words.astype(np.int64)
    return np.where(values >> (bits - 1) & 1, values - (1 << bits), values)

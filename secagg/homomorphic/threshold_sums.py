"""The arithmetic of threshold sums: shares, uploads, partial decryptions and the running sum. No protocol, no messages.

Secrets, shares and the uniform a are kept by their values at the roots (`Ring.forward`), where products are taken place
by place; sharing is linear, so that it does not matter which form is shared. What travels is coefficients.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from secagg.encoding.packing import Words, reduce, word_dtype
from secagg.errors import DecodeError, EncodingError
from secagg.homomorphic.threshold_flooding import wide_gaussian
from secagg.homomorphic.threshold_parameters import LANES, NOISE_BITS
from secagg.lattice.parameters import PRIME_BITS, SIGMA
from secagg.primitives.ring import Factor, Residues, Ring
from secagg.primitives.sampling import discrete_gaussian
from secagg.primitives.threads import in_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from secagg.homomorphic.threshold_parameters import ThresholdParameters

__all__ = [
    "RunningSum",
    "add_shares",
    "decrypt_partially",
    "draw_secret",
    "encrypt",
    "lagrange_at_zero",
    "pack_share",
    "ring_of",
    "share_out",
    "unpack_share",
    "zero_sharing",
]

_AT_ONCE: Final = 8
"""Messages added in one pass over the sum."""

_PAIRS_PER_THREAD: Final = 8

_BLOCKS_AT_ONCE: Final = 4
"""Blocks whose noise is drawn together, which saves a key derivation each."""


def ring_of(parameters: ThresholdParameters) -> Ring:
    """Return the ring of a key."""
    return Ring(parameters.degree, parameters.primes)


def draw_secret(parameters: ThresholdParameters, key: bytes) -> Residues:
    """Draw a secret from the discrete Gaussian of deviation 6.5: (L, N), by values.

    Args:
        key: 32 bytes, for this purpose only.
    """
    ring = ring_of(parameters)
    small = discrete_gaussian(key, parameters.degree, SIGMA)
    return ring.forward(ring.add_small(np.zeros((parameters.primes, parameters.degree), np.uint32), small))


def share_out(parameters: ThresholdParameters, secret: Residues, key: bytes) -> Callable[[int], Residues]:
    """Share a secret modulo each prime: every residue by a polynomial of its own, of degree t - 1.

    Args:
        secret: (L, N).
        key: 32 bytes, for this purpose only; all coefficients come from it.
    Returns: position -> its share (L, N), the polynomials' values at position + 1.
    """
    from secagg.homomorphic import kernels  # noqa: PLC0415 -- numba loads on first use

    ring = ring_of(parameters)
    coefficients = np.stack([secret, *(ring.uniform(key, power) for power in range(1, parameters.threshold))])
    moduli = np.array(ring.moduli, np.uint32)

    def share(position: int) -> Residues:
        out = np.empty_like(secret)
        kernels.evaluate(coefficients, position + 1, moduli, out)
        return out

    return share


def lagrange_at_zero(parameters: ThresholdParameters, decryptors: Iterable[int], position: int) -> Residues:
    """Return λ of one decryptor among `decryptors`, modulo each prime: (L, N), the same in every place."""
    x = position + 1
    others = [other + 1 for other in decryptors if other != position]
    top, bottom = math.prod(others), math.prod(other - x for other in others)
    factors = [top * pow(bottom, -1, prime) % prime for prime in ring_of(parameters).moduli]
    return np.repeat(np.array(factors, np.uint32)[:, None], parameters.degree, axis=1)


def zero_sharing(parameters: ThresholdParameters, keys: Iterable[tuple[bytes, int]]) -> Residues:
    """Add up what a decryptor shares with each other one: (L, N), uniform, and zero in sum over all decryptors.

    Args:
        keys: (32 bytes that both have for this round and these sets only, +1 or -1).
    """
    ring, pairs = ring_of(parameters), list(keys)
    parts: list[Residues] = []

    def work(start: int, stop: int) -> None:
        part = np.zeros((parameters.primes, parameters.degree), np.uint32)
        for key, sign in pairs[start:stop]:
            (ring.add if sign > 0 else ring.subtract)(part, ring.uniform(key, 0), out=part)
        parts.append(part)

    in_slices(work, len(pairs), align=1, smallest=_PAIRS_PER_THREAD)
    total, *others = parts
    for part in others:
        ring.add(total, part, out=total)
    return total


def pack_share(parameters: ThresholdParameters, share: Residues) -> bytes:
    """Write one element, `parameters.share_bytes` bytes."""
    from secagg.homomorphic import kernels  # noqa: PLC0415

    words = np.empty((parameters.primes, PRIME_BITS, parameters.degree // LANES), np.dtype("<u4"))
    kernels.pack(share, parameters.degree, words)
    return words.tobytes()


def unpack_share(parameters: ThresholdParameters, data: bytes | memoryview) -> Residues:
    """Read one element.

    Raises:
        DecodeError: wrong length, or a residue that is not below its prime.
    """
    from secagg.homomorphic import kernels  # noqa: PLC0415

    if len(data) != parameters.share_bytes:
        msg = f"a share takes {parameters.share_bytes} bytes, got {len(data)}"
        raise DecodeError(msg)
    words = np.frombuffer(data, "<u4").reshape(parameters.primes, PRIME_BITS, -1)
    share = np.empty((parameters.primes, parameters.degree), np.uint32)
    if not kernels.unpack(words, np.array(ring_of(parameters).moduli, np.uint32), share):
        msg = "a residue of a share is not below its prime"
        raise DecodeError(msg)
    return share


def add_shares(parameters: ThresholdParameters, shares: Iterable[bytes]) -> Residues:
    """Add packed elements that were checked before: (L, N)."""
    total = np.zeros((1, parameters.primes, parameters.degree), np.uint32)
    words = [_words(share) for share in shares]
    for start in range(0, len(words), _AT_ONCE):
        _fold(parameters, words[start : start + _AT_ONCE], total, parameters.degree, subtract=False)
    summed: Residues = total[0]
    return summed


def encrypt(parameters: ThresholdParameters, public: bytes, secret: Factor, noise: bytes, words: Words) -> memoryview:
    """Encrypt a vector: a_b·s + e_b + Δ·m_b for every block b.

    Args:
        public: 32 bytes from which everyone makes a_b.
        secret: s.
        noise: 32 bytes, the key of the errors; for this round only.
        words: (length,) unsigned, in [0, 2^modulus_bits); used up.
    Returns: `parameters.upload_bytes` bytes.
    Raises:
        EncodingError: a coordinate beyond a client's part of a sum that may not wrap.
    """
    from secagg.homomorphic import kernels  # noqa: PLC0415

    _shift(parameters, words)
    ring, degree, digits, bits = ring_of(parameters), parameters.degree, parameters.digits, parameters.digit_bits
    limbs, delta = -(-digits * bits // 32), parameters.delta
    out = np.empty(parameters.upload_bytes // 4, np.dtype("<u4"))

    def work(start: int, stop: int) -> None:
        for block, errors in _noise_of(discrete_gaussian, noise, SIGMA, degree, range(start, stop)):
            message = np.zeros((limbs, degree), np.uint32)
            values = words[block * degree * digits : (block + 1) * degree * digits]
            kernels.to_digits(values, digits, bits, message)
            sample = ring.uniform(public, block)
            ring.inverse(ring.multiply(sample, secret, out=sample), out=sample)
            ring.add_small(sample, errors, out=sample)
            ring.add_planes(sample, message, scale=delta, out=sample)
            kernels.pack(sample, _width(parameters, block), _packed_block(parameters, out, block))

    in_slices(work, parameters.blocks, align=1, smallest=_BLOCKS_AT_ONCE)
    return out.data.cast("B")


def decrypt_partially(parameters: ThresholdParameters, public: bytes, share: Factor, noise: bytes) -> memoryview:
    """Make one decryptor's part of the decryption of a sum: a_b·σ + f_b for every block b.

    There is no ciphertext among the arguments: everything comes from public randomness and from own secrets.

    Args:
        public: as for the uploads.
        share: σ, this decryptor's additive share of the sum of secrets.
        noise: 32 bytes, the key of the flooding f; for this round and these sets only.
    Returns: `parameters.upload_bytes` bytes.
    """
    from secagg.homomorphic import kernels  # noqa: PLC0415

    ring, degree, deviation = ring_of(parameters), parameters.degree, parameters.flooding
    moduli = np.array(ring.moduli, np.uint32)
    out = np.empty(parameters.upload_bytes // 4, np.dtype("<u4"))

    def work(start: int, stop: int) -> None:
        for block, flooding in _noise_of(wide_gaussian, noise, deviation, degree, range(start, stop)):
            sample = ring.uniform(public, block)
            ring.inverse(ring.multiply(sample, share, out=sample), out=sample)
            kernels.add_wide(sample, flooding, moduli)
            kernels.pack(sample, _width(parameters, block), _packed_block(parameters, out, block))

    in_slices(work, parameters.blocks, align=1, smallest=_BLOCKS_AT_ONCE)
    return out.data.cast("B")


class RunningSum:
    """The server's sum of uploads, less the partial decryptions: one vector, and up to 8 messages still to be added.

    Not thread-safe. Nothing in it is secret beyond what it is opened to. Bytes that are not the canonical ones of a
    ring element are read modulo the primes: whoever sends them might have sent what they are read as.
    """

    __slots__ = ("_parameters", "_pending", "_subtract", "_total")

    def __init__(self, parameters: ThresholdParameters) -> None:
        self._parameters = parameters
        self._total = np.zeros((parameters.blocks, parameters.primes, parameters.degree), np.uint32)
        self._pending: list[NDArray[np.uint32]] = []
        self._subtract = False

    def add(self, data: memoryview) -> None:
        """Add an upload, whose bytes are kept, and must not change, until they are.

        Raises:
            DecodeError: wrong length; the sum is unchanged.
        """
        self._take(data, subtract=False)

    def subtract(self, data: memoryview) -> None:
        """Take a partial decryption off; likewise.

        Raises:
            DecodeError: as for `add`.
        """
        self._take(data, subtract=True)

    def _take(self, data: memoryview, *, subtract: bool) -> None:
        if len(data) != self._parameters.upload_bytes:
            msg = f"{self._parameters.upload_bytes} bytes of residues are needed, got {len(data)}"
            raise DecodeError(msg)
        if len(self._pending) == _AT_ONCE or subtract != self._subtract:
            self._settle()
        self._subtract = subtract
        self._pending.append(_words(data))

    def _settle(self) -> None:
        made, batch = self._parameters, self._pending
        self._pending = []
        if batch:
            _fold(made, batch, self._total, made.last_width, subtract=self._subtract)

    def open(self, clients: int) -> Words:
        """Round, once all decryptors' parts are taken off. The sum stays as it is.

        Args:
            clients: how many uploads were added.
        Returns: (length,) words in [0, 2^modulus_bits).
        Raises:
            DecodeError: the noise is larger than honest clients' is: something added or taken off was wrong.
        """
        self._settle()
        made = self._parameters
        ring, bits, digits, size = ring_of(made), made.digit_bits, made.digits, made.degree * made.digits
        dtype, step = word_dtype(made.modulus_bits), made.delta >> NOISE_BITS
        out = np.empty(made.length, dtype)
        half, most, middle = self._constant(made.delta // 2), made.noise_steps, 1 << NOISE_BITS - 1
        wrong: list[int] = []

        def work(start: int, stop: int) -> None:
            from secagg.homomorphic import kernels  # noqa: PLC0415

            for block in range(start, stop):
                rounded = ring.round_planes(ring.add(self._total[block], half), step)
                noise = (rounded[0, : _width(made, block)] & np.uint32(2 * middle - 1)).astype(np.int32) - middle
                if np.abs(noise).max() > most:
                    wrong.append(block)
                    return
                kernels.from_digits(rounded, NOISE_BITS, digits, bits, out[block * size : (block + 1) * size])

        in_slices(work, made.blocks, align=1, smallest=_BLOCKS_AT_ONCE)
        if wrong:
            msg = "the noise in the sum is larger than honest clients' can be: an upload or a partial was wrong"
            raise DecodeError(msg)
        out[: made.signed_length] -= dtype.type(clients * made.offset % (1 << 8 * dtype.itemsize))
        reduce(out, made.modulus_bits)
        return out

    def _constant(self, value: int) -> Residues:
        """One integer as every coefficient of an element: (L, N)."""
        residues = [value % prime for prime in ring_of(self._parameters).moduli]
        return np.repeat(np.array(residues, np.uint32)[:, None], self._parameters.degree, axis=1)


def _words(data: bytes | memoryview) -> NDArray[np.uint32]:
    """View packed residues as the aligned words that kernels are compiled for."""
    words = np.require(np.frombuffer(data, "<u4"), requirements="A")
    words.flags.writeable = False
    return words


def _fold(
    parameters: ThresholdParameters,
    batch: list[NDArray[np.uint32]],
    total: NDArray[np.uint32],
    last_width: int,
    *,
    subtract: bool,
) -> None:
    """Add up to 8 packed vectors to a sum (blocks, L, N)."""
    from secagg.homomorphic import kernels  # noqa: PLC0415

    padded = tuple(batch + batch[:1] * (_AT_ONCE - len(batch)))
    moduli = np.array(ring_of(parameters).moduli, np.uint32)
    rows = len(total) * parameters.primes

    def work(start: int, stop: int) -> None:
        kernels.fold(padded, len(batch), moduli, last_width, (start, stop), total, subtract)

    in_slices(work, rows, align=1, smallest=_BLOCKS_AT_ONCE * parameters.primes)


def _noise_of(
    draw: Callable[..., NDArray[Any]], key: bytes, deviation: float, degree: int, blocks: range
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Draw the noise of each block, of several blocks at once."""
    for first in blocks[::_BLOCKS_AT_ONCE]:
        size = min(_BLOCKS_AT_ONCE, blocks.stop - first)
        yield from enumerate(draw(key, size * degree, deviation, start=first * degree).reshape(size, -1), first)


def _width(parameters: ThresholdParameters, block: int) -> int:
    return parameters.last_width if block == parameters.blocks - 1 else parameters.degree


def _packed_block(parameters: ThresholdParameters, words: NDArray[np.uint32], block: int) -> NDArray[np.uint32]:
    """View the words of one block, (L, 27, width / 32)."""
    start = block * parameters.share_bytes // 4
    size = parameters.primes * PRIME_BITS * _width(parameters, block) // LANES
    return words[start : start + size].reshape(parameters.primes, PRIME_BITS, -1)


def _shift(parameters: ThresholdParameters, words: Words) -> None:
    """Make every coordinate a digit: those of either sign are raised by S, in place.

    Raises:
        EncodingError: n coordinates as large would wrap.
    """
    made, signed = parameters, words[: parameters.signed_length]
    signed += words.dtype.type(made.offset)
    reduce(signed, made.modulus_bits)
    if signed.max(initial=0) > 2 * made.offset or words[made.signed_length :].max(initial=0) > made.most:
        msg = (
            f"a coordinate is beyond what {made.clients} clients can add up modulo 2^{made.modulus_bits} without "
            "wrapping: encode it with the encoding that the plan was made for"
        )
        raise EncodingError(msg)

"""Polynomials with coefficients modulo q = p_0···p_(L-1), each kept as its L residues.

Threat model: arithmetic only, exact. Nothing here is constant time in the strict sense (rejection and error paths look
at values), but transforms and products have no branch or address that depends on a residue. Residues passed in must lie
in [0, p): `check` says so for those from the wire; other methods do not look, and wrong ones give wrong answers, never
an access out of bounds. Wrong shapes or dtypes raise `ValueError`/`TypeError`. Results are fresh and C-contiguous
unless `out` is given, which may be the first operand itself. A `Ring` is immutable; methods may run in several threads.

On the wire a residue takes 27 bits: `secagg.encoding.packing.pack(residues.reshape(-1), 27)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from secagg import tags
from secagg.errors import DecodeError
from secagg.primitives.keys import derive_key
from secagg.primitives.prg import keystream
from secagg.primitives.ring import crt
from secagg.primitives.ring.tables import PRIME_BITS, Tables, largest_primes, quotients, tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_DEGREE", "MAX_PRIMES", "Factor", "Residues", "Ring"]

Residues: TypeAlias = "NDArray[np.uint32]"
"""(..., L, N) uint32: row l in [0, p_l). Of coefficients, or of values after `Ring.forward`."""

MAX_DEGREE = 8192
MAX_PRIMES = 8
_CENTRED = 1 << 62


class Factor(NamedTuple):
    """Residues by which much will be multiplied, with what makes that fast; made by `Ring.factor`."""

    values: Residues
    quotients: NDArray[np.uint32]
    """floor(value·2^32 / p)."""


@dataclass(frozen=True, slots=True)
class Ring:
    """Z_q[X]/(X^N + 1).

    Attributes:
        degree: N, a power of two, 2..8192.
        primes: L, 1..8: how many of the largest primes p = 1 mod 2N below 2^27 make q, in descending order.
    """

    degree: int
    primes: int

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        if not 2 <= self.degree <= MAX_DEGREE or self.degree & (self.degree - 1):  # noqa: PLR2004 -- X + i, at least
            msg = f"the degree is a power of two in [2, {MAX_DEGREE}], got {self.degree}"
            raise ValueError(msg)
        if not 1 <= self.primes <= MAX_PRIMES:
            msg = f"a modulus has 1 to {MAX_PRIMES} primes, got {self.primes}"
            raise ValueError(msg)

    @property
    def moduli(self) -> tuple[int, ...]:
        """The primes, largest first."""
        return largest_primes(self.degree, self.primes)

    @property
    def modulus(self) -> int:
        """q, the product of the primes: just below 2^(27·L)."""
        return prod(self.moduli)

    def uniform(self, key: bytes, block: int) -> Residues:
        """Draw one uniform element, the same for everybody who has the key.

        The stream is AES-256-CTR under `key`, counter 0 at byte 0. Block b reads its bytes [4·L·W·b, 4·L·W·(b + 1)),
        W = N + floor(N / 32) + 32 rounded up to a multiple of 4, as little-endian 32-bit words; row l gets the words
        l·W .. l·W + W - 1, each reduced to its low 27 bits. Place i of the row takes word i if that is below p_l. The
        other places, in ascending order, take one after the other those of the words N, N + 1, ... that are below
        p_l. Should the W words run out (odds below 2^-60 a row), the places still open go on with the words
        of another stream, from its first on, under the key HKDF(key, tags.UNIFORM_RESIDUES, b as 8 bytes and l as
        4 bytes, little-endian), as `secagg.primitives.keys.derive_key` writes it.

        Args:
            key: 32 bytes, made by `derive_key` for this purpose only.
            block: b, in [0, 2^64).
        Returns: (L, N) uint32, exactly uniform in [0, p_l) if the stream is uniform.
        """
        element: Residues = self.uniform_blocks(key, block, 1)[0]
        return element

    def uniform_blocks(self, key: bytes, block: int, count: int) -> Residues:
        """Draw the elements of `uniform` for the blocks block .. block + count - 1: (count, L, N) uint32."""
        from secagg.primitives.ring import kernels  # noqa: PLC0415 -- numba loads on first use

        if not 0 <= block <= (1 << 64) - count:
            msg = f"a block is in [0, 2^64), got {block}"
            raise ValueError(msg)
        table = self._tables
        length = 4 * self.primes * table.stream_words
        words = keystream(key, length * count, offset=length * block).view("<u4")
        out = np.empty((count, self.primes, self.degree), dtype=np.uint32)
        if kernels.accept(words.reshape(count, self.primes, table.stream_words), table.moduli, out):
            for at in range(count):
                self._fill(key, block + at, out[at])
        return out

    def forward(self, coefficients: Residues, *, out: Residues | None = None) -> Residues:
        """Evaluate at the N odd powers of ψ, so that products are taken place by place.

        Per prime, ψ is g^((p - 1)/2N), g >= 2 the least that makes ψ^N = -1. With A = 2^ceil(log2(N) / 2), B = N / A,
        rev(i) the log2(N) bits of i reversed, e(i, k) = rev(k/2 + floor(i/2)) + N·(i mod 2) for k > 1 and e(0, 1) = N:
        place k·A + r (0 <= r < A, 0 <= k < B) holds the value at ψ to the power (e(r, A) + N) / B + e(k, B).

        Args:
            coefficients: (..., L, N) uint32, of X^0 .. X^(N-1).
        Returns: (..., L, N) uint32, values.
        """
        from secagg.primitives.ring import kernels  # noqa: PLC0415

        result = self._copy(coefficients, out)
        t = self._tables
        kernels.forward(self._flat(result), t.moduli, t.rows, t.roots, t.roots_q, t.twist, t.twist_q)
        return result

    def inverse(self, values: Residues, *, out: Residues | None = None) -> Residues:
        """Interpolate: undo `forward`; shapes as there."""
        from secagg.primitives.ring import kernels  # noqa: PLC0415

        result = self._copy(values, out)
        t = self._tables
        x = self._flat(result)
        kernels.inverse(x, t.moduli, t.rows, t.inverse_roots, t.inverse_roots_q, t.untwist, t.untwist_q)
        return result

    def add(self, a: Residues, b: Residues, *, out: Residues | None = None) -> Residues:
        """Add: b has the shape of a, or (L, N)."""
        from secagg.primitives.ring import kernels  # noqa: PLC0415

        result = self._copy(a, out)
        x = self._flat(result)
        kernels.add(x, self._second(x, b), self._tables.moduli)
        return result

    def subtract(self, a: Residues, b: Residues, *, out: Residues | None = None) -> Residues:
        """Subtract: b has the shape of a, or (L, N)."""
        from secagg.primitives.ring import kernels  # noqa: PLC0415

        result = self._copy(a, out)
        x = self._flat(result)
        kernels.subtract(x, self._second(x, b), self._tables.moduli)
        return result

    def factor(self, values: Residues) -> Factor:
        """Prepare values for many multiplications, by `multiply`: (..., L, N) uint32."""
        values = self._flat(values).reshape(values.shape)
        moduli = self._tables.moduli.astype(np.uint64)[:, None]
        return Factor(values, quotients(values, moduli))

    def multiply(self, a: Residues, b: Residues | Factor, *, out: Residues | None = None) -> Residues:
        """Multiply place by place: the product of two elements if both are values; b has the shape of a, or (L, N)."""
        from secagg.primitives.ring import kernels  # noqa: PLC0415

        result = self._copy(a, out)
        x = self._flat(result)
        moduli = self._tables.moduli
        if isinstance(b, Factor):
            kernels.multiply_factor(x, self._second(x, b.values), self._second(x, b.quotients), moduli)
        else:
            kernels.multiply(x, self._second(x, b), moduli)
        return result

    def multiply_add(self, a: Residues, b: Residues, accumulator: Residues) -> None:
        """Add a·b, place by place, to an accumulator, in place: b has the shape of a, or (L, N)."""
        from secagg.primitives.ring import kernels  # noqa: PLC0415

        if accumulator.shape != a.shape:
            msg = f"the accumulator has the shape of the first factor, {a.shape}, got {accumulator.shape}"
            raise ValueError(msg)
        x, total = self._flat(a), self._flat(self._copy(accumulator, accumulator))
        kernels.multiply_add(x, self._second(x, b), self._tables.moduli, total)

    def add_small(self, a: Residues, small: NDArray[np.int32], *, out: Residues | None = None) -> Residues:
        """Add small integers, such as noise, mod every prime.

        Args:
            small: (..., N) or (N,) int32, in (-2^26, 2^26).
        Raises:
            ValueError: an integer out of that range.
        """
        from secagg.primitives.ring import kernels  # noqa: PLC0415

        if small.dtype != np.int32:
            msg = f"small integers are int32, got {small.dtype}"
            raise TypeError(msg)
        if small.shape not in {(*a.shape[:-2], self.degree), (self.degree,)}:
            msg = f"small integers for residues of shape {a.shape} cannot have shape {small.shape}"
            raise ValueError(msg)
        result = self._copy(a, out)
        values = np.ascontiguousarray(small).reshape(-1, self.degree)
        if not kernels.add_small(self._flat(result), values, self._tables.moduli):
            msg = f"small integers are below 2^{PRIME_BITS - 1} in absolute value"
            raise ValueError(msg)
        return result

    def from_words(self, words: NDArray[Any], *, scale: int = 1) -> Residues:
        """Residues of scale·x, for integers x in limbs.

        Args:
            words: (..., N, W) uint32 (W <= 15) or uint64 (W <= 7), x = sum_w words[w]·2^(32w or 64w); x may exceed q.
            scale: any integer.
        Returns: (..., L, N) uint32.
        """
        if words.dtype not in {np.dtype(np.uint32), np.dtype(np.uint64)}:
            msg = f"words are uint32 or uint64, got {words.dtype}"
            raise TypeError(msg)
        if words.ndim < 2 or words.shape[-2] != self.degree:  # noqa: PLR2004 -- (N, W)
            msg = f"words of {self.degree} coefficients have shape (..., {self.degree}, W), got {words.shape}"
            raise ValueError(msg)
        limbs = np.ascontiguousarray(words).astype(words.dtype.newbyteorder("<"), copy=False).view("<u4")
        out = np.zeros((*words.shape[:-2], self.primes, self.degree), dtype=np.uint32)
        return self.add_planes(out, limbs.swapaxes(-1, -2), scale=scale, out=out)

    def add_planes(
        self, a: Residues, planes: NDArray[np.uint32], *, scale: int = 1, out: Residues | None = None
    ) -> Residues:
        """Add scale·x, for integers x given limb by limb, which is faster than `from_words`.

        Args:
            a: (..., L, N) uint32.
            planes: (..., W, N) uint32, W <= 15, x = sum_w planes[w]·2^(32w); x may exceed q.
            scale: any integer.
        """
        shape = *a.shape[:-2], *planes.shape[-2:-1], self.degree
        if planes.ndim != a.ndim or planes.shape != shape or planes.dtype != np.uint32:
            msg = f"limbs for residues of shape {a.shape} are uint32 and (..., W, {self.degree}), got {planes.shape}"
            raise ValueError(msg)
        result = self._copy(a, out)
        limbs = np.ascontiguousarray(planes).reshape(-1, *planes.shape[-2:])
        crt.add_planes(self._flat(result), limbs, scale, self.degree, self.primes)
        return result

    def to_words(self, residues: Residues, *, words: int | None = None) -> NDArray[np.uint32]:
        """Write x in [0, q) as 32-bit limbs, least significant first (`.view("<u8")` of an even number gives 64-bit).

        Args:
            residues: (..., L, N) uint32.
            words: W; None takes what q - 1 needs, 27·L bits.
        Returns: (..., N, W) uint32.
        Raises:
            ValueError: an x has more than W limbs.
        Guarantees: exact; the proof is in `secagg.primitives.ring.crt.limbs`.
        """
        planes = self._to_planes(residues, 0, 1, crt.limbs_for(self.modulus - 1) if words is None else words)
        return np.ascontiguousarray(planes.swapaxes(-1, -2))

    def round_words(self, residues: Residues, scale: int, *, words: int | None = None) -> NDArray[np.uint32]:
        """Remove noise: m from c = scale·m + e mod q, |e| < scale/2.

        Args:
            residues: (..., L, N) uint32, of c; 0 <= m and scale·(m + 1) <= q.
            scale: Δ, in [1, q]; need not be a power of two.
            words: W; None takes what floor(q / Δ) needs.
        Returns: (..., N, W) uint32, m in 32-bit limbs, least significant first.
        Raises:
            ValueError: an m has more than W limbs.
        Guarantees: exact; the proof is in `secagg.primitives.ring.crt.limbs`.
        """
        return np.ascontiguousarray(self.round_planes(residues, scale, words=words).swapaxes(-1, -2))

    def round_planes(self, residues: Residues, scale: int, *, words: int | None = None) -> NDArray[np.uint32]:
        """Remove noise as `round_words`, and return (..., W, N) uint32: limb by limb, which is faster."""
        if not 1 <= scale <= self.modulus:
            msg = "the scale is in [1, q]"
            raise ValueError(msg)
        words = crt.limbs_for(self.modulus // scale) if words is None else words
        return self._to_planes(residues, scale // 2, scale, words)

    def centred(self, residues: Residues) -> NDArray[np.int64]:
        """Read small integers, such as noise, back with their sign.

        Args:
            residues: (..., L, N) uint32, of x with |x| < 2^62 and |x| < q/2.
        Returns: (..., N) int64.
        Raises:
            ValueError: an x is farther from 0 mod q.
        """
        half = min(_CENTRED, (self.modulus - 1) // 2)
        limbs = self._to_planes(residues, half, 1, crt.limbs_for(self.modulus - 1))
        low = limbs[..., 0, :].astype(np.int64)
        if limbs.shape[-2] > 1:
            low |= limbs[..., 1, :].astype(np.int64) << 32
        small = low - half
        if limbs[..., 2:, :].any() or (low < 0).any() or (small == -_CENTRED).any():
            msg = "a coefficient is not below 2^62 in absolute value"
            raise ValueError(msg)
        return small

    def check(self, residues: Residues) -> None:
        """Refuse residues that are not the canonical ones.

        Raises:
            DecodeError: a residue is not below its prime.
        """
        if (self._flat(residues).max(axis=(0, 2), initial=0) >= self._tables.moduli).any():
            msg = "a residue is not below its prime"
            raise DecodeError(msg)

    @property
    def _tables(self) -> Tables:
        return tables(self.degree, self.primes)

    def _to_planes(self, residues: Residues, shift: int, divisor: int, words: int) -> NDArray[np.uint32]:
        if words < 1:
            msg = f"an integer has at least one limb, got {words}"
            raise ValueError(msg)
        limbs = crt.to_words(self._flat(residues), shift, divisor, words, self.degree, self.primes)
        return limbs.reshape(*residues.shape[:-2], words, self.degree)

    def _fill(self, key: bytes, block: int, out: Residues) -> None:
        """Fill the places that the budgeted words of a block left open; see `uniform`."""
        for row, prime in enumerate(self.moduli):
            places = np.flatnonzero(out[row] >= prime)
            if not len(places):
                continue
            context = (block.to_bytes(8, "little"), row.to_bytes(4, "little"))
            more = derive_key(key, tags.UNIFORM_RESIDUES, *context)
            found, offset = np.empty(0, dtype=np.uint32), 0
            while len(found) < len(places):
                octets = keystream(more, 4 * self._tables.stream_words, offset=offset)
                offset += len(octets)
                values = octets.view("<u4").astype(np.uint32) & np.uint32((1 << PRIME_BITS) - 1)
                found = np.concatenate([found, values[values < prime]])
            out[row, places] = found[: len(places)]

    def _flat(self, array: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """View or copy as (M, L, N), C-contiguous."""
        if array.dtype != np.uint32:
            msg = f"residues are uint32, got {array.dtype}"
            raise TypeError(msg)
        if array.shape[-2:] != (self.primes, self.degree):
            msg = f"residues of this ring have shape (..., {self.primes}, {self.degree}), got {array.shape}"
            raise ValueError(msg)
        return np.ascontiguousarray(array).reshape(-1, self.primes, self.degree)

    def _copy(self, x: Residues, out: Residues | None) -> Residues:
        """Copy the first operand to where the result goes, unless it is there; kernels work in place."""
        self._flat(x)  # checks
        if out is None:
            return x.copy(order="C")
        if out.shape != x.shape or out.dtype != np.uint32 or not (out.flags.c_contiguous and out.flags.writeable):
            msg = f"the result needs a writable, C-contiguous uint32 array of shape {x.shape}"
            raise ValueError(msg)
        if out is not x:
            np.copyto(out, x)
        return out

    def _second(self, first: Residues, b: NDArray[np.uint32]) -> Residues:
        flat = self._flat(b)
        if len(flat) not in {1, len(first)}:
            msg = f"a second operand has the shape of the first or (L, N), got {b.shape}"
            raise ValueError(msg)
        return flat

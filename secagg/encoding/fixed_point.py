"""Weighted float vectors as integers modulo 2^b whose sum can never wrap.

A client's update x with weight w becomes `(w/max_weight · x, w)`: the scaled values are clipped, rounded without
bias, and the weight itself rides in the last coordinate. Summed under masks, the server learns the two sums and
nothing about any one client's weight; their ratio is the weighted mean. The modulus is chosen so that the largest
possible sum of the stated number of clients fits; an encoding for which none exists cannot be constructed.

Bad dtypes raise `TypeError`, bad shapes `ValueError`, values that cannot be represented `EncodingError`.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from secagg import tags
from secagg.encoding.packing import MAX_BITS, Words, as_words, reduce, word_dtype
from secagg.errors import EncodingError
from secagg.primitives.keys import derive_key
from secagg.primitives.prg import keystream
from secagg.primitives.threads import in_slices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from secagg.rounds import Total

__all__ = ["Encoded", "Encoding", "WeightedSum"]

_MIN_STEPS_BITS = 2
_MAX_STEPS_BITS = 32
_CHUNK = 1 << 15


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One client's contribution, ready to be summed.

    Attributes:
        vector: (length,) unsigned, in [0, 2^modulus_bits). Secret: not shown by `repr`.
        clipped: how many coordinates exceeded the clip bound and were cut to it.
        encoding: digest of the encoding that made it; a plan for another one refuses it.
    """

    vector: Words = field(repr=False)
    clipped: int
    encoding: bytes = field(repr=False)


def vector_of(total: Total | Words, encoding: bytes) -> Words:
    """Take the vector out of a total, after checking which encoding it is of.

    Raises:
        TypeError: neither a total nor an array.
        EncodingError: a total of another encoding.
    """
    if isinstance(total, np.ndarray):
        return total
    try:
        vector, theirs = total.vector, total.encoding
    except AttributeError:
        msg = f"expected a Total or an array of unsigned integers, got {type(total).__name__}"
        raise TypeError(msg) from None
    if theirs not in {b"", encoding}:
        msg = "this total was summed under another encoding: decode it with the one its plan was made for"
        raise EncodingError(msg)
    return vector


def _checked_clip(clip: object) -> float:
    if isinstance(clip, bool) or not isinstance(clip, (int, float, np.floating)):
        msg = f"clip must be a number, got {type(clip).__name__}"
        raise EncodingError(msg)
    try:
        value = float(clip)
    except OverflowError:
        value = math.inf
    if not (math.isfinite(value) and value > 0):
        msg = f"clip must be a finite number above 0, got {value!r}"
        raise EncodingError(msg)
    return value


@dataclass(frozen=True, slots=True, eq=False)
class WeightedSum:
    """What a secure sum says: sum of w·x and sum of w.

    Attributes:
        values: (dimension,) float64, sum over clients of w·x.
        weight: sum over clients of w.
    """

    values: NDArray[np.float64]
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """Fixed-point encoding of clipped, weighted vectors for a stated number of clients.

    Args:
        dimension: coordinates of an update, >= 1.
        clip: coordinates are clipped to [-clip, clip]; > 0 and finite.
        bits: resolution of one client's coordinate: 2^bits - 1 steps over [-clip, clip]; 2..32.
        clients: the most clients that will ever be summed; >= 1.
        max_weight: the largest weight; weights are integers in [0, max_weight] (numbers of patients, say).
            With the default 1 every client counts once.
        layout: digest of the arrays behind the vector (`Layout.digest`); part of the parameters all agree on.

    Raises:
        EncodingError: a parameter is out of range, or no modulus of at most 64 bits holds the largest sum.

    >>> import numpy as np
    >>> codec = Encoding(dimension=3, clip=1.0, bits=16, clients=4)
    >>> codec.modulus_bits                                  # 4·(2^15 - 1) steps on either side of zero
    18
    >>> codec.encode(np.array([0.5, -2.0, 0.1])).clipped    # -2.0 was cut to -1.0, and you are told
    1
    """

    dimension: int
    clip: float
    bits: int
    clients: int
    max_weight: int = 1
    layout: bytes = b""

    def __post_init__(self) -> None:
        """Refuse any parameters under which a sum could wrap."""
        for name in ("dimension", "clients", "max_weight"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                msg = f"{name} must be an integer of at least 1, got {value!r}"
                raise EncodingError(msg)
        if type(self.bits) is not int or not _MIN_STEPS_BITS <= self.bits <= _MAX_STEPS_BITS:
            msg = f"bits must be an integer in {_MIN_STEPS_BITS}..{_MAX_STEPS_BITS}, got {self.bits!r}"
            raise EncodingError(msg)
        object.__setattr__(self, "clip", _checked_clip(self.clip))
        largest = self.clip * self.max_weight * self.clients
        if not math.isfinite(self._steps / self.clip) or self.clip / self._steps == 0 or not math.isfinite(largest):
            msg = f"clip={self.clip!r} is too extreme for these bits, weights and clients in double precision"
            raise EncodingError(msg)
        if self.modulus_bits > MAX_BITS:
            msg = (
                f"{self.clients} clients of {self.bits} bits and weights up to {self.max_weight} need a modulus of "
                f"{self.modulus_bits} bits to never wrap; at most {MAX_BITS} fit: lower bits, clients or max_weight"
            )
            raise EncodingError(msg)

    @property
    def _steps(self) -> int:
        return (1 << (self.bits - 1)) - 1

    @property
    def length(self) -> int:
        """Coordinates of an encoded vector: the dimension and one for the weight."""
        return self.dimension + 1

    @property
    def signed_length(self) -> int:
        """Coordinates that may be negative: all but the weight."""
        return self.dimension

    @property
    def modulus_bits(self) -> int:
        """Bits of the modulus: the smallest b with 2·clients·(2^(bits-1) - 1) < 2^b and clients·max_weight < 2^b."""
        return max((2 * self.clients * self._steps).bit_length(), (self.clients * self.max_weight).bit_length())

    @property
    def digest(self) -> bytes:
        """32-byte hash of every parameter; two parties with equal digests encode alike."""
        fields = [
            "fixed-point",
            self.dimension,
            float(self.clip),
            self.bits,
            self.clients,
            self.max_weight,
            self.layout,
        ]
        return hashlib.sha256(tags.ENCODING + msgspec.msgpack.encode(fields)).digest()

    def encode(self, update: NDArray[Any], *, weight: int | None = None, random: bytes | None = None) -> Encoded:
        """Encode one client's update.

        Args:
            update: (dimension,) float32 or float64, finite.
            weight: integer in [0, max_weight]; may be left out only if max_weight is 1.
            random: 32 bytes for the rounding, never used for anything else; None draws them from the OS. Bytes that
                others know, for a simulation that is to be repeated, tell nothing of a vector beyond its sum, if
                the sum is secure: masks hide it, not rounding. What is seen, a sum or a vector in clear, then says
                what was rounded to within one step a client, instead of two.
        Returns: the vector and the number of clipped coordinates. The expectation over `random` of a decoded
            coordinate is the clipped value to within 2^-64 of a step and double-precision rounding.
        Raises:
            TypeError: not a float32 or float64 array.
            ValueError: wrong shape.
            EncodingError: NaN, infinity, or a weight out of range.
        """
        from secagg.encoding import kernels  # noqa: PLC0415 -- numba loads on first use

        values = self._checked(update)
        weight = self._checked_weight(weight)
        stream_key = derive_key(os.urandom(32) if random is None else random, tags.STOCHASTIC_ROUNDING)
        scale = self._steps / self.clip * (weight / self.max_weight)
        vector = np.empty(self.length, dtype=word_dtype(self.modulus_bits))
        counts: list[tuple[int, int]] = []

        def work(start: int, stop: int) -> None:
            for first in range(start, stop, _CHUNK):
                piece = slice(first, min(first + _CHUNK, stop))
                fractions = keystream(stream_key, 8 * (piece.stop - first), offset=8 * first).view("<u8")
                counts.append(
                    kernels.round_stochastically(
                        values[piece], fractions, float(self.clip), scale, self._steps, vector[piece]
                    )
                )

        in_slices(work, self.dimension, align=_CHUNK, smallest=_CHUNK)
        clipped, not_finite = (sum(kind) for kind in zip(*counts, strict=True))
        if not_finite:
            msg = f"{not_finite} of {self.dimension} coordinates are NaN or infinite"
            raise EncodingError(msg)
        vector[-1] = weight
        reduce(vector, self.modulus_bits)
        return Encoded(vector, clipped, self.digest)

    def decode(self, total: Total | Words) -> NDArray[np.float64]:
        """Decode a sum into the weighted mean.

        Args:
            total: what the server holds at the end, or its (length,) vector.
        Returns: (dimension,) float64, sum of w·x over sum of w.
        Raises:
            EncodingError: all weights were zero.
        """
        result = self.decode_sum(total)
        if result.weight == 0:
            msg = "the sum of weights is zero: there is no mean"
            raise EncodingError(msg)
        return result.values / result.weight

    def decode_sum(self, total: Total | Words) -> WeightedSum:
        """Decode a sum into the sum of w·x and the sum of w.

        Raises:
            TypeError, ValueError, EncodingError: not a vector of this encoding, or a total of another one.
        """
        vector = as_words(vector_of(total, self.digest), length=self.length, bits=self.modulus_bits)
        shift = np.uint64(64 - self.modulus_bits)
        signed = (vector[:-1].astype(np.uint64) << shift).view(np.int64) >> np.int64(shift)
        values: NDArray[np.float64] = signed * np.float64(self.clip / self._steps * self.max_weight)
        return WeightedSum(values, int(vector[-1]))

    def _checked(self, update: NDArray[Any]) -> NDArray[Any]:
        values = np.asarray(update)
        native = values.dtype.newbyteorder("=")
        if native not in (np.float32, np.float64):
            msg = f"expected float32 or float64 values, got {values.dtype}"
            raise TypeError(msg)
        if values.shape != (self.dimension,):
            msg = f"expected shape ({self.dimension},), got {values.shape}"
            raise ValueError(msg)
        return np.ascontiguousarray(values, dtype=native)

    def _checked_weight(self, weight: int | None) -> int:
        if weight is None:
            if self.max_weight != 1:
                msg = f"weights go up to {self.max_weight} here: say this client's weight"
                raise EncodingError(msg)
            return 1
        if isinstance(weight, bool) or not isinstance(weight, (int, np.integer)):
            msg = f"a weight is an integer, got {type(weight).__name__}"
            raise TypeError(msg)
        if not 0 <= weight <= self.max_weight:
            msg = f"weight must be in [0, {self.max_weight}]"
            raise EncodingError(msg)
        return int(weight)

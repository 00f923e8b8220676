"""Vectors of whole numbers, summed exactly: histograms, confusion counts, cohort sizes.

Bad dtypes raise `TypeError`, bad shapes `ValueError`, numbers out of range `EncodingError`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from secagg import tags
from secagg.encoding.fixed_point import Encoded, vector_of
from secagg.encoding.packing import MAX_BITS, Words, as_words, word_dtype
from secagg.errors import EncodingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from secagg.rounds import Total

__all__ = ["Counts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Encoding of non-negative integers for a stated number of clients.

    Args:
        dimension: how many counts.
        maximum: largest count one client may have; >= 1.
        clients: the most clients that will ever be summed; >= 1.

    Raises:
        EncodingError: a parameter is out of range, or no modulus of at most 64 bits holds the largest sum.

    >>> import numpy as np
    >>> Counts(dimension=2, maximum=100, clients=4).encode(np.array([3, 100])).vector
    array([  3, 100], dtype=uint16)
    """

    dimension: int
    maximum: int
    clients: int

    def __post_init__(self) -> None:
        """Refuse parameters under which a sum could wrap."""
        for name in ("dimension", "maximum", "clients"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                msg = f"{name} must be an integer of at least 1, got {value!r}"
                raise EncodingError(msg)
        if self.modulus_bits > MAX_BITS:
            msg = (
                f"{self.clients} clients with counts up to {self.maximum} need more than {MAX_BITS} bits to never wrap"
            )
            raise EncodingError(msg)

    @property
    def length(self) -> int:
        """Coordinates of an encoded vector."""
        return self.dimension

    @property
    def signed_length(self) -> int:
        """Coordinates that may be negative: none."""
        return 0

    @property
    def modulus_bits(self) -> int:
        """Bits of the modulus: the smallest b with clients·maximum < 2^b."""
        return (self.clients * self.maximum).bit_length()

    @property
    def digest(self) -> bytes:
        """32-byte hash of every parameter."""
        fields = ["counts", self.dimension, self.maximum, self.clients]
        return hashlib.sha256(tags.ENCODING + msgspec.msgpack.encode(fields)).digest()

    def encode(self, counts: NDArray[Any]) -> Encoded:
        """Encode one client's counts.

        Args:
            counts: (dimension,) of any integer dtype, in [0, maximum].
        Raises:
            TypeError: not integers.
            ValueError: wrong shape.
            EncodingError: a count is negative or above the maximum.
        """
        values = np.asarray(counts)
        if values.dtype.kind not in "iu":
            msg = f"expected integers, got {values.dtype}"
            raise TypeError(msg)
        if values.shape != (self.dimension,):
            msg = f"expected shape ({self.dimension},), got {values.shape}"
            raise ValueError(msg)
        if values.min() < 0 or values.max() > self.maximum:
            msg = f"a count lies outside [0, {self.maximum}]"
            raise EncodingError(msg)
        return Encoded(values.astype(word_dtype(self.modulus_bits)), clipped=0, encoding=self.digest)

    def decode(self, total: Total | Words) -> NDArray[np.uint64]:
        """Return the (dimension,) uint64 sums.

        Raises:
            TypeError, ValueError, EncodingError: not a vector of this encoding, or a total of another one.
        """
        vector = vector_of(total, self.digest)
        return as_words(vector, length=self.length, bits=self.modulus_bits).astype(np.uint64)

"""Vectors of integers modulo 2^b: word width in memory, exactly b bits a coordinate on the wire.

Bad lengths and dtypes raise `ValueError`/`TypeError`; bytes that are not a canonical packing raise `DecodeError`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.errors import DecodeError, EncodingError
from secagg.primitives.threads import in_slices

__all__ = ["MAX_BITS", "Words", "add_packed", "as_words", "pack", "packed_bytes", "reduce", "word_dtype"]

Words: TypeAlias = NDArray[np.unsignedinteger[Any]]
"""A vector modulo 2^b in the narrowest unsigned words that hold b bits."""

MAX_BITS = 64
_COORDINATES_PER_THREAD = 1 << 17


def word_dtype(bits: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Return the narrowest unsigned dtype of at least `bits` bits; mask streams are read in such words."""
    if not 1 <= bits <= MAX_BITS:
        msg = f"a modulus has 1 to {MAX_BITS} bits, got {bits}"
        raise ValueError(msg)
    return np.dtype(f"<u{next(size for size in (1, 2, 4, 8) if 8 * size >= bits)}")


def packed_bytes(length: int, bits: int) -> int:
    """Return how many bytes a vector takes on the wire: ceil(length·bits / 8)."""
    return -(-length * bits // 8)


def as_words(vector: object, *, length: int, bits: int) -> Words:
    """Check a vector and copy it into words.

    Args:
        vector: (length,) of any unsigned integer dtype, in [0, 2^bits).
    Returns: (length,) in `word_dtype(bits)`; a fresh copy.
    Raises:
        TypeError: not an array of unsigned integers.
        ValueError: wrong shape.
        EncodingError: a value is outside [0, 2^bits): adding it would wrap in silence.
    """
    if not isinstance(vector, np.ndarray) or isinstance(vector, np.ma.MaskedArray) or vector.dtype.kind != "u":
        msg = f"expected a numpy array of unsigned integers, got {_describe(vector)}"
        raise TypeError(msg)
    vector = np.asarray(vector)
    if vector.shape != (length,):
        msg = f"expected shape ({length},), got {vector.shape}"
        raise ValueError(msg)
    if 8 * vector.itemsize > bits and length and int(vector.max()) >> bits:
        msg = f"a value lies outside [0, 2^{bits})"
        raise EncodingError(msg)
    return vector.astype(word_dtype(bits), order="C")


def reduce(vector: Words, bits: int) -> None:
    """Reduce a vector modulo 2^bits, in place."""
    if 8 * vector.itemsize != bits:
        vector &= vector.dtype.type((1 << bits) - 1)


def pack(vector: Words, bits: int, *, out: memoryview | None = None) -> memoryview:
    """Pack a vector to exactly `bits` bits a coordinate.

    Args:
        vector: (d,) in `word_dtype(bits)`, in [0, 2^bits) (checked where it was made).
        out: where to write; as many bytes as it takes, a multiple of 4 at an address that is one.
    Returns: ceil(d·bits / 8) bytes: coordinate i at bits [i·bits, (i+1)·bits), least significant bit first;
        unused bits are zero. If not `out`, of fresh memory, or of the vector itself where no bit needs to move.
    Raises:
        ValueError: `out` is read-only or of another size.
    """
    from secagg.encoding import kernels  # noqa: PLC0415 -- numba loads on first use

    octets = packed_bytes(len(vector), bits)
    if out is not None and (out.readonly or out.nbytes != octets):  # kernels write without looking
        msg = f"what is packed into is writable and has {octets} bytes, got {out.nbytes}, read-only: {out.readonly}"
        raise ValueError(msg)
    if 8 * vector.itemsize == bits and out is None:
        return vector.data.cast("B")
    stream = np.empty(-(-octets // 4), dtype="<u4") if out is None else np.frombuffer(out, dtype="<u4")

    def work(start: int, stop: int) -> None:
        kernels.pack(vector[start:stop], bits, stream[start * bits // 32 :])

    in_slices(work, len(vector), align=32, smallest=_COORDINATES_PER_THREAD)
    return stream.data.cast("B")[:octets]


def add_packed(data: bytes | memoryview, bits: int, accumulator: Words) -> None:
    """Add a packed vector to a running sum, modulo 2^word, without building it first.

    Args:
        data: what `pack` returned.
        accumulator: (d,) in `word_dtype(bits)`, changed in place; unchanged if this raises.
    Raises:
        DecodeError: wrong length, or unused bits that are not zero.
    """
    from secagg.encoding import kernels  # noqa: PLC0415

    octets = packed_bytes(len(accumulator), bits)
    if len(data) != octets:
        msg = f"a vector of {len(accumulator)} coordinates of {bits} bits takes {octets} bytes, got {len(data)}"
        raise DecodeError(msg)
    spare = 8 * octets - len(accumulator) * bits
    if spare and data[-1] >> (8 - spare):
        msg = "unused bits after the last coordinate are not zero"
        raise DecodeError(msg)
    if 8 * accumulator.itemsize == bits:
        accumulator += np.frombuffer(data, dtype=accumulator.dtype)
        return
    stream = np.zeros(-(-octets // 4), dtype="<u4")
    stream.view(np.uint8)[:octets] = np.frombuffer(data, dtype=np.uint8)

    def work(start: int, stop: int) -> None:
        kernels.unpack_and_add(stream[start * bits // 32 :], bits, accumulator[start:stop])

    in_slices(work, len(accumulator), align=32, smallest=_COORDINATES_PER_THREAD)


def _describe(value: object) -> str:
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__

"""Bit packing: exactly b bits a coordinate, against an oracle in Python integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import DecodeError, EncodingError
from secagg.encoding.packing import add_packed, as_words, pack, packed_bytes, reduce, word_dtype


def oracle(values: list[int], bits: int) -> bytes:
    stream = sum(value << (i * bits) for i, value in enumerate(values))
    return stream.to_bytes(-(-len(values) * bits // 8), "little")


@given(st.integers(1, 64), st.data())
def test_packing_is_the_little_endian_bit_stream(bits: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, (1 << bits) - 1), min_size=1, max_size=200))
    vector = np.array(values, dtype=word_dtype(bits))
    packed = bytes(pack(vector, bits))
    assert packed == oracle(values, bits)
    assert len(packed) == packed_bytes(len(values), bits)
    start = data.draw(st.lists(st.integers(0, (1 << bits) - 1), min_size=len(values), max_size=len(values)))
    accumulator = np.array(start, dtype=word_dtype(bits))
    add_packed(packed, bits, accumulator)
    reduce(accumulator, bits)
    assert accumulator.tolist() == [(a + b) % (1 << bits) for a, b in zip(start, values, strict=True)]


@pytest.mark.parametrize("bits", [1, 7, 8, 13, 16, 23, 32, 33, 47, 63, 64])
def test_long_vectors_are_packed_in_parallel_slices(bits: int) -> None:
    rng = np.random.default_rng(bits)
    vector = (
        rng.integers(0, 1 << bits, 400_003, dtype=np.uint64, endpoint=False)
        if bits < 64
        else rng.integers(0, (1 << 64) - 1, 400_003, dtype=np.uint64, endpoint=True)
    )
    words = vector.astype(word_dtype(bits))
    accumulator = np.zeros_like(words)
    add_packed(pack(words, bits), bits, accumulator)
    assert np.array_equal(accumulator, words)


@given(st.integers(1, 64), st.integers(1, 50), st.integers(-3, 3).filter(bool))
def test_a_wrong_length_is_refused_and_adds_nothing(bits: int, length: int, by: int) -> None:
    accumulator = np.zeros(length, dtype=word_dtype(bits))
    with pytest.raises(DecodeError):
        add_packed(bytes(max(packed_bytes(length, bits) + by, 0)), bits, accumulator)
    assert not accumulator.any()


@pytest.mark.parametrize("bits", [1, 27, 32, 33, 64])
def test_a_vector_is_packed_in_place_and_touches_nothing_beside(bits: int) -> None:
    vector = np.full(96, (1 << bits) - 1, dtype=word_dtype(bits))
    octets = packed_bytes(96, bits)
    memory = bytearray(b"\x55" * (octets + 8))
    pack(vector, bits, out=memoryview(memory)[4:-4])
    assert memory == b"\x55" * 4 + oracle(vector.tolist(), bits) + b"\x55" * 4


@pytest.mark.parametrize("memory", [bytearray(212), bytearray(220), bytearray(0), bytes(216)])
def test_memory_of_another_size_or_read_only_is_not_packed_into(memory: bytes | bytearray) -> None:
    with pytest.raises(ValueError, match="216 bytes"):
        pack(np.zeros(64, dtype=np.uint32), 27, out=memoryview(memory))
    assert not any(memory)


def test_unused_bits_must_be_zero() -> None:
    accumulator = np.zeros(1, dtype=np.uint8)
    with pytest.raises(DecodeError, match="unused bits"):
        add_packed(b"\x81", 7, accumulator)
    assert not accumulator.any()


@pytest.mark.parametrize("bits", [0, 65, -1])
def test_impossible_moduli_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="1 to 64 bits"):
        word_dtype(bits)


def test_as_words_copies_and_checks() -> None:
    vector = np.array([0, 255], dtype=np.uint64)
    words = as_words(vector, length=2, bits=8)
    assert words.dtype == np.uint8
    words[0] = 7
    assert vector[0] == 0
    with pytest.raises(EncodingError, match="outside"):
        as_words(np.array([256], dtype=np.uint64), length=1, bits=8)
    with pytest.raises(ValueError, match="shape"):
        as_words(vector, length=3, bits=8)
    for wrong in (vector.astype(np.int64), [0, 1], None):
        with pytest.raises(TypeError, match="unsigned"):
            as_words(wrong, length=2, bits=8)

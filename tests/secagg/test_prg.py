"""Mask streams: known answers, independence of chunks and threads, and no stream made twice."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.encoding.packing import Words
from secagg.primitives.prg import add_masks, keystream

KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
WORDS = [np.uint8, np.uint16, np.uint32, np.uint64]


def test_keystream_is_aes_256_ctr_from_counter_zero() -> None:
    # FIPS 197 arithmetic by an independent route: ECB-encrypting the counters 0, 1, 2 gives the stream.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    ecb = Cipher(algorithms.AES256(KEY), modes.ECB()).encryptor()  # noqa: S305 -- the block cipher itself, as an oracle
    blocks = b"".join(ecb.update(counter.to_bytes(16, "big")) for counter in range(3))
    assert keystream(KEY, 48).tobytes() == blocks


def test_keystream_matches_the_nist_vector_when_sought_to_its_counter() -> None:
    # NIST SP 800-38A, F.5.5: AES-256-CTR, first block; its initial counter is f0f1...ff, its plaintext 6bc1...
    counter = int("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", 16)
    plaintext = np.frombuffer(bytes.fromhex("6bc1bee22e409f96e93d7e117393172a"), np.uint8)
    ciphertext = bytes.fromhex("601ec313775789a5b7a7f504bbf3d228")
    assert (keystream(KEY, 16, offset=16 * counter) ^ plaintext).tobytes() == ciphertext


@given(blocks=st.integers(0, 20_000), length=st.integers(0, 5_000))
def test_seeking_reads_the_same_stream(blocks: int, length: int) -> None:
    whole = keystream(KEY, 16 * blocks + length)
    assert np.array_equal(keystream(KEY, length, offset=16 * blocks), whole[16 * blocks :])


def test_an_offset_inside_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        keystream(KEY, 16, offset=8)


@given(
    word=st.sampled_from(WORDS),
    length=st.integers(1, 3_000),
    count=st.integers(0, 70),
    threads=st.integers(1, 5),
    chunk=st.integers(1, 200).map(lambda blocks: 16 * blocks),
    data=st.data(),
)
def test_masks_do_not_depend_on_chunk_size_or_thread_count(
    word: Any, length: int, count: int, threads: int, chunk: int, data: st.DataObject
) -> None:
    signs = data.draw(st.lists(st.sampled_from([1, -1]), min_size=count, max_size=count))
    masks = [(bytes([i]) * 32, sign) for i, sign in enumerate(signs)]
    expected: Words = np.zeros(length, dtype=word)
    for key, sign in masks:  # oracle: each whole stream, little-endian words, one after the other
        stream = np.frombuffer(
            keystream(key, length * np.dtype(word).itemsize).tobytes(), np.dtype(word).newbyteorder("<")
        )
        expected = expected + stream if sign > 0 else expected - stream
    result: Words = np.zeros(length, dtype=word)
    add_masks(result, iter(masks), threads=threads, chunk=chunk)
    assert np.array_equal(result, expected)


def test_opposite_signs_cancel_on_a_vector_long_enough_for_several_chunks() -> None:
    vector = np.arange(500_000, dtype=np.uint32)
    add_masks(vector, [(KEY, 1)], threads=2)
    assert not np.array_equal(vector, np.arange(500_000, dtype=np.uint32))
    add_masks(vector, [(KEY, -1)], threads=1)
    assert np.array_equal(vector, np.arange(500_000, dtype=np.uint32))


def test_a_stream_has_no_repeated_blocks_across_chunk_and_thread_borders() -> None:
    stream = np.zeros(1 << 17, dtype=np.uint64)
    add_masks(stream, [(KEY, 1)], threads=3, chunk=4096)
    blocks = stream.view(np.uint8).reshape(-1, 16)
    assert len(np.unique(blocks, axis=0)) == len(blocks)


def test_masks_are_consumed_lazily() -> None:
    alive: set[int] = set()
    most = 0

    def masks() -> object:
        nonlocal most
        for i in range(1_000):
            alive.add(i)
            most = max(most, len(alive))
            yield i.to_bytes(32, "little"), 1
            alive.discard(i)

    add_masks(np.zeros(16, np.uint32), masks())  # type: ignore[arg-type]
    assert most == 1

"""The public rotation: orthogonal, invertible, flat."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import hadamard

from secagg.encoding.rotation import rotate, rotated_length, unrotate

SEED = bytes(range(32))


@pytest.mark.parametrize(("dimension", "length"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (1000, 1024)])
def test_lengths_are_padded_to_powers_of_two(dimension: int, length: int) -> None:
    assert rotated_length(dimension) == length
    assert rotate(np.ones((2, dimension)), SEED).shape == (2, length)


@given(st.integers(1, 70), st.integers(1, 4), st.binary(min_size=32, max_size=32), st.integers(0, 99))
def test_a_rotation_keeps_norms_and_is_undone(dimension: int, rows: int, seed: bytes, data: int) -> None:
    vectors = np.random.default_rng(data).normal(size=(rows, dimension))
    before = vectors.copy()
    rotated = rotate(vectors, seed)
    assert np.allclose(np.linalg.norm(rotated, axis=1), np.linalg.norm(vectors, axis=1))
    assert np.allclose(unrotate(rotated, seed, dimension), vectors)
    assert np.array_equal(vectors, before)
    assert np.allclose(rotate(vectors[0], seed), rotated[0])


def test_a_rotation_is_signs_and_a_hadamard_matrix() -> None:
    columns = rotate(np.eye(16), SEED)
    signs = np.sign(columns[:, 0])
    assert np.allclose(columns, signs[:, None] * hadamard(16) / 4)
    assert set(signs) == {-1.0, 1.0}
    assert not np.allclose(columns, rotate(np.eye(16), bytes(32)))


def test_one_large_coordinate_is_spread_evenly() -> None:
    spike = np.zeros(5000)
    spike[7] = 1.0
    assert np.allclose(np.abs(rotate(spike, SEED)), 8192**-0.5)


def test_coordinates_are_sub_gaussian_over_the_signs() -> None:
    flat = np.full(64, 1 / 8.0)
    largest = [np.abs(rotate(flat, bytes([i]) * 32)).max() for i in range(200)]
    assert max(largest) < (2 * np.log(4 * 64 * 200) / 64) ** 0.5

"""The ring against schoolbook arithmetic in Python integers."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.errors import DecodeError
from secagg.primitives.ring import MAX_PRIMES, Ring
from secagg.primitives.ring.tables import exponents, largest_primes, tables
from tests.secagg.ring_rig import KEY, LARGE, RINGS, largest, product, rings, schoolbook, seeds


@pytest.mark.parametrize("degree", [2, 64, 4096, 8192])
def test_the_primes_are_the_largest_of_27_bits_that_split_the_ring(degree: int) -> None:
    def is_prime(n: int) -> bool:
        return all(n % d for d in range(2, int(n**0.5) + 1))

    primes = largest_primes(degree, MAX_PRIMES)
    between = range(primes[-1], 1 << 27, 2 * degree)
    assert list(primes) == [n for n in reversed(between) if is_prime(n)]
    assert all(p % (2 * degree) == 1 and (1 - 1 / 64) * (1 << 27) < p < 1 << 27 for p in primes)
    assert largest_primes(4096, 4) == (134176769, 134111233, 134012929, 133963777)


def test_primes_may_run_out() -> None:
    with pytest.raises(ValueError, match="only"):
        largest_primes(1 << 22, 20)


@settings(max_examples=40)
@given(rings, seeds)
def test_products_equal_schoolbook_multiplication(ring: Ring, seed: bytes) -> None:
    a, b = ring.uniform(seed, 0), ring.uniform(seed, 1)
    expected = [schoolbook(x, y, p) for x, y, p in zip(a.tolist(), b.tolist(), ring.moduli, strict=True)]
    assert product(ring, a, b).tolist() == expected


@pytest.mark.parametrize("ring", [*RINGS, Ring(16, 2), Ring(128, 1), Ring(256, 2), Ring(2048, 2), *LARGE])
def test_extreme_residues_do_not_break_the_lazy_bounds(ring: Ring) -> None:
    # (-1 - X - ... )·(-1 - X - ...): the coefficient of X^k is (k + 1) - (N - 1 - k)
    top = largest(ring)
    expected = [2 * k + 2 - ring.degree for k in range(ring.degree)]
    assert np.array_equal(ring.centred(product(ring, top, top)), expected)
    values = ring.forward(top)
    ring.check(values)
    assert np.array_equal(ring.inverse(values), top)
    spread = ring.inverse(top)
    ring.check(spread)
    assert np.array_equal(ring.forward(spread), top)
    assert np.array_equal(ring.multiply(top, top), np.ones_like(top))
    assert np.array_equal(ring.multiply(top, ring.factor(top)), np.ones_like(top))
    assert np.array_equal(ring.add(top, top), top - np.uint32(1))
    assert not ring.subtract(top, top).any()
    total = top.copy()
    ring.multiply_add(top, top, total)
    assert not total.any()


@pytest.mark.parametrize("ring", [*RINGS, *LARGE])
def test_values_are_evaluations_where_the_docstring_says(ring: Ring) -> None:
    rows = tables(ring.degree, ring.primes).rows
    columns = ring.degree // rows
    rng = np.random.default_rng(1)
    a = ring.uniform(KEY, 5)
    values = ring.forward(a)
    points: set[int] = set()
    for place in {0, ring.degree - 1, *rng.integers(0, ring.degree, 6).tolist()}:
        k, r = divmod(place, rows)
        power = int((exponents(ring.degree, rows)[r] + ring.degree) // columns + exponents(ring.degree, columns)[k])
        points.add(power % (2 * ring.degree))
        for row, p in enumerate(ring.moduli):
            root = next(
                psi for g in range(2, p) if pow(psi := pow(g, (p - 1) // (2 * ring.degree), p), ring.degree, p) == p - 1
            )
            x, value = pow(root, power, p), 0
            for coefficient in reversed(a[row].tolist()):
                value = (value * x + coefficient) % p
            assert value == values[row, place]
    assert all(power % 2 for power in points)


@given(rings, seeds, st.integers(0, 1 << 20))
def test_transforms_are_linear_and_inverse_to_each_other(ring: Ring, seed: bytes, by: int) -> None:
    a, b = ring.uniform(seed, 0), ring.uniform(seed, 1)
    assert np.array_equal(ring.inverse(ring.forward(a)), a)
    assert np.array_equal(ring.forward(ring.inverse(a)), a)
    factor = np.full_like(a, by)
    left = ring.forward(ring.add(ring.multiply(a, factor), b))
    assert np.array_equal(left, ring.add(ring.multiply(ring.forward(a), factor), ring.forward(b)))
    assert np.array_equal(ring.subtract(ring.add(a, b), b), a)


@given(rings, seeds, st.data())
def test_x_to_the_n_is_minus_one(ring: Ring, seed: bytes, data: st.DataObject) -> None:
    a = ring.uniform(seed, 0)
    k = data.draw(st.integers(0, ring.degree - 1))
    power = np.zeros_like(a)
    power[:, k] = 1
    shifted = np.roll(a, k, axis=1)
    shifted[:, :k] = ring.subtract(np.zeros_like(a), shifted)[:, :k]
    assert np.array_equal(product(ring, a, power), shifted)


@given(rings, seeds)
def test_all_ways_to_multiply_agree(ring: Ring, seed: bytes) -> None:
    a, b, c = (np.stack([ring.uniform(seed, i), ring.uniform(seed, i + 1)]) for i in (0, 2, 4))
    expected = [[[x * y % p for x, y in zip(u, v, strict=True)] for u, v, p in zip(s, t, ring.moduli, strict=True)]
                for s, t in zip(a.tolist(), b.tolist(), strict=True)]  # fmt: skip
    assert ring.multiply(a, b).tolist() == ring.multiply(a, ring.factor(b)).tolist() == expected
    total = c.copy()
    ring.multiply_add(a, b, total)
    assert np.array_equal(total, ring.add(c, ring.multiply(a, b)))
    assert np.array_equal(ring.multiply(a, b[0])[1], ring.multiply(a[1], b[0]))
    assert np.array_equal(ring.multiply(a, ring.factor(b[0])), ring.multiply(a, b[0]))


@pytest.mark.parametrize("ring", LARGE)
def test_results_may_replace_the_first_operand(ring: Ring) -> None:
    a, b = ring.uniform(KEY, 0), ring.uniform(KEY, 1)
    for operation in (ring.add, ring.subtract, ring.multiply):
        expected, kept, out = operation(a, b), a.copy(), a.copy()
        assert operation(out, b, out=out) is out
        assert np.array_equal(out, expected)
        assert np.array_equal(operation(a, b, out=np.empty_like(a)), expected)
        assert np.array_equal(a, kept)
    out = a.copy()
    assert np.array_equal(ring.inverse(ring.forward(out, out=out), out=out), a)


@pytest.mark.parametrize("ring", LARGE)
def test_a_masked_sum_comes_out_exactly(ring: Ring) -> None:
    # What the ring is for: sums of a·s_i + e_i + Δ·m_i, less a times the sum of the s_i, give the sum of the m_i.
    rng = np.random.default_rng(11)
    a = ring.uniform(KEY, 0)
    scale = ring.modulus >> 64
    total, secrets, messages = np.zeros_like(a), np.zeros_like(a), np.zeros(ring.degree, dtype=np.uint64)
    for _ in range(5):
        message = rng.integers(0, 1 << 60, ring.degree, dtype=np.uint64)
        small = rng.integers(-20, 21, (2, ring.degree)).astype(np.int32)
        secret = ring.forward(ring.add_small(np.zeros_like(a), small[0]))
        masked = ring.inverse(ring.multiply(a, ring.factor(secret)))
        ring.add(ring.add_small(masked, small[1]), ring.from_words(message[:, None], scale=scale), out=masked)
        ring.add(total, masked, out=total)
        ring.add(secrets, secret, out=secrets)
        messages += message
    total = ring.add_small(total, np.zeros(ring.degree, dtype=np.int32))
    plain = ring.subtract(total, ring.inverse(ring.multiply(a, secrets)))
    words = ring.round_words(plain, scale, words=2)
    assert np.array_equal(words.view(np.uint64)[:, 0], messages)


def test_residues_from_the_wire_are_checked() -> None:
    ring = Ring(64, 3)
    ring.check(np.stack([largest(ring), largest(ring)]))
    for row, p in enumerate(ring.moduli):
        bad = np.zeros((3, 64), dtype=np.uint32)
        bad[row, 17] = p
        with pytest.raises(DecodeError, match="below its prime"):
            ring.check(bad)


@pytest.mark.parametrize(("degree", "primes"), [(0, 1), (1, 1), (3, 1), (16384, 1), (-4, 1), (8, 0), (8, 9)])
def test_bad_parameters_are_refused(degree: int, primes: int) -> None:
    with pytest.raises(ValueError, match="got"):
        Ring(degree, primes)


def test_rings_with_equal_parameters_are_equal_and_know_their_modulus() -> None:
    assert Ring(4096, 4) == Ring(4096, 4) != Ring(4096, 3)
    ring = Ring(4096, 4)
    assert ring.modulus == 134176769 * 134111233 * 134012929 * 133963777
    assert hash(ring) == hash(Ring(4096, 4))


def test_wrong_shapes_and_dtypes_are_refused() -> None:
    ring = Ring(8, 2)
    a = ring.uniform(KEY, 0)
    words = np.zeros((8, 2), dtype=np.uint32)
    small = np.zeros(8, dtype=np.int32)
    frozen = a.copy()
    frozen.flags.writeable = False
    wrong_types: list[Callable[[], object]] = [
        lambda: ring.forward(a.astype(np.uint64)),
        lambda: ring.from_words(words.astype(np.int32)),
        lambda: ring.add_small(a, small.astype(np.int64)),
    ]
    wrong_values: list[Callable[[], object]] = [
        lambda: ring.forward(a[:, :4]),
        lambda: ring.add(a, np.stack([a, a])),
        lambda: ring.add(a, a, out=np.empty((1, 2, 8), dtype=np.uint32)),
        lambda: ring.add(a, a, out=frozen),
        lambda: ring.multiply_add(a, a, np.stack([a, a])),
        lambda: ring.from_words(words[:4]),
        lambda: ring.from_words(np.zeros((8, 16), dtype=np.uint32)),
        lambda: ring.from_words(np.zeros((8, 0), dtype=np.uint32)),
        lambda: ring.add_planes(a, words.T[:, :4]),
        lambda: ring.add_planes(a, words.T[0]),
        lambda: ring.add_planes(a, words.T[None]),
        lambda: ring.add_planes(a, np.zeros((16, 8), dtype=np.uint32)),
        lambda: ring.add_small(a, small[:4]),
        lambda: ring.to_words(a, words=0),
        lambda: ring.to_words(largest(ring), words=1),
        lambda: ring.round_words(a, 0),
        lambda: ring.round_words(a, ring.modulus + 1),
        lambda: ring.uniform(KEY, -1),
        lambda: ring.uniform(KEY, 1 << 64),
    ]
    for call in wrong_types:
        with pytest.raises(TypeError):
            call()
    for call in wrong_values:
        with pytest.raises(ValueError):  # noqa: PT011 -- many messages, all ours
            call()


@settings(max_examples=20)
@given(st.sampled_from([Ring(8, 3), Ring(64, 2)]), st.integers(0, 3), seeds)
def test_leading_axes_are_kept(ring: Ring, count: int, seed: bytes) -> None:
    stack = np.array([ring.uniform(seed, i) for i in range(count)], dtype=np.uint32)
    stack = stack.reshape(count, 1, ring.primes, ring.degree)
    values = ring.forward(stack)
    assert values.shape == stack.shape
    words = ring.to_words(stack)
    assert words.shape[:3] == (count, 1, ring.degree)
    assert np.array_equal(ring.from_words(words), stack)
    for i in range(count):
        assert np.array_equal(values[i, 0], ring.forward(stack[i, 0]))
    scattered = np.asfortranarray(stack)
    assert np.array_equal(ring.forward(scattered), values)

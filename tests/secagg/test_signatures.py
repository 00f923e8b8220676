"""Ed25519 for many signatures at once: the same verdicts as OpenSSL's, one by one, on good, bad and odd signatures."""

from hashlib import sha512
from typing import Any

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import signatures
from secagg.errors import DecodeError
from secagg.identity import Identity
from secagg.primitives.curve25519.edwards import kernels, verification, verify_each
from secagg.primitives.curve25519.kernels import _multiply
from secagg.primitives.curve25519.limbs import by_lane, from_lanes, from_limbs, to_limbs, words_of
from secagg.signatures import first_forgery, verify_signature

Signed = tuple[bytes, bytes, bytes]
Point = tuple[int, int]
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
BASE: Point = verification._BASE
LANES = kernels.LANES
MANY = 64
"""From this many signatures on the kernels are used."""


def added(p: Point, q: Point) -> Point:
    """The addition law, in Python integers (RFC 8032, sec. 5.1.4, affine)."""
    t = D * p[0] * q[0] * p[1] * q[1] % P
    x = (p[0] * q[1] + q[0] * p[1]) * pow(1 + t, -1, P)
    return x % P, (p[1] * q[1] + p[0] * q[0]) * pow(1 - t, -1, P) % P


def times(k: int, p: Point) -> Point:
    total = (0, 1)
    for bit in f"{k:b}":
        total = added(total, total)
        if bit == "1":
            total = added(total, p)
    return total


def written(p: Point) -> bytes:
    return (p[1] | (p[0] & 1) << 255).to_bytes(32, "little")


def challenge(r: bytes, public: bytes, message: bytes) -> int:
    return int.from_bytes(sha512(r + public + message).digest(), "little") % ORDER


def openssl(one: Signed) -> bool:
    public, message, signature = one
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


X8 = 14399317868200118260347934320527232580618823971194345261214217575416788799818
"""x of a point of order 8; its y is the one that `secagg.signatures` refuses in keys."""
TORSION = [(0, 1), (0, P - 1), (pow(2, (P - 1) // 4, P), 0), (X8, signatures._ORDER_8)]


def test_the_points_of_small_order_here_are_that() -> None:
    for order, point in zip((1, 2, 4, 8), TORSION, strict=True):
        assert (-(point[0] ** 2) + point[1] ** 2 - 1 - D * point[0] ** 2 * point[1] ** 2) % P == 0
        assert times(order, point) == (0, 1)
        assert order == 1 or times(order // 2, point) != (0, 1)


def signed_by(secret: int, nonce: int, message: bytes, key_torsion: Point, nonce_torsion: Point) -> Signed:
    """A signature whose key and R may have a part of small order: valid only if the parts cancel in the equation."""
    public = written(added(times(secret, BASE), key_torsion))
    r = written(added(times(nonce, BASE), nonce_torsion))
    s = (nonce + challenge(r, public, message) * secret) % ORDER
    return public, message, r + s.to_bytes(32, "little")


odd_ones = st.builds(
    signed_by,
    st.integers(1, ORDER - 1),
    st.integers(0, ORDER - 1),
    st.binary(max_size=8),
    st.sampled_from(TORSION),
    st.sampled_from(TORSION),
)
honest = st.builds(
    lambda seed, message: (
        (identity := Identity.from_private(seed)) and (identity.public, message, identity.sign(message))
    ),
    st.binary(min_size=32, max_size=32),
    st.binary(max_size=200),
)


@st.composite
def damaged(draw: Any) -> Signed:
    """An honest one with one bit turned, anywhere."""
    parts = [bytearray(part) for part in draw(honest)]
    part = draw(st.sampled_from([part for part in parts if part]))
    at = draw(st.integers(0, 8 * len(part) - 1))
    part[at // 8] ^= 1 << at % 8
    return bytes(parts[0]), bytes(parts[1]), bytes(parts[2])


@settings(max_examples=25)
@given(st.lists(st.one_of(honest, damaged(), odd_ones), min_size=1, max_size=LANES + 8))
def test_every_verdict_is_openssls(signed: list[Signed]) -> None:
    assert verify_each(signed) == [openssl(one) for one in signed]


def test_signatures_that_a_random_combination_would_accept_are_judged_by_their_own_equation() -> None:
    signed = [
        signed_by(5, 7, bytes([i]), TORSION[key], TORSION[nonce])
        for i in range(3)
        for key in range(4)
        for nonce in range(4)
    ]
    verdicts = verify_each(signed)
    assert verdicts == [openssl(one) for one in signed]
    assert {True, False} == set(verdicts[1:])
    assert {_defect(one) for one in signed[:16]} == {(0, 1)}  # with the cofactor, all of them would hold


def _defect(one: Signed) -> Point:
    """8·(s·B - R - h·A), which is what an equation with cofactor asks to be zero."""
    public, message, signature = one
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    minus_r, minus_a = ((P - x, y) for x, y in (_read(r), _read(public)))
    return times(8, added(added(times(s, BASE), minus_r), times(challenge(r, public, message), minus_a)))


def _read(data: bytes) -> Point:
    number = int.from_bytes(data, "little")
    y, odd = number % 2**255, number >> 255
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    square = u * pow(v, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert x * x % P == square
    return (x if x % 2 == odd else (P - x) % P), y


@pytest.mark.parametrize("y", [0, 1, 2, 3, 18, P - 1, P - 2, P, P + 1, 2**255 - 1])
@pytest.mark.parametrize("odd", [0, 1])
def test_no_key_is_accepted_that_openssl_does_not_accept(y: int, odd: int) -> None:
    public = (y | odd << 255).to_bytes(32, "little")
    # R = s·B - h·A cannot be met on purpose; with s = 0 and A of small order it is met by chance
    signed = [(public, bytes([i]), r + bytes(32)) for i in range(16) for r in map(written, TORSION)]
    for ours, one in zip(verify_each(signed), signed, strict=True):
        assert not ours or (y < P and openssl(one))


def test_a_factor_that_is_not_reduced_is_refused_and_so_are_parts_of_another_length() -> None:
    identity = Identity.from_private(bytes(32))
    signature = identity.sign(b"")
    s = int.from_bytes(signature[32:], "little")
    unreduced = signature[:32] + (s + ORDER).to_bytes(32, "little")
    public = identity.public
    given_ = [(public, b"", signature), (public, b"", unreduced), (public[1:], b"", signature), (public, b"", b"")]
    assert verify_each(given_) == [True, False, False, False]
    assert verify_each([]) == []


def test_the_answers_of_rfc_8032_hold_in_every_lane() -> None:
    # RFC 8032, sec. 7.1, TEST 3
    one = (
        bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"),
        bytes.fromhex("af82"),
        bytes.fromhex(
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    )
    assert verify_each([one] * (2 * LANES + 1)) == [True] * (2 * LANES + 1)


def combined(rows: list[tuple[int, int, int, int]]) -> list[tuple[int, int, bool]]:
    """The y of h·A + s·B, whether its x is odd and whether there is such an A, by the kernel, for (y, odd, h, s)."""
    y = by_lane(to_limbs(words_of(b"".join(row[0].to_bytes(32, "little") for row in rows))), LANES)
    odd = by_lane(np.array([[row[1]] for row in rows], dtype=np.uint64), LANES)
    digits, base_digits = (
        by_lane(verification._signed_digits(b"".join(row[k].to_bytes(32, "little") for row in rows), bits), LANES)
        .view(np.int64)
        .reshape(len(y), -1, LANES)
        for k, bits in ((2, 4), (3, 8))
    )
    valid = np.empty(odd.shape, dtype=np.bool_)
    tables = verification._multiples_of_base(), verification._constants(LANES)
    kernels.combine(y, odd, digits, base_digits, *tables, valid)
    found = [row.tobytes() for row in from_limbs(from_lanes(y, LANES, len(rows))).astype("<u8")]
    signs, held = odd.reshape(-1).tolist(), valid.reshape(-1).tolist()
    return [(int.from_bytes(each, "little"), signs[i], held[i]) for i, each in enumerate(found)]


ENDS = [0, 1, 7, 8, 127, 128, ORDER // 2, 2**252 - 1, 2**252, ORDER - 1] + [
    int.from_bytes(bytes([octet]) * 31 + b"\x07", "little") for octet in (0x77, 0x7F, 0x80, 0x88)
]
"""Factors whose digits are at their ends, or carry all the way."""
factors = st.sampled_from(ENDS) | st.integers(0, ORDER - 1)


@settings(max_examples=10)
@given(st.lists(st.tuples(factors, st.sampled_from(TORSION), factors, factors), min_size=1, max_size=3))
def test_points_are_combined_as_by_the_addition_law(rows: list[tuple[int, Point, int, int]]) -> None:
    points = [added(times(a, BASE), small) for a, small, _, _ in rows]
    expected = [added(times(h, p), times(s, BASE)) for p, (_, _, h, s) in zip(points, rows, strict=True)]
    given_ = [(p[1], p[0] & 1, h, s) for p, (_, _, h, s) in zip(points, rows, strict=True)]
    assert combined(given_) == [(p[1], p[0] & 1, True) for p in expected]


def test_a_key_is_a_point_where_the_equation_of_the_curve_has_a_solution_and_nowhere_else() -> None:
    ys = [*range(24), *range(P - 24, P), *(pow(3, i, P) for i in range(24))]
    rows = [(y, odd, 1, 0) for y in ys for odd in (0, 1)]
    squares = [(y * y - 1) * pow(D * y * y + 1, -1, P) % P for y in ys for _ in range(2)]
    solvable = [pow(square, (P - 1) // 2, P) in {0, 1} for square in squares]
    found = combined(rows)
    assert [valid for _, _, valid in found] == solvable
    for row, square, point in zip(rows, squares, found, strict=True):
        assert not point[2] or point[:2] == (row[0], row[1] if square else 0)


def test_a_key_that_is_no_point_is_refused_whatever_comes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_hash", lambda *_: 5)  # or nobody could meet the equation on purpose
    signed = []
    for y in range(2, 32):
        result, odd, valid = combined([(y, 1, 5, 7)])[0]
        r, s = (result | odd << 255).to_bytes(32, "little"), (7).to_bytes(32, "little")
        signed.append(((y.to_bytes(32, "little"), b"", r + s), valid))
    assert verify_each([one for one, _ in signed]) == [valid for _, valid in signed]
    assert {valid for _, valid in signed} == {True, False}


WEIGHTS = [1 << offset for offset in (0, 26, 51, 77, 102, 128, 153, 179, 204, 230)]
REDUCED = [(1 << 26) - 1, (1 << 25) + (1 << 18) - 1] * 5
SUM = [3 * (1 << 26) - 1, 16 * (1 << 26) // 10] * 5
FIRST = [(1 << 28) - 1, (1 << 27) + (1 << 20)] * 5


def drawn(rng: np.random.Generator, highest: list[int]) -> Any:
    """A coordinate per lane, (10 · LANES,): limbs the highest or zero, in the last lane all highest."""
    limbs = np.where(rng.random((LANES, 10)) < 0.5, np.array(highest, dtype=np.uint64), np.uint64(0))
    limbs[-1] = highest
    return np.ascontiguousarray(limbs.T).reshape(-1)


def values(coordinate: Any) -> list[int]:
    by_limb = coordinate.reshape(10, LANES).tolist()
    return [
        sum(limb * weight for limb, weight in zip(lane, WEIGHTS, strict=True)) for lane in zip(*by_limb, strict=True)
    ]


def is_reduced(coordinate: Any) -> bool:
    return bool((coordinate.reshape(10, LANES).T <= REDUCED).all())


@pytest.mark.parametrize("seed", range(20))
def test_a_sum_of_a_sum_still_fits_a_product(seed: int) -> None:
    rng = np.random.default_rng(seed)
    f, g, out = drawn(rng, FIRST), drawn(rng, SUM), np.empty(10 * LANES, dtype=np.uint64)
    _multiply(f, g, out)
    assert [v % P for v in values(out)] == [a * b % P for a, b in zip(values(f), values(g), strict=True)]
    assert is_reduced(out)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("coordinates", [3, 4])
def test_the_formulas_hold_for_the_highest_limbs(seed: int, coordinates: int) -> None:
    # they are polynomials: what is put in need not be a point
    rng = np.random.default_rng(seed)
    point, ready = np.stack([drawn(rng, REDUCED) for _ in range(4)]), np.stack([drawn(rng, SUM) for _ in range(4)])
    sums, doubles, work = point.copy(), point.copy(), np.empty((6, 10 * LANES), dtype=np.uint64)
    kernels._add(sums, ready[:coordinates], work)
    kernels._double(doubles, work, bool(coordinates))
    for lane, (x, y, z, t, plus, minus, dxy, twice) in enumerate(zip(*map(values, [*point, *ready]), strict=True)):
        a, b, c, d = (y - x) * minus, (y + x) * plus, t * dxy, z * (twice if coordinates == 4 else 2)
        e, f, g, h = b - a, d - c, d + c, b + a
        assert [values(row)[lane] % P for row in sums] == [e * f % P, g * h % P, f * g % P, e * h % P]
        h, g = x * x + y * y, x * x - y * y
        e, f = h - (x + y) ** 2, 2 * z * z + g
        assert [values(row)[lane] % P for row in doubles] == [e * f % P, g * h % P, f * g % P, e * h % P]
    assert all(map(is_reduced, [*sums, *doubles]))


@given(st.lists(st.integers(0, ORDER - 1), min_size=1, max_size=4), st.sampled_from([4, 8]))
def test_signed_digits_are_in_their_range_and_make_up_the_number(numbers: list[int], bits: int) -> None:
    data = b"".join(number.to_bytes(32, "little") for number in numbers)
    digits = verification._signed_digits(data, bits).view(np.int64)
    assert [sum(int(d) << bits * k for k, d in enumerate(row)) for row in digits] == numbers
    assert (abs(digits) <= 1 << (bits - 1)).all()


@pytest.mark.parametrize("count", [1, MANY])
def test_the_first_forgery_among_many_is_found(count: int) -> None:
    identity = Identity.from_private(bytes(32))
    good = (identity.public, b"m", identity.sign(b"m"))
    assert first_forgery([good] * count) is None
    assert first_forgery([]) is None
    for at in {0, count // 2, count - 1}:
        signed = [good] * count
        signed[at] = (identity.public, b"n", good[2])
        signed[-1] = signed[at]
        assert first_forgery(signed) == at


@pytest.mark.parametrize("count", [1, MANY])
def test_a_key_of_small_order_is_refused_though_its_signatures_hold(count: int) -> None:
    key, identity = written(TORSION[0]), Identity.from_private(bytes(32))
    proves_nothing = (key, b"any", key + bytes(32))
    assert openssl(proves_nothing)
    assert verify_each([proves_nothing]) == [True]
    good = (identity.public, b"m", identity.sign(b"m"))
    assert first_forgery([*[good] * (count - 1), proves_nothing]) == count - 1
    with pytest.raises(DecodeError, match="small order"):
        verify_signature(*proves_nothing)


def test_what_the_kernels_refuse_is_left_to_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = Identity.from_private(bytes(32))
    monkeypatch.setattr(signatures, "verify_each", lambda signed: [False] * len(signed))
    assert first_forgery([(identity.public, b"m", identity.sign(b"m"))] * MANY) is None

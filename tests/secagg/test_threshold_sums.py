"""The arithmetic of threshold sums against Python integers, and parameters that are proved or refused."""

import math
from dataclasses import fields, replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import PlanError
from secagg.encoding.packing import word_dtype
from secagg.errors import DecodeError, EncodingError
from secagg.homomorphic import kernels
from secagg.homomorphic import threshold_parameters as parameters
from secagg.homomorphic import threshold_sums as sums
from secagg.homomorphic.threshold_flooding import flooding_levels, wide_gaussian
from secagg.homomorphic.threshold_parameters import ThresholdParameters
from secagg.primitives.ring import Ring
from secagg.primitives.sampling import discrete_gaussian
from tests.secagg.threshold_rig import plan_of

N, L = 64, 6


def choose(**changes: Any) -> ThresholdParameters:
    asked = {"clients": 100, "threshold": 67, "corrupted": 33, "length": 1_000_000, "modulus_bits": 32, "wraps": False}
    return ThresholdParameters.choose(**(asked | changes))


def small(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> ThresholdParameters:
    """A ring too small to be safe, in which Python integers can follow."""
    monkeypatch.setattr(parameters, "ring_primes", lambda degree, count: Ring(degree, count).moduli)
    values = {"clients": 5, "threshold": 3, "corrupted": 1, "length": 300, "modulus_bits": 10, "wraps": True}
    values |= {"signed_length": 0, "degree": N, "primes": L, "digits": 3, "rounds": 9, "correctness_bits": 40} | changes
    made = object.__new__(ThresholdParameters)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    assert set(values) == {each.name for each in fields(ThresholdParameters)}
    assert made.failure_bits > 40
    return made


def integers(made: ThresholdParameters, residues: Any) -> list[int]:
    """Coefficients in [0, q), by the Chinese remainder theorem in Python."""
    q, moduli = made.modulus, sums.ring_of(made).moduli
    units = [q // prime * pow(q // prime, -1, prime) for prime in moduli]
    return [sum(int(r) * u for r, u in zip(column, units, strict=True)) % q for column in residues.T]


def product(a: list[int], b: list[int], q: int) -> list[int]:
    out = [0] * N
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            out[(i + j) % N] += x * y if i + j < N else -x * y
    return [value % q for value in out]


def opened(made: ThresholdParameters, packed: memoryview, block: int) -> list[int]:
    """The coefficients of one block that travelled: residues of 27 bits in lanes of 32."""
    width = made.last_width if block == made.blocks - 1 else N
    size = width * 27 // 8
    data = packed[block * made.share_bytes :]
    rows = []
    for row in range(L):
        words = np.frombuffer(data[row * size : (row + 1) * size], "<u4").reshape(27, -1)
        lanes = [sum(int(word) << 32 * k for k, word in enumerate(column)) for column in words.T]
        rows.append([lanes[i % len(lanes)] >> 27 * (i // len(lanes)) & (1 << 27) - 1 for i in range(width)])
    return integers(made, np.array(rows))


def test_uploads_and_partial_decryptions_are_what_the_formulas_say(monkeypatch: pytest.MonkeyPatch) -> None:
    made = small(monkeypatch)
    ring, q = sums.ring_of(made), made.modulus
    secret = sums.draw_secret(made, bytes(32))
    words = np.random.default_rng(0).integers(0, 1 << 10, 300).astype(np.uint16)
    packed = sums.encrypt(made, b"p" * 32, ring.factor(secret), b"n" * 32, words.copy())
    answer = sums.decrypt_partially(made, b"p" * 32, ring.factor(secret), b"f" * 32)
    s = integers(made, ring.inverse(secret))
    errors, flooding = discrete_gaussian(b"n" * 32, 2 * N, 6.5), wide_gaussian(b"f" * 32, 2 * N, made.flooding)
    assert (made.blocks, made.last_width) == (2, 64)
    for block in range(2):
        a = integers(made, ring.inverse(ring.uniform(b"p" * 32, block)))
        product_with_secret = product(a, s, q)
        for i, (c, d) in enumerate(zip(opened(made, packed, block), opened(made, answer, block), strict=True)):
            digits = words.tolist()[3 * (block * N + i) : 3 * (block * N + i + 1)]
            message = sum(digit << 13 * place for place, digit in enumerate(digits))
            at = block * N + i
            assert c == (product_with_secret[i] + int(errors[at]) + (q >> 39) // 16 * 16 * message) % q
            assert d == (product_with_secret[i] + int(flooding[at])) % q


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_sums_over_any_clients_and_decryptors_are_exact(data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        wraps = data.draw(st.booleans())
        bits = data.draw(st.integers(4, 24))
        length = data.draw(st.integers(1, 400))
        signed = 0 if wraps else data.draw(st.integers(0, length))
        made = small(patch, length=length, modulus_bits=bits, wraps=wraps, signed_length=signed)
        ring, rng = sums.ring_of(made), np.random.default_rng(length)
        keys = [bytes([i]) * 32 for i in range(5)]
        secrets = [sums.draw_secret(made, key) for key in keys]
        share_for = [sums.share_out(made, secret, bytes([9 + i]) * 32) for i, secret in enumerate(secrets)]
        members = sorted(data.draw(st.permutations(range(5)))[: data.draw(st.integers(3, 5))])
        decryptors = sorted(data.draw(st.permutations(members))[:3])
        total, vectors = sums.RunningSum(made), []
        for i in members:
            low, high = np.zeros(length, np.int64), np.full(length, made.most)
            low[:signed], high[:signed] = -made.offset, made.offset
            vectors.append(rng.choice(np.stack([low, high, rng.integers(low, high + 1)])))
            words = (vectors[-1] % (1 << bits)).astype(word_dtype(bits))
            total.add(sums.encrypt(made, b"p" * 32, ring.factor(secrets[i]), bytes([70 + i]) * 32, words))
        for j in decryptors:
            share = sums.add_shares(made, [sums.pack_share(made, share_for[i](j)) for i in members])
            ring.multiply(share, sums.lagrange_at_zero(made, decryptors, j), out=share)
            pairs = [(bytes([100 + min(j, k), max(j, k)]) * 16, 1 if j < k else -1) for k in decryptors if k != j]
            ring.add(share, sums.zero_sharing(made, pairs), out=share)
            total.subtract(sums.decrypt_partially(made, b"p" * 32, ring.factor(share), bytes([50 + j]) * 32))
        expected = [sum(int(vector[i]) for vector in vectors) % (1 << bits) for i in range(length)]
        assert total.open(len(members)).tolist() == expected
        assert total.open(len(members)).tolist() == expected


def test_shares_are_values_of_polynomials_of_degree_below_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    made = small(monkeypatch)
    secret = sums.draw_secret(made, bytes(32))
    share_for = sums.share_out(made, secret, b"k" * 32)
    for row, prime in enumerate(sums.ring_of(made).moduli):
        values = [int(secret[row, 5]), *(int(share_for(i)[row, 5]) for i in range(5))]
        for _ in range(3):  # the third differences of a polynomial of degree 2 vanish
            values = [(b - a) % prime for a, b in pairwise(values)]
        assert not any(values)
    assert len({share_for(i)[0].tobytes() for i in range(5)} | {secret[0].tobytes()}) == 6


def test_lagrange_coefficients_are_those_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    made = small(monkeypatch)
    for decryptors in combinations(range(5), 3):
        for row, prime in enumerate(sums.ring_of(made).moduli):
            for power in range(3):
                weighted = (
                    int(sums.lagrange_at_zero(made, decryptors, j)[row, 0]) * (j + 1) ** power for j in decryptors
                )
                assert sum(weighted) % prime == (1 if power == 0 else 0)


@given(st.integers(0, 7), st.integers(1, 71), st.data())
@settings(max_examples=60, deadline=None)
def test_digits_come_back_from_the_words_they_were_put_in(count: int, bits: int, data: st.DataObject) -> None:
    digits = data.draw(st.integers(1, max(1, 216 // bits)))
    values = data.draw(st.lists(st.integers(0, (1 << min(bits, 64)) - 1), min_size=count, max_size=count))
    below = data.draw(st.integers(0, 8))
    planes = np.zeros((-(-digits * bits // 32), 8), np.uint32)
    kernels.to_digits(np.array(values, np.uint64), digits, bits, planes)
    for i, line in enumerate(planes.T.tolist()):
        mine = values[i * digits : (i + 1) * digits]
        assert sum(word << 32 * k for k, word in enumerate(line)) == sum(v << bits * k for k, v in enumerate(mine))
    out = np.empty(count, np.uint64)
    above = np.zeros((len(planes) + 1, 8), np.uint32)
    for i, source in enumerate(planes.T.tolist()):
        shifted = sum(word << 32 * k for k, word in enumerate(source)) << below
        above[:, i] = [shifted >> 32 * k & 0xFFFFFFFF for k in range(len(above))]
    kernels.from_digits(above, below, digits, bits, out)
    mask = (1 << min(bits, 64)) - 1
    assert [int(value) & mask for value in out] == values


def test_packed_residues_come_back_and_others_are_refused() -> None:
    made = choose(length=5, clients=4, threshold=3, corrupted=1)
    ring = sums.ring_of(made)
    share = ring.uniform(bytes(32), 0)
    packed = sums.pack_share(made, share)
    assert len(packed) == made.share_bytes
    np.testing.assert_array_equal(sums.unpack_share(made, packed), share)
    with pytest.raises(DecodeError, match="not below its prime"):
        sums.unpack_share(made, b"\xff" * made.share_bytes)
    with pytest.raises(DecodeError, match="takes"):
        sums.unpack_share(made, packed[:-1])


@given(st.lists(st.integers(-(1 << 56) + 1, (1 << 56) - 1), min_size=8, max_size=8))
@settings(max_examples=60, deadline=None)
def test_wide_integers_are_added_modulo_every_prime(wide: list[int]) -> None:
    ring = Ring(8, 4)
    a = ring.uniform(bytes(32), 0)
    moduli = np.array(ring.moduli, np.uint32)
    out = a.copy()
    kernels.add_wide(out, np.array(wide, np.int64), moduli)
    for row, prime in enumerate(ring.moduli):
        assert out[row].tolist() == [(int(x) + y) % prime for x, y in zip(a[row], wide, strict=True)]


@given(st.floats(6, 2.0**52))
@settings(max_examples=100, deadline=None)
def test_levels_of_flooding_add_up_to_the_deviation_and_never_get_narrow(deviation: float) -> None:
    levels = flooding_levels(deviation)
    assert math.isclose(math.sqrt(sum((s * 256.0**i) ** 2 for i, s in enumerate(levels))), deviation, rel_tol=1e-12)
    assert all(level == 1024 for level in levels[:-1])
    assert 6 <= levels[-1] <= 2048


def test_flooding_has_the_deviation_asked_for_and_no_lattice_in_it() -> None:
    wide = wide_gaussian(bytes(32), 40_000, 2.0**47.3)
    assert abs(wide.std() / 2**47.3 - 1) < 0.02
    assert abs(wide.mean()) < 0.03 * 2**47.3
    residues = np.bincount(wide % 256, minlength=256)
    assert abs((((residues - 40_000 / 256) ** 2).sum() / (40_000 / 256)) - 255) < 120  # chi squared, 5 sigma
    assert (wide_gaussian(bytes(32), 100, 2.0**47.3, start=700) == wide[700:800]).all()


def test_coordinates_that_could_wrap_a_sum_are_refused() -> None:
    made = choose(clients=4, threshold=3, corrupted=1, length=4, modulus_bits=8, signed_length=2)
    assert (made.most, made.offset) == (63, 31)
    factor = sums.ring_of(made).factor(sums.draw_secret(made, bytes(32)))
    for good in ([31, 225, 63, 0], [0, 0, 0, 63]):
        sums.encrypt(made, bytes(32), factor, bytes(32), np.array(good, np.uint8))
    for bad in ([32, 0, 0, 0], [224, 0, 0, 0], [0, 0, 64, 0], [0, 0, 255, 0]):
        with pytest.raises(EncodingError, match=r"add up modulo 2\^8 without wrapping"):
            sums.encrypt(made, bytes(32), factor, bytes(32), np.array(bad, np.uint8))


@pytest.mark.parametrize("length", [5, 50_000])
def test_what_is_added_and_taken_off_again_leaves_nothing_in_any_number_and_order(length: int) -> None:
    made = choose(clients=4, threshold=3, corrupted=1, length=length)
    ring = sums.ring_of(made)
    messages = [
        sums.decrypt_partially(made, bytes([i]) * 32, ring.factor(ring.uniform(bytes(32), i)), bytes(32))
        for i in range(11)
    ]
    total = sums.RunningSum(made)
    for i, message in enumerate(messages):
        for bad in (message[:-4], b""):
            with pytest.raises(DecodeError, match="bytes of residues are needed"):
                total.add(memoryview(bad))
        total.add(message)
        if i % 3 == 0:
            total.subtract(message)
            total.add(message)
    assert total._pending
    for message in reversed(messages):
        total.subtract(message)
    total._settle()
    assert not total._total.any()


def test_bytes_that_are_not_canonical_are_read_modulo_the_primes() -> None:
    made = choose(clients=4, threshold=3, corrupted=1, length=50_000)
    total, ones = sums.RunningSum(made), memoryview(b"\xff" * made.upload_bytes)
    total.add(ones)
    total.subtract(ones)
    total.subtract(ones)
    total._settle()
    for row, prime in enumerate(sums.ring_of(made).moduli):
        assert (total._total[0, row] == (1 - (1 << 27)) % prime).all()
        assert not total._total[-1, row, made.last_width :].any()


def test_five_32_bit_sums_of_a_hundred_clients_fit_one_coefficient() -> None:
    made = choose()
    assert (made.degree, made.primes, made.digits, made.rounds) == (8192, 8, 5, 1000)
    assert made.expansion(32) == 1.35
    assert made.upload_bytes == 5_400_000
    assert (made.classical_bits, made.quantum_bits) == (128, 0)
    assert math.isclose(made.flooding * math.sqrt(67 - 33), 2.0**40 * made.error_bound)
    assert made.error_bound == 927  # docs/threshold.md
    assert choose(post_quantum=True).quantum_bits == 128


@given(st.integers(3, 100), st.floats(0, 1), st.integers(1, 64), st.booleans(), st.sampled_from([1, 1000, 1_000_000]))
@settings(max_examples=40, deadline=None)
def test_whatever_is_chosen_holds_digits_flooding_and_security(
    clients: int, share: float, bits: int, wraps: bool, length: int
) -> None:
    threshold = 2 * clients // 3 + 1
    corrupted = min(int(share * clients), threshold - 2)
    made = choose(
        clients=clients, threshold=threshold, corrupted=corrupted, length=length, modulus_bits=bits, wraps=wraps
    )
    honest_flooding = made.flooding * math.sqrt(threshold - corrupted)
    spread = math.sqrt(clients * 6.5**2 + threshold * made.flooding**2)
    coefficients = made.degree * made.blocks
    assert made.delta << (made.digits * made.digit_bits) <= made.modulus
    assert clients * made.most < 1 << made.digit_bits
    assert 2 * coefficients * math.exp(-((15 / 32 * made.delta) ** 2) / 2 / spread**2) <= 2**-40
    assert 2 * coefficients * math.exp(-((made.error_bound / 6.5) ** 2) / 2 / clients) <= 2**-128
    assert honest_flooding >= 2**40 * made.error_bound * (1 - 1e-12)
    distance = 6.5 * math.sqrt(clients * coefficients * made.rounds) / (2 * honest_flooding)
    assert distance <= 2**-30
    assert made.log2_modulus <= 216
    assert made.blocks * made.degree * made.digits >= length


GOOD = choose(clients=10, threshold=7, corrupted=3, length=1000, modulus_bits=20)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"clients": 101}, r"clients .* in \[2, 100\]"),
        ({"threshold": 11}, "can never be reached"),
        ({"corrupted": 6}, "fewer than 2 honest"),
        ({"degree": 4096, "primes": 5, "digits": 1}, "128-bit security up to"),
        ({"digits": GOOD.digits + 1}, "does not stay below"),
        ({"rounds": 1 << 20, "length": 10**8}, "refresh the key earlier"),
        ({"signed_length": 1001}, "only sums that do not wrap"),
        ({"wraps": True, "signed_length": 1, "digits": 1}, "only sums that do not wrap"),
        ({"wraps": 1}, "wraps is True or False"),
        ({"length": 1.5}, "length of a threshold sum"),
    ],
)
def test_parameters_that_are_not_proved_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(PlanError, match=why):
        replace(GOOD, **changes)


def test_sums_that_fit_nowhere_are_refused_with_the_last_reason() -> None:
    with pytest.raises(PlanError, match=r"no threshold sum fits: .*refresh the key earlier"):
        choose(rounds=1 << 20, length=1 << 34)
    with pytest.raises(PlanError, match=r"over 1 rounds .*sum a shorter vector"):
        choose(rounds=None, length=1 << 34)


def test_a_threshold_too_low_against_a_malicious_server_is_refused() -> None:
    plan = plan_of("malicious")
    object.__setattr__(plan, "threshold", 2)  # which `Plan` itself refuses
    with pytest.raises(PlanError, match=r"twice the threshold must exceed n \+ c"):
        ThresholdParameters.of(plan)


def test_every_parameter_is_in_the_digest() -> None:
    changes: dict[str, Any] = {
        "clients": 9,
        "threshold": 6,
        "corrupted": 2,
        "length": 999,
        "modulus_bits": 19,
        "signed_length": 1,
    }
    changes |= {"digits": 1, "rounds": 7, "correctness_bits": 30, "primes": 7, "wraps": True}
    digests = {GOOD.digest}
    for name, value in changes.items():
        more: dict[str, Any] = {"digits": 1} if name in {"primes", "wraps"} else {}
        digests.add(replace(GOOD, **{name: value, **more}).digest)
    assert len(digests) == len(changes) + 1


def chosen_table() -> str:
    """The table of that name in docs/threshold.md."""
    rows = []
    for bits, clients, threshold, corrupted, wraps in (
        (32, 100, 67, 10, False),
        (32, 100, 67, 33, False),
        (32, 100, 67, 10, True),
        (32, 10, 7, 1, False),
        (16, 100, 67, 10, False),
        (20, 4, 3, 1, False),
        (64, 100, 67, 10, False),
    ):
        made = choose(clients=clients, threshold=threshold, corrupted=corrupted, modulus_bits=bits, wraps=wraps)
        odds = f"2^-{made.failure_bits:.0f}" if made.failure_bits < 1000 else "< 2^-1000"
        asked = (bits, clients, threshold, corrupted, "yes" if wraps else "no")
        ring = (made.degree, made.primes, made.digits, f"{math.log2(made.delta):.1f}")
        noise = (made.error_bound, f"{math.log2(made.flooding):.1f}", odds, made.rounds)
        rows.append(
            (*asked, *ring, *noise, f"{made.expansion(bits):.3f}", made.classical_bits, made.quantum_bits or "–")
        )
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def test_the_documented_parameters_are_those_that_are_chosen() -> None:
    text = (Path(__file__).parents[2] / "docs" / "threshold.md").read_text()
    table = text.partition("<!-- chosen -->\n")[2].partition("\n<!-- end -->")[0]
    assert table.split("\n", 2)[2] == chosen_table()

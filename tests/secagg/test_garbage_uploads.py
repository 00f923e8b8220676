"""A client that sends ring elements of its own choosing ruins the sum it is in: to a wrong one or a typed error."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from secagg import Client, Plan, PlanError, RemoteProtocolError, Server
from secagg.encoding.packing import pack, word_dtype
from secagg.homomorphic.threshold import FINGERPRINT_BYTES
from secagg.homomorphic.threshold_parameters import ThresholdParameters
from secagg.homomorphic.threshold_rounds import ThresholdUpload
from secagg.homomorphic.threshold_sums import RunningSum
from secagg.lattice.parameters import DEGREES, PRIME_BITS, LatticeParameters, ring_primes
from secagg.lattice.rlwe import CipherSum
from secagg.lattice.security import largest_modulus
from secagg.primitives.ring import Ring
from secagg.setups import Setup
from secagg.testing.frames import cut_frame
from tests.secagg.rig import Rig
from tests.secagg.ring_rig import residues_of
from tests.secagg.threshold_rig import NUMBERS, SEMI_HONEST, keys_of, plan_of, setup_of, vectors

RINGS = [
    (degree, count)
    for degree in DEGREES
    for count in range(2, 9)
    if PRIME_BITS * count <= largest_modulus(degree, 128, quantum=False)
]
ring_of = cache(Ring)


def plan_on(degree: int, count: int, digits: int, digit_bits: int, length: int) -> Plan:
    """Three clients whose bare vectors wrap, which takes two bits more in a digit, or, in a narrow one, do not."""
    bits = digit_bits - 2 if digit_bits > 2 else digit_bits
    ring = {"length": length, "clients": 3, "digit_bits": digit_bits, "degree": degree, "digits": digits}
    lattice = LatticeParameters(primes=ring_primes(degree, count), **ring)
    plain = Plan(clients=3, length=length, modulus_bits=bits, threshold=3, degree=2)
    return replace(plain, masking="lattice", lattice=lattice)


def uniform(ring: Ring, blocks: int, seed: int) -> NDArray[np.uint32]:
    """Residues below their primes: (blocks, L, N)."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.array(ring.moduli)[:, None], (blocks, ring.primes, ring.degree), dtype=np.uint32)


@pytest.mark.parametrize("degree", [4096, 8192])
def test_a_lattice_upload_of_residues_at_random_ruins_the_sum_and_not_the_server(degree: int) -> None:
    """Three digits of 32 bits fill three limbs, which q / Δ passes by one part in 4000: of so many, some do."""
    plan = plan_on(degree, 4, 3, 32, length=20 * 3 * 4096)
    zero = np.zeros(plan.length, np.uint64)
    rig = Rig(plan, inputs=dict.fromkeys(range(3), zero))
    assert plan.lattice is not None
    rig.run(until="masked_input")
    for i in rig.ask("masked_input"):
        answer = rig.answer("masked_input", i)
        if i == 1:
            frame = cut_frame(answer, tail=plan.lattice.ciphertext_bytes)
            garbage = pack(uniform(ring_of(degree, 4), plan.lattice.blocks, seed=degree).reshape(-1), PRIME_BITS)
            answer = replace(frame, tail=bytes(garbage)).to_bytes()
        rig.server.receive(i, answer)
    for i in rig.ask("unmask"):
        rig.server.receive(i, rig.answer("unmask", i))
    rig.server.close_round()
    total = rig.server.total()
    assert total.survivors == (0, 1, 2)
    assert total.vector.shape == (plan.length,)
    assert 0.45 < float((total.vector >> np.uint64(plan.modulus_bits - 1)).mean()) < 0.55


@given(st.sampled_from(RINGS), st.integers(1, 64), st.integers(1, 216), st.integers(0, 1 << 216))
@example((4096, 4), 32, 3, 0)
@example((8192, 4), 32, 3, 0)
@example((8192, 8), 32, 6, 0)
@example((8192, 7), 64, 2, 0)
@settings(max_examples=40, deadline=None)
def test_any_residues_on_any_ring_open_to_the_digits_of_the_nearest_multiple_of_delta(
    shape: tuple[int, int], digit_bits: int, digits: int, start: int
) -> None:
    ring = ring_of(*shape)
    for fewer in range(digits, 0, -1):
        try:
            plan = plan_on(*shape, fewer, digit_bits, length=20)
            break
        except PlanError:  # digits and noise need more room
            continue
    else:
        return
    assert plan.lattice is not None
    q, delta, half = ring.modulus, plan.lattice.delta, plan.lattice.delta // 2
    coefficients = [q - 1 - half, q - half, q - 1, 0, half, delta - 1]
    coefficients += [pow(3, i, q) * start % q for i in range(14)]
    residues = uniform(ring, 1, seed=digits)
    residues[0, :, :20] = residues_of(ring, coefficients)
    total = CipherSum(plan)
    total.add(memoryview(pack(residues.reshape(-1), PRIME_BITS)))
    setup = Setup(plan=plan, roster=range(3), session=bytes(16), round=0, assume_honest_server=True)
    opened = total.open(setup, np.zeros(ring.degree, word_dtype(plan.masked[1])))
    assert opened.tolist() == [(c + half) % q // delta % (1 << plan.modulus_bits) for c in coefficients]


def test_a_sum_of_lattice_secrets_at_random_is_a_typed_error() -> None:
    plan = plan_on(4096, 4, 3, 32, length=5)
    total = CipherSum(plan)
    total.add(memoryview(bytes(plan.lattice.ciphertext_bytes if plan.lattice else 0)))
    setup = Setup(plan=plan, roster=range(3), session=bytes(16), round=0, assume_honest_server=True)
    words = np.random.default_rng(0).integers(0, 1 << plan.masked[1], 4096).astype(word_dtype(plan.masked[1]))
    with pytest.raises(RemoteProtocolError, match="more than that many honest ones"):
        total.open(setup, words)


@pytest.mark.parametrize("place", [0, 1])
def test_a_threshold_upload_or_partial_at_random_is_noticed_as_noise(place: int) -> None:
    plan = SEMI_HONEST
    setup, given_vectors = setup_of(plan, next(NUMBERS)), vectors(plan)
    keys, context = keys_of(plan)
    members = {i: Client(setup, i, given_vectors[i], keys=keys[i]) for i in range(4)}
    server = Server(setup, context=context)
    forged = False
    for step in range(2):
        for i, request in server.close_round().items():
            answer = members[int(i)].receive(request)
            if step == place and not forged:
                frame = cut_frame(answer, tail=ThresholdUpload.vector_bytes(plan))
                rng = np.random.default_rng(step)
                size = len(frame.tail) - FINGERPRINT_BYTES
                answer = replace(frame, tail=frame.tail[:FINGERPRINT_BYTES] + rng.bytes(size)).to_bytes()
                forged = True
            server.receive(i, answer)
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="noise"):
            server.close_round()


@given(st.integers(1, 64), st.booleans(), st.data())
@settings(max_examples=40, deadline=None)
def test_any_multiples_of_delta_open_to_the_digits_of_a_threshold_sum(
    bits: int, wraps: bool, data: st.DataObject
) -> None:
    """What noise does not give away: the largest multiples too, which no honest clients reach."""
    made = ThresholdParameters.of(plan_of(length=50, modulus_bits=bits, encoding=b"" if wraps else bytes(32)))
    ring, delta = ring_of(made.degree, made.primes), made.delta
    top = ring.modulus // delta - 1
    some = st.integers(0, top) | st.integers(max(top - 3, 0), top)
    multiples = data.draw(st.lists(some, min_size=made.last_width, max_size=made.last_width))
    total = RunningSum(made)
    total._total[0, :, : made.last_width] = residues_of(ring, [m * delta for m in multiples])
    read = [m >> made.digit_bits * j & (1 << bits) - 1 for m in multiples for j in range(made.digits)]
    assert total.open(4).tolist() == read[:50]

"""Lattice masks: exact for every survivor pattern, nothing but the sum's secret opened, and no room for lies."""

from dataclasses import replace
from functools import partial
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secagg
from secagg import EncodingError, FaultyClientError, Plan, PlanError, RemoteProtocolError, ThresholdError, simulate
from secagg.encoding.packing import add_packed, packed_bytes, word_dtype
from secagg.lattice import kernels, rlwe
from secagg.lattice.parameters import choose
from secagg.masking.messages import MaskedInput
from secagg.params import KeyAgreement
from secagg.planning import explain
from secagg.primitives.graph import Graph
from secagg.primitives.ring import Ring
from secagg.rounds import Outcome
from secagg.setups import Setup
from secagg.testing.frames import cut_frame
from secagg.transitions import steps_of
from tests.secagg.rig import Rig, make_plan, vectors

STEPS = steps_of("lattice")


def lattice(plan: Plan, *, wraps: bool = False) -> Plan:
    """The same plan, with lattice masks."""
    digit_bits = plan.modulus_bits + ((plan.clients - 1).bit_length() if wraps else 0)
    ring = choose(length=plan.length, digit_bits=digit_bits, clients=plan.clients)
    return replace(plan, masking="lattice", lattice=ring)


def setup_of(plan: Plan, number: int = 0) -> Setup:
    return Setup(plan=plan, roster=range(plan.clients), session=bytes(16), round=number, assume_honest_server=True)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Plan, dict[int, str]]:
    sparse = draw(st.booleans())
    n = draw(st.integers(6 if sparse else 3, 8))
    threshold = None if sparse else draw(st.integers(max(2 * n // 3 + 1, 2), n))
    plan = make_plan(n, degree=4 if sparse else None, threshold=threshold, dropouts=2 if sparse else n - 2)
    return plan, draw(st.dictionaries(st.integers(0, n - 1), st.sampled_from(STEPS), max_size=3))


@given(rounds(), st.binary(min_size=32, max_size=32))
@settings(max_examples=40)
def test_every_pattern_of_survivors_gives_what_masks_as_long_as_the_vector_give(case: Any, drawn: bytes) -> None:
    plan, dropouts = case
    inputs = vectors(plan.clients)
    results: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        # Sessions and plans draw graphs of their own, which break under other dropouts: here both have the same one.
        patch.setattr(Graph, "derive", partial(_derived, Graph.derive, drawn))
        for one in (plan, lattice(plan)):
            try:
                total = simulate(one, inputs, dropouts=dropouts)
            except ThresholdError as error:
                results.append((error.needed, error.survivors))
            else:
                rows = [inputs[int(i)].tolist() for i in total.survivors]
                assert total.vector.tolist() == [sum(column) for column in zip(*rows, strict=True)]
                results.append((total.survivors, total.vector.tolist()))
    assert results[0] == results[1]


def _derived(real: Any, drawn: bytes, clients: int, degree: int, *, randomness: bytes) -> Graph:
    assert len(randomness) == 32
    graph: Graph = real(clients, degree, randomness=drawn)
    return graph


@pytest.mark.parametrize("server", ["semi-honest", "malicious"])
@pytest.mark.parametrize("key_agreement", ["x25519", "x25519+ml-kem-768"])
def test_both_servers_and_both_key_agreements_sum_exactly(server: Any, key_agreement: Any) -> None:
    rig = Rig(lattice(make_plan(5, server=server, key_agreement=key_agreement, length=30)))
    rig.run(drop={2: "masked_input"})
    assert rig.server.total().vector.tolist() == rig.expected([0, 1, 3, 4])


def test_a_malicious_sparse_graph_sums_exactly() -> None:
    codec = secagg.Encoding(dimension=40, clip=1.0, bits=16, clients=150)
    plan = secagg.plan(codec, corrupted=0.02, dropout=0.02, graph="sparse", server="malicious", masking="lattice")
    assert not plan.is_complete
    rng = np.random.default_rng(5)
    updates = {i: codec.encode(rng.uniform(-1, 1, 40)) for i in range(150)}
    total = simulate(plan, updates, dropouts={7: "masked_input"})
    rows = [one.vector.astype(object) for i, one in updates.items() if i != 7]
    assert total.vector.tolist() == [int(x) % (1 << plan.modulus_bits) for x in np.sum(rows, axis=0)]


@pytest.mark.parametrize("bits", [2, 16, 20, 32])
@pytest.mark.parametrize("clients", [4, 300])
def test_encodings_at_their_extremes_are_exact(bits: int, clients: int) -> None:
    codec = secagg.Encoding(dimension=9, clip=1.0, bits=bits, clients=clients, max_weight=3)
    plan = secagg.plan(codec, masking="lattice", graph="complete" if clients == 4 else "sparse")
    assert not plan.wraps
    signs = np.where(np.arange(9) % 3 == 0, -1.0, 1.0) * np.where(np.arange(9) % 5 == 4, 0.0, 1.0)
    setup = setup_of(plan)
    total = rlwe.CipherSum(plan)
    secret = np.zeros(plan.lattice.degree if plan.lattice else 0, word_dtype(plan.masked[1]))
    for i in range(clients):
        words, c = rlwe.conceal(setup, codec.encode(signs, weight=3).vector.copy(), i.to_bytes(32, "little"))
        total.add(memoryview(c))
        secret += words
    opened = total.open(setup, secret & secret.dtype.type((1 << plan.masked[1]) - 1))
    one = codec.encode(signs, weight=3).vector.astype(object)
    assert opened.tolist() == [int(x) * clients % (1 << plan.modulus_bits) for x in one]


@given(st.integers(1, 61), st.integers(1, 70), st.data())
@settings(max_examples=25)
def test_sums_of_bare_vectors_may_wrap(bits: int, length: int, data: st.DataObject) -> None:
    plan = lattice(Plan(clients=3, length=length, modulus_bits=bits, threshold=3, degree=2), wraps=True)
    values = st.lists(st.integers(0, (1 << bits) - 1), min_size=length, max_size=length)
    rows = [data.draw(values) for _ in range(3)]
    total = simulate(plan, {i: np.array(row, dtype=np.uint64) for i, row in enumerate(rows)})
    assert total.vector.tolist() == [sum(column) % (1 << bits) for column in zip(*rows, strict=True)]


@given(st.integers(1, 64), st.integers(1, 5), st.data())
@settings(max_examples=60)
def test_digits_are_read_back_from_the_words_they_were_placed_in(bits: int, digits: int, data: st.DataObject) -> None:
    value = st.integers(0, (1 << bits) - 1)
    numbers = [[data.draw(value) for _ in range(4)] for _ in range(digits)]
    planes = np.zeros((-(-digits * bits // 32), 4), np.uint32)
    kernels.place_digits(np.array(numbers, np.uint64), bits, planes)
    assert [sum(int(word) << (32 * j) for j, word in enumerate(line)) for line in planes.T] == [
        sum(line[i] << (bits * j) for j, line in enumerate(numbers)) for i in range(4)
    ]
    back = np.zeros((digits, 4), np.uint64)
    kernels.read_digits(planes, bits, back)
    assert back.tolist() == numbers


def test_a_coordinate_whose_sums_would_wrap_is_refused_and_not_summed() -> None:
    plan = lattice(make_plan(4))
    largest = ((1 << plan.modulus_bits) - 1) // 4
    for value, refused in ((largest, False), (largest + 1, True)):
        vector = np.full(5, value, np.uint64).astype(word_dtype(plan.modulus_bits))
        if refused:
            with pytest.raises(EncodingError, match="without wrapping"):
                rlwe.conceal(setup_of(plan), vector, bytes(32))
        else:
            rlwe.conceal(setup_of(plan), vector, bytes(32))


def test_the_public_elements_differ_with_session_round_and_plan_and_nobody_sends_them() -> None:
    plan = lattice(make_plan(4))
    longer = lattice(make_plan(4, length=6))
    setups = [setup_of(plan), setup_of(plan, 1), setup_of(longer)]
    setups += [Setup(plan=plan, roster=range(4), session=bytes(16) + b"\1", round=0, assume_honest_server=True)]
    assert len({rlwe._public_key(setup) for setup in setups}) == len(setups)
    assert rlwe._public_key(setup_of(plan)) == rlwe._public_key(setup_of(plan))


def test_secrets_and_errors_are_as_wide_as_the_proof_asks_and_differ_with_the_randomness() -> None:
    plan = lattice(make_plan(4, length=40_000))
    setup, ring = setup_of(plan), plan.lattice
    assert ring is not None
    seen = []
    for i in range(3):
        words, c = rlwe.conceal(setup, np.zeros(plan.length, word_dtype(plan.modulus_bits)), bytes([i]) * 32)
        secret = rlwe._centred(words, plan.masked[1])
        assert 0.9 * ring.sigma < secret.std() < 1.1 * ring.sigma
        assert np.abs(secret).max() <= ring.secret_bound
        seen += [words.tobytes(), bytes(c)]
    assert len(set(seen)) == 6


def test_a_ciphertext_is_uniform_to_the_eye_and_the_wrong_secret_opens_none_of_it() -> None:
    plan = lattice(make_plan(4, length=12_000))
    setup, ring = setup_of(plan), plan.lattice
    assert ring is not None
    plain = np.full(plan.length, 900, word_dtype(plan.modulus_bits))
    words, c = rlwe.conceal(setup, plain.copy(), bytes(32))
    counts = np.bincount(np.frombuffer(bytes(c[: ring.ciphertext_bytes // 2]), np.uint8), minlength=256)
    expected = counts.sum() / 256
    # The packed residues are of primes just below 2^27, so their bytes are nearly uniform: chi-square, 255 degrees.
    assert float(((counts - expected) ** 2 / expected).sum()) < 420
    for secret, right in ((words, True), (np.roll(words, 1), False)):
        total = rlwe.CipherSum(plan)
        total.add(memoryview(c))
        opened = total.open(setup, secret)
        assert bool((opened == plain).all()) == right
        assert right or (opened == plain).mean() < 0.01


def test_a_coefficient_is_what_the_scheme_says_by_schoolbook_arithmetic() -> None:
    """c - a·s - Δ·m is the error, small and discrete, for c = a·s + e + Δ·m in Python integers."""
    plan = lattice(make_plan(4, length=50))
    setup, ring = setup_of(plan), plan.lattice
    assert ring is not None
    vector = np.arange(50, dtype=np.uint64) * 19
    words, packed = rlwe.conceal(setup, vector.astype(word_dtype(plan.modulus_bits)), bytes(range(32)))
    secret = rlwe._centred(words, plan.masked[1]).tolist()
    n, primes = ring.degree, ring.primes
    residues = np.zeros(n * len(primes), np.uint32)
    add_packed(memoryview(packed), 27, residues)
    arithmetic = Ring(n, len(primes))
    a = arithmetic.inverse(arithmetic.uniform(rlwe._public_key(setup), 0)).tolist()
    for i in (0, 1, 49, n - 1):
        message = sum(
            int(vector[j * n + i]) << (ring.digit_bits * j) for j in range(ring.digits) if j * n + i < len(vector)
        )
        errors = set()
        for row, p in enumerate(primes):
            product = sum(a[row][j] * secret[i - j] for j in range(i + 1))
            product -= sum(a[row][j] * secret[n + i - j] for j in range(i + 1, n))
            left = (int(residues[row * n + i]) - product - ring.delta * message) % p
            errors.add(left if left < p // 2 else left - p)
        (error,) = errors
        assert abs(error) <= ring.secret_bound


def test_residues_beyond_their_primes_are_refused_with_the_sum_unchanged() -> None:
    rig = Rig(lattice(make_plan(4, length=9_000)))
    rig.run(until="masked_input")
    rig.ask("masked_input")
    answers = {i: rig.answer("masked_input", i) for i in range(4)}
    ring = rig.plan.lattice
    assert ring is not None
    frame = cut_frame(answers[0], tail=MaskedInput.vector_bytes(rig.plan))
    for end in (8, ring.ciphertext_bytes // 2, ring.ciphertext_bytes):
        forged = bytearray(frame.tail)
        forged[len(forged) - end : len(forged) - end + 8] = b"\xff" * 8  # at least one residue of all ones
        with pytest.raises(FaultyClientError, match="prime"):
            rig.server.receive(0, replace(frame, tail=bytes(forged)).to_bytes())
    for length in (len(answers[0]) - 1, len(answers[0]) + 1):
        with pytest.raises(FaultyClientError):
            rig.server.receive(0, (answers[0] + b"\0")[:length])
    for i in range(4):
        rig.server.receive(i, answers[i])
    for i in rig.ask("unmask"):
        rig.server.receive(i, rig.answer("unmask", i))
    rig.server.close_round()
    assert rig.server.total().vector.tolist() == rig.expected(range(4))


def test_a_sum_of_secrets_beyond_what_honest_clients_have_is_refused() -> None:
    plan = lattice(make_plan(4))
    setup, ring = setup_of(plan), plan.lattice
    assert ring is not None
    total = rlwe.CipherSum(plan)
    words, c = rlwe.conceal(setup, np.zeros(5, word_dtype(plan.modulus_bits)), bytes(32))
    total.add(memoryview(c))
    words[17] = ring.secret_bound + 1
    with pytest.raises(RemoteProtocolError, match="more than that many honest ones"):
        total.open(setup, words)


def test_a_sum_over_fewer_than_two_honest_clients_cannot_be_planned() -> None:
    plan = make_plan(4, corrupted=1)
    assert lattice(plan).masking == "lattice"
    with pytest.raises(PlanError, match="fewer than 2 may be honest"):
        lattice(replace(plan, corrupted=2))


def test_a_plan_has_a_ring_for_its_own_vectors_or_none() -> None:
    plan = lattice(make_plan(4))
    other = lattice(make_plan(4, length=6)).lattice
    for wrong in ({"lattice": None}, {"lattice": other}, {"masking": "masking"}, {"signed_length": 6}):
        with pytest.raises(PlanError):
            replace(plan, **wrong)


def test_a_sum_that_was_refused_is_refused_again_and_never_half_unmasked() -> None:
    rig = Rig(lattice(make_plan(4)))
    rig.run(until="unmask")
    for i in rig.ask("unmask"):
        rig.server.receive(i, rig.answer("unmask", i))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rlwe, "_centred", lambda words, _: np.full(len(words), 1 << 30))
        for _ in range(2):
            with pytest.raises(RemoteProtocolError):
                rig.server.close_round()
    rig.server.close_round()
    assert rig.server.total().vector.tolist() == rig.expected(range(4))


def test_so_many_clients_that_their_secrets_outgrow_the_ring_are_refused() -> None:
    with pytest.raises(PlanError, match="tell apart"):
        choose(length=5, digit_bits=32, clients=700_000)


def test_plans_that_differ_in_the_ring_alone_do_not_understand_each_other() -> None:
    plan = make_plan(4)
    assert len({plan.digest, lattice(plan).digest, lattice(plan, wraps=True).digest}) == 3


def test_auto_takes_lattice_masks_for_long_vectors_only() -> None:
    short, long = (
        secagg.plan(secagg.Encoding(dimension=d, clip=1.0, bits=16, clients=20), masking="auto")
        for d in (1_000, 1_000_000)
    )
    assert (short.masking, long.masking) == ("masking", "lattice")
    assert "lattice" in explain(long)
    assert "lattice" not in explain(short)


@pytest.mark.parametrize(("dimension", "free"), [(100_000, False), (1_000_000, True)])
def test_a_ring_stands_against_quantum_computers_if_keys_do_or_if_it_costs_next_to_nothing(
    dimension: int, free: bool
) -> None:
    codec = secagg.Encoding(dimension=dimension, clip=1.0, bits=25, clients=100)
    plans = [secagg.plan(codec, masking="lattice", key_agreement=keys) for keys in get_args(KeyAgreement)]
    plans.append(secagg.plan(codec, masking="lattice", post_quantum=False))
    rings = [plan.lattice for plan in plans if plan.lattice]
    assert [ring.quantum_bits >= 128 for ring in rings] == [free, True, False]
    assert rings[1].upload_bytes / rings[2].upload_bytes < (1.01 if free else 1.1)


def test_the_upload_has_the_bytes_that_the_plan_says() -> None:
    rig = Rig(lattice(make_plan(4, length=9_000)))
    rig.run()
    ring = rig.plan.lattice
    assert ring is not None
    payload = packed_bytes(*rig.plan.masked) + ring.ciphertext_bytes
    assert 0 <= len(rig.log["masked_input", "up", 0]) - payload < 64
    assert payload == ring.upload_bytes


def test_the_server_opens_the_sum_of_the_secrets_and_no_single_one() -> None:
    """What unmasking adds is the sum of n discrete Gaussians, as wide as that, and not any client's secret."""
    rig = Rig(lattice(make_plan(5, length=20)))
    opened: list[Any] = []
    real = rlwe.CipherSum.open

    def listening(self: rlwe.CipherSum, setup: Setup, secret: Any) -> Any:
        opened.append(secret.copy())
        return real(self, setup, secret)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rlwe.CipherSum, "open", listening)
        rig.run(drop={1: "masked_input"})
    (secret,) = opened
    assert isinstance(rig.server._state, Outcome)
    spread = rlwe._centred(secret, rig.plan.masked[1]).std()
    assert 0.9 * 6.5 * 2 < spread < 1.1 * 6.5 * 2  # four survivors: twice one client's

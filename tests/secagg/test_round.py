"""Whole rounds: exact for every pattern of survivors, or a typed error that says what was missing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secagg
from secagg import ClientId, Counts, Setup, ThresholdError, simulate
from secagg.encoding.packing import Words
from secagg.transitions import steps_of
from tests.secagg.rig import CODEC_MAXIMUM, Rig, make_plan, vectors

STEPS = steps_of("masking")


@st.composite
def rounds(draw: st.DrawFn) -> tuple[secagg.Plan, dict[int, str]]:
    n = draw(st.integers(2, 12))
    complete = draw(st.booleans()) or n < 4
    degree = n - 1 if complete else draw(st.sampled_from(range(2, n - 1, 2)))
    lowest = 2 * n // 3 + 1 if degree == n - 1 else degree // 2 + 2
    threshold = draw(st.integers(max(lowest, 2), degree + 1))
    plan = make_plan(n, degree=degree, threshold=threshold, dropouts=draw(st.integers(0, n - 1)))
    dropouts = draw(st.dictionaries(st.integers(0, n - 1), st.sampled_from(STEPS), max_size=n))
    return plan, dropouts


def predicted(setup: Setup, dropouts: dict[int, str]) -> tuple[str, int, int] | list[int]:
    """Restate the rule independently: which close fails, how many it needed and had left; or who is in the sum."""
    n, t = setup.plan.clients, setup.plan.threshold
    reach = [
        {i for i in range(n) if STEPS.index(dropouts.get(i, "unmask")) + (i not in dropouts) > s} for s in range(4)
    ]
    advertised, shared, delivered, revealed = reach
    near = [set(setup.graph.neighbours(i).tolist()) for i in range(n)]

    def fewest(owners: set[int], holders: set[int]) -> int:
        return min((len(near[o] & holders) + (o in holders) for o in owners), default=0)

    if fewest(advertised, advertised) < t:
        return "advertised", t, fewest(advertised, advertised)
    if fewest(shared, shared) < t:
        return "shared", t, fewest(shared, shared)
    least = t if setup.plan.degree == n - 1 else n - setup.plan.dropouts
    if len(delivered) < least:
        return "delivered", least, len(delivered)
    owners = delivered | {o for o in shared - delivered if near[o] & delivered}
    if fewest(owners, delivered) < t:
        return "survive", t, fewest(owners, delivered)
    if fewest(owners, revealed) < t:
        return "sent shares", t, fewest(owners, revealed)
    return sorted(delivered)


@given(rounds())
@settings(max_examples=300)
def test_the_sum_is_exact_for_every_pattern_of_survivors_or_the_error_says_how_many_were_missing(
    case: tuple[secagg.Plan, dict[int, str]],
) -> None:
    plan, dropouts = case
    setup = Setup(plan=plan, roster=range(plan.clients), session=bytes(16), round=3, assume_honest_server=True)
    inputs = vectors(plan.clients)
    outcome = predicted(setup, dropouts)
    if isinstance(outcome, tuple):
        with pytest.raises(ThresholdError, match=outcome[0]) as caught:
            simulate(plan, inputs, dropouts=dropouts, session=bytes(16), round=3)
        assert (caught.value.needed, caught.value.survivors) == outcome[1:]
        return
    total = simulate(plan, inputs, dropouts=dropouts, session=bytes(16), round=3)
    assert total.survivors == tuple(outcome)
    assert set(total.survivors) | set(total.dropouts) == set(range(plan.clients))
    expected = [
        sum(column) % (1 << plan.modulus_bits) for column in zip(*(inputs[i].tolist() for i in outcome), strict=True)
    ]
    assert total.vector.tolist() == expected


@given(st.integers(1, 64), st.integers(1, 40), st.data())
@settings(max_examples=60)
def test_the_sum_is_exact_for_every_modulus_and_length(bits: int, length: int, data: st.DataObject) -> None:
    plan = secagg.Plan(clients=3, length=length, modulus_bits=bits, threshold=3, degree=2)
    values = st.lists(st.integers(0, (1 << bits) - 1), min_size=length, max_size=length)
    rows = [data.draw(values) for _ in range(3)]
    total = simulate(plan, {i: np.array(row, dtype=np.uint64) for i, row in enumerate(rows)})
    assert total.vector.tolist() == [sum(column) % (1 << bits) for column in zip(*rows, strict=True)]


def test_a_sparse_graph_and_a_complete_graph_give_the_same_sum() -> None:
    inputs = vectors(20)
    sums = [simulate(make_plan(20, degree=k), inputs).vector.tolist() for k in (6, 10, 19)]
    assert sums[0] == sums[1] == sums[2]


def test_four_hospitals_survive_one_dropping_out_in_any_round() -> None:
    codec = secagg.Encoding(dimension=14, clip=1.0, bits=16, clients=4, max_weight=199)
    plan = secagg.plan(codec)
    names = ["cleveland", "hungary", "switzerland", "va"]
    rng = np.random.default_rng(0)
    updates = {name: (rng.normal(0, 0.1, 14), weight) for name, weight in zip(names, (199, 172, 30, 85), strict=True)}
    inputs = {name: codec.encode(x, weight=w) for name, (x, w) in updates.items()}
    for step in STEPS:
        total = simulate(plan, inputs, dropouts={"hungary": step})
        there = [name for name in names if name != "hungary" or step == "unmask"]
        assert total.survivors == tuple(there)
        mean = sum(w * x for x, w in (updates[name] for name in there)) / sum(updates[name][1] for name in there)
        assert np.abs(codec.decode(total) - mean).max() < len(there) / 32767 * 199 / 287


def test_a_client_that_is_only_late_can_still_answer_while_the_round_is_open() -> None:
    rig = Rig(make_plan(4))
    rig.run(until="unmask")
    requests = rig.ask("unmask")
    for i in (0, 1):
        rig.server.receive(i, rig.answer("unmask", i))
    with pytest.raises(ThresholdError):
        rig.server.close_round()
    assert rig.server.waiting_for == (2, 3)
    rig.server.receive(3, rig.answer("unmask", 3))
    assert rig.server.close_round() == {}
    assert rig.server.total().vector.tolist() == rig.expected(requests)


def test_inputs_made_on_demand_are_asked_for_once_and_only_from_those_who_get_that_far() -> None:
    asked: list[int] = []

    def vector(client: int) -> Words:
        asked.append(client)
        return np.ones(5, dtype=np.uint64)

    total = simulate(make_plan(7), vector, dropouts={2: "share_keys", 4: "unmask"})
    assert sorted(asked) == [0, 1, 3, 4, 5, 6]
    assert total.vector.tolist() == [6] * 5


def test_names_and_numbers_can_share_a_roster_and_its_order_does_not_matter() -> None:
    codec = Counts(dimension=1, maximum=10, clients=4)
    names: list[ClientId] = ["zurich", 7, "basel", 0]
    inputs = {name: codec.encode(np.array([i + 1])) for i, name in enumerate(names)}
    total = simulate(secagg.plan(codec), inputs, dropouts={"zurich": "masked_input"})
    assert total.survivors == (0, 7, "basel")
    assert codec.decode(total).tolist() == [9]


def test_the_plain_baseline_sums_those_who_upload() -> None:
    plan = make_plan(4, masking="plain", threshold=1)
    total = simulate(plan, vectors(4), dropouts={1: "upload"})
    assert total.survivors == (0, 2, 3)
    assert total.vector.tolist() == np.sum([vectors(4)[i] for i in (0, 2, 3)], axis=0).tolist()
    with pytest.raises(ThresholdError):
        simulate(plan, vectors(4), dropouts=dict.fromkeys(range(4), "upload"))


@pytest.mark.parametrize("dropouts", [{9: "unmask"}, {0: "upload"}, {0: "lunch"}])
def test_dropouts_that_name_nobody_or_no_round_are_refused(dropouts: dict[int, str]) -> None:
    with pytest.raises(ValueError, match=r"dropout|drop out"):
        simulate(make_plan(4), vectors(4), dropouts=dropouts)


def test_a_vector_outside_the_plan_is_refused_before_anything_is_sent() -> None:
    inputs = vectors(4)
    for bad, error in (
        (np.full(5, 1 << 12, dtype=np.uint64), secagg.EncodingError),
        (np.zeros(6, dtype=np.uint64), ValueError),
        (np.zeros(5), TypeError),
    ):
        with pytest.raises(error):
            simulate(make_plan(4), inputs | {1: bad})
    assert 4 * CODEC_MAXIMUM < 1 << 12


def test_a_masked_input_looks_uniform_and_differs_in_every_round() -> None:
    plan = make_plan(4, length=40_000)
    seen = []
    for number in range(2):
        rig = Rig(plan, round=number, inputs={i: np.zeros(40_000, dtype=np.uint64) for i in range(4)})
        rig.run()
        seen += [np.frombuffer(rig.log["masked_input", "up", i][-60_016:-16], np.uint8) for i in range(4)]
    assert plan.modulus_bits == 12
    for octets in seen:
        counts = np.bincount(octets, minlength=256)
        expected = len(octets) / 256
        assert ((counts - expected) ** 2 / expected).sum() < 255 + 7 * (2 * 255) ** 0.5
    agreements = [np.mean(a == b) for i, a in enumerate(seen) for b in seen[:i]]
    assert max(agreements) < 0.01


def test_the_servers_memory_does_not_grow_with_the_number_of_clients() -> None:
    import tracemalloc

    def resident(n: int) -> float:
        """Peak of what the server allocates, in vectors of the plan's words."""
        length = 200_000
        ones = np.ones(length, dtype=np.uint64)
        rig = Rig(make_plan(n, degree=4, threshold=4, length=length), inputs=dict.fromkeys(range(n), ones))
        held = peak = 0

        def server(call: object, *args: object) -> None:
            nonlocal held, peak
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            call(*args)  # type: ignore[operator]
            after, top = tracemalloc.get_traced_memory()
            peak = max(peak, held + top - before)
            held += after - before

        for step in STEPS:
            server(rig.ask, step)
            for i in rig.outbox:
                if i == 1 and step in {"masked_input", "unmask"}:
                    continue
                answer = rig.clients[i].receive(rig.outbox[i])
                server(rig.server.receive, i, answer)
        server(rig.server.close_round)
        assert rig.server.total().vector.tolist()[:2] == [n - 1] * 2
        return peak / rig.server.total().vector.nbytes

    resident(6)  # compile kernels and fill caches first
    tracemalloc.start()
    try:
        few, many = resident(6), resident(24)
    finally:
        tracemalloc.stop()
    assert few < 8
    assert many < few + 0.5

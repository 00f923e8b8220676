"""Plans: safe by construction, with odds that hold up against enumeration and simulation."""

import time
from fractions import Fraction
from math import comb, log2
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

import secagg
from secagg import Counts, Encoding, Plan, PlanError, Setup, odds
from secagg.homomorphic.threshold_parameters import ThresholdParameters
from secagg.primitives.graph import Graph


def codec(n: int) -> Counts:
    return Counts(dimension=1, maximum=1, clients=n)


@given(st.integers(3, 300), st.floats(0, 0.3), st.floats(0, 0.5))
def test_complete_plans_exceed_two_thirds_and_every_round_within_the_dropouts_works(
    n: int, dropout: float, corrupted: float
) -> None:
    d, c = np.ceil(dropout * n - 1e-9), np.ceil(corrupted * n - 1e-9)
    try:
        plan = secagg.plan(codec(n), dropout=dropout, corrupted=corrupted, graph="complete")
    except PlanError:
        assert d > n - (2 * n // 3 + 1) or n - c - d < 2
        return
    assert n - c - d >= 2
    assert plan.is_complete
    assert 3 * plan.threshold > 2 * n
    assert plan.threshold + plan.dropouts <= n
    assert plan.corrupted < plan.threshold
    assert plan.privacy_bits is plan.failure_bits is None


@pytest.mark.parametrize(
    ("n", "degree"), [(4, 3), (20, 19), (50, 49), (100, 24), (200, 34), (1_000, 46), (10_000, 54), (1_000_000, 64)]
)
def test_auto_takes_the_complete_graph_for_consortia_and_a_sparse_one_for_crowds(n: int, degree: int) -> None:
    assert secagg.plan(codec(n)).degree == degree


def test_auto_falls_back_on_the_complete_graph_where_a_sparse_one_saves_little() -> None:
    plan = secagg.plan(codec(60), dropout=0.3, corrupted=0.2)
    assert plan.is_complete
    assert not secagg.plan(codec(60), dropout=0.3, corrupted=0.2, graph="sparse").is_complete


@pytest.mark.parametrize(
    ("n", "dropout", "corrupted"), [(60, 0.05, 0.05), (200, 0.1, 0.1), (1_000, 0.05, 0.2), (5_000, 0.3, 0.1)]
)
def test_stated_odds_are_the_exact_tails_under_a_union_bound(n: int, dropout: float, corrupted: float) -> None:
    plan = secagg.plan(codec(n), dropout=dropout, corrupted=corrupted, graph="sparse")
    c, d, k, t = plan.corrupted, plan.dropouts, plan.degree, plan.threshold
    captured = (n - c) * hypergeom.sf(t - 1, n - 1, c, k)
    torn = n * (n - k - 1) / 2 * float(Fraction(comb(c + d, k), comb(n, k)))
    lost = n * hypergeom.sf(k - t, n - 1, d, k)
    for stated, exact, asked in ((plan.privacy_bits, captured + torn, 40), (plan.failure_bits, lost, 20)):
        assert (stated is None) == (exact == 0)
        if stated is not None:
            assert stated == pytest.approx(-log2(exact), rel=1e-6)
            assert stated >= asked
    fewer = range(2, k, 2)  # no smaller degree would do, with a threshold that dropouts alone cannot tear
    assert not any(
        n * (n - j - 1) / 2 * float(Fraction(comb(c + d, j), comb(n, j))) <= 2**-41
        and (n - c) * hypergeom.sf(s - 1, n - 1, c, j) <= 2**-41
        and n * hypergeom.sf(j - s, n - 1, d, j) <= 2**-20
        for j in fewer
        for s in range(j // 2 + 2, j + 1)
    )


def connected(graph: Graph, alive: set[int]) -> bool:
    start = next(iter(alive))
    reached, frontier = {start}, [start]
    while frontier:
        for other in graph.neighbours(frontier.pop()).tolist():
            if other in alive and other not in reached:
                reached.add(other)
                frontier.append(other)
    return reached == alive


def test_the_connectivity_bound_holds_in_simulation() -> None:
    # Parameters far from safe, so that graphs do tear: the bound must lie above the frequency seen.
    n, k, removed, draws = 30, 4, 6, 4_000
    torn = 0
    for draw in range(draws):
        graph = Graph.derive(n, k, randomness=draw.to_bytes(32, "little"))
        torn += not connected(graph, set(range(removed, n)))
    bound = 2 ** odds._disconnected(n, removed, k)
    assert 0.01 < torn / draws <= bound < 1


def test_the_share_bounds_hold_in_simulation() -> None:
    n, k, marked, t, draws = 30, 6, 10, 5, 4_000
    captured = lost = 0
    for draw in range(draws):
        graph = Graph.derive(n, k, randomness=draw.to_bytes(32, "little"))
        counts = [int((graph.neighbours(i) < marked).sum()) for i in range(n)]
        captured += max(counts[marked:]) >= t
        lost += max(counts[marked:]) > k - 2
    assert 0.01 < captured / draws <= 2 ** odds.sparse_odds(n, marked, 0, k, t, malicious=False).captured < 1
    assert 0.01 < lost / draws <= n * 2 ** odds._log2_upper_tails(n - 1, marked, k)[k - 1]


@given(st.integers(1, 60), st.data())
def test_tails_are_exact(population: int, data: st.DataObject) -> None:
    marked = data.draw(st.integers(0, population))
    draws = data.draw(st.integers(0, population))
    at_least = data.draw(st.integers(0, draws + 1))
    exact = sum(comb(marked, j) * comb(population - marked, draws - j) for j in range(at_least, draws + 1)) / comb(
        population, draws
    )
    got = odds._log2_upper_tails(population, marked, draws)[at_least]
    assert 2**got == pytest.approx(exact, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"dropout": 1.0}, r"dropout is a share"),
        ({"dropout": -0.1}, r"dropout is a share"),
        ({"corrupted": 1.5}, r"corrupted is a share"),
        ({"dropout": 0.5, "corrupted": 0.0}, r"at most 1 may drop out; asked for 2"),
        ({"corrupted": 0.75}, r"leave 0: a sum over fewer than 2 honest clients hides nothing"),
        ({"dropout": 0.5}, r"leave 1: a sum over fewer than 2"),
        ({"dropout": float("nan")}, r"dropout is a share"),
        ({"graph": "dense"}, r"graph must be one of auto, complete, sparse, got 'dense'"),
        ({"masking": "wishful"}, r"masking must be one of"),
        ({"security_bits": 0}, r"at least 1 bit"),
        ({"correctness_bits": -3}, r"at least 1 bit"),
        ({"security_bits": float("nan")}, r"at least 1 bit"),
        ({"rounds": 0}, r"rounds must be an integer of at least 1, got 0"),
        ({"rounds": 1.5}, r"rounds must be an integer"),
        ({"rounds": True}, r"rounds must be an integer"),
        ({"server": "evil"}, r"server must be one of semi-honest, malicious, got 'evil'"),
        ({"server": "malicious", "graph": "sparse"}, r"no sparse graph"),
        ({"directory": 3}, r"directory holds at least the 4 clients"),
        ({"directory": 40, "corrupted": 0.1}, r"leave 0: a sum over fewer than 2 honest clients"),
        ({"server": "malicious", "masking": "plain"}, r"plain sum hides nothing from any server"),
        ({"server": "malicious", "dropout": 0.5, "corrupted": 0.0}, r"at most 1 may drop out; asked for 2"),
        ({"server": "malicious", "corrupted": 0.5}, r"leave 1: a sum over fewer than 2"),
        ({"graph": "sparse"}, r"no sparse graph"),
    ],
)
def test_impossible_wishes_are_refused_with_what_would_work(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(PlanError, match=match):
        secagg.plan(codec(4), **arguments)


@pytest.mark.parametrize(
    "change",
    [
        {"clients": 1, "degree": 0, "threshold": 1},
        {"threshold": 6},
        {"threshold": 11},
        {"threshold": 1},
        {"degree": 3, "threshold": 2},
        {"degree": 0, "threshold": 2},
        {"degree": 10, "threshold": 2},
        {"modulus_bits": 65},
        {"modulus_bits": 0},
        {"length": 0},
        {"length": 1 << 40},
        {"masking": "wishful"},
        {"degree": 6, "threshold": 4},  # a sparse graph that dropouts alone can tear
        {"clients": 10.0},
        {"threshold": True},
        {"dropouts": -1},
        {"corrupted": "1"},
        {"clients": (1 << 24) + 1, "degree": 1 << 24, "threshold": 1 << 24},
    ],
)
def test_unsafe_or_impossible_parameters_cannot_be_constructed(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"clients": 10, "length": 1, "modulus_bits": 8, "threshold": 7, "degree": 9}
    assert Plan(**good).is_complete
    with pytest.raises(PlanError):
        Plan(**(good | change))


def test_parameter_hashes_tell_apart_everything_that_changes_a_message() -> None:
    base: dict[str, Any] = {
        "clients": 10,
        "length": 4,
        "modulus_bits": 8,
        "threshold": 7,
        "degree": 9,
        "encoding": b"a",
    }
    changes: list[dict[str, Any]] = [
        {},
        {"clients": 9, "degree": 8},
        {"length": 5},
        {"modulus_bits": 9},
        {"threshold": 8},
        {"degree": 8},
        {"encoding": b"b"},
        {"masking": "plain"},
        {"dropouts": 2},  # below n - 2 masked inputs a sparse graph's sum is not opened
    ]
    assert len({Plan(**(base | change)).digest for change in changes}) == len(changes)
    assert Plan(**base, corrupted=2, privacy_bits=3.0).digest == Plan(**base).digest  # odds are not parameters


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"roster": [0, 1, 2]}, PlanError),
        ({"roster": [0, 1, 2, 2]}, PlanError),
        ({"roster": [0, 1, 2, -1]}, PlanError),
        ({"roster": [0, 1, 2, 1 << 64]}, PlanError),
        ({"roster": [0, 1, 2, ""]}, PlanError),
        ({"roster": [0, 1, 2, "x" * 300]}, PlanError),
        ({"roster": [0, 1, 2, True]}, TypeError),
        ({"roster": [0, 1, 2, 3.0]}, TypeError),
        ({"session": b"short"}, PlanError),
        ({"session": bytes(65)}, PlanError),
        ({"round": -1}, PlanError),
        ({"round": 1 << 63}, PlanError),
    ],
)
def test_bad_setups_are_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    good: dict[str, Any] = {
        "plan": secagg.plan(codec(4)),
        "roster": range(4),
        "session": bytes(16),
        "round": 0,
        "assume_honest_server": True,
    }
    Setup(**good)
    with pytest.raises(error):
        Setup(**(good | arguments))


def test_setups_agree_on_the_roster_whatever_order_it_came_in() -> None:
    plan = secagg.plan(codec(4))
    one = Setup(plan=plan, roster=["b", 3, "a", 1], session=bytes(16), round=0, assume_honest_server=True)
    two = Setup(plan=plan, roster=[1, "a", "b", 3], session=bytes(16), round=0, assume_honest_server=True)
    assert one.roster == (1, 3, "a", "b")
    assert one.digest == two.digest
    assert (
        one.digest
        != Setup(plan=plan, roster=[1, 3, "a", "c"], session=bytes(16), round=0, assume_honest_server=True).digest
    )


def test_new_sessions_differ() -> None:
    assert len({secagg.new_session() for _ in range(50)}) == 50


def test_a_plan_holds_what_the_codec_says() -> None:
    encoding = Encoding(dimension=9, clip=1.0, bits=12, clients=8, max_weight=5)
    plan = secagg.plan(encoding)
    assert (plan.clients, plan.length, plan.modulus_bits, plan.encoding) == (
        8,
        10,
        encoding.modulus_bits,
        encoding.digest,
    )


@given(
    st.integers(60, 3_000), st.integers(10, 60), st.integers(0, 20), st.integers(0, 20), st.sampled_from([0.05, 0.2])
)
def test_more_rounds_and_more_bits_never_take_fewer_neighbours(
    n: int, bits: int, more_bits: int, log2_rounds: int, share: float
) -> None:
    def planned(security_bits: int, rounds: int) -> Plan | None:
        try:
            return secagg.plan(
                codec(n), dropout=share, corrupted=share, graph="sparse", security_bits=security_bits, rounds=rounds
            )
        except PlanError:
            return None

    one = planned(bits, 1)
    stricter = planned(bits + more_bits, 3 << log2_rounds)
    if stricter is not None:
        assert one is not None
        assert one.degree <= stricter.degree
        if stricter.privacy_bits is not None:
            assert stricter.privacy_bits - log2(3 << log2_rounds) >= bits + more_bits
    # The union bound: 2^r rounds at s bits ask of one round what s + r bits ask.
    assert planned(bits, 1 << log2_rounds) == planned(bits + log2_rounds, 1)


def test_a_hundred_thousand_rounds_cost_some_neighbours_where_odds_are_involved_and_nothing_where_not() -> None:
    one, many = secagg.plan(codec(1_000)), secagg.plan(codec(1_000), rounds=100_000)
    assert (one.degree, many.degree) == (46, 54)
    hospitals = Plan(
        clients=4, length=1, modulus_bits=3, threshold=3, degree=3, dropouts=1, corrupted=1, encoding=codec(4).digest
    )
    assert secagg.plan(codec(4)) == secagg.plan(codec(4), rounds=100_000) == hospitals


@pytest.mark.parametrize("share", [0.1, 1 / 3])
def test_a_million_phones_are_answered_within_a_second(share: float) -> None:
    start = time.perf_counter()
    assert 60 < secagg.plan(codec(1_000_000), dropout=share, corrupted=share, rounds=1_000).degree < 600
    assert time.perf_counter() - start < 1


def test_more_corrupted_clients_than_shares_needed_are_refused_on_the_complete_graph() -> None:
    with pytest.raises(PlanError, match="24 corrupted clients would hold 21 shares of every secret"):
        secagg.plan(codec(30), corrupted=0.8, dropout=0.05)


def test_a_search_without_an_end_is_given_up() -> None:
    with pytest.raises(PlanError, match="no sparse graph of up to 8192 neighbours"):
        secagg.plan(codec(1_000_000), dropout=0.4, corrupted=0.55, graph="sparse")


@given(st.integers(2, 300), st.floats(0, 0.4), st.floats(0, 0.9))
def test_plans_against_a_malicious_server_take_the_smallest_threshold_that_no_split_can_meet(
    n: int, dropout: float, corrupted: float
) -> None:
    d, c = (int(np.ceil(share * n - 1e-9)) for share in (dropout, corrupted))
    least = next(t for t in range(2, n + 2) if 3 * t > 2 * n and 2 * t > n + c)
    if n - c - d < 2 or d > n - least:
        match = "hides nothing" if n - c - d < 2 else f"at most {n - least} may drop out; asked for {d}"
        with pytest.raises(PlanError, match=match):
            secagg.plan(codec(n), dropout=dropout, corrupted=corrupted, server="malicious", graph="complete")
        return
    plan = secagg.plan(codec(n), dropout=dropout, corrupted=corrupted, server="malicious", graph="complete")
    assert (plan.server, plan.degree, plan.threshold) == ("malicious", n - 1, least)
    assert plan.privacy_bits is plan.failure_bits is None


def test_against_a_malicious_server_a_consortium_gets_the_complete_graph() -> None:
    assert secagg.plan(codec(50), server="malicious").is_complete
    assert secagg.plan(codec(30), corrupted=0.5).threshold == 21  # 2n/3 decides
    assert secagg.plan(codec(30), corrupted=0.5, server="malicious").threshold == 23  # (n + c)/2 does


@pytest.mark.parametrize(("asked", "gets"), [(20, 40), (60, 60)])
def test_noise_of_lattice_masks_is_planned_for_the_correctness_asked_and_never_for_less_than_40_bits(
    asked: int, gets: int
) -> None:
    wide = secagg.Counts(dimension=100_000, maximum=(1 << 22) - 1, clients=1_000)
    plan = secagg.plan(wide, masking="lattice", correctness_bits=asked)
    assert plan.lattice is not None
    assert plan.lattice.correctness_bits == gets
    assert plan.lattice.failure_bits >= gets


def test_a_threshold_sum_that_noise_loses_too_often_is_not_planned() -> None:
    wide = secagg.Counts(dimension=1_000_000, maximum=(1 << 25) - 1, clients=100)
    key = ThresholdParameters.of(secagg.plan(wide, masking="threshold"))
    most = int(key.lost_bits)
    assert 40 <= key.lost_bits <= key.failure_bits
    assert secagg.plan(wide, masking="threshold", correctness_bits=most).masking == "threshold"
    with pytest.raises(PlanError, match=f"correctness_bits of at most {most}"):
        secagg.plan(wide, masking="threshold", correctness_bits=most + 1)


def test_noise_of_ckks_is_not_planned_for_less_than_it_is() -> None:
    assert secagg.plan(codec(6), masking="ckks", corrupted=0, correctness_bits=128).masking == "ckks"
    with pytest.raises(PlanError, match="correctness_bits of at most 128"):
        secagg.plan(codec(6), masking="ckks", corrupted=0, correctness_bits=129)


@pytest.mark.parametrize("masking", ["threshold", "ckks", "plain"])
def test_a_graph_that_no_mask_follows_is_refused(masking: Any) -> None:
    with pytest.raises(PlanError, match="no graph of masks: leave graph out"):
        secagg.plan(codec(6), masking=masking, corrupted=0, graph="sparse")
    assert secagg.plan(codec(6), masking=masking, corrupted=0, graph="complete").is_complete


def test_masks_against_quantum_attacks_take_hybrid_keys() -> None:
    with pytest.raises(PlanError, match=r"take key_agreement='x25519\+ml-kem-768'"):
        secagg.plan(codec(6), post_quantum=True)
    assert secagg.plan(codec(6), post_quantum=True, key_agreement="x25519+ml-kem-768").masking == "masking"


def test_a_threshold_key_is_planned_for_so_many_clients() -> None:
    assert secagg.plan(codec(100), masking="threshold").clients == 100
    with pytest.raises(PlanError, match="at most 100 clients, got 101: take masking='lattice'"):
        secagg.plan(codec(101), masking="threshold")


def test_a_threshold_key_is_not_planned_against_quantum_attacks() -> None:
    with pytest.raises(PlanError, match="take masking='lattice' with post_quantum=True"):
        secagg.plan(codec(6), masking="threshold", post_quantum=True)

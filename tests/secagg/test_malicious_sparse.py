"""Sparse graphs against a server that may do anything: what `secagg.odds` proves, by enumeration and by lying."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secagg
from secagg import Counts, FaultyServerError, Plan, PlanError, SuspectedPeerError, ThresholdError
from secagg.masking.messages import PeerKeys, PeerShares, PeerSignatures, Survivors, from_bitmap, to_bitmap
from secagg.odds import GRINDING_BITS, log2_sum, sparse_odds
from secagg.primitives.graph import Graph, draw
from secagg.primitives.merkle import MerkleTree, path_bytes, root_of
from secagg.transitions import steps_of
from secagg.wire import decode, encode
from tests.secagg.rig import Rig, make_plan

STEPS = steps_of("masking", "malicious")
PLAN = make_plan(12, degree=6, threshold=5, server="malicious", dropouts=4)


def codec(n: int) -> Counts:
    return Counts(dimension=1, maximum=1, clients=n)


def at(step: str, drop: dict[int, str] | None = None, plan: Plan = PLAN) -> Rig:
    rig = Rig(plan, round=1)
    rig.run(until=step, drop=drop)
    rig.ask(step)
    return rig


def changed(rig: Rig, kind: Any, client: int, **fields: Any) -> bytes:
    """A request of the server with some fields replaced."""
    message = decode(kind, rig.outbox[client], rig.setup)
    known = {name: getattr(message, name) for name in message.__struct_fields__}
    return encode(kind(**{**known, **fields}), rig.setup)


def others(client: int, members: set[int], n: int = 12) -> bytes:
    """A bitmap over everyone but one client."""
    return to_bitmap(np.isin(np.delete(np.arange(n), client), sorted(members)))


def sums_that_open(graph: Graph, corrupted: set[int], threshold: int, survivors: set[int]) -> list[set[int]]:
    """The honest survivors' connected parts all of whose self masks a server can open that shows these survivors."""
    honest = survivors - corrupted
    holders = {v: {v, *graph.neighbours(v).tolist()} & (honest | corrupted) for v in honest}
    parts, left = [], set(honest)
    while left:
        part, frontier = set(), {left.pop()}
        while frontier:
            part |= frontier
            frontier = {w for v in frontier for w in graph.neighbours(v).tolist() if w in honest} - part
        left -= part
        if all(len(holders[v]) >= threshold for v in part):
            parts.append(part)
    return parts


def worst(graph: Graph, corrupted: set[int], n: int, k: int) -> tuple[int, int]:
    """The most corrupted neighbours of an honest client, and the most among its k/2 next clockwise."""
    ring = graph._ring.tolist()
    near, ahead = 0, 0
    for place, v in enumerate(ring):
        if v not in corrupted:
            near = max(near, len(corrupted & set(graph.neighbours(v).tolist())))
            ahead = max(ahead, len(corrupted & {ring[(place + i) % n] for i in range(1, k // 2 + 1)}))
    return near, ahead


@pytest.mark.parametrize("corrupted", [set(), {3}, {3, 7}, {1, 2, 3}])
def test_whichever_survivors_a_server_shows_only_their_whole_sum_opens(corrupted: set[int]) -> None:
    n, k = 12, 6
    torn_below = False
    for seed in range(3):
        graph = Graph.derive(n, k, randomness=bytes([seed]) * 32)
        _, ahead = worst(graph, corrupted, n, k)
        least = k // 2 + 2 + ahead  # condition (iii)
        for size in range(2, n + 1):
            for chosen in combinations(range(n), size):
                survivors = set(chosen)
                for part in sums_that_open(graph, corrupted, least, survivors):
                    assert part == survivors - corrupted
                torn_below |= any(
                    part != survivors - corrupted for part in sums_that_open(graph, corrupted, least - 1, survivors)
                )
    assert torn_below or corrupted  # one share fewer, and the server could tear some graph


def test_the_stated_odds_cover_the_frequency_of_bad_graphs() -> None:
    n, k, t, c, draws = 40, 8, 7, 6, 3_000
    corrupted, bad = set(range(c)), 0
    for seed in range(draws):
        randomness = seed.to_bytes(32, "little")
        near, ahead = worst(Graph.derive(n, k, randomness=randomness), corrupted, n, k)
        signers = len(corrupted & set(draw(n, k + 1, randomness=randomness).tolist()))
        bad += 2 * t <= k + 1 + max(near, signers) or t <= k // 2 + 1 + ahead
    odds = sparse_odds(n, c, 0, k, t, malicious=True)
    assert 0.02 < bad / draws <= 2 ** (log2_sum(odds.captured, odds.torn) - GRINDING_BITS)


@pytest.mark.parametrize(("n", "dropout", "corrupted"), [(300, 0.05, 0.05), (1_000, 0.1, 0.1), (10_000, 0.05, 0.05)])
def test_crowds_get_sparse_plans_whose_odds_hold_after_many_tries(n: int, dropout: float, corrupted: float) -> None:
    plan = secagg.plan(codec(n), dropout=dropout, corrupted=corrupted, server="malicious")
    assert plan.keys_draw_graph
    assert 2 * plan.degree < n
    odds = sparse_odds(n, plan.corrupted, plan.dropouts, plan.degree, plan.threshold, malicious=True)
    assert log2_sum(odds.captured, odds.torn) <= -40
    assert odds.lost <= -20
    trusting = secagg.plan(codec(n), dropout=dropout, corrupted=corrupted)
    assert plan.degree > trusting.degree
    smaller = {"degree": plan.degree - 2, "threshold": plan.threshold - 2}
    assert sparse_odds(n, plan.corrupted, plan.dropouts, *smaller.values(), malicious=True).torn > odds.torn


def test_a_plan_that_overstates_its_privacy_cannot_be_made() -> None:
    shape: dict[str, Any] = {"clients": 1_000, "length": 5, "modulus_bits": 8, "server": "malicious"}
    with pytest.raises(PlanError, match="leave privacy 0 bits against a malicious server with 100 corrupted"):
        Plan(**shape, degree=40, threshold=30, corrupted=100, privacy_bits=128.0)
    with pytest.raises(PlanError, match="security_bits of at least 40"):
        secagg.plan(codec(1_000), server="malicious", security_bits=30)


def test_a_server_that_picks_the_cohort_is_counted_as_picking_its_own() -> None:
    pinned = secagg.plan(codec(1_000), corrupted=0.01, server="malicious")
    picked = secagg.plan(codec(1_000), corrupted=0.01, server="malicious", directory=10_000)
    assert (pinned.corrupted, picked.corrupted) == (10, 100)
    assert picked.degree > pinned.degree


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_sums_are_exact_whoever_vanishes_whenever(data: st.DataObject) -> None:
    k = data.draw(st.sampled_from([4, 6, 8]))
    n = data.draw(st.integers(k + 2, 14))
    plan = make_plan(n, degree=k, server="malicious", dropouts=n - 1)
    drop = data.draw(st.dictionaries(st.integers(0, n - 1), st.sampled_from(STEPS), max_size=3))
    rig = Rig(plan, session=data.draw(st.binary(min_size=16, max_size=16)))
    try:
        rig.run(drop=drop)
    except ThresholdError:
        assert drop
        return
    survivors = [i for i in range(n) if STEPS.index(drop.get(i, "unmask")) > STEPS.index("masked_input")]
    assert rig.server.total().survivors == tuple(survivors)
    assert rig.server.total().vector.tolist() == rig.expected(survivors)


def test_every_client_finds_its_own_fresh_keys_under_the_root() -> None:
    rig = at("share_keys")
    proofs = {i: decode(PeerKeys, rig.outbox[i], rig.setup).proof for i in range(12)}
    assert len({proof[:32] for proof in proofs.values()}) == 1
    with pytest.raises(FaultyServerError, match="keys that ours are not among"):
        rig.clients[3].receive(changed(rig, PeerKeys, 3, proof=proofs[4]))
    with pytest.raises(FaultyServerError, match="expected a root and a path of 160 bytes, got 0"):
        rig.clients[3].receive(changed(rig, PeerKeys, 3, proof=b""))
    honest = Rig(PLAN, round=1)  # other keys of the same clients: their root draws another graph
    honest.run(until="share_keys")
    with pytest.raises(FaultyServerError, match="keys that ours are not among"):
        rig.clients[3].receive(honest.ask("share_keys")[3])
    rig.clients[3].receive(rig.outbox[3])


def test_clients_shown_two_roots_cannot_read_each_others_shares() -> None:
    rig = at("share_keys")
    advertised = {i: rig.log["advertise_keys", "up", i] for i in range(12)}
    keys = {i: decode(secagg.masking.messages.AdvertiseKeys, data, rig.setup) for i, data in advertised.items()}
    public = {i: message.sealing_key + message.mask_key for i, message in keys.items()}
    tree = MerkleTree(12, public | {11: bytes(64)})  # the server would rather have this graph
    other = rig.setup.keyed(tree.root)
    neighbours = other.graph.neighbours(3).tolist()
    shown = b"".join(public[i] + keys[i].signature for i in neighbours)
    lie = changed(rig, PeerKeys, 3, keys=shown, present=to_bitmap(np.ones(6, bool)), proof=tree.root + tree.path(3))
    for i in range(12):
        answer = rig.clients[i].receive(lie if i == 3 else rig.outbox[i])
        if i != 3:
            rig.server.receive(i, answer)
    fooled = decode(secagg.masking.messages.ShareKeys, rig.clients[3].receive(lie), rig.setup)
    honest = rig.server._state.setup
    both = [i for i in neighbours if 3 in honest.graph.neighbours(i).tolist()]
    assert both  # someone is a neighbour in both graphs, and is handed what the fooled client sealed to it
    requests = rig.server.close_round()
    request = decode(PeerShares, requests[both[0]], rig.setup)
    told = from_bitmap(request.present, np.delete(np.arange(12), both[0]))
    peers = sorted([*(i for i in told if i in honest.graph.neighbours(both[0]).tolist()), 3])
    size = len(request.sealed) // (len(peers) - 1)
    bundle = fooled.sealed[128 * neighbours.index(both[0]) :][:128] + fooled.hashes[:64]
    where = size * peers.index(3)
    forged = request.sealed[:where] + bundle + request.sealed[where:]
    present = others(both[0], {*told, 3})
    message = encode(PeerShares(both[0], present, forged, b""), rig.setup)
    with pytest.raises(SuspectedPeerError, match="sealed by a peer are unusable"):
        rig.clients[both[0]].receive(message)


def test_masks_of_clients_told_of_different_sharers_do_not_cancel() -> None:
    rig = at("masked_input", drop={5: "masked_input"})
    victim = 0
    state = rig.server._state.setup
    stranger = next(i for i in range(1, 12) if i not in state.graph.neighbours(victim).tolist())
    everyone = set(range(12))
    for i in range(12):
        lie = changed(rig, PeerShares, victim, present=others(victim, everyone - {stranger}))
        rig.server.receive(i, rig.clients[i].receive(lie if i == victim else rig.outbox[i]))
    rig.ask("consistency_check")
    # The victim is shown a survivor that, as it was told, never shared; without that lie it signs something else.
    with pytest.raises(FaultyServerError, match="did not share"):
        rig.clients[victim].receive(rig.outbox[victim])
    signed = {i: rig.clients[i].receive(rig.outbox[i]) for i in range(1, 12)}
    for i, answer in signed.items():
        rig.server.receive(i, answer)
    for i, request in rig.ask("unmask").items():
        rig.server.receive(i, rig.clients[i].receive(request))
    rig.server.close_round()
    total = rig.server.total()
    assert total.survivors == tuple(range(12))  # all but the victim agreed, and its self mask opened, but
    assert total.vector.tolist() != rig.expected(range(12))  # its masks stay: the sum is noise


def test_survivors_told_to_one_client_alone_open_nothing() -> None:
    rig = at("consistency_check")
    outsider = next(i for i in range(1, 12) if i not in rig.setup.committee)
    lie = changed(rig, Survivors, 0, present=others(0, set(range(12)) - {outsider}))
    for i in range(12):
        answer = rig.clients[i].receive(lie if i == 0 else rig.outbox[i])
        if i != 0:
            rig.server.receive(i, answer)
    shown = decode(PeerSignatures, rig.ask("unmask")[1], rig.setup)
    with pytest.raises(FaultyServerError, match="has not signed the same survivors"):
        rig.clients[0].receive(encode(PeerSignatures(0, shown.present, shown.signatures), rig.setup))


@pytest.mark.parametrize(
    ("dropped", "survivors", "error", "match"),
    [
        ({11: "share_keys"}, set(range(12)), FaultyServerError, "did not share"),
        ({}, set(range(12)) - {1, 2, 3, 4, 5}, ThresholdError, "masked input|share holders"),
        ({}, set(), ThresholdError, "share holders"),
    ],
)
def test_survivors_that_cannot_be_are_refused(
    dropped: dict[int, str], survivors: set[int], error: type[Exception], match: str
) -> None:
    rig = at("consistency_check", drop=dropped)
    for client in sorted(set(range(11)) & (survivors or {0})):
        with pytest.raises(error, match=match):
            rig.clients[client].receive(changed(rig, Survivors, client, present=others(client, survivors)))


def test_a_client_reveals_nothing_on_fewer_signatures_than_the_threshold() -> None:
    rig = at("consistency_check")
    for i in range(12):
        rig.server.receive(i, rig.clients[i].receive(rig.outbox[i]))
    rig.ask("unmask")
    message = decode(PeerSignatures, rig.outbox[2], rig.setup)
    signers = from_bitmap(message.present, rig.setup.committee)
    assert len(signers) == PLAN.threshold
    assert set(signers) <= set(rig.setup.committee.tolist())
    kept = to_bitmap(np.isin(rig.setup.committee, signers[:-1]))
    with pytest.raises(ThresholdError):
        rig.clients[2].receive(changed(rig, PeerSignatures, 2, present=kept, signatures=message.signatures[:-64]))
    swapped = message.signatures[64:128] + message.signatures[:64] + message.signatures[128:]
    with pytest.raises(FaultyServerError, match="has not signed"):
        rig.clients[2].receive(changed(rig, PeerSignatures, 2, signatures=swapped))
    rig.clients[2].receive(rig.outbox[2])


def test_a_committee_that_vanished_keeps_the_round_open() -> None:
    rig = at("consistency_check")
    committee = rig.setup.committee.tolist()
    late = committee[: len(committee) - PLAN.threshold + 1]
    for i in range(12):
        if i not in late:
            rig.server.receive(i, rig.clients[i].receive(rig.outbox[i]))
    with pytest.raises(ThresholdError):
        rig.server.close_round()
    rig.server.receive(late[0], rig.clients[late[0]].receive(rig.outbox[late[0]]))
    assert len(rig.server.close_round()) == 12 - len(late) + 1


def test_the_graph_is_unknown_until_keys_are_and_the_committee_is_not() -> None:
    rig = Rig(PLAN)
    with pytest.raises(PlanError, match="drawn once all keys are advertised"):
        _ = rig.setup.graph
    one, two = rig.setup.keyed(bytes(32)), rig.setup.keyed(bytes([1]) * 32)
    assert one.digest != two.digest != rig.setup.digest
    assert any(set(one.graph.neighbours(i)) != set(two.graph.neighbours(i)) for i in range(12))
    assert one.committee.tolist() == two.committee.tolist() == rig.setup.committee.tolist()
    assert rig.setup.keyed(bytes([1]) * 32) is two


@given(st.integers(1, 40), st.data())
def test_a_path_leads_to_the_root_from_its_own_leaf_only(n: int, data: st.DataObject) -> None:
    leaves = data.draw(st.dictionaries(st.integers(0, n - 1), st.binary(min_size=1, max_size=4)))
    tree = MerkleTree(n, leaves)
    position = data.draw(st.integers(0, n - 1))
    leaf, path = leaves.get(position, b""), tree.path(position)
    assert root_of(n, position, leaf, path) == tree.root
    assert root_of(n, position, leaf + b"\0", path) != tree.root
    if n > 1:
        elsewhere = data.draw(st.integers(0, n - 1).filter(lambda i: i != position))
        assert root_of(n, elsewhere, leaf, path) != tree.root
    with pytest.raises(ValueError, match=f"{path_bytes(n)} bytes"):
        root_of(n, position, leaf, path + b"\0")

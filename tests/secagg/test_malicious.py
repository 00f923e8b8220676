"""A server that may do anything: it is caught before a client reveals a share, and an honest one still gets the sum."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secagg
from secagg import (
    Counts,
    DecodeError,
    FaultyClientError,
    FaultyServerError,
    RemoteProtocolError,
    Setup,
    ThresholdError,
    simulate,
)
from secagg.masking.messages import ConsistencyCheck, PeerKeys, PeerSignatures, Survivors, UnmaskShares, to_bitmap
from secagg.setups import model_digest
from secagg.signatures import verify_signature
from secagg.simulated_keys import make_keys
from secagg.transitions import steps_of
from secagg.wire import decode, encode
from tests.secagg.malicious_rig import PLAN, at
from tests.secagg.rig import Pinned, Rig, identity_of, make_plan, vectors

STEPS = steps_of("masking", "malicious")


def bitmap(rig: Rig, client: int, members: set[int]) -> bytes:
    """A bitmap over the neighbours of a client."""
    neighbours = rig.setup.graph.neighbours(client)
    return to_bitmap(np.isin(neighbours, sorted(members)))


@st.composite
def rounds(draw: st.DrawFn) -> tuple[secagg.Plan, dict[int, str]]:
    n = draw(st.integers(2, 9))
    corrupted = draw(st.integers(0, n - 2))
    least = max((n + corrupted) // 2 + 1, 2 * n // 3 + 1, 2)
    plan = make_plan(n, threshold=draw(st.integers(least, n)), server="malicious", corrupted=corrupted)
    return plan, draw(st.dictionaries(st.integers(0, n - 1), st.sampled_from(STEPS), max_size=n))


@given(rounds())
@settings(max_examples=150)
def test_under_an_honest_server_the_sum_is_exact_or_the_error_says_how_many_were_missing(
    case: tuple[secagg.Plan, dict[int, str]],
) -> None:
    plan, dropouts = case
    inputs = vectors(plan.clients)
    reach = [
        {i for i in range(plan.clients) if STEPS.index(dropouts.get(i, "unmask")) + (i not in dropouts) > s}
        for s in range(5)
    ]
    names = ("advertised", "shared", "delivered", "signed", "sent shares")
    for who, name in zip(reach, names, strict=True):
        if len(who) < plan.threshold:
            with pytest.raises(ThresholdError, match=name) as caught:
                simulate(plan, inputs, dropouts=dropouts)
            assert (caught.value.needed, caught.value.survivors) == (plan.threshold, len(who))
            return
    total = simulate(plan, inputs, dropouts=dropouts)
    survivors = sorted(reach[2])
    assert total.survivors == tuple(survivors)
    expected = [
        sum(column) % (1 << plan.modulus_bits) for column in zip(*(inputs[i].tolist() for i in survivors), strict=True)
    ]
    assert total.vector.tolist() == expected


def test_a_server_that_shows_two_survivor_sets_gets_no_share_from_anyone() -> None:
    rig = at("consistency_check")
    told = {i: {0, 1, 2, 3, 4} if i < 2 else {1, 2, 3, 4} for i in range(1, 5)}
    signatures = {}
    for i, alive in told.items():
        request = encode(Survivors(i, bitmap(rig, i, alive - {i})), rig.setup)
        signatures[i] = decode(ConsistencyCheck, rig.clients[i].receive(request), rig.setup).signature
    for i in told:
        peers = sorted(told.keys() - {i})
        answer = PeerSignatures(i, bitmap(rig, i, set(peers)), b"".join(signatures[peer] for peer in peers))
        with pytest.raises(FaultyServerError, match="not signed the same survivors") as caught:
            rig.clients[i].receive(encode(answer, rig.setup))
        assert caught.value.culprits == ("server",)


def test_with_fewer_than_t_signatures_nothing_is_revealed() -> None:
    rig = at("unmask")
    message = decode(PeerSignatures, rig.outbox[2], rig.setup)
    neighbours = rig.setup.graph.neighbours(2)
    assert rig.plan.threshold == 4
    few = encode(PeerSignatures(2, bitmap(rig, 2, {0, 1}), message.signatures[:128]), rig.setup)
    with pytest.raises(ThresholdError, match="signed who survived"):
        rig.clients[2].receive(few)
    assert len(neighbours) == 4
    rig.answer("unmask", 2)  # the genuine message is still accepted


def test_a_signature_of_someone_who_did_not_survive_does_not_count() -> None:
    rig = at("unmask", drop={4: "masked_input"})
    message = decode(PeerSignatures, rig.outbox[2], rig.setup)
    present = bitmap(rig, 2, {0, 1, 4})
    with pytest.raises(FaultyServerError, match="did not survive"):
        rig.clients[2].receive(encode(PeerSignatures(2, present, message.signatures), rig.setup))


@pytest.mark.parametrize("change", ["flip", "zero", "another client's", "of another round"])
def test_forged_signatures_are_refused(change: str) -> None:
    rig = at("unmask")
    message = decode(PeerSignatures, rig.outbox[2], rig.setup)
    signatures = message.signatures
    other = Rig(PLAN, round=2)
    other.run(until="unmask")
    other.ask("unmask")
    forged = {
        "flip": bytes([signatures[0] ^ 1]) + signatures[1:],
        "zero": bytes(64) + signatures[64:],
        "another client's": signatures[64:128] + signatures[64:],
        "of another round": decode(PeerSignatures, other.outbox[2], other.setup).signatures,
    }[change]
    with pytest.raises(FaultyServerError, match="has not signed the same"):
        rig.clients[2].receive(encode(PeerSignatures(2, message.present, forged), rig.setup))


@pytest.mark.parametrize("case", ["swapped", "replaced", "of another round", "unsigned"])
def test_a_server_that_changes_advertised_keys_is_caught(case: str) -> None:
    rig = at("share_keys")
    message = decode(PeerKeys, rig.outbox[2], rig.setup)
    entry = 128
    mine = Rig(PLAN, round=1)
    mine.run(until="share_keys")
    other = Rig(PLAN, round=2)
    other.run(until="share_keys")
    fresh = decode(PeerKeys, mine.ask("share_keys")[2], mine.setup).keys
    replay = decode(PeerKeys, other.ask("share_keys")[2], other.setup).keys
    keys = message.keys
    forged = {
        "swapped": keys[entry : 2 * entry] + keys[:entry] + keys[2 * entry :],
        "replaced": fresh[:64] + keys[64:],
        "of another round": replay[:entry] + keys[entry:],
        "unsigned": keys[:64] + bytes(64) + keys[entry:],
    }[case]
    with pytest.raises(FaultyServerError, match="not signed by its identity"):
        rig.clients[2].receive(encode(PeerKeys(2, message.present, forged, b""), rig.setup))


def test_a_client_that_was_shown_fewer_keys_deals_fewer_shares_and_an_honest_server_notices() -> None:
    # n = 5, t = 4: client 0 is told that 4 never advertised. (A liar: `secagg.adversary`, equivocating key list.)
    rig = at("share_keys")
    message = decode(PeerKeys, rig.outbox[0], rig.setup)
    rig.outbox[0] = encode(PeerKeys(0, bitmap(rig, 0, {1, 2, 3}), message.keys[: 3 * 128], b""), rig.setup)
    answers = {i: rig.answer("share_keys", i) for i in range(5)}
    with pytest.raises(FaultyClientError):  # an honest server notices the missing bundle at once
        rig.server.receive(0, answers[0])


def test_clients_given_different_models_reveal_nothing_and_their_masks_do_not_cancel() -> None:
    # Pasquini et al. 2022: the server gives the victim another model, so that the sum holds its update alone.
    rig = at("masked_input")
    state = rig.clients[4]._state
    other = Setup(
        plan=PLAN,
        roster=Pinned({i: identity_of(i).public for i in range(5)}),
        session=rig.session,
        round=1,
        model=model_digest(b"the victim's model"),
    )
    assert other.digest == rig.setup.digest
    rig.clients[4]._state = replace(state, setup=other)
    for i in range(5):
        rig.server.receive(i, rig.answer("masked_input", i))
    rig.ask("consistency_check")
    for i in range(4):
        rig.server.receive(i, rig.answer("consistency_check", i))
    with pytest.raises(FaultyClientError, match="not signed by its identity"):
        rig.server.receive(4, rig.answer("consistency_check", 4))
    requests = rig.ask("unmask")
    forged = decode(PeerSignatures, requests[0], rig.setup)
    with pytest.raises(FaultyServerError, match="same survivors, keys and model"):
        rig.clients[4].receive(encode(PeerSignatures(4, bitmap(rig, 4, {1, 2, 3}), forged.signatures), rig.setup))
    for i in requests:
        rig.server.receive(i, rig.answer("unmask", i))
    rig.server.close_round()
    assert rig.server.total().vector.tolist() != rig.expected(range(5))  # the masks of 4 stay in


@pytest.mark.parametrize("server", ["semi-honest", "malicious"])
def test_a_client_with_a_stale_model_is_told_so_in_time_and_the_sum_is_of_the_others(server: str) -> None:
    plan = make_plan(5, server=server)
    rig, stale = Rig(plan, round=1, model=model_digest(b"new")), Rig(plan, round=1, model=model_digest(b"old"))
    rig.clients[0] = stale.clients[0]
    rig.ask("advertise_keys")
    with pytest.raises(RemoteProtocolError, match="another model than this server names") as caught:
        rig.server.receive(0, rig.answer("advertise_keys", 0))
    assert type(caught.value) is RemoteProtocolError  # nobody is blamed for certain
    for i in (1, 2, 3, 4):
        rig.server.receive(i, rig.answer("advertise_keys", i))
    for step in rig.steps[1:]:
        for i in rig.ask(step):
            rig.server.receive(i, rig.answer(step, i))
    rig.server.close_round()
    assert rig.server.total().vector.tolist() == rig.expected([1, 2, 3, 4])


def test_each_share_is_revealed_for_one_of_two_secrets_and_once() -> None:
    rig = at("unmask", drop={4: "masked_input"})
    held = rig.clients[2]._state.entries
    mine = rig.clients[2]._state.own_entry
    revealed = decode(UnmaskShares, rig.answer("unmask", 2), rig.setup).entries
    expected = b"".join(mine if i == 2 else held[i][1 if i == 4 else 0] for i in range(5))
    assert revealed == expected
    assert rig.clients[2].receive(rig.outbox[2]) == rig.log["unmask", "up", 2]  # the very same, and no other:
    message = decode(PeerSignatures, rig.outbox[2], rig.setup)
    fewer = encode(PeerSignatures(2, bitmap(rig, 2, {0, 1}), message.signatures[:128]), rig.setup)
    with pytest.raises(secagg.LocalProtocolError, match="last message"):
        rig.clients[2].receive(fewer)


def test_early_requests_for_shares_are_refused() -> None:
    # Straight from the masked inputs to unmasking, without signatures: not what the client awaits.
    rig = at("consistency_check")
    with pytest.raises(RemoteProtocolError, match="survivors is awaited"):
        rig.clients[2].receive(encode(PeerSignatures(2, bitmap(rig, 2, {0, 1, 3}), bytes(192)), rig.setup))


def test_the_whole_round_with_counts_and_names() -> None:
    codec = Counts(dimension=2, maximum=10, clients=4)
    plan = secagg.plan(codec, server="malicious")
    inputs = {name: codec.encode(np.array([i, 10 - i])) for i, name in enumerate(("a", "b", "c", "d"))}
    total = simulate(plan, inputs, dropouts={"b": "consistency_check"})
    assert total.survivors == ("a", "b", "c", "d")
    assert codec.decode(total).tolist() == [6, 34]


@pytest.mark.parametrize("masking", ["masking", "lattice", "threshold"])
def test_the_server_keeps_what_survivors_signed_as_evidence_for_others(masking: Any) -> None:
    plan = secagg.plan(Counts(dimension=3, maximum=9, clients=4), server="malicious", corrupted=0, masking=masking)
    keys = make_keys(plan, "abcd", session=bytes(16))
    inputs = dict.fromkeys("abcd", np.ones(3, dtype=np.uint8))
    total = simulate(
        plan, inputs, dropouts={"b": steps_of(masking, "malicious")[-3]}, session=bytes(16), round=1, keys=keys
    )
    assert total.survivors == ("a", "c", "d")
    assert set(total.signatures) == set(total.survivors)
    for client, signature in total.signatures.items():
        verify_signature(keys.identities[client].public, total.statement, signature)
        with pytest.raises(DecodeError):
            verify_signature(keys.identities[client].public, total.statement + b"!", signature)
    assert "signatures" not in repr(total)


def test_a_server_that_is_trusted_keeps_no_signatures() -> None:
    total = simulate(make_plan(3), dict.fromkeys(range(3), np.ones(5, dtype=np.uint8)))
    assert (total.statement, total.signatures) == (b"", {})

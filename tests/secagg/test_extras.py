"""Extra secrets on the shares: the number that dropped out says which opens, and nothing else ever does."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import chain, combinations, permutations, product
from typing import Any

import numpy as np
import pytest

from secagg import (
    FaultyClientError,
    FaultyServerError,
    Plan,
    SecAggError,
    SuspectedPeerError,
    ThresholdError,
    simulate,
)
from secagg.lattice.parameters import choose
from secagg.masking.messages import PeerSignatures, ShareKeys, Survivors, UnmaskShares, to_bitmap
from secagg.masking.transcript import shares_statement
from secagg.masking.unmasking import server_check_unmask, server_unmask
from secagg.testing.ideal import leak_when_split, opened_extras
from secagg.testing.scripted import Script, Transcript, play
from secagg.wire import decode, encode
from tests.secagg.rig import Rig, extras_of, identity_of, make_plan, vectors

MODES = ["semi-honest", "malicious"]
HYBRID = "x25519+ml-kem-768"


def subsets(members: Any, sizes: Any) -> list[frozenset[int]]:
    return [frozenset(each) for each in chain.from_iterable(combinations(members, size) for size in sizes)]


def lattice(plan: Plan) -> Plan:
    ring = choose(length=plan.length, digit_bits=plan.modulus_bits + plan.clients.bit_length(), clients=plan.clients)
    return replace(plan, masking="lattice", lattice=ring)


@cache
def transcript(
    n: int, t: int, extras: int, gone: frozenset[int] = frozenset(), late: frozenset[int] = frozenset(), **options: Any
) -> Transcript:
    """A round of 1-coordinate vectors; `gone` send no masked input (that counts), `late` are lost before unmask."""
    plan = Plan(clients=n, length=1, modulus_bits=2, threshold=t, degree=n - 1, extras=extras, **options)
    return play(Script(plan=plan, dropouts=dict.fromkeys(gone, "masked_input") | dict.fromkeys(late, "unmask")))


def given(plan: Plan) -> dict[int, list[bytes]]:
    return {i: extras_of(i, plan.extras) for i in range(plan.clients)}


def against(mode: str, corrupted: int = 0) -> dict[str, Any]:
    return {"server": mode, "corrupted": corrupted if mode == "malicious" else 0}


@pytest.mark.parametrize("mode", MODES)
def test_every_survivors_secret_comes_back_whoever_is_lost_and_whenever(mode: str) -> None:
    tried = 0
    for n, t, extras, some in ((4, 3, 1, range(4)), (7, 5, 2, (0, 3, 6))):
        for gone in subsets(some, range(extras + 1)):
            for late in subsets(set(some) - gone, range(n - t - len(gone) + 1)):
                played = transcript(n, t, extras, gone, late, **against(mode))
                survivors = sorted(set(range(n)) - gone)
                script, outcome = played.script, played.outcome
                expected = {i: script.extras(i)[len(gone)] for i in survivors} if len(gone) < extras else {}
                assert dict(outcome.extras) == expected, (gone, late)
                assert outcome.survivors == survivors
                assert outcome.vector.tolist() == [sum(int(script.vector(i)[0]) for i in survivors) % 4]
                tried += 1
    assert tried == (5 + 4) + (7 + 3 * 3 + 3)


PLANS = {
    "sparse": make_plan(12, degree=6, threshold=5, server="malicious", dropouts=4, extras=4),
    "lattice": lattice(make_plan(7, extras=2)),
    "lattice, malicious": lattice(make_plan(7, server="malicious", corrupted=1, extras=2)),
    "hybrid": make_plan(7, extras=2, key_agreement=HYBRID),
    "hybrid, malicious": make_plan(7, server="malicious", corrupted=2, extras=1, key_agreement=HYBRID),
}


@pytest.mark.parametrize("missing", [0, 1, 2])
@pytest.mark.parametrize("name", PLANS)
def test_so_it_is_with_every_kind_of_masks_keys_and_graph(name: str, missing: int) -> None:
    plan = PLANS[name]
    n = plan.clients
    inputs: dict[Any, Any] = vectors(n)
    drops = {1: "masked_input", 3: "share_keys"} if missing == 2 else dict.fromkeys(range(missing), "advertise_keys")
    drops |= {n - 1: "unmask"} if missing < 2 else {}
    if missing > plan.extras:
        with pytest.raises(ThresholdError) as caught:
            simulate(plan, inputs, dropouts=drops, extras=given(plan))
        assert (caught.value.needed, caught.value.survivors) == (n - plan.extras, n - missing)
        return
    total = simulate(plan, inputs, dropouts=drops, extras=given(plan))
    assert len(total.dropouts) == missing
    expected = {i: extras_of(i, plan.extras)[missing] for i in total.survivors if missing < plan.extras}
    assert total.extras == expected
    assert total.vector.tolist() == np.sum([inputs[i] for i in total.survivors], axis=0).tolist()


def test_one_secret_of_a_one_way_chain_opens_exactly_the_parts_to_take_away() -> None:
    def step(link: bytes) -> bytes:
        return hashlib.sha256(b"next" + link).digest()

    def links(secret: bytes, count: int) -> list[bytes]:
        made = [secret]
        while len(made) < count:
            made.append(step(made[-1]))
        return made

    plan, parts = make_plan(10, extras=3), 3
    dealt: dict[Any, list[bytes]] = {}

    def chained(name: str) -> Any:
        def make(secret: bytes) -> list[bytes]:
            dealt[name] = links(secret, parts)
            return dealt[name]

        return make

    names = "abcdefghij"
    inputs = {name: vectors(10)[i] for i, name in enumerate(names)}
    total = simulate(plan, inputs, dropouts={"c": "masked_input"}, extras={name: chained(name) for name in names})
    assert set(total.extras) == set(names) - {"c"}
    for name, link in total.extras.items():
        assert links(link, 2) == dealt[name][1:]  # parts 2 and 3 of 1..3: one client is missing
    assert len({link for each in dealt.values() for link in each}) == 30  # every client is given a secret of its own


# What opens, by enumeration


@pytest.mark.parametrize("mode", MODES)
def test_server_and_corrupt_clients_open_the_survivors_number_and_no_other(mode: str) -> None:
    tried = 0
    patterns = [frozenset(), frozenset({3}), frozenset({0, 6})]
    for n, t, extras, sizes in ((4, 3, 1, range(3)), (7, 5, 2, (0, 4))):
        for gone in patterns if extras == 2 else subsets(range(n), range(extras + 1)):
            played = transcript(n, t, extras, gone, **against(mode, 1))
            for corrupt in subsets(range(n), sizes):
                numbers = [len(gone)] if len(gone) < extras else []
                expected = set(product(set(range(n)) - gone - corrupt, numbers))
                assert opened_extras(played, corrupt) == expected, (gone, corrupt)
                tried += 1
    assert tried == 5 * 11 + 3 * 36


@pytest.mark.parametrize("mode", MODES)
def test_the_enumeration_sees_what_opens_with_one_share_more_or_when_all_are_revealed(mode: str) -> None:
    played = transcript(7, 5, 2, frozenset({6}), **against(mode))
    assert opened_extras(played, {0, 1, 2, 3, 4}) == {(5, 0), (5, 1), (6, 0), (6, 1)}
    assert opened_extras(played, set(), flaw="both reveals") == set(product(range(7), range(2)))


def splits(honest: list[int], n: int, t: int) -> Iterator[dict[int, frozenset[int]]]:
    """All that a server may tell honest clients: nothing, or any set of t or more with the client in it.

    One for all that are the same but for the names of honest clients.
    """
    options = [[None, *(each for each in subsets(range(n), range(t, n + 1)) if i in each)] for i in honest]
    seen: set[frozenset[tuple[int, frozenset[int]]]] = set()
    for chosen in product(*options):
        told = {i: alive for i, alive in zip(honest, chosen, strict=True) if alive is not None}
        if frozenset(told.items()) in seen:
            continue
        yield told
        for names in permutations(honest):
            new = dict(zip(honest, names, strict=True))
            seen.add(frozenset((new[i], frozenset(new.get(j, j) for j in alive)) for i, alive in told.items()))


def revealing(told: dict[int, frozenset[int]], corrupt: frozenset[int], t: int) -> set[frozenset[int]]:
    """The survivor sets that t clients sign."""
    return {
        alive
        for alive in told.values()
        if len({i for i, theirs in told.items() if theirs == alive} | (alive & corrupt)) >= t
    }


@pytest.mark.parametrize("corrupt", [frozenset(), frozenset({3})], ids=["nobody", "one"])
def test_a_server_that_tells_everyone_other_survivors_opens_one_number_and_one_sum_at_most(
    corrupt: frozenset[int],
) -> None:
    n, t = 4, 3
    played = transcript(n, t, 1, server="malicious", corrupted=1)
    honest = sorted(set(range(n)) - corrupt)
    outcomes = set()
    for told in splits(honest, n, t):
        signed = revealing(told, corrupt, t)
        assert len(signed) <= 1
        expected = {(i, 0) for alive in signed for i in alive - corrupt if len(alive) == n}
        assert opened_extras(played, corrupt, told) == expected, told
        assert leak_when_split(played, corrupt, told) is None, told
        outcomes |= {(len(alive), bool(expected)) for alive in signed}
    assert outcomes == {(4, True), (3, False)}


def test_without_signatures_such_a_server_opens_a_number_beside_the_sum_of_fewer() -> None:
    # 5 and 6 are corrupt. Sums of six open number 1; yet the sum of 2, 3 and 4 opens, which lacks two, and whose noise
    # would be taken off too far.
    played = transcript(7, 5, 2, server="malicious", corrupted=2)
    everyone, corrupt = frozenset(range(7)), {5, 6}
    fewer = {i: everyone - {0, 1} for i in (2, 3)}
    more = {0: everyone - {1}, 1: everyone - {0}, 4: everyone - {0}}
    assert opened_extras(played, corrupt, fewer | more, "no consistency check") == {(2, 1), (3, 1), (4, 1)}
    assert leak_when_split(played, corrupt, more | fewer, "no consistency check") is not None  # not the sum of six,
    assert leak_when_split(played, corrupt, fewer | more, "no consistency check") is None  # but that of 2, 3 and 4
    assert opened_extras(played, corrupt, fewer | more) == set()
    assert leak_when_split(played, corrupt, fewer | more) is None


def test_beyond_the_bound_on_corrupt_clients_two_sets_are_signed() -> None:
    played = transcript(4, 3, 1, server="malicious")
    told = {0: frozenset(range(4)), 1: frozenset({1, 2, 3})}
    assert len(revealing(told, frozenset({2, 3}), 3)) == 2  # 2t = n + c
    assert opened_extras(played, {2, 3}, told) == {(0, 0), (1, 0)}
    assert leak_when_split(played, {2, 3}, told) is not None


# A lying server


def started(step: str, plan: Plan, drop: dict[int, str] | None = None) -> Rig:
    """A rig whose requests of `step` were just sent."""
    rig = Rig(plan, round=1)
    rig.run(until=step, drop=drop)
    rig.ask(step)
    return rig


def others(client: int, members: set[int], n: int) -> bytes:
    return to_bitmap(np.isin(np.delete(np.arange(n), client), sorted(members)))


def test_a_server_that_claims_fewer_dropouts_gets_a_lower_number_and_no_sum() -> None:
    plan = make_plan(7, server="malicious", corrupted=1, extras=2)
    rig = started("consistency_check", plan, drop={6: "masked_input"})
    truth = rig.server._state
    state = truth.unmasking
    claimed = replace(state, survived=np.ones(7, dtype=np.bool_), total=state.total.copy())
    signatures, revealed = {}, {}
    for i in range(6):
        request = encode(Survivors(i, others(i, set(range(7)), 7)), rig.setup)
        answer = rig.clients[i].receive(request)
        signatures[i] = answer[-16 - 64 : -16]
    for i in range(6):
        peers = sorted(signatures.keys() - {i})[:4]
        shown = PeerSignatures(i, others(i, set(peers), 7), b"".join(signatures[peer] for peer in peers))
        revealed[i] = decode(UnmaskShares, rig.clients[i].receive(encode(shown, rig.setup)), rig.setup)
    outcome, _ = server_unmask(claimed, revealed)
    assert outcome.extras == {i: extras_of(i, 2)[0] for i in range(7)}  # the lower number, as it asked
    assert outcome.vector.tolist() != rig.expected(range(6))  # masks with 6 stay on what it has: no sum to strip
    assert outcome.vector.tolist() != rig.expected(range(7))
    with pytest.raises(FaultyClientError):  # nor are these the shares that open the sum it could have had
        server_check_unmask(state, revealed[0])
    for i in range(6):  # and nobody signs or reveals again
        with pytest.raises(SecAggError):
            rig.clients[i].receive(encode(Survivors(i, others(i, set(range(6)), 7)), rig.setup))


def test_a_server_that_shows_signatures_over_more_survivors_is_refused() -> None:
    rig = started("consistency_check", make_plan(7, server="malicious", corrupted=1, extras=2))
    told = {i: set(range(7)) if i < 3 else set(range(6)) for i in range(6)}
    signatures = {
        i: rig.clients[i].receive(encode(Survivors(i, others(i, alive, 7)), rig.setup))[-16 - 64 : -16]
        for i, alive in told.items()
    }
    for i in told:
        peers = sorted(told.keys() - {i})
        shown = PeerSignatures(i, others(i, set(peers), 7), b"".join(signatures[peer] for peer in peers))
        with pytest.raises(FaultyServerError, match="not signed the same survivors"):
            rig.clients[i].receive(encode(shown, rig.setup))


@pytest.mark.parametrize("mode", MODES)
def test_with_more_dropouts_than_extra_secrets_clients_reveal_nothing(mode: str) -> None:
    plan = make_plan(9, server=mode, extras=1)
    assert (plan.threshold, plan.least_survivors) == (7, 8)
    rig = started("unmask" if mode == "semi-honest" else "consistency_check", plan)
    request = encode(Survivors(0, others(0, set(range(7)), 9)), rig.setup)
    with pytest.raises(ThresholdError, match="clients that delivered a masked input") as caught:
        rig.clients[0].receive(request)
    assert (caught.value.needed, caught.value.survivors) == (8, 7)
    rig.clients[0].receive(encode(Survivors(0, others(0, set(range(8)), 9)), rig.setup))
    with pytest.raises(ThresholdError) as caught:
        simulate(plan, vectors(9), dropouts={1: "masked_input", 2: "masked_input"}, extras=given(plan))
    assert (caught.value.needed, caught.value.survivors) == (8, 7)


# Blame


def test_a_dealer_whose_extra_shares_rebuild_something_else_is_blamed_alone() -> None:
    for number, missing in ((0, 0), (1, 1), (1, 0)):
        rig = started("share_keys", make_plan(7, server="malicious", extras=2))
        for i in range(6):
            rig.server.receive(i, rig.answer("share_keys", i))
        message = decode(ShareKeys, rig.answer("share_keys", 6), rig.setup)
        at = 32 * (1 + number)
        commitment = message.commitment[:at] + bytes(32) + message.commitment[at + 32 :]
        signature = identity_of(6).sign(shares_statement(rig.setup, 6, commitment, message.hashes))
        rig.server.receive(
            6, encode(ShareKeys(6, commitment, message.sealed, message.hashes, signature, b"", b""), rig.setup)
        )
        for step in ("masked_input", "consistency_check", "unmask"):
            for i in rig.ask(step):
                if i or not missing:
                    rig.server.receive(i, rig.answer(step, i))
        if number != missing:  # that number stays closed
            rig.server.close_round()
            assert rig.server.total().vector.tolist() == rig.expected(range(7))
            continue
        with pytest.raises(FaultyClientError, match="the shares dealt by 6 rebuild another extra secret") as caught:
            rig.server.close_round()
        assert caught.value.culprits == (6,)


@pytest.mark.parametrize("holder", [0, 3, 6])
@pytest.mark.parametrize("number", [0, 1])
def test_recipients_check_the_hashes_of_extra_shares_on_receipt(holder: int, number: int) -> None:
    rig = started("share_keys", make_plan(7, server="malicious", extras=2))
    message = decode(ShareKeys, rig.answer("share_keys", 1), rig.setup)
    hashes = bytearray(message.hashes)
    hashes[32 * (4 * holder + 2 + number)] ^= 1
    signature = identity_of(1).sign(shares_statement(rig.setup, 1, message.commitment, bytes(hashes)))
    forged = ShareKeys(1, message.commitment, message.sealed, bytes(hashes), signature, b"", b"")
    for i in {*range(7)} - {1}:
        rig.server.receive(i, rig.answer("share_keys", i))
    rig.server.receive(1, encode(forged, rig.setup))
    rig.ask("masked_input")
    for i in {*range(7)} - {1, holder}:
        rig.answer("masked_input", i)
    with pytest.raises(SuspectedPeerError, match="not those it published hashes of") as caught:
        rig.answer("masked_input", holder)
    assert caught.value.culprits == (1,)


@pytest.mark.parametrize("change", ["changed", "of another number", "left out", "of a dropout"])
def test_whoever_reveals_another_extra_share_is_blamed_and_the_sum_still_comes(change: str) -> None:
    rig = started("unmask", make_plan(7, server="malicious", extras=2), drop={6: "masked_input"})
    held = rig.clients[1]._state.entries
    for i in range(6):
        rig.answer("unmask", i)
    entries = decode(UnmaskShares, rig.log["unmask", "up", 1], rig.setup).entries
    assert len(entries) == 56 * (7 + 6)
    at = 56 * (7 + 4)
    assert entries[at : at + 56] == held[4][2 + 1]
    forged = {
        "changed": entries[:-40] + bytes([entries[-40] ^ 1]) + entries[-39:],
        "of another number": entries[:at] + held[4][2] + entries[at + 56 :],
        "left out": entries[:-56],
        "of a dropout": entries + held[6][3],
    }[change]
    with pytest.raises(FaultyClientError) as caught:
        rig.server.receive(1, encode(UnmaskShares(1, forged), rig.setup))
    assert caught.value.culprits == (1,)
    for i in range(6):
        rig.server.receive(i, rig.log["unmask", "up", i])
    rig.server.close_round()
    total = rig.server.total()
    assert total.vector.tolist() == rig.expected(range(6))
    assert total.extras == {i: extras_of(i, 2)[1] for i in range(6)}


@pytest.mark.parametrize("late", [False, True], ids=["t shares", "more than t"])
def test_where_no_hashes_are_published_a_wrong_extra_share_is_noticed_and_the_sum_not_opened(late: bool) -> None:
    rig = started("unmask", make_plan(7, extras=2))
    for i in range(7):
        rig.answer("unmask", i)
    entries = bytearray(decode(UnmaskShares, rig.log["unmask", "up", 1], rig.setup).entries)
    entries[40 * (7 + 4)] ^= 1
    rig.server.receive(1, encode(UnmaskShares(1, bytes(entries)), rig.setup))
    for i in {*range(7 if late else 6)} - {1}:
        rig.server.receive(i, rig.log["unmask", "up", i])
    with pytest.raises(SuspectedPeerError, match="rebuild another extra secret than was committed to: 4 dealt"):
        rig.server.close_round()

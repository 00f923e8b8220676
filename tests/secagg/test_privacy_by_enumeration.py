"""Every survivor set, every coalition below the bound, every input: the view depends on the sum only."""

from functools import cache
from itertools import chain, combinations, product
from typing import Any

import pytest

from secagg import Plan, Setup
from secagg.masking.streams import self_mask_key
from secagg.testing import ideal
from secagg.testing.ideal import Flaw, leak, leak_when_split
from secagg.testing.scripted import Script, Transcript, play


def subsets(members: Any, sizes: Any) -> list[frozenset[int]]:
    return [frozenset(each) for each in chain.from_iterable(combinations(members, size) for size in sizes)]


@cache
def transcript(
    n: int, t: int, dropouts: tuple[tuple[int, str], ...] = (), *, malicious: bool = False, hybrid: bool = False
) -> Transcript:
    server: Any = {"server": "malicious", "corrupted": 2 * t - n - 1} if malicious else {}
    server |= {"key_agreement": "x25519+ml-kem-768"} if hybrid else {}
    plan = Plan(clients=n, length=1, modulus_bits=2, threshold=t, degree=n - 1, **server)
    return play(Script(plan=plan, dropouts=dict(dropouts)))


SIZES = [(2, 2), (3, 3), (4, 3), (4, 4)]
"""Every n <= 4 and every threshold that a plan may have."""


@pytest.mark.parametrize(("n", "t"), SIZES)
@pytest.mark.parametrize("malicious", [False, True], ids=["semi-honest", "malicious"])
@pytest.mark.parametrize("at", ["advertise_keys", "share_keys", "masked_input", "unmask"])
def test_a_server_that_follows_the_protocol_learns_the_sum_only(n: int, t: int, malicious: bool, at: str) -> None:
    if malicious and 2 * t <= n:
        pytest.skip("no such plan")
    tried = 0
    for gone in subsets(range(n), range(n - t + 1)):
        played = transcript(n, t, tuple((i, at) for i in sorted(gone)), malicious=malicious)
        for corrupt in subsets(range(n), range(t)):
            assert leak(played, corrupt) is None, (gone, corrupt)
            tried += 1
    assert tried >= 3


def test_the_bound_on_corrupt_clients_is_tight() -> None:
    # with t corrupt clients the server rebuilds every secret itself
    played = transcript(4, 3, ((0, "masked_input"),))
    assert leak(played, frozenset({2, 3})) is None
    assert leak(played, frozenset({1, 2, 3})) == {0: 1}  # 0's input came late and is in no sum


def test_the_enumeration_sees_that_the_sum_is_learned() -> None:
    played = transcript(4, 3)
    knowledge = ideal._Knowledge(played, frozenset(), None)
    knowledge.see_unmasking()
    assert knowledge.tells_apart(range(4)) is None
    assert knowledge.tells_apart(None) == {0: 0, 1: 0, 2: 0, 3: 1}  # inputs with another sum do look different
    assert knowledge._views([0, 1, 2, 3], 4).sum() == 4**6  # six unknown masks: 4096 tables


@pytest.mark.parametrize("malicious", [False, True], ids=["semi-honest", "malicious"])
@pytest.mark.parametrize("gone", range(4))
def test_with_hybrid_keys_it_learns_the_sum_only_too_and_with_a_piece_left_out_more(gone: int, malicious: bool) -> None:
    played = transcript(4, 3, ((gone, "masked_input"),), malicious=malicious, hybrid=True)
    for corrupt in subsets(range(4), range(3)):
        assert leak(played, corrupt) is None, corrupt
    for flaw in FLAWS[:2]:
        difference = leak(played, frozenset(), flaw)
        assert difference is not None
        assert difference[gone]
    # One key pair would not do here: what the dropout sealed opens with secrets encapsulated to its recipients.
    assert leak(played, frozenset(), "one key pair") is None


FLAWS: list[Flaw] = ["no self mask", "both reveals", "one key pair"]


@pytest.mark.parametrize("flaw", FLAWS)
def test_protocols_with_a_piece_left_out_leak(flaw: Flaw) -> None:
    found = [(gone, leak(transcript(4, 3, ((gone, "masked_input"),)), frozenset(), flaw)) for gone in range(4)]
    assert all(difference is not None and difference[gone] for gone, difference in found)  # the late client's input


def splits(honest: list[int], n: int, t: int) -> list[dict[int, frozenset[int]]]:
    """All that a server may tell honest clients: nothing, or any set of t or more with the client in it."""
    options = [[None, *(each for each in subsets(range(n), range(t, n + 1)) if i in each)] for i in honest]
    return [
        {i: alive for i, alive in zip(honest, told, strict=True) if alive is not None} for told in product(*options)
    ]


@pytest.mark.parametrize(("n", "t"), [(3, 3), (4, 3), (4, 4)])
def test_a_server_that_tells_everyone_other_survivors_learns_one_sum_at_most(n: int, t: int) -> None:
    played = transcript(n, t, malicious=True)
    for corrupt in subsets(range(n), range(2 * t - n)):
        honest = sorted(set(range(n)) - corrupt)
        for told in splits(honest, n, t):
            assert leak_when_split(played, corrupt, told) is None, (corrupt, told)


def test_without_the_consistency_check_or_beyond_its_bound_such_a_server_learns_more() -> None:
    played = transcript(4, 3, malicious=True)
    honest = [0, 1, 2]
    told = splits(honest, 4, 3)
    flawed = [
        each for each in told if leak_when_split(played, frozenset({3}), each, "no consistency check") is not None
    ]
    assert flawed
    two = [each for each in splits([0, 1], 4, 3) if leak_when_split(played, frozenset({2, 3}), each) is not None]
    assert two  # 2t = n + c: two sets can both be signed


def test_a_client_that_masks_in_another_way_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(setup: Setup, position: int, seed: bytes) -> bytes:
        return self_mask_key(setup, position + 1, seed)

    plan = Plan(clients=4, length=1, modulus_bits=64, threshold=3, degree=3)  # at a modulus of 4 they agree by chance
    played = play(Script(plan=plan))
    monkeypatch.setattr(ideal, "self_mask_key", shifted)
    with pytest.raises(AssertionError, match="masks its input otherwise"):
        ideal._Knowledge(played, frozenset(), None)._terms(0)

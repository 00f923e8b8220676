"""The naive aggregator adds up correctly, and every attack on it returns the victim's vector exactly."""

import numpy as np
import pytest

from attacks import against_naive
from attacks.against_naive import ATTACKS, LIES, recovers
from attacks.naive import LENGTH, NaiveClient, introduce, naive_sum
from secagg.adversary import LIARS

ONES = dict.fromkeys(range(5), np.ones(LENGTH, dtype=np.uint32))


def cohort(seed: int = 0) -> tuple[list[NaiveClient], dict[int, bytes]]:
    rng = np.random.default_rng(seed)
    clients = [NaiveClient(position, rng) for position in range(5)]
    return clients, introduce(clients, threshold=3)


@pytest.mark.parametrize("dropouts", [(), (0,), (1, 4)])
def test_an_honest_round_adds_up(dropouts: tuple[int, ...]) -> None:
    clients, publics = cohort()
    expected = sum(client.data.astype(np.int64) for client in clients if client.position not in dropouts)
    total = naive_sum(clients, ONES, publics, threshold=3, dropouts=dropouts)
    np.testing.assert_array_equal(total.astype(np.int64), expected)


def test_a_masked_input_looks_nothing_like_the_vector() -> None:
    clients, publics = cohort()
    peers = {position: key for position, key in publics.items() if position != 0}
    masked = clients[0].masked_input(ONES[0], peers)
    assert masked.max() > 1_000
    assert not np.isin(clients[0].data, masked).any()


@pytest.mark.parametrize("attack", [name for name in ATTACKS if name != "late input, short seed"])
@pytest.mark.parametrize("seed", range(5))
def test_the_attack_recovers_the_victims_vector_exactly(attack: str, seed: int) -> None:
    assert recovers(attack, seed=seed)


def test_a_short_seed_is_found_by_trying_all() -> None:
    assert recovers("late input, short seed")


def test_a_seed_outside_the_search_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(against_naive, "SHORT_SEED_BITS", 12)

    def with_long_seed(position: int, rng: np.random.Generator, *, seed_bits: int) -> NaiveClient:
        del seed_bits
        return NaiveClient(position, rng)

    monkeypatch.setattr(against_naive, "NaiveClient", with_long_seed)
    assert not recovers("late input, short seed")


def test_an_attack_that_finds_something_else_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.arange(LENGTH, dtype=np.uint32)
    monkeypatch.setitem(ATTACKS, "almost", lambda _: (truth + np.eye(1, LENGTH, dtype=np.uint32)[0], truth))
    monkeypatch.setitem(ATTACKS, "right", lambda _: (truth.copy(), truth))
    assert not recovers("almost")
    assert recovers("right")


def test_masks_that_differ_from_round_to_round_stop_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = np.random.default_rng(1)
    monkeypatch.setattr("attacks.naive.self_mask", lambda _: masks.integers(0, 1 << 32, LENGTH, dtype=np.uint32))
    assert not recovers("replayed round, masks reused")


def test_every_lie_named_here_is_a_servers_and_every_attack_is_there() -> None:
    servers = {liar.name for liar in LIARS if liar.who == "server"}
    assert set(LIES) <= servers
    assert set(LIES.values()) <= set(ATTACKS)
    assert set(ATTACKS) - set(LIES.values()) == {"two sums that differ by one"}  # two honest rounds: nobody lies

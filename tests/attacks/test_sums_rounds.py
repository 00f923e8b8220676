"""Sums over several rounds, sparse sums, cohorts of one: what follows from linear algebra, and who refuses."""

from collections.abc import Collection

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import secagg
from attacks.against_naive import recovers
from attacks.datasets import digits
from attacks.malicious.client import gradient, local_training
from attacks.models import make_mlp
from attacks.sums.rounds import alignment, disaggregate, exposed, participation, without_known
from attacks.sums.secure import secure_sum
from attacks.sums.sparse import lone_owners, read_alone
from attacks.sums.transcript import Game, Recorder, play, transcript_gain
from secagg.adversary import LIARS, run_liar

CLIENTS = ("a", "b", "c", "d")
DIGITS = digits()
X, Y = DIGITS.x.reshape(len(DIGITS.x), -1).astype(np.float64), DIGITS.y


def vectors(seed: int = 0, d: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {client: rng.uniform(-1, 1, d) for client in CLIENTS}


def sums(sets: list[Collection[str]]) -> np.ndarray:
    held = vectors()
    return np.stack(
        [
            secure_sum(held, clip=1.0, dropouts={client: "masked_input" for client in held if client not in alive})
            for alive in sets
        ]
    )


@pytest.mark.parametrize("masking", ["plain", "masking"])
def test_a_secure_sum_is_the_sum(masking: str) -> None:
    held = vectors()
    total = secure_sum(held, clip=1.0, masking=masking)  # type: ignore[arg-type]
    np.testing.assert_allclose(total, sum(held.values()), atol=1e-8)


def test_two_sums_that_differ_by_one_client_give_its_vector_away() -> None:
    sets: list[Collection[str]] = [CLIENTS, ("b", "c", "d")]
    found = exposed(participation(sets, CLIENTS))
    assert found.keys() == {0}
    np.testing.assert_allclose(found[0] @ sums(sets), vectors()["a"], atol=1e-7)
    assert recovers("two sums that differ by one")


def test_three_sums_over_all_but_one_of_three_give_everybody_away() -> None:
    sets: list[Collection[str]] = [("a", "b", "c"), ("a", "b", "d"), ("a", "c", "d"), ("b", "c", "d")]
    found = exposed(participation(sets, CLIENTS))
    assert found.keys() == {0, 1, 2, 3}
    for position, client in enumerate(CLIENTS):
        np.testing.assert_allclose(found[position] @ sums(sets), vectors()[client], atol=1e-7)


@given(arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.sampled_from([0.0, 1.0])))
def test_exposed_are_those_whose_unit_vector_the_rounds_span(present: np.ndarray) -> None:
    rank = np.linalg.matrix_rank(present)
    spanned = {
        client
        for client in range(present.shape[1])
        if np.linalg.matrix_rank(np.vstack([present, np.eye(present.shape[1])[client]])) == rank
    }
    assert exposed(present).keys() == spanned


def test_a_policy_refuses_the_second_of_two_sums_that_differ_by_one() -> None:
    codec = secagg.Encoding(dimension=6, clip=1.0, bits=16, clients=4)
    plan = secagg.plan(codec, dropout=0.25, corrupted=0.0)
    policy = secagg.Policy(min_difference=3, require_identities=False)
    setup = secagg.Setup(plan=plan, roster=CLIENTS, session=bytes(16), round=0, assume_honest_server=True)
    history = secagg.History().with_survivors(setup, frozenset(CLIENTS))
    with pytest.raises(secagg.PolicyError, match="min_difference"):
        policy.check_survivors(setup, frozenset("bcd"), history)
    policy.check_survivors(setup, frozenset(CLIENTS), history)  # the same set again tells nothing new


def test_disaggregation_finds_the_clients_averages_under_noise() -> None:
    rng = np.random.default_rng(0)
    present = (rng.random((400, 8)) < 0.5).astype(np.float64)
    own = np.array([0.0, 0, 0, 1, 0, 0, 0, 0])
    scores = present @ own + rng.normal(size=400)
    guess = disaggregate(present, scores)
    assert guess.argmax() == 3
    np.testing.assert_allclose(guess, own - own.mean(), atol=0.4)
    assert np.abs(disaggregate(present, rng.normal(size=400))).max() < 0.5


def test_who_holds_a_record_is_seen_from_sums_over_changing_halves() -> None:
    clients, each, rng = 6, 8, np.random.default_rng(1)
    order = rng.permutation(len(X))
    held, public = order[: clients * each].reshape(clients, each), order[clients * each :]
    _, *layers = make_mlp(64, [32], 10, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Sequential(*layers)
    present, scores = [], []
    wanted = [(client, held[client, 0]) for client in range(clients)]
    for _ in range(20):
        chosen = rng.choice(clients, 3, replace=False)
        updates = {
            str(i): local_training(model, X[held[i]], Y[held[i]], steps=2, batch=8, learning_rate=0.2, rng=rng)
            for i in chosen
        }
        total = secure_sum(updates, clip=2.0)
        similar = [X[public[Y[public] == Y[record]]][:40] for _, record in wanted]
        scores.append(
            [alignment(model, total, X[r], int(Y[r]), near) for (_, r), near in zip(wanted, similar, strict=True)]
        )
        present.append(np.isin(np.arange(clients), chosen).astype(np.float64))
    guesses = [disaggregate(np.array(present), column) for column in np.array(scores).T]
    right = [guess.argmax() == client for guess, (client, _) in zip(guesses, wanted, strict=True)]
    assert np.mean(right) >= 0.5  # a sixth if guessed


def test_alignment_of_an_update_with_its_own_record_is_positive_and_linear() -> None:
    _, *layers = make_mlp(64, [16], 10, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Sequential(*layers)
    step = -gradient(model, X[:1], Y[:1])
    score = alignment(model, step, X[0], int(Y[0]), X[100:140])
    assert score > 0
    assert alignment(model, 3 * step, X[0], int(Y[0]), X[100:140]) == pytest.approx(3 * score)


def test_all_but_one_colluding_leave_the_victim_alone() -> None:
    held = vectors()
    total = secure_sum(held, clip=1.0)
    np.testing.assert_allclose(without_known(total, [held[each] for each in "bcd"]), held["a"], atol=1e-7)
    np.testing.assert_array_equal(without_known(total, []), total)
    assert recovers("cohort of puppets")


def test_a_cohort_of_one_wins_against_the_naive_aggregator_and_finds_no_plan_here() -> None:
    assert recovers("cohort of one")
    with pytest.raises(secagg.PlanError, match="fewer than 2"):
        secure_sum({"a": np.zeros(3)}, clip=1.0)
    outcomes = [run_liar(liar) for liar in LIARS if liar.name in {"cohort of one", "lone survivor"}]
    assert len(outcomes) == 2
    assert all(outcome.opened == () for outcome in outcomes)


def test_sums_of_sparse_vectors_are_read_where_one_client_is_alone() -> None:
    supports = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0]], dtype=np.bool_)
    held = np.where(supports, np.arange(1.0, 13).reshape(3, 4) / 12, 0.0)
    assert lone_owners(supports).tolist() == [0, -1, 1, -1]
    read = read_alone(secure_sum({str(i): row for i, row in enumerate(held)}, clip=1.0), supports)
    alone = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=np.bool_)
    np.testing.assert_allclose(read[alone], held[alone], atol=1e-8)
    assert np.isnan(read[supports & ~alone]).all()
    assert not read[~supports].any()


def test_dense_vectors_leave_nobody_alone() -> None:
    assert (lone_owners(np.ones((3, 50), dtype=np.bool_)) == -1).all()


def test_a_recorder_keeps_every_message_of_a_round() -> None:
    codec = secagg.Encoding(dimension=6, clip=1.0, bits=16, clients=4)
    recorder, trace = Recorder(), secagg.Trace()
    inputs = {client: codec.encode(vector) for client, vector in vectors().items()}
    secagg.simulate(secagg.plan(codec, corrupted=0.0), inputs, observers=[recorder, trace])
    assert len(recorder.messages) == sum(trace.messages.values())
    assert sum(len(data) for *_, data in recorder.messages) == sum(trace.bytes.values())
    assert recorder.rounds[0].keys() == set(CLIENTS)


def test_the_transcript_of_plain_vectors_wins_the_game_and_a_masked_one_does_not() -> None:
    from_sum, from_all = transcript_gain(play(120, masking="plain", rng=np.random.default_rng(0)))
    assert 0.6 < from_sum < 0.99
    assert from_all > 0.99
    from_sum, from_all = transcript_gain(play(120, masking="masking", rng=np.random.default_rng(0)))
    assert from_all - from_sum < 0.15  # 0.02 takes more rounds: benchmarks.leakage_sums


def test_too_few_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        transcript_gain(Game(np.array([True, False] * 4), np.zeros(8), np.zeros((8, 10))))

"""Analytic inversion: exact where theory says so, nothing where there is nothing, judged against the prior."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from attacks.analytic import invert_first_layer
from attacks.channels import CLIP, observe
from attacks.metrics import ExactMatches, exact_matches, mode_record, plausible
from attacks.study import LIMIT, PRIOR, SITUATIONS, attack_round, run_study
from attacks.threat import Channel
from protocols.institution import LocalUpdate
from protocols.task import Feature
from protocols.tasks import load_task

HEART = load_task("heart")
FEATURES = (Feature("age", 1.0), Feature("male", 1.0, (0.0, 1.0)), Feature("depression", 0.1))


@given(st.integers(1, 20), st.integers(1, 10), st.integers(0, 1_000))
def test_one_inputs_gradient_gives_that_input_back(units: int, features: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, g = rng.normal(size=features), rng.normal(size=units)
    guesses = invert_first_layer(np.outer(g, x), g, limit=10.0)
    assert len(guesses) == 1
    assert np.allclose(guesses[0], x)


def test_units_that_one_of_several_inputs_activates_give_it_away_and_agree_on_it() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 5))
    active = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=float)  # units by inputs
    g = active * rng.uniform(0.5, 1, size=active.shape)
    guesses = invert_first_layer(g @ x, g.sum(axis=1), limit=10.0)
    assert len(guesses) == 3  # two inputs alone, one mixture; the dead unit gives nothing
    assert np.allclose(guesses[0], x[0])  # two units agree: first
    assert any(np.allclose(guess, x[1]) for guess in guesses)
    assert not any(np.allclose(guess, x[2], atol=1e-2) for guess in guesses)


def test_implausible_quotients_and_empty_updates_give_no_guess() -> None:
    assert invert_first_layer(np.zeros((4, 3)), np.zeros(4), limit=10.0).shape == (0, 3)
    assert invert_first_layer(np.full((1, 3), 1e6), np.ones(1), limit=10.0).shape == (0, 3)


def test_exact_matches_pair_guesses_with_records_one_to_one() -> None:
    truth = np.array([[50.0, 1, 1.2], [60.0, 0, 0.0]])
    guesses = np.array([[60.4, 0, 0.04], [50.0, 1, 1.3]])
    assert exact_matches(truth, guesses, FEATURES).tolist() == [[True, True, False], [True, True, True]]
    twice = np.array([[60.0, 0, 0.0], [60.0, 0, 0.0]])  # one good guess, sent twice, counts once
    assert exact_matches(truth, twice, FEATURES).all(axis=1).sum() == 1


def test_the_prior_is_the_mode_of_every_feature() -> None:
    patients = np.array([[50.0, 1, 0.1], [50.0, 0, 0.2], [61.0, 1, 0.2]])
    assert mode_record(patients, FEATURES).tolist() == pytest.approx([50.0, 1.0, 0.2])


def test_plausible_guesses_take_permitted_values() -> None:
    guesses = np.array([[50.0, 1.01, 0.1], [50.0, 0.5, 0.1], [-3.0, 0.0, -9.0]])
    assert plausible(guesses, FEATURES).tolist() == [True, False, True]


def test_intervals_cover_the_share() -> None:
    tally = ExactMatches(np.zeros(3, dtype=np.int64))
    tally.add(np.array([[True, True, True], [True, False, True]]))
    low, high = tally.interval()
    assert (tally.whole, tally.records, tally.features.tolist()) == (1, 2, [2, 1, 2])
    assert low < 0.5 < high


def updates(seed: int) -> dict[str, LocalUpdate]:
    rng = np.random.default_rng(seed)
    return {
        name: LocalUpdate(rng.normal(0, 0.5, 14), weight) for name, weight in zip("abcd", (1, 8, 3, 2), strict=True)
    }


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_the_server_sees_plain_updates_exactly_masked_ones_not_at_all_and_the_weighted_mean() -> None:
    masked, true = [], []
    for seed in range(60):
        sent = updates(seed)
        views = observe(sent)
        for name, update in sent.items():
            assert np.abs(views[Channel.PLAIN][name].update - update.delta).max() < 1e-7
            masked.append(views[Channel.MASKED][name].update)
            true.append(update.delta)
            mean = sum(u.weight * u.delta for u in sent.values()) / 14
            assert np.abs(views[Channel.SUM][name].update - mean).max() < 1e-7
    ranks = np.concatenate(masked).argsort().argsort().astype(float)
    assert abs(correlation(ranks, np.concatenate(true))) < 5 / len(ranks) ** 0.5


def test_updates_beyond_the_channels_range_are_refused() -> None:
    sent = updates(0) | {"a": LocalUpdate(np.full(14, 19.0), 1)}
    with pytest.raises(ValueError, match="lower the learning rate"):
        observe(sent)


def test_a_patient_is_recovered_exactly_from_a_plain_update_and_not_from_masked_ones() -> None:
    study = run_study(HEART, trials=6, seed=3)
    logistic = {row.channel: row for row in study.situations[SITUATIONS[0].title]}
    prior = logistic[PRIOR]
    assert logistic["plain update"].whole == 1.0
    assert logistic["plain update"].records == 24
    assert prior.whole == 0.0
    assert logistic["masked update"].features == prior.features
    assert logistic["secure sum"].features == prior.features
    assert study.example.guesses["plain update"] == study.example.truth
    assert study.example.found == ["plain update"]


def test_what_secure_aggregation_does_not_stop_is_shown() -> None:
    # Four patients in all and a hidden layer: the sum itself gives most of them away, masks or not.
    study = run_study(HEART, trials=6, seed=3)
    hidden = {row.channel: row for row in study.situations[SITUATIONS[1].title]}
    assert hidden["secure sum"].whole > 0.8
    assert hidden["masked update"].whole == 0.0
    several = {row.channel: row for row in study.situations[SITUATIONS[2].title]}
    assert 0.1 < several["plain update"].whole < 0.6
    assert several["secure sum"].whole < 0.05


def test_the_masked_channel_never_yields_something_that_looks_like_a_patient() -> None:
    found = [outcome.found for seed in range(20) for outcome in attack_round(HEART, SITUATIONS[2], seed=seed)]
    assert all("masked update" not in each for each in found)
    assert any("plain update" in each for each in found)


def test_no_patient_is_out_of_the_attacks_or_the_channels_reach() -> None:
    largest = max(float(np.abs(site.train_x).max()) for site in HEART.sites)
    assert largest < LIMIT
    assert all(situation.learning_rate * largest < CLIP for situation in SITUATIONS)


def test_a_study_needs_a_trial() -> None:
    with pytest.raises(ValueError, match="at least one trial"):
        run_study(HEART, trials=0, seed=0)

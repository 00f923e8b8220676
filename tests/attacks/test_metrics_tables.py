"""Metrics of tables: tolerance, matching under labels, and priors that hold the bar up."""

import numpy as np
import pytest

from attacks.metrics import best_prior, prior_guesses, skill, tolerance_matches

CATEGORICAL = np.array([False, True])
TOLERANCE = np.array([0.319, 0.5])


def test_numbers_match_within_the_tolerance_and_categories_when_equal() -> None:
    truth = np.array([[0.0, 2.0], [1.0, 0.0]])
    guesses = np.array([[1.32, 0.0], [0.318, 2.0]])
    assert tolerance_matches(truth, guesses, tolerance=TOLERANCE).tolist() == [[True, True], [False, True]]


def test_one_good_guess_sent_twice_counts_once() -> None:
    truth = np.array([[0.0, 0.0], [0.0, 1.0]])
    twice = np.array([[0.0, 0.0], [0.0, 0.0]])
    assert tolerance_matches(truth, twice, tolerance=TOLERANCE).all(axis=1).sum() == 1


def test_known_labels_keep_guesses_with_records_of_their_label() -> None:
    truth = np.array([[0.0, 0.0], [5.0, 1.0]])
    guesses = np.array([[5.0, 1.0], [0.0, 0.0]])
    labels = np.array([0, 1])
    assert tolerance_matches(truth, guesses, tolerance=TOLERANCE).all()
    assert not tolerance_matches(truth, guesses, tolerance=TOLERANCE, labels=(labels, labels)).any()
    assert tolerance_matches(truth, guesses, tolerance=TOLERANCE, labels=(labels, labels[::-1])).all()


def test_priors_guess_each_record_from_public_records_of_its_label() -> None:
    rng = np.random.default_rng(0)
    public_labels = np.repeat([0, 1], 500)
    numbers = np.where(public_labels == 0, rng.normal(0, 1, 1000), rng.normal(20, 1, 1000))
    public = np.stack([numbers, np.where(public_labels == 0, 2, rng.integers(0, 2, 1000))], axis=1)
    labels = np.array([1, 0, 1, 1, 0])
    priors = prior_guesses((public, public_labels), labels, categorical=CATEGORICAL, tolerance=TOLERANCE, rng=rng)
    assert set(priors) == {"constant", "median", "quantiles", "marginals", "records"}
    for guesses in priors.values():
        assert guesses.shape == (5, 2)
        assert ((guesses[:, 0] > 10) == (labels == 1)).all()
        assert ((guesses[:, 1] == 2) == (labels == 0)).all()
    assert len(np.unique(priors["quantiles"][:, 0])) == 5
    assert len(np.unique(priors["constant"][:, 0])) == 2
    rows = {tuple(row) for row in public.tolist()}
    assert all(tuple(row) in rows for row in priors["records"].tolist())


def test_the_constant_prior_lies_where_most_records_are_within_the_tolerance() -> None:
    rng = np.random.default_rng(1)
    column = np.concatenate([rng.uniform(-3, 3, 100), rng.normal(1.7, 0.1, 60)])
    public = np.stack([column, np.zeros(160)], axis=1)
    priors = prior_guesses(
        (public, np.zeros(160, dtype=np.int64)),
        np.zeros(1, dtype=np.int64),
        categorical=CATEGORICAL,
        tolerance=TOLERANCE,
        rng=rng,
    )

    def within(value: float) -> int:
        return int((np.abs(column - value) <= TOLERANCE[0] + 1e-12).sum())

    assert within(priors["constant"][0, 0]) == max(within(value) for value in np.linspace(-3, 3, 2001))
    assert within(priors["median"][0, 0]) < within(priors["constant"][0, 0])


def test_the_bar_is_the_best_priors_mean_and_skill_is_what_lies_above_it() -> None:
    name, mean = best_prior({"constant": [0.2, 0.4], "records": [0.5, 0.3]})
    assert name == "records"
    assert mean == pytest.approx(0.4)
    assert skill(1.0, 0.4) == 1.0
    assert skill(0.4, 0.4) == 0.0
    assert skill(0.88, 0.4) == pytest.approx(0.8)
    assert skill(0.1, 0.4) < 0
    assert skill(1.0, 1.0) == 0.0

"""The scores of membership attacks against slow or exact computations of the same things."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from attacks.membership import halves, lira_scores, loss_threshold_scores, rmia_scores
from attacks.metrics import auc, tpr_at_fpr

Floats: TypeAlias = NDArray[np.float64]
World: TypeAlias = tuple[NDArray[np.bool_], Floats]

MODELS, RECORDS = 16, 30


def world(seed: int = 0, *, records: int = RECORDS, models: int = MODELS, gain: float = 1.0) -> World:
    """Log-odds as LiRA imagines them: Gaussian, each record of its own difficulty, members `gain` deviations higher."""
    rng = np.random.default_rng(seed)
    members = halves(models, records, rng=rng)
    difficulty = rng.normal(0, 4, records)
    log_odds = difficulty + gain * members + rng.normal(size=members.shape)
    return members, log_odds


@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 20).map(lambda half: 2 * half))
def test_every_training_set_is_a_half_and_pairs_are_complements(seed: int, models: int, records: int) -> None:
    members = halves(models, records, rng=np.random.default_rng(seed))
    assert members.shape == (models, records)
    assert (members.sum(axis=1) == records // 2).all()
    assert (members[0 : models - 1 : 2] ^ members[1::2]).all()


def test_halves_of_an_odd_number_are_refused() -> None:
    with pytest.raises(ValueError, match="even number"):
        halves(2, 7, rng=np.random.default_rng())


def test_loss_threshold_is_minus_torchs_cross_entropy() -> None:
    log_odds = np.linspace(-800, 800, 41)
    logits = torch.stack([torch.zeros(41, dtype=torch.float64), torch.from_numpy(log_odds)], dim=1)
    loss = torch.nn.functional.cross_entropy(logits, torch.ones(41, dtype=torch.int64), reduction="none")
    np.testing.assert_allclose(loss_threshold_scores(log_odds), -loss.numpy(), rtol=1e-12, atol=1e-15)


def test_lira_is_the_ratio_of_two_fitted_normal_densities() -> None:
    members, log_odds = world()
    target = log_odds[-1]
    scores = lira_scores(target, log_odds[:-1], members[:-1], common_variance=False)
    for j in range(RECORDS):
        inside, outside = log_odds[:-1, j][members[:-1, j]], log_odds[:-1, j][~members[:-1, j]]
        expected = stats.norm.logpdf(target[j], inside.mean(), inside.std(ddof=1)) - stats.norm.logpdf(
            target[j], outside.mean(), outside.std(ddof=1)
        )
        assert scores[j] == pytest.approx(expected)


def test_offline_lira_is_the_log_probability_that_an_outsider_scores_less() -> None:
    members, log_odds = world()
    scores = lira_scores(log_odds[-1], log_odds[:-1], members[:-1], online=False, common_variance=False)
    for j in range(RECORDS):
        outside = log_odds[:-1, j][~members[:-1, j]]
        assert scores[j] == pytest.approx(stats.norm.logcdf(log_odds[-1, j], outside.mean(), outside.std(ddof=1)))


def test_lira_with_a_common_variance_pools_squares_within_records() -> None:
    members, log_odds = world()
    target = log_odds[-1]
    scores = lira_scores(target, log_odds[:-1], members[:-1], common_variance=True)
    means, deviations = [], []
    for side in (members[:-1], ~members[:-1]):
        groups = [log_odds[:-1, j][side[:, j]] for j in range(RECORDS)]
        means.append(np.array([g.mean() for g in groups]))
        deviations.append(np.sqrt(sum(((g - g.mean()) ** 2).sum() for g in groups) / sum(len(g) - 1 for g in groups)))
    expected = stats.norm.logpdf(target, means[0], deviations[0]) - stats.norm.logpdf(target, means[1], deviations[1])
    np.testing.assert_allclose(scores, expected)


def test_few_shadow_models_share_one_variance_and_many_do_not() -> None:
    few, many = world(models=8), world(models=64)
    for (members, log_odds), common in ((few, True), (many, False)):
        default = lira_scores(log_odds[0], log_odds, members)
        np.testing.assert_array_equal(default, lira_scores(log_odds[0], log_odds, members, common_variance=common))
        assert not np.allclose(default, lira_scores(log_odds[0], log_odds, members, common_variance=not common))


def test_lira_finds_members_whose_losses_tell_nothing() -> None:
    members, log_odds = world(records=4000, models=66, gain=2.0)
    target, truth = log_odds[64], members[64]
    score = lira_scores(target, log_odds[:64], members[:64])
    loss = loss_threshold_scores(target)
    assert auc(score[truth], score[~truth]) > 0.9
    assert auc(loss[truth], loss[~truth]) < 0.65
    low, high = (tpr_at_fpr(s[truth], s[~truth], fpr=0.01) or 0.0 for s in (loss, score))
    assert high > 0.25
    assert low < 0.05


@pytest.mark.parametrize("attack", ["lira", "rmia"])
def test_attacks_find_nothing_where_there_is_nothing(attack: str) -> None:
    members, log_odds = world(records=4000, models=34, gain=0.0)
    target, truth = log_odds[32], members[32]
    if attack == "lira":
        score = lira_scores(target, log_odds[:32], members[:32])
    else:
        people = world(seed=7, records=1000, models=34, gain=0.0)[1]
        score = rmia_scores(target, log_odds[:32], members[:32], people[32], people[:32])
    assert abs(auc(score[truth], score[~truth]) - 0.5) < 0.05


@pytest.mark.parametrize(
    "attack", [lira_scores, lambda target, shadows, members: rmia_scores(target, shadows, members, target, shadows)]
)
def test_a_record_without_shadow_models_on_either_side_is_refused(attack: Callable[..., Floats]) -> None:
    members, log_odds = world()
    members[:, 3] = True
    with pytest.raises(ValueError, match=r"record 3 .*train more"):
        attack(log_odds[0], log_odds, members)


@given(st.integers(0, 200), st.floats(0.5, 3), st.sampled_from([None, 0.0, 0.4, 1.0]))
def test_rmia_counts_the_pairs_of_the_paper_one_by_one(seed: int, gamma: float, offline: float | None) -> None:
    members, log_odds = world(seed)
    people = world(seed + 1)[1]
    scores = rmia_scores(log_odds[0], log_odds[1:], members[1:], people[0], people[1:], gamma=gamma, offline=offline)
    p, z = (1 / (1 + np.exp(-values)) for values in (log_odds, people))
    for j in range(0, RECORDS, 7):
        inside, outside = p[1:, j][members[1:, j]].mean(), p[1:, j][~members[1:, j]].mean()
        reference = (inside + outside) / 2 if offline is None else (1 + offline) / 2 * outside + (1 - offline) / 2
        beaten = []
        for k in range(RECORDS):
            mean = z[1:, k].mean()
            other = mean if offline is None else (1 + offline) / 2 * mean + (1 - offline) / 2
            beaten.append((p[0, j] / reference) / (z[0, k] / other) >= gamma)
        assert scores[j] == np.mean(beaten)


def test_scores_of_several_targets_are_those_of_each_alone() -> None:
    members, log_odds = world()
    people = world(seed=5)[1]
    several = rmia_scores(log_odds[:3], log_odds[3:], members[3:], people[:3], people[3:])
    ratio = lira_scores(log_odds[:3], log_odds[3:], members[3:])
    for i in range(3):
        np.testing.assert_array_equal(
            several[i], rmia_scores(log_odds[i], log_odds[3:], members[3:], people[i], people[3:])
        )
        np.testing.assert_array_equal(ratio[i], lira_scores(log_odds[i], log_odds[3:], members[3:]))


def test_outputs_without_spread_and_extreme_log_odds_stay_finite() -> None:
    members, log_odds = world()
    log_odds[:] = 1.0
    log_odds[:, 0] = -2000.0
    assert np.isfinite(rmia_scores(log_odds[0], log_odds, members, log_odds[0], log_odds)).all()
    assert not np.isnan(lira_scores(log_odds[0], log_odds, members)).any()

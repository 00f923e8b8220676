"""Metrics: against definitions written out another way, at their extremes, and where they must refuse to answer."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, mannwhitneyu

from attacks.metrics import (
    FEWEST_FALSE_POSITIVES,
    auc,
    auc_interval,
    bootstrap,
    label_accuracy,
    match,
    match_images,
    mse,
    nearest_neighbour_rank,
    proportion,
    psnr,
    roc_curve,
    squared_distances,
    ssim,
    tpr_at_fpr,
    tpr_at_fpr_interval,
)

SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30).map(np.array)


@given(SCORES, SCORES)
def test_auc_is_the_mann_whitney_statistic_with_ties_counted_half(members: np.ndarray, others: np.ndarray) -> None:
    pairs = [(m > o) + (m == o) / 2 for m, o in itertools.product(members, others)]
    assert auc(members, others) == pytest.approx(np.mean(pairs))
    if len({*members, *others}) > 1:
        statistic = mannwhitneyu(members, others, method="asymptotic").statistic
        assert auc(members, others) == pytest.approx(statistic / len(pairs))


@given(SCORES, SCORES)
def test_roc_curves_rise_from_zero_to_one(members: np.ndarray, others: np.ndarray) -> None:
    fpr, tpr = roc_curve(members, others)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()


def test_true_positive_rates_keep_the_false_positive_rate() -> None:
    others = np.arange(1000.0)
    members = np.array([990.5, 989.5, 980.0, 5.0])  # nine others above the first, ten above the second
    assert tpr_at_fpr(members, others, fpr=0.01) == 0.5
    assert tpr_at_fpr(members, others, fpr=0.02) == 0.75
    tied = np.array([0.0] * 980 + [1.0] * 20)  # no threshold lets ten of the twenty through
    assert tpr_at_fpr(np.array([1.0, 2.0]), tied, fpr=0.01) == 0.5


def test_false_positive_rates_too_low_to_be_measured_are_not_answered() -> None:
    members, rng = np.ones(5), np.random.default_rng(0)
    fewest = FEWEST_FALSE_POSITIVES * 100
    assert tpr_at_fpr(members, np.zeros(fewest), fpr=0.01) == 1.0
    assert tpr_at_fpr(members, np.zeros(fewest - 1), fpr=0.01) is None
    assert tpr_at_fpr_interval(members, np.zeros(fewest - 1), fpr=0.01, rng=rng) is None
    with pytest.raises(ValueError, match="false-positive rate"):
        tpr_at_fpr(members, members, fpr=0.0)


def test_scores_that_are_missing_or_nan_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one score"):
        auc(np.array([]), np.ones(3))
    with pytest.raises(ValueError, match="NaN"):
        auc(np.ones(3), np.array([1.0, np.nan]))


@given(st.integers(1, 60), st.data())
def test_clopper_pearson_intervals_are_scipys(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    ours, theirs = proportion(successes, trials, confidence=0.9), binomtest(successes, trials).proportion_ci(0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.low <= ours.value <= ours.high


@pytest.mark.parametrize("p", [0.03, 0.5, 0.9])
def test_clopper_pearson_intervals_cover_at_least_as_often_as_they_say(p: float) -> None:
    trials = 40
    covered = sum(
        binom.pmf(k, trials, p)
        for k in range(trials + 1)
        if proportion(k, trials).low <= p <= proportion(k, trials).high
    )
    assert covered >= 0.95


def test_bootstrap_intervals_cover_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        estimate = bootstrap(np.mean, rng.exponential(size=60), rng=rng, resamples=200, confidence=0.9)
        hits += estimate.low <= 1.0 <= estimate.high
    assert 0.82 <= hits / 200 <= 0.95


def test_intervals_of_scores_hold_the_score() -> None:
    rng = np.random.default_rng(2)
    members, others = rng.normal(1.0, 1.0, 400), rng.normal(0.0, 1.0, 400)
    area = auc_interval(members, others, rng=rng, resamples=200)
    assert area.low < 0.7602 < area.high  # Phi(1 / sqrt 2)
    found = tpr_at_fpr_interval(members, others, fpr=0.05, rng=rng, resamples=200)
    assert found is not None
    assert found.low < 0.2595 < found.high  # 1 - Phi(1.645 - 1)


@pytest.mark.parametrize(("successes", "trials", "confidence"), [(1, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1)])
def test_impossible_counts_and_confidences_are_refused(successes: int, trials: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"successes|confidence"):
        proportion(successes, trials, confidence=confidence)
    with pytest.raises(ValueError, match=r"resample|confidence"):
        bootstrap(np.mean, np.array([]), rng=np.random.default_rng(0))


def test_psnr_is_ten_decibels_a_factor_of_ten_in_squared_error() -> None:
    truth = np.zeros((3, 1, 4, 4))
    guesses = np.stack([np.full((1, 4, 4), 0.1), np.full((1, 4, 4), 0.1**0.5), np.zeros((1, 4, 4))])
    assert mse(truth, guesses).tolist() == pytest.approx([0.01, 0.1, 0.0])
    assert psnr(truth, guesses).tolist() == pytest.approx([20.0, 10.0, np.inf])
    assert psnr(255 * truth, 255 * guesses, data_range=255.0)[0] == pytest.approx(20.0)
    with pytest.raises(ValueError, match="one guess an image"):
        psnr(truth, guesses[:2])


def test_ssim_of_constant_images_is_its_luminance_term_and_one_of_equal_images() -> None:
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(2, 1, 8, 8))
    assert ssim(images, images).tolist() == pytest.approx([1.0, 1.0])
    light, dark = np.full((1, 8, 8), 0.8), np.full((1, 8, 8), 0.2)
    assert ssim(light, dark)[0] == pytest.approx((2 * 0.16 + 1e-4) / (0.64 + 0.04 + 1e-4))
    assert ssim(images, 1 - images)[0] < 0.2  # structure upside down
    with pytest.raises(ValueError, match="one guess an image"):
        ssim(light, dark[:, :4])


def test_ssim_is_the_formula_at_every_pixel() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.uniform(size=(2, 20, 20))
    steps = np.arange(-6, 7)
    window = np.exp(-(steps[:, None] ** 2 + steps[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    x_pad, y_pad = (np.pad(image, 6, mode="symmetric") for image in (x, y))
    values = []
    for i, j in itertools.product(range(20), range(20)):
        a, b = x_pad[i : i + 13, j : j + 13], y_pad[i : i + 13, j : j + 13]
        ma, mb = (window * a).sum(), (window * b).sum()
        va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
        cov = (window * (a - ma) * (b - mb)).sum()
        values.append((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    assert ssim(x[None], y[None])[0] == pytest.approx(np.mean(values), abs=1e-6)


@given(st.integers(1, 5), st.integers(0, 2), st.integers(0, 1000))
def test_matching_is_the_cheapest_of_all_assignments(records: int, spare: int, seed: int) -> None:
    cost = np.random.default_rng(seed).uniform(size=(records, records + spare))
    chosen = match(cost)
    assert len(set(chosen.tolist())) == records
    best = min(
        sum(cost[i, j] for i, j in enumerate(order))
        for order in itertools.permutations(range(records + spare), records)
    )
    assert cost[np.arange(records), chosen].sum() == pytest.approx(best)


def test_fewer_guesses_than_records_are_refused() -> None:
    with pytest.raises(ValueError, match="guesses of the prior"):
        match(np.zeros((2, 1)))


def test_images_of_a_batch_are_matched_whatever_their_order() -> None:
    truth = np.random.default_rng(0).uniform(size=(5, 1, 3, 3))
    shuffled = truth[[3, 0, 4, 1, 2]] + 1e-3
    assert np.allclose(match_images(truth, shuffled), truth, atol=2e-3)
    assert np.allclose(squared_distances(truth, shuffled).min(axis=1), 1e-6)


def test_the_nearest_neighbour_rank_counts_those_as_near_as_the_truth() -> None:
    truth, guesses = np.array([[0.0], [10.0]]), np.array([[1.0], [10.0]])
    gallery = np.array([[1.5], [2.0], [9.0]])  # nearer to the first guess than the truth, as near, far
    assert nearest_neighbour_rank(guesses, truth, gallery).tolist() == [3, 1]


def test_labels_are_compared_as_multisets() -> None:
    assert label_accuracy(np.array([0, 1, 1, 2]), np.array([1, 1, 2, 0])) == 1.0
    assert label_accuracy(np.array([0, 1, 1, 2]), np.array([1, 1, 1, 1])) == 0.5
    with pytest.raises(ValueError, match="as many labels"):
        label_accuracy(np.array([0, 1]), np.array([0]))

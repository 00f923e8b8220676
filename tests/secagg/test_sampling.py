"""Discrete Gaussian samples against the exact distribution, by rational bounds and by chi-square."""

import hashlib
from fractions import Fraction
from math import exp
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2, kstwobign

from secagg import tags
from secagg.primitives.keys import derive_key
from secagg.primitives.prg import keystream
from secagg.primitives.sampling import MAX_SIGMA, MIN_SIGMA, discrete_gaussian
from secagg.primitives.sampling.gaussian import _table, _thresholds
from secagg.primitives.sampling.inversion import Table, settle

KEY = bytes(range(32))
SIGMAS = [0.5, 0.7, 1.0, 3.2, 6.5, 19.53, 128.0, 1000.25]


def pmf(sigma: float, reach: int) -> NDArray[np.float64]:
    """P[0], P[±1], ... of both signs together, summed far beyond `reach`."""
    weights = np.array([exp(-(x * x) / (2 * sigma * sigma)) for x in range(reach + int(40 * sigma) + 2)])
    weights[1:] *= 2
    folded: NDArray[np.float64] = weights[: reach + 1] / weights.sum()
    return folded


@pytest.mark.parametrize("sigma", [*SIGMAS, MAX_SIGMA])
def test_the_table_is_within_2_to_the_minus_100_of_the_exact_distribution(sigma: float) -> None:
    thresholds = _thresholds(sigma)
    with mpmath.workprec(500):
        scale = 2 * mpmath.mpf(sigma) ** 2
        # Poisson: the sum over all integers is that of the transform, of which few terms matter even at sigma = 0.5
        series = mpmath.fsum(mpmath.exp(-((mpmath.pi * k) ** 2) * scale) for k in range(-30, 31))
        total = mpmath.sqrt(mpmath.pi * scale) * series
        ratio, step = mpmath.exp(-1 / scale), mpmath.exp(-2 / scale)
        weight, below, drawn, distance = mpmath.mpf(1), 0, mpmath.mpf(0), mpmath.mpf(0)
        for m, threshold in enumerate(thresholds):
            exact = (weight if m == 0 else 2 * weight) / total
            distance += abs(mpmath.mpf(threshold - below) / 2**127 - exact)
            drawn += exact
            below = threshold
            weight *= ratio
            ratio *= step
        assert drawn < 1
        rest = mpmath.mpf((1 << 127) - below) / 2**127
        exact = 2 * weight / total
        tail = 1 - drawn - exact
        assert 0 < tail < mpmath.mpf(2) ** -110
        distance = (distance + abs(rest - exact) + tail) / 2
        assert distance < mpmath.mpf(2) ** -107
        floors = [int(mpmath.floor(mpmath.mpf(2) ** 127 / total)), thresholds[0]]
    assert floors[0] == floors[1]
    assert thresholds == sorted(thresholds)
    assert thresholds[-1] < 1 << 127


@pytest.mark.parametrize("sigma", SIGMAS)
def test_samples_fit_the_exact_distribution(sigma: float) -> None:
    count = 1 << 18
    drawn = discrete_gaussian(KEY, count, sigma)
    reach = int(13 * sigma) + 3
    folded = pmf(sigma, reach)
    both = np.concatenate([folded[:0:-1] / 2, folded[:1], folded[1:] / 2])
    expected = count * both
    counts = np.bincount(drawn + reach, minlength=len(both)).astype(np.float64)
    # neighbours are pooled until each bin expects at least 20
    pools = np.floor(np.cumsum(expected) / 20).astype(np.int64)
    pools = np.minimum(pools, pools[-1] - 1)
    sums = [np.bincount(pools, weights=weights)[np.unique(pools)] for weights in (counts, expected)]
    statistic = ((sums[0] - sums[1]) ** 2 / sums[1]).sum()
    assert chi2.sf(statistic, len(sums[0]) - 1) > 1e-3
    gap = np.abs(np.cumsum(counts) / count - np.cumsum(both)).max()
    assert kstwobign.sf(gap * count**0.5) > 1e-3  # Kolmogorov-Smirnov, conservative for atoms


def test_that_statistic_would_notice_a_rounded_normal() -> None:
    count, sigma = 1 << 18, 1.0
    rounded = np.rint(np.random.default_rng(1).normal(0, sigma, count)).astype(np.int64)
    expected = count * pmf(sigma, 3)
    counts = np.bincount(np.abs(rounded), minlength=4)[:4]
    assert chi2.sf(((counts - expected) ** 2 / expected).sum(), 3) < 1e-9


@pytest.mark.parametrize("sigma", [*SIGMAS, MAX_SIGMA])
def test_moments_are_those_of_the_distribution(sigma: float) -> None:
    count = 1 << 18
    drawn = discrete_gaussian(KEY, count, sigma).astype(np.float64)
    probabilities = pmf(min(sigma, 2000), int(13 * min(sigma, 2000)) + 3)
    squares = np.arange(len(probabilities)) ** 2
    variance = float((probabilities * squares).sum()) if sigma <= 2000 else sigma**2
    if sigma >= 1:
        assert sigma**2 * (1 - 1e-6) < variance <= sigma**2 * (1 + 1e-9)
    deviation = variance**0.5
    assert abs(drawn.mean()) < 4 * deviation / count**0.5
    assert abs(drawn.var() / variance - 1) < 4 * (3 / count) ** 0.5
    assert abs((drawn > 0).mean() - (drawn < 0).mean()) < 4 / count**0.5
    assert abs((drawn**3).mean()) < 4 * 15**0.5 * deviation**3 / count**0.5 * 1.5
    assert abs(drawn).max() <= 12.2 * sigma + 2


def by_hand(key: bytes, size: int, sigma: float) -> list[int]:
    """The module's docstring, word for word."""
    thresholds = _thresholds(sigma)
    first = keystream(key, 8 * size + 16).view("<u8")
    second = keystream(derive_key(key, tags.GAUSSIAN_TIES), 16 * size).view("<u8")
    samples = []
    for i in range(size):
        h, low = int(first[i]), int(second[2 * i])
        magnitude = sum(threshold <= (h // 2 << 64) + low for threshold in thresholds)
        samples.append(-magnitude if h % 2 else magnitude)
    return samples


@given(st.binary(min_size=32, max_size=32), st.sampled_from(SIGMAS[:6]), st.integers(0, 40), st.integers(0, 40))
def test_samples_are_what_the_docstring_says_however_they_are_cut(
    key: bytes, sigma: float, first: int, second: int
) -> None:
    expected = by_hand(key, first + second, sigma)
    pieces = [discrete_gaussian(key, first, sigma), discrete_gaussian(key, second, sigma, start=first)]
    assert pieces[0].dtype == np.int32
    assert np.concatenate(pieces).tolist() == expected


def words_at(table: Table, by: int) -> NDArray[np.uint64]:
    """Words whose 63 bits are a threshold's, plus `by`: both signs of each."""
    values = (table.high + np.uint64(by % (1 << 64))) << np.uint64(1)
    return np.concatenate([values, values | np.uint64(1)])


@pytest.mark.parametrize("sigma", [0.5, 6.5, 45.25])
def test_ties_are_settled_by_all_127_bits(sigma: float, monkeypatch: pytest.MonkeyPatch) -> None:
    table, thresholds = _table(sigma), _thresholds(sigma)
    half = len(table.high)
    other = derive_key(KEY, tags.GAUSSIAN_TIES)
    for change in (-1, 0, 1):
        words = np.concatenate([words_at(table, 0), np.zeros(1, dtype=np.uint64)])
        low = [(int(value) + change) % (1 << 64) for value in table.low]

        def stream(key: bytes, length: int, *, offset: int = 0, words: Any = words, low: Any = low) -> Any:
            if key == KEY:
                return words.astype("<u8").view(np.uint8)[offset : offset + length]
            assert key == other
            assert length == 8
            return np.frombuffer(low[offset // 16 % half].to_bytes(8, "little"), dtype=np.uint8)

        monkeypatch.setattr("secagg.primitives.sampling.inversion.keystream", stream)
        drawn = discrete_gaussian(KEY, 2 * half, sigma)  # far more ties than are noted one by one, for large sigma
        values = [(int(high) << 64) + bits for high, bits in zip(table.high, low, strict=True)]
        expected = [sum(threshold <= value for threshold in thresholds) for value in values]
        assert drawn.tolist() == expected + [-magnitude for magnitude in expected]
        few = discrete_gaussian(KEY, 2, sigma, start=2)
        assert few.tolist() == expected[2:4]


@pytest.mark.parametrize("sigma", [0.5, 6.5, 1000.25])
@pytest.mark.parametrize("by", [-1, 0, 1])
def test_only_equal_high_bits_are_ties(sigma: float, by: int) -> None:
    from secagg.primitives.sampling import kernels

    table = _table(sigma)
    words = words_at(table, by)
    ties = np.empty(4, dtype=np.int64)
    out = np.empty(len(words), dtype=np.int32)
    count = kernels.invert(words, table.high, table.guide, table.guide_shift, ties, out)
    equal = np.isin(words >> np.uint64(1), table.high)
    assert count == equal.sum()
    assert ties[: min(count, 4)].tolist() == np.flatnonzero(equal)[:4].tolist()
    magnitudes = np.searchsorted(table.high, words >> np.uint64(1), side="right")
    assert np.array_equal(np.abs(out), magnitudes)
    assert np.array_equal(out < 0, (words % 2 == 1) & (magnitudes > 0))


def test_thresholds_with_equal_high_bits_are_told_apart_by_their_low_bits() -> None:
    table = Table(
        np.array([5, 9, 9, 9], dtype=np.uint64),
        np.array([1, 2, 3, 3], dtype=np.uint64),
        np.zeros(2, dtype=np.int32),
        63,
        tags.GAUSSIAN_TIES,
    )
    key, words, out = KEY, np.array([9 << 1, (9 << 1) | 1], dtype=np.uint64), np.zeros(2, dtype=np.int32)
    settle(key, words, np.array([0, 1]), 0, table, out)
    low = keystream(key, 32).view("<u8")[::2].tolist()
    expected = [1 + sum(bound <= value for bound in (2, 3, 3)) for value in low]
    assert out.tolist() == [expected[0], -expected[1]]


def test_samples_do_not_change_from_version_to_version() -> None:
    assert discrete_gaussian(KEY, 12, 6.5).tolist() == [9, -4, 11, 2, 7, 5, 2, 3, 0, -3, -6, 10]
    digest = hashlib.sha256()
    for sigma in (*SIGMAS, MAX_SIGMA):
        digest.update(discrete_gaussian(KEY, 1000, sigma).astype("<i4").tobytes())
    assert digest.hexdigest()[:16] == "077862c5725774f5"


@pytest.mark.parametrize("sigma", [MIN_SIGMA - 1e-9, MAX_SIGMA + 1e-9, 0.0, -1.0, float("inf"), float("nan")])
def test_a_sigma_out_of_range_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma is in"):
        discrete_gaussian(KEY, 1, sigma)


@pytest.mark.parametrize("sigma", ["6.5", None, True, 3 + 0j])
def test_a_sigma_that_is_no_number_is_refused(sigma: Any) -> None:
    with pytest.raises(TypeError, match="sigma is a number"):
        discrete_gaussian(KEY, 1, sigma)


@pytest.mark.parametrize(("size", "start"), [(-1, 0), (1, -1)])
def test_samples_are_numbered_from_zero(size: int, start: int) -> None:
    with pytest.raises(ValueError, match="from 0 on"):
        discrete_gaussian(KEY, size, 6.5, start=start)


def test_any_real_number_may_be_a_sigma() -> None:
    expected = discrete_gaussian(KEY, 50, 6.5)
    for sigma in (Fraction(13, 2), np.float32(6.5), np.float64(6.5)):
        assert np.array_equal(discrete_gaussian(KEY, 50, sigma), expected)  # type: ignore[arg-type]
    assert np.array_equal(discrete_gaussian(KEY, 50, 6), discrete_gaussian(KEY, 50, 6.0))

"""Skellam samples against the exact distribution: mpmath's Bessel functions, goodness of fit, closure under sums."""

import hashlib
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ive
from scipy.stats import chi2, kstwobign

from secagg import tags
from secagg.primitives.keys import derive_key
from secagg.primitives.prg import keystream
from secagg.primitives.sampling import MAX_VARIANCE, MIN_VARIANCE, skellam
from secagg.primitives.sampling.skellam_law import _thresholds

KEY = bytes(range(32))
VARIANCES = [0.05, 0.5, 1.0, 7.3, 100.0, 1e4, 1e6]


def pmf(variance: float, reach: int) -> NDArray[np.float64]:
    """P[-reach], ..., P[reach]."""
    return np.asarray(ive(np.abs(np.arange(-reach, reach + 1)), variance), dtype=np.float64)


def reach_of(variance: float) -> int:
    return int(12.2 * variance**0.5) + 30


def p_value(drawn: NDArray[Any], variance: float) -> float:
    """Chi-square, neighbours pooled until each bin expects at least 20."""
    reach = max(reach_of(variance), int(np.abs(drawn).max()))
    expected = len(drawn) * pmf(variance, reach)
    counts = np.bincount(drawn + reach, minlength=len(expected)).astype(np.float64)
    pools = np.floor(np.cumsum(expected) / 20).astype(np.int64)
    pools = np.minimum(pools, pools[-1] - 1)
    ours, theirs = (np.bincount(pools, weights=weights)[np.unique(pools)] for weights in (counts, expected))
    return float(chi2.sf(((ours - theirs) ** 2 / theirs).sum(), len(ours) - 1))


@pytest.mark.parametrize("variance", [MIN_VARIANCE, *VARIANCES])
def test_the_table_is_within_2_to_the_minus_107_of_the_exact_distribution(variance: float) -> None:
    thresholds = _thresholds(variance)
    with mpmath.workprec(700):
        v = mpmath.mpf(variance)
        last = len(thresholds) + 1
        above, current = (mpmath.besseli(k, v) * mpmath.exp(-v) for k in (last + 1, last))
        exact = []
        for k in range(last, -1, -1):
            exact.append(current)
            above, current = current, above + 2 * k / v * current
        exact.reverse()
        assert abs(exact[0] - mpmath.besseli(0, v) * mpmath.exp(-v)) < mpmath.mpf(2) ** -250
        distance, below, drawn = mpmath.mpf(0), 0, mpmath.mpf(0)
        for m, threshold in enumerate(thresholds):
            mass = exact[m] if m == 0 else 2 * exact[m]
            distance += abs(mpmath.mpf(threshold - below) / 2**127 - mass)
            drawn += mass
            below = threshold
        rest, mass = mpmath.mpf((1 << 127) - below) / 2**127, 2 * exact[len(thresholds)]
        tail = 1 - drawn - mass
        assert 0 < tail < mpmath.mpf(2) ** -110
        assert (distance + abs(rest - mass) + tail) / 2 < mpmath.mpf(2) ** -107
        assert thresholds[0] == int(mpmath.floor(2**127 * exact[0]))
    assert thresholds == sorted(thresholds)
    assert thresholds[-1] < 1 << 127


@pytest.mark.parametrize("variance", VARIANCES)
def test_samples_fit_the_exact_distribution(variance: float) -> None:
    drawn = skellam(KEY, 1 << 18, variance)
    assert p_value(drawn, variance) > 1e-3
    assert np.abs(drawn).max() <= reach_of(variance)
    reach = reach_of(variance)
    gap = np.cumsum(np.bincount(drawn + reach, minlength=2 * reach + 1)) / len(drawn) - np.cumsum(pmf(variance, reach))
    assert kstwobign.sf(np.abs(gap).max() * len(drawn) ** 0.5) > 1e-3  # conservative for atoms


def test_that_statistic_would_notice_a_discrete_gaussian_of_the_same_variance() -> None:
    from secagg.primitives.sampling import discrete_gaussian

    assert p_value(discrete_gaussian(KEY, 1 << 18, 2.0), 4.0) < 1e-9


@pytest.mark.parametrize("variance", [*VARIANCES, MAX_VARIANCE])
def test_moments_are_those_of_the_distribution(variance: float) -> None:
    count = 1 << 18
    drawn = skellam(KEY, count, variance).astype(np.float64)
    deviation, kurtosis = variance**0.5, 3 + 1 / variance
    assert abs(drawn.mean()) < 4 * deviation / count**0.5
    assert abs(drawn.var() / variance - 1) < 4 * ((kurtosis - 1) / count) ** 0.5
    assert abs((drawn > 0).mean() - (drawn < 0).mean()) < 4 / count**0.5


def test_sums_are_skellam_of_the_summed_variances() -> None:
    parts = [0.3, 1.2, 2.5]
    total = sum(skellam(derive_key(KEY, tags.NOISE_STREAM, bytes([i])), 1 << 18, v) for i, v in enumerate(parts))
    assert p_value(np.asarray(total), sum(parts)) > 1e-3
    assert p_value(np.asarray(total), sum(parts) * 1.03) < 1e-3


@given(st.binary(min_size=32, max_size=32), st.sampled_from(VARIANCES[:5]), st.integers(0, 40), st.integers(0, 40))
def test_samples_are_what_the_docstring_says_however_they_are_cut(
    key: bytes, variance: float, first: int, second: int
) -> None:
    thresholds = _thresholds(variance)
    high = keystream(key, 8 * (first + second) + 16).view("<u8")
    low = keystream(derive_key(key, tags.SKELLAM_TIES), 16 * (first + second)).view("<u8")
    expected = []
    for i in range(first + second):
        h = int(high[i])
        magnitude = sum(threshold <= (h // 2 << 64) + int(low[2 * i]) for threshold in thresholds)
        expected.append(-magnitude if h % 2 else magnitude)
    pieces = [skellam(key, first, variance), skellam(key, second, variance, start=first)]
    assert pieces[0].dtype == np.int32
    assert np.concatenate(pieces).tolist() == expected


def test_samples_do_not_change_from_version_to_version() -> None:
    digest = hashlib.sha256()
    for variance in (*VARIANCES, MAX_VARIANCE):
        digest.update(skellam(KEY, 1000, variance).astype("<i4").tobytes())
    assert digest.hexdigest()[:16] == "241a5a59ed160d6b"


@pytest.mark.parametrize("variance", [MIN_VARIANCE / 2, MAX_VARIANCE * 1.001, 0.0, -1.0, float("inf"), float("nan")])
def test_a_variance_out_of_range_is_refused(variance: float) -> None:
    with pytest.raises(ValueError, match="variance is in"):
        skellam(KEY, 1, variance)


@pytest.mark.parametrize("variance", ["6.5", None, True, 3 + 0j])
def test_a_variance_that_is_no_number_is_refused(variance: Any) -> None:
    with pytest.raises(TypeError, match="variance is a number"):
        skellam(KEY, 1, variance)

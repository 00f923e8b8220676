"""Mechanisms that return value and event; rows rounded without bias inside a ball."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from dp.discrete import add_discrete_gaussian, add_skellam
from dp.events import DiscreteGaussian, Skellam
from dp.rounding import round_rows, rounded_norm_squared

SECRET = bytes(range(32))


def test_a_mechanism_returns_the_noisy_value_and_what_it_was() -> None:
    values = np.arange(-500, 500)
    noisy, event = add_discrete_gaussian(values, sigma=30.0, sensitivity=2.5, random=SECRET)
    assert event == DiscreteGaussian(30.0, 2.5, 1000)
    assert abs((noisy - values).std() / 30 - 1) < 0.1
    other, skellam_event = add_skellam(values, variance=900.0, sensitivity=2.5, random=SECRET)
    assert skellam_event == Skellam(900.0, 2.5, 1000)
    assert abs((other - values).std() / 30 - 1) < 0.1
    assert noisy.dtype == other.dtype == np.int64
    assert np.corrcoef(noisy - values, other - values)[0, 1] < 0.2  # other noise, though from the same bytes


@pytest.mark.parametrize(
    ("mechanism", "parameter"), [(add_discrete_gaussian, {"sigma": 5.0}), (add_skellam, {"variance": 25.0})]
)
def test_a_retransmission_repeats_the_noise_and_a_new_release_does_not(mechanism: Any, parameter: Any) -> None:
    values = np.zeros(200, dtype=np.int32)
    draws = [mechanism(values, **parameter, sensitivity=1, random=secret)[0] for secret in (SECRET, SECRET, bytes(32))]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (np.zeros(3), TypeError),
        (np.zeros((2, 2), dtype=int), ValueError),
        (np.zeros(0, dtype=int), ValueError),
        (np.array([1 << 62]), ValueError),
        (np.array([np.iinfo(np.int64).min]), ValueError),
        (np.array([1 << 63], dtype=np.uint64), ValueError),
    ],
)
def test_values_that_are_no_integer_vector_are_refused(values: Any, error: type) -> None:
    with pytest.raises(error):
        add_discrete_gaussian(values, sigma=5.0, sensitivity=1, random=SECRET)


def test_a_secret_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        add_skellam(np.zeros(2, dtype=int), variance=1.0, sensitivity=1, random=b"short")


@given(
    st.integers(1, 40), st.floats(0.3, 1e5), st.integers(0, 5), st.binary(min_size=32, max_size=32), st.integers(0, 99)
)
def test_rounded_rows_are_neighbours_of_the_rows_and_stay_in_the_ball(
    dimension: int, norm: float, count: int, key: bytes, seed: int
) -> None:
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    rows *= norm / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9) * (1 - 1e-12)
    bound = rounded_norm_squared(norm, dimension)
    rounded = round_rows(rows, norm_squared=bound, key=key)
    assert rounded.dtype == np.int64
    assert (np.abs(rounded - rows) < 1).all()
    assert all(sum(int(x) ** 2 for x in row) <= bound for row in rounded)


def test_the_bound_is_that_of_the_theorem() -> None:
    # Kairouz, Liu, Steinke 2021, Theorem 1: min((c + sqrt d)^2, c^2 + d/4 + sqrt(2 log 1/beta) (c + sqrt d / 2))
    for norm, d in ((10.0, 4), (100.0, 16), (1.0, 10_000), (3.7, 3)):
        slack = math.sqrt(2 * math.log(1 / math.exp(-0.5))) * (norm + math.sqrt(d) / 2)
        assert rounded_norm_squared(norm, d) == math.floor(min((norm + math.sqrt(d)) ** 2, norm**2 + d / 4 + slack))
    assert rounded_norm_squared(6.2, 1) == 49


def test_rounding_has_no_bias_where_the_ball_is_far() -> None:
    row = np.array([[0.1, -0.25, 3.5, 2.0, -7.75]])
    rows = np.repeat(row, 20_000, axis=0)
    rounded = round_rows(rows, norm_squared=10**6, key=SECRET)
    fraction = row - np.floor(row)
    error = (rounded.mean(axis=0) - row[0]) / np.sqrt(fraction[0] * (1 - fraction[0]) / len(rows) + 1e-30)
    assert abs(error).max() < 4


def test_rounding_on_condition_is_rounding_given_the_condition() -> None:
    rows = np.full((60_000, 3), 0.5)
    rounded = round_rows(rows, norm_squared=2, key=SECRET)
    codes, counts = np.unique(rounded @ [1, 2, 4], return_counts=True)
    assert codes.tolist() == list(range(7))  # all but (1, 1, 1), all alike
    assert chi2.sf(((counts - len(rows) / 7) ** 2 / (len(rows) / 7)).sum(), 6) > 1e-3


def test_a_row_that_hardly_ever_fits_is_rounded_towards_zero() -> None:
    rounded = round_rows(np.full((2, 400), -0.5), norm_squared=0, key=SECRET)
    assert not rounded.any()


def test_rows_that_were_not_clipped_are_refused() -> None:
    with pytest.raises(ValueError, match="clip it first"):
        round_rows(np.array([[1.0, 0.0], [3.0, 4.1]]), norm_squared=24, key=SECRET)
    with pytest.raises(ValueError, match="clip it first"):
        round_rows(np.array([[1e18]]), norm_squared=24, key=SECRET)


@pytest.mark.parametrize(("norm", "dimension"), [(2.0**26, 2), (0.0, 1), (1e300, 5)])
def test_a_norm_beyond_the_grid_is_refused(norm: float, dimension: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        rounded_norm_squared(norm, dimension)

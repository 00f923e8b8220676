import math
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

import dp
from dp.events import check_neighboring_relation, check_unit
from secagg.errors import SecAggError


@pytest.mark.parametrize("noise_multiplier", [0.0, -1.0, 1e-7, math.inf, -math.inf, math.nan])
def test_noise_multiplier_that_is_no_noise_is_refused(noise_multiplier: float) -> None:
    with pytest.raises(ValueError, match=r"noise_multiplier is stddev / clip_norm, finite and >= 1e-06, got"):
        dp.Gaussian(noise_multiplier)


@pytest.mark.parametrize("sampling_probability", [-1e-9, 1.0000001, math.inf, math.nan])
def test_sampling_probability_outside_the_unit_interval_is_refused(sampling_probability: float) -> None:
    with pytest.raises(ValueError, match=r"sampling_probability is in \[0, 1\], got"):
        dp.PoissonSampled(sampling_probability, dp.Gaussian(1.0))


def test_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a count is >= 0 and below 2\^63, got -1"):
        dp.Composed([(dp.Gaussian(1.0), -1)])


@pytest.mark.parametrize("count", [1.0, "1", None])
def test_count_that_is_no_integer_is_refused(count: Any) -> None:
    with pytest.raises(TypeError):
        dp.Composed([(dp.Gaussian(1.0), count)])


def test_count_may_be_a_numpy_integer_and_is_kept_as_int() -> None:
    (pair,) = dp.Composed([(dp.Gaussian(1.0), np.int64(3))]).events  # type: ignore[list-item]
    assert type(pair[1]) is int


def test_sub_event_of_another_type_is_refused() -> None:
    not_an_event: Any = 1.0
    with pytest.raises(TypeError, match="an event is one of dp's event types, got float"):
        dp.PoissonSampled(0.1, not_an_event)
    with pytest.raises(TypeError, match="an event is one of dp's event types, got float"):
        dp.Composed([(not_an_event, 1)])


def test_events_are_frozen_and_equal_by_value() -> None:
    event = dp.PoissonSampled(0.1, dp.Gaussian(1.0))
    assert event == dp.PoissonSampled(0.1, dp.Gaussian(1.0))
    assert hash(event) == hash(dp.PoissonSampled(0.1, dp.Gaussian(1.0)))
    assert event != dp.PoissonSampled(0.1, dp.Gaussian(1.1))
    with pytest.raises(FrozenInstanceError):
        event.sampling_probability = 0.2  # type: ignore[misc]


def test_composed_event_does_not_change_with_the_list_it_was_made_of() -> None:
    pairs: list[tuple[dp.Event, int]] = [(dp.Gaussian(1.0), 1)]
    event = dp.Composed(pairs)
    pairs.append((dp.Gaussian(2.0), 1))
    assert event.events == ((dp.Gaussian(1.0), 1),)


def test_unknown_unit_and_relation_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unit is one of example, patient, institution; got 'patients'"):
        check_unit("patients")
    with pytest.raises(ValueError, match="is one of add-or-remove-one, replace-one, zero-out; got 'swap'"):
        check_neighboring_relation("swap")


def test_errors_are_errors_of_the_library_and_name_the_sub_event() -> None:
    event = dp.Gaussian(1.0)
    error = dp.UnsupportedEventError(event, "because")
    assert isinstance(error, dp.PrivacyError)
    assert isinstance(error, SecAggError)
    assert error.event is event
    assert str(error) == "no privacy bound for Gaussian(noise_multiplier=1.0): because"
    assert issubclass(dp.CalibrationError, dp.PrivacyError)

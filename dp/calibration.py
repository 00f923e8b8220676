"""What noise, sampling or number of rounds a target (ε, δ) pays for.

The search is bracketed by Rényi DP, which takes milliseconds wherever it looks, and finished on the certified interval
of `dp.pld`, near the answer only: there ε is a smooth function, and secant steps in the logarithm of both do.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dp.bounds import rdp_epsilon
from dp.conversion import check_delta, check_epsilon
from dp.errors import CalibrationError, UnsupportedEventError
from dp.events import check_count, check_neighboring_relation
from dp.pld import pld_epsilon

if TYPE_CHECKING:
    from collections.abc import Callable

    from dp.bounds import Interval
    from dp.events import Event, NeighboringRelation

__all__ = ["calibrate_noise_multiplier", "calibrate_rounds", "calibrate_sampling_probability"]

_LEAST, _MOST = 2.0**-10, 2.0**20
"""Noise multipliers tried."""

_LEAST_PROBABILITY = 2.0**-40

_MOST_ROUNDS = 2**40

_TOLERANCE = 2.5e-4
"""How far the upper bound on ε may stay below its target, relative to noise or sampling."""

_ACCURACY = 1e-3
"""Of `pld_epsilon` by default: what is found here meets its target there."""

_STEPS = 30


def calibrate_noise_multiplier(
    make_event: Callable[[float], Event],
    *,
    target_epsilon: float,
    target_delta: float,
    neighboring_relation: NeighboringRelation,
) -> float:
    """Find the smallest noise multiplier with which an event reaches (ε, δ), to about 0.1 %.

    For a given standard deviation of the noise, the largest clipping norm is that divided by the result.

    Args:
        make_event: noise multiplier (stddev / clip_norm) -> event; more noise must not cost more.
        target_epsilon: finite, > 0.
        target_delta: in (0, 1).
        neighboring_relation: "add-or-remove-one", "replace-one" or "zero-out".
    Returns: a noise multiplier in [2^-10, 2^20] whose event, evaluated once more, has ε <= target_epsilon at
        target_delta.
    Raises:
        CalibrationError: no noise multiplier in this range reaches the target, or the least one does.
        UnsupportedEventError: names the sub-event without a bound.

    >>> from dp.events import Composed, Gaussian
    >>> round(calibrate_noise_multiplier(
    ...     lambda noise_multiplier: Composed([(Gaussian(noise_multiplier), 1_000)]),
    ...     target_epsilon=5.0,
    ...     target_delta=1e-5,
    ...     neighboring_relation="add-or-remove-one",
    ... ), 1)
    28.2
    """
    target = _Target(lambda x: make_event(math.exp(-x)), target_epsilon, target_delta, neighboring_relation)
    low, high = -math.log(_MOST), -math.log(_LEAST)
    if target.loose(low) > target_epsilon and target.tight(low).upper > target_epsilon:
        msg = f"{target} is out of reach: even noise multiplier {_MOST:g} costs more"
        raise CalibrationError(msg)
    found = target.solve(low, high)
    if found is None:
        msg = f"{target} asks for no noise: noise multiplier {_LEAST:g} costs no more; does the event depend on it?"
        raise CalibrationError(msg)
    return math.exp(-found)


def calibrate_sampling_probability(
    make_event: Callable[[float], Event],
    *,
    target_epsilon: float,
    target_delta: float,
    neighboring_relation: NeighboringRelation,
) -> float:
    """Find the largest sampling probability with which an event reaches (ε, δ), to about 0.1 %; 1 if all do.

    Args:
        make_event: sampling probability in (0, 1] -> event; more sampling must not cost less.
        target_epsilon: finite, > 0.
        target_delta: in (0, 1).
        neighboring_relation: "add-or-remove-one", "replace-one" or "zero-out".
    Raises:
        CalibrationError: even 2^-40 costs more.
        UnsupportedEventError: names the sub-event without a bound.

    >>> from dp.events import Composed, Gaussian, PoissonSampled
    >>> round(calibrate_sampling_probability(
    ...     lambda q: Composed([(PoissonSampled(q, Gaussian(1.0)), 1_000)]),
    ...     target_epsilon=1.83, target_delta=1e-5, neighboring_relation="add-or-remove-one",
    ... ), 3)
    0.01
    """
    target = _Target(lambda x: make_event(min(1.0, math.exp(x))), target_epsilon, target_delta, neighboring_relation)
    low = math.log(_LEAST_PROBABILITY)
    if target.loose(low) > target_epsilon and target.tight(low).upper > target_epsilon:
        msg = f"{target} is out of reach: even sampling with probability {_LEAST_PROBABILITY:g} costs more"
        raise CalibrationError(msg)
    if target.loose(0.0) <= target_epsilon:
        return 1.0
    found = target.solve(low, 0.0)
    return 1.0 if found is None else math.exp(found)


def calibrate_rounds(
    make_event: Callable[[int], Event],
    *,
    target_epsilon: float,
    target_delta: float,
    neighboring_relation: NeighboringRelation,
) -> int:
    """Find how many rounds (ε, δ) pays for, at least 0 and at most 2^40.

    Args:
        make_event: number of rounds >= 0 -> event; more rounds must not cost less.
        target_epsilon: finite, > 0.
        target_delta: in (0, 1).
        neighboring_relation: "add-or-remove-one", "replace-one" or "zero-out".
    Returns: a certified number of rounds; 0.1 % more, or one more, are not.
    Raises:
        UnsupportedEventError: names the sub-event without a bound.

    >>> from dp.events import Composed, Gaussian, PoissonSampled
    >>> calibrate_rounds(
    ...     lambda rounds: Composed([(Gaussian(10.0), rounds)]),
    ...     target_epsilon=1.0, target_delta=1e-5, neighboring_relation="add-or-remove-one",
    ... )
    7
    """
    target = _Target(lambda x: make_event(check_count(round(x))), target_epsilon, target_delta, neighboring_relation)
    low, high = 0, 1
    while high < _MOST_ROUNDS and target.loose(high) <= target_epsilon:
        low, high = high, 2 * high
    while high < _MOST_ROUNDS and target.tight(high).upper <= target_epsilon:
        low, high = high, 2 * high
    while high - low > max(1, 5e-4 * low):
        middle = (low + high) // 2
        if target.reached(middle):
            low = middle
        else:
            high = middle
    return low


class _Target:
    """A target and a family of events, x -> event, that cost more the larger x is."""

    def __init__(
        self, make_event: Callable[[float], Event], epsilon: float, delta: float, relation: NeighboringRelation
    ) -> None:
        if check_epsilon(epsilon) == 0:
            msg = "target_epsilon is > 0: no finite noise gives ε = 0"
            raise ValueError(msg)
        self.make_event = make_event
        self.epsilon = epsilon
        self.delta = check_delta(delta)
        self.relation = check_neighboring_relation(relation)

    def __str__(self) -> str:
        return f"ε = {self.epsilon} at δ = {self.delta!r} ({self.relation})"

    def loose(self, x: float) -> float:
        """Return a bound on ε that takes milliseconds."""
        event = self.make_event(x)
        try:
            return rdp_epsilon(event, self.delta, neighboring_relation=self.relation).upper
        except UnsupportedEventError:
            return self.tight(x, 0.1).upper

    def tight(self, x: float, accuracy: float = _ACCURACY) -> Interval:
        """Return bounds on ε."""
        return pld_epsilon(self.make_event(x), self.delta, neighboring_relation=self.relation, accuracy=accuracy)

    def reached(self, x: float) -> bool:
        """Whether ε is certified to be at most the target."""
        rough = self.tight(x, 0.02)
        if not rough.lower <= self.epsilon * 1.01 <= rough.upper * 1.02:  # no need to look closer
            return rough.upper <= self.epsilon
        return self.tight(x).upper <= self.epsilon

    def solve(self, low: float, high: float) -> float | None:
        """Return the largest x in [low, high] that reaches the target, about; None if even `high` does.

        `low` reaches it.
        """
        x, slope = self._start(low, high)
        found, missed, last = low, math.inf, None
        accuracy = 0.05
        for _ in range(_STEPS):
            bounds = self.tight(x, accuracy)
            middle = math.log(max(bounds.upper + bounds.lower, 1e-300) / 2 / self.epsilon)
            if last is not None and abs(x - last[0]) * slope > 5 * accuracy:
                slope = min(max((middle - last[1]) / (x - last[0]), 0.05), 50.0)
            last = x, middle
            tolerance = _TOLERANCE * slope
            if bounds.lower > self.epsilon or (accuracy == _ACCURACY and bounds.upper > self.epsilon):
                missed = min(missed, x)
            elif accuracy == _ACCURACY:
                found = max(found, x)
                if x == high:
                    return None
                if bounds.upper >= self.epsilon * (1 - 2 * tolerance) or missed - found < _TOLERANCE:
                    break
            step = middle / slope
            if abs(middle) < 0.1 or x == high:  # noqa: PLR2004 -- near enough for the slope to hold
                finer = max(_ACCURACY, accuracy / 6)
                ahead = bounds.upper if finer == accuracy else (bounds.upper + bounds.lower) / 2 * (1 + finer / 2)
                step = (math.log(max(ahead, 1e-300) / self.epsilon) + 0.6 * tolerance) / slope
                accuracy = finer
            x = min(x - step, high)
            if not found < x < missed:
                x = (found + missed) / 2 if missed < math.inf else high
        return found

    def _start(self, low: float, high: float) -> tuple[float, float]:
        """Return about where Rényi DP reaches the target, and d log ε/dx there."""

        def excess(x: float) -> float:
            return math.log(max(self.loose(x), 1e-300) / self.epsilon)

        x = min(max(0.0, low), high)
        value = excess(x)
        step = -0.7 if value > 0 else 0.7
        slope = 1.0
        for _ in range(_STEPS):
            if abs(value) <= 0.05 or not low <= x + step <= high:  # noqa: PLR2004
                break
            ahead = excess(x + step)
            slope = min(max((ahead - value) / step, 0.05), 50.0)
            x, value = x + step, ahead
            step = math.copysign(min(abs(value) / slope, 2.0), -value)
        return x, slope

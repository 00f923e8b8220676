"""What noise pays for a target (ε, δ)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dp.conversion import check_delta, check_epsilon, rdp_to_epsilon
from dp.errors import CalibrationError
from dp.events import check_neighboring_relation
from dp.ledger import rdp_curve

if TYPE_CHECKING:
    from collections.abc import Callable

    from dp.events import Event, NeighboringRelation

__all__ = ["calibrate_noise_multiplier"]

_LEAST, _MOST = 2.0**-10, 2.0**20
"""Noise multipliers tried."""

_TOLERANCE = 1e-7
"""Relative to the noise multiplier."""


def calibrate_noise_multiplier(
    make_event: Callable[[float], Event],
    *,
    target_epsilon: float,
    target_delta: float,
    neighboring_relation: NeighboringRelation,
) -> float:
    """Find the smallest noise multiplier with which an event reaches (ε, δ).

    Args:
        make_event: noise multiplier (stddev / clip_norm) -> event; more noise must not cost more.
        target_epsilon: finite, > 0.
        target_delta: in (0, 1).
        neighboring_relation: "add-or-remove-one", "replace-one" or "zero-out".
    Returns: a noise multiplier in [2^-10, 2^20] whose event, evaluated once more, has ε <= target_epsilon at
        target_delta; one smaller by 10^-6 (relative) has not.
    Raises:
        CalibrationError: no noise multiplier in this range reaches the target, or the least one does.
        UnsupportedEventError: names the sub-event without a bound.

    >>> from dp.events import Composed, Gaussian
    >>> round(calibrate_noise_multiplier(
    ...     lambda noise_multiplier: Composed([(Gaussian(noise_multiplier), 1_000)]),
    ...     target_epsilon=5.0,
    ...     target_delta=1e-5,
    ...     neighboring_relation="add-or-remove-one",
    ... ), 2)
    30.12
    """
    from scipy import optimize  # noqa: PLC0415 -- slow to import, needed only here

    if check_epsilon(target_epsilon) == 0:
        msg = "target_epsilon is > 0: no finite noise gives ε = 0"
        raise ValueError(msg)
    check_delta(target_delta)
    relation = check_neighboring_relation(neighboring_relation)

    def excess(log_noise: float) -> float:
        event = make_event(math.exp(log_noise))
        return rdp_to_epsilon(rdp_curve(event, neighboring_relation=relation), target_delta) - target_epsilon

    target = f"ε = {target_epsilon} at δ = {target_delta!r} ({relation})"
    low = high = 0.0
    while excess(high) > 0:
        low, high = high, high + math.log(2)
        if high > math.log(_MOST):
            msg = f"{target} is out of reach: even noise multiplier {math.exp(low):g} costs more"
            raise CalibrationError(msg)
    while low == high or excess(low) <= 0:
        low -= math.log(2)
        if low < math.log(_LEAST):
            msg = f"{target} asks for no noise: noise multiplier {_LEAST:g} costs no more; does the event depend on it?"
            raise CalibrationError(msg)
    log_noise = float(optimize.brentq(excess, low, high, xtol=_TOLERANCE))
    while excess(log_noise) > 0:
        log_noise += _TOLERANCE
    return math.exp(log_noise)

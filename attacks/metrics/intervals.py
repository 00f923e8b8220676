"""Confidence intervals: exact for counts, bootstrap for everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from scipy.special import betaincinv

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["Estimate", "bootstrap", "proportion"]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A number and its two-sided confidence interval.

    Attributes:
        value: as measured.
        low, high: the interval's ends.
        confidence: of the interval, two-sided.
    """

    value: float
    low: float
    high: float
    confidence: float = 0.95


def proportion(successes: int, trials: int, *, confidence: float = 0.95) -> Estimate:
    """Clopper-Pearson interval of a share: it covers the true one at least that often, if trials are independent.

    Raises:
        ValueError: no trials, successes not in [0, trials], or confidence not in (0, 1).
    Source: Clopper and Pearson 1934; as quantiles of beta distributions, Brown et al. 2001, sec. 4.2.1.
    """
    if trials < 1 or not 0 <= successes <= trials:
        msg = f"successes must be in 0..trials and trials at least 1, got {successes} of {trials}"
        raise ValueError(msg)
    tail = _tail(confidence)
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return Estimate(value=successes / trials, low=low, high=high, confidence=confidence)


def bootstrap(
    statistic: Callable[..., float],
    *samples: NDArray[np.float64],
    rng: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> Estimate:
    """Percentile bootstrap interval of a statistic of one or several independent samples.

    Approximate: too narrow for small samples and for statistics of the extreme tail.

    Args:
        statistic: called with as many arrays as there are samples.
        samples: each (size, ...), resampled along its first axis, each on its own.
        rng: draws the resamples.
        confidence: of the interval, two-sided.
        resamples: how many.
    Raises:
        ValueError: an empty sample, or confidence not in (0, 1).
    Source: Efron 1979; Efron and Tibshirani 1993, ch. 13.
    """
    tail = _tail(confidence)
    if not samples or not all(len(sample) for sample in samples):
        msg = "nothing to resample: every sample needs at least one value"
        raise ValueError(msg)
    draws = [
        statistic(*(sample[rng.integers(0, len(sample), len(sample))] for sample in samples)) for _ in range(resamples)
    ]
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(value=float(statistic(*samples)), low=float(low), high=float(high), confidence=confidence)


def _tail(confidence: float) -> float:
    if not 0 < confidence < 1:
        msg = f"confidence must be between 0 and 1, got {confidence}"
        raise ValueError(msg)
    return (1 - confidence) / 2

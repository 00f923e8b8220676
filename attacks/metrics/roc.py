"""How well scores separate members from others: the whole ROC curve, and its left end, where privacy is lost.

Higher scores say "member". Averages over all records hide an attack that is certain about a few, so true-positive rates
at low false-positive rates are what counts (Carlini et al. 2022, sec. III); they need enough others to be measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attacks.metrics.intervals import Estimate, bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FEWEST_FALSE_POSITIVES", "auc", "auc_interval", "roc_curve", "tpr_at_fpr", "tpr_at_fpr_interval"]

FEWEST_FALSE_POSITIVES = 10
"""A false-positive rate is shown only if at least so many false positives are expected at it."""


def roc_curve(
    members: NDArray[np.float64], others: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return false- and true-positive rates at every threshold, strictest first.

    Args:
        members, others: (scores,) each, finite; higher says "member".
    Returns: two arrays of one length, both from 0 to 1; equal scores fall together, so ties give no point between.
    Raises:
        ValueError: one of them is empty or holds a score that is not a number.
    """
    if not len(members) or not len(others) or np.isnan(members).any() or np.isnan(others).any():
        msg = "both members and others need at least one score, and no score may be NaN"
        raise ValueError(msg)
    thresholds = np.unique(np.concatenate([members, others]))
    above = [1 - np.searchsorted(np.sort(scores), thresholds) / len(scores) for scores in (others, members)]
    fpr, tpr = (np.concatenate([[0.0], rates[::-1]]) for rates in above)
    return fpr, tpr


def auc(members: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the odds that a random member scores above a random other, ties counted half: 1/2 is guessing.

    Args:
        members, others: as for `roc_curve`.
    """
    fpr, tpr = roc_curve(members, others)
    return float(np.trapezoid(tpr, fpr))


def tpr_at_fpr(members: NDArray[np.float64], others: NDArray[np.float64], *, fpr: float) -> float | None:
    """Return the largest share of members found by a threshold whose false-positive rate is at most `fpr`.

    Args:
        members, others: as for `roc_curve`.
        fpr: in (0, 1].
    Returns: None where fewer than `FEWEST_FALSE_POSITIVES` are expected among so few others: not measurable.
    """
    if not _measurable(len(others), fpr):
        return None
    return _tpr(members, others, fpr)


def auc_interval(
    members: NDArray[np.float64],
    others: NDArray[np.float64],
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> Estimate:
    """`auc` with a bootstrap interval over members and others."""
    return bootstrap(auc, members, others, rng=rng, confidence=confidence, resamples=resamples)


def tpr_at_fpr_interval(
    members: NDArray[np.float64],
    others: NDArray[np.float64],
    *,
    fpr: float,
    rng: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> Estimate | None:
    """`tpr_at_fpr` with a bootstrap interval over members and others; None where it is None.

    The threshold is chosen anew in each resample, so that the interval holds its uncertainty, too.
    """
    if not _measurable(len(others), fpr):
        return None

    def statistic(some: NDArray[np.float64], rest: NDArray[np.float64]) -> float:
        return _tpr(some, rest, fpr)

    return bootstrap(statistic, members, others, rng=rng, confidence=confidence, resamples=resamples)


def _measurable(others: int, fpr: float) -> bool:
    if not 0 < fpr <= 1:
        msg = f"a false-positive rate is in (0, 1], got {fpr}"
        raise ValueError(msg)
    return others * fpr >= FEWEST_FALSE_POSITIVES - 1e-9  # .01 times 1,000 others may come out a rounding below 10


def _tpr(members: NDArray[np.float64], others: NDArray[np.float64], fpr: float) -> float:
    rates, found = roc_curve(members, others)
    return float(found[rates <= fpr + 1e-12].max())

"""How good a guess is: exact matches per feature and of whole records, against the best constant guess per feature."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from protocols.task import Feature

__all__ = ["ExactMatches", "exact_matches", "mode_record", "plausible"]

GRID_SLACK = 0.05


@dataclass(slots=True)
class ExactMatches:
    """Exact matches, added up over trials.

    Attributes:
        records: how many records were attacked.
        whole: of them, how many were guessed right in every feature.
        features: (features,) how many were guessed right in each.
    """

    features: NDArray[np.int64] = field(repr=False)
    records: int = 0
    whole: int = 0

    def add(self, matches: NDArray[np.bool_]) -> None:
        """Add a trial: (records, features), True where a feature was guessed exactly."""
        self.records += len(matches)
        self.whole += int(matches.all(axis=1).sum())
        self.features += matches.sum(axis=0)

    def interval(self) -> tuple[float, float]:
        """95 % Clopper-Pearson interval of the share of whole records, as if they were drawn independently.

        Records of one update share its fate, and a patient may be drawn more than once, so the true interval is wider.
        """
        from scipy.stats import binomtest  # noqa: PLC0415 -- scipy.stats is slow to load

        interval = binomtest(self.whole, self.records).proportion_ci()
        return float(interval.low), float(interval.high)


def exact_matches(
    truth: NDArray[np.float64], guesses: NDArray[np.float64], features: Sequence[Feature]
) -> NDArray[np.bool_]:
    """Match guesses to records one to one and compare feature by feature.

    Args:
        truth: (records, features), in recorded units.
        guesses: (records, features), as many guesses as records, in recorded units.
        features: say in which unit each is recorded: exact means nearer than half of it.
    Returns: (records, features) bool, under the assignment that makes most features exact.
    """
    half = np.array([feature.resolution for feature in features]) / 2
    equal = np.abs(truth[:, None, :] - guesses[None, :, :]) < half
    rows, columns = linear_sum_assignment(-equal.sum(axis=2))
    matched: NDArray[np.bool_] = equal[rows, columns]
    return matched


def mode_record(patients: NDArray[np.float64], features: Sequence[Feature]) -> NDArray[np.float64]:
    """Return the best constant guess: every feature's most frequent recorded value, (features,).

    Args:
        patients: (patients, features) in recorded units; here the victim's own training patients, so that the baseline
            knows more of each feature than any real adversary without the update. As a whole the guess need not be
            anybody's record.
    """
    resolution = np.array([feature.resolution for feature in features])
    modes = []
    for column in np.rint(patients / resolution).T:
        values, counts = np.unique(column, return_counts=True)
        modes.append(values[counts.argmax()])
    mode: NDArray[np.float64] = np.array(modes) * resolution
    return mode


def plausible(guesses: NDArray[np.float64], features: Sequence[Feature]) -> NDArray[np.bool_]:
    """Say which guesses look like a patient: every feature of few values takes one of them."""
    ok = np.ones(len(guesses), dtype=np.bool_)
    for column, feature in zip(guesses.T, features, strict=True):
        if feature.values:
            ok &= np.abs(column[:, None] - np.array(feature.values)).min(axis=1) < GRID_SLACK
    return ok

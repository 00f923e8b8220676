"""Tables: matches per feature and of whole records, judged against the best guess that needs no update.

Accuracy alone says little: in a table of yes and no, a constant guess is mostly right. So each score is set against
the best of several priors, which get the same matching and the same labels as the attack.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from attacks.metrics.intervals import proportion
from attacks.metrics.matching import match

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from protocols.task import Feature

__all__ = [
    "ExactMatches",
    "best_prior",
    "exact_matches",
    "mode_record",
    "plausible",
    "prior_guesses",
    "skill",
    "tolerance_matches",
]

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
        estimate = proportion(self.whole, self.records)
        return estimate.low, estimate.high


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
    return _matches(np.abs(truth[:, None, :] - guesses[None, :, :]) < half)


def tolerance_matches(
    truth: NDArray[np.float64],
    guesses: NDArray[np.float64],
    *,
    tolerance: NDArray[np.float64],
    labels: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> NDArray[np.bool_]:
    """Match guesses to records one to one and compare within a tolerance.

    Args:
        truth: (records, features).
        guesses: (records, features), as many guesses as records.
        tolerance: (features,) largest error that counts as right; for level numbers of a category, anything below 1.
        labels: of the records and of the guesses, (records,) each, where the adversary knows them: guesses are then
            matched to records of their label first.
    Returns: (records, features) bool, under the assignment that makes most features right.
    Source: Vero et al. 2023 (TabLeak), sec. 3: .319 standard deviations for numbers, equality for categories.
    """
    right = np.abs(truth[:, None, :] - guesses[None, :, :]) <= tolerance
    if labels is None:
        return _matches(right)
    same = labels[0][:, None] == labels[1][None, :]
    return _matches(right, bonus=same * (right.shape[2] + 1))


def prior_guesses(
    public: tuple[NDArray[np.float64], NDArray[np.int64]],
    labels: NDArray[np.int64],
    *,
    categorical: NDArray[np.bool_],
    tolerance: NDArray[np.float64],
    rng: np.random.Generator,
) -> dict[str, NDArray[np.float64]]:
    """Guess a batch from public records and its labels alone, in every way worth trying.

    Args:
        public: (patients, features) records that the adversary holds anyway, and their (patients,) labels.
        labels: (records,) of the batch, each among the public ones; where the adversary does not know them, all labels
            are to be equal.
        categorical: (features,) which features are level numbers.
        tolerance: (features,) as for `tolerance_matches`.
        rng: draws.
    Returns: name of the prior -> (records, features), each record guessed from the public records of its label:
        "constant": of each feature the value with most public records within the tolerance;
        "median": the most frequent level, and the median of numbers;
        "quantiles": the most frequent level, and numbers spread over their quantiles, each in an order of its own;
        "marginals": every feature drawn on its own;
        "records": whole public records.
    """
    guesses: dict[str, NDArray[np.float64]] = {}
    for label in np.unique(labels):
        chosen = labels == label
        of_label = _guesses_of_one_label(public[0][public[1] == label], int(chosen.sum()), categorical, tolerance, rng)
        for name, values in of_label.items():
            guesses.setdefault(name, np.empty((len(labels), public[0].shape[1])))[chosen] = values
    return guesses


def _guesses_of_one_label(
    public: NDArray[np.float64],
    records: int,
    categorical: NDArray[np.bool_],
    tolerance: NDArray[np.float64],
    rng: np.random.Generator,
) -> dict[str, NDArray[np.float64]]:
    constant = np.array([_densest(column, tol) for column, tol in zip(public.T, tolerance, strict=True)])
    median = np.where(categorical, constant, np.median(public, axis=0))
    spread = rng.permuted(np.quantile(public, (np.arange(records) + 0.5) / records, axis=0), axis=0)
    drawn = rng.integers(0, len(public), (records, public.shape[1]))
    return {
        "constant": np.tile(constant, (records, 1)),
        "median": np.tile(median, (records, 1)),
        "quantiles": np.where(categorical, constant, spread),
        "marginals": np.take_along_axis(public, drawn, axis=0),
        "records": public[rng.integers(0, len(public), records)],
    }


def best_prior(scores: Mapping[str, Sequence[float]]) -> tuple[str, float]:
    """Return the prior with the highest mean score over trials, and that mean: the bar an attack has to pass.

    Args:
        scores: name of the prior -> its scores, one a trial.
    """
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    best = max(means, key=means.__getitem__)
    return best, means[best]


def skill(attack: float, prior: float) -> float:
    """Return how much of what the prior leaves open the attack finds: 1 is all, 0 nothing, below 0 worse than none.

    Args:
        attack, prior: shares of features (or records) right; a prior of 1 leaves nothing to find and gives 0.
    """
    return (attack - prior) / (1 - prior) if prior < 1 else 0.0


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


def _matches(right: NDArray[np.bool_], *, bonus: NDArray[np.int64] | int = 0) -> NDArray[np.bool_]:
    """Take from (records, guesses, features) the assignment that makes most features right."""
    columns = match(-(right.sum(axis=2) + bonus).astype(np.float64))
    return right[np.arange(len(right)), columns]


def _densest(column: NDArray[np.float64], tolerance: float) -> float:
    """Return the value that most of a column lies within the tolerance of: the middle of the fullest window."""
    ordered = np.sort(column)
    ends = np.searchsorted(ordered, ordered + 2 * tolerance, side="right")
    start = int((ends - np.arange(len(ordered))).argmax())
    return float((ordered[start] + ordered[ends[start] - 1]) / 2)

"""Which guess stands for which record: a batch has no order, so neither has its reconstruction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["label_accuracy", "match", "nearest_neighbour_rank", "squared_distances"]


def match(cost: NDArray[np.float64]) -> NDArray[np.int64]:
    """Assign guesses to records one to one, so that the total cost is least (the Hungarian method).

    Args:
        cost: (records, guesses), finite, at least as many guesses as records.
    Returns: (records,) each record's guess.
    Raises:
        ValueError: fewer guesses than records: fill up with guesses of the prior.
    """
    records, guesses = cost.shape
    if guesses < records:
        msg = f"{guesses} guesses for {records} records: fill up with guesses of the prior"
        raise ValueError(msg)
    columns: NDArray[np.int64] = linear_sum_assignment(cost)[1]
    return columns


def squared_distances(truth: NDArray[np.float64], guesses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean squared difference of every record from every guess: (records, guesses).

    Args:
        truth: (records, ...).
        guesses: (guesses, ...), each of a record's shape.
    """
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (truth, guesses))
    return np.stack([((b - record) ** 2).mean(axis=1) for record in a])


def nearest_neighbour_rank(
    guesses: NDArray[np.float64], truth: NDArray[np.float64], gallery: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Rank the true record among others by its distance from the guess: 1 identifies the person.

    Args:
        guesses: (records, ...), matched to `truth`.
        truth: (records, ...).
        gallery: (others, ...) of the same population, without the true records.
    Returns: (records,) ranks in 1..others + 1; an other as near as the truth ranks before it.
    Source: image identifiability precision counts rank 1, Yin et al. 2021 (GradInversion), sec. 4.1.
    """
    own = squared_distances(truth, guesses).diagonal()
    nearer: NDArray[np.int64] = (squared_distances(guesses, gallery) <= own[:, None]).sum(axis=1)
    return nearer + 1


def label_accuracy(truth: NDArray[np.int64], guesses: NDArray[np.int64]) -> float:
    """Share of labels guessed right, as multisets: a batch has no order.

    Args:
        truth, guesses: (records,) labels each, any integers.
    Raises:
        ValueError: their lengths differ, or they are empty.
    """
    if len(truth) != len(guesses) or not len(truth):
        msg = f"as many labels as guesses are needed, got {len(truth)} and {len(guesses)}"
        raise ValueError(msg)
    common = sum(min(int((truth == label).sum()), int((guesses == label).sum())) for label in np.unique(truth))
    return common / len(truth)

"""Canaries: contributions that nobody needs, included by fair coins, whose traces in an output the auditor scores.

Three kinds, by what the auditor controls: one record's gradient (white box, the strongest), one whole client's update,
or one training record. Gradient and client canaries look at the released vector itself; each needs a direction of its
own, so that the model must have at least ten coordinates a canary, else canaries drown each other. A score is a
projection, hence a function of the output alone, as the one-run bound wants.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ClientCanaries", "GradientCanaries", "InputCanaries"]

_ROOM = 10
"""Coordinates a canary."""


@dataclass(frozen=True, slots=True, eq=False)
class GradientCanaries:
    """Gradients with all their norm in one coordinate, each canary another: no canary disturbs another's score.

    Source: Steinke et al. 2023 (arXiv 2305.08846), sec. 6, white-box.

    Attributes:
        positions: (m,) coordinates, all different.
        signs: (m,) ±1.
        norm: of each: the clip norm, the most that a mechanism lets through.
        included: (m,) the fair coins.
        dimension: coordinates of the model, at least 10·m.
    """

    positions: NDArray[np.int64] = field(repr=False)
    signs: NDArray[np.float64] = field(repr=False)
    norm: float
    included: NDArray[np.bool_] = field(repr=False)
    dimension: int

    @classmethod
    def draw(cls, count: int, *, dimension: int, norm: float, rng: np.random.Generator) -> GradientCanaries:
        """Draw canaries and their coins.

        Raises:
            ValueError: the model has fewer than ten coordinates a canary.
        """
        _check_room(count, dimension)
        positions = rng.choice(dimension, count, replace=False)
        return cls(positions, rng.choice([-1.0, 1.0], count), norm, rng.random(count) < 0.5, dimension)  # noqa: PLR2004

    def vectors(self) -> NDArray[np.float64]:
        """Return the canaries that were included: (included, dimension), one row each."""
        chosen = np.flatnonzero(self.included)
        rows = np.zeros((len(chosen), self.dimension))
        rows[np.arange(len(chosen)), self.positions[chosen]] = self.norm * self.signs[chosen]
        return rows

    def total(self) -> NDArray[np.float64]:
        """Return what the included canaries add to a sum that does not clip them: (dimension,)."""
        total = np.zeros(self.dimension)
        total[self.positions] = self.norm * self.signs * self.included
        return total

    def scores(self, release: NDArray[np.float64]) -> NDArray[np.float64]:
        """Project a released vector, or the sum of several, on each canary: (m,)."""
        projections: NDArray[np.float64] = release[self.positions] * self.signs
        return projections


@dataclass(frozen=True, slots=True, eq=False)
class ClientCanaries:
    """Whole clients that send random directions instead of updates: nearly orthogonal where the model is large.

    Source: Andrew et al. 2023 (arXiv 2302.03098).

    Attributes:
        directions: (m, dimension) unit vectors.
        norm: of each update: the clip norm.
        included: (m,) the fair coins.
    """

    directions: NDArray[np.float64] = field(repr=False)
    norm: float
    included: NDArray[np.bool_] = field(repr=False)

    @classmethod
    def draw(cls, count: int, *, dimension: int, norm: float, rng: np.random.Generator) -> ClientCanaries:
        """Draw canaries and their coins.

        Raises:
            ValueError: the model has fewer than ten coordinates a canary.
        """
        _check_room(count, dimension)
        directions = rng.normal(size=(count, dimension))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        return cls(directions, norm, rng.random(count) < 0.5)  # noqa: PLR2004

    def vectors(self) -> NDArray[np.float64]:
        """Return the updates of the canary clients that take part: (included, dimension)."""
        return self.norm * self.directions[self.included]

    def total(self) -> NDArray[np.float64]:
        """Return what they add to a sum that does not clip them: (dimension,)."""
        total: NDArray[np.float64] = self.vectors().sum(axis=0)
        return total

    def scores(self, release: NDArray[np.float64]) -> NDArray[np.float64]:
        """Project a released vector, or the sum of several, on each canary: (m,)."""
        projections: NDArray[np.float64] = self.directions @ release
        return projections


@dataclass(frozen=True, slots=True, eq=False)
class InputCanaries:
    """Training records with a wrong label, which a model can only learn by heart. Black box: score them by log-odds.

    Source: Steinke et al. 2023 (arXiv 2305.08846), sec. 6, black-box.

    Attributes:
        x: (records, ...) the training inputs, canaries among them.
        y: (records,) their classes, canaries' wrong.
        positions: (m,) which records are canaries.
        included: (m,) the fair coins.
    """

    x: NDArray[np.float32] = field(repr=False)
    y: NDArray[np.int64] = field(repr=False)
    positions: NDArray[np.int64] = field(repr=False)
    included: NDArray[np.bool_] = field(repr=False)

    @classmethod
    def draw(
        cls, x: NDArray[np.float32], y: NDArray[np.int64], count: int, *, classes: int, rng: np.random.Generator
    ) -> InputCanaries:
        """Turn `count` records of a data set into canaries: each gets one of the other classes at random."""
        positions = rng.choice(len(y), count, replace=False)
        labels = y.copy()
        labels[positions] = (y[positions] + rng.integers(1, classes, count)) % classes
        return cls(x, labels, positions, rng.random(count) < 0.5)  # noqa: PLR2004

    def members(self) -> NDArray[np.bool_]:
        """Return which records to train on: all but the canaries whose coin said out, (records,)."""
        members = np.ones(len(self.y), dtype=np.bool_)
        members[self.positions] = self.included
        return members

    def scores(self, log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pick the canaries' scores out of those of all records: (m,)."""
        return log_odds[self.positions]


def _check_room(count: int, dimension: int) -> None:
    if not 1 <= count <= dimension // _ROOM:
        msg = f"{count} canaries need {_ROOM * count} coordinates, and there are {dimension}: draw fewer, at least one"
        raise ValueError(msg)

"""The columns of a table as a model sees them: numbers as they are, categories as rows of dummies, standardised."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from protocols.task import Feature, Scaling

__all__ = ["Column", "columns_of", "decode", "encode"]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One column of a table.

    Attributes:
        positions: which of the model's inputs hold it.
        levels: (levels, positions) float64, the inputs of each level of a category; None for a number, one input.
    """

    positions: tuple[int, ...]
    levels: NDArray[np.float64] | None = field(default=None, repr=False)


def columns_of(features: Sequence[Feature], scaling: Scaling, *, dummies: Sequence[Sequence[int]] = ()) -> list[Column]:
    """Say which inputs form one column.

    Args:
        features: the model's inputs; those of few values are categories.
        scaling: how the victim standardises them, which the adversary is taken to know.
        dummies: groups of inputs that code one category each, its first level by all zeros.
    Returns: columns in the order of their first input.
    """
    grouped = {position: tuple(group) for group in dummies for position in group}
    columns = []
    for position, feature in enumerate(features):
        group = grouped.get(position, (position,))
        if position != group[0]:
            continue
        if not feature.values:
            columns.append(Column(group))
            continue
        raw = [levels for levels in product((0.0, 1.0), repeat=len(group)) if sum(levels) <= 1]
        rows = np.array(sorted(raw, reverse=True) if len(group) > 1 else [[value] for value in feature.values])
        place = list(group)
        columns.append(Column(group, (rows - scaling.mean[place]) / (scaling.deviation[place] + 1e-9)))
    return columns


def decode(inputs: NDArray[np.float64], columns: Sequence[Column]) -> NDArray[np.float64]:
    """Read inputs as a table, (records, columns) float64: numbers as they are, categories as their nearest level.

    Args:
        inputs: (records, inputs).
        columns: of the table.
    """
    table = []
    for column in columns:
        part = inputs[:, list(column.positions)]
        if column.levels is None:
            table.append(part[:, 0])
        else:
            table.append(((part[:, None, :] - column.levels) ** 2).sum(axis=2).argmin(axis=1).astype(np.float64))
    return np.stack(table, axis=1)


def encode(table: NDArray[np.float64], columns: Sequence[Column]) -> NDArray[np.float64]:
    """Write a table as inputs, (records, inputs): the inverse of `decode` on inputs that take levels' values.

    Args:
        table: (records, columns).
        columns: of the table.
    """
    inputs = np.empty((len(table), sum(len(column.positions) for column in columns)))
    for values, column in zip(table.T, columns, strict=True):
        place = list(column.positions)
        inputs[:, place] = values[:, None] if column.levels is None else column.levels[values.astype(int)]
    return inputs

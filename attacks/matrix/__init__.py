"""The rows of the leakage matrix: one small adapter an attack, from a trial to scores beside a prior."""

from attacks.matrix.analytic import ATTACKS as ANALYTIC
from attacks.matrix.attack import DATA, HEARTBEATS, Attack, Trial
from attacks.matrix.cells import COLUMNS, Matrix

__all__ = ["ATTACKS", "COLUMNS", "DATA", "HEARTBEATS", "Attack", "Matrix", "Trial"]

ATTACKS: tuple[Attack, ...] = (*ANALYTIC,)
"""All rows, in the table's order."""

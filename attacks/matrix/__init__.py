"""The rows of the leakage matrix: one small adapter an attack, from a trial to scores beside a prior."""

from attacks.matrix.analytic import ATTACKS as ANALYTIC
from attacks.matrix.attack import DATA, HEARTBEATS, NUMBERS, Attack, Trial
from attacks.matrix.cells import COLUMNS, Matrix, markdown
from attacks.matrix.inversion import ATTACKS as INVERSION
from attacks.matrix.malicious import ATTACKS as MALICIOUS
from attacks.matrix.membership import ATTACKS as MEMBERSHIP
from attacks.matrix.sums import ATTACKS as SUMS

__all__ = ["ATTACKS", "COLUMNS", "DATA", "HEARTBEATS", "NUMBERS", "Attack", "Matrix", "Trial", "markdown"]

ATTACKS: tuple[Attack, ...] = (*ANALYTIC, *INVERSION, *MALICIOUS, *SUMS, *MEMBERSHIP)
"""All rows, in the table's order."""

"""Everything about leakage: the matrix, and the figures of `leakage_inversion`, `_membership` and `_sums`.

The matrix is that of `secagg leakage --all --quick`, in a fresh folder, on the data that SECAGG_DATA names or without.
With --matrix-only the three others are left out.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from attacks.harness import run_matrix
from attacks.matrix import COLUMNS
from attacks.page import write_matrix_page
from benchmarks import leakage_inversion, leakage_membership, leakage_sums
from benchmarks.harness import Report, Target, main, progress
from secagg.primitives.threads import available_threads

MATRIX_ONLY = "--matrix-only"


def run(report: Report) -> None:
    """Measure everything; the matrix first, while the machine is cool."""
    matrix(report)
    for module in (leakage_inversion, leakage_membership, leakage_sums):
        module.run(report)


def matrix(report: Report) -> None:
    """Run the whole quick matrix and write its page."""
    progress("the quick matrix")
    data = os.environ.get("SECAGG_DATA")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = run_matrix(Path(folder), quick=True, data=Path(data) if data else None)
        write_matrix_page(found, Path(folder))
        seconds = time.perf_counter() - start
    report.figure("suite.seconds", seconds, Target(300, at_most=True))
    report.row(
        measured="matrix", processes=available_threads(), trial_seconds=found.seconds, data=", ".join(found.data)
    )
    for each in found.rows:
        cells = {
            title: each.cells[channel].kind if (estimate := each.cells[channel].estimate) is None else estimate.value
            for channel, title in COLUMNS.items()
        }
        report.row(measured="matrix", attack=each.attack, data=each.data, prior=each.best_prior, **cells)


if __name__ == "__main__":
    if matrix_only := MATRIX_ONLY in sys.argv:
        sys.argv.remove(MATRIX_ONLY)
    main(__doc__ or "", matrix if matrix_only else run)

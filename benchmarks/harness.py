"""What every benchmark shares: interleaved timing, figures with their targets, one table and one JSON form.

A figure is a ratio or a count, never bare seconds: machines differ, and a noisy one differs from itself. Contenders
are run in turn within each repetition, so that a slow minute hits all of them, and medians are compared.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from secagg.primitives.threads import available_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Report", "Target", "interleaved", "main", "progress", "require"]


@dataclass(frozen=True)
class Target:
    """What a figure should reach: at least, or at most, `value`; None where it is only reported."""

    value: float | None
    at_most: bool = False

    def __str__(self) -> str:
        """Say it in a table cell."""
        return "" if self.value is None else f"{'≤' if self.at_most else '≥'} {self.value:g}"

    def met_by(self, figure: float) -> bool:
        """Whether a figure reaches it."""
        return self.value is None or (figure <= self.value if self.at_most else figure >= self.value)


@dataclass
class Report:
    """Figures and rows of one benchmark. Not thread-safe."""

    figures: dict[str, float] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    targets: dict[str, Target] = field(default_factory=dict)

    def figure(self, name: str, value: float, target: Target) -> None:
        """Record a figure."""
        self.figures[name] = value
        self.targets[name] = target

    def row(self, **values: object) -> None:
        """Record a measurement that stands behind the figures."""
        self.rows.append(values)

    def show(self) -> None:
        """Print figures, targets and rows."""
        console = Console(width=120)
        table = Table(title="figures", title_justify="left")
        for column in ("figure", "measured", "wanted", ""):
            table.add_column(column, justify="right" if column == "measured" else "left")
        for name, value in self.figures.items():
            target = self.targets[name]
            verdict = "" if target.value is None else "reached" if target.met_by(value) else "SHORT"
            table.add_row(name, f"{value:.4g}", str(target), verdict)
        console.print(table)
        for row in self.rows:
            console.print("  " + ", ".join(f"{key} {_short(value)}" for key, value in row.items()), highlight=False)

    def write(self, path: Path) -> None:
        """Write {"figures": ..., "rows": ..., "machine": ...} as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part")
        document = {"figures": self.figures, "rows": self.rows, "machine": machine()}
        scratch.write_text(json.dumps(document, indent=2) + "\n")
        scratch.replace(path)


def interleaved(contenders: Mapping[str, Callable[[], object]], *, repetitions: int) -> dict[str, float]:
    """Time contenders in turn and return each one's median seconds; one unmeasured call each comes first."""
    for call in contenders.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def machine() -> dict[str, Any]:
    """What ran it, as far as a reader needs it."""
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": available_threads(),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def main(description: str, run: Callable[[Report], None]) -> None:
    """Run one benchmark module from the command line: `python -m benchmarks.NAME [--json OUT]`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write figures and rows to this file")
    arguments = parser.parse_args()
    report = Report()
    run(report)
    report.show()
    if arguments.json:
        report.write(arguments.json)


def require(condition: bool) -> None:  # noqa: FBT001 -- reads like an assertion
    """Stop a benchmark whose contender computed something wrong: its time would mean nothing."""
    if not condition:
        message = "a contender computed a wrong result: nothing measured here counts"
        raise RuntimeError(message)


def progress(text: str) -> None:
    """Say on stderr what is being measured."""
    print(f"... {text}", file=sys.stderr, flush=True)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

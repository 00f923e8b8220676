"""Curves of ε as pictures: PNG or SVG, by the ending of the file name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dp.pld import Interval

__all__ = ["plot_curve"]

_INK, _RDP, _GRID = "#0b4f6c", "#c8553d", "#d9dee2"

_NARROW = 300.0
"""Axes that span less have ticks at 1, 2, 5 of each decade."""


def plot_curve(
    path: Path, *, x: Sequence[float], epsilon: Sequence[Interval], by_rdp: Sequence[float], label: str, title: str
) -> None:
    """Draw ε against something on two logarithmic axes: the certified interval, and what Rényi DP alone would say.

    Args:
        path: ends in .png or .svg; overwritten.
        x: (n,) > 0.
        epsilon: (n,) intervals.
        by_rdp: (n,) upper bounds by Rényi DP.
        label: what x is.
        title: what is fixed: δ, unit, relation and the rest.
    Raises:
        ValueError: another ending, or fewer than two points with 0 < ε < ∞.
    """
    if path.suffix not in {".png", ".svg"}:
        msg = f"a plot is a .png or an .svg file, got {path.name!r}"
        raise ValueError(msg)
    rows = [row for row in zip(x, epsilon, by_rdp, strict=True) if 0 < row[1].upper < math.inf]
    if len(rows) < 2:  # noqa: PLR2004 -- a line has two ends
        msg = "nothing to plot: ε is 0 or unbounded at all but one point"
        raise ValueError(msg)
    from matplotlib.figure import Figure  # noqa: PLC0415 -- slow to import
    from matplotlib.ticker import LogLocator, NullFormatter  # noqa: PLC0415

    at = [row[0] for row in rows]
    floor = 0.5 * min(row[1].upper for row in rows)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(
        at, [max(row[1].lower, floor) for row in rows], [row[1].upper for row in rows], color=_INK, alpha=0.25
    )
    axes.plot(
        at,
        [row[1].upper for row in rows],
        color=_INK,
        marker="o",
        markersize=4,
        label="ε at most (shaded: down to the lower bound)",
    )
    axes.plot(at, [row[2] for row in rows], color=_RDP, linestyle="--", label="ε at most, by Rényi DP alone")
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="ε")
    for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < _NARROW * low else (1,)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(which="both", color=_GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)

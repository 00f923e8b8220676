"""Draw docs/ddp.svg from the benchmark's figures: `python docs/plot_ddp.py DDP.json [--write]`.

DDP.json is what `python -m benchmarks.ddp --json DDP.json` wrote. Prints the tables; with --write it puts them between
the `<!-- accuracy -->` and `<!-- end -->` lines of docs/differential_privacy.md.
"""
# ruff: noqa: INP001

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

FOLDER = Path(__file__).parent
CURVES = {
    "central": ("in one place, continuous noise", "#0b4f6c", "o", "-"),
    "distributed": ("four hospitals, noise in shares (t = 4)", "#c8553d", "s", "--"),
    "local": ("every hospital adds all the noise", "#588157", "^", "-"),
    "institution": ("unit: the institution", "#7a5195", "v", "-"),
}
"""How -> label, colour, marker, line."""

GREY = "#666666"

INFINITY = 24.0
"""Where ε = ∞ is drawn."""

Rows: TypeAlias = dict[tuple[str, str], dict[str, Any]]


def accuracies(rows: list[dict[str, Any]]) -> Rows:
    """Return the accuracy rows by (how, ε); without noise central, distributed and local are one."""
    found = {(row["how"], row["epsilon"]): row for row in rows if row["measured"] == "accuracy"}
    return found | {(how, "inf"): found["central", "inf"] for how in ("distributed", "local")}


def tables(rows: list[dict[str, Any]], found: Rows, majority: float) -> str:
    """Lay accuracies and differences out as Markdown."""
    epsilons = sorted({epsilon for _, epsilon in found}, key=float)
    names = {how: label for how, (label, *_) in CURVES.items()}
    names = dict([*names.items(), ("t = 3, c = 1", "four hospitals, one may drop out, one may collude")])
    lines = [
        "| test accuracy at ε = | " + " | ".join(e.removesuffix(".0").replace("inf", "∞") for e in epsilons) + " |"
    ]
    lines.append("| --- " * (1 + len(epsilons)) + "|")
    for how, name in names.items():
        cells = (_cell(found.get((how, epsilon))) for epsilon in epsilons)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Always saying what most test patients have: {majority:.3f}. Differences, repetition by repetition:",
        "",
    ]
    lines += ["| difference | ε | mean | 95 % interval |", "| --- | --- | --- | --- |"]
    for row in rows:
        if row["measured"] == "difference":
            of, epsilon = row["of"].replace(" - ", " − "), row["epsilon"].removesuffix(".0")
            lines.append(f"| {of} | {epsilon} | {row['mean']:+.4f} | {row['low']:+.4f} to {row['high']:+.4f} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{row['mean']:.3f} ± {(row['high'] - row['low']) / 2:.3f}"


def draw(found: Rows, majority: float) -> None:
    """Write docs/ddp.svg."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "ddp", "font.family": "sans-serif"})
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.add_subplot()
    ticks = sorted({float(epsilon) for _, epsilon in found})
    for how, (label, colour, marker, line) in CURVES.items():
        rows = sorted((row for (name, _), row in found.items() if name == how), key=lambda row: float(row["epsilon"]))
        at = [min(float(row["epsilon"]), INFINITY) for row in rows]
        axes.fill_between(at, [row["low"] for row in rows], [row["high"] for row in rows], color=colour, alpha=0.2)
        means = [row["mean"] for row in rows]
        axes.plot(at, means, color=colour, marker=marker, markersize=5, linestyle=line, label=label)
    axes.axhline(majority, linestyle=":", color=GREY)
    axes.text(INFINITY, majority - 0.004, "majority class", ha="right", va="top", fontsize=8, color=GREY)
    axes.plot([5, INFINITY], [0.70, 0.70], linestyle="-.", color=GREY)
    note = "FLamby's own, ε ≥ 5:\nabout .70 (no DP: .712)\nat another δ,\nmean of four hospitals:\nanother measure"
    axes.text(INFINITY, 0.694, note, ha="right", va="top", fontsize=8, color=GREY)
    axes.set(xscale="log", xlabel="ε at δ = 1e-5, add-or-remove-one", ylabel="accuracy on 254 test patients")
    axes.xaxis.set_major_locator(FixedLocator([min(tick, INFINITY) for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(["∞" if tick == math.inf else f"{tick:g}" for tick in ticks])
    axes.set_title(
        "UCI Heart Disease, logistic regression: mean of 200 runs and its 95 % interval", loc="left", fontsize=10
    )
    axes.grid(axis="y", color="#d9dee2", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 0.1))
    figure.savefig(FOLDER / "ddp.svg", metadata={"Date": None})


def main() -> None:
    """Draw the plot, and print or write the tables."""
    rows = json.loads(Path(sys.argv[1]).read_text())["rows"]
    found = accuracies(rows)
    majority = next(row["accuracy"] for row in rows if row["measured"] == "majority")
    draw(found, majority)
    text = tables(rows, found, majority)
    print(text)  # noqa: T201
    if "--write" in sys.argv:
        path = FOLDER / "differential_privacy.md"
        before, rest = path.read_text().split("<!-- accuracy -->\n")
        path.write_text(f"{before}<!-- accuracy -->\n{text}\n<!-- end -->\n" + rest.split("<!-- end -->\n", 1)[1])


if __name__ == "__main__":
    main()

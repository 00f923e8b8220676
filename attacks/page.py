"""The leakage study as a part of a run's report, and the leakage matrix as a page of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from attacks.matrix.attack import Curve, Pictures, Records
from attacks.matrix.cells import COLUMNS, printed
from attacks.pictures import png, roc
from attacks.threat import Channel
from protocols.record import write_whole
from protocols.report import Page, environment

if TYPE_CHECKING:
    from pathlib import Path

    from attacks.matrix.cells import Cell, Matrix, Row, Shown
    from attacks.study import Study

__all__ = ["leakage_page", "write_matrix_page"]

NAME = "leakage.html"


def leakage_page(study: Study) -> Page:
    """Render a study; the template escapes everything it is given."""
    title = "What a server learns without secure aggregation, and what with it"
    return Page(title, environment("attacks").get_template("leakage.html").render(study=study))


def write_matrix_page(matrix: Matrix, folder: Path) -> Path:
    """Write leakage.html, one file that needs nothing else, and return its path."""
    reasons = dict.fromkeys(row.cells[channel].why for row in matrix.rows for channel in COLUMNS)
    numbers = {why: number for number, why in enumerate(filter(None, reasons), start=1)}
    defended = [row for row in matrix.rows if row.defences]
    template = environment("attacks").get_template("matrix.html")
    html = template.render(
        matrix=matrix,
        columns=COLUMNS,
        titles=COLUMNS | {Channel.UNBOUND_LIE: "the same, masks not bound to the model"},
        groups=_by_data(matrix),
        numbers=numbers,
        tone=_tone,
        printed=printed,
        pictures=_galleries(matrix, Pictures),
        records=_galleries(matrix, Records),
        curves=_curves(matrix),
        png=png,
        defended=defended,
        defence_names=list(dict.fromkeys(name for row in defended for name in row.defences)),
    )
    target = folder / NAME
    write_whole(target, html.encode())
    return target


def _by_data(matrix: Matrix) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in matrix.rows:
        groups.setdefault(row.data, []).append(row)
    return groups


def _tone(cell: Cell, row: Row) -> str:
    """Choose a cell's colour: how much of what the prior leaves open was found."""
    if cell.estimate is None:
        return "none"
    if not cell.leaks:
        return "safe"
    most = 40.0 if row.unit == "dB" else 1.0
    found = (cell.estimate.value - (cell.prior or 0.0)) / max(most - (cell.prior or 0.0), 1e-9)
    return "much" if found > 0.5 else "some" if found > 0.1 else "little"  # noqa: PLR2004


def _galleries(matrix: Matrix, kind: type) -> list[tuple[str, str, list[Shown]]]:
    """Group exhibits of a kind by attack and data set, channels in the table's order."""
    groups: dict[tuple[str, str], list[Shown]] = {}
    for shown in matrix.shown:
        if isinstance(shown.exhibit, kind):
            groups.setdefault((shown.attack, shown.data), []).append(shown)
    return [(attack, data, each) for (attack, data), each in groups.items()]


def _curves(matrix: Matrix) -> list[tuple[str, Markup, list[tuple[str, str]]]]:
    """Draw the ROC curves of each data set, and return their captions beside."""
    drawn = []
    for attack, data, shown in _galleries(matrix, Curve):
        curves = {
            COLUMNS[each.channel].removeprefix("+ "): each.exhibit for each in shown if isinstance(each.exhibit, Curve)
        }
        curves = {("no noise" if label == COLUMNS[Channel.PLAIN] else label): curve for label, curve in curves.items()}
        svg = Markup(roc(curves, f"{attack}, {data}"))  # noqa: S704 -- our own drawing
        drawn.append((f"{attack}, {data}", svg, [(label, curve.caption) for label, curve in curves.items()]))
    return drawn

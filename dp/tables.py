"""What `secagg dp` prints: tables, and numbers rounded to the safe side."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dp.bounds import Interval
    from dp.events import Event

__all__ = ["print_curve", "print_events", "round_down", "round_up"]

_CERTAIN = 0.9995
"""What would print as 100.0 %."""


def round_up(number: float) -> str:
    """Write five digits of an upper bound."""
    return f"{float(Context(prec=5, rounding=ROUND_CEILING).create_decimal_from_float(number)):.5g}"


def round_down(number: float) -> str:
    """Write five digits of a lower bound."""
    return f"{float(Context(prec=5, rounding=ROUND_FLOOR).create_decimal_from_float(number)):.5g}"


def print_curve(title: str, name: str, rows: Iterable[tuple[float, Interval, float]]) -> None:
    """Print rows of: a value of `name`, ε there, and ε by Rényi DP alone."""
    table = Table(title=title, title_justify="left")
    for column in (name, "ε at least", "ε at most", "by Rényi", "50 % sure becomes"):
        table.add_column(column, justify="right", no_wrap=True)
    for value, interval, by_rdp in rows:
        sure = 1 / (1 + math.exp(-interval.upper))
        shown = f"{sure:.1%}" if sure < _CERTAIN else "> 99.9%"
        table.add_row(f"{value:g}", round_down(interval.lower), round_up(interval.upper), round_up(by_rdp), shown)
    Console(highlight=False).print(table)


def print_events(events: Iterable[tuple[Event, int]]) -> None:
    """Print events and how often each happens."""
    table = Table()
    table.add_column("times", justify="right")
    table.add_column("event")
    for event, count in events:
        table.add_row(str(count), escape(repr(event)))
    Console(highlight=False).print(table)

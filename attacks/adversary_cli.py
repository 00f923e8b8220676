"""`secagg adversary`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secagg.adversary import Liar, Outcome

__all__ = ["adversary"]


class Who(StrEnum):
    """Values of --who."""

    all = "all"
    server = "server"
    client = "client"


def adversary(
    who: Annotated[Who, typer.Option(help="Whose lies.")] = Who.all,
    as_json: Annotated[  # noqa: FBT002 -- flags of a command line are booleans with a default
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Lie to the protocol in every scripted way, and print who was blamed and what came of it.

    Each row is a round that was just run in memory: five clients A to E with fresh identities, four shares to open a
    secret, one client that may side with the server. A is the victim, D the client that lies, E the server's ally where
    it has one. "opened" names the honest clients whose sum the server can compute from all it saw, found by trying
    every subset: nothing, or the one sum it is meant to learn; a single client there would be a break. "suspects B": B
    lied, or the server that carried its message. "naive" tells what the same lie brings against an aggregator with the
    mistakes of quick implementations, made to be broken: the attack returns the victim's vector.

        secagg adversary --who server

    Exits with 1 if any lie brought more than it should, or was blamed on somebody else: that is a bug to report.
    """
    from secagg.cli import fail  # noqa: PLC0415

    rows = list(_rows(who))
    if as_json:
        import msgspec  # noqa: PLC0415

        typer.echo(msgspec.json.encode({"liars": rows}).decode())
    else:
        _print_table(rows)
    broken = [row["name"] for row in rows if row["shortfalls"]]
    if broken:
        fail("adversary", f"more than it should be, or blamed wrongly: {', '.join(broken)}", code=1)


def _rows(who: Who) -> Iterator[dict[str, Any]]:
    from attacks.against_naive import LIES, recovers  # noqa: PLC0415
    from secagg.adversary import LIARS, run_liar, shortfalls  # noqa: PLC0415

    for liar in LIARS:
        if who not in {Who.all, liar.who}:
            continue
        outcome = run_liar(liar)
        attack = LIES.get(liar.name) if liar.who == "server" else None
        yield {
            "name": liar.name,
            "who": liar.who,
            "tries": liar.tries,
            "happened": _happened(liar, outcome),
            "blamed": _blamed(outcome),
            "outcome": outcome,
            "shortfalls": shortfalls(liar, outcome),
            "naive": None if attack is None else {"attack": attack, "recovered": recovers(attack)},
        }


def _happened(liar: Liar, outcome: Outcome) -> str:
    """Say in a few words who refused, and what became of the sum."""
    raised: dict[str, list[str]] = {}
    for reaction in outcome.reactions:
        raised.setdefault(reaction.error, []).append(reaction.party)
    parts = [f"{', '.join(sorted(set(parties)))}: {error}" for error, parties in raised.items()]
    if liar.who == "client":
        parts.append(f"sum {outcome.total}" if outcome.total != "none" else "no sum")
    elif not parts:
        parts.append("changes nothing" if outcome.opened else "no error, no sum opens")
    return "; ".join(parts)


def _blamed(outcome: Outcome) -> str:
    culprits = sorted({culprit for reaction in outcome.reactions for culprit in reaction.culprits})
    suspected = any(reaction.error == "SuspectedPeerError" for reaction in outcome.reactions)
    return "suspects " * suspected + ", ".join(culprits)


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(show_lines=True)
    for column in ("liar", "who", "tries", "what happened", "blamed", "opened", "naive"):
        table.add_column(column)
    for row in rows:
        naive = row["naive"]
        table.add_row(
            row["name"],
            row["who"],
            row["tries"],
            "; ".join(["BROKEN", *row["shortfalls"]]) if row["shortfalls"] else row["happened"],
            row["blamed"] or "–",
            ", ".join(row["outcome"].opened) or "–",
            "–" if naive is None else f"{'recovered' if naive['recovered'] else 'not recovered'}: {naive['attack']}",
        )
    Console(highlight=False).print(table)

"""The `secagg` command: finds its commands by entry point, so that no package imports upwards.

Only typer is imported at top level; every command imports what it needs when it runs, so `secagg --help` is instant.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from enum import StrEnum
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, NoReturn

try:
    import typer
except ModuleNotFoundError as error:
    _MESSAGE = "secagg: the command line needs typer and rich: pip install 'secagg[cli]'"
    raise SystemExit(_MESSAGE) from error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secagg.cost import RoundCost

__all__ = ["fail", "main", "reporting", "sum_command"]

GROUP = "secagg.commands"
EXTRAS = {
    "tenseal": "he",
    "rich": "cli",
    "torch": "train",
    "sklearn": "train",
    "matplotlib": "report",
    "jinja2": "report",
}


class GraphChoice(StrEnum):
    """Values of --graph."""

    auto = "auto"
    complete = "complete"
    sparse = "sparse"


class ServerChoice(StrEnum):
    """Values of --server."""

    semi_honest = "semi-honest"
    malicious = "malicious"


class KeyAgreementChoice(StrEnum):
    """Values of --key-agreement."""

    x25519 = "x25519"
    hybrid = "x25519+ml-kem-768"


class MaskingChoice(StrEnum):
    """Values of --masking."""

    masking = "masking"
    lattice = "lattice"
    auto = "auto"
    threshold = "threshold"
    ckks = "ckks"
    plain = "plain"


Masking = Annotated[
    MaskingChoice,
    typer.Option(
        help="How vectors are hidden, and what the server sees besides the sum.\n\n"
        "masking: by masks as long as they are; masked vectors.\n\n"
        "lattice: by lattice masks, whose work grows not with the clients; ciphertexts, the sum of short secrets.\n\n"
        "auto: lattice where vectors are long, else masking.\n\n"
        "threshold: by a key that nobody holds, for up to 100 clients and many rounds; ciphertexts, partial "
        "decryptions of the sum.\n\n"
        "ckks: by a key that all clients hold (needs --corrupted 0); ciphertexts, and every vector if any one client "
        "gives it the key.\n\n"
        "plain: not at all; every vector."
    ),
]
KeyAgreement = Annotated[
    KeyAgreementChoice, typer.Option(help="How keys are agreed on; with ML-KEM, recorded traffic outlives X25519.")
]


def main() -> None:
    """Run the command line; a library that is not installed is named with the extra that brings it."""
    try:
        build_app()()
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        sys.exit(f"secagg: {error.name} is not installed: pip install 'secagg[{extra}]'")


def build_app() -> typer.Typer:
    """Mount every command that an installed package registers under the entry-point group `secagg.commands`."""
    app = typer.Typer(
        name="secagg",
        help="Secure aggregation for federated learning: sums nobody can look inside, honest privacy accounting, "
        "and attacks that measure what still leaks.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_root)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        command = entry.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(name=entry.name)(command)
    return app


def fail(command: str, message: object, *, code: int) -> NoReturn:
    """Say in one line on stderr what went wrong, and exit: 2 for what the user typed, 1 for what happened."""
    typer.echo(f"secagg {command}: {message}", err=True)
    raise typer.Exit(code)


@contextmanager
def reporting(command: str) -> Iterator[None]:
    """Turn what goes wrong into one line: exit 2 for what was typed, 1 for what was received or happened."""
    from secagg.errors import PlanError, SecAggError  # noqa: PLC0415

    try:
        yield
    except FileExistsError as error:
        taken = f"{error.filename} exists and is never overwritten: choose another name" if error.filename else error
        fail(command, taken, code=2)
    except OSError as error:
        fail(command, f"{error.filename}: {error.strerror}" if error.filename else error, code=2)
    except PlanError as error:
        fail(command, error, code=2)
    except SecAggError as error:
        fail(command, error, code=1)


def sum_command(
    clients: Annotated[int, typer.Option("--clients", "-n", min=1, help="How many clients hold a vector.")] = 20,
    dimension: Annotated[int, typer.Option("--dimension", "-d", min=1, help="Coordinates of a vector.")] = 100_000,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            help="COUNT@ROUND: so many clients vanish before ROUND (advertise_keys, share_keys, masked_input, "
            "consistency_check, unmask; under a key: upload, decrypt). May be repeated."
        ),
    ] = None,
    bits: Annotated[int, typer.Option(help="Resolution of one coordinate, 2 to 32 bits.")] = 16,
    dropout: Annotated[float, typer.Option(help="Share of clients the plan must tolerate losing.")] = 0.1,
    corrupted: Annotated[float, typer.Option(help="Share of clients that may side with the server.")] = 0.1,
    graph: Annotated[GraphChoice, typer.Option(help="Who masks with whom.")] = GraphChoice.auto,
    masking: Masking = MaskingChoice.masking,
    server: Annotated[
        ServerChoice, typer.Option(help="What the server is trusted with: to follow the protocol, or nothing.")
    ] = ServerChoice.semi_honest,
    key_agreement: KeyAgreement = KeyAgreementChoice.x25519,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Sum random vectors under secure aggregation, and show what every round costs against plain float32.

    All clients and the server run in this process, one after the other. Example: 100 clients of a million
    coordinates, ten of which vanish after sharing their keys:

        secagg sum -n 100 -d 1000000 --drop 10@masked_input
    """
    from secagg.cost import measure_round  # noqa: PLC0415
    from secagg.errors import SecAggError  # noqa: PLC0415

    try:
        cost = measure_round(
            clients=clients,
            dimension=dimension,
            drops=drop or [],
            bits=bits,
            dropout=dropout,
            corrupted=corrupted,
            graph=graph.value,
            masking=masking.value,
            server=server.value,
            key_agreement=key_agreement.value,
            progress=not as_json,
        )
    except ValueError as error:
        fail("sum", error, code=2)
    except SecAggError as error:
        fail("sum", error, code=1)
    if as_json:
        import msgspec  # noqa: PLC0415

        typer.echo(msgspec.json.encode(cost, enc_hook=bytes.hex).decode())
    else:
        _print_cost(cost)
    if not cost.exact:
        fail("sum", "the secure sum differs from the plain one: please report this", code=1)


def _print_cost(cost: RoundCost) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from secagg.server_view import server_sees  # noqa: PLC0415

    plan = cost.plan
    graph = "complete graph" if plan.is_complete else f"{plan.degree} neighbours each"
    title = f"{plan.clients} clients × {plan.length} coordinates of {plan.modulus_bits} bits"
    if plan.masking == "ckks":
        title += f", CKKS, threshold {plan.threshold}"
    elif plan.masking != "plain":
        title += f", {plan.masking}, {graph}, threshold {plan.threshold}, {plan.server} server, {plan.key_agreement}"
    table = Table(title=title, title_justify="left")
    for column in ("round", "clients", "ms each", "server ms", "sent each", "received each"):
        table.add_column(column, justify="left" if column == "round" else "right", no_wrap=True)
    for step in cost.steps:
        table.add_row(
            step.step,
            str(step.clients),
            f"{1e3 * step.client_seconds:.1f}",
            f"{1e3 * step.server_seconds:.1f}",
            f"{step.bytes_up:,.0f} B",
            f"{step.bytes_down:,.0f} B",
        )
    console = Console()
    console.print(table)
    verdict = "exact" if cost.exact else "WRONG"
    console.print(
        f"sum over {cost.survivors} survivors: {verdict}, {cost.seconds:.2f} s for everybody in this one process",
        highlight=False,
    )
    console.print(f"the server sees {server_sees(plan.masking)}", highlight=False, soft_wrap=True)
    if plan.masking in {"threshold", "ckks"}:
        console.print("the key was made before, once for many rounds: that is not counted here", highlight=False)
    console.print(f"upload: {cost.upload_over_float32:.3f} × plain float32, hidden weight included", highlight=False)


def _root() -> None:
    """Secure aggregation for federated learning."""

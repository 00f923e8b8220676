"""`secagg dp budget`. Only typer is imported here, so that `--help` is instant."""

from __future__ import annotations

import math
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dp.budget import Budget
    from dp.events import Event

__all__ = ["budget"]

budget = typer.Typer(
    no_args_is_help=True,
    help="Keep a data set's privacy budget in a file, so that no study spends what another one has spent.\n\n"
    "ε does not add up like money: two studies of ε = 1 together often cost much less than 2; how much depends on what "
    "they release. So the file lists what was released, and a new release is admitted if all of it together stays "
    "within the budget's ε at its δ. Order of work: reserve, compute, spend, and only then send.",
)

_File = Annotated[Path, typer.Argument(metavar="BUDGET", help="The budget's file.")]
_Number = Annotated[int, typer.Argument(metavar="NUMBER", help="Number of the reservation, as `show` lists it.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@budget.command()
def create(
    file: Annotated[Path, typer.Argument(metavar="BUDGET", help="File to make, on a local disk. Must not exist.")],
    epsilon: Annotated[float, typer.Option(help="ε of everything that will ever be released, in (0, 100].")],
    delta: Annotated[float, typer.Option(help="δ in (0, 1), well below 1 / number of units, for example 1e-5.")],
    unit: Annotated[
        str, typer.Option(metavar="UNIT", help="Whose data are protected: example, patient or institution.")
    ],
    relation: Annotated[
        str, typer.Option(metavar="RELATION", help="How data sets differ: add-or-remove-one, replace-one or zero-out.")
    ] = "add-or-remove-one",
) -> None:
    """Make the budget of a data set. Its terms cannot be changed later.

    One data set, one budget: patients who are in two data sets are protected by neither budget alone. Keep the file
    where only the process that releases can write; a restored backup forgets what was spent since.

        secagg dp budget create heart.budget --epsilon 2 --delta 1e-5 --unit patient
    """
    from dp.budget import Budget  # noqa: PLC0415
    from dp.events import check_neighboring_relation, check_unit  # noqa: PLC0415

    with _reporting("dp budget create"):
        Budget.create(
            file,
            epsilon=epsilon,
            delta=delta,
            unit=check_unit(unit),
            neighboring_relation=check_neighboring_relation(relation),
        )
    typer.echo(f"made {file}: ε = {epsilon:g} at δ = {delta!r} (unit: {unit}, relation: {relation})")


@budget.command()
def show(file: _File, *, as_json: _AsJson = False) -> None:
    """Show what was reserved and spent, for what, and how much is left.

    The share is exact for the rule that admits releases, and adds up as long as they are alike: three equal studies
    that use 30 % each use 90 %. ε is what the releases cost if all were chosen in advance.
    """
    from dp.budget import Budget  # noqa: PLC0415

    with _reporting("dp budget show"):
        found = Budget.open(file)
        entries, used, spent = found.entries(), found.used(), found.spent()
    if as_json:
        import msgspec  # noqa: PLC0415

        terms = {name: getattr(found, name) for name in ("epsilon", "delta", "unit", "neighboring_relation")}
        rows = [msgspec.to_builtins(entry) | {"event": msgspec.Raw(entry.event.encode())} for entry in entries]
        answer = {"budget": terms, "used": used, "spent": spent, "reservations": rows}
        typer.echo(msgspec.json.encode(answer).decode())
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from dp.event_json import event_from_bytes  # noqa: PLC0415

    table = Table()
    for column in ("number", "state", "reserved at", "purpose", "event"):
        table.add_column(column, justify="right" if column == "number" else "left", overflow="fold")
    for entry in entries:
        event = escape(_shown(event_from_bytes(entry.event.encode())))
        table.add_row(str(entry.number), entry.state, entry.reserved_at, escape(entry.purpose), event)
    Console(highlight=False).print(table)
    typer.echo(
        f"budget: ε = {found.epsilon:g} at δ = {found.delta!r} (unit: {found.unit}, "
        f"relation: {found.neighboring_relation})"
    )
    share = f"{math.ceil(1e3 * used) / 10:g} %" if used <= 1 else "all"
    typer.echo(f"spent or reserved: {share} of it; by itself {spent}")


@budget.command(no_args_is_help=True)
def reserve(
    file: _File,
    purpose: Annotated[str, typer.Option(help="What for, 1 to 200 characters.")],
    noise_multiplier: Annotated[
        float | None, typer.Option(help="Standard deviation of the Gaussian noise / clipping norm.")
    ] = None,
    sampling_probability: Annotated[float, typer.Option(help="Chance of a unit to be in a step; 1: always.")] = 1.0,
    steps: Annotated[int, typer.Option(help="How many noisy sums will be released.")] = 1,
    event: Annotated[
        Path | None, typer.Option(help="File with an event in JSON, as receipts write it, instead of the three above.")
    ] = None,
    *,
    as_json: _AsJson = False,
) -> None:
    r"""Take room for a release, before touching the data. Exit code 1 if there is not enough.

    A refusal says what is spent, what was asked and what is left. A reservation counts until it is released.

        secagg dp budget reserve heart.budget --purpose "risk model, plan 3f1c" \
            --noise-multiplier 1.2 --sampling-probability 0.05 --steps 500
    """
    from dp.budget import Budget  # noqa: PLC0415
    from secagg.cli import fail  # noqa: PLC0415

    if (noise_multiplier is None) == (event is None):
        fail("dp budget reserve", "give either --noise-multiplier or --event", code=2)
    with _reporting("dp budget reserve"):
        asked = _training(noise_multiplier or 0.0, sampling_probability, steps) if event is None else _read(event)
        reservation = Budget.open(file).reserve(asked, purpose=purpose)
    if as_json:
        import msgspec  # noqa: PLC0415

        typer.echo(msgspec.json.encode({"number": reservation.number, "purpose": purpose}).decode())
    else:
        typer.echo(f"reserved: number {reservation.number}. Before anything is sent, run")
        typer.echo(f"    secagg dp budget spend {file} {reservation.number}")


@budget.command()
def spend(file: _File, number: _Number) -> None:
    """Mark a reservation spent, for ever. Send nothing before this has returned with exit code 0."""
    with _reporting("dp budget spend"):
        _open(file).reservation(number).spend()
    typer.echo(f"spent: number {number}. The release may be sent.")


@budget.command()
def release(file: _File, number: _Number) -> None:
    """Give a reservation back that was never spent: nothing was sent on its account, and nothing can be any more.

    After a crash this is safe: whoever still holds the reservation is refused when it tries to spend it. What is spent
    stays spent, also if the sending failed, since nobody can know how much arrived.
    """
    with _reporting("dp budget release"):
        _open(file).reservation(number).release()
    typer.echo(f"released: number {number}.")


def _open(file: Path) -> Budget:
    from dp.budget import Budget  # noqa: PLC0415

    return Budget.open(file)


def _training(noise_multiplier: float, sampling_probability: float, steps: int) -> Event:
    from dp.events import Composed, Gaussian, PoissonSampled  # noqa: PLC0415

    return Composed([(PoissonSampled(sampling_probability, Gaussian(noise_multiplier)), steps)])


def _read(path: Path) -> Event:
    """Read an event from a file written by hand: JSON in any layout."""
    import msgspec  # noqa: PLC0415

    from dp.event_json import MAX_BYTES, event_from_json  # noqa: PLC0415

    with path.open("rb") as file:
        return event_from_json(msgspec.json.decode(file.read(MAX_BYTES)))


def _shown(event: Event) -> str:
    from dp.events import Composed  # noqa: PLC0415

    if isinstance(event, Composed):
        return ", ".join(f"{count} × {part!r}" for part, count in event.events)
    return repr(event)


@contextmanager
def _reporting(command: str) -> Iterator[None]:
    """Turn what goes wrong into one line: exit 2 for what was typed, 1 for what the budget refuses."""
    from dp.errors import PrivacyError  # noqa: PLC0415
    from secagg.cli import fail  # noqa: PLC0415

    try:
        yield
    except FileExistsError as error:
        fail(command, f"{error.filename} exists and is never overwritten: choose another name", code=2)
    except OSError as error:
        fail(command, f"{error.filename}: {error.strerror}", code=2)
    except PrivacyError as error:
        fail(command, error, code=1)
    except ValueError as error:
        fail(command, error, code=2)

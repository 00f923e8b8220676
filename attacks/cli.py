"""`secagg leakage`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from attacks.matrix import Matrix
    from attacks.study import Study

__all__ = ["leakage"]


def leakage(
    run: Annotated[
        Path | None, typer.Option(help="Folder of a run of `secagg train`: the result becomes a part of its report.")
    ] = None,
    task: Annotated[str, typer.Option(help="Whose hospitals are attacked: heart.")] = "heart",
    trials: Annotated[int, typer.Option(min=1, max=1_000_000, help="Rounds attacked per situation.")] = 100,
    seed: Annotated[
        int, typer.Option(min=0, max=1_000_000_000, help="Of models and of which patients are chosen.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Run every attack through every channel and write the whole table.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="With --all: folder for leakage.html and trials; picks up an interrupted run.")
    ] = Path("runs/leakage"),
    data: Annotated[
        Path | None,
        typer.Option(envvar="SECAGG_DATA", help="With --all: folder with data that is not shipped (PneumoniaMNIST)."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick/--full", help="With --all: minutes on two cores, or many more trials.")
    ] = True,
) -> None:
    """Attack the hospitals' updates: what would the server learn without secure aggregation, and what with it?

    The attack inverts the first layer of the model analytically. It runs on each hospital's plain update, on its masked
    update and on the secure sum, beside the best guess that needs no update at all. With --all, two dozen attacks run
    through every channel: updates in clear, secure aggregation with an honest server, with one that breaks the
    protocol, with a malicious model, with distributed noise, and homomorphic encryption. Run it on data you are allowed
    to see: it prints patients' records.

        secagg train --out runs/mine && secagg leakage --run runs/mine

        secagg leakage --all --out runs/leakage
    """
    if everything:
        if run is not None:
            from secagg.cli import fail  # noqa: PLC0415

            fail("leakage", "--all writes a page of its own, --run adds to a run's: choose one", code=2)
        _matrix(out, data, quick=quick, seed=seed, as_json=as_json)
        return
    import msgspec  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    from attacks.study import SITUATIONS, run_study  # noqa: PLC0415
    from protocols.tasks import load_task  # noqa: PLC0415
    from secagg.cli import fail  # noqa: PLC0415

    if run is not None:
        _check_run(run)
    try:
        chosen = load_task(task)
    except KeyError as error:
        fail("leakage", f"--task: {error.args[0]}", code=2)
    try:
        with Progress(console=Console(stderr=True), disable=as_json, transient=True) as progress:
            bar = progress.add_task("attacking", total=trials * len(SITUATIONS))
            study = run_study(
                chosen, trials=trials, seed=seed, watch=lambda title: progress.update(bar, advance=1, description=title)
            )
    except KeyboardInterrupt:
        fail("leakage", "interrupted; nothing was written", code=130)
    if as_json:
        typer.echo(msgspec.json.encode(study).decode())
    else:
        _print_tables(study)
    if run is not None:
        _add_to_report(study, run)


def _matrix(out: Path, data: Path | None, *, quick: bool, seed: int, as_json: bool) -> None:
    """Run the matrix, print it, and leave the page, the table for a README and all numbers in the folder."""
    import msgspec  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn  # noqa: PLC0415

    from attacks.harness import AnotherRunError, run_matrix  # noqa: PLC0415
    from attacks.matrix import markdown  # noqa: PLC0415
    from attacks.page import write_matrix_page  # noqa: PLC0415
    from protocols.record import write_whole  # noqa: PLC0415
    from secagg.cli import fail  # noqa: PLC0415

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), disable=as_json, transient=True) as progress:
            bar = progress.add_task("attacking", total=None)

            def watch(done: int, total: int, name: str) -> None:
                progress.update(bar, completed=done, total=total, description=name or "attacking")

            matrix = run_matrix(out, quick=quick, seed=seed, data=data, watch=watch)
    except AnotherRunError as error:
        fail("leakage", f"--out: {error}", code=2)
    except OSError as error:
        fail("leakage", f"--out {out}: {error.strerror}", code=2)
    except KeyboardInterrupt:
        fail("leakage", f"interrupted; run it again with --out {out} to go on", code=130)
    page = write_matrix_page(matrix, out)
    write_whole(out / "leakage.md", markdown(matrix).encode())
    if as_json:
        typer.echo(msgspec.json.encode(matrix).decode())
    else:
        _print_matrix(matrix)
    typer.echo(f"page: {page}; table for a README: {out / 'leakage.md'}", err=True)


def _print_matrix(matrix: Matrix) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from attacks.matrix import COLUMNS  # noqa: PLC0415
    from attacks.matrix.cells import printed  # noqa: PLC0415

    table = Table(title="What leaks through every channel", title_justify="left", show_lines=True)
    table.add_column("attack")
    table.add_column("data")
    for title in ("prior", *COLUMNS.values()):
        table.add_column(title, justify="right")
    for row in matrix.rows:
        fields = []
        for channel in COLUMNS:
            cell = row.cells[channel]
            text = "–" if cell.estimate is None else printed(cell.estimate.value, row.unit)
            fields.append(f"[bold red]{text}[/]" if cell.leaks else text)
        table.add_row(f"{row.attack}\n[dim]{row.measure}[/]", row.data, printed(row.best_prior, row.unit), *fields)
    console = Console()
    console.print(table)
    console.print("Red: more than the best guess without the update. –: not applicable, the page says why.")
    for text in matrix.missing:
        console.print(f"left out: {text}", highlight=False)


def _print_tables(study: Study) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console()
    example = Table(title=f"One patient of {study.example.site}", title_justify="left")
    example.add_column("feature")
    example.add_column("true", justify="right")
    for channel in study.example.guesses:
        example.add_column(channel, justify="right")
    for i, feature in enumerate(study.features):
        values = [f"{guess[i]:g}" for guess in study.example.guesses.values()]
        example.add_row(feature, f"{study.example.truth[i]:g}", *values)
    console.print(example)
    first, rates = next(iter(study.situations.items()))
    features = Table(title=f"Exact matches, {first}", title_justify="left")
    features.add_column("feature")
    for row in rates:
        features.add_column(row.channel, justify="right")
    for i, feature in enumerate(study.features):
        features.add_row(feature, *(f"{row.features[i]:.0%}" for row in rates))
    console.print(features)
    whole = Table(title="Whole records recovered exactly (95 % interval)", title_justify="left")
    whole.add_column("what the update was computed from")
    for row in rates:
        whole.add_column(row.channel, justify="right")
    whole.add_column("records", justify="right")
    for title, rows in study.situations.items():
        cells = [f"{row.whole:.1%}\n({row.low:.1%} – {row.high:.1%})" for row in rows]
        whole.add_row(title, *cells, str(rows[0].records))
    console.print(whole)


def _add_to_report(study: Study, run: Path) -> None:
    import msgspec  # noqa: PLC0415

    from attacks.page import leakage_page  # noqa: PLC0415
    from protocols.record import write_whole  # noqa: PLC0415
    from protocols.report import render, write_page  # noqa: PLC0415

    write_whole(run / "leakage.json", msgspec.json.format(msgspec.json.encode(study), indent=2))
    write_page(run, "leakage", leakage_page(study))
    typer.echo(f"added to {render(run)}", err=True)


def _check_run(run: Path) -> None:
    """Refuse a folder whose report cannot be added to, before the long work."""
    import msgspec  # noqa: PLC0415

    from protocols import read_record  # noqa: PLC0415
    from secagg.cli import fail  # noqa: PLC0415

    remedy = f"make a run with `secagg train --out {run}`"
    try:
        read_record(run)
    except OSError as error:
        fail("leakage", f"--run {run}: holds no run.json ({error.strerror}); {remedy}", code=2)
    except msgspec.DecodeError as error:
        fail("leakage", f"--run {run}: run.json is not of this version's `secagg train` ({error}); {remedy}", code=2)

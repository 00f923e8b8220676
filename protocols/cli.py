"""`secagg train`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from protocols.record import RunRecord

__all__ = ["train"]


class AggregationChoice(StrEnum):
    """Values of --aggregation."""

    masking = "masking"
    lattice = "lattice"
    threshold = "threshold"
    ckks = "ckks"
    plain = "plain"


def train(
    config: Annotated[Path | None, typer.Option(help="TOML or JSON file; options given here win over it.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for run.json, config.json and report.html.")] = Path("runs/latest"),
    task: Annotated[str | None, typer.Option(help="What to learn: heart.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds of federated training.")] = None,
    aggregation: Annotated[
        AggregationChoice | None,
        typer.Option(
            help="masking, lattice, threshold: only sums are seen. ckks: encrypted under a key that every hospital "
            "holds, and any of them can betray. plain: the server sees every update."
        ),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            help="HOSPITAL@ROUND:STEP, for example hungary@5:masked_input: vanishes in that round before that step "
            "(advertise_keys, share_keys, masked_input, unmask). May be repeated."
        ),
    ] = None,
    dp_epsilon: Annotated[
        float | None,
        typer.Option(
            help="Differential privacy: what all of training may cost one patient, at --dp-delta. Hospitals add noise "
            "in shares, rounds become steps of DP-SGD; a table [dp] in --config says more."
        ),
    ] = None,
    dp_delta: Annotated[float | None, typer.Option(help="δ of that statement; 1e-5 if not given.")] = None,
    dp_budget: Annotated[
        Path | None,
        typer.Option(help="The data set's privacy budget (secagg dp budget create)."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Initial weights and patient order.")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Repetitions behind the compared accuracies; 0: no comparison.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the same folder.")] = False,
) -> None:
    """Train one model over several hospitals with secure aggregation, and write a report.

    Every hospital trains on its own patients; only masked updates travel, and the server learns their sum. Without
    options this is the heart-disease task: four hospitals, 740 patients, a minute. Stop with Ctrl-C whenever you like:
    the run so far stays readable.

        secagg train --drop hungary@5:masked_input
        secagg train --dp-epsilon 1
    """
    from protocols import ConfigError, TrainingError, load_config  # noqa: PLC0415
    from protocols import train as train_run  # noqa: PLC0415
    from secagg.cli import fail  # noqa: PLC0415

    private = {"epsilon": dp_epsilon, "delta": dp_delta, "budget": dp_budget and str(dp_budget)}
    options = {
        "task": task,
        "rounds": rounds,
        "aggregation": aggregation.value if aggregation else None,
        "drop": drop or None,
        "dp": {key: value for key, value in private.items() if value is not None} or None,
        "seed": seed,
        "seeds": seeds,
    }
    try:
        settings = load_config(config, options)
        record = train_run(settings, out, _watch, overwrite=overwrite)
    except ConfigError as error:
        fail("train", error, code=2)
    except FileExistsError as error:
        fail("train", f"--out: {error.strerror or error} (--overwrite replaces a run)", code=2)
    except OSError as error:
        fail("train", f"--out {out}: {error.strerror}", code=2)
    except TrainingError as error:
        fail("train", f"{error}; the run so far is in {out}/report.html", code=1)
    except KeyboardInterrupt:
        report = out / "report.html"
        so_far = f"the run so far is in {report}" if report.exists() else "nothing was trained yet"
        fail("train", f"interrupted; {so_far}", code=130)
    _summary(record, out)


def _watch(record: RunRecord, text: str) -> None:
    """Print one line of news."""
    if not text.startswith("round"):
        typer.echo(text, err=True)
        return
    latest = record.rounds[-1]
    accuracy = "  ".join(f"{site} {value:.0%}" for site, value in latest.accuracy.items())
    line = f"{text:<16} {accuracy}"
    if latest.failure:
        line += f"   no sum: {latest.failure}"
    elif latest.dropouts:
        gone = ", ".join(f"{site} vanished before {step}" for site, step in latest.dropouts.items())
        line += f"   {gone}; {len(latest.survivors)} hospitals are in the sum"
    clipped = sum(latest.clipped.values())
    if clipped:
        share = clipped / (len(latest.clipped) * record.parameters)
        line += f"   {share:.0%} of the updates' coordinates were clipped to ±{record.config.clip:g}"
    typer.echo(line, err=True)


def _summary(record: RunRecord, out: Path) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from protocols.report.page import spread  # noqa: PLC0415

    console = Console()
    table = Table(title=f"Test accuracy over {record.config.seeds} seeds, all test patients", title_justify="left")
    for column in ("method", "settings", "ours", f"published ({record.published_source})"):
        table.add_column(column, justify="left" if column in {"method", "settings"} else "right")
    for row in record.compared:
        table.add_row(row.method, row.settings, spread(row.pooled), row.published)
    if record.compared:
        console.print(table)
    console.print(f"{record.privacy}; report: {out / 'report.html'}", highlight=False)

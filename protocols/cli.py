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


class UnitChoice(StrEnum):
    """Values of --dp-unit."""

    patient = "patient"
    institution = "institution"


class NoiseChoice(StrEnum):
    """Values of --dp-dropout-noise."""

    conservative = "conservative"
    exact = "exact"


class ServerChoice(StrEnum):
    """Values of --server."""

    honest = "semi-honest"
    malicious = "malicious"


TRUST, PRIVACY = "Whom secure sums hold against", "Differential privacy"
"""Panels of --help."""


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
            "(advertise_keys, share_keys, masked_input, unmask; --server malicious: consistency_check too). May be "
            "repeated."
        ),
    ] = None,
    clients: Annotated[
        int | None,
        typer.Option(
            help="Deal the hospitals' patients out to so many simulated clients, to try what many of them do."
        ),
    ] = None,
    server: Annotated[
        ServerChoice | None,
        typer.Option(
            help="semi-honest: it follows the protocol. malicious: it may do anything; clients then sign who survived, "
            "in one more round (consistency_check), and refuse to open anything else.",
            rich_help_panel=TRUST,
        ),
    ] = None,
    threshold: Annotated[
        int | None,
        typer.Option(
            help="t: a sum is of at least so many hospitals. More of them bear less noise each; n, all of them, goes "
            "with --dropout 0. The least safe one if not given.",
            rich_help_panel=TRUST,
        ),
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Share of the hospitals that may vanish from a round.", rich_help_panel=TRUST)
    ] = None,
    corrupted: Annotated[
        float | None,
        typer.Option(help="Share of the hospitals that may show the server all they know.", rich_help_panel=TRUST),
    ] = None,
    dp_epsilon: Annotated[
        float | None,
        typer.Option(
            help="What all of training may cost one patient, at --dp-delta. Hospitals add noise in shares, and rounds "
            "become steps of DP-SGD.",
            rich_help_panel=PRIVACY,
        ),
    ] = None,
    dp_delta: Annotated[
        float | None, typer.Option(help="δ of that statement; 1e-5 if not given.", rich_help_panel=PRIVACY)
    ] = None,
    dp_unit: Annotated[
        UnitChoice | None,
        typer.Option(
            help="Whom noise hides. patient: one patient among all. institution: all that one hospital contributes; "
            "its whole update is clipped, and it is in every round, so that no sampling helps. For hundreds of them: "
            "with few the noise is longer than what they say, and the run is refused with the numbers.",
            rich_help_panel=PRIVACY,
        ),
    ] = None,
    dp_even_if_useless: Annotated[
        bool, typer.Option("--dp-even-if-useless", help="Train all the same.", rich_help_panel=PRIVACY)
    ] = False,
    dp_clip_norm: Annotated[
        float | None,
        typer.Option(
            help="Length of a patient's gradient or an institution's update, at most.", rich_help_panel=PRIVACY
        ),
    ] = None,
    dp_clip_quantile: Annotated[
        float | None,
        typer.Option(
            help="Let the clip norm follow this quantile of the lengths, 0.5 say: noisy counts of what was not clipped "
            "move it, through the same sums; what they cost is part of ε.",
            rich_help_panel=PRIVACY,
        ),
    ] = None,
    dp_dropout_noise: Annotated[
        NoiseChoice | None,
        typer.Option(
            help="conservative: enough noise if all vanish who may, hence too much if they stay. exact: what is too "
            "much is taken out again; the seeds of it ride on the shares, and only those open that the signed "
            "survivors leave over (masking and lattice).",
            rich_help_panel=PRIVACY,
        ),
    ] = None,
    dp_colluders: Annotated[
        int | None,
        typer.Option(
            help="c: of how many hospitals the shares of the noise count nothing. As many as may be corrupted, and at "
            "least 1, if not given: each knows its own. With 0, ε is not against other hospitals.",
            rich_help_panel=PRIVACY,
        ),
    ] = None,
    dp_budget: Annotated[
        Path | None,
        typer.Option(help="The data set's privacy budget (secagg dp budget create).", rich_help_panel=PRIVACY),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Initial weights, patient order, rounding of updates.")] = None,
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
        secagg train --dp-epsilon 1 --server malicious --dp-dropout-noise exact
        secagg train --dp-epsilon 1 --threshold 4 --dropout 0
        secagg train --dp-epsilon 3 --dp-unit institution --clients 100 --dp-clip-quantile 0.5

    What no option says a file does: the keys of config.json in any run's folder.
    """
    from protocols import ConfigError, TrainingError, load_config  # noqa: PLC0415
    from protocols import train as train_run  # noqa: PLC0415
    from secagg.cli import fail  # noqa: PLC0415

    private = {
        "epsilon": dp_epsilon,
        "delta": dp_delta,
        "unit": dp_unit and dp_unit.value,
        "even_if_useless": dp_even_if_useless or None,
        "clip_norm": dp_clip_norm,
        "clip_quantile": dp_clip_quantile,
        "dropout_noise": dp_dropout_noise and dp_dropout_noise.value,
        "colluders": dp_colluders,
        "budget": dp_budget and str(dp_budget),
    }
    options = {
        "task": task,
        "clients": clients,
        "rounds": rounds,
        "aggregation": aggregation.value if aggregation else None,
        "drop": drop or None,
        "server": server and server.value,
        "threshold": threshold,
        "dropout": dropout,
        "corrupted": corrupted,
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
    from protocols.record import MANY_SITES, mean_accuracy  # noqa: PLC0415

    latest = record.rounds[-1]
    accuracy = "  ".join(f"{site} {value:.0%}" for site, value in latest.accuracy.items())
    if len(record.sites) > MANY_SITES:
        accuracy = (
            f"{len(record.sites)} clients, {mean_accuracy(record, len(record.rounds)):.0%} of their test patients"
        )
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
    if record.dp is not None and record.dp.warning:
        console.print(f"Of no use: {record.dp.warning}", highlight=False)
    console.print(f"{record.privacy}; report: {out / 'report.html'}", highlight=False)

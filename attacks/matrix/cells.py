"""From trials to the table: estimates with intervals, beside priors, and cells that say why there is no number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from attacks.channels import DELTA, SAMPLING_PROBABILITY, STEPS
from attacks.matrix.attack import NO_DEFENCE, Exhibit, Found, NotApplicable, SameAs
from attacks.metrics import Estimate, bootstrap, proportion
from attacks.threat import Channel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from attacks.matrix.attack import Attack

__all__ = ["COLUMNS", "Cell", "Matrix", "Result", "Row", "Shown", "assemble", "channels_of", "markdown", "printed"]

COLUMNS: dict[Channel, str] = {
    Channel.PLAIN: "plain FedAvg",
    Channel.SUM: "SecAgg, honest server",
    Channel.LIE: "SecAgg, malicious protocol",
    Channel.MODEL: "SecAgg, malicious model",
    Channel.DP_8: "+ distributed DP, ε = 8",
    Channel.DP_1: "+ distributed DP, ε = 1",
    Channel.HE: "HE",
}
"""The table's columns. `UNBOUND_LIE` stands in the cell of `LIE`, for comparison."""

_RESAMPLES = 1000


class Result(msgspec.Struct, frozen=True):
    """One trial, as it is kept.

    Attributes:
        attack, data, channel, defence: names.
        seed: of the trial.
        found: what it brought.
        seconds: it took.
    """

    attack: str
    data: str
    channel: Channel
    defence: str
    seed: int
    found: Found
    seconds: float

    @property
    def key(self) -> tuple[str, str, Channel, str, int]:
        """Tell it from other trials."""
        return self.attack, self.data, self.channel, self.defence, self.seed


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One field of the table.

    Attributes:
        kind: "measured"; "same": another channel's number; "not applicable"; "not run": in the other budget only.
        why: for the last three.
        estimate: mean score and its interval, as if scores were independent draws.
        prior: mean score of the best prior.
        scores: how many.
        leaks: whether more is learned than the prior knew: the 95 % interval of score − prior is above 0.
        unbound: where the server lies, the mean score if masks were not bound to the model.
    """

    kind: Literal["measured", "same", "not applicable", "not run"]
    why: str = ""
    estimate: Estimate | None = None
    prior: float | None = None
    scores: int = 0
    leaks: bool = False
    unbound: float | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One attack on one data set.

    Attributes:
        attack, setting, source, measure, unit, prior, data: as in `Attack`.
        threat, sees, may: of the adversary.
        cells: channel -> cell.
        best_prior: mean score of the prior, over all channels measured.
        defences: name of a defence -> cell, where defences are compared; "none" is among them.
        defended: the channel through which they are.
    """

    attack: str
    setting: str
    source: str
    measure: str
    unit: Literal["share", "dB", "AUC"]
    prior: str
    data: str
    threat: str
    sees: str
    may: str
    cells: dict[Channel, Cell]
    best_prior: float
    defences: dict[str, Cell]
    defended: Channel


class Shown(msgspec.Struct, frozen=True):
    """Something to look at: what an attack found through one channel."""

    attack: str
    data: str
    channel: Channel
    exhibit: Exhibit


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """The whole table.

    Attributes:
        quick: whether with the small budget.
        seed: of the first trial.
        data: names of the data sets.
        missing: what was left out, and why.
        rows: attacks.
        shown: exhibits of the first trials.
        seconds: of all trials, one after the other.
        privacy: what ε is promised for.
    """

    quick: bool
    seed: int
    data: list[str]
    missing: list[str]
    rows: list[Row]
    shown: list[Shown]
    seconds: float
    privacy: str = (
        f"ε at δ = {DELTA:g} for one record, add-or-remove-one, over {STEPS} steps in each of which a record takes "
        f"part with probability {SAMPLING_PROBABILITY:g}; the server sees one of these steps"
    )


def channels_of(attack: Attack) -> list[Channel]:
    """List the channels through which an attack runs."""
    run = [channel for channel in COLUMNS if channel not in attack.through]
    return [*run, Channel.UNBOUND_LIE] if Channel.LIE in run else run


def assemble(
    attacks: Sequence[Attack], results: Sequence[Result], *, quick: bool, seed: int, missing: Sequence[str]
) -> Matrix:
    """Make the table of all trials there are.

    Args:
        attacks: its rows.
        results: trials, each once.
        quick, seed, missing: as in `Matrix`.
    """
    groups: dict[tuple[str, str, Channel, str], list[Result]] = {}
    for result in results:
        groups.setdefault(result.key[:4], []).append(result)
    data = list(dict.fromkeys(result.data for result in results))
    rows = [_row(attack, name, groups) for attack in attacks for name in attack.data if name in data]
    shown = [
        Shown(result.attack, result.data, result.channel, result.found.exhibit)
        for result in results
        if result.found.exhibit is not None
    ]
    return Matrix(
        quick=quick,
        seed=seed,
        data=data,
        missing=list(missing),
        rows=rows,
        shown=shown,
        seconds=sum(result.seconds for result in results),
    )


def _row(attack: Attack, data: str, groups: Mapping[tuple[str, str, Channel, str], list[Result]]) -> Row:
    def cell(channel: Channel, defence: str = NO_DEFENCE.name) -> Cell:
        return _measured(attack, groups.get((attack.name, data, channel, defence), []))

    cells: dict[Channel, Cell] = {}
    for channel in COLUMNS:
        match attack.through.get(channel):
            case NotApplicable(why):
                cells[channel] = Cell(kind="not applicable", why=why)
            case SameAs(other, why):
                cells[channel] = msgspec.structs.replace(cell(other), kind="same", why=why)
            case _:
                cells[channel] = cell(channel)
    lied = cell(Channel.UNBOUND_LIE).estimate
    if lied is not None:
        cells[Channel.LIE] = msgspec.structs.replace(cells[Channel.LIE], unbound=lied.value)
    priors = [each.prior for each in cells.values() if each.prior is not None]
    compared = (NO_DEFENCE.name, *attack.defences) if attack.defences else ()
    return Row(
        attack=attack.name,
        setting=attack.setting,
        source=attack.source,
        measure=attack.measure,
        unit=attack.unit,
        prior=attack.prior,
        data=data,
        threat=attack.threat.name,
        sees=attack.threat.sees,
        may=attack.threat.may,
        cells=cells,
        best_prior=float(np.mean(priors)) if priors else float("nan"),
        defences={name: cell(attack.defended, name) for name in compared},
        defended=attack.defended,
    )


def _measured(attack: Attack, results: Sequence[Result]) -> Cell:
    scores = np.array([score for result in results for score in result.found.scores])
    if not len(scores):
        return Cell(kind="not run", why="not run yet")
    priors = np.array([prior for result in results for prior in result.found.priors])
    gain = bootstrap(_mean, scores - priors, rng=np.random.default_rng(0), resamples=_RESAMPLES)
    if attack.unit == "share" and set(scores.tolist()) <= {0.0, 1.0}:
        estimate = proportion(int(scores.sum()), len(scores))
    else:
        estimate = bootstrap(_mean, scores, rng=np.random.default_rng(0), resamples=_RESAMPLES)
    return Cell(kind="measured", estimate=estimate, prior=float(priors.mean()), scores=len(scores), leaks=gain.low > 0)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


def printed(value: float, unit: str) -> str:
    """Print a score: 98 %, 13.1 dB, .84."""
    if unit == "dB":
        return f"{value:.1f} dB"
    if unit == "AUC":
        return f"{value:.2f}"
    percent = 100 * value
    return f"{percent:.1f} %" if 0 < percent < 1 or 99 < percent < 100 else f"{percent:.0f} %"  # noqa: PLR2004


def markdown(matrix: Matrix) -> str:
    """Write the table for a README; reasons of empty cells stand below it, numbered."""
    reasons: dict[str, int] = {}
    lines = [
        "| attack | data | prior | " + " | ".join(COLUMNS.values()) + " |",
        "|---|---|--:|" + "--:|" * len(COLUMNS),
    ]
    for row in matrix.rows:
        fields = []
        for channel in COLUMNS:
            cell = row.cells[channel]
            note = f" [{reasons.setdefault(cell.why, len(reasons) + 1)}]" if cell.why else ""
            if cell.estimate is None:
                fields.append(("n/a" if cell.kind == "not applicable" else "not run") + note)
                continue
            text = printed(cell.estimate.value, row.unit)
            text = f"**{text}**" if cell.leaks else text
            if cell.unbound is not None:
                text += f" ({printed(cell.unbound, row.unit)})"
            fields.append(text + note)
        name = f"{row.attack}<br><sub>{row.setting}; {row.measure}</sub>"
        head = (name, row.data, printed(row.best_prior, row.unit))
        lines.append("| " + " | ".join([*head, *fields]) + " |")
    notes = [f"[{number}] {why}" for why, number in reasons.items()]
    return "\n".join([*lines, "", "; ".join(notes) + "."]) + "\n"

"""What one attack is to the harness: a trial goes in, scores beside those of the best prior come out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
import numpy as np

from attacks.channels import Cohort, look
from attacks.datasets import digits, heartbeats, pneumonia, waves
from attacks.defences import DEFENCES, Defence, unchanged
from attacks.malicious.detectors import alarms
from attacks.threat import Channel, Threat, View
from protocols.tasks import load_task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from attacks.datasets import Examples
    from protocols.task import Task

__all__ = [
    "DATA",
    "HEARTBEATS",
    "LOCAL",
    "NO_DEFENCE",
    "NUMBERS",
    "Attack",
    "Curve",
    "Exhibit",
    "Found",
    "NotApplicable",
    "Pictures",
    "Records",
    "SameAs",
    "Trial",
    "seen_of",
]

NO_DEFENCE = DEFENCES[0]
LOCAL = tuple(defence.name for defence in DEFENCES if defence.protect is not unchanged)
"""Names of the defences that a client applies to its own update."""
DATA = ("heart", "digits", "PneumoniaMNIST")
"""Data sets of the table, by name; the last needs a folder."""
HEARTBEATS = "time series"
"""ECG5000 where there is a folder that holds it, else made-up waves."""
NUMBERS = "numbers"
"""Vectors at random, where it does not matter whose they are."""


class Pictures(msgspec.Struct, frozen=True, tag=True):
    """Images beside their reconstructions.

    Attributes:
        truth, guesses: images, each rows of pixels in [0, 1].
    """

    truth: list[list[list[float]]]
    guesses: list[list[list[float]]]


class Records(msgspec.Struct, frozen=True, tag=True):
    """One record beside its reconstruction and the best guess without the update.

    Attributes:
        features: names.
        truth, guess, prior: values, in recorded units.
    """

    features: list[str]
    truth: list[float]
    guess: list[float]
    prior: list[float]


class Curve(msgspec.Struct, frozen=True, tag=True):
    """A ROC curve.

    Attributes:
        fpr, tpr: of one length.
        caption: true positive rates at low false positive rates, with intervals, as printed.
    """

    fpr: list[float]
    tpr: list[float]
    caption: str


Exhibit: TypeAlias = Pictures | Records | Curve


class Found(msgspec.Struct, frozen=True):
    """What one trial brought.

    Attributes:
        scores: one a record (or model, or round), the larger the more was learned.
        priors: the same of the best guess that needs no update.
        exhibit: to look at.
    """

    scores: list[float]
    priors: list[float]
    exhibit: Exhibit | None = None


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The attack makes no sense through a channel: `why`, to be read after "not applicable: "."""

    why: str


@dataclass(frozen=True, slots=True)
class SameAs:
    """What the adversary sees through a channel is what it sees through another: `why`."""

    channel: Channel
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run of one attack.

    Attributes:
        data: name of the data set.
        folder: that holds data which is not shipped, or None.
        channel: what the adversary sees through.
        defence: what clients do besides.
        seed: of the draw; the same victims in every channel.
        quick: spend less.
    """

    data: str
    folder: Path | None
    channel: Channel
    defence: Defence
    seed: int
    quick: bool

    def rng(self) -> np.random.Generator:
        """Return a fresh generator, the same for every channel and defence."""
        return np.random.default_rng(self.seed)

    def examples(self) -> Examples:
        """Load the labelled examples named."""
        return _examples(self.data, self.folder)

    def task(self) -> Task:
        """Load the task named, its features scaled by round numbers that everybody knows."""
        return load_task(self.data).publicly_scaled()


@lru_cache(maxsize=2)
def _examples(name: str, folder: Path | None) -> Examples:
    if name == "digits":
        return digits()
    if name == HEARTBEATS:
        try:
            return heartbeats(folder) if folder else _made_up()
        except OSError:
            return _made_up()
    if folder is None:
        msg = f"{name} is not shipped: name the folder that holds it"
        raise ValueError(msg)
    return pneumonia(folder)


def _made_up() -> Examples:
    return waves(500, steps=140, rng=np.random.default_rng(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One row of the matrix for each of its data sets.

    Attributes:
        name: as printed; unique.
        setting: who holds what, in a few words.
        source: the paper.
        threat: whose attack it is, at its strongest.
        measure: what a score is, in words.
        unit: "share": scores in [0, 1], printed in per cent; "dB"; "AUC".
        prior: the guess it is compared with.
        data: names of data sets.
        trials: in the quick and in the full matrix.
        run: the attack.
        through: channels that it does not run through, and why not.
        defended: the channel through which defences are compared.
        defences: names of those that are.
    """

    name: str
    setting: str
    source: str
    threat: Threat
    measure: str
    unit: Literal["share", "dB", "AUC"] = "share"
    prior: str
    data: Sequence[str]
    trials: tuple[int, int]
    run: Callable[[Trial], Found] = field(repr=False)
    through: Mapping[Channel, NotApplicable | SameAs] = field(default_factory=dict)
    defended: Channel = Channel.PLAIN
    defences: Sequence[str] = ()


def seen_of(
    trial: Trial,
    model: torch.nn.Module,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    *,
    clients: int,
    known: int = 0,
) -> list[View]:
    """Split a batch among clients and run a round through the trial's channel, its defence in place.

    Args:
        trial: says how.
        model: what clients are sent.
        x, y: (records, ...) float32 and (records,) int64, equally many for every client.
        clients: how many.
        known: how many of them, the last, collude.
    Returns: views, as `attacks.channels.look`; none where the clients' detectors refuse the model.
    """
    batches = zip(np.split(x, clients), np.split(y, clients), strict=True)
    cohort = Cohort(model, {str(client): batch for client, batch in enumerate(batches)})
    if trial.defence.detectors:
        for inputs, labels in cohort.records.values():
            if alarms(model, inputs.reshape(len(inputs), -1).astype(np.float64), labels):  # type: ignore[arg-type]
                return []
    colluders = list(cohort.records)[clients - known :]
    return look(trial.channel, cohort, rng=trial.rng(), protect=trial.defence.protect, known=colluders)

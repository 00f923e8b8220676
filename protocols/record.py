"""What a run leaves behind: one machine-readable document, rewritten whole after every round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from protocols.config import TrainConfig

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "MANY_SITES",
    "Compared",
    "PrivacyRecord",
    "RocCurve",
    "RoundRecord",
    "RunRecord",
    "Seen",
    "SiteRecord",
    "StepTotals",
    "make_room",
    "mean_accuracy",
    "read_record",
    "write_config",
    "write_record",
    "write_whole",
]


_FILES = ("config.json", "report.html", "leakage.json", "receipt.json", "pages/*.json", "run.json")
"""All that a run leaves in its folder; run.json goes last, so that what is half emptied still counts as a run."""


MANY_SITES = 12
"""Of more sites than this, pictures and comparisons show what they do together."""


class SiteRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An institution: patients to train on and to test with, and the share of diseased ones among the latter."""

    name: str
    title: str
    train: int
    test: int
    test_positive: float


class RoundRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One round of federated training.

    Attributes:
        number: 1, 2, ...
        survivors: sites in the mean.
        dropouts: site -> protocol round before which it vanished.
        failure: why there is no mean, if so.
        accuracy, loss: site -> the new global model on that site's own test patients.
        clipped: site -> clipped coordinates of its update.
        weight: sum of the survivors' patients.
        clip_norm: of the last step's rows, where noise was calibrated to it.
    """

    number: int
    survivors: tuple[str, ...]
    dropouts: dict[str, str]
    failure: str | None
    accuracy: dict[str, float]
    loss: dict[str, float]
    clipped: dict[str, int]
    weight: int
    clip_norm: float | None = None


class StepTotals(msgspec.Struct, frozen=True, kw_only=True):
    """One protocol round, over all rounds of training.

    Attributes:
        step: its name.
        client_seconds: per institution and round of training, local training left out.
        server_seconds: per round of training.
        bytes_up, bytes_down: per institution and round of training.
    """

    step: str
    client_seconds: float
    server_seconds: float
    bytes_up: float
    bytes_down: float


class RocCurve(msgspec.Struct, frozen=True, kw_only=True):
    """A receiver operating characteristic; `area_error` bounds what binning scores into `bins` changed (0: no bins)."""

    title: str
    false_positive_rate: list[float]
    true_positive_rate: list[float]
    area: float
    area_error: float
    bins: int
    positives: int
    negatives: int


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A way to train, over several seeds.

    Attributes:
        method, settings: as printed.
        pooled: test accuracy on all test patients standardised together, one value a seed (FLamby's measure).
        own: test accuracy on all test patients, each standardised by its own hospital, one value a seed; empty where
            the method has no such thing.
        published: what others reported for `pooled`, as text; empty if nothing.
    """

    method: str
    settings: str
    pooled: list[float]
    own: list[float]
    published: str


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What crossed the wire from one institution in one round, beside what it encoded.

    Attributes:
        site, number: which institution, which round.
        update: its true update, first coordinates.
        sent: the same coordinates as the server received them, integers modulo 2^modulus_bits.
        decoded: what the server gets if it decodes `sent` as if it were an update in clear.
        mean: the same coordinates of the mean the server learned.
        modulus_bits: of the plan.
    """

    site: str
    number: int
    update: list[float]
    sent: list[int]
    decoded: list[float]
    mean: list[float]
    modulus_bits: int


class PrivacyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a run with differential privacy claims, and what it does not.

    Attributes:
        epsilon, delta, unit, neighboring_relation: of all steps of the configuration together; `statement` in words.
        steps: noisy sums.
        noise_multiplier: of the promised honest noise, that on the votes for the clip norm accounted with it.
        row_noise_multiplier: of the noise on gradients or updates alone.
        vote_noise: stddev of the noise on a sum of votes for the clip norm; None: nobody votes.
        noise_of_mean: stddev of the noise on a coordinate of a mean when everybody is there, at the first clip norm.
        divisor: public constant that sums are divided by.
        least_senders, colluders: sums are opened of so many; so many of their shares count nothing.
        not_covered: what else this run made known, without noise.
        warning: why nothing can be learned under so much noise, if so.
    """

    epsilon: float
    delta: float
    unit: str
    neighboring_relation: str
    statement: str
    steps: int
    noise_multiplier: float
    row_noise_multiplier: float
    vote_noise: float | None
    noise_of_mean: float
    divisor: float
    least_senders: int
    colluders: int
    not_covered: list[str]
    warning: str = ""


class RunRecord(msgspec.Struct, kw_only=True):
    """A whole run.

    Attributes:
        status: "running", "finished", "interrupted" or "failed"; `failure` says why it failed.
        version: of secagg.
        started: ISO 8601, UTC.
        seconds: so far.
        threshold, corrupted, modulus_bits: of the plan of every round.
        model_sha256: of the latest model's parameters as little-endian float64, in hexadecimal.
        pooled_accuracy: of the final model over all test patients, from securely summed counts.
    """

    status: Literal["running", "finished", "interrupted", "failed"]
    failure: str = ""
    version: str
    started: str
    seconds: float = 0.0
    config: TrainConfig
    task_title: str
    data_source: str
    parameters: int
    threshold: int
    corrupted: int
    modulus_bits: int
    privacy: str
    dp: PrivacyRecord | None = None
    sites: list[SiteRecord]
    rounds: list[RoundRecord] = []
    steps: list[StepTotals] = []
    curves: list[RocCurve] = []
    model_sha256: str = ""
    pooled_accuracy: float | None = None
    compared: list[Compared] = []
    published_source: str = ""
    seen: Seen | None = None


def mean_accuracy(record: RunRecord, number: int) -> float:
    """Return the share of all sites' test patients that the model of a round (1, 2, ...) classifies rightly."""
    accuracy = record.rounds[number - 1].accuracy
    return sum(accuracy[site.name] * site.test for site in record.sites) / sum(site.test for site in record.sites)


def make_room(folder: Path, *, overwrite: bool) -> None:
    """Make a run's folder if there is none, and empty it of an earlier run's files, and of nothing else.

    Raises:
        FileExistsError: it holds a run and may not be overwritten, or it holds other things and no run.
        OSError: it cannot be made or emptied.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "run.json").exists():
            msg = f"{folder} holds something else than a run; it is left alone"
            raise FileExistsError(msg)
        if not overwrite:
            msg = f"{folder} already holds a run: choose another folder, or overwrite it"
            raise FileExistsError(msg)
        for pattern in _FILES:
            for path in folder.glob(pattern):
                path.unlink()
    folder.mkdir(parents=True, exist_ok=True)


def write_config(config: TrainConfig, folder: Path) -> None:
    """Write config.json, from which the same run can be started again."""
    write_whole(folder / "config.json", msgspec.json.format(msgspec.json.encode(config), indent=2))


def write_record(record: RunRecord, folder: Path) -> None:
    """Write run.json, whole or not at all."""
    write_whole(folder / "run.json", msgspec.json.format(msgspec.json.encode(record), indent=2))


def read_record(folder: Path) -> RunRecord:
    """Read run.json.

    Raises:
        FileNotFoundError: there is none.
        msgspec.ValidationError: it is not a run record.
    """
    return msgspec.json.decode((folder / "run.json").read_bytes(), type=RunRecord)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: readers see the old content or the new, never half of it."""
    scratch = path.with_name(f"{path.name}.part")
    scratch.write_bytes(data)
    scratch.replace(path)

"""A whole run: federated training with every round on record, then the methods it is compared with."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import secagg
from dp import PrivacyError
from protocols.accounting import check_budget, privacy_record, spending, statement, write_receipt
from protocols.comparison import compare
from protocols.config import TrainConfig, dropouts_by_round
from protocols.errors import ConfigError, TrainingError
from protocols.evaluate import BINS, Roc, own_roc, secure_pooled_roc
from protocols.fedavg import digest_of
from protocols.federation import Federation
from protocols.institution import one_thread
from protocols.record import (
    MANY_SITES,
    RocCurve,
    RoundRecord,
    RunRecord,
    Seen,
    SiteRecord,
    StepTotals,
    write_record,
)
from protocols.server_opt import FedAdam, FedAvg
from protocols.tasks import load_task
from protocols.wiretap import Wiretap
from secagg.transitions import steps_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from protocols.fedavg import RoundResult
    from protocols.secure_mean import MeanUpdate
    from protocols.server_opt import ServerOptimizer
    from protocols.task import SiteData, Task

__all__ = ["Prepared", "prepare", "run"]

NO_PRIVACY = "no differential privacy in this run"
SHOWN_COORDINATES = 6


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A run whose configuration was found to work, and what watches it."""

    federation: Federation
    dropouts: dict[int, dict[str, str]]
    tap: Wiretap
    trace: secagg.Trace


def prepare(config: TrainConfig) -> Prepared:
    """Check a configuration whole, and build what it describes.

    Raises:
        ConfigError: the configuration does not fit the task, or its numbers do not work together.
    """
    try:
        task = load_task(config.task)
    except KeyError as error:
        message = f"task: {error.args[0]}"
        raise ConfigError(message) from error
    if config.dp is not None:
        task = task.publicly_scaled()
    if config.clients:
        try:
            task = task.dealt(config.clients)
        except ValueError as error:
            message = f"clients: {error}"
            raise ConfigError(message) from error
    dropouts = _checked_dropouts(config, task)
    largest = max(task.sites, key=lambda site: max(len(site.train_y), len(site.test_y)))
    most = max(len(largest.train_y), len(largest.test_y))
    if config.max_weight < most:
        message = f"max_weight: {config.max_weight} is less than the {most} patients of {largest.name}"
        raise ConfigError(message)
    tap, trace = Wiretap(), secagg.Trace()
    try:
        federation = Federation.build(config, task, seed=config.seed, observers=[tap, trace])
    except secagg.PlanError as error:
        message = f"dropout, corrupted, threshold, server: {error}"
        raise ConfigError(message) from error
    except secagg.EncodingError as error:
        message = f"clip, bits, max_weight: {error}"
        raise ConfigError(message) from error
    check_budget(federation)
    return Prepared(federation, dropouts, tap, trace)


def run(
    prepared: Prepared, folder: Path, watch: Callable[[RunRecord, str], None] = lambda _record, _text: None
) -> RunRecord:
    """Train as configured, compare, and keep run.json up to date all the while.

    Args:
        prepared: by `prepare`; used once.
        folder: exists; receives run.json after every round and every comparison.
        watch: called with the record and a line of text whenever there is news.
    Raises:
        TrainingError: an update or the model is no longer finite, the privacy budget refuses the run, or somebody broke
            the protocol; the record was marked "failed" and written.
        KeyboardInterrupt: passed on after the record was marked "interrupted" and written.
    """
    federation, config, task = prepared.federation, prepared.federation.config, prepared.federation.task
    record = RunRecord(
        status="running",
        version=secagg.__version__,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        config=config,
        task_title=task.title,
        parameters=len(federation.start),
        data_source=task.data_source,
        threshold=federation.secure_mean.plan.threshold,
        corrupted=federation.secure_mean.plan.corrupted,
        modulus_bits=federation.secure_mean.plan.modulus_bits,
        privacy=NO_PRIVACY if config.dp is None else str(statement(federation)),
        dp=privacy_record(federation),
        sites=[_site_record(site) for site in task.sites],
        rounds=[],
        published_source=task.published_source,
    )
    began = time.perf_counter()

    def news(text: str) -> None:
        record.seconds = time.perf_counter() - began
        write_record(record, folder)
        watch(record, text)

    try:
        news("getting ready")
        _compile_kernels(federation)
        with one_thread(), spending(federation, f"secagg train, {task.name}, {folder}"):
            write_receipt(federation, folder)
            for result in federation.rounds(
                _optimizer(config), learning_rate=config.learning_rate, dropouts=prepared.dropouts
            ):
                _note_round(record, prepared, result)
                write_receipt(federation, folder)  # again, with what was signed meanwhile
                news(f"round {result.number} of {config.rounds}")
            _note_curves(record, federation, result.parameters)
            news("curves drawn")
            if config.dp is None:  # every other training would be one more look at the patients
                compare(record, task, news)
        record.status = "finished"
    except KeyboardInterrupt:
        record.status = "interrupted"
        raise
    except (PrivacyError, secagg.ProtocolError) as error:
        record.status, record.failure = "failed", str(error)
        raise TrainingError(record.failure) from error
    except (secagg.EncodingError, TrainingError) as error:
        record.status = "failed"
        record.failure = (
            f"training diverged after round {len(record.rounds)}: {error}; lower learning_rate or server_learning_rate"
        )
        raise TrainingError(record.failure) from error
    finally:
        news(record.status)
    return record


def _note_round(record: RunRecord, prepared: Prepared, result: RoundResult) -> None:
    federation = prepared.federation
    evaluations = {site.name: site.evaluate(result.parameters) for site in federation.institutions}
    mean = result.mean
    record.rounds.append(
        RoundRecord(
            number=result.number,
            survivors=mean.survivors if mean else (),
            dropouts=result.dropouts,
            failure=result.failure,
            accuracy={site: evaluation.accuracy for site, evaluation in evaluations.items()},
            loss={site: evaluation.loss for site, evaluation in evaluations.items()},
            clipped=mean.clipped if mean else {},
            weight=mean.weight if mean else 0,
            clip_norm=mean.clip_norm if mean else None,
        )
    )
    record.model_sha256 = hashlib.sha256(result.parameters.astype("<f8").tobytes()).hexdigest()
    record.steps = [
        _totals(step, prepared.trace, sum(federation.training_seconds))
        for step in steps_of(federation.config.aggregation, federation.config.server)
    ]
    if record.seen is None and mean is not None:
        record.seen = _seen(federation, result.number, mean, prepared.tap)


def _note_curves(record: RunRecord, federation: Federation, parameters: NDArray[np.float64]) -> None:
    config = federation.config
    evaluations = {site.name: site.evaluate(parameters) for site in federation.institutions}
    for site in federation.institutions if len(evaluations) <= MANY_SITES else ():
        roc = own_roc(evaluations[site.name])
        if roc is not None:
            record.curves.append(_curve(site.data.title, roc))
    pooled = secure_pooled_roc(
        federation.engine,
        evaluations,
        aggregation=config.aggregation,
        max_weight=config.max_weight,
        corrupted=config.corrupted,
        server=config.server,
        model=digest_of(parameters),
    )
    how = "from securely summed counts" if config.aggregation != "plain" else "from counts sent in clear"
    record.curves.append(_curve(f"All hospitals, {how}", pooled, bins=BINS))
    record.pooled_accuracy = pooled.accuracy


def _compile_kernels(federation: Federation) -> None:
    """Run one sum of zeros, so that the first round's times are not the compiler's."""
    federation.secure_mean.rehearse([site.name for site in federation.institutions])


def _optimizer(config: TrainConfig) -> ServerOptimizer:
    if config.dp is not None:
        return FedAvg(learning_rate=config.dp.learning_rate)
    kinds = {"fedavg": FedAvg, "fedadam": FedAdam}
    optimizer: ServerOptimizer = kinds[config.server_optimizer](learning_rate=config.server_learning_rate)
    return optimizer


def _checked_dropouts(config: TrainConfig, task: Task) -> dict[int, dict[str, str]]:
    dropouts = dropouts_by_round(config)
    names = [site.name for site in task.sites]
    for number, gone in dropouts.items():
        for site in gone:
            if site not in names:
                message = f"drop: no hospital {site!r} (round {number}): there are {', '.join(names)}"
                raise ConfigError(message)
    return dropouts


def _site_record(site: SiteData) -> SiteRecord:
    return SiteRecord(
        name=site.name,
        title=site.title,
        train=len(site.train_y),
        test=len(site.test_y),
        test_positive=float(site.test_y.mean()),
    )


def _seen(federation: Federation, number: int, mean: MeanUpdate, tap: Wiretap) -> Seen:
    """Put side by side what one surviving hospital's update was and what the server received of it."""
    site = mean.survivors[0]
    received = tap.rounds[-1][site]
    shown = slice(0, SHOWN_COORDINATES)
    return Seen(
        site=site,
        number=number,
        update=federation.updates[site].delta[shown].tolist(),
        sent=[int(value) for value in received[shown]],
        decoded=federation.secure_mean.read(received)[shown].tolist(),
        mean=mean.mean[shown].tolist(),
        modulus_bits=federation.secure_mean.plan.modulus_bits,
    )


def _totals(step: str, trace: secagg.Trace, trained: float) -> StepTotals:
    """Average one protocol round over institutions and rounds of training, local training left out."""
    answers = max(trace.messages[step, "up"], 1)
    seconds = trace.seconds.get((step, "client"), 0.0) - (trained if step in {"masked_input", "upload"} else 0.0)
    return StepTotals(
        step=step,
        client_seconds=max(seconds, 0.0) / answers,
        server_seconds=trace.seconds.get((step, "server"), 0.0) / max(trace.rounds, 1),
        bytes_up=trace.bytes[step, "up"] / answers,
        bytes_down=trace.bytes[step, "down"] / max(trace.messages[step, "down"], 1),
    )


def _curve(title: str, roc: Roc, *, bins: int = 0) -> RocCurve:
    return RocCurve(
        title=title,
        false_positive_rate=roc.false_positive_rate.tolist(),
        true_positive_rate=roc.true_positive_rate.tolist(),
        area=roc.area,
        area_error=roc.area_error,
        bins=bins,
        positives=roc.positives,
        negatives=roc.negatives,
    )

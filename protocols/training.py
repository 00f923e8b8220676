"""A whole run: federated training with every round on record, then the methods it is compared with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import torch

import secagg
from protocols.centralised import LEARNING_RATE, PASSES, train_alone
from protocols.config import TrainConfig, dropouts_by_round
from protocols.engines.memory import MemoryEngine
from protocols.errors import ConfigError, TrainingError
from protocols.evaluate import BINS, Roc, own_roc, secure_pooled_roc
from protocols.fedavg import RoundResult, fedavg
from protocols.institution import Institution, LocalUpdate, evaluate, one_thread
from protocols.models import make_model
from protocols.record import Compared, RocCurve, RoundRecord, RunRecord, Seen, SiteRecord, StepTotals, write_record
from protocols.secure_mean import MeanUpdate, SecureMean
from protocols.server_opt import FedAdam, FedAvg, ServerOptimizer
from protocols.tasks import load_task
from protocols.wiretap import Wiretap
from secagg.transitions import steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from protocols.task import SiteData, Task
    from secagg import Observer

__all__ = ["Federation", "Prepared", "prepare", "run"]

NO_PRIVACY = "no differential privacy in this run"
SHOWN_COORDINATES = 6
FEDADAM_LOCAL_RATE, FEDADAM_SERVER_RATE = 1e-4, 1e-2  # FLamby's, for this task
ALONE = f"Adam at {LEARNING_RATE:g}, {PASSES} passes (FLamby's)"


@dataclass(frozen=True, slots=True, eq=False)
class Federation:
    """Institutions with fresh models, ready to train together.

    Attributes:
        config: of the run.
        task: what is learned.
        institutions: one a site.
        start: (parameters,) float64, the initial global model.
        layout: of the model.
        secure_mean: the way out of an institution.
        engine: carries the messages.
        updates: what each institution computed last: a simulation knows, the server does not.
        training_seconds: of every local training so far.
    """

    config: TrainConfig
    task: Task
    institutions: tuple[Institution, ...]
    start: NDArray[np.float64]
    layout: secagg.Layout
    secure_mean: SecureMean
    engine: MemoryEngine
    updates: dict[str, LocalUpdate] = field(default_factory=dict, repr=False)
    training_seconds: list[float] = field(default_factory=list, repr=False)

    @classmethod
    def build(cls, config: TrainConfig, task: Task, *, seed: int, observers: Sequence[Observer] = ()) -> Federation:
        """Make every institution and the way between them; `observers` watch every message.

        Raises:
            EncodingError, PlanError: the configuration's numbers do not work together.
        """
        generator = torch.Generator().manual_seed(seed)
        features = len(task.features)
        model = make_model(config.model, features, generator=generator)
        layout = secagg.Layout.of(model.state_dict())
        institutions = tuple(
            Institution(
                site,
                make_model(config.model, features, generator=generator),
                generator=torch.Generator().manual_seed(_spawned(seed, position)),
            )
            for position, site in enumerate(task.sites)
        )
        secure_mean = SecureMean(
            layout=layout,
            sites=len(task.sites),
            clip=config.clip,
            bits=config.bits,
            max_weight=config.max_weight,
            aggregation=config.aggregation,
            dropout=config.dropout,
            corrupted=config.corrupted,
        )
        start = layout.flatten(model.state_dict())
        return cls(config, task, institutions, start, layout, secure_mean, MemoryEngine([*observers]))

    def rounds(
        self, optimizer: ServerOptimizer, *, learning_rate: float, dropouts: dict[int, dict[str, str]]
    ) -> Iterator[RoundResult]:
        """Train; yields after every round."""

        def local(institution: Institution, parameters: NDArray[np.float64]) -> LocalUpdate:
            start = time.perf_counter()
            update = institution.train(
                parameters,
                steps=self.config.local_steps,
                batch_size=self.config.batch_size,
                learning_rate=learning_rate,
            )
            self.training_seconds.append(time.perf_counter() - start)
            self.updates[institution.name] = update
            return update

        return fedavg(
            self.institutions,
            self.secure_mean,
            optimizer,
            self.start,
            engine=self.engine,
            rounds=self.config.rounds,
            local=local,
            dropouts=dropouts,
        )


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
        message = f"dropout, corrupted: {error}"
        raise ConfigError(message) from error
    except secagg.EncodingError as error:
        message = f"clip, bits, max_weight: {error}"
        raise ConfigError(message) from error
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
        TrainingError: an update or the model is no longer finite; the record was marked "failed" and written.
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
        privacy=NO_PRIVACY,
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
        with one_thread():
            for result in federation.rounds(
                _optimizer(config), learning_rate=config.learning_rate, dropouts=prepared.dropouts
            ):
                _note_round(record, prepared, result)
                news(f"round {result.number} of {config.rounds}")
            _note_curves(record, federation, result.parameters)
            news("curves drawn")
            _compare(record, task, news)
        record.status = "finished"
    except KeyboardInterrupt:
        record.status = "interrupted"
        raise
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
        )
    )
    record.steps = [
        _totals(step, prepared.trace, sum(federation.training_seconds))
        for step in steps_of(federation.config.aggregation)
    ]
    if record.seen is None and mean is not None:
        record.seen = _seen(federation, result.number, mean, prepared.tap)


def _note_curves(record: RunRecord, federation: Federation, parameters: NDArray[np.float64]) -> None:
    config = federation.config
    evaluations = {site.name: site.evaluate(parameters) for site in federation.institutions}
    for site in federation.institutions:
        roc = own_roc(evaluations[site.name])
        if roc is not None:
            record.curves.append(_curve(site.data.title, roc))
    pooled = secure_pooled_roc(
        federation.engine, evaluations, aggregation=config.aggregation, max_weight=config.max_weight
    )
    how = "from securely summed counts" if config.aggregation != "plain" else "from counts sent in clear"
    record.curves.append(_curve(f"All hospitals, {how}", pooled, bins=BINS))
    record.pooled_accuracy = pooled.accuracy


def _compare(record: RunRecord, task: Task, news: Callable[[str], None]) -> None:
    """Train in every way, seed after seed; the aggregation is the run's own, and nobody drops out."""
    config = record.config
    locally = {f"{site.short} alone": site for site in task.sites}
    alone = {"Pooled data": task.pooled} | locally
    settings = {"Pooled data": ALONE, "FedAvg": f"local SGD at {config.learning_rate:g}, server rate 1"}
    settings["FedAdam"] = f"local SGD at {FEDADAM_LOCAL_RATE:g}, server rate {FEDADAM_SERVER_RATE:g} (FLamby's)"
    settings |= dict.fromkeys(locally, ALONE)
    pooled: dict[str, list[float]] = {method: [] for method in settings}
    own: dict[str, list[float]] = {method: [] for method in pooled}
    for seed in range(config.seed, config.seed + config.seeds):
        for method, data in alone.items():
            network = train_alone(data, config.model, seed=seed)
            pooled[method].append(evaluate(network, task.pooled).accuracy)
        for method, optimizer, rate in (
            ("FedAvg", FedAvg(1.0), config.learning_rate),
            ("FedAdam", FedAdam(FEDADAM_SERVER_RATE), FEDADAM_LOCAL_RATE),
        ):
            federation = Federation.build(config, task, seed=seed)
            *_, last = federation.rounds(optimizer, learning_rate=rate, dropouts={})
            network = make_model(config.model, len(task.features), generator=torch.Generator())
            network.load_state_dict(federation.layout.unflatten(last.parameters))
            pooled[method].append(evaluate(network, task.pooled).accuracy)
            right = sum(
                site.evaluate(last.parameters).accuracy * len(site.data.test_y) for site in federation.institutions
            )
            own[method].append(right / sum(len(site.data.test_y) for site in federation.institutions))
        record.compared = [
            Compared(
                method=method,
                settings=settings[method],
                pooled=values,
                own=own[method],
                published=task.published.get(method, ""),
            )
            for method, values in pooled.items()
        ]
        news(f"compared with other methods: seed {seed - config.seed + 1} of {config.seeds}")


def _spawned(seed: int, position: int) -> int:
    """Return a generator's seed that no other run's or institution's equals, but by chance."""
    return int(np.random.SeedSequence([seed, position]).generate_state(1, np.uint64)[0] >> 1)


def _compile_kernels(federation: Federation) -> None:
    """Run one sum of zeros, so that the first round's times are not the compiler's."""
    codec = federation.secure_mean.codec
    nothing = codec.encode(np.zeros(codec.dimension), weight=1)
    secagg.simulate(federation.secure_mean.plan, {site.name: nothing for site in federation.institutions})


def _optimizer(config: TrainConfig) -> ServerOptimizer:
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
    codec = federation.secure_mean.codec
    site = mean.survivors[0]
    received = tap.rounds[-1][site]
    decoded = codec.decode_sum(received)
    shown = slice(0, SHOWN_COORDINATES)
    return Seen(
        site=site,
        number=number,
        update=federation.updates[site].delta[shown].tolist(),
        sent=[int(value) for value in received[shown]],
        decoded=(decoded.values / max(decoded.weight, 1))[shown].tolist(),
        mean=mean.mean[shown].tolist(),
        modulus_bits=codec.modulus_bits,
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

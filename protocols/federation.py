"""Institutions with fresh models, and the rounds they train in: federated averaging, or DP-SGD step by step.

A simulation, which its seed repeats: without noise, even updates are rounded with bytes that come from the seed, and
anybody may know these (`secagg.Encoding.encode` says what they tell). Keys and masks come from the operating system all
the same, and under differential privacy so do samples, noise and rounding, which is part of what was accounted for.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

import secagg
from protocols.engines.memory import MemoryEngine
from protocols.errors import TrainingError
from protocols.fedavg import RoundResult, fedavg
from protocols.institution import Institution, LocalUpdate
from protocols.models import make_model
from protocols.private_mean import PrivateMean, plan_privacy
from protocols.secure_mean import SecureMean
from secagg import tags
from secagg.primitives.keys import KEY_BYTES, derive_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from protocols.config import TrainConfig
    from protocols.server_opt import ServerOptimizer
    from protocols.task import Task
    from secagg import Observer

__all__ = ["Federation"]


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
        seed: of initial weights, patient order and, without noise, the rounding of updates.
        updates: what each institution computed last: a simulation knows, the server does not.
        training_seconds: of every local training so far.
    """

    config: TrainConfig
    task: Task
    institutions: tuple[Institution, ...]
    start: NDArray[np.float64]
    layout: secagg.Layout
    secure_mean: SecureMean | PrivateMean
    engine: MemoryEngine
    seed: int
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
        secure_mean: SecureMean | PrivateMean = (
            SecureMean(
                layout=layout,
                sites=len(task.sites),
                clip=config.clip,
                bits=config.bits,
                max_weight=config.max_weight,
                aggregation=config.aggregation,
                dropout=config.dropout,
                corrupted=config.corrupted,
                server=config.server,
                threshold=config.threshold,
            )
            if config.dp is None
            else plan_privacy(config, config.dp, dimension=layout.dimension, task=task)
        )
        start = layout.flatten(model.state_dict())
        return cls(config, task, institutions, start, layout, secure_mean, MemoryEngine([*observers]), seed)

    def rounds(
        self, optimizer: ServerOptimizer, *, learning_rate: float, dropouts: dict[int, dict[str, str]]
    ) -> Iterator[RoundResult]:
        """Train; yields after every round.

        Args:
            optimizer: the server's.
            learning_rate: of local training; not used where steps of DP-SGD take its place.
            dropouts: round -> site -> protocol round before which it vanishes.
        """
        if isinstance(self.secure_mean, PrivateMean):
            return self._private_rounds(self.secure_mean, optimizer, learning_rate, dropouts)

        def local(institution: Institution, parameters: NDArray[np.float64], number: int) -> LocalUpdate:
            with self._timed():
                update = self._trained(institution, parameters, learning_rate)
            update = replace(update, rounding=_rounding(self.seed, number, institution.name))
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
            training_plan=self._training_plan,
        )

    @property
    def _training_plan(self) -> bytes:
        return msgspec.json.encode(self.config, order="deterministic")

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.training_seconds.append(time.perf_counter() - start)

    def _trained(self, institution: Institution, parameters: NDArray[np.float64], learning_rate: float) -> LocalUpdate:
        return institution.train(
            parameters, steps=self.config.local_steps, batch_size=self.config.batch_size, learning_rate=learning_rate
        )

    def _private_rounds(
        self,
        private_mean: PrivateMean,
        optimizer: ServerOptimizer,
        learning_rate: float,
        dropouts: Mapping[int, Mapping[str, str]],
    ) -> Iterator[RoundResult]:
        """Take all steps and show them as so many rounds; who vanishes in a round misses all its steps."""
        privacy, rounds = private_mean.privacy, min(self.config.rounds, private_mean.privacy.steps)
        ends = [privacy.steps * number // rounds for number in range(1, rounds + 1)]
        round_of = np.searchsorted(ends, np.arange(1, privacy.steps + 1)) + 1

        def local(institution: Institution, parameters: NDArray[np.float64], _step: int) -> NDArray[np.float64]:
            if not np.isfinite(parameters).all():
                msg = "the model is no longer finite"
                raise TrainingError(msg)
            with self._timed():
                if privacy.unit == "institution":
                    rows = -self._trained(institution, parameters, learning_rate).delta[np.newaxis]
                else:
                    rows = institution.gradients(parameters, privacy.sample(len(institution.data.train_y)))
            rows[~np.isfinite(rows).all(axis=1)] = 0.0  # one unit must not be able to stop the run
            self.updates[institution.name] = LocalUpdate(-rows.sum(axis=0) / privacy.divisor, 0)
            return rows

        gone = {step: dict(dropouts.get(int(number), {})) for step, number in enumerate(round_of, start=1)}
        steps = fedavg(
            self.institutions,
            private_mean,
            optimizer,
            self.start,
            engine=self.engine,
            rounds=privacy.steps,
            local=local,
            dropouts=gone,
            training_plan=self._training_plan,
        )
        mean, failure = None, None
        for result in steps:
            mean, failure = result.mean or mean, result.failure or failure
            if result.number in ends:
                number = int(round_of[result.number - 1])
                yield RoundResult(number, result.parameters, mean, result.dropouts, failure)
                mean, failure = None, None


def _spawned(seed: int, position: int) -> int:
    """Return a generator's seed that no other run's or institution's equals, but by chance."""
    return int(np.random.SeedSequence([seed, position]).generate_state(1, np.uint64)[0] >> 1)


def _rounding(seed: int, number: int, site: str) -> bytes:
    """Return the 32 bytes that round a site's update of a round (1, 2, ...) in a simulation. Public, like the seed."""
    secret = seed.to_bytes(KEY_BYTES, "little")
    return derive_key(secret, tags.SIMULATED_ROUNDING, number.to_bytes(8, "little"), site.encode())

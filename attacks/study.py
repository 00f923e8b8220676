"""The first leakage study: analytic inversion on the heart task, through every channel.

Three situations: one patient and one step of a logistic model; eight patients and one step of a hidden layer; and the
training of the demo, a hundred local steps. In each, the same attack runs on the victim's plain update, on its masked
update, and on the secure sum. Where it finds nothing that looks like a patient the adversary falls back on the best
constant guess of every feature. In the demo's training only the patients of the first step count as records.

The server is given the victim's standardisation (means and deviations); without it, it gets the same record in
standard units.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

from attacks.analytic import invert_first_layer
from attacks.channels import observe
from attacks.metrics import ExactMatches, exact_matches, mode_record, plausible
from protocols.institution import LocalUpdate, batches_of, one_thread, train
from protocols.models import ModelName, make_model
from secagg import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from attacks.threat import View
    from protocols.task import SiteData, Task

__all__ = ["PRIOR", "SITUATIONS", "Example", "Outcome", "Rates", "Situation", "Study", "attack_round", "run_study"]

PRIOR = "prior only"
LIMIT = 12.0
"""Largest plausible feature in standard deviations."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What local training looked like when the server saw its update.

    Attributes:
        title: as printed.
        model: architecture.
        patients: in the step, or in each of the steps.
        steps: of SGD.
        learning_rate: of SGD.
    """

    title: str
    model: ModelName
    patients: int
    steps: int
    learning_rate: float


SITUATIONS = (
    Situation("one patient, one step, logistic model", "logistic", 1, 1, 0.5),
    Situation("one patient, one step, one hidden layer", "mlp", 1, 1, 0.5),
    Situation("eight patients, one step, one hidden layer", "mlp", 8, 1, 0.5),
    Situation("the demo's training: 100 steps of four patients, logistic model", "logistic", 4, 100, 0.01),
)


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Exact-match rates of one channel in one situation.

    Attributes:
        channel: "prior only", or a channel's name.
        records: records attacked.
        whole: share of them recovered in every feature; `low`, `high` its 95 % interval.
        features: share recovered, feature by feature.
    """

    channel: str
    records: int
    whole: float
    low: float
    high: float
    features: list[float]


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One record, as it is and as each channel gives it away, rounded to the units it is recorded in.

    Attributes:
        site: whose patient.
        truth: the record.
        guesses: channel -> the adversary's guess.
        found: channels whose guess came from the update, not from the prior.
    """

    site: str
    truth: list[float]
    guesses: dict[str, list[float]]
    found: list[str]


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """All situations.

    Attributes:
        task, source: its name, and whose data they are.
        features, resolutions: names of the features and the units they are recorded in.
        trials: rounds attacked per situation.
        situations: title -> rates, prior first.
        example: from the first trial of the first situation.
    """

    task: str
    source: str
    features: list[str]
    resolutions: list[float]
    trials: int
    situations: dict[str, list[Rates]]
    example: Example


def run_study(task: Task, *, trials: int, seed: int, watch: Callable[[str], None] = lambda _text: None) -> Study:
    """Run every situation.

    Args:
        task: every one of its hospitals is a victim in every trial.
        trials: rounds attacked per situation.
        seed: of models and of which patients are chosen.
        watch: called after every trial.
    Raises:
        ValueError: no trials.
    """
    if trials < 1:
        msg = f"at least one trial is needed, got {trials}"
        raise ValueError(msg)
    situations: dict[str, list[Rates]] = {}
    with one_thread():
        example = _example(task, attack_round(task, SITUATIONS[0], seed=seed * trials))
        for situation in SITUATIONS:
            tallies: dict[str, ExactMatches] = {}
            for trial in range(trials):
                for outcome in attack_round(task, situation, seed=seed * trials + trial):
                    for channel, guess in outcome.guesses.items():
                        tally = tallies.setdefault(channel, ExactMatches(np.zeros(len(task.features), dtype=np.int64)))
                        tally.add(exact_matches(outcome.truth, guess, task.features))
                watch(situation.title)
            situations[situation.title] = [_rates(channel, tally) for channel, tally in tallies.items()]
    return Study(
        task=task.name,
        source=task.data_source,
        features=[feature.name for feature in task.features],
        resolutions=[feature.resolution for feature in task.features],
        trials=trials,
        situations=situations,
        example=example,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """One victim of one round.

    Attributes:
        victim: whose records.
        truth: (records, features) the first step's records, in recorded units.
        guesses: channel -> (records, features), the adversary's guesses, prior first.
        found: channels where the update itself gave a guess.
    """

    victim: SiteData
    truth: NDArray[np.float64] = field(repr=False)
    guesses: dict[str, NDArray[np.float64]] = field(repr=False)
    found: list[str]


def attack_round(task: Task, situation: Situation, *, seed: int) -> list[Outcome]:
    """Let every site train once from a fresh model, and attack each through every channel."""
    generator = torch.Generator().manual_seed(seed)
    model = make_model(situation.model, len(task.features), generator=generator)
    layout = Layout.of(model.state_dict())
    start = layout.flatten(model.state_dict())
    updates: dict[str, LocalUpdate] = {}
    truth: dict[str, NDArray[np.float64]] = {}
    for site in task.sites:
        model.load_state_dict(layout.unflatten(start))
        chosen = batches_of(
            len(site.train_y), steps=situation.steps, batch_size=situation.patients, generator=generator
        )
        train(model, site, torch.optim.SGD(model.parameters(), lr=situation.learning_rate), chosen)
        delta = layout.flatten(model.state_dict()) - start
        updates[site.name] = LocalUpdate(delta, len(site.train_y))
        truth[site.name] = site.scaling.undo(site.train_x[chosen[0].numpy()].astype(np.float64))
    views = observe(updates)
    return [
        _attack(task, layout, site, truth[site.name], [view[site.name] for view in views.values()])
        for site in task.sites
    ]


def _attack(task: Task, layout: Layout, victim: SiteData, truth: NDArray[np.float64], views: list[View]) -> Outcome:
    prior = mode_record(victim.scaling.undo(victim.train_x.astype(np.float64)), task.features)
    guesses = {PRIOR: np.tile(prior, (len(truth), 1))}
    found = []
    for view in views:
        weight, bias, *_ = (tensor.double().numpy() for tensor in layout.unflatten(view.update).values())
        records = victim.scaling.undo(invert_first_layer(weight, bias, limit=LIMIT))
        records = records[plausible(records, task.features)][: len(truth)]
        if len(records):
            found.append(view.channel.value)
        guesses[view.channel.value] = np.concatenate([records, guesses[PRIOR][len(records) :]])
    return Outcome(victim, truth, guesses, found)


def _example(task: Task, outcomes: list[Outcome]) -> Example:
    outcome = outcomes[0]
    resolution = np.array([feature.resolution for feature in task.features])

    def recorded(record: NDArray[np.float64]) -> list[float]:
        rounded: list[float] = (np.rint(record / resolution) * resolution + 0.0).round(6).tolist()
        return rounded

    return Example(
        site=outcome.victim.title,
        truth=recorded(outcome.truth[0]),
        guesses={channel: recorded(guess[0]) for channel, guess in outcome.guesses.items()},
        found=outcome.found,
    )


def _rates(name: str, tally: ExactMatches) -> Rates:
    low, high = tally.interval()
    return Rates(
        channel=name,
        records=tally.records,
        whole=tally.whole / tally.records,
        low=low,
        high=high,
        features=(tally.features / tally.records).tolist(),
    )

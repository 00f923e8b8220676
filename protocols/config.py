"""The configuration of a training run: a file, checked whole before anything starts."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from protocols.aggregation import AggregationName, vanishing
from protocols.errors import ConfigError
from secagg.params import ServerModel
from secagg.transitions import steps_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PrivacyConfig", "TrainConfig", "dropouts_by_round", "load_config"]

MOST = 1_000_000_000
"""Upper bound on counts and seeds: far beyond any run, far below what torch and numpy cannot hold."""

Positive = Annotated[int, msgspec.Meta(ge=1, le=MOST)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1e30)]  # float32 holds it
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class PrivacyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Differential privacy of a run, through noise that institutions add in shares (`dp.DpSgd`).

    With unit "patient", rounds are filled with steps of DP-SGD over all institutions' patients. With unit
    "institution", each of them trains locally, round by round, and its whole update is clipped: for hundreds of them.

    Attributes:
        epsilon, delta: what all of training may cost a unit.
        unit: whom noise hides: "patient", or "institution", refused for a few of them.
        even_if_useless: train with the institution as the unit although the noise drowns what few of them can say.
        clip_norm: L2 norm of a unit's gradient or update, at most; where it adapts, to begin with.
        clip_quantile: of units that should not be clipped: the clip norm follows their norms by noisy counts, whose
            cost is part of ε. Left out: the clip norm stays.
        vote_noise: stddev of the noise on these counts; 0: as `dp.DpSgd` advises.
        sampling_probability: of every patient in every step; 0: 0.2. Every institution is in every round: 1.
        steps: of DP-SGD in all, spread evenly over the rounds; 0: 150. With unit "institution" a round is a step: 0.
        learning_rate: of the server; 0: 0.2 for patients' gradients, 1 for institutions' updates.
        copies: at how many institutions a patient may be.
        colluders: c, of how many institutions the shares of the noise count nothing; left out: those planned as
            corrupted, and at least 1, since each sees the model and knows its own. With 0, ε is against everybody who
            takes no part, and not against other institutions.
        dropout_noise: "conservative": enough noise if all that may vanish do, more if they do not. "exact": no more
            than enough, whoever vanishes; what is too much is taken away with seeds that rode on the shares.
        budget: file of the data set's privacy budget, which must have room for all steps; "": none is kept.

    Raises:
        ConfigError: values that make no sense for the unit.
    """

    epsilon: Rate
    delta: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 1e-5
    unit: Literal["patient", "institution"] = "patient"
    even_if_useless: bool = False
    clip_norm: Rate = 1.0
    clip_quantile: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    vote_noise: Annotated[float, msgspec.Meta(ge=0, le=1e30)] = 0.0
    sampling_probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    steps: Count = 0
    learning_rate: Annotated[float, msgspec.Meta(ge=0, le=1e30)] = 0.0
    copies: Positive = 1
    colluders: Count | None = None
    dropout_noise: Literal["conservative", "exact"] = "conservative"
    budget: str = ""

    def __post_init__(self) -> None:
        """Put in what a unit takes where nothing was said, and refuse what it cannot take."""
        whole = self.unit == "institution"
        for name, holds in (
            ("steps: a round is a step", not self.steps),
            ("sampling_probability: all are in every round", self.sampling_probability in {0.0, 1.0}),
            ("copies: one at one", self.copies == 1),
        ):
            if whole and not holds:
                msg = f"{name} where the unit is an institution; leave it out"
                raise ConfigError(msg)
        if self.vote_noise and self.clip_quantile is None:
            msg = "vote_noise: nobody votes without clip_quantile"
            raise ConfigError(msg)
        for field, taken in (
            ("sampling_probability", 1.0 if whole else 0.2),
            ("steps", 0 if whole else 150),
            ("learning_rate", 1.0 if whole else 0.2),
        ):
            msgspec.structs.force_setattr(self, field, getattr(self, field) or taken)


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a run depends on, besides the code and the data.

    Two runs of one configuration on one machine end in the same model, bit for bit, with any aggregation, as long as
    every round has its sum: `seed` decides the rounding of updates too. Under "threshold", who decrypts is drawn afresh
    in every run: a hospital that vanishes at the end may cost one run its sum and not another. Keys, masks and noise
    come from the operating system: with `dp`, models differ.

    Attributes:
        task: what to learn.
        clients: deal every institution's patients out to simulated clients, so many in all; 0: leave them together.
        model: "logistic" or "mlp".
        rounds: of federated training.
        local_steps, batch_size, learning_rate: of each institution's SGD in a round.
        server_optimizer, server_learning_rate: what the server does with the mean update.
        aggregation: "masking", "lattice" or "threshold" (secure), "ckks" (encrypted under a key that all institutions
            share), or "plain" (the server sees every update).
        clip, bits: bound and resolution of a coordinate of an update.
        max_weight: public bound on an institution's number of patients.
        dropout, corrupted: shares of the institutions that may vanish, or side with the server; of the latter a quarter
            if nothing is said, and none under CKKS, which cannot bear any.
        server: what plans hold against: one that follows the protocol, or one that may do anything.
        threshold: t, of how many institutions a sum is, at least; 0: the least that is safe.
        drop: who vanishes when: "HOSPITAL@ROUND:STEP".
        seed: of initial weights, patient order and, without `dp`, the rounding of updates; no secret.
        dp: differential privacy (`PrivacyConfig`); without it, the sums and the model are exact.
        seeds: how many repetitions, from `seed` on, stand behind the compared accuracies; 0 leaves the comparison out.
    """

    task: str = "heart"
    clients: Count = 0
    model: Literal["logistic", "mlp"] = "logistic"
    rounds: Positive = 15
    local_steps: Positive = 100
    batch_size: Positive = 4
    learning_rate: Rate = 0.01
    server_optimizer: Literal["fedavg", "fedadam"] = "fedavg"
    server_learning_rate: Rate = 1.0
    aggregation: AggregationName = "masking"
    clip: Rate = 1.0
    bits: Annotated[int, msgspec.Meta(ge=2, le=32)] = 20
    max_weight: Annotated[int, msgspec.Meta(ge=1)] = 1024
    dropout: Share = 0.25
    corrupted: Share | None = None
    server: ServerModel = "semi-honest"
    threshold: Count = 0
    drop: tuple[str, ...] = ()
    dp: PrivacyConfig | None = None
    seed: Count = 0
    seeds: Count = 5


def load_config(path: Path | None, overrides: dict[str, Any]) -> TrainConfig:
    """Read a TOML or JSON file, if any, and lay command-line values over it; tables are laid over key by key.

    Raises:
        ConfigError: unreadable, not TOML or JSON, an unknown key, or a value of the wrong type or range.
    """
    values: Any = {}
    if path is not None:
        try:
            text = path.read_text("utf-8-sig")
            values = (msgspec.json if path.suffix == ".json" else msgspec.toml).decode(text)
        except OSError as error:
            msg = f"{path}: {error.strerror}"
            raise ConfigError(msg) from error
        except UnicodeDecodeError as error:
            msg = f"{path}: not a text file in UTF-8"
            raise ConfigError(msg) from error
        except RecursionError as error:
            msg = f"{path}: nested too deeply"
            raise ConfigError(msg) from error
        except msgspec.DecodeError as error:
            msg = f"{path}: {error}"
            raise ConfigError(msg) from error
        if not isinstance(values, dict):
            msg = f"{path}: expected keys and values"
            raise ConfigError(msg)
    given = {key: value for key, value in overrides.items() if value is not None}
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            given[key] = values[key] | value
    try:
        config = msgspec.convert(values | given, TrainConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(_named(str(error))) from error
    dropouts_by_round(config)
    return config


def dropouts_by_round(config: TrainConfig) -> dict[int, dict[str, str]]:
    """Read the `drop` entries: round number -> site -> protocol round of this run's aggregation.

    Raises:
        ConfigError: not HOSPITAL@ROUND:STEP, no such round or step, or a site twice in one round; or an aggregation
            that holds against no malicious server.
    """
    if config.server == "malicious" and config.aggregation in {"plain", "ckks"}:
        msg = f"server: {config.aggregation} sums hold against no malicious server: take masking, lattice or threshold"
        raise ConfigError(msg)
    steps = steps_of("masking", config.server)
    result: dict[int, dict[str, str]] = {}
    for entry in config.drop:
        match = re.fullmatch(r"([^@]+)@([0-9]{1,9}):(\w+)", entry)
        if match is None or match[3] not in steps:
            msg = f"drop: {entry!r} is not HOSPITAL@ROUND:STEP with STEP one of {', '.join(steps)}"
            raise ConfigError(msg)
        site, number = match[1], int(match[2])
        if not 1 <= number <= config.rounds:
            msg = f"drop: {entry!r} names a round outside 1..{config.rounds}"
            raise ConfigError(msg)
        if site in result.setdefault(number, {}):
            msg = f"drop: {site!r} vanishes twice in round {number}"
            raise ConfigError(msg)
        result[number][site] = match[3]
    own = partial(vanishing, aggregation=config.aggregation, server=config.server)
    return {
        number: {site: before for site, step in gone.items() if (before := own(step)) is not None}
        for number, gone in result.items()
    }


def _named(message: str) -> str:
    """Turn msgspec's "... - at `$.rounds`" into "rounds: ..."."""
    unknown = re.search(r"unknown field `([^`]*)`", message)
    if unknown:
        return f"{unknown[1]}: no such key (there are {', '.join(TrainConfig.__struct_fields__)})"
    missing = re.fullmatch(r"Object missing required field `([^`]*)` - at `\$\.([^`]*)`", message)
    if missing:
        return f"{missing[2]}.{missing[1]}: not given, and needed for {missing[2]}"
    located = re.fullmatch(r"(.*) - at `\$\.([^`]*)`", message)
    return f"{located[2]}: {located[1]}" if located else message

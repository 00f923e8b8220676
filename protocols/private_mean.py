"""The one call through which gradients leave an institution under differential privacy: `dp.DpSgd` and any secure sum.

The noise is enough in whatever sum the plan opens: the honest shares that are certain to be in it, t - c of n, make up
the noise that is accounted. In a sum of more there is more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

import secagg
from dp.calibration import calibrate_noise_multiplier
from dp.dp_sgd import RELATION, DpSgd
from dp.errors import PrivacyError
from dp.events import Composed, Gaussian
from protocols.aggregation import plan_of
from protocols.engines.memory import MemoryEngine
from protocols.errors import ConfigError
from protocols.secure_mean import MeanUpdate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from protocols.config import PrivacyConfig, TrainConfig
    from protocols.task import Task
    from secagg.encoding.packing import Words

__all__ = ["PrivateMean", "plan_privacy"]


@dataclass(frozen=True, slots=True, eq=False)
class PrivateMean:
    """Noisy mean gradients of institutions' Poisson samples.

    Args:
        privacy: sampler, clip, noise and account.
        plan: of every secure sum; checked against what the noise was promised for.
    """

    privacy: DpSgd
    plan: secagg.Plan

    def __post_init__(self) -> None:
        """Refuse sums that could be opened with less noise."""
        self.privacy.codec.check(self.plan)

    def __call__(
        self,
        engine: MemoryEngine,
        gradients: Mapping[str, Callable[[], NDArray[np.float64]]],
        *,
        dropouts: Mapping[str, str],
    ) -> MeanUpdate:
        """Run one step.

        Args:
            engine: carries the messages.
            gradients: site -> a call that draws its sample there and returns the gradients, (sampled, parameters).
            dropouts: site -> protocol round before which it vanishes.
        Returns: minus the noisy mean gradient, as an update; no weight is released, and nobody's clipping.
        Raises:
            ThresholdError: too few sites remain; nothing was learned.
        """
        secrets: dict[str, bytes] = {}

        def extras(site: str, secret: bytes) -> tuple[bytes, ...]:
            secrets[site] = secret  # of this round and site, from the session; the noise comes from it
            return self.privacy.codec.extras(secret)

        def contribution(site: str) -> secagg.Encoded:
            return self.privacy.encode(gradients[site](), random=secrets.get(site))

        made = {site: partial(contribution, site) for site in gradients}
        riding = {site: partial(extras, site) for site in gradients} if self.plan.extras else None
        total = engine.sum(self.plan, made, dropouts=dropouts, extras=riding)
        return MeanUpdate(-self.privacy.gradient(total), 0, tuple(map(str, total.survivors)), {})

    def read(self, vector: Words) -> NDArray[np.float64]:
        """Decode a vector from the wire as if it were an update in clear."""
        return -self.privacy.gradient(vector)

    def rehearse(self, sites: Iterable[str]) -> None:
        """Sum no gradients at all, in a session of its own."""
        nothing = np.zeros((0, self.privacy.dimension))
        self(MemoryEngine(), {site: lambda: nothing for site in sites}, dropouts={})


def plan_privacy(config: TrainConfig, privacy: PrivacyConfig, *, dimension: int, task: Task) -> PrivateMean:
    """Choose noise and secure sum together.

    Every institution sees every model and knows its own noise: at least one share counts nothing, its own.

    Args:
        config: of the run: how sums are made.
        privacy: target, clip, sampling and steps.
        dimension: parameters of the model.
        task: its number of sites, and its public number of patients.
    Raises:
        ConfigError: no privacy can be promised for these sums, or none that leaves anything to learn.
        PlanError, EncodingError: the numbers do not work together.
    """
    if config.aggregation == "plain":
        msg = (
            "dp: in clear the server sees every hospital's vector with its own small share of the noise; take "
            "aggregation masking, lattice or ckks"
        )
        raise ConfigError(msg)
    sites = len(task.sites)
    _check_unit(privacy, sites, dimension)
    plan = partial(plan_of, aggregation=config.aggregation, dropout=config.dropout, corrupted=config.corrupted)
    exact = privacy.dropout_noise == "exact"
    if exact:
        if config.aggregation not in {"masking", "lattice"}:
            msg = f"dp.dropout_noise: exact noise rides on the shares of masking and lattice, not {config.aggregation}"
            raise ConfigError(msg)
        plan = partial(plan, extras=max(1, math.ceil(config.dropout * sites - 1e-9)))
    shape = plan(secagg.Counts(dimension=1, maximum=1, clients=sites))
    try:
        made = DpSgd.for_target(
            target_epsilon=privacy.epsilon,
            target_delta=privacy.delta,
            dimension=dimension,
            clients=sites,
            least_senders=shape.least_survivors,
            colluders=max(1, shape.corrupted),
            units=config.max_weight,
            expected_units=task.expected_patients,
            sampling_probability=privacy.sampling_probability,
            steps=privacy.steps,
            clip_norm=privacy.clip_norm,
            copies=privacy.copies,
            noise="xnoise-discrete-gaussian" if exact else "discrete-gaussian",
            wrap_probability=0.0 if config.aggregation in {"lattice", "threshold"} else 2.0**-40,
        )
    except (PrivacyError, ValueError) as error:
        msg = f"dp: {error}"
        raise ConfigError(msg) from error
    return PrivateMean(made, plan(made.codec))


def _check_unit(config: PrivacyConfig, sites: int, dimension: int) -> None:
    """Say why a few institutions cannot be hidden from one another.

    Everybody's update counts at most the clip norm, and all of them are asked in every step. Releases of a Gaussian
    noise of z clip norms, T times, have ε at least that of one release at z/sqrt(T).
    """
    if config.unit == "patient":
        return
    noise = calibrate_noise_multiplier(
        lambda z: Composed([(Gaussian(z), config.steps)]),
        target_epsilon=config.epsilon,
        target_delta=config.delta,
        neighboring_relation=RELATION,
    )
    norm = noise * math.sqrt(dimension)
    msg = (
        f"dp: to hide whether an institution took part, each update may count one clip norm, and {config.steps} steps "
        f"at ε = {config.epsilon:g} need noise of {noise:.3g} clip norms on every one of {dimension} parameters: "
        f"{norm:.3g} in all, against at most {sites} from {sites} institutions that agree. Nothing can be learned from "
        f"that; it is for hundreds of institutions. Take unit = 'patient'"
    )
    raise ConfigError(msg)

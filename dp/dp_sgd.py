"""Distributed DP-SGD planned as one: sampler, clip, noise, divisor and event of a step come from the same numbers.

Every step each client draws a Poisson sample of its own units, adds up their clipped gradients on a grid, and adds its
share of the noise; a secure sum adds the vectors, and only the sum is released. One noise, as strong as in one place,
protects every unit of every client against whoever sees sums, and whoever drops out (`dp.distributed`). What cannot
be said here cannot go wrong: batches are Poisson samples because `sample` draws them, the divisor is a public constant,
and the steps of all clients together are the steps of one event.

*Who is amplified against.* Sampling is secret to whoever does not see it: to the server and to the other clients. To
the client that drew the sample it is no secret; it holds the records anyway.

*Units at several clients.* A unit at up to m clients adds up to m clipped gradients, one for each copy that
is sampled. With k copies sampled, k binomial, the law of the sum is a mixture; hockey-stick divergences are convex
in both laws and grow with the shift, so that the pair with all weight on k = m dominates: odds 1 - (1 - q)^m of being
sampled, sensitivity m times one copy's.

Source: Abadi et al. 2016 (arXiv 1607.00133), Algorithm 1; the noise in shares is `dp.distributed`'s.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dp.calibration import calibrate_noise_multiplier
from dp.distributed import Noise, NoisySum
from dp.errors import CalibrationError, UnsupportedEventError
from dp.events import Composed, Gaussian, PoissonSampled, Skellam, check_unit
from dp.integer_events import DiscreteGaussianSum, Distributed
from dp.ledger import Ledger
from secagg import tags
from secagg.primitives.keys import derive_key
from secagg.primitives.prg import keystream
from secagg.rounds import Total

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dp.events import Event, Unit
    from dp.ledger import PrivacySpent
    from secagg import Encoded
    from secagg.encoding.packing import Words

__all__ = ["RELATION", "DpSgd"]

RELATION: Final = "add-or-remove-one"
"""The neighbouring relation: a unit is there or not. Poisson sampling is accounted under this one."""

_NUDGE, _ATTEMPTS = 5e-4, 20
"""How much more noise is tried at a time, and how often, where integer noise misses the target of continuous noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DpSgd:
    """How a model is trained under differential privacy, and what that costs.

    Args:
        dimension: parameters of the model.
        clients: n, who hold the data.
        least_senders, colluders: t and c, as in `NoisySum`: t - c shares of the noise are counted. c is at least 1
            where clients see the model: each knows its own share.
        units: public bound on the units of one client.
        expected_units: public estimate of the units of all clients together: what sums are divided by is q times that,
            whatever is there. A wrong estimate changes the learning rate and nothing else.
        sampling_probability: q, of every unit in every step, in (0, 1].
        steps: T, in all.
        clip_norm: L2 norm of a unit's gradient, at most.
        noise_multiplier: stddev of the honest noise / clip norm.
        copies: m, at how many clients a unit may be: declared, and scales the sensitivity.
        unit: whose gradient is clipped: "patient" if every row, or all rows of a patient together, make one gradient.
        noise: as in `NoisySum`. Removable noise is no more than promised, however few drop out; it rides on secure sums
            with extra secrets (`secagg.plan(..., extras=...)`).
        wrap_probability: as in `NoisySum`; 0 where the secure sum must not wrap.

    Raises:
        EncodingError, UnsupportedEventError, ValueError: out of range.

    >>> plan = DpSgd(dimension=14, clients=4, least_senders=3, units=200, expected_units=486,
    ...     sampling_probability=0.2, steps=150, clip_norm=1.0, noise_multiplier=2.0)
    >>> plan.divisor
    97.2
    """

    dimension: int
    clients: int
    least_senders: int
    colluders: int = 0
    units: int
    expected_units: float
    sampling_probability: float
    steps: int
    clip_norm: float
    noise_multiplier: float
    copies: int = 1
    unit: Unit = "patient"
    noise: Noise = "discrete-gaussian"
    wrap_probability: float = 2.0**-40
    codec: NoisySum = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the ranges and build the encoding."""
        check_unit(self.unit)
        for name, holds, wanted in (
            ("sampling_probability", 0 < self.sampling_probability <= 1, "in (0, 1]"),
            ("expected_units", 0 < self.expected_units < math.inf, "finite and > 0"),
            ("steps", type(self.steps) is int and self.steps >= 1, "an integer of at least 1"),
            ("copies", type(self.copies) is int and 1 <= self.copies <= self.clients, "an integer in [1, clients]"),
        ):
            if not holds:
                msg = f"{name} is {wanted}, got {getattr(self, name)!r}"
                raise ValueError(msg)
        codec = NoisySum(
            dimension=self.dimension,
            clip_norm=self.clip_norm,
            noise_multiplier=self.noise_multiplier,
            clients=self.clients,
            least_senders=self.least_senders,
            colluders=self.colluders,
            units=self.units,
            noise=self.noise,
            wrap_probability=self.wrap_probability,
        )
        object.__setattr__(self, "codec", codec)

    @classmethod
    def for_target(cls, *, target_epsilon: float, target_delta: float, **choices: Any) -> DpSgd:  # noqa: ANN401
        """Choose the least noise that keeps all steps within (ε, δ).

        Args:
            target_epsilon, target_delta: what all steps together may cost one unit.
            choices: every other argument, but for `noise_multiplier`.
        Raises:
            CalibrationError: no noise does.
        """
        like = cls(**choices, noise_multiplier=1.0)
        noise = calibrate_noise_multiplier(
            lambda z: Composed([(PoissonSampled(like._sampled, Gaussian(z / like.copies)), like.steps)]),
            target_epsilon=target_epsilon,
            target_delta=target_delta,
            neighboring_relation=RELATION,
        )
        for attempt in range(_ATTEMPTS):  # certified bounds of integer noise are wider by a little
            made = replace(like, noise_multiplier=noise * (1 + _NUDGE * attempt))
            if made.spent(target_delta).epsilon <= target_epsilon:
                return made
        msg = f"ε = {target_epsilon} at δ = {target_delta}: integer noise costs more than continuous noise"
        raise CalibrationError(msg)

    @property
    def step(self) -> Event:
        """What one step is."""
        return PoissonSampled(self._sampled, _scaled(self.codec.event, self.copies))

    @property
    def _sampled(self) -> float:
        """How likely some copy of a unit is sampled: 1 - (1 - q)^m, rounded up."""
        if self.sampling_probability == 1:
            return 1.0
        missed = self.copies * math.log1p(-self.sampling_probability)
        return min(1.0, -math.expm1(missed) * (1 + 1e-15)) if self.copies > 1 else self.sampling_probability

    @property
    def event(self) -> Event:
        """What all steps are."""
        return Composed([(self.step, self.steps)])

    @property
    def divisor(self) -> float:
        """What every sum is divided by: a public constant."""
        return self.sampling_probability * self.expected_units

    def sample(self, units: int, *, random: bytes | None = None) -> NDArray[np.int64]:
        """Draw a Poisson sample.

        Args:
            units: how many this client has, at most `self.units`.
            random: 32 fresh secret bytes; None draws them from the operating system.
        Returns: positions, ascending; every unit is in it on its own with a probability of q, rounded down to 2^-64.
        Raises:
            ValueError: more units than the public bound.
        """
        if not 0 <= units <= self.units:
            msg = f"this client has {units} units, the public bound is {self.units}"
            raise ValueError(msg)
        key = derive_key(os.urandom(32) if random is None else random, tags.BATCH_SAMPLING)
        if self.sampling_probability == 1:
            return np.arange(units)
        words = keystream(key, 8 * units).view("<u8")
        return np.flatnonzero(words < np.uint64(math.floor(self.sampling_probability * 2.0**64)))

    def encode(self, gradients: NDArray[Any], *, random: bytes | None = None) -> Encoded:
        """Clip, round and add up the gradients of a sample, and add this client's share of the noise.

        Args:
            gradients: (sampled, dimension) float32 or float64, a row a unit.
            random: as in `NoisySum.encode`.
        """
        return self.codec.encode(gradients, random=random)

    def gradient(self, total: Total | Words) -> NDArray[np.float64]:
        """Return the noisy mean gradient, (dimension,) float64: the sum over the divisor, whoever was there.

        Removable noise that is too much is taken out of a `Total` first; a bare vector is read as it is.
        """
        if self.codec.is_removable and isinstance(total, Total):
            return self.codec.decode(self.codec.without_excess(total)) / self.divisor
        return self.codec.decode(total) / self.divisor

    def spent(self, delta: float, *, steps: int | None = None) -> PrivacySpent:
        """Return what so many steps cost a unit; None: all of them."""
        ledger = Ledger(unit=self.unit, neighboring_relation=RELATION)
        ledger.compose(self.step, self.steps if steps is None else steps)
        return ledger.spent(delta)


def _scaled(event: Event, copies: int) -> Event:
    """The same release, of which a unit adds so many times as much."""
    match event:
        case Distributed(share=share):
            return replace(event, share=replace(share, sensitivity=copies * share.sensitivity))
        case DiscreteGaussianSum(total=total):
            return replace(event, total=replace(total, sensitivity=copies * total.sensitivity))
        case Skellam():
            return replace(event, sensitivity=copies * event.sensitivity)
        case _:
            raise UnsupportedEventError(event, "not the noise of a sum of clipped gradients")

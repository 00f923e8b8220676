"""The integer pipeline of distributed differential privacy, planned, encoded and accounted as one.

Clip every unit's vector, rotate (optional), scale to the grid, round stochastically on condition that the norm stays
below a bound, add up, add the client's share of the noise, reduce modulo 2^b. A secure sum adds the vectors; only the
sum is released. `NoisySum` is an encoding like `secagg.Encoding`: `secagg.plan` takes it, and clients encode with it.

Each stage enters the account once:

* Clipping and rounding: the sensitivity is the bound on the norm of *rounded* rows, checked on integers, so that
  neither rounding up nor floating point can exceed it (`dp.rounding`). The rotation is orthogonal and public.
* Noise: one event for the noise of the honest clients that are certain to be in the sum, however many drop out. The
  variance of discrete Gaussian noise is raised by the s² that its continuous equivalent loses
  (`dp.gaussian_equivalent`), so that `noise_multiplier` is that of a central Gaussian.
* The modulus: reducing a sum is post-processing and costs no privacy. A sum that wraps is decoded wrongly: the modulus
  is such that this happens with at most `wrap_probability` in a round, or never.

Divide the sum by a public constant: the number of units in it is as sensitive as they are. A weight that must be hidden
is one more coordinate of the unit's vector, clipped with it.

Wrapping. A round has S coordinates with two tails each; rows and noise may each take half of `wrap_probability`. Rows:
a rounded coordinate is at most the norm of its row; or, rotated, the sum of at most m = clients·units rows of norm c
is sub-Gaussian with parameter m·c/sqrt(S), and rounding moves each row by less than 1. Noise of all n clients: discrete
Gaussian noise is sub-Gaussian with parameter σ (Canonne et al. 2020, sec. 2); for Skellam noise P[X >= r] <=
exp(2v·sinh²(t/2) - tr) at sinh t = r/v. Where `wrap_probability` is 0, n times the most that one client can send fits.

Source: Kairouz, Liu, Steinke 2021 (arXiv 2102.06387), Algorithms 1 and 2; Agarwal, Kairouz, Liu 2021 (arXiv
2110.04995), sec. 4; dropouts: `dp.xnoise`.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
import numpy as np

from dp.clipping import clip_rows
from dp.events import DiscreteGaussian, Skellam
from dp.gaussian_equivalent import gaussian_equivalent, rounding_variance
from dp.integer_events import DiscreteGaussianSum, Distributed
from dp.rounding import round_rows, rounded_norm_squared
from dp.xnoise import Part, XNoise
from secagg import tags
from secagg.encoding import Encoded
from secagg.encoding.fixed_point import vector_of
from secagg.encoding.packing import MAX_BITS, Words, as_words, word_dtype
from secagg.encoding.rotation import rotate, rotated_length, unrotate
from secagg.errors import EncodingError, PlanError
from secagg.primitives.keys import derive_key
from secagg.primitives.sampling import MAX_VARIANCE, discrete_gaussian, skellam

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from secagg import Plan
    from secagg.rounds import Total

__all__ = ["Noise", "NoisySum"]

Noise = Literal["discrete-gaussian", "skellam", "xnoise-discrete-gaussian", "xnoise-skellam"]
"""Shares of discrete Gaussian or of Skellam noise, enough of it if all that may drop out do; or noise in parts, of
which what is too much is taken away again (`dp.xnoise`). Discrete Gaussian noise has the tighter account."""

_CHUNK = 1 << 20
"""Numbers rotated and rounded at a time."""

_REACH = 12.2
"""A sample is below 12.2 standard deviations + 30."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisySum:
    """Encoding of a sum of clipped vectors with noise that the clients add themselves.

    Args:
        dimension: d, coordinates of a unit's vector.
        clip_norm: L2 norm of a unit's vector, at most; > 0, finite. Public.
        noise_multiplier: stddev of the honest noise / sensitivity; of discrete Gaussian noise, that of its continuous
            equivalent.
        clients: n, who may take part.
        least_senders: t, how many vectors are in any sum that is opened, at least: the threshold of the secure sum.
        colluders: c, how many of them may show others their noise: it counts nothing. c < least_senders. Take at least
            1 where senders see what comes of the sum: each knows its own share.
        noise: "discrete-gaussian" or "skellam"; or "xnoise-discrete-gaussian" or "xnoise-skellam", which leave no more
            noise than needed and cost a secret-shared seed for each client that may drop out.
        units: the most units whose vectors one client adds up; a public bound.
        steps: g, of the grid in one clip norm. Rounding raises the sensitivity by about d/(8g²) + 1/(2g), relative; a
            share's stddev must be from about 2 to 2^14 steps. 0: the power of two that makes it about 2^12 to 2^13.
        rotation: 32 public bytes: rotate vectors, to save modulus bits where d is large. b"": leave them.
        wrap_probability: of one wrongly decoded sum, at most; 0: never, which lattice masks need.

    Raises:
        EncodingError: out of range, or no modulus of at most 64 bits holds the sums.
        UnsupportedEventError: the noise is too small for the grid.

    >>> noisy = NoisySum(dimension=20, clip_norm=1.0, noise_multiplier=2.0, clients=4, least_senders=3, units=200)
    >>> noisy.event.honest_senders
    3
    >>> round(noisy.noise_stddev(senders=4), 3)  # 2.0 from any three; here all four send
    2.31
    """

    dimension: int
    clip_norm: float
    noise_multiplier: float
    clients: int
    least_senders: int
    colluders: int = 0
    noise: Noise = "discrete-gaussian"
    units: int = 1
    steps: int = 0
    rotation: bytes = b""
    wrap_probability: float = 2.0**-40

    def __post_init__(self) -> None:
        """Refuse parameters that give no privacy or no sum."""
        for name, least in (("dimension", 1), ("clients", 1), ("units", 1), ("steps", 0), ("colluders", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                msg = f"{name} must be an integer of at least {least}, got {value!r}"
                raise EncodingError(msg)
        for condition, message in (
            (0 < self.clip_norm < math.inf, f"clip_norm is finite and > 0, got {self.clip_norm}"),
            (0 < self.noise_multiplier < math.inf, f"noise_multiplier is finite and > 0, got {self.noise_multiplier}"),
            (
                self.colluders < self.least_senders <= self.clients,
                f"{self.least_senders} senders of {self.clients}, {self.colluders} colluding: no honest noise",
            ),
            (self.noise in get_args(Noise), f"noise: one of {get_args(Noise)}, got {self.noise!r}"),
            (len(self.rotation) in {0, 32}, f"rotation: 32 public bytes or none, got {len(self.rotation)}"),
            (0 <= self.wrap_probability < 1, f"wrap_probability is in [0, 1), got {self.wrap_probability}"),
        ):
            if not condition:
                raise EncodingError(message)
        for name in ("clip_norm", "noise_multiplier", "wrap_probability"):  # equal digests for equal numbers
            object.__setattr__(self, name, float(getattr(self, name)))
        if not self.steps:
            object.__setattr__(self, "steps", _finest_grid(self.noise_multiplier, self._honest))
        if self.share_variance > MAX_VARIANCE:
            deviation = math.sqrt(self.share_variance)
            msg = f"a share's stddev would be {deviation:g} steps, at most {math.sqrt(MAX_VARIANCE):g}: lower steps"
            raise EncodingError(msg)
        if self._is_gaussian:
            gaussian_equivalent(self.event)
        if self.modulus_bits > MAX_BITS:
            msg = f"sums need a modulus of {self.modulus_bits} bits, at most {MAX_BITS} fit: lower steps or units"
            raise EncodingError(msg)

    @property
    def length(self) -> int:
        """Coordinates of an encoded vector."""
        return rotated_length(self.dimension) if self.rotation else self.dimension

    @property
    def signed_length(self) -> int:
        """Coordinates that may be negative: all."""
        return self.length

    @property
    def sensitivity(self) -> float:
        """L2 norm of what one unit adds to the integer sum, at most."""
        squared = rounded_norm_squared(self.steps, self.length)
        root = math.isqrt(squared)
        return float(root) if root * root == squared else math.nextafter(math.sqrt(squared), math.inf)

    @property
    def share_variance(self) -> float:
        """Of a client's noise on a coordinate, in steps², before anything is removed."""
        if self.is_removable:
            return math.fsum(self.xnoise.variances)
        return self._target / self._honest * (1 + 1e-12)

    @property
    def is_removable(self) -> bool:
        """Whether what is too much of the noise is taken away again."""
        return self.noise.startswith("xnoise")

    @property
    def xnoise(self) -> XNoise:
        """The parts of removable noise.

        Raises:
            EncodingError: this sum has another kind of noise.
        """
        if not self.is_removable:
            msg = f"{self.noise} noise stays where it is, xnoise can be removed"
            raise EncodingError(msg)
        part: Part = "discrete-gaussian" if self._is_gaussian else "skellam"
        return XNoise(self._target, self.clients, self.clients - self.least_senders, self.colluders, part)

    @property
    def event(self) -> Distributed | Skellam | DiscreteGaussianSum:
        """What the release of one sum is; under `PoissonSampled` if the units are a Poisson sample."""
        if self.is_removable:
            return self.xnoise.event(sensitivity=self.sensitivity, dimension=self.length)
        share: Skellam | DiscreteGaussian = Skellam(self.share_variance, self.sensitivity, self.length)
        if self._is_gaussian:
            share = DiscreteGaussian(math.sqrt(self.share_variance), self.sensitivity, self.length)
        return Distributed(share, self._honest)

    @property
    def modulus_bits(self) -> int:
        """Bits of the modulus; see the module docstring."""
        units = self.clients * self.units
        rows = float(units * (math.isqrt(rounded_norm_squared(self.steps, self.length)) + 1))
        parts = len(self.xnoise.variances) if self.is_removable else 1
        reach = rows + self.clients * (_REACH * math.sqrt(parts * self.share_variance) + 30 * parts)
        if self.wrap_probability:
            log_tail = math.log(4 * self.length / self.wrap_probability)
            if self.rotation:
                rows = min(rows, units * (self.steps * math.sqrt(2 * log_tail / self.length) + 1))
            reach = min(reach, rows + self._noise_reach(log_tail))
        return (2 * math.ceil(reach) + 1).bit_length()

    @property
    def digest(self) -> bytes:
        """32-byte hash of every parameter; two parties with equal digests encode alike."""
        fields = ["noisy-sum", *(getattr(self, name) for name in self.__slots__)]
        return hashlib.sha256(tags.ENCODING + msgspec.msgpack.encode(fields)).digest()

    @property
    def _honest(self) -> int:
        return self.least_senders - self.colluders

    @property
    def _target(self) -> float:
        """Variance of the honest noise, in steps²; with what rounding will cost in the account of Gaussian noise."""
        rounding = rounding_variance(self.length) if self._is_gaussian else 0.0
        return (self.noise_multiplier * self.sensitivity) ** 2 + rounding

    @property
    def _is_gaussian(self) -> bool:
        return self.noise.endswith("gaussian")

    def check(self, plan: Plan) -> None:
        """Refuse a plan under which a sum could be opened with less noise than promised.

        Raises:
            PlanError: the plan is for another encoding, hides nothing, opens sums of fewer senders, expects more
                colluders, or is for sums that must not wrap.
        """
        for condition, message in (
            (plan.encoding == self.digest, "the plan is for another encoding"),
            (plan.masking != "plain", "a plain sum shows every vector, which has no more noise than its own share"),
            (
                plan.clients == self.clients and plan.least_survivors >= self.least_senders,
                f"the plan opens sums of {plan.least_survivors}, noise is promised for {self.least_senders} senders",
            ),
            (
                plan.corrupted <= self.colluders,
                f"the plan expects up to {plan.corrupted} corrupted clients, noise is promised for {self.colluders}",
            ),
            (
                not self.is_removable or plan.extras == self.xnoise.tolerance,
                "the plan has not one extra secret for each client that may be missing (clients - least_senders)",
            ),
            (plan.wraps or not self.wrap_probability, "this plan's sums must not wrap: set wrap_probability=0"),
            (
                not plan.wraps or plan.masking not in {"lattice", "threshold"},
                "the server of this plan sees integer sums, not sums modulo 2^b: plan with secagg.plan",
            ),
        ):
            if not condition:
                raise PlanError(message)

    def noise_stddev(self, *, senders: int) -> float:
        """Return the stddev of the noise in a decoded sum, in units of the vectors, colluders' noise included."""
        variance = senders * self.share_variance
        if self.is_removable:
            kept = set(range(self.xnoise.tolerance + 1)) - set(self.xnoise.removed(survivors=senders))
            variance = senders * math.fsum(self.xnoise.variances[part] for part in kept)
        return math.sqrt(variance) * self.clip_norm / self.steps

    def seeds(self, random: bytes) -> tuple[bytes, ...]:
        """Return the seeds of the removable parts that `encode` makes of the same `random`."""
        return self.xnoise.seeds(derive_key(random, tags.NOISE_SHARE, self.digest))

    def extras(self, random: bytes) -> tuple[bytes, ...]:
        """Return what a client shares (`secagg.Client(extras=...)`) so that what is too much can be taken out."""
        return self.seeds(random)[1:]

    def encode(self, records: NDArray[Any], *, random: bytes | None = None) -> Encoded:
        """Encode the vectors of a client's units, with its noise.

        Args:
            records: (k, dimension) float32 or float64, finite, one row a unit, 0 <= k <= units.
            random: 32 fresh bytes from the operating system, kept secret, never used for other records: two vectors
                with the same noise differ by what they should hide. The same bytes with the same records give the
                same vector, for a retransmission. None draws them; removable noise needs them given, for `seeds`.
        Returns: the vector, and how many rows were clipped (for the client itself: it is not released).
        Raises:
            TypeError, ValueError: bad dtype or shape, NaN or infinite entries.
            EncodingError: more than `units` rows.
        """
        if random is None:
            if self.is_removable:
                msg = "the seeds of removable noise come from `random`: say it"
                raise EncodingError(msg)
            random = os.urandom(32)
        clipped = clip_rows(records, self.clip_norm)
        if clipped.values.shape[1] != self.dimension or len(clipped.values) > self.units:
            msg = f"expected at most {self.units} rows of {self.dimension} numbers, got {clipped.values.shape}"
            raise EncodingError(msg)
        total = self._noise(random)
        rows_at_once = max(1, _CHUNK // self.length)
        for start in range(0, len(clipped.values), rows_at_once):
            rows = clipped.values[start : start + rows_at_once] * (self.steps / self.clip_norm)
            if self.rotation:
                rows = rotate(rows, self.rotation)
            key = derive_key(random, tags.RECORD_ROUNDING, self.digest, start.to_bytes(8, "little"))
            norm_squared = rounded_norm_squared(self.steps, self.length)
            total += round_rows(rows, norm_squared=norm_squared, key=key).sum(axis=0)
        return Encoded(self._words(total), int(clipped.cut.sum()), self.digest)

    def without_excess(self, total: Total) -> Words:
        """Take the parts that are too much out of a sum, with the extra secrets that its survivors opened.

        Raises:
            ThresholdError: too few survivors.
            ValueError: an extra secret is missing, or none was to open.
        """
        vector = self._vector(total).astype(np.uint64).view(np.int64)
        for client in total.survivors:
            vector -= self.xnoise.excess(total.extras.get(client), self.length, survivors=len(total.survivors))
        return self._words(vector)

    def decode(self, total: Total | Words) -> NDArray[np.float64]:
        """Decode a sum into the noisy sum of all units' vectors: (dimension,) float64.

        Raises:
            TypeError, ValueError, EncodingError: not a vector of this encoding, or a total of another one.
        """
        shift = np.uint64(64 - self.modulus_bits)
        signed = (self._vector(total).astype(np.uint64) << shift).view(np.int64) >> np.int64(shift)
        values: NDArray[np.float64] = signed * np.float64(self.clip_norm / self.steps)
        return unrotate(values, self.rotation, self.dimension) if self.rotation else values

    def _noise(self, random: bytes) -> NDArray[np.int64]:
        if self.is_removable:
            return self.xnoise.added(self.seeds(random), self.length)
        key = derive_key(random, tags.NOISE_SHARE, self.digest)
        if self._is_gaussian:
            return discrete_gaussian(key, self.length, math.sqrt(self.share_variance)).astype(np.int64)
        return skellam(key, self.length, self.share_variance).astype(np.int64)

    def _noise_reach(self, log_tail: float) -> float:
        """Return what all clients' noise on a coordinate exceeds, upwards, with probability e^-log_tail at most."""
        variance = self.clients * self.share_variance
        reach = math.sqrt(2 * variance * log_tail)
        while not self._is_gaussian:
            t = math.asinh(reach / variance)
            if 2 * variance * math.sinh(t / 2) ** 2 - t * reach <= -log_tail:
                break
            reach = 1.01 * reach + 1
        return reach

    def _vector(self, total: Total | Words) -> Words:
        return as_words(vector_of(total, self.digest), length=self.length, bits=self.modulus_bits)

    def _words(self, integers: NDArray[np.int64]) -> Words:
        mask = np.uint64((1 << self.modulus_bits) - 1)
        return (integers.view(np.uint64) & mask).astype(word_dtype(self.modulus_bits))


def _finest_grid(noise_multiplier: float, honest: int) -> int:
    """Return the power of two of steps a clip norm with which a share's stddev comes nearest to 2^13 from below."""
    return max(1, 1 << math.floor(13 - math.log2(noise_multiplier / math.sqrt(honest))))

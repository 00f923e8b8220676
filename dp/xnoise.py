"""Noise that is exact whoever drops out: every client adds more than its share, in parts; what is too much is removed.

n clients, up to T of whom may drop out, up to c of whom may collude with whoever sees the sum; the noise of the honest
ones must have variance v on every coordinate. Client i adds T + 1 independent parts, of variances

    v_0 = v/(n - c),   v_k = v/(n - c - k) - v/(n - c - k + 1)  for k = 1..T.

The first k + 1 add up to v/(n - c - k). If k clients are missing, parts k + 1..T of everybody whose vector is in the
sum are removed, and n - k - c honest clients leave variance v: never less, and with c = 0 never more. Sums of Skellam
parts are Skellam of variance v (times (n - k)/(n - k - c) if the c were honest after all). Sums of discrete Gaussian
parts are as close to a discrete Gaussian as `dp.gaussian_equivalent` says, if the smallest part is at least about 2
steps of the grid; they have the tighter account.

A part is expanded from a seed of its own; those of parts 1..T are a one-way chain, so that where k clients are missing
the seed of part k + 1 is all that has to be revealed of a client. What callers must guarantee:

* The secret of `seeds` is fresh for every release. Retransmissions repeat the same bytes.
* The seeds of parts 1..T are secret-shared before the vector is sent; the seed of part 0 never leaves the client.
* One seed of each client is revealed, for one survivor set only, with at least t signatures on it: a server that got
  seeds for two sets, or for more survivors than there are, would see a sum with too little noise. In a masked sum the
  masks only cancel over the very set whose parts are removed.
* A round with more than T dropouts reveals no sum: `removed` raises.

A plan with `extras` = T, whose extra secrets are the seeds of parts 1..T, sees to the last three
(`secagg.masking.extras`).

Source: Jiang, Wang, Chen 2024, Dordis (arXiv 2209.12528), XNoise: add-then-remove, with these Skellam parts for c = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from dp.events import DiscreteGaussian, Skellam
from dp.integer_events import DiscreteGaussianSum
from secagg import tags
from secagg.errors import PlanError, ThresholdError
from secagg.primitives.keys import derive_key
from secagg.primitives.sampling import MAX_VARIANCE, MIN_SIGMA, MIN_VARIANCE, discrete_gaussian, skellam

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["Part", "XNoise"]

Part = Literal["skellam", "discrete-gaussian"]
"""What kind of noise a part is."""

_EXCESS = 1 + 1e-12
"""So that floating point never leaves the sum below its target."""


@dataclass(frozen=True, slots=True)
class XNoise:
    """Noise for a sum in which up to `tolerance` clients may be missing.

    Args:
        variance: v, of the honest clients' noise on each coordinate of what is released.
        clients: n.
        tolerance: T >= 0, how many may drop out.
        colluders: c >= 0; at least one honest client must remain: T + c < n.
        part: "skellam", for any grid, or "discrete-gaussian", for fine ones.

    Raises:
        PlanError: out of range, or a part's variance is (outside [2^-20, 2^28]; discrete Gaussian: [1/4, 2^28]).

    >>> noise = XNoise(variance=900.0, clients=10, tolerance=3)
    >>> [round(part, 3) for part in noise.variances]
    [90.0, 10.0, 12.5, 16.071]
    >>> noise.removed(survivors=9)
    range(2, 4)
    """

    variance: float
    clients: int
    tolerance: int
    colluders: int = 0
    part: Part = "skellam"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.tolerance < 0 or self.colluders < 0 or self.tolerance + self.colluders >= self.clients:
            msg = (
                f"of {self.clients} clients, {self.tolerance} missing and {self.colluders} colluding ones leave no "
                "honest noise"
            )
            raise PlanError(msg)
        if self.part not in get_args(Part):
            msg = f"part: one of {get_args(Part)}, got {self.part!r}"
            raise PlanError(msg)
        parts = self.variances if 0 < self.variance < math.inf else (0.0,)
        least = MIN_VARIANCE if self.part == "skellam" else MIN_SIGMA**2
        if not least <= min(parts) <= max(parts) <= MAX_VARIANCE:
            msg = (
                f"variance {self.variance:g} in {self.tolerance + 1} parts for {self.clients} clients leaves the range "
                f"[{least:g}, {MAX_VARIANCE:g}] of a part: change the grid"
            )
            raise PlanError(msg)

    @property
    def variances(self) -> tuple[float, ...]:
        """Variance of every part, v_0..v_T."""
        honest = self.clients - self.colluders
        first = self.variance * _EXCESS / honest
        parts = (self.variance * _EXCESS / ((honest - k + 1) * (honest - k)) for k in range(1, self.tolerance + 1))
        return (first, *parts)

    def seeds(self, secret: bytes) -> tuple[bytes, ...]:
        """Derive the seeds of one client's parts, 32 bytes each; any of them tells nothing of those before it.

        Args:
            secret: 32 bytes or more, fresh for this client and this release.
        Returns: of parts 0..T; the first tells nothing of the others. Those after it are the extra secrets to share.
        """
        own, first = (derive_key(secret, tags.NOISE_COMPONENT, part.to_bytes(4, "little")) for part in range(2))
        return own, *_chain(first, self.tolerance)

    def added(self, seeds: Iterable[bytes], size: int) -> NDArray[np.int64]:
        """Return the noise that a client adds: (size,) int64, the sum of all its parts."""
        return self._expanded(dict(enumerate(seeds)), size)

    def removed(self, *, survivors: int) -> range:
        """Return the numbers of the parts to remove from everybody in the sum.

        Args:
            survivors: how many vectors are in the sum, as at least t clients have signed.
        Raises:
            ThresholdError: more clients are missing than the noise tolerates: nothing may be revealed.
            PlanError: more survivors than clients.
        """
        if survivors > self.clients:
            msg = f"{survivors} survivors of {self.clients} clients"
            raise PlanError(msg)
        missing = self.clients - survivors
        if missing > self.tolerance:
            raise ThresholdError(
                needed=self.clients - self.tolerance, survivors=survivors, what="too few clients for the noise promised"
            )
        return range(missing + 1, self.tolerance + 1)

    def excess(self, revealed: bytes | None, size: int, *, survivors: int) -> NDArray[np.int64]:
        """Return what one client in the sum added too much: (size,) int64, to be subtracted from the sum.

        Args:
            revealed: the seed of the first part that `removed` names; None if it names none.
            size: coordinates.
            survivors: as for `removed`.
        """
        wanted = self.removed(survivors=survivors)
        if (revealed is None) != (not wanted):
            got = "no seed" if revealed is None else "a seed"
            msg = f"with {survivors} survivors parts {list(wanted)} are removed, got {got}"
            raise ValueError(msg)
        links = _chain(revealed, len(wanted)) if revealed is not None else ()
        return self._expanded(dict(zip(wanted, links, strict=True)), size)

    def event(self, *, sensitivity: float, dimension: int) -> Skellam | DiscreteGaussianSum:
        """Return what is released, whoever drops out: noise of variance v on integer vectors."""
        if self.part == "skellam":
            return Skellam(self.variance, sensitivity, dimension)
        honest = self.clients - self.colluders
        parts = max((honest - missing) * (missing + 1) for missing in range(self.tolerance + 1))
        total = DiscreteGaussian(math.sqrt(self.variance), sensitivity, dimension)
        return DiscreteGaussianSum(total, math.sqrt(min(self.variances)) * (1 - 1e-15), parts)

    def _expanded(self, seeds: Mapping[int, bytes], size: int) -> NDArray[np.int64]:
        total = np.zeros(size, dtype=np.int64)
        variances = self.variances
        for part, seed in seeds.items():
            key = derive_key(seed, tags.NOISE_STREAM, self.part.encode())
            if self.part == "skellam":
                total += skellam(key, size, variances[part])
            else:
                total += discrete_gaussian(key, size, math.sqrt(variances[part]))
        return total


def _chain(first: bytes, length: int) -> tuple[bytes, ...]:
    """Return so many seeds, each derived from the one before."""
    seeds = [first]
    while len(seeds) < length:
        seeds.append(derive_key(seeds[-1], tags.NOISE_CHAIN))
    return tuple(seeds[:length])

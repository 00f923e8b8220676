"""Defences as data: what a client does to its update before it leaves, who else is in the sum, what a client refuses.

A defence is judged by the attack that knows it, never only by the one that does not: see `benchmarks.leakage_sums`.
All are pure functions; clipping and noise here are for attacking, not for accounting: that is `dp`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Protect: TypeAlias = "Callable[[NDArray[np.float64], np.random.Generator], NDArray[np.float64]]"

__all__ = ["DEFENCES", "Defence", "clipped", "noisy", "pruned", "quantised", "seen", "signs", "unchanged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Defence:
    """One defence.

    Attributes:
        name: as printed.
        protect: (update, rng) -> the update that leaves; both (parameters,) float64.
        secure_sum: whether the server sees the sum only.
        cohort: how many times as many clients are in a sum.
        detectors: whether clients refuse a model that `attacks.malicious.detectors` raises an alarm for.
    """

    name: str
    protect: Protect
    secure_sum: bool = True
    cohort: int = 1
    detectors: bool = False


def seen(
    defence: Defence, updates: Sequence[NDArray[np.float64]], rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Return what the server sees of the clients' updates: their sum, or each.

    Args:
        updates: (parameters,) each, of as many clients as there are.
    """
    protected = [defence.protect(update, rng) for update in updates]
    return [np.sum(protected, axis=0)] if defence.secure_sum else protected


def unchanged(update: NDArray[np.float64], _: np.random.Generator) -> NDArray[np.float64]:
    """Send the update as it is."""
    return update


def clipped(norm: float) -> Protect:
    """Scale updates of a larger L2 norm down to it."""

    def protect(update: NDArray[np.float64], _: np.random.Generator) -> NDArray[np.float64]:
        length = float(np.linalg.norm(update))
        return update * (norm / length) if length > norm else update

    return protect


def noisy(norm: float, *, noise_multiplier: float, clients: int) -> Protect:
    """Clip, and add one client's share of Gaussian noise: the sum's has a deviation of noise_multiplier · norm.

    Args:
        norm: L2 bound on one client's update.
        noise_multiplier: of the sum.
        clients: how many share the noise.
    """
    clip = clipped(norm)

    def protect(update: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        noise: NDArray[np.float64] = rng.normal(size=update.shape) * noise_multiplier * norm / np.sqrt(clients)
        return clip(update, rng) + noise

    return protect


def pruned(share: float) -> Protect:
    """Keep that share of the coordinates, the largest, and send zero for the others; in (0, 1]."""

    def protect(update: NDArray[np.float64], _: np.random.Generator) -> NDArray[np.float64]:
        keep = max(1, round(share * len(update)))
        least = np.partition(np.abs(update), -keep)[-keep]
        return np.where(np.abs(update) >= least, update, 0.0)

    return protect


def quantised(bits: int) -> Protect:
    """Round without bias to 2^bits - 1 levels between minus and plus the update's largest absolute value."""
    steps = (1 << (bits - 1)) - 1

    def protect(update: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        scale = float(np.abs(update).max(initial=0.0)) / steps
        if not scale:
            return update
        rounded: NDArray[np.float64] = np.floor(update / scale + rng.random(update.shape)) * scale
        return rounded

    return protect


def signs(update: NDArray[np.float64], _: np.random.Generator) -> NDArray[np.float64]:
    """Send the sign of every coordinate, times their mean absolute value."""
    sent: NDArray[np.float64] = np.sign(update) * np.abs(update).mean()
    return sent


DEFENCES = (
    Defence(name="none", protect=unchanged, secure_sum=False),
    Defence(name="secure sum", protect=unchanged),
    Defence(name="secure sum, 4 times the clients", protect=unchanged, cohort=4),
    Defence(name="clipping to norm 1", protect=clipped(1.0)),
    Defence(name="a tenth of the coordinates", protect=pruned(0.1)),
    Defence(name="16 bits", protect=quantised(16)),
    Defence(name="8 bits", protect=quantised(8)),
    Defence(name="signs", protect=signs),
    Defence(name="DP noise, multiplier 0.001", protect=noisy(1.0, noise_multiplier=0.001, clients=8)),
    Defence(name="DP noise, multiplier 1", protect=noisy(1.0, noise_multiplier=1.0, clients=8)),
    Defence(name="detectors", protect=unchanged, detectors=True),
)
"""Through sums of eight clients, where noise is shared."""

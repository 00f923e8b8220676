"""What integer noise costs to draw, against floating-point peers, and how exact the removable kind is.

One thread. The peers are what people draw noise with today: `torch.normal`, floating point from a generator that is not
cryptographic; and, for Skellam noise, the difference of two `numpy` Poisson vectors. Ours are exact integers from
AES-256 in counter mode. Tables (milliseconds, once per parameter) are made in the call that is not timed.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, get_args

import numpy as np

from benchmarks.harness import Report, Target, interleaved, main, progress, require
from dp.xnoise import Part, XNoise
from secagg.primitives.sampling import discrete_gaussian, skellam

if TYPE_CHECKING:
    from collections.abc import Callable

DIMENSION = 1_000_000
SIGMAS = (1.0, 10.0, 100.0, 1000.0)
REPETITIONS = 15


def run(report: Report) -> None:
    """Measure everything."""
    dgauss_speed(report)
    skellam_speed(report)
    xnoise_variance(report)


def dgauss_speed(report: Report) -> None:
    """Draw 10^6 discrete Gaussian samples, against as many float32 normals."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)
    ratios = []
    for sigma in SIGMAS:
        progress(f"discrete Gaussian, sigma = {sigma:g}")
        contenders: dict[str, Callable[[], object]] = {
            "ours": partial(discrete_gaussian, os.urandom(32), DIMENSION, sigma),
            "torch.normal": partial(torch.normal, 0.0, sigma, (DIMENSION,)),
        }
        require(abs(discrete_gaussian(os.urandom(32), DIMENSION, sigma).std() / sigma - 1) < 0.01)
        ratios.append(compared(report, "discrete Gaussian", sigma, contenders))
    report.figure("noise.dgauss_vs_torch", 1 / min(ratios), Target(4, at_most=True))


def skellam_speed(report: Report) -> None:
    """Draw 10^6 Skellam samples, against the difference of as many pairs of numpy's Poisson samples."""
    rng = np.random.default_rng(0)
    ratios = []
    for sigma in SIGMAS:
        progress(f"Skellam, sigma = {sigma:g}")

        def poissons(mean: float) -> object:
            return rng.poisson(mean, DIMENSION) - rng.poisson(mean, DIMENSION)

        contenders: dict[str, Callable[[], object]] = {
            "ours": partial(skellam, os.urandom(32), DIMENSION, sigma**2),
            "numpy, two Poissons": partial(poissons, sigma**2 / 2),
        }
        require(abs(skellam(os.urandom(32), DIMENSION, sigma**2).std() / sigma - 1) < 0.01)
        ratios.append(compared(report, "Skellam", sigma, contenders))
    report.figure("noise.skellam_vs_numpy", min(ratios), Target(2))


def compared(report: Report, what: str, sigma: float, contenders: dict[str, Callable[[], object]]) -> float:
    """Time ours and a peer; return the peer's seconds divided by ours."""
    seconds = interleaved(contenders, repetitions=REPETITIONS)
    for name, value in seconds.items():
        report.row(measured=what, sigma=sigma, what=name, ns_per_coordinate=1e9 * value / DIMENSION)
    ours, peer = seconds.values()
    return peer / ours


def xnoise_variance(report: Report) -> None:
    """Sum the noise of 20 clients of whom 0, 10 and 30 % are missing, take away what is too much, look at the rest."""
    clients, tolerance, variance = 20, 6, 1e6
    ratios = []
    for part in get_args(Part):
        noise = XNoise(variance, clients, tolerance, part=part)
        for missing in (0, 2, 6):
            progress(f"removable {part} noise, {missing} of {clients} missing")
            survivors = clients - missing
            ratios.append(released_variance(noise, survivors) / variance)
            conservative = survivors / (clients - tolerance)
            report.row(measured=f"removable {part}", missing=missing, ratio=ratios[-1], conservative=conservative)
    report.figure("xnoise.excess_max", max(ratios), Target(1.01, at_most=True))
    report.figure("xnoise.excess_min", min(ratios), Target(0.995))


def released_variance(noise: XNoise, survivors: int) -> float:
    """Let each survivor add its noise, then remove what is too much."""
    total = np.zeros(DIMENSION, dtype=np.int64)
    for _ in range(survivors):
        seeds = noise.seeds(os.urandom(32))
        total += noise.added(seeds, DIMENSION)
        missing = noise.clients - survivors
        total -= noise.excess(seeds[missing + 1] if missing < noise.tolerance else None, DIMENSION, survivors=survivors)
    return float(np.square(total.astype(np.float64)).mean())


if __name__ == "__main__":
    main(__doc__ or "", run)

"""Tests of a mechanism's parts, for what no bound on ε can see: half the noise is still a lot of noise.

They look inside, as a rig in one's own test-suite can: the released integers minus what should have been summed is the
noise, and the rows of a sampler are who took part. Each returns a p-value: the probability of what was seen, or worse,
if the part does what the event in the ledger says. All are valid up to normal or chi-squared approximations of
sums of thousands of terms.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["clipping_p_value", "fit_p_value", "sampler_p_value", "variance_p_value"]

_CELLS = 32


def variance_p_value(noise: NDArray[np.int64], variance: float) -> float:
    """Is there at least the noise that was promised? More is no fault here.

    Args:
        noise: (coordinates,) integers, independent, with mean 0 and the tails of a Gaussian.
        variance: promised.
    """
    from scipy.special import chdtr  # noqa: PLC0415 -- slow to import, needed only here

    squares = float((noise.astype(np.float64) ** 2).sum())
    return float(chdtr(noise.size, squares / variance))


def fit_p_value(noise: NDArray[np.int64], sigma: float) -> float:
    """Is it a discrete Gaussian of this parameter? Pearson's chi-squared over about equally likely cells.

    A sum of discrete Gaussians with parameters of a few units is one, to far more digits than any sample sees.

    Args:
        noise: (coordinates,) integers, independent.
        sigma: parameter, >= 1.
    """
    from scipy.special import chdtrc  # noqa: PLC0415 -- slow to import, needed only here

    reach = math.ceil(12 * sigma)
    support = np.arange(-reach, reach + 1)
    density = np.exp(-0.5 * (support / sigma) ** 2)
    cumulative = np.cumsum(density / density.sum())
    cuts = np.unique(support[np.searchsorted(cumulative, np.arange(1, _CELLS) / _CELLS)])  # a cell ends with its cut
    ends = np.concatenate([[0.0], cumulative[cuts + reach], [1.0]])
    expected = np.diff(ends) * noise.size
    seen = np.bincount(np.searchsorted(cuts, noise), minlength=len(expected))
    return float(chdtrc(len(expected) - 1, ((seen - expected) ** 2 / expected).sum()))


def clipping_p_value(projections: NDArray[np.float64], clip_norm: float, deviation: float) -> float:
    """Does a contribution far beyond the clip norm count for more than the clip norm?

    Args:
        projections: (canaries,) of the release on directions that were sent, much longer than allowed.
        clip_norm: the most that each may count.
        deviation: of the noise on one projection.
    """
    from scipy.special import ndtr  # noqa: PLC0415 -- slow to import, needed only here

    return float(ndtr((clip_norm - projections.mean()) * math.sqrt(len(projections)) / deviation))


def sampler_p_value(taken: NDArray[np.bool_], sampling_probability: float) -> float:
    """Are these Poisson samples? By how many are taken, how sizes vary, and how often somebody is taken twice running.

    Shuffled or fixed-size batches have the right number and too little of one or both of the others.

    Args:
        taken: (steps, units) who took part, at least two steps.
        sampling_probability: q as booked, in (0, 1).
    Returns: three times the least of the three two-sided p-values, at most 1 (Bonferroni).
    """
    from scipy.special import chdtr, chdtrc, ndtr  # noqa: PLC0415 -- slow to import, needed only here

    q, (steps, units) = sampling_probability, taken.shape
    spread = math.sqrt(q * (1 - q))
    count = (float(taken.sum()) - taken.size * q) / (spread * math.sqrt(taken.size))
    dispersion = float((((taken.sum(axis=1) - units * q) / (spread * math.sqrt(units))) ** 2).sum())
    centred = taken - q
    again = float((centred[1:] * centred[:-1]).sum()) / (spread**2 * math.sqrt((steps - 1) * units))
    return min(
        1.0,
        3 * 2 * float(ndtr(-abs(count))),
        3 * 2 * float(min(chdtr(steps, dispersion), chdtrc(steps, dispersion))),
        3 * 2 * float(ndtr(-abs(again))),
    )

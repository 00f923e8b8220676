"""Integer vectors with integer noise, drawn in one place: value and event together.

`random` is 32 fresh bytes of the operating system's randomness, kept secret, for one release and never again: two
releases with the same noise show their difference without noise. A retransmission after a crash repeats the release
byte by byte from the same `random` and the same values; other values need other bytes. Noise shares of a sum are made
by `dp.distributed`, noise that can be taken away by `dp.xnoise`.

Every sample is within statistical distance 2^-107 of its law; accounting adds (1 + e^ε)·d·2^-107 to δ
(`dp.gaussian_equivalent.sampler_distance`). Sampling is not constant time (`secagg.primitives.sampling`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dp.events import DiscreteGaussian, Skellam
from secagg import tags
from secagg.primitives.keys import derive_key
from secagg.primitives.sampling import discrete_gaussian, skellam

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["add_discrete_gaussian", "add_skellam"]

_LARGEST = 1 << 62


def add_discrete_gaussian(
    values: NDArray[Any], *, sigma: float, sensitivity: float, random: bytes
) -> tuple[NDArray[np.int64], DiscreteGaussian]:
    """Add discrete Gaussian noise.

    Args:
        values: (d,) of any integer dtype, absolute values below 2^62.
        sigma: parameter of the noise, in [0.5, 2^14].
        sensitivity: L2 norm of what one unit adds to the values, at most; an integer if d = 1.
        random: 32 fresh bytes, never used again.
    Returns: (d,) int64 and the event.
    Source: Canonne, Kamath, Steinke 2020 (arXiv 2004.00010), Definition 1.

    >>> noisy, event = add_discrete_gaussian(np.array([40, 2]), sigma=3.0, sensitivity=1, random=bytes(32))
    >>> event
    DiscreteGaussian(sigma=3.0, sensitivity=1, dimension=2)
    """
    integers = _checked(values)
    event = DiscreteGaussian(sigma, sensitivity, len(integers))
    noise = discrete_gaussian(derive_key(random, tags.NOISE_SHARE, b"discrete-gaussian"), len(integers), sigma)
    return integers + noise, event


def add_skellam(
    values: NDArray[Any], *, variance: float, sensitivity: float, random: bytes
) -> tuple[NDArray[np.int64], Skellam]:
    """Add Skellam noise.

    Args:
        values: (d,) of any integer dtype, absolute values below 2^62.
        variance: of the noise on a coordinate, in [2^-20, 2^28].
        sensitivity: L2 norm of what one unit adds to the values, at most; an integer if d = 1.
        random: 32 fresh bytes, never used again.
    Returns: (d,) int64 and the event.
    Source: Agarwal, Kairouz, Liu 2021 (arXiv 2110.04995), sec. 3.
    """
    integers = _checked(values)
    event = Skellam(variance, sensitivity, len(integers))
    return integers + skellam(derive_key(random, tags.NOISE_SHARE, b"skellam"), len(integers), variance), event


def _checked(values: NDArray[Any]) -> NDArray[np.int64]:
    integers = np.asarray(values)
    if integers.dtype.kind not in "iu":
        msg = f"expected integers, got {integers.dtype}: round the values first"
        raise TypeError(msg)
    if integers.ndim != 1 or not integers.size:
        msg = f"expected a vector of shape (d,), d >= 1, got {integers.shape}"
        raise ValueError(msg)
    if int(integers.max()) >= _LARGEST or int(integers.min()) <= -_LARGEST:
        msg = "values must be below 2^62 in absolute value"
        raise ValueError(msg)
    return integers.astype(np.int64)

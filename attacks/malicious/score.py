"""What share of the private images an attack found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attacks.metrics import match_images, psnr

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RECOVERED_DB", "recovered_share"]

RECOVERED_DB = 40.0


def recovered_share(
    truth: NDArray[np.float64],
    guesses: NDArray[np.float64],
    prior: NDArray[np.float64],
    *,
    decibels: float = RECOVERED_DB,
) -> float:
    """Match guesses to images one to one and count those above a signal-to-noise ratio.

    Args:
        truth: (images, features), in [0, 1].
        guesses: (guesses, features), any number.
        prior: (features,), the guess for whatever no guess is left for.
        decibels: peak signal-to-noise ratio from which an image counts as recovered.
    """
    filled = np.concatenate([guesses, np.tile(prior, (len(truth), 1))])
    return float((psnr(truth, match_images(truth, filled)) > decibels).mean())

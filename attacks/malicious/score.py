"""What share of the private images an attack found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from attacks.metrics import squared_distances

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["RECOVERED_DB", "recovered_share"]

RECOVERED_DB = 40.0


def recovered_share(
    truth: NDArray[np.float64], guesses: NDArray[np.float64], *, decibels: float = RECOVERED_DB
) -> float:
    """Count the images that have a guess of their own near enough, under the matching that makes them most.

    Args:
        truth: (images, features), in [0, 1].
        guesses: (guesses, features), any number; each stands for one image at most.
        decibels: peak signal-to-noise ratio from which an image counts as recovered.
    """
    if not len(guesses):
        return 0.0
    near = squared_distances(truth, guesses) < 10 ** (-decibels / 10)
    return float((maximum_bipartite_matching(csr_array(near), perm_type="column") >= 0).mean())

"""What the server does with the mean update: pure functions of vectors.

Source: McMahan et al. 2017 (FedAvg); Reddi et al. 2021, Alg. 2 (FedAdam, without bias correction as
there; moments start at zero and tau is 1e-8, as in FLamby).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FedAdam", "FedAvg", "ServerOptimizer"]


class ServerOptimizer(Protocol):
    """Turns the global parameters and a mean update into new global parameters."""

    def step(self, parameters: NDArray[np.float64], update: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return new parameters; the arguments stay as they are."""


@dataclass(frozen=True, slots=True)
class FedAvg:
    """Add the mean update, times a learning rate (1: plain averaging of models)."""

    learning_rate: float = 1.0

    def step(self, parameters: NDArray[np.float64], update: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return parameters + learning_rate · update."""
        return parameters + self.learning_rate * update


@dataclass(slots=True)
class FedAdam:
    """Adam on the server, the mean update taken as a negative gradient. Keeps two moments; not thread-safe.

    Args:
        learning_rate: of the server.
        beta1, beta2: decay of the moments.
        tau: added to the root of the second moment.
    """

    learning_rate: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    tau: float = 1e-8
    _first: NDArray[np.float64] | None = None
    _second: NDArray[np.float64] | None = None

    def step(self, parameters: NDArray[np.float64], update: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return parameters + learning_rate · m / (sqrt(v) + tau)."""
        first = np.zeros_like(update) if self._first is None else self._first
        second = np.zeros_like(update) if self._second is None else self._second
        self._first = self.beta1 * first + (1 - self.beta1) * update
        self._second = self.beta2 * second + (1 - self.beta2) * update**2
        return parameters + self.learning_rate * self._first / (np.sqrt(self._second) + self.tau)

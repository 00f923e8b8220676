"""Federated averaging, the reference loop: one secure mean a round, one step of the server's optimizer.

Source: McMahan et al. 2017, Alg. 1, with every institution asked in every round.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from secagg import ThresholdError, model_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from protocols.engines.memory import MemoryEngine
    from protocols.institution import Institution
    from protocols.secure_mean import MeanUpdate
    from protocols.server_opt import ServerOptimizer

__all__ = ["Mean", "RoundResult", "digest_of", "fedavg"]


Local_contra = TypeVar("Local_contra", contravariant=True)
Local = TypeVar("Local")


class Mean(Protocol[Local_contra]):
    """A way out of institutions: what all of them did, as one update."""

    def __call__(
        self,
        engine: MemoryEngine,
        updates: Mapping[str, Callable[[], Local_contra]],
        /,
        *,
        dropouts: Mapping[str, str],
        model: bytes,
    ) -> MeanUpdate:
        """Run one round; `model` is the digest of what the institutions were given."""


@dataclass(frozen=True, slots=True, eq=False)
class RoundResult:
    """One round of training.

    Attributes:
        number: 1, 2, ...
        parameters: (parameters,) float64, the global model after it.
        mean: what the server learned; None if the round failed.
        dropouts: site -> protocol round before which it vanished.
        failure: why the round failed; the model then stays as it was.
    """

    number: int
    parameters: NDArray[np.float64] = field(repr=False)
    mean: MeanUpdate | None
    dropouts: dict[str, str]
    failure: str | None


def fedavg(
    institutions: Sequence[Institution],
    secure_mean: Mean[Local],
    optimizer: ServerOptimizer,
    parameters: NDArray[np.float64],
    *,
    engine: MemoryEngine,
    rounds: int,
    local: Callable[[Institution, NDArray[np.float64], int], Local],
    dropouts: Mapping[int, Mapping[str, str]],
    training_plan: bytes = b"",
) -> Iterator[RoundResult]:
    """Train for a number of rounds; yields after each, so that a caller can watch, save or stop.

    Args:
        institutions: all of them, every round.
        secure_mean: the way out of an institution.
        optimizer: the server's.
        parameters: (parameters,) float64, where to start.
        engine: carries the messages.
        rounds: how many.
        local: what an institution does with the global parameters in a round (1, 2, ...); what the way out takes.
        dropouts: round number -> site -> protocol round before which it vanishes. It is back in the next round.
        training_plan: how they train, in canonical bytes: institutions that were told differently cannot be summed.
    """
    for number in range(1, rounds + 1):
        gone = dict(dropouts.get(number, {}))
        updates = {site.name: partial(local, site, parameters, number) for site in institutions}
        mean, failure = None, None
        try:
            mean = secure_mean(engine, updates, dropouts=gone, model=digest_of(parameters, training_plan))
            parameters = optimizer.step(parameters, mean.mean)
        except ThresholdError as error:
            failure = str(error)
        yield RoundResult(number, parameters, mean, gone, failure)


def digest_of(parameters: NDArray[np.float64], training_plan: bytes = b"") -> bytes:
    """Hash a global model, (parameters,) float64, and how to train it: 32 bytes."""
    return model_digest(parameters.astype("<f8").tobytes(), training_plan)

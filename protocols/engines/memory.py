"""All institutions and the server in one process, with dropouts as scripted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secagg import new_session, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from secagg import Encoded, Observer, Plan, Total

__all__ = ["MemoryEngine"]


class MemoryEngine:
    """Runs one secure sum after another within one session; no round number is used twice. Not thread-safe.

    Args:
        observers: watch every message, as a network would.
    """

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self.session = new_session()
        self._observers = tuple(observers)
        self._round = 0

    def sum(
        self,
        plan: Plan,
        contributions: Mapping[str, Callable[[], Encoded]],
        *,
        dropouts: Mapping[str, str],
    ) -> Total:
        """Sum what the institutions contribute.

        Args:
            plan: the parameters.
            contributions: site -> a call that makes its encoded vector inside the site, when its turn comes.
            dropouts: site -> the protocol round before which it vanishes.
        Raises:
            ThresholdError: too few sites remain.
        """
        number, self._round = self._round, self._round + 1
        return simulate(
            plan,
            contributions,
            dropouts=dropouts,
            session=self.session,
            round=number,
            observers=self._observers,
        )

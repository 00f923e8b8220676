"""What a curious server keeps: every vector that travels to it, as it travels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from secagg.encoding.packing import add_packed, reduce, word_dtype
from secagg.masking.messages import MaskedInput
from secagg.plain import Upload
from secagg.wire import decode

if TYPE_CHECKING:
    from secagg import ClientId, Setup
    from secagg.encoding.packing import Words
    from secagg.simulation import Direction
    from secagg.wire import VectorMessage

__all__ = ["Wiretap"]

VECTOR_ROUNDS: dict[str, type[VectorMessage]] = {"masked_input": MaskedInput, "upload": Upload}


class Wiretap:
    """An observer that reads the vectors sent, round after round.

    Attributes:
        rounds: per round, client -> (length,) words, in [0, 2^modulus_bits), as received.
    """

    def __init__(self) -> None:
        self.rounds: list[dict[ClientId, Words]] = []
        self._setup: Setup | None = None

    def on_start(self, setup: Setup) -> None:
        """Begin a new round; its setup is public."""
        self._setup = setup
        self.rounds.append({})

    def on_message(self, step: str, direction: Direction, client_id: ClientId, data: bytes) -> None:
        """Keep it if it carries a vector."""
        if self._setup is not None and direction == "up" and step in VECTOR_ROUNDS:
            plan = self._setup.plan
            vector: Words = np.zeros(plan.length, dtype=word_dtype(plan.modulus_bits))
            add_packed(decode(VECTOR_ROUNDS[step], data, self._setup).vector, plan.modulus_bits, vector)
            reduce(vector, plan.modulus_bits)
            self.rounds[-1][client_id] = vector

    def on_work(self, step: str, role: Literal["client", "server"], seconds: float) -> None:
        """Time does not matter to it."""

"""What a curious server keeps: every vector that travels to it, as it travels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from secagg.encoding.packing import add_packed, packed_bytes, reduce, word_dtype
from secagg.homomorphic.ckks_parameters import FINGERPRINT_BYTES
from secagg.homomorphic.ckks_ring import SEED_BYTES
from secagg.homomorphic.ckks_rounds import EncryptedUpload
from secagg.homomorphic.threshold import FINGERPRINT_BYTES as LED
from secagg.homomorphic.threshold_rounds import ThresholdUpload
from secagg.masking.messages import MaskedInput
from secagg.plain import Upload
from secagg.wire import decode

if TYPE_CHECKING:
    from secagg import ClientId, Setup
    from secagg.encoding.packing import Words
    from secagg.params import Plan
    from secagg.simulation import Direction
    from secagg.wire import VectorMessage

__all__ = ["Wiretap"]


class Wiretap:
    """An observer that reads the vectors sent, round after round.

    Attributes:
        rounds: per round, client -> (length,) words, in [0, 2^modulus_bits): the first bits of what stands for its
            vector on the wire, read as if they were a packed vector, which they are in clear and under masks.
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
        if self._setup is None or direction != "up":
            return
        plan = self._setup.plan
        carries, message, start = _carrier(plan)
        if step != carries:
            return
        body = decode(message, data, self._setup).vector[start:]
        bits = np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little", count=plan.length * plan.modulus_bits)
        vector: Words = np.zeros(plan.length, dtype=word_dtype(plan.modulus_bits))
        add_packed(memoryview(np.packbits(bits, bitorder="little").tobytes()), plan.modulus_bits, vector)
        reduce(vector, plan.modulus_bits)
        self.rounds[-1][client_id] = vector

    def on_work(self, step: str, role: Literal["client", "server"], seconds: float) -> None:
        """Time does not matter to it."""


def _carrier(plan: Plan) -> tuple[str, type[VectorMessage], int]:
    """Name the protocol round and the message that carry the vector, and where in it the vector begins."""
    if plan.masking == "plain":
        return "upload", Upload, 0
    if plan.masking == "threshold":
        return "upload", ThresholdUpload, LED
    if plan.masking == "ckks":
        return "upload", EncryptedUpload, FINGERPRINT_BYTES + SEED_BYTES
    return "masked_input", MaskedInput, packed_bytes(*plan.masked) if plan.lattice is not None else 0

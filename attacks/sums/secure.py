"""Sends float vectors through a real round of `secagg` and returns the sum that its server is left with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import secagg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from secagg.params import Masking

__all__ = ["secure_sum"]


def secure_sum(
    updates: Mapping[str, NDArray[np.float64]],
    *,
    clip: float,
    bits: int = 32,
    masking: Masking = "masking",
    dropouts: Mapping[str, str] | None = None,
    observers: Sequence[secagg.Observer] = (),
) -> NDArray[np.float64]:
    """Sum the clients' vectors as the server of a real round does: encoded, masked, unmasked, decoded.

    Args:
        updates: client -> (d,) float64, all of one length; what exceeds the clip is cut.
        clip: bound on a coordinate, as agreed on by all.
        bits: resolution of a coordinate.
        masking: "plain" sends the encoded vectors in clear.
        dropouts: client -> the protocol round from which nothing of it arrives; up to a third of the clients.
        observers: see every message.
    Returns: (d,) float64, the sum over the survivors.
    Raises:
        ThresholdError: too few clients remain.
    """
    codec = secagg.Encoding(dimension=len(next(iter(updates.values()))), clip=clip, bits=bits, clients=len(updates))
    plan = secagg.plan(codec, dropout=len(dropouts or {}) / len(updates), corrupted=0.0, masking=masking)
    inputs = {client: codec.encode(update) for client, update in updates.items()}
    return codec.decode_sum(secagg.simulate(plan, inputs, dropouts=dropouts, observers=observers)).values

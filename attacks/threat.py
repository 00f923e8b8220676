"""Who sees what. An attack takes a view and nothing else.

The adversary here is an honest-but-curious server: it follows the protocol, keeps every message, and knows everything
that is public (model, training plan, encoding, plan of the secure sum).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Channel", "View"]


class Channel(StrEnum):
    """What stands between an institution's update and the server."""

    PLAIN = "plain update"
    """No protection: the server decodes the victim's own update."""

    MASKED = "masked update"
    """Secure aggregation: the victim's masked vector, decoded as if it were in clear."""

    SUM = "secure sum"
    """Secure aggregation: the mean update over all institutions, which the server is meant to learn."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What the server holds of one round.

    Attributes:
        channel: how it came by it.
        update: (parameters,) float64, a change of the model's parameters, as well as the server can tell.
    """

    channel: Channel
    update: NDArray[np.float64] = field(repr=False)

"""Who attacks: what each adversary sees, and what it may do. An attack takes a view and nothing else.

Every adversary knows what is public: the model's architecture, the training plan, the encoding, the plan of the secure
sum. Whose data are at risk follows from what it sees, not from how clever it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "HONEST_SERVER",
    "MALICIOUS_MODEL",
    "MALICIOUS_PROTOCOL",
    "MODEL_HOLDER",
    "NEXT_INSTITUTION",
    "Channel",
    "Threat",
    "View",
    "colluding_clients",
]


@dataclass(frozen=True, slots=True)
class Threat:
    """An adversary.

    Attributes:
        name: as printed.
        sees: what reaches it.
        may: what it does besides thinking.
        colluders: clients that tell it all they know.
    """

    name: str
    sees: str
    may: str
    colluders: int = 0


HONEST_SERVER = Threat(
    "honest-but-curious server",
    "every message that is sent to it, who took part and who dropped out, and the sum",
    "nothing: it follows the protocol and keeps what it sees",
)
MALICIOUS_MODEL = Threat(
    "server with a malicious model",
    "as the honest server",
    "send all clients one model of its own making; it follows the protocol",
)
MALICIOUS_PROTOCOL = Threat(
    "server that breaks the protocol",
    "as the honest server",
    "send any message to anybody: other models, other keys, other lists of survivors",
)
NEXT_INSTITUTION = Threat(
    "next institution in a weight transfer",
    "the whole model before and after its predecessor's training",
    "nothing: it trains on",
)
MODEL_HOLDER = Threat(
    "holder of the final model",
    "the final parameters, and people of whom it wonders whether they were trained on",
    "ask the model, and train models of its own on data of the same kind",
)


def colluding_clients(k: int) -> Threat:
    """Return the honest-but-curious server with `k` clients on its side, who tell it all they know."""
    return Threat(
        f"server and {k} colluding client{'s' * (k != 1)}",
        "as the honest server, and all that these clients hold: their updates, noise, keys and shares",
        "nothing: all follow the protocol",
        colluders=k,
    )


class Channel(StrEnum):
    """What stands between an institution's update and the adversary."""

    PLAIN = "plain update"
    """No protection: the server decodes the victim's own update."""

    MASKED = "masked update"
    """Secure aggregation: the victim's masked or encrypted vector, decoded as if it were in clear."""

    SUM = "secure sum"
    """Secure aggregation: the mean update over all institutions, which the server is meant to learn."""

    LIE = "secure sum, lying server"
    """Secure aggregation: the sum after the server gave everybody but its victim a model without gradients."""

    UNBOUND_LIE = "lying server, masks not bound to the model"
    """The same against clients that do not bind their masks to the model they were given."""

    MODEL = "secure sum, malicious model"
    """Secure aggregation: the sum of what clients compute on a model of the server's making."""

    DP_8 = "secure sum with noise, ε = 8"
    """Secure aggregation and distributed noise: one step of a training that costs a record ε = 8."""

    DP_1 = "secure sum with noise, ε = 1"
    """The same at ε = 1."""

    HE = "homomorphic sum"
    """Encrypted updates, by CKKS and by lattice masks: the decrypted sum, whoever holds it."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What the adversary holds of one round.

    Attributes:
        channel: how it came by it.
        update: (parameters,) float64, a change of the model's parameters or a gradient, as well as it can tell.
        clients: whose updates make up its mean; 1 for a single one's.
    """

    channel: Channel
    update: NDArray[np.float64] = field(repr=False)
    clients: int = 1

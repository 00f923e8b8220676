"""No protection at all: the server sees every vector. The baseline that secure sums are compared with.

Same interface and encoding as the others, one round, `upload`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from secagg.encoding.packing import Words, add_packed, pack, reduce, word_dtype
from secagg.errors import DecodeError, FaultyClientError, ThresholdError
from secagg.rounds import Contribution, Invitation, Outbox, Outcome, accept_invitation, invite, to_vector
from secagg.wire import VectorMessage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from secagg.setups import Setup

__all__ = ["PlainClientState0", "PlainServerState0", "PlainServerState1", "Upload"]


class Upload(VectorMessage, frozen=True):
    """Client -> server, round upload: the packed vector, in clear."""

    KIND: ClassVar[int] = 16
    NAME: ClassVar[str] = "upload"


@dataclass(frozen=True, slots=True, eq=False)
class PlainClientState0:
    """Waits for `Invitation`."""

    setup: Setup
    position: int
    contribution: Contribution = field(repr=False)
    identity: None = None


@dataclass(frozen=True, slots=True, eq=False)
class PlainServerState0:
    """Before the round."""

    setup: Setup


@dataclass(frozen=True, slots=True, eq=False)
class PlainServerState1:
    """Adds up `Upload`s; `total` is owned by this state and moved on."""

    setup: Setup
    total: Words = field(repr=False)


def client_upload(state: PlainClientState0, message: Invitation, random: bytes) -> tuple[None, Upload]:
    """Send the vector as it is.

    Raises:
        FaultyServerError: invited to something else.
        TypeError, ValueError, EncodingError: the contribution is not a vector of this plan.
    """
    del random
    accept_invitation(state.setup, message, "upload")
    vector = to_vector(state.contribution, state.setup.plan)
    return None, Upload(state.position, pack(vector, state.setup.plan.modulus_bits))


def server_open(state: PlainServerState0, inbox: Mapping[int, None]) -> tuple[PlainServerState1, Outbox]:
    """Invite every client of the roster; nothing has arrived yet."""
    del inbox
    plan = state.setup.plan
    return PlainServerState1(state.setup, np.zeros(plan.length, word_dtype(plan.modulus_bits))), invite(state.setup)


def server_add_upload(state: PlainServerState1, message: Upload) -> PlainServerState1:
    """Add one vector to the running sum.

    Raises:
        FaultyClientError: not a packed vector of the plan.
    """
    try:
        add_packed(message.vector, state.setup.plan.modulus_bits, state.total)
    except DecodeError as error:
        raise FaultyClientError(str(error), round="upload", culprits=[state.setup.roster[message.client]]) from error
    return state


def server_upload(state: PlainServerState1, inbox: Mapping[int, None]) -> tuple[Outcome, Outbox]:
    """Finish the sum.

    Raises:
        ThresholdError: nobody delivered.
    """
    if not inbox:
        raise ThresholdError(needed=1, survivors=0, what="clients that delivered an upload")
    reduce(state.total, state.setup.plan.modulus_bits)
    state.total.flags.writeable = False
    return Outcome(state.total, sorted(inbox)), {}

"""A plan bound to a session, a round number and a roster: the context of every key and every message."""

from __future__ import annotations

import hashlib
import operator
import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from secagg import tags
from secagg.errors import PlanError
from secagg.params import DIGEST_BYTES, SESSION_BYTES, Directory, checked_id
from secagg.primitives.graph import Graph, draw
from secagg.primitives.kem import require_kem

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from secagg.params import ClientId, Plan

__all__ = ["Setup", "model_digest", "new_session"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Setup:
    """A plan bound to a session, a round number and a roster: the context of every key and every message.

    Args:
        plan: the parameters.
        roster: a `Roster`, whose identities then authenticate every key; or, if the server is assumed honest, all
            client ids. Distinct, in any order (kept sorted: position 0 is the smallest).
        session: 16 to 64 bytes, unique to one training (`new_session`).
        round: number of the round within the session, >= 0; never used twice with the same session.
        model: 32-byte hash of the model and the training plan that this party was given (`model_digest`), or empty.
            Not part of the digest: parties with different models can talk, but their masks do not cancel, so that
            nobody learns a sum over updates of different models (Pasquini et al. 2022); against a malicious server
            the difference is found out before anything is revealed.
        assume_honest_server: needed for a plan against a semi-honest server, so that nobody trusts one by accident.

    Attributes:
        keys: root of all advertised keys once `keyed` has bound it, and empty before.

    Raises:
        PlanError: the roster does not match the plan, a value is out of range, identities are missing, the server
            would be trusted without saying so, or the plan needs ML-KEM and `cryptography` has none.
        TypeError: a client id is neither int nor str, the session not bytes, or the round not an integer.
    """

    plan: Plan
    roster: tuple[ClientId, ...]
    identities: tuple[bytes, ...]
    session: bytes
    round: int
    model: bytes
    keys: bytes = field(repr=False)
    _directory: bytes = field(repr=False)

    def __init__(
        self,
        *,
        plan: Plan,
        roster: Directory | Iterable[ClientId],
        session: bytes,
        round: int,  # noqa: A002
        model: bytes = b"",
        assume_honest_server: bool = False,
    ) -> None:
        """Check and sort the roster."""
        _check_trust(plan, roster, assume_honest_server=assume_honest_server)
        if plan.key_agreement != "x25519":
            require_kem()
        members = roster.members if isinstance(roster, Directory) else roster
        ids = tuple(sorted(map(checked_id, members), key=lambda i: (isinstance(i, str), i)))
        identities = tuple(roster.members[client] for client in ids) if isinstance(roster, Directory) else ()
        if len(set(identities)) != len(identities) or any(len(key) != DIGEST_BYTES for key in identities):
            msg = "every client needs an identity of its own, a 32-byte key: one is repeated or malformed"
            raise PlanError(msg)
        if len(set(ids)) != len(ids):
            msg = "a client id appears twice in the roster"
            raise PlanError(msg)
        if len(ids) != plan.clients:
            msg = f"the plan is for {plan.clients} clients, the roster has {len(ids)}"
            raise PlanError(msg)
        if not isinstance(session, bytes):
            msg = f"a session id is bytes, got {type(session).__name__}"
            raise TypeError(msg)
        number = operator.index(round)
        if not SESSION_BYTES[0] <= len(session) <= SESSION_BYTES[1]:
            msg = f"a session id has {SESSION_BYTES[0]} to {SESSION_BYTES[1]} bytes, got {len(session)}"
            raise PlanError(msg)
        if not 0 <= number < 1 << 63:
            msg = f"a round number is in [0, 2^63), got {number}"
            raise PlanError(msg)
        if not isinstance(model, bytes) or len(model) not in {0, DIGEST_BYTES}:
            msg = f"a model is named by its {DIGEST_BYTES}-byte digest (model_digest), or by nothing"
            raise PlanError(msg)
        directory = roster.digest if isinstance(roster, Directory) else b""
        for name, value in (
            ("plan", plan),
            ("roster", ids),
            ("identities", identities),
            ("session", session),
            ("round", number),
            ("model", model),
            ("keys", b""),
            ("_directory", directory),
        ):
            object.__setattr__(self, name, value)

    @cached_property
    def roster_digest(self) -> bytes:
        """32-byte hash of the ordered client ids, their identities and the roster that pins them."""
        fields = [self.roster, self.identities, self._directory]
        return hashlib.sha256(tags.ROSTER + msgspec.msgpack.encode(fields)).digest()

    @cached_property
    def agreed(self) -> bytes:
        """32-byte hash of session, round, parameters and roster: all that is agreed before the first message."""
        fields = [self.session, self.round, self.plan.digest, self.roster_digest]
        return hashlib.sha256(tags.SETUP + msgspec.msgpack.encode(fields)).digest()

    @cached_property
    def digest(self) -> bytes:
        """32-byte hash of session, round, parameters and roster; and of the keys, once these are bound."""
        if not self.keys:
            return self.agreed
        return hashlib.sha256(tags.KEYED_SETUP + self.agreed + self.keys).digest()

    def keyed(self, root: bytes) -> Setup:
        """Bind the 32-byte root of all advertised keys: a setup with another digest, whose graph is drawn from it.

        The last one made is kept, so that the clients of a simulation share it.
        """
        if not self._keyed or self._keyed[0].keys != root:
            bound = object.__new__(Setup)
            bound.__dict__.update(self.__dict__)
            for name in ("digest", "graph", "_keyed"):
                bound.__dict__.pop(name, None)
            object.__setattr__(bound, "keys", root)
            self._keyed[:] = [bound]
        return self._keyed[0]

    @cached_property
    def _keyed(self) -> list[Setup]:
        return []

    @cached_property
    def graph(self) -> Graph:
        """Who is whose neighbour, from public randomness that all parties share.

        Raises:
            PlanError: it is drawn from the keys, and these are not bound yet.
        """
        if self.plan.keys_draw_graph and not self.keys:
            msg = "this plan's graph is drawn once all keys are advertised: ask the setup that `keyed` returns"
            raise PlanError(msg)
        randomness = hashlib.sha256(tags.GRAPH + self.digest).digest()
        return Graph.derive(self.plan.clients, self.plan.degree, randomness=randomness)

    @cached_property
    def committee(self) -> NDArray[np.int64]:
        """Whose signatures decide who survived, ascending int64: everyone, or degree + 1 drawn before any key is known.

        Drawn from what was agreed before the first message, so that there is one for all graphs a server may show.
        """
        randomness = hashlib.sha256(tags.COMMITTEE + self.agreed).digest()
        return draw(self.plan.clients, self.plan.degree + 1, randomness=randomness)

    def position(self, client_id: ClientId) -> int:
        """Return a client's place in the sorted roster.

        Raises:
            KeyError: no such client.
            TypeError: not an int or a str.
        """
        return self._positions[checked_id(client_id)]

    @cached_property
    def _positions(self) -> dict[ClientId, int]:
        return {client_id: position for position, client_id in enumerate(self.roster)}


def new_session() -> bytes:
    """Draw a fresh 16-byte session id from the operating system."""
    return os.urandom(SESSION_BYTES[0])


def model_digest(model: bytes, training_plan: bytes = b"") -> bytes:
    """Hash the canonical bytes of a model and of the plan to train it, for `Setup.model`: 32 bytes."""
    return hashlib.sha256(tags.MODEL + msgspec.msgpack.encode([model, training_plan])).digest()


def _check_trust(plan: Plan, roster: object, *, assume_honest_server: bool) -> None:
    if plan.masking == "plain":
        return
    if plan.server == "malicious" and not isinstance(roster, Directory):
        msg = "a plan against a malicious server needs identities: pass a Roster, not bare client ids"
        raise PlanError(msg)
    if plan.server == "semi-honest" and not assume_honest_server:
        msg = (
            "this plan trusts the server to follow the protocol: make it with server='malicious' and pass a Roster, "
            "or say assume_honest_server=True"
        )
        raise PlanError(msg)

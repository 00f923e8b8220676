"""What a round agrees on before its first message.

`Plan` holds the parameters of one kind of round; `Setup` binds a plan to a session, a round number and a roster.
Both are public values with canonical hashes; every key and every frame is bound to the setup's digest, so parties
who disagree on anything refuse each other's first message.

Shamir points are fixed here: x = roster position + 1, never chosen by a server.
"""

from __future__ import annotations

import hashlib
import operator
import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

from secagg import tags
from secagg.encoding.packing import MAX_BITS
from secagg.errors import SERVER, PlanError
from secagg.primitives.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ClientId", "Codec", "Masking", "Plan", "Setup", "new_session"]

WIRE_VERSION = 1
SESSION_BYTES = (16, 64)
MAX_ID = 256
MAX_CLIENTS = 1 << 24
MAX_LENGTH = 1 << 34

ClientId: TypeAlias = int | str
"""How callers name a client: a number (Flower node id) or a name (hospital)."""

Masking: TypeAlias = Literal["masking", "plain"]
"""How vectors are hidden: pairwise and self masks, or not at all (the baseline to compare with)."""


@runtime_checkable
class Codec(Protocol):
    """What a plan needs to know of an encoding; `Encoding` and `Counts` are two."""

    @property
    def length(self) -> int:
        """Coordinates of an encoded vector."""

    @property
    def modulus_bits(self) -> int:
        """Bits of the modulus."""

    @property
    def clients(self) -> int:
        """The most clients whose sum fits."""

    @property
    def digest(self) -> bytes:
        """32-byte hash of every parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Parameters of a round. Made by `secagg.plan`; checked again here whoever made it.

    Attributes:
        clients: n, the size of the roster.
        length: coordinates of a vector.
        modulus_bits: vectors are summed modulo 2^modulus_bits.
        threshold: t, shares needed to rebuild a secret. A secret has degree + 1 holders: its owner's neighbours and
            the owner.
        degree: neighbours each; clients - 1 is the complete graph.
        masking: "masking" or "plain".
        encoding: digest of the encoding.
        dropouts: how many clients may vanish, at random, within `failure_bits`. On a sparse graph a round with more of
            them is refused, since `privacy_bits` would no longer hold.
        corrupted: how many clients may show the server all they know, within `privacy_bits`.
        privacy_bits: -log2 of a bound on the odds that the server and the corrupted clients learn more than the sum;
            None if that cannot happen. Stated by whoever made the plan; without meaning for "plain".
        failure_bits: -log2 of a bound on the odds that the round fails although no more than `dropouts` vanish;
            None if that cannot happen. Stated likewise.

    Raises:
        PlanError: the parameters cannot work or are not safe.
    """

    clients: int
    length: int
    modulus_bits: int
    threshold: int
    degree: int
    masking: Masking = "masking"
    encoding: bytes = field(default=b"", repr=False)
    dropouts: int = 0
    corrupted: int = 0
    privacy_bits: float | None = None
    failure_bits: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work or is not safe."""
        for name in ("clients", "length", "modulus_bits", "threshold", "degree", "dropouts", "corrupted"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                msg = f"{name} must be an integer of at least 0, got {value!r}"
                raise PlanError(msg)
        for condition, message in (
            (1 <= self.length <= MAX_LENGTH, f"length must be in [1, 2^34], got {self.length}"),
            (1 <= self.modulus_bits <= MAX_BITS, f"modulus_bits must be in [1, {MAX_BITS}], got {self.modulus_bits}"),
            (self.masking in ("masking", "plain"), f"masking must be 'masking' or 'plain', got {self.masking!r}"),
            (1 <= self.clients <= MAX_CLIENTS, f"clients must be in [1, 2^24], got {self.clients}"),
        ):
            if not condition:
                raise PlanError(message)
        if self.masking == "masking":
            self._check_masking()

    def _check_masking(self) -> None:
        n, t, k = self.clients, self.threshold, self.degree
        if n < 2:  # noqa: PLR2004
            msg = "a sum of one client's vector is that vector: at least 2 clients are needed"
            raise PlanError(msg)
        if not (k == n - 1 or (0 < k < n - 1 and k % 2 == 0)):
            msg = f"degree must be {n - 1} (complete) or an even number below it, got {k}"
            raise PlanError(msg)
        if not 2 <= t <= k + 1:  # noqa: PLR2004
            msg = f"threshold must be in [2, {k + 1}], the number of share holders, got {t}"
            raise PlanError(msg)
        if k == n - 1 and 3 * t <= 2 * n:
            msg = f"on a complete graph the threshold must exceed 2n/3 = {2 * n / 3:.1f}, got {t}"
            raise PlanError(msg)
        if k < n - 1 and 2 * t < k + 4:
            # A ring of k/2 neighbours a side tears where k/2 in a row vanish; the next one then has k/2 + 1 holders.
            msg = f"on a sparse graph the threshold must exceed degree/2 + 1 = {k // 2 + 1}, or dropouts can tear it"
            raise PlanError(msg)

    @property
    def is_complete(self) -> bool:
        """Whether everyone is everyone's neighbour."""
        return self.degree == self.clients - 1

    @property
    def least_survivors(self) -> int:
        """Masked inputs that must arrive for the sum to be opened."""
        return self.threshold if self.is_complete else self.clients - self.dropouts

    @property
    def digest(self) -> bytes:
        """32-byte parameter hash: wire version and everything that changes a message or a key."""
        fields = [
            WIRE_VERSION,
            self.masking,
            self.clients,
            self.length,
            self.modulus_bits,
            self.threshold,
            self.degree,
            self.dropouts,
            self.encoding,
        ]
        return hashlib.sha256(tags.PARAMETERS + msgspec.msgpack.encode(fields)).digest()


@dataclass(frozen=True, eq=False, kw_only=True)
class Setup:
    """A plan bound to a session, a round number and a roster: the context of every key and every message.

    Args:
        plan: the parameters.
        roster: all client ids, distinct, in any order (kept sorted: position 0 is the smallest).
        session: 16 to 64 bytes, unique to one training (`new_session`).
        round: number of the round within the session, >= 0; never used twice with the same session.

    Raises:
        PlanError: the roster does not match the plan, or a value is out of range.
        TypeError: a client id is neither int nor str, the session not bytes, or the round not an integer.
    """

    plan: Plan
    roster: tuple[ClientId, ...]
    session: bytes
    round: int

    def __init__(self, *, plan: Plan, roster: Iterable[ClientId], session: bytes, round: int) -> None:  # noqa: A002
        """Check and sort the roster."""
        ids = tuple(sorted(map(_checked_id, roster), key=lambda i: (isinstance(i, str), i)))
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
        for name, value in (("plan", plan), ("roster", ids), ("session", session), ("round", number)):
            object.__setattr__(self, name, value)

    @cached_property
    def roster_digest(self) -> bytes:
        """32-byte hash of the ordered client ids."""
        return hashlib.sha256(tags.ROSTER + msgspec.msgpack.encode(self.roster)).digest()

    @cached_property
    def digest(self) -> bytes:
        """32-byte hash of session, round, parameters and roster."""
        fields = [self.session, self.round, self.plan.digest, self.roster_digest]
        return hashlib.sha256(tags.SETUP + msgspec.msgpack.encode(fields)).digest()

    @cached_property
    def graph(self) -> Graph:
        """Who is whose neighbour, from public randomness that all parties share."""
        randomness = hashlib.sha256(tags.GRAPH + self.digest).digest()
        return Graph.derive(self.plan.clients, self.plan.degree, randomness=randomness)

    def position(self, client_id: ClientId) -> int:
        """Return a client's place in the sorted roster.

        Raises:
            KeyError: no such client.
            TypeError: not an int or a str.
        """
        return self._positions[_checked_id(client_id)]

    @cached_property
    def _positions(self) -> dict[ClientId, int]:
        return {client_id: position for position, client_id in enumerate(self.roster)}


def new_session() -> bytes:
    """Draw a fresh 16-byte session id from the operating system."""
    return os.urandom(SESSION_BYTES[0])


def _checked_id(client_id: object) -> ClientId:
    if isinstance(client_id, bool) or not isinstance(client_id, (int, str)):
        msg = f"a client id is an int or a str, got {type(client_id).__name__}"
        raise TypeError(msg)
    if isinstance(client_id, int):
        if not 0 <= client_id < 1 << 64:
            msg = f"a client number is in [0, 2^64), got {client_id}"
            raise PlanError(msg)
        return int(client_id)
    if not 1 <= len(client_id) <= MAX_ID:
        msg = f"a client name has 1 to {MAX_ID} characters, got {len(client_id)}"
        raise PlanError(msg)
    if client_id == SERVER or not client_id.isprintable():
        msg = f"a client name is printable text other than {SERVER!r}, got {client_id!r}"
        raise PlanError(msg)
    return str(client_id)

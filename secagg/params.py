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
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import msgspec

from secagg import tags
from secagg.encoding.packing import MAX_BITS
from secagg.errors import SERVER, PlanError
from secagg.primitives.graph import Graph
from secagg.primitives.kem import require_kem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "ClientId",
    "Codec",
    "Directory",
    "KeyAgreement",
    "Masking",
    "Plan",
    "ServerModel",
    "Setup",
    "checked_id",
    "model_digest",
    "new_session",
]

WIRE_VERSION = 1
SESSION_BYTES = (16, 64)
MAX_ID = 256
MAX_CLIENTS = 1 << 24
MAX_LENGTH = 1 << 34

ClientId: TypeAlias = int | str
"""How callers name a client: a number (Flower node id) or a name (hospital)."""

Masking: TypeAlias = Literal["masking", "plain"]
"""How vectors are hidden: pairwise and self masks, or not at all (the baseline to compare with)."""


ServerModel: TypeAlias = Literal["semi-honest", "malicious"]
"""What the server is trusted with: to follow the protocol, or nothing but to carry messages."""

KeyAgreement: TypeAlias = Literal["x25519", "x25519+ml-kem-768"]
"""How clients agree on keys: by X25519 alone, or hybrid, so that traffic recorded today stays secret from whoever has a
quantum computer later."""

DIGEST_BYTES = 32


@runtime_checkable
class Directory(Protocol):
    """Who takes part, with identities pinned by the caller; `secagg.Roster` is one."""

    @property
    def members(self) -> Mapping[ClientId, bytes]:
        """Client id -> 32-byte Ed25519 public key."""

    @property
    def digest(self) -> bytes:
        """32-byte hash of all of it."""


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
        server: "semi-honest" (it follows the protocol), or "malicious" (it may do anything; needs identities).
        encoding: digest of the encoding.
        dropouts: how many clients may vanish, at random, within `failure_bits`. On a sparse graph a round with more of
            them is refused, since `privacy_bits` would no longer hold.
        corrupted: how many clients may show the server all they know, within `privacy_bits`.
        privacy_bits: -log2 of a bound on the odds, in one round, that the server and the corrupted clients learn more
            than the sum; None if that cannot happen. Stated by whoever made the plan; without meaning for "plain".
        failure_bits: -log2 of a bound on the odds that one round fails although no more than `dropouts` vanish;
            None if that cannot happen. Stated likewise.
        key_agreement: "x25519", or "x25519+ml-kem-768": masks and sealed shares stay secret while either holds.

    Raises:
        PlanError: the parameters cannot work or are not safe.
    """

    clients: int
    length: int
    modulus_bits: int
    threshold: int
    degree: int
    masking: Masking = "masking"
    server: ServerModel = "semi-honest"
    encoding: bytes = field(default=b"", repr=False)
    dropouts: int = 0
    corrupted: int = 0
    privacy_bits: float | None = None
    failure_bits: float | None = None
    key_agreement: KeyAgreement = "x25519"

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
            (self.server in get_args(ServerModel), f"server: 'semi-honest' or 'malicious', got {self.server!r}"),
            (self.masking == "masking" or self.server == "semi-honest", "a plain sum hides nothing from any server"),
            (
                self.key_agreement in get_args(KeyAgreement),
                f"key_agreement must be 'x25519' or 'x25519+ml-kem-768', got {self.key_agreement!r}",
            ),
            (self.masking == "masking" or self.key_agreement == "x25519", "a plain sum agrees on no keys"),
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
        if self.server == "malicious":
            self._check_malicious()

    def _check_malicious(self) -> None:
        """Two survivor sets can each be signed by t clients only if 2(t - c) honest signatures come from n - c clients.

        Source: Bonawitz et al. 2017, sec. 6.2 (t > (n + |C|)/2, active adversary).
        """
        if not self.is_complete:
            msg = (
                "against a malicious server every client must be everyone's neighbour: the server could choose who "
                "drops out of a sparse graph"
            )
            raise PlanError(msg)
        if 2 * self.threshold <= self.clients + self.corrupted:
            msg = (
                f"against a malicious server the threshold must exceed (n + c)/2 = "
                f"{(self.clients + self.corrupted) / 2:.1f}, got {self.threshold}: it could show two halves of the "
                "clients different survivors"
            )
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
            self.server,
            self.clients,
            self.length,
            self.modulus_bits,
            self.threshold,
            self.degree,
            self.dropouts,
            self.corrupted if self.server == "malicious" else 0,
            self.encoding,
            *([] if self.key_agreement == "x25519" else [self.key_agreement]),  # last, so that older digests stand
        ]
        return hashlib.sha256(tags.PARAMETERS + msgspec.msgpack.encode(fields)).digest()


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
            ("_directory", directory),
        ):
            object.__setattr__(self, name, value)

    @cached_property
    def roster_digest(self) -> bytes:
        """32-byte hash of the ordered client ids, their identities and the roster that pins them."""
        fields = [self.roster, self.identities, self._directory]
        return hashlib.sha256(tags.ROSTER + msgspec.msgpack.encode(fields)).digest()

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


def checked_id(client_id: object) -> ClientId:
    """Return a client id as it is kept.

    Raises:
        TypeError: neither int nor str.
        PlanError: a number out of range, or a name that is empty, too long, not printable, or "server".
    """
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

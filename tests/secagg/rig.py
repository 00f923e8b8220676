"""A round driven by hand, so that a test can hold any message back, change it, or send it twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secagg import Client, Counts, Plan, Server, Setup
from secagg.identity import Identity
from secagg.transitions import steps_of

SESSION = bytes(range(16))
CODEC_MAXIMUM = 1_000


def make_plan(
    n: int,
    *,
    degree: int | None = None,
    threshold: int | None = None,
    dropouts: int | None = None,
    length: int = 5,
    masking: Any = "masking",
    server: Any = "semi-honest",
    corrupted: int = 0,
    key_agreement: Any = "x25519",
    extras: int = 0,
) -> Plan:
    """A plan outside the planner: any degree and threshold that `Plan` accepts, and any number of dropouts."""
    codec = Counts(dimension=length, maximum=CODEC_MAXIMUM, clients=n)
    k = n - 1 if degree is None else degree
    t = threshold if threshold is not None else (2 * n // 3 + 1 if k == n - 1 else k // 2 + 2)
    return Plan(
        clients=n,
        length=length,
        modulus_bits=codec.modulus_bits,
        threshold=t,
        degree=k,
        masking=masking,
        encoding=codec.digest,
        server=server,
        corrupted=corrupted,
        key_agreement=key_agreement,
        dropouts=n - 1 if dropouts is None else dropouts,
        extras=extras,
    )


@dataclass(frozen=True)
class Pinned:
    """A roster as tests need it: identities and nothing else."""

    members: dict[Any, bytes]
    digest: bytes = bytes(32)


def identity_of(client: int) -> Identity:
    """The identity of a test's client, the same every time."""
    return Identity.from_private(bytes([client + 1]) * 32)


def extras_of(client: Any, count: int) -> list[bytes]:
    """The extra secrets of a test's client, the same every time."""
    return [hashlib.sha256(f"extra {number} of {client}".encode()).digest() for number in range(count)]


def vectors(n: int, length: int = 5) -> dict[int, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(n)
    return {i: rng.integers(0, CODEC_MAXIMUM, length, endpoint=True).astype(np.uint64) for i in range(n)}


Tamper = Callable[[str, str, int, bytes], bytes]


@dataclass
class Rig:
    """Clients 0..n-1 and a server over one setup; `log` keeps every genuine message by (step, direction, client)."""

    plan: Plan
    round: int = 0
    session: bytes = SESSION
    model: bytes = b""
    roster: list[Any] = field(default_factory=list)
    inputs: dict[int, Any] = field(default_factory=dict)
    log: dict[tuple[str, str, Any], bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.roster = self.roster or list(range(self.plan.clients))
        trusted = self.plan.server == "semi-honest"
        positions = range(self.plan.clients)
        self.identities = {} if trusted else {i: identity_of(i) for i in positions}
        members = Pinned({self.roster[i]: identity.public for i, identity in self.identities.items()})
        self.setup = Setup(
            plan=self.plan,
            roster=self.roster if trusted else members,
            session=self.session,
            round=self.round,
            model=self.model,
            assume_honest_server=trusted,
        )
        self.inputs = self.inputs or vectors(self.plan.clients, self.plan.length)
        self.server = Server(self.setup)
        self.clients = {
            i: Client(
                self.setup,
                self.roster[i],
                self.inputs[i],
                identity=self.identities.get(i),
                extras=extras_of(i, self.plan.extras) or None,
            )
            for i in positions
        }
        self.steps = steps_of(self.plan.masking, self.plan.server)
        self.outbox: dict[Any, bytes] = {}

    def ask(self, step: str) -> dict[Any, bytes]:
        """Close the round before `step` and return the server's requests."""
        self.outbox = self.server.close_round()
        for i, data in self.outbox.items():
            self.log[step, "down", i] = data
        return self.outbox

    def answer(self, step: str, client: int) -> bytes:
        data = self.clients[client].receive(self.outbox[client])
        self.log[step, "up", client] = data
        return data

    def run(self, *, until: str | None = None, drop: dict[int, str] | None = None) -> None:
        """Run the rounds before `until` (all, if None) without tampering."""
        drop = drop or {}
        for step in self.steps:
            if step == until:
                return
            for i in self.ask(step):
                if i in drop and self.steps.index(drop[i]) <= self.steps.index(step):
                    continue
                self.server.receive(i, self.answer(step, i))
        self.server.close_round()

    def expected(self, survivors: Any) -> list[int]:
        """The plain sum, in Python integers."""
        rows = [self.inputs[i].tolist() for i in survivors]
        return [sum(column) % (1 << self.plan.modulus_bits) for column in zip(*rows, strict=True)]

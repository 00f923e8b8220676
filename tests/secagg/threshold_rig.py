"""Threshold keys and rounds driven by hand, so that a test can change any message, or send it twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any

import numpy as np

from secagg.homomorphic import threshold_rounds as rounds
from secagg.homomorphic import threshold_server as server
from secagg.homomorphic import threshold_setup as client_setup
from secagg.homomorphic import threshold_setup_server as server_setup
from secagg.homomorphic.threshold import ThresholdContext, ThresholdKey
from secagg.params import Plan
from secagg.setups import Setup
from secagg.wire import decode, encode
from tests.secagg.rig import Pinned, identity_of

SESSION = bytes(range(16))
NUMBERS = count(1)
"""Rounds never used before: the cached keys remember theirs."""


def plan_of(server_model: Any = "semi-honest", **changes: Any) -> Plan:
    """Four clients of which three decrypt, unless said otherwise."""
    shape = {"clients": 4, "length": 5, "modulus_bits": 12, "threshold": 3, "corrupted": 1} | changes
    return Plan(degree=shape["clients"] - 1, server=server_model, masking="threshold", **shape)


SEMI_HONEST, MALICIOUS = plan_of(), plan_of("malicious")


def setup_of(plan: Plan, number: int, *, model: bytes = b"", session: bytes = SESSION) -> Setup:
    positions = range(plan.clients)
    trusted = plan.server == "semi-honest"
    return Setup(
        plan=plan,
        roster=positions if trusted else Pinned({i: identity_of(i).public for i in positions}),
        session=session,
        round=number,
        model=model,
        assume_honest_server=trusted,
    )


def identity(plan: Plan, client: int) -> Any:
    return identity_of(client) if plan.server == "malicious" else None


def passed(message: Any, setup: Setup) -> Any:
    """Send a message over the wire."""
    return decode(type(message), encode(message, setup), setup)


STEPS = (
    (client_setup.client_advertise, server_setup.server_check_key, server_setup.server_advertise),
    (client_setup.client_deal, server_setup.server_check_shares, server_setup.server_share),
    (client_setup.client_hold, server_setup.server_check_confirmed, server_setup.server_hold),
)


@dataclass
class SettingUp:
    """A set-up; `step` runs one round of it, with whatever `tamper` makes of what the clients receive."""

    plan: Plan
    number: int = 0
    keys: dict[int, ThresholdKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.setup = setup_of(self.plan, self.number)
        self.clients: dict[int, Any] = {
            i: client_setup.ThresholdSetupState0(self.setup, i, self._keep(i), identity(self.plan, i))
            for i in range(self.plan.clients)
        }
        begin = server_setup.ThresholdSetupServerState0(self.setup)
        self.server: Any
        self.outbox: dict[int, Any]
        self.server, self.outbox = server_setup.server_open(begin, {})
        self.done = 0

    def _keep(self, client: int) -> Callable[[ThresholdKey], None]:
        def keep(key: ThresholdKey) -> None:
            self.keys[client] = key

        return keep

    def answers(self, *members: int) -> dict[int, Any]:
        answer, _, _ = STEPS[self.done]
        inbox = {}
        for i in members or self.clients:
            self.clients[i], message = answer(self.clients[i], passed(self.outbox[i], self.setup), os.urandom(32))
            inbox[i] = passed(message, self.setup)
        return inbox

    def close(self, inbox: dict[int, Any]) -> None:
        _, check, close = STEPS[self.done]
        for message in inbox.values():
            check(self.server, message)
        self.server, self.outbox = close(self.server, inbox)
        self.done += 1

    def run(self, until: int = 3) -> SettingUp:
        while self.done < until:
            self.close(self.answers())
        return self

    @property
    def context(self) -> ThresholdContext:
        return ThresholdContext.from_bytes(self.server.vector.tobytes())


@cache
def keys_of(plan: Plan) -> tuple[dict[int, ThresholdKey], ThresholdContext]:
    """Set a key up, once for all tests."""
    done = SettingUp(plan).run()
    return done.keys, done.context


def twin(key: ThresholdKey, **changes: Any) -> ThresholdKey:
    """The same key, new and not saved: what nobody can make of a key that was."""
    held = {"secret": key._secret, "shares": key._shares, "seeds": key._seeds, "flooding": key._flooding}
    return ThresholdKey(key.context, key.position, **(held | changes))


def vectors(plan: Plan) -> list[np.ndarray[Any, Any]]:
    top = (1 << plan.modulus_bits) - 1
    return [
        np.array([(top - 7 * i * at) % (top + 1) for at in range(plan.length)], np.uint64) for i in range(plan.clients)
    ]


def expected(plan: Plan, survivors: Iterable[int]) -> list[int]:
    rows = [vectors(plan)[i].tolist() for i in survivors]
    return [sum(column) % (1 << plan.modulus_bits) for column in zip(*rows, strict=True)]


class Round:
    """One round, by hand."""

    def __init__(self, plan: Plan = SEMI_HONEST, number: int | None = None, **models: bytes) -> None:
        self.plan, self.number = plan, next(NUMBERS) if number is None else number
        self.setup = setup_of(plan, self.number)
        self.keys, self.context = keys_of(plan)
        self.models = {int(client[1:]): model for client, model in models.items()}
        self.states: dict[int, Any] = {}
        self.server: Any
        self.outbox: dict[int, Any]
        self.server, self.outbox = server.server_open(server.ThresholdServerState0(self.setup, self.context), {})

    def begin(self, client: int, key: ThresholdKey | None = None) -> rounds.ThresholdClientState0:
        setup = setup_of(self.plan, self.number, model=self.models.get(client, b""))
        key = self.keys[client] if key is None else key
        return rounds.ThresholdClientState0(setup, client, vectors(self.plan)[client], identity(self.plan, client), key)

    def upload(self, client: int, key: ThresholdKey | None = None) -> Any:
        message = passed(self.outbox[client], self.setup)
        self.states[client], upload = rounds.client_upload(self.begin(client, key), message, os.urandom(32))
        return passed(upload, self.setup)

    def uploads(self, *members: int) -> Round:
        """Upload, and go on to where survivors are told."""
        for i in members:
            self.server = server.server_add_upload(self.server, self.upload(i))
        close = server.server_upload_to_sign if self.plan.server == "malicious" else server.server_upload
        self.server, self.outbox = close(self.server, dict.fromkeys(members))
        return self

    def sign(self, *members: int) -> dict[int, Any]:
        inbox = {}
        for i in members or self.outbox:
            message = passed(self.outbox[i], self.setup)
            self.states[i], signed = rounds.client_consistency_check(self.states[i], message, b"")
            inbox[i] = passed(signed, self.setup)
            server.server_check_agreement(self.server, inbox[i])
        return inbox

    def agree(self) -> Round:
        """Sign, where the server is not trusted, and go on to where decryptors are asked."""
        if self.plan.server == "malicious":
            self.server, self.outbox = server.server_consistency_check(self.server, self.sign())
        return self

    def partial(self, client: int) -> Any:
        malicious = self.plan.server == "malicious"
        step: Any = rounds.client_decrypt_agreed if malicious else rounds.client_decrypt
        self.states[client], message = step(self.states[client], passed(self.outbox[client], self.setup), b"")
        return passed(message, self.setup)

    def take(self, *members: int) -> Any:
        for i in members:
            self.server = server.server_add_partial(self.server, self.partial(i))
        return server.server_decrypt(self.server, dict.fromkeys(members))

    def total(self) -> Any:
        """Have all decryptors answer."""
        outcome, outbox = self.take(*self.outbox)
        assert not outbox
        return outcome

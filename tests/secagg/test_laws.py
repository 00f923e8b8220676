"""The law-suite holds for every protocol of ours, and each law fails for a stack that breaks it."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from secagg import Client, Plan, SecAggError, Server
from secagg.lattice.parameters import choose
from secagg.rounds import Total
from secagg.testing import laws
from secagg.testing.laws import LawError, Parties, Subject, check_laws
from secagg.testing.scripted import Script
from secagg.testing.strategies import plans
from secagg.transitions import steps_of

NUMBERS = count()
COMPLETE = Plan(clients=4, length=3, modulus_bits=12, threshold=3, degree=3)
MALICIOUS = Plan(clients=4, length=3, modulus_bits=64, threshold=3, degree=3, server="malicious", corrupted=1)
PLAIN = Plan(clients=3, length=5, modulus_bits=9, threshold=1, degree=2, masking="plain")
LATTICE = replace(COMPLETE, masking="lattice", lattice=choose(length=3, digit_bits=14, clients=4))
LATTICE_MALICIOUS = replace(
    Plan(clients=3, length=3, modulus_bits=12, threshold=3, degree=2, server="malicious", corrupted=1),
    masking="lattice",
    lattice=choose(length=3, digit_bits=14, clients=3),
)
EXTRAS = replace(MALICIOUS, extras=1)
SPARSE = Plan(clients=6, length=2, modulus_bits=33, threshold=4, degree=4, dropouts=0)


def subject(plan: Plan, client: type[Client] = Client, server: type[Server] = Server) -> Subject:
    def make(inputs: Mapping[int, Any]) -> Parties:
        script = Script(plan=plan, round=next(NUMBERS))
        setup = script.setup()
        members: dict[Any, Client] = {
            i: client(setup, i, vector, identity=script.identity(i), extras=script.extras(i) or None)
            for i, vector in inputs.items()
        }
        return Parties(members, server(setup))

    steps = steps_of(plan.masking, plan.server)
    needed = plan.threshold if plan.is_complete else plan.clients
    return Subject(
        clients=plan.clients,
        threshold=needed,
        length=plan.length,
        modulus_bits=plan.modulus_bits,
        steps=len(steps),
        sums_after=steps.index("upload" if plan.masking == "plain" else "masked_input"),
        make=make,
    )


@pytest.mark.parametrize(
    "plan",
    [COMPLETE, MALICIOUS, LATTICE, LATTICE_MALICIOUS, PLAIN],
    ids=["complete", "malicious", "lattice", "lattice, malicious", "plain"],
)
def test_our_sessions_obey_every_law(plan: Plan) -> None:
    check_laws(subject(plan), examples=15)


def test_our_sessions_obey_the_laws_on_a_sparse_graph() -> None:
    ours = subject(SPARSE)  # where nobody may drop out before the sum; afterwards the neighbourhoods decide
    laws.damage_changes_nothing(ours)
    laws.messages_come_once(ours)
    laws.finished_parties_refuse(ours)


def test_our_sessions_obey_the_laws_with_extra_secrets() -> None:
    ours = subject(EXTRAS)
    laws.random_rounds_sum_exactly(ours, examples=15)
    laws.damage_changes_nothing(ours)
    laws.messages_come_once(ours)
    laws.finished_parties_refuse(ours)


@given(plans())
@settings(max_examples=12, deadline=None)
def test_any_plan_that_can_be_made_refuses_damage_and_sums_exactly(plan: Plan) -> None:
    laws.damage_changes_nothing(subject(plan))


def changed(total: Total, **changes: Any) -> Total:
    return replace(total, **changes)


class WrongSum(Server):
    def total(self) -> Total:
        total = super().total()
        return changed(total, vector=total.vector + total.vector.dtype.type(1))


class WrongSurvivors(Server):
    def total(self) -> Total:
        total = super().total()
        return changed(total, survivors=total.survivors[1:])


class NoThreshold(Server):
    def close_round(self) -> dict[Any, bytes]:
        try:
            return super().close_round()
        except SecAggError:
            return {}

    def total(self) -> Total:
        return Total(np.zeros(3, dtype=np.uint16), (), (), b"")


class Lenient(Server):
    def receive(self, client_id: Any, message: bytes) -> None:
        try:
            super().receive(client_id, message)
        except SecAggError:
            return


class Crashing(Client):
    def receive(self, message: bytes) -> bytes:
        try:
            return super().receive(message)
        except SecAggError as error:
            raise IndexError from error


class Wasteful(Client):
    def receive(self, message: bytes) -> bytes:
        bytes(1 << 22)
        return super().receive(message)


class Repeating(Client):
    """Answers anything once it is done."""

    def receive(self, message: bytes) -> bytes:
        return b"again" if self.done else super().receive(message)


class Forgetful(Client):
    """Answers a request that comes again, in other words."""

    last = b""

    def receive(self, message: bytes) -> bytes:
        again, self.last = message == self.last, message
        return b"again" if again else super().receive(message)


@pytest.mark.parametrize(
    ("law", "broken", "says"),
    [
        (laws.every_survivor_set_sums_exactly, subject(COMPLETE, server=WrongSum), "the sum is not that"),
        (laws.every_survivor_set_sums_exactly, subject(COMPLETE, server=WrongSurvivors), "the sum is not that"),
        (laws.every_survivor_set_sums_exactly, subject(COMPLETE, server=NoThreshold), "fewer than 3 remain"),
        (laws.every_survivor_set_sums_exactly, replace(subject(COMPLETE), threshold=2), "enough remain, yet"),
        (laws.every_survivor_set_sums_exactly, replace(subject(COMPLETE), too_few=(KeyError,)), "ThresholdError"),
        (laws.random_rounds_sum_exactly, subject(COMPLETE, server=WrongSum), "the sum is not that"),
        (laws.damage_changes_nothing, subject(COMPLETE, server=WrongSum), "after damaged messages"),
        (laws.damage_changes_nothing, subject(COMPLETE, server=Lenient), "accepted"),
        (laws.damage_changes_nothing, subject(COMPLETE, client=Crashing), "not a refusal but IndexError"),
        (laws.damage_changes_nothing, subject(COMPLETE, client=Wasteful), "bytes of memory to refuse"),
        (laws.messages_come_once, subject(COMPLETE, server=Lenient), "another's answer: accepted"),
        (laws.messages_come_once, subject(COMPLETE, client=Forgetful), "a request twice: another answer"),
        (laws.finished_parties_refuse, subject(COMPLETE, client=Repeating), "asked again: another answer"),
        (laws.finished_parties_refuse, subject(COMPLETE, server=Lenient), "is sent an answer: accepted"),
    ],
)
def test_each_law_fails_for_a_stack_that_breaks_it(law: Any, broken: Subject, says: str) -> None:
    with pytest.raises(LawError, match=says):
        law(broken)

"""Extra secrets: which plans have them, what clients are given, and that they survive a crash and never show."""

import hashlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.pretty import pretty_repr

import secagg
from secagg import Client, Counts, LocalProtocolError, Plan, PlanError, SecAggError
from secagg.journal import Journal
from secagg.planning import explain
from secagg.rounds_begun import Rounds
from tests.secagg.rig import Rig, extras_of, make_plan

MODES = ["semi-honest", "malicious"]
HYBRID = "x25519+ml-kem-768"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"extras": 3}, r"at most 2 may: extras must be in \[0, 2\], got 3"),
        ({"extras": -1}, "extras must be an integer of at least 0"),
        ({"extras": 1.0}, "extras must be an integer"),
        ({"degree": 6, "threshold": 5, "dropouts": 3}, "told of their neighbours only"),
        ({"masking": "plain"}, "a plain sum carries no extra secrets"),
        ({"masking": "ckks"}, "a ckks sum carries no extra secrets"),
    ],
)
def test_plans_whose_extra_secrets_could_not_be_chosen_cannot_be_made(change: dict[str, Any], says: str) -> None:
    good: dict[str, Any] = {"clients": 8, "length": 1, "modulus_bits": 8, "threshold": 6, "degree": 7, "extras": 2}
    Plan(**good)
    with pytest.raises(PlanError, match=says):
        Plan(**(good | change))
    sparse = make_plan(12, degree=6, threshold=5, server="malicious", dropouts=2, extras=2)
    with pytest.raises(PlanError, match=r"in \[0, 2\], got 3"):
        replace(sparse, extras=3)


def test_plans_with_other_extras_are_other_plans_and_without_any_the_digest_is_as_before() -> None:
    plan = make_plan(8)
    digests = {each.digest for each in (plan, *(replace(plan, extras=count) for count in (1, 2)))}
    assert len(digests) == 3
    old = Plan(clients=4, length=5, modulus_bits=12, threshold=3, degree=3)
    assert old.digest.hex() == "7116c1791d9014ba195d2bc24586c0f79bcdb3868bffe9405aca4875d265dbd5"


@pytest.mark.parametrize(
    "wrong", [None, [], [bytes(32)], [bytes(32), bytes(31)], [bytes(32), "x" * 32], [bytes(32)] * 2, lambda _: []]
)
def test_a_client_is_given_as_many_secrets_as_the_plan_says(wrong: Any) -> None:
    rig = Rig(make_plan(8, extras=2))
    with pytest.raises(PlanError, match="extra secret"):
        Client(rig.setup, 0, rig.inputs[0], extras=wrong)
    without = Rig(make_plan(8))
    with pytest.raises(PlanError, match="asks for 0 extra secrets"):
        Client(without.setup, 0, without.inputs[0], extras=[] if wrong is None else wrong)


def test_the_planner_makes_plans_with_extra_secrets_and_explains_them() -> None:
    codec = Counts(dimension=1, maximum=1, clients=60)
    plan = secagg.plan(codec, extras=8)
    assert (plan.extras, plan.is_complete, plan.dropouts, plan.least_survivors) == (8, True, 6, 52)
    why = explain(plan)
    assert "with 8 none" in why["extras"]
    assert "at most 8 clients drop out" in why["failure"]
    assert "extras" not in explain(secagg.plan(codec))
    with pytest.raises(PlanError, match=r"at least the number of clients that may drop out, 6, .*; got 5"):
        secagg.plan(codec, extras=5)
    with pytest.raises(PlanError, match="told of their neighbours only"):
        secagg.plan(codec, extras=8, graph="sparse", dropout=0.01, corrupted=0.01, security_bits=1)
    sparse = secagg.plan(
        Counts(dimension=1, maximum=1, clients=1_000), server="malicious", extras=20, dropout=0.02, corrupted=0.02
    )
    assert (sparse.keys_draw_graph, sparse.least_survivors) == (True, 980)


# Crashes


@pytest.mark.parametrize("handed", ["made", "again"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("keys", ["x25519", HYBRID])
def test_a_client_that_dies_anywhere_shares_and_opens_the_same_secrets(
    tmp_path: Path, mode: str, keys: str, handed: str
) -> None:
    plan = make_plan(5, server=mode, extras=1, key_agreement=keys)
    rig, calls = Rig(plan, round=1), []

    def made(secret: bytes) -> list[bytes]:
        calls.append(secret)
        return [hashlib.sha256(secret).digest()]

    def begin() -> tuple[Journal, Client]:
        journal = Journal(tmp_path / "journal", rounds=Rounds(tmp_path / "rounds"))
        extras: Any = made if handed == "made" else extras_of(2, 1)
        return journal, Client(
            rig.setup, 2, rig.inputs[2], identity=rig.identities.get(2), extras=extras, journal=journal
        )

    for step in rig.steps:
        for i in rig.ask(step):
            if i == 2:
                journal, rig.clients[2] = begin()
                answer = rig.answer(step, 2)
                journal.close()  # it dies; the answer was lost
                journal, rig.clients[2] = begin()
                assert rig.answer(step, 2) == answer
                journal.close()
            rig.server.receive(i, rig.log[step, "up", 2] if i == 2 else rig.answer(step, i))
    rig.server.close_round()
    total = rig.server.total()
    assert total.vector.tolist() == rig.expected(range(5))
    if handed == "made":
        assert len(set(calls)) == 1
        assert total.extras[2] == hashlib.sha256(calls[0]).digest()
        assert calls[0] not in (tmp_path / "journal").read_bytes()  # it ended: no secret is left
        assert calls[0] != rig.clients[2]._memory.master
    else:
        assert total.extras[2] == extras_of(2, 1)[0]


@pytest.mark.parametrize("keys", ["x25519", HYBRID])
def test_other_secrets_handed_in_on_resuming_are_refused(tmp_path: Path, keys: str) -> None:
    rig = Rig(make_plan(5, extras=1, key_agreement=keys), round=1)

    def begin(extras: Any) -> tuple[Journal, Client]:
        journal = Journal(tmp_path / "journal", rounds=Rounds(tmp_path / "rounds"))
        try:
            return journal, Client(rig.setup, 2, rig.inputs[2], extras=extras, journal=journal)
        except SecAggError:
            journal.close()
            raise

    journal, rig.clients[2] = begin([bytes(32)])
    rig.run(until="masked_input")
    journal.close()
    with pytest.raises(LocalProtocolError, match="with other extra secrets"):
        begin([bytes([1]) * 32])
    with pytest.raises(PlanError):
        begin(None)
    journal, rig.clients[2] = begin([bytes(32)])
    rig.ask("masked_input")
    rig.answer("masked_input", 2)
    journal.close()


# Secrecy


def test_no_extra_secret_shows() -> None:
    rig = Rig(make_plan(5, server="malicious", extras=1), round=1)
    shown: list[str] = []
    secrets = [each for i in range(5) for each in extras_of(i, 1)]
    for step in rig.steps:
        for i in rig.ask(step):
            state = rig.clients[i]._state
            secrets += [*getattr(state, "own_extras", ())]
            shown += [repr(state), pretty_repr(state), repr(rig.clients[i].__dict__), repr(rig.server._state)]
            with suppress(SecAggError):
                rig.clients[i].receive(rig.outbox[i] + b"x")
            rig.server.receive(i, rig.answer(step, i))
    rig.server.close_round()
    shown += [repr(rig.server.total()), pretty_repr(rig.server.total()), repr(rig.server._state)]
    text = "\n".join(shown)
    assert len(secrets) == 5 + 3 * 5
    for secret in secrets:
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text
    assert repr(rig.server._state) == "<Outcome of 5 survivors>"

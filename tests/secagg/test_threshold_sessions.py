"""The tables of threshold sums in sessions: laws that every secure sum obeys, a set-up, policies, and resuming."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import secagg
from secagg import Client, LocalProtocolError, Plan, PlanError, Policy, PolicyError, Server, Setup, ThresholdError
from secagg.homomorphic.threshold import ThresholdContext, ThresholdKey
from secagg.journal import Journal
from secagg.planned_cost import cost_of
from secagg.planning import explain
from secagg.rounds_begun import Rounds
from secagg.simulated_keys import make_keys
from secagg.testing import laws
from secagg.testing.laws import LawError, Parties, Subject
from secagg.transitions import steps_of
from tests.secagg.threshold_rig import (
    MALICIOUS,
    NUMBERS,
    SEMI_HONEST,
    SESSION,
    SettingUp,
    expected,
    identity,
    keys_of,
    plan_of,
    setup_of,
    vectors,
)

LAWFUL = {plan_of(server, length=4): count(1) for server in ("semi-honest", "malicious")}
"""Plans, thus keys, for laws alone: these take hundreds of the 1000 rounds that a key serves."""

LAW_PLANS = pytest.mark.parametrize("plan", LAWFUL, ids=["semi-honest", "malicious"])
PLANS = pytest.mark.parametrize("plan", [SEMI_HONEST, MALICIOUS], ids=["semi-honest", "malicious"])


def client_of(setup: Setup, i: int, vector: Any, **options: Any) -> Client:
    """A client that holds its part of the plan's key."""
    return Client(setup, i, vector, identity=identity(setup.plan, i), keys=keys_of(setup.plan)[0][i], **options)


def server_of(setup: Setup) -> Server:
    return Server(setup, context=keys_of(setup.plan)[1])


def subject(plan: Plan) -> Subject:
    setup = setup_of(plan, 0)

    def make(inputs: Mapping[int, Any]) -> Parties:
        nonlocal setup
        setup = setup_of(plan, next(LAWFUL[plan]))
        members: dict[Any, Client] = {i: client_of(setup, i, vector) for i, vector in inputs.items()}
        return Parties(members, server_of(setup))

    def decryptors(_: Parties, survivors: set[int]) -> set[int]:
        return set(keys_of(plan)[1].decryptors(setup, sorted(survivors)))

    return Subject(
        clients=plan.clients,
        threshold=plan.threshold,
        length=plan.length,
        modulus_bits=plan.modulus_bits,
        steps=len(steps_of("threshold", plan.server)),
        sums_after=0,
        make=make,
        finishers=decryptors,
    )


@LAW_PLANS
def test_threshold_sessions_obey_every_law(plan: Plan) -> None:
    laws.check_laws(subject(plan), examples=15)


@LAW_PLANS
def test_a_law_that_any_of_them_may_finish_does_not_hold(plan: Plan) -> None:
    """Of four survivors three decrypt, and these have to."""
    with pytest.raises(LawError, match="enough remain, yet ThresholdError"):
        laws.every_survivor_set_sums_exactly(replace(subject(plan), finishers=None))


@LAW_PLANS
def test_a_sum_without_one_of_those_that_decrypt_would_be_noticed(plan: Plan) -> None:
    with pytest.raises(LawError, match="or not all that it needs"):
        laws.every_survivor_set_sums_exactly(replace(subject(plan), finishers=lambda _, there: {*there, 9}))


@pytest.mark.parametrize("plan", [SEMI_HONEST, MALICIOUS], ids=["semi-honest", "malicious"])
def test_a_set_up_in_sessions_leaves_everybody_a_key_file(plan: Plan, tmp_path: Path) -> None:
    setup = setup_of(plan, 0)

    def keep(client: int) -> Any:
        return lambda key: key.save(tmp_path / f"{client}.key")

    clients = {i: Client(setup, i, keep(i), identity=identity(plan, i), key_setup=True) for i in range(4)}
    coordinator = Server(setup, key_setup=True)
    while requests := coordinator.close_round():
        for i, request in requests.items():
            coordinator.receive(i, clients[i].receive(request))  # type: ignore[index]
    context = ThresholdContext.from_bytes(coordinator.total().vector.tobytes())
    keys = [ThresholdKey.load(tmp_path / f"{i}.key") for i in range(4)]
    assert {key.context.fingerprint for key in keys} == {context.fingerprint}
    assert all(client.done for client in clients.values())


def test_a_set_up_that_crashed_before_confirming_goes_on_from_its_journal_and_key_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    others = SettingUp(SEMI_HONEST)
    setup = others.setup
    keep: Any = partial(ThresholdKey.save, path=tmp_path / "key")
    keeping: Any = others._keep
    coordinator = Server(setup, key_setup=True)
    clients: dict[Any, Any] = {i: Client(setup, i, keeping(i), key_setup=True) for i in (0, 1, 2)}

    def opened() -> Journal:
        return Journal(tmp_path / "journal", rounds=Rounds(tmp_path / "rounds"))

    journal = opened()
    clients[3] = Client(setup, 3, keep, journal=journal, key_setup=True)
    for _ in range(2):
        for i, request in coordinator.close_round().items():
            coordinator.receive(i, clients[i].receive(request))
    requests = coordinator.close_round()
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", _crash)
        with pytest.raises(KeyboardInterrupt):
            clients[3].receive(requests[3])
    journal.close()
    saved = (tmp_path / "key").read_bytes()
    with opened() as journal:
        clients[3] = Client(setup, 3, keep, journal=journal, key_setup=True)
        for i, request in requests.items():
            coordinator.receive(i, clients[i].receive(request))
    assert not coordinator.close_round()
    assert (tmp_path / "key").read_bytes() == saved


def _crash(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_a_client_that_crashed_answers_again_the_very_same_from_its_journal(tmp_path: Path) -> None:
    def opened() -> Journal:
        return Journal(tmp_path / "journal", rounds=Rounds(tmp_path / "rounds"))

    setup, given = setup_of(SEMI_HONEST, next(NUMBERS)), vectors(SEMI_HONEST)
    coordinator, journal = server_of(setup), opened()
    clients: dict[Any, Any] = {i: client_of(setup, i, given[i]) for i in (0, 1, 2)}
    clients[2] = client_of(setup, 2, given[2], journal=journal)
    requests = coordinator.close_round()
    uploads_made = {i: clients[i].receive(requests[i]) for i in (0, 1, 2)}
    journal.close()
    journal = opened()
    clients[2] = client_of(setup, 2, given[2], journal=journal)
    assert clients[2].receive(requests[2]) == uploads_made[2]
    for i, upload in uploads_made.items():
        coordinator.receive(i, upload)
    requests = coordinator.close_round()
    answers = {i: clients[i].receive(request) for i, request in requests.items()}
    journal.close()
    with opened() as journal:
        clients[2] = client_of(setup, 2, given[2], journal=journal)
        assert clients[2].receive(requests[2]) == answers[2]
    for decryptor, answer in answers.items():
        coordinator.receive(decryptor, answer)
    coordinator.close_round()
    assert coordinator.total().vector.tolist() == expected(SEMI_HONEST, (0, 1, 2))


def test_a_client_without_a_journal_that_begins_its_round_again_is_refused() -> None:
    setup, given = setup_of(SEMI_HONEST, next(NUMBERS)), vectors(SEMI_HONEST)
    requests = server_of(setup).close_round()
    client_of(setup, 0, given[0]).receive(requests[0])
    with pytest.raises(LocalProtocolError, match="another upload in round"):
        client_of(setup, 0, given[0]).receive(requests[0])


@PLANS
def test_a_policy_decides_on_the_survivors_before_anything_is_sent(plan: Plan) -> None:
    setup, policy = setup_of(plan, next(NUMBERS)), Policy(min_survivors=4, require_identities=False)
    coordinator, given = server_of(setup), vectors(plan)
    members: dict[Any, Client] = {i: client_of(setup, i, given[i], policy=policy) for i in range(4)}
    requests = coordinator.close_round()
    for i in (0, 1, 2):
        coordinator.receive(i, members[i].receive(requests[i]))
    for asked, request in coordinator.close_round().items():
        with pytest.raises(PolicyError, match="min_survivors"):
            members[asked].receive(request)


@pytest.mark.parametrize("server", ["semi-honest", "malicious"])
def test_one_simulated_set_up_serves_many_rounds(server: Any) -> None:
    codec = secagg.Encoding(dimension=7, clip=1.0, bits=16, clients=4, max_weight=5)
    plan = secagg.plan(codec, masking="threshold", corrupted=0.0, dropout=0.25, server=server)
    names, session = list("abcd"), bytes(16)
    keys = make_keys(plan, names, session=session)
    inputs = {name: codec.encode(np.linspace(-1, 1, 7) * i / 3, weight=i + 1) for i, name in enumerate(names)}
    for number in (1, 2, 5):
        gone = {"b": "upload"} if number == 2 else {}
        total = secagg.simulate(plan, inputs, session=session, round=number, keys=keys, dropouts=gone)
        there = [name for name in names if name not in gone]
        assert total.survivors == tuple(there)
        rows = [inputs[name].vector.astype(object) for name in there]
        assert total.vector.tolist() == [int(x) % (1 << plan.modulus_bits) for x in np.sum(rows, axis=0)]
    with pytest.raises(PlanError, match="serves rounds"):
        secagg.simulate(plan, inputs, session=session, round=0, keys=keys)


def test_a_round_whose_decryptor_vanishes_is_lost_and_says_so() -> None:
    codec = secagg.Counts(dimension=3, maximum=9, clients=4)
    plan = secagg.plan(codec, masking="threshold", corrupted=0.0)
    inputs = {i: codec.encode(np.array([i, 1, 9])) for i in range(4)}
    keys = make_keys(plan, range(4), session=SESSION)
    assert isinstance(keys.context, ThresholdContext)
    for number in range(1, 9):
        asked = keys.context.decryptors(setup_of(plan, number), range(4))
        assert len(asked) == plan.threshold
        run = partial(secagg.simulate, plan, inputs, session=SESSION, round=number, keys=keys)
        if 2 in asked:
            with pytest.raises(ThresholdError):
                run(dropouts={2: "decrypt"})
        else:
            assert run(dropouts={2: "decrypt"}).vector.tolist() == [6, 4, 36]


def test_the_bytes_of_a_round_are_those_planned() -> None:
    codec = secagg.Encoding(dimension=300, clip=1.0, bits=16, clients=5)
    for server in ("semi-honest", "malicious"):
        plan = secagg.plan(codec, masking="threshold", corrupted=0.0, server=server)
        trace = secagg.Trace()
        secagg.simulate(plan, lambda _: codec.encode(np.zeros(300)), observers=[trace])
        for step in cost_of(plan).steps:
            assert trace.bytes[step.step, "up"] == pytest.approx(5 * step.bytes_up)
            assert trace.bytes[step.step, "down"] == pytest.approx(5 * step.bytes_down)


def test_what_no_threshold_key_can_carry_is_not_planned() -> None:
    for changes, says in (
        ({"clients": 101}, "100"),
        ({"key_agreement": "x25519+ml-kem-768"}, "X25519"),
    ):
        shape: dict[str, Any] = {"clients": 6} | changes
        codec = secagg.Counts(dimension=3, maximum=9, clients=shape.pop("clients"))
        with pytest.raises(PlanError, match=says):
            secagg.plan(codec, masking="threshold", **shape)
    codec = secagg.Counts(dimension=3, maximum=9, clients=6)
    why = explain(secagg.plan(codec, masking="threshold"))
    assert "it serves 1000 rounds" in why["key"]
    assert "the round is lost" in why["failure"]
    assert "graph" not in why


def test_a_key_is_set_up_for_threshold_sums_only() -> None:
    setup = setup_of(Plan(clients=4, length=3, modulus_bits=12, threshold=3, degree=3), 0)
    with pytest.raises(PlanError, match="no key to set up"):
        Server(setup, key_setup=True)
    with pytest.raises(PlanError, match="no key to set up"):
        Client(setup, 0, lambda _: None, key_setup=True)
    keyed = setup_of(SEMI_HONEST, next(NUMBERS))
    with pytest.raises(PlanError, match="pass keys="):
        Client(keyed, 0, vectors(SEMI_HONEST)[0])
    with pytest.raises(PlanError, match="pass context="):
        Server(keyed)

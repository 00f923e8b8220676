"""Policies: every rule at its boundary, what a client remembers, and why nearly equal sums are refused."""

import hashlib
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import secagg
from secagg import Client, ClientId, Counts, DecodeError, Encoding, Journal, Plan, Rounds, Setup, ThresholdError
from secagg.errors import PolicyError
from secagg.history import History
from secagg.policy import Policy
from tests.secagg.rig import Pinned, Rig, identity_of, make_plan

CODEC = Encoding(dimension=3, clip=1.0, bits=16, clients=10, max_weight=50)
SESSION = bytes(range(16))
MODELS = [b"", bytes(32), bytes([1]) * 32]


def a_plan(*, codec: Any = CODEC, server: Any = "malicious", **changes: Any) -> Plan:
    """Ten clients, of whom one may drop out and two may be corrupted."""
    fields: dict[str, Any] = {
        "clients": 10,
        "length": codec.length,
        "modulus_bits": codec.modulus_bits,
        "threshold": 7,
        "degree": 9,
        "dropouts": 1,
        "corrupted": 2,
        "encoding": codec.digest,
        "server": server,
    }
    return Plan(**(fields | changes))


def a_setup(plan: Plan | None = None, *, number: int = 0, session: bytes = SESSION, model: bytes = b"") -> Setup:
    plan = plan or a_plan()
    members = {i: identity_of(i).public for i in range(plan.clients)}
    trusted = plan.server == "semi-honest"
    return Setup(
        plan=plan,
        roster=range(plan.clients) if trusted else Pinned(members),
        session=session,
        round=number,
        model=model,
        assume_honest_server=trusted,
    )


def refusal(call: Callable[[], Any]) -> tuple[str, Any, Any]:
    with pytest.raises(PolicyError) as caught:
        call()
    return caught.value.rule, caught.value.asked, caught.value.allowed


SEMI_HONEST = a_plan(server="semi-honest")
PLAIN = a_plan(server="semi-honest", masking="plain")
THREE = a_plan(clients=3, threshold=3, degree=2, dropouts=0, corrupted=0)
TWO = a_plan(clients=2, threshold=2, degree=1, dropouts=0, corrupted=0)
OPEN = Policy(require_identities=False)
COUNTS = Counts(dimension=2, maximum=9, clients=10)


CASES: list[tuple[Policy, Policy, Plan, tuple[str, Any, Any]]] = [
    (Policy(min_clients=10), Policy(min_clients=11), a_plan(), ("min_clients", 10, 11)),
    (Policy(min_threshold=7), Policy(min_threshold=8), a_plan(), ("min_threshold", 7, 8)),
    (Policy(min_survivors=10), Policy(min_survivors=11), a_plan(), ("min_survivors", 10, 11)),
    (Policy(min_honest=8), Policy(min_honest=9), a_plan(), ("min_honest", 8, 9)),
    (Policy(max_dropouts=0.1), Policy(max_dropouts=0.09), a_plan(), ("max_dropouts", 1, 0)),
    (Policy(max_dropouts=0.4), Policy(max_dropouts=0.3), a_plan(dropouts=4), ("max_dropouts", 4, 3)),
    (Policy(max_modulus_bits=20), Policy(max_modulus_bits=19), a_plan(), ("max_modulus_bits", 20, 19)),
    (Policy(clip=(1.0, 2.0)), Policy(clip=(1.1, 2.0)), a_plan(), ("clip", 1.0, (1.1, 2.0))),
    (Policy(clip=(0.5, 1)), Policy(clip=(0.5, 0.9)), a_plan(), ("clip", 1.0, (0.5, 0.9))),
    (Policy(bits=(16, 20)), Policy(bits=(17, 20)), a_plan(), ("bits", 16, (17, 20))),
    (Policy(bits=(8, 16)), Policy(bits=(8, 15)), a_plan(), ("bits", 16, (8, 15))),
    (Policy(max_weight=(50, 60)), Policy(max_weight=(51, 60)), a_plan(), ("max_weight", 50, (51, 60))),
    (Policy(max_weight=(1, 50)), Policy(max_weight=(1, 49)), a_plan(), ("max_weight", 50, (1, 49))),
    (OPEN, Policy(), SEMI_HONEST, ("require_identities", "semi-honest", "malicious")),
    (replace(OPEN, require_masking=False), OPEN, PLAIN, ("require_masking", "plain", "masking, lattice or threshold")),
    (
        Policy(plan_digest=a_plan().digest),
        Policy(plan_digest=a_plan(dropouts=2).digest),
        a_plan(),
        ("plan_digest", a_plan().digest, a_plan(dropouts=2).digest),
    ),
    (Policy(min_clients=2, min_threshold=2, min_survivors=2), Policy(), TWO, ("min_clients", 2, 3)),
    (
        Policy(min_clients=2, min_threshold=2, min_survivors=2),
        Policy(min_clients=2, min_survivors=2),
        TWO,
        ("min_threshold", 2, 3),
    ),
]


@pytest.mark.parametrize(("passes", "fails", "plan", "refused"), CASES)
def test_each_rule_holds_at_its_boundary(
    passes: Policy, fails: Policy, plan: Plan, refused: tuple[str, Any, Any]
) -> None:
    setup = a_setup(plan)
    passes.check(setup, CODEC)
    assert refusal(lambda: fails.check(setup, CODEC)) == refused


def test_every_field_of_a_policy_has_a_case() -> None:
    assert {refused[0] for _, _, _, refused in CASES} | {"min_difference"} == set(Policy.__dataclass_fields__)


def test_the_defaults_refuse_no_plan_made_against_a_malicious_server() -> None:
    for n in range(3, 80):
        codec = Counts(dimension=1, maximum=1, clients=n)
        for dropout in (0.0, 0.1, 0.3):
            try:
                plan = secagg.plan(codec, dropout=dropout, corrupted=0.1, server="malicious")
            except secagg.PlanError:
                continue
            setup = a_setup(plan)
            Policy().check(setup, codec)
            Policy().check_survivors(setup, frozenset(setup.roster[: plan.least_survivors]))


def test_the_defaults_refuse_a_sparse_graph_that_may_lose_more_than_a_third() -> None:
    few, many = (
        Plan(clients=30, length=1, modulus_bits=8, threshold=12, degree=20, dropouts=d, encoding=b"") for d in (10, 11)
    )
    OPEN.check(a_setup(few))
    assert refusal(lambda: OPEN.check(a_setup(many))) == ("max_dropouts", 11, 10)


def test_a_share_of_dropouts_is_not_rounded_against_the_client() -> None:
    plan = a_plan(clients=100, threshold=70, degree=99, dropouts=29)
    assert 0.29 * 100 < 29  # in floating point
    Policy(max_dropouts=0.29).check(a_setup(plan))


@pytest.mark.parametrize(
    ("plan", "refused"),
    [
        (a_plan(encoding=COUNTS.digest), ("encoding", COUNTS.digest, CODEC.digest)),
        (a_plan(encoding=b""), ("encoding", b"", CODEC.digest)),
        (a_plan(length=5), ("encoding_length", 5, 4)),
        (a_plan(modulus_bits=19), ("encoding_modulus_bits", 19, 20)),
        (a_plan(modulus_bits=21), ("encoding_modulus_bits", 21, 20)),
        (a_plan(clients=11, degree=10, threshold=8), ("encoding_clients", 11, 10)),
    ],
)
def test_the_plan_must_be_for_what_the_client_encodes_with(plan: Plan, refused: tuple[str, Any, Any]) -> None:
    Policy().check(a_setup(plan))
    Policy().check(a_setup(), CODEC)
    assert refusal(lambda: Policy().check(a_setup(plan), CODEC)) == refused


def test_fewer_clients_than_the_codec_holds_are_welcome() -> None:
    Policy().check(a_setup(THREE), CODEC)


def test_limits_on_an_encoding_need_one_and_do_not_concern_counts() -> None:
    strict = Policy(clip=(2.0, 3.0), max_weight=(1, 2))
    assert refusal(lambda: strict.check(a_setup())) == ("codec", None, "the client's own, for clip, max_weight")
    strict.check(a_setup(a_plan(codec=COUNTS)), COUNTS)


def test_a_floor_on_differences_needs_to_see_all_survivors() -> None:
    plan = make_plan(20, degree=6, dropouts=2)
    setup = Setup(plan=plan, roster=range(20), session=SESSION, round=0, assume_honest_server=True)
    policy = Policy(min_difference=3, require_identities=False)
    assert refusal(lambda: policy.check(setup, history=History())) == (
        "min_difference",
        "a sparse graph",
        "a complete graph",
    )


def test_a_client_asks_its_policy_before_it_begins_and_before_it_reveals() -> None:
    rig = Rig(make_plan(5, server="malicious", dropouts=1), round=3)
    identity, vector = rig.identities[0], rig.inputs[0]
    with pytest.raises(PolicyError) as caught:
        Client(rig.setup, 0, vector, identity=identity, policy=Policy(min_clients=6))
    assert (caught.value.rule, caught.value.asked, caught.value.allowed) == ("min_clients", 5, 6)
    begun = History().with_round(rig.setup)
    with pytest.raises(PolicyError) as caught:
        Client(rig.setup, 0, vector, identity=identity, policy=Policy(), history=begun)
    assert caught.value.rule == "round"
    strict = Policy(min_survivors=5, max_dropouts=0.9)
    client = Client(rig.setup, 0, vector, identity=identity, policy=strict, history=History())
    rig.clients[0] = client
    rig.run(until="consistency_check", drop={4: "masked_input"})
    requests = rig.ask("consistency_check")
    with pytest.raises(PolicyError) as caught:
        client.receive(requests[0])
    assert (caught.value.rule, caught.value.asked, caught.value.allowed) == ("min_survivors", 4, 5)
    for i in (1, 2, 3):
        rig.server.receive(i, rig.answer("consistency_check", i))
    with pytest.raises(ThresholdError):  # without its signature nobody reveals anything
        rig.server.close_round()


def test_a_client_says_what_to_remember_of_a_round() -> None:
    rig = Rig(make_plan(5, server="malicious", dropouts=1), round=3)
    policy = Policy(min_difference=2, max_dropouts=0.9)
    client = Client(rig.setup, 0, rig.inputs[0], identity=rig.identities[0], policy=policy, history=History())
    rig.clients[0] = client
    rig.run(drop={4: "masked_input"})
    assert client.history is not None
    remembered = History.from_bytes(client.history.to_bytes())
    again = Rig(make_plan(5, server="malicious", dropouts=1), round=4)
    again.clients[0] = Client(
        again.setup, 0, again.inputs[0], identity=again.identities[0], policy=policy, history=remembered
    )
    again.run(until="consistency_check")  # now client 4 is there: the two sums would differ by its vector alone
    with pytest.raises(PolicyError) as caught:
        again.clients[0].receive(again.ask("consistency_check")[0])
    assert (caught.value.rule, caught.value.asked, caught.value.allowed) == ("min_difference", 1, 2)


@pytest.mark.parametrize(
    ("settings", "survivors", "refused"),
    [
        ({"min_survivors": 7}, 6, ("min_survivors", 6, 7)),
        ({"min_honest": 5}, 6, ("min_honest", 4, 5)),
        ({"max_dropouts": 0.3}, 6, ("max_dropouts", 4, 3)),
        ({}, 6, ("max_dropouts", 4, 3)),
        ({"max_dropouts": 0.9}, 3, ("min_honest", 1, 2)),
        ({"max_dropouts": 0.9, "min_honest": 1}, 2, ("min_survivors", 2, 3)),
    ],
)
def test_a_sum_over_too_few_is_refused(settings: dict[str, Any], survivors: int, refused: tuple[str, Any, Any]) -> None:
    strict, setup = Policy(**settings), a_setup()
    strict.check_survivors(setup, frozenset(range(survivors + 1)))
    assert refusal(lambda: strict.check_survivors(setup, frozenset(range(survivors)))) == refused


def test_strangers_do_not_count_as_survivors() -> None:
    survivors: frozenset[ClientId] = frozenset((0, 1, 2, 3, 4, 5, 6, 10, "x"))
    assert refusal(lambda: Policy().check_survivors(a_setup(), survivors)) == ("survivors_in_roster", 2, 0)


def test_round_numbers_only_rise_within_a_session() -> None:
    before = History()
    Policy().check(a_setup(number=5), history=before)
    history = before.with_round(a_setup(number=5))
    assert before == History()
    for number in (0, 4, 5):
        assert refusal(lambda n=number: Policy().check(a_setup(number=n), history=history)) == ("round", number, 6)  # type: ignore[misc]
        assert refusal(lambda n=number: history.with_round(a_setup(number=n))) == ("round", number, 6)  # type: ignore[misc]
    Policy().check(a_setup(number=6), history=history)
    Policy().check(a_setup(number=0, session=bytes(16)), history=history)
    Policy().check(a_setup(number=5))


def test_a_round_of_another_session_leaves_what_is_known_of_this_one() -> None:
    history = History().with_round(a_setup(number=5)).with_round(a_setup(number=2, session=bytes(16)))
    assert dict(history.rounds) == {SESSION: 5, bytes(16): 2}


def test_two_sums_that_differ_in_one_client_give_its_vector_and_the_floor_refuses_the_second() -> None:
    codec = Counts(dimension=4, maximum=1_000, clients=5)
    plan = secagg.plan(codec, dropout=0.2)
    rng = np.random.default_rng(3)
    vectors = {name: rng.integers(0, 1_000, 4) for name in "abcde"}
    inputs = {name: codec.encode(vector) for name, vector in vectors.items()}
    everyone, without_e = secagg.simulate(plan, inputs), secagg.simulate(plan, inputs, dropouts={"e": "masked_input"})
    assert (codec.decode(everyone) - codec.decode(without_e)).tolist() == vectors["e"].tolist()

    first, second = (
        Setup(plan=plan, roster="abcde", session=SESSION, round=n, model=MODELS[1], assume_honest_server=True)
        for n in (0, 1)
    )
    careful = Policy(require_identities=False, min_difference=2)
    careful.check_survivors(first, frozenset(everyone.survivors), History())
    history = History().with_survivors(first, frozenset(everyone.survivors))
    survivors = frozenset(without_e.survivors)
    assert refusal(lambda: careful.check_survivors(second, survivors, history)) == ("min_difference", 1, 2)
    OPEN.check_survivors(second, survivors, history)  # opt-in


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        (range(10), range(1, 10), 1),
        (range(10), range(2, 10), 2),
        (range(10), range(3, 10), 3),
        (range(9), range(1, 10), 2),
        (range(1, 9), range(2, 10), 2),
        (range(8), range(2, 10), 4),
    ],
)
def test_the_difference_counts_clients_in_one_set_and_not_in_the_other(
    first: range, second: range, difference: int
) -> None:
    setup = a_setup(model=MODELS[1])
    for one, other in ((first, second), (second, first)):
        history = History().with_survivors(setup, frozenset(one))
        if difference > 1:
            Policy(min_difference=difference).check_survivors(setup, frozenset(other), history)
        strict = Policy(min_difference=difference + 1)
        refused = refusal(lambda s=strict, o=other, h=history: s.check_survivors(setup, frozenset(o), h))  # type: ignore[misc]
        assert refused == ("min_difference", difference, difference + 1)
        Policy(min_difference=10).check_survivors(setup, frozenset(one), history)  # the very same set


def test_every_remembered_sum_of_the_model_is_compared_and_none_of_another() -> None:
    strict = Policy(min_difference=3)
    one, other, unnamed = (a_setup(model=model) for model in (MODELS[1], MODELS[2], b""))
    sets = [frozenset(range(10)), frozenset(range(3, 10))]
    history = History()
    for survivors in sets:
        strict.check_survivors(one, survivors, history)
        history = history.with_survivors(one, survivors)
    assert history.survivor_sets[MODELS[1]] == set(sets)
    for close in (frozenset(range(1, 10)), frozenset(range(2, 10))):
        for setup in (other, unnamed):
            strict.check_survivors(setup, close, history)
        assert refusal(lambda c=close: strict.check_survivors(one, c, history)) == ("min_difference", 1, 3)  # type: ignore[misc]
    later = a_setup(number=8, session=bytes(16), model=MODELS[1])
    assert refusal(lambda: strict.check_survivors(later, frozenset(range(9)), history)) == ("min_difference", 1, 3)


def test_rounds_that_name_no_model_count_as_one_model() -> None:
    history = History().with_survivors(a_setup(), frozenset(range(10)))
    later = a_setup(number=1)
    assert refusal(lambda: Policy(min_difference=2).check_survivors(later, frozenset(range(9)), history)) == (
        "min_difference",
        1,
        2,
    )


def test_the_floor_needs_a_memory() -> None:
    strict = Policy(min_difference=2)
    strict.check(a_setup(), history=History())
    refused = ("history", None, "a History, for min_difference")
    assert refusal(lambda: strict.check(a_setup())) == refused
    assert refusal(lambda: strict.check_survivors(a_setup(), frozenset(range(10)))) == refused


def test_a_full_history_refuses_and_does_not_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = a_setup(model=MODELS[1])
    history = History().with_round(begun).with_survivors(begun, frozenset(range(10)))
    size = len(history.to_bytes())
    monkeypatch.setattr("secagg.history.MAX_HISTORY", size)
    again, elsewhere = a_setup(number=1, model=MODELS[1]), a_setup(session=bytes(16))
    Policy(min_difference=2).check(again, history=history)
    Policy(min_difference=2).check_survivors(again, frozenset(range(10)), history)
    assert history.with_survivors(again, frozenset(range(10))) == history
    for call in (
        lambda: Policy().check(elsewhere, history=history),
        lambda: history.with_round(elsewhere),
        lambda: Policy(min_difference=2).check_survivors(again, frozenset(range(8)), history),
        lambda: history.with_survivors(again, frozenset(range(8))),
    ):
        rule, asked, allowed = refusal(call)
        assert (rule, allowed) == ("history_bytes", size)
        assert asked > size
    Policy().check_survivors(again, frozenset(range(8)), history)  # nothing has to be remembered for it
    assert replace(history, survivor_sets={}).with_round(elsewhere).rounds[bytes(16)] == 0
    assert History.from_bytes(history.to_bytes()) == history
    monkeypatch.setattr("secagg.history.MAX_HISTORY", size - 1)
    with pytest.raises(DecodeError, match=f"at most {size - 1} bytes, got {size}"):
        History.from_bytes(bytes(size))


def test_a_history_cannot_be_changed_in_place() -> None:
    rounds = {SESSION: 3}
    history = History(rounds=rounds)
    rounds[SESSION] = 0
    assert history.rounds[SESSION] == 3
    with pytest.raises(FrozenInstanceError):
        history.rounds = {}  # type: ignore[misc]
    with pytest.raises(TypeError):
        history.rounds[SESSION] = 0  # type: ignore[index]


IDS = st.one_of(st.integers(0, (1 << 64) - 1), st.text(min_size=1, max_size=8))
HISTORIES = st.builds(
    History,
    rounds=st.dictionaries(st.binary(min_size=16, max_size=64), st.integers(0, (1 << 63) - 1), max_size=4),
    survivor_sets=st.dictionaries(
        st.one_of(st.just(b""), st.binary(min_size=32, max_size=32)),
        st.frozensets(st.frozensets(IDS, max_size=4), min_size=1, max_size=3),
        max_size=3,
    ),
)


@given(HISTORIES)
def test_histories_survive_storage(history: History) -> None:
    stored = history.to_bytes()
    assert History.from_bytes(stored) == history
    assert History.from_bytes(stored).to_bytes() == stored


def test_ids_are_stored_in_the_order_of_a_roster() -> None:
    survivors: frozenset[ClientId] = frozenset((10, "a", "9", 9))
    history = History().with_survivors(a_setup(), survivors)
    assert history.to_bytes() == undamaged([[], [[b"", [[9, 10, "9", "a"]]]]])


def test_equal_histories_are_stored_alike_in_whatever_order_they_grew() -> None:
    steps: list[tuple[bytes, frozenset[ClientId]]] = [
        (MODELS[1], frozenset((9, "b", 10, "a"))),
        (b"", frozenset((2, 1))),
        (MODELS[1], frozenset((3,))),
    ]
    one = two = History()
    for model, survivors in steps:
        one = one.with_survivors(a_setup(model=model), survivors)
    for model, survivors in reversed(steps):
        two = two.with_survivors(a_setup(model=model), survivors)
    assert one.to_bytes() == two.to_bytes()


@given(HISTORIES, st.data())
def test_mutated_histories_are_refused(history: History, data: st.DataObject) -> None:
    stored = bytearray(history.to_bytes())
    where = data.draw(st.integers(0, len(stored) - 1))
    stored[where] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DecodeError):
        History.from_bytes(bytes(stored))
    with pytest.raises(DecodeError):
        History.from_bytes(history.to_bytes()[:where])
    with pytest.raises(DecodeError):
        History.from_bytes(history.to_bytes() + bytes(1))


def undamaged(content: Any) -> bytes:
    body = b"secagg/v1/history\0" + (content if isinstance(content, bytes) else msgspec.msgpack.encode(content))
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    "content",
    [
        [[]],
        [[], [], []],
        {},
        b"",
        b"\x92\x90\x90\x00",
        b"\xdc\x00\x02\x90\x90",
        [[[bytes(15), 0]], []],
        [[[bytes(65), 0]], []],
        [[[bytes(16), -1]], []],
        [[[bytes(16), 1 << 63]], []],
        [[[bytes(16), True]], []],
        [[["0" * 16, 1]], []],
        [[[bytes(16), 1, 1]], []],
        [[[bytes(16), 1], [bytes(16), 2]], []],
        [[[b"b" * 16, 1], [b"a" * 16, 1]], []],
        [[], [[bytes(33), [[1]]]]],
        [[], [[b"", [[2, 1]]]]],
        [[], [[b"", [["a", 1]]]]],
        [[], [[b"", [[1, 1]]]]],
        [[], [[b"", [[1], [1]]]]],
        [[], [[b"", [[2], [1]]]]],
        [[], [[b"", [[-1]]]]],
        [[], [[b"", [[1.0]]]]],
        [[], [[b"", [[""]]]]],
        [[], [[b"", [["x" * 257]]]]],
    ],
)
def test_stored_histories_have_one_spelling(content: Any) -> None:
    assert History.from_bytes(undamaged([[[bytes(16), 1]], [[b"", [[1, "a"]]]]])).rounds == {bytes(16): 1}
    with pytest.raises(DecodeError):
        History.from_bytes(undamaged(content))


def test_histories_of_another_version_and_of_other_types_are_refused() -> None:
    body = b"secagg/v2/history\0" + msgspec.msgpack.encode([[], []])
    with pytest.raises(DecodeError, match="not a stored history of this version"):
        History.from_bytes(body + hashlib.sha256(body).digest())
    with pytest.raises(TypeError, match="bytes, got bytearray"):
        History.from_bytes(bytearray(History().to_bytes()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"min_clients": 0}, ValueError, "min_clients must be at least 1, got 0"),
        ({"min_clients": 3.0}, TypeError, r"min_clients must be an integer, got 3\.0"),
        ({"min_threshold": True}, TypeError, "min_threshold must be an integer"),
        ({"min_survivors": -1}, ValueError, "min_survivors must be at least 1"),
        ({"min_honest": "2"}, TypeError, "min_honest must be an integer"),
        ({"max_modulus_bits": 0}, ValueError, "max_modulus_bits must be at least 1"),
        ({"max_modulus_bits": None}, TypeError, "max_modulus_bits must be an integer"),
        ({"min_difference": 1}, ValueError, "min_difference must be at least 2, got 1"),
        ({"max_dropouts": 1.0}, ValueError, r"max_dropouts is a share of the roster, in \[0, 1\), got 1\.0"),
        ({"max_dropouts": -0.1}, ValueError, "max_dropouts is a share"),
        ({"max_dropouts": float("nan")}, ValueError, "max_dropouts is a share"),
        ({"max_dropouts": True}, TypeError, "max_dropouts must be a number"),
        ({"clip": 1.0}, TypeError, r"clip must be a pair \(least, most\), got 1\.0"),
        ({"clip": (1.0,)}, TypeError, "clip must be a pair"),
        ({"clip": (2.0, 1.0)}, ValueError, r"clip must be a range .* got \(2\.0, 1\.0\)"),
        ({"clip": (0.0, float("nan"))}, ValueError, "clip must be a range"),
        ({"bits": ("a", 3)}, TypeError, "bits must be a number, got 'a'"),
        ({"max_weight": [1, 2]}, TypeError, "max_weight must be a pair"),
        ({"require_masking": 0}, TypeError, "require_masking must be True or False, got 0"),
        ({"require_identities": "no"}, TypeError, "require_identities must be True or False"),
        ({"plan_digest": "ab"}, TypeError, "plan_digest is bytes, got str"),
        ({"plan_digest": bytes(31)}, ValueError, "plan_digest is the 32 bytes of Plan.digest, got 31"),
    ],
)
def test_policies_that_make_no_sense_are_refused(settings: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Policy(**settings)


def test_refusals_say_rule_asked_and_allowed() -> None:
    with pytest.raises(PolicyError) as caught:
        Policy(plan_digest=bytes(32)).check(a_setup())
    digest = a_plan().digest.hex()
    assert str(caught.value) == f"refused by this client's policy, plan_digest: asked {digest}, allowed {'00' * 32}"


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def ranges(least: int, most: int) -> st.SearchStrategy[Any]:
    return optional(st.tuples(st.integers(least, most), st.integers(least, most)).map(lambda p: (min(p), max(p))))


def least(low: int, high: int) -> st.SearchStrategy[tuple[Any, Any]]:
    """A bound from below, and a looser one."""
    return st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda p: (max(p), min(p)))


def wider(limits: tuple[Any, Any] | None, by: tuple[int, int] | None) -> tuple[Any, Any] | None:
    return None if limits is None or by is None else (limits[0] - by[0], limits[1] + by[1])


def loosened(name: str) -> st.SearchStrategy[tuple[Any, Any]]:
    """A strict value of a field and one at least as loose, around what the setups below ask for."""
    bound = {"min_clients": (8, 12), "min_threshold": (5, 9), "min_survivors": (5, 11), "min_honest": (4, 10)}
    if name in bound:
        return least(*bound[name])
    if name == "max_modulus_bits":
        return least(18, 22).map(lambda p: (p[1], p[0]))
    if name == "max_dropouts":
        return st.tuples(st.floats(0, 0.95), st.floats(0, 0.95)).map(lambda p: (min(p), max(p)))
    if name == "min_difference":
        return least(2, 6) | least(2, 6).map(lambda p: (p[0], None)) | st.just((None, None))
    if name in {"clip", "bits", "max_weight"}:
        around = {"clip": (0, 2), "bits": (15, 17), "max_weight": (48, 52)}[name]
        steps = optional(st.tuples(st.integers(0, 3), st.integers(0, 3)))
        return st.tuples(ranges(*around), steps).map(lambda p: (p[0], wider(*p)))
    if name == "plan_digest":
        return st.sampled_from([(a_plan().digest, None), (a_plan().digest,) * 2, (bytes(32), None), (None, None)])
    return st.sampled_from([(True, True), (True, False), (False, False)])


LOOSE: dict[str, Any] = {
    "min_clients": 1,
    "min_threshold": 1,
    "min_survivors": 1,
    "min_honest": 1,
    "max_dropouts": 0.9,
    "require_masking": False,
    "require_identities": False,
}
SETUPS = [a_setup(), a_setup(SEMI_HONEST), a_setup(PLAIN), a_setup(a_plan(dropouts=3), model=MODELS[1], number=1)]
PAST = st.frozensets(st.integers(0, 9), min_size=3)


def accepts(wish: Policy, setup: Setup, codec: Any, survivors: frozenset[Any], history: History | None) -> set[str]:
    """Which of the two checks pass."""
    passed = set()
    calls: dict[str, Callable[[], None]] = {
        "check": lambda: wish.check(setup, codec, history=history),
        "check_survivors": lambda: wish.check_survivors(setup, survivors, history),
    }
    for name, call in calls.items():
        try:
            call()
        except PolicyError:
            continue
        passed.add(name)
    return passed


@pytest.mark.parametrize("field", sorted(Policy.__dataclass_fields__))
@given(data=st.data())
def test_a_loosened_policy_never_refuses_what_the_stricter_accepted(field: str, data: st.DataObject) -> None:
    setup = data.draw(st.sampled_from(SETUPS))
    codec = data.draw(st.sampled_from([CODEC, None, COUNTS]))
    survivors = data.draw(PAST)
    others = data.draw(st.lists(st.sampled_from(sorted(Policy.__dataclass_fields__)), unique=True, max_size=2))
    pairs = {name: data.draw(loosened(name)) for name in sorted({field, *others})}
    history = None if data.draw(st.booleans()) else History()
    for earlier in data.draw(st.lists(PAST, max_size=2)):
        history = history and history.with_survivors(setup, earlier)
    strict = LOOSE | {name: pair[0] for name, pair in pairs.items()}
    accepted = accepts(Policy(**strict), setup, codec, survivors, history)
    for changed in ({field}, set(pairs)):
        looser = Policy(**(strict | {name: pairs[name][1] for name in changed}))
        assert accepts(looser, setup, codec, survivors, history) >= accepted


def test_resuming_takes_the_newest_history_and_forgets_nothing(tmp_path: Path) -> None:
    policy = Policy(min_difference=2, max_dropouts=0.9)
    plan = make_plan(5, server="malicious", dropouts=1)

    def client_of(rig: Rig, history: History, journal: Journal) -> Client:
        return Client(
            rig.setup, 0, rig.inputs[0], identity=rig.identities[0], policy=policy, history=history, journal=journal
        )

    rounds = Rounds(tmp_path / "rounds")
    rig = Rig(plan, round=3)
    with Journal(tmp_path / "3", rounds=rounds) as journal:
        rig.clients[0] = client_of(rig, History(), journal)
        rig.run(drop={4: "masked_input"})
        newest = rig.clients[0].history
    assert newest is not None
    assert newest.survivor_sets == {b"": {frozenset({0, 1, 2, 3})}}
    with Journal(tmp_path / "3", rounds=rounds) as journal:
        resumed = client_of(rig, newest, journal)
    assert resumed.done
    assert resumed.history == newest
    later = Rig(plan, round=4)
    with Journal(tmp_path / "4", rounds=rounds) as journal:
        client_of(later, newest, journal)
    with Journal(tmp_path / "4", rounds=rounds) as journal:  # crashed; goes on with what it knows by now
        later.clients[0] = client_of(later, newest.with_round(later.setup), journal)
        later.run(until="consistency_check")
        with pytest.raises(PolicyError) as caught:
            later.clients[0].receive(later.ask("consistency_check")[0])
    assert caught.value.rule == "min_difference"


def test_survivors_are_remembered_also_without_a_policy() -> None:
    rig = Rig(make_plan(5, server="malicious", dropouts=1), round=3)
    rig.clients[0] = Client(rig.setup, 0, rig.inputs[0], identity=rig.identities[0], history=History())
    rig.run(drop={4: "masked_input"})
    assert rig.clients[0].history is not None
    assert rig.clients[0].history.survivor_sets == {b"": {frozenset({0, 1, 2, 3})}}

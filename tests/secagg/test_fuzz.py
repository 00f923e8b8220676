"""Mutated messages: a short run of the fuzzer in every test run, and proof that it finds what it looks for."""

import re
from typing import Any

import pytest

from secagg import DecodeError, Plan
from secagg.encoding.packing import add_packed
from secagg.masking import bundles, server
from secagg.primitives.shamir import shares_from_bytes
from secagg.testing import fuzz, fuzz_sessions, fuzz_steps, scripted
from secagg.testing.frames import Frame, cut_frame
from secagg.testing.fuzz_steps import FuzzError, Tally, lanes
from secagg.testing.mutations import Dice, Target, damaged, lie
from secagg.testing.scripted import Script, play
from secagg.transitions import protocol_of, steps_of
from secagg.wire import decode, encode, kind_of


def test_no_mutated_message_gets_an_error_outside_the_tree_unbounded_memory_or_a_changed_state() -> None:
    tally = fuzz.fuzz(fuzz.Job(messages=20_000, seed=3))
    assert tally.messages >= 20_000
    assert sum(tally.refused.values()) > 10_000
    assert sum(tally.accepted.values()) > 500  # lies do get through to the steps behind
    assert 0 < tally.peak < 1 << 17
    kinds = {error for _, error in tally.refused}
    assert kinds >= {"FaultyClientError", "FaultyServerError", "SuspectedPeerError", "ThresholdError", "VersionError"}


def test_every_step_of_every_protocol_has_lanes_on_both_sides() -> None:
    found = {tuple(lane.name.split("/")[:3]) for lane in lanes()}
    for name, plan, _ in fuzz_steps.ROUNDS:
        for step in steps_of(plan.masking, plan.server):
            assert {(name, "client", step), (name, "server", step)} <= found
    protocols = {(plan.masking, plan.server) for _, plan, _ in fuzz_steps.ROUNDS}
    assert {model for masking, model in protocols if masking == "masking"} == {"semi-honest", "malicious"}
    assert {masking for masking, _ in protocols} == {"masking", "lattice", "plain"}


def lane(name: str) -> fuzz_steps.Lane:
    return {each.name: each for each in lanes()}[name]


def test_an_error_outside_the_tree_is_found_with_a_reproduction(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = shares_from_bytes

    def careless(data: bytes) -> Any:
        try:
            return genuine(data)
        except DecodeError as error:
            raise IndexError from error

    monkeypatch.setattr(bundles, "shares_from_bytes", careless)
    with pytest.raises(FuzzError, match=r"IndexError") as found:
        lane("malicious/client/masked_input/1").run(Dice(0), Tally(), messages=2_000)
    name, data = re.findall(r"reproduce\('(.+)', bytes.fromhex\('(.+)'\)\)", str(found.value))[0]
    with pytest.raises(FuzzError, match="IndexError"):
        fuzz_steps.reproduce(name, bytes.fromhex(data))
    monkeypatch.undo()
    assert fuzz_steps.reproduce(name, bytes.fromhex(data)).refused == {(name, "SuspectedPeerError"): 1}


def test_a_state_that_a_refused_message_changed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = add_packed

    def hasty(data: Any, bits: int, accumulator: Any) -> None:
        accumulator += 1
        genuine(data, bits, accumulator)
        accumulator -= 1

    monkeypatch.setattr(server, "add_packed", hasty)
    each = lane("malicious/server/masked_input/1")
    with pytest.raises(FuzzError, match=r"changed the state|went wrong"):
        each.run(Dice(1), Tally(), messages=200)


def test_memory_beyond_the_bound_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wasteful(data: bytes) -> int:
        bytes(1 << 20)
        return kind_of(data)

    each = lane("complete/server/share_keys/0")
    monkeypatch.setattr(scripted, "kind_of", wasteful)
    with pytest.raises(FuzzError, match="bytes of memory"):
        each.run(Dice(0), Tally(), messages=5, traced=True)


def test_accepted_damage_is_found_in_steps_and_in_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    each = lane("complete/client/unmask/0")
    each.send(each.target.genuine, Tally(), must_fail=False, follow=True)
    with pytest.raises(FuzzError, match="damage was accepted"):
        each.send(each.target.genuine, Tally(), must_fail=True, follow=False)
    monkeypatch.setattr(fuzz_sessions, "damaged", lambda target, _: target.genuine)
    with pytest.raises(FuzzError, match="damage was accepted"):
        fuzz_sessions.fuzz_sessions(messages=1, seed=0)


def test_the_same_seed_sends_the_same_messages() -> None:
    target = lane("malicious/client/share_keys/0").target
    runs = [[spoil(target, dice) for spoil in (damaged, lie) * 50] for dice in (Dice(5), Dice(5))]
    assert [bytes(a) if isinstance(a, memoryview) else a for a in runs[0]] == [
        bytes(b) if isinstance(b, memoryview) else b for b in runs[1]
    ]


def test_hand_made_frames_are_those_of_the_library() -> None:
    transcript = play(Script(plan=Plan(clients=4, length=5, modulus_bits=12, threshold=3, degree=3)))
    for visits in transcript.clients.values():
        frame = cut_frame(visits[0].request)
        assert frame.to_bytes() == visits[0].request
    masked = transcript.server["masked_input"].inbox[0]
    frame = cut_frame(masked, tail=8)
    assert len(frame.tail) == 8
    assert frame.to_bytes() == masked
    kind = protocol_of("masking").server[server.ServerState3].collects
    assert kind is not None
    assert encode(decode(kind, masked, transcript.setup), transcript.setup) == masked
    assert Frame(1, 6, frame.context, frame.payload, frame.tail) == frame


def test_the_command_says_what_it_saw(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert fuzz.main(["--messages", "400", "--processes", "1"]) == 0
    assert "genuine rounds unharmed" in capsys.readouterr().out
    monkeypatch.setattr(fuzz_sessions, "damaged", lambda target, _: Target(target.genuine).genuine)
    assert fuzz.main(["--messages", "400", "--processes", "1"]) == 1
    assert "damage was accepted" in capsys.readouterr().err

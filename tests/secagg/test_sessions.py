"""Session objects under a careless caller: one call at a time, no copies, nothing half done goes on."""

import copy
import threading
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.pretty

import secagg
from secagg import (
    Client,
    Counts,
    DecodeError,
    Encoding,
    EncodingError,
    FaultyClientError,
    FaultyServerError,
    LocalProtocolError,
    PlanError,
    RemoteProtocolError,
    SecAggError,
    SuspectedPeerError,
    ThresholdError,
    VersionError,
    simulate,
)
from secagg.encoding.packing import Words
from secagg.errors import PolicyError
from secagg.masking import server, unmasking
from secagg.masking.messages import ShareKeys, UnmaskShares
from secagg.transitions import diagrams, protocol_of
from secagg.wire import decode, encode
from tests.secagg.rig import Rig, make_plan

ERRORS: list[SecAggError] = [
    SecAggError("a"),
    DecodeError("a"),
    EncodingError("a"),
    PlanError("a"),
    PolicyError(rule="min_clients", asked=2, allowed=3),
    VersionError(ours=1, theirs=2),
    ThresholdError(needed=3, survivors=2, what="clients"),
    LocalProtocolError("a", round="unmask"),
    *(
        kind("a", round="unmask", culprits=[1, "va"])
        for kind in (RemoteProtocolError, FaultyClientError, FaultyServerError, SuspectedPeerError)
    ),
]


def sent_to_another_process(value: Any) -> Any:
    here, there = Pipe()
    with here, there:
        here.send(value)
        return there.recv()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, sent_to_another_process])
def test_errors_cross_process_borders_whole(error: SecAggError, way: Callable[[Any], Any]) -> None:
    back = way(error)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, sent_to_another_process])
def test_sessions_refuse_to_be_copied(way: Callable[[Any], Any]) -> None:
    rig = Rig(make_plan(4))
    for session in (rig.server, rig.clients[0]):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            way(session)


def test_a_forked_process_may_not_go_on_with_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(make_plan(4))
    request = rig.ask("advertise_keys")[0]
    monkeypatch.setattr("secagg.one_call.os.getpid", lambda: -1)
    with pytest.raises(LocalProtocolError, match="forked"):
        rig.clients[0].receive(request)
    with pytest.raises(LocalProtocolError, match="forked"):
        rig.server.close_round()
    monkeypatch.undo()
    rig.clients[0].receive(request)


def waiting_client(rig: Rig) -> tuple[Client, threading.Event, threading.Event]:
    """A client whose contribution waits until it is let go."""
    started, go = threading.Event(), threading.Event()

    def contribution() -> Words:
        started.set()
        assert go.wait(30)
        vector: Words = rig.inputs[0]
        return vector

    return Client(rig.setup, 0, contribution), started, go


def test_a_client_that_is_asked_twice_at_once_answers_once() -> None:
    rig = Rig(make_plan(4))
    client, started, go = waiting_client(rig)
    rig.clients[0] = client
    rig.run(until="masked_input")
    request = rig.ask("masked_input")[0]
    answers: list[bytes] = []
    worker = threading.Thread(target=lambda: answers.append(client.receive(request)))
    worker.start()
    assert started.wait(30)
    with pytest.raises(LocalProtocolError, match="still running"):
        client.receive(request)
    go.set()
    worker.join()
    started.clear()
    assert answers == [client.receive(request)]
    assert not started.is_set()  # the answer was remembered, not made again


def test_a_contribution_that_calls_its_own_client_is_refused() -> None:
    rig = Rig(make_plan(4))
    request: list[bytes] = []

    def reentrant() -> Words:
        rig.clients[0].receive(request[0])
        raise AssertionError

    rig.clients[0] = Client(rig.setup, 0, reentrant)
    rig.run(until="masked_input")
    request.append(rig.ask("masked_input")[0])
    with pytest.raises(LocalProtocolError, match="still running"):
        rig.answer("masked_input", 0)


def test_a_contribution_that_fails_can_be_asked_for_again() -> None:
    rig = Rig(make_plan(4))
    tries: Iterator[Any] = iter([OSError("the disk was away"), rig.inputs[0]])

    def contribution() -> Words:
        made = next(tries)
        if isinstance(made, OSError):
            raise made
        vector: Words = made
        return vector

    rig.clients[0] = Client(rig.setup, 0, contribution)
    rig.run(until="masked_input")
    rig.ask("masked_input")
    with pytest.raises(OSError, match="disk"):
        rig.answer("masked_input", 0)
    for i in range(4):
        rig.server.receive(i, rig.answer("masked_input", i))
    for i in rig.ask("unmask"):
        rig.server.receive(i, rig.answer("unmask", i))
    rig.server.close_round()
    assert rig.server.total().vector.tolist() == rig.expected(range(4))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("where", ["add_packed", "add_masks", "reduce"])
def test_work_interrupted_halfway_never_becomes_a_sum(
    monkeypatch: pytest.MonkeyPatch, where: str, interruption: type[BaseException]
) -> None:
    rig = Rig(make_plan(4))
    rig.run(until="masked_input")
    rig.ask("masked_input")
    answers = {i: rig.answer("masked_input", i) for i in range(4)}
    module = server if where == "add_packed" else unmasking
    real = getattr(module, where)

    def interrupted(*arguments: Any) -> None:
        real(*arguments)
        raise interruption

    if where == "add_packed":
        rig.server.receive(0, answers[0])
        monkeypatch.setattr(module, where, interrupted)
        with pytest.raises(interruption):
            rig.server.receive(1, answers[1])
        again: Callable[[], Any] = lambda: rig.server.receive(1, answers[1])  # noqa: E731 -- one line either way
    else:
        for i, answer in answers.items():
            rig.server.receive(i, answer)
        for i in rig.ask("unmask"):
            rig.server.receive(i, rig.answer("unmask", i))
        monkeypatch.setattr(module, where, interrupted)
        with pytest.raises(interruption):
            rig.server.close_round()
        again = rig.server.close_round
    monkeypatch.undo()
    with pytest.raises(LocalProtocolError, match="interrupted halfway"):
        again()
    with pytest.raises(LocalProtocolError):
        rig.server.total()


@pytest.mark.parametrize("owner", range(4))
def test_a_share_changed_by_one_is_noticed_before_a_wrong_mask_is_removed(owner: int) -> None:
    rig = Rig(make_plan(4, threshold=4))
    rig.run(until="unmask", drop={})
    rig.ask("unmask")
    for i in range(4):
        rig.answer("unmask", i)
    shares = bytearray(decode(UnmaskShares, rig.log["unmask", "up", 1], rig.setup).entries)
    shares[40 * owner] ^= 1
    for i in (0, 2, 3):
        rig.server.receive(i, rig.log["unmask", "up", i])
    rig.server.receive(1, encode(UnmaskShares(1, bytes(shares)), rig.setup))
    with pytest.raises(SuspectedPeerError, match=r"do not combine|another seed than was committed to") as caught:
        rig.server.close_round()
    assert 1 in caught.value.culprits
    with pytest.raises(LocalProtocolError, match="not ready"):
        rig.server.total()


def test_a_commitment_to_another_seed_is_noticed() -> None:
    rig = Rig(make_plan(4))
    rig.run(until="share_keys")
    rig.ask("share_keys")
    for i in range(4):
        answer = rig.answer("share_keys", i)
        if i == 2:
            sealed = decode(ShareKeys, answer, rig.setup).sealed
            answer = encode(ShareKeys(2, bytes(32), sealed, b"", b"", b"", b""), rig.setup)
        rig.server.receive(i, answer)
    for step in ("masked_input", "unmask"):
        for i in rig.ask(step):
            rig.server.receive(i, rig.answer(step, i))
    with pytest.raises(SuspectedPeerError, match="another seed than was committed to: 2 dealt"):
        rig.server.close_round()


@pytest.mark.parametrize("commitment", [b"", bytes(31), bytes(33)])
def test_a_commitment_of_the_wrong_length_is_blamed_on_the_client(commitment: bytes) -> None:
    rig = Rig(make_plan(4))
    rig.run(until="share_keys")
    rig.ask("share_keys")
    sealed = decode(ShareKeys, rig.answer("share_keys", 2), rig.setup).sealed
    with pytest.raises(FaultyClientError) as caught:
        rig.server.receive(2, encode(ShareKeys(2, commitment, sealed, b"", b"", b"", b""), rig.setup))
    assert caught.value.culprits == (2,)


def test_vectors_and_totals_of_another_encoding_are_refused() -> None:
    ours = Encoding(dimension=3, clip=1.0, bits=16, clients=3)
    wider = Encoding(dimension=3, clip=10.0, bits=16, clients=3)
    plan = secagg.plan(ours, corrupted=0.0, dropout=0.0)
    update = np.array([0.1, 0.2, 0.3])
    with pytest.raises(EncodingError, match="encoded for another plan"):
        simulate(plan, {i: wider.encode(update) for i in range(3)})
    total = simulate(plan, {i: ours.encode(update) for i in range(3)})
    assert np.abs(ours.decode(total) - update).max() < 1e-4
    with pytest.raises(EncodingError, match="another encoding"):
        wider.decode(total)
    counts = Counts(dimension=4, maximum=3, clients=3)
    with pytest.raises(EncodingError, match="another encoding"):
        counts.decode(total)
    with pytest.raises(ValueError, match="read-only"):
        total.vector[0] = 0


def test_rich_and_inspection_show_no_field_of_a_message() -> None:
    message = ShareKeys(1, b"\x07" * 32, b"\x08" * 96, b"", b"", b"", b"")
    assert rich.pretty.pretty_repr(message).count("\\x0") == 0
    assert "client=1" in rich.pretty.pretty_repr(message)


@pytest.mark.parametrize("masking", ["masking", "malicious", "plain"])
def test_each_state_leads_to_the_next_one_of_its_table(masking: str) -> None:
    plan = make_plan(4, server="malicious") if masking == "malicious" else make_plan(4, masking=masking)
    table = protocol_of(plan.masking, plan.server)
    rig = Rig(plan)
    client, server_states = [type(rig.clients[0]._state)], [type(rig.server._state)]
    for step in rig.steps:
        for i in rig.ask(step):
            rig.server.receive(i, rig.answer(step, i))
        client.append(type(rig.clients[0]._state))
        server_states.append(type(rig.server._state))
    rig.server.close_round()
    assert client == [*table.client, type(None)]
    assert server_states == list(table.server)


def test_the_diagrams_in_the_documentation_are_those_of_the_tables() -> None:
    page = (Path(secagg.__file__).parents[1] / "docs" / "sessions.md").read_text()
    assert page.endswith("\n\n" + diagrams() + "\n")


def test_a_delivered_answer_is_not_kept_and_its_request_is_refused() -> None:
    rig = Rig(make_plan(4))
    request = rig.ask("advertise_keys")[0]
    answer = rig.answer("advertise_keys", 0)
    assert rig.clients[0].receive(request) == answer
    rig.clients[0].delivered()
    assert rig.clients[0]._memory.answer == b""
    with pytest.raises(RemoteProtocolError, match="repeated"):
        rig.clients[0].receive(request)
    for i in range(1, 4):
        rig.server.receive(i, rig.answer("advertise_keys", i))
    rig.server.receive(0, answer)
    for step in rig.steps[1:]:
        for i in rig.ask(step):
            rig.server.receive(i, rig.answer(step, i))
    rig.server.close_round()
    assert rig.server.total().vector.tolist() == rig.expected(range(4))

"""Messages that are mutated, truncated, replayed or misdirected, in every step; and liars with well-formed frames."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import (
    Client,
    FaultyClientError,
    FaultyServerError,
    LocalProtocolError,
    RemoteProtocolError,
    SecAggError,
    Server,
    SuspectedPeerError,
    VersionError,
)
from secagg.masking.messages import (
    AdvertiseKeys,
    MaskedInput,
    PeerKeys,
    PeerShares,
    ShareKeys,
    Survivors,
    UnmaskShares,
)
from secagg.plain import Upload
from secagg.primitives.keys import KeyPair
from secagg.rounds import Invitation
from secagg.transitions import steps_of
from secagg.wire import Message, decode, encode
from tests.secagg.rig import Rig, make_plan

STEPS = steps_of("masking")
PLAN = make_plan(4)
DOWN: dict[str, type[Message]] = dict(zip(STEPS, (Invitation, PeerKeys, PeerShares, Survivors), strict=True))
UP: dict[str, type[Message]] = dict(zip(STEPS, (AdvertiseKeys, ShareKeys, MaskedInput, UnmaskShares), strict=True))

OLD = Rig(PLAN, round=0)
OLD.run()


@st.composite
def tampered(draw: st.DrawFn, genuine: bytes, log: dict[Any, bytes], key: tuple[str, str, int]) -> bytes:
    """Mutate, truncate, extend, replay from an earlier round, misdirect, or send another step's message."""
    step, direction, client = key
    kind = draw(st.sampled_from(["flip", "cut", "extend", "replay", "misdirect", "swap", "splice", "noise"]))
    if kind == "flip":
        bit = draw(st.integers(0, 8 * len(genuine) - 1))
        data = bytearray(genuine)
        data[bit // 8] ^= 1 << bit % 8
        return bytes(data)
    if kind == "cut":
        return genuine[: draw(st.integers(0, len(genuine) - 1))]
    if kind == "extend":
        return genuine + draw(st.binary(min_size=1, max_size=40))
    if kind == "replay":
        return OLD.log[draw(st.sampled_from(STEPS)), draw(st.sampled_from(["up", "down"])), client]
    if kind == "misdirect":
        return log.get((step, direction, (client + 1) % 4), b"")
    if kind == "swap":
        return draw(st.sampled_from([data for other, data in log.items() if other != key] or [b""]))
    if kind == "splice":
        start, end = sorted(draw(st.tuples(st.integers(0, len(genuine)), st.integers(0, len(genuine)))))
        return genuine[:start] + draw(st.binary(max_size=30)) + genuine[end:]
    return draw(st.binary(max_size=200))


@given(st.sampled_from(STEPS), st.sampled_from(["up", "down"]), st.data())
@settings(max_examples=400)
def test_a_tampered_message_is_a_typed_error_that_changes_nothing(
    step: str, direction: str, data: st.DataObject
) -> None:
    rig = Rig(PLAN, round=1)
    rig.run(until=step)
    requests = rig.ask(step)
    victim = 2
    answers = {i: rig.answer(step, i) for i in range(4) if i != victim or direction == "up"}
    for _ in range(3):
        if direction == "down":
            forged = data.draw(tampered(requests[victim], rig.log, (step, "down", victim)))
            if forged == requests[victim]:
                continue
            before = STEPS[STEPS.index(step) - 1]
            if forged == rig.log.get((before, "down", victim)):  # answered already: the same bytes, nothing new
                assert rig.clients[victim].receive(forged) == rig.log[before, "up", victim]
                continue
            with pytest.raises(SecAggError):
                rig.clients[victim].receive(forged)
        else:
            forged = data.draw(tampered(answers[victim], rig.log, (step, "up", victim)))
            if forged == answers[victim]:
                continue
            with pytest.raises(SecAggError):
                rig.server.receive(victim, forged)
    if direction == "down":
        answers[victim] = rig.answer(step, victim)
    for i, answer in answers.items():
        rig.server.receive(i, answer)
    for later in STEPS[STEPS.index(step) + 1 :]:
        for i in rig.ask(later):
            rig.server.receive(i, rig.answer(later, i))
    rig.server.close_round()
    assert rig.server.total().vector.tolist() == rig.expected(range(4))


@pytest.mark.parametrize("step", STEPS)
def test_repeated_requests_get_the_same_bytes_and_repeated_or_late_answers_are_refused(step: str) -> None:
    rig = Rig(PLAN, round=1)
    rig.run(until=step)
    rig.ask(step)
    first = rig.answer(step, 0)
    for _ in range(2):
        assert rig.clients[0].receive(rig.outbox[0]) == first
    with pytest.raises(
        (RemoteProtocolError, LocalProtocolError)
    ):  # another request for the same step: no answer at all
        rig.clients[0].receive(rig.outbox[0][:-1] + bytes([rig.outbox[0][-1] ^ 1]))
    rig.server.receive(0, first)
    with pytest.raises(RemoteProtocolError, match="already") as caught:
        rig.server.receive(0, first)
    assert caught.value.culprits == (0,)
    for i in (1, 2):
        rig.server.receive(i, rig.answer(step, i))
    late = rig.answer(step, 3)
    rig.server.close_round()
    with pytest.raises((RemoteProtocolError, LocalProtocolError)):
        rig.server.receive(3, late)


def test_a_dropped_client_cannot_come_back() -> None:
    rig = Rig(PLAN, round=1)
    rig.run(until="masked_input", drop={3: "share_keys"})
    assert 3 not in rig.ask("masked_input")
    with pytest.raises(RemoteProtocolError, match="dropped out"):
        rig.server.receive(3, rig.log["share_keys", "up", 0])


@pytest.mark.parametrize("what", ["session", "round", "plan", "roster"])
def test_an_invitation_to_something_else_says_what_differs(what: str) -> None:
    others = {
        "session": Rig(PLAN, round=1, session=bytes(16)),
        "round": Rig(PLAN, round=2),
        "plan": Rig(make_plan(4, threshold=4), round=1),
        "roster": Rig(PLAN, round=1, roster=[0, 1, 2, 9]),
    }
    rig = Rig(PLAN, round=1)
    with pytest.raises(FaultyServerError, match=f"another {what} ") as caught:
        rig.clients[0].receive(others[what].ask("advertise_keys")[0])
    assert caught.value.culprits == ("server",)


def test_another_version_is_reported_as_such_on_both_sides() -> None:
    rig = Rig(PLAN)
    request = rig.ask("advertise_keys")[0]
    with pytest.raises(VersionError):
        rig.clients[0].receive(b"\x07" + request[1:])
    answer = rig.answer("advertise_keys", 0)
    with pytest.raises(VersionError):
        rig.server.receive(0, b"\x07" + answer[1:])


def lie(rig: Rig, step: str, direction: str, client: int, **changes: Any) -> bytes:
    """Reframe a genuine message with other fields: the format is right, the content a lie."""
    kind = (DOWN if direction == "down" else UP)[step]
    message = decode(kind, rig.log[step, direction, client], rig.setup)
    fields = {name: changes.get(name, getattr(message, name)) for name in message.__struct_fields__}
    return encode(kind(**fields), rig.setup)


def at(step: str, **kwargs: Any) -> Rig:
    rig = Rig(PLAN, round=1, **kwargs)
    rig.run(until=step)
    rig.ask(step)
    return rig


LOW_ORDER = bytes(32)


@pytest.mark.parametrize(
    "changes",
    [
        {"sealing_key": LOW_ORDER},
        {"mask_key": LOW_ORDER},
        {"mask_key": b"short"},
        {"mask_key": b"\x09" + bytes(30) + b"\x80"},  # another encoding of the point 9
        {"sealing_key": b"\xf6" + 30 * b"\xff" + b"\x7f"},  # 2^255 - 10, which is 9 again
        {"sealing_key": bytes(33)},
    ],
)
def test_a_client_that_advertises_unusable_keys_is_blamed(changes: dict[str, bytes]) -> None:
    rig = at("advertise_keys")
    rig.answer("advertise_keys", 2)
    with pytest.raises(FaultyClientError) as caught:
        rig.server.receive(2, lie(rig, "advertise_keys", "up", 2, **changes))
    assert caught.value.culprits == (2,)


def test_clients_that_advertise_the_same_key_are_blamed() -> None:
    rig = at("advertise_keys")
    for i in range(4):
        rig.answer("advertise_keys", i)
    stolen = decode(AdvertiseKeys, rig.log["advertise_keys", "up", 1], rig.setup)
    for i in (0, 1, 2):
        rig.server.receive(i, rig.log["advertise_keys", "up", i])
    with pytest.raises(SuspectedPeerError, match="two clients advertised the same") as caught:
        rig.server.receive(3, lie(rig, "advertise_keys", "up", 3, mask_key=stolen.sealing_key))
    assert caught.value.culprits == (1, 3)
    rig.server.receive(3, rig.log["advertise_keys", "up", 3])  # nothing of the refused message was kept


def test_a_client_that_uses_one_key_for_both_purposes_is_blamed() -> None:
    rig = at("advertise_keys")
    for i in range(4):
        rig.answer("advertise_keys", i)
    both = decode(AdvertiseKeys, rig.log["advertise_keys", "up", 3], rig.setup).mask_key
    with pytest.raises(FaultyClientError, match="one key for sealing and for masks") as caught:
        rig.server.receive(3, lie(rig, "advertise_keys", "up", 3, sealing_key=both))
    assert caught.value.culprits == (3,)


def peer_keys(rig: Rig) -> bytes:
    return decode(PeerKeys, rig.outbox[2], rig.setup).keys


@pytest.mark.parametrize("case", ["repeated", "mine", "low order", "too many bits", "cut", "one less than present"])
def test_a_server_that_sends_unusable_keys_is_blamed(case: str) -> None:
    rig = at("share_keys")
    mine = decode(AdvertiseKeys, rig.log["advertise_keys", "up", 2], rig.setup)
    keys = peer_keys(rig)
    changes: dict[str, Any] = {
        "repeated": {"keys": keys[:64] + keys[:64] + keys[128:]},
        "mine": {"keys": mine.mask_key + keys[32:]},
        "low order": {"keys": LOW_ORDER + keys[32:]},
        "too many bits": {"present": b"\x17"},
        "cut": {"keys": keys[:-1]},
        "one less than present": {"keys": keys[:128]},
    }[case]
    with pytest.raises(FaultyServerError) as caught:
        rig.clients[2].receive(lie(rig, "share_keys", "down", 2, **changes))
    assert caught.value.culprits == ("server",)


def test_a_low_order_mask_key_is_refused_when_the_mask_is_agreed() -> None:
    # An honest server never hands one on; agreeing with it would give a mask that everybody knows.
    rig = at("masked_input")
    state = rig.clients[2]._state
    rig.clients[2]._state = replace(state, peers=state.peers | {0: replace(state.peers[0], mask_key=LOW_ORDER)})
    with pytest.raises(FaultyServerError, match="not a valid X25519 point"):
        rig.clients[2].receive(rig.outbox[2])


@pytest.mark.parametrize("present", [b"", b"\x07\x00"])
def test_a_bitmap_of_the_wrong_length_is_blamed_on_the_server(present: bytes) -> None:
    rig = at("unmask")
    with pytest.raises(FaultyServerError, match="bitmap"):
        rig.clients[2].receive(encode(Survivors(2, present), rig.setup))


def test_unused_bits_in_a_plain_upload_are_blamed_on_the_client() -> None:
    rig = Rig(make_plan(4, masking="plain", threshold=1))
    rig.ask("upload")
    vector = bytearray(decode(Upload, rig.answer("upload", 1), rig.setup).vector)
    vector[-1] |= 0x80
    with pytest.raises(FaultyClientError) as caught:
        rig.server.receive(1, encode(Upload(1, memoryview(bytes(vector))), rig.setup))
    assert caught.value.culprits == (1,)


def test_sealed_shares_that_the_server_reroutes_do_not_open() -> None:
    rig = at("masked_input")
    sealed = decode(PeerShares, rig.outbox[2], rig.setup).sealed
    swapped = sealed[96:192] + sealed[:96] + sealed[192:]
    with pytest.raises(SuspectedPeerError, match="does not open") as caught:
        rig.clients[2].receive(lie(rig, "masked_input", "down", 2, sealed=swapped))
    assert caught.value.culprits == (0,)
    foreign = decode(PeerShares, rig.outbox[1], rig.setup).sealed
    with pytest.raises(SuspectedPeerError):
        rig.clients[2].receive(lie(rig, "masked_input", "down", 2, sealed=foreign))


def test_shares_from_a_client_that_never_advertised_are_refused() -> None:
    rig = Rig(make_plan(7), round=1)
    rig.run(until="masked_input", drop={6: "advertise_keys"})
    rig.ask("masked_input")
    honest = decode(PeerShares, rig.outbox[2], rig.setup)
    forged = encode(PeerShares(2, b"\x3f", honest.sealed + bytes(96), b""), rig.setup)
    with pytest.raises(FaultyServerError, match="did not advertise"):
        rig.clients[2].receive(forged)


def test_survivors_that_never_shared_are_refused() -> None:
    rig = Rig(make_plan(7), round=1)
    rig.run(until="unmask", drop={6: "share_keys"})
    rig.ask("unmask")
    with pytest.raises(FaultyServerError, match="did not share"):
        rig.clients[2].receive(encode(Survivors(2, b"\x3f"), rig.setup))


@pytest.mark.parametrize("by", [-1, 1, -96, 96])
def test_a_client_that_seals_the_wrong_number_of_shares_is_blamed(by: int) -> None:
    rig = at("share_keys")
    rig.answer("share_keys", 1)
    sealed = (decode(ShareKeys, rig.log["share_keys", "up", 1], rig.setup).sealed + bytes(96))[: 3 * 96 + by]
    with pytest.raises(FaultyClientError) as caught:
        rig.server.receive(1, lie(rig, "share_keys", "up", 1, sealed=sealed))
    assert caught.value.culprits == (1,)


def test_unused_bits_in_a_masked_input_are_blamed_on_the_client() -> None:
    plan = make_plan(4, length=5)
    assert plan.modulus_bits * 5 % 8
    rig = at("masked_input")
    rig.answer("masked_input", 1)
    vector = bytearray(decode(MaskedInput, rig.log["masked_input", "up", 1], rig.setup).vector)
    vector[-1] |= 0x80
    with pytest.raises(FaultyClientError) as caught:
        rig.server.receive(1, encode(MaskedInput(1, memoryview(bytes(vector))), rig.setup))
    assert caught.value.culprits == (1,)


@pytest.mark.parametrize("case", ["short", "long", "outside the field"])
def test_a_client_that_reveals_malformed_shares_is_blamed(case: str) -> None:
    rig = at("unmask")
    rig.answer("unmask", 1)
    shares = decode(UnmaskShares, rig.log["unmask", "up", 1], rig.setup).entries
    forged = {"short": shares[:-40], "long": shares + bytes(40), "outside the field": b"\xff" * 8 + shares[8:]}[case]
    with pytest.raises(FaultyClientError) as caught:
        rig.server.receive(1, encode(UnmaskShares(1, forged), rig.setup))
    assert caught.value.culprits == (1,)


def test_shares_sent_in_the_wrong_order_are_noticed_when_secrets_are_rebuilt() -> None:
    rig = at("unmask")
    for i in range(4):
        rig.answer("unmask", i)
    shares = decode(UnmaskShares, rig.log["unmask", "up", 1], rig.setup).entries
    wrong = shares[40:] + shares[:40]
    for i in (0, 2, 3):
        rig.server.receive(i, rig.log["unmask", "up", i])
    rig.server.receive(1, encode(UnmaskShares(1, wrong), rig.setup))
    with pytest.raises(SuspectedPeerError) as caught:
        rig.server.close_round()
    assert 1 in caught.value.culprits


def test_a_dealer_whose_shared_mask_key_is_not_the_advertised_one_is_noticed() -> None:
    rig = at("share_keys")
    client = rig.clients[3]
    client._state = replace(client._state, mask=KeyPair.from_private(b"\x05" * 32))
    for i in range(4):
        rig.server.receive(i, rig.answer("share_keys", i))
    for i in rig.ask("masked_input"):
        if i != 3:
            rig.server.receive(i, rig.answer("masked_input", i))
    for i in rig.ask("unmask"):
        rig.server.receive(i, rig.answer("unmask", i))
    with pytest.raises(SuspectedPeerError, match="another mask key than was advertised: 3 dealt") as caught:
        rig.server.close_round()
    assert caught.value.culprits == (0, 1, 2, 3)  # or a holder framed the dealer: nobody can tell yet


def test_sessions_out_of_order_are_local_errors() -> None:
    rig = Rig(PLAN)
    with pytest.raises(LocalProtocolError, match="close_round"):
        rig.server.receive(0, b"")
    with pytest.raises(LocalProtocolError, match="not ready"):
        rig.server.total()
    with pytest.raises(KeyError):
        Client(rig.setup, 99, rig.inputs[0])
    rig.run()
    assert all(client.done for client in rig.clients.values())
    assert rig.clients[0].receive(rig.log["unmask", "down", 0]) == rig.log["unmask", "up", 0]
    with pytest.raises(LocalProtocolError, match="last message"):
        rig.clients[0].receive(rig.log["masked_input", "down", 0])
    with pytest.raises(LocalProtocolError, match="ready already"):
        rig.server.close_round()
    with pytest.raises(LocalProtocolError, match="no round is open"):
        rig.server.receive(0, rig.log["unmask", "up", 0])
    with pytest.raises(KeyError):
        Server(rig.setup).receive(99, b"")

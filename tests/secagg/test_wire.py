"""Frames: canonical, bounded, versioned; whatever else arrives is a typed error."""

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import DecodeError, SecAggError, Setup, VersionError
from secagg.masking.messages import AdvertiseKeys, MaskedInput, PeerKeys, PeerShares, ShareKeys, Survivors, UnmaskShares
from secagg.params import WIRE_VERSION
from secagg.plain import Upload
from secagg.rounds import Invitation
from secagg.wire import Message, _check, decode, encode, kind_of
from tests.secagg.rig import SESSION, make_plan

SETUP = Setup(plan=make_plan(5), roster=range(5), session=SESSION, round=1, assume_honest_server=True)
MESSAGES: list[Message] = [
    Invitation(3, SESSION, 1, SETUP.plan.digest, SETUP.roster_digest),
    AdvertiseKeys(3, bytes(32), b"\x01" * 32, b"", b""),
    PeerKeys(0, b"\x0f", bytes(4 * 64), b""),
    ShareKeys(4, b"\x02" * 32, bytes(4 * 96), b"", b"", b"", b""),
    PeerShares(2, b"\x03", bytes(2 * 96), b""),
    MaskedInput(1, memoryview(bytes(9))),
    Survivors(2, b"\x0b"),
    UnmaskShares(2, bytes(5 * 40)),
    Upload(0, memoryview(bytes(9))),
]


def reframed(body: bytes) -> bytes:
    """A frame whose error check is right: what a liar who knows the format would send."""
    return body + _check(body)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.NAME)
def test_decoding_inverts_encoding(message: Message) -> None:
    frame = encode(message, SETUP)
    back = decode(type(message), frame, SETUP)
    assert kind_of(frame) == message.KIND
    assert [bytes(v) if isinstance(v, memoryview) else v for v in msgspec.structs.astuple(back)] == [
        bytes(v) if isinstance(v, memoryview) else v for v in msgspec.structs.astuple(message)
    ]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.NAME)
def test_kinds_are_distinct_and_no_message_shows_what_it_carries(message: Message) -> None:
    assert [m.KIND for m in MESSAGES].count(message.KIND) == 1
    assert repr(message) == f"<{type(message).__name__} client={message.client}>"


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.NAME)
def test_every_truncation_extension_and_bit_flip_is_refused(message: Message) -> None:
    frame = encode(message, SETUP)
    for length in range(len(frame)):
        with pytest.raises(DecodeError):
            decode(type(message), frame[:length], SETUP)
    for extra in (b"\0", bytes(1_000)):
        with pytest.raises(DecodeError):
            decode(type(message), frame + extra, SETUP)
    for bit in range(8 * len(frame)):
        flipped = bytearray(frame)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecodeError):
            decode(type(message), bytes(flipped), SETUP)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.NAME)
def test_frames_of_another_setup_are_refused(message: Message) -> None:
    if isinstance(message, Invitation):
        return  # compared field by field by the step, which then says what differs
    for other in (
        Setup(plan=make_plan(5), roster=range(5), session=SESSION, round=2, assume_honest_server=True),
        Setup(plan=make_plan(5), roster=range(5), session=bytes(16), round=1, assume_honest_server=True),
        Setup(plan=make_plan(5), roster=range(1, 6), session=SESSION, round=1, assume_honest_server=True),
        Setup(plan=make_plan(5, threshold=5), roster=range(5), session=SESSION, round=1, assume_honest_server=True),
    ):
        with pytest.raises(DecodeError, match="another session, round, plan or roster"):
            decode(type(message), encode(message, other), SETUP)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_wire_version_is_named(version: int) -> None:
    frame = bytes([version]) + encode(MESSAGES[1], SETUP)[1:]
    with pytest.raises(VersionError, match=f"{version}.*{WIRE_VERSION}") as caught:
        decode(AdvertiseKeys, frame, SETUP)
    assert (caught.value.ours, caught.value.theirs) == (WIRE_VERSION, version)


@pytest.mark.parametrize("data", [None, "text", bytearray(60), memoryview(bytes(60)), 7])
def test_only_bytes_are_frames(data: Any) -> None:
    with pytest.raises(TypeError, match="bytes"):
        decode(AdvertiseKeys, data, SETUP)


@pytest.mark.parametrize("piece", [1, 7, 16, 1_000])
def test_the_check_does_not_depend_on_how_it_is_fed(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    body = encode(MESSAGES[2], SETUP)[:-16]
    assert _check(body) == _check(body[:5], body[5:]) == encode(MESSAGES[2], SETUP)[-16:]
    whole = _check(body)
    monkeypatch.setattr("secagg.wire._CHECK_PIECE", piece)
    assert _check(body) == whole


HEAD = encode(MESSAGES[1], SETUP)[:18]


REST = b"\xc4\x00\xc4\x00"
"""The last two fields, empty."""


def test_the_fields_that_are_bent_below_are_good_as_they_are() -> None:
    fields = b"\x95\x03\xc4\x20" + bytes(32) + b"\xc4\x20" + b"\x01" * 32 + REST
    assert reframed(HEAD + fields) == encode(MESSAGES[1], SETUP)


@pytest.mark.parametrize(
    "fields",
    [
        b"\x95\xcc\x03\xc4\x20" + bytes(32) + b"\xc4\x20" + b"\x01" * 32 + REST,  # an integer longer than it need be
        b"\xdc\x00\x05\x03\xc4\x20" + bytes(32) + b"\xc4\x20" + b"\x01" * 32 + REST,  # a long array header
        b"\x95\x03\xc5\x00\x20" + bytes(32) + b"\xc4\x20" + b"\x01" * 32 + REST,  # a long bytes header
        b"\x95\x03\xc4\x20" + bytes(32) + b"\xd9\x20" + b"\x41" * 32 + REST,  # text for bytes
        b"\x94\x03\xc4\x20" + bytes(32) + b"\xc4\x20" + b"\x01" * 32 + b"\xc4\x00",  # a field missing
        b"\x96\x03\xc4\x20" + bytes(32) + b"\xc4\x20" + b"\x01" * 32 + REST + b"\xc0",  # a field too many
        b"\x95\x03\xc4\x20" + bytes(32) + b"\xc4\x20" + b"\x01" * 32 + REST + b"\xc0",  # trailing bytes
        b"\x83\xa1a\x03\xa1b\xc4\x00\xa1c\xc4\x00",  # a map
        b"\x93\xc0\xc4\x00\xc4\x00",  # nil for an integer
        b"\xc1",
        b"\x91" * 80,  # deep nesting
        b"",
    ],
)
def test_non_canonical_and_malformed_fields_are_refused_even_with_a_right_check(fields: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(AdvertiseKeys, reframed(HEAD + fields), SETUP)


@pytest.mark.parametrize("fields", [b"\xdd\xff\xff\xff\xff", b"\x93\x03\xc6\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"])
def test_a_header_that_claims_gigabytes_allocates_none(fields: bytes) -> None:
    frame = reframed(HEAD + fields)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            decode(AdvertiseKeys, frame, SETUP)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_frame_above_its_bound_is_refused_before_it_is_read() -> None:
    huge = encode(MESSAGES[1], SETUP) + bytes(1 << 24)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="takes"):
            decode(AdvertiseKeys, huge, SETUP)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.sampled_from(MESSAGES), st.binary(max_size=400))
def test_arbitrary_fields_under_a_right_check_decode_canonically_or_raise(message: Message, fields: bytes) -> None:
    frame = reframed(encode(message, SETUP)[:18] + fields)
    try:
        back = decode(type(message), frame, SETUP)
    except SecAggError:
        return
    assert encode(back, SETUP) == frame

"""Identities and cards: known answers, forgeries refused, and files that only their owner reads."""

import copy
import hashlib
import os
import stat
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from secagg import tags
from secagg.errors import DecodeError, PlanError
from secagg.identity import Card, Identity, Roster, _PrivateKey
from secagg.params import ClientId
from secagg.signatures import verify_signature
from tests.secagg.identity_rig import BASEL, BERN, BUILDER, FOUNDED, flipped, identity, names

# --- signatures -------------------------------------------------------------------------------------------------------


def test_signatures_match_rfc_8032() -> None:
    # RFC 8032, sec. 7.1, test 2
    private = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    signer = Identity.from_private(private)
    assert (signer.public, signer.sign(b"\x72")) == (public, signature)
    verify_signature(public, b"\x72", signature)


@given(st.binary(max_size=100), st.integers(0, 64 * 8 - 1))
def test_no_changed_signature_message_or_key_is_accepted(message: bytes, bit: int) -> None:
    signer = identity(1)
    signature = signer.sign(message)
    verify_signature(signer.public, message, signature)
    for forged in (
        (signer.public, message, flipped(signature, bit)),
        (signer.public, message + b"\0", signature),
        (signer.public, message, signature[:-1]),
        (identity(2).public, message, signature),
        (flipped(signer.public, bit % 256), message, signature),
    ):
        with pytest.raises(DecodeError):
            verify_signature(*forged)


def test_keys_of_small_order_are_refused_although_signatures_under_them_verify() -> None:
    message, forged = tags.CONSISTENCY + b"anything", bytes([1]) + bytes(63)
    points = small_order_points()
    assert len(points) == 8
    Ed25519PublicKey.from_public_bytes(bytes([1]) + bytes(31)).verify(forged, message)  # no private key was needed
    for x, y in points:
        public = (y | (x & 1) << 255).to_bytes(32, "little")
        with pytest.raises(DecodeError, match="small order"):
            verify_signature(public, message, forged)


@pytest.mark.parametrize("y", [PRIME := 2**255 - 19, PRIME + 1, PRIME + 3, 2**255 - 1])
def test_a_second_encoding_of_a_key_is_refused(y: int) -> None:
    for sign in (0, 1 << 255):
        with pytest.raises(DecodeError, match="not an Ed25519 public key"):
            verify_signature((y | sign).to_bytes(32, "little"), b"", bytes(64))


@pytest.mark.parametrize("public", [b"", bytes([9]) * 31, bytes([9]) * 33])
def test_a_key_of_another_length_is_refused(public: bytes) -> None:
    with pytest.raises(DecodeError, match="32 bytes"):
        verify_signature(public, b"", bytes(64))


# --- private keys -----------------------------------------------------------------------------------------------------


def test_generated_identities_differ() -> None:
    assert len({Identity.generate().public for _ in range(10)}) == 10


def test_a_saved_identity_is_the_same_after_loading(tmp_path: Path) -> None:
    BUILDER.save(tmp_path / "key")
    loaded = Identity.load(tmp_path / "key")
    assert (loaded.public, loaded.sign(b"x")) == (BUILDER.public, BUILDER.sign(b"x"))


def test_only_its_owner_can_read_a_saved_key_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        BUILDER.save(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o601])
def test_a_key_that_others_have_access_to_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    BUILDER.save(path)
    path.chmod(mode)
    with pytest.raises(PermissionError, match=f"run `chmod 600 {path}`"):
        Identity.load(path)


@pytest.mark.parametrize("save", [BUILDER.save, BASEL.save, FOUNDED.save])
def test_nothing_is_ever_overwritten(tmp_path: Path, save: Callable[[Path], None]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        save(path)
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        save(dangling)
    assert path.read_bytes() == b"precious"
    assert sorted(tmp_path.iterdir()) == [path, dangling]


@pytest.mark.parametrize("save", [BUILDER.save, BASEL.save, FOUNDED.save])
def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, save: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, f"no space left for {descriptor}")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_no_bit_of_a_key_file_can_change_and_no_refusal_shows_the_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    BUILDER.save(path)
    whole = path.read_bytes()
    private = whole.split(b'"')[-2]
    assert len(private) == 44
    spoilt = [flipped(whole, bit) for bit in range(8 * len(whole))]
    spoilt += [b"", whole[:-1], whole + b"\n", b" " + whole, b"{}", BASEL.to_bytes(), whole.replace(b"1", b"2", 1)]
    for data in spoilt:
        path.write_bytes(data)
        with pytest.raises(DecodeError, match="not a private key") as caught:
            Identity.load(path)
        assert caught.value.__cause__ is caught.value.__context__ is None
        assert private.decode() not in str(caught.value)


def test_an_identity_shows_no_secret_and_cannot_be_copied() -> None:
    private = hashlib.sha256(b"test identity 100").digest()
    shown = f"{BUILDER!r} {BUILDER} {_PrivateKey(BUILDER.public, private)!r}"
    assert BUILDER.public.hex() in shown
    assert private.hex() not in shown
    assert repr(private) not in shown
    assert _PrivateKey(BUILDER.public, private).__rich_repr__() == []
    assert not hasattr(BUILDER, "__dict__")
    for attempt in (copy.copy, copy.deepcopy, methodcaller("__reduce_ex__", 5)):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            attempt(BUILDER)


@pytest.mark.parametrize("load", [Identity.load, Card.load, Roster.load])
def test_reading_is_bounded_and_never_waits(tmp_path: Path, load: Callable[[Path], object]) -> None:
    endless, pipe = tmp_path / "endless", tmp_path / "pipe"
    endless.touch(mode=0o600)
    os.truncate(endless, 1 << 40)
    os.mkfifo(pipe, mode=0o600)
    for path in (endless, pipe):
        with pytest.raises(DecodeError, match=str(path)):
            load(path)
    silent_writer = os.open(pipe, os.O_RDWR)
    try:
        with pytest.raises(DecodeError, match=str(pipe)):
            load(pipe)
    finally:
        os.close(silent_writer)


@pytest.mark.parametrize("kind", [Card, Roster])
def test_what_is_too_long_is_refused_before_it_is_parsed(kind: type[Card | Roster]) -> None:
    with pytest.raises(DecodeError, match="has at most"):
        kind.from_bytes(bytes(kind.MAX_BYTES + 1))
    with pytest.raises(DecodeError, match="malformed"):
        kind.from_bytes(bytes(kind.MAX_BYTES))


# --- cards ------------------------------------------------------------------------------------------------------------


@given(names)
def test_a_card_is_the_same_after_decoding(name: ClientId) -> None:
    card = Card.issue(identity(1), name)
    decoded = Card.from_bytes(card.to_bytes())
    assert (decoded.client_id, decoded.public) == (name, identity(1).public)
    assert type(decoded.client_id) is type(name)
    assert decoded.to_bytes() == card.to_bytes()


def test_the_longest_name_fits_on_a_card() -> None:
    for letter in "\U0001f3e5", '"', "\\":
        card = Card.issue(identity(1), letter * 256)
        assert Card.from_bytes(card.to_bytes()).client_id == letter * 256


def test_no_bit_of_a_card_can_change() -> None:
    whole = BASEL.to_bytes()
    for data in [flipped(whole, bit) for bit in range(8 * len(whole))] + [whole[:-1], whole + b" ", b"", b"[]"]:
        with pytest.raises(DecodeError):
            Card.from_bytes(data)


def test_a_card_for_somebody_elses_key_cannot_be_made() -> None:
    with pytest.raises(DecodeError, match="signature"):
        Card("Bern", BASEL.public, BASEL.signature)
    with pytest.raises(DecodeError, match="signature"):
        Card("Basel", BERN.public, BASEL.signature)


@pytest.mark.parametrize("name", ["server", "", "a\nb", "\u202e", "x" * 257, -1, 2**64])
def test_a_name_that_cannot_be_a_client_id_is_refused(name: ClientId) -> None:
    with pytest.raises(PlanError, match="a client n"):
        Card.issue(identity(1), name)


# --- what the tests use -----------------------------------------------------------------------------------------------


def small_order_points() -> set[tuple[int, int]]:
    """All points whose order divides 8: multiples of l·P, by the addition law of RFC 8032, sec. 5.1.4."""
    d = -121665 * pow(121666, -1, PRIME) % PRIME
    order = 2**252 + 27742317777372353535851937790883648493

    def plus(p: tuple[int, int], q: tuple[int, int]) -> tuple[int, int]:
        both = d * p[0] * q[0] * p[1] * q[1]
        return (
            (p[0] * q[1] + q[0] * p[1]) * pow(1 + both, -1, PRIME) % PRIME,
            (p[1] * q[1] + p[0] * q[0]) * pow(1 - both, -1, PRIME) % PRIME,
        )

    def times(k: int, p: tuple[int, int]) -> tuple[int, int]:
        result = (0, 1)
        for bit in f"{k:b}":
            result = plus(result, result)
            result = plus(result, p) if bit == "1" else result
        return result

    found = set[tuple[int, int]]()
    for y in range(2, 30):
        square = (y * y - 1) * pow(d * y * y + 1, -1, PRIME) % PRIME
        x = pow(square, (PRIME + 3) // 8, PRIME)
        x = x if x * x % PRIME == square else x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
        if x * x % PRIME == square:
            found |= {times(k, times(order, (x, y))) for k in range(8)}
    return found

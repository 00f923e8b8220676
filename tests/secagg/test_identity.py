"""Identities, cards and rosters: known answers, canonical files, forgeries refused, revoked keys never back."""

import base64
import copy
import hashlib
import os
import stat
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import tags
from secagg.errors import DecodeError, PlanError
from secagg.identity import Card, Identity, Roster, _PrivateKey, verify_signature
from secagg.params import ClientId


def identity(number: int) -> Identity:
    return Identity.from_private(hashlib.sha256(b"test identity %d" % number).digest())


BUILDER = identity(100)
BASEL, BERN, GENF = (Card.issue(identity(i), name) for i, name in enumerate(("Basel", "Bern", "Genf")))
FOUNDED = Roster.found("Heart study", [BERN, GENF, BASEL], builder=BUILDER)
names = st.one_of(
    st.integers(0, 2**64 - 1),
    st.text(min_size=1, max_size=256).filter(lambda text: text.isprintable() and text != "server"),
)


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


# --- rosters ----------------------------------------------------------------------------------------------------------


def test_digest_and_short_hash_are_those_written_down() -> None:
    first = Card.issue(Identity.from_private(bytes([1]) * 32), "Basel")
    second = Card.issue(Identity.from_private(bytes([2]) * 32), 7)
    roster = Roster.found("Heart study", [first, second], builder=Identity.from_private(bytes([3]) * 32))
    assert (
        hashlib.sha256(first.to_bytes()).hexdigest()
        == "dd9e909956adc4e4324fd91f505f7f654852581dd53d1075b260c13f07930efd"
    )
    assert roster.digest.hex() == "46bcf611fa2ce1a9f12aa4f2d5ab917959602a7aedd9b0bbe494ef6ff67a3305"
    assert roster.short_hash == "82380-94695-96756-00548-75146-45657"
    assert (
        hashlib.sha256(roster.to_bytes()).hexdigest()
        == "57ec52a9c7703a65553a807536196734a2b843eecabd62fe9db180c7a9ecfefc"
    )


def test_the_short_hash_is_scrypt_of_the_digest_in_decimal() -> None:
    stretched = Scrypt(salt=b"secagg/v1/roster-short-hash\0", length=64, n=2**15, r=8, p=1).derive(FOUNDED.digest)
    digits = str(int.from_bytes(stretched, "big") % 10**30).zfill(30)
    assert FOUNDED.short_hash.split("-") == [digits[i : i + 5] for i in range(0, 30, 5)]


def test_the_short_hash_is_compared_whole() -> None:
    short = FOUNDED.short_hash
    for heard in (short, short.replace("-", " "), short.replace("-", "")):
        FOUNDED.check_short_hash(heard)
    for part in (short[:-1], short[:-6], "", short + "0", short.replace(short[0], "\u0661")):
        with pytest.raises(PlanError, match="30 digits"):
            FOUNDED.check_short_hash(part)
    for place, digit in enumerate(short):
        if digit != "-":
            other = short[:place] + str((int(digit) + 1) % 10) + short[place + 1 :]
            with pytest.raises(DecodeError, match="not the roster"):
                FOUNDED.check_short_hash(other)


@settings(max_examples=25)
@given(st.sets(names, min_size=1, max_size=6), st.text(min_size=1, max_size=9).filter(str.isprintable))
def test_a_roster_is_the_same_after_decoding_and_in_any_order(members: set[ClientId], consortium: str) -> None:
    cards = [Card.issue(identity(i), name) for i, name in enumerate(members)]
    roster = Roster.found(consortium, cards, builder=BUILDER)
    decoded = Roster.from_bytes(roster.to_bytes())
    assert decoded.members == roster.members == {card.client_id: card.public for card in cards}
    assert list(roster.members) == sorted(members, key=lambda i: (isinstance(i, str), i))
    assert (decoded.consortium, decoded.serial, decoded.previous, decoded.revoked) == (consortium, 1, b"", ())
    assert decoded.digest == roster.digest
    assert Roster.found(consortium, cards[::-1], builder=BUILDER).to_bytes() == decoded.to_bytes() == roster.to_bytes()


def test_no_bit_of_a_roster_can_change() -> None:
    whole = FOUNDED.succeed(builder=BUILDER, revoke=["Basel", "Genf"]).to_bytes()
    for bit in range(8 * len(whole)):
        with pytest.raises(DecodeError):
            Roster.from_bytes(flipped(whole, bit))


def test_text_that_says_the_same_otherwise_is_refused() -> None:
    whole = FOUNDED.to_bytes()
    for data in (
        whole[:-1],
        whole + b"\n",
        whole.replace(b"\n", b"\r\n"),
        whole.replace(b'"serial": 1', b'"serial": 1.0'),
        whole.replace(b'"serial": 1', b'"serial": 1, "serial": 1'),
        whole.replace(b"Heart", b"\\u0048eart"),
        whole.replace(b'  "format": "secagg roster 1",\n', b""),
    ):
        assert data != whole
        with pytest.raises(DecodeError):
            Roster.from_bytes(data)
    with pytest.raises(DecodeError, match="unedited"):
        Roster.from_bytes(whole.replace(b"\n", b"\r\n"))


def test_a_roster_signed_by_another_key_than_it_names_is_refused() -> None:
    other = Roster.found("Heart study", FOUNDED.cards, builder=identity(101))
    with pytest.raises(DecodeError, match="signature"):
        Roster.from_bytes(FOUNDED.to_bytes().replace(encoded(FOUNDED.signature), encoded(other.signature)))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"cards": ()}, "at least one member"),
        ({"cards": (BASEL, Card.issue(identity(9), "Basel"))}, "a name appears twice"),
        ({"cards": (BASEL, Card.issue(identity(0), "Bern"))}, "a key appears twice"),
        ({"cards": (GENF, BASEL)}, "sorted by name"),
        ({"revoked": (BASEL.public,)}, "a member's key is revoked"),
        ({"revoked": tuple(sorted([identity(8).public, identity(9).public], reverse=True))}, "sorted and distinct"),
        ({"revoked": (identity(9).public, identity(9).public)}, "sorted and distinct"),
        ({"revoked": (bytes(32),)}, "small order"),
        ({"next_builder": bytes(32)}, "small order"),
        ({"revoked": (BUILDER.public,)}, "hand over to another"),
        ({"serial": 0}, r"in \[1, 2\^63\)"),
        ({"serial": 2}, "no previous"),
        ({"previous": bytes(32)}, "no previous"),
        ({"serial": 2, "previous": bytes(31)}, "no previous"),
        ({"consortium": ""}, "256 letters"),
        ({"consortium": "a\tb"}, "256 letters"),
        ({"consortium": "x" * 257}, "256 letters"),
        ({"consortium": b"Heart"}, "256 letters"),
    ],
)
def test_a_signed_roster_that_makes_no_sense_is_refused(change: dict[str, object], complaint: str) -> None:
    fields = {name: getattr(FOUNDED, name) for name in FOUNDED.__struct_fields__[:-1]}
    with pytest.raises((PlanError, DecodeError), match=complaint):
        Roster._signed(BUILDER, *{**fields, **change}.values())


def test_a_roster_beyond_its_bound_is_refused_when_made_and_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = FOUNDED.to_bytes()
    monkeypatch.setattr(Roster, "MAX_BYTES", len(whole))
    assert Roster.from_bytes(whole).digest == FOUNDED.digest
    monkeypatch.setattr(Roster, "MAX_BYTES", len(whole) - 1)
    with pytest.raises(DecodeError, match="at most"):
        Roster.from_bytes(whole)
    with pytest.raises(PlanError, match="at most"):
        Roster.found("Heart study", FOUNDED.cards, builder=BUILDER)


def test_a_roster_is_read_only_and_its_repr_is_short() -> None:
    with pytest.raises(TypeError):
        FOUNDED.members["Basel"] = BERN.public  # type: ignore[index]
    with pytest.raises(AttributeError):
        FOUNDED.serial = 2  # type: ignore[misc]
    assert repr(FOUNDED) == f"<Roster 'Heart study' serial=1 members=3 {FOUNDED.digest.hex()}>"


# --- successors -------------------------------------------------------------------------------------------------------


def test_a_new_card_replaces_a_key_and_revokes_the_old_one() -> None:
    rotated = Card.issue(identity(7), "Basel")
    roster = FOUNDED.succeed(builder=BUILDER, cards=[rotated])
    assert roster.members == {"Basel": rotated.public, "Bern": BERN.public, "Genf": GENF.public}
    assert roster.revoked == (BASEL.public,)
    assert (roster.serial, roster.previous, roster.consortium) == (2, FOUNDED.digest, "Heart study")
    roster.check_follows(FOUNDED)


def test_the_same_card_again_changes_nothing() -> None:
    roster = FOUNDED.succeed(builder=BUILDER, cards=[BASEL])
    assert (roster.members, roster.revoked) == (FOUNDED.members, ())


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=8))
def test_along_any_chain_no_key_that_left_comes_back(changes: list[tuple[int, bool]]) -> None:
    roster, fresh, gone = FOUNDED, 200, set[bytes]()
    for number, leaves in changes:
        name = ("Basel", "Bern", "Genf", "Lausanne")[number]
        old, fresh = roster.members.get(name), fresh + 1
        if leaves and (old is None or len(roster.members) == 1):
            with pytest.raises(PlanError):
                roster.succeed(builder=BUILDER, revoke=[name])
            continue
        cards = [] if leaves else [Card.issue(identity(fresh), name)]
        after = roster.succeed(builder=BUILDER, cards=cards, revoke=[name] if leaves else [])
        after.check_follows(roster)
        gone |= {old} if old else set()
        roster = Roster.from_bytes(after.to_bytes())
        assert set(roster.revoked) == gone
        assert gone.isdisjoint(roster.members.values())
    for number in range(201, fresh + 1):
        if identity(number).public in gone:
            with pytest.raises(PlanError, match="revoked"):
                roster.succeed(builder=BUILDER, cards=[Card.issue(identity(number), "Zug")])


def test_who_is_no_member_or_has_a_new_card_is_not_revoked() -> None:
    with pytest.raises(PlanError, match="cannot revoke 'Zug'"):
        FOUNDED.succeed(builder=BUILDER, revoke=["Zug"])
    with pytest.raises(PlanError, match="cannot revoke 'Basel'"):
        FOUNDED.succeed(builder=BUILDER, cards=[Card.issue(identity(7), "Basel")], revoke=["Basel"])


def test_only_the_builder_builds_the_next_roster() -> None:
    with pytest.raises(PlanError, match="another key than the previous"):
        FOUNDED.succeed(builder=identity(101), revoke=["Basel"])


def test_after_a_hand_over_only_the_new_builder_builds() -> None:
    heir = identity(101)
    second = FOUNDED.succeed(builder=BUILDER, next_builder=heir.public)
    with pytest.raises(PlanError, match="another key than the previous"):
        second.succeed(builder=BUILDER)
    third = second.succeed(builder=heir)
    third.check_follows(second)
    third.succeed(builder=heir).check_follows(third)


def test_a_builder_can_leave_as_its_last_act_but_not_stay_on_with_a_revoked_key() -> None:
    first = Roster.found("Heart study", [BASEL, BERN], builder=identity(0))
    with pytest.raises(PlanError, match="hand over to another"):
        first.succeed(builder=identity(0), revoke=["Basel"])
    second = first.succeed(builder=identity(0), revoke=["Basel"], next_builder=identity(1).public)
    assert second.succeed(builder=identity(1)).revoked == (BASEL.public,)


SECOND = FOUNDED.succeed(builder=BUILDER, revoke=["Genf"])
HEAD = ("Heart study", 3, SECOND.digest, BUILDER.public, BUILDER.public)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        (("Other study", *HEAD[1:], (BASEL, BERN), (GENF.public,)), "is of 'Other study'"),
        ((HEAD[0], 2, *HEAD[2:], (BASEL, BERN), (GENF.public,)), "has serial 2, which does not follow 2"),
        ((HEAD[0], 4, *HEAD[2:], (BASEL, BERN), (GENF.public,)), "has serial 4, which does not follow 2"),
        ((*HEAD[:2], FOUNDED.digest, *HEAD[3:], (BASEL, BERN), (GENF.public,)), "follows another roster"),
        ((*HEAD, (BASEL, BERN, GENF), ()), "brings a revoked key back"),
        ((*HEAD, (BASEL, BERN, Card.issue(identity(2), "Zug")), ()), "brings a revoked key back"),
        ((*HEAD, (BASEL, BERN), ()), "forgets a key"),
        ((*HEAD, (BASEL,), (GENF.public,)), "forgets a key"),
    ],
)
def test_a_builder_cannot_break_the_rules_of_succession(fields: tuple[object, ...], complaint: str) -> None:
    broken = Roster._signed(BUILDER, *fields)
    with pytest.raises(DecodeError, match=complaint):
        broken.check_follows(SECOND)


def test_a_roster_by_somebody_else_does_not_follow() -> None:
    thief = identity(101)
    stolen = Roster._signed(thief, *HEAD[:3], thief.public, thief.public, (BASEL, BERN), (GENF.public,))
    with pytest.raises(DecodeError, match="signed by another key"):
        stolen.check_follows(SECOND)


def test_a_roster_does_not_follow_itself_or_an_older_one() -> None:
    for before in (SECOND, SECOND.succeed(builder=BUILDER)):
        with pytest.raises(DecodeError, match="does not follow"):
            SECOND.check_follows(before)


def test_sites_sent_different_rosters_hear_different_short_hashes() -> None:
    one, two = (FOUNDED.succeed(builder=BUILDER, revoke=[name]) for name in ("Basel", "Bern"))
    one.check_follows(FOUNDED)
    two.check_follows(FOUNDED)
    with pytest.raises(DecodeError, match="not the roster"):
        one.check_short_hash(two.short_hash)


# --- what the tests use -----------------------------------------------------------------------------------------------


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def encoded(value: bytes) -> bytes:
    return base64.b64encode(value)


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

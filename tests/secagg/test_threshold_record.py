"""What a threshold key does once is never done again: other uploads, other sets, crashes, full disks, lost records."""

import hashlib
import os
from dataclasses import replace
from io import FileIO
from pathlib import Path
from threading import Event, Thread
from typing import Any

import msgspec
import numpy as np
import pytest

from secagg import DecodeError, LocalProtocolError, tags
from secagg.homomorphic import threshold_sums as sums
from secagg.homomorphic.threshold import ThresholdContext, ThresholdKey
from secagg.homomorphic.threshold_record import Record
from secagg.homomorphic.threshold_rounds import client_upload, client_upload_again
from secagg.primitives.keys import derive_key
from secagg.private_files import replaced
from secagg.setups import Setup
from secagg.wire import encode
from tests.secagg.threshold_rig import NUMBERS, SEMI_HONEST, Round, keys_of, passed, plan_of, setup_of, twin


def test_the_same_upload_twice_or_another_in_its_round_is_never_made() -> None:
    begun, other = Round(number=next(NUMBERS)), np.zeros(5, np.uint16)
    key = twin(begun.keys[0])
    first = key.encrypt(begun.setup, other.copy(), bytes(32))
    assert key.encrypt(begun.setup, other.copy(), bytes(32)) == first  # after a crash
    with pytest.raises(LocalProtocolError, match="has begun another upload in round"):
        key.encrypt(begun.setup, other.copy(), bytes([1]) * 32)
    later = setup_of(SEMI_HONEST, begun.number + 1)
    key.encrypt(later, other.copy(), bytes(32))
    with pytest.raises(LocalProtocolError, match="use a higher round number"):
        key.encrypt(begun.setup, other.copy(), bytes(32))


def stale(number: int) -> Setup:
    """The same round, for who was given another model."""
    return setup_of(SEMI_HONEST, number, model=bytes(32))


@pytest.mark.parametrize("saved", [True, False])
def test_the_same_randomness_with_another_vector_or_model_is_refused(saved: bool, tmp_path: Path) -> None:
    """Equal errors under one a: the difference of two uploads is Δ times that of the vectors, in the clear."""
    key, setup, vector = twin(keys_of(SEMI_HONEST)[0][0]), setup_of(SEMI_HONEST, 5), np.arange(5, dtype=np.uint16)
    if saved:
        key.save(tmp_path / "key")
    sent = key.encrypt(setup, vector.copy(), bytes(32))
    for again in (key, ThresholdKey.load(tmp_path / "key")) if saved else (key,):
        with pytest.raises(LocalProtocolError, match="has begun another upload in round 5"):
            again.encrypt(setup, vector + np.uint16(1), bytes(32))
        with pytest.raises(LocalProtocolError, match="has begun another upload in round 5"):
            again.encrypt(stale(5), vector.copy(), bytes(32))
        assert again.encrypt(setup, vector.copy(), bytes(32)) == sent


def test_the_same_randomness_makes_other_errors_for_another_model() -> None:
    """Or two uploads of one vector would be equations in the long-lived secret alone, without noise."""
    key, vector = keys_of(SEMI_HONEST)[0][0], np.zeros(5, np.uint16)
    made, noise = key.context.parameters, []

    def keep(parameters: Any, _public: bytes, _factor: Any, key_of_errors: bytes, _words: Any) -> memoryview:
        noise.append(key_of_errors)
        return memoryview(bytes(parameters.upload_bytes))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums, "encrypt", keep)
        for setup in (setup_of(SEMI_HONEST, 5), stale(5), setup_of(SEMI_HONEST, 6)):
            assert len(twin(key).encrypt(setup, vector.copy(), bytes(32))) == made.upload_bytes
    assert len(set(noise)) == 3


def test_a_crash_before_an_upload_is_sent_leaves_it_alone_to_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, vector = setup_of(SEMI_HONEST, 5), np.arange(5, dtype=np.uint16)
    key = twin(keys_of(SEMI_HONEST)[0][0])
    key.save(tmp_path / "key")

    def crash(self: Record, *arguments: Any) -> None:
        begin(self, *arguments)
        raise KeyboardInterrupt

    begin = Record.begin
    with monkeypatch.context() as patch:
        patch.setattr(Record, "begin", crash)
        with pytest.raises(KeyboardInterrupt):
            key.encrypt(setup, vector.copy(), bytes(32))
    after = ThresholdKey.load(tmp_path / "key")
    for other, random in ((vector + np.uint16(1), bytes(32)), (vector, bytes([1]) * 32)):
        with pytest.raises(LocalProtocolError, match="has begun another upload in round 5"):
            after.encrypt(setup, other.copy(), random)
    assert after.encrypt(setup, vector.copy(), bytes(32)) == twin(key).encrypt(setup, vector.copy(), bytes(32))


def test_a_record_of_the_time_when_randomness_was_recorded_lets_no_second_upload_by(tmp_path: Path) -> None:
    key, vector = twin(keys_of(SEMI_HONEST)[0][0]), np.zeros(5, np.uint16)
    key.save(tmp_path / "key")
    setup, random = setup_of(SEMI_HONEST, 5), bytes(32)
    body = msgspec.msgpack.encode(
        [key._owner, {"upload": (5, derive_key(random, tags.THRESHOLD_UPLOAD, setup.digest))}]
    )
    (tmp_path / "key.rounds").write_bytes(body + hashlib.sha256(tags.THRESHOLD_RECORD + body).digest())
    old = ThresholdKey.load(tmp_path / "key")
    for each in (4, 5):
        with pytest.raises(LocalProtocolError, match="has begun another upload in round 5"):
            old.encrypt(setup_of(SEMI_HONEST, each), vector.copy(), random)
    assert old.encrypt(setup_of(SEMI_HONEST, 6), vector.copy(), random)


def test_a_vector_that_is_refused_uses_no_round_up() -> None:
    plan = plan_of(encoding=bytes(32), modulus_bits=9)
    key, setup = twin(keys_of(plan)[0][0]), setup_of(plan, 7)
    with pytest.raises(ValueError, match="beyond what 4 clients can add up"):
        key.encrypt(setup, np.full(5, 128, np.uint16), bytes(32))
    assert key.encrypt(setup, np.full(5, 127, np.uint16), bytes([1]) * 32)


def decryptor_of(setup: Setup, context: ThresholdContext, *sets: tuple[int, ...]) -> int:
    """A client that decrypts for each of these survivor sets."""
    return min(set.intersection(*(set(context.decryptors(setup, members)) for members in sets)))


EVERYONE, SOME = (0, 1, 2, 3), (0, 1, 2)


def test_one_active_set_a_round_also_after_the_key_is_loaded_again(tmp_path: Path) -> None:
    keys, context = keys_of(SEMI_HONEST)
    setup, earlier = setup_of(SEMI_HONEST, 5), setup_of(SEMI_HONEST, 4)
    both = (set(context.decryptors(each, EVERYONE)) for each in (setup, earlier))
    me = min(set(SOME).intersection(*both))
    key = twin(keys[me])
    key.save(tmp_path / "key")
    first = key.decrypt(setup, EVERYONE)
    for again in (key, ThresholdKey.load(tmp_path / "key")):
        with pytest.raises(LocalProtocolError, match="has begun another decrypt in round 5"):
            again.decrypt(setup, SOME)
        assert again.decrypt(setup, EVERYONE) == first  # the very same bytes: nothing new is said
        with pytest.raises(LocalProtocolError, match="higher round number"):
            again.decrypt(earlier, EVERYONE)


def test_another_model_is_another_set(tmp_path: Path) -> None:
    keys, context = keys_of(SEMI_HONEST)
    plain, stale = setup_of(SEMI_HONEST, 5), setup_of(SEMI_HONEST, 5, model=bytes(32))
    me = min(set(context.decryptors(plain, EVERYONE)) & set(context.decryptors(stale, EVERYONE)))
    key = twin(keys[me])
    key.save(tmp_path / "key")
    key.decrypt(plain, EVERYONE)
    with pytest.raises(LocalProtocolError, match="another decrypt in round 5"):
        key.decrypt(stale, EVERYONE)


def test_a_crash_before_sending_leaves_the_set_recorded_and_the_very_answer_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, context = keys_of(SEMI_HONEST)
    setup = setup_of(SEMI_HONEST, 6)
    me = decryptor_of(setup, context, EVERYONE, SOME)
    twin(keys[me]).save(tmp_path / "key")

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sums, "decrypt_partially", crash)
        key = ThresholdKey.load(tmp_path / "key")
        with pytest.raises(KeyboardInterrupt):
            key.decrypt(setup, EVERYONE)
    after = ThresholdKey.load(tmp_path / "key")
    with pytest.raises(LocalProtocolError, match="another decrypt in round 6"):
        after.decrypt(setup, SOME)
    assert after.decrypt(setup, EVERYONE) == twin(keys[me]).decrypt(setup, EVERYONE)


def test_nothing_is_answered_where_nothing_can_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, context = keys_of(SEMI_HONEST)
    setup = setup_of(SEMI_HONEST, 6)
    me = decryptor_of(setup, context, EVERYONE)
    key = twin(keys[me])
    key.save(tmp_path / "key")
    made: list[Any] = []

    def full(*_: Any) -> None:
        raise OSError(28, "disk full")

    monkeypatch.setattr("secagg.homomorphic.threshold_record.replaced", full)
    monkeypatch.setattr(sums, "decrypt_partially", made.append)
    with pytest.raises(OSError, match="disk full"):
        key.decrypt(setup, EVERYONE)
    with pytest.raises(OSError, match="disk full"):
        key.encrypt(setup, np.zeros(5, np.uint16), bytes(32))
    assert not made


def test_a_key_whose_record_is_gone_damaged_or_anothers_does_nothing(tmp_path: Path) -> None:
    keys, _ = keys_of(SEMI_HONEST)
    key, other = twin(keys[0]), twin(keys[1])
    key.save(tmp_path / "key")
    other.save(tmp_path / "other")
    record = tmp_path / "key.rounds"
    good = record.read_bytes()
    body = msgspec.msgpack.encode(["another", "thing"])
    checked = body + hashlib.sha256(tags.THRESHOLD_RECORD + body).digest()
    for bad in (b"", good[:-1], bytes(2000), (tmp_path / "other.rounds").read_bytes(), checked):
        record.write_bytes(bad)
        with pytest.raises(ValueError, match=r"not the record of this key, or damaged"):
            key.encrypt(setup_of(SEMI_HONEST, 9), np.zeros(5, np.uint16), bytes(32))
    record.unlink()
    with pytest.raises(LocalProtocolError, match="is gone"):
        key.encrypt(setup_of(SEMI_HONEST, 9), np.zeros(5, np.uint16), bytes(32))
    assert not record.exists()
    with pytest.raises(FileNotFoundError):
        ThresholdKey.load(tmp_path / "key")


def test_two_objects_of_one_file_know_of_each_other(tmp_path: Path) -> None:
    key = twin(keys_of(SEMI_HONEST)[0][0])
    key.save(tmp_path / "key")
    other = ThresholdKey.load(tmp_path / "key")
    key.encrypt(setup_of(SEMI_HONEST, 3), np.zeros(5, np.uint16), bytes(32))
    with pytest.raises(LocalProtocolError, match="another upload in round 3"):
        other.encrypt(setup_of(SEMI_HONEST, 3), np.zeros(5, np.uint16), bytes([1]) * 32)


def test_a_key_that_is_gone_and_saved_again_does_not_forget_its_rounds(tmp_path: Path) -> None:
    key, other = twin(keys_of(SEMI_HONEST)[0][0]), twin(keys_of(SEMI_HONEST)[0][1])
    key.save(tmp_path / "key")
    (tmp_path / "key").unlink()
    key.save(tmp_path / "key")  # it was not used
    key.encrypt(setup_of(SEMI_HONEST, 3), np.zeros(5, np.uint16), bytes(32))
    (tmp_path / "key").unlink()
    for again in (key, twin(key)):
        with pytest.raises(LocalProtocolError, match="says that this key was used"):
            again.save(tmp_path / "key")
    assert key.last_round == 3
    (tmp_path / "key").unlink()
    other.save(tmp_path / "key")  # of a key that is no more, the name and its record may be taken
    assert other.last_round is None


def used_in_round_5(folder: Path) -> ThresholdKey:
    key = twin(keys_of(SEMI_HONEST)[0][0])
    key.save(folder / "key")
    key.encrypt(setup_of(SEMI_HONEST, 5), np.zeros(5, np.uint16), bytes(32))
    return key


@pytest.mark.parametrize("key_is_gone", [True, False])
@pytest.mark.parametrize(
    ("left", "says"),
    [
        (None, "is gone, which says what this key was used for: set up a new key"),
        (b"", "not the record of this key, or damaged: set up a new key"),
        (b"damaged", "not the record of this key, or damaged: set up a new key"),
        ("unused", "forgot what this key was used for"),
        ("another's", "not the record of this key, or damaged: set up a new key"),
    ],
)
def test_saving_again_resets_no_record(left: Any, says: str, key_is_gone: bool, tmp_path: Path) -> None:
    others = {"unused": twin(keys_of(SEMI_HONEST)[0][0]), "another's": twin(keys_of(SEMI_HONEST)[0][1])}
    key, record = used_in_round_5(tmp_path), tmp_path / "key.rounds"
    record.unlink()
    if left in others:
        others[left].save(tmp_path / "fresh")
        left = (tmp_path / "fresh.rounds").read_bytes()
    if left is not None:
        record.write_bytes(left)
        record.chmod(0o600)
    if key_is_gone:
        (tmp_path / "key").unlink()
    for step in (
        lambda: key.save(tmp_path / "key"),
        lambda: key.encrypt(setup_of(SEMI_HONEST, 5), np.ones(5, np.uint16), bytes(32)),
        lambda: key.last_round,
    ):
        with pytest.raises((LocalProtocolError, DecodeError), match=says):
            step()
    assert (record.read_bytes() if record.exists() else None) == left


def test_a_record_put_back_from_a_backup_is_noticed_by_whoever_saw_the_newer_one(tmp_path: Path) -> None:
    key, record = used_in_round_5(tmp_path), tmp_path / "key.rounds"
    backup = record.read_bytes()
    key.encrypt(setup_of(SEMI_HONEST, 6), np.zeros(5, np.uint16), bytes(32))
    newer = record.read_bytes()
    record.write_bytes(backup)
    with pytest.raises(LocalProtocolError, match="forgot what this key was used for"):
        key.encrypt(setup_of(SEMI_HONEST, 7), np.zeros(5, np.uint16), bytes(32))
    record.write_bytes(newer)
    key.encrypt(setup_of(SEMI_HONEST, 7), np.zeros(5, np.uint16), bytes(32))


def test_a_new_key_takes_no_damaged_record_over_but_one_that_a_crash_left_empty(tmp_path: Path) -> None:
    key = twin(keys_of(SEMI_HONEST)[0][0])
    (tmp_path / "key.rounds").touch(0o600)
    for bad in (b"damaged", bytes(2000)):
        (tmp_path / "key.rounds").write_bytes(bad)
        with pytest.raises(DecodeError, match="or damaged"):
            key.save(tmp_path / "key")
        assert (tmp_path / "key.rounds").read_bytes() == bad
    (tmp_path / "key.rounds").write_bytes(b"")
    key.save(tmp_path / "key")
    assert ThresholdKey.load(tmp_path / "key").last_round is None


def test_a_resumed_upload_is_the_one_that_was_sent_and_of_this_key() -> None:
    """A journal goes on with what it stored: nothing is encrypted, so that nothing else can be sent."""
    begun = Round(number=next(NUMBERS))
    key = twin(begun.keys[0])
    invitation, random = passed(begun.outbox[0], begun.setup), bytes(32)
    _, sent = client_upload(begun.begin(0, key), invitation, random)
    stored = encode(sent, begun.setup)
    empty = replace(begun.begin(0, key), contribution=np.zeros(5, np.uint64))
    with pytest.raises(LocalProtocolError, match="has begun another upload"):
        client_upload(empty, invitation, random)
    state, again = client_upload_again(empty, invitation, random, stored)
    assert encode(again, begun.setup) == stored
    assert state.keys is key
    other = bytearray(sent.vector)
    other[0] ^= 1
    forged = encode(msgspec.structs.replace(sent, vector=memoryview(bytes(other))), begun.setup)
    with pytest.raises(LocalProtocolError, match="under another threshold key"):
        client_upload_again(empty, invitation, random, forged)


def test_an_upload_begun_while_the_key_is_being_saved_is_in_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, setup, begin, begun = twin(keys_of(SEMI_HONEST)[0][0]), setup_of(SEMI_HONEST, 5), Record.begin, Event()
    uploading = Thread(target=lambda: key.encrypt(setup, np.zeros(5, np.uint16), bytes(32)))

    def announced(self: Record, *arguments: Any) -> None:
        begun.set()
        begin(self, *arguments)

    def meanwhile(path: Path, data: bytes) -> FileIO:
        if not begun.is_set():
            uploading.start()
            assert begun.wait(60)
        return replaced(path, data)

    monkeypatch.setattr(Record, "begin", announced)
    monkeypatch.setattr("secagg.homomorphic.threshold_record.replaced", meanwhile)
    key.save(tmp_path / "key")
    uploading.join()
    with pytest.raises(LocalProtocolError, match="has begun another upload in round 5"):
        ThresholdKey.load(tmp_path / "key").encrypt(setup, np.ones(5, np.uint16), bytes(32))


def test_a_key_in_memory_is_not_used_by_a_forked_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parent and child would both upload, and each remember its own."""
    key, saved = (twin(keys_of(SEMI_HONEST)[0][client]) for client in (0, 1))
    saved.save(tmp_path / "saved")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    for step in (
        lambda: key.encrypt(setup_of(SEMI_HONEST, 5), np.zeros(5, np.uint16), bytes(32)),
        lambda: key.save(tmp_path / "key"),
    ):
        with pytest.raises(LocalProtocolError, match="save it there, load it here"):
            step()
    assert saved.encrypt(setup_of(SEMI_HONEST, 5), np.zeros(5, np.uint16), bytes(32))


def test_an_upload_made_again_waits_until_its_record_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever recorded it may have died between the new name and its being on disk."""
    key, setup, synced = used_in_round_5(tmp_path), setup_of(SEMI_HONEST, 5), list[Path]()
    monkeypatch.setattr("secagg.homomorphic.threshold_record.sync_directory", synced.append)
    key.encrypt(setup, np.zeros(5, np.uint16), bytes(32))
    assert synced == [tmp_path / "key.rounds"]

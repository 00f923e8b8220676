"""Clients that die at any moment and go on: never two answers to one step, and nothing secret is left behind."""

import copy
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from secagg import (
    Client,
    DecodeError,
    LocalProtocolError,
    RemoteProtocolError,
    SecAggError,
    Setup,
    journal,
    private_files,
    rounds_begun,
)
from secagg.journal import Journal, Progress
from secagg.masking.messages import ConsistencyCheck, PeerKeys, PeerShares, PeerSignatures, Survivors
from secagg.primitives.keys import derive_key
from secagg.rounds_begun import Rounds
from secagg.setups import model_digest
from secagg.transitions import protocol_of, steps_of
from secagg.wire import decode, encode
from tests.secagg.rig import Rig, identity_of, make_plan

ME = 2
KEY = bytes(range(32))
MODES = ("semi-honest", "malicious")


class Crash(BaseException):
    """The process dies here."""


def never() -> Any:
    raise AssertionError


@dataclass
class Site:
    """A rig in which client 2 keeps a journal."""

    folder: Path
    mode: str = "semi-honest"
    key: bytes | None = None
    round: int = 1
    key_agreement: str = "x25519"
    rig: Rig = field(init=False)

    def __post_init__(self) -> None:
        self.rig = Rig(make_plan(5, server=self.mode, key_agreement=self.key_agreement), round=self.round)
        self.path = self.folder / f"{self.round}.journal"
        self.open()

    def open(self, contribution: Any = None, *, setup: Setup | None = None, client: int = ME, **options: Any) -> Client:
        """Open the file, as a process does that was just started."""
        key = options.get("key", self.key)
        self.journal = Journal(self.path, rounds=Rounds(options.get("rounds", self.folder / "rounds")), key=key)
        try:
            identity = identity_of(client) if self.mode == "malicious" else None
            vector = self.rig.inputs[client] if contribution is None else contribution
            self.rig.clients[ME] = Client(
                setup or self.rig.setup, client, vector, identity=identity, journal=self.journal
            )
        except BaseException:
            self.journal.close()
            raise
        return self.rig.clients[ME]

    def crash(self) -> None:
        """Nothing more is written; the lock goes with the process."""
        self.journal.close()

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()

    @property
    def master(self) -> bytes:
        return self.rig.clients[ME]._memory.master

    def run(self, until: str | None = None) -> None:
        self.rig.run(until=until)

    def refused(self) -> str:
        with pytest.raises(SecAggError) as caught:
            self.open(never)
        assert isinstance(caught.value, (LocalProtocolError, DecodeError))
        return str(caught.value)


def changed(rig: Rig, step: str, request: bytes) -> bytes | None:
    """Another acceptable request for the same step: 4 is missing. None for the invitation, which is unique."""
    kind = protocol_of(rig.plan.masking, rig.plan.server).client
    awaits: Any = next(each.awaits for each in kind.values() if each.round == step)
    if awaits not in {PeerKeys, PeerShares, Survivors, PeerSignatures}:
        return None
    message = decode(awaits, request, rig.setup)
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    if awaits is PeerSignatures:  # the server sends as many as are needed: those of 0, 1 and 3; here of 0, 1 and 4
        assert fields["present"] == b"\x07"
        signatures = [decode(ConsistencyCheck, rig.log["consistency_check", "up", i], rig.setup) for i in (0, 1, 4)]
        return encode(PeerSignatures(ME, b"\x0b", b"".join(each.signature for each in signatures)), rig.setup)
    assert fields["present"] == b"\x0f"
    for name in fields.keys() - {"client", "present"}:
        fields[name] = fields[name][: len(fields[name]) * 3 // 4]
    return encode(awaits(**(fields | {"present": b"\x07"})), rig.setup)


@contextmanager
def torn(kept: float) -> Iterator[None]:
    """The process dies during the next write, a part of which arrives; if all of it does, before it is synced."""

    def write(file: Any, data: Any) -> None:
        file.write(bytes(data)[: int(kept * len(data))])
        raise Crash

    with mock.patch("secagg.journal.write", write), mock.patch("secagg.private_files.write", write):
        yield


@contextmanager
def failing_sync(after: int) -> Iterator[None]:
    """The disk takes what is written, and reports an error at one of the syncs."""
    left = [after]

    def fsync(descriptor: int) -> None:
        del descriptor
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "input/output error")

    with mock.patch("os.fsync", fsync):
        yield


@contextmanager
def harmless() -> Iterator[None]:
    yield


faults = st.one_of(
    st.builds(torn, st.floats(0, 1)),
    st.builds(torn, st.just(1.0)),
    st.builds(failing_sync, st.integers(0, 3)),
    st.builds(harmless),
)


@given(st.sampled_from(MODES), st.sampled_from([None, KEY]), st.dictionaries(st.integers(0, 4), faults), st.booleans())
@settings(max_examples=80)
def test_a_client_that_dies_anywhere_gives_the_same_answers_and_the_sum_is_right(
    mode: str, key: bytes | None, crashes: dict[int, Any], another_vector: bool
) -> None:
    with TemporaryDirectory() as folder:
        site = Site(Path(folder), mode, key)
        rig = site.rig
        for number, step in enumerate(rig.steps):
            requests = rig.ask(step)
            for i in requests.keys() - {ME}:
                rig.server.receive(i, rig.answer(step, i))
            given_away = None
            with crashes.get(number, harmless()):
                try:
                    given_away = rig.answer(step, ME)
                except (Crash, OSError):
                    with pytest.raises(LocalProtocolError, match="interrupted halfway"):
                        rig.answer(step, ME)
            if number in crashes:
                site.crash()
                lost = given_away is None or step in {"advertise_keys", "share_keys"}
                client = site.open(never if not lost else rig.inputs[ME])
                again = client.receive(requests[ME])
                assert given_away in {None, again}
                given_away = again
            assert given_away is not None
            if (other := changed(rig, step, requests[ME])) is not None:
                with pytest.raises((LocalProtocolError, RemoteProtocolError), match=r"last message|repeated"):
                    rig.clients[ME].receive(other)
            assert rig.clients[ME].receive(requests[ME]) == given_away
            rig.server.receive(ME, given_away)
        rig.server.close_round()
        assert rig.server.total().vector.tolist() == rig.expected(range(5))
        if another_vector:  # what is stored at the end is the last answer, whatever is contributed now
            site.crash()
            assert site.open(never).receive(rig.outbox[ME]) == given_away
        site.crash()


@pytest.mark.parametrize("mode", MODES)
def test_the_changed_requests_of_these_tests_are_acceptable_to_who_has_not_answered(tmp_path: Path, mode: str) -> None:
    site = Site(tmp_path, mode)
    tried = 0
    for step in site.rig.steps:
        request = site.rig.ask(step)[ME]
        other = changed(site.rig, step, request)
        if other is not None:
            before = site.data
            answer = site.rig.clients[ME].receive(other)
            assert answer != b""
            site.crash()
            site.path.write_bytes(before)  # for once, the snapshot that nobody can notice
            site.open()
            tried += 1
        for i in site.rig.outbox:
            site.rig.server.receive(i, site.rig.answer(step, i))
    assert tried == len(site.rig.steps) - 1
    site.crash()


@pytest.mark.parametrize("key", [None, KEY], ids=["open", "sealed"])
@pytest.mark.parametrize("mode", MODES)
def test_a_record_cut_at_any_byte_is_dropped_and_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, key: bytes | None
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    site = Site(tmp_path, mode, key)
    snapshots = [site.data]
    for step in site.rig.steps[:-1]:
        for i in site.rig.ask(step):
            site.rig.server.receive(i, site.rig.answer(step, i))
        snapshots.append(site.data)
    site.crash()

    def stored(data: bytes) -> Progress:
        site.path.write_bytes(data)
        with Journal(site.path, rounds=Rounds(tmp_path / "rounds"), key=key) as opened:
            return opened.begin(site.rig.setup, ME)

    exchanges = [(site.rig.log[step, "down", ME], site.rig.log[step, "up", ME]) for step in site.rig.steps[:-1]]
    for number, (before, after) in enumerate(pairwise(snapshots)):
        assert after.startswith(before)
        for cut in range(len(before), len(after) + 1):
            progress = stored(after[:cut])
            assert list(progress.answered) == exchanges[: number + (cut == len(after))]
            assert site.data == (after if cut == len(after) else before)
    for cut in range(len(snapshots[0])):  # died while creating it: nothing was answered, the round begins again
        (tmp_path / "rounds").unlink(missing_ok=True)
        assert stored(snapshots[0][:cut]).answered == ()
    with pytest.raises(LocalProtocolError, match="has begun round 1"):  # but not once the round is known to have begun
        stored(snapshots[0][:-1])


@pytest.mark.parametrize("key", [None, KEY], ids=["open", "sealed"])
def test_a_changed_byte_anywhere_is_a_typed_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: bytes | None
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    site = Site(tmp_path, "malicious", key)
    site.run(until="unmask")
    files = [site.data]
    site.rig.ask("unmask")
    site.rig.answer("unmask", ME)
    files.append(site.data)
    site.crash()
    rng = np.random.default_rng(0)
    for genuine in files:
        for at in range(len(genuine)):
            damaged = bytearray(genuine)
            damaged[at] ^= 1 << int(rng.integers(8))
            site.path.write_bytes(damaged)
            with (
                Journal(site.path, rounds=Rounds(tmp_path / "rounds"), key=key) as opened,
                pytest.raises((DecodeError, LocalProtocolError)),
            ):
                opened.begin(site.rig.setup, ME)
            assert site.data == damaged


@given(st.sampled_from(MODES), st.sampled_from([None, KEY]), st.data())
@settings(max_examples=60)
def test_damage_never_leads_to_a_second_answer(mode: str, key: bytes | None, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        site = Site(Path(folder), mode, key)
        steps = site.rig.steps
        step = data.draw(st.sampled_from(steps))
        site.run(until=step)
        request = site.rig.ask(step)[ME]
        answer = site.rig.answer(step, ME)
        site.crash()
        damaged = bytearray(site.data)
        for _ in range(data.draw(st.integers(1, 3))):
            start = data.draw(st.integers(0, len(damaged) - 1))
            piece = data.draw(st.binary(min_size=1, max_size=8))
            damaged[start : start + len(piece)] = piece[: len(damaged) - start]
        site.path.write_bytes(damaged)
        try:
            assert site.open(np.zeros(5, np.uint64)).receive(request) == answer
        except SecAggError:
            pass
        finally:
            site.crash()


@pytest.mark.parametrize("key", [None, KEY], ids=["open", "sealed"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("end", ["finished", "aborted"])
def test_no_secret_is_left_at_the_end(tmp_path: Path, mode: str, key: bytes | None, end: str) -> None:
    site = Site(tmp_path, mode, key)
    secret, first = site.master, len(site.data)
    link = tmp_path / "link"
    link.hardlink_to(site.path)
    assert (secret in site.data) == (key is None)  # control: it was there
    if end == "finished":
        site.run()
        answer = site.rig.log["unmask", "up", ME]
        assert (answer in site.data) == (key is None)
    else:
        site.run(until="unmask")
        site.rig.clients[ME].abort()
        assert site.path.stat().st_size < 300
    assert not site.master
    assert secret not in site.data + link.read_bytes()
    assert not any(link.read_bytes()[:first])
    assert site.path.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.journal", "link", "rounds"]
    site.crash()
    if end == "finished":
        last = site.open(never)
        assert last.done
        assert last.receive(site.rig.outbox[ME]) == answer
        with pytest.raises(LocalProtocolError, match="last message"):
            last.receive(site.rig.log["advertise_keys", "down", ME])
        site.crash()
    else:
        assert "was aborted" in site.refused()


@pytest.mark.parametrize("step", ["advertise_keys", "share_keys", "masked_input", "consistency_check", "unmask", None])
def test_an_aborted_client_answers_nothing_any_more_not_even_again(tmp_path: Path, step: str | None) -> None:
    site = Site(tmp_path, "malicious")
    client = site.rig.clients[ME]
    site.run(until=step)
    site.rig.clients[ME].abort()
    client.abort()
    assert not client.done
    assert repr(client) == "<secagg.Client 2 aborted>"
    for (_, direction, i), message in site.rig.log.items():
        if direction == "down" and i == ME:
            with pytest.raises(LocalProtocolError, match="aborted"):
                client.receive(message)
    site.crash()
    assert "was aborted" in site.refused()
    with pytest.raises(LocalProtocolError, match="closed"):
        client.abort()


def test_a_client_without_a_journal_is_aborted_in_memory() -> None:
    rig = Rig(make_plan(4))
    rig.run(until="unmask")
    rig.ask("unmask")
    rig.clients[0].abort()
    with pytest.raises(LocalProtocolError, match="aborted"):
        rig.answer("unmask", 0)


def test_abort_erases_also_after_a_failed_write_and_can_be_repeated(tmp_path: Path) -> None:
    site = Site(tmp_path)
    secret = site.master
    site.rig.ask("advertise_keys")
    with failing_sync(0), pytest.raises(OSError, match="input/output"):
        site.rig.answer("advertise_keys", ME)
    assert secret in site.data
    with failing_sync(0), pytest.raises(OSError, match="input/output"):
        site.rig.clients[ME].abort()
    assert (tmp_path / "1.journal.next").exists()
    site.rig.clients[ME].abort()
    assert secret not in site.data
    assert not (tmp_path / "1.journal.next").exists()
    site.crash()


def test_an_answer_is_durable_before_it_is_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, int]] = []

    def fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append((found.st_ino, found.st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    site = Site(tmp_path)
    folder = tmp_path.stat().st_ino
    begun = (site.path.stat().st_ino, len(site.data))
    assert synced.index(begun) < [inode for inode, _ in synced].index(folder)
    for step in site.rig.steps:
        request = site.rig.ask(step)
        synced.clear()
        for i in request:
            site.rig.server.receive(i, site.rig.answer(step, i))
        assert (site.path.stat().st_ino, len(site.data)) in synced
        assert (folder in [inode for inode, _ in synced]) == (step == "unmask")
    site.crash()
    synced.clear()
    site.open()  # nothing may rest on what another process wrote until it is durable
    assert (site.path.stat().st_ino, len(site.data)) in synced
    site.crash()


@pytest.mark.parametrize("mode", MODES)
def test_a_sealed_journal_shows_nothing_and_opens_under_its_key_only(tmp_path: Path, mode: str) -> None:
    site = Site(tmp_path, mode, KEY)
    secrets = [site.master]
    for step in site.rig.steps[:-1]:
        for i in site.rig.ask(step):
            site.rig.server.receive(i, site.rig.answer(step, i))
        state = site.rig.clients[ME]._state
        secrets += [getattr(state, pair).private_bytes() for pair in ("sealing", "mask") if hasattr(state, pair)]
        secrets += [state.self_mask_seed] if hasattr(state, "self_mask_seed") else []
        secrets += [state.own_entry] if hasattr(state, "own_entry") else []
        secrets += [entry for entries in getattr(state, "entries", {}).values() for entry in entries]
    assert len(secrets) >= 1 + 2 + 3 + 9
    messages = [data[-40:] for (_, _, i), data in site.rig.log.items() if i == ME]
    assert not any(each in site.data for each in secrets + messages)
    shown = [repr(site.journal), repr(vars(site.rig.clients[ME])), pretty_repr(site.rig.clients[ME])]
    site.crash()
    with Journal(site.path, rounds=Rounds(tmp_path / "rounds"), key=KEY) as opened:
        shown += [repr(opened.begin(site.rig.setup, ME)), repr(opened)]
    begun = journal._Begun(b"", b"", ME, secrets[0])
    shown += [repr(begun), pretty_repr(begun)]
    assert not any(repr(secret)[2:-1] in text or secret.hex() in text for secret in secrets for text in shown)
    for key, says in ((bytes(32), "sealed under another key"), (None, "sealed: pass its key")):
        site.key = key
        assert says in site.refused()
    site.key = KEY
    site.open()
    site.crash()


def test_an_unsealed_journal_is_not_taken_for_a_sealed_one(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.crash()
    site.key = KEY
    assert "not sealed: open it without a key" in site.refused()
    with pytest.raises(ValueError, match="32 bytes, got 31"):
        Journal(site.path, rounds=Rounds(tmp_path / "rounds"), key=bytes(31))


def test_one_handle_at_a_time_in_one_process_and_across_processes(tmp_path: Path) -> None:
    site = Site(tmp_path)
    program = (
        "import sys; from pathlib import Path; from secagg import Journal, Rounds\n"
        "Journal(Path(sys.argv[1]), rounds=Rounds(Path(sys.argv[2])))"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, str(site.path), str(tmp_path / "rounds")]
    site.run(until="unmask")
    for _ in range(2):  # the file at the end is another one, locked like the first
        with pytest.raises(LocalProtocolError, match="another process, or another handle"):
            Journal(site.path, rounds=Rounds(tmp_path / "rounds"))
        other = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- our own
        assert "another process, or another handle" in other.stderr
        site.rig.ask("unmask") if not site.rig.outbox or not site.rig.clients[ME].done else None
        site.rig.answer("unmask", ME)
    site.crash()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 -- our own


def test_a_handle_serves_one_client_and_no_forked_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path)
    with pytest.raises(LocalProtocolError, match="serves a Client already"):
        Client(site.rig.setup, ME, site.rig.inputs[ME], journal=site.journal)
    for way in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be copied"):
            way(site.journal)
    request = site.rig.ask("advertise_keys")[ME]
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(LocalProtocolError, match="forked"):
        site.rig.clients[ME].receive(request)
    monkeypatch.undo()
    site.crash()
    with pytest.raises(LocalProtocolError, match="it is closed"):
        site.rig.clients[ME].receive(request)
    with pytest.raises(LocalProtocolError, match="closed"):
        site.journal.append(b"", b"", last=False)


@pytest.mark.parametrize("umask", [0, 0o777])
def test_files_are_for_their_owner_only(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        site = Site(tmp_path)
        site.run()
    finally:
        os.umask(before)
    site.crash()
    for path in (site.path, tmp_path / "rounds"):
        assert path.stat().st_mode & 0o777 == 0o600
    site.path.chmod(0o640)
    with pytest.raises(PermissionError, match="chmod 600"):
        site.open()


def test_links_folders_and_devices_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "link", tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match=r"levels of symbolic links|directory|regular"):
            Journal(path, rounds=Rounds(tmp_path / "rounds"))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("what", ["round", "client", "model"])
def test_a_journal_of_another_round_client_or_model_is_refused(tmp_path: Path, what: str, ended: bool) -> None:
    site = Site(tmp_path)
    site.run(until=None if ended else "masked_input")
    site.crash()
    before = site.data
    other = {
        "round": Rig(make_plan(5), round=2).setup,
        "client": site.rig.setup,
        "model": Rig(make_plan(5), round=1, model=model_digest(b"another")).setup,
    }[what]
    with pytest.raises(LocalProtocolError, match=f"another .*{what}"):
        site.open(setup=other, client=3 if what == "client" else ME)
    assert site.data == before


def test_a_lower_or_equal_round_is_refused_unless_its_own_journal_is_resumed(tmp_path: Path) -> None:
    site = Site(tmp_path, round=5)
    secret = site.data
    for number in (5, 4, 0):
        path = tmp_path / "again"
        rig = Rig(make_plan(5), round=number)
        with (
            Journal(path, rounds=Rounds(tmp_path / "rounds")) as opened,
            pytest.raises(LocalProtocolError, match=f"has begun round 5 of this session, and round {number} may not"),
        ):
            Client(rig.setup, ME, never, journal=opened)
        assert not path.exists()
    site.crash()
    site.open()  # that very journal
    site.crash()
    later = Site(tmp_path, round=6)
    later.crash()
    assert "has begun round 6" in site.refused()
    later.open()
    later.crash()
    for path in (site.path, later.path):  # deleted, or put back as it was: not the journal that began the round
        path.unlink()
        path.touch(0o600)
        assert "has begun round 6" in site.refused()
    later.path.write_bytes(secret)
    later.path.chmod(0o600)
    assert "another session, round" in later.refused()


def test_rounds_are_counted_per_session_and_client(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path / "rounds")
    first, other = Rig(make_plan(5), round=7).setup, Rig(make_plan(5), round=3, session=bytes(16)).setup
    rounds.begin(first, ME, b"\x01" * 16)
    rounds.begin(first, 3, b"\x02" * 16)
    rounds.begin(other, ME, b"\x03" * 16)
    rounds.begin(first, ME, b"\x01" * 16)
    with pytest.raises(LocalProtocolError, match="has begun round 7"):
        rounds.begin(first, ME, b"\x02" * 16)


@pytest.mark.parametrize("damage", ["flip", "cut", "checked but no record"])
def test_a_damaged_record_of_rounds_is_a_typed_error(tmp_path: Path, damage: str) -> None:
    site = Site(tmp_path)
    site.crash()
    path = tmp_path / "rounds"
    data = path.read_bytes()
    line = b'{"a":1}'
    changed = {
        "flip": data.replace(b"[1,", b"[0,"),
        "cut": data[:-1],
        "checked but no record": line + b"\n" + rounds_begun._check_line(line),
    }[damage]
    path.write_bytes(changed)
    assert "not a record of rounds, or a damaged one" in site.refused()
    assert path.read_bytes() == changed


def test_the_record_of_rounds_can_fail_and_the_round_be_begun_again(tmp_path: Path) -> None:
    rounds = tmp_path / "rounds"
    rounds.mkdir()
    (tmp_path / "0").mkdir()
    site = Site(tmp_path / "0")
    site.crash()
    with pytest.raises(IsADirectoryError):
        site.open(rounds=rounds)
    for after in range(1, 5):  # at each sync of creation
        folder_of_it = tmp_path / str(after)
        folder_of_it.mkdir()
        with failing_sync(after - 1), pytest.raises(OSError, match="input/output"):
            Site(folder_of_it)
        site = Site(folder_of_it)
        site.run()
        assert site.rig.server.total().vector.tolist() == site.rig.expected(range(5))
        site.crash()


@pytest.mark.parametrize("content", [b"hello", b"secagg journaX", b"\0" * 400])
def test_other_files_are_never_overwritten(tmp_path: Path, content: bytes) -> None:
    site = Site(tmp_path)
    site.crash()
    site.path.write_bytes(content)
    assert "not a journal" in site.refused()
    assert site.data == content


def test_a_journal_of_another_version_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.crash()
    site.path.write_bytes(site.data.replace(b"secagg journal\x01", b"secagg journal\x02"))
    assert "journal version 2, this library reads 1" in site.refused()


@pytest.mark.parametrize("case", ["answer first", "begun twice", "after the end", "not a record"])
def test_well_formed_records_that_make_no_sense_are_refused(tmp_path: Path, case: str) -> None:
    site = Site(tmp_path)
    records: list[Any]
    frame = site.journal._frame
    owner = site.journal._owner
    begun, answered = journal._Begun(*owner, bytes(32)), journal._Answered(b"", b"")
    finished = journal._Finished(*owner, bytes(32), b"")
    records = {  # type: ignore[assignment]
        "answer first": [answered],
        "begun twice": [begun, begun],
        "after the end": [finished, answered],
        "not a record": [["begun", 1]],
    }[case]
    data = site.journal._header + b"".join(frame(record, number) for number, record in enumerate(records))
    site.crash()
    site.path.write_bytes(data)
    assert "cannot be there" in (said := site.refused()) or "not one that this library writes" in said


def test_a_step_that_fits_no_record_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path)
    before = site.data
    site.rig.ask("advertise_keys")
    monkeypatch.setattr(journal, "_MAX_RECORD", 200)
    with pytest.raises(LocalProtocolError, match="does not fit"):
        site.rig.answer("advertise_keys", ME)
    assert site.data == before
    site.crash()


@pytest.mark.parametrize("step", ["share_keys", "masked_input"])
def test_a_journal_that_replays_to_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    site = Site(tmp_path)
    site.run(until=step)
    site.crash()
    monkeypatch.setattr("secagg.tags.STEP", b"another library")
    assert "written by another version" in site.refused()
    monkeypatch.undo()
    monkeypatch.setattr("secagg.params.WIRE_VERSION", 1)
    monkeypatch.setattr("secagg.wire.WIRE_VERSION", 2)
    assert "written by another version" in site.refused()


def test_a_plain_upload_is_stored_like_any_other_answer(tmp_path: Path) -> None:
    rig = Rig(make_plan(3, masking="plain", threshold=1))
    request = rig.ask("upload")[0]
    rounds = Rounds(tmp_path / "rounds")
    with Journal(tmp_path / "journal", rounds=rounds) as opened:
        answer = Client(rig.setup, 0, rig.inputs[0], journal=opened).receive(request)
    with Journal(tmp_path / "journal", rounds=rounds) as opened:
        assert Client(rig.setup, 0, never, journal=opened).receive(request) == answer


@pytest.mark.parametrize("mode", MODES)
def test_randomness_is_derived_from_the_master_secret_the_step_and_the_request(mode: str) -> None:
    rig = Rig(make_plan(5, server=mode))
    client = rig.clients[ME]
    seen: list[bytes] = []

    def spied(*arguments: Any) -> bytes:
        derived = derive_key(*arguments)
        seen.append(derived)
        return derived

    with mock.patch("secagg.session.derive_key", spied):
        for step in steps_of("masking", mode):  # type: ignore[arg-type]
            request = rig.ask(step)[ME]
            for i in rig.outbox.keys() - {ME}:
                rig.server.receive(i, rig.answer(step, i))
            before = client._state
            seen.clear()
            answer = client.receive(request)
            first = seen.pop()
            other = changed(rig, step, request)
            if other is not None and before is not None and client._state is not None:
                after, client._state = client._state, before
                client.receive(other)
                assert seen.pop() != first
                client._state = before
                assert client.receive(request) is not None
                assert seen.pop() == first
                client._state = after
            rig.server.receive(ME, answer)
    rig.server.close_round()
    assert rig.server.total().vector.tolist() == rig.expected(range(5))


@pytest.mark.parametrize("by", ["another file", "nothing"])
def test_a_file_replaced_between_opening_and_locking_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    path = tmp_path / "file"
    path.touch(0o600)
    path.chmod(0o600)
    real, locks = fcntl.flock, []

    def flock(file: Any, how: int) -> None:
        real(file, how)
        locks.append(how)
        if len(locks) == 1 and by == "nothing":
            path.unlink()
        elif len(locks) == 1:
            private_files.replaced(path, b"new").close()

    monkeypatch.setattr(fcntl, "flock", flock)
    with private_files.locked(path, wait=True) as file:
        assert file.readall() == (b"" if by == "nothing" else b"new")
    assert len(locks) == (2 if by == "nothing" else 3)


def test_a_write_failure_can_be_survived_in_the_same_process(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.rig.ask("advertise_keys")
    with failing_sync(0), pytest.raises(OSError, match="input/output"):
        site.rig.answer("advertise_keys", ME)
    with pytest.raises(LocalProtocolError, match="an earlier write failed"):
        site.journal.append(b"", b"", last=False)
    site.crash()
    for i in range(5):
        if i == ME:
            site.open()
        site.rig.server.receive(i, site.rig.answer("advertise_keys", i))
    assert len(site.rig.ask("share_keys")) == 5
    site.crash()

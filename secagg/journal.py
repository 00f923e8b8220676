"""A client's round on disk: a process that dies goes on where it was, and nobody ever gets two answers to one step.

    rounds = Rounds(folder / "rounds")
    with Journal(folder / "round-7.journal", rounds=rounds, key=key) as journal:
        client = Client(setup, client_id, contribution, journal=journal)  # begins, or resumes what the file holds

A client is a function of one 32-byte master secret, drawn when it begins, of the requests it answered and, where keys
are hybrid, of what it encapsulated, which its answer holds. The file holds just that, and every answer:

    "secagg journal" (14) | version (1) | sealed (1) | file id (16) | record | record | ...
    record: length (8) | salt (32) | check (16) | MessagePack, sealed under the caller's key or followed by its SHA-256

Promised, of a file system that keeps what was fsynced:
- An answer is durable before it is returned. After a crash at any moment the same request gets the same bytes, another
  one for a step that was answered is refused. Only a record cut short is dropped: its answer was never returned.
- Damage is a `DecodeError`; it never turns into another answer.
- One handle at a time: the file is 0600 and exclusively locked. Another setup, model or client is refused.
- With a key, whoever reads the file sees sizes only: AES-256-GCM under a key of each record's own.
- With the last answer, and at `Client.abort`, the file is replaced by one without secrets.
- `Rounds` remembers, per session and client, the highest round begun and by which journal; anything else is refused.

Not promised: that a disk restored to an earlier state is noticed, `Rounds` and all (no program can tell), or this very
journal put back as it was before its last answers, cut there by hand, or copied and used twice with the same `Rounds`:
that step is then open again, and a masked input of another vector would give the difference away. Nor that the old
bytes are gone from the medium: they are overwritten in place, but an SSD or a copying file system keeps what it likes,
and Python cannot wipe memory. Without a key, whoever can read the file can read this client's vector off the network.
POSIX only; a file system has to support `flock`. No clocks: files of rounds that never end stay until deleted.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Self, SupportsIndex

import msgspec

from secagg import tags
from secagg.errors import DecodeError, LocalProtocolError
from secagg.primitives.aead import TAG_BYTES, open_sealed, seal
from secagg.primitives.keys import KEY_BYTES, derive_key
from secagg.private_files import locked, replaced, sync_directory, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from secagg.rounds_begun import Rounds
    from secagg.setups import Setup

__all__ = ["Journal", "Progress"]

_MAGIC = b"secagg journal"
_VERSION = 1
_ID_BYTES = 16
_HEADER_BYTES = len(_MAGIC) + 2 + _ID_BYTES
_LENGTH_BYTES = 8
_SALT_BYTES = 32
_CHECK_BYTES = 16
_HEAD_BYTES = _LENGTH_BYTES + _SALT_BYTES + _CHECK_BYTES
_HASH_BYTES = 32
_MAX_RECORD = (1 << 31) - 1 - _HASH_BYTES
"""Bytes of one record: what OpenSSL seals at once."""


class _Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, eq=False):
    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class _First(_Record, frozen=True):
    """Whose file it is."""

    setup: bytes
    model: bytes
    position: int


class _Begun(_First, frozen=True, tag="begun"):
    master: bytes


class _Answered(_Record, frozen=True, tag="answered"):
    request: bytes
    answer: bytes


class _Finished(_First, frozen=True, tag="finished"):
    request: bytes  # SHA-256
    answer: bytes


class _Aborted(_First, frozen=True, tag="aborted"):
    """Nothing is left but whose it was."""


_DECODER = msgspec.msgpack.Decoder(_Begun | _Answered | _Finished | _Aborted)


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """What a journal holds of a client.

    Attributes:
        master: 32 bytes from which all randomness of its steps is derived; empty if it has finished.
        answered: (request, answer) of each step, in order.
        finished: SHA-256 of the last request, and the last answer; empty before.
    """

    master: bytes = field(repr=False)
    answered: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    finished: tuple[bytes, bytes] = field(default=(b"", b""), repr=False)


class Journal:
    """One client's round in one file, locked from here to `close`.

    Serves one `Client`, whose one call at a time makes it safe. Cannot be copied or pickled.

    Args:
        path: a file of this round alone; made (0600) if there is none. Afterwards it holds the last answer and no
            secret, and may be deleted.
        rounds: where the highest round is kept.
        key: 32 secret bytes to seal the file with; None leaves it readable to whoever can read the file.

    Raises:
        LocalProtocolError: another process, or another handle of this one, has it open.
        PermissionError: others than its owner have access to the file.
        OSError: it cannot be opened.
        ValueError: the key is not 32 bytes.
    """

    def __init__(self, path: Path, *, rounds: Rounds, key: bytes | None = None) -> None:
        if key is not None and len(key) != KEY_BYTES:
            msg = f"a journal is sealed with a key of {KEY_BYTES} bytes, got {len(key)}"
            raise ValueError(msg)
        self._path = path.absolute()
        self._rounds = rounds
        self._key = key
        self._header = b""
        self._owner = (b"", b"", 0)
        self._records = 0
        self._secrets_end = 0
        self._begun = self._failed = False
        self._process = os.getpid()
        try:
            self._file = locked(self._path, wait=False)
        except BlockingIOError as error:
            text = f"{self._path}: another process, or another handle of this one, has it open"
            raise LocalProtocolError(text, round="journal") from error

    def begin(self, setup: Setup, position: int) -> Progress:
        """Begin the file for a client, or read what it holds. `Client` calls this, once.

        Raises:
            LocalProtocolError: it belongs to another client, setup or model, or to a Client already; the round is not
                higher than the highest begun; it was aborted; it is sealed and no key was given, or the reverse.
            DecodeError: damaged, sealed under another key, or no journal at all.
            OSError: it cannot be read or written.
        """
        if self._begun:
            self._refuse("this handle serves a Client already: close it and open the file again")
        with self._writing():
            self._begun = True
            data = self._file.readall()
            self._owner = (setup.digest, setup.model, position)
            records, ends = self._parsed(data)
            if not records:
                return self._create(setup, position)
            first = self._owned(records[0])
            if isinstance(first, _Begun):
                self._rounds.begin(setup, position, self._header[-_ID_BYTES:])
            self._records, self._secrets_end = len(records), ends[0]
            # Whoever wrote the last record may have died before it was durable: nothing may rest on it until it is.
            self._file.truncate(ends[-1])
            self._write(data[: ends[-1]], start=ends[-2] if len(ends) > 1 else 0)
            sync_directory(self._path)
        if isinstance(first, _Finished):
            return Progress(b"", finished=(first.request, first.answer))
        answered = tuple((each.request, each.answer) for each in records[1:] if isinstance(each, _Answered))
        return Progress(first.master, answered)

    def append(self, request: bytes, answer: bytes, *, last: bool) -> None:
        """Store an answered step, durably; if it was the last, put it in the place of all there was.

        Raises:
            LocalProtocolError: closed, an earlier write failed, or the step does not fit a record.
            OSError: it cannot be written; what the file holds is found out by opening it again.
        """
        with self._writing():
            if last:
                self._replace(_Finished(*self._owner, hashlib.sha256(request).digest(), answer))
                return
            self._file.seek(0, os.SEEK_END)
            write(self._file, self._frame(_Answered(request, answer), self._records))
            self._records += 1

    def erase(self) -> None:
        """Replace the file by one that holds nothing, also after a write has failed.

        Raises:
            LocalProtocolError: closed.
            OSError: it cannot be written; call again.
        """
        self._failed = False
        with self._writing():
            self._replace(_Aborted(*self._owner))

    def close(self) -> None:
        """Release the file; what it holds stays. Closing twice does nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Show where it is; never what it holds."""
        return f"<secagg.Journal {str(self._path)!r}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be copied or pickled."""
        msg = "a Journal cannot be copied or pickled: open the file again"
        raise TypeError(msg)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Refuse what cannot go on, and everything after work that did not end."""
        if self._file.closed:
            self._refuse("it is closed: open the file again, with a new Client")
        if self._process != os.getpid():
            self._refuse("it was opened by another process: a forked one cannot use it")
        if self._failed:
            self._refuse("an earlier write failed: close it and open the file again, with a new Client")
        self._failed = True
        yield
        self._failed = False

    def _refuse(self, why: str) -> NoReturn:
        text = f"{self._path}: {why}"
        raise LocalProtocolError(text, round="journal")

    def _damaged(self, what: str) -> NoReturn:
        msg = f"{self._path}: {what}: this round cannot go on, start a new one with another journal"
        raise DecodeError(msg)

    def _create(self, setup: Setup, position: int) -> Progress:
        master = os.urandom(KEY_BYTES)
        self._header = self._new_header()
        begun = self._header + self._frame(_Begun(*self._owner, master), 0)
        self._file.truncate(0)
        self._write(begun, start=0)
        sync_directory(self._path)
        self._records, self._secrets_end = 1, len(begun)
        try:
            self._rounds.begin(setup, position, self._header[-_ID_BYTES:])
        except LocalProtocolError:
            self._path.unlink()
            self._file.close()
            raise
        return Progress(master)

    def _owned(self, first: object) -> _Begun | _Finished:
        if not isinstance(first, (_Begun, _Finished, _Aborted)):
            self._damaged("the first record is of a kind that cannot be there")
        kinds = ("session, round, plan or roster", "model", "client")
        for what, theirs, ours in zip(kinds, (first.setup, first.model, first.position), self._owner, strict=True):
            if theirs != ours:
                self._refuse(f"this journal belongs to another {what}")
        if isinstance(first, _Aborted):
            self._refuse("this round was aborted: start a new one with another journal")
        return first

    def _write(self, data: bytes, *, start: int) -> None:
        self._file.seek(start)
        write(self._file, memoryview(data)[start:])

    def _replace(self, record: _First) -> None:
        self._header = self._new_header()
        old, self._file = self._file, replaced(self._path, self._header + self._frame(record, 0))
        with old:  # whoever holds a hard link to it holds no secret
            old.seek(0)
            write(old, bytes(self._secrets_end))

    def _new_header(self) -> bytes:
        return _MAGIC + bytes((_VERSION, self._key is not None)) + os.urandom(_ID_BYTES)

    def _frame(self, record: _Record, number: int) -> bytes:
        plain = msgspec.msgpack.encode(record)
        if len(plain) > _MAX_RECORD:
            self._refuse(f"a step of {len(plain)} bytes does not fit a record of {_MAX_RECORD}")
        extra = _HASH_BYTES if self._key is None else TAG_BYTES
        head = (len(plain) + extra).to_bytes(_LENGTH_BYTES, "little") + os.urandom(_SALT_BYTES)
        context = self._context(head, number)
        if self._key is None:
            body = plain + _hash(context, plain)
        else:
            body = seal(derive_key(self._key, tags.JOURNAL_RECORD, context), plain, associated_data=context)
        return head + _hash(context)[:_CHECK_BYTES] + body

    def _context(self, head: bytes, number: int) -> bytes:
        """Bind a record to its file and its place."""
        return self._header + number.to_bytes(8, "little") + head

    def _parsed(self, data: bytes) -> tuple[list[_Record], list[int]]:
        """Read all whole records, and where each ends."""
        if data[: len(_MAGIC)] != _MAGIC[: len(data)]:
            self._damaged("not a journal")
        self._header = data[:_HEADER_BYTES]
        if len(data) < _HEADER_BYTES:
            return [], []
        version, sealed = self._header[len(_MAGIC) : len(_MAGIC) + 2]
        if version != _VERSION:
            self._damaged(f"journal version {version}, this library reads {_VERSION}")
        if sealed != (self._key is not None):
            self._refuse("it is sealed: pass its key" if sealed else "it is not sealed: open it without a key")
        records: list[_Record] = []
        ends: list[int] = []
        end = _HEADER_BYTES
        while (read := self._record(memoryview(data)[end:], len(records))) is not None:
            if records and not (isinstance(records[0], _Begun) and isinstance(read[0], _Answered)):
                self._damaged(f"record {len(records)} is of a kind that cannot be there")
            end += read[1]
            records.append(read[0])
            ends.append(end)
        return records, ends

    def _record(self, data: memoryview, number: int) -> tuple[_Record, int] | None:
        """Read one record and its size; None if it was cut short."""
        if len(data) < _HEAD_BYTES:
            return None
        head, check = bytes(data[: _HEAD_BYTES - _CHECK_BYTES]), data[_HEAD_BYTES - _CHECK_BYTES : _HEAD_BYTES]
        context = self._context(head, number)
        if _hash(context)[:_CHECK_BYTES] != check:
            self._damaged(f"the head of record {number} is damaged")
        size = _HEAD_BYTES + int.from_bytes(head[:_LENGTH_BYTES], "little")
        if len(data) < size:
            return None
        body = bytes(data[_HEAD_BYTES:size])
        if self._key is None:
            plain, digest = body[:-_HASH_BYTES], body[-_HASH_BYTES:]
            if _hash(context, plain) != digest:
                self._damaged(f"record {number} is damaged")
        else:
            try:
                plain = open_sealed(derive_key(self._key, tags.JOURNAL_RECORD, context), body, associated_data=context)
            except DecodeError:
                self._damaged(f"record {number} is damaged, or sealed under another key")
        try:
            return _DECODER.decode(plain), size
        except msgspec.MsgspecError:
            self._damaged(f"record {number} is not one that this library writes")


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join((tags.JOURNAL_CHECK, *parts))).digest()

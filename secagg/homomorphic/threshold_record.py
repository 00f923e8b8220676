"""The highest rounds of a threshold key, durably: one upload and one active statement a round, whatever crashes.

Whatever is begun is on disk before `begin` returns, hence before anything is sent. The record is a file of its own
beside the key, `NAME.rounds`, so that a key put back from a backup does not take it back; without it the key is
refused. Copy neither: two copies remember two things. A key that was never saved exists once, so that memory will do,
in the process that made it and in none forked from it; a key in memory that was saved refuses a file older than what it
saw.

    record: MessagePack [owner, {purpose: (round, 32 bytes)}] | SHA-256 of a label and that; below 1 kB

Safe to share between threads and processes: a file is locked, and read again, for every change.
"""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from secagg import tags
from secagg.errors import DecodeError, LocalProtocolError
from secagg.private_files import locked, replaced, sync_directory

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

__all__ = ["Record", "record_path"]

Purpose: TypeAlias = Literal["upload", "decrypt"]
Highest: TypeAlias = dict[Purpose, tuple[int, bytes]]

_CHECK_BYTES = 32
_MOST_BYTES = 1 << 10


def record_path(key: Path) -> Path:
    """Say where the record of a key file is."""
    return key.with_name(key.name + ".rounds")


class Record:
    """The highest round of each purpose, and what was begun in it.

    Args:
        owner: 32 bytes that name the key and the client.
        path: of the file; None keeps it in memory.
    """

    def __init__(self, owner: bytes, path: Path | None = None) -> None:
        self._owner, self._path = owner, path
        self._highest: Highest = {}
        self._lock = threading.Lock()
        self._process = os.getpid()

    def begin(self, purpose: Purpose, number: int, what: bytes) -> None:
        """Remember that something is begun in a round; the very same may be begun again.

        Args:
            number: of the round.
            what: 32 bytes that name it.
        Raises:
            LocalProtocolError: a higher round was begun, or something else in this one; or the record is gone, or older
                than this object saw it, or kept in memory by the process that this one was forked from.
            DecodeError: the record is damaged or another key's.
            OSError: it cannot be read or written, or others than its owner have access to it.
        """
        with self._lock:
            if self._path is None:
                self._require_process(purpose)
                self._highest = _followed(self._highest, purpose, number, what)
                return
            with self._opened(self._path, purpose) as file:
                before = self._read(file, purpose)
                after = _followed(before, purpose, number, what)
                if after != before:
                    replaced(self._path, self._written(after)).close()
                else:  # whoever wrote it may have died before its name was durable
                    sync_directory(self._path)
            self._highest = after

    @property
    def last_round(self) -> int | None:
        """The highest round begun, for either purpose; None: none was.

        Raises:
            LocalProtocolError, DecodeError, OSError: as for `begin`.
        """
        with self._lock:
            if self._path is not None:
                with self._opened(self._path, "show") as file:
                    self._highest = self._read(file, "show")
            return max((number for number, _ in self._highest.values()), default=None)

    @staticmethod
    def _opened(path: Path, purpose: str) -> FileIO:
        """Open and lock the file, which has to be there: one that is gone is not made anew."""
        if not path.exists():
            text = f"{path} is gone, which says what this key was used for: set up a new key"
            raise LocalProtocolError(text, round=purpose)
        return locked(path, wait=True)

    def move(self, path: Path, *, found: bool) -> None:
        """Go on in a file.

        Args:
            found: whether the key is there already, and its record with it; if not, the file is written anew.
        Raises:
            LocalProtocolError: it goes on elsewhere already, or what was begun is not in the file that was found; the
                key is gone, and the file says that it was used; it went on in this file, which is gone, or older; or
                this process was forked from the one that keeps it in memory.
            DecodeError: the file is damaged; or it went on in this file, which is another key's.
            OSError: it cannot be read or written.
        """
        with self._lock:
            if self._path == path:
                with self._opened(path, "save") as file:
                    self._highest = self._read(file, "save")
                if self._highest and not found:
                    raise self._used()
                return
            if self._path is not None or (found and self._highest):
                text = "this key is in use elsewhere, and a second file would not know what it was used for"
                raise LocalProtocolError(text, round="save")
            self._require_process("save")
            self._path = path
            if not found:
                try:
                    with locked(path, wait=False) as file:
                        self._require_free(file)
                        replaced(path, self._written(self._highest)).close()
                except BaseException:
                    self._path = None
                    raise

    def _require_process(self, purpose: str) -> None:
        """Refuse to go on from memory that two processes have."""
        if self._process != os.getpid():
            text = (
                "this key is kept in memory by the process that this one was forked from: save it there, load it here"
            )
            raise LocalProtocolError(text, round=purpose)

    def _require_free(self, file: FileIO) -> None:
        """Refuse a file that says more of this key than is known, or what nobody can tell."""
        data = file.read(_MOST_BYTES + 1)
        if not data:  # new, or left by a crash before anything was written
            return
        owner, left = self._unpacked(data)
        if owner == self._owner and left not in ({}, self._highest):
            raise self._used()

    def _read(self, file: FileIO, purpose: str) -> Highest:
        """Read this key's file, which knows at least what this object does."""
        owner, highest = self._unpacked(file.read(_MOST_BYTES + 1) or b"")
        if owner != self._owner:
            raise self._damaged()
        for each, seen in self._highest.items():
            there = highest.get(each, (-1, b""))
            if there != seen and there[0] <= seen[0]:
                text = f"{self._path} forgot what this key was used for since it was last read: set up a new key"
                raise LocalProtocolError(text, round=purpose)
        return highest

    def _written(self, highest: Highest) -> bytes:
        body = msgspec.msgpack.encode([self._owner, highest])
        return body + _check(body)

    def _unpacked(self, data: bytes) -> tuple[bytes, Highest]:
        body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
        if len(data) > _MOST_BYTES or check != _check(body):
            raise self._damaged()
        try:
            return msgspec.msgpack.decode(body, type=tuple[bytes, Highest])
        except msgspec.MsgspecError as error:
            raise self._damaged() from error

    def _damaged(self) -> DecodeError:
        return DecodeError(f"{self._path}: not the record of this key, or damaged: set up a new key")

    def _used(self) -> LocalProtocolError:
        text = f"{self._path} says that this key was used, and the key was gone: set up a new key"
        return LocalProtocolError(text, round="save")


def _followed(highest: Highest, purpose: Purpose, number: int, what: bytes) -> Highest:
    last, begun = highest.get(purpose, (-1, b""))
    if number < last or (number == last and what != begun):
        text = (
            f"this key has begun another {purpose} in round {last}, and round {number} may not begin after it: "
            "a second one would give the key away, use a higher round number"
        )
        raise LocalProtocolError(text, round=purpose)
    return {**highest, purpose: (number, what)}


def _check(body: bytes) -> bytes:
    return hashlib.sha256(tags.THRESHOLD_RECORD + body).digest()

"""The SQLite file of a privacy budget: one row for the budget, one for every reservation ever made.

    reserved -> spent        durable before `settle` returns: then, and only then, may a first byte leave
    reserved -> released     nothing left, since `spent` never was durable
    spent                    for ever

Every change is one transaction that holds the file's only write lock from its first read on (BEGIN IMMEDIATE), so that
processes that decide at the same time decide one after the other. Each operation opens the file anew: objects may be
used from several threads, and after a fork. A commit is durable when it returns, of a disk that keeps what was synced
and a file system whose locks work (a local one; not every network share): synchronous=EXTRA syncs the directory too.

Every row carries a digest, so that damage is found. It is no signature: whoever can write the file can reset the
budget, and so does a restored backup. Keep it where only the process that releases can write.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn
from urllib.parse import quote

import msgspec

from dp.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["BudgetFileError", "BudgetStore", "Entry", "ReservationError", "State", "now"]

State = Literal["reserved", "spent", "released"]

_APPLICATION = int.from_bytes(b"dpBu")
_VERSION = 1
_WAIT_SECONDS = 60.0
_SCHEMA = f"""
BEGIN IMMEDIATE;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
CREATE TABLE budget (id INTEGER PRIMARY KEY CHECK (id = 1), terms TEXT NOT NULL, digest TEXT NOT NULL);
CREATE TABLE reservation (
    number INTEGER PRIMARY KEY,
    event TEXT NOT NULL,
    purpose TEXT NOT NULL,
    state TEXT NOT NULL,
    reserved_at TEXT NOT NULL,
    settled_at TEXT NOT NULL,
    digest TEXT NOT NULL
);
"""


class BudgetFileError(PrivacyError):
    """The file is no budget, is damaged, comes from another version, or cannot be read or written now."""


class ReservationError(PrivacyError):
    """A reservation was spent or released twice, or never made. Nothing may be sent on its account."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One reservation as the file holds it.

    Attributes:
        number: 1, 2, ... in the order of reservations.
        event: canonical JSON text of what was to be released.
        purpose: what for.
        state: "reserved", "spent" or "released".
        reserved_at, settled_at: UTC, ISO 8601, of this machine's clock; `settled_at` is empty while reserved.
    """

    number: int
    event: str
    purpose: str
    state: State
    reserved_at: str
    settled_at: str


class BudgetStore:
    """A budget's file. Holds only its path; safe to share between threads and processes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()

    def create(self, terms: str) -> None:
        """Write a new file, readable by its owner only, with the terms of the budget.

        Raises:
            FileExistsError: the path is taken.
            BudgetFileError: it cannot be written.
        """
        os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            with self._connection() as connection:
                connection.executescript(_SCHEMA)
                connection.execute("INSERT INTO budget VALUES (1, ?, ?)", [terms, _digest(terms)])
                connection.execute("COMMIT")
        except BaseException:
            self.path.unlink()
            raise

    def terms(self) -> str:
        """Check that the file is a sound budget of this version; return its terms.

        Raises:
            FileNotFoundError: there is none.
            BudgetFileError: it is something else, damaged, or of another version.
        """
        self.path.stat()
        with self._connection() as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if application != _APPLICATION:
                self._fail("not a privacy budget")
            if version != _VERSION:
                self._fail(f"written by another version: its schema is {version}, this library knows {_VERSION}")
            if (damage := connection.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
                self._fail(f"damaged: {damage[0]}; a backup does not know what was spent since")
            rows = connection.execute("SELECT terms, digest FROM budget").fetchall()
            if len(rows) != 1 or rows[0][1] != _digest(rows[0][0]):
                self._fail("damaged: its terms are not what was written")
            return str(rows[0][0])

    def entries(self) -> list[Entry]:
        """Return all reservations, in order.

        Raises:
            BudgetFileError: one is not what was written, or the file cannot be read.
        """
        with self._connection() as connection:
            return self._entries(connection)

    @contextmanager
    def deciding(self) -> Iterator[tuple[list[Entry], Callable[[Entry], object]]]:
        """Hold the write lock: give all reservations, and what writes one; commit if nothing is raised.

        Raises:
            BudgetFileError: as `entries`, or it cannot be written; what was to be written may be there or not.
        """
        with self._connection() as connection:

            def write(entry: Entry) -> object:
                row = astuple(entry)
                return connection.execute(
                    "INSERT OR REPLACE INTO reservation VALUES (?, ?, ?, ?, ?, ?, ?)", [*row, _digest(*row)]
                )

            connection.execute("BEGIN IMMEDIATE")
            yield self._entries(connection), write
            connection.execute("COMMIT")  # where this is not reached, closing takes everything back

    def settle(self, number: int, state: Literal["spent", "released"]) -> None:
        """Move a reservation on, durably.

        Raises:
            ReservationError: it is not reserved (any more).
            BudgetFileError: as `deciding`.
        """
        with self.deciding() as (entries, write):
            entry = entries[number - 1] if 0 < number <= len(entries) else None
            if entry is None or entry.state != "reserved":
                msg = f"reservation {number} of {self.path} is {entry.state if entry else 'unknown'}: "
                raise ReservationError(msg + f"it cannot be {state}")
            write(replace(entry, state=state, settled_at=now()))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one operation."""
        address = f"file:{quote(str(self.path))}?mode=rw"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = EXTRA")
                connection.execute("PRAGMA fullfsync = ON")  # on macOS fsync alone does not reach the disk
                yield connection
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter from a damaged schema
            self._fail(f"not a usable privacy budget: {error}", error)

    def _entries(self, connection: sqlite3.Connection) -> list[Entry]:
        rows = connection.execute("SELECT * FROM reservation ORDER BY number").fetchall()
        for number, (*row, digest) in enumerate(rows, start=1):
            if row[0] != number or digest != _digest(*row):
                self._fail(f"damaged: reservation {number} is not what was written")
        return [Entry(*row[:-1]) for row in rows]

    def _fail(self, reason: str, cause: Exception | None = None) -> NoReturn:
        msg = f"{self.path}: {reason}"
        raise BudgetFileError(msg) from cause


def now() -> str:
    """Return the time, UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _digest(*fields: object) -> str:
    return hashlib.sha256(msgspec.json.encode(fields)).hexdigest()

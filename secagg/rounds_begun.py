"""The highest round begun, durably: what keeps a journal that was put back from beginning a round twice."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from secagg import tags
from secagg.errors import DecodeError, LocalProtocolError
from secagg.private_files import locked, replaced

if TYPE_CHECKING:
    from pathlib import Path

    from secagg.setups import Setup

__all__ = ["Rounds"]


class Rounds:
    """The highest round begun, per session and client, in a file of its own. Keep it where no journal is restored from.

    Safe to share between threads and processes: each change waits for an exclusive lock on the file.

    Args:
        path: made (0600) when the first round begins. One file serves any number of sessions and clients.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    def begin(self, setup: Setup, position: int, journal: bytes) -> None:
        """Remember, durably, that a journal begins this round or resumes it.

        Args:
            setup: names session and round.
            position: the client's place in the roster.
            journal: file id of the journal, 16 bytes.

        Raises:
            LocalProtocolError: a higher round was begun in this session, or this one by another journal.
            DecodeError: the file is damaged.
            OSError: it cannot be read or written, or others than its owner have access to it.
        """
        client_id = setup.roster[position]
        who = hashlib.sha256(tags.ROUNDS + msgspec.msgpack.encode([setup.session, client_id])).hexdigest()
        with locked(self._path, wait=True) as file:
            highest = self._parsed(file.readall())
            number, owner = highest.get(who, (-1, ""))
            if setup.round < number or (setup.round == number and owner != journal.hex()):
                text = (
                    f"client {client_id!r} has begun round {number} of this session, and round {setup.round} may not "
                    "begin after it: use a higher round number, or resume from that round's own journal"
                )
                raise LocalProtocolError(text, round="journal")
            line = msgspec.json.encode(highest | {who: (setup.round, journal.hex())})
            replaced(self._path, line + b"\n" + _check_line(line)).close()

    def _parsed(self, data: bytes) -> dict[str, tuple[int, str]]:
        if not data:
            return {}
        line, _, check = data.partition(b"\n")
        msg = f"{self._path}: not a record of rounds, or a damaged one: delete it and begin a new session"
        if check != _check_line(line):
            raise DecodeError(msg)
        try:
            return msgspec.json.decode(line, type=dict[str, tuple[int, str]])
        except msgspec.DecodeError as error:
            raise DecodeError(msg) from error


def _check_line(line: bytes) -> bytes:
    return hashlib.sha256(line).hexdigest().encode() + b"\n"

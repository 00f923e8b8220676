"""The set-up of a threshold key over files that sites send each other, by mail or by hand: `secagg threshold`.

    who           makes                 of                                     for
    coordinator   `Agreement`           a plan and a roster                    every site
    each site     `answer`              the agreement                          the coordinator
    coordinator   `relay`               all answers so far                     each site its own message
    each site     `answer`              that message; twice                    the coordinator
    coordinator   `relay`               all answers of the three rounds        the server: the key's public side

It is the set-up of `threshold_setup`, one session a site, over `Client`, `Server` and `Journal`; no message differs. A
site's secrets between its answers are in KEY.setup, a journal (0600), which the last answer empties; KEY.setup.rounds
says that it was begun; KEY and KEY.rounds are what `ThresholdKey.save` writes. All of it stays at the site. What is
sent is public or sealed to its holder: who carries the files learns no more than a server, and where the plan trusts
no server, can do no more. The coordinator keeps nothing: it makes each message anew from the answers.

Whatever is written is whole or not there, and never over a file of other bytes. A step run again with the same files
gives the same bytes.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from secagg.errors import DecodeError, PlanError, SecAggError, ThresholdError
from secagg.homomorphic.threshold import ThresholdContext
from secagg.homomorphic.threshold_parameters import MOST_CLIENTS, ThresholdParameters
from secagg.journal import Journal
from secagg.params import DIGEST_BYTES, Plan
from secagg.private_files import create, sync_directory
from secagg.rounds import invite
from secagg.rounds_begun import Rounds
from secagg.server_session import Server
from secagg.session import Client
from secagg.setups import Setup, new_session
from secagg.transitions import protocol_of
from secagg.wire import decode, encode, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from secagg.identity import Identity
    from secagg.params import ClientId, Directory
    from secagg.transitions import ServerStep

__all__ = [
    "AGREEMENT_MOST_BYTES",
    "MESSAGE_MOST_BYTES",
    "Agreement",
    "answer",
    "file_name",
    "naming",
    "plan_of",
    "read",
    "relay",
    "write_new",
    "write_new_folder",
]

AGREEMENT_MOST_BYTES = 1 << 20
"""Of an agreement, and of what `secagg plan --json` prints: a few kilobytes."""
MESSAGE_MOST_BYTES = MOST_CLIENTS * (8192 * 27 + (1 << 13))
"""Of a message of the set-up: of every client a share, and, for every client, a hash."""

SETUP_SUFFIX = ".setup"
"""Of the journal of a site's part in a set-up, beside its key."""
_NAME_LETTERS = 100
"""File systems take names of 255 bytes, sites may have longer ones."""


class _Printed(msgspec.Struct):
    """What is looked at of what `secagg plan --json` prints."""

    plan: Plan


class Agreement(msgspec.Struct, frozen=True, eq=False, tag_field="format", tag="secagg threshold agreement 1"):
    """What all sites agree on before they set a threshold key up, and what its rounds are for. Public.

    Attributes:
        plan: of the rounds.
        roster: 32-byte digest of the roster file.
        session: 16 to 64 bytes, of this set-up and of all rounds of the key.
        round: of the set-up; the key serves rounds after it.

    Raises:
        PlanError: the plan is not one of threshold sums.
    """

    plan: Plan
    roster: bytes
    session: bytes
    round: int

    def __post_init__(self) -> None:
        """Refuse a plan without a threshold key."""
        if self.plan.masking != "threshold":
            msg = f"a plan whose masking is {self.plan.masking!r} needs no threshold key: plan --masking threshold"
            raise PlanError(msg)

    @classmethod
    def propose(cls, plan: Plan, roster: Directory, *, assume_honest_server: bool = False) -> Agreement:
        """Make the first one of a new session.

        Args:
            assume_honest_server: as for `Setup`.
        Raises:
            PlanError: the roster does not match the plan; or as for `Setup`.
        """
        first = cls(plan, roster.digest, new_session(), 0)
        first.setup(roster, assume_honest_server=assume_honest_server)
        return first

    def refresh(self, roster: Directory, number: int | None = None, *, assume_honest_server: bool = False) -> Agreement:
        """Make the one of the next key, for later rounds of the same session.

        Args:
            roster: the same, or one of as many members that took its place.
            number: of the set-up, higher than that of every round begun; None: after the last one of this key.
        Raises:
            PlanError: the number is not higher than this set-up's; or as for `propose`.
        """
        number = self.last_round + 1 if number is None else number
        if number <= self.round:
            msg = f"this key was set up in round {self.round}: a new one takes a later round, not {number}"
            raise PlanError(msg)
        following = Agreement(self.plan, roster.digest, self.session, number)
        following.setup(roster, assume_honest_server=assume_honest_server)
        return following

    def setup(
        self,
        roster: Directory,
        number: int | None = None,
        *,
        model: bytes = b"",
        assume_honest_server: bool = False,
    ) -> Setup:
        """Bind plan and session to a round.

        Args:
            number: of the round; None: of the set-up.
            model, assume_honest_server: as for `Setup`.
        Raises:
            PlanError: this is another roster than was agreed on; or as for `Setup`.
        """
        if roster.digest != self.roster:
            msg = "this agreement was made for another roster: take the one that the coordinator proposed it for"
            raise PlanError(msg)
        return Setup(
            plan=self.plan,
            roster=roster,
            session=self.session,
            round=self.round if number is None else number,
            model=model,
            assume_honest_server=assume_honest_server,
        )

    @property
    def last_round(self) -> int:
        """The last one that the key serves."""
        return self.round + ThresholdParameters.of(self.plan).rounds

    def to_bytes(self) -> bytes:
        """Return the canonical text."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Agreement:
        """Read and check; DecodeError if it is not the canonical text of an agreement."""
        _require_short(data, AGREEMENT_MOST_BYTES, "an agreement on a threshold key")
        try:
            agreement = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
            msg = f"not an agreement on a threshold key: {error.__cause__ or error}"
            raise DecodeError(msg) from error
        if len(agreement.roster) != DIGEST_BYTES or agreement.to_bytes() != data:
            msg = "not the canonical text of an agreement: send it on as it was, unedited"
            raise DecodeError(msg)
        return agreement

    @classmethod
    def load(cls, path: Path) -> Agreement:
        """Read a file; DecodeError or OSError names it."""
        data = read(path, AGREEMENT_MOST_BYTES)
        with naming(path):
            return cls.from_bytes(data)


def plan_of(data: bytes) -> Plan:
    """Read the plan in what `secagg plan --json` prints.

    Raises:
        DecodeError: nothing of the kind, or no plan that can work; says why.
    """
    _require_short(data, AGREEMENT_MOST_BYTES, "what `secagg plan --json` prints")
    try:
        return msgspec.json.decode(data, type=_Printed).plan
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        msg = f"not what `secagg plan --json` prints: {error}"
        raise DecodeError(msg) from error


def answer(setup: Setup, identity: Identity, key: Path, message: bytes | None = None) -> bytes:
    """Take a site's next step: make its answer, and with the last one, before it, its key file.

    Args:
        setup: of the agreement.
        identity: the site's; signs where the plan trusts no server, and only says who this is where it does.
        key: file to hold the key; the set-up's own files lie beside it.
        message: what the coordinator sent; None begins.
    Returns: the bytes to send to the coordinator, the same ones for the same message.
    Raises:
        PlanError: the roster does not hold this identity, or nothing was begun with this key file.
        FileExistsError: there is another key in that file.
        LocalProtocolError, RemoteProtocolError, DecodeError, OSError: see `Client` and `Client.receive`.
    """
    try:
        position = setup.identities.index(identity.public)
    except ValueError as error:
        msg = "the roster does not hold this identity"
        raise PlanError(msg) from error
    journal = key.with_name(key.name + SETUP_SUFFIX)
    if message is None:
        message = encode(invite(setup)[position], setup)
        if not journal.exists():
            _require_free(key)
    elif not journal.exists():
        msg = f"{journal} is not there: begin without a message, or name the key file that you began with"
        raise PlanError(msg)
    signer = identity if setup.plan.server == "malicious" else None
    with Journal(journal, rounds=Rounds(journal.with_name(journal.name + ".rounds"))) as opened:
        client = Client(
            setup,
            setup.roster[position],
            lambda finished: finished.save(key),
            identity=signer,
            key_setup=True,
            journal=opened,
        )
        return client.receive(message)


def relay(setup: Setup, answers: Mapping[Path, bytes]) -> dict[ClientId, bytes] | ThresholdContext:
    """Pass the sites' answers on: the coordinator's side, made anew from all answers so far.

    Args:
        setup: of the agreement.
        answers: by file, in any order, at least one; the same answer twice is one.
    Returns: the next message for each site, by its name; in the end the key's public side, for the server.
    Raises:
        ThresholdError: some sites have not answered; names them.
        DecodeError: a file is no answer of this set-up; RemoteProtocolError: it is not acceptable. Both name the file.
    """
    steps = [
        step for step in protocol_of("threshold", setup.plan.server, key_setup=True).server.values() if step.collects
    ]
    given: list[dict[bytes, tuple[Path, ClientId]]] = [{} for _ in steps]
    for path, data in answers.items():
        with naming(path):
            place, client = _sender(setup, steps, data)
            given[place][data] = path, client
    server = Server(setup, key_setup=True)
    requests = server.close_round()
    reached = max(place for place, found in enumerate(given) if found)
    for found in given[: reached + 1]:
        for data, (path, client) in found.items():
            with naming(path):
                server.receive(client, data)
        if missing := server.waiting_for:
            what = f"answers of round {server.round}, none yet from {', '.join(map(repr, missing))}"
            raise ThresholdError(needed=setup.plan.clients, survivors=setup.plan.clients - len(missing), what=what)
        requests = server.close_round()
    return requests or ThresholdContext.from_bytes(server.total().vector.tobytes())


def file_name(setup: Setup, client: ClientId) -> str:
    """Name the file of a site's message: its place in the roster, and what is plain in its name, if long its start."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in str(client)[:_NAME_LETTERS])
    return f"{setup.position(client):02}-{plain}.message"


def read(path: Path, most: int) -> bytes:
    """Read a file of at most so many bytes.

    Raises:
        DecodeError: it is longer, and no file of a threshold key's set-up.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    with naming(path):
        _require_short(data, most, "a file of the set-up of a threshold key")
    return data


def write_new(path: Path, data: bytes) -> None:
    """Write a new file, whole or not at all; one that holds the very same bytes is left.

    Raises:
        FileExistsError: there is another file already.
        OSError: it cannot be written.
    """
    try:
        create(path, data, mode=0o600)
    except FileExistsError:
        if not path.is_file() or path.stat().st_size != len(data) or path.read_bytes() != data:
            raise


def write_new_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder with these files, whole or not at all.

    Raises:
        FileExistsError: there is something of its name already.
        OSError: it cannot be written.
    """
    _require_free(folder)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for name, data in files.items():
            create(made / name, data, mode=0o600)
        made.replace(folder)
    except BaseException:
        shutil.rmtree(made)
        raise
    sync_directory(folder)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say in an error in which file it lies."""
    try:
        yield
    except SecAggError as error:
        error.args = (f"{path}: {error}",)
        raise


def _sender(setup: Setup, steps: list[ServerStep], data: bytes) -> tuple[int, ClientId]:
    """Find which step an answer belongs to, and whose it is."""
    kind = kind_of(data)
    for place, step in enumerate(steps):
        if step.collects is not None and kind == step.collects.KIND:
            position = decode(step.collects, data, setup).client
            if 0 <= position < setup.plan.clients:
                return place, setup.roster[position]
    msg = "not the answer of a site in the set-up of a threshold key"
    raise DecodeError(msg)


def _require_short(data: bytes, most: int, what: str) -> None:
    if len(data) > most:
        msg = f"longer than {what} can be, {most:,} bytes: is it the right file?"
        raise DecodeError(msg)


def _require_free(path: Path) -> None:
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))

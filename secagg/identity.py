"""Who is who: Ed25519 identities, the cards that sites mail to a roster's builder, and the signed roster file.

Threat model: the network, the mail and the server are hostile; a private key is as safe as its file (0600, not
encrypted). A roster is signed by a key that the file itself names, which proves nothing to somebody who does not know
that key: sites read `Roster.short_hash` to each other, which also finds a builder who sends them different rosters.
Every member signed its own entry, so a builder cannot give a site's key to another name. Along a chain of rosters
(`check_follows`) a key that left never comes back. No roster can say that two of its keys do not belong to one person;
and a lost or stolen *builder's* key is answered only by founding a new roster and reading out its short hash. All files
are canonical JSON text: one changed byte is refused. Arguments of a bad type or length raise `TypeError`/`ValueError`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secagg import tags
from secagg.errors import DecodeError, PlanError
from secagg.params import MAX_ID, ClientId, checked_id
from secagg.private_files import create
from secagg.signatures import check_signing_key, verify_signature

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["Card", "Identity", "Roster"]

_BYTES = 32
_DIGITS, _GROUP = 30, 5


class Identity:
    """An Ed25519 key pair: one site's long-term name. Cannot be copied or pickled. Safe to share between threads."""

    __slots__ = ("_key", "_public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._public = key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Identity:
        """Draw a fresh pair from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_private(cls, private: bytes) -> Identity:
        """Make the pair of a 32-byte private key, for tests and vectors; ValueError for any other length."""
        return cls(Ed25519PrivateKey.from_private_bytes(private))

    @property
    def public(self) -> bytes:
        """32-byte public key."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature (RFC 8032) of a message that begins with a label of `secagg.tags`."""
        return self._key.sign(message)

    def save(self, path: Path) -> None:
        """Write a new file with mode 0600, whole or not at all; FileExistsError if the path is taken."""
        create(path, _PrivateKey(self._public, self._key.private_bytes_raw()).to_bytes(), mode=0o600)

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Read a private key from its file.

        Raises:
            OSError: it cannot be read; PermissionError: others than its owner have access to it.
            DecodeError: it holds no private key, or a damaged one; the message shows nothing of it.
        """
        data = _read(path, _PrivateKey.MAX_BYTES, private=True)
        with suppress(ValueError):  # whose message could show a part of the key
            file = _PrivateKey.from_bytes(data)
            identity = cls.from_private(file.private)
            if identity.public == file.public:
                return identity
        msg = f"{path}: not a private key as `secagg keys new` writes it, or a damaged one"
        raise DecodeError(msg)

    def __repr__(self) -> str:
        """Show the public key only."""
        return f"<Identity {self._public.hex()}>"

    def __reduce__(self) -> NoReturn:
        """Refuse: a copy would carry the private key where nobody looks for it."""
        msg = "an Identity cannot be copied or pickled: save it to a file of its own"
        raise TypeError(msg)


class _File(msgspec.Struct, frozen=True, eq=False, dict=True, forbid_unknown_fields=True, tag_field="format"):
    """A value kept as canonical JSON text. Its checks stand in `__post_init__`, so that no unchecked one exists."""

    MAX_BYTES: ClassVar[int] = 1 << 11

    def to_bytes(self) -> bytes:
        """Return the canonical text, <= MAX_BYTES bytes."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read and check; DecodeError if it is not the canonical text of a valid value."""
        if len(data) > cls.MAX_BYTES:
            msg = f"a {cls.__name__.lower()} has at most {cls.MAX_BYTES} bytes"
            raise DecodeError(msg)
        try:
            value = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            msg = f"not a valid {cls.__name__.lower()}: {error.__cause__ or error}"
            raise DecodeError(msg) from error
        if value.to_bytes() != data:
            msg = f"not the canonical text of a {cls.__name__.lower()}: send it on as it was, unedited"
            raise DecodeError(msg)
        return value

    def save(self, path: Path) -> None:
        """Write a new file, whole or not at all; FileExistsError if the path is taken."""
        create(path, self.to_bytes(), mode=0o666)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file; DecodeError or OSError names it."""
        try:
            return cls.from_bytes(_read(path, cls.MAX_BYTES))
        except DecodeError as error:
            msg = f"{path}: {error}"
            raise DecodeError(msg) from error


class Card(_File, frozen=True, eq=False, tag="secagg card 1", rename={"client_id": "name"}):
    """What a site mails to the builder of a roster: its name and public key. Checked when made, however it is made.

    The signature proves that whoever holds the private key chose this name for it; it does not prove who they are.

    Attributes:
        client_id: the site's name, or number.
        public: 32-byte Ed25519 public key.
        signature: 64 bytes, by that key over both.

    Raises:
        DecodeError, PlanError: the key or the signature is not valid; the name cannot be a client id.
    """

    client_id: ClientId
    public: bytes
    signature: bytes

    def __post_init__(self) -> None:
        """Check name and signature."""
        verify_signature(self.public, _card_statement(self.client_id, self.public), self.signature)

    @classmethod
    def issue(cls, identity: Identity, client_id: ClientId) -> Card:
        """Make the card of one's own identity."""
        return cls(client_id, identity.public, identity.sign(_card_statement(client_id, identity.public)))


class Roster(_File, frozen=True, eq=False, tag="secagg roster 1"):
    """Which keys take part, signed by the roster's builder. Made by `found` and `succeed`; checked however it is made.

    Attributes:
        consortium: name of the collaboration.
        serial: 1 for a founding roster, then rising by one.
        previous: 32-byte digest of the roster before this one; empty for a founding roster.
        builder, next_builder: 32-byte public keys: signed this roster, must sign the next (hand-over if they differ).
        cards: the members' cards, sorted as in `Setup`; no name and no key twice.
        revoked: 32-byte keys that left, in this roster and all before it, sorted; none is a member's.
        signature: 64 bytes, by `builder` over `digest`.

    Raises:
        PlanError: a value is out of range, names or keys appear twice, or a revoked key is in use.
        DecodeError: a key or a signature is not valid.
    """

    MAX_BYTES: ClassVar[int] = 1 << 24

    consortium: str
    serial: int
    previous: bytes
    builder: bytes
    next_builder: bytes
    cards: tuple[Card, ...]
    revoked: tuple[bytes, ...]
    signature: bytes

    def __post_init__(self) -> None:
        """Check everything."""
        name, keys = self.consortium, frozenset(self.members.values())
        for key in (*self.revoked, self.next_builder):
            check_signing_key(key)
        for holds, message in (
            (isinstance(name, str) and name.isprintable() and 1 <= len(name) <= MAX_ID, "a name is 1 to 256 letters"),
            (1 <= self.serial < 1 << 63, f"a serial is in [1, 2^63), got {self.serial}"),
            (len(self.previous) == (_BYTES if self.serial > 1 else 0), "serial 1 and no other has no previous"),
            (len(keys) > 0, "a roster has at least one member"),
            (len(self.members) == len(self.cards), "a name appears twice in the roster"),
            (len(keys) == len(self.cards), "a key appears twice in the roster: every site needs its own"),
            (self.cards == _sorted(self.cards), "the cards of a roster are sorted by name"),
            (self.revoked == tuple(sorted(set(self.revoked))), "revoked keys are sorted and distinct"),
            (keys.isdisjoint(self.revoked), "a member's key is revoked: it needs a new one (secagg keys new)"),
            (self.next_builder not in self.revoked, "the next builder's key is revoked: hand over to another one"),
            (len(self.to_bytes()) <= self.MAX_BYTES, f"a roster file has at most {self.MAX_BYTES} bytes"),
        ):
            if not holds:
                raise PlanError(message)
        verify_signature(self.builder, tags.ROSTER_SIGNATURE + self.digest, self.signature)

    @classmethod
    def found(cls, consortium: str, cards: Iterable[Card], *, builder: Identity) -> Roster:
        """Make and sign the first roster of a consortium from its members' cards; PlanError as the class says."""
        return cls._signed(builder, consortium, 1, b"", builder.public, builder.public, _sorted(cards), ())

    def succeed(
        self,
        *,
        builder: Identity,
        cards: Iterable[Card] = (),
        revoke: Iterable[ClientId] = (),
        next_builder: bytes = b"",
    ) -> Roster:
        """Make and sign the roster after this one.

        Args:
            builder: the identity that this roster names as its next builder.
            cards: of who joins, or has a new key; the old key is then revoked.
            revoke: ids of who leaves; their keys are revoked.
            next_builder: 32-byte public key that takes over from the next roster on; empty if nobody does.
        Raises:
            PlanError: not the builder, nobody of that name, or the result would not be a roster.
        """
        given, leaving = list(cards), set(revoke)
        replaced = {card.client_id for card in given}
        if unclear := leaving - (self.members.keys() - replaced):
            msg = f"cannot revoke {unclear.pop()!r}: not a member, or given a new card (which revokes the old key)"
            raise PlanError(msg)
        after = _sorted(given + [card for card in self.cards if card.client_id not in leaving | replaced])
        gone = set(self.members.values()) - {card.public for card in after}
        revoked = tuple(sorted({*self.revoked, *gone}))
        head = (self.consortium, self.serial + 1, self.digest, builder.public, next_builder or builder.public)
        try:
            successor = self._signed(builder, *head, after, revoked)
            successor.check_follows(self)
        except DecodeError as error:
            raise PlanError(*error.args) from error
        return successor

    def check_follows(self, previous: Roster) -> None:
        """Check that this roster may take the place of the one before it.

        Raises:
            DecodeError: it is of another consortium, its serial does not rise by one, it does not name the previous
                digest, the previous roster does not name its builder, or a key that left is not revoked any more.
        Guarantees: along a chain of checked rosters, no key that left a roster is in a later one.
        """
        known = {*previous.members.values(), *previous.revoked}
        for holds, message in (
            (self.consortium == previous.consortium, f"is of {self.consortium!r}, not of {previous.consortium!r}"),
            (self.serial == previous.serial + 1, f"has serial {self.serial}, which does not follow {previous.serial}"),
            (self.previous == previous.digest, "follows another roster than the one given"),
            (self.builder == previous.next_builder, "is signed by another key than the previous roster's builder"),
            (known <= {*self.members.values(), *self.revoked}, "forgets a key instead of revoking it"),
            (set(previous.revoked) <= set(self.revoked), "brings a revoked key back"),
        ):
            if not holds:
                msg = f"the roster {message}"
                raise DecodeError(msg)

    @cached_property
    def members(self) -> Mapping[ClientId, bytes]:
        """{client id: 32-byte Ed25519 public key}; read-only, sorted as in `Setup`."""
        return MappingProxyType({card.client_id: card.public for card in self.cards})

    @cached_property
    def digest(self) -> bytes:
        """32-byte hash of everything but the roster's signature."""
        return _digest(msgspec.structs.astuple(self)[:-1])

    @cached_property
    def short_hash(self) -> str:
        """The digest, stretched, as 30 decimal digits in six groups of five, to be read out over the phone.

        scrypt(digest, n = 2^15, r = 8, p = 1) modulo 10^30: 99.7 bits; 32 MiB and about 0.1 s on one core.

        Security: sites that read the same 30 digits to each other, on a line where they know each other's voices, hold
        the same roster, unless its builder found two rosters with one short hash. Expected cost of that: 1.25 · 10^15
        scrypt evaluations (birthday bound); 4 million core-years at 0.1 s each. One evaluation moves 2^26 bytes, or
        else takes more than its 4 · 10^8 integer operations, so an accelerator with 5 · 10^12 bytes/s and 4 · 10^13
        operations/s does fewer than 10^5 a second: more than 390 accelerator-years. Anybody but the builder must hit a
        given value: 10^30 evaluations. Each group left unread divides the first cost by 316 and the second by 10^5.
        Source: RFC 7914 (scrypt).
        """
        stretched = hashlib.scrypt(self.digest, salt=tags.ROSTER_SHORT_HASH, n=1 << 15, r=8, p=1, maxmem=1 << 26)
        digits = f"{int.from_bytes(stretched, 'big') % 10**_DIGITS:0{_DIGITS}}"
        return "-".join(digits[i : i + _GROUP] for i in range(0, _DIGITS, _GROUP))

    def check_short_hash(self, heard: str) -> None:
        """Compare with the short hash that another site read out; hyphens and spaces do not matter.

        Raises:
            DecodeError: another roster's; PlanError: not 30 digits, since a part of a short hash is not compared.
        """
        digits = heard.replace("-", "").replace(" ", "")
        if len(digits) != _DIGITS or not (digits.isascii() and digits.isdigit()):
            msg = f"a short hash has {_DIGITS} digits in {_DIGITS // _GROUP} groups, got {heard!r}: compare all of them"
            raise PlanError(msg)
        if digits != self.short_hash.replace("-", ""):
            msg = f"the short hash is {self.short_hash}: this is not the roster that the other site holds"
            raise DecodeError(msg)

    def __repr__(self) -> str:
        """Say which roster it is, not all that is in it."""
        return f"<Roster {self.consortium!r} serial={self.serial} members={len(self.members)} {self.digest.hex()}>"

    @classmethod
    def _signed(cls, builder: Identity, *fields: Any) -> Roster:  # noqa: ANN401 -- in the order of the attributes
        return cls(*(*fields, builder.sign(tags.ROSTER_SIGNATURE + _digest(fields))))


class _PrivateKey(_File, frozen=True, eq=False, tag="secagg private key 1"):
    public: bytes
    private: bytes

    def __repr__(self) -> str:
        return "<private key>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


def _card_statement(client_id: ClientId, public: bytes) -> bytes:
    return tags.CARD_SIGNATURE + msgspec.msgpack.encode((checked_id(client_id), public))


def _digest(fields: tuple[Any, ...]) -> bytes:
    return hashlib.sha256(tags.ROSTER_FILE + msgspec.msgpack.encode(fields)).digest()


def _sorted(cards: Iterable[Card]) -> tuple[Card, ...]:
    return tuple(sorted(cards, key=lambda card: (isinstance(card.client_id, str), card.client_id)))


def _read(path: Path, limit: int, *, private: bool = False) -> bytes:
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:  # a pipe: no wait
        mode = os.fstat(file.fileno()).st_mode
        if private and mode & 0o077:
            remedy = f"others have access to this private key: run `chmod 600 {path}`"
            raise PermissionError(errno.EACCES, remedy, str(path))
        return file.read(limit + 1) if stat.S_ISREG(mode) else b""

"""Who is who: Ed25519 identities, the cards sites mail to a roster's builder, and the signed roster file.

Threat model: the network, the mail and the server are hostile; a private key is as safe as its file (0600, not
encrypted). A roster's signature binds it to a key that the file itself names, so alone it proves nothing to somebody
who does not know that key: sites read `Roster.short_hash` to each other, which also finds a builder who sends different
rosters to different sites. Within a chain of rosters (`check_follows`) a key that left never comes back. A roster says
which keys take part; it cannot say that two of them do not belong to one person, and a lost or stolen *builder's* key
is answered only by founding a new roster and reading its short hash out again. Bad types and lengths raise
`TypeError`/`ValueError` with a message. All files are JSON text in one canonical form: one changed byte is refused.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from secagg import tags
from secagg.errors import DecodeError, PlanError
from secagg.params import MAX_ID, ClientId, checked_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set
    from pathlib import Path

__all__ = ["Card", "Identity", "Roster", "verify_signature"]

MAX_CARD_BYTES = 4_096
MAX_ROSTER_BYTES = 1 << 24
_PUBLIC_BYTES = 32
_DIGEST_BYTES = 32
_DIGITS = 30
_GROUP = 5
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 1, "maxmem": 1 << 26, "dklen": 32}
_PRIME = (1 << 255) - 19
_ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_SMALL_ORDER = frozenset({0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8})
"""y coordinates of the eight points of small order: under such a key anybody can sign some messages."""

_T = TypeVar("_T")


class Identity:
    """An Ed25519 key pair: one site's long-term name. Cannot be copied or pickled; shows its public key only.

    Safe to share between threads: nothing changes after construction.
    """

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
        """Make the pair of a 32-byte private key, for tests and vectors.

        Raises:
            ValueError: not 32 bytes.
        """
        return cls(Ed25519PrivateKey.from_private_bytes(private))

    @property
    def public(self) -> bytes:
        """32-byte public key."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Sign a message, which must begin with a label of `secagg.tags` that says its purpose.

        Returns: 64 bytes; the same for the same message.
        Source: RFC 8032, sec. 5.1.6.
        """
        return self._key.sign(message)

    def save(self, path: Path) -> None:
        """Write the private key to a new file that only its owner can read (0600).

        Raises:
            FileExistsError: the path is taken; nothing is ever overwritten.
            OSError: it cannot be written; nothing is left behind.
        """
        _write_new(path, _file_bytes(_PrivateKeyFile(self._public, self._key.private_bytes_raw())), mode=0o600)

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Read a private key from its file.

        Raises:
            PermissionError: others than the owner have access to the file.
            OSError: it cannot be read.
            DecodeError: it holds no private key, or a damaged one; the message shows nothing of it.
        """
        data = _read(path, MAX_CARD_BYTES, private=True)
        try:
            file = _parsed(_PrivateKeyFile, data)
            identity = cls.from_private(file.private)
        except ValueError:
            msg = f"{path}: not a private key as `secagg keys new` writes it, or damaged"
            raise DecodeError(msg) from None  # the reason may hold a part of the key
        if identity.public != file.public:
            msg = f"{path}: the private key does not belong to the public key beside it: the file is damaged"
            raise DecodeError(msg)
        return identity

    def __repr__(self) -> str:
        """Show the public key only."""
        return f"<Identity {self._public.hex()}>"

    def __reduce__(self) -> NoReturn:
        """Refuse: a copy would carry the private key where nobody looks for it."""
        msg = "an Identity cannot be copied or pickled: save it to a file of its own"
        raise TypeError(msg)


def verify_signature(public: bytes, message: bytes, signature: bytes) -> None:
    """Check an Ed25519 signature.

    Args:
        public: 32 bytes, the signer's key as the caller pinned it.
        message: what was signed, label included.
        signature: 64 bytes, untrusted.
    Raises:
        DecodeError: the signature is not this key's over this message, or the key is no canonical encoding or of
            small order, so that signatures under it prove nothing.
    Source: RFC 8032, sec. 5.1.7; the equation without cofactor, as OpenSSL checks it.
    """
    _check_public(public)
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature as error:
        msg = "the signature is not valid"
        raise DecodeError(msg) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a site mails to the builder of a roster: its name and public key. Its signature is valid: checked when made.

    The signature proves that whoever wrote the card holds the private key and chose this name for it; it does not prove
    who they are.

    Attributes:
        client_id: the site's name, or number.
        public: 32-byte Ed25519 public key.
        signature: 64 bytes, by that key over name and key.

    Raises:
        DecodeError: the signature is not valid.
        PlanError, TypeError: the name cannot be a client id.
    """

    client_id: ClientId
    public: bytes
    signature: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Check name and signature."""
        checked_id(self.client_id)
        verify_signature(self.public, _card_statement(self.client_id, self.public), self.signature)

    @classmethod
    def issue(cls, identity: Identity, client_id: ClientId) -> Card:
        """Make the card of one's own identity."""
        signature = identity.sign(_card_statement(checked_id(client_id), identity.public))
        return cls(client_id=client_id, public=identity.public, signature=signature)

    def to_bytes(self) -> bytes:
        """Return the card as canonical JSON text, <= 4,096 bytes."""
        return _file_bytes(_CardFile(self.client_id, self.public, self.signature))

    @classmethod
    def from_bytes(cls, data: bytes) -> Card:
        """Read a card and check it.

        Raises:
            DecodeError: not a canonical card, or not signed by its own key.
        """
        _check_size(data, MAX_CARD_BYTES, "a card")
        file = _parsed(_CardFile, data)
        return _as_received(lambda: cls(client_id=file.name, public=file.key, signature=file.signature))

    def save(self, path: Path) -> None:
        """Write the card to a new file; FileExistsError if the path is taken."""
        _write_new(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> Card:
        """Read a card from a file; DecodeError names the path."""
        return _loaded(cls.from_bytes, path, MAX_CARD_BYTES)


@dataclass(frozen=True, eq=False, kw_only=True)
class Roster:
    """Which keys take part, signed by the roster's builder. Cannot exist unsigned: everything is checked when made.

    Made by `found` and `succeed`, or read by `from_bytes` and `load`.

    Attributes:
        consortium: name of the collaboration.
        serial: 1 for a founding roster, then rising by one.
        previous: 32-byte digest of the roster before this one; empty for a founding roster.
        members: {client id: 32-byte Ed25519 public key}; read-only, sorted as in `Setup`; no key twice.
        revoked: keys that left, of this roster and all before it; none is a member's.
        builder: 32-byte public key that signed this roster.
        next_builder: 32-byte public key that must sign the next; differs from `builder` for a hand-over.
        signature: 64 bytes, by `builder` over `digest`.

    Raises:
        PlanError: a value is out of range, a key appears twice, or a revoked key is in use.
        DecodeError: a key or the signature is not valid.
    """

    consortium: str
    serial: int
    previous: bytes
    members: Mapping[ClientId, bytes]
    revoked: Set[bytes]
    builder: bytes
    next_builder: bytes
    signature: bytes

    def __post_init__(self) -> None:
        """Check everything; sort the members."""
        ids = sorted(map(checked_id, self.members), key=lambda i: (isinstance(i, str), i))
        object.__setattr__(self, "members", MappingProxyType({i: self.members[i] for i in ids}))
        object.__setattr__(self, "revoked", frozenset(self.revoked))
        for key in (*self.members.values(), *self.revoked, self.builder, self.next_builder):
            _check_public(key)
        keys = frozenset(self.members.values())
        for holds, message in (
            (1 <= len(self.consortium) <= MAX_ID, f"a consortium's name has 1 to {MAX_ID} characters"),
            (self.consortium.isprintable(), f"a consortium's name is printable text, got {self.consortium!r}"),
            (type(self.serial) is int and 1 <= self.serial < 1 << 63, f"a serial is in [1, 2^63), got {self.serial}"),
            (len(self.previous) == (_DIGEST_BYTES if self.serial > 1 else 0), "previous is a digest after serial 1"),
            (len(keys) > 0, "a roster has at least one member"),
            (len(keys) == len(self.members), "one key stands under two names: every site needs its own"),
            (keys.isdisjoint(self.revoked), "a member has a revoked key: it needs a new one (`secagg keys new`)"),
            (self.next_builder not in self.revoked, "the next roster's builder has a revoked key: hand over to another"),
        ):
            if not holds:
                raise PlanError(message)
        if len(self.to_bytes()) > MAX_ROSTER_BYTES:
            msg = f"a roster file has at most {MAX_ROSTER_BYTES} bytes: too many members or revoked keys"
            raise PlanError(msg)
        verify_signature(self.builder, tags.ROSTER_SIGNATURE + self.digest, self.signature)

    @classmethod
    def found(cls, consortium: str, members: Mapping[ClientId, bytes], *, builder: Identity) -> Roster:
        """Make and sign the first roster of a consortium.

        Args:
            consortium: its name.
            members: {client id: 32-byte public key}, >= 1 entries, keys distinct.
            builder: signs this roster, and the next.
        Raises:
            PlanError, DecodeError, TypeError: as the class says.
        """
        return cls._signed(
            builder,
            consortium=consortium,
            serial=1,
            previous=b"",
            members=members,
            revoked=frozenset(),
            next_builder=builder.public,
        )

    def succeed(
        self,
        *,
        builder: Identity,
        members: Mapping[ClientId, bytes] | None = None,
        revoke: Iterable[ClientId] = (),
        next_builder: bytes | None = None,
    ) -> Roster:
        """Make and sign the roster after this one.

        Args:
            builder: the identity that this roster names as its next builder.
            members: {client id: 32-byte public key} of who joins, or gets a new key; the old one is then revoked.
            revoke: ids of who leaves; their keys are revoked.
            next_builder: 32-byte public key that takes over from the next roster on; by default nobody does.
        Raises:
            PlanError: not the builder, nobody of that name, or a rule of `check_follows` would be broken.
            DecodeError: a public key is not valid.
        """
        joining, leaving = dict(members or {}), set(revoke)
        for client_id in leaving:
            if client_id not in self.members or client_id in joining:
                why = "not a member of the previous roster" if client_id not in self.members else "also given a key"
                msg = f"cannot revoke {client_id!r}: {why}"
                raise PlanError(msg)
        kept = {client_id: key for client_id, key in self.members.items() if client_id not in leaving}
        after = {**kept, **joining}
        successor = self._signed(
            builder,
            consortium=self.consortium,
            serial=self.serial + 1,
            previous=self.digest,
            members=after,
            revoked=self.revoked | (set(self.members.values()) - set(after.values())),
            next_builder=builder.public if next_builder is None else next_builder,
        )
        try:
            successor.check_follows(self)
        except DecodeError as error:
            raise PlanError(*error.args) from error
        return successor

    def check_follows(self, previous: Roster) -> None:
        """Check that this roster may take the place of the one before it.

        Raises:
            DecodeError: it is of another consortium, its serial does not rise by one, it does not name the previous
                digest, the previous roster does not name its builder, a key left without being revoked or is no longer
                revoked, or a key moved to another name.
        Guarantees: along a chain of checked rosters, no key that left a roster is in a later one.
        """
        owners = {key: client_id for client_id, key in previous.members.items()}
        for holds, message in (
            (self.consortium == previous.consortium, f"is of {self.consortium!r}, not of {previous.consortium!r}"),
            (self.serial == previous.serial + 1, f"serial {self.serial} does not follow serial {previous.serial}"),
            (self.previous == previous.digest, "follows another roster than the one given"),
            (self.builder == previous.next_builder, "is signed by another key than the previous roster names"),
            (previous.revoked <= self.revoked, "leaves out a key that was revoked"),
            (owners.keys() <= {*self.members.values(), *self.revoked}, "drops a member without revoking its key"),
            (
                all(owners.get(key, client_id) == client_id for client_id, key in self.members.items()),
                "gives a member's key to another name",
            ),
        ):
            if not holds:
                msg = f"the roster {message}"
                raise DecodeError(msg)

    @cached_property
    def digest(self) -> bytes:
        """32-byte hash of everything but the signature: SHA-256 of a label and the file's text with no signature."""
        return _digest(msgspec.structs.replace(self._file, signature=b""))

    @cached_property
    def short_hash(self) -> str:
        """The digest stretched and shortened to 30 decimal digits in six groups, to be read out over the phone.

        scrypt(digest, n = 2^15, r = 8, p = 1) modulo 10^30, i.e. 99.7 bits; 32 MiB and about 0.1 s on one core.

        Security: sites that read the *same 30 digits* to each other, on a line where they know each other's voice, hold
        the same roster, unless its builder found two rosters with one short hash. Expected cost of that: 1.25 · 10^15
        scrypt evaluations (birthday bound), 4 million core-years at 0.1 s each; an accelerator with 5 TB/s of memory
        bandwidth and 4 · 10^13 integer operations per second does fewer than 10^5 a second (each evaluation moves
        2^26 bytes, or more arithmetic in their stead: at least 4 · 10^8 operations), so 400 accelerator-years.
        Somebody who is not the builder has to hit one given value: 10^30 evaluations. Every group left unread divides
        the first cost by about 316 and the second by 10^5.
        Source: RFC 7914 (scrypt); decimal groups after Signal's safety numbers: they sound different in any language.
        """
        stretched = hashlib.scrypt(self.digest, salt=tags.ROSTER_SHORT_HASH, **_SCRYPT)
        digits = f"{int.from_bytes(stretched, 'big') % 10**_DIGITS:0{_DIGITS}}"
        return "-".join(digits[i : i + _GROUP] for i in range(0, _DIGITS, _GROUP))

    def check_short_hash(self, heard: str) -> None:
        """Compare with the short hash that another site read out; hyphens and spaces do not matter.

        Raises:
            PlanError: not 30 digits; a part of a short hash is not compared.
            DecodeError: another roster's.
        """
        digits = heard.replace("-", "").replace(" ", "")
        if len(digits) != _DIGITS or not (digits.isascii() and digits.isdigit()):
            msg = f"a short hash has {_DIGITS} digits in groups of {_GROUP}, got {heard!r}: compare all of them"
            raise PlanError(msg)
        if digits != self.short_hash.replace("-", ""):
            msg = f"the short hash is {self.short_hash}, not {heard}: this is not the roster the other site holds"
            raise DecodeError(msg)

    def to_bytes(self) -> bytes:
        """Return the roster as canonical JSON text, <= 2^24 bytes."""
        return _text(self._file)

    @classmethod
    def from_bytes(cls, data: bytes) -> Roster:
        """Read a roster and check it, signature included.

        Raises:
            DecodeError: not a canonical roster, or its signature does not hold.
        """
        file = _parsed(_RosterFile, data, limit=MAX_ROSTER_BYTES)
        try:
            return cls._of(file)
        except PlanError as error:
            raise DecodeError(*error.args) from error

    def save(self, path: Path) -> None:
        """Write the roster to a new file; FileExistsError if the path is taken."""
        _write_new(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> Roster:
        """Read a roster from a file; DecodeError names the path."""
        return _naming(path, cls.from_bytes, _read(path, MAX_ROSTER_BYTES))

    def __repr__(self) -> str:
        """Say which roster it is, not all that is in it."""
        return f"<Roster {self.consortium!r} serial={self.serial} members={len(self.members)} {self.digest.hex()}>"

    @property
    def _file(self) -> _RosterFile:
        members = [_Member(client_id, key) for client_id, key in self.members.items()]
        return _RosterFile(
            self.consortium,
            self.serial,
            self.previous,
            self.builder,
            self.next_builder,
            members,
            sorted(self.revoked),
            self.signature,
        )

    @classmethod
    def _of(cls, file: _RosterFile) -> Roster:
        fields = msgspec.structs.asdict(file)
        return cls(**{**fields, "members": {member.name: member.key for member in file.members}})

    @classmethod
    def _signed(cls, builder: Identity, file: _RosterFile) -> Roster:
        return cls._of(msgspec.structs.replace(file, signature=builder.sign(tags.ROSTER_SIGNATURE + _digest(file))))


class _PrivateKeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="format"):
    public: bytes
    private: bytes

    def __repr__(self) -> str:
        return "<private key>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

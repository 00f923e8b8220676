"""A reusable key that nobody holds: what one client has of it, and the only two things that it does with it.

    >>> from secagg.homomorphic.threshold import ThresholdKey                           # doctest: +SKIP
    >>> key = ThresholdKey.load(Path("threshold.key"))   # saved by the set-up          # doctest: +SKIP

Client i holds a secret s_i, and of every client's secret one Shamir share ([s_k]_i, degree t - 1, modulo each prime).
In round r it uploads c_i,b = a_b·s_i + e_i,b + Δ·m_i,b for blocks b, once; the a_b follow from (key, r, parameters,
roster, model), so that nobody chooses them. For the clients U in the sum, t of them, D, decrypt: j in D answers

    d_j,b = a_b·(λ_j·Σ_{i in U} [s_i]_j + z_j) + f_j,b,

λ_j its Lagrange coefficient within D, z_j a sharing of zero among D that pairwise seeds make anew for each (r, U, D),
f_j,b flooding. It all follows from (r, U) and what the client holds: no ciphertext is ever an input, since one of the
server's choosing would be answered with the key. Σ_j d_j,b = a_b·Σ_{i in U} s_i + Σ_j f_j,b is what the server takes
off the sum of uploads.

**One active (U, D) a round.** Answers for a second set, with λ before the noise, let flooding be computed from small
fractions λ'/λ (docs/threshold.md; ePrint 2026/031). So D is a function of U, both are durably recorded before anything
is computed from them, and another pair in the same round, or an earlier round, is refused; zero-sharings make the
answers of a mistaken retry useless besides. The very same pair gets the very same bytes.

**What is claimed, and what not.** Against a server and up to c <= t - 2 clients, fixed before the set-up, that pool
what they know: of the honest clients' vectors only the sum over U. By RLWE at the stated parameters (128 bits against
classical attacks by table; against quantum ones mostly fewer), AES-256 and HKDF; the sum of the answers adds to that at
most the statistical distance 2^-30 over all rounds of a key. The proof is a sketch (docs/threshold.md). Nobody proves
that an upload or an answer is right: any client can ruin a sum. A decryptor that vanishes loses the round, and only it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from secagg import tags
from secagg.errors import DecodeError, LocalProtocolError, PlanError, ThresholdError
from secagg.homomorphic import threshold_sums as sums
from secagg.homomorphic.threshold_parameters import MOST_CLIENTS, ThresholdParameters
from secagg.homomorphic.threshold_record import Record, record_path
from secagg.masking.messages import to_bitmap
from secagg.masking.parties import mask_of
from secagg.params import DIGEST_BYTES
from secagg.primitives.graph import draw
from secagg.primitives.keys import KEY_BYTES, derive_key
from secagg.private_files import locked, replaced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from secagg.encoding.packing import Words
    from secagg.primitives.ring import Residues
    from secagg.setups import Setup

__all__ = ["CONTEXT_MOST_BYTES", "FINGERPRINT_BYTES", "ThresholdContext", "ThresholdKey"]

FINGERPRINT_BYTES = 32
_CHECK_BYTES = 32
_MOST_BYTES = (MOST_CLIENTS + 1) * (8192 * 27 + KEY_BYTES) + (1 << 12)
CONTEXT_MOST_BYTES = 512


@dataclass(frozen=True, kw_only=True)
class ThresholdContext:
    """The public side of a key: what it is for.

    Attributes:
        parameters: ring, packing and flooding.
        plan, roster: digests, 32 bytes each.
        session: 16..64 bytes. round: of the set-up; the key serves the `parameters.rounds` rounds after it.
        transcript: 32-byte hash of all that was said in the set-up.
    """

    parameters: ThresholdParameters
    plan: bytes
    roster: bytes
    session: bytes
    round: int
    transcript: bytes

    def require(self, setup: Setup) -> None:
        """Check that the key is for a round.

        Raises:
            PlanError: it is for other parties, another session or plan, or used up; says which.
        """
        for what, ours, theirs in (
            ("session", self.session, setup.session),
            ("plan", self.plan, setup.plan.digest),
            ("plan", self.parameters, ThresholdParameters.of(setup.plan)),
            ("roster", self.roster, setup.roster_digest),
        ):
            if ours != theirs:
                msg = f"this threshold key was set up for another {what}: set one up for this one"
                raise PlanError(msg)
        last = self.round + self.parameters.rounds
        if not self.round < setup.round <= last:
            msg = f"this threshold key serves rounds {self.round + 1} to {last}, not {setup.round}: set up a new one"
            raise PlanError(msg)

    @cached_property
    def fingerprint(self) -> bytes:
        """32-byte hash of all of it, and of everything that the parameters imply; every message travels with it."""
        return hashlib.sha256(tags.THRESHOLD_FINGERPRINT + self.parameters.digest + self.to_bytes()).digest()

    def public(self, setup: Setup) -> bytes:
        """Return the 32-byte key of the ring elements a_b of a round, for parties who were given one model."""
        said = msgspec.msgpack.encode([self.fingerprint, setup.digest, setup.model])
        return hashlib.sha256(tags.THRESHOLD_PUBLIC + said).digest()

    def decryptors(self, setup: Setup, survivors: Sequence[int]) -> list[int]:
        """Return D for U: t positions, ascending, drawn by a public hash of round and U.

        Args:
            survivors: U, ascending.
        Raises:
            ThresholdError: U is smaller than the threshold.
        """
        t = self.parameters.threshold
        if len(survivors) < t:
            raise ThresholdError(needed=t, survivors=len(survivors), what="clients in the sum to decrypt")
        randomness = hashlib.sha256(tags.THRESHOLD_DECRYPTORS + self._said(setup, survivors)).digest()
        return [survivors[place] for place in draw(len(survivors), t, randomness=randomness).tolist()]

    def statement(self, setup: Setup, survivors: Sequence[int]) -> bytes:
        """Say: with this key, session, round, plan, roster and model, these clients are in the sum, and these decrypt.

        Args, Raises: as `decryptors`.
        """
        chosen = to_bitmap(mask_of(setup, self.decryptors(setup, survivors)))
        return tags.THRESHOLD_STATEMENT + self._said(setup, survivors) + chosen

    def _said(self, setup: Setup, survivors: Sequence[int]) -> bytes:
        bitmap = to_bitmap(mask_of(setup, survivors))
        return msgspec.msgpack.encode([self.fingerprint, setup.digest, setup.model, bitmap])

    def to_bytes(self) -> bytes:
        """Write it: at most 512 bytes, public."""
        values = [getattr(self.parameters, each.name) for each in fields(self.parameters)]
        return msgspec.msgpack.encode([1, values, self.plan, self.roster, self.session, self.round, self.transcript])

    @classmethod
    def from_bytes(cls, data: bytes) -> ThresholdContext:
        """Read what `to_bytes` wrote.

        Raises:
            DecodeError: it is nothing of the kind, of another version, or not canonical.
        """
        if len(data) > CONTEXT_MOST_BYTES:
            msg = f"the context of a threshold key takes at most {CONTEXT_MOST_BYTES} bytes, got {len(data)}"
            raise DecodeError(msg)
        try:
            version, values, plan, roster, session, number, transcript = msgspec.msgpack.decode(
                data, type=tuple[int, list[Any], bytes, bytes, bytes, int, bytes]
            )
            named: dict[str, Any] = dict(zip([each.name for each in fields(ThresholdParameters)], values, strict=True))
            context = cls(
                parameters=ThresholdParameters(**named),
                plan=plan,
                roster=roster,
                session=session,
                round=number,
                transcript=transcript,
            )
        except (msgspec.MsgspecError, ValueError) as error:
            msg = f"not the context of a threshold key: {error}"
            raise DecodeError(msg) from error
        digests = {len(each) for each in (plan, roster, transcript)}
        if version != 1 or digests != {DIGEST_BYTES} or context.to_bytes() != data:
            msg = "not the canonical bytes of a threshold key's context of version 1"
            raise DecodeError(msg)
        return context

    def __repr__(self) -> str:
        """Say what it is for."""
        made = self.parameters
        return f"<ThresholdContext {self.fingerprint.hex()[:12]}: {made.threshold} of {made.clients} clients decrypt>"


class ThresholdKey:
    """What one client holds of a threshold key. Secret; not shown, copied or pickled. Made by the set-up.

    Safe to share between threads: what may be done once is recorded under a lock.

    Attributes:
        context: its public side, for the server.
        position: the client's place in the roster.
    """

    __slots__ = ("_flooding", "_record", "_secret", "_seeds", "_shares", "context", "position")

    def __init__(
        self,
        context: ThresholdContext,
        position: int,
        *,
        secret: bytes,
        shares: Sequence[bytes],
        seeds: Mapping[int, bytes],
        flooding: bytes,
        record: Path | None = None,
    ) -> None:
        """Check and hold.

        Args:
            secret: s_i, packed.
            shares: by dealer, its share of that dealer's secret, packed.
            seeds: by peer, 32 bytes shared with it.
            flooding: 32 bytes from which all flooding follows.
            record: the file that says what the key was used for; None: it is new, and not saved yet.
        Raises:
            DecodeError: not that.
        """
        made, n = context.parameters, context.parameters.clients
        if not 0 <= position < n or len(shares) != n or seeds.keys() != set(range(n)) - {position}:
            msg = "a threshold key holds one share of every client's secret, and one seed for every other client"
            raise DecodeError(msg)
        if {len(seed) for seed in (*seeds.values(), flooding)} != {KEY_BYTES}:
            msg = f"seeds have {KEY_BYTES} bytes"
            raise DecodeError(msg)
        for share in (secret, *shares):
            sums.unpack_share(made, share)
        self.context, self.position = context, position
        self._secret, self._shares, self._seeds, self._flooding = secret, tuple(shares), dict(seeds), flooding
        self._record = Record(self._owner, record)

    @property
    def _owner(self) -> bytes:
        who = self.position.to_bytes(8, "little")
        return hashlib.sha256(tags.THRESHOLD_RECORD + self.context.fingerprint + who).digest()

    @property
    def last_round(self) -> int | None:
        """The highest round in which this part was used; None: it was not.

        Raises:
            LocalProtocolError, DecodeError, OSError: see `Record.last_round`.
        """
        return self._record.last_round

    def encrypt(self, setup: Setup, words: Words, random: bytes) -> memoryview:
        """Encrypt a vector: the one upload of a round, recorded before it is returned.

        Args:
            words: (length,) unsigned, in [0, 2^modulus_bits); used up.
            random: 32 fresh bytes; after a crash the same ones, with the same vector, give the very same upload again.
        Returns: `parameters.upload_bytes` bytes. What is recorded is their hash: any others are refused in this round.
        Raises:
            PlanError: the key is not for this round.
            EncodingError: a coordinate beyond a client's part of a sum that may not wrap.
            LocalProtocolError, DecodeError, OSError: see `Record.begin`; nothing may be sent.
        """
        made = self.context.parameters
        self.context.require(setup)
        factor = sums.ring_of(made).factor(sums.unpack_share(made, self._secret))
        public = self.context.public(setup)
        noise = derive_key(random, tags.THRESHOLD_ERRORS, public)  # no two errors equal under different a_b
        upload = sums.encrypt(made, public, factor, noise, words)
        digest = hashlib.sha256(tags.THRESHOLD_UPLOAD)
        digest.update(upload)
        self._record.begin("upload", setup.round, digest.digest())
        return upload

    def decrypt(self, setup: Setup, survivors: Sequence[int]) -> memoryview:
        """Make this client's part of a decryption, from round and survivors alone; recorded before it is computed.

        Args:
            survivors: U, ascending: who is in the sum, this client among them.
        Returns: `parameters.upload_bytes` bytes, always the same for the same arguments.
        Raises:
            PlanError: the key is not for this round.
            ThresholdError: U is smaller than the threshold.
            LocalProtocolError: this client is not among the decryptors; or another U in this round, or see
                `Record.begin`. Nothing may be sent.
            DecodeError, OSError: see there.
        """
        made = self.context.parameters
        self.context.require(setup)
        chosen = self.context.decryptors(setup, survivors)
        if self.position not in chosen:
            text = "this client is not among the decryptors of these survivors"
            raise LocalProtocolError(text, round="decrypt")
        statement = hashlib.sha256(self.context.statement(setup, survivors)).digest()
        self._record.begin("decrypt", setup.round, statement)
        factor = sums.ring_of(made).factor(self._part(chosen, survivors, statement))
        flooding = derive_key(self._flooding, tags.THRESHOLD_FLOODING, statement)
        return sums.decrypt_partially(made, self.context.public(setup), factor, flooding)

    def _part(self, chosen: Sequence[int], survivors: Sequence[int], statement: bytes) -> Residues:
        """Make λ·Σ[s_i] + z: uniform by itself, and the sum of secrets in sum over all decryptors."""
        made, me = self.context.parameters, self.position
        ring = sums.ring_of(made)
        total = sums.add_shares(made, [self._shares[dealer] for dealer in survivors])
        ring.multiply(total, sums.lagrange_at_zero(made, chosen, me), out=total)
        keys = [
            (derive_key(self._seeds[peer], tags.THRESHOLD_ZERO_SHARING, statement), 1 if me < peer else -1)
            for peer in chosen
            if peer != me
        ]
        return ring.add(total, sums.zero_sharing(made, keys), out=total)

    def save(self, path: Path) -> None:
        """Write a new key file, and the record beside it, that only their owner may read. Copy and restore neither.

        Raises:
            FileExistsError: there is another file already; the very same key is left as it is.
            LocalProtocolError: this key has a file of another name, or was used before it was given this one again; or
                the record that it had is gone, or older.
            DecodeError: the record there is damaged.
            OSError: it cannot be written.
        """
        path = path.absolute()
        data = self._to_bytes()
        with locked(path, wait=False) as file:
            found = file.read(_MOST_BYTES + 1) or b""
            if found not in {b"", data}:
                msg = f"{path} exists: a key is never overwritten, take another name"
                raise FileExistsError(msg)
            self._record.move(record_path(path), found=bool(found))
            if not found:
                replaced(path, data).close()

    @classmethod
    def load(cls, path: Path) -> ThresholdKey:
        """Read a key file.

        Raises:
            FileNotFoundError: there is none, or no record of rounds beside it.
            PermissionError: others than its owner have access to it.
            DecodeError: it is no key file, or damaged.
        """
        path = path.absolute()
        for each in (path, record_path(path)):
            each.stat()
        with locked(path, wait=True) as file:
            return cls._from_bytes(file.read(_MOST_BYTES + 1) or b"", record_path(path))

    def _to_bytes(self) -> bytes:
        seeds = [self._seeds.get(peer, b"") for peer in range(len(self._shares))]
        body = msgspec.msgpack.encode(
            [self.context.to_bytes(), self.position, self._secret, self._shares, seeds, self._flooding]
        )
        return body + hashlib.sha256(tags.THRESHOLD_KEY_FILE + body).digest()

    @classmethod
    def _from_bytes(cls, data: bytes, record: Path) -> ThresholdKey:
        body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
        if len(data) > _MOST_BYTES or hashlib.sha256(tags.THRESHOLD_KEY_FILE + body).digest() != check:
            msg = "not a threshold key file of this library, or damaged: set up a new key"
            raise DecodeError(msg)
        try:
            public, position, secret, shares, seeds, flooding = msgspec.msgpack.decode(
                body, type=tuple[bytes, int, bytes, list[bytes], list[bytes], bytes]
            )
        except msgspec.MsgspecError as error:
            msg = f"not a threshold key: {error}"
            raise DecodeError(msg) from error
        others = {peer: seed for peer, seed in enumerate(seeds) if peer != position}
        context = ThresholdContext.from_bytes(public)
        return cls(context, position, secret=secret, shares=shares, seeds=others, flooding=flooding, record=record)

    def __repr__(self) -> str:
        """Show the public side."""
        return f"<ThresholdKey of client {self.position} in {self.context!r}>"

    def __reduce__(self) -> NoReturn:
        """Refuse copies: two would not know of each other's rounds."""
        msg = "a threshold key is not copied or pickled: save() it, and load() it from one place"
        raise TypeError(msg)

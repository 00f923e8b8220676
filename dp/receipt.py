"""Receipts: what was released and what it cost, in a file that a third party computes again.

A receipt names a plan by its hash and holds the events, the statement about their ε, and the survivor sets that
clients signed, as the protocol's own bytes. Recomputing proves the arithmetic: that events like these cost at most
this much for this unit under this relation. It proves neither that noise was added, nor that nothing else was
released, nor that the batches were drawn as the events say. Signatures, where a roster is given, prove who said which
survivors there were. The file itself is not signed; it is untrusted until `verify` returns.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec

from dp.conversion import check_delta
from dp.errors import PrivacyError
from dp.event_json import event_from_json, event_to_json
from dp.events import Composed, NeighboringRelation, Unit
from dp.pld import pld_epsilon
from secagg.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dp.bounds import Interval
    from dp.ledger import Ledger

__all__ = ["Receipt", "ReceiptError", "SignedSurvivors", "make_receipt"]

_HASH_BYTES, _SIGNATURE_BYTES = 32, 64
_ROUNDING = 1e-9
"""Relative difference between two machines' arithmetic."""


class ReceiptError(PrivacyError):
    """A receipt does not hold: its numbers are not those of its events, or a signature is not valid."""


class SignedSurvivors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One round's survivor set as its survivors signed it.

    Attributes:
        statement: what was signed, in hexadecimal; begins with the label of the consistency check.
        threshold: how many signatures the plan asks for, >= 1; as claimed: whoever knows the plan compares it.
        signatures: {position in this tuple: (client id, 64-byte signature in hexadecimal)}; no client twice.
    """

    statement: str
    threshold: int
    signatures: tuple[tuple[int | str, str], ...]

    def __post_init__(self) -> None:
        """Check the ranges; ValueError."""
        _check_hex(self.statement, None, "a survivor statement")
        signers = [signer for signer, _ in self.signatures]
        for _, signature in self.signatures:
            _check_hex(signature, _SIGNATURE_BYTES, "a signature")
        if self.threshold < 1 or len(set(signers)) < len(signers):
            msg = "a survivor set has a threshold >= 1 and at most one signature of each client"
            raise ValueError(msg)

    @classmethod
    def of(cls, statement: bytes, signatures: Mapping[int | str, bytes], *, threshold: int) -> Self:
        """Make one from the protocol's bytes: what was signed, and {client id: 64-byte signature}."""
        return cls(statement.hex(), threshold, tuple((who, signature.hex()) for who, signature in signatures.items()))

    def verify(self, members: Mapping[int | str, bytes]) -> None:
        """Check every signature.

        Args:
            members: {client id: 32-byte Ed25519 public key}, as `Roster.members`.
        Raises:
            ReceiptError: a signature is not its member's, its signer is no member, or there are fewer than `threshold`.
        """
        from secagg import tags  # noqa: PLC0415 -- a receipt without a roster needs no cryptography
        from secagg.signatures import verify_signature  # noqa: PLC0415

        statement = bytes.fromhex(self.statement)
        if not statement.startswith(tags.CONSISTENCY):
            msg = "a survivor statement is signed under the label of the consistency check; this one is something else"
            raise ReceiptError(msg)
        for signer, signature in self.signatures:
            if signer not in members:
                msg = f"a survivor set is signed by {signer!r}, who is not in the roster"
                raise ReceiptError(msg)
            try:
                verify_signature(members[signer], statement, bytes.fromhex(signature))
            except DecodeError as error:
                msg = f"the signature of {signer!r} on a survivor set does not hold: {error}"
                raise ReceiptError(msg) from error
        if len(self.signatures) < self.threshold:
            msg = f"a survivor set needs {self.threshold} signatures and has {len(self.signatures)}"
            raise ReceiptError(msg)


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag="secagg dp receipt 1"):
    """What was released about one population, and what it cost.

    Attributes:
        plan: 32-byte hash of the plan, in hexadecimal; empty where there was none.
        unit: whose privacy it is about.
        neighboring_relation: how neighbouring data sets differ.
        delta: in (0, 1).
        lower, upper: the claim: ε at this δ is at most `upper`, and no proof gives less than `lower`.
        method: how `upper` was found.
        events: all releases with their counts, as `event_to_json` writes a `Composed`.
        survivors: the signed survivor sets, in the order of the rounds.
    """

    MAX_BYTES: ClassVar[int] = 1 << 24

    plan: str
    unit: Unit
    neighboring_relation: NeighboringRelation
    delta: float
    lower: float
    upper: float
    method: str
    events: dict[str, Any]
    survivors: tuple[SignedSurvivors, ...] = ()

    def __post_init__(self) -> None:
        """Check the ranges; ValueError."""
        check_delta(self.delta)
        if self.plan:
            _check_hex(self.plan, _HASH_BYTES, "the hash of a plan")
        if not 0 <= self.lower <= self.upper < math.inf:
            msg = f"a claim is 0 <= lower <= upper < ∞, got {self.lower} and {self.upper}"
            raise ValueError(msg)
        if msgspec.json.encode(event_to_json(self.composed)) != msgspec.json.encode(self.events):
            msg = "the events of a receipt are not in canonical form"
            raise DecodeError(msg)

    @property
    def composed(self) -> Composed:
        """All releases with their counts; DecodeError if there is anything else."""
        event = event_from_json(self.events)
        if not isinstance(event, Composed):
            msg = "the events of a receipt are one Composed event"
            raise DecodeError(msg)
        return event

    def to_bytes(self) -> bytes:
        """Return the canonical JSON text, at most `MAX_BYTES` long; ValueError if it were longer."""
        text = msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"
        if len(text) > self.MAX_BYTES:
            msg = f"a receipt has at most {self.MAX_BYTES} bytes, this one has {len(text)}"
            raise ValueError(msg)
        return text

    @classmethod
    def from_bytes(cls, text: bytes) -> Self:
        """Read the canonical JSON text; DecodeError for anything else. Its claim is not checked: see `verify`."""
        if len(text) > cls.MAX_BYTES:
            msg = f"a receipt has at most {cls.MAX_BYTES} bytes"
            raise DecodeError(msg)
        try:
            found = msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            msg = f"not a receipt: {error}"
            raise DecodeError(msg) from error
        if found.to_bytes() != text:
            msg = "not the canonical text of a receipt: send it on as it was, unedited"
            raise DecodeError(msg)
        return found

    def verify(self, members: Mapping[int | str, bytes] | None = None) -> Interval:
        """Compute ε again from the events, and check the survivor sets if the members are known.

        Args:
            members: {client id: 32-byte Ed25519 public key}, as `Roster.members`; None leaves signatures unchecked.
        Returns: ε, computed here.
        Raises:
            ReceiptError: the claim or a signature does not hold; says which.
            UnsupportedEventError: no bound for an event under this relation.
        """
        found, problem = self._checked(1e-3)
        if problem:  # another version may have found a narrower interval than this one does by default
            found, problem = self._checked(1e-4)
        if problem:
            msg = f"the receipt does not hold: {problem}"
            raise ReceiptError(msg)
        if members is not None:
            for survivors in self.survivors:
                survivors.verify(members)
        return found

    def _checked(self, accuracy: float) -> tuple[Interval, str]:
        """Compute ε again; say what differs from the claim."""
        relation = self.neighboring_relation
        found = pld_epsilon(self.composed, self.delta, neighboring_relation=relation, accuracy=accuracy)
        if found.method != self.method:
            return found, f"its method is {self.method!r}, computed here: {found.method!r}"
        if found.upper > self.upper * (1 + _ROUNDING):
            return found, f"it claims ε <= {self.upper!r}; computed here: ε <= {found.upper!r}"
        if found.lower < self.lower * (1 - _ROUNDING):
            return found, f"it claims ε >= {self.lower!r}; computed here: ε >= {found.lower!r}"
        return found, ""


def make_receipt(
    ledger: Ledger, delta: float, *, plan: bytes = b"", survivors: Iterable[SignedSurvivors] = ()
) -> Receipt:
    """Write down what a ledger holds and what it costs.

    Args:
        ledger: all releases.
        delta: in (0, 1).
        plan: 32-byte hash of the plan that these releases carried out; empty if there was none.
        survivors: signed survivor sets, in the order of the rounds.

    >>> from dp.events import Gaussian
    >>> from dp.ledger import Ledger
    >>> ledger = Ledger(unit="patient", neighboring_relation="add-or-remove-one")
    >>> ledger.compose(Gaussian(4.0), 3)
    >>> make_receipt(ledger, 1e-5).verify().upper <= 2.0
    True
    """
    found = pld_epsilon(ledger.events, check_delta(delta), neighboring_relation=ledger.neighboring_relation)
    return Receipt(
        plan=plan.hex(),
        unit=ledger.unit,
        neighboring_relation=ledger.neighboring_relation,
        delta=float(delta),
        lower=found.lower,
        upper=found.upper,
        method=found.method,
        events=event_to_json(ledger.events),
        survivors=tuple(survivors),
    )


def _check_hex(text: str, length: int | None, what: str) -> None:
    """Check lower-case hexadecimal text of so many bytes."""
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = None
    if value is None or value.hex() != text or len(value) != (len(value) if length is None else length):
        msg = f"{what} is hexadecimal text" + ("" if length is None else f" of {length} bytes")
        raise ValueError(msg)

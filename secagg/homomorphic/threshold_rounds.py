"""The rounds of a sum under a threshold key, on a client's side: upload, (consistency_check,) decrypt.

    state                   message awaited   step                       answer
    ThresholdClientState0   Invitation        client_upload              ThresholdUpload
    ThresholdClientState1   Survivors         client_decrypt             PartialDecryption    (semi-honest server)
    ThresholdClientState1   Survivors         client_consistency_check   ConsistencyCheck     (malicious server)
    ThresholdClientState2   PeerSignatures    client_decrypt_agreed      PartialDecryption

`Invitation`, `Survivors`, `ConsistencyCheck` and `PeerSignatures` are those of masking. The decryptors D, t of the
survivors U, follow from U; all others hear no more once they uploaded (and signed). All of D must answer: who is to,
cannot be changed any more. If one does not, the round is lost, and the next one asks for fresh uploads. Against a
malicious server a decryptor has seen t signatures over the very (U, D, key, model) that it signed itself; as
2t > n + c, no two sets get so many in one round. `threshold` says what is protected from whom.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from secagg.errors import SERVER, FaultyServerError, LocalProtocolError, PlanError
from secagg.homomorphic.threshold import FINGERPRINT_BYTES, ThresholdContext, ThresholdKey
from secagg.homomorphic.threshold_parameters import ThresholdParameters
from secagg.masking.messages import (
    ConsistencyCheck,
    PeerSignatures,
    Survivors,
    told_of,
)
from secagg.masking.parties import mask_of
from secagg.masking.reading import named, require_agreed
from secagg.rounds import Contribution, Invitation, accept_invitation, to_vector
from secagg.wire import VectorMessage, decode

if TYPE_CHECKING:
    from secagg.identity import Identity
    from secagg.params import Plan
    from secagg.setups import Setup

__all__ = [
    "PartialDecryption",
    "ThresholdClientState0",
    "ThresholdClientState1",
    "ThresholdClientState2",
    "ThresholdUpload",
    "client_consistency_check",
    "client_decrypt",
    "client_decrypt_agreed",
    "client_upload",
    "client_upload_again",
]


class ThresholdUpload(VectorMessage, frozen=True):
    """Client -> server, round upload.

    Attributes:
        vector: fingerprint of the key (32 bytes), packed residues of c.
    """

    KIND: ClassVar[int] = 28
    NAME: ClassVar[str] = "threshold_upload"

    @classmethod
    def vector_bytes(cls, plan: Plan) -> int:
        """Return the length of all of it."""
        return FINGERPRINT_BYTES + ThresholdParameters.of(plan).upload_bytes


class PartialDecryption(ThresholdUpload, frozen=True):
    """Client -> server, round decrypt.

    Attributes:
        vector: fingerprint of the key (32 bytes), packed residues of d.
    """

    KIND: ClassVar[int] = 29
    NAME: ClassVar[str] = "partial_decryption"


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdClientState0:
    """Waits for `Invitation`.

    Raises:
        PlanError: no key, another client's, or a key that is not for this round.
    """

    setup: Setup
    position: int
    contribution: Contribution = field(repr=False)
    identity: Identity | None = field(default=None, repr=False)
    keys: ThresholdKey | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Notice a wrong key before the round begins."""
        if self.keys is None:
            msg = "a threshold sum needs this client's key: pass keys=ThresholdKey.load(path)"
            raise PlanError(msg)
        self.keys.context.require(self.setup)
        if self.keys.position != self.position:
            msg = f"this threshold key is that of client {self.setup.roster[self.keys.position]!r}"
            raise PlanError(msg)


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdClientState1:
    """Has uploaded; waits for `Survivors`."""

    setup: Setup
    position: int
    identity: Identity | None = field(repr=False)
    keys: ThresholdKey = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdClientState2:
    """Has signed who survived; waits for `PeerSignatures`, if it is to decrypt.

    Attributes:
        survivors: U, positions, ascending.
        statement: what it signed.
    """

    setup: Setup
    position: int
    keys: ThresholdKey = field(repr=False)
    survivors: list[int]
    statement: bytes = field(repr=False)


def client_upload(
    state: ThresholdClientState0, message: Invitation, random: bytes
) -> tuple[ThresholdClientState1, ThresholdUpload]:
    """Encrypt the vector; this round's number is used up before the answer leaves.

    Args:
        random: 32 fresh bytes, for the errors.
    Raises:
        FaultyServerError: invited to something else.
        TypeError, ValueError, EncodingError: the contribution is not a vector of this plan.
        LocalProtocolError, DecodeError, OSError: this key uploaded in this or a later round before, or what it did
            cannot be read or recorded.
    """
    setup, keys = state.setup, state.keys
    assert keys is not None  # noqa: S101 -- checked when the state was made
    accept_invitation(setup, message, "upload")
    upload = keys.encrypt(setup, to_vector(state.contribution, setup.plan), random)
    following = ThresholdClientState1(setup, state.position, state.identity, keys)
    return following, ThresholdUpload(state.position, _led(keys.context, upload))


def client_upload_again(
    state: ThresholdClientState0, message: Invitation, random: bytes, stored: bytes
) -> tuple[ThresholdClientState1, ThresholdUpload]:
    """Upload once more, resuming: what was sent is recalled, since nothing else may be made in its round.

    Args:
        random: not used.
        stored: the frame that answered this message before.
    Raises:
        DecodeError: it is not that.
        FaultyServerError: invited to something else.
        LocalProtocolError: it was made under another key.
    """
    del random
    setup, keys = state.setup, state.keys
    assert keys is not None  # noqa: S101 -- checked when the state was made
    accept_invitation(setup, message, "upload")
    upload = decode(ThresholdUpload, stored, setup)
    if upload.vector[:FINGERPRINT_BYTES] != keys.context.fingerprint:
        text = "what was uploaded before was encrypted under another threshold key: resume with that one"
        raise LocalProtocolError(text, round="upload")
    return ThresholdClientState1(setup, state.position, state.identity, keys), upload


def client_decrypt(state: ThresholdClientState1, message: Survivors, random: bytes) -> tuple[None, PartialDecryption]:
    """Help to decrypt the sum over these survivors, and of this round never another one.

    Args:
        random: not used: the same survivors must get the same answer.
    Raises:
        FaultyServerError: malformed, or this client is not among the decryptors of these survivors.
        ThresholdError: fewer survivors than the threshold.
        LocalProtocolError, DecodeError, OSError: this key decrypted for other survivors before, or in a later round;
            or what it did cannot be read or recorded.
    """
    del random
    survivors = _survivors(state, message, "decrypt")
    return None, _partial(state.setup, state.keys, survivors)


def client_consistency_check(
    state: ThresholdClientState1, message: Survivors, random: bytes
) -> tuple[ThresholdClientState2, ConsistencyCheck]:
    """Sign who survived, hence who decrypts, with all that led there.

    Args:
        random: not used.
    Raises:
        FaultyServerError: malformed.
        ThresholdError: fewer survivors than the threshold.
    """
    del random
    setup, me = state.setup, state.position
    survivors = _survivors(state, message, "consistency_check")
    statement = state.keys.context.statement(setup, survivors)
    if state.identity is None:  # the session refuses to begin like this
        text = "no identity to sign with"
        raise LocalProtocolError(text, round="consistency_check")
    following = ThresholdClientState2(setup, me, state.keys, survivors, statement)
    return following, ConsistencyCheck(me, state.identity.sign(statement))


def client_decrypt_agreed(
    state: ThresholdClientState2, message: PeerSignatures, random: bytes
) -> tuple[None, PartialDecryption]:
    """Help to decrypt once t clients, this one included, have signed the very same.

    Args:
        random: not used.
    Raises:
        FaultyServerError: malformed, a signature of a client that did not survive or over something else, or this
            client is not among the decryptors.
        ThresholdError: fewer than t clients signed.
        LocalProtocolError, DecodeError, OSError: as `client_decrypt`.
    """
    del random
    setup, me = state.setup, state.position
    require_agreed(setup, me, message, state.statement, mask_of(setup, state.survivors), "decrypt")
    return None, _partial(setup, state.keys, state.survivors)


def _survivors(state: ThresholdClientState1, message: Survivors, step: str) -> list[int]:
    """Read who survived, this client among them, and refuse too few."""
    setup, me = state.setup, state.position
    survivors = sorted([me, *named(message.present, told_of(setup, me), step)])
    state.keys.context.decryptors(setup, survivors)  # refuses too few
    return survivors


def _partial(setup: Setup, keys: ThresholdKey, survivors: list[int]) -> PartialDecryption:
    if keys.position not in keys.context.decryptors(setup, survivors):
        text = "asked to decrypt for survivors whose decryptors do not include this client"
        raise FaultyServerError(text, round="decrypt", culprits=[SERVER])
    return PartialDecryption(keys.position, _led(keys.context, keys.decrypt(setup, survivors)))


def _led(context: ThresholdContext, residues: memoryview) -> memoryview:
    return memoryview(b"".join((context.fingerprint, residues)))

"""What a round will cost, from its plan alone: bytes of every message, masks to expand, keys to agree on.

`secagg.cost` runs a round and measures; this computes, in no time for any n and d, and to the byte: sizes come from
`secagg.wire.encode` on messages with dummy content. Long content is cut to where MessagePack's header stops growing,
and the rest is added as a number, so that no vector is ever made.

The set-up of a threshold key, once for many rounds, is not counted. The round is one in which nobody drops out, of a
session with a 16-byte id (`new_session`) and a round number below 128:
a higher number adds up to 8 bytes to the invitation; a model named in `Setup` adds 32 bytes to what a client sends.
With hybrid keys on a sparse graph, the headers of three fields are those of a client in the middle: who has more or
fewer neighbours of a higher position differs by up to 3 bytes each, either way, and the graph is drawn with the round.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, NamedTuple

from secagg.encoding.packing import word_dtype
from secagg.errors import PlanError
from secagg.homomorphic.ckks_rounds import DecryptedSum, EncryptedSum, EncryptedUpload
from secagg.homomorphic.threshold_rounds import PartialDecryption, ThresholdUpload
from secagg.masking.messages import (
    AdvertiseKeys,
    ConsistencyCheck,
    MaskedInput,
    PeerKeys,
    PeerShares,
    PeerSignatures,
    ShareKeys,
    Survivors,
    UnmaskShares,
    bitmap_bytes,
    commitment_bytes,
    encapsulated_bytes,
    envelope_bytes,
    hashes_bytes,
    is_hybrid,
    key_bytes,
    keys_bytes,
    mask_entry_bytes,
    proof_bytes,
    revealed_bytes,
    sealed_bytes,
    signature_bytes,
    told_bytes,
)
from secagg.params import DIGEST_BYTES, MAX_CLIENTS, SESSION_BYTES, Plan
from secagg.plain import Upload
from secagg.rounds import Invitation
from secagg.setups import Setup
from secagg.transitions import steps_of
from secagg.wire import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from secagg.wire import Message, VectorMessage

__all__ = ["PlanCost", "PlannedStep", "cost_of"]

FLOAT32_BYTES = 4
TWO_BYTES = 2
_LONG = 1 << 16
"""From this length on the MessagePack header of a bytes field takes 5 bytes."""

_POSITIONS = (0, 1 << 7, 1 << 8, 1 << 16, MAX_CLIENTS)
"""Between two of these a client's position takes the same number of MessagePack bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One protocol round.

    Attributes:
        bytes_up, bytes_down: per client, mean over clients: frames differ by a few bytes with the client's position.
    """

    step: str
    bytes_up: float
    bytes_down: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCost:
    """A whole round.

    Attributes:
        steps: the protocol rounds, in order.
        bytes_up, bytes_down: per client in all of them, mean over clients.
        key_agreements: X25519 agreements of one client: for sealing and for masks, one each per neighbour.
        kem_operations: ML-KEM-768 encapsulations and decapsulations of one client, mean over clients: to and from each
            neighbour's sealing key, and one per neighbour for masks. 0 where keys are X25519 alone.
        client_mask_bytes: keystream one client expands: its self mask and one mask per neighbour.
        server_mask_bytes: keystream the server expands to remove n self masks.
        server_mask_bytes_dropouts: the most it expands if the planned dropouts vanish after they shared their keys:
            the survivors' self masks, and the masks between dropouts and survivors. Exact on a complete graph.
        expansion_two_bytes: bytes of a client in both directions ÷ (dimension × 2 bytes), the measure of Bonawitz et
            al. 2017 for 16-bit values.
        expansion_float32: bytes of a client in both directions ÷ (dimension × 4 bytes).
        upload_over_float32: bytes a client sends ÷ (dimension × 4 bytes).
    """

    steps: tuple[PlannedStep, ...]
    bytes_up: float
    bytes_down: float
    key_agreements: int
    kem_operations: int
    client_mask_bytes: int
    server_mask_bytes: int
    server_mask_bytes_dropouts: int
    expansion_two_bytes: float
    expansion_float32: float
    upload_over_float32: float


class _Frame(NamedTuple):
    """A message to or from every client: how it is made from the client and its bytes fields, and how long these are.

    `per_higher` and `per_lower` are what each neighbour of a higher or lower position adds to them.
    """

    make: Callable[..., Message]
    lengths: tuple[int, ...]
    per_higher: tuple[int, ...] = ()
    per_lower: tuple[int, ...] = ()


def cost_of(plan: Plan, *, dimension: int | None = None) -> PlanCost:
    """Compute what a round costs in which nobody drops out.

    Args:
        plan: the parameters.
        dimension: values a client wants summed, without the weight that rides along; None takes the plan's length.
    Raises:
        PlanError: dimension is not in [1, length].

    >>> import secagg
    >>> plan = secagg.plan(secagg.Encoding(dimension=1_000_000, clip=1.0, bits=16, clients=1_000))
    >>> cost = cost_of(plan, dimension=1_000_000)
    >>> round(cost.upload_over_float32, 2), cost.key_agreements
    (0.81, 92)
    """
    d = plan.length if dimension is None else dimension
    if type(d) is not int or not 1 <= d <= plan.length:
        msg = f"dimension must be an integer in [1, {plan.length}], the plan's length, got {d!r}"
        raise PlanError(msg)
    frames = _frames(plan) if plan.masking in {"masking", "lattice"} else _upload_frames(plan)
    steps = tuple(
        PlannedStep(
            step=step,
            bytes_down=_mean_bytes(down, plan) * _asked(step, plan),
            bytes_up=_mean_bytes(up, plan) * _asked(step, plan),
        )
        for step, (down, up) in ((step, frames[step]) for step in steps_of(plan.masking, plan.server))
    )
    bytes_up, bytes_down = sum(step.bytes_up for step in steps), sum(step.bytes_down for step in steps)
    neighbours, one_mask = 0, 0
    if plan.masking in {"masking", "lattice"}:
        length, bits = plan.masked
        neighbours, one_mask = plan.degree, length * word_dtype(bits).itemsize
    survivors = plan.clients - plan.dropouts
    return PlanCost(
        steps=steps,
        bytes_up=bytes_up,
        bytes_down=bytes_down,
        key_agreements=2 * neighbours,
        kem_operations=3 * neighbours if is_hybrid(plan) else 0,
        client_mask_bytes=(neighbours + 1) * one_mask,
        server_mask_bytes=plan.clients * one_mask,
        server_mask_bytes_dropouts=(survivors + plan.dropouts * min(neighbours, survivors)) * one_mask,
        expansion_two_bytes=(bytes_up + bytes_down) / (TWO_BYTES * d),
        expansion_float32=(bytes_up + bytes_down) / (FLOAT32_BYTES * d),
        upload_over_float32=bytes_up / (FLOAT32_BYTES * d),
    )


def _frames(plan: Plan) -> dict[str, tuple[_Frame, _Frame]]:
    """What the server sends to and gets from every client, by protocol round."""
    k = plan.degree
    bitmap, told, signature, hashes = bitmap_bytes(k), told_bytes(plan), signature_bytes(plan), hashes_bytes(plan)
    keys, revealed, bundle = keys_bytes(plan), revealed_bytes(plan), sealed_bytes(plan)
    signers, needed = (k + 1, plan.threshold) if plan.keys_draw_graph else (k, plan.threshold - 1)
    invitation = _Frame(_invitation, (SESSION_BYTES[0], DIGEST_BYTES, DIGEST_BYTES))
    survivors = _Frame(Survivors, (told,))
    agreed = _Frame(PeerSignatures, (bitmap_bytes(signers), signature * needed))
    # Of two neighbours the lower position encapsulates to the other's mask key.
    deal, dealt = encapsulated_bytes(plan, k, 0), mask_entry_bytes(plan)
    envelope = envelope_bytes(plan, 1) - envelope_bytes(plan, 0)
    return {
        "advertise_keys": (invitation, _Frame(AdvertiseKeys, (key_bytes(plan), key_bytes(plan), signature, 0))),
        "share_keys": (
            _Frame(PeerKeys, (bitmap, keys * k, proof_bytes(plan))),
            _Frame(
                ShareKeys,
                (commitment_bytes(plan), bundle * k, hashes * (k + 1), signature, deal, envelope_bytes(plan, 0)),
                per_higher=(0, 0, 0, 0, dealt, envelope),
            ),
        ),
        "masked_input": (
            _Frame(PeerShares, (told, (bundle + hashes) * k, deal), per_lower=(0, 0, dealt)),
            _whole(MaskedInput, plan),
        ),
        "consistency_check": (survivors, _Frame(ConsistencyCheck, (signature,))),
        "unmask": (
            agreed if plan.server == "malicious" else survivors,
            _Frame(UnmaskShares, (revealed * (k + 1),)),
        ),
    }


def _upload_frames(plan: Plan) -> dict[str, tuple[_Frame, _Frame]]:
    """The same where a vector takes one upload."""
    invitation = _Frame(_invitation, (SESSION_BYTES[0], DIGEST_BYTES, DIGEST_BYTES))
    if plan.masking == "plain":
        return {"upload": (invitation, _whole(Upload, plan))}
    if plan.masking == "ckks":
        return {
            "upload": (invitation, _whole(EncryptedUpload, plan)),
            "decrypt": (_whole(EncryptedSum, plan), _whole(DecryptedSum, plan)),
        }
    survivors, signature = _Frame(Survivors, (told_bytes(plan),)), signature_bytes(plan)
    agreed = _Frame(PeerSignatures, (bitmap_bytes(plan.clients - 1), signature * (plan.threshold - 1)))
    return {
        "upload": (invitation, _whole(ThresholdUpload, plan)),
        "consistency_check": (survivors, _Frame(ConsistencyCheck, (signature,))),
        "decrypt": (agreed if plan.server == "malicious" else survivors, _whole(PartialDecryption, plan)),
    }


def _asked(step: str, plan: Plan) -> float:
    """Which share of the clients a step asks: of a threshold key's holders, those who decrypt."""
    return plan.threshold / plan.clients if (plan.masking, step) == ("threshold", "decrypt") else 1.0


def _whole(message: type[VectorMessage], plan: Plan) -> _Frame:
    return _Frame(message, (message.vector_bytes(plan),))


def _invitation(client: int, session: bytes, parameters: bytes, roster: bytes) -> Invitation:
    return Invitation(client, session, 0, parameters, roster)


def _mean_bytes(frame: _Frame, plan: Plan) -> float:
    """Average a frame's length over the clients 0..n-1: between two breaks it grows by the same every time."""
    n = plan.clients
    breaks = sorted({start for start in (*_POSITIONS, *_header_breaks(frame, plan), n) if start <= n})
    ends = [
        (stop - start, _frame_bytes(frame, start, plan), _frame_bytes(frame, stop - 1, plan))
        for start, stop in pairwise(breaks)
    ]
    return sum(clients * (first + last) for clients, first, last in ends) / (2 * n)


def _header_breaks(frame: _Frame, plan: Plan) -> Iterator[int]:
    """Yield the positions from which on a field that varies with the position has another MessagePack header."""
    if not plan.is_complete:
        return
    n = plan.clients
    for length, higher, lower in zip_longest(frame.lengths, frame.per_higher, frame.per_lower, fillvalue=0):
        for limit in (1 << 8, _LONG):
            if higher and length < limit:
                yield max(n - -(-(limit - length) // higher), 0)
            if lower and length < limit:
                yield -(-(limit - length) // lower)


def _frame_bytes(frame: _Frame, position: int, plan: Plan | None = None) -> int:
    higher, lower = (0, 0) if plan is None else _neighbours_beside(plan, position)
    lengths = [
        length + above * higher + below * lower
        for length, above, below in zip_longest(frame.lengths, frame.per_higher, frame.per_lower, fillvalue=0)
    ]
    message = frame.make(position, *(bytes(min(length, _LONG)) for length in lengths))
    return len(encode(message, _any_setup())) + sum(max(length - _LONG, 0) for length in lengths)


def _neighbours_beside(plan: Plan, position: int) -> tuple[int, int]:
    """How many neighbours have a higher and a lower position: on a sparse graph half each, which is so on average."""
    if plan.is_complete:
        return plan.clients - 1 - position, position
    return plan.degree // 2, plan.degree // 2


@cache
def _any_setup() -> Setup:
    """Make a setup to frame dummies for: no frame's length depends on it."""
    plan = Plan(clients=2, length=1, modulus_bits=1, threshold=2, degree=1)
    return Setup(plan=plan, roster=range(2), session=bytes(SESSION_BYTES[0]), round=0, assume_honest_server=True)

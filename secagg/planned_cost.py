"""What a round will cost, from its plan alone: bytes of every message, masks to expand, keys to agree on.

`secagg.cost` runs a round and measures; this computes, in no time for any n and d, and to the byte: sizes come from
`secagg.wire.encode` on messages with dummy content. Long content is cut to where MessagePack's header stops growing,
and the rest is added as a number, so that no vector is ever made.

The round is one in which nobody drops out, of a session with a 16-byte id (`new_session`) and a round number below 128:
a higher number adds up to 8 bytes to the invitation; a model named in `Setup` adds 32 bytes to what a client sends.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from secagg.encoding.packing import packed_bytes, word_dtype
from secagg.errors import PlanError
from secagg.masking.messages import (
    HASH_BYTES,
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
    entry_bytes,
    hashes_bytes,
    keys_bytes,
    sealed_bytes,
    signature_bytes,
)
from secagg.params import DIGEST_BYTES, MAX_CLIENTS, SESSION_BYTES, Plan, Setup
from secagg.plain import Upload
from secagg.primitives.keys import KEY_BYTES
from secagg.rounds import Invitation
from secagg.transitions import steps_of
from secagg.wire import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from secagg.wire import Message

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
    client_mask_bytes: int
    server_mask_bytes: int
    server_mask_bytes_dropouts: int
    expansion_two_bytes: float
    expansion_float32: float
    upload_over_float32: float


class _Frame(NamedTuple):
    """A message to every client: how it is made from the client and its bytes fields, and how long these are."""

    make: Callable[..., Message]
    lengths: tuple[int, ...]


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
    frames = _frames(plan)
    steps = tuple(
        PlannedStep(step=step, bytes_down=_mean_bytes(down, plan.clients), bytes_up=_mean_bytes(up, plan.clients))
        for step, (down, up) in ((step, frames[step]) for step in steps_of(plan.masking, plan.server))
    )
    bytes_up, bytes_down = sum(step.bytes_up for step in steps), sum(step.bytes_down for step in steps)
    neighbours, one_mask = 0, 0
    if plan.masking == "masking":
        neighbours, one_mask = plan.degree, plan.length * word_dtype(plan.modulus_bits).itemsize
    survivors = plan.clients - plan.dropouts
    return PlanCost(
        steps=steps,
        bytes_up=bytes_up,
        bytes_down=bytes_down,
        key_agreements=2 * neighbours,
        client_mask_bytes=(neighbours + 1) * one_mask,
        server_mask_bytes=plan.clients * one_mask,
        server_mask_bytes_dropouts=(survivors + plan.dropouts * min(neighbours, survivors)) * one_mask,
        expansion_two_bytes=(bytes_up + bytes_down) / (TWO_BYTES * d),
        expansion_float32=(bytes_up + bytes_down) / (FLOAT32_BYTES * d),
        upload_over_float32=bytes_up / (FLOAT32_BYTES * d),
    )


def _frames(plan: Plan) -> dict[str, tuple[_Frame, _Frame]]:
    """What the server sends to and gets from every client, by protocol round."""
    k, vector = plan.degree, packed_bytes(plan.length, plan.modulus_bits)
    bitmap, signature, hashes = bitmap_bytes(plan), signature_bytes(plan), hashes_bytes(plan)
    keys, entry, bundle = keys_bytes(plan), entry_bytes(plan), sealed_bytes(plan)
    invitation = _Frame(_invitation, (SESSION_BYTES[0], DIGEST_BYTES, DIGEST_BYTES))
    survivors = _Frame(Survivors, (bitmap,))
    agreed = _Frame(PeerSignatures, (bitmap, signature * (plan.threshold - 1)))
    return {
        "upload": (invitation, _Frame(Upload, (vector,))),
        "advertise_keys": (invitation, _Frame(AdvertiseKeys, (KEY_BYTES, KEY_BYTES, signature, 0))),
        "share_keys": (
            _Frame(PeerKeys, (bitmap, keys * k)),
            _Frame(ShareKeys, (HASH_BYTES, bundle * k, hashes * (k + 1), signature)),
        ),
        "masked_input": (_Frame(PeerShares, (bitmap, (bundle + hashes) * k)), _Frame(MaskedInput, (vector,))),
        "consistency_check": (survivors, _Frame(ConsistencyCheck, (signature,))),
        "unmask": (
            agreed if plan.server == "malicious" else survivors,
            _Frame(UnmaskShares, (entry * (k + 1),)),
        ),
    }


def _invitation(client: int, session: bytes, parameters: bytes, roster: bytes) -> Invitation:
    return Invitation(client, session, 0, parameters, roster)


def _mean_bytes(frame: _Frame, n: int) -> float:
    """Average a frame's length over the clients 0..n-1."""
    groups = [(start, min(stop, n) - start) for start, stop in pairwise(_POSITIONS) if start < n]
    return sum(clients * _frame_bytes(frame, position) for position, clients in groups) / n


def _frame_bytes(frame: _Frame, position: int) -> int:
    message = frame.make(position, *(bytes(min(length, _LONG)) for length in frame.lengths))
    return len(encode(message, _any_setup())) + sum(max(length - _LONG, 0) for length in frame.lengths)


@cache
def _any_setup() -> Setup:
    """Make a setup to frame dummies for: no frame's length depends on it."""
    plan = Plan(clients=2, length=1, modulus_bits=1, threshold=2, degree=1)
    return Setup(plan=plan, roster=range(2), session=bytes(SESSION_BYTES[0]), round=0, assume_honest_server=True)

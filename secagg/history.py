"""What a client remembers between rounds, for its policy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import msgspec

from secagg import tags
from secagg.errors import DecodeError, PolicyError
from secagg.params import DIGEST_BYTES, MAX_ID, SESSION_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from secagg.params import ClientId
    from secagg.setups import Setup

__all__ = ["History"]

MAX_HISTORY = 1 << 24
"""Bytes of a history. A full one refuses: were old entries dropped instead, a server could push them out."""

_CHECK_BYTES = 32


class _Stored(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A history as it is written: pairs in ascending order."""

    rounds: tuple[
        tuple[
            Annotated[bytes, msgspec.Meta(min_length=SESSION_BYTES[0], max_length=SESSION_BYTES[1])],
            Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)],
        ],
        ...,
    ]
    survivor_sets: tuple[
        tuple[
            Annotated[bytes, msgspec.Meta(max_length=DIGEST_BYTES)],
            tuple[
                tuple[
                    Annotated[int, msgspec.Meta(ge=0)] | Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)],
                    ...,
                ],
                ...,
            ],
        ],
        ...,
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a client remembers between rounds. A value: store the new one durably, then act on it.

    A value and not an object that changes, so that "stored" comes before "revealed": if storing fails, the old history
    still stands and nothing went out. To forget is the caller's decision alone, and may be part of it:
    `dataclasses.replace(history, survivor_sets={})`.

    Attributes:
        rounds: session -> the highest round number begun in it.
        survivor_sets: digest of a model (`Setup.model`; b"" stands for all rounds without one) -> the survivor sets of
            the rounds run on it, in whichever session. Kept only if `with_survivors` is called: `Policy.min_difference`
            needs it.

    Raises:
        PolicyError: rule "history_bytes": more than 16 MiB to remember.

    Security: whoever can put an older file back in place of the newest undoes what was remembered since; bytes are
    checked for damage, not authenticated.
    """

    rounds: Mapping[bytes, int] = field(default_factory=dict)
    survivor_sets: Mapping[bytes, frozenset[frozenset[ClientId]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the mappings; refuse to grow without bound."""
        object.__setattr__(self, "rounds", MappingProxyType(dict(self.rounds)))
        object.__setattr__(self, "survivor_sets", MappingProxyType(dict(self.survivor_sets)))
        size = len(self.to_bytes())
        if size > MAX_HISTORY:
            raise PolicyError(rule="history_bytes", asked=size, allowed=MAX_HISTORY)

    def with_round(self, setup: Setup) -> History:
        """Remember that a round begins. Store the result before the round's first message goes out.

        Raises:
            PolicyError: rule "round": the number is not above the highest begun in this session; rule "history_bytes".
        """
        lowest = self.rounds.get(setup.session, -1) + 1
        if setup.round < lowest:
            raise PolicyError(rule="round", asked=setup.round, allowed=lowest)
        return History(rounds={**self.rounds, setup.session: setup.round}, survivor_sets=self.survivor_sets)

    def begun(self, setup: Setup) -> bool:
        """Whether this round is the highest begun in its session."""
        return self.rounds.get(setup.session) == setup.round

    def with_survivors(self, setup: Setup, survivors: frozenset[ClientId]) -> History:
        """Remember whom a sum is over. Store the result before anything is revealed, whether or not the round succeeds.

        Raises:
            PolicyError: rule "history_bytes".
        """
        known = self.survivor_sets.get(setup.model, frozenset())
        return History(rounds=self.rounds, survivor_sets={**self.survivor_sets, setup.model: known | {survivors}})

    def to_bytes(self) -> bytes:
        """Encode: a format name, MessagePack, and a SHA-256 digest of both against damage. Canonical."""
        stored = _Stored(
            rounds=tuple(sorted(self.rounds.items())),
            survivor_sets=tuple(
                (model, tuple(sorted((tuple(sorted(ids, key=_order)) for ids in sets), key=_orders)))
                for model, sets in sorted(self.survivor_sets.items())
            ),
        )
        body = tags.HISTORY + msgspec.msgpack.encode(stored)
        return body + hashlib.sha256(body).digest()

    @classmethod
    def from_bytes(cls, data: bytes) -> History:
        """Read what `to_bytes` wrote, and nothing else.

        Raises:
            TypeError: not bytes.
            DecodeError: more than 16 MiB, damaged, not a history, or not canonical.
        """
        if not isinstance(data, bytes):
            msg = f"a stored history is bytes, got {type(data).__name__}"
            raise TypeError(msg)
        if len(data) > MAX_HISTORY:
            msg = f"a stored history has at most {MAX_HISTORY} bytes, got {len(data)}"
            raise DecodeError(msg)
        body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
        if not body.startswith(tags.HISTORY) or hashlib.sha256(body).digest() != check:
            msg = "not a stored history of this version, or a damaged one"
            raise DecodeError(msg)
        try:
            stored = msgspec.msgpack.decode(memoryview(body)[len(tags.HISTORY) :], type=_Stored)
        except msgspec.MsgspecError as error:
            msg = f"not a stored history: {error}"
            raise DecodeError(msg) from error
        history = cls(
            rounds=dict(stored.rounds),
            survivor_sets={model: frozenset(map(frozenset, sets)) for model, sets in stored.survivor_sets},
        )
        if history.to_bytes() != data:
            msg = "not the canonical encoding of a history"
            raise DecodeError(msg)
        return history


def _order(client_id: ClientId) -> tuple[bool, ClientId]:
    """Numbers before names, as in a setup's roster."""
    return isinstance(client_id, str), client_id


def _orders(ids: tuple[ClientId, ...]) -> list[tuple[bool, ClientId]]:
    return [_order(client_id) for client_id in ids]

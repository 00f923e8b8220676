"""What the server's steps share: who is where in the graph, and who is to blame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from secagg.errors import DecodeError, FaultyClientError, ThresholdError
from secagg.masking.messages import hashes_bytes, to_bitmap, told_of
from secagg.signatures import verify_signature

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from secagg.setups import Setup

__all__ = [
    "bitmap_for",
    "check_signature",
    "faulty",
    "hashes_for",
    "mask_of",
    "peers_among",
    "require_holders",
    "told_for",
]


def mask_of(setup: Setup, positions: Iterable[int]) -> NDArray[np.bool_]:
    """Turn roster positions into (n,) bool."""
    mask = np.zeros(setup.plan.clients, dtype=np.bool_)
    mask[list(positions)] = True
    return mask


def peers_among(setup: Setup, client: int, members: NDArray[np.bool_]) -> list[int]:
    """The client's neighbours among `members`, ascending."""
    neighbours = setup.graph.neighbours(client)
    peers: list[int] = neighbours[members[neighbours]].tolist()
    return peers


def bitmap_for(setup: Setup, client: int, members: NDArray[np.bool_]) -> bytes:
    """Pack which of a client's neighbours are among `members`."""
    return to_bitmap(members[setup.graph.neighbours(client)])


def told_for(setup: Setup, client: int, members: NDArray[np.bool_]) -> bytes:
    """Pack who of those that a client is told of is among `members`."""
    return to_bitmap(members[told_of(setup, client)])


def hashes_for(setup: Setup, advertised: NDArray[np.bool_], hashes: bytes, dealer: int, holder: int) -> bytes:
    """Cut a dealer's hashes for one holder out of all that it published, which run over its holders with keys."""
    size = hashes_bytes(setup.plan)
    neighbours = setup.graph.neighbours(dealer)
    before = neighbours[: np.searchsorted(neighbours, holder)]
    at = size * (int(advertised[before].sum()) + (dealer < holder))
    return hashes[at : at + size]


def require_holders(setup: Setup, owners: Iterable[int], holders: NDArray[np.bool_], what: str) -> None:
    """Raise unless every owner has t holders (itself and its neighbours) left."""
    positions = np.array(list(owners), dtype=np.int64)
    fewest = int(holders[setup.graph.closed_neighbourhoods(positions)].sum(axis=1).min()) if len(positions) else 0
    if fewest < setup.plan.threshold:
        raise ThresholdError(needed=setup.plan.threshold, survivors=fewest, what=what)


def check_signature(setup: Setup, client: int, statement: bytes, signature: bytes, step: str) -> None:
    """Raise `FaultyClientError` unless a client's identity signed a statement."""
    try:
        verify_signature(setup.identities[client], statement, signature)
    except DecodeError as error:
        raise faulty(setup, client, f"not signed by its identity: {error}", step) from error


def faulty(setup: Setup, client: int, text: str, step: str) -> FaultyClientError:
    """Make the error that blames one client."""
    return FaultyClientError(text, round=step, culprits=[setup.roster[client]])

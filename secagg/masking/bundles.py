"""What clients seal to each other: shares of their secrets, each with a salt where hashes of them are published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secagg import tags
from secagg.errors import DecodeError, SuspectedPeerError
from secagg.masking.messages import SALT_BYTES, cut, entries_dealt, entry_bytes, sealed_bytes
from secagg.masking.streams import channel, sealing_key
from secagg.masking.transcript import entry_hash
from secagg.primitives.aead import open_sealed
from secagg.primitives.keys import derive_key
from secagg.primitives.prg import keystream
from secagg.primitives.shamir import SHARE_BYTES, shares_from_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from secagg.masking.client_states import ClientState2
    from secagg.masking.hybrid import KemParts
    from secagg.setups import Setup

__all__ = ["dealt_entries", "incoming", "open_bundles"]


def dealt_entries(setup: Setup, random: bytes, shares: NDArray[np.uint64]) -> Iterator[tuple[bytes, ...]]:
    """Write each holder's shares, (holders, secrets, 5) in all; each with a salt where hashes are published."""
    each, count = shares.shape[1], shares.shape[0] * shares.shape[1]
    pieces = cut(shares.astype("<u8").tobytes(), SHARE_BYTES, count, "shares")
    if setup.plan.server == "malicious":
        stream = keystream(derive_key(random, tags.SHARE_SALTS, setup.digest), SALT_BYTES * count).tobytes()
        salts = cut(stream, SALT_BYTES, count, "salts")
        pieces = [share + salt for share, salt in zip(pieces, salts, strict=True)]
    return zip(*[iter(pieces)] * each, strict=True)


def open_bundles(
    state: ClientState2, peers: Sequence[int], bundles: Sequence[bytes], parts: KemParts
) -> dict[int, tuple[bytes, ...]]:
    """Open the peers' bundles: of each its entries, which are shares, and those whose hashes it published.

    Raises:
        SuspectedPeerError: a bundle does not open, holds no share, or another than its dealer published.
    """
    entries = {peer: _opened(state, peer, bundle, parts) for peer, bundle in zip(peers, bundles, strict=True)}
    _require_shares(state.setup, entries)
    return entries


def incoming(state: ClientState2, peer: int, parts: KemParts) -> tuple[bytes, bytes]:
    """Return the key that a peer seals its bundle to this client under, and what the bundle is bound to."""
    setup, me, theirs = state.setup, state.position, state.peers[peer]
    secret = theirs.secret + parts.sealing.get(peer, b"")
    key = sealing_key(setup, secret, (peer, theirs.sealing_key), (me, state.sealing.public))
    return key, channel(setup, peer, me, parts.entries.get(peer, b""))


def _opened(state: ClientState2, peer: int, bundle: bytes, parts: KemParts) -> tuple[bytes, ...]:
    """Open a peer's bundle: its entries, checked against the hashes that it published."""
    setup, me = state.setup, state.position
    sealed, hashes = bundle[: sealed_bytes(setup.plan)], bundle[sealed_bytes(setup.plan) :]
    key, where = incoming(state, peer, parts)
    try:
        opened = open_sealed(key, sealed, associated_data=where)
        entries = tuple(cut(opened, entry_bytes(setup.plan), entries_dealt(setup.plan), "shares"))
    except DecodeError as error:
        raise _unusable(setup, peer, error) from error
    if hashes and hashes != b"".join(entry_hash(setup, peer, me, i, entry) for i, entry in enumerate(entries)):
        text = "the shares sealed by a peer are not those it published hashes of"
        raise SuspectedPeerError(text, round="masked_input", culprits=[setup.roster[peer]])
    return entries


def _require_shares(setup: Setup, entries: Mapping[int, tuple[bytes, ...]]) -> None:
    """Blame whoever sealed something that is no share; all are looked at together."""
    shares = {peer: b"".join([entry[:SHARE_BYTES] for entry in dealt]) for peer, dealt in entries.items()}
    try:
        shares_from_bytes(b"".join(shares.values()))
    except DecodeError:
        for peer, data in shares.items():
            try:
                shares_from_bytes(data)
            except DecodeError as error:
                raise _unusable(setup, peer, error) from error


def _unusable(setup: Setup, peer: int, error: DecodeError) -> SuspectedPeerError:
    text = f"the shares sealed by a peer are unusable: {error}"
    return SuspectedPeerError(text, round="masked_input", culprits=[setup.roster[peer]])

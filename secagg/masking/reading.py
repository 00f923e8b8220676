"""How a client reads what the server says: whatever does not fit is the server's fault, a `FaultyServerError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secagg.errors import SERVER, DecodeError, FaultyServerError, ThresholdError
from secagg.masking.messages import SIGNATURE_BYTES, cut, from_bitmap, key_bytes, proof_bytes, signers_of
from secagg.masking.transcript import keys_statement
from secagg.primitives.keys import KEY_BYTES, check_public
from secagg.primitives.merkle import NODE_BYTES, root_of
from secagg.signatures import first_forgery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from secagg.masking.client_states import ClientState1
    from secagg.masking.messages import PeerSignatures
    from secagg.setups import Setup

__all__ = [
    "cut_entries",
    "keyed",
    "named",
    "require_agreed",
    "require_enough",
    "require_subset",
    "vouched_keys",
]


def vouched_keys(setup: Setup, peers: Sequence[int], entries: Sequence[bytes]) -> dict[int, tuple[bytes, bytes]]:
    """Cut peers' two public keys out of their entries, once the identities' signatures over them hold."""
    size, keys, signed = key_bytes(setup.plan), {}, []
    for peer, entry in zip(peers, entries, strict=True):
        theirs, mask_key = keys[peer] = entry[:size], entry[size : 2 * size]
        try:
            check_public(mask_key[:KEY_BYTES])  # the sealing key is used at once, and refused then
        except ValueError as error:
            text = "a public key is not a valid X25519 point"
            raise FaultyServerError(text, round="share_keys", culprits=[SERVER]) from error
        if setup.plan.server == "malicious":
            signed.append((setup.identities[peer], keys_statement(setup, peer, theirs, mask_key), entry[2 * size :]))
    forgery = first_forgery(signed)
    if forgery is not None:
        text = f"the public keys of {setup.roster[peers[forgery]]!r} are not signed by its identity"
        raise FaultyServerError(text, round="share_keys", culprits=[SERVER])
    return keys


def keyed(state: ClientState1, proof: bytes) -> Setup:
    """Bind the root that the server commits to, if the graph is drawn from it and our own keys are under it."""
    setup, me = state.setup, state.position
    if len(proof) != proof_bytes(setup.plan):
        text = f"expected a root and a path of {proof_bytes(setup.plan)} bytes, got {len(proof)}"
        raise FaultyServerError(text, round="share_keys", culprits=[SERVER])
    if not setup.plan.keys_draw_graph:
        return setup
    root, path = proof[:NODE_BYTES], proof[NODE_BYTES:]
    if root_of(setup.plan.clients, me, state.sealing.public + state.mask.public, path) != root:
        text = "the server commits to keys that ours are not among"
        raise FaultyServerError(text, round="share_keys", culprits=[SERVER])
    return setup.keyed(root)


def require_agreed(
    setup: Setup, position: int, message: PeerSignatures, statement: bytes, survived: NDArray[np.bool_], step: str
) -> None:
    """Read the signatures of t clients, this one included, over the very same statement.

    Args:
        survived: (n,) bool.
    Raises:
        FaultyServerError: malformed, a signature of a client that did not survive, or one over something else.
        ThresholdError: fewer than t clients signed.
    """
    committee, needed = signers_of(setup, position)
    signers = named(message.present, committee, step)
    signatures = cut_entries(message.signatures, SIGNATURE_BYTES, signers, step)
    if not survived[signers].all():
        text = "the server names a client that did not survive"
        raise FaultyServerError(text, round=step, culprits=[SERVER])
    if len(signers) < needed:
        t = setup.plan.threshold
        raise ThresholdError(needed=t, survivors=t - needed + len(signers), what="clients that signed who survived")
    forgery = first_forgery(
        [(setup.identities[each], statement, signature) for each, signature in zip(signers, signatures, strict=True)]
    )
    if forgery is not None:
        text = f"{setup.roster[signers[forgery]]!r} has not signed the same survivors, keys and model as this client"
        raise FaultyServerError(text, round=step, culprits=[SERVER])


def named(bitmap: bytes, clients: NDArray[np.int64], step: str) -> list[int]:
    """Read which clients a message names; blame the server for what does not fit."""
    try:
        return from_bitmap(bitmap, clients)
    except DecodeError as error:
        raise FaultyServerError(str(error), round=step, culprits=[SERVER]) from error


def cut_entries(data: bytes, size: int, present: list[int], step: str) -> Sequence[bytes]:
    """Cut one entry for each client that a message names; blame the server for what does not fit."""
    try:
        return cut(data, size, len(present), "entries")
    except DecodeError as error:
        raise FaultyServerError(str(error), round=step, culprits=[SERVER]) from error


def require_subset(present: list[int], known: Mapping[int, object], step: str, what: str) -> None:
    """Blame the server for naming a client that cannot be meant."""
    if not known.keys() >= set(present):
        text = f"the server names a client that did not {what}"
        raise FaultyServerError(text, round=step, culprits=[SERVER])


def require_enough(present: list[int], setup: Setup, what: str) -> None:
    """Raise unless these and the client itself are t.

    Raises:
        ThresholdError: so.
    """
    if len(present) + 1 < setup.plan.threshold:
        raise ThresholdError(needed=setup.plan.threshold, survivors=len(present) + 1, what=what)

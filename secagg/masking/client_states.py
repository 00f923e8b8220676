"""What a client holds between its steps. Each state is used once; nothing secret shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from secagg.identity import Identity
    from secagg.masking.hybrid import PlanKeyPair
    from secagg.rounds import Contribution
    from secagg.setups import Setup

__all__ = ["ClientState0", "ClientState1", "ClientState2", "ClientState3", "ClientState4", "Peer"]


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """A neighbour's public keys and what was agreed with it.

    Attributes:
        sealing_key, mask_key: its public keys.
        secret: 32 bytes, the X25519 agreement of the sealing keys.
        mask_part: where keys are hybrid and its position is the higher one, what joins the X25519 secret of the mask
            keys: the KEM secret encapsulated to it and the ciphertext. From a lower one it is still to come.
    """

    sealing_key: bytes
    mask_key: bytes
    secret: bytes = field(repr=False)
    mask_part: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class ClientState0:
    """Before the round: waits for `Invitation`.

    Attributes:
        identity: what it signs with against a malicious server; None where the server is assumed honest.
        extras: as many secrets of 32 bytes as the plan asks for.
    """

    setup: Setup
    position: int
    contribution: Contribution = field(repr=False)
    identity: Identity | None = field(default=None, repr=False)
    extras: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class ClientState1:
    """Keys advertised: waits for `PeerKeys`."""

    setup: Setup
    position: int
    contribution: Contribution = field(repr=False)
    identity: Identity | None = field(repr=False)
    extras: tuple[bytes, ...] = field(repr=False)
    sealing: PlanKeyPair = field(repr=False)
    mask: PlanKeyPair = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class ClientState2:
    """Secrets shared: waits for `PeerShares`.

    Attributes:
        keys: hash of all public keys it was shown.
        peers: by position, the neighbours it sealed shares to.
        own_entry: its own share of its self-mask seed, and the salt.
        own_extras: the same of its extra secrets.
    """

    setup: Setup
    position: int
    contribution: Contribution = field(repr=False)
    identity: Identity | None = field(repr=False)
    keys: bytes
    sealing: PlanKeyPair = field(repr=False)
    mask: PlanKeyPair = field(repr=False)
    self_mask_seed: bytes = field(repr=False)
    own_entry: bytes = field(repr=False)
    own_extras: tuple[bytes, ...] = field(repr=False)
    peers: dict[int, Peer] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class ClientState3:
    """Masked input sent: waits for `Survivors`.

    Attributes:
        keys, own_entry, own_extras: as before.
        entries: by position, what to reveal of the peer if it survives (self mask), and if not (mask key); then of each
            of its extra secrets.
        shared: (n,) bool, who shared their secrets, as far as it was told.
    """

    setup: Setup
    position: int
    identity: Identity | None = field(repr=False)
    keys: bytes
    own_entry: bytes = field(repr=False)
    own_extras: tuple[bytes, ...] = field(repr=False)
    entries: dict[int, tuple[bytes, ...]] = field(repr=False)
    shared: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ClientState4:
    """Survivors signed: waits for `PeerSignatures`.

    Attributes:
        own_entry, own_extras, entries: as before.
        alive: (n,) bool, who survived.
        statement: what it signed.
    """

    setup: Setup
    position: int
    own_entry: bytes = field(repr=False)
    own_extras: tuple[bytes, ...] = field(repr=False)
    entries: dict[int, tuple[bytes, ...]] = field(repr=False)
    alive: NDArray[np.bool_]
    statement: bytes = field(repr=False)

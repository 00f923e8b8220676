"""Keys for sums that need some, made in memory: one for all under CKKS, or a threshold key that all set up together."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from secagg.identity import Identity
from secagg.server_session import Server
from secagg.session import Client
from secagg.setups import Setup
from secagg.transitions import KEYED, steps_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from secagg.homomorphic.ckks import CkksKeys
    from secagg.homomorphic.ckks_parameters import CkksContext
    from secagg.homomorphic.threshold import ThresholdContext, ThresholdKey
    from secagg.params import ClientId, Plan
    from secagg.simulation import Observer

__all__ = ["SimulatedKeys", "make_keys", "pinned"]

Keys: TypeAlias = "CkksKeys | ThresholdKey"


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedKeys:
    """What every party of a simulation holds from before its rounds.

    Attributes:
        identities: client -> its identity; empty where the server is trusted.
        keys: client -> its key; empty where sums need none.
        context: the server's side of these keys.
        last_round: up to which they serve; None for ever.
    """

    identities: Mapping[ClientId, Identity] = field(repr=False)
    keys: Mapping[ClientId, Keys] = field(repr=False)
    context: CkksContext | ThresholdContext | None = None
    last_round: int | None = None


@dataclass(frozen=True, slots=True)
class _Pinned:
    """The identities of a simulation: pinned by whoever runs it."""

    members: Mapping[ClientId, bytes]
    digest: bytes = bytes(32)


def pinned(roster: Iterable[ClientId], identities: Mapping[ClientId, Identity]) -> Any:  # noqa: ANN401 -- ids or a roster
    """Return a roster for `Setup`."""
    if not identities:
        return roster
    return _Pinned({client: identity.public for client, identity in identities.items()})


def make_keys(
    plan: Plan,
    roster: Sequence[ClientId],
    *,
    session: bytes,
    round: int = 0,  # noqa: A002 -- the paper's word
    observers: Sequence[Observer] = (),
) -> SimulatedKeys:
    """Make identities and keys for rounds of a plan.

    Args:
        plan, roster, session: of the rounds.
        round: of the set-up of a threshold key, which serves the rounds after it.
        observers: watch the messages of that set-up.
    Raises:
        PlanError: no key can be made for this plan.
    """
    identities: dict[ClientId, Identity] = {}
    if plan.server == "malicious":
        identities = {client: Identity.generate() for client in roster}
    if plan.masking not in KEYED:
        return SimulatedKeys(identities, {})
    if plan.masking == "ckks":
        from secagg.homomorphic.ckks import CkksKeys  # noqa: PLC0415 -- needs the [he] extra

        shared = CkksKeys.generate(plan)
        return SimulatedKeys(identities, dict.fromkeys(roster, shared), shared.context)
    setup = Setup(
        plan=plan,
        roster=pinned(roster, identities),
        session=session,
        round=round,
        assume_honest_server=plan.server == "semi-honest",
    )
    return _threshold(setup, identities, observers)


def _threshold(setup: Setup, identities: dict[ClientId, Identity], observers: Sequence[Observer]) -> SimulatedKeys:
    from secagg.homomorphic.threshold import ThresholdContext  # noqa: PLC0415 -- loads the ring

    keys: dict[ClientId, Keys] = {}
    server = Server(setup, key_setup=True)
    clients = {
        client: Client(
            setup, client, partial(keys.__setitem__, client), identity=identities.get(client), key_setup=True
        )
        for client in setup.roster
    }
    for step in steps_of("threshold", key_setup=True):
        for client, request in server.close_round().items():
            answer = clients[client].receive(request)
            server.receive(client, answer)
            for observer in observers:
                observer.on_message(f"set-up: {step}", "down", client, request)
                observer.on_message(f"set-up: {step}", "up", client, answer)
    server.close_round()
    context = ThresholdContext.from_bytes(server.total().vector.tobytes())
    return SimulatedKeys(identities, keys, context, context.round + context.parameters.rounds)

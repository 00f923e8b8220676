"""What a liar is, what came of its lie, and how the two are compared. All of it is data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from secagg.adversary.stage import Stage
    from secagg.errors import SecAggError

__all__ = ["ClientLie", "Expectation", "Liar", "Outbox", "Outcome", "Reaction", "ServerLie", "shortfalls"]

Outbox: TypeAlias = dict[str, list[bytes]]
"""What a lying server sends: client id -> frames, one after the other."""

ServerLie: TypeAlias = Callable[["Stage", Outbox], Outbox]
"""Turns the requests of one step, as an honest server would send them, into those that are sent."""

ClientLie: TypeAlias = Callable[["Stage", bytes], Sequence[bytes]]
"""Turns a request to the lying client into the frames it answers; the request is empty where it was not asked."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the protocol owes everybody else when this liar lies.

    Attributes:
        error: what is raised; None if the lie passes and changes nothing.
        by: who raises it: client ids in one string, or "server".
        culprits: whom the error blames; empty for errors that blame nobody (a threshold, a plan).
        opens: the honest clients, in one string, whose sum the server learns; "" if it learns no sum.
        total: whether the honest server of a lying client ends with the right sum over its survivors ("exact") or with
            none; "none" for a lying server, of whom no sum is promised.
    """

    error: type[SecAggError] | None
    by: str = ""
    culprits: tuple[str, ...] = ()
    opens: str = ""
    total: Literal["exact", "none"] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Liar:
    """One scripted lie.

    Attributes:
        name: what it is called.
        who: "server", or "client" (which is then D).
        tries: one sentence.
        server_lies, client_lies: protocol round -> rewriting. Besides the rounds of the protocol there are, for a lying
            server, "setup" (before the first) and "afterwards" (after the last).
        ally: whether client E sides with the lying server and shows it all it knows.
        models: client id -> digest of the model it is given, where that is not everyone's.
        silent: client id -> the round from which it does not answer, without lying.
        expects: what has to come of it.
    """

    name: str
    who: Literal["server", "client"]
    tries: str
    expects: Expectation
    server_lies: Mapping[str, ServerLie] = field(default_factory=dict)
    client_lies: Mapping[str, ClientLie] = field(default_factory=dict)
    ally: bool = False
    models: Mapping[str, bytes] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reaction:
    """An error that an honest party raised.

    Attributes:
        party: a client id, or "server".
        error: name of its type.
        culprits: whom it blames.
        says: its message.
    """

    party: str
    error: str
    culprits: tuple[str, ...]
    says: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a lie: all of it observed or computed in a run.

    Attributes:
        liar: its name.
        reactions: errors, in the order they were raised.
        revealed: honest clients that sent shares after the lie.
        changed: honest clients that answered one step with two different messages. Empty, or the protocol is broken.
        two_kinds: honest clients that revealed shares of both secrets of one owner. Empty, likewise.
        both: honest clients of which both secrets can be rebuilt, from the shares that the server and whoever lies
            with it hold. Empty, likewise.
        opened: sets of honest clients whose plain sum the server can compute from all it saw and all that its ally, or
            the lying client, knows; every subset was tried.
        total: what the honest server of a lying client ended with; "none" for a lying server.
    """

    liar: str
    reactions: tuple[Reaction, ...]
    revealed: str
    changed: str
    two_kinds: str
    both: str
    opened: tuple[str, ...]
    total: Literal["exact", "wrong", "none"]


def shortfalls(liar: Liar, outcome: Outcome) -> list[str]:
    """Say in which respects a lie brought more than it should, or was blamed on somebody else; [] if in none."""
    expects, found = liar.expects, []
    if outcome.changed:
        found.append(f"{outcome.changed} answered one step in two ways")
    if outcome.two_kinds:
        found.append(f"{outcome.two_kinds} revealed shares of both secrets of one client")
    if outcome.both:
        found.append(f"both secrets of {outcome.both} can be rebuilt")
    opens = (expects.opens,) if expects.opens else ()
    if outcome.opened != opens:
        found.append(f"the server can compute the sums over {list(outcome.opened)}, expected {list(opens)}")
    if outcome.total != expects.total:
        found.append(f"the server's sum: {outcome.total}, expected {expects.total}")
    error = expects.error.__name__ if expects.error else ""
    parties = ["server"] if expects.by == "server" else list(expects.by)
    raised = sorted({(each.party, each.error, each.culprits) for each in outcome.reactions})
    wanted = sorted((party, error, expects.culprits) for party in parties)
    if raised != wanted:
        found.append(f"raised {raised}, expected {wanted}")
    return found

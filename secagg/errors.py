"""The error tree of secure sums.

Parsing raises `DecodeError`; the step that asked for the bytes turns it into blame. A check whose result
must not be ignored raises; it never returns a bool. No message holds a secret: errors may be logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from secagg.params import ClientId

__all__ = [
    "DecodeError",
    "EncodingError",
    "FaultyClientError",
    "FaultyServerError",
    "LocalProtocolError",
    "PlanError",
    "PolicyError",
    "ProtocolError",
    "RemoteProtocolError",
    "SecAggError",
    "SuspectedPeerError",
    "ThresholdError",
    "VersionError",
]

SERVER = "server"
"""How `RemoteProtocolError.culprits` names the server."""


class SecAggError(Exception):
    """Root of every error this library raises on purpose. Survives copying and pickling with its attributes."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the message and the attributes, without calling the constructor."""
        return _rebuilt, (type(self), self.args, self.__dict__)


class DecodeError(SecAggError, ValueError):
    """The bytes are not the canonical encoding of what was expected."""


class VersionError(DecodeError):
    """The bytes come from another wire version.

    Attributes:
        ours: the version this library speaks.
        theirs: the version the bytes claim.
    """

    def __init__(self, *, ours: int, theirs: int) -> None:
        self.ours = ours
        self.theirs = theirs
        super().__init__(
            f"wire version {theirs} received, this library speaks {ours}: install matching secagg versions"
        )


class EncodingError(SecAggError, ValueError):
    """A vector cannot be encoded, or an encoding could wrap, without losing something in silence."""


class PlanError(SecAggError, ValueError):
    """No parameters satisfy what was asked of a plan."""


class PolicyError(SecAggError):
    """A client refuses what its own policy does not allow, whoever asks for it. Nothing was sent or revealed.

    Attributes:
        rule: the rule, by the name of the `Policy` field where there is one.
        asked: the value asked.
        allowed: the value allowed: a bound, an inclusive range, or the one value accepted.
    """

    def __init__(self, *, rule: str, asked: object, allowed: object) -> None:
        self.rule = rule
        self.asked = asked
        self.allowed = allowed
        super().__init__(f"refused by this client's policy, {rule}: asked {_shown(asked)}, allowed {_shown(allowed)}")


class ThresholdError(SecAggError):
    """Nobody is known to have lied; too few clients remain to finish the round.

    Attributes:
        needed: how many shares (hence share holders) the plan asks for.
        survivors: how many remain for the client that is worst off.
    """

    def __init__(self, *, needed: int, survivors: int, what: str) -> None:
        self.needed = needed
        self.survivors = survivors
        super().__init__(f"{what}: {needed} needed, {survivors} left")


class ProtocolError(SecAggError):
    """A round cannot go on as it is.

    Attributes:
        round: the protocol round in which it happened, in Bonawitz et al.'s words.
    """

    def __init__(self, message: str, *, round: str) -> None:  # noqa: A002 -- the paper's word
        self.round = round
        super().__init__(f"{round}: {message}")


class LocalProtocolError(ProtocolError):
    """Our own caller broke the order of calls or reused what may be used once."""


class RemoteProtocolError(ProtocolError):
    """What a peer sent cannot be accepted. The session's state is unchanged.

    Attributes:
        culprits: client ids, or "server".
    """

    def __init__(self, message: str, *, round: str, culprits: Iterable[ClientId]) -> None:  # noqa: A002
        self.culprits = tuple(culprits)
        super().__init__(f"{message} (from {', '.join(map(str, self.culprits))})", round=round)


class FaultyClientError(RemoteProtocolError):
    """Raised by a server: this client is at fault; certain, given authentic channels."""


class FaultyServerError(RemoteProtocolError):
    """Raised by a client: the server is at fault; certain, given authentic channels."""


class SuspectedPeerError(RemoteProtocolError):
    """A peer lied, or whoever relayed its message framed it; this party cannot tell which."""


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _rebuilt(kind: type[SecAggError], args: tuple[Any, ...], attributes: dict[str, Any]) -> SecAggError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error

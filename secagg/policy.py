"""What a client refuses, whoever asks.

Threat model: the server, and whoever proposes a plan, may ask for anything. A `Policy` is written by the client's own
institution. It judges the setup, the codec and the history that the client itself was configured with, and the
survivors before any share is revealed; nothing the server says can change it, and there is no rule it can waive. A
limit that was set and cannot be judged, because what it needs was not handed in, refuses.

Not promised: that the members of the roster are who they should be (pin the `Roster`), that `Plan.corrupted`,
`privacy_bits` and `failure_bits` are true (pin the plan, or make it), or that a sum tells little about one client
(that is differential privacy, package `dp`).

Bad types and values of a policy raise `TypeError` and `ValueError`; every refusal is a `PolicyError`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from secagg.encoding.fixed_point import Encoding
from secagg.encoding.packing import MAX_BITS
from secagg.errors import PolicyError
from secagg.params import DIGEST_BYTES

if TYPE_CHECKING:
    from secagg.history import History
    from secagg.params import ClientId, Codec
    from secagg.setups import Setup

__all__ = ["Policy"]

_FEWEST_DIFFERENT = 2
_ROUNDING = 1e-9
"""Slack so that a share of 0.29 of 100 clients is 29 clients, not 28."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a client insists on. Bounds and ranges are inclusive.

    The defaults refuse nothing that `secagg.plan` makes for three or more clients against a malicious server.

    Attributes:
        min_clients: the least size of the roster: of a sum over two, either of the two knows the other's vector.
        min_threshold: the least shares that rebuild a secret: so many clients less one, together with a semi-honest
            server, still open nothing. At 3, no pair does.
        min_survivors: the least vectors in a sum before this client helps to open it.
        min_honest: the least of them beyond `Plan.corrupted`: what is left when the corrupted take their own vectors
            out of the sum. One would stand there alone.
        max_dropouts: the largest share of the roster that may be missing from a sum, in [0, 1): whoever chooses who
            "drops out" chooses whom the sum is over. A share and not a count, so that one policy serves rosters of any
            size; 1/3 is what the threshold above 2n/3 of a complete graph tolerates anyway, so by default only sparse
            graphs are held to it. The plan's own number is checked before anything is sent, and the real one before
            anything is revealed.
        max_modulus_bits: the widest modulus. Width costs bytes and memory and hides nothing less: by default, any.
        clip: range that `Encoding.clip` must lie in, or None for any. A bound set too high hands over outliers whole,
            and no noise is calibrated to it; which range is right depends on the model.
        bits: range for `Encoding.bits`, or None: finer steps tell more of every vector.
        max_weight: range for `Encoding.max_weight`, or None: a large one lets a client's weight stand out in the sum.
        require_masking: refuse "plain" plans, in which the server sees every vector, and "ckks", in which it does with
            the help of any one client.
        require_identities: refuse plans that trust the server: with bare client ids it can play all other clients.
        plan_digest: `Plan.digest` of the one plan accepted, or None: against any change of parameters since the
            institution approved them. A digest leaves out the stated odds, and `corrupted` of a semi-honest plan.
        min_difference: in how many clients two sums of one model must differ if they differ at all, at least 2, or
            None for no such floor: against whoever subtracts one from the other. See `check_survivors` for its limits.

    Raises:
        TypeError, ValueError: a value of the policy itself makes no sense.

    >>> import secagg
    >>> codec = secagg.Counts(dimension=4, maximum=100, clients=4)
    >>> setup = secagg.Setup(plan=secagg.plan(codec), roster="abcd", session=bytes(16), round=0,
    ...     assume_honest_server=True)
    >>> Policy(require_identities=False).check(setup, codec)
    >>> Policy().check(setup, codec)
    Traceback (most recent call last):
    secagg.errors.PolicyError: refused by this client's policy, require_identities: asked semi-honest, allowed malicious
    """

    min_clients: int = 3
    min_threshold: int = 3
    min_survivors: int = 3
    min_honest: int = 2
    max_dropouts: float = 1 / 3
    max_modulus_bits: int = MAX_BITS
    clip: tuple[float, float] | None = None
    bits: tuple[int, int] | None = None
    max_weight: tuple[int, int] | None = None
    require_masking: bool = True
    require_identities: bool = True
    plan_digest: bytes | None = field(default=None, repr=False)
    min_difference: int | None = None

    def __post_init__(self) -> None:
        """Refuse a policy that does not say what it means."""
        for name in ("min_clients", "min_threshold", "min_survivors", "min_honest"):
            _check_integer(name, getattr(self, name), 1)
        _check_integer("max_modulus_bits", self.max_modulus_bits, 1)
        if self.min_difference is not None:
            _check_integer("min_difference", self.min_difference, _FEWEST_DIFFERENT)
        for name in ("require_masking", "require_identities"):
            if type(getattr(self, name)) is not bool:
                msg = f"{name} must be True or False, got {getattr(self, name)!r}"
                raise TypeError(msg)
        _check_number("max_dropouts", self.max_dropouts)
        if not 0 <= self.max_dropouts < 1:
            msg = f"max_dropouts is a share of the roster, in [0, 1), got {self.max_dropouts!r}"
            raise ValueError(msg)
        for name in ("clip", "bits", "max_weight"):
            _check_range(name, getattr(self, name))
        if self.plan_digest is not None and not isinstance(self.plan_digest, bytes):
            msg = f"plan_digest is bytes, got {type(self.plan_digest).__name__}"
            raise TypeError(msg)
        if self.plan_digest is not None and len(self.plan_digest) != DIGEST_BYTES:
            msg = f"plan_digest is the {DIGEST_BYTES} bytes of Plan.digest, got {len(self.plan_digest)}"
            raise ValueError(msg)

    def check(
        self, setup: Setup, codec: Codec | None = None, *, history: History | None = None, resuming: bool = False
    ) -> None:
        """Refuse a round before anything is sent.

        Args:
            setup: the client's own.
            codec: what the client itself encodes with; the plan must be for it. None leaves that unchecked.
            history: what the client remembers; None leaves round numbers unchecked.
            resuming: this very round was begun before, and goes on: its number may be the highest remembered.
        Raises:
            PolicyError: `rule` is a field of this policy, or one of those that hold always:
                "encoding", "encoding_length", "encoding_modulus_bits", "encoding_clients" (the plan is for another
                codec, or for more clients than its sums hold);
                "round" (not above the highest begun in the session: of an earlier run of the same round the server may
                know other clients' keys, whose signatures would still verify);
                "codec", "history" (a rule of this policy needs one, and there is none);
                "history_bytes" (no room to remember the round).
        """
        plan = setup.plan
        if self.plan_digest is not None and plan.digest != self.plan_digest:
            raise PolicyError(rule="plan_digest", asked=plan.digest, allowed=self.plan_digest)
        if self.require_masking and plan.masking in {"plain", "ckks"}:
            raise PolicyError(rule="require_masking", asked=plan.masking, allowed="masking, lattice or threshold")
        if self.require_identities and plan.server != "malicious":
            raise PolicyError(rule="require_identities", asked=plan.server, allowed="malicious")
        _at_least("min_clients", len(setup.roster), self.min_clients)
        _at_least("min_threshold", plan.threshold, self.min_threshold)
        _at_most("max_dropouts", plan.dropouts, self._most_dropouts(setup))
        _at_most("max_modulus_bits", plan.modulus_bits, self.max_modulus_bits)
        self._check_size(setup, len(setup.roster))
        self._check_codec(setup, codec)
        if self.min_difference is not None and not plan.is_complete:
            raise PolicyError(rule="min_difference", asked="a sparse graph", allowed="a complete graph")
        if history is not None and not (resuming and history.begun(setup)):
            history.with_round(setup)
        elif history is None and self.min_difference is not None:
            raise PolicyError(rule="history", asked=None, allowed="a History, for min_difference")

    def check_survivors(self, setup: Setup, survivors: frozenset[ClientId], history: History | None = None) -> None:
        """Refuse to help open a sum: over too few clients, or over almost the same clients as an earlier one.

        With `min_difference`, the survivors must be the very clients of each remembered sum of the same model, or
        differ from them in at least so many: clients in one set and not in the other, counted both ways. Take it above
        `Plan.corrupted` + 1, since the corrupted among those that differ count for nothing.

        Args:
            survivors: whose vectors the sum would be over; with a plan against a malicious server, the set that this
                client signs.
            history: what the client remembers of earlier rounds, required by `min_difference`. Afterwards, before
                anything is revealed, store `history.with_survivors(setup, survivors)`.
        Raises:
            PolicyError: rule "survivors_in_roster", "min_survivors", "min_honest", "max_dropouts", "min_difference"
                (`asked` is the least difference found), "history" or "history_bytes".
        Guarantees: of two sums of one model whose survivors this client was shown, the difference is a signed sum over
            nobody or over at least `min_difference` clients' vectors.
        Security: this protects clients that are in one of two sums from whoever sees both, provided their vectors were
            the same or nearly so in both, as those computed from one model are. It does not protect from: three or more
            sums, combined (of {1, 2}, {2, 3} and {1, 3}, every two differ in two clients, and together they give away
            all three vectors); sums of models that differ in name alone, if the server may choose them (leave
            `Setup.model` empty to have all rounds compared); sums this client was not shown, such as that over everyone
            but itself, which only the policies of the others refuse; the same survivors summed again and again, which
            averages rounding and noise away. It is not differential privacy.
        """
        strangers = survivors - frozenset(setup.roster)
        _at_most("survivors_in_roster", len(strangers), 0)
        self._check_size(setup, len(survivors))
        _at_most("max_dropouts", len(setup.roster) - len(survivors), self._most_dropouts(setup))
        if self.min_difference is None:
            return
        if history is None:
            raise PolicyError(rule="history", asked=None, allowed="a History, for min_difference")
        others = history.survivor_sets.get(setup.model, frozenset()) - {survivors}
        if others:
            _at_least("min_difference", min(len(survivors ^ other) for other in others), self.min_difference)
        history.with_survivors(setup, survivors)

    def _check_size(self, setup: Setup, vectors: int) -> None:
        _at_least("min_survivors", vectors, self.min_survivors)
        _at_least("min_honest", vectors - setup.plan.corrupted, self.min_honest)

    def _most_dropouts(self, setup: Setup) -> int:
        return math.floor(self.max_dropouts * len(setup.roster) + _ROUNDING)

    def _check_codec(self, setup: Setup, codec: Codec | None) -> None:
        ranges = {name: getattr(self, name) for name in ("clip", "bits", "max_weight")}
        limits = {name: limit for name, limit in ranges.items() if limit is not None}
        if codec is None:
            if limits:
                raise PolicyError(rule="codec", asked=None, allowed=f"the client's own, for {', '.join(limits)}")
            return
        plan = setup.plan
        for rule, asked, allowed in (
            ("encoding", plan.encoding, codec.digest),
            ("encoding_length", plan.length, codec.length),
            ("encoding_modulus_bits", plan.modulus_bits, codec.modulus_bits),
        ):
            if asked != allowed:
                raise PolicyError(rule=rule, asked=asked, allowed=allowed)
        _at_most("encoding_clients", plan.clients, codec.clients)
        if isinstance(codec, Encoding):
            for name, (least, most) in limits.items():
                value = getattr(codec, name)
                if not least <= value <= most:
                    raise PolicyError(rule=name, asked=value, allowed=(least, most))


def _at_least(rule: str, asked: int, allowed: int) -> None:
    if asked < allowed:
        raise PolicyError(rule=rule, asked=asked, allowed=allowed)


def _at_most(rule: str, asked: int, allowed: int) -> None:
    if asked > allowed:
        raise PolicyError(rule=rule, asked=asked, allowed=allowed)


def _check_integer(name: str, value: object, least: int) -> None:
    if type(value) is not int:
        msg = f"{name} must be an integer, got {value!r}"
        raise TypeError(msg)
    if value < least:
        msg = f"{name} must be at least {least}, got {value}"
        raise ValueError(msg)


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        msg = f"{name} must be a number, got {value!r}"
        raise TypeError(msg)


def _check_range(name: str, limits: object) -> None:
    if limits is None:
        return
    if not isinstance(limits, tuple) or len(limits) != 2:  # noqa: PLR2004
        msg = f"{name} must be a pair (least, most), got {limits!r}"
        raise TypeError(msg)
    for end in limits:
        _check_number(name, end)
    if not limits[0] <= limits[1]:
        msg = f"{name} must be a range (least, most) with least <= most, got {limits!r}"
        raise ValueError(msg)

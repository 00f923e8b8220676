"""Parameters of a threshold sum, from a plan, with the proof that security, flooding and digits fit one modulus.

R = Z[X]/(X^N + 1), q a product of L primes of 27 bits. A coefficient of R_q carries k digits of g bits, each a
coordinate's integer sum over all clients, so that q holds k·g bits of digits, the flooding noise, and nothing else.

Flooding. With U the clients in the sum and D the t decryptors, the server learns E + F besides the sum: E the sum over
U of the upload errors (deviation σ each), F the sum over D of their flooding. Let B bound every coefficient of E of a
round, but for odds of 2^-128, and let c clients be corrupted. Decryptors answer under one-time zero-sharings, so that
only F as a whole is seen, and the t - c honest ones share the work: each adds deviation f = 2^40·B / sqrt(t - c).

Correctness. E + F is sub-Gaussian of variance v = n·σ² + t·f²: it exceeds x somewhere with odds of at most
coefficients·2·exp(-x²/2v). The server takes noise for a lie that honest parties make with odds below
2^-correctness_bits (`noise_steps`); that bound has to lie below 15Δ/32, so that no honest sum is rounded wrongly. Δ is
the largest multiple of 16 below q / 2^(k·g).

Refresh. A round shifts F by E: the Kullback-Leibler divergence is below coefficients·n·σ²/(2·(t - c)·f²), and R
rounds are within half the square root of twice their sum in statistical distance (Pinsker). Above 2^-30 is refused.

Integers and `math` only, no numpy. docs/threshold.md derives all of it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Final

import msgspec

from secagg import tags
from secagg.errors import PlanError
from secagg.lattice.parameters import DEGREES, MAX_LENGTH, MOST_PRIMES, PRIME_BITS, SIGMA, ring_primes
from secagg.lattice.security import largest_modulus, security

if TYPE_CHECKING:
    from secagg.params import Plan

__all__ = ["MOST_CLIENTS", "ThresholdParameters"]

MOST_CLIENTS: Final = 100
"""Set-up moves n² shares of up to 221 kB through the server."""

FLOODING_BITS: Final = 40
"""log2 of the honest decryptors' flooding, as a deviation, over the bound on the sum of errors."""

REFRESH_BITS: Final = 30
"""-log2 of the statistical distance that all rounds of a key may add up to."""

BOUND_BITS: Final = 128
"""-log2 of the odds, in one round, that a coefficient of the sum of errors exceeds its bound."""

LANES: Final = 32
"""The last block carries a multiple of so many coefficients: as many residues as make whole words on the wire."""

NOISE_BITS: Final = 4
"""The server rounds to so many bits below a digit, which show the noise in steps of Δ/16."""

_MOST_ROUNDS: Final = 1 << 20
_ROUNDS: Final = 1_000
_MOST_DIGITS: Final = PRIME_BITS * MOST_PRIMES
_FEWEST_HONEST: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdParameters:
    """What a threshold key and all its sums run on. Made by `of` or `choose`; checked again here whoever made it.

    Attributes:
        clients: n, at most 100.
        threshold: t: decryptors of a sum, and the fewest clients in one.
        corrupted: c: how many clients may side with the server.
        length, modulus_bits: of a vector.
        wraps: whether sums may wrap modulo 2^modulus_bits; a digit then takes ⌈log2 n⌉ bits more. An encoding's never
            do.
        signed_length: coordinates, the first ones, that may be negative; 0 where sums wrap.
        degree: N. primes: L, the largest primes below 2^27 that are 1 mod 2N make q.
        digits: k, coordinates in one coefficient.
        rounds: how many rounds may follow the set-up's before the key must be refreshed.
        correctness_bits: a sum is wrong with odds of at most 2^-correctness_bits.

    Raises:
        PlanError: outside the security tables, or the budget of q does not hold digits and flooding; says which.
    """

    clients: int
    threshold: int
    corrupted: int
    length: int
    modulus_bits: int
    wraps: bool
    signed_length: int
    degree: int
    primes: int
    digits: int
    rounds: int = _ROUNDS
    correctness_bits: int = 40

    def __post_init__(self) -> None:
        """Prove the budget."""
        for name, low, high in (
            ("clients", 2, MOST_CLIENTS),
            ("threshold", 2, MOST_CLIENTS),
            ("corrupted", 0, MOST_CLIENTS),
            ("length", 1, MAX_LENGTH),
            ("modulus_bits", 1, 64),
            ("signed_length", 0, MAX_LENGTH),
            ("degree", DEGREES[0], DEGREES[-1]),
            ("primes", 1, MOST_PRIMES),
            ("digits", 1, _MOST_DIGITS),
            ("rounds", 1, _MOST_ROUNDS),
            ("correctness_bits", 1, 128),
        ):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                msg = f"{name} of a threshold sum must be an integer in [{low}, {high}], got {value!r}"
                raise PlanError(msg)
        if type(self.wraps) is not bool or not 0 <= self.signed_length <= (0 if self.wraps else self.length):
            msg = f"wraps is True or False, and only sums that do not wrap have signed coordinates: {self!r}"
            raise PlanError(msg)
        if self.threshold > self.clients:
            msg = f"threshold {self.threshold} of {self.clients} clients can never be reached"
            raise PlanError(msg)
        if self.threshold - self.corrupted < _FEWEST_HONEST:
            msg = (
                f"of {self.threshold} clients in a sum {self.corrupted} may be corrupted: a sum over fewer than 2 "
                "honest clients hides nothing, raise the threshold"
            )
            raise PlanError(msg)
        security(self.degree, self.log2_modulus)
        if self.failure_bits < self.correctness_bits:
            msg = (
                f"{self.digits} digits of {self.digit_bits} bits leave log2 Δ = {_log2(self.delta):.1f} of log2 q = "
                f"{self.log2_modulus:.1f}: flooding of 2^{FLOODING_BITS} times the bound {self.error_bound} on the sum "
                f"of errors, by {self.threshold} decryptors, does not stay below Δ/2 with odds of "
                f"2^-{self.correctness_bits}"
            )
            raise PlanError(msg)
        if self.refresh_bits < REFRESH_BITS:
            remedy = "refresh the key earlier" if self.rounds > 1 else "sum a shorter vector"
            msg = (
                f"over {self.rounds} rounds flooding leaves a statistical distance of 2^-{self.refresh_bits:.1f}, "
                f"more than 2^-{REFRESH_BITS}: {remedy}"
            )
            raise PlanError(msg)

    @staticmethod
    def of(plan: Plan) -> ThresholdParameters:
        """Return the parameters for a plan's sums: an encoding's sums never wrap, those of bare vectors may.

        Raises:
            PlanError: no threshold sum can follow this plan; says why.
        """
        if not plan.is_complete:
            msg = f"a threshold key is shared among all {plan.clients} clients: plan it with graph='complete'"
            raise PlanError(msg)
        if plan.key_agreement != "x25519":
            msg = f"a threshold key's shares are sealed under X25519 keys alone, not {plan.key_agreement!r}"
            raise PlanError(msg)
        if plan.server == "malicious" and 2 * plan.threshold <= plan.clients + plan.corrupted:
            msg = f"against a malicious server twice the threshold must exceed n + c, got {plan.threshold}"
            raise PlanError(msg)
        return _chosen(
            clients=plan.clients,
            threshold=plan.threshold,
            corrupted=plan.corrupted,
            length=plan.length,
            modulus_bits=plan.modulus_bits,
            wraps=not plan.encoding,
            signed_length=plan.signed_length if plan.encoding else 0,
        )

    @staticmethod
    def choose(
        *,
        clients: int,
        threshold: int,
        corrupted: int,
        length: int,
        modulus_bits: int,
        wraps: bool,
        signed_length: int = 0,
        rounds: int | None = None,
        correctness_bits: int = 40,
        post_quantum: bool = False,
    ) -> ThresholdParameters:
        """Choose ring and digits with the fewest bytes to upload; of equals, the smaller shares.

        Args:
            rounds: None takes as many as flooding allows, 1000 at most.
            post_quantum: ask for 128 bits against quantum attacks too.
        Raises:
            PlanError: nothing fits; says why the last one tried does not.

        >>> ten_to_the_six = dict(clients=100, threshold=67, corrupted=33, length=1_000_000)
        >>> chosen = ThresholdParameters.choose(**ten_to_the_six, modulus_bits=32, wraps=False)
        >>> chosen.degree, chosen.primes, chosen.digits, chosen.upload_bytes / 4_000_000
        (8192, 8, 5, 1.35)
        """
        found: list[ThresholdParameters] = []
        refused: PlanError | None = None
        for degree in DEGREES:
            for primes in range(2, MOST_PRIMES + 1):
                log2_modulus = math.log2(math.prod(ring_primes(degree, primes)))
                if log2_modulus > largest_modulus(degree, 128, quantum=post_quantum):
                    continue
                for digits in range(max(1, int(log2_modulus) // modulus_bits), 0, -1):
                    try:
                        made = ThresholdParameters(
                            clients=clients,
                            threshold=threshold,
                            corrupted=corrupted,
                            length=length,
                            modulus_bits=modulus_bits,
                            wraps=wraps,
                            signed_length=signed_length,
                            degree=degree,
                            primes=primes,
                            digits=digits,
                            rounds=rounds or 1,
                            correctness_bits=correctness_bits,
                        )
                    except PlanError as error:
                        refused = error
                        continue
                    found.append(made if rounds else made.with_most_rounds())
                    break
        if not found:
            msg = f"no threshold sum fits: {refused}"
            raise PlanError(msg) from refused
        return min(found, key=lambda one: (one.upload_bytes, one.share_bytes))

    def with_most_rounds(self) -> ThresholdParameters:
        """Return the same for as many rounds as flooding allows, 1000 at most."""
        most = self.rounds * 4 ** (self.refresh_bits - REFRESH_BITS)
        return replace(self, rounds=min(_ROUNDS, max(1, math.floor(most * (1 - 1e-9)))))

    @property
    def digest(self) -> bytes:
        """32-byte hash of every parameter."""
        values = [getattr(self, each.name) for each in fields(self)]
        derived = [self.modulus.to_bytes(27, "little"), self.digit_bits, self.flooding, SIGMA]
        return hashlib.sha256(tags.THRESHOLD_PARAMETERS + msgspec.msgpack.encode([*values, *derived])).digest()

    @property
    def modulus(self) -> int:
        """q, the product of the primes."""
        return math.prod(ring_primes(self.degree, self.primes))

    @property
    def log2_modulus(self) -> float:
        """log2 q."""
        return math.log2(self.modulus)

    @property
    def digit_bits(self) -> int:
        """g: holds the integer sum of n coordinates."""
        return self.modulus_bits + ((self.clients - 1).bit_length() if self.wraps else 0)

    @property
    def most(self) -> int:
        """The largest unsigned coordinate: n of them do not reach 2^modulus_bits, or, where sums wrap, any."""
        return ((1 << self.modulus_bits) - 1) // (1 if self.wraps else self.clients)

    @property
    def offset(self) -> int:
        """S: signed coordinates are in [-S, S], and S is added to each before it becomes a digit."""
        return self.most // 2

    @property
    def delta(self) -> int:
        """Δ: the largest multiple of 16 under which no message wraps mod q."""
        return self.modulus >> (self.digits * self.digit_bits) & -(1 << NOISE_BITS)

    @property
    def blocks(self) -> int:
        """Ring elements of one vector: ⌈length / (N·k)⌉."""
        return -(-self.length // (self.degree * self.digits))

    @property
    def last_width(self) -> int:
        """Coefficients of the last block that travel: those in use, rounded up to a multiple of 32."""
        used = -(-self.length // self.digits) - (self.blocks - 1) * self.degree
        return -(-used // LANES) * LANES

    @property
    def upload_bytes(self) -> int:
        """Bytes of an upload, and of a partial decryption."""
        return ((self.blocks - 1) * self.degree + self.last_width) * self.primes * PRIME_BITS // 8

    @property
    def share_bytes(self) -> int:
        """Bytes of one share of a secret."""
        return self.degree * self.primes * PRIME_BITS // 8

    @property
    def error_bound(self) -> int:
        """B: no coefficient of the sum of n clients' errors exceeds it in a round, but for odds of 2^-128."""
        nats = math.log(2) * (BOUND_BITS + 1) + math.log(self.degree * self.blocks)
        return math.ceil(SIGMA * math.sqrt(2 * self.clients * nats))

    @property
    def flooding(self) -> float:
        """Standard deviation of one decryptor's flooding, f = 2^40·B / sqrt(t - c)."""
        return 2.0**FLOODING_BITS * self.error_bound / math.sqrt(self.threshold - self.corrupted)

    @property
    def failure_bits(self) -> float:
        """-log2 of a bound on the odds that an honest sum is wrong anywhere; negative where nothing is said."""
        return self._bits_beyond(self.delta * 15 / 32)

    @property
    def lost_bits(self) -> float:
        """-log2 of a bound on the odds that an honest sum is taken for a lie (`noise_steps`), or is wrong."""
        return self._bits_beyond((self.noise_steps + 0.5) * self.delta / 16)

    @property
    def noise_steps(self) -> int:
        """The most steps of Δ/16, rounded, that noise comes to, but for odds of 2^-correctness_bits."""
        nats = math.log(2) * (self.correctness_bits + 1) + math.log(self._coefficients)
        return math.ceil(16 * math.sqrt(2 * self._variance * nats) / self.delta - 0.5)

    def _bits_beyond(self, noise: float) -> float:
        return noise**2 / (2 * self._variance * math.log(2)) - 1 - math.log2(self._coefficients)

    @property
    def _variance(self) -> float:
        return self.clients * SIGMA**2 + self.threshold * self.flooding**2

    @property
    def _coefficients(self) -> int:
        return self.degree * self.blocks

    @property
    def refresh_bits(self) -> float:
        """-log2 of the statistical distance that `rounds` rounds add up to."""
        honest = self.flooding * math.sqrt(self.threshold - self.corrupted)
        coefficients = self.degree * self.blocks * self.rounds
        return -math.log2(SIGMA * math.sqrt(self.clients * coefficients) / (2 * honest))

    @property
    def classical_bits(self) -> int:
        """Security against classical attacks, by table."""
        return security(self.degree, self.log2_modulus).classical

    @property
    def quantum_bits(self) -> int:
        """Security against quantum attacks, by table; 0 if below 128."""
        return security(self.degree, self.log2_modulus).quantum

    def expansion(self, modulus_bits: int) -> float:
        """Return `upload_bytes` ÷ ⌈length·modulus_bits/8⌉, the same vector bit-packed."""
        return self.upload_bytes / -(-self.length * modulus_bits // 8)


_chosen = cache(ThresholdParameters.choose)


def _log2(number: int) -> float:
    return math.log2(number) if number else -math.inf

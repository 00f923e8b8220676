"""Parameters of lattice masking: security by table, what the sums leak, noise and packing, with the odds of each.

Client i uploads c_i,b = a_b·s_i + e_i,b + Δ·m_i,b over R_q = Z_q[X]/(X^N + 1) for blocks b, with a_b public, s_i and
e_i,b discrete Gaussians of standard deviation sigma a coefficient. The masking rounds sum the s_i; the server removes
a_b·Σs_i from Σc_i,b and rounds by Δ. It therefore learns Σs_i and Σe_i,b over the survivors exactly.

Threat model: the server and all clients but two of the survivors pool what they know. What is claimed then is that
RLWE with standard deviation `hint_sigma` is what stands between them and an honest client's vector; how hard that is
comes from published tables and from nothing else. A parameter set that the tables do not cover raises `PlanError`.
Correctness is claimed for honest clients only: a client that lies about its noise ruins the sum, as in any masking.

Integers and `math` only, no numpy. docs/lattice.md derives every bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Final

from secagg.errors import PlanError
from secagg.lattice.security import (
    FEWEST_HONEST,
    LEVELS,
    TAIL_BITS,
    hint_bits,
    hint_sigma,
    largest_modulus,
    security,
)

__all__ = [
    "DEGREES",
    "SIGMA",
    "LatticeParameters",
    "choose",
    "noise_bits",
    "ring_primes",
    "secret_bound",
]

SIGMA: Final = 6.5
"""Standard deviation of every secret and error coefficient: `hint_sigma` halves it, and 3.25 lies in the tables."""

DEGREES: Final = (4096, 8192)
PRIME_BITS: Final = 27
MOST_PRIMES: Final = 8
MAX_LENGTH: Final = 1 << 34
MAX_CLIENTS: Final = 1 << 24
MAX_DIGIT_BITS: Final = 64
WIDEST_SIGMA: Final = 16.0

HINT_BITS: Final = 64
"""Least -log2 of the statistical loss of a whole round that a parameter set may have."""


@cache
def ring_primes(degree: int, count: int) -> tuple[int, ...]:
    """Return the `count` largest primes below 2^27 with p = 1 mod 2N, falling: each has an NTT of length N.

    Raises:
        PlanError: not 2 to 8 primes, or another degree than 4096 and 8192.
    """
    if degree not in DEGREES or not 1 < count <= MOST_PRIMES:
        msg = f"rings have N in {DEGREES} and 2 to {MOST_PRIMES} primes, not N = {degree} and {count}"
        raise PlanError(msg)
    found: list[int] = []
    candidate = (1 << PRIME_BITS) + 1
    while len(found) < count:
        candidate -= 2 * degree
        if _is_prime(candidate):
            found.append(candidate)
    return tuple(found)


def secret_bound(sigma: float) -> int:
    """Return B: samplers draw from the discrete Gaussian on [-B, B], the mass beyond being at most 2^-160.

    Guarantees: 2·exp(-B²/2σ²) <= 2^-160.
    """
    return math.ceil(sigma * math.sqrt(2 * (TAIL_BITS + 1) * math.log(2)))


def noise_bits(delta: int, *, clients: int, sigma: float, coefficients: int) -> float:
    """Return -log2 of a bound on the odds that rounding by Δ fails anywhere in a sum of honest clients' uploads.

    A coefficient is rounded right while |Σe| < ⌈Δ/2⌉. Σe is sub-Gaussian with variance n·σ², so each fails with odds of
    at most 2·exp(-⌈Δ/2⌉²/2nσ²); union over all of them.

    Args:
        delta: Δ >= 1.
        coefficients: N·blocks.
    Returns: bits, negative where the bound says nothing.
    """
    return (-(-delta // 2)) ** 2 / (2 * clients * sigma**2 * math.log(2)) - 1 - math.log2(coefficients)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatticeParameters:
    """One ring, one packing. Made by `choose`; checked again here whoever made it.

    Attributes:
        length: coordinates of a vector.
        clients: the most clients that are summed.
        digit_bits: width of a digit; a digit is one coordinate and holds the integer sum over all clients.
        degree: N.
        primes: the L largest primes below 2^27 that are 1 mod 2N.
        digits: coordinates in one ring coefficient.
        sigma: standard deviation of every coefficient of secrets and errors.
        correctness_bits: a whole sum is wrong with odds of at most 2^-correctness_bits.

    Raises:
        PlanError: outside the security tables, a digit could overflow, or the noise is too large.
    """

    length: int
    clients: int
    digit_bits: int
    degree: int
    primes: tuple[int, ...]
    digits: int
    sigma: float = SIGMA
    correctness_bits: int = 40

    def __post_init__(self) -> None:
        """Refuse what is not covered by a table or a bound."""
        for name, low, high in (
            ("length", 1, MAX_LENGTH),
            ("clients", FEWEST_HONEST, MAX_CLIENTS),
            ("digit_bits", 1, MAX_DIGIT_BITS),
            ("degree", DEGREES[0], DEGREES[-1]),
            ("digits", 1, PRIME_BITS * MOST_PRIMES),
            ("correctness_bits", 1, 128),
        ):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                msg = f"{name} must be an integer in [{low}, {high}], got {value!r}"
                raise PlanError(msg)
        if type(self.primes) is not tuple or self.primes != ring_primes(self.degree, len(self.primes)):
            msg = f"primes must be the largest below 2^{PRIME_BITS} that are 1 mod {2 * self.degree}"
            raise PlanError(msg)
        if type(self.sigma) is not float or not SIGMA <= self.sigma <= WIDEST_SIGMA:
            msg = f"sigma must be a float in [{SIGMA}, {WIDEST_SIGMA}], got {self.sigma!r}"
            raise PlanError(msg)
        if self.clients * self.secret_bound >= 1 << (PRIME_BITS - 1):
            msg = f"the secrets of {self.clients} clients add up to more than the ring's primes tell apart"
            raise PlanError(msg)
        security(self.degree, self.log2_modulus)
        hint_sigma(self.sigma, FEWEST_HONEST)
        if self.hint_bits < HINT_BITS:
            msg = f"the statistical loss of a round is 2^-{self.hint_bits:.1f}, more than 2^-{HINT_BITS}"
            raise PlanError(msg)
        if self.delta < 1 or self.failure_bits < self.correctness_bits:
            msg = (
                f"{self.digits} digits of {self.digit_bits} bits leave Δ = {self.delta} of log2 q = "
                f"{self.log2_modulus:.2f}: a sum of {self.clients} clients' noise does not stay below Δ/2 with odds of "
                f"2^-{self.correctness_bits}"
            )
            raise PlanError(msg)

    @property
    def modulus(self) -> int:
        """q, the product of the primes."""
        return math.prod(self.primes)

    @property
    def log2_modulus(self) -> float:
        """log2 q."""
        return math.log2(self.modulus)

    @property
    def delta(self) -> int:
        """Δ = ⌊q / 2^(digits·digit_bits)⌋: the largest factor under which no message wraps mod q."""
        return self.modulus >> (self.digits * self.digit_bits)

    @property
    def blocks(self) -> int:
        """Ring elements of one vector: ⌈length / (N·digits)⌉."""
        return -(-self.length // (self.degree * self.digits))

    @property
    def secret_bound(self) -> int:
        """B: no coefficient of a secret or an error lies outside [-B, B]."""
        return secret_bound(self.sigma)

    @property
    def secret_bits(self) -> int:
        """Width of the modulus that the secrets are summed in: n·B of either sign cannot wrap."""
        return (2 * self.clients * self.secret_bound).bit_length()

    @property
    def ciphertext_bytes(self) -> int:
        """Bytes of one client's c: blocks·N·L residues of 27 bits."""
        return -(-self.blocks * self.degree * len(self.primes) * PRIME_BITS // 8)

    @property
    def upload_bytes(self) -> int:
        """Bytes of payload: `ciphertext_bytes`, and ⌈N·secret_bits/8⌉ for the masked secret."""
        return self.ciphertext_bytes + -(-self.degree * self.secret_bits // 8)

    @property
    def classical_bits(self) -> int:
        """Security against classical attacks, by table."""
        return security(self.degree, self.log2_modulus).classical

    @property
    def quantum_bits(self) -> int:
        """Security against quantum attacks, by table; 0 if below 128."""
        return security(self.degree, self.log2_modulus).quantum

    @property
    def hint_bits(self) -> float:
        """-log2 of the statistical loss of a round; see `hint_bits`."""
        return hint_bits(self.sigma, coordinates=self.degree * (1 + self.blocks), clients=self.clients)

    @property
    def failure_bits(self) -> float:
        """-log2 of a bound on the odds that a sum of honest uploads is wrong anywhere; see `noise_bits`."""
        coefficients = self.degree * self.blocks
        return noise_bits(self.delta, clients=self.clients, sigma=self.sigma, coefficients=coefficients)

    def expansion(self, modulus_bits: int) -> float:
        """Return `upload_bytes` ÷ ⌈length·modulus_bits/8⌉, the same vector bit-packed modulo 2^modulus_bits."""
        return self.upload_bytes / -(-self.length * modulus_bits // 8)


def choose(
    *,
    length: int,
    digit_bits: int,
    clients: int,
    correctness_bits: int = 40,
    post_quantum: bool = False,
    degrees: tuple[int, ...] = DEGREES,
) -> LatticeParameters:
    """Choose ring and packing with the fewest bytes to upload; of equals, the smaller N.

    Args:
        length: coordinates of a vector.
        digit_bits: bits of the integer sum of one coordinate over all clients. An encoding whose sums wrap mod 2^b
            needs b + ⌈log2 n⌉.
        clients, correctness_bits: as in `LatticeParameters`.
        post_quantum: ask for 128 bits against quantum attacks too.
        degrees: ring degrees to try.
    Raises:
        PlanError: nothing fits; says what was asked.

    >>> chosen = choose(length=1_000_000, digit_bits=32, clients=100)
    >>> chosen.degree, len(chosen.primes), chosen.digits, chosen.delta, round(chosen.expansion(32), 3)
    (4096, 4, 3, 4077, 1.135)
    """
    if type(digit_bits) is not int or not 1 <= digit_bits <= MAX_DIGIT_BITS:
        msg = f"digit_bits must be an integer in [1, {MAX_DIGIT_BITS}], got {digit_bits!r}"
        raise PlanError(msg)
    found: list[LatticeParameters] = []
    refused: PlanError | None = None
    for degree in degrees:
        for count in range(2, MOST_PRIMES + 1):
            primes = ring_primes(degree, count)
            log2_modulus = math.log2(math.prod(primes))
            if log2_modulus > largest_modulus(degree, LEVELS[0], quantum=post_quantum):
                continue
            for digits in range(int(log2_modulus) // digit_bits, 0, -1):
                asked = {"length": length, "clients": clients, "correctness_bits": correctness_bits}
                packed = {"digit_bits": digit_bits, "degree": degree, "digits": digits}
                try:
                    found.append(LatticeParameters(primes=primes, **asked, **packed))
                    break
                except PlanError as e:
                    refused = e
    if found:
        return min(found, key=lambda one: (one.upload_bytes, one.degree, one.log2_modulus))
    kind = "post-quantum" if post_quantum else "classical"
    msg = f"no ring with N in {degrees} and 128-bit {kind} security fits; the last one tried: {refused}"
    raise PlanError(msg) from refused


def _is_prime(number: int) -> bool:
    """Decide whether an odd number below 2^27 is prime, by trial division."""
    return all(number % divisor for divisor in range(3, math.isqrt(number) + 1, 2))

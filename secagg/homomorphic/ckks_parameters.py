"""Parameters of a CKKS sum, derived from a plan, with the proof that its rounding is exact. Needs no TenSEAL.

A coordinate x mod 2^b is cut into k balanced digits of w bits, each in [-2^(w-1), 2^(w-1)); one digit takes one
*coefficient* of a plaintext polynomial, at scale Δ. Sums need no slots: the canonical embedding would keep half of the
ring empty (slots are complex, digits are real), carry the noise of N coefficients into each slot and go through
double precision. In coefficients everything is integer arithmetic modulo one prime q, and the only error is the noise.

Exactness. A client's noise is one centred binomial coefficient, the difference of two sums of 21 fair bits
(SEAL >= 4, standard deviation 3.24, never beyond 21). The noise E of a sum of at most n clients therefore satisfies
|E| <= 21n, and by Hoeffding over its 42n bits P[|E| > t] <= 2·exp(-t²/(21n)). With

    t = min(21n, ceil(sqrt(21·n·ln 2·(128 + 1 + 40)))),    Δ = 4t + 1,    q > 2·(n·2^(w-1)·Δ + t)

the error of a digit sum, |E|/Δ, stays below 1/4 for all of up to 2^40 digits of a round except with probability
2^-128, and nothing wraps modulo q. So rounding gives the exact sum, and what is left after rounding does not depend on
the noise.

Security. One polynomial ring of degree 4096, ternary secret; SEAL's 128-bit table (HomomorphicEncryption.org standard,
2018) allows 109 bits of modulus there, and TenSEAL's context has at most 60 + 49. No key-switching keys are published,
so that only q, of at most 60 bits, is ever seen: 192 bits or more by the same table, against quantum attacks too.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING

import msgspec

from secagg import tags
from secagg.encoding.packing import MAX_BITS
from secagg.errors import DecodeError, PlanError
from secagg.params import MAX_CLIENTS, MAX_LENGTH

if TYPE_CHECKING:
    from secagg.params import Plan

__all__ = ["DEGREE", "GUARDS", "CkksContext", "CkksParameters"]

DEGREE = 4096
"""N: coefficients of one ciphertext's polynomials."""

GUARDS = 8
"""Zeros encrypted behind every vector. A sum under another key, or of another c1, shows them with odds below 2^-75."""

KEY_ID_BYTES = 16
FINGERPRINT_BYTES = 32

_NOISE_BITS = 21
"""SEAL's noise is the difference of two sums of so many fair bits."""
_FAILURE_BITS = 128
_LOG2_DIGITS = 40
"""log2 of the most digits of a round: MAX_LENGTH coordinates of at most MAX_BITS digits."""
_PRIME_BITS = (20, 60)
_TABLE = ((256, 58, 54), (192, 75, 70), (128, 109, 101))
"""Bits of security, and the largest log2 q against classical and against quantum attacks: ternary secret, N = 4096."""
_SPECIAL_BITS = 49
_CONTEXT_MOST_BYTES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class CkksParameters:
    """What a CKKS sum of a plan's vectors runs on; all of it follows from the two arguments.

    Args:
        clients: n, the most clients that are ever summed under these parameters.
        modulus_bits: b, of the plan.

    Attributes:
        digits, digit_bits: k and w: a coordinate is k balanced digits of w bits.
        noise_bound: t, what the noise of a sum exceeds with probability at most 2^-128 in a whole round.
        scale: Δ, an integer above 4t.
        prime_bits: bits of the modulus, and of a coefficient on the wire.
        modulus: q, the largest prime = 1 mod 2N of so many bits, which is the one SEAL takes.
        special_bits: bits of the second prime of TenSEAL's context; only keys are ever modulo that one.

    Raises:
        PlanError: out of range.

    >>> four_hospitals = CkksParameters(clients=4, modulus_bits=32)
    >>> four_hospitals.prime_bits, four_hospitals.digits
    (43, 1)
    """

    clients: int
    modulus_bits: int
    digits: int = field(init=False)
    digit_bits: int = field(init=False)
    noise_bound: int = field(init=False)
    scale: int = field(init=False)
    prime_bits: int = field(init=False)
    modulus: int = field(init=False, repr=False)
    special_bits: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Choose the digits that make a vector smallest on the wire."""
        n, b = self.clients, self.modulus_bits
        if not (type(n) is int and 1 <= n <= MAX_CLIENTS and type(b) is int and 1 <= b <= MAX_BITS):
            msg = f"CKKS sums 1 to 2^24 clients modulo 2^1 to 2^{MAX_BITS}, got {n!r} clients and {b!r} bits"
            raise PlanError(msg)
        tail = math.isqrt(math.ceil(_NOISE_BITS * n * math.log(2) * (_FAILURE_BITS + 1 + _LOG2_DIGITS))) + 1
        bound = min(_NOISE_BITS * n, tail)
        scale = 4 * bound + 1
        chosen: tuple[int, int, int] | None = None
        for digits in range(1, b + 1):
            needed = 2 * (n * scale * 2 ** (-(-b // digits) - 1) + bound) + 1
            bits = max(needed.bit_length(), _PRIME_BITS[0])
            bits += bits <= _PRIME_BITS[1] and largest_prime(bits) < needed
            if bits <= _PRIME_BITS[1] and (chosen is None or digits * bits < chosen[0] * chosen[1]):
                chosen = digits, bits, largest_prime(bits)
        assert chosen is not None  # noqa: S101 -- single bits of 2^24 clients fit
        for name, value in (
            ("digits", chosen[0]),
            ("digit_bits", -(-b // chosen[0])),
            ("noise_bound", bound),
            ("scale", scale),
            ("prime_bits", chosen[1]),
            ("modulus", chosen[2]),
            ("special_bits", _SPECIAL_BITS - (chosen[1] == _SPECIAL_BITS)),
        ):
            object.__setattr__(self, name, value)

    @property
    def classical_bits(self) -> int:
        """Security of the modulus against classical attacks, by table."""
        return next(bits for bits, most, _ in _TABLE if self.prime_bits <= most)

    @property
    def quantum_bits(self) -> int:
        """Security of the modulus against quantum attacks, by table."""
        return next(bits for bits, _, most in _TABLE if self.prime_bits <= most)

    @property
    def failure_bits(self) -> int:
        """-log2 of a bound on the odds that rounding fails anywhere in a round."""
        return _FAILURE_BITS

    @staticmethod
    def of(plan: Plan) -> CkksParameters:
        """Return the parameters for a plan's sums."""
        return _parameters(plan.clients, plan.modulus_bits)

    def coefficients(self, length: int) -> int:
        """Return how many coefficients carry a vector: k·length, and the zeros behind it that show a wrong key."""
        return self.digits * length + GUARDS

    def padded(self, length: int) -> int:
        """Return the same in whole polynomials: the next multiple of N."""
        return -(-self.coefficients(length) // DEGREE) * DEGREE


@dataclass(frozen=True, eq=False, kw_only=True)
class CkksContext:
    """The public side of a key: all a server gets, sent once for all rounds of the key.

    Attributes:
        parameters: of its sums.
        key_id: 16 random bytes that name the key.
        generation: counts rotations, from 0.
    """

    parameters: CkksParameters
    key_id: bytes
    generation: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if len(self.key_id) != KEY_ID_BYTES or not 0 <= self.generation < 1 << 32:
            msg = f"a key is named by {KEY_ID_BYTES} bytes and a generation in [0, 2^32)"
            raise ValueError(msg)

    @cached_property
    def fingerprint(self) -> bytes:
        """32-byte hash of parameters, key and generation; every ciphertext travels with it."""
        made = self.parameters
        derived = [DEGREE, made.modulus, made.scale, made.digits, made.digit_bits, made.special_bits]
        return hashlib.sha256(tags.CKKS_CONTEXT + self.to_bytes() + msgspec.msgpack.encode(derived)).digest()

    def to_bytes(self) -> bytes:
        """Write it: at most 128 bytes, public."""
        made = self.parameters
        return msgspec.msgpack.encode([1, made.clients, made.modulus_bits, self.key_id, self.generation])

    @classmethod
    def from_bytes(cls, data: bytes) -> CkksContext:
        """Read what `to_bytes` wrote.

        Raises:
            DecodeError: it is nothing of the kind, of another version, or not canonical.
        """
        if len(data) > _CONTEXT_MOST_BYTES:
            msg = f"a CKKS context takes at most {_CONTEXT_MOST_BYTES} bytes, got {len(data)}"
            raise DecodeError(msg)
        try:
            version, clients, bits, key_id, generation = msgspec.msgpack.decode(
                data, type=tuple[int, int, int, bytes, int]
            )
            context = cls(parameters=_parameters(clients, bits), key_id=key_id, generation=generation)
        except (msgspec.MsgspecError, ValueError) as error:
            msg = f"not a CKKS context: {error}"
            raise DecodeError(msg) from error
        if version != 1 or context.to_bytes() != data:
            msg = "not the canonical bytes of a CKKS context of version 1"
            raise DecodeError(msg)
        return context

    def __repr__(self) -> str:
        """Say what it is for."""
        made = self.parameters
        return (
            f"<CkksContext {self.fingerprint.hex()[:12]} generation {self.generation}: "
            f"{made.clients} clients, {made.modulus_bits} bits>"
        )


@cache
def _parameters(clients: int, modulus_bits: int) -> CkksParameters:
    return CkksParameters(clients=clients, modulus_bits=modulus_bits)


@cache
def largest_prime(bits: int) -> int:
    """Return the largest prime below 2^bits that is 1 modulo 2N, so that the ring has a number transform.

    Args:
        bits: 20 to 60, of each of which there is one.
    """
    candidate = ((1 << bits) - 1) // (2 * DEGREE) * (2 * DEGREE) + 1
    while not _is_prime(candidate):
        candidate -= 2 * DEGREE
    return candidate


def _is_prime(candidate: int) -> bool:
    """Miller-Rabin with the bases that decide it below 3.3·10^24 (Sorenson and Webster 2015)."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
    if candidate in bases or any(candidate % base == 0 for base in bases):
        return candidate in bases
    twos: int = ((candidate - 1) & (1 - candidate)).bit_length() - 1
    return all(_passes(candidate, base, twos) for base in bases)


def _passes(candidate: int, base: int, twos: int) -> bool:
    power = pow(base, (candidate - 1) >> twos, candidate)
    if power in {1, candidate - 1}:
        return True
    for _ in range(twos - 1):
        power = power * power % candidate
        if power == candidate - 1:
            return True
    return False


assert MAX_LENGTH * MAX_BITS <= 1 << _LOG2_DIGITS  # noqa: S101 -- the union bound above covers any round

"""How hard the lattice problem behind the masks is: by published tables, less what the sums leak.

Integers and `math` only. docs/lattice.md derives every bound; where the tables end, `PlanError`.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from secagg.errors import PlanError

__all__ = [
    "TABLES",
    "Strength",
    "hint_bits",
    "hint_sigma",
    "largest_modulus",
    "security",
    "smoothing",
]

TABLE_SIGMA: Final = 3.2
"""Standard deviation of secrets and errors in the tables (8/sqrt(2π) = 3.19 in the standard)."""

TAIL_BITS: Final = 160
"""A sampler never draws beyond `secret_bound`: -log2 of the Gaussian mass a coefficient beyond it."""

SAMPLER_BITS: Final = 107
"""-log2 of the statistical distance of one coefficient of `secagg.primitives.sampling` to a discrete Gaussian."""

FEWEST_HONEST: Final = 2
LEVELS: Final = (128, 192, 256)


TABLES: Final[dict[int, tuple[tuple[int, ...], ...]]] = {
    1024: ((29, 21, 16, 27, 19, 15), (29, 0, 0, 27, 0, 0), (28, 0, 0, 22, 0, 0)),
    2048: ((56, 39, 31, 53, 37, 29), (55, 38, 30, 53, 37, 29), (55, 38, 30, 42, 31, 25)),
    4096: ((111, 77, 60, 103, 72, 56), (109, 75, 59, 103, 72, 56), (108, 75, 58, 83, 61, 49)),
    8192: ((220, 154, 120, 206, 143, 111), (216, 150, 116, 206, 143, 111), (216, 149, 116, 163, 122, 98)),
    16384: ((440, 307, 239, 413, 286, 222), (433, 299, 232, 412, 286, 222), (432, 299, 232, 324, 242, 195)),
    32768: ((883, 613, 478, 829, 573, 445), (870, 599, 465, 828, 572, 445), (870, 599, 464, 646, 482, 388)),
}
"""{N: three tables' largest log2 q} for 128, 192, 256 bits classical, then post-quantum; 0: not computed.

Secrets and errors discrete Gaussian of deviation 3.2 (the first table) or 3.19, any number of samples. In this order:
HomomorphicEncryption.org standard of 2018, rows "error" (as in OpenFHE, `HEStd_error`); the repository of Bossuat et
al. 2024 (ePrint 2024/463), `output_max_logQ_tables.txt`; the same script run with a later estimator (SparseLWEkit,
`Security/README.md`), whose post-quantum columns leave out every polynomial factor. docs/lattice.md compares them.
"""


class Strength(NamedTuple):
    """Security by table, in bits: 128, 192 or 256; 0 where the tables do not even give 128.

    Attributes:
        classical: against classical attacks.
        quantum: against quantum attacks.
    """

    classical: int
    quantum: int


def largest_modulus(degree: int, bits: int, *, quantum: bool) -> int:
    """Return the largest log2 q that all three tables allow; 0 if one of them says nothing.

    Args:
        degree: N, a power of two in [1024, 32768].
        bits: 128, 192 or 256.
        quantum: against quantum attacks.
    Raises:
        PlanError: not in the tables.
    """
    if degree not in TABLES or bits not in LEVELS:
        msg = f"the tables hold N in {sorted(TABLES)} and {LEVELS} bits, not N = {degree} and {bits} bits"
        raise PlanError(msg)
    return min(table[LEVELS.index(bits) + 3 * quantum] for table in TABLES[degree])


def security(degree: int, log2_modulus: float) -> Strength:
    """Read the security of RLWE with sigma of at least 3.2 off the strictest of three tables; nothing is interpolated.

    Args:
        degree: N.
        log2_modulus: log2 q, > 0.
    Returns: the highest level of each kind whose row allows the modulus.
    Raises:
        PlanError: N is not in the tables, or q is too large for 128 bits against classical attacks.
    """
    if not 0 < log2_modulus < math.inf:
        msg = f"log2 q must be positive and finite, got {log2_modulus}"
        raise PlanError(msg)
    reached = [
        max((bits for bits in LEVELS if log2_modulus <= largest_modulus(degree, bits, quantum=quantum)), default=0)
        for quantum in (False, True)
    ]
    if not reached[0]:
        most = largest_modulus(degree, LEVELS[0], quantum=False)
        msg = f"N = {degree} has 128-bit security up to log2 q = {most} only, got {log2_modulus:.2f}"
        raise PlanError(msg)
    return Strength(*reached)


def smoothing(dimension: int, bits: float) -> float:
    """Bound the smoothing parameter of Z^dimension for ε = 2^-bits, as a standard deviation.

    Source: Micciancio and Regev 2007, lemma 3.3: η <= sqrt(ln(2n(1 + 1/ε))/π) in the scale exp(-πx²/s²); divided by
    sqrt(2π) here.
    """
    return math.sqrt((math.log(2 * dimension) + bits * math.log(2) + math.log1p(2.0**-bits)) / 2) / math.pi


def hint_sigma(sigma: float, honest: int) -> float:
    """Return the standard deviation of the RLWE problem left once the sum over the honest survivors is known.

    Theorem 1 of Kim, Lee, Seo and Song with one hint, coefficient 1: RLWE with secret and errors of deviation sigma,
    given s + y and e + y' for y, y' of deviation sigma, is as hard as RLWE of deviation (2(1/σ² + 1/σ²))^(-1/2) = σ/2,
    up to `hint_bits`. The first of the honest survivors to be replaced by randomness has one other client's secret for
    its y, whatever their number, so the bound does not grow with it.

    Args:
        sigma: standard deviation of every secret and error coefficient.
        honest: honest survivors.
    Raises:
        PlanError: fewer than 2 honest survivors (their sum hides nothing), or too narrow for the tables.
    Source: Kim et al., CRYPTO 2023 (ePrint 2023/623), theorem 1; docs/lattice.md proves the case used.
    """
    if honest < FEWEST_HONEST:
        msg = f"the sum over {honest} honest clients hides nothing: at least 2 are needed"
        raise PlanError(msg)
    left = 1 / math.sqrt(2 * (sigma**-2 + sigma**-2)) if 0 < sigma < math.inf else 0.0
    if left < TABLE_SIGMA:
        msg = f"sigma = {sigma} leaves {left:.3f} once the sum is known; the tables need {TABLE_SIGMA}"
        raise PlanError(msg)
    return left


def hint_bits(sigma: float, *, coordinates: int, clients: int, sampler_bits: float = SAMPLER_BITS) -> float:
    """Return -log2 of the statistical loss of one round: replacing every client in turn, and the samplers' error.

    With κ = σ/(2·sqrt(2)), the decomposition of each of the `coordinates` Gaussians of a client is off by at most
    ε/(1 - ε) in statistical distance, ε = 2·Σ_k exp(-2π²κ²k²).

    Args:
        sigma: as above.
        coordinates: N·(1 + blocks), the coefficients of one client's secret and errors.
        clients: n.
        sampler_bits: -log2 of the samplers' distance to their law, a coefficient.
    """
    exponent = 2 * (math.pi * sigma) ** 2 / 8
    epsilon = 2 * math.exp(-exponent) / (1 - math.exp(-3 * exponent))
    loss = coordinates * ((clients - 1) * epsilon / (1 - epsilon) + clients * 2.0**-sampler_bits)
    return -math.log2(loss)

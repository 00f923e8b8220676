"""Recompute every number of docs/lattice.md and docs/threshold.md: `python docs/lattice_parameters.py [--write]`.

Prints the tables; with --write it puts them between the `<!-- name -->` and `<!-- end -->` lines of the two documents.
A test runs `tables()` and compares.
"""
# ruff: noqa: INP001

from __future__ import annotations

import math
import statistics
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from secagg.errors import PlanError
from secagg.lattice import parameters as lattice
from secagg.lattice import security as hardness

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path(__file__).parent
DOCUMENTS = ("lattice.md", "threshold.md")
MILLION = 1_000_000


def table(head: str, rows: Iterable[Iterable[object]]) -> str:
    """Lay rows out as Markdown under `head`, columns separated by commas."""
    names = head.split(", ")
    lines = [names, ["---"] * len(names), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def hardest_block_size(degree: int, log2_modulus: float, sigma: float) -> tuple[int, int]:
    """Return (β, dimension) of the cheapest primal uSVP attack: geometric series, condition of Alkim et al. 2016."""
    for beta in range(60, 1500):
        root = ((math.pi * beta) ** (1 / beta) * beta / (2 * math.pi * math.e)) ** (1 / (2 * (beta - 1)))
        for samples in range(degree // 2, 2 * degree, degree // 64):
            dimension = degree + samples + 1
            short = math.log2(sigma) + math.log2(beta) / 2
            if short <= (2 * beta - dimension - 1) * math.log2(root) + samples * log2_modulus / dimension:
                return beta, dimension
    raise AssertionError


def moduli() -> str:
    """Every N and L, and what the tables say of them."""
    rows = []
    for degree in lattice.DEGREES:
        for count in range(2, 9):
            log2_modulus = math.log2(math.prod(lattice.ring_primes(degree, count)))
            try:
                bits = hardness.security(degree, log2_modulus)
                said: tuple[object, object] = (bits.classical, bits.quantum or "below 128")
            except PlanError:
                said = ("refused", "refused")
            rows.append((degree, count, f"{log2_modulus:.3f}", *said))
    return table("N, primes L, log2 q, classical bits, post-quantum bits", rows)


def limits() -> str:
    """The three tables, and their minimum."""
    names = ("standard 2018", "guidelines 2024", "later run", "**used**")
    rows = []
    for degree in lattice.DEGREES:
        three = hardness.TABLES[degree]
        for name, row in zip(names, (*three, tuple(map(min, *three))), strict=True):
            rows.append((degree, name, *row))
    return table("N, table, 128, 192, 256, 128 pq, 192 pq, 256 pq", rows)


def attack_costs() -> str:
    """An estimate of our own, next to the tables."""
    rows = []
    for degree, count in ((4096, 3), (4096, 4), (8192, 4), (8192, 6), (8192, 8)):
        log2_modulus = math.log2(math.prod(lattice.ring_primes(degree, count)))
        beta, dimension = hardest_block_size(degree, log2_modulus, hardness.hint_sigma(lattice.SIGMA, 2))
        overhead = 16.4 + math.log2(8 * dimension)
        costs = (0.292 * beta + overhead, 0.265 * beta + overhead, 0.292 * beta, 0.257 * beta)
        rows.append((degree, count, beta, *(f"{cost:.0f}" for cost in costs)))
    head = (
        "N, L, β, classical 0.292β + 16.4 + log2 8d, quantum 0.265β + 16.4 + log2 8d, core-SVP 0.292β, core-SVP 0.257β"
    )
    return table(head, rows)


def leakage() -> str:
    """What the sums leave, and the loss on the way."""
    rows: list[tuple[object, object]] = [
        ("σ", lattice.SIGMA),
        ("σ left once the sums are known", hardness.hint_sigma(lattice.SIGMA, 2)),
        ("B, bound of a coefficient", lattice.secret_bound(lattice.SIGMA)),
    ]
    for blocks in (1, 82, 1000):
        needed = 2 * math.sqrt(2) * hardness.smoothing(4096 * (1 + blocks), 128)
        rows.append((f"least σ for ε = 2^-128 over 1 + {blocks} ring elements, N = 4096", f"{needed:.2f}"))
    for clients, blocks in ((100, 82), (1000, 82), (10_000, 8200)):
        bits = hardness.hint_bits(lattice.SIGMA, coordinates=4096 * (1 + blocks), clients=clients)
        rows.append((f"statistical loss, n = {clients}, {blocks} blocks, N = 4096", f"2^-{bits:.1f}"))
    return table("quantity, value", rows)


def packings() -> str:
    """What `choose` takes for a million coordinates."""
    rows = []
    for digit_bits, clients, post_quantum in (
        (32, 10, False),
        (32, 100, False),
        (32, 1000, False),
        (32, 1190, False),
        (32, 1200, False),
        (32, 10_000, False),
        (32, 100, True),
        (32, 1000, True),
        (32, 1200, True),
        (24, 100, False),
        (18, 100, False),
        (16, 100, False),
        (48, 100, False),
        (64, 100, False),
    ):
        one = lattice.choose(length=MILLION, digit_bits=digit_bits, clients=clients, post_quantum=post_quantum)
        size = (one.degree, len(one.primes), one.digits, one.delta, one.blocks, one.secret_bits)
        odds = f"2^-{one.failure_bits:.0f}" if one.failure_bits < 1000 else "< 2^-1000"  # noqa: PLR2004
        bits = f"{one.classical_bits} / {one.quantum_bits or '–'}"
        asked = (digit_bits, clients, "pq" if post_quantum else "")
        rows.append((*asked, *size, odds, bits, f"{one.expansion(digit_bits):.3f}"))
    return table(
        "digit bits, n, asked, N, L, digits, Δ, blocks, secret bits, odds of a wrong sum, bits / pq, expansion", rows
    )


def noise() -> str:
    """Three 32-bit digits at N = 4096 and L = 4, 82 blocks: the bound, and the Gaussian tail it stands above."""
    delta = math.prod(lattice.ring_primes(4096, 4)) >> 96
    rows = []
    for clients in (100, 500, 1000, 1190, 1200, 1500, 2000):
        bits = lattice.noise_bits(delta, clients=clients, sigma=lattice.SIGMA, coefficients=82 * 4096)
        gaussian = 82 * 4096 * math.erfc((delta + 1) // 2 / math.sqrt(2 * clients) / lattice.SIGMA)
        rows.append((clients, f"2^-{bits:.1f}", f"2^-{-math.log2(gaussian):.1f}" if gaussian else "–"))
    return table("n, proved bound, normal tail (not a bound)", rows)


def flooding() -> str:
    """Threshold scheme: the largest number of decryptors that the budget of q holds, by flooding and by bound on Σe."""
    log2_modulus = math.log2(math.prod(lattice.ring_primes(8192, 8)))
    clients, digits, coefficients = 100, 5, 8192 * 25
    rows = []
    for value_bits in (32, 31):
        half = 2.0 ** (log2_modulus - digits * value_bits - 1)
        for name, bound in sum_bounds(clients, coefficients):
            for ratio in (36, 38, 40):
                flood = 2.0**ratio * bound
                tail = math.sqrt(2 * math.log(2) * (41 + math.log2(coefficients)))
                everyone = math.floor((half - bound) / flood)
                likely = math.floor(((half - bound) / (flood * tail / math.sqrt(3))) ** 2)
                gaussian = math.floor(((half - bound) / (flood * tail)) ** 2)
                rows.append((value_bits, name, f"{bound:.0f}", f"2^{ratio}", everyone, likely, gaussian))
    head = "value bits, bound on Σe, B, ratio, t: uniform and never wrong, t: uniform and 2^-40, t: Gaussian and 2^-40"
    return table(head, rows)


def sum_bounds(clients: int, coefficients: int) -> tuple[tuple[str, float], ...]:
    """Bounds on a coefficient of Σe: certain; and exceeded anywhere in a round with odds of 2^-128 and 2^-40."""
    spread = lattice.SIGMA * math.sqrt(2 * math.log(2) * clients)
    return (
        ("certain", float(clients * lattice.secret_bound(lattice.SIGMA))),
        ("2^-128", spread * math.sqrt(129 + math.log2(coefficients))),
        ("2^-40", spread * math.sqrt(41 + math.log2(coefficients))),
    )


def rounds() -> str:
    """Statistical distance that flooding leaves after R rounds of a million values, by kind of flooding."""
    clients, coefficients = 100, 8192 * 25
    bound = sum_bounds(clients, coefficients)[2][1]
    rows = []
    for count in (1, 100, 10_000):
        uniform = -math.log2(count * coefficients * bound / (2 * 2.0**40 * bound))
        spread = lattice.SIGMA * math.sqrt(clients) / (2.0**40 * bound)
        gaussian = -math.log2(spread * math.sqrt(count * coefficients) / 2)
        rows.append((count, f"2^-{uniform:.1f}", f"2^-{gaussian:.1f}"))
    return table("rounds, uniform (distances add), Gaussian (divergences add)", rows)


def retries() -> str:
    """Bits of a decryptor's flooding that an answer with k other decryptors gives away, n = 100, t = 67.

    λ'/λ = u/v in small integers, so u·d - v·d' = u·f - v·f' holds over the integers and gives f mod v.
    """
    rows = []
    for others in (1, 2, 5, 10, 20, 33):
        bits = []
        for j in range(1, 68 - others):
            away, come = range(68 - others, 68), range(68, 68 + others)
            ratio = math.prod(Fraction(k, k - j) for k in come) / math.prod(Fraction(k, k - j) for k in away)
            bits.append(math.log2(ratio.denominator))
        rows.append((others, f"{statistics.median(bits):.0f}", f"{max(bits):.0f}"))
    return table("decryptors exchanged, bits of f: median over j, most", rows)


def tables() -> dict[str, str]:
    """Return {name: Markdown table}."""
    parts = (moduli, limits, attack_costs, leakage, noise, packings, flooding, rounds, retries)
    return {part.__name__: part() for part in parts}


def main() -> None:
    """Print, or write into the documents."""
    computed = tables()
    if sys.argv[1:] != ["--write"]:
        sys.stdout.write("\n\n".join(f"{name}\n{text}" for name, text in computed.items()) + "\n")
        return
    for name in DOCUMENTS:
        path = FOLDER / name
        text = path.read_text()
        for key, value in computed.items():
            before, mark, after = text.partition(f"<!-- {key} -->\n")
            if mark:
                text = before + mark + value + "\n" + after[after.index("<!-- end -->") :]
        path.write_text(text)


if __name__ == "__main__":
    main()

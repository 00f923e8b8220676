"""SECURITY.md: its tables of parameters are what the code computes, and the tests it names are there."""

import math
import re
from pathlib import Path

import pytest

from secagg.homomorphic.ckks_parameters import DEGREE, CkksParameters
from secagg.homomorphic.threshold_parameters import ThresholdParameters
from secagg.lattice.parameters import SIGMA, ring_primes
from secagg.lattice.security import hint_sigma, security

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()


def shown(name: str) -> list[list[str]]:
    """The rows of a table, without its head."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", TEXT, re.DOTALL)
    assert found is not None
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in found[1].splitlines()[2:]]


def bits(level: int) -> str:
    return str(level or "below 128")


def lattice_rows() -> list[list[str]]:
    rows = []
    for degree, count in ((8192, 4), (4096, 4), (4096, 3), (8192, 6), (8192, 8)):
        log2_modulus = math.log2(math.prod(ring_primes(degree, count)))
        found = security(degree, log2_modulus)
        width = [f"{log2_modulus:.2f}", str(SIGMA), str(hint_sigma(SIGMA, 2))]
        rows.append([str(degree), str(count), *width, bits(found.classical), bits(found.quantum)])
    return rows


def threshold_of(clients: int, threshold: int, corrupted: int) -> ThresholdParameters:
    return ThresholdParameters.choose(
        clients=clients, threshold=threshold, corrupted=corrupted, length=1_000_000, modulus_bits=32, wraps=False
    )


def threshold_rows() -> list[list[str]]:
    rows = []
    for shape in ((100, 67, 10), (100, 67, 33), (10, 7, 1), (4, 3, 1)):
        made = threshold_of(*shape)
        alone = math.log2(made.flooding / made.error_bound)
        together = math.log2(made.flooding * math.sqrt(made.threshold - made.corrupted) / made.error_bound)
        odds = f"2^-{made.failure_bits:.0f}" if made.failure_bits < 1000 else "< 2^-1000"
        ring = [str(made.degree), f"{made.log2_modulus:.2f}", str(made.digits), f"{math.log2(made.delta):.1f}"]
        noise = [str(made.error_bound), f"{alone:.1f}", f"{together:.1f}", odds, str(made.rounds)]
        rows.append([*map(str, shape), *ring, *noise, bits(made.classical_bits), bits(made.quantum_bits)])
    return rows


def ckks_rows() -> list[list[str]]:
    rows = []
    for clients, value_bits in ((4, 22), (4, 32), (100, 32), (1000, 64)):
        made = CkksParameters(clients=clients, modulus_bits=value_bits)
        sizes = [clients, value_bits, DEGREE, made.prime_bits, made.digits, made.noise_bound, made.scale]
        rows.append([*map(str, sizes), bits(made.classical_bits), bits(made.quantum_bits)])
    return rows


def test_the_rings_of_lattice_masks_are_those_of_the_code() -> None:
    assert [row[:-1] for row in shown("lattice")] == lattice_rows()


def test_the_parameters_of_threshold_and_ckks_sums_are_those_of_the_code() -> None:
    assert shown("threshold") == threshold_rows()
    assert shown("ckks") == ckks_rows()


def most_flooding(made: ThresholdParameters, digits: int) -> float:
    """log2 of the most that each answer may flood, over B, for sums that are wrong with odds of 2^-40."""
    delta = made.modulus >> (digits * made.digit_bits)
    nats = math.log(2.0**41 * made.degree * made.blocks)
    return math.log2(math.sqrt((delta * 15 / 32) ** 2 / (2 * nats * made.threshold)) / made.error_bound)


def test_what_is_said_of_the_flooding_of_one_answer_is_so() -> None:
    """One answer alone floods less than 2^40 times the bound, and could not flood so much in this budget."""
    made = threshold_of(100, 67, 10)
    assert most_flooding(made, 5) == pytest.approx(38.76, abs=0.005)
    assert most_flooding(threshold_of(40, 27, 10), 5) == pytest.approx(40.08, abs=0.005)
    assert most_flooding(made, 4) > 40
    assert f"{made.expansion(32) * 5 / 4:.2f}" == "1.69"
    page = (ROOT / "docs" / "threshold.md").read_text()
    for corrupted, said in ((10, "2^37.1·B"), (33, "2^37.5·B")):
        alone = threshold_of(100, 67, corrupted)
        assert said == f"2^{math.log2(alone.flooding / alone.error_bound):.1f}·B"
        assert said in page
    assert "2^38.76·B" in page
    assert "2^40.08·B" in page


def test_every_test_that_the_page_names_is_there() -> None:
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    named = set(re.findall(r"test_\w+\.py", TEXT))
    assert len(named) > 30
    assert named <= there

"""`secagg plan` on the command line."""

import json
from math import log2
from typing import Any

import pytest
from typer.testing import CliRunner

import secagg
from secagg import cli
from secagg.homomorphic.threshold_parameters import ThresholdParameters
from secagg.planned_cost import cost_of

runner = CliRunner()


def run(*arguments: str) -> tuple[int, str, str]:
    result = runner.invoke(
        cli.build_app(), ["plan", *arguments], env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
    )
    return result.exit_code, result.stdout, result.stderr


def test_help_teaches_with_an_example_that_works() -> None:
    code, out, _ = run("--help")
    assert code == 0
    example = next(line for line in out.splitlines() if "secagg plan -n 1000" in line)
    code, out, err = run(*example.strip(" │").split()[2:])
    assert code == 0, err
    assert "over 100 rounds" in out


def test_a_crowd_is_told_degree_threshold_odds_bytes_and_masks() -> None:
    code, out, err = run("-n", "1000", "-d", "1000000", "--rounds", "10")
    assert code == 0, err
    codec = secagg.Encoding(dimension=1_000_000, clip=1.0, bits=16, clients=1_000)
    plan = secagg.plan(codec, rounds=10)
    cost = cost_of(plan, dimension=1_000_000)
    assert f"degree {plan.degree}, threshold {plan.threshold}" in out
    assert plan.privacy_bits is not None
    assert f"2^-{plan.privacy_bits:.1f} in one" in out
    for step in cost.steps:
        assert f"{step.bytes_up:,.0f} B" in out
        assert f"{step.bytes_down:,.0f} B" in out
    assert "4,000,000 B" in out
    assert f"agrees on {2 * plan.degree} keys" in out
    assert f"{cost.upload_over_float32:.3f} × plain float32" in out


def test_four_hospitals_are_told_that_no_luck_is_involved() -> None:
    code, out, err = run("-n", "4", "-d", "14", "--max-weight", "500", "--server", "malicious")
    assert code == 0, err
    assert "malicious server: degree 3, threshold 3" in out
    assert "no luck is involved" in out
    assert "(n + c)/2 = 2.5" in out
    assert "consistency_check" in out


def test_hybrid_keys_are_explained_and_priced() -> None:
    code, out, err = run("-n", "4", "-d", "14", "--key-agreement", "x25519+ml-kem-768")
    assert code == 0, err
    assert "x25519 and ML-KEM-768 together" in out
    codec = secagg.Encoding(dimension=14, clip=1.0, bits=16, clients=4)
    cost = cost_of(secagg.plan(codec, key_agreement="x25519+ml-kem-768"), dimension=14)
    assert f"{cost.bytes_up:,.0f} B" in out
    assert cost.kem_operations == 9


def test_a_threshold_key_is_explained_without_masks_that_it_does_not_have() -> None:
    code, out, err = run("-n", "20", "-d", "1000", "--masking", "threshold")
    assert code == 0, err
    assert "the round is lost" in out
    assert "mask work" not in out
    assert "shares a mask" not in out


def test_a_threshold_key_says_what_its_plan_proves_and_how_many_keys_the_rounds_take() -> None:
    arguments = ("-n", "100", "-d", "1000000", "--masking", "threshold", "--json")
    code, out, err = run(*arguments, "--rounds", "5000")
    assert code == 0, err
    why = json.loads(out)["why"]
    key = ThresholdParameters.of(
        secagg.plan(secagg.Encoding(dimension=1_000_000, clip=1.0, bits=16, clients=100), masking="threshold")
    )
    assert "128 bits of security by table against classical attacks, below 128 bits against quantum ones" in why["key"]
    assert f"it serves {key.rounds} rounds, so that 5000 rounds take {-(-5000 // key.rounds)} keys" in why["key"]
    assert f"at most B = {key.error_bound}, but for odds of 2^-128 a round" in why["noise"]
    assert "flood them with 2^40 times B while at most the 10 clients planned for" in why["noise"]
    assert f"statistical distance of 2^-{key.refresh_bits:.1f} of" in why["noise"]
    assert key.refresh_bits >= 30
    for bits in (key.lost_bits, key.failure_bits):
        assert f"2^-{bits - log2(5000):.1f} over 5000 rounds (2^-{bits:.1f} in one)" in why["failure"]
    _, out, _ = run(*arguments)
    assert "take" not in json.loads(out)["why"]["key"]


def test_ckks_says_its_ring_its_security_its_price_and_whom_it_does_not_hold_against() -> None:
    code, out, err = run("-n", "6", "-d", "1000", "--masking", "ckks", "--corrupted", "0", "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert "CKKS, N = 4096, log2 q = 31.0" in answer["why"]["key"]
    assert "256 bits of security by table against classical attacks, 256 bits against quantum" in answer["why"]["key"]
    upload = next(step["bytes_up"] for step in answer["cost"]["steps"] if step["step"] == "upload")
    packed = -(-1001 * answer["plan"]["modulus_bits"] // 8)
    told = float(answer["why"]["key"].split("upload ")[1].split(" ×")[0])
    assert told == pytest.approx(upload / packed, abs=0.02)
    assert "any one client and the server open every vector" in answer["why"]["privacy"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-n", "20", "-d", "1000"], "1001 coordinates: lattice masks save work only where that is more than 16 of"),
        (["-n", "20", "-d", "200000"], "lattice: the vector is longer than 16 of the secrets"),
        (["-n", "20", "-d", "200000", "--correctness-bits", "129"], "no lattice fits: "),
    ],
)
def test_auto_says_what_it_took_and_why(arguments: list[str], says: str) -> None:
    code, out, err = run(*arguments, "--masking", "auto", "--json")
    assert code == 0, err
    assert says in json.loads(out)["why"]["masking"]


def test_post_quantum_takes_another_ring() -> None:
    rings = []
    for flag in ([], ["--post-quantum"]):
        code, out, err = run("-n", "100", "-d", "100000", "--bits", "25", "--masking", "lattice", "--json", *flag)
        assert code == 0, err
        rings.append("128 bits against quantum ones" in json.loads(out)["why"]["lattice"].replace("below 128", "<"))
    assert rings == [False, True]


def test_json_has_the_plan_why_and_what_it_costs() -> None:
    code, out, _ = run("-n", "200", "-d", "500", "--rounds", "7", "--json")
    assert code == 0
    answer: dict[str, Any] = json.loads(out)
    plan = secagg.plan(secagg.Encoding(dimension=500, clip=1.0, bits=16, clients=200), rounds=7)
    assert (answer["plan"]["degree"], answer["plan"]["threshold"]) == (plan.degree, plan.threshold)
    assert answer["rounds"] == 7
    assert set(answer["why"]) == {"graph", "threshold", "privacy", "failure", "cohort", "modulus", "keys"}
    assert answer["cost"]["bytes_up"] == cost_of(plan).bytes_up
    assert [step["step"] for step in answer["cost"]["steps"]] == [
        "advertise_keys",
        "share_keys",
        "masked_input",
        "unmask",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-n", "0"], "clients must be an integer of at least 1, got 0"),
        (["-n", "1"], "hides nothing"),
        (["-d", "0"], "dimension must be an integer of at least 1"),
        (["-n", "100000000"], "clients must be in"),
        (["--bits", "99"], "bits must be an integer in 2..32"),
        (["--clip", "nan"], "clip must be a finite number"),
        (["--max-weight", "0"], "max_weight must be"),
        (["--dropout", "2"], "dropout is a share of the clients"),
        (["--rounds", "0"], "rounds must be an integer of at least 1, got 0"),
        (["--security-bits", "0"], "at least 1 bit"),
        (["-n", "5", "--graph", "sparse"], "no sparse graph"),
        (["-n", "5", "--server", "malicious", "--graph", "sparse"], "no sparse graph"),
        (["--masking", "threshold", "--post-quantum"], "take masking='lattice' with post_quantum=True"),
        (["--masking", "threshold", "-n", "100", "-d", "999999", "--correctness-bits", "600"], "at most"),
        (["--server", "malicious", "--directory", "3"], "directory holds at least the 20 clients"),
        (["--server", "malicious", "--corrupted", "0.6", "--dropout", "0.2"], "threshold of 17 against a malicious"),
    ],
)
def test_bad_wishes_are_one_line_and_exit_code_2(arguments: list[str], says: str) -> None:
    code, _, err = run("-d", "10", *arguments)
    assert code == 2
    assert says in err
    assert err.startswith("secagg plan: ")
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("octets", "text"), [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (188e6, "188.0 MB"), (2e13, "20.0 TB")]
)
def test_sizes_are_readable(octets: int, text: str) -> None:
    from secagg.commands.plan import _size

    assert _size(octets) == text

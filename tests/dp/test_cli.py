import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import dp
from dp.cli import app

CASE_1 = ["--noise-multiplier", "1", "--sampling-probability", "0.01", "--steps", "1000", "--delta", "1e-5"]


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).invoke(app, ["epsilon", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_prints_epsilon_with_delta_unit_and_relation() -> None:
    code, out, err = run(*CASE_1, "--unit", "patient")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "ε ≤ 2.1009 at δ = 1e-05 (unit: patient, relation: add-or-remove-one; RDP upper bound)",
        "1000 steps, noise multiplier 1.0, sampling probability 0.01",
    ]


def test_json_is_one_object_with_the_same_numbers() -> None:
    code, out, err = run(*CASE_1, "--unit", "institution", "--relation", "zero-out", "--json")
    assert (code, err) == (0, "")
    ledger = dp.Ledger(unit="institution", neighboring_relation="zero-out")
    ledger.compose(dp.PoissonSampled(0.01, dp.Gaussian(1.0)), 1_000)
    assert json.loads(out) == {
        "epsilon": ledger.spent(1e-5).epsilon,
        "delta": 1e-5,
        "unit": "institution",
        "neighboring_relation": "zero-out",
        "method": "RDP upper bound",
        "noise_multiplier": 1.0,
        "sampling_probability": 0.01,
        "steps": 1_000,
    }


def test_every_unit_takes_part_in_every_step_unless_said_otherwise() -> None:
    code, out, _ = run("--noise-multiplier", "10", "--steps", "1000", "--delta", "1e-5")
    assert code == 0
    assert out.startswith("ε ≤ 19.048 at δ = 1e-05 (unit: example, relation: add-or-remove-one;")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--noise-multiplier", "0"], "noise_multiplier is stddev / clip_norm, finite and >= 1e-06, got 0.0"),
        (["--noise-multiplier", "nan"], "noise_multiplier is stddev / clip_norm, finite and >= 1e-06, got nan"),
        (["--sampling-probability", "1.5"], "sampling_probability is in [0, 1], got 1.5"),
        (["--steps", "-1"], "a count is >= 0 and below 2^63, got -1"),
        (["--steps", "1" + 400 * "0"], "a count is >= 0 and below 2^63, got one far beyond"),
        (["--delta", "0"], "delta is in (0, 1), well below 1 / number of records, got 0.0"),
        (["--unit", "patients"], "unit is one of example, patient, institution; got 'patients'"),
        (["--relation", "swap"], "neighboring_relation is one of add-or-remove-one, replace-one, zero-out; got 'swap'"),
        (["--relation", "replace-one"], "no privacy bound for PoissonSampled("),
    ],
)
def test_bad_value_is_one_clear_line_and_exit_code_2(arguments: list[str], complaint: str) -> None:
    code, out, err = run(*CASE_1, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"secagg dp epsilon: {complaint}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("missing", ["--noise-multiplier", "--steps", "--delta"])
def test_values_nobody_can_guess_must_be_given(missing: str) -> None:
    index = CASE_1.index(missing)
    code, out, err = run(*CASE_1[:index], *CASE_1[index + 2 :])
    assert (code, out) == (2, "")
    assert missing in err


def test_help_explains_epsilon_delta_unit_and_relation_with_an_example() -> None:
    code, out, _ = run("--help")
    assert code == 0
    for sentence in (
        "ε bounds what the released models reveal about one unit",
        "δ is the slack of that promise",
        "The unit says whose data are protected",
        "The relation says what is compared",
        "secagg dp epsilon --noise-multiplier 1 --sampling-probability 0.01",
    ):
        assert sentence in out


def test_group_without_a_command_shows_its_commands() -> None:
    result = CliRunner().invoke(app, [])
    assert "epsilon" in result.output


def test_importing_dp_loads_nothing_heavy() -> None:
    program = (
        "import sys, dp, dp.cli\n"
        "heavy = {'torch', 'opacus', 'numba', 'tenseal', 'pandas', 'rich'}\n"
        "loaded = [m for m in sys.modules if m.split('.')[0] in heavy or m in ('scipy.stats', 'scipy.optimize')]\n"
        "print(*loaded)"
    )
    result = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)  # noqa: S603
    assert (result.returncode, result.stderr, result.stdout) == (0, "", "\n")

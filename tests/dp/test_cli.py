import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

import dp
from dp.cli import app
from dp.pld import pld_epsilon
from dp.receipt import SignedSurvivors, make_receipt
from secagg import tags
from secagg.identity import Card, Identity, Roster

CASE_1 = ["--noise-multiplier", "1", "--sampling-probability", "0.01", "--steps", "1000", "--delta", "1e-5"]


def command(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


def run(*arguments: str) -> tuple[int, str, str]:
    return command("epsilon", *arguments)


def test_prints_epsilon_with_delta_unit_and_relation() -> None:
    code, out, err = run(*CASE_1, "--unit", "patient")
    assert (code, err) == (0, "")
    ledger = dp.Ledger(unit="patient", neighboring_relation="add-or-remove-one")
    ledger.compose(dp.PoissonSampled(0.01, dp.Gaussian(1.0)), 1_000)
    assert out.splitlines() == [
        str(ledger.spent(1e-5)),
        "1000 steps, noise multiplier 1.0, sampling probability 0.01",
    ]


def test_json_is_one_object_with_the_same_numbers() -> None:
    code, out, err = run(*CASE_1, "--unit", "institution", "--relation", "zero-out", "--json")
    assert (code, err) == (0, "")
    ledger = dp.Ledger(unit="institution", neighboring_relation="zero-out")
    ledger.compose(dp.PoissonSampled(0.01, dp.Gaussian(1.0)), 1_000)
    assert json.loads(out) == {
        **msgspec.to_builtins(ledger.spent(1e-5)),
        "noise_multiplier": 1.0,
        "sampling_probability": 0.01,
        "steps": 1_000,
    }


def test_every_unit_takes_part_in_every_step_unless_said_otherwise() -> None:
    code, out, _ = run("--noise-multiplier", "10", "--steps", "1000", "--delta", "1e-5")
    assert code == 0
    ledger = dp.Ledger(unit="example", neighboring_relation="add-or-remove-one")
    ledger.compose(dp.Gaussian(10.0), 1_000)
    assert out.splitlines()[0] == str(ledger.spent(1e-5))


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
    for name in ("epsilon", "calibrate", "curve", "verify", "budget"):
        assert name in result.output


def test_importing_dp_loads_nothing_heavy() -> None:
    program = (
        "import sys, dp, dp.cli, dp.budget_cli\n"
        "heavy = {'torch', 'opacus', 'numba', 'tenseal', 'pandas', 'rich', 'matplotlib', 'sqlite3'}\n"
        "loaded = [m for m in sys.modules if m.split('.')[0] in heavy or m in ('scipy.stats', 'scipy.optimize')]\n"
        "print(*loaded)"
    )
    result = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)  # noqa: S603
    assert (result.returncode, result.stderr, result.stdout) == (0, "", "\n")


# calibrate


def test_calibrated_noise_keeps_the_target_and_is_rounded_up() -> None:
    options = ["--steps", "100", "--sampling-probability", "0.1", "--delta", "1e-5", "--unit", "patient"]
    code, out, err = command("calibrate", "--target-epsilon", "2", *options, "--json")
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert answer["epsilon"] <= 2
    assert answer["noise_multiplier"] == float(f"{answer['noise_multiplier']:.5g}")
    assert (answer["unit"], answer["delta"], answer["steps"]) == ("patient", 1e-5, 100)
    ledger = dp.Ledger(unit="patient", neighboring_relation="add-or-remove-one")
    ledger.compose(dp.PoissonSampled(0.1, dp.Gaussian(answer["noise_multiplier"] * 0.998)), 100)
    assert ledger.spent(1e-5).epsilon > 2
    code, out, _ = command("calibrate", "--target-epsilon", "2", *options)
    assert code == 0
    assert out.splitlines()[0] == f"noise multiplier {answer['noise_multiplier']}"
    assert out.splitlines()[1].startswith("ε ≤ ")


@pytest.mark.parametrize(
    ("find", "options", "more"),
    [
        ("steps", ["--noise-multiplier", "2", "--sampling-probability", "0.1"], 1.02),
        ("sampling-probability", ["--noise-multiplier", "2", "--steps", "100"], 1.02),
    ],
)
def test_steps_and_samples_can_be_sought_too(find: str, options: list[str], more: float) -> None:
    arguments = ["--find", find, "--target-epsilon", "2", "--delta", "1e-5", *options, "--json"]
    code, out, err = command("calibrate", *arguments)
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert answer["epsilon"] <= 2
    found = answer | {find.replace("-", "_"): answer[find.replace("-", "_")] * more}
    step = dp.PoissonSampled(found["sampling_probability"], dp.Gaussian(found["noise_multiplier"]))
    ledger = dp.Ledger(unit="patient", neighboring_relation="add-or-remove-one")
    ledger.compose(step, round(found["steps"]))
    assert ledger.spent(1e-5).epsilon > 2


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (["calibrate", "--target-epsilon", "2", "--delta", "1e-5"], "--steps"),
        (["calibrate", "--target-epsilon", "2", "--delta", "1e-5", "--find", "steps"], "--noise-multiplier"),
        (["curve", "--from", "1", "--to", "2"], "--noise-multiplier"),
        (["curve", "--from", "1", "--to", "2", "--over", "delta", "--noise-multiplier", "1"], "--steps"),
    ],
)
def test_what_is_neither_sought_nor_given_is_asked_for(options: list[str], missing: str) -> None:
    code, out, err = command(*options)
    assert (code, out, err) == (2, "", f"secagg dp {options[0]}: give {missing}\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--target-epsilon", "0"], "target_epsilon is > 0"),
        (["--target-epsilon", "-1"], "epsilon is finite and >= 0"),
        (["--target-epsilon", "1", "--relation", "replace-one"], "no privacy bound for PoissonSampled("),
    ],
)
def test_targets_out_of_reach_are_one_clear_line(arguments: list[str], complaint: str) -> None:
    options = ["--steps", "1000", "--sampling-probability", "0.1", "--delta", "1e-5"]
    code, out, err = command("calibrate", *options, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("secagg dp calibrate: ")
    assert complaint in err
    assert err.count("\n") == 1


# curve

SHORT_CURVE = ["curve", "--from", "10", "--to", "1000", "--points", "3", "--noise-multiplier", "4", "--unit", "patient"]


def test_curve_is_a_table_of_intervals() -> None:
    code, out, err = command(*SHORT_CURVE, "--json")
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert [row["steps"] for row in answer["curve"]] == [10, 100, 1000]
    assert (answer["unit"], answer["delta"], answer["noise_multiplier"]) == ("patient", 1e-5, 4.0)
    assert "steps" not in answer
    for row in answer["curve"]:
        assert 0 < row["lower"] <= row["upper"] <= row["rdp"]
        event = dp.Composed([(dp.Gaussian(4.0), int(row["steps"]))])
        assert row["upper"] == pytest.approx(
            pld_epsilon(event, 1e-5, neighboring_relation="add-or-remove-one").upper, rel=1e-6
        )
    code, out, _ = command(*SHORT_CURVE)
    assert code == 0
    assert "noise-multiplier 4, sampling-probability 1, δ 1e-05" in out
    assert "unit: patient, relation: add-or-remove-one" in out
    last = next(line for line in out.splitlines() if "1000 " in line)
    shown = [float(cell) for cell in last.replace("│", " ").split()[1:4]]
    assert shown[0] <= answer["curve"][2]["lower"]
    assert shown[1] >= answer["curve"][2]["upper"]
    assert shown[2] >= answer["curve"][2]["rdp"]
    assert "> 99.9%" in last


@pytest.mark.parametrize("over", ["noise-multiplier", "sampling-probability", "delta"])
def test_curve_over_other_axes_moves_the_right_way(over: str) -> None:
    ends = {"noise-multiplier": ("4", "1"), "sampling-probability": ("0.01", "0.1"), "delta": ("1e-2", "1e-8")}[over]
    options = ["--steps", "20", "--noise-multiplier", "1", "--sampling-probability", "0.1", "--points", "3", "--json"]
    code, out, _ = command("curve", "--over", over, "--from", ends[0], "--to", ends[1], *options)
    assert code == 0
    uppers = [row["upper"] for row in json.loads(out)["curve"]]
    assert uppers == sorted(uppers)
    assert uppers[0] < uppers[2]


@pytest.mark.parametrize(("ending", "head"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_curve_draws_a_picture(tmp_path: Path, ending: str, head: bytes) -> None:
    path = tmp_path / f"curve.{ending}"
    assert command(*SHORT_CURVE, "--plot", str(path))[0] == 0
    assert path.read_bytes().startswith(head)
    assert len(path.read_bytes()) > 5_000


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--to", "10"], "--from and --to are two different numbers > 0"),
        (["--from", "0"], "--from and --to are two different numbers > 0"),
        (["--plot", "curve.pdf"], "a plot is a .png or an .svg file, got 'curve.pdf'"),
        (["--plot", "nowhere/curve.png"], "nowhere/curve.png: No such file or directory"),
        (
            ["--plot", "flat.svg", "--noise-multiplier", "1e12"],
            "nothing to plot: ε is 0 or unbounded at all but one point",
        ),
        (["--unit", "patients"], "unit is one of"),
        (["--delta", "2"], "delta is in (0, 1)"),
        (["--over", "delta", "--to", "0.5", "--from", "2", "--steps", "9"], "delta is in (0, 1)"),
    ],
)
def test_curves_that_make_no_sense_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*SHORT_CURVE, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"secagg dp curve: {complaint}")
    assert err.count("\n") == 1


# receipts


def write_receipt(path: Path, *arguments: str) -> None:
    options = ["--noise-multiplier", "4", "--steps", "20", "--delta", "1e-5", "--unit", "patient"]
    assert run(*options, "--receipt", str(path), *arguments)[0] == 0


def test_a_receipt_that_was_written_verifies(tmp_path: Path) -> None:
    path = tmp_path / "a.receipt"
    write_receipt(path, "--plan", 32 * "3f")
    code, out, err = command("verify", str(path), "--plan", 32 * "3F")
    assert (code, err) == (0, "")
    assert "   20 │ PoissonSampled(sampling_probability=1.0, event=Gaussian(noise_multiplier=4.0))" in out
    assert "at δ = 1e-05 (unit: patient, relation: add-or-remove-one; PLD certified interval)" in out
    assert f"plan: {32 * '3f'}" in out
    assert "survivor sets: 0, with 0 signatures (not checked: no --roster)" in out
    assert "This proves arithmetic, not that noise was added." in out
    code, out, _ = command("verify", str(path), "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["holds"] is True
    assert answer["upper"] == json.loads(path.read_text())["upper"]
    before = path.read_bytes()
    assert run(*CASE_1, "--receipt", str(path))[0] == 2
    assert path.read_bytes() == before


def test_a_receipt_that_does_not_hold_ends_with_exit_code_1(tmp_path: Path) -> None:
    path = tmp_path / "a.receipt"
    write_receipt(path)
    sound = path.read_bytes()
    for edited, options, complaint in (
        (sound.replace(b"20\n", b"30\n"), [], "the receipt does not hold: it claims ε <= "),
        (sound[:-3], [], "not a receipt"),
        (sound.replace(b"PoissonSampled", b"Unsampled"), [], "got 'Unsampled'"),
        (sound, ["--plan", 32 * "00"], "the receipt names the plan (none), not 00"),
    ):
        path.write_bytes(edited)
        code, out, err = command("verify", str(path), *options)
        assert (code, out) == (1, "")
        assert err.startswith("secagg dp verify: ")
        assert complaint in err
    code, out, err = command("verify", str(tmp_path / "missing.receipt"))
    assert (code, out) == (2, "")
    assert "missing.receipt: No such file or directory" in err


def test_a_roster_checks_who_signed_the_survivors(tmp_path: Path) -> None:
    identities: dict[int | str, Identity] = {name: Identity.generate() for name in ("Basel", "Bern")}
    roster = Roster.found(
        "Heart", [Card.issue(who, name) for name, who in identities.items()], builder=identities["Bern"]
    )
    roster.save(tmp_path / "heart.roster")
    ledger = dp.Ledger(unit="patient", neighboring_relation="add-or-remove-one")
    ledger.compose(dp.Gaussian(4.0))
    statement = tags.CONSISTENCY + b"Basel, Bern"
    good = {name: who.sign(statement) for name, who in identities.items()}
    bad = good | {"Bern": good["Basel"]}
    for signatures, expected in ((good, 0), (bad, 1)):
        made = make_receipt(ledger, 1e-5, survivors=[SignedSurvivors.of(statement, signatures, threshold=2)])
        path = tmp_path / f"{expected}.receipt"
        path.write_bytes(made.to_bytes())
        code, out, err = command("verify", str(path), "--roster", str(tmp_path / "heart.roster"))
        assert code == expected
        assert ("the signature of 'Bern' on a survivor set does not hold" in err) == bool(expected)
        if not expected:
            assert "survivor sets: 1, with 2 signatures (all valid under" in out
        assert command("verify", str(path))[0] == 0


@pytest.mark.parametrize(
    ("name", "sentences"),
    [
        (
            "calibrate",
            ["Find the least noise", "trying several ε", "The unit says", "secagg dp calibrate --target-epsilon"],
        ),
        ("curve", ["ε as a bet", "The relation says", "secagg dp curve --over steps"]),
        (
            "verify",
            ["A receipt proves arithmetic, not that noise was added", "secagg dp verify heart.receipt --roster"],
        ),
    ],
)
def test_help_of_every_command_teaches(name: str, sentences: list[str]) -> None:
    code, out, _ = command(name, "--help")
    assert code == 0
    for sentence in sentences:
        assert sentence in " ".join(out.split())

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import dp
from dp.budget import Budget
from dp.budget_cli import budget as group
from dp.cli import app
from dp.event_json import event_to_bytes

STUDY = ["--noise-multiplier", "4", "--sampling-probability", "0.05", "--steps", "100"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "heart.budget"


def run(*arguments: str | Path) -> tuple[int, str, str]:
    environment = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    result = CliRunner(env=environment).invoke(app, ["budget", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def make(path: Path) -> None:
    code, out, err = run("create", path, "--epsilon", "1", "--delta", "1e-5", "--unit", "patient")
    assert (code, err) == (0, "")
    assert out == f"made {path}: ε = 1 at δ = 1e-05 (unit: patient, relation: add-or-remove-one)\n"


def test_a_study_reserves_spends_and_is_listed(path: Path) -> None:
    make(path)
    code, out, err = run("reserve", path, "--purpose", "risk [model]", *STUDY)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("reserved: number 1.")
    assert f"secagg dp budget spend {path} 1" in out
    assert run("spend", path, "1")[:2] == (0, "spent: number 1. The release may be sent.\n")
    code, out, err = run("show", path)
    assert (code, err) == (0, "")
    assert "risk [model]" in out
    assert "100 × PoissonSampled(sampling_probability=0.05, event=Gaussian(noise_multiplier=4.0))" in out
    assert "budget: ε = 1 at δ = 1e-05 (unit: patient, relation: add-or-remove-one)" in out
    assert "spent or reserved: 30.1 % of it; by itself ε ≤ 0." in out
    Budget.open(path).reserve(dp.Gaussian(1e4), purpose="mean age").release()
    assert "Gaussian(noise_multiplier=10000.0)" in run("show", path)[1]
    answer = json.loads(run("show", path, "--json")[1])
    entry, _ = answer["reservations"]
    assert (entry["number"], entry["state"], entry["purpose"]) == (1, "spent", "risk [model]")
    assert entry["event"]["events"][0][1] == 100
    assert answer["budget"] == {
        "epsilon": 1.0,
        "delta": 1e-5,
        "unit": "patient",
        "neighboring_relation": "add-or-remove-one",
    }
    assert answer["used"] == Budget.open(path).used()
    assert answer["spent"]["epsilon"] == Budget.open(path).spent().epsilon


def test_a_refusal_has_exit_code_1_and_says_what_is_left(path: Path) -> None:
    make(path)
    for _ in range(3):
        assert run("reserve", path, "--purpose", "study", *STUDY)[0] == 0
    code, out, err = run("reserve", path, "--purpose", "one too many", *STUDY)
    assert (code, out) == (1, "")
    assert err.startswith("secagg dp budget reserve: refused: the budget is ε = 1 at δ = 1e-05 (unit: patient,")
    for part in ("spent or reserved 90.1 %", "asked 30.1 %", "left 9.9 %"):
        assert part in err
    assert err.count("\n") == 1
    assert run("release", path, "2") == (0, "released: number 2.\n", "")
    assert run("reserve", path, "--purpose", "in its place", *STUDY, "--json")[1] == (
        '{"number":4,"purpose":"in its place"}\n'
    )


def test_any_event_can_be_asked_for_by_file(path: Path, tmp_path: Path) -> None:
    make(path)
    event = dp.Composed([(dp.Gaussian(20.0), 3), (dp.PoissonSampled(0.1, dp.Gaussian(5.0)), 10)])
    file = tmp_path / "event.json"
    file.write_text(json.dumps(json.loads(event_to_bytes(event)), indent=4))
    assert run("reserve", path, "--purpose", "two kinds", "--event", file)[0] == 0
    assert Budget.open(path).reservation(1).event == event
    for content, complaint in (
        ("{", "truncated"),
        ('{"type":"Oracle"}', "an event is an object whose type is one of"),
        ('{"type":"Gaussian","noise_multiplier":0}', "not a valid Gaussian"),
    ):
        file.write_text(content)
        code, out, err = run("reserve", path, "--purpose", "broken", "--event", file)
        assert (code, out) == (2, "")
        assert complaint in err
        assert err.count("\n") == 1
    assert len(Budget.open(path).entries()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["reserve", "BUDGET", "--purpose", "x"], 2, "give either --noise-multiplier or --event"),
        (["reserve", "BUDGET", "--purpose", "x", "--event", "e", *STUDY], 2, "give either"),
        (["reserve", "BUDGET", "--purpose", "x", "--event", "missing.json"], 2, "missing.json: No such file"),
        (["reserve", "BUDGET", "--purpose", "x", *STUDY[:1], "0"], 2, "noise_multiplier is stddev"),
        (["reserve", "BUDGET", "--purpose", "", *STUDY], 2, "a purpose is 1 to 200"),
        (["spend", "BUDGET", "7"], 1, "has no reservation 7"),
        (["release", "BUDGET", "1"], 1, "reservation 1 of .* is spent: it cannot be released"),
        (["spend", "BUDGET", "1"], 1, "reservation 1 of .* is spent: it cannot be spent"),
        (["show", "missing.budget"], 2, "missing.budget: No such file or directory"),
        (["show", "text"], 1, "not a usable privacy budget"),
        (["create", "BUDGET", "--epsilon", "1", "--delta", "1e-5", "--unit", "patient"], 2, "is never overwritten"),
        (["create", "new", "--epsilon", "0", "--delta", "1e-5", "--unit", "patient"], 2, "the ε of a budget is in"),
        (["create", "new", "--epsilon", "1", "--delta", "1", "--unit", "patient"], 2, "delta is in"),
        (["create", "new", "--epsilon", "1", "--delta", "1e-5", "--unit", "ward"], 2, "unit is one of"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, complaint: str
) -> None:
    monkeypatch.chdir(path.parent)
    make(path)
    Budget.open(path).reserve(dp.Gaussian(50.0), purpose="first").spend()
    Path("text").write_text("some text\n")
    found, out, err = run(*(str(path) if part == "BUDGET" else part for part in arguments))
    assert (found, out) == (code, "")
    assert err.startswith(f"secagg dp budget {arguments[0]}: ")
    assert err.count("\n") == 1
    assert re.search(complaint, err)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ([], "ε does not add up like money"),
        (["create"], "a restored backup forgets what was spent since"),
        (["show"], "three equal studies that use 30 % each use 90 %"),
        (["reserve"], "A reservation counts until it is released"),
        (["spend"], "Send nothing before this has returned with exit code 0"),
        (["release"], "What is spent stays spent"),
    ],
)
def test_help_says_what_a_budget_is(command: list[str], sentence: str) -> None:
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).invoke(group, [*command, "--help"])
    assert result.exit_code == 0
    assert sentence in " ".join(result.output.split())

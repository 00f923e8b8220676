"""`secagg leakage`: tables, JSON, and the page it adds to a run's report."""

import json
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attacks import harness
from attacks.matrix import ATTACKS
from protocols import TrainConfig, train
from secagg.cli import build_app

runner = CliRunner()


def command(*arguments: str) -> tuple[int, str, str]:
    result = runner.invoke(build_app(), ["leakage", *arguments], env={"COLUMNS": "160", "NO_COLOR": "1"})
    return result.exit_code, result.stdout, result.stderr


def test_the_tables_show_a_record_and_the_rates(tmp_path: Path) -> None:
    train(TrainConfig(rounds=1, local_steps=1, seeds=0), tmp_path)
    code, out, err = command("--run", str(tmp_path), "--trials", "2")
    assert code == 0, err
    for text in (
        "cholesterol (mg/dl)",
        "plain update",
        "masked update",
        "secure sum",
        "prior only",
        "100.0%",
    ):
        assert text in out
    assert "added to" in err
    html = (tmp_path / "report.html").read_text()
    assert "What a server learns without secure aggregation, and what with it" in html
    assert "Without secure aggregation" in html
    study = json.loads((tmp_path / "leakage.json").read_text())
    for value in study["example"]["truth"]:
        assert f">{value:g}<" in html
    assert not list(tmp_path.rglob("*.part"))


def test_json_holds_every_rate() -> None:
    code, out, _ = command("--trials", "1", "--json")
    assert code == 0
    study = json.loads(out)
    assert len(study["situations"]) == 4
    for rows in study["situations"].values():
        assert [row["channel"] for row in rows] == ["prior only", "plain update", "masked update", "secure sum"]
        assert all(len(row["features"]) == 13 for row in rows)


def test_json_stays_json_when_a_page_is_added(tmp_path: Path) -> None:
    train(TrainConfig(rounds=1, local_steps=1, seeds=0), tmp_path)
    code, out, _ = command("--trials", "1", "--json", "--run", str(tmp_path))
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "leakage.json").read_text())


@pytest.mark.parametrize("text", ["{}", "not json", '{"status": "odd"}'])
def test_a_folder_without_a_readable_run_is_refused_before_the_work(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    code, _, err = command("--run", str(tmp_path), "--trials", "1000000")
    assert code == 2
    assert "run.json is not of this version's `secagg train`" in err
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("arguments", "says"), [(["--run", "nowhere"], "holds no run.json"), (["--task", "lungs"], "no task 'lungs'")]
)
def test_bad_arguments_are_one_line_and_exit_code_2(arguments: list[str], says: str) -> None:
    code, _, err = command(*arguments)
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1


@pytest.fixture
def one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = [attack for attack in ATTACKS if attack.name == "analytic inversion by the next institution"]
    monkeypatch.setattr(harness, "run_matrix", partial(harness.run_matrix, attacks=row, processes=0))
    monkeypatch.delenv("SECAGG_DATA", raising=False)


@pytest.mark.usefixtures("one_row")
def test_the_whole_table_is_printed_and_left_in_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    code, printed, err = command("--all", "--out", str(out))
    assert code == 0, err
    assert "analytic" in printed
    assert "100 %" in printed
    assert "left out: PneumoniaMNIST" in printed
    assert "leakage.html" in err.replace("\n", "")
    assert {path.name for path in out.iterdir()} == {"leakage.html", "leakage.md", "leakage.json", "trials.jsonl"}
    assert "**100 %**" in (out / "leakage.md").read_text()
    code, again, _ = command("--all", "--out", str(out), "--json")  # nothing left to run
    assert code == 0
    assert json.loads(again) == json.loads((out / "leakage.json").read_text())


@pytest.mark.usefixtures("one_row")
def test_a_folder_of_another_table_is_refused(tmp_path: Path) -> None:
    assert command("--all", "--out", str(tmp_path))[0] == 0
    code, _, err = command("--all", "--out", str(tmp_path), "--seed", "3")
    assert code == 2
    assert "take another folder" in err


def test_the_whole_table_is_no_part_of_a_runs_report(tmp_path: Path) -> None:
    code, _, err = command("--all", "--run", str(tmp_path))
    assert code == 2
    assert "choose one" in err

"""Whole runs: what they leave behind, what the report says, and how they stop."""

import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from attacks.page import leakage_page
from attacks.study import run_study
from protocols import ConfigError, RunRecord, TrainConfig, read_record, train
from protocols.aggregation import AGGREGATIONS
from protocols.federation import Federation
from protocols.institution import Institution
from protocols.report import Page, render, write_page
from protocols.server_opt import FedAvg
from protocols.tasks import load_task
from secagg.cli import build_app

QUICK: dict[str, Any] = {"rounds": 3, "local_steps": 3, "seeds": 0}
runner = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One quick run with a dropout and a failed round, through the public function."""
    out = tmp_path_factory.mktemp("run")
    drop = ("hungary@2:masked_input", "va@3:share_keys", "cleveland@3:masked_input")
    news: list[str] = []
    train(TrainConfig(**(QUICK | {"seeds": 1}), drop=drop), out, lambda _record, text: news.append(text))
    assert news == [
        "getting ready",
        "round 1 of 3",
        "round 2 of 3",
        "round 3 of 3",
        "curves drawn",
        "compared with other methods: seed 1 of 1",
        "finished",
    ]
    return out


def test_the_record_says_who_was_there_and_what_it_cost(folder: Path) -> None:
    record = read_record(folder)
    assert record.status == "finished"
    assert record.privacy == "no differential privacy in this run"
    assert [each.dropouts for each in record.rounds] == [
        {},
        {"hungary": "masked_input"},
        {"va": "share_keys", "cleveland": "masked_input"},
    ]
    assert record.rounds[1].survivors == ("cleveland", "switzerland", "va")
    assert record.rounds[1].weight == 199 + 30 + 85
    assert record.rounds[2].failure == "clients that delivered a masked input: 3 needed, 2 left"
    assert record.rounds[2].accuracy == record.rounds[1].accuracy
    assert [step.step for step in record.steps] == ["advertise_keys", "share_keys", "masked_input", "unmask"]
    masked = record.steps[2]
    assert masked.bytes_up == 36 + -(-15 * 22 // 8)  # frame and fields, packed vector
    assert 0 < masked.client_seconds < 1
    assert [row.method for row in record.compared][:3] == ["Pooled data", "FedAvg", "FedAdam"]
    assert len(record.compared) == 7


def test_what_crossed_the_wire_tells_nothing_of_the_update(folder: Path) -> None:
    seen = read_record(folder).seen
    assert seen is not None
    assert max(abs(value) for value in seen.update) > 1e-4
    assert not np.allclose(seen.decoded, seen.update, rtol=0.1, atol=1e-5)
    assert all(0 <= value < 1 << seen.modulus_bits for value in seen.sent)


def test_in_plain_aggregation_it_is_the_update(tmp_path: Path) -> None:
    train(TrainConfig(**(QUICK | {"rounds": 1}), aggregation="plain"), tmp_path)
    record = read_record(tmp_path)
    assert record.seen is not None
    assert np.allclose(record.seen.decoded, record.seen.update, atol=1e-4)
    write_page(tmp_path, "leakage", leakage_page(run_study(load_task("heart"), trials=1, seed=0)))
    html = render(tmp_path).read_text()
    assert "The server saw every update." in html
    for claim in (
        "Nobody saw an update.",
        "by a secure sum",
        "from a secure sum",
        "securely",
        "what it learned with it",
    ):
        assert claim not in html


def test_in_plain_aggregation_vanishing_after_the_upload_changes_nothing(tmp_path: Path) -> None:
    config = TrainConfig(**(QUICK | {"rounds": 1}), aggregation="plain", drop=("va@1:unmask", "hungary@1:share_keys"))
    record = train(config, tmp_path)
    assert record.rounds[0].dropouts == {"hungary": "upload"}
    assert record.rounds[0].survivors == ("cleveland", "switzerland", "va")
    html = (tmp_path / "report.html").read_text()
    assert "vanished before <code>upload</code>" in html
    assert "share_keys" not in html.split("Configuration")[0]


def test_a_run_without_any_sum_does_not_say_that_a_model_was_trained(tmp_path: Path) -> None:
    everyone = tuple(f"{site}@1:share_keys" for site in ("cleveland", "hungary", "switzerland", "va"))
    train(TrainConfig(**(QUICK | {"rounds": 1}), drop=everyone), tmp_path)
    html = (tmp_path / "report.html").read_text()
    assert "no round has had a sum" in html
    assert "trained one model" not in html


def test_the_report_says_how_much_was_clipped(tmp_path: Path) -> None:
    record = train(TrainConfig(**(QUICK | {"rounds": 2}), clip=1e-9), tmp_path)
    clipped = sum(sum(each.clipped.values()) for each in record.rounds)
    assert clipped > 100
    html = (tmp_path / "report.html").read_text()
    assert f"{clipped} coordinates of updates in all were clipped to ±1e-09" in html
    assert f"before they were sent, {clipped / (2 * 4 * 14):.1%} of all" in html


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "at most 1 of the 4 hospitals tells it all it knows. It then learns the sum over the others"),
        ({}, "in the worst round of this run 2 hospitals"),
        ({"corrupted": 0.5, "dropout": 0.0}, "in the worst round of this run <b>a single hospital, whose update"),
        ({"corrupted": 0.0}, "at most 0 of the 4 hospitals tell it all they know. Sums of few"),
    ],
)
def test_the_report_says_what_colluding_hospitals_would_learn(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    train(TrainConfig(**(QUICK | changes), drop=("hungary@2:masked_input",)), tmp_path)
    assert says in " ".join((tmp_path / "report.html").read_text().split())


def test_the_report_is_one_self_contained_page_that_says_what_it_must(folder: Path) -> None:
    html = (folder / "report.html").read_text()
    assert html.count("<svg") == 2
    assert not re.search(
        r"(src|href)\s*=", html.replace('xmlns:xlink="http://www.w3.org/1999/xlink"', "").replace("xlink:href", "")
    )
    for text in (
        "Nobody saw an update.",
        "no differential privacy in this run",
        "Hungarian Institute of Cardiology vanished before <code>masked_input</code>",
        "the model stayed as it was",
        "What each party saw",
        ".748 ± .027",
        "masked_input",
    ):
        assert text in html


def test_pages_of_other_commands_are_embedded_and_data_is_escaped(folder: Path) -> None:
    write_page(folder, "note", Page("A <title>", "<p id='x'>body</p>"))
    html = render(folder).read_text()
    assert "A &lt;title&gt;" in html
    assert "<p id='x'>body</p>" in html


def test_a_run_that_is_interrupted_stays_readable(tmp_path: Path) -> None:
    def stop(record: RunRecord, text: str) -> None:
        del record
        if text == "round 2 of 3":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(**QUICK), tmp_path, stop)
    record = read_record(tmp_path)
    assert record.status == "interrupted"
    assert len(record.rounds) == 2
    assert "This run was interrupted" in (tmp_path / "report.html").read_text()
    assert not list(tmp_path.glob("*.part"))


def test_a_run_leaves_torchs_threads_and_generator_alone(tmp_path: Path) -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    train(TrainConfig(**(QUICK | {"rounds": 1})), tmp_path)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"task": "lungs"}, "task: no task 'lungs'"),
        ({"drop": ("paris@1:unmask",)}, "drop: no hospital 'paris'"),
        ({"dropout": 0.9}, "lower the shares or take more clients"),
        ({"max_weight": 1 << 62}, "never wrap"),
        ({"max_weight": 198}, "max_weight: 198 is less than the 199 patients of cleveland"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        train(TrainConfig(**(QUICK | changes)), tmp_path)
    assert not list(tmp_path.iterdir())


def command(*arguments: str) -> tuple[int, str]:
    result = runner.invoke(build_app(), ["train", *arguments], env={"COLUMNS": "120", "NO_COLOR": "1"})
    return result.exit_code, result.output


def test_the_command_makes_one_model_of_a_seed_with_every_aggregation_and_says_its_hash(tmp_path: Path) -> None:
    def model(name: str, *arguments: str) -> str:
        fixed = ("--rounds", "2", "--seeds", "0", "--drop", "hungary@2:masked_input", "--out", str(tmp_path / name))
        code, text = command(*fixed, *arguments)
        assert code == 0, text
        sha256 = read_record(tmp_path / name).model_sha256
        assert f"<code>{sha256}</code>" in (tmp_path / name / "report.html").read_text()
        return sha256

    config = TrainConfig(rounds=2)
    rounds = Federation.build(config, load_task("heart"), seed=7).rounds(
        FedAvg(), learning_rate=config.learning_rate, dropouts={2: {"hungary": "masked_input"}}
    )
    *_, last = rounds
    expected = hashlib.sha256(np.array(last.parameters, "<f8").tobytes()).hexdigest()
    assert {model(word, "--seed", "7", "--aggregation", word) for word in AGGREGATIONS} == {expected}
    assert model("other", "--seed", "8") != expected


def test_the_command_trains_and_says_where_the_report_is(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("rounds = 2\nlocal_steps = 2\nseeds = 0\n")
    out = tmp_path / "out"
    code, text = command("--config", str(tmp_path / "c.toml"), "--out", str(out), "--drop", "va@1:unmask")
    assert code == 0, text
    assert "round 2 of 2" in text
    assert "va vanished before unmask" in text
    assert "no differential privacy in this run" in text
    assert "clipped" not in text
    assert (out / "report.html").exists()
    assert read_record(out).config == TrainConfig(rounds=2, local_steps=2, seeds=0, drop=("va@1:unmask",))
    (tmp_path / "tight.toml").write_text("rounds = 1\nlocal_steps = 2\nseeds = 0\nclip = 1e-9")
    _, text = command("--config", str(tmp_path / "tight.toml"), "--out", str(tmp_path / "tight"))
    assert "% of the updates' coordinates were clipped to ±1e-09" in text
    code, text = command("--config", str(out / "config.json"), "--out", str(out))
    assert (code, "already holds a run" in text) == (2, True)
    code, text = command("--config", str(out / "config.json"), "--out", str(out), "--overwrite")
    assert code == 0, text


def test_a_refused_configuration_leaves_the_earlier_run_as_it_was(tmp_path: Path) -> None:
    train(TrainConfig(**(QUICK | {"rounds": 1})), tmp_path)
    write_page(tmp_path, "note", Page("t", "b"))
    (tmp_path / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, text = command("--out", str(tmp_path), "--overwrite", "--drop", "paris@1:unmask")
    assert (code, "no hospital 'paris'" in text) == (2, True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    train(TrainConfig(**(QUICK | {"rounds": 2})), tmp_path, overwrite=True)
    assert len(read_record(tmp_path).rounds) == 2
    assert not list((tmp_path / "pages").iterdir())
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"learning_rate": 1e30, "model": "mlp"}, "the update of cleveland: "),
        ({"server_learning_rate": 1e30, "clip": 1e12, "learning_rate": 1e10}, "does not fit float32"),
    ],
)
def test_training_that_diverges_is_one_line_and_leaves_a_readable_run(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    (tmp_path / "c.json").write_bytes(msgspec.json.encode(QUICK | {"local_steps": 100} | changes))
    out = tmp_path / "out"
    code, text = command("--config", str(tmp_path / "c.json"), "--out", str(out))
    assert code == 1
    assert says in text.splitlines()[-1]
    assert "lower learning_rate" in text
    record = read_record(out)
    assert record.status == "failed"
    assert says in record.failure
    assert "This run failed: training diverged" in (out / "report.html").read_text()


def test_an_out_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        code, text = command("--out", str(out))
        assert code == 2
        assert text.startswith(f"secagg train: --out {out}")
        assert len(text.strip().splitlines()) == 1


def test_ctrl_c_before_the_first_round_leaves_a_readable_run_that_can_be_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_argument: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr("protocols.training._compile_kernels", interrupted)
        code, text = command("--rounds", "1", "--seeds", "0", "--out", str(out))
        assert (code, "the run so far is in" in text) == (130, True)
        assert (read_record(out).status, read_record(out).rounds) == ("interrupted", [])
        patched.setattr("protocols.training.prepare", interrupted)
        code, text = command("--rounds", "1", "--seeds", "0", "--out", str(tmp_path / "other"))
        assert (code, "nothing was trained yet" in text) == (130, True)
        assert not (tmp_path / "other").exists()
    code, text = command("--rounds", "1", "--seeds", "0", "--out", str(out), "--overwrite")
    assert code == 0, text


def test_overwrite_leaves_folders_alone_that_hold_no_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("precious")
    code, text = command("--out", str(tmp_path), "--overwrite")
    assert code == 2
    assert "left alone" in text
    assert (tmp_path / "thesis.doc").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rounds", "0"], "rounds: Expected `int` >= 1"),
        (["--drop", "hungary"], "drop: 'hungary' is not HOSPITAL@ROUND:STEP"),
        (["--drop", "paris@1:unmask"], "drop: no hospital 'paris'"),
        (["--task", "lungs"], "task: no task 'lungs'"),
        (["--config", "nowhere.toml"], "nowhere.toml: No such file"),
        (["--seed", "99999999999999999999"], "seed: "),
    ],
)
def test_bad_configuration_is_one_line_naming_the_key_and_exit_code_2(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    code, text = command("--out", str(tmp_path / "out"), *arguments)
    assert code == 2
    assert says in text
    assert len(text.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_ctrl_c_leaves_a_report_and_exit_code_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Institution.train
    calls = 0

    def train_until_interrupted(self: Institution, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 6:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Institution, "train", train_until_interrupted)
    code, text = command("--rounds", "5", "--seeds", "0", "--out", str(tmp_path / "out"))
    assert code == 130
    assert "interrupted; the run so far is in" in text
    assert len(read_record(tmp_path / "out").rounds) == 1
    assert (tmp_path / "out" / "report.html").exists()

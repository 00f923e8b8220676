"""Runs under each aggregation: the same model, and a report that says what the server saw and who holds a key."""

from html import unescape
from pathlib import Path
from typing import Any, get_args

import pytest

from protocols import RunRecord, TrainConfig, train
from protocols.aggregation import AGGREGATIONS, AggregationName

SHARED_KEY = "no hospital gives it the key that all of them share"


def run(aggregation: Any, folder: Path, **changes: Any) -> tuple[RunRecord, str]:
    """Train for two rounds, of which one site misses the second; return the record and the text of its report."""
    settings: dict[str, Any] = {"rounds": 2, "local_steps": 2, "seeds": 0, "drop": ("hungary@2:share_keys",)}
    record = train(TrainConfig(**(settings | changes), aggregation=aggregation), folder)
    return record, " ".join(unescape((folder / "report.html").read_text()).split())


def test_a_run_under_a_threshold_key_gives_the_very_model_of_a_plain_one(tmp_path: Path) -> None:
    plain, _ = run("plain", tmp_path / "plain")
    threshold, _ = run("threshold", tmp_path / "threshold")
    assert threshold.status == "finished"
    assert [each.survivors for each in threshold.rounds][1] == ("cleveland", "switzerland", "va")
    assert [step.step for step in threshold.steps] == ["upload", "decrypt"]
    assert [(each.accuracy, each.weight) for each in threshold.rounds] == [
        (each.accuracy, each.weight) for each in plain.rounds
    ]
    assert threshold.seen is not None
    assert plain.seen is not None
    assert threshold.seen.update == plain.seen.update
    assert threshold.seen.sent != plain.seen.sent


@pytest.mark.parametrize("aggregation", get_args(AggregationName))
def test_the_report_says_what_the_server_saw_and_whether_all_hold_one_key(aggregation: str, tmp_path: Path) -> None:
    how = AGGREGATIONS[aggregation]
    _, text = run(aggregation, tmp_path, corrupted=0.0 if aggregation == "ckks" else 0.25)
    saw = how.server_saw if how.secure else f"<b>{how.server_saw}</b>"
    assert f"<tr><td>Server</td><td>{saw}</td><td>{how.server_did_not}</td></tr>" in text
    assert [name for name, other in AGGREGATIONS.items() if f"<td>{other.server_saw}</td>" in text] == (
        [aggregation] if how.secure else []
    )
    assert how.shares_a_key == (aggregation == "ckks")
    assert (SHARED_KEY in text) == how.shares_a_key

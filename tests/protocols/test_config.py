"""Configurations: checked whole, every complaint names its key."""

import re
from pathlib import Path
from typing import Any

import pytest

from protocols import ConfigError, TrainConfig, load_config
from protocols.config import dropouts_by_round


def test_the_example_file_is_the_demo(tmp_path: Path) -> None:
    config = load_config(Path("examples/heart.toml"), {})
    assert config == TrainConfig(drop=("hungary@5:masked_input",))
    assert dropouts_by_round(config) == {5: {"hungary": "masked_input"}}
    (tmp_path / "c.json").write_bytes(b'{"rounds": 3}')
    assert load_config(tmp_path / "c.json", {"seed": 4, "task": None}) == TrainConfig(rounds=3, seed=4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rounds = 'many'", "rounds: Expected `int`"),
        ("rounds = 0", "rounds: Expected `int` >= 1"),
        ("round = 3", "round: no such key"),
        ("aggregation = 'magic'", "aggregation: "),
        ("learning_rate = 0.0", "learning_rate: "),
        ("dropout = 1.0", "dropout: "),
        ("bits = 99", "bits: "),
        ("drop = 'hungary@5:unmask'", "drop: "),
        ("drop = ['hungary']", "drop: 'hungary' is not HOSPITAL@ROUND:STEP"),
        ("drop = ['hungary@5:lunch']", "with STEP one of advertise_keys"),
        ("drop = ['hungary@99:unmask']", "outside 1..15"),
        ("drop = ['va@2:unmask', 'va@2:share_keys']", "vanishes twice in round 2"),
        ("drop = ['va@2:unmask', 'va@2:unmask']", "vanishes twice in round 2"),
        (f"drop = ['va@{5_000 * '1'}:unmask']", "is not HOSPITAL@ROUND:STEP"),
        ("drop = ['va@٣:unmask']", "is not HOSPITAL@ROUND:STEP"),
        ("rounds =", "c.toml: "),
        ("learning_rate = inf", "learning_rate: "),
        ("learning_rate = nan", "learning_rate: "),
        ("clip = 1e400", "clip: "),
        ("dropout = nan", "dropout: "),
        ("seed = 9223372036854775807", "seed: "),
        ("batch_size = 100000000000", "batch_size: "),
        ("'server-lr' = 2", "server-lr: no such key (there are task, "),
        (5_000 * "[", "c.toml: "),
    ],
)
def test_every_complaint_is_one_line_that_names_the_key(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        load_config(tmp_path / "c.toml", {})
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        load_config(tmp_path / "nowhere.toml", {})
    (tmp_path / "noise.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"noise\.toml: not a text file in UTF-8"):
        load_config(tmp_path / "noise.toml", {})
    (tmp_path / "deep.json").write_text(100_000 * "[")
    with pytest.raises(ConfigError, match=r"deep\.json: nested too deeply"):
        load_config(tmp_path / "deep.json", {})
    (tmp_path / "marked.toml").write_text("\ufeffrounds = 2", "utf-8")
    assert load_config(tmp_path / "marked.toml", {}).rounds == 2
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(ConfigError, match="expected keys and values"):
        load_config(tmp_path / "list.json", {})


def test_under_ckks_a_site_vanishes_from_one_of_two_rounds() -> None:
    config = TrainConfig(aggregation="ckks", drop=("va@2:share_keys", "hungary@2:masked_input", "cleveland@3:unmask"))
    assert dropouts_by_round(config) == {2: {"va": "upload", "hungary": "upload"}, 3: {"cleveland": "decrypt"}}


def test_plain_aggregation_has_one_round_to_vanish_from() -> None:
    config = TrainConfig(aggregation="plain", drop=("va@2:share_keys", "hungary@2:masked_input", "cleveland@3:unmask"))
    assert dropouts_by_round(config) == {2: {"va": "upload", "hungary": "upload"}, 3: {}}


def test_options_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("rounds = 9\nseeds = 2")
    options: dict[str, Any] = {"rounds": 4, "seeds": None}
    config = load_config(tmp_path / "c.toml", options)
    assert (config.rounds, config.seeds) == (4, 2)

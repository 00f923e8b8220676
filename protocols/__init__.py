"""How institutions train one model together. Importing this loads no torch: `train` does, when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.config import TrainConfig, load_config
from protocols.errors import ConfigError, TrainingError
from protocols.record import RunRecord, make_room, read_record, write_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["ConfigError", "RunRecord", "TrainConfig", "TrainingError", "load_config", "read_record", "train"]


def train(
    config: TrainConfig,
    folder: Path,
    watch: Callable[[RunRecord, str], None] = lambda _record, _text: None,
    *,
    overwrite: bool = False,
) -> RunRecord:
    """Train as configured and write config.json, run.json and report.html.

    Args:
        config: of the run; `TrainConfig()` is the heart-disease task at four hospitals.
        folder: made if missing; receives run.json after every round, and report.html at the end, also of a run that is
            interrupted or fails.
        watch: called with the record so far and a line of text whenever there is news.
        overwrite: replace an earlier run in the folder.
    Returns: what is in run.json.
    Raises:
        ConfigError: the configuration does not fit the task, or its numbers do not work together. Nothing was touched.
        FileExistsError: the folder holds a run and `overwrite` is not given, or something else than a run.
        OSError: the folder cannot be written to.
        TrainingError: training diverged; says where. The partial run was written.
        KeyboardInterrupt: passed on once the partial run was written.
        ModuleNotFoundError: the [train] or [report] extra is not installed.
    """
    from protocols.report import render  # noqa: PLC0415 -- needs the [report] extra
    from protocols.training import prepare, run  # noqa: PLC0415 -- loads torch

    prepared = prepare(config)
    make_room(folder, overwrite=overwrite)
    write_config(config, folder)
    try:
        return run(prepared, folder, watch)
    finally:
        if (folder / "run.json").exists():
            render(folder)

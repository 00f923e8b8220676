"""How institutions train one model together. Importing this loads no torch: `train` does, when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.config import ConfigError, TrainConfig, load_config
from protocols.record import RunRecord, read_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["ConfigError", "RunRecord", "TrainConfig", "load_config", "read_record", "train"]


def train(
    config: TrainConfig, folder: Path, watch: Callable[[RunRecord, str], None] = lambda _record, _text: None
) -> RunRecord:
    """Train as configured and write run.json and report.html.

    Args:
        config: of the run; `TrainConfig()` is the heart-disease task at four hospitals.
        folder: exists; receives run.json after every round, and report.html at the end, also of an interrupted run.
        watch: called with the record so far and a line of text whenever there is news.
    Returns: what is in run.json.
    Raises:
        ConfigError: the configuration does not fit the task, or its numbers do not work together.
        KeyboardInterrupt: passed on once the partial run was written.
        ModuleNotFoundError: the [train] or [report] extra is not installed.
    """
    from protocols.report import render  # noqa: PLC0415 -- needs the [report] extra
    from protocols.training import run  # noqa: PLC0415 -- loads torch

    try:
        return run(config, folder, watch)
    finally:
        if (folder / "run.json").exists():
            render(folder)

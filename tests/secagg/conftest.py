"""What is set up once for the tests of several files."""

import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def threshold_set_ups(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[str]]]:
    """Folders in which a key was set up by files alone, by kind of server, and all that was printed."""
    from tests.secagg.threshold_cli_rig import SERVERS, set_up  # loads every command: only if it is used

    made = {}
    for server in SERVERS:
        folder = tmp_path_factory.mktemp(server)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            made[server] = folder, set_up(server)
    return made


@pytest.fixture
def threshold_folder(threshold_set_ups: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of what four sites did under a malicious server."""
    shutil.copytree(threshold_set_ups["malicious"][0], tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")

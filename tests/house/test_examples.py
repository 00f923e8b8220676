"""Examples: short, and they run."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_an_example_is_short_and_runs(script: Path) -> None:
    assert len(script.read_text().splitlines()) <= 60
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, cwd=ROOT)  # noqa: S603
    assert "patients:   535" in run.stdout
    assert "[0.106 0.141 0.121 0.352]" in run.stdout


def test_there_are_examples() -> None:
    assert SCRIPTS

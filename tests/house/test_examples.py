"""Examples: short, and they run."""

import re
import subprocess
import sys
from pathlib import Path

from protocols import TrainConfig

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


def output_of(name: str) -> str:
    script = ROOT / "examples" / name
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, cwd=ROOT)  # noqa: S603
    return run.stdout


def test_examples_are_short_and_each_is_run_below() -> None:
    assert {path.name for path in SCRIPTS} == {"live_round.py", "choose_learning_rate.py", "asyncio_round.py"}
    assert all(len(path.read_text().splitlines()) <= 60 for path in SCRIPTS)


def test_a_live_round_gives_the_mean() -> None:
    output = output_of("live_round.py")
    assert "patients:   535" in output
    assert "[0.106 0.141 0.121 0.352]" in output


def test_a_round_over_tcp_survives_a_site_that_vanishes() -> None:
    assert output_of("asyncio_round.py") == "in the sum: basel bergen budapest   mean: [0.2 0.2 0.2]\n"


def test_held_out_training_patients_choose_the_demos_learning_rate() -> None:
    found = re.findall(r"learning rate (\S+) +held-out accuracy (\S+)", output_of("choose_learning_rate.py"))
    accuracy = {float(rate): float(value) for rate, value in found}
    assert len(accuracy) == 4
    chosen = accuracy[TrainConfig().learning_rate]
    assert chosen > accuracy[0.0001] + 0.1
    assert chosen > max(accuracy.values()) - 0.01

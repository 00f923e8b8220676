"""`python -m benchmarks`: run every benchmark, one JSON file each in benchmarks/results/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ALL = (
    "masking",
    "secagg_protocol",
    "lattice",
    "homomorphic",
    "threshold",
    "accounting",
    "noise",
    "ddp",
    "leakage",
)
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run each module in its own process, so that none warms up or crowds another."""
    failed = []
    for name in ALL:
        print(f"== benchmarks.{name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(RESULTS / f"{name}.json")]
        if subprocess.run(command, check=False).returncode:  # noqa: S603 -- our own modules
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

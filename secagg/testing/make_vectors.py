"""`python -m secagg.testing.make_vectors`: write the test vectors anew. The same library writes the same bytes."""

from __future__ import annotations

import json
import sys
from itertools import chain
from pathlib import Path

from secagg.testing.replay import VERSION, Json, complete, verdict
from secagg.testing.vector_parts import part_cases
from secagg.testing.vector_rounds import round_cases

__all__ = ["FOLDER", "made"]

FOLDER = Path(__file__).parent / "vectors" / VERSION


def made() -> dict[str, str]:
    """Make every vector: file name -> content.

    Raises:
        ValueError: a vector ends otherwise than its case says, or two have the same name.
    """
    files: dict[str, str] = {}
    inputs: dict[str, Json] = {}
    for case in chain(part_cases(), round_cases()):
        ending = verdict(case.kind, complete(case.given, inputs))
        if ending.get("error") != case.error:
            msg = f"{case.name}: expected {case.error or 'no error'}, got {ending.get('error', 'none')}"
            raise ValueError(msg)
        name = f"{case.name}.json"
        if name in files:
            msg = f"{name}: two vectors of one name"
            raise ValueError(msg)
        inputs[case.name] = case.given
        content = {"about": case.about, "kind": case.kind, "input": case.given, **ending}
        files[name] = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    return files


def main() -> int:
    """Write the files and remove those that are no longer made."""
    files = made()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*.json"):
        if path.name not in files:
            path.unlink()
    for name, content in files.items():
        (FOLDER / name).write_text(content, encoding="utf-8")
    size = sum(len(content.encode()) for content in files.values())
    sys.stdout.write(f"{len(files)} vectors, {size:,} bytes in {FOLDER}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Write public_api.json: the names each package exports. Run it when the API changes on purpose."""

import importlib
import json
from pathlib import Path

PACKAGES = ["secagg", "dp", "protocols", "attacks"]

if __name__ == "__main__":
    names = {package: sorted(importlib.import_module(package).__all__) for package in PACKAGES}
    (Path(__file__).parent / "public_api.json").write_text(json.dumps(names, indent=2) + "\n")

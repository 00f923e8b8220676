"""UCI Heart Disease at four hospitals, prepared as FLamby does, so that accuracies compare.

FLamby (Ogier du Terrail et al., NeurIPS Datasets and Benchmarks 2022, Fed-Heart-Disease) drops slope, ca and thal and
then every incomplete row (740 of 920 patients stay), splits each hospital 66/34 with a fixed seed, stratified by label
where it can be, codes chest pain and resting ECG as dummies without their first level, and lets each hospital
standardise by its own training patients. A cholesterol of 0 means missing in this data (all of Switzerland's); FLamby
keeps it as a number, and so does this, for comparability.
"""

from __future__ import annotations

import csv
from importlib.resources import files
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from protocols.task import Feature, Scaling, SiteData, Task

__all__ = ["load"]

Matrix: TypeAlias = NDArray[np.float64]

SITES = {
    "cleveland": ("Cleveland Clinic", "Cleveland"),
    "hungary": ("Hungarian Institute of Cardiology", "Hungary"),
    "switzerland": ("University Hospitals Zurich and Basel", "Switzerland"),
    "va": ("V.A. Medical Center Long Beach", "V.A."),
}
COLUMNS = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak")
CATEGORICAL = {"cp": (2, 3, 4), "restecg": (1, 2)}  # levels after the first
YES_NO = (0.0, 1.0)
FEATURES = (
    Feature("age (years)", 1.0),
    Feature("male", 1.0, YES_NO),
    Feature("resting blood pressure (mmHg)", 1.0),
    Feature("cholesterol (mg/dl)", 1.0),
    Feature("fasting blood sugar > 120 mg/dl", 1.0, YES_NO),
    Feature("maximum heart rate", 1.0),
    Feature("exercise-induced angina", 1.0, YES_NO),
    Feature("ST depression (mm)", 0.1),
    Feature("chest pain: atypical angina", 1.0, YES_NO),
    Feature("chest pain: non-anginal", 1.0, YES_NO),
    Feature("chest pain: none", 1.0, YES_NO),
    Feature("resting ECG: ST-T abnormality", 1.0, YES_NO),
    Feature("resting ECG: hypertrophy", 1.0, YES_NO),
)
PUBLIC_SCALING = Scaling(
    np.array([55, 0.5, 130, 200, 0.5, 150, 0.5, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5]),
    np.array([10, 0.5, 20, 50, 0.5, 25, 0.5, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5]),
)
"""Round numbers for adults in a cardiology ward, in the order of FEATURES; a yes/no becomes -1 or 1."""
SOURCE = (
    "Heart Disease, Janosi, Steinbrunn, Pfisterer and Detrano 1989, UCI Machine Learning Repository, "
    "doi:10.24432/C52P4X, CC BY 4.0: public records without names"
)
TRAIN_SHARE, SPLIT_SEED, FEWEST_PER_LABEL = 0.66, 43, 2
PUBLISHED = {
    "Pooled data": ".795",
    "FedAvg": ".748 ± .027",
    "FedAdam": ".779",
    "Cleveland alone": ".784",
    "Hungary alone": ".727",
    "Switzerland alone": ".483",
    "V.A. alone": ".611",
}


def load() -> Task:
    """Read the packaged table and prepare every hospital."""
    splits = {name: _split(*_read(name)) for name in SITES}
    sites = tuple(_site(name, *SITES[name], split) for name, split in splits.items())
    together = tuple(np.concatenate([split[part] for split in splits.values()]) for part in range(4))
    return Task(
        name="heart",
        title="Heart disease from 13 clinical findings",
        features=FEATURES,
        sites=sites,
        pooled=_site("pooled", "All four hospitals", "All", together),
        expected_patients=500,
        public_scaling=PUBLIC_SCALING,
        published=PUBLISHED,
        published_source="FLamby, Ogier du Terrail et al. 2022",
        data_source=SOURCE,
    )


def _read(site: str) -> tuple[Matrix, Matrix]:
    """Return (patients, 13) float64 features and (patients,) labels of a hospital's complete rows."""
    table = files("protocols.tasks").joinpath("data", "heart_disease_uci.csv").read_text()
    rows = [row for row in csv.DictReader(table.splitlines()) if row["site"] == site and all(row[c] for c in COLUMNS)]
    columns = [[float(row[name]) for row in rows] for name in COLUMNS if name not in CATEGORICAL]
    for name, levels in CATEGORICAL.items():
        columns += [[float(int(row[name]) == level) for row in rows] for level in levels]
    return np.array(columns).T, np.array([float(int(row["num"]) > 0) for row in rows])


def _split(x: Matrix, y: Matrix) -> tuple[Matrix, ...]:
    """Split into train and test patients, kept in the order of the table."""
    stratify = y if min(np.bincount(y.astype(int), minlength=2)) > FEWEST_PER_LABEL else None
    train, test = train_test_split(
        np.arange(len(y)),
        train_size=TRAIN_SHARE,
        test_size=1.0 - TRAIN_SHARE,
        random_state=SPLIT_SEED,
        stratify=stratify,
    )
    train, test = np.sort(train), np.sort(test)
    return x[train], y[train], x[test], y[test]


def _site(name: str, title: str, short: str, split: tuple[Matrix, ...]) -> SiteData:
    train_x, train_y, test_x, test_y = split
    scaling = Scaling.of(train_x)
    return SiteData(
        name=name,
        title=title,
        short=short,
        train_x=scaling.apply(train_x),
        train_y=train_y.astype(np.float32),
        test_x=scaling.apply(test_x),
        test_y=test_y.astype(np.float32),
        scaling=scaling,
    )

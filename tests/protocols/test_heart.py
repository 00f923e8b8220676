"""The packaged data: UCI's own numbers, and FLamby's preparation of them."""

import csv
import os
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from protocols.task import Scaling
from protocols.tasks import load_task

HEART = load_task("heart")
TABLE = files("protocols.tasks").joinpath("data", "heart_disease_uci.csv")


def test_the_table_equals_uci_cell_by_cell() -> None:
    folder = os.environ.get("SECAGG_DATA")
    if not folder:
        pytest.skip("SECAGG_DATA does not name a folder with the original files")
    with Path(folder, "heart_uci_4sites", "heart_uci_4sites.csv").open() as file:
        original = list(csv.DictReader(file))
    ours = list(csv.DictReader(TABLE.read_text().splitlines()))
    assert len(ours) == len(original) == 920
    for mine, theirs in zip(ours, original, strict=True):
        assert mine["site"] == theirs["site"]
        for column in mine:
            if column != "site":
                missing = theirs[column] in {"", "?"}
                assert (mine[column] == "") == missing
                assert missing or float(mine[column]) == float(theirs[column])


def test_the_table_holds_four_hospitals_with_ucis_numbers_of_patients_and_disease() -> None:
    rows = list(csv.DictReader(TABLE.read_text().splitlines()))
    sites = [row["site"] for row in rows]
    assert {site: sites.count(site) for site in sites} == {
        "cleveland": 303,
        "hungary": 294,
        "switzerland": 123,
        "va": 200,
    }
    ill = {site: sum(row["site"] == site and row["num"] != "0" for row in rows) for site in set(sites)}
    assert ill == {"cleveland": 139, "hungary": 106, "switzerland": 115, "va": 149}
    assert all(row["chol"] == "0" for row in rows if row["site"] == "switzerland")


def test_attribution_lies_beside_the_table() -> None:
    text = files("protocols.tasks").joinpath("data", "ATTRIBUTION.md").read_text()
    assert "CC BY 4.0" in text
    for name in ("Detrano", "Janosi", "Steinbrunn", "Pfisterer"):
        assert name in text


def test_preparation_gives_the_published_numbers_of_patients() -> None:
    sizes = {site.name: (len(site.train_y), len(site.test_y)) for site in HEART.sites}
    assert sizes == {"cleveland": (199, 104), "hungary": (172, 89), "switzerland": (30, 16), "va": (85, 45)}
    assert (len(HEART.pooled.train_y), len(HEART.pooled.test_y)) == (486, 254)


def test_each_hospital_standardises_by_its_own_training_patients() -> None:
    for site in (*HEART.sites, HEART.pooled):
        assert site.train_x.shape[1] == len(HEART.features) == 13
        assert np.abs(site.train_x.mean(axis=0)).max() < 1e-5
        spread = site.train_x.std(axis=0, ddof=1)
        assert np.all((np.abs(spread - 1) < 1e-5) | (spread < 1e-6))
    switzerland = HEART.site("switzerland")
    assert not switzerland.train_x[:, 3].any()  # cholesterol: always 0, hence constant


def test_features_are_recorded_in_their_units_and_dummies_are_exclusive() -> None:
    for site in HEART.sites:
        raw = site.scaling.undo(np.concatenate([site.train_x, site.test_x]).astype(np.float64))
        for column, feature in zip(raw.T, HEART.features, strict=True):
            in_units = column / feature.resolution
            assert np.abs(in_units - np.rint(in_units)).max() < 1e-2
            if feature.values:
                assert set(np.rint(column)) <= set(feature.values)
        assert (raw[:, 8:11].sum(axis=1) < 1.01).all()
        assert (raw[:, 11:13].sum(axis=1) < 1.01).all()


def test_scaling_undoes_itself() -> None:
    x = np.array([[1.0, 5.0, 7.0], [2.0, 5.0, -7.0], [4.0, 5.0, 0.5]])
    scaling = Scaling.of(x)
    assert np.allclose(scaling.undo(scaling.apply(x).astype(np.float64)), x, atol=1e-5)


def test_unknown_tasks_and_sites_say_what_there_is() -> None:
    with pytest.raises(KeyError, match="heart"):
        load_task("lungs")
    with pytest.raises(KeyError, match="cleveland, hungary"):
        HEART.site("zurich")

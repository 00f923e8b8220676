"""Inversion of tables: columns there and back, and records recovered well beyond every prior."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attacks.inversion.gradients import gradients
from attacks.inversion.tabular import invert_table
from attacks.metrics import best_prior, prior_guesses, skill, tolerance_matches
from attacks.tables import columns_of, decode, encode
from protocols.models import make_model
from protocols.tasks import load_task

HEART = load_task("heart")
SITE = HEART.site("hungary")
COLUMNS = columns_of(HEART.features, SITE.scaling, dummies=[(8, 9, 10), (11, 12)])


def test_the_heart_task_has_ten_columns_of_which_five_are_numbers() -> None:
    assert [column.positions for column in COLUMNS] == [(i,) for i in range(8)] + [(8, 9, 10), (11, 12)]
    assert [None if column.levels is None else len(column.levels) for column in COLUMNS] == [
        None, 2, None, None, 2, None, 2, None, 4, 3,
    ]  # fmt: skip


def test_every_patient_survives_decoding_and_encoding() -> None:
    x = SITE.train_x.astype(np.float64)
    assert np.abs(encode(decode(x, COLUMNS), COLUMNS) - x).max() < 1e-5


@given(st.data())
def test_decoding_undoes_encoding(data: st.DataObject) -> None:
    row = [
        data.draw(st.floats(-3, 3))
        if column.levels is None
        else float(data.draw(st.integers(0, len(column.levels) - 1)))
        for column in COLUMNS
    ]
    table = np.array([row])
    assert decode(encode(table, COLUMNS), COLUMNS) == pytest.approx(table)


def test_patients_are_recovered_from_their_gradient_far_beyond_the_best_prior() -> None:
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    labels = SITE.train_y.astype(np.int64)
    chosen = rng.choice(len(labels), 3, replace=False)
    rest = np.setdiff1d(np.arange(len(labels)), chosen)
    model = make_model("mlp", 13, generator=generator)
    seen = gradients(model, torch.from_numpy(SITE.train_x[chosen]), torch.from_numpy(labels[chosen]))
    found = invert_table(
        model, seen, labels[chosen], COLUMNS, generator=generator, starts=8, iterations=160, learning_rate=0.2
    )
    categorical = np.array([column.levels is not None for column in COLUMNS])
    tolerance = np.where(categorical, 0.5, 0.319)
    truth = decode(SITE.train_x[chosen].astype(np.float64), COLUMNS)
    both = (labels[chosen], labels[chosen])
    others = decode(SITE.train_x[rest].astype(np.float64), COLUMNS), labels[rest]
    priors = [
        prior_guesses(others, labels[chosen], categorical=categorical, tolerance=tolerance, rng=rng) for _ in range(20)
    ]
    scores = {
        name: [
            float(tolerance_matches(truth, prior[name], tolerance=tolerance, labels=both).mean()) for prior in priors
        ]
        for name in priors[0]
    }
    attack = float(tolerance_matches(truth, found.table, tolerance=tolerance, labels=both).mean())
    assert skill(attack, best_prior(scores)[1]) > 0.7
    assert np.abs(decode(found.inputs, COLUMNS) - found.table).max() < 1e-9
    assert found.agreement.shape == found.table.shape
    assert ((found.agreement >= 0) & (found.agreement <= 1)).all()


def test_another_batches_gradient_gives_nothing_about_this_one() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = SITE.train_y.astype(np.int64)
    chosen = np.flatnonzero(labels == 1)[:4]
    model = make_model("mlp", 13, generator=generator)
    seen = gradients(model, torch.from_numpy(SITE.train_x[chosen[:2]]), torch.from_numpy(labels[chosen[:2]]))
    found = invert_table(model, seen, labels[chosen[2:]], COLUMNS, generator=generator, starts=4, iterations=60)
    truth = decode(SITE.train_x[chosen[2:]].astype(np.float64), COLUMNS)
    tolerance = np.array([0.319 if column.levels is None else 0.5 for column in COLUMNS])
    assert tolerance_matches(truth, found.table, tolerance=tolerance).mean() < 0.85
    assert not tolerance_matches(truth, found.table, tolerance=tolerance).all(axis=1).any()

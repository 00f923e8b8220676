"""Inversion of time series: recovered beyond the class mean, which is what public series alone give."""

import numpy as np
import pytest
import torch

from attacks.datasets import waves
from attacks.inversion.gradients import gradients
from attacks.inversion.time_series import invert_series
from attacks.metrics import mse
from attacks.models import make_lstm

WAVES = waves(300, steps=16, rng=np.random.default_rng(0))


def test_a_series_is_recovered_beyond_the_mean_of_its_class() -> None:
    generator = torch.Generator().manual_seed(1)
    model = make_lstm(1, 16, 2, generator=generator)
    x, y = WAVES.x[[1]], WAVES.y[[1]]
    public, labels = WAVES.x[2:], WAVES.y[2:]
    seen = tuple(g.detach() for g in gradients(model, torch.from_numpy(x), torch.from_numpy(y)))
    found = invert_series(model, seen, y, shape=(1, 16, 1), public=public, generator=generator, iterations=120)
    truth = x.astype(np.float64)
    prior = public[labels == y[0]].mean(axis=0, keepdims=True).astype(np.float64)
    assert mse(truth, found.inputs)[0] < 0.2 * mse(truth, prior)[0]


def test_without_public_series_the_gradient_is_matched_by_many() -> None:
    generator = torch.Generator().manual_seed(0)
    model = make_lstm(1, 16, 2, generator=generator)
    x, y = WAVES.x[[0]], WAVES.y[[0]]
    seen = tuple(g.detach() for g in gradients(model, torch.from_numpy(x), torch.from_numpy(y)))
    found = invert_series(model, seen, y, shape=(1, 16, 1), generator=generator, iterations=60)
    assert found.inputs.shape == (1, 16, 1)
    assert found.distance < 0.05
    with pytest.raises(ValueError, match="at least one start"):
        invert_series(model, seen, y, shape=(1, 16, 1), generator=generator, restarts=0)

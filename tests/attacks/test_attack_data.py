"""Models and data to attack: their shapes, and that a generator decides every weight."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from attacks.datasets import digits, heartbeats, images, pneumonia, waves
from attacks.models import make_convnet, make_lstm, make_mlp

DATA = os.environ.get("SECAGG_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="SECAGG_DATA names no folder of data")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_convnet_has_about_240000_weights() -> None:
    model = make_convnet(3, 10, generator=generator())
    assert sum(p.numel() for p in model.parameters()) == 242_122
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_every_model_returns_logits_and_takes_all_weights_from_its_generator() -> None:
    before = torch.get_rng_state()
    for make, shape in (
        (lambda g: make_mlp(64, [16, 8], 3, generator=g), (2, 1, 8, 8)),
        (lambda g: make_convnet(1, 3, width=4, generator=g), (2, 1, 12, 12)),
        (lambda g: make_lstm(1, 8, 3, generator=g), (2, 5, 1)),
    ):
        first, again, other = (make(generator(seed)) for seed in (1, 1, 2))
        assert first(torch.zeros(shape)).shape == (2, 3)
        for name, weight in first.named_parameters():
            assert torch.equal(weight, dict(again.named_parameters())[name])
            assert not torch.equal(weight, dict(other.named_parameters())[name])
    assert torch.equal(torch.get_rng_state(), before)


def test_digits_are_what_there_is_without_a_folder(tmp_path: Path) -> None:
    for found in (images(None), images(tmp_path), digits()):
        assert (found.name, found.x.shape, found.classes) == ("digits", (1797, 1, 8, 8), 10)
        assert (found.x.min(), found.x.max()) == (0, 1)


def test_waves_are_standardised_and_their_label_is_the_size_of_the_echo() -> None:
    found = waves(400, steps=32, rng=np.random.default_rng(0))
    assert found.x.shape == (400, 32, 1)
    assert abs(float(found.x.mean())) < 1e-5
    assert float(found.x.std()) == pytest.approx(1.0, abs=1e-5)
    late = found.x[:, 16:, 0].max(axis=1)
    assert late[found.y == 1].mean() > late[found.y == 0].mean() + 0.5


@needs_data
def test_medical_examples_load_from_a_folder() -> None:
    assert DATA is not None
    xrays, beats = pneumonia(Path(DATA)), heartbeats(Path(DATA))
    assert (xrays.x.shape, xrays.classes, int(xrays.y.sum())) == ((4708, 1, 28, 28), 2, 3494)
    assert images(Path(DATA)).name == xrays.name
    assert (beats.x.shape, int((beats.y == 0).sum())) == ((500, 140, 1), 292)

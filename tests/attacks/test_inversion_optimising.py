"""Inversion by optimisation: guesses whose training changes what was seen are the records, and know it when not."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from attacks.datasets import digits
from attacks.inversion.dlg import deep_leakage
from attacks.inversion.gradients import (
    Inversion,
    LocalSteps,
    Tensors,
    as_gradients,
    best_of,
    cosine_distance,
    gradients,
    loss_of,
    squared_distance,
)
from attacks.inversion.inverting_gradients import invert_gradients
from attacks.metrics import match_images, psnr
from attacks.models import make_convnet, make_mlp
from protocols.institution import one_thread
from secagg import Layout

DIGITS = digits()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def smooth_model(seed: int) -> torch.nn.Module:
    model = make_mlp(64, [48, 32], 10, generator=torch.Generator().manual_seed(seed))
    return torch.nn.Sequential(*(torch.nn.Tanh() if isinstance(m, torch.nn.ReLU) else m for m in model)).double()


def detached(seen: Tensors) -> Tensors:
    return tuple(g.detach() for g in seen)


def images(chosen: list[int]) -> tuple[torch.Tensor, NDArray[np.int64]]:
    return torch.from_numpy(DIGITS.x[chosen]), DIGITS.y[chosen]


def test_gradients_of_one_step_are_autograds() -> None:
    model = make_convnet(1, 2, width=4, generator=torch.Generator().manual_seed(0))
    x, y = torch.rand((3, 1, 12, 12), generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 1])
    loss_of(model(x), y).backward()  # type: ignore[no-untyped-call]
    for ours, parameter in zip(gradients(model, x, y), model.parameters(), strict=True):
        assert parameter.grad is not None
        assert torch.allclose(ours, parameter.grad)


@pytest.mark.parametrize("classes", [1, 10])
def test_unrolled_local_steps_are_the_optimizers(classes: int) -> None:
    model = make_mlp(64, [16], classes, generator=torch.Generator().manual_seed(0)).double()
    x, y = torch.from_numpy(DIGITS.x[:5]).double(), torch.from_numpy(DIGITS.y[:5]) % max(classes, 2)
    local = LocalSteps(batch_size=2, epochs=2, learning_rate=0.3)
    guess = gradients(model, x, y, local=local)
    layout = Layout.of(model.state_dict())
    start = layout.flatten(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(2):
        for batch in (slice(0, 2), slice(2, 4), slice(4, 5)):
            optimizer.zero_grad()
            loss_of(model(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    update = layout.flatten(model.state_dict()) - start
    for ours, theirs in zip(guess, as_gradients(model, layout, update, learning_rate=0.3), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_distances_vanish_at_the_truth_and_the_cosine_is_blind_to_scale() -> None:
    seen = (torch.tensor([1.0, 2.0]), torch.tensor([[-1.0]]))
    double = tuple(2 * g for g in seen)
    assert float(squared_distance(seen, seen)) == 0
    assert float(squared_distance(double, seen)) == pytest.approx(1.0)
    assert float(cosine_distance(double, seen)) == pytest.approx(0.0, abs=1e-6)
    assert float(cosine_distance(tuple(-g for g in seen), seen)) == pytest.approx(2.0)


def test_the_best_start_is_returned_and_never_one_that_is_not_a_number() -> None:
    distances = iter([float("nan"), 0.5, 0.2, 0.9])
    found = best_of(4, lambda: Inversion(np.zeros(1), np.zeros(1, dtype=np.int64), next(distances)))
    assert found.distance == 0.2
    with pytest.raises(ValueError, match="at least one start"):
        best_of(0, lambda: found)


def test_deep_leakage_finds_a_digit_to_the_pixel_with_and_without_its_label() -> None:
    model = smooth_model(0)
    x, y = images([7])
    seen = detached(gradients(model, x.double(), torch.from_numpy(y)))
    for labels in (y, None):
        found = deep_leakage(
            model, seen, labels, shape=(1, 1, 8, 8), classes=10, generator=torch.Generator().manual_seed(1)
        )
        assert found.labels.tolist() == y.tolist()
        assert psnr(x.numpy().astype(np.float64), found.inputs)[0] > 40
        assert found.distance < 1e-6


def test_deep_leakage_finds_two_digits_of_known_labels() -> None:
    model = smooth_model(1)
    x, y = images([3, 4])
    seen = detached(gradients(model, x.double(), torch.from_numpy(y)))
    generator = torch.Generator().manual_seed(2)
    found = deep_leakage(model, seen, y, shape=(2, 1, 8, 8), classes=10, generator=generator)
    truth = x.numpy().astype(np.float64)
    assert psnr(truth, match_images(truth, found.inputs)).min() > 30


def test_inverting_gradients_recovers_an_image_through_convolutions() -> None:
    model = make_convnet(1, 2, width=16, generator=torch.Generator().manual_seed(0))
    across, down = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 24))
    image = (np.exp(-4 * ((across - 0.3) ** 2 + down**2)) * (down > -0.5))[None, None].astype(np.float32)
    y = np.array([1])
    seen = detached(gradients(model, torch.from_numpy(image), torch.from_numpy(y)))
    generator = torch.Generator().manual_seed(3)
    found = invert_gradients(model, seen, y, shape=(1, 1, 24, 24), generator=generator, iterations=200)
    truth = image.astype(np.float64)
    assert psnr(truth, found.inputs)[0] > 15
    assert psnr(truth, np.full_like(truth, truth.mean()))[0] < 13  # the best guess of one grey
    assert found.inputs.min() >= 0
    assert found.inputs.max() <= 1


def test_knowing_the_local_steps_is_what_inverts_an_update_of_several() -> None:
    model = smooth_model(4)
    x, y = images([20, 21])
    local = LocalSteps(batch_size=1, epochs=2, learning_rate=1.0)
    seen = detached(gradients(model, x.double(), torch.from_numpy(y), local=local))
    truth = x.numpy().astype(np.float64)
    scores = []
    for known in (local, None):
        generator = torch.Generator().manual_seed(5)
        found = invert_gradients(
            model, seen, y, shape=(2, 1, 8, 8), generator=generator, local=known, variation=1e-4, iterations=120
        )
        scores.append((float(psnr(truth, found.inputs).mean()), found.distance))
    assert scores[0][0] > scores[1][0] + 5
    assert scores[0][1] < scores[1][1] / 10

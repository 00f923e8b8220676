"""Defences do what they are called, as pure functions, and the sum is what the server sees of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attacks.defences import DEFENCES, Defence, clipped, noisy, pruned, quantised, seen, signs, unchanged

UPDATES = arrays(np.float64, st.integers(1, 40), elements=st.floats(-10, 10))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(UPDATES, st.floats(0.1, 20))
def test_clipping_bounds_the_norm_and_keeps_the_direction(update: np.ndarray, norm: float) -> None:
    sent = clipped(norm)(update, rng())
    assert np.linalg.norm(sent) <= norm * (1 + 1e-9)
    if np.linalg.norm(update) <= norm:
        np.testing.assert_array_equal(sent, update)
    np.testing.assert_allclose(sent * np.linalg.norm(update), update * np.linalg.norm(sent), atol=1e-9)


@given(UPDATES, st.integers(2, 20))
def test_quantising_moves_a_coordinate_by_less_than_a_step_onto_a_level(update: np.ndarray, bits: int) -> None:
    sent = quantised(bits)(update, rng())
    largest, steps = np.abs(update).max(), (1 << (bits - 1)) - 1
    assert (np.abs(sent - update) <= largest / steps * (1 + 1e-6)).all()
    if largest > 1e-200:
        levels = sent / (largest / steps)
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-6)


def test_quantising_is_unbiased() -> None:
    update = np.array([1.0, 0.3, -0.05, 0.0])
    source = rng()
    mean = np.mean([quantised(3)(update, source) for _ in range(20_000)], axis=0)
    np.testing.assert_allclose(mean, update, atol=0.01)


@given(UPDATES, st.floats(0.05, 1))
def test_pruning_keeps_the_largest_coordinates_as_they_are(update: np.ndarray, share: float) -> None:
    sent = pruned(share)(update, rng())
    kept = sent == update
    assert kept.sum() >= max(1, round(share * len(update)))
    if not kept.all():
        assert (sent[~kept] == 0).all()
        assert np.abs(update[~kept]).max() <= np.abs(update[kept]).max()


def test_pruning_drops_all_but_the_share() -> None:
    update = rng().normal(size=1000)
    assert np.count_nonzero(pruned(0.1)(update, rng())) == 100


def test_noise_of_all_clients_together_has_the_multiplier_times_the_norm() -> None:
    protect = noisy(2.0, noise_multiplier=0.5, clients=16)
    source = rng()
    total = np.sum([protect(np.zeros(20_000), source) for _ in range(16)], axis=0)
    assert total.std() == pytest.approx(1.0, rel=0.03)
    assert np.linalg.norm(noisy(2.0, noise_multiplier=0.0, clients=1)(np.full(100, 9.0), source)) == pytest.approx(2.0)


def test_signs_are_all_that_is_left() -> None:
    assert signs(np.array([3.0, -1.0, 0.0]), rng()).tolist() == pytest.approx([4 / 3, -4 / 3, 0.0])


def test_the_server_sees_the_sum_or_every_update() -> None:
    updates = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
    apart = Defence(name="apart", protect=unchanged, secure_sum=False)
    together = Defence(name="together", protect=clipped(1e9))
    assert [view.tolist() for view in seen(apart, updates, rng())] == [[1, 2], [3, 4]]
    assert [view.tolist() for view in seen(together, updates, rng())] == [[4, 6]]


@pytest.mark.parametrize("defence", DEFENCES, ids=lambda defence: defence.name)
def test_a_defence_is_a_pure_function_of_update_and_generator(defence: Defence) -> None:
    update = rng(1).normal(size=200)
    before = update.copy()
    first, second = (defence.protect(update, rng(2)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(update, before)
    assert first.shape == update.shape


def test_names_are_unique() -> None:
    assert len({defence.name for defence in DEFENCES}) == len(DEFENCES)

"""Canaries: their coins, their room, and that a score is about its own canary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.auditing import ClientCanaries, GradientCanaries, InputCanaries

SEEDS = st.integers(0, 10_000)


@given(SEEDS, st.integers(1, 20), st.floats(0.1, 10))
def test_gradient_canaries_of_a_sum_score_their_norm_or_nothing(seed: int, count: int, norm: float) -> None:
    canaries = GradientCanaries.draw(count, dimension=10 * count, norm=norm, rng=np.random.default_rng(seed))
    np.testing.assert_allclose(canaries.scores(canaries.total()), norm * canaries.included)
    np.testing.assert_allclose(canaries.vectors().sum(axis=0), canaries.total())
    np.testing.assert_allclose(np.linalg.norm(canaries.vectors(), axis=1), norm)


@given(SEEDS, st.integers(1, 20), st.floats(0.1, 10))
def test_client_canaries_are_of_the_norm_and_taken_by_their_coins(seed: int, count: int, norm: float) -> None:
    canaries = ClientCanaries.draw(count, dimension=10 * count, norm=norm, rng=np.random.default_rng(seed))
    assert canaries.vectors().shape == (canaries.included.sum(), 10 * count)
    np.testing.assert_allclose(np.linalg.norm(canaries.directions, axis=1), 1.0)
    np.testing.assert_allclose(canaries.vectors().sum(axis=0), canaries.total())
    np.testing.assert_allclose(canaries.scores(canaries.directions[0])[0], 1.0)


def test_client_canaries_hardly_disturb_each_other() -> None:
    canaries = ClientCanaries.draw(50, dimension=5_000, norm=1.0, rng=np.random.default_rng(0))
    scores = canaries.scores(canaries.total())
    assert scores[canaries.included].min() > 0.6
    assert scores[~canaries.included].max() < 0.4


@pytest.mark.parametrize("kind", [GradientCanaries, ClientCanaries])
@pytest.mark.parametrize(("count", "dimension"), [(11, 109), (0, 100)])
def test_canaries_without_room_are_refused(
    kind: type[GradientCanaries | ClientCanaries], count: int, dimension: int
) -> None:
    with pytest.raises(ValueError, match=f"need {10 * count} coordinates"):
        kind.draw(count, dimension=dimension, norm=1.0, rng=np.random.default_rng())


def test_coins_are_fair_and_positions_all_different() -> None:
    canaries = GradientCanaries.draw(10_000, dimension=100_000, norm=1.0, rng=np.random.default_rng(1))
    assert abs(canaries.included.mean() - 0.5) < 0.02
    assert len(np.unique(canaries.positions)) == 10_000
    assert abs(canaries.signs.mean()) < 0.04


@given(SEEDS, st.integers(2, 6))
def test_input_canaries_have_a_wrong_label_and_others_keep_theirs(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(30, 2)).astype(np.float32), rng.integers(0, classes, 30)
    canaries = InputCanaries.draw(x, y, 10, classes=classes, rng=rng)
    others = np.setdiff1d(np.arange(30), canaries.positions)
    assert len(others) == 20
    assert (canaries.y[canaries.positions] != y[canaries.positions]).all()
    assert set(canaries.y) <= set(range(classes))
    np.testing.assert_array_equal(canaries.y[others], y[others])
    assert canaries.members()[others].all()
    np.testing.assert_array_equal(canaries.members()[canaries.positions], canaries.included)
    np.testing.assert_array_equal(canaries.scores(np.arange(30.0)), canaries.positions)

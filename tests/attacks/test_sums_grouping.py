"""SRATTA: samples and their clients out of summed updates; the laws its steps rest on, and a whole training."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.datasets import digits
from attacks.malicious.client import flat, local_training, moved, parts
from attacks.models import make_mlp
from attacks.sums.secure import secure_sum
from attacks.sums.sratta import SummedRound, explained, group_samples, on_grid, recover_samples

DIGITS = digits()
X, Y = DIGITS.x.reshape(len(DIGITS.x), -1).astype(np.float64), DIGITS.y


@given(st.integers(1, 4), st.integers(0, 1_000))
@settings(max_examples=25)
def test_a_units_change_is_explained_by_the_samples_it_is_made_of(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, 17, size=(30, 64)) / 16
    chosen = np.sort(rng.choice(30, count, replace=False))
    coefficients = rng.choice([-1, 1], count) * rng.uniform(0.5, 2, count)
    change = coefficients @ np.concatenate([samples[chosen], np.ones((count, 1))], axis=1)
    unrelated = rng.normal(size=65)
    first, second, third = explained(np.stack([change, unrelated, np.zeros(65)]), samples)
    assert first.tolist() == chosen.tolist()
    assert not len(second)
    assert not len(third)


def test_the_prior_knows_recorded_values_from_mixtures() -> None:
    prior = on_grid(16)
    candidates = np.stack([X[0], X[1], (X[0] + X[1]) / 2.1, X[0] * 1.2 + 1 / 16, np.zeros(64)])
    assert prior(candidates).tolist() == [True, True, False, False, False]


def test_a_unit_that_went_on_during_training_joins_two_samples_of_one_client() -> None:
    samples = X[:3]
    weight, bias = np.stack([samples[0]]), np.array([-float(samples[0] @ samples[0]) + 0.5])
    was_on = samples @ weight.T + bias > 0
    assert was_on[:, 0].tolist() == [True, False, False]
    moved_by = np.concatenate([samples[:2], np.ones((2, 1))], axis=1)
    change = 0.5 * moved_by[0] + 0.2 * moved_by[1]
    only = SummedRound(weight, bias, change[None, :64], change[64:])
    assert sorted(map(sorted, group_samples([only], samples))) == [[0, 1], [2]]
    alone = SummedRound(weight, bias, 0.5 * moved_by[:1, :64], 0.5 * moved_by[:1, 64])
    assert len(group_samples([alone], samples)) == 3


def train(seed: int, *, masking: str = "masking") -> tuple[list[SummedRound], np.ndarray]:
    clients, each, rng = 3, 12, np.random.default_rng(seed)
    held = rng.permutation(len(X))[: clients * each].reshape(clients, each)
    _, *layers = make_mlp(64, [400], 10, generator=torch.Generator().manual_seed(seed))
    model, rounds = torch.nn.Sequential(*layers), []
    for _ in range(12):
        updates = {
            str(client): local_training(model, X[own], Y[own], steps=5, batch=8, learning_rate=1.0, rng=rng)
            for client, own in enumerate(held)
        }
        total = secure_sum(updates, clip=4.0, masking=masking)  # type: ignore[arg-type]
        before, change = parts(flat(model), model), parts(total, model)
        rounds.append(SummedRound(before["0.weight"], before["0.bias"], change["0.weight"], change["0.bias"]))
        moved(model, total / clients)
    return rounds, held


@pytest.mark.parametrize("masking", ["plain", "masking"])
def test_masks_hide_neither_samples_nor_whose_they_are(masking: str) -> None:
    rounds, held = train(0, masking=masking)
    samples = recover_samples(rounds, on_grid(16))
    distance = np.abs(samples[:, None] - X[held.ravel()]).max(axis=2)
    assert len(samples) > held.size / 4
    assert distance.min(axis=1).max() < 0.01  # the prior lets no mixture pass
    owner = distance.argmin(axis=1) // held.shape[1]
    groups = [group for group in group_samples(rounds, samples) if len(group) > 1]
    pairs = [owner[a] == owner[b] for group in groups for a in group for b in group if a < b]
    assert len(pairs) >= 5
    assert np.mean(pairs) > 0.9  # a third if guessed


def test_nothing_is_recovered_from_rounds_without_updates() -> None:
    silent = SummedRound(np.ones((5, 64)), np.ones(5), np.zeros((5, 64)), np.zeros(5))
    assert recover_samples([silent], on_grid(16)).shape == (0, 64)
    assert group_samples([silent], np.zeros((0, 64))) == []

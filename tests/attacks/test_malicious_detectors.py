"""Detectors stay silent on honest models and stop the plain attacks; what disguise buys, and what it costs."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from attacks.datasets import digits
from attacks.malicious.client import gradient, local_training, moved, parts
from attacks.malicious.detectors import alarms, parallel_responses, parallel_rows, quiet_units, unequal_gradients
from attacks.malicious.evasion import disguised, hidden_among_honest, isotropic, trapped, traps, unseen
from attacks.malicious.fishing import fish_class, fish_feature
from attacks.malicious.imprint import Imprint, imprint, recover
from attacks.malicious.inconsistent import suppressed
from attacks.malicious.score import recovered_share
from attacks.models import make_mlp

DIGITS = digits()
X, Y = DIGITS.x.reshape(len(DIGITS.x), -1).astype(np.float64), DIGITS.y
ORDER = np.random.default_rng(0).permutation(len(X))
PRIVATE, OWN, PUBLIC = ORDER[:128], ORDER[:64], X[ORDER[128:]]
CENTRE = PUBLIC.mean(axis=0)
UNITS = 256


def honest(units: int, steps: int = 0, seed: int = 0) -> torch.nn.Sequential:
    _, *layers = make_mlp(64, [units], 10, generator=torch.Generator().manual_seed(seed))
    model = torch.nn.Sequential(*layers)
    if steps:
        rng = np.random.default_rng(seed)
        held = ORDER[128:]
        moved(model, local_training(model, X[held], Y[held], steps=steps, batch=64, learning_rate=0.1, rng=rng))
    return model


def total(model: torch.nn.Module) -> NDArray[np.float64]:
    updates = [gradient(model, X[each], Y[each]) for each in np.split(PRIVATE, 4)]
    summed: NDArray[np.float64] = np.sum(updates, axis=0)
    return summed


def raised(model: torch.nn.Sequential, held: NDArray[np.int64] = OWN) -> set[str]:
    return set(alarms(model, X[held], Y[held]))


def plain_imprint(seed: int = 0) -> Imprint:
    return imprint(PUBLIC, bins=UNITS, classes=10, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("units", [32, 256])
@pytest.mark.parametrize("steps", [0, 50, 600])
def test_honest_models_raise_no_alarm(units: int, steps: int) -> None:
    for seed in range(2):
        assert raised(honest(units, steps, seed)) == set()


def test_every_plain_attack_raises_the_alarm_made_for_it() -> None:
    rng = np.random.default_rng(0)
    threes = rng.permutation(np.flatnonzero(Y == 3))
    assert {"parallel rows", "parallel responses"} <= raised(plain_imprint().model)
    assert "idle inputs" in raised(fish_class(honest(64), 3))
    assert {"idle inputs", "quiet units", "unequal gradients"} == raised(suppressed(honest(64)))
    assert raised(traps(PUBLIC, units=UNITS, classes=10, inputs=128, rng=rng)) >= {"quiet units"}
    caught_one = fish_feature(honest(64), 3, X[threes[64:]], inputs=64)
    scores = unequal_gradients(caught_one, X[threes[:64]], Y[threes[:64]])
    assert scores > 0.9 or scores == 0  # a few inputs are all of the gradient, or this draw caught none


def test_scaling_and_permuting_rows_changes_nothing_for_either_side() -> None:
    attack = plain_imprint()
    scaled = disguised(attack, np.zeros((UNITS, 64)), CENTRE, np.random.default_rng(1))
    assert recovered_share(X[PRIVATE], recover(scaled, total(scaled.model), batch=32)) == pytest.approx(
        recovered_share(X[PRIVATE], recover(attack, total(attack.model), batch=32)), abs=0.02
    )
    lengths = np.linalg.norm(parts_of(scaled.model), axis=1)
    assert lengths.max() > 10 * lengths.min()
    assert parallel_rows(scaled.model, X[OWN], Y[OWN]) == 1.0


def parts_of(model: torch.nn.Sequential) -> NDArray[np.float64]:
    weight: NDArray[np.float64] = next(model.parameters()).detach().double().numpy()
    return weight


def test_noise_in_all_rows_that_hides_them_ruins_the_bins() -> None:
    noisy = disguised(
        plain_imprint(), isotropic((UNITS, 64), 1.0, np.random.default_rng(2)), CENTRE, np.random.default_rng(3)
    )
    assert parallel_rows(noisy.model, X[OWN], Y[OWN]) < 0.05
    assert recovered_share(X[PRIVATE], recover(noisy, total(noisy.model), batch=32)) < 0.05


def test_noise_where_data_do_not_vary_hides_rows_but_not_responses() -> None:
    rng = np.random.default_rng(4)
    attack = disguised(plain_imprint(), unseen(PUBLIC, UNITS, 1.0, rng, dimensions=8), CENTRE, rng)
    assert parallel_rows(attack.model, X[OWN], Y[OWN]) <= 0.02  # the detector of weights is passed
    assert recovered_share(X[PRIVATE], recover(attack, total(attack.model), batch=32)) > 0.3
    assert parallel_responses(attack.model, X[OWN], Y[OWN]) > 0.9  # that of behaviour is not


def test_traps_look_like_independent_units_that_hardly_ever_fire() -> None:
    model = traps(PUBLIC, units=UNITS, classes=10, inputs=128, rng=np.random.default_rng(5))
    assert recovered_share(X[PRIVATE], trapped(model, total(model), low=0.0, high=1.0)) > 0.2
    assert parallel_rows(model, X[OWN], Y[OWN]) == 0
    assert parallel_responses(model, X[OWN], Y[OWN]) < 0.3
    assert quiet_units(model, X[OWN], Y[OWN]) > 0.7


def test_few_imprint_units_pass_for_what_they_are_worth() -> None:
    few = hidden_among_honest(PUBLIC, honest(1024), bins=20, inputs=128, rng=np.random.default_rng(6))
    assert not {"parallel rows", "parallel responses", "quiet units"} & raised(few.model)
    share = recovered_share(X[PRIVATE], recover(few, total(few.model), batch=32))
    assert 0 < share <= 20 / 128  # at most one image a unit
    many = hidden_among_honest(PUBLIC, honest(1024), bins=60, inputs=128, rng=np.random.default_rng(6))
    assert "parallel rows" in raised(many.model)


def test_there_is_nothing_to_look_at_without_a_linear_layer() -> None:
    with pytest.raises(TypeError, match="no linear layer"):
        parallel_rows(torch.nn.Sequential(torch.nn.ReLU()), X[OWN], Y[OWN])


def test_unseen_noise_lies_where_data_vary_least() -> None:
    rng = np.random.default_rng(7)
    quiet = (PUBLIC @ unseen(PUBLIC, 50, 1.0, rng, dimensions=8).T).std(axis=0)
    loud = (PUBLIC @ isotropic((50, 64), 1.0, rng).T).std(axis=0)
    assert quiet.max() < 0.05 * loud.min()
    first = parts(gradient(honest(8), X[:4], Y[:4]), honest(8))
    assert first["0.weight"].shape == (8, 64)

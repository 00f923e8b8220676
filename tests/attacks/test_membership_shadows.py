"""Shadow models trained together against the same training written as a loop over models and records."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from attacks.auditing import sampler_p_value
from attacks.membership import (
    PrivateSgd,
    Records,
    Training,
    halves,
    lira_scores,
    loss_threshold_scores,
    membership_study,
    train_together,
)
from attacks.membership.shadows import _batches, _gradient
from attacks.metrics import auc
from attacks.models import make_mlp
from dp.events import Composed, Gaussian, PoissonSampled
from protocols.models import make_model

FEATURES, CLASSES = 12, 4


def records(n: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n)
    centres = rng.normal(size=(CLASSES, FEATURES))
    return (centres[y] + 1.5 * rng.normal(size=(n, FEATURES))).astype(np.float32), y


def make(generator: torch.Generator) -> torch.nn.Module:
    return make_mlp(FEATURES, [32], CLASSES, generator=generator)


def test_training_together_is_training_each_model_alone() -> None:
    x, y = records(40)
    members = halves(4, 40, rng=np.random.default_rng(1))
    training = Training(epochs=3, batch_size=5, learning_rate=0.1, weight_decay=0.01)
    together = train_together(make, x, y, members, training, rng=np.random.default_rng(2))

    rng = np.random.default_rng(2)
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
    models = [make(generator) for _ in members]
    optimisers = [torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01) for m in models]
    for chosen, _ in _batches(members, training, rng):
        for model, optimiser, own in zip(models, optimisers, chosen, strict=True):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(torch.from_numpy(x)[own]), torch.from_numpy(y)[own]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    for i, model in enumerate(models):
        with torch.no_grad():
            p = torch.softmax(model(torch.from_numpy(x)).double(), dim=1).numpy()
        of_class = p[np.arange(40), y]
        np.testing.assert_allclose(together.log_odds[i], np.log(of_class / (1 - of_class)), atol=1e-3)
        np.testing.assert_array_equal(together.right[i], p.argmax(axis=1) == y)


@pytest.mark.parametrize("private", [None, PrivateSgd(clip_norm=1.0, noise_multiplier=1.0)])
def test_a_model_sees_its_own_records_only(private: PrivateSgd | None) -> None:
    members = halves(5, 60, rng=np.random.default_rng(1))
    training = Training(epochs=4, batch_size=6, learning_rate=0.1, privacy=private)
    seen = np.zeros((5, 60))
    for chosen, weights in _batches(members, training, np.random.default_rng(3)):
        np.add.at(seen, (np.arange(5)[:, None], chosen.numpy()), weights.numpy())
    assert not seen[~members].any()
    if private is None:
        assert (seen[members] == 4).all()
    else:
        assert seen[members].sum() == pytest.approx(5 * 30 * 4, rel=0.2)


def test_private_batches_are_poisson_samples() -> None:
    members = np.ones((50, 200), dtype=np.bool_)
    training = Training(
        epochs=2, batch_size=20, learning_rate=0.1, privacy=PrivateSgd(clip_norm=1.0, noise_multiplier=1.0)
    )
    sizes = np.array([w.sum(dim=1).numpy() for _, w in _batches(members, training, np.random.default_rng(4))]).ravel()
    assert len(sizes) == 50 * training.event(200).events[0][1] == 1000
    assert sizes.mean() == pytest.approx(20, abs=4 * math.sqrt(18 / 1000))
    assert sizes.var() == pytest.approx(18, rel=0.2)
    for chosen, weights in _batches(members[:3], training, np.random.default_rng(5)):
        for places, weight in zip(chosen.numpy(), weights.numpy(), strict=True):
            taken = places[weight > 0]
            assert len(np.unique(taken)) == len(taken)


def test_private_batches_pass_the_test_of_a_poisson_sampler() -> None:
    training = Training(
        epochs=8, batch_size=20, learning_rate=0.1, privacy=PrivateSgd(clip_norm=1.0, noise_multiplier=1.0)
    )
    everyone = np.ones((1, 400), dtype=np.bool_)
    taken = np.zeros((160, 400), dtype=np.bool_)
    for step, (chosen, weights) in enumerate(_batches(everyone, training, np.random.default_rng(11))):
        taken[step, chosen[0][weights[0] > 0].numpy()] = True
    assert sampler_p_value(taken, 0.05) > 0.01


def test_private_gradients_are_clipped_record_by_record() -> None:
    x, y = records(30)
    training = Training(
        epochs=1, batch_size=10, learning_rate=0.1, privacy=PrivateSgd(clip_norm=0.5, noise_multiplier=0.0)
    )
    models = [make(torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    parameters = {
        name: torch.stack([dict(m.named_parameters())[name].detach() for m in models])
        for name, _ in models[0].named_parameters()
    }
    chosen = torch.tensor([[0, 1, 2], [3, 4, 5]])
    weights = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    got = _gradient(models[0], training, torch.Generator())(parameters, inputs[chosen], labels[chosen], weights)
    for i, model in enumerate(models):
        expected = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
        for place, weight in zip(chosen[i], weights[i], strict=True):
            model.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs[place][None]), labels[place][None]).backward()  # type: ignore[no-untyped-call]
            norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
            assert norm > 0.5
            for name, p in model.named_parameters():
                assert p.grad is not None
                expected[name] += weight * p.grad * 0.5 / norm
        for name, value in expected.items():
            torch.testing.assert_close(got[name][i], value / 10)


def test_private_noise_has_the_deviation_it_says() -> None:
    x, y = records(10)
    training = Training(
        epochs=1, batch_size=5, learning_rate=0.1, privacy=PrivateSgd(clip_norm=2.0, noise_multiplier=3.0)
    )
    model = make(torch.Generator().manual_seed(1))
    parameters = {name: value.detach().expand(40, *value.shape) for name, value in model.named_parameters()}
    nobody = torch.zeros(40, 1)
    chosen = torch.zeros(40, 1, dtype=torch.int64)
    generator = torch.Generator().manual_seed(7)
    inputs, labels = torch.from_numpy(x)[chosen], torch.from_numpy(y)[chosen]
    noise = torch.cat(
        [g.flatten() for g in _gradient(model, training, generator)(parameters, inputs, labels, nobody).values()]
    )
    assert float(noise.std()) == pytest.approx(2.0 * 3.0 / 5, rel=0.03)


def test_the_event_says_what_training_released() -> None:
    training = Training(
        epochs=3, batch_size=10, learning_rate=0.1, privacy=PrivateSgd(clip_norm=1.0, noise_multiplier=1.5)
    )
    assert training.event(200) == Composed([(PoissonSampled(0.05, Gaussian(1.5)), 60)])
    with pytest.raises(ValueError, match="no privacy event"):
        Training(epochs=3, batch_size=10, learning_rate=0.1).event(200)


def test_unequal_or_too_small_training_sets_are_refused() -> None:
    x, y = records(20)
    training = Training(epochs=1, batch_size=8, learning_rate=0.1)
    unequal = np.tri(2, 20, 12, dtype=np.bool_)
    small = np.tri(2, 20, 2, dtype=np.bool_) & (np.arange(20) < 3)
    for members in (unequal, small):
        with pytest.raises(ValueError, match="equally many records, at least a batch of 8"):
            train_together(make, x, y, members, training, rng=np.random.default_rng())


def test_overfit_models_leak_and_private_ones_do_not() -> None:
    x, y = records(400, seed=3)
    members = halves(20, 400, rng=np.random.default_rng(1))
    leak = {}
    for privacy in (None, PrivateSgd(clip_norm=1.0, noise_multiplier=4.0)):
        training = Training(epochs=20, batch_size=20, learning_rate=0.1, privacy=privacy)
        ensemble = train_together(make, x, y, members, training, rng=np.random.default_rng(2))
        score = lira_scores(ensemble.log_odds[16:], ensemble.log_odds[:16], members[:16])
        leak[privacy] = auc(score[members[16:]], score[~members[16:]])
        gap = ensemble.train_accuracy - ensemble.test_accuracy
        assert gap > 0.1 if privacy is None else gap < 0.1
    assert leak[None] > 0.65
    assert abs(leak[PrivateSgd(clip_norm=1.0, noise_multiplier=4.0)] - 0.5) < 0.06


def test_a_model_with_one_logit_is_a_binary_classifier() -> None:
    x, y = records(40)
    binary = (y > 1).astype(np.int64)
    members = np.ones((2, 40), dtype=np.bool_)
    training = Training(epochs=30, batch_size=10, learning_rate=0.1)
    ensemble = train_together(
        lambda generator: make_model("mlp", FEATURES, generator=generator),
        x,
        binary,
        members,
        training,
        rng=np.random.default_rng(0),
    )
    assert ensemble.train_accuracy > 0.9
    assert math.isnan(ensemble.test_accuracy)
    np.testing.assert_array_equal(ensemble.right, ensemble.log_odds > 0)
    assert (loss_threshold_scores(ensemble.log_odds) > -math.log(2)).mean() > 0.9


def test_a_study_measures_every_attack_and_hides_rates_that_cannot_be_measured() -> None:
    x, y = records(340, seed=3)
    study = membership_study(
        Records("cloud", x, y, 40),
        make,
        Training(epochs=15, batch_size=25, learning_rate=0.1),
        shadows=12,
        targets=2,
        fprs=(0.01, 0.05),
        fewer_shadows=(4,),
        rng=np.random.default_rng(5),
    )
    assert [(leak.attack, leak.shadows) for leak in study.leaks] == [
        ("loss threshold", 0),
        *((attack, used) for used in (12, 4) for attack in ("LiRA", "LiRA offline", "RMIA")),
    ]
    assert (study.records, study.targets) == (300, 2)
    assert study.gap == pytest.approx(study.train_accuracy - study.test_accuracy)
    assert study.gap > 0.1
    best = study.leak("LiRA", 12)
    assert best.auc.low < best.auc.value < best.auc.high
    assert best.auc.value > 0.6
    assert min(best.auc_by_target) - 0.02 <= best.auc.value <= max(best.auc_by_target) + 0.02
    assert best.tpr["0.01"] is None  # three false positives among 300 others
    assert best.tpr["0.05"] is not None


def test_a_study_without_outsiders_has_no_rmia() -> None:
    x, y = records(80)
    training = Training(epochs=2, batch_size=10, learning_rate=0.1)
    rng = np.random.default_rng(6)
    study = membership_study(Records("cloud", x, y, 0), make, training, shadows=4, targets=2, rng=rng)
    assert [leak.attack for leak in study.leaks] == ["loss threshold", "LiRA", "LiRA offline"]

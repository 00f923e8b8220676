"""Models made to give inputs away, through real secure sums: exact where theory says so, else nothing."""

from typing import TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from attacks.analytic import invert_first_layer
from attacks.datasets import digits
from attacks.malicious.client import flat, gradient, local_training, moved, parts, perceptron
from attacks.malicious.fishing import caught, fish_class, fish_feature
from attacks.malicious.imprint import Imprint, imprint, recover, smoothed_quantiles
from attacks.malicious.inconsistent import model_bytes, sum_of_inconsistent, suppressed
from attacks.malicious.loki import client_models, open_clients
from attacks.malicious.score import recovered_share
from attacks.models import make_mlp
from attacks.sums.secure import secure_sum
from secagg import model_digest
from secagg.adversary import LIARS, run_liar, shortfalls

Floats: TypeAlias = NDArray[np.float64]

DIGITS = digits()
X, Y = DIGITS.x.reshape(len(DIGITS.x), -1).astype(np.float64), DIGITS.y
CLIENTS, BATCH = 4, 16


def split(seed: int, private: int = CLIENTS * BATCH) -> tuple[NDArray[np.int64], Floats]:
    order = np.random.default_rng(seed).permutation(len(X))
    return order[:private], X[order[private:]]


def gradients(model: torch.nn.Module, chosen: NDArray[np.int64], clients: int = CLIENTS) -> dict[str, Floats]:
    return {str(i): gradient(model, X[each], Y[each]) for i, each in enumerate(np.split(chosen, clients))}


def mlp(seed: int = 0, units: int = 64) -> torch.nn.Sequential:
    _, *layers = make_mlp(64, [units], 10, generator=torch.Generator().manual_seed(seed))  # inputs are flat already
    return torch.nn.Sequential(*layers)


def attack_on(seed: int, **options: int) -> tuple[NDArray[np.int64], Floats, Imprint]:
    private, public = split(seed)
    return private, public, imprint(public, classes=10, rng=np.random.default_rng(seed), **options)


def test_a_clients_gradient_is_that_of_one_linear_layer_written_out() -> None:
    model, x, y = mlp(), X[:5], Y[:5]
    w, b, v, c = (parameter.detach().double().numpy() for parameter in model.parameters())
    hidden = np.maximum(x @ w.T + b, 0)
    logits = hidden @ v.T + c
    slope = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slope[np.arange(5), y] -= 1
    back = slope @ v * (hidden > 0) / 5
    expected = np.concatenate(
        [(back.T @ x).ravel(), back.sum(axis=0), (slope.T @ hidden / 5).ravel(), slope.mean(axis=0)]
    )
    np.testing.assert_allclose(gradient(model, x, y), expected, atol=1e-6)


def test_local_training_of_one_step_is_the_gradient_and_leaves_the_model_alone() -> None:
    model = mlp()
    before = flat(model)
    rng = np.random.default_rng(0)
    update = local_training(model, X[:8], Y[:8], steps=1, batch=8, learning_rate=0.5, rng=rng)
    np.testing.assert_allclose(update, -0.5 * gradient(model, X[:8], Y[:8]), atol=1e-6)
    np.testing.assert_array_equal(flat(model), before)
    moved(model, update)
    np.testing.assert_allclose(flat(model), before + update, atol=1e-6)


def test_an_update_is_cut_into_the_models_parameters() -> None:
    model = mlp()
    for (name, piece), parameter in zip(parts(flat(model), model).items(), model.parameters(), strict=True):
        assert name in dict(model.named_parameters())
        np.testing.assert_array_equal(piece, parameter.detach().double().numpy())


@given(st.integers(50, 400), st.integers(0, 50))
@settings(max_examples=15)
def test_smoothed_quantiles_ascend_and_cut_the_population_evenly(sample: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = smoothed_quantiles(rng.normal(3, 2, sample), np.arange(1, 20) / 20)
    assert (np.diff(edges) > 0).all()
    masses = np.diff(np.searchsorted(np.sort(rng.normal(3, 2, 20_000)), edges)) / 20_000
    assert np.abs(masses[1:-1] - 0.05).max() < 0.04


def test_one_imprint_recovers_from_a_sum_what_falls_into_a_bin_alone() -> None:
    shares = []
    for seed in range(6):
        private, _, attack = attack_on(seed, bins=128)
        found = recover(attack, np.sum(list(gradients(attack.model, private).values()), axis=0), batch=BATCH)
        shares.append(recovered_share(X[private], found))
    assert np.mean(shares) == pytest.approx((1 - 1 / 128) ** 63, abs=0.08)  # 61 %


@pytest.mark.parametrize("masking", ["plain", "masking"])
def test_peeling_recovers_everything_from_a_real_secure_sum(masking: str) -> None:
    private, _, attack = attack_on(1, bins=150, projections=3)
    total = secure_sum(gradients(attack.model, private), clip=1.0, masking=masking)  # type: ignore[arg-type]
    found = recover(attack, total, batch=BATCH)
    assert recovered_share(X[private], found) > 0.95


def test_the_prior_alone_recovers_nothing_and_an_empty_sum_gives_no_guess() -> None:
    private, public, attack = attack_on(2, bins=64)
    assert recovered_share(X[private], public) == 0
    assert recover(attack, np.zeros(len(flat(attack.model))), batch=BATCH).shape == (0, 64)


def test_bins_that_hold_two_or_three_inputs_are_not_taken_for_one() -> None:
    private, _, attack = attack_on(3, bins=32)  # two inputs a bin: most quotients are mixtures
    found = recover(attack, np.sum(list(gradients(attack.model, private).values()), axis=0), batch=BATCH)
    nearest = np.abs(found[:, None] - X[private]).max(axis=2).min(axis=1)
    assert (nearest < 0.01).mean() > 0.9


def test_unknown_scales_of_clients_do_not_hide_single_inputs() -> None:
    private, _, attack = attack_on(4, bins=128)
    scaled = [
        update * scale
        for update, scale in zip(gradients(attack.model, private).values(), (0.1, 2, 0.7, 5), strict=True)
    ]
    known = recover(attack, np.sum(scaled, axis=0), batch=BATCH)
    unknown = recover(attack, np.sum(scaled, axis=0), batch=None)
    assert recovered_share(X[private], unknown) > 0.45
    assert recovered_share(X[private], known) < 0.2


@pytest.mark.parametrize("masking", ["plain", "masking"])
def test_fishing_brings_the_one_input_of_a_rare_class_out_of_the_sum(masking: str) -> None:
    rare, rest = np.flatnonzero(Y == 3)[:1], np.flatnonzero(Y != 3)[: CLIENTS * BATCH - 1]
    chosen = np.random.default_rng(0).permutation(np.concatenate([rare, rest]))
    model = fish_class(mlp(), 3)
    total = secure_sum(gradients(model, chosen), clip=2.0, masking=masking)  # type: ignore[arg-type]
    np.testing.assert_allclose(caught(model, total, limit=1.1), X[rare], atol=1e-4)
    honest = secure_sum(gradients(mlp(), chosen), clip=2.0, masking=masking)  # type: ignore[arg-type]
    assert len(caught(mlp(), honest, limit=1.1)) == 0


def test_fishing_for_a_feature_catches_a_single_input_of_a_class_in_about_a_third_of_draws() -> None:
    hits = []
    for seed in range(40):
        class_members = np.random.default_rng(seed).permutation(np.flatnonzero(Y == 3))
        model = fish_feature(mlp(seed), 3, X[class_members[32:]], inputs=32)
        total = np.sum(list(gradients(model, class_members[:32]).values()), axis=0)
        found = caught(model, total, limit=1.1)
        hits.append(len(found) == 1 and np.abs(X[class_members[:32]] - found).max(axis=1).min() < 1e-3)
    assert 0.15 < np.mean(hits) < 0.6  # 1/e if quantiles are right


def test_fishing_needs_a_linear_last_layer() -> None:
    with pytest.raises(TypeError, match="ends in a linear layer"):
        fish_class(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()), 0)


def test_kernels_of_ones_own_keep_clients_apart_in_the_sum() -> None:
    private, _, attack = attack_on(5, bins=48, projections=3)  # bins for one client's 16 inputs, not for 64
    groups = np.split(private, CLIENTS)
    models = client_models(attack, CLIENTS, height=8)
    own = {
        str(i): gradient(model, X[each], Y[each]) for i, (model, each) in enumerate(zip(models, groups, strict=True))
    }
    digests = dict.fromkeys(own, b"")
    bound = {name: model_digest(model_bytes(model)) for name, model in zip(own, models, strict=True)}
    shares = {}
    for case, named in (("unbound", digests), ("bound", bound)):
        found = open_clients(attack, models[0], sum_of_inconsistent(own, named, clip=1.0), batch=BATCH)
        shares[case] = [recovered_share(X[each], some) for each, some in zip(groups, found, strict=True)]
    assert min(shares["unbound"]) > 0.9
    assert max(shares["bound"]) == 0
    same = np.sum(
        list(gradients(models[0], private).values()), axis=0
    )  # everybody the same model: on top of each other
    assert sum(len(some) for some in open_clients(attack, models[0], same, batch=BATCH)) < BATCH / 2


def test_a_dead_model_makes_the_sum_the_victims_unless_masks_are_bound_to_the_model() -> None:
    victim, dead = mlp(), suppressed(mlp())
    models = {"0": victim} | {str(i): dead for i in range(1, CLIENTS)}
    updates = {name: gradient(model, X[[int(name)]], Y[[int(name)]]) for name, model in models.items()}
    assert all(not parts(updates[name], dead)["0.weight"].any() for name in ("1", "2", "3"))

    def opened(digests: dict[str, bytes]) -> tuple[bool, float]:
        weight, bias, *_ = parts(sum_of_inconsistent(updates, digests, clip=2.0), victim).values()
        found = invert_first_layer(weight, bias, limit=1.1)
        return any(np.abs(each - X[0]).max() < 1e-3 for each in found), float(np.abs(weight).max())

    hit, largest = opened(dict.fromkeys(models, b""))
    assert hit
    assert largest < 2
    bound = {name: model_digest(model_bytes(model)) for name, model in models.items()}
    hit, largest = opened(bound)
    assert not hit
    assert largest > 4  # masks that did not cancel fill the whole ring
    hit, _ = opened(dict.fromkeys(models, bound["0"]))  # one model for all: nothing was wrong with the round
    assert hit


def test_against_a_malicious_server_clients_notice_that_others_signed_another_model() -> None:
    for liar in LIARS:
        if liar.name.startswith("different models"):
            outcome = run_liar(liar)
            assert shortfalls(liar, outcome) == []
            assert outcome.opened == ()


def test_only_a_rectified_layer_can_be_switched_off() -> None:
    with pytest.raises(TypeError, match="switched off"):
        suppressed(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Sigmoid()))


def test_a_perceptron_has_the_weights_it_was_given() -> None:
    rng = np.random.default_rng(0)
    given_weights = rng.normal(size=(3, 2)), rng.normal(size=3), rng.normal(size=(4, 3)), rng.normal(size=4)
    expected = np.concatenate([each.ravel() for each in given_weights])
    np.testing.assert_allclose(flat(perceptron(*given_weights)), expected, atol=1e-6)


def test_a_guess_counts_for_one_image_and_only_if_it_is_near() -> None:
    truth = np.zeros((3, 64))
    truth[1:] = [[0.5] * 64, [0.501] * 64]
    assert recovered_share(truth, truth) == 1
    assert recovered_share(truth, truth[1:2]) == pytest.approx(1 / 3)  # near two images, but one guess
    assert recovered_share(truth, truth + 0.011) == pytest.approx(0)  # 39 dB
    assert recovered_share(truth, truth[:0]) == 0

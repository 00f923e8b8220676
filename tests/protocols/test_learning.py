"""Local training, server optimizers, the secure mean and the loop, against oracles written out by hand."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from protocols.aggregation import AGGREGATIONS, AggregationName
from protocols.centralised import train_alone
from protocols.config import TrainConfig, dropouts_by_round
from protocols.engines.memory import MemoryEngine
from protocols.errors import TrainingError
from protocols.fedavg import RoundResult, fedavg
from protocols.federation import Federation
from protocols.institution import Institution, LocalUpdate, batches_of, evaluate, one_thread
from protocols.models import make_model
from protocols.secure_mean import SecureMean
from protocols.server_opt import FedAdam, FedAvg
from protocols.task import SiteData
from protocols.tasks import load_task
from secagg import EncodingError, Layout, PlanError, Setup, ThresholdError, Trace
from secagg.params import Masking
from secagg.transitions import steps_of

HEART = load_task("heart")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def institution(site: SiteData, seed: int = 0) -> Institution:
    return Institution(site, make_model("logistic", 13, generator=generator(seed)), generator=generator(seed))


def make_mean(aggregation: str = "masking", **changes: object) -> SecureMean:
    layout = Layout.of(make_model("logistic", 13, generator=generator()).state_dict())
    settings: dict[str, Any] = {
        "layout": layout,
        "sites": 4,
        "clip": 1.0,
        "bits": 24,
        "max_weight": 256,
        "aggregation": aggregation,
        "dropout": 0.25,
    }
    return SecureMean(**(settings | changes))


def test_models_take_their_weights_from_the_generator_only() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (make_model("mlp", 5, generator=generator(s)).state_dict()["0.weight"] for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert 0.9 / 5**0.5 < one.abs().max() <= 1 / 5**0.5


@pytest.mark.parametrize(("patients", "size", "steps"), [(10, 4, 7), (3, 8, 2), (5, 1, 12)])
def test_batches_pass_over_every_patient_before_any_comes_again(patients: int, size: int, steps: int) -> None:
    chosen = batches_of(patients, steps=steps, batch_size=size, generator=generator())
    assert len(chosen) == steps
    per_pass = -(-patients // size)
    for start in range(0, steps - per_pass + 1, per_pass):
        one_pass = torch.cat(chosen[start : start + per_pass])
        assert sorted(one_pass.tolist()) == list(range(patients))


def test_local_training_is_logistic_sgd() -> None:
    site = HEART.site("va")
    start = np.linspace(-0.3, 0.3, 14)
    update = institution(site).train(start, steps=25, batch_size=4, learning_rate=0.1)
    w, b = start[:13].astype(np.float32), np.float32(start[13])
    for batch in batches_of(len(site.train_y), steps=25, batch_size=4, generator=generator()):
        x, y = site.train_x[batch.numpy()], site.train_y[batch.numpy()]
        residual = 1 / (1 + np.exp(-(x @ w + b))) - y
        w, b = w - np.float32(0.1) * (x.T @ residual) / len(y), b - np.float32(0.1) * residual.mean()
    assert update.weight == 85
    assert np.abs(start + update.delta - np.append(w, b)).max() < 1e-5


def test_an_update_does_not_show_itself() -> None:
    assert repr(LocalUpdate(np.array([0.123456]), 7, bytes(32))) == "LocalUpdate(weight=7)"


def test_evaluation_counts_and_averages() -> None:
    site = HEART.site("cleveland")
    parameters = np.linspace(-0.3, 0.3, 14)
    result = institution(site).evaluate(parameters)
    logits = site.test_x @ parameters[:13] + parameters[13]
    assert result.accuracy == pytest.approx(((logits > 0) == (site.test_y > 0)).mean())
    assert result.loss == pytest.approx(np.mean(np.log1p(np.exp(-logits * (2 * site.test_y - 1)))), rel=1e-5)
    assert np.allclose(result.scores, 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_fedavg_adds_and_fedadam_follows_its_formula() -> None:
    p, u = np.array([1.0, 2.0]), np.array([0.5, -0.1])
    assert FedAvg(0.5).step(p, u).tolist() == [1.25, 1.95]
    adam = FedAdam(0.01, beta1=0.9, beta2=0.99, tau=1e-3)
    m = v = np.zeros(2)
    expected = p
    for k in range(4):
        g = u * (k + 1)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        expected = expected + 0.01 * m / (np.sqrt(v) + 1e-3)
        p = adam.step(p, g)
    assert np.allclose(p, expected)


UPDATES = {
    name: LocalUpdate(np.linspace(-0.5, 0.5, 14) * (i + 1) / 4, weight)
    for i, (name, weight) in enumerate({"cleveland": 199, "hungary": 172, "switzerland": 30, "va": 85}.items())
}


MADE = {name: partial(UPDATES.__getitem__, name) for name in UPDATES}


def weighted(names: list[str]) -> NDArray[np.float64]:
    """The plain weighted mean, written out."""
    deltas = np.stack([UPDATES[name].delta for name in names])
    weights = np.array([UPDATES[name].weight for name in names])
    mean: NDArray[np.float64] = weights @ deltas / weights.sum()
    return mean


@pytest.mark.parametrize(
    ("aggregation", "step"),
    [(aggregation, step) for aggregation in AGGREGATIONS for step in (None, *steps_of(cast("Masking", aggregation)))],
)
def test_the_secure_mean_is_the_weighted_mean_of_the_survivors(aggregation: str, step: str | None) -> None:
    try:
        mean = make_mean(aggregation)(MemoryEngine(), MADE, dropouts={"switzerland": step} if step else {})
    except ThresholdError:
        assert (aggregation, step) == ("threshold", "decrypt")  # it was one of those who had to
        return
    there = [name for name in UPDATES if name != "switzerland" or step in {None, "unmask", "decrypt"}]
    assert mean.survivors == tuple(there)
    assert mean.weight == sum(UPDATES[name].weight for name in there)
    assert np.abs(mean.mean - weighted(there)).max() < 4 * 256 / mean.weight * 2**-23
    assert set(mean.clipped) == set(there)


def test_clipping_is_counted_per_hospital() -> None:
    mean = make_mean(clip=0.3)(
        MemoryEngine(),
        MADE,
        dropouts={},
    )
    assert mean.clipped == {name: int((np.abs(update.delta) > 0.3).sum()) for name, update in UPDATES.items()}
    assert sum(mean.clipped.values()) > 0


def test_numbers_that_do_not_work_together_are_refused_early() -> None:
    with pytest.raises(EncodingError):
        make_mean(max_weight=1 << 62)
    with pytest.raises(PlanError):
        make_mean(dropout=0.6)


def test_a_hospital_larger_than_the_public_bound_is_refused() -> None:
    with pytest.raises(EncodingError, match="weight"):
        make_mean(max_weight=100)(
            MemoryEngine(),
            MADE,
            dropouts={},
        )


def run_rounds(dropouts: dict[int, dict[str, str]], rounds: int) -> list[RoundResult]:
    institutions = [institution(site, seed) for seed, site in enumerate(HEART.sites)]
    return list(
        fedavg(
            institutions,
            make_mean(),
            FedAvg(),
            np.zeros(14),
            engine=MemoryEngine(),
            rounds=rounds,
            local=lambda site, p, _number: site.train(p, steps=5, batch_size=8, learning_rate=0.1),
            dropouts=dropouts,
        )
    )


def trained(aggregation: str, seed: int, **changes: Any) -> list[bytes]:
    """The model after each round."""
    config = TrainConfig(aggregation=cast("AggregationName", aggregation), rounds=3, local_steps=3, **changes)
    federation = Federation.build(config, HEART, seed=seed)
    dropouts = dropouts_by_round(config)
    return [each.parameters.tobytes() for each in federation.rounds(FedAvg(), learning_rate=0.1, dropouts=dropouts)]


@pytest.mark.parametrize("bits", [4, 20])
def test_a_seed_makes_one_model_with_every_aggregation_and_dropouts_bit_for_bit(bits: int) -> None:
    drop = ("hungary@1:share_keys", "va@3:masked_input")
    models = {aggregation: trained(aggregation, 3, bits=bits, drop=drop) for aggregation in AGGREGATIONS}
    assert len(set(models["plain"])) == 3
    assert set(map(tuple, models.values())) == {tuple(trained("plain", 3, bits=bits, drop=drop))}
    assert trained("plain", 4, bits=bits, drop=drop)[-1] != models["plain"][-1]


def test_rounding_is_bound_to_seed_round_and_hospital() -> None:
    config = TrainConfig(aggregation="plain", rounds=2, local_steps=1)
    seen: set[bytes | None] = set()
    for seed in (0, 1, 1):
        federation = Federation.build(config, HEART, seed=seed)
        for _round in federation.rounds(FedAvg(), learning_rate=0.1, dropouts={}):
            seen |= {update.rounding for update in federation.updates.values()}
    assert len(seen) == 2 * 2 * 4
    assert all(each is not None and len(each) == 32 for each in seen)


def test_an_update_that_says_nothing_of_rounding_is_rounded_with_fresh_bytes() -> None:
    mean = make_mean("plain", bits=4)

    def of(rounding: bytes | None) -> bytes:
        made = {name: partial(replace, update, rounding=rounding) for name, update in UPDATES.items()}
        return mean(MemoryEngine(), made, dropouts={}).mean.tobytes()

    assert len({of(bytes(32)) for _ in range(4)}) == 1
    assert len({of(None) for _ in range(4)}) > 1


def test_a_round_with_too_few_hospitals_leaves_the_model_and_the_next_round_goes_on() -> None:
    results = run_rounds({2: {"va": "masked_input", "hungary": "share_keys"}, 3: {"va": "unmask"}}, rounds=4)
    parameters = [result.parameters for result in results]
    assert results[1].failure == "clients that delivered a masked input: 3 needed, 2 left"
    assert results[1].mean is None
    assert np.array_equal(parameters[1], parameters[0])
    assert not np.array_equal(parameters[2], parameters[1])
    assert results[2].mean is not None
    assert results[2].mean.survivors == ("cleveland", "hungary", "switzerland", "va")
    assert results[3].failure is None


def test_a_federations_rounds_never_reuse_a_round_number() -> None:
    class Numbers(Trace):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[bytes, int]] = []

        def on_start(self, setup: Setup) -> None:
            self.seen.append((setup.session, setup.round))

    numbers, others = Numbers(), Numbers()
    config = TrainConfig(rounds=3, local_steps=1, seeds=1)
    for watching in (numbers, others):
        federation = Federation.build(config, HEART, seed=0, observers=[watching])
        list(federation.rounds(FedAvg(), learning_rate=0.01, dropouts={}))
    sessions = {session for session, _ in numbers.seen}
    assert numbers.seen == [(session, number) for session in sessions for number in (0, 1, 2)]
    assert sessions.isdisjoint({session for session, _ in others.seen})


def test_the_published_baselines_are_reproduced() -> None:
    pooled = evaluate(train_alone(HEART.pooled, "logistic", seed=0), HEART.pooled).accuracy
    assert pooled == pytest.approx(0.795, abs=0.01)
    cleveland = evaluate(train_alone(HEART.site("cleveland"), "logistic", seed=0), HEART.pooled).accuracy
    assert cleveland == pytest.approx(0.784, abs=0.015)


def test_too_few_hospitals_is_an_error_of_the_mean() -> None:
    with pytest.raises(ThresholdError):
        make_mean()(
            MemoryEngine(),
            MADE,
            dropouts={"va": "masked_input", "hungary": "masked_input"},
        )


def test_a_model_whose_outputs_are_not_finite_has_no_accuracy() -> None:
    model = make_model("logistic", len(HEART.features), generator=generator())
    with torch.no_grad():
        next(model.parameters()).fill_(float("inf"))
    with pytest.raises(TrainingError, match="outputs for va are not finite"):
        evaluate(model, HEART.sites[-1])

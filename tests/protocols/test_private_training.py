"""Distributed DP-SGD over hospitals: gradients patient by patient, noise as promised, and a report of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dp.budget import Budget
from dp.dp_sgd import DpSgd
from dp.receipt import Receipt
from protocols import ConfigError, TrainConfig, TrainingError, read_record, train
from protocols.config import PrivacyConfig, load_config
from protocols.engines.memory import MemoryEngine
from protocols.federation import Federation
from protocols.gradients import per_patient_gradients
from protocols.institution import Institution
from protocols.models import ModelName, make_model
from protocols.private_mean import PrivateMean
from protocols.tasks import load_task
from secagg import Encoded, Layout, PlanError, ThresholdError

HEART = load_task("heart")
QUICK: dict[str, Any] = {"rounds": 2, "seeds": 0, "dp": PrivacyConfig(epsilon=3.0, steps=6)}


def private_mean(**changes: Any) -> PrivateMean:
    config = TrainConfig(**({"dp": PrivacyConfig(epsilon=8.0, steps=4)} | changes))
    made = Federation.build(config, HEART.publicly_scaled(), seed=0).secure_mean
    assert isinstance(made, PrivateMean)
    return made


@pytest.mark.parametrize("name", ["logistic", "mlp"])
def test_an_empty_sample_has_no_gradients(name: ModelName) -> None:
    model = make_model(name, 13, generator=torch.Generator().manual_seed(1))
    rows = per_patient_gradients(model, torch.zeros((0, 13)), torch.zeros(0))
    assert rows.shape == (0, Layout.of(model.state_dict()).dimension)


@pytest.mark.parametrize("name", ["logistic", "mlp"])
def test_gradients_are_those_of_one_patient_at_a_time(name: ModelName) -> None:
    model = make_model(name, 13, generator=torch.Generator().manual_seed(1))
    site = HEART.sites[3]
    x, y = torch.from_numpy(site.train_x[:5]), torch.from_numpy(site.train_y[:5])
    rows = per_patient_gradients(model, x, y)
    for i in range(5):
        model.zero_grad()
        logit = model(x[i : i + 1]).squeeze(1)
        torch.nn.functional.binary_cross_entropy_with_logits(logit, y[i : i + 1]).backward()  # type: ignore[no-untyped-call]
        expected = Layout.of(model.state_dict()).flatten({k: p.grad for k, p in model.named_parameters()})
        assert np.abs(rows[i] - expected).max() < 1e-6


def test_public_scaling_leaves_nothing_of_a_hospitals_own_statistics() -> None:
    public = HEART.publicly_scaled()
    for before, after in zip((*HEART.sites, HEART.pooled), (*public.sites, public.pooled), strict=True):
        recorded = HEART.recorded(before, before.train_x)
        assert np.array_equal(after.train_x, HEART.public_scaling.apply(recorded))
        assert np.abs(recorded * 10 - np.rint(recorded * 10)).max() < 1e-9
        assert np.abs(recorded - before.scaling.undo(before.train_x.astype(np.float64))).max() < 1e-3
    switzerland = public.site("switzerland")
    assert (switzerland.train_x[:, 3] == -4).all()  # a cholesterol of 0 is 4 deviations of 50 below 200


def test_a_step_is_the_clipped_sum_with_noise_over_a_public_constant() -> None:
    mean = private_mean(dropout=0.25, corrupted=0.0)
    rows = {site.name: np.full((30, 14), 0.1) for site in HEART.sites}
    made = [mean(MemoryEngine(), {name: lambda r=r: r for name, r in rows.items()}, dropouts={}) for _ in range(60)]  # type: ignore[misc]
    updates = np.array([one.mean for one in made])
    clipped = 0.1 / max(1.0, 0.1 * np.sqrt(14))
    assert updates.mean() == pytest.approx(-4 * 30 * clipped / 100, rel=0.05)
    expected = mean.privacy.codec.noise_stddev(senders=4) / 100
    assert updates.std(axis=0, ddof=1).mean() == pytest.approx(expected, rel=0.08)
    assert all(one.weight == 0 and not one.clipped for one in made)


def test_who_vanishes_takes_only_its_own_gradients_along_and_too_few_are_refused() -> None:
    mean = private_mean(corrupted=0.0)
    rows = {site.name: np.zeros((0, 14)) for site in HEART.sites}
    calls = {name: (lambda r=r: r) for name, r in rows.items()}
    assert mean(MemoryEngine(), calls, dropouts={"va": "masked_input"}).survivors == (
        "cleveland",
        "hungary",
        "switzerland",
    )
    with pytest.raises(ThresholdError):
        mean(MemoryEngine(), calls, dropouts={"va": "masked_input", "hungary": "share_keys"})


def test_a_plan_that_opens_sums_with_less_noise_is_refused() -> None:
    mean = private_mean()
    for wrong, says in (
        ({"corrupted": 2}, "up to 2 corrupted"),
        ({"threshold": 4, "clients": 5, "degree": 4}, "opens"),
    ):
        with pytest.raises(PlanError, match=says):
            PrivateMean(mean.privacy, replace(mean.plan, **wrong))  # type: ignore[arg-type]


def test_a_run_says_what_it_costs_and_what_is_not_covered(tmp_path: Path) -> None:
    train(TrainConfig(**QUICK, drop=("hungary@2:masked_input",)), tmp_path)
    record = read_record(tmp_path)
    assert record.dp is not None
    assert 2.9 < record.dp.epsilon <= 3.0
    assert (record.dp.least_senders, record.dp.colluders, record.dp.divisor) == (3, 1, 100.0)
    assert record.privacy == record.dp.statement
    assert [each.survivors for each in record.rounds][1] == ("cleveland", "switzerland", "va")
    assert all(each.weight == 0 and not each.clipped for each in record.rounds)
    html = (tmp_path / "report.html").read_text()
    for text in (
        "ε ≤ 3",
        "Not covered by ε",
        "for every patient",
        "noisy mean of 4 hospitals",
        "with noise as promised",
    ):
        assert text in html
    for claim in ("no ε", "are exact", "exact all the same", "final parameters, exact"):
        assert claim not in html


@pytest.mark.parametrize("aggregation", ["lattice", "ckks"])
def test_other_secure_sums_carry_the_noise_as_well(aggregation: Any, tmp_path: Path) -> None:
    record = train(TrainConfig(**QUICK, aggregation=aggregation), tmp_path)
    assert record.status == "finished"
    assert record.dp is not None
    assert record.dp.epsilon <= 3.0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"aggregation": "plain"}, "its own small share of the noise"),
        ({"dp": PrivacyConfig(epsilon=3.0, unit="institution")}, "against 4 of 4 institutions that all agree"),
        ({"dp": PrivacyConfig(epsilon=1e-4, steps=10_000)}, "dp: "),
        ({"dp": PrivacyConfig(epsilon=3.0, copies=5)}, "copies"),
        ({"dp": PrivacyConfig(epsilon=3.0, dropout_noise="exact"), "aggregation": "ckks"}, "rides on the shares"),
    ],
)
def test_what_cannot_be_promised_is_refused_before_anything_starts(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=says):
        train(TrainConfig(**(QUICK | changes)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_leaves_a_receipt_that_others_can_compute_again(tmp_path: Path) -> None:
    record = train(TrainConfig(**QUICK), tmp_path)
    receipt = Receipt.from_bytes((tmp_path / "receipt.json").read_bytes())
    assert record.dp is not None
    assert receipt.verify().upper <= record.dp.epsilon * 1.001
    assert (receipt.unit, receipt.delta) == ("patient", 1e-5)


def test_a_budget_is_spent_before_training_and_refuses_what_is_beyond(tmp_path: Path) -> None:
    path = tmp_path / "heart.budget"
    Budget.create(path, epsilon=4.0, delta=1e-5, unit="patient", neighboring_relation="add-or-remove-one")
    config = TrainConfig(**(QUICK | {"dp": PrivacyConfig(epsilon=3.0, steps=6, budget=str(path))}))
    train(config, tmp_path / "first")
    assert [entry.state for entry in Budget.open(path).entries()] == ["spent"]
    with pytest.raises(TrainingError, match="refused: the budget is"):
        train(config, tmp_path / "second")
    record = read_record(tmp_path / "second")
    assert record.status == "failed"
    assert not record.rounds
    assert [entry.state for entry in Budget.open(path).entries()] == ["spent"]


def test_a_budget_that_is_missing_or_about_something_else_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "other.budget"
    private = PrivacyConfig(epsilon=3.0, steps=6, budget=str(path))
    with pytest.raises(ConfigError, match="secagg dp budget create"):
        train(TrainConfig(**(QUICK | {"dp": private})), tmp_path / "run")
    Budget.create(path, epsilon=4.0, delta=1e-5, unit="example", neighboring_relation="add-or-remove-one")
    with pytest.raises(ConfigError, match="about unit example"):
        train(TrainConfig(**(QUICK | {"dp": private})), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_under_noise_a_seed_decides_neither_the_model_nor_any_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, given = DpSgd.encode, []

    def encode(self: DpSgd, rows: NDArray[np.float64], **how: Any) -> Encoded:
        given.append(how["random"])
        return real(self, rows, **how)

    monkeypatch.setattr(DpSgd, "encode", encode)
    one, other = (train(TrainConfig(**QUICK, seed=0), tmp_path / name).model_sha256 for name in ("one", "other"))
    assert one != other
    assert set(given) == {None}  # the operating system's


def test_a_private_run_trains_once_and_no_baselines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = DpSgd.encode

    def counted(self: DpSgd, gradients: Any, **options: Any) -> Any:
        calls.append(len(gradients))
        return real(self, gradients, **options)

    monkeypatch.setattr(DpSgd, "encode", counted)
    record = train(TrainConfig(**(QUICK | {"seeds": 1})), tmp_path)
    assert not record.compared
    assert len(calls) == 4 * (6 + 1)  # and one sum of nothing, to compile


@pytest.mark.parametrize("aggregation", ["masking", "lattice"])
def test_exact_noise_is_no_more_than_enough_whoever_vanishes(aggregation: Any) -> None:
    private = PrivacyConfig(epsilon=8.0, steps=4, dropout_noise="exact")
    mean = private_mean(dp=private, aggregation=aggregation)
    assert mean.plan.extras == 1
    rows = {site.name: np.zeros((0, 14)) for site in HEART.sites}
    calls = {name: (lambda r=r: r) for name, r in rows.items()}
    least = mean.privacy.noise_multiplier / mean.privacy.divisor * np.sqrt(3 / 2)  # one of three counts nothing
    for gone, senders in (({}, 4), ({"va": "masked_input"}, 3), ({"va": "unmask"}, 4)):
        made = [mean(MemoryEngine(), calls, dropouts=gone) for _ in range(40)]
        spread = float(np.std([one.mean for one in made]))
        assert spread == pytest.approx(mean.privacy.codec.noise_stddev(senders=senders) / mean.privacy.divisor, rel=0.1)
        assert spread == pytest.approx(least, rel=0.16)
    conservative = private_mean(aggregation=aggregation).privacy
    assert mean.privacy.codec.noise_stddev(senders=4) < 0.93 * conservative.codec.noise_stddev(senders=4)


def test_exact_noise_costs_what_the_receipt_says(tmp_path: Path) -> None:
    private = PrivacyConfig(epsilon=3.0, steps=6, dropout_noise="exact")
    record = train(TrainConfig(**(QUICK | {"dp": private}), drop=("va@1:masked_input",)), tmp_path)
    assert record.status == "finished"
    assert record.dp is not None
    assert Receipt.from_bytes((tmp_path / "receipt.json").read_bytes()).verify().upper <= record.dp.epsilon * 1.001


def test_a_hospital_that_knows_its_own_noise_is_still_held_to_epsilon() -> None:
    for aggregation in ("masking", "ckks"):
        mean = private_mean(aggregation=aggregation, corrupted=0.0)
        assert mean.privacy.colluders == 1
        assert mean.privacy.step.event.honest_senders == 2  # type: ignore[attr-defined]


def test_one_patients_overflow_does_not_stop_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = Institution.gradients

    def overflowing(self: Institution, parameters: Any, chosen: Any) -> Any:
        rows = real(self, parameters, chosen)
        rows[:1] = np.nan
        return rows

    monkeypatch.setattr(Institution, "gradients", overflowing)
    assert train(TrainConfig(**QUICK), tmp_path).status == "finished"


def test_a_model_that_diverges_is_said(tmp_path: Path) -> None:
    private = PrivacyConfig(epsilon=8.0, steps=6, learning_rate=1e30)
    with pytest.raises(TrainingError, match="finite"):
        train(TrainConfig(**(QUICK | {"dp": private, "model": "mlp"})), tmp_path)


def test_options_are_laid_over_a_files_table_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("[dp]\nepsilon = 3.0\nsteps = 40\n")
    config = load_config(path, {"dp": {"epsilon": 1.0}})
    assert config.dp == PrivacyConfig(epsilon=1.0, steps=40)
    assert load_config(None, {"dp": {"epsilon": 2.0}}).dp == PrivacyConfig(epsilon=2.0)


def test_every_hospital_draws_from_its_own_patients_only() -> None:
    privacy = private_mean().privacy
    assert isinstance(privacy, DpSgd)
    for site in HEART.sites:
        drawn = privacy.sample(len(site.train_y))
        assert len(drawn) == 0 or 0 <= drawn.min() <= drawn.max() < len(site.train_y)

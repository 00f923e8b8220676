"""Opacus's gradients against two others, and a client that cannot sample, count or add noise in another way."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from opacus.layers import DPLSTM
from torch import nn

from dp.dp_sgd import DpSgd
from dp.errors import PrivacyError
from dp.opacus_bridge import OpacusClient, UnsupportedModelError, check_model, per_unit_gradients
from protocols.gradients import per_patient_gradients
from protocols.models import ModelName, make_model
from secagg import Layout

CROSS_ENTROPY = nn.BCEWithLogitsLoss(reduction="none")
PLAN = DpSgd(
    dimension=6,
    clients=4,
    least_senders=3,
    units=50,
    expected_units=100,
    sampling_probability=0.3,
    steps=20,
    clip_norm=1.0,
    noise_multiplier=2.0,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def client(**changes: Any) -> OpacusClient:
    """A client whose unit i moves parameter i alone, by -1: what it sends tells whom it sampled."""
    settings: dict[str, Any] = {
        "model": nn.Linear(6, 1, bias=False),
        "plan": replace(PLAN, noise_multiplier=0.01),
        "x": torch.eye(6),
        "y": torch.zeros(6, 1),
        "loss": lambda output, _: -output,
    }
    return OpacusClient(**(settings | changes))


def sampled(one: OpacusClient, plan: DpSgd) -> tuple[int, ...]:
    weights = plan.gradient(one.encode().vector) * -plan.divisor
    assert np.abs(weights - np.rint(weights)).max() < 0.2
    return tuple(np.rint(weights).astype(int).tolist())


class Scale(nn.Module):
    """A layer that Opacus has never heard of."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([0.5, -1.0, 2.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor.cos()


class HalfUsed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = nn.Linear(5, 1), nn.Linear(5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.used(x)
        return result


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(24, 1)),
        (2, 8),
    ),
    "layer norm": (lambda: nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 1)), (5,)),
    "its own layer": (lambda: nn.Sequential(nn.Linear(5, 3), Scale(), nn.Linear(3, 1)), (5,)),
}


@pytest.mark.parametrize("name", ["logistic", "mlp"])
def test_rows_are_those_of_torch_func_in_the_order_of_the_layout(name: ModelName) -> None:
    model = make_model(name, 13, generator=generator())
    x, y = torch.randn(9, 13, generator=generator(1)), torch.arange(9.0).remainder(2)
    rows = per_unit_gradients(model, x, y.unsqueeze(1), loss=CROSS_ENTROPY)
    assert rows.dtype == np.float64
    assert np.abs(rows - per_patient_gradients(model, x, y)).max() < 1e-6
    assert rows.shape[1] == Layout.of(model.state_dict()).dimension


@pytest.mark.parametrize("name", MODELS)
def test_rows_are_those_of_one_unit_at_a_time(name: str) -> None:
    make, shape = MODELS[name]
    model = make()
    x, y = torch.randn(5, *shape, generator=generator()), torch.tensor([0.0, 1, 1, 0, 1]).unsqueeze(1)
    rows = per_unit_gradients(model, x, y, loss=CROSS_ENTROPY)
    for i in range(5):
        model.zero_grad()
        CROSS_ENTROPY(model(x[i : i + 1]), y[i : i + 1]).sum().backward()
        expected = Layout.of(model.state_dict()).flatten({k: p.grad for k, p in model.named_parameters()})
        assert np.abs(rows[i] - expected).max() < 1e-5


def test_no_unit_has_no_row() -> None:
    rows = per_unit_gradients(nn.Linear(5, 1), torch.zeros(0, 5), torch.zeros(0, 1), loss=CROSS_ENTROPY)
    assert rows.shape == (0, 6)


def test_the_model_is_left_as_it_was_also_when_the_loss_fails() -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 1))
    x, y = torch.randn(4, 5, generator=generator()), torch.ones(4, 1)
    CROSS_ENTROPY(model(x), 0.5 * y).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    before = per_unit_gradients(model, x, y, loss=CROSS_ENTROPY)

    def failing(output: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError(output.shape)

    with pytest.raises(ZeroDivisionError):
        per_unit_gradients(model, x, y, loss=failing)
    assert np.array_equal(per_unit_gradients(model, x, y, loss=CROSS_ENTROPY), before)
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        assert p.grad is not None
        assert torch.equal(p.grad, gradient)
        assert not hasattr(p, "grad_sample")
    assert not any(m._forward_hooks or m._backward_hooks or hasattr(m, "activations") for m in model.modules())


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), "BatchNorm"),
        (
            lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, affine=False, track_running_stats=False)),
            "GroupNorm",
        ),
        (lambda: nn.LSTM(4, 3), "DPLSTM"),
        (lambda: nn.MultiheadAttention(4, 2), "DPMultiheadAttention"),
        (
            lambda: nn.Sequential(nn.Linear(5, 4).requires_grad_(requires_grad=False), nn.Linear(4, 1)),
            r"0\.weight.*0\.bias",
        ),
        (tied, r"1\.weight.*another name"),
        (lambda: nn.Sequential(DPLSTM(4, 3)), r"0\.l0\.ih\.weight.*another name"),  # Opacus names its weights twice
        (lambda: nn.Linear(5, 1).eval(), "training mode"),
    ],
)
def test_models_without_gradients_unit_by_unit_are_refused(make: Callable[[], nn.Module], says: str) -> None:
    for refused in (check_model, lambda model: client(model=model)):
        with pytest.raises(UnsupportedModelError, match=says):
            refused(make())


def test_a_parameter_that_is_not_used_is_named() -> None:
    with pytest.raises(UnsupportedModelError, match=r"spare\.weight"):
        per_unit_gradients(HalfUsed(), torch.zeros(3, 5), torch.zeros(3, 1), loss=CROSS_ENTROPY)


def test_a_loss_over_the_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="reduction='none'"):
        per_unit_gradients(nn.Linear(5, 1), torch.zeros(3, 5), torch.zeros(3, 1), loss=nn.BCEWithLogitsLoss())


def test_a_step_encodes_the_gradients_of_the_plans_own_sample() -> None:
    x, y = torch.randn(40, 5, generator=generator()), torch.arange(40.0).remainder(2).unsqueeze(1)
    model = nn.Linear(5, 1)
    one = OpacusClient(model, PLAN, x, y, loss=CROSS_ENTROPY)
    chosen = PLAN.sample(40, random=b"r" * 32)
    rows = per_unit_gradients(model, x[chosen], y[chosen], loss=CROSS_ENTROPY)
    expected = PLAN.encode(rows, random=b"r" * 32).vector
    assert np.array_equal(one.encode(random=b"r" * 32).vector, expected)
    assert not np.array_equal(one.encode().vector, expected)


def test_who_is_in_a_step_is_a_fresh_poisson_sample_of_all_units() -> None:
    plan = replace(PLAN, noise_multiplier=0.01, steps=300)
    one = client(plan=plan)
    drawn = np.array([sampled(one, plan) for _ in range(300)])
    assert set(np.unique(drawn)) == {0, 1}
    assert np.abs(drawn.mean(axis=0) - 0.3).max() < 0.12  # 4.5 standard errors
    assert len(set(drawn.sum(axis=1).tolist())) >= 4  # no fixed size
    assert np.abs(np.corrcoef(drawn.T) - np.eye(6)).max() < 0.27


def test_a_batch_cannot_be_passed_off_as_a_sample() -> None:
    assert set(inspect.signature(OpacusClient.encode).parameters) == {"self", "random"}
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.eye(6)), batch_size=2, shuffle=True)
    for wrong in (batches, list(torch.eye(6))):
        with pytest.raises(TypeError, match="not batches"):
            client(x=wrong)
    with pytest.raises(TypeError):
        client().encode(torch.eye(6)[:2])  # type: ignore[call-arg, arg-type]


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"plan": replace(PLAN, dimension=7)}, UnsupportedModelError, "6 parameters, the plan is for 7"),
        ({"plan": replace(PLAN, units=5)}, ValueError, "at most 5"),
        ({"y": torch.zeros(5, 1)}, ValueError, "6 inputs and 5 targets"),
    ],
)
def test_what_does_not_fit_the_plan_is_refused(changes: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        client(**changes)


def test_steps_are_counted_and_end_with_the_plan() -> None:
    plan = replace(PLAN, steps=3)
    one = client(plan=plan)
    for taken in range(1, 4):
        one.encode()
        assert one.steps == taken
        assert one.spent(1e-5) == plan.spent(1e-5, steps=taken)
    with pytest.raises(PrivacyError, match="3 steps"):
        one.encode()
    assert one.steps == 3


def test_floating_point_noise_needs_its_label_and_never_states_epsilon() -> None:
    with pytest.raises(PrivacyError, match="insecure_float_noise=True"):
        client().insecure_float_gradient()
    insecure = client(insecure_float_noise=True)
    insecure.insecure_float_gradient()
    for call in (insecure.encode, lambda: insecure.spent(1e-5)):
        with pytest.raises(PrivacyError):
            call()


def test_opacus_clips_sums_and_divides_as_the_integer_pipeline_does() -> None:
    plan = replace(PLAN, sampling_probability=1, noise_multiplier=0.01)
    x, y = 3 * torch.randn(40, 5, generator=generator()), torch.arange(40.0).remainder(2).unsqueeze(1)
    model = nn.Linear(5, 1)
    theirs = OpacusClient(model, plan, x, y, loss=CROSS_ENTROPY, insecure_float_noise=True)
    ours = OpacusClient(model, plan, x, y, loss=CROSS_ENTROPY)
    difference = theirs.insecure_float_gradient(generator=generator()) - plan.gradient(ours.encode().vector)
    assert np.abs(difference).max() < 0.1 / plan.divisor


def test_opacus_adds_all_the_noise_at_one_client() -> None:
    plan = replace(PLAN, steps=400)
    empty = client(plan=plan, x=torch.zeros(0, 6), y=torch.zeros(0, 1), insecure_float_noise=True)
    source = generator()
    drawn = np.array([empty.insecure_float_gradient(generator=source) for _ in range(400)])
    assert drawn.std() == pytest.approx(2.0 / plan.divisor, rel=0.06)
    assert plan.codec.noise_stddev(senders=1) < 0.6 * 2.0

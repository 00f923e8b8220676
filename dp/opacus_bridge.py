"""Gradients by Opacus under a plan (`DpSgd`): the only file that imports Opacus (`pip install secagg[train]`).

A client holds all of its units and draws every sample itself, as the plan says. A step takes no batch, so that a
shuffled or a fixed-size one cannot be passed off as a Poisson sample; after the plan's steps there are no more.
Opacus differentiates. The sum of its rows, clipped, is rounded to the grid and gets this client's share of integer
noise (`DpSgd.encode`): clipping is the codec's, in double precision and with an allowance for rounding, because the
sensitivity rests on it.

*Opacus's own noise* is floating-point, from torch's generator. Which numbers such noise can turn a sum into depends on
the sum, which gives sums away (Jin et al. 2021, arXiv 2112.05307: also of DP-SGD). It also is all the noise, at every
client, not a share. It is here to compare with, behind `insecure_float_noise=True`.

>>> import torch
>>> from dp.dp_sgd import DpSgd
>>> plan = DpSgd(dimension=14, clients=4, least_senders=3, units=200, expected_units=486,
...     sampling_probability=0.2, steps=150, clip_norm=1.0, noise_multiplier=2.0)
>>> loss = torch.nn.BCEWithLogitsLoss(reduction="none")
>>> client = OpacusClient(torch.nn.Linear(13, 1), plan, torch.zeros(120, 13), torch.zeros(120, 1), loss=loss)
>>> len(client.encode().vector)  # one step; goes into a secure sum, whose total `plan.gradient` decodes
14
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch.nn.modules.batchnorm import _BatchNorm

from dp.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    from dp.dp_sgd import DpSgd
    from dp.ledger import PrivacySpent
    from secagg.encoding import Encoded

    Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

__all__ = ["OpacusClient", "UnsupportedModelError", "check_model", "per_unit_gradients"]


class UnsupportedModelError(PrivacyError):
    """Opacus cannot tell the gradients of this model's units apart, or they are not all of its state."""


def check_model(model: torch.nn.Module) -> None:
    """Refuse a model whose units have no gradients of their own.

    Raises:
        UnsupportedModelError: Opacus refuses one of its modules; or units meet in batch normalisation; or the model is
            in evaluation mode; or its state has something other than trainable parameters, each once (buffers, frozen
            or tied parameters): that would leave a client outside the account. A module of your own that mixes units
            is not noticed.
    """
    reasons = [str(error) for error in ModuleValidator.validate(model, strict=False)]
    reasons += [str(error) for error in GradSampleModule.validate(model, strict=False)]
    mixing = sorted({type(module).__name__ for module in model.modules() if isinstance(module, _BatchNorm)})
    reasons += [f"{name} mixes units: take GroupNorm" for name in mixing]
    seen: set[int] = set()
    for name, value in model.state_dict(keep_vars=True).items():
        if not (isinstance(value, torch.nn.Parameter) and value.requires_grad) or id(value) in seen:
            reasons.append(f"{name} is not a trainable parameter, or one that has another name")
        seen.add(id(value))
    if reasons:
        raise UnsupportedModelError("; ".join(reasons))


def per_unit_gradients(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, *, loss: Loss) -> NDArray[np.float64]:
    """Differentiate every unit's loss by all parameters.

    Args:
        model: in training mode; left as it was, with its gradients.
        x, y: (units, ...) inputs and targets, a unit an entry.
        loss: (outputs, y) -> (units,) or (units, 1), a loss a unit: reduction="none".
    Returns: (units, parameters) float64, parameters in the order of `Layout.of(model.state_dict())`. Secret.
    Raises:
        UnsupportedModelError: see `check_model`; or some parameter has no gradient for every unit.
        ValueError: the loss is not one number a unit.
    """
    with _grad_samples(model, x, y, loss) as samples:
        rows = torch.cat([each.flatten(1) for each in samples], dim=1)
        return rows.double().cpu().numpy()


class OpacusClient:
    """One client of a plan: its units, its model, and the steps it has taken. Not thread-safe.

    Args:
        model: as in `per_unit_gradients`; load the global weights into it before every step.
        plan: sampler, clip, noise and account.
        x, y: all of this client's units, (units, ...); a unit an entry, say all visits of a patient.
        loss: as in `per_unit_gradients`.
        insecure_float_noise: allow `insecure_float_gradient`, and nothing else.

    Raises:
        UnsupportedModelError: see `check_model`; or the plan is for another number of parameters.
        TypeError: x or y is not a tensor (a loader of batches, say).
        ValueError: x and y differ in length, or there are more units than the plan's bound.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        plan: DpSgd,
        x: torch.Tensor,
        y: torch.Tensor,
        *,
        loss: Loss,
        insecure_float_noise: bool = False,
    ) -> None:
        for given in (x, y):
            if not isinstance(given, torch.Tensor):
                msg = f"expected tensors with all units of this client, not batches of them: got {type(given).__name__}"
                raise TypeError(msg)
        if not len(x) == len(y) <= plan.units:
            msg = f"{len(x)} inputs and {len(y)} targets: expected as many of each, at most {plan.units} (plan.units)"
            raise ValueError(msg)
        check_model(model)
        parameters = sum(value.numel() for value in model.parameters())
        if parameters != plan.dimension:
            msg = f"the model has {parameters} parameters, the plan is for {plan.dimension}"
            raise UnsupportedModelError(msg)
        self._model, self._plan, self._x, self._y, self._loss = model, plan, x, y, loss
        self._insecure = insecure_float_noise
        self._steps = 0

    @property
    def steps(self) -> int:
        """How many were taken."""
        return self._steps

    def spent(self, delta: float) -> PrivacySpent:
        """Return what these steps cost a unit, if every other client took as many under the same plan.

        Raises:
            PrivacyError: steps with Opacus's noise have no account here.
        """
        if self._insecure:
            msg = "no ε is stated for floating-point noise"
            raise PrivacyError(msg)
        return self._plan.spent(delta, steps=self._steps)

    def encode(self, *, random: bytes | None = None) -> Encoded:
        """Take a step: draw a sample, differentiate, clip, round, add up, add this client's share of the noise.

        Args:
            random: 32 fresh secret bytes, for one step only; None draws them from the operating system.
        Raises:
            PrivacyError: the plan's steps are taken, or this client is for floating-point noise.
            UnsupportedModelError, ValueError: as in `per_unit_gradients`.
        """
        if self._insecure:
            msg = "this client was made to compare with Opacus's noise: make another without insecure_float_noise"
            raise PrivacyError(msg)
        random = os.urandom(32) if random is None else random
        x, y = self._drawn(random)
        return self._plan.encode(per_unit_gradients(self._model, x, y, loss=self._loss), random=random)

    def insecure_float_gradient(self, *, generator: torch.Generator | None = None) -> NDArray[np.float64]:
        """Take a step as Opacus does: its clipping, its floating-point noise, all of it at this client.

        Args:
            generator: of the noise; None: torch's own, which is not cryptographic.
        Returns: (parameters,) float64: clipped sum with noise, over the plan's divisor.
        Raises:
            PrivacyError: `insecure_float_noise` was not asked for, or the plan's steps are taken.
            UnsupportedModelError, ValueError: as in `per_unit_gradients`.
        """
        if not self._insecure:
            msg = (
                "floating-point noise does not keep what ε promises: to compare with it, say insecure_float_noise=True"
            )
            raise PrivacyError(msg)
        x, y = self._drawn(os.urandom(32))
        with _grad_samples(self._model, x, y, self._loss):
            optimizer = DPOptimizer(
                torch.optim.SGD(self._model.parameters(), lr=1.0),
                noise_multiplier=self._plan.noise_multiplier,
                max_grad_norm=self._plan.clip_norm,
                expected_batch_size=None,
                loss_reduction="sum",
                generator=generator,
            )
            optimizer.pre_step()
            state = self._model.state_dict(keep_vars=True).values()
            noisy: NDArray[np.float64] = torch.cat([value.grad.flatten() for value in state]).double().cpu().numpy()
            return noisy / self._plan.divisor

    def _drawn(self, random: bytes) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw the sample of the next step."""
        if self._steps == self._plan.steps:
            msg = f"the plan is for {self._plan.steps} steps, and they are taken"
            raise PrivacyError(msg)
        self._steps += 1
        chosen = torch.from_numpy(self._plan.sample(len(self._x), random=random))
        return self._x[chosen], self._y[chosen]


@contextmanager
def _grad_samples(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Loss) -> Iterator[list[torch.Tensor]]:
    """Let every parameter carry its gradients unit by unit, (units, *shape), meanwhile; yields them in order."""
    check_model(model)
    named: dict[str, torch.nn.Parameter] = model.state_dict(keep_vars=True)
    before = [value.grad for value in named.values()]
    wrapped = GradSampleModule(model, loss_reduction="sum")
    try:
        model.zero_grad()
        if len(x):
            inputs = x.detach().requires_grad_(x.is_floating_point())  # torch warns of hooks where no input does
            losses = loss(wrapped(inputs), y)
            if losses.shape not in {(len(x),), (len(x), 1)}:
                msg = f"expected a loss for each of {len(x)} units, got shape {tuple(losses.shape)}: reduction='none'?"
                raise ValueError(msg)
            losses.sum().backward()  # type: ignore[no-untyped-call]
        else:
            for value in named.values():
                value.grad_sample = value.new_zeros((0, *value.shape))  # type: ignore[attr-defined]
        yield [_checked(name, value, len(x)) for name, value in named.items()]
    finally:
        wrapped.to_standard_module()
        for module in model.modules():  # of a forward pass without its backward pass
            module.__dict__.pop("activations", None)
            module.__dict__.pop("max_batch_len", None)
        for value, gradient in zip(named.values(), before, strict=True):
            value.grad = gradient


def _checked(name: str, value: torch.nn.Parameter, units: int) -> torch.Tensor:
    found = getattr(value, "grad_sample", None)
    if not isinstance(found, torch.Tensor) or found.shape != (units, *value.shape):
        msg = f"Opacus has no gradient of {name} for each of {units} units: is it used, and is the unit the first axis?"
        raise UnsupportedModelError(msg)
    return found

"""Inversion of time series through a recurrent network.

An LSTM is smooth in its inputs, so that the squared distance between gradients can be followed down to rounding; its
logarithm is what is minimised, whose slope does not fade on the way. But what the last state has forgotten leaves
hardly a trace: many series have almost this gradient, most of them nothing like a heartbeat. Public series of the same
kind, as a Gaussian prior, say which.

Assumes: known labels, length and scale of the series; one gradient step, or known local steps.
Source: TS-Inverse (2025, arXiv 2503.20952) shows that gradients of recurrent models need auxiliary data as a prior; it
learns quantiles from them, where a Gaussian is fitted here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from attacks.inversion.gradients import Inversion, gradients, squared_distance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from attacks.inversion.gradients import LocalSteps

__all__ = ["invert_series"]

SMALLEST = 1e-14
SMALLEST_DEVIATION = 1e-3


def invert_series(
    model: torch.nn.Module,
    seen: Sequence[torch.Tensor],
    labels: NDArray[np.int64],
    *,
    shape: tuple[int, int, int],
    generator: torch.Generator,
    public: NDArray[np.float32] | None = None,
    local: LocalSteps | None = None,
    prior: float = 0.1,
    learning_rate: float = 0.05,
    iterations: int = 500,
    restarts: int = 1,
) -> Inversion:
    """Guess series from a gradient or from an update of several steps.

    Args:
        model: at the parameters that the victim started from; takes (records, steps, channels).
        seen: one tensor a parameter: the gradient, or the update over minus the learning rate.
        labels: (records,) in the order of the victim's steps.
        shape: (records, steps, channels), of values with mean 0 and deviation about 1.
        generator: draws the starts.
        public: (examples, steps, channels) series of the same kind; without them each value is taken to be normal and
            on its own.
        local: the victim's steps; None for one.
        prior: weight of the squared distance from the public series, in their standard deviations.
        learning_rate: highest, of a cycle that rises and falls once.
        iterations: of Adam.
        restarts: the guess with the least distance is returned.
    Raises:
        ValueError: no restarts or no iterations.
    """
    if restarts < 1 or iterations < 1:
        msg = f"at least one start and one iteration are needed, got {restarts} and {iterations}"
        raise ValueError(msg)
    y = torch.from_numpy(labels)
    mean, spread = (torch.from_numpy(part).to(seen[0].dtype) for part in _gaussian(public, shape[1] * shape[2]))
    best: tuple[float, torch.Tensor] | None = None
    for _ in range(restarts):
        z = (0.1 * torch.randn((shape[0], spread.shape[0]), generator=generator, dtype=spread.dtype)).requires_grad_()
        optimizer = torch.optim.Adam([z], lr=learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=iterations)
        for _ in range(iterations):
            series = (mean + z @ spread).reshape(shape)
            error = squared_distance(gradients(model, series, y, local=local), seen)
            (z.grad,) = torch.autograd.grad(torch.log(error + SMALLEST) + prior * z.square().mean(), z)
            optimizer.step()
            schedule.step()
        series = (mean + z.detach() @ spread).reshape(shape)
        distance = float(squared_distance(gradients(model, series, y, local=local), seen).detach())
        if best is None or distance < best[0]:
            best = distance, series
    assert best is not None  # noqa: S101 -- restarts >= 1
    return Inversion(best[1].double().numpy(), labels.astype(np.int64), best[0])


def _gaussian(public: NDArray[np.float32] | None, values: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit mean + z @ spread, z standard normal: (values,) and (directions, values)."""
    if public is None:
        return np.zeros(values), np.eye(values)
    flat = public.reshape(len(public), values).astype(np.float64)
    mean: NDArray[np.float64] = flat.mean(axis=0)
    _, deviations, directions = np.linalg.svd((flat - mean) / len(flat) ** 0.5, full_matrices=False)
    kept = deviations > SMALLEST_DEVIATION * deviations[0]
    return mean, deviations[kept, None] * directions[kept]

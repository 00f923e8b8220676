"""What a guess would have changed, and how far that is from what was seen: the part all optimising attacks share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from secagg import Layout

__all__ = [
    "Inversion",
    "LocalSteps",
    "Tensors",
    "as_gradients",
    "best_of",
    "cosine_distance",
    "gradients",
    "loss_of",
    "squared_distance",
]

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Inversion:
    """A guess of a batch.

    Attributes:
        inputs: (records, ...) float64, in no order.
        labels: (records,) int64, of the guesses.
        distance: of what the guess changes from what was seen, the smaller the better; comparable within one attack.
    """

    inputs: NDArray[np.float64] = field(repr=False)
    labels: NDArray[np.int64]
    distance: float


@dataclass(frozen=True, slots=True)
class LocalSteps:
    """Local training by plain SGD: its batches in the order of the records, pass after pass.

    Attributes:
        batch_size: records a step.
        epochs: passes over the records.
        learning_rate: of SGD.
    """

    batch_size: int
    epochs: int
    learning_rate: float


def best_of(restarts: int, start: Callable[[], Inversion]) -> Inversion:
    """Run a search several times and return the guess with the least distance.

    Raises:
        ValueError: no restarts.
    """
    if restarts < 1:
        msg = f"at least one start is needed, got restarts = {restarts}"
        raise ValueError(msg)
    return min((start() for _ in range(restarts)), key=lambda guess: (guess.distance != guess.distance, guess.distance))


def loss_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy: of one logit against 0 or 1, else of a softmax against label numbers or probabilities."""
    if logits.shape[1] == 1:
        return torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels.to(logits.dtype))
    return torch.nn.functional.cross_entropy(logits, labels)


def gradients(
    model: torch.nn.Module, inputs: torch.Tensor, labels: torch.Tensor, *, local: LocalSteps | None = None
) -> Tensors:
    """Return what training on a guess changes, divided by minus the learning rate, differentiable in the guess.

    Args:
        model: at the parameters that the victim started from; in training mode nothing may depend on other inputs.
        inputs: (records, ...).
        labels: (records,) numbers or (records, classes) probabilities.
        local: the victim's steps; None for one step on all records, whose result is the gradient.
    Returns: one tensor a parameter, in the model's order.
    Source: several steps are unrolled as in Geiping et al. 2020, sec. 6, and Dimitrov et al. 2022 (arXiv 2206.12395).
    """
    start = dict(model.named_parameters())
    if local is None:
        return torch.autograd.grad(loss_of(model(inputs), labels), tuple(start.values()), create_graph=True)
    now: dict[str, torch.Tensor] = dict(start)
    for _ in range(local.epochs):
        batches = zip(torch.split(inputs, local.batch_size), torch.split(labels, local.batch_size), strict=True)
        for x, y in batches:
            loss = loss_of(torch.func.functional_call(model, now, (x,)), y)
            step = torch.autograd.grad(loss, tuple(now.values()), create_graph=True)
            now = {name: value - local.learning_rate * g for (name, value), g in zip(now.items(), step, strict=True)}
    return tuple((start[name] - now[name]) / local.learning_rate for name in start)


def as_gradients(
    model: torch.nn.Module, layout: Layout, update: NDArray[np.float64], *, learning_rate: float
) -> Tensors:
    """Read a flat update, as a view holds it, as the gradients it would be after one step.

    Args:
        model: says which entries are parameters.
        layout: of the model's state_dict.
        update: (parameters,) new minus old.
        learning_rate: of the victim's SGD.
    """
    named = layout.unflatten(update)
    return tuple(
        (torch.as_tensor(named[name]) / -learning_rate).to(parameter.dtype)
        for name, parameter in model.named_parameters()
    )


def cosine_distance(guess: Tensors, seen: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return 1 - cosine of the angle between them: blind to scale, and so to the number of clients in a mean.

    Source: Geiping et al. 2020, eq. 4.
    """
    product = torch.stack([(g * s).sum() for g, s in zip(guess, seen, strict=True)]).sum()
    squares = torch.stack([(g * g).sum() for g in guess]).sum() * torch.stack([(s * s).sum() for s in seen]).sum()
    return 1 - product / squares.sqrt()


def squared_distance(guess: Tensors, seen: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the squared Euclidean distance between them, relative to what was seen.

    Source: Zhu et al. 2019 (DLG), eq. 4.
    """
    error = torch.stack([((g - s) ** 2).sum() for g, s in zip(guess, seen, strict=True)]).sum()
    return error / torch.stack([(s * s).sum() for s in seen]).sum()

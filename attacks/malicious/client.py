"""The client under attack: it computes the gradient of whatever model it is sent, by ordinary backpropagation."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["flat", "gradient", "local_training", "moved", "parts", "perceptron"]


def gradient(model: torch.nn.Module, inputs: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute one client's FedSGD update: the gradient of its mean cross-entropy.

    Args:
        model: returns logits (inputs, classes).
        inputs: (inputs, ...), as the model takes them.
        labels: (inputs,) classes.
    Returns: (parameters,) float64, in the order of `model.parameters()`.
    """
    parameters = list(model.parameters())
    logits = model(torch.from_numpy(inputs).to(parameters[0].dtype))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
    pieces = torch.autograd.grad(loss, parameters)
    return np.concatenate([piece.double().numpy().ravel() for piece in pieces])


def parts(update: NDArray[np.float64], model: torch.nn.Module) -> dict[str, NDArray[np.float64]]:
    """Cut an update into the model's parameters, by name.

    Args:
        update: (parameters,), in the order of `model.parameters()`.
    """
    sizes = [parameter.numel() for parameter in model.parameters()]
    pieces = np.split(update, np.cumsum(sizes)[:-1])
    named = dict(model.named_parameters())
    return {name: piece.reshape(named[name].shape) for name, piece in zip(named, pieces, strict=True)}


def perceptron(
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
    out_weight: NDArray[np.float64],
    out_bias: NDArray[np.float64],
) -> torch.nn.Sequential:
    """Make a float32 classifier with one hidden layer of rectified units: the model all attacks here are given as.

    Args:
        weight: (units, features). bias: (units,).
        out_weight: (classes, units). out_bias: (classes,).
    """
    model = torch.nn.Sequential(
        torch.nn.Linear(weight.shape[1], weight.shape[0], device="meta"),
        torch.nn.ReLU(),
        torch.nn.Linear(out_weight.shape[1], out_weight.shape[0], device="meta"),
    ).to_empty(device="cpu")
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), (weight, bias, out_weight, out_bias), strict=True):
            parameter.copy_(torch.from_numpy(values))
    return model


def local_training(
    model: torch.nn.Module,
    inputs: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Compute one client's FedAvg update: what some steps of SGD change. The model is left as it was.

    Args:
        model: returns logits (inputs, classes).
        inputs, labels: the client's own.
        steps, batch, learning_rate: of SGD; batches are drawn from shuffled passes over the inputs.
        rng: shuffles.
    Returns: (parameters,) float64, new minus old, in the order of `model.parameters()`.
    """
    trained = deepcopy(model)
    optimizer = torch.optim.SGD(trained.parameters(), lr=learning_rate)
    order = np.concatenate([rng.permutation(len(inputs)) for _ in range(-(-steps * batch // len(inputs)))])
    for chosen in order[: steps * batch].reshape(steps, batch):
        optimizer.zero_grad()
        logits = trained(torch.from_numpy(inputs[chosen]).float())
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[chosen])).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return flat(trained) - flat(model)


def flat(model: torch.nn.Module) -> NDArray[np.float64]:
    """Concatenate a model's parameters: (parameters,) float64."""
    return np.concatenate([parameter.detach().double().numpy().ravel() for parameter in model.parameters()])


def moved(model: torch.nn.Module, update: NDArray[np.float64]) -> None:
    """Add an update to a model's parameters, in place."""
    with torch.no_grad():
        for parameter, change in zip(model.parameters(), parts(update, model).values(), strict=True):
            parameter.add_(torch.from_numpy(change))

"""What a client can check before it answers: does this model sort my inputs, or single one of them out?

Each detector scores a model between 0 and 1, most of them by how it treats the client's own inputs: what a layer does
with them cannot be disguised, how its weights look can. A client refuses to train where a score exceeds the limit; the
limits here are above all honest models measured (see `benchmarks.leakage_sums`). None of this is a proof: what passes
all five is bounded only by how much of a layer may misbehave without being noticed.

Source: gradients dominated by one input as the sign of a malicious model, Garov et al. 2024 (ICLR, arXiv 2306.03013);
that clients must look after their own privacy, Marchand et al. 2023 (arXiv 2306.07644). The scores are built here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = [
    "DETECTORS",
    "Detector",
    "alarms",
    "idle_inputs",
    "parallel_responses",
    "parallel_rows",
    "quiet_units",
    "unequal_gradients",
]

PARALLEL = 0.99
SAME_RESPONSE = 0.9999
SOME_LOSS, NO_GRADIENT = 0.1, 1e-6


@dataclass(frozen=True, slots=True)
class Detector:
    """A score and what a client tolerates.

    Attributes:
        name: what it is called.
        score: (model, inputs, labels) -> in [0, 1]; inputs (many, features) and labels (many,) are the client's own.
        limit: an alarm is a score above it.
    """

    name: str
    score: Callable[[torch.nn.Sequential, NDArray[np.float64], NDArray[np.int64]], float]
    limit: float


def alarms(model: torch.nn.Sequential, inputs: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, float]:
    """Return the detectors that a client would stop at, with their scores."""
    scores = {detector.name: detector.score(model, inputs, labels) for detector in DETECTORS}
    return {detector.name: scores[detector.name] for detector in DETECTORS if scores[detector.name] > detector.limit}


def parallel_rows(model: torch.nn.Sequential, _: NDArray[np.float64], __: NDArray[np.int64]) -> float:
    """Share of the first layer's rows that are parallel to another: an imprint's are."""
    weight = _first(model).weight.detach().double().numpy()
    return _share_with_twin(weight, PARALLEL)


def parallel_responses(model: torch.nn.Sequential, inputs: NDArray[np.float64], _: NDArray[np.int64]) -> float:
    """Share of the first layer's units that respond to the client's inputs as another does, up to scale and offset.

    Weights may differ as they like where inputs do not vary; responses cannot.
    """
    responses = _responses(model, inputs)
    return _share_with_twin((responses - responses.mean(axis=0)).T, SAME_RESPONSE)


def quiet_units(model: torch.nn.Sequential, inputs: NDArray[np.float64], _: NDArray[np.int64]) -> float:
    """Share of the first layer's units that at most one of the client's inputs switches on, as traps are."""
    return float(((_responses(model, inputs) > 0).sum(axis=0) <= 1).mean())


def idle_inputs(model: torch.nn.Sequential, inputs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Share of the client's inputs that have a loss but no gradient: nothing is learned from them, as under fishing."""
    losses, norms = _losses_and_gradients(model, inputs, labels)
    return float(((losses > SOME_LOSS) & (norms <= NO_GRADIENT * norms.max())).mean())


def unequal_gradients(model: torch.nn.Sequential, inputs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """How far the inputs' gradients are from equally large: 0 if all are, near 1 if one is all of it, 1 if none is.

    One minus the effective number of inputs over their number. It grows on honest models as they fit their inputs.
    """
    _, norms = _losses_and_gradients(model, inputs, labels)
    total = float((norms**2).sum())
    return 1 - float(norms.sum()) ** 2 / total / len(norms) if total else 1.0


DETECTORS = (
    Detector("parallel rows", parallel_rows, 0.02),
    Detector("parallel responses", parallel_responses, 0.02),
    Detector("quiet units", quiet_units, 0.5),
    Detector("idle inputs", idle_inputs, 0.25),
    Detector("unequal gradients", unequal_gradients, 0.97),
)


def _first(model: torch.nn.Sequential) -> torch.nn.Linear:
    for layer in model:
        if isinstance(layer, torch.nn.Linear):
            return layer
    msg = "there is no linear layer to look at"
    raise TypeError(msg)


def _responses(model: torch.nn.Sequential, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the first linear layer makes of inputs, before rectification: (inputs, units)."""
    output = torch.from_numpy(inputs).to(next(model.parameters()).dtype)
    with torch.no_grad():
        for layer in model:
            output = layer(output)
            if isinstance(layer, torch.nn.Linear):
                break
    return output.double().numpy()


def _losses_and_gradients(
    model: torch.nn.Sequential, inputs: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loss of every input, and the norm of its gradient at the first linear layer's output: (inputs,) each."""
    hidden = torch.from_numpy(_responses(model, inputs)).to(next(model.parameters()).dtype).requires_grad_()
    output = hidden
    for layer in list(model)[list(model).index(_first(model)) + 1 :]:
        output = layer(output)
    losses = torch.nn.functional.cross_entropy(output, torch.from_numpy(labels), reduction="none")
    norms = torch.autograd.grad(losses.sum(), hidden)[0].double().norm(dim=1)
    return losses.detach().double().numpy(), norms.numpy()


def _share_with_twin(vectors: NDArray[np.float64], similar: float) -> float:
    """Share of vectors whose cosine with another is beyond `similar`, in either direction."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = np.abs((vectors / np.where(norms, norms, 1)) @ (vectors / np.where(norms, norms, 1)).T)
    np.fill_diagonal(cosines, 0)
    return float((cosines.max(axis=1) > similar).mean())

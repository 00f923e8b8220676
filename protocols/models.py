"""Small models by name, initialised from an explicit generator (torch's global one is never touched)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal, TypeAlias

import torch

__all__ = ["ModelName", "make_model"]

ModelName: TypeAlias = Literal["logistic", "mlp"]
HIDDEN = 64


def make_model(name: ModelName, features: int, *, generator: torch.Generator) -> torch.nn.Sequential:
    """Make a binary classifier that returns logits of shape (patients, 1).

    Args:
        name: "logistic" (one linear layer) or "mlp" (one hidden layer of 64 rectified units).
        features: inputs.
        generator: for the initial weights: uniform in ±1/sqrt(fan-in), torch's own default for linear layers.
    """
    widths = [features, 1] if name == "logistic" else [features, HIDDEN, 1]
    layers: list[torch.nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layer = torch.nn.Linear(fan_in, fan_out, device="meta").to_empty(device="cpu")
        bound = 1 / math.sqrt(fan_in)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])

"""Gradients patient by patient, all at once, by torch.func."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.func import functional_call, grad, vmap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["per_patient_gradients"]


def per_patient_gradients(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> NDArray[np.float64]:
    """Differentiate every patient's binary cross-entropy by all parameters.

    Args:
        model: returns logits (patients, 1); its layers must treat patients independently (no batch normalisation).
        x: (patients, features) float32.
        y: (patients,) float32, 0 or 1.
    Returns: (patients, parameters) float64, parameters in the order of `state_dict`, which is that of `Layout.of`.
    """
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(weights: dict[str, torch.Tensor], features: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        logit = functional_call(model, weights, (features.unsqueeze(0),)).squeeze()
        return torch.nn.functional.binary_cross_entropy_with_logits(logit, label)

    rows = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
    flat = torch.cat([rows[name].flatten(1) for name in model.state_dict()], dim=1)
    return flat.double().numpy()

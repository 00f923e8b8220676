"""Per-example gradients by Opacus, under a plan: the one place that imports it (`pip install secagg[train]`).

    >>> import torch
    >>> from dp.dp_sgd import DpSgd
    >>> plan = DpSgd(dimension=14, clients=4, least_senders=3, units=200, expected_units=486,
    ...     sampling_probability=0.2, steps=150, clip_norm=1.0, noise_multiplier=2.0)
    >>> loss = torch.nn.BCEWithLogitsLoss(reduction="none")
    >>> site = OpacusClient(torch.nn.Linear(13, 1), plan, torch.randn(120, 13), torch.zeros(120, 1), loss=loss)
    >>> len(site.encode().vector)  # a step: goes into a secure sum; `plan.gradient` decodes the total
    14

The client holds all of its units and draws every sample itself, as the plan says: a shuffled or a fixed-size batch
cannot be passed off as a Poisson sample, because a step takes no batch. It stops after the plan's steps. Opacus
differentiates; gradients are clipped once more by the codec, in double precision and with an allowance for rounding,
because the sensitivity rests on it.

*Opacus's own noise* is a floating-point Gaussian from torch's generator: which numbers it can give depends on the sum it
is added to, which tells sums apart (Mironov 2012), and its `secure_mode` does not repair that. Nor is it in shares: it
is all the noise, at every client. It is here to compare with, behind `insecure_float_noise=True`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator

from dp.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from dp.dp_sgd import DpSgd
    from dp.ledger import PrivacySpent
    from secagg import Encoded

__all__ = ["OpacusClient", "UnsupportedModelError", "check_model", "per_unit_gradients"]

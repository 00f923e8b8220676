"""What federated training is compared with: all data in one place, and each institution alone.

Hyper-parameters are FLamby's for this baseline: Adam at 0.001, batches of 4, 50 passes over the training patients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from protocols.institution import batches_of, train
from protocols.models import ModelName, make_model

if TYPE_CHECKING:
    from protocols.task import SiteData

__all__ = ["train_alone"]

LEARNING_RATE, BATCH_SIZE, PASSES = 0.001, 4, 50


def train_alone(data: SiteData, model: ModelName, *, seed: int) -> torch.nn.Module:
    """Train a fresh model on one data set only: a hospital's, or the pooled one."""
    generator = torch.Generator().manual_seed(seed)
    network = make_model(model, data.train_x.shape[1], generator=generator)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    patients = len(data.train_y)
    steps = PASSES * -(-patients // BATCH_SIZE)
    train(network, data, optimizer, batches_of(patients, steps=steps, batch_size=BATCH_SIZE, generator=generator))
    return network

"""Data to attack: digits from scikit-learn, and what SECAGG_DATA points to, never downloaded.

Chest X-rays are PneumoniaMNIST (Yang et al. 2023, MedMNIST v2, CC BY 4.0), heartbeats ECG5000 (UCR archive; PhysioNet
BIDMC record chf07, ODC-By 1.0). The heart task's patients come from `protocols.tasks`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Examples", "digits", "heartbeats", "images", "pneumonia", "waves"]


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Labelled examples.

    Attributes:
        name: as printed.
        x: (examples, ...) float32: images (examples, 1, height, width) in [0, 1], series (examples, steps, 1) with
            mean 0 and deviation 1.
        y: (examples,) int64, in 0..classes - 1.
        classes: how many labels there are.
    """

    name: str
    x: NDArray[np.float32] = field(repr=False)
    y: NDArray[np.int64] = field(repr=False)
    classes: int


def images(folder: Path | None) -> Examples:
    """Load chest X-rays where there is a folder that holds them, else digits."""
    if folder is not None and _pneumonia_file(folder).exists():
        return pneumonia(folder)
    return digits()


def digits() -> Examples:
    """Load the 1,797 handwritten digits of scikit-learn, 8 x 8 pixels."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 -- slow to load

    found = load_digits()
    return Examples("digits", (found.images[:, None] / 16).astype(np.float32), found.target.astype(np.int64), 10)


def pneumonia(folder: Path) -> Examples:
    """Load the 4,708 training images of PneumoniaMNIST, 28 x 28 pixels.

    Args:
        folder: what SECAGG_DATA names; holds pneumoniamnist/pneumoniamnist_rebuilt.npz.
    """
    with np.load(_pneumonia_file(folder), allow_pickle=False) as archive:
        x, y = archive["train_images"], archive["train_labels"]
    return Examples("PneumoniaMNIST", (x[:, None] / 255).astype(np.float32), y[:, 0].astype(np.int64), 2)


def heartbeats(folder: Path) -> Examples:
    """Load the 500 training heartbeats of ECG5000, 140 samples each; label 1 is any abnormal beat.

    Args:
        folder: what SECAGG_DATA names; holds ecg5000_train/ECG5000_TRAIN.txt.
    """
    table = np.loadtxt(folder / "ecg5000_train" / "ECG5000_TRAIN.txt")
    series, normal = table[:, 1:, None], table[:, 0] == 1
    return Examples("ECG5000", _standardise(series), (~normal).astype(np.int64), 2)


def waves(count: int, *, steps: int, rng: np.random.Generator) -> Examples:
    """Make series with a beat and its echo at random times: label 1 has the larger echo.

    Args:
        count: how many.
        steps: samples each.
        rng: draws.
    """
    y = rng.integers(0, 2, count)
    time = np.arange(steps)

    def bump(centre: NDArray[np.float64], width: float) -> NDArray[np.float64]:
        shape: NDArray[np.float64] = np.exp(-(((time - centre[:, None]) / width) ** 2))
        return shape

    first = rng.uniform(0.15, 0.4, count) * steps
    later = first + rng.uniform(0.25, 0.45, count) * steps
    echo = np.where(y == 1, 0.8, 0.3) * rng.uniform(0.8, 1.2, count)
    series = bump(first, steps / 16) + echo[:, None] * bump(later, steps / 10)
    return Examples("waves", _standardise(series[:, :, None]), y.astype(np.int64), 2)


def _pneumonia_file(folder: Path) -> Path:
    return folder / "pneumoniamnist" / "pneumoniamnist_rebuilt.npz"


def _standardise(series: NDArray[np.float64]) -> NDArray[np.float32]:
    standard: NDArray[np.float32] = ((series - series.mean()) / series.std()).astype(np.float32)
    return standard

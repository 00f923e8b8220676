"""An institution: its data, its training, its evaluation. What leaves it goes through `protocols.secure_mean`."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from protocols.errors import TrainingError
from protocols.gradients import per_patient_gradients
from secagg import Layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from protocols.task import SiteData

__all__ = ["Evaluation", "Institution", "LocalUpdate", "batches_of", "evaluate", "one_thread", "train"]


@dataclass(frozen=True, slots=True, eq=False)
class LocalUpdate:
    """What local training changed. Secret: it can give away a patient.

    Attributes:
        delta: (parameters,) float64, new minus old.
        weight: training patients.
        rounding: 32 bytes that round it; None draws them from the OS. What others learn if they know them:
            `secagg.Encoding.encode`.
    """

    delta: NDArray[np.float64] = field(repr=False)
    weight: int
    rounding: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A model's performance on one test set.

    Attributes:
        accuracy: share classified rightly at probability 1/2.
        loss: mean binary cross-entropy, nats.
        scores: (patients,) float64 probabilities; they stay where they were made.
        labels: (patients,) 0 or 1.
    """

    accuracy: float
    loss: float
    scores: NDArray[np.float64] = field(repr=False)
    labels: NDArray[np.float32] = field(repr=False)


class Institution:
    """One hospital: it trains and evaluates on its own data. Not thread-safe.

    Args:
        data: its prepared data.
        model: a model of the agreed architecture, of its own; its weights are overwritten.
        generator: drives the order of its patients; advances from round to round.
    """

    def __init__(self, data: SiteData, model: torch.nn.Module, *, generator: torch.Generator) -> None:
        self.data = data
        self._model = model
        self._layout = Layout.of(model.state_dict())
        self._generator = generator

    @property
    def name(self) -> str:
        """The site's name."""
        return self.data.name

    def train(
        self, parameters: NDArray[np.float64], *, steps: int, batch_size: int, learning_rate: float
    ) -> LocalUpdate:
        """Train from the global parameters by plain SGD.

        Args:
            parameters: (parameters,) float64, the global model.
            steps: local SGD steps.
            batch_size: patients a step.
            learning_rate: of SGD.
        """
        self._load(parameters)
        patients = len(self.data.train_y)
        chosen = batches_of(patients, steps=steps, batch_size=batch_size, generator=self._generator)
        train(self._model, self.data, torch.optim.SGD(self._model.parameters(), lr=learning_rate), chosen)
        return LocalUpdate(self._layout.flatten(self._model.state_dict()) - parameters, patients)

    def gradients(self, parameters: NDArray[np.float64], chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """Differentiate the loss of some of its training patients, one by one: (patients, parameters) float64.

        Args:
            parameters: (parameters,) float64, the global model.
            chosen: positions of the patients.
        """
        self._load(parameters)
        x, y = torch.from_numpy(self.data.train_x[chosen]), torch.from_numpy(self.data.train_y[chosen])
        return per_patient_gradients(self._model, x, y)

    def evaluate(self, parameters: NDArray[np.float64]) -> Evaluation:
        """Evaluate the global parameters on its own test patients."""
        self._load(parameters)
        return evaluate(self._model, self.data)

    def _load(self, parameters: NDArray[np.float64]) -> None:
        self._model.load_state_dict(self._layout.unflatten(parameters))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread meanwhile: for models this small, handing work to others costs many times the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(
    model: torch.nn.Module,
    data: SiteData,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[torch.Tensor],
) -> None:
    """Minimise binary cross-entropy, one step a batch, in place.

    Args:
        model: returns logits (patients, 1).
        data: whose training patients.
        optimizer: over the model's parameters.
        batches: positions of the patients in each step, as `batches_of` makes them.
    """
    x, y = torch.from_numpy(data.train_x), torch.from_numpy(data.train_y)
    for chosen in batches:
        optimizer.zero_grad()
        logits = model(x[chosen]).squeeze(1)
        torch.nn.functional.binary_cross_entropy_with_logits(logits, y[chosen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def batches_of(patients: int, *, steps: int, batch_size: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Cut shuffled passes over the patients into batches; the last of a pass may be smaller."""
    chosen: list[torch.Tensor] = []
    while len(chosen) < steps:
        chosen += torch.split(torch.randperm(patients, generator=generator), batch_size)
    return chosen[:steps]


def evaluate(model: torch.nn.Module, data: SiteData) -> Evaluation:
    """Evaluate a model on a site's test patients.

    Raises:
        TrainingError: the model's outputs are not finite.
    """
    with torch.no_grad():
        logits = model(torch.from_numpy(data.test_x)).squeeze(1).double()
    if not bool(torch.isfinite(logits).all()):
        msg = f"the model's outputs for {data.name} are not finite"
        raise TrainingError(msg)
    labels = torch.from_numpy(data.test_y)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.double())
    accuracy = ((logits > 0) == (labels > 0)).double().mean()
    return Evaluation(float(accuracy), float(loss), torch.sigmoid(logits).numpy(), data.test_y)

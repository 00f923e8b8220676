"""Choose the demo's learning rate without looking at a test patient: three-fold cross-validation inside the hospitals.

Each hospital keeps a third of its own training patients aside, three times; a federation trains on the rest, and only
how many held-out patients it got right leaves a hospital (in plain here: this compares settings, nothing is deployed).
"""

from dataclasses import replace

import numpy as np

from protocols import TrainConfig
from protocols.federation import Federation
from protocols.institution import one_thread
from protocols.server_opt import FedAvg
from protocols.task import SiteData, Task
from protocols.tasks import load_task

FOLDS, SEEDS, RATES = 3, 1, (0.0001, 0.001, 0.01, 0.1)


def folded(site: SiteData, fold: int) -> SiteData:
    """Put one fold of a hospital's training patients in the place of its test patients."""
    held = np.arange(len(site.train_y)) % FOLDS == fold
    return replace(
        site,
        train_x=site.train_x[~held],
        train_y=site.train_y[~held],
        test_x=site.train_x[held],
        test_y=site.train_y[held],
    )


def held_out_accuracy(task: Task, rate: float, seed: int) -> float:
    """Train as the demo does and count held-out patients classified rightly."""
    federation = Federation.build(TrainConfig(aggregation="plain"), task, seed=seed)
    *_, last = federation.rounds(FedAvg(), learning_rate=rate, dropouts={})
    sizes = [len(site.data.test_y) for site in federation.institutions]
    right = [site.evaluate(last.parameters).accuracy for site in federation.institutions]
    return float(np.average(right, weights=sizes))


def main() -> None:
    """Print held-out accuracy for every rate."""
    heart = load_task("heart")
    tasks = [replace(heart, sites=tuple(folded(site, fold) for site in heart.sites)) for fold in range(FOLDS)]
    with one_thread():
        for rate in RATES:
            scores = [held_out_accuracy(task, rate, seed) for task in tasks for seed in range(SEEDS)]
            print(f"learning rate {rate:<7g} held-out accuracy {np.mean(scores):.3f} (from {len(scores)} trainings)")


if __name__ == "__main__":
    main()

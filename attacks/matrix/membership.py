"""Whoever gets the final model: was this person in the training set?"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from attacks.channels import DELTA, EPSILONS, SAMPLING_PROBABILITY
from attacks.matrix.attack import Attack, Curve, Found, NotApplicable, SameAs
from attacks.membership import PrivateSgd, Training, halves, lira_scores, train_together
from attacks.metrics import FEWEST_FALSE_POSITIVES, auc, roc_curve, tpr_at_fpr_interval
from attacks.models import make_mlp
from attacks.threat import MODEL_HOLDER, Channel
from dp.calibration import calibrate_noise_multiplier
from dp.dp_sgd import RELATION

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from attacks.matrix.attack import Trial

__all__ = ["ATTACKS"]

SHADOWS, TARGETS = (32, 64), 8
FPRS = (0.01, 0.05)
POINTS = 200
LONG = Training(epochs=60, batch_size=32, learning_rate=0.05)
PRIVATE = Training(epochs=10, batch_size=1, learning_rate=0.5, momentum=0.5)
"""With batches of a tenth of the members: the hundred steps whose ε the matrix promises."""
POOL, SMALL = 800, 16


@lru_cache
def _private(epsilon: float, members: int) -> Training:
    training = replace(PRIVATE, batch_size=round(SAMPLING_PROBABILITY * members))

    def event(noise: float) -> object:
        return replace(training, privacy=PrivateSgd(1.0, noise)).event(members)

    noise = calibrate_noise_multiplier(
        event,  # type: ignore[arg-type]
        target_epsilon=epsilon,
        target_delta=DELTA,
        neighboring_relation=RELATION,
    )
    return replace(training, privacy=PrivateSgd(1.0, noise))


def _pool(trial: Trial) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
    """Return 800 records, their labels, and how many classes there are; 740 for hearts, all there are."""
    if trial.data == "heart":
        everybody = trial.task().pooled
        x, y = (
            np.concatenate([getattr(everybody, f"{part}_{name}") for part in ("train", "test")]) for name in ("x", "y")
        )
        classes = 2
    else:
        examples = trial.examples()
        x, y, classes = 2 * _reduced(examples.x) - 1, examples.y, examples.classes
    chosen = trial.rng().permutation(len(x))[: min(POOL, len(x) // 2 * 2)]
    return x[chosen], y[chosen].astype(np.int64), classes


def _reduced(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average two by two pixels of images larger than digits: an ensemble's gradients take memory."""
    count, channels, height, width = images.shape
    if height <= SMALL:
        return images
    halved: NDArray[np.float32] = images.reshape(count, channels, height // 2, 2, width // 2, 2).mean(axis=(3, 5))
    return halved


def _lira(trial: Trial) -> Found:
    x, y, classes = _pool(trial)
    rng = trial.rng()
    training = _private(EPSILONS[trial.channel], len(y) // 2) if trial.channel in EPSILONS else LONG
    shadows = SHADOWS[0 if trial.quick else 1]
    members = np.concatenate([halves(shadows, len(y), rng=rng), halves(TARGETS, len(y), rng=rng)])

    def make(generator: torch.Generator) -> torch.nn.Module:
        return make_mlp(x[0].size, [64], classes, generator=generator)

    trained = train_together(make, x, y, members, training, rng=rng)
    scores = lira_scores(trained.log_odds[shadows:], trained.log_odds[:shadows], members[:shadows])
    truth = members[shadows:]
    inside, outside = scores[truth], scores[~truth]
    fpr, tpr = roc_curve(inside, outside)
    kept = np.unique(
        np.searchsorted(fpr, np.geomspace(FEWEST_FALSE_POSITIVES / len(outside), 1, POINTS)).clip(0, len(fpr) - 1)
    )
    found = []
    for level in FPRS:
        rate = tpr_at_fpr_interval(inside, outside, fpr=level, rng=rng, resamples=200)
        if rate is not None:
            found.append(f"{rate.value:.1%} at {level:.0%} FPR ({rate.low:.1%} – {rate.high:.1%})")
    caption = f"accuracy {trained.train_accuracy:.0%} on members, {trained.test_accuracy:.0%} on others; true positive "
    caption += "rate " + ", ".join(found)
    by_target = [auc(row[own], row[~own]) for row, own in zip(scores, truth, strict=True)]
    return Found(by_target, [0.5] * TARGETS, Curve(fpr[kept].tolist(), tpr[kept].tolist(), caption))


_SAME_MODEL = SameAs(Channel.PLAIN, "the sum is exact, so the final model is the same, and so is what it tells")
_OTHERS = NotApplicable("whoever only gets the final model takes no part in the protocol")

ATTACKS = tuple(
    Attack(
        name="membership (LiRA)",
        setting="the final model, one hidden layer, trained on half of the records",
        source="Carlini et al. 2022",
        threat=MODEL_HOLDER,
        measure="AUC over members and others, each of 8 models",
        unit="AUC",
        prior="a coin",
        data=(data,),
        trials=(1, 4),
        run=_lira,
        through={
            Channel.SUM: _SAME_MODEL,
            Channel.HE: _SAME_MODEL,
            Channel.LIE: _OTHERS,
            Channel.MODEL: _OTHERS,
        },
    )
    for data in ("heart", "digits", "PneumoniaMNIST")
)

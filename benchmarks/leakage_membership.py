"""What a finished model says about who trained it, and whether audits tell sound mechanisms from broken ones.

Membership: 64 shadow models and 8 targets at once, LiRA and RMIA beside the loss threshold, on three data sets, and
against DP-SGD. Audits: a Gaussian mechanism of known ε, white-box, 1,000 canaries; how often a bound exceeds the truth;
and which test catches which planted bug, in how many of 100 runs.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

import dp
from attacks.auditing import (
    GradientCanaries,
    best_threshold,
    gaussian_epsilon,
    gaussian_estimate,
    multi_run_bound,
    one_run_bound,
)
from attacks.datasets import digits
from attacks.membership import PrivateSgd, Records, Training, halves, membership_study, train_together
from attacks.metrics import proportion
from attacks.models import make_mlp
from attacks.planted_bugs import BUGS, Check, Federation, examine
from benchmarks.harness import Report, Target, interleaved, main, progress
from protocols.tasks import heart

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from attacks.membership import MembershipStudy

SHADOWS, TARGETS = 64, 8
DELTA = 1e-5
RUNS = 100


def run(report: Report) -> None:
    """Measure everything."""
    membership(report)
    shadows_together(report)
    membership_against_dp(report)
    audits(report)
    coverage(report)
    planted_bugs(report)


def purchases(rng: np.random.Generator, count: int, population: int) -> Records:
    """Make baskets in the manner of Purchase-100: 100 yes/no features, 20 classes, bits flipped 1 in 3."""
    prototypes = rng.random((20, 100)) < 0.5
    y = rng.integers(0, 20, count + population)
    x = prototypes[y] ^ (rng.random((len(y), 100)) < 0.33)
    return Records("synthetic purchases", x.astype(np.float32), y, population)


def perceptron(features: int, classes: int) -> Callable[[torch.Generator], torch.nn.Module]:
    """Return a maker of classifiers with 64 hidden units."""
    return lambda generator: make_mlp(features, [64], classes, generator=generator)


def membership(report: Report) -> None:
    """LiRA, RMIA and the loss threshold on synthetic purchases, digits and heart patients."""
    progress(f"membership: {SHADOWS} shadows, {TARGETS} targets")
    rng = np.random.default_rng(1)
    training = Training(epochs=20, batch_size=32, learning_rate=0.1)
    study = membership_study(
        purchases(rng, 2_400, 1_000),
        perceptron(100, 20),
        training,
        shadows=SHADOWS,
        targets=TARGETS,
        fewer_shadows=(4,),
        rng=rng,
    )
    lira, loss = study.leak("LiRA", SHADOWS), study.leak("loss threshold", 0)
    found, baseline = lira.tpr["0.01"], loss.tpr["0.01"]
    if found is None or baseline is None:
        message = "too few others to measure a false-positive rate of 1 %: attack more records"
        raise ValueError(message)
    report.figure("lira.auc", lira.auc.value, Target(0.80))
    report.figure("lira.tpr_at_1pct", found.value, Target(0.15))
    report.figure("lira.tpr_over_loss_threshold", found.value / baseline.value, Target(None))
    report.figure("lira.train_test_gap", study.gap, Target(None))
    _rows(report, study)

    images = digits()
    study = membership_study(
        Records(images.name, images.x, images.y, 201),
        perceptron(64, 10),
        training,
        shadows=SHADOWS,
        targets=TARGETS,
        rng=rng,
    )
    _rows(report, study)

    patients = heart.load().pooled
    x, y = np.concatenate([patients.train_x, patients.test_x]), np.concatenate([patients.train_y, patients.test_y])
    order = rng.permutation(len(y))
    study = membership_study(
        Records("heart", x[order], y[order].astype(np.int64), 140),
        perceptron(x.shape[1], 2),
        replace(training, epochs=60, batch_size=30),
        shadows=SHADOWS,
        targets=TARGETS,
        fprs=(0.05,),
        rng=rng,
    )
    report.figure("lira.heart_auc", study.leak("LiRA", SHADOWS).auc.value, Target(None))
    _rows(report, study)


def _rows(report: Report, study: MembershipStudy, **more: object) -> None:
    for leak in study.leaks:
        tpr = {
            f"tpr_at_{fpr}": f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" if e else "too few others"
            for fpr, e in leak.tpr.items()
        }
        report.row(
            measured="membership",
            data=study.name,
            **more,
            attack=leak.attack,
            shadows=leak.shadows,
            targets=study.targets,
            records=study.records,
            train=study.train_accuracy,
            test=study.test_accuracy,
            auc=f"{leak.auc.value:.3f} [{leak.auc.low:.3f}, {leak.auc.high:.3f}]",
            auc_of_targets=f"{min(leak.auc_by_target):.3f} to {max(leak.auc_by_target):.3f}",
            **tpr,
        )


def shadows_together(report: Report) -> None:
    """The same training, one model after the other in plain torch: one epoch of 16 models."""
    progress("shadow models together against one after the other")
    rng = np.random.default_rng(2)
    records = purchases(rng, 2_400, 0)
    members = halves(16, 2_400, rng=rng)
    make = perceptron(100, 20)
    x, y = torch.from_numpy(records.x), torch.from_numpy(records.y)

    def together() -> None:
        training = Training(epochs=1, batch_size=32, learning_rate=0.1)
        train_together(make, records.x, records.y, members, training, rng=rng)

    def one_by_one() -> None:
        generator = torch.Generator().manual_seed(0)
        for own in members:
            model = make(generator)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            for chosen in torch.split(torch.from_numpy(rng.permutation(np.flatnonzero(own))), 32):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = interleaved({"together": together, "one by one": one_by_one}, repetitions=5)
    torch.set_num_threads(threads)
    report.figure("lira.shadows_speedup", seconds["one by one"] / seconds["together"], Target(None))


def membership_against_dp(report: Report) -> None:
    """The same attack on models trained by DP-SGD at ε = 8 and ε = 1."""
    rng = np.random.default_rng(3)
    records = purchases(rng, 2_400, 400)
    for epsilon in (8.0, 1.0):
        progress(f"membership against DP-SGD at ε = {epsilon:g}")
        training = Training(epochs=12, batch_size=120, learning_rate=0.5, momentum=0.5)

        def event(sigma: float, training: Training = training) -> dp.Event:
            return replace(training, privacy=PrivateSgd(1.0, sigma)).event(1_200)

        sigma = dp.calibrate_noise_multiplier(
            event, target_epsilon=epsilon, target_delta=DELTA, neighboring_relation="add-or-remove-one"
        )
        study = membership_study(
            records,
            perceptron(100, 20),
            replace(training, privacy=PrivateSgd(1.0, sigma)),
            shadows=32,
            targets=4,
            fprs=(0.01,),
            rng=rng,
        )
        _rows(report, study, defence=f"DP-SGD, ε = {epsilon:g} at δ = {DELTA:g} (example, add-or-remove-one)")


def white_box(mu: float, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Release 10,000 coordinates with 1,000 canaries of norm `mu` under unit Gaussian noise: scores and coins."""
    canaries = GradientCanaries.draw(1_000, dimension=10_000, norm=mu, rng=rng)
    return canaries.scores(canaries.total() + rng.normal(size=10_000)), canaries.included


def audits(report: Report) -> None:
    """Medians over 100 runs of a Gaussian mechanism with σ = 1, ε = 4.38 at δ = 1e-5, at confidence 0.95."""
    progress("audits of a Gaussian mechanism")
    rng = np.random.default_rng(4)
    runs = [white_box(1.0, rng) for _ in range(RUNS)]
    steinke = [one_run_bound(*r, delta=DELTA, confidence=0.95, unit="example").epsilon for r in runs]
    gaussian = [gaussian_estimate(*r, delta=DELTA, confidence=0.95, unit="example").epsilon for r in runs]
    report.figure("audit.steinke", float(np.median(steinke)), Target(1.35))
    report.figure("audit.gaussian", float(np.median(gaussian)), Target(3.5))
    for name, bounds in (("one run", steinke), ("Gaussian scores (an estimate that assumes)", gaussian)):
        low, middle, high = np.quantile(bounds, [0.05, 0.5, 0.95])
        report.row(measured="audit", method=name, truth=gaussian_epsilon(1.0, DELTA), p05=low, median=middle, p95=high)


def coverage(report: Report) -> None:
    """How often does a 95 % bound exceed the truth? One run of 1,000 canaries; 500 runs with and 500 without one."""
    worst: dict[str, float] = {}
    rng = np.random.default_rng(5)
    for mu in (0.5, 1.0, 2.0, 4.0):
        progress(f"coverage at μ = {mu:g}")
        truth = gaussian_epsilon(mu, DELTA)
        bounds: dict[str, list[float]] = {"one run": [], "Clopper-Pearson": [], "Gaussian scores": []}
        for _ in range(2 * RUNS):
            scores, included = white_box(mu, rng)
            for name, method in (("one run", one_run_bound), ("Gaussian scores", gaussian_estimate)):
                bounds[name].append(method(scores, included, delta=DELTA, confidence=0.95, unit="example").epsilon)
            members, others = mu + rng.normal(size=1_000), rng.normal(size=1_000)
            threshold = best_threshold(members[:500], others[:500], delta=DELTA)
            multi = multi_run_bound(
                members[500:], others[500:], threshold, delta=DELTA, confidence=0.95, unit="example"
            )
            bounds["Clopper-Pearson"].append(multi.epsilon)
        for name, values in bounds.items():
            over = sum(value > truth for value in values)
            share = proportion(over, len(values))
            worst[name] = max(worst.get(name, 0.0), share.value)
            report.row(
                measured="coverage",
                method=name,
                mu=mu,
                truth=truth,
                median=float(np.median(values)),
                above_truth=f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]",
            )
    report.figure("audit.coverage", max(worst["one run"], worst["Clopper-Pearson"]), Target(0.05, at_most=True))
    report.figure("audit.gaussian_coverage", worst["Gaussian scores"], Target(None))


def planted_bugs(report: Report) -> None:
    """How often each test raises its alarm over each bug; and over a sound sum, where it must not."""
    rng = np.random.default_rng(6)
    worst = 1.0
    for name, federation, named in [
        ("none", Federation(), ()),
        *((bug.name, bug.federation, bug.caught_by) for bug in BUGS),
    ]:
        progress(f"planted bug: {name}")
        start = time.perf_counter()
        alarms: Counter[Check] = Counter()
        for _ in range(RUNS):
            alarms.update(examine(federation, rng))
        rates = {check.value: alarms[check] / RUNS for check in Check}
        worst = min([worst, *(rates[check] for check in named)])
        report.row(
            measured="planted bug",
            bug=name,
            **rates,
            named=", ".join(named) or "none",
            ms_a_run=1e3 * (time.perf_counter() - start) / RUNS,
        )
        if name == "none":
            report.figure("audit.false_alarms", sum(alarms.values()) / RUNS, Target(0.05, at_most=True))
    report.figure("audit.bugs_caught", worst, Target(0.95))


if __name__ == "__main__":
    main(__doc__ or "", run)

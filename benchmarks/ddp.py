"""What patient-level privacy across four hospitals costs in accuracy, next to the same training in one place.

Heart, logistic, add-or-remove-one, δ = 1e-5: the q, T, C, divisor and learning rate that `secagg train --dp-epsilon`
takes if nothing is said, and public scaling, for everybody; 200 repetitions, which share initial weights and samples.
Contenders differ in the noise alone:

* central: pooled data, continuous Gaussian noise on the clipped sum;
* distributed: integers of the real codec, summed modulo 2^b, noise in shares (t senders, c colluding);
* local: every hospital adds all the noise, as local DP-SGD does: t = 1;
* institution: the unit is a hospital. Clipped updates of whole local trainings, continuous noise on their sum, no
  sampling; how many rounds is chosen in hindsight, free of charge.

A repetition of 150 secure sums takes seconds. All repetitions therefore take a step together: rows are clipped and
rounded, noise drawn, and sums reduced by the functions that `DpSgd.encode` calls, for all hospitals of all repetitions
at once. Checked in the run: this is bit for bit what `encode` does, and `secagg.simulate` gives bit for bit the model
that plain sums modulo 2^b give.

Accuracy is over the test patients of all hospitals together. Intervals are 95 % of Student's t over repetitions.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import torch
from scipy import special, stats

import dp
import secagg
from benchmarks.harness import Report, Target, main, progress, require
from dp.clipping import clip_rows
from dp.dp_sgd import RELATION, DpSgd
from dp.rounding import round_rows, rounded_norm_squared
from protocols.config import PrivacyConfig, TrainConfig
from protocols.gradients import per_patient_gradients
from protocols.models import make_model
from protocols.tasks import load_task
from secagg import Layout, tags
from secagg.encoding.packing import word_dtype
from secagg.primitives.keys import derive_key
from secagg.primitives.sampling import discrete_gaussian

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from protocols.task import Task

Matrix: TypeAlias = "NDArray[np.float64]"
Integers: TypeAlias = "NDArray[np.int64]"
Release: TypeAlias = "Callable[[Matrix, Integers], Matrix]"
"""(rows, sender of each) -> noisy mean gradients, one row a repetition; sender = hospitals·repetition + hospital."""

SEEDS = 200
CHECKED_SEEDS = 2
EPSILONS = (0.1, 0.5, 1.0, 3.0, 8.0)
COMPARED = (1.0, 3.0, 8.0)
DELTA = 1e-5
CHOSEN = PrivacyConfig(epsilon=1.0, delta=DELTA)
SHARES = (("distributed", 4, 0), ("t = 3, c = 1", 3, 1), ("local", 1, 0))
"""Name, t and c."""

ROUNDS, LOCAL_STEPS = (1, 5, 15), 100
"""Of institution-level training."""


@dataclass(frozen=True, eq=False)
class Patients:
    """Everybody's patients, hospital by hospital, each with a last feature of 1 for the bias."""

    x: Matrix
    y: Matrix
    hospital: Integers
    test_x: Matrix
    test_y: Matrix

    @classmethod
    def of(cls, task: Task) -> Patients:
        """Put the hospitals of a task one after the other."""
        sites = task.sites
        return cls(
            x=_with_bias(np.concatenate([site.train_x for site in sites])),
            y=np.concatenate([site.train_y for site in sites]).astype(np.float64),
            hospital=np.repeat(np.arange(len(sites)), [len(site.train_y) for site in sites]),
            test_x=_with_bias(np.concatenate([site.test_x for site in sites])),
            test_y=np.concatenate([site.test_y for site in sites]).astype(np.float64),
        )

    @property
    def hospitals(self) -> int:
        """How many there are."""
        return int(self.hospital[-1]) + 1

    def gradients(self, weights: Matrix, patient: Integers) -> Matrix:
        """Differentiate a patient's cross-entropy by the weights of its row: (k, 14) and (k,) to (k, 14)."""
        x = self.x[patient]
        error = special.expit(np.einsum("ij,ij->i", x, weights)) - self.y[patient]
        rows: Matrix = error[:, None] * x
        return rows

    def accuracy(self, weights: Matrix) -> Matrix:
        """Classify the test patients: (repetitions, 14) to (repetitions,)."""
        right: Matrix = ((weights @ self.test_x.T > 0) == (self.test_y > 0)).mean(axis=1)
        return right


class Interval(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Matrix) -> Interval:
        """Estimate a mean."""
        mean = float(values.mean())
        half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
        return cls(mean, mean - half, mean + half)


def run(report: Report) -> None:
    """Measure everything."""
    task = load_task("heart").publicly_scaled()
    patients = Patients.of(task)
    rng = np.random.default_rng(0)
    start = np.array([initial_weights(seed, patients) for seed in range(SEEDS)])
    plans = {epsilon: {name: planned(task, epsilon, t, c) for name, t, c in SHARES} for epsilon in EPSILONS}
    samples = draw_samples(plans[1.0]["distributed"], len(patients.y), rng)
    check_gradients(patients)
    check_sums(patients, plans[1.0]["distributed"], start[:CHECKED_SEEDS], samples[:, :CHECKED_SEEDS])

    found: dict[tuple[str, float], Matrix] = {}
    for epsilon in (*EPSILONS, math.inf):  # at infinity there is no noise, and central, distributed and local are one
        progress(f"central, ε = {epsilon}")
        noise = 0.0 if epsilon == math.inf else central_noise(epsilon)
        release = partial(central, plans[1.0]["distributed"], noise, rng)
        found["central", epsilon] = patients.accuracy(trained(patients, start, samples, release))
        progress(f"institution, ε = {epsilon}")
        tries = {rounds: institutions(patients, start, epsilon, rounds, rng) for rounds in ROUNDS}
        best = max(tries, key=lambda rounds: tries[rounds].mean())
        found["institution", epsilon] = tries[best]
        report.row(measured="institution", epsilon=str(epsilon), rounds=best)
    for epsilon, named in plans.items():
        for name, plan in named.items():
            if name != "t = 3, c = 1" or epsilon in COMPARED:
                progress(f"{name}, ε = {epsilon}")
                release = partial(integers, plan)
                found[name, epsilon] = patients.accuracy(trained(patients, start, samples, release))
    note(report, patients, plans, found)


def note(
    report: Report,
    patients: Patients,
    plans: Mapping[float, Mapping[str, DpSgd]],
    found: Mapping[tuple[str, float], Matrix],
) -> None:
    """Record accuracies and the three figures."""
    for (name, epsilon), values in found.items():
        report.row(
            measured="accuracy",
            how=name,
            epsilon=str(epsilon),
            **Interval.of(values)._asdict(),
            stddev=float(values.std(ddof=1)),
        )
    report.row(measured="majority", accuracy=float(max(patients.test_y.mean(), 1 - patients.test_y.mean())))
    for epsilon, named in plans.items():
        for name, plan in named.items():
            report.row(
                measured="plan",
                how=name,
                epsilon=str(epsilon),
                noise_multiplier=plan.noise_multiplier,
                sum_noise=plan.codec.noise_stddev(senders=plan.clients),
                certified=plan.spent(DELTA).epsilon,
            )

    def difference(name: str, other: str, epsilon: float) -> Interval:
        made = Interval.of(found[name, epsilon] - found[other, epsilon])
        report.row(measured="difference", of=f"{name} - {other}", epsilon=str(epsilon), **made._asdict())
        return made

    gap = min(difference("distributed", "central", epsilon).low for epsilon in COMPARED)
    colluding = min(difference("t = 3, c = 1", "central", epsilon).low for epsilon in COMPARED)
    gain = difference("distributed", "local", 1.0)
    report.figure("ddp.accuracy_gap", gap, Target(-0.01))
    report.figure("ddp.accuracy_gap_t3_c1", colluding, Target(None))
    report.figure("ddp.gain_over_local", gain.mean, Target(0))
    report.figure("ddp.gain_over_local_lower_limit", gain.low, Target(None))


def planned(task: Task, epsilon: float, least_senders: int, colluders: int) -> DpSgd:
    """Plan as `secagg train` does, for given t and c."""
    progress(f"plan, ε = {epsilon}, t = {least_senders}, c = {colluders}")
    return DpSgd.for_target(
        target_epsilon=epsilon,
        target_delta=DELTA,
        dimension=len(task.features) + 1,
        clients=len(task.sites),
        least_senders=least_senders,
        colluders=colluders,
        units=TrainConfig().max_weight,
        expected_units=task.expected_patients,
        sampling_probability=CHOSEN.sampling_probability,
        steps=CHOSEN.steps,
        clip_norm=CHOSEN.clip_norm,
    )


def central_noise(epsilon: float) -> float:
    """Find the noise multiplier of DP-SGD in one place."""
    return dp.calibrate_noise_multiplier(
        lambda z: dp.Composed([(dp.PoissonSampled(CHOSEN.sampling_probability, dp.Gaussian(z)), CHOSEN.steps)]),
        target_epsilon=epsilon,
        target_delta=DELTA,
        neighboring_relation=RELATION,
    )


def initial_weights(seed: int, patients: Patients) -> Matrix:
    """Make a logistic model as `secagg train` does, as a vector."""
    model = make_model("logistic", patients.x.shape[1] - 1, generator=torch.Generator().manual_seed(seed))
    return Layout.of(model.state_dict()).flatten(model.state_dict())


def draw_samples(plan: DpSgd, patients: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw whom every step of every repetition samples: (steps, repetitions, patients)."""
    progress("samples")
    chosen = np.zeros((plan.steps, SEEDS, patients), dtype=bool)
    for each in chosen.reshape(-1, patients):
        each[plan.sample(patients, random=rng.bytes(32))] = True
    return chosen


def trained(patients: Patients, start: Matrix, samples: NDArray[np.bool_], release: Release) -> Matrix:
    """Train all repetitions side by side; return their weights."""
    weights = start.copy()
    for chosen in samples:
        repetition, patient = np.nonzero(chosen)
        rows = patients.gradients(weights[repetition], patient)
        sender = patients.hospitals * repetition + patients.hospital[patient]
        weights -= CHOSEN.learning_rate * release(rows, sender)
    return weights


def central(plan: DpSgd, noise_multiplier: float, rng: np.random.Generator, rows: Matrix, sender: Integers) -> Matrix:
    """Release by the central Gaussian mechanism, with the clip norm and divisor of a plan."""
    total = rng.normal(0, noise_multiplier * plan.clip_norm, (SEEDS, plan.dimension))
    np.add.at(total, sender // plan.clients, clip_rows(rows, plan.clip_norm).values)
    means: Matrix = total / plan.divisor
    return means


def integers(plan: DpSgd, rows: Matrix, sender: Integers) -> Matrix:
    """Release by sums of the hospitals' integer vectors modulo 2^b, decoded."""
    words = vectors(plan, rows, sender, SEEDS * plan.clients, rounding=os.urandom(32), noise=os.urandom(32))
    bits = plan.codec.modulus_bits
    sums = words.reshape(SEEDS, plan.clients, -1).sum(axis=1) & np.uint64((1 << bits) - 1)
    shift = np.uint64(64 - bits)
    signed = (sums << shift).view(np.int64) >> np.int64(shift)
    means: Matrix = signed * np.float64(plan.clip_norm / plan.codec.steps) / plan.divisor
    require(np.array_equal(means[0], plan.gradient(sums[0].astype(word_dtype(bits)))))
    return means


def vectors(
    plan: DpSgd, rows: Matrix, sender: Integers, senders: int, *, rounding: bytes, noise: bytes
) -> NDArray[np.uint64]:
    """Do what `DpSgd.encode` does for many senders at once: (senders, d), modulo 2^b."""
    codec = plan.codec
    scaled = clip_rows(rows, plan.clip_norm).values * (codec.steps / plan.clip_norm)
    total = discrete_gaussian(noise, senders * plan.dimension, math.sqrt(codec.share_variance)).astype(np.int64)
    total = total.reshape(senders, plan.dimension)
    norm_squared = rounded_norm_squared(codec.steps, plan.dimension)
    np.add.at(total, sender, round_rows(scaled, norm_squared=norm_squared, key=rounding))
    return total.view(np.uint64) & np.uint64((1 << codec.modulus_bits) - 1)


def institutions(patients: Patients, start: Matrix, epsilon: float, rounds: int, rng: np.random.Generator) -> Matrix:
    """Train with the institution as the unit; return the accuracies."""
    noise = 0.0
    if epsilon < math.inf:
        noise = dp.calibrate_noise_multiplier(
            lambda z: dp.Composed([(dp.Gaussian(z), rounds)]),
            target_epsilon=epsilon,
            target_delta=DELTA,
            neighboring_relation=RELATION,
        )
    weights = start.copy()
    for _ in range(rounds):
        total = rng.normal(0, noise * CHOSEN.clip_norm, weights.shape)
        for hospital in range(patients.hospitals):
            x, y = patients.x[patients.hospital == hospital], patients.y[patients.hospital == hospital]
            local = weights.copy()
            for _ in range(LOCAL_STEPS):
                local -= CHOSEN.learning_rate / len(y) * (special.expit(local @ x.T) - y) @ x
            total += clip_rows(local - weights, CHOSEN.clip_norm).values
        weights += total / patients.hospitals
    return patients.accuracy(weights)


def check_gradients(patients: Patients) -> None:
    """Compare the closed form with the gradients that institutions compute."""
    model = make_model("logistic", patients.x.shape[1] - 1, generator=torch.Generator().manual_seed(1))
    x, y = torch.from_numpy(patients.x[:, :-1]).float(), torch.from_numpy(patients.y).float()
    weights = Layout.of(model.state_dict()).flatten(model.state_dict())
    ours = patients.gradients(np.tile(weights, (len(y), 1)), np.arange(len(y)))
    require(bool(np.abs(ours - per_patient_gradients(model, x, y)).max() < 1e-5))


def check_sums(patients: Patients, plan: DpSgd, start: Matrix, samples: NDArray[np.bool_]) -> None:
    """Train by secure sums; every one must equal the plain sum modulo 2^b, and every vector that of `vectors`."""
    progress(f"{len(start)} repetitions of {plan.steps} secure sums")
    codec = plan.codec
    sums = replace(secagg.plan(codec, dropout=0, corrupted=0), threshold=plan.least_senders)
    codec.check(sums)
    mask = np.uint64((1 << codec.modulus_bits) - 1)

    def encode(rows: Matrix) -> secagg.Encoded:
        random = os.urandom(32)
        made = plan.encode(rows, random=random)
        rounding = derive_key(random, tags.RECORD_ROUNDING, codec.digest, bytes(8))
        noise = derive_key(random, tags.NOISE_SHARE, codec.digest)
        alike = vectors(plan, rows, np.zeros(len(rows), dtype=np.int64), 1, rounding=rounding, noise=noise)
        require(np.array_equal(made.vector, alike[0]))
        return made

    def release(rows: Matrix, sender: Integers) -> Matrix:
        means = []
        for first in range(0, len(start) * plan.clients, plan.clients):
            encoded = {client: encode(rows[sender == first + client]) for client in range(plan.clients)}
            total = np.add.reduce([each.vector.astype(np.uint64) for each in encoded.values()]) & mask
            means.append(plan.gradient(secagg.simulate(sums, encoded)))
            require(np.array_equal(means[-1], plan.gradient(total.astype(word_dtype(codec.modulus_bits)))))
        return np.array(means)

    trained(patients, start, samples, release)


def _with_bias(x: NDArray[np.float32]) -> Matrix:
    return np.column_stack([x.astype(np.float64), np.ones(len(x))])


if __name__ == "__main__":
    main(__doc__ or "", run)

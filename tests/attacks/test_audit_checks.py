"""Tests of a mechanism's parts: quiet on sound parts as often as they say, loud on broken ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from attacks.auditing import clipping_p_value, fit_p_value, sampler_p_value, variance_p_value
from secagg.primitives.sampling import discrete_gaussian

RUNS = 300


def gaussian(rng: np.random.Generator, sigma: float, size: int = 4_000) -> np.ndarray:
    return discrete_gaussian(rng.bytes(32), size, sigma).astype(np.int64)


def poisson(rng: np.random.Generator, q: float = 0.1) -> np.ndarray:
    return rng.random((50, 300)) < q


SOUND: dict[str, Callable[[np.random.Generator], float]] = {
    "variance": lambda rng: variance_p_value(gaussian(rng, 5.0), 25.0),
    "fit": lambda rng: fit_p_value(gaussian(rng, 5.0), 5.0),
    "fit of narrow noise": lambda rng: fit_p_value(gaussian(rng, 1.0), 1.0),
    "fit of a sum": lambda rng: fit_p_value(gaussian(rng, 3.0) + gaussian(rng, 4.0), 5.0),
    "clipping": lambda rng: clipping_p_value(1 + rng.normal(0, 3, 100), 1.0, 3.0),
}


@pytest.mark.parametrize("name", SOUND)
def test_p_values_of_sound_parts_are_uniform(name: str) -> None:
    rng = np.random.default_rng(7)
    p_values = [SOUND[name](rng) for _ in range(RUNS)]
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_a_poisson_sampler_is_suspected_no_more_often_than_stated() -> None:
    rng = np.random.default_rng(8)
    p_values = np.array([sampler_p_value(poisson(rng), 0.1) for _ in range(1000)])
    assert (p_values < 0.05).mean() < 0.075
    assert (p_values < 0.001).mean() < 0.006


@pytest.mark.parametrize(
    ("noise", "seen_by_variance"),
    [
        (lambda rng: gaussian(rng, 4.5), True),
        (lambda rng: np.rint(rng.laplace(0, 5.0 / 2**0.5, 4_000)).astype(np.int64), False),
        (lambda rng: rng.integers(-9, 10, 4_000) * 5 // 5, False),
        (lambda rng: np.where(rng.random(4_000) < 0.9, gaussian(rng, 5.0), 0), True),
    ],
    ids=["narrower", "Laplace of that variance", "uniform", "a tenth of the coordinates without"],
)
def test_wrong_noise_is_seen(noise: Callable[[np.random.Generator], np.ndarray], *, seen_by_variance: bool) -> None:
    rng = np.random.default_rng(9)
    values = [noise(rng) for _ in range(20)]
    assert max(fit_p_value(v, 5.0) for v in values) < 1e-3
    if seen_by_variance:
        assert max(variance_p_value(v, 25.0) for v in values) < 1e-2


def test_more_noise_than_promised_is_no_fault_of_the_variance() -> None:
    assert variance_p_value(gaussian(np.random.default_rng(1), 8.0), 25.0) > 0.999


def test_a_longer_contribution_than_allowed_is_seen() -> None:
    rng = np.random.default_rng(2)
    assert clipping_p_value(3 + rng.normal(0, 3, 100), 1.0, 3.0) < 1e-3
    assert clipping_p_value(0.2 + rng.normal(0, 3, 100), 1.0, 3.0) > 0.5


def shuffled(rng: np.random.Generator) -> np.ndarray:
    orders = [rng.permutation(300) % 10 for _ in range(5)]
    return np.concatenate([order == np.arange(10)[:, None] for order in orders])


def fixed_size(rng: np.random.Generator) -> np.ndarray:
    return np.argsort(rng.random((50, 300)), axis=1) < 30


def sticky(rng: np.random.Generator) -> np.ndarray:
    draws = poisson(rng)
    again = rng.random((50, 300)) < 0.2
    for step in range(1, 50):
        draws[step] = np.where(again[step], draws[step - 1], draws[step])
    return draws


def drifting(rng: np.random.Generator) -> np.ndarray:
    return rng.random((50, 300)) < rng.uniform(0, 0.2, size=(50, 1))


@pytest.mark.parametrize(
    "sampler", [lambda rng: poisson(rng, 0.12), lambda rng: poisson(rng, 0.08), shuffled, fixed_size, sticky, drifting]
)
def test_samplers_that_are_not_poisson_at_this_rate_are_seen(
    sampler: Callable[[np.random.Generator], np.ndarray],
) -> None:
    rng = np.random.default_rng(3)
    assert max(sampler_p_value(sampler(rng), 0.1) for _ in range(20)) < 1e-3

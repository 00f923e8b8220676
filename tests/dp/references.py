"""Six cases of Poisson-sampled Gaussian training under add-or-remove-one, with what is known about them."""

from typing import NamedTuple

import dp


class Case(NamedTuple):
    noise_multiplier: float
    sampling_probability: float
    steps: int
    delta: float
    true_epsilon: float  # PLD and PRV agree on it to all digits given
    rdp_epsilon: float  # the best of Opacus 1.6, dp-accounting 0.6, autodp 0.2.3
    target_epsilon: float
    rdp_noise: float  # dp-accounting 0.6 by RDP at target_epsilon, rounded up
    pld_noise: float  # less, by a lower bound on ε, does not meet target_epsilon

    def event(self, noise_multiplier: float | None = None) -> dp.Composed:
        gaussian = dp.Gaussian(self.noise_multiplier if noise_multiplier is None else noise_multiplier)
        return dp.Composed([(dp.PoissonSampled(self.sampling_probability, gaussian), self.steps)])


CASES = [
    Case(1.0, 0.01, 1_000, 1e-5, 1.8282, 2.1014, 3.0, 0.8656, 0.8135),
    Case(0.8, 0.001, 100_000, 1e-6, 2.9145, 3.1878, 2.0, 1.0013, 0.9607),
    Case(4.0, 0.05, 500, 1e-6, 1.2452, 1.3452, 1.0, 5.2101, 4.8566),
    Case(0.5, 0.1, 100, 1e-5, 31.371, 35.225, 10.0, 0.8890, 0.8369),
    Case(10.0, 1.0, 1_000, 1e-5, 17.8566, 19.0473, 5.0, 30.131, 28.201),
    Case(1.0, 1e-4, 1_000_000, 1e-8, 0.6581, 1.0603, 1.0, 1.0256, 0.8004),
]

"""Noise drawn from a key: exact distributions over integers."""

from secagg.primitives.sampling.gaussian import MIN_SIGMA, discrete_gaussian
from secagg.primitives.sampling.inversion import MAX_SIGMA
from secagg.primitives.sampling.skellam_law import MAX_VARIANCE, MIN_VARIANCE, skellam

__all__ = ["MAX_SIGMA", "MAX_VARIANCE", "MIN_SIGMA", "MIN_VARIANCE", "discrete_gaussian", "skellam"]

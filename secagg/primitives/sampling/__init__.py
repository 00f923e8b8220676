"""Noise drawn from a key: exact distributions over integers."""

from secagg.primitives.sampling.gaussian import MAX_SIGMA, MIN_SIGMA, discrete_gaussian

__all__ = ["MAX_SIGMA", "MIN_SIGMA", "discrete_gaussian"]

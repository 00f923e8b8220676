"""Noise added in shares: what each sender adds, and how many of them are certain to be honest."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

from dp.events import DiscreteGaussian, Event, Skellam

__all__ = ["DiscreteGaussianSum", "Distributed"]


@dataclass(frozen=True, slots=True)
class DiscreteGaussianSum(Event):
    """An integer vector released with a sum of independent discrete Gaussians of unlike parameters on each coordinate.

    Args:
        total: what the sum is close to: sigma² is at most the sum of the squared parameters of all parts.
        least_part: the smallest parameter of a part, at least; > 0.
        parts: how many there are, at most; >= 1.

    >>> DiscreteGaussianSum(DiscreteGaussian(50.0, 20.0, 8), least_part=10.0, parts=12).parts
    12
    """

    total: DiscreteGaussian
    least_part: float
    parts: int

    def __post_init__(self) -> None:
        """Check types and ranges."""
        if not isinstance(self.total, DiscreteGaussian):
            msg = f"total is a DiscreteGaussian event, got {type(self.total).__name__}"
            raise TypeError(msg)
        if not 0 < self.least_part < math.inf or operator.index(self.parts) < 1:
            msg = f"a sum has >= 1 parts of parameter > 0, got {self.parts} of {self.least_part}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Distributed(Event):
    """An integer vector, summed from several senders, each of whom adds a share of the noise before it sends.

    The number of honest senders is promised before anything is sent: in a secure sum that opens with at least t
    senders, at most c of them colluding with whoever sees the sum, it is t - c, whoever drops out. Shares of colluders
    count nothing, and shares beyond the promised ones only add to the noise. A sum modulo some number is
    post-processing of this event.

    Args:
        share: the noise of one sender, and the sensitivity of the *sum*: a `DiscreteGaussian` or a `Skellam`.
        honest_senders: how many shares are in the sum for certain and unknown to any attacker, >= 1.

    >>> Distributed(Skellam(25.0), honest_senders=4)
    Distributed(share=Skellam(variance=25.0, sensitivity=1, dimension=1), honest_senders=4)
    """

    share: DiscreteGaussian | Skellam
    honest_senders: int

    def __post_init__(self) -> None:
        """Check type and range."""
        if not isinstance(self.share, (DiscreteGaussian, Skellam)):
            msg = f"a share is a DiscreteGaussian or a Skellam event, got {type(self.share).__name__}"
            raise TypeError(msg)
        if operator.index(self.honest_senders) < 1:
            msg = f"honest_senders is >= 1, got {self.honest_senders}: without an honest share there is no noise"
            raise ValueError(msg)

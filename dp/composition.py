"""Sums of privacy losses on a grid, by a tilted FFT whose errors are bounded.

Let each release have P-masses m_i(k) at losses kh, k integer. Then δ(ε) = Σ_s P[S = s]·(1 - e^(ε-s))_+ for the sum S of
the losses, plus the chance that some loss is infinite.

*Tilt* (Esscher). With w_i(k) = m_i(k)·e^(λkh)/M_i(λ), M_i the moment generating function, the law of S is that of the
tilted sum times e^(K - λs), K = Σ T_i·log M_i(λ). λ is chosen so that the tilted sum is centred at ε: what the FFT
loses is then lost relative to δ, not to 1. Everything outside the FFT is in the log domain.

*Errors*, u = 2^-53. All norms are Euclidean, w has N entries, F is the unnormalised DFT.
1. A forward FFT errs by at most e·|F w| = e·sqrt(N)·|w| with e = 16·u·log2 N. Higham 2002, Accuracy and Stability of
   Numerical Algorithms, Theorem 24.2 has 6.7·u·log2 N for radix 2; by the same argument passes of radix 3 to 5 (N has
   no larger prime factor) with plain butterflies stay below 10·u per bit. As |F w_i| <= 1 at every frequency and
   |a^T - b^T| <= T·|a - b|·max(|a|, |b|)^(T-1), the product is off by at most Σ T_i·e·sqrt(N)·|w_i|, and by Parseval
   the inverse transform by Σ T_i·e·|w_i|; computed |F w_i| may be as large as 1 + e·sqrt(N)·|w_i|, whence the factor
   e^drift.
2. The power is taken in polar form; modulus and angle are good to 8u each, so each frequency is off by a factor within
   1 ± Σ T_i·8u·(1 + |log|z|| + π), where only T_i·|log|z|| <= 60 is kept and the rest, below e^-60, set to 0.
3. The inverse FFT adds e·|w*|.
With the error vector bounded in norm, δ is off by at most |kernel|·|error| (Cauchy-Schwarz), kernel(s) being
e^(K - λs)·(1 - e^(ε-s))_+.
4. *Wrap-around*: the DFT adds the tilted mass outside the window onto the window. By Chernoff that mass is at most
   e^(K(λ+t) - K(λ) - tb) above b, for every t > 0, and likewise below. For an upper bound the wrapped mass does no harm
   and what lies above the window is added at its largest kernel, e^(K - λb); for a lower bound all of it is taken off
   at the kernel's maximum.
5. *Masses*: relative errors η of masses and tilting factors change δ by factors within (1 ± η)^T. Errors of losses are
   the caller's: they shift ε.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["Part", "Profile", "compose", "log_delta_at", "log_moment", "log_peak", "lower_root", "upper_root"]

_UNIT = 2.0**-53
_NEGLIGIBLE = -60.0
_UNDERFLOW = 1e-300
"""What terms of a sum that underflow add up to, at most."""

_REACH = 30.0
"""The kernel beyond this many e-folds is bounded, not summed."""


@dataclass(frozen=True, slots=True)
class Part:
    """A release on the grid, composed `count` times.

    Args:
        count: >= 1.
        index: (k) int64, the loss divided by the spacing of the grid.
        log_mass: (k) float64, finite, log of the P-mass.
        mass_error: relative error of the masses.
    """

    count: int
    index: Integers
    log_mass: Floats
    mass_error: float


@dataclass(frozen=True, slots=True)
class Profile:
    """The composed law near ε, tilted. See the module docstring for the bounds."""

    log_scale: float  # K
    tilt: float  # λ
    spacing: float  # h
    first: int  # index of the window's first point
    law: Floats  # (N)
    log_error: float  # of all masses and factors, relative
    kernel: Floats  # e^(-λjh)·(1 - e^(-jh)), j = 1, 2, …
    kernel_norm: float
    error: float  # norm of the FFT's errors
    log_above: float  # log of a bound on the tilted mass above the window
    log_outside: float  # log of a bound on the tilted mass outside the window

    def log_delta(self, position: int, *, upper: bool) -> float:
        """Bound the log of Σ_s P[S = s]·(1 - e^(ε-s))_+ at ε = the loss of a window position."""
        reach = min(self.kernel.size, self.law.size - 1 - position)
        total = float(self.law[position + 1 : position + 1 + reach] @ self.kernel[:reach])
        slack = self.kernel_norm * self.error
        slack += _UNIT * (self.law.size + 64) * (abs(total) + 2 * slack)
        if upper:
            if reach < self.law.size - 1 - position:
                slack += math.exp(-self.tilt * self.spacing * (reach + 1)) * (1 + self.error * self.law.size)
            slack += math.exp(min(0.0, self.log_above) - self.tilt * self.spacing * (self.law.size - position))
            total += slack + _UNDERFLOW
        else:
            slack += math.exp(min(0.0, self.log_outside) + log_peak(self.tilt))
            total -= slack
        if total <= 0:
            return -math.inf
        log_error = self.log_error + 4 * _UNIT * (abs(self.log_scale) + abs(self.tilt * self.loss(position)))
        scaled = math.log(total) + self.log_scale - self.tilt * self.loss(position)
        return scaled + log_error if upper else scaled - log_error

    def loss(self, position: int) -> float:
        """Return the loss at a window position."""
        return self.spacing * (self.first + position)


def _log_sum_exp(values: Floats) -> float:
    """Return log Σ e^v."""
    top = float(values.max())
    return top + math.log(float(np.exp(values - top).sum()))


def log_moment(parts: Sequence[Part], tilt: float, spacing: float) -> float:
    """Return Σ T_i·log M_i(tilt)."""
    return math.fsum(part.count * _log_sum_exp(part.log_mass + tilt * spacing * part.index) for part in parts)


def compose(
    parts: Sequence[Part], *, tilt: float, spacing: float, first: int, size: int, escape: tuple[float, float]
) -> Profile:
    """Convolve the parts in a window of the grid.

    Args:
        parts: at least one.
        tilt: λ >= 0.
        spacing: h > 0.
        first: index of the window's first point.
        size: N, a length that the FFT likes.
        escape: t > 0 for the Chernoff bounds below and above the window.
    """
    epsilon = 16 * _UNIT * math.log2(size)
    kept = np.arange(size // 2 + 1)
    exponent: NDArray[np.complex128] = np.zeros(kept.size, dtype=np.complex128)
    log_scale, forward, drift, power, log_error = 0.0, 0.0, 0.0, 0.0, 0.0
    for part in parts:
        tilted = part.log_mass + tilt * spacing * part.index
        log_m = _log_sum_exp(tilted)
        log_scale += part.count * log_m
        largest = tilt * spacing * float(np.abs(part.index).max()) + abs(log_m)
        log_error += part.count * (part.mass_error + 4 * _UNIT * (1 + largest))
        weights = np.bincount(part.index % size, weights=np.exp(tilted - log_m), minlength=size)
        transform = fft.rfft(weights)[kept]
        norm = float(np.linalg.norm(weights))
        forward += part.count * epsilon * norm
        drift += part.count * epsilon * norm * math.sqrt(size)
        power += part.count * 8 * _UNIT * (1 + math.pi) + 8 * _UNIT * 60
        large = np.abs(transform) > math.exp(2 * _NEGLIGIBLE / part.count)
        kept, transform, exponent = kept[large], transform[large], exponent[large]
        exponent += part.count * (np.log(np.abs(transform)) + 1j * np.angle(transform))
        large = exponent.real > _NEGLIGIBLE
        kept, exponent = kept[large], exponent[large]
    composed = np.zeros(size // 2 + 1, dtype=np.complex128)
    composed[kept] = np.exp(exponent)
    law = np.roll(fft.irfft(composed, size), -(first % size))
    error = forward * math.exp(min(drift, 700.0)) + (power + epsilon) * float(np.linalg.norm(law)) * 2 + 1e-26
    low, high = spacing * (first - 1), spacing * (first + size)
    below, above = escape
    log_above = log_moment(parts, tilt + above, spacing) - log_scale - above * high
    log_below = log_moment(parts, tilt - below, spacing) - log_scale + below * low
    reach = size if tilt * spacing * size <= _REACH else math.ceil(_REACH / (tilt * spacing))
    steps = spacing * np.arange(1, reach + 1)
    kernel = np.exp(-tilt * steps) * -np.expm1(-steps)
    tail = math.exp(-2 * tilt * spacing * reach) * size if reach < size else 0.0
    return Profile(
        log_scale=log_scale,
        tilt=tilt,
        spacing=spacing,
        first=first,
        law=law,
        log_error=log_error,
        kernel=kernel,
        kernel_norm=math.sqrt(float(kernel @ kernel) + tail),
        error=error,
        log_above=log_above,
        log_outside=float(np.logaddexp(log_above, log_below)),
    )


def upper_root(profile: Profile, log_delta: float) -> float:
    """Return an ε at which the profile's upper bound is at most δ, on the chord of two points."""
    low, high = 0, profile.law.size - 1
    while high - low > 1:
        middle = (low + high) // 2
        if profile.log_delta(middle, upper=True) > log_delta:
            low = middle
        else:
            high = middle
    left, right = (profile.log_delta(position, upper=True) for position in (low, high))
    if left <= log_delta:
        return profile.loss(low)
    return math.inf if right > log_delta else _chord(profile, low, log_delta, left, right)


def lower_root(profile: Profile, log_delta: float, start: float) -> float:
    """Return an ε at which the profile's lower bound is at least δ, on the chord of two points.

    Far below the ε at which the law is centred nothing is certain, so the search goes down from `start`.
    """
    high = min(max(math.ceil(start / profile.spacing) - profile.first, 0), profile.law.size - 1)
    low, step = high, 1
    while profile.log_delta(low, upper=False) < log_delta:
        if low == 0:
            return -math.inf
        low, high, step = max(low - step, 0), low, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        if profile.log_delta(middle, upper=False) >= log_delta:
            low = middle
        else:
            high = middle
    left, right = (profile.log_delta(position, upper=False) for position in (low, high))
    return profile.loss(low) if right >= log_delta else _chord(profile, low, log_delta, left, right)


def _chord(profile: Profile, position: int, log_delta: float, left: float, right: float) -> float:
    """Return where δ, linear in e^ε from one point to the next, has a value."""
    share = -math.expm1(log_delta - left) / -math.expm1(right - left)
    return profile.loss(position) + math.log1p(share * math.expm1(profile.spacing))


def log_delta_at(profile: Profile, epsilon: float, *, upper: bool) -> float:
    """Bound log δ at ε on the chord of two points: between grid points δ is linear in e^ε."""
    position = math.floor(epsilon / profile.spacing) - profile.first
    if not 0 <= position < profile.law.size - 1:
        return 0.0 if upper else -math.inf
    share = math.expm1(epsilon - profile.loss(position)) / math.expm1(profile.spacing)
    left, right = (profile.log_delta(p, upper=upper) for p in (position, position + 1))
    with np.errstate(divide="ignore"):
        return float(np.logaddexp(left + np.log1p(-share), right + np.log(share)))


def log_peak(tilt: float) -> float:
    """Return the log of the maximum over x >= 0 of e^(-λx)·(1 - e^-x)."""
    if tilt == 0:
        return 0.0
    return tilt * math.log(tilt / (1 + tilt)) - math.log1p(tilt)

"""RDP of integer noise against divergences summed term by term."""

import math

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from dp.conversion import rdp_to_epsilon
from dp.errors import UnsupportedEventError
from dp.events import Composed, DiscreteGaussian, Event, Gaussian, Laplace, NeighboringRelation, PoissonSampled, Skellam
from dp.integer_events import DiscreteGaussianSum, Distributed
from dp.integer_rdp import integer_curve
from dp.rdp import rdp_curve, release_curve

ADD: NeighboringRelation = "add-or-remove-one"


def skellam_law(variance: float, reach: int) -> list[mpmath.mpf]:
    return [mpmath.besseli(k, variance) * mpmath.exp(-variance) for k in range(reach + 1)]


def divergences(variance: float, shift: int, order: float, q: float = 1.0) -> tuple[float, float]:
    """D_α(R||P) and D_α(P||R), P Skellam, R = (1 - q)P + q(P shifted)."""
    with mpmath.workdps(40):
        reach = int(14 * math.sqrt(variance) + 2 * order * shift + 50)
        mass = skellam_law(variance, reach + shift)
        p = [mass[abs(k)] for k in range(-reach, reach + 1)]
        r = [(1 - q) * mass[abs(k)] + q * mass[abs(k - shift)] for k in range(-reach, reach + 1)]
        forward = mpmath.fsum(a**order * b ** (1 - order) for a, b in zip(r, p, strict=True))
        backward = mpmath.fsum(a ** (1 - order) * b**order for a, b in zip(r, p, strict=True))
        return float(mpmath.log(forward) / (order - 1)), float(mpmath.log(backward) / (order - 1))


@pytest.mark.parametrize("variance", [0.5, 4.0, 30.0])
@pytest.mark.parametrize("shift", [1, 3])
@pytest.mark.parametrize("order", [1.1, 1.6, 2, 2.5, 3, 7, 7.3])
def test_skellam_never_costs_less_than_the_exact_divergence(variance: float, shift: int, order: float) -> None:
    bound = release_curve(Skellam(variance, shift), neighboring_relation=ADD)(order)
    exact = max(divergences(variance, shift, order))
    assert exact <= bound
    if variance == 30 and order >= 2:
        assert bound < exact * 1.25


@pytest.mark.parametrize("q", [0.02, 0.3])
@pytest.mark.parametrize("order", [1.5, 2, 2.7, 6])
def test_sampled_skellam_never_costs_less_than_either_exact_direction(q: float, order: float) -> None:
    bound = release_curve(PoissonSampled(q, Skellam(25.0, 2)), neighboring_relation=ADD)(order)
    forward, backward = divergences(25.0, 2, order, q)
    assert backward <= forward <= bound
    if order in {2, 6}:
        assert bound < forward * 1.1


def test_the_theorem_is_used_word_for_word() -> None:
    curve = integer_curve(Skellam(40.0, 6.0, 9), neighboring_relation="zero-out")
    # Agarwal, Kairouz, Liu 2021, Corollary 4.1 with mu = 40, Delta_2 = 6, Delta_1 = 6 * sqrt(9)
    assert curve(4) == pytest.approx(4 * 36 / 80 + min((7 * 36 + 6 * 18) / (4 * 1600), 3 * 18 / 80))
    assert curve(4.25) * 3.25 == pytest.approx(0.75 * 3 * curve(4) + 0.25 * 4 * curve(5))
    assert curve(1.5) == pytest.approx(curve(2))
    few = integer_curve(Skellam(40.0, 1.5, 9), neighboring_relation="zero-out")  # integers: Delta_1 <= Delta_2^2
    assert few(2) == pytest.approx(2 * 2.25 / 80 + min((3 * 2.25 + 6 * 2.25) / 6400, 3 * 2.25 / 80))


@pytest.mark.parametrize("share", [DiscreteGaussian(20.0, 10.0, 5), Skellam(400.0, 10.0, 5)])
def test_replacing_costs_as_much_as_twice_the_sensitivity(share: DiscreteGaussian | Skellam) -> None:
    wide = type(share)(400.0 if isinstance(share, Skellam) else 20.0, 20.0, 5)
    for order in (2.0, 3.5, 40.0):
        replaced = release_curve(share, neighboring_relation="replace-one")(order)
        assert replaced == pytest.approx(release_curve(wide, neighboring_relation=ADD)(order), rel=1e-3)


def test_skellam_shares_add_up_exactly() -> None:
    for order in (2, 5.5, 64):
        shared = release_curve(Distributed(Skellam(25.0, 3.0, 4), 4), neighboring_relation=ADD)(order)
        assert shared == pytest.approx(release_curve(Skellam(100.0, 3.0, 4), neighboring_relation=ADD)(order))


@pytest.mark.parametrize("order", [1.2, 2.0, 9.0])
def test_a_sum_of_discrete_gaussians_never_costs_less_than_the_exact_divergence(order: float) -> None:
    sigma, shares, shift = 1.8, 3, 2
    one = np.exp(-(np.arange(-40, 41) ** 2) / (2 * sigma**2))
    one /= one.sum()
    log_p = np.log(np.convolve(np.convolve(one, one), one)[80:-80])
    log_q = np.roll(log_p, shift)
    exact = float(logsumexp((order * log_p + (1 - order) * log_q)[shift:])) / (order - 1)
    bound = release_curve(Distributed(DiscreteGaussian(sigma, shift), shares), neighboring_relation=ADD)(order)
    assert exact <= bound < exact + 1e-4


@pytest.mark.parametrize("q", [0.01, 0.2, 1.0])
def test_fine_grids_cost_hardly_more_than_continuous_noise(q: float) -> None:
    """What distributed noise should cost: one central Gaussian."""

    def epsilon(event: Event) -> float:
        return rdp_to_epsilon(rdp_curve(Composed([(PoissonSampled(q, event), 150)]), neighboring_relation=ADD), 1e-5)

    central = epsilon(Gaussian(4.0))
    gaussian = epsilon(Distributed(DiscreteGaussian(2000.0, 1000.0, 16), 4))
    parts = epsilon(DiscreteGaussianSum(DiscreteGaussian(4000.0, 1000.0, 16), least_part=200.0, parts=30))
    assert parts == pytest.approx(gaussian, rel=1e-6)
    skellam = epsilon(Distributed(Skellam(2000.0**2, 1000.0, 16), 4))
    assert central < gaussian < central * (1 + 1e-4)
    assert central < skellam < central * (1.005 if q < 1 else 1.05)  # orders below 2 pay for the chord


@given(st.floats(1.01, 1e6), st.sampled_from([1.0, 0.5, 0.01]), st.integers(1, 50))
def test_more_noise_never_costs_more(order: float, q: float, senders: int) -> None:
    for kind, parameter in ((DiscreteGaussian, 30.0), (Skellam, 900.0)):
        curves = [
            release_curve(
                PoissonSampled(q, Distributed(kind(parameter, 20.0, 8), senders + extra)), neighboring_relation=ADD
            )
            for extra in (0, 1)
        ]
        assert curves[1](order) <= curves[0](order)


@pytest.mark.parametrize("event", [Skellam(50.0, 5.0, 3), Distributed(DiscreteGaussian(9.0, 5.0, 3), 2)])
def test_curves_rise_with_the_order_and_sampling_helps(event: Event) -> None:
    orders = [1.5, 2, 2.5, 3, 10, 100, 4096, 4097, 5000, 1e6]
    whole = [release_curve(event, neighboring_relation=ADD)(order) for order in orders]
    sampled = [release_curve(PoissonSampled(0.1, event), neighboring_relation=ADD)(order) for order in orders]
    assert whole == sorted(whole)
    assert sampled == sorted(sampled)
    assert all(less < more for less, more in zip(sampled[:6], whole, strict=False))
    assert rdp_curve(PoissonSampled(1.0, event), neighboring_relation=ADD)(3) == whole[3]
    assert rdp_curve(PoissonSampled(0.0, event), neighboring_relation=ADD)(3) == 0


def test_several_skellam_releases_of_one_sample_add_up_inside_it() -> None:
    part = Skellam(100.0, 3.0, 4)
    twice = release_curve(PoissonSampled(0.1, Composed([(part, 2)])), neighboring_relation=ADD)(2)
    exact = math.log(1 + 0.01 * math.expm1(2 * integer_curve(part, neighboring_relation=ADD)(2)))
    assert twice == pytest.approx(exact)
    assert twice > 2 * release_curve(PoissonSampled(0.1, part), neighboring_relation=ADD)(2)


@pytest.mark.parametrize(
    ("event", "relation"),
    [
        (PoissonSampled(0.1, Skellam(9.0)), "replace-one"),
        (PoissonSampled(0.1, DiscreteGaussian(9.0)), "replace-one"),
        (PoissonSampled(0.1, Composed([(Skellam(9.0), 1), (DiscreteGaussian(9.0), 1)])), ADD),
        (Distributed(DiscreteGaussian(0.7, 1, 1), 5), ADD),
        (PoissonSampled(0.1, PoissonSampled(0.1, DiscreteGaussian(9.0))), ADD),
    ],
)
def test_what_no_theorem_covers_is_refused(event: Event, relation: NeighboringRelation) -> None:
    with pytest.raises(UnsupportedEventError):
        release_curve(event, neighboring_relation=relation)


def test_an_event_without_integer_noise_is_not_for_this_module() -> None:
    with pytest.raises(UnsupportedEventError, match="integer noise"):
        integer_curve(Laplace(1.0), neighboring_relation=ADD)

"""What a plan says of itself: true of the plan, and of as many rounds as asked for."""

import pytest

import secagg
from secagg import Counts, Encoding, PlanError, planning
from secagg.homomorphic.threshold_parameters import ThresholdParameters


def codec(n: int) -> Counts:
    return Counts(dimension=1, maximum=1, clients=n)


def test_a_sparse_plan_explains_every_number_it_holds() -> None:
    plan = secagg.plan(codec(1_000), rounds=8)
    why = planning.explain(plan, rounds=8)
    assert plan.privacy_bits is not None
    assert plan.failure_bits is not None
    assert f"{plan.degree} of 999 others" in why["graph"]
    assert f"{plan.threshold} of {plan.degree + 1} shares" in why["threshold"]
    assert f"2^-{plan.privacy_bits - 3:.1f} over 8 rounds (2^-{plan.privacy_bits:.1f} in one)" in why["privacy"]
    assert f"2^-{plan.failure_bits - 3:.1f} over 8 rounds (2^-{plan.failure_bits:.1f} in one)" in why["failure"]
    assert "over" not in planning.explain(plan)["failure"]
    assert f"2^{plan.modulus_bits}" in why["modulus"]
    with pytest.raises(PlanError, match="rounds must be"):
        planning.explain(plan, rounds=0)


def test_odds_that_cannot_be_are_explained_as_zero_and_odds_above_one_as_one() -> None:
    plan = secagg.plan(codec(300), corrupted=0.0, dropout=0.01, graph="sparse")
    assert plan.privacy_bits is None
    why = planning.explain(plan, rounds=1 << 30)
    assert "odds of at most 0 if 0 clients" in why["privacy"]
    assert "2^0.0 over 1073741824 rounds" in why["failure"] or plan.failure_bits is None


def test_complete_plans_explain_how_many_they_withstand() -> None:
    why = planning.explain(secagg.plan(codec(30), corrupted=0.2))
    assert "more than 2n/3 = 20.0" in why["threshold"]
    assert "at most 20 clients side with the server; planned for 6" in why["privacy"]
    assert "at most 9 clients drop out; planned for 3" in why["failure"]
    why = planning.explain(secagg.plan(codec(30), corrupted=0.5, server="malicious"))
    assert "(n + c)/2 = 22.5" in why["threshold"]
    assert "at most 15 clients side with the server; planned for 15" in why["privacy"]
    assert planning.explain(secagg.plan(codec(4), masking="plain"))["privacy"] == "none: the server sees every vector"


def test_odds_of_one_round_that_are_too_small_to_be_written_out_still_add_up() -> None:
    plan = secagg.plan(Encoding(dimension=100_000, clip=1.0, bits=16, clients=4), masking="threshold", corrupted=0)
    bits = ThresholdParameters.of(plan).failure_bits
    assert planning.explain(plan)["failure"].endswith("makes it wrong with 2^-1000")
    many = planning.explain(plan, rounds=1 << 200)["failure"]
    assert many.endswith(f"makes it wrong with 2^-{bits - 200:.1f} over {1 << 200} rounds (2^-{bits:.1f} in one)")


def test_a_threshold_sum_says_how_many_clients_it_withstands() -> None:
    why = planning.explain(secagg.plan(codec(20), masking="threshold"))
    assert "up to 12 of them weaken" in why["privacy"]  # t - 2
    why = planning.explain(secagg.plan(codec(20), masking="threshold", server="malicious"))
    assert "up to 7 of them weaken" in why["privacy"]  # 2t > n + c


def test_lattice_masks_withstand_all_but_two_of_the_fewest_in_a_sum() -> None:
    why = planning.explain(secagg.plan(codec(20), masking="lattice"))
    assert "at most 12 clients side with the server" in why["privacy"]

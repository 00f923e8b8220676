"""Why a plan is what it is, in sentences: what holds, against whom, with which odds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from secagg.errors import PlanError
from secagg.homomorphic.ckks_parameters import DEGREE, CkksParameters
from secagg.homomorphic.threshold_parameters import BOUND_BITS, FLOODING_BITS, ThresholdParameters
from secagg.lattice.security import FEWEST_HONEST
from secagg.odds import GRINDING_BITS, log2_sum, sparse_odds

if TYPE_CHECKING:
    from secagg.params import Plan

__all__ = ["check_odds", "explain", "log2"]

_SMALLEST = -1000
"""log2 of the smallest odds that are written out."""


def explain(plan: Plan, *, rounds: int = 1) -> dict[str, str]:
    """Say why a plan is what it is.

    Args:
        rounds: for how many rounds its odds are added up.
    Returns: sentences by subject: graph, threshold, privacy, failure, cohort, modulus, keys, and extras and lattice if
        there are any; key and noise for "threshold", key for "ckks"; for "ckks" and "plain" those that apply.
    Raises:
        PlanError: rounds is not an integer of at least 1.
    """
    check_odds(1, rounds)
    modulus = f"2^{plan.modulus_bits}: wide enough that no sum of {plan.clients} encoded vectors wraps"
    if plan.masking == "plain":
        return {"privacy": "none: the server sees every vector", "modulus": modulus}
    if plan.masking == "ckks":
        return {
            "key": _explain_ckks(plan),
            "threshold": f"a sum of at least {plan.threshold} of {plan.clients} clients, which as many decrypt alike",
            "privacy": "holds while no client tells the server the key that all of them share, and while the server "
            "sends for decryption nothing but the sum: any one client and the server open every vector",
            "failure": f"cannot happen while at most {plan.clients - plan.threshold} clients drop out; planned for "
            f"{plan.dropouts}",
            "modulus": modulus,
        }
    keys = "x25519: what is recorded today can be opened by whoever has a large quantum computer one day"
    if plan.key_agreement != "x25519":
        keys = "x25519 and ML-KEM-768 together: masks and shares recorded today stay secret while either holds"
    shape = _explain_key(plan, rounds) if plan.masking == "threshold" else _explain_graph(plan, rounds)
    why = shape | {
        "cohort": f"{plan.corrupted} corrupted clients among these {plan.clients}: where the server picks who takes "
        "part, it can pick its own; then plan with the size of the directory it picks from",
        "modulus": modulus,
        "keys": keys,
    }
    if plan.extras:
        why["extras"] = (
            f"{plan.extras} extra secrets of each client ride on its shares: with k dropouts number k of every "
            f"survivor opens, with {plan.extras} none, and with more the round ends"
        )
    if plan.lattice is not None:
        ring = plan.lattice
        why["lattice"] = (
            f"N = {ring.degree}, log2 q = {ring.log2_modulus:.1f}, {ring.digits} coordinates in a coefficient: "
            f"{_strength(ring.classical_bits, ring.quantum_bits)}; upload {ring.expansion(plan.modulus_bits):.3f} × "
            f"the packed vector; noise spoils a sum with odds of at most {_odds(-ring.failure_bits, rounds)}"
        )
    return why


def _explain_ckks(plan: Plan) -> str:
    from secagg.homomorphic.ckks_rounds import EncryptedUpload  # noqa: PLC0415 -- it knows plans

    made = CkksParameters.of(plan)
    expansion = EncryptedUpload.vector_bytes(plan) / -(-plan.length * plan.modulus_bits // 8)
    return (
        f"CKKS, N = {DEGREE}, log2 q = {math.log2(made.modulus):.1f}, {made.digits} coefficients of {made.digit_bits} "
        f"bits for a coordinate: {_strength(made.classical_bits, made.quantum_bits)}, but one key for all; upload "
        f"{expansion:.3f} × the packed vector; rounding is exact but for odds of 2^-{made.failure_bits} a round"
    )


def _explain_key(plan: Plan, rounds: int) -> dict[str, str]:
    key, t, c = ThresholdParameters.of(plan), plan.threshold, plan.corrupted
    tolerated = min(t - 2, 2 * t - plan.clients - 1) if plan.server == "malicious" else t - 2
    served = f"it serves {key.rounds} rounds"
    if rounds > key.rounds:
        served += f", so that {rounds} rounds take {-(-rounds // key.rounds)} keys, each set up anew"
    return {
        "key": f"N = {key.degree}, log2 q = {key.log2_modulus:.1f}, {key.digits} coordinates in a coefficient: "
        f"{_strength(key.classical_bits, key.quantum_bits)}; upload {key.expansion(plan.modulus_bits):.3f} × the "
        f"packed vector. All {plan.clients} clients set it up together; {served}",
        "threshold": f"a sum is of at least {t} of {plan.clients} clients, of whom {t} decrypt it",
        "privacy": f"holds while at most the {c} clients planned for, fixed before the set-up, side with the server, "
        f"if Ring-LWE is hard; the proof is a sketch; up to {tolerated} of them weaken the noise below, nothing else",
        "noise": f"upload errors add up to at most B = {key.error_bound}, but for odds of 2^-{BOUND_BITS} a round; "
        f"those who decrypt flood them with 2^{FLOODING_BITS} times B while at most the {c} clients planned for are "
        f"corrupted, less if more are: over the {key.rounds} rounds of a key what is answered is within a statistical "
        f"distance of 2^-{key.refresh_bits:.1f} of what the sum tells",
        "failure": f"too few uploads if more than {plan.clients - t} clients drop out, planned for {plan.dropouts}; "
        "and if one of those who decrypt vanishes then, the round is lost. Noise loses a sum with odds of at most "
        f"{_odds(-key.lost_bits, rounds)}, and makes it wrong with {_odds(-key.failure_bits, rounds)}",
    }


def _explain_graph(plan: Plan, rounds: int) -> dict[str, str]:
    n, c, d, k, t = plan.clients, plan.corrupted, plan.dropouts, plan.degree, plan.threshold
    if plan.is_complete:
        reason, tolerated = f"more than 2n/3 = {2 * n / 3:.1f}", t - 1
        if plan.server == "malicious":
            reason += f", and than (n + c)/2 = {(n + c) / 2:.1f}, so that no two groups of clients who are told of "
            reason += "different survivors can both open a secret"
            tolerated = 2 * t - n - 1
        if plan.lattice is not None:
            tolerated = min(tolerated, plan.least_survivors - FEWEST_HONEST)
        return {
            "graph": f"complete: each client shares a mask with all {k} others, so that no luck is involved",
            "threshold": f"{t} of {n} shares rebuild a secret: {reason}",
            "privacy": f"cannot fail while at most {tolerated} clients side with the server; planned for {c}",
            "failure": f"cannot happen while at most {n - plan.least_survivors} clients drop out; planned for {d}",
        }
    odds = sparse_odds(n, c, d, k, t, malicious=plan.keys_draw_graph)
    drawn, refuses, too_many = "drawn afresh every round", "the server refuses to open the sum", t
    tries = ""
    if plan.keys_draw_graph:
        drawn, refuses = "drawn once the server has committed to all keys", "clients refuse to open the sum"
        too_many = 2 * t - k - 1
        tries = f", and it tries 2^{GRINDING_BITS} graphs"
    return {
        "graph": f"sparse: each client shares a mask with {k} of {n - 1} others, {drawn}",
        "threshold": f"{t} of {k + 1} shares rebuild a secret: more than k/2 + 1 = {k // 2 + 1}, so that dropouts "
        f"alone cannot tear the graph, and at most {too_many - 1} of a client's neighbours may be corrupted",
        "privacy": f"fails with odds of at most {_odds(log2_sum(odds.captured, odds.torn), rounds)} if {c} clients "
        f"side with the server{tries}; in one round {_odds(odds.captured)} that {too_many} of them are neighbours of "
        f"one honest client, {_odds(odds.torn)} that the honest survivors' graph falls apart",
        "failure": f"odds of at most {_odds(odds.lost, rounds)} if {d} clients drop out; of more {refuses}",
    }


def _strength(classical: int, quantum: int) -> str:
    against = f"{quantum} bits" if quantum else "below 128 bits"
    return f"{classical} bits of security by table against classical attacks, {against} against quantum ones"


def _odds(log2_odds: float, rounds: int = 1) -> str:
    total = log2_odds + log2(rounds)
    if total < _SMALLEST:
        return "0" if log2_odds == -math.inf else f"2^{_SMALLEST}"
    one = f"2^{log2_odds:.1f}"
    return one if rounds == 1 else f"2^{min(total, 0.0):.1f} over {rounds} rounds ({one} in one)"


def check_odds(fewest_bits: int, rounds: int) -> None:
    """Refuse odds that say nothing, and rounds that cannot be.

    Raises:
        PlanError: less than 1 bit, or less than 1 round.
    """
    if not fewest_bits >= 1:
        msg = f"odds are given as at least 1 bit, got {fewest_bits}"
        raise PlanError(msg)
    if type(rounds) is not int or rounds < 1:
        msg = f"rounds must be an integer of at least 1, got {rounds!r}"
        raise PlanError(msg)


def log2(value: int) -> float:
    """Return log2, of 0 too."""
    return math.log2(value) if value > 0 else -math.inf

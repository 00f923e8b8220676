"""Parameters of a round, with the odds that they fail.

Semi-honest server. Corrupted clients are fixed before the graph's public randomness is drawn; dropouts are a uniformly
random subset, independent of the graph. With c corrupted and d dropping clients of n, degree k and threshold t (a
secret's holders are its owner and the owner's k neighbours, so k + 1):

* privacy, shares: an honest client's secrets are safe while at most t - 1 of its k neighbours are corrupted. Odds of
  the contrary: at most (n - c) · P[Hypergeometric(n - 1, c, k) >= t].
* privacy, connectivity: masks hide everything but the sum if the graph of honest survivors is connected. On a ring
  where each is joined to the k/2 next on either side, disconnecting it takes two disjoint runs of k/2 removed clients:
  at most n(n - k - 1)/2 pairs of runs, each removed with probability (r)_k/(n)_k for r = c + d (falling factorials).
* A threshold above k/2 + 1 makes sure that dropouts alone, however chosen, cannot tear the survivors' graph without the
  round failing first: where k/2 in a row vanish, the next client is left with k/2 + 1 holders, itself included.
* failure: a secret is lost if fewer than t of its owner's k neighbours survive (the own share, which only a survivor
  adds, is left out): at most n · P[Hypergeometric(n - 1, d, k) > k - t].

The server refuses to open a sum that more than d clients are missing from, since the odds are for d.

Complete graph: t > 2n/3 holds always, so privacy fails only if t or more clients are corrupted and the round fails
only if more than n - t drop out; within the stated numbers neither can happen.

Source: Bell et al. 2020, sec. 3.2-3.4 (semi-honest), with the own share counted as in Bonawitz et al. 2017; Harary
graphs under a random permutation as there. Plans against a malicious server are not offered yet.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from secagg.errors import PlanError
from secagg.params import Plan

if TYPE_CHECKING:
    from secagg.params import Codec, Masking

__all__ = ["plan"]

_CONSORTIUM = 50
"""Up to so many clients "auto" takes the complete graph, whose privacy rests on a count of corrupted clients alone."""

_FEWEST_HONEST = 2

_ROUNDING = 1e-9
"""Slack so that 0.1·100 clients is 10 clients, not 11."""


def plan(
    codec: Codec,
    *,
    dropout: float = 0.1,
    corrupted: float = 0.1,
    graph: Literal["auto", "complete", "sparse"] = "auto",
    masking: Masking = "masking",
    security_bits: int = 40,
    correctness_bits: int = 20,
) -> Plan:
    """Choose degree and threshold for summing what a codec encodes.

    Args:
        codec: an `Encoding` or `Counts`; says the number of clients, the length and the modulus.
        dropout: share of clients that may vanish in one round, in [0, 1).
        corrupted: share of clients that may tell the server all they know, in [0, 1).
        graph: "complete", "sparse" (random k-regular), or "auto": sparse above 50 clients if it halves the work.
        masking: "masking", or "plain" for the unprotected baseline.
        security_bits: privacy may fail with odds of at most 2^-security_bits a round (sparse graph).
        correctness_bits: a round may fail, within `dropout`, with odds of at most 2^-correctness_bits (sparse graph).
    Returns: a plan that states the odds it reaches.
    Raises:
        PlanError: nothing satisfies this; says what would.

    >>> import secagg
    >>> four_hospitals = secagg.plan(secagg.Encoding(dimension=14, clip=1.0, bits=16, clients=4))
    >>> four_hospitals.threshold, four_hospitals.degree, four_hospitals.dropouts
    (3, 3, 1)
    """
    _check_arguments(dropout, corrupted, graph, masking, min(security_bits, correctness_bits))
    n = codec.clients
    shape: dict[str, Any] = {
        "clients": n,
        "length": codec.length,
        "modulus_bits": codec.modulus_bits,
        "encoding": codec.digest,
        "dropouts": math.ceil(dropout * n - _ROUNDING),
        "corrupted": math.ceil(corrupted * n - _ROUNDING),
    }
    if masking == "plain":
        return Plan(**shape, threshold=1, degree=n - 1, masking="plain")
    honest = n - shape["corrupted"] - shape["dropouts"]
    if honest < _FEWEST_HONEST:
        msg = (
            f"{n} clients less {shape['corrupted']} corrupted and {shape['dropouts']} dropping out leave "
            f"{max(honest, 0)}: a sum over fewer than 2 honest clients hides nothing; "
            "lower the shares or take more clients"
        )
        raise PlanError(msg)
    if graph == "complete" or (graph == "auto" and n <= _CONSORTIUM):
        return _complete(shape)
    most = (n - 1) // 2 if graph == "auto" else n - 2
    sparse = _sparse(shape, security_bits, correctness_bits, most)
    if sparse is not None:
        return sparse
    if graph == "auto":
        return _complete(shape)
    msg = (
        f"with {shape['corrupted']} of {n} clients corrupted and {shape['dropouts']} dropping out, no sparse graph "
        f"fails with odds below 2^-{security_bits} (privacy) and 2^-{correctness_bits} (round): "
        "use graph='complete' or lower the shares"
    )
    raise PlanError(msg)


def _check_arguments(dropout: float, corrupted: float, graph: str, masking: str, fewest_bits: int) -> None:
    for name, share in (("dropout", dropout), ("corrupted", corrupted)):
        if not 0 <= share < 1:
            msg = f"{name} is a share of the clients, in [0, 1), got {share}"
            raise PlanError(msg)
    for name, value, choices in (
        ("graph", graph, ("auto", "complete", "sparse")),
        ("masking", masking, ("masking", "plain")),
    ):
        if value not in choices:
            msg = f"{name} must be one of {', '.join(choices)}, got {value!r}"
            raise PlanError(msg)
    if fewest_bits < 1:
        msg = f"odds are given as at least 1 bit, got {fewest_bits}"
        raise PlanError(msg)


def _complete(shape: dict[str, Any]) -> Plan:
    n = shape["clients"]
    t = max(2 * n // 3 + 1, 2)
    if shape["dropouts"] > n - t:
        msg = (
            f"{n} clients on a complete graph need a threshold of {t}, so at most {n - t} may drop out; "
            f"asked for {shape['dropouts']}: lower dropout or take more clients"
        )
        raise PlanError(msg)
    if shape["corrupted"] >= t:
        msg = f"{shape['corrupted']} corrupted clients would hold {t} shares of every secret: lower corrupted"
        raise PlanError(msg)
    return Plan(**shape, threshold=t, degree=n - 1)


def _sparse(shape: dict[str, Any], security_bits: int, correctness_bits: int, most: int) -> Plan | None:
    """Find the smallest degree up to `most` that works, and for it the largest threshold that rarely fails."""
    n, c, d = shape["clients"], shape["corrupted"], shape["dropouts"]
    for k in range(2, most + 1, 2):
        torn = _log2_disconnected(n, c + d, k)
        if torn > -(security_bits + 1):
            continue
        lost = _log2_upper_tails(n - 1, d, k)  # a secret is lost if more than k - t of its owner's neighbours vanish
        rare = [t for t in range(k // 2 + 2, k + 1) if _log2(n) + lost[k - t + 1] <= -correctness_bits]
        if not rare:
            continue
        t = max(rare)
        captured = _log2_captured(n, c, k, t)
        if captured <= -(security_bits + 1):
            return Plan(
                **shape,
                threshold=t,
                degree=k,
                privacy_bits=_bits(_log2_sum(torn, captured)),
                failure_bits=_bits(_log2(n) + lost[k - t + 1]),
            )
    return None


def _log2_captured(n: int, c: int, k: int, t: int) -> float:
    """log2 of a bound on the odds that some honest client has t or more corrupted neighbours."""
    return _log2(n - c) + _log2_upper_tails(n - 1, c, k)[t]


def _log2_disconnected(n: int, removed: int, k: int) -> float:
    """log2 of a bound on the odds that removing random clients disconnects the rest of a Harary graph."""
    if k > removed:
        return -math.inf
    pairs = _log2(n) + _log2(n - k - 1) - 1
    return pairs + _log2_falling(removed, k) - _log2_falling(n, k)


def _log2_upper_tails(population: int, marked: int, draws: int) -> list[float]:
    """log2 P[X >= j] for j = 0..draws + 1 and X marked among draws without replacement (hypergeometric).

    Exact up to rounding: terms are added up from the smallest.
    """
    whole = _log2_choose(population, draws)
    tails = [-math.inf] * (draws + 2)
    for j in range(draws, -1, -1):
        possible = j <= marked and draws - j <= population - marked
        term = _log2_choose(marked, j) + _log2_choose(population - marked, draws - j) - whole if possible else -math.inf
        tails[j] = min(_log2_sum(tails[j + 1], term), 0.0)
    return tails


def _log2_choose(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def _log2_falling(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(n - k + 1)) / math.log(2)


def _log2(value: int) -> float:
    return math.log2(value) if value > 0 else -math.inf


def _log2_sum(*logs: float) -> float:
    top = max(logs)
    return top if top == -math.inf else top + math.log2(math.fsum(2 ** (value - top) for value in logs))


def _bits(log2_odds: float) -> float | None:
    return None if log2_odds == -math.inf else -log2_odds

"""Parameters of a round, with the odds that they fail.

Semi-honest server, sparse graph. Corrupted clients are fixed before the graph's public randomness is drawn; dropouts
are a uniformly random subset, independent of the graph. With c corrupted and d dropping clients of n, degree k and
threshold t (a secret's holders are its owner and the owner's k neighbours, so k + 1):

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

Over R rounds the corrupted clients stay the same, while every round draws a fresh graph and loses fresh clients: by
the union bound privacy fails in some round with at most R times the odds of one.

Complete graph: t > 2n/3 holds always, so privacy fails only if t or more clients are corrupted and the round fails
only if more than n - t drop out; within the stated numbers neither can happen, in however many rounds.

Malicious server: complete graph only, and t > (n + c)/2 besides. A server that tells two groups of honest clients of
different survivors opens a victim's both secrets if each group, with the c corrupted clients, holds t shares; then
2(t - c) <= n - c, which 2t > n + c excludes. On a sparse graph that server could choose who "drops out" after it has
seen the graph, so that odds over random dropouts say nothing; `plan` refuses.

Source: Bell et al. 2020, sec. 3.2-3.4 (semi-honest), with the own share counted as in Bonawitz et al. 2017; Harary
graphs under a random permutation as there. Malicious: Bonawitz et al. 2017, sec. 6.2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from secagg.errors import PlanError
from secagg.params import Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from secagg.params import Codec, KeyAgreement, Masking, ServerModel

__all__ = ["explain", "plan"]

_CONSORTIUM = 50
"""Up to so many clients "auto" takes the complete graph, whose privacy rests on a count of corrupted clients alone."""

_MOST_NEIGHBOURS = 1 << 13
"""No sparse graph is looked for beyond: a client that expands more masks than this gains nothing from sparseness."""

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
    server: ServerModel = "semi-honest",
    key_agreement: KeyAgreement = "x25519",
    security_bits: int = 40,
    correctness_bits: int = 20,
    rounds: int = 1,
) -> Plan:
    """Choose degree and threshold for summing what a codec encodes.

    Args:
        codec: an `Encoding` or `Counts`; says the number of clients, the length and the modulus.
        dropout: share of clients that may vanish in one round, in [0, 1).
        corrupted: share of clients that may tell the server all they know, in [0, 1).
        graph: "complete", "sparse" (random k-regular), or "auto": sparse above 50 clients if it halves the work.
        masking: "masking", or "plain" for the unprotected baseline.
        server: "semi-honest", or "malicious": complete graph always, and the smallest threshold above 2n/3 and
            (n + c)/2.
        key_agreement: "x25519", or "x25519+ml-kem-768": hybrid, so that traffic recorded today stays secret from a
            quantum computer later; 5.7 kB more per neighbour (1.7 sent, 4.0 received).
        security_bits: privacy may fail in any of the `rounds` with odds of at most 2^-security_bits (sparse graph).
        correctness_bits: one round may fail, within `dropout`, with odds of at most 2^-correctness_bits (sparse graph).
        rounds: how many rounds will be run with this plan, each with a round number (hence a graph) of its own.
    Returns: a plan that states the odds it reaches, of one round: over R rounds take log2 R off its `privacy_bits`
        and `failure_bits`.
    Raises:
        PlanError: nothing satisfies this; says what would.
    Guarantees: the odds are upper bounds, for any client among all and not for one of them, over the draw of the
        graph and of the dropouts; None stands for "cannot happen". They leave out broken cryptography, more corrupted
        clients than stated, and what the sums themselves tell.

    >>> import secagg
    >>> four_hospitals = secagg.plan(secagg.Encoding(dimension=14, clip=1.0, bits=16, clients=4))
    >>> four_hospitals.threshold, four_hospitals.degree, four_hospitals.dropouts
    (3, 3, 1)
    """
    _check_shares(dropout, corrupted)
    _check_choices(graph, masking, server, key_agreement)
    _check_odds(min(security_bits, correctness_bits), rounds)
    n = codec.clients
    shape: dict[str, Any] = {
        "clients": n,
        "length": codec.length,
        "modulus_bits": codec.modulus_bits,
        "encoding": codec.digest,
        "server": server,
        "key_agreement": key_agreement,
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
    if server == "malicious" or graph == "complete" or (graph == "auto" and n <= _CONSORTIUM):
        return _complete(shape)
    most = min((n - 1) // 2 if graph == "auto" else n - 2, _MOST_NEIGHBOURS)
    sparse = _sparse(shape, security_bits + _log2(rounds), correctness_bits, most)
    if sparse is not None:
        return sparse
    if graph == "auto":
        return _complete(shape)
    msg = (
        f"with {shape['corrupted']} of {n} clients corrupted and {shape['dropouts']} dropping out, no sparse graph "
        f"of up to {most} neighbours fails with odds below 2^-{security_bits} (privacy, over {rounds} rounds) and "
        f"2^-{correctness_bits} (one round): use graph='complete' or lower the shares"
    )
    raise PlanError(msg)


def explain(plan: Plan, *, rounds: int = 1) -> dict[str, str]:
    """Say why a plan is what it is.

    Args:
        rounds: for how many rounds its odds are added up.
    Returns: sentences by subject: graph, threshold, privacy, failure, modulus, keys; for "plain" only privacy and
        modulus.
    Raises:
        PlanError: rounds is not an integer of at least 1.
    """
    _check_odds(1, rounds)
    n, c, d, k, t = plan.clients, plan.corrupted, plan.dropouts, plan.degree, plan.threshold
    modulus = f"2^{plan.modulus_bits}: wide enough that no sum of {n} encoded vectors wraps"
    if plan.masking == "plain":
        return {"privacy": "none: the server sees every vector", "modulus": modulus}
    keys = "x25519: what is recorded today can be opened by whoever has a large quantum computer one day"
    if plan.key_agreement != "x25519":
        keys = "x25519 and ML-KEM-768 together: masks and shares recorded today stay secret while either holds"
    if plan.is_complete:
        reason, tolerated = f"more than 2n/3 = {2 * n / 3:.1f}", t - 1
        if plan.server == "malicious":
            reason += f", and than (n + c)/2 = {(n + c) / 2:.1f}, so that no two groups of clients who are told of "
            reason += "different survivors can both open a secret"
            tolerated = 2 * t - n - 1
        return {
            "graph": f"complete: each client shares a mask with all {k} others, so that no luck is involved",
            "threshold": f"{t} of {n} shares rebuild a secret: {reason}",
            "privacy": f"cannot fail while at most {tolerated} clients side with the server; planned for {c}",
            "failure": f"cannot happen while at most {n - t} clients drop out; planned for {d}",
            "modulus": modulus,
            "keys": keys,
        }
    torn, captured = _log2_disconnected(n, c + d, k), _log2_captured(n, c, k, t)
    return {
        "graph": f"sparse: each client shares a mask with {k} of {n - 1} others, drawn afresh every round",
        "threshold": f"{t} of {k + 1} shares rebuild a secret: more than k/2 + 1 = {k // 2 + 1}, so that dropouts "
        f"alone cannot tear the graph, and at most {t - 1} of a client's neighbours may be corrupted",
        "privacy": f"fails with odds of at most {_odds(_log2_sum(torn, captured), rounds)} if {c} clients side with "
        f"the server; in one round {_odds(captured)} that {t} of them are neighbours of one honest client, "
        f"{_odds(torn)} that the honest survivors' graph falls apart",
        "failure": f"odds of at most {_odds(_log2_lost(n, d, k, t), rounds)} if {d} clients drop out; of more the "
        f"server refuses to open the sum",
        "modulus": modulus,
        "keys": keys,
    }


def _odds(log2_odds: float, rounds: int = 1) -> str:
    if log2_odds == -math.inf:
        return "0"
    one = f"2^{log2_odds:.1f}"
    return one if rounds == 1 else f"2^{min(log2_odds + _log2(rounds), 0.0):.1f} over {rounds} rounds ({one} in one)"


def _check_shares(dropout: float, corrupted: float) -> None:
    for name, share in (("dropout", dropout), ("corrupted", corrupted)):
        if not 0 <= share < 1:
            msg = f"{name} is a share of the clients, in [0, 1), got {share}"
            raise PlanError(msg)


def _check_choices(graph: str, masking: str, server: str, key_agreement: str) -> None:
    for name, value, choices in (
        ("graph", graph, ("auto", "complete", "sparse")),
        ("masking", masking, ("masking", "plain")),
        ("server", server, ("semi-honest", "malicious")),
        ("key_agreement", key_agreement, ("x25519", "x25519+ml-kem-768")),
    ):
        if value not in choices:
            msg = f"{name} must be one of {', '.join(choices)}, got {value!r}"
            raise PlanError(msg)
    if server == "malicious" and graph == "sparse":
        msg = (
            "no sparse graph holds against a malicious server: it could choose who drops out after it has seen the "
            "graph; use graph='complete', or server='semi-honest' if the server follows the protocol"
        )
        raise PlanError(msg)


def _check_odds(fewest_bits: int, rounds: int) -> None:
    if not fewest_bits >= 1:
        msg = f"odds are given as at least 1 bit, got {fewest_bits}"
        raise PlanError(msg)
    if type(rounds) is not int or rounds < 1:
        msg = f"rounds must be an integer of at least 1, got {rounds!r}"
        raise PlanError(msg)


def _complete(shape: dict[str, Any]) -> Plan:
    n, c = shape["clients"], shape["corrupted"]
    t = max(2 * n // 3 + 1, 2)
    against = ""
    if shape["server"] == "malicious":
        t = max(t, (n + c) // 2 + 1)
        against = f" against a malicious server with {c} corrupted clients"
    if shape["dropouts"] > n - t:
        msg = (
            f"{n} clients on a complete graph need a threshold of {t}{against}, so at most {n - t} may drop out; "
            f"asked for {shape['dropouts']}: lower dropout or take more clients"
        )
        raise PlanError(msg)
    if c >= t:
        msg = f"{c} corrupted clients would hold {t} shares of every secret: lower corrupted"
        raise PlanError(msg)
    return Plan(**shape, threshold=t, degree=n - 1)


def _sparse(shape: dict[str, Any], security_bits: float, correctness_bits: int, most: int) -> Plan | None:
    """Find the smallest degree up to `most` that works, and for it the largest threshold that rarely fails."""
    n, c, d = shape["clients"], shape["corrupted"], shape["dropouts"]
    for k in range(2, most + 1, 2):
        torn = _log2_disconnected(n, c + d, k)
        if torn > -(security_bits + 1):
            continue
        dropped = _log2_upper_tails(n - 1, d, k)
        rare = [t for t in range(k // 2 + 2, k + 1) if _log2(n) + dropped[k - t + 1] <= -correctness_bits]
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
                failure_bits=_bits(_log2_lost(n, d, k, t)),
            )
    return None


def _log2_captured(n: int, c: int, k: int, t: int) -> float:
    """log2 of a bound on the odds that some honest client has t or more corrupted neighbours."""
    return _log2(n - c) + float(_log2_upper_tails(n - 1, c, k)[t])


def _log2_lost(n: int, d: int, k: int, t: int) -> float:
    """log2 of a bound on the odds that of some owner's k neighbours more than k - t vanish: its secret is lost."""
    return _log2(n) + float(_log2_upper_tails(n - 1, d, k)[k - t + 1])


def _log2_disconnected(n: int, removed: int, k: int) -> float:
    """log2 of a bound on the odds that removing random clients disconnects the rest of a Harary graph."""
    if k > removed:
        return -math.inf
    pairs = _log2(n) + _log2(n - k - 1) - 1
    return pairs + _log2_falling(removed, k) - _log2_falling(n, k)


def _log2_upper_tails(population: int, marked: int, draws: int) -> NDArray[np.float64]:
    """log2 P[X >= j] for j = 0..draws + 1 and X marked among draws without replacement (hypergeometric).

    Exact up to rounding: terms are added up from the smallest.
    """
    taken = _log2_choices(marked, draws) + _log2_choices(population - marked, draws)[::-1]
    terms = taken - _log2_choices(population, draws)[draws]
    tails = np.logaddexp2.accumulate(terms[::-1])[::-1]
    return np.append(np.minimum(tails, 0.0), -np.inf)


def _log2_choices(n: int, most: int) -> NDArray[np.float64]:
    """log2 of n choose k for k = 0..most; -inf where k > n."""
    chosen = np.arange(most)
    with np.errstate(divide="ignore"):
        factors = np.log2(np.maximum(n - chosen, 0)) - np.log2(chosen + 1)
    return np.append(0.0, np.cumsum(factors))


def _log2_falling(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(n - k + 1)) / math.log(2)


def _log2(value: int) -> float:
    return math.log2(value) if value > 0 else -math.inf


def _log2_sum(*logs: float) -> float:
    top = max(logs)
    return top if top == -math.inf else top + math.log2(math.fsum(2 ** (value - top) for value in logs))


def _bits(log2_odds: float) -> float | None:
    return None if log2_odds == -math.inf else -log2_odds

"""How rarely a sparse graph fails: exact hypergeometric tails, added up over all clients.

With c corrupted and d dropping clients of n, degree k and threshold t; a secret's holders are its owner and the owner's
k neighbours. The graph is a ring in random order on which each is joined to the k/2 next on either side.

**Semi-honest server.** Corrupted clients are fixed before the graph's public randomness is drawn; dropouts are a
uniformly random subset, independent of the graph.

* captured: an honest client's secrets are safe while at most t - 1 of its k neighbours are corrupted. Odds of the
  contrary: at most (n - c) · P[Hypergeometric(n - 1, c, k) >= t].
* torn: masks hide everything but the sum if the graph of honest survivors is connected. Disconnecting the ring takes
  two disjoint runs of k/2 removed clients: at most n(n - k - 1)/2 pairs of runs, each removed with probability
  (r)_k/(n)_k for r = c + d (falling factorials).
* A threshold above k/2 + 1 makes sure that dropouts alone, however chosen, cannot tear the survivors' graph without the
  round failing first: where k/2 in a row vanish, the next client is left with k/2 + 1 holders, itself included.
* lost: fewer than t of an owner's k neighbours survive (the own share, which only a survivor adds, is left out): at
  most n · P[Hypergeometric(n - 1, d, k) > k - t].

**Malicious server.** It chooses who "drops out", tells every client what it likes, and would choose the graph. So:

1. It commits to all advertised keys by the root R of a hash tree, every client finds its own fresh keys under R, and R
   draws the graph. Every later key, hash and signature is bound to R.
2. Clients are told who shared their secrets, W, and who survived, U, by names and not by numbers. Masks are derived
   with W; a client goes on only if U is a part of W, has n - d members, and t of its own holders are in it.
3. A committee of k + 1, drawn from what was agreed before the first message (hence the same whatever R), signs
   (R, W, U). A client reveals shares only if it is in U and t members of the committee have signed exactly this.

Claim: of honest vectors the server learns the sum over all honest members of one U at most, if for every honest v with
c_v corrupted neighbours, h_v of them among the k/2 next clockwise, and c_0 corrupted members of the committee,

    (i) 2t > k + 1 + c_0,    (ii) 2t > k + 1 + c_v,    (iii) t > k/2 + 1 + h_v.

By (i) and as honest members sign once, at most one (R, W, U) is ever signed by t, so all honest clients that reveal
hold R and W and reveal by the same U: self-mask shares of its members, key shares of others. A client that was told
another R sealed its shares for holders who cannot open them. Since c_v < t by (ii), of no honest client do both
secrets open. Now let an honest v in U have its self mask opened. At least t - c_v honest holders revealed, and v was
told of at least t - 1 neighbours that shared; by (ii) one of the latter, z, revealed (or v itself did). So z is in U,
its key never opens, and the mask that v shares with z leaves the sum only with z's own, made under the same W: v was
told W as well, and shares masks with all its neighbours in U. Hence the sums that come out are those over connected
parts of the graph of honest members of U. If such a part S were not all of them, some v in S has the next such member
clockwise outside S, more than k/2 places on. Then no honest member of U is among the k/2 next clockwise of v, and of
v's holders at most k/2 + 1 - (c_v - h_v) honest ones revealed; with the c_v corrupted that is k/2 + 1 + h_v < t by
(iii): v's self mask did not open after all.

Corrupted clients are fixed before the graph is known, which R makes so: whoever chooses R draws afresh with every try.
A try succeeds with the probability of (i) to (iii) failing, at most

    P[Hyp(n, c, k + 1) >= 2t - k - 1]
        + (n - c)·(P[Hyp(n - 1, c, k) >= 2t - k - 1] + P[Hyp(n - 1, c, k/2) >= t - k/2 - 1]),

and 2^88 times that is what is stated here, in the random-oracle model for SHA-256: with the usual 40 bits a try is as
likely to succeed as a guess at a 128-bit key. As R holds an honest client's fresh keys, tries for the graph cannot
begin before the round does; those for the committee can, where the server chooses session ids. Not covered: clients
corrupted after they have seen the round's graph.

Source: Bell et al. 2020, sec. 3 (semi-honest: Harary graphs under a random permutation; the own share is counted as in
Bonawitz et al. 2017). Malicious: the commitment to keys before neighbours are drawn is theirs too (sec. 4), where each
client draws its own and the server may learn sums over several large parts; the ring, the committee and the masks bound
to W are ours, and give one sum.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GRINDING_BITS", "SparseOdds", "log2_sum", "sparse_odds", "threshold_for"]

GRINDING_BITS = 88
"""log2 of the graphs that a malicious server may try: what is stated is worse by this factor than of one graph."""


class SparseOdds(NamedTuple):
    """log2 of bounds on the odds, in one round; -inf stands for "cannot happen".

    Attributes:
        captured: some honest client has too many corrupted neighbours (or the committee too many corrupted members).
        torn: the graph of honest survivors falls apart.
        lost: a secret that is needed has too few holders left, or the committee too few members.
    """

    captured: float
    torn: float
    lost: float


def threshold_for(n: int, d: int, k: int, *, correctness_bits: float, committee: bool) -> int | None:
    """Find the largest threshold above k/2 + 1 with which a round is lost with odds of at most 2^-correctness_bits."""
    lost = _lost(n, d, k, committee=committee)
    fitting = np.flatnonzero(lost[k // 2 + 2 : k + 1] <= -correctness_bits)
    return None if fitting.size == 0 else k // 2 + 2 + int(fitting[-1])


def sparse_odds(n: int, c: int, d: int, k: int, t: int, *, malicious: bool) -> SparseOdds:
    """Bound the odds of one round on a sparse graph.

    Args:
        n, c, d: clients, corrupted, dropping out.
        k, t: degree and threshold, t > k/2 + 1.
        malicious: what the server is; the semi-honest one follows the protocol.
    """
    lost = float(_lost(n, d, k, committee=malicious)[t])
    if not malicious:
        captured = _log2(n - c) + float(_log2_upper_tails(n - 1, c, k)[t])
        return SparseOdds(captured, _disconnected(n, c + d, k), lost)
    signers, neighbours = _log2_upper_tails(n, c, k + 1), _log2_upper_tails(n - 1, c, k)
    too_many = 2 * t - k - 1
    captured = log2_sum(float(signers[too_many]), _log2(n - c) + float(neighbours[too_many]))
    torn = _log2(n - c) + float(_log2_upper_tails(n - 1, c, k // 2)[t - k // 2 - 1])
    return SparseOdds(captured + GRINDING_BITS, torn + GRINDING_BITS, lost)


def log2_sum(*logs: float) -> float:
    """Add up numbers given by their log2."""
    top = max(logs)
    return top if top == -math.inf else top + math.log2(math.fsum(2 ** (value - top) for value in logs))


def _lost(n: int, d: int, k: int, *, committee: bool) -> NDArray[np.float64]:
    """By threshold t = 0..k + 1: log2 of n·P[more than k - t of k neighbours vanish], and of the committee likewise."""
    lost = _log2(n) + _log2_upper_tails(n - 1, d, k)[::-1]
    if committee:
        lost = np.logaddexp2(lost, _log2_upper_tails(n, d, k + 1)[::-1][: len(lost)])
    return lost


def _disconnected(n: int, removed: int, k: int) -> float:
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

"""What the words of `--aggregation` mean: the plan behind each, the protocol rounds, and what everybody sees."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import secagg
from secagg.server_view import BESIDES_THE_SUM
from secagg.transitions import steps_of

if TYPE_CHECKING:
    from secagg.params import Codec, ServerModel

__all__ = ["AGGREGATIONS", "Aggregation", "AggregationName", "plan_of", "vanishing"]

AggregationName: TypeAlias = Literal["masking", "lattice", "threshold", "ckks", "plain"]

CORRUPTED = 0.25
"""Share of the institutions that may side with the server where nothing else is said; CKKS bears none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    """One way to sum, in the report's words.

    Attributes:
        secure: whether no single party but the institution itself can see its update.
        travels: how the update travels.
        on_the_wire: what the integers on the wire are.
        server_saw, server_did_not, others_saw: in a run.
        shares_a_key: whether any one institution could open everybody's update for the server.
    """

    secure: bool
    travels: str
    on_the_wire: str
    server_saw: str
    server_did_not: str = "any hospital's update, number of patients or counts"
    others_saw: str
    shares_a_key: bool = False


_SUMS = "per round the sum of the survivors' updates and of their patients; the model; summed test counts"
_SHARES = "the model of every round; public keys; shares sealed to it, too few to open anything"

AGGREGATIONS: dict[str, Aggregation] = {
    "masking": Aggregation(
        secure=True,
        travels="masked",
        on_the_wire="What travels is uniformly random to anyone who lacks the masks; only the sum over all survivors "
        "cancels them.",
        server_saw=f"{BESIDES_THE_SUM['masking']}; {_SUMS}",
        others_saw=_SHARES,
    ),
    "lattice": Aggregation(
        secure=True,
        travels="under lattice masks",
        on_the_wire="Shown are the first bits of the ciphertext: uniformly random to anyone who lacks the hospital's "
        "short secret, if Ring-LWE is hard; the server opens the sum of these secrets only.",
        server_saw=f"{BESIDES_THE_SUM['lattice']}; {_SUMS}",
        others_saw=_SHARES,
    ),
    "threshold": Aggregation(
        secure=True,
        travels="encrypted under a key that no hospital holds alone",
        on_the_wire="Shown are the first bits of the ciphertext. The key was set up once, in shares: whoever wants to "
        "open one needs as many hospitals as the threshold.",
        server_saw=f"{BESIDES_THE_SUM['threshold']}; {_SUMS}",
        others_saw="the model of every round; public keys; shares of everybody's secret, too few to open anything",
    ),
    "ckks": Aggregation(
        secure=True,
        travels="encrypted under one key that every hospital holds",
        on_the_wire="Shown are the first bits of the ciphertext. Every hospital holds the key: any of them, together "
        "with the server, could decrypt this.",
        server_saw=f"{BESIDES_THE_SUM['ckks']}; {_SUMS}",
        others_saw="the model of every round; the sum, which it decrypted; the key of all ciphertexts, but not these",
        shares_a_key=True,
    ),
    "plain": Aggregation(
        secure=False,
        travels="in clear",
        on_the_wire="Without secure aggregation the server decodes each hospital's update, to within its rounding.",
        server_saw="every hospital's update and number of patients, in clear; the model; every hospital's test counts",
        server_did_not="patients' records, unless it inverts the updates",
        others_saw="the model of every round",
    ),
}


def plan_of(
    codec: Codec,
    aggregation: AggregationName,
    *,
    dropout: float,
    corrupted: float | None = None,
    extras: int = 0,
    server: ServerModel = "semi-honest",
    threshold: int = 0,
) -> secagg.Plan:
    """Plan an aggregation.

    Args:
        dropout, extras, server: as in `secagg.plan`.
        corrupted: share of the institutions that may side with the server; None takes what suits the aggregation.
        threshold: t, how many institutions a sum is of, at least; 0 takes the least that is safe.
    Raises:
        PlanError: these numbers do not work together.
    """
    if corrupted is None:
        corrupted = 0.0 if aggregation == "ckks" else CORRUPTED
    plan = secagg.plan(codec, dropout=dropout, corrupted=corrupted, masking=aggregation, extras=extras, server=server)
    if not threshold:
        return plan
    n = plan.clients
    if aggregation == "plain" or not plan.is_complete:
        msg = f"threshold {threshold} is for aggregations with a threshold in which all {n} know each other"
        raise secagg.PlanError(msg)
    if plan.dropouts > n - threshold:
        msg = f"sums of at least {threshold} of {n} leave {max(n - threshold, 0)} to drop out, planned are "
        msg += f"{plan.dropouts}: lower dropout or threshold"
        raise secagg.PlanError(msg)
    return replace(plan, threshold=threshold)


def vanishing(step: str, aggregation: AggregationName, server: ServerModel = "semi-honest") -> str | None:
    """Translate "vanishes before this round of masking" into an aggregation's own rounds; None: too late to matter.

    Where there is one upload, vanishing earlier is not uploading.
    """
    rounds, own = steps_of("masking", server), steps_of(aggregation, server)
    if step in own:
        return step
    if step != rounds[-1]:
        return own[0]
    return own[-1] if len(own) > 1 else None

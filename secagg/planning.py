"""Parameters of a round, with the odds that they fail.

Complete graph: t > 2n/3 holds always, so privacy fails only if t or more clients are corrupted and the round fails
only if more than n - t drop out; within the stated numbers neither can happen, in however many rounds. Against a
malicious server t > (n + c)/2 besides: a server that tells two groups of honest clients of different survivors opens a
victim's both secrets if each group, with the c corrupted clients, holds t shares; then 2(t - c) <= n - c, which
2t > n + c excludes.

Sparse graph: `secagg.odds` bounds what can go wrong and says how, and against which server. The server refuses to open
a sum that more than d clients are missing from, since the odds are for d; so do clients against a malicious server.

Over R rounds the corrupted clients stay the same, while every round draws a fresh graph and loses fresh clients: by
the union bound privacy fails in some round with at most R times the odds of one.

Source: Bonawitz et al. 2017, sec. 6.2 (complete graph, malicious server); Bell et al. 2020, sec. 3 (sparse graph).
"""

from __future__ import annotations

import math
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from secagg.errors import PlanError
from secagg.explanation import check_odds, explain, log2
from secagg.homomorphic.ckks_parameters import CkksParameters
from secagg.homomorphic.threshold_parameters import MOST_CLIENTS, ThresholdParameters
from secagg.lattice.parameters import choose
from secagg.odds import log2_sum, sparse_odds, threshold_for
from secagg.params import LEAST_PRIVACY_BITS, Plan

if TYPE_CHECKING:
    from secagg.params import Codec, KeyAgreement, Masking, ServerModel

__all__ = ["explain", "plan"]

_CONSORTIUM = 50
"""Up to so many clients "auto" takes the complete graph, whose privacy rests on a count of corrupted clients alone."""

_MOST_NEIGHBOURS = 1 << 13
"""No sparse graph is looked for beyond: a client that expands more masks than this gains nothing from sparseness."""

_FEWEST_HONEST = 2

_LONG_VECTOR = 16
"""Ring secrets that a vector has to be long before "auto" takes lattice masks."""

_SMALL_PRICE = 1.01
"""What security against quantum attacks may cost where nobody asked for it."""

_NOISE_BITS = 40
"""The least -log2 of the odds that noise spoils a sum on a lattice."""

_ROUNDING = 1e-9
"""Slack so that 0.1·100 clients is 10 clients, not 11."""


def plan(
    codec: Codec,
    *,
    dropout: float = 0.1,
    corrupted: float = 0.1,
    graph: Literal["auto", "complete", "sparse"] = "auto",
    masking: Masking | Literal["auto"] = "masking",
    server: ServerModel = "semi-honest",
    directory: int | None = None,
    extras: int = 0,
    key_agreement: KeyAgreement = "x25519",
    post_quantum: bool | None = None,
    security_bits: int = 40,
    correctness_bits: int = 20,
    rounds: int = 1,
) -> Plan:
    """Choose degree and threshold for summing what a codec encodes.

    Args:
        codec: an `Encoding` or `Counts`; says the number of clients, the length and the modulus.
        dropout: share of clients that may vanish in one round, in [0, 1).
        corrupted: share of clients that may tell the server all they know, in [0, 1).
        graph: "complete", "sparse" (random k-regular; only for masks), or "auto": sparse above 50 clients if it halves
            the work.
        masking: "masking"; "lattice", whose work on long vectors does not grow with the number of clients, for a few
            bytes more; "auto", which takes the lattice where a masked vector is longer than 16 of its secrets;
            "threshold", under a lattice key that nobody holds, set up once for many rounds of up to 100 clients;
            "ckks", under one key that all clients hold, which any of them can give to the server: only with
            `corrupted=0`; or "plain" for the unprotected baseline.
        post_quantum: with lattice masks, 128 bits of security by table against quantum attacks too, not only against
            classical ones; None asks for it where keys are hybrid, and takes it where it costs no more than 1 % of the
            upload. Refused for a threshold key, which has no such form, and for "masking" under X25519 alone, which has
            no ring.
        server: "semi-honest", or "malicious": on a complete graph the threshold exceeds (n + c)/2 besides; on a
            sparse one the server may choose who drops out and try 2^88 graphs, which takes about twice the degree.
        directory: of how many known identities a server picks the clients of a round. `corrupted` is then a share of
            all of these, and every corrupt one is counted as present: a server that picks the cohort picks them. None:
            every client pins the roster, of which `corrupted` is a share.
        extras: extra secrets that each client shares, one of which opens for each number of dropouts below (see
            `Plan`); no more than so many may then drop out of a round, and no fewer than `dropout` of the clients.
        key_agreement: "x25519", or "x25519+ml-kem-768": hybrid, so that traffic recorded today stays secret from a
            quantum computer later; 5.7 kB more per neighbour (1.7 sent, 4.0 received).
        security_bits: privacy may fail in any of the `rounds` with odds of at most 2^-security_bits (sparse graph).
        correctness_bits: one round may fail, within `dropout`, with odds of at most 2^-correctness_bits: for want of
            shares (sparse graph), and by noise (lattice, threshold, ckks; at least 40 bits, whatever is asked).
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
    _check_used(graph, masking, key_agreement, post_quantum=post_quantum)
    check_odds(min(security_bits, correctness_bits), rounds)
    n = codec.clients
    if directory is not None and (type(directory) is not int or directory < n):
        msg = f"a directory holds at least the {n} clients of a round, got {directory!r}"
        raise PlanError(msg)
    shape: dict[str, Any] = {
        "clients": n,
        "length": codec.length,
        "modulus_bits": codec.modulus_bits,
        "encoding": codec.digest,
        "server": server,
        "key_agreement": key_agreement,
        "extras": extras,
        "dropouts": math.ceil(dropout * n - _ROUNDING),
        "corrupted": math.ceil(corrupted * (n if directory is None else directory) - _ROUNDING),
    }
    _check_extras(extras, shape["dropouts"])
    if masking == "plain":
        return Plan(**shape, threshold=1, degree=n - 1, masking="plain")
    if masking == "ckks":
        return _keyed(shape | {"masking": "ckks"}, correctness_bits)
    asked = True if key_agreement != "x25519" and post_quantum is None else post_quantum
    shape |= _hidden(codec, masking, correctness_bits, post_quantum=asked)
    honest = n - shape["corrupted"] - shape["dropouts"]
    if honest < _FEWEST_HONEST:
        msg = (
            f"{n} clients less {shape['corrupted']} corrupted and {shape['dropouts']} dropping out leave "
            f"{max(honest, 0)}: a sum over fewer than 2 honest clients hides nothing; "
            "lower the shares or take more clients"
        )
        raise PlanError(msg)
    if masking == "threshold":
        return _keyed(shape, correctness_bits)
    few = n <= _CONSORTIUM or (extras and server == "semi-honest")  # whose sparse graphs can carry no extra secrets
    if graph == "complete" or (graph == "auto" and few):
        return _complete(shape)
    if server == "malicious" and security_bits < LEAST_PRIVACY_BITS:
        msg = f"against a malicious server a sparse graph needs security_bits of at least {LEAST_PRIVACY_BITS}"
        raise PlanError(msg)
    most = min((n - 1) // 2 if graph == "auto" else n - 2, _MOST_NEIGHBOURS)
    sparse = _sparse(shape, security_bits + log2(rounds), correctness_bits, most)
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


def _check_shares(dropout: float, corrupted: float) -> None:
    for name, share in (("dropout", dropout), ("corrupted", corrupted)):
        if not 0 <= share < 1:
            msg = f"{name} is a share of the clients, in [0, 1), got {share}"
            raise PlanError(msg)


def _check_extras(extras: int, dropouts: int) -> None:
    if type(extras) is not int or 0 < extras < dropouts:
        msg = (
            f"extras is 0 or at least the number of clients that may drop out, {dropouts}, since a round that more "
            f"than extras drop out of is refused; got {extras!r}"
        )
        raise PlanError(msg)


def _check_choices(graph: str, masking: str, server: str, key_agreement: str) -> None:
    for name, value, choices in (
        ("graph", graph, ("auto", "complete", "sparse")),
        ("masking", masking, ("masking", "lattice", "auto", "threshold", "ckks", "plain")),
        ("server", server, ("semi-honest", "malicious")),
        ("key_agreement", key_agreement, ("x25519", "x25519+ml-kem-768")),
    ):
        if value not in choices:
            msg = f"{name} must be one of {', '.join(choices)}, got {value!r}"
            raise PlanError(msg)


def _check_used(graph: str, masking: str, key_agreement: str, *, post_quantum: bool | None) -> None:
    """Refuse what was asked for and would not be done."""
    if graph == "sparse" and masking in {"threshold", "ckks", "plain"}:
        msg = f"a {masking} sum has no graph of masks: leave graph out, or take masking='masking' or 'lattice'"
        raise PlanError(msg)
    if post_quantum and masking == "masking" and key_agreement == "x25519":
        msg = (
            "post_quantum chooses the ring of lattice masks, and masking='masking' has none: against quantum attacks "
            "take key_agreement='x25519+ml-kem-768', with either"
        )
        raise PlanError(msg)


def _hidden(codec: Codec, masking: str, correctness_bits: int, *, post_quantum: bool | None) -> dict[str, Any]:
    """Choose ring and packing; nothing where masks as long as the vector do as well."""
    optional = masking == "auto"
    if masking == "masking":
        return {}
    if masking == "threshold":
        if post_quantum:
            msg = (
                "a threshold key is sealed under X25519 alone, in a ring chosen against classical attacks: against "
                "quantum ones take masking='lattice' with post_quantum=True and key_agreement='x25519+ml-kem-768'"
            )
            raise PlanError(msg)
        return {"masking": "threshold", "signed_length": codec.signed_length}
    chosen = partial(
        choose,
        length=codec.length,
        digit_bits=codec.modulus_bits,
        clients=codec.clients,
        correctness_bits=max(_NOISE_BITS, correctness_bits),
    )
    try:
        ring = chosen(post_quantum=bool(post_quantum))
        if post_quantum is None:
            with suppress(PlanError):
                stronger = chosen(post_quantum=True)
                ring = stronger if stronger.upload_bytes <= _SMALL_PRICE * ring.upload_bytes else ring
    except PlanError:
        if optional:
            return {}
        raise
    if optional and codec.length < _LONG_VECTOR * ring.degree:
        return {}
    return {"masking": "lattice", "lattice": ring, "signed_length": codec.signed_length}


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


def _keyed(shape: dict[str, Any], correctness_bits: int) -> Plan:
    if shape["masking"] == "threshold" and shape["clients"] > MOST_CLIENTS:
        msg = f"a threshold key serves at most {MOST_CLIENTS} clients, got {shape['clients']}: take masking='lattice'"
        raise PlanError(msg)
    made = _complete(shape)
    reached = CkksParameters.of(made).failure_bits if made.masking == "ckks" else ThresholdParameters.of(made).lost_bits
    if reached < correctness_bits:
        msg = (
            f"noise loses a {made.masking} sum of {made.clients} clients with odds of 2^-{reached:.1f}, more than the "
            f"2^-{correctness_bits} asked for: ask for correctness_bits of at most {math.floor(reached)}, or take "
            "masking='masking', which has no noise"
        )
        raise PlanError(msg)
    return made


def _sparse(shape: dict[str, Any], security_bits: float, correctness_bits: int, most: int) -> Plan | None:
    """Find the smallest degree up to `most` that works, and for it the largest threshold that rarely fails."""
    n, c, d, malicious = shape["clients"], shape["corrupted"], shape["dropouts"], shape["server"] == "malicious"
    for k in range(2, most + 1, 2):
        t = threshold_for(n, d, k, correctness_bits=correctness_bits, committee=malicious)
        if t is None:
            continue
        odds = sparse_odds(n, c, d, k, t, malicious=malicious)
        if max(odds.captured, odds.torn) <= -(security_bits + 1):
            return Plan(
                **shape,
                threshold=t,
                degree=k,
                privacy_bits=_bits(log2_sum(odds.captured, odds.torn)),
                failure_bits=_bits(odds.lost),
            )
    return None


def _bits(log2_odds: float) -> float | None:
    return None if log2_odds == -math.inf else -log2_odds

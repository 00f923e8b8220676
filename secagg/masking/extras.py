"""Extra secrets that ride on the shares: one of them is opened, chosen by how many clients dropped out.

Noise that is exact whoever drops out (`dp.xnoise`) has every client add more than its share, and takes away what is too
much once the survivors are known: their seeds must open then, also those of clients lost since, and no others. So a
client deals T = `Plan.extras` secrets besides its self-mask seed and its mask key: to the same holders, with the same
threshold, in the same sealed bundles, under the same published hashes. What is revealed follows from the survivors:

    with survivors U, k = n - |U| dropped out: secret number k of every client in U is opened, if k < T; if k = T none;
    if k > T clients reveal nothing at all and the round ends.

A client reveals for one U only, once, in the same message as the shares that open the sum over U. Against a malicious
server U is what t clients signed, so that of each survivor one extra secret opens at most, and only beside the sum over
the survivors that it was chosen for: masks do not cancel over fewer. A dropout's secrets stay closed, and so do all
other numbers, while fewer than t clients side with the server. A server that names an honest client that sent no masked
input as a survivor gets a lower number and no sum; one that names a corrupt client gets what the noise of the honest
ones was planned for.

A secret that opens others besides is its owner's business: of a one-way chain, secret number k opens all higher ones.

Rebuilt secrets are checked against commitments, which are as hiding as the secrets are uniform. Whether a client did
with a secret what it should have done, nobody can check.
Source: Jiang, Wang, Chen 2024, Dordis (arXiv 2209.12528), XNoise, where every component's seed is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from secagg import tags
from secagg.errors import PlanError
from secagg.masking.streams import position_bytes, seed_commitment
from secagg.primitives.keys import KEY_BYTES, derive_key

if TYPE_CHECKING:
    from secagg.params import Plan
    from secagg.setups import Setup

__all__ = ["FIRST_EXTRA", "Extras", "check_given", "commitments", "extra_commitment", "made", "revealed_number"]

Extras: TypeAlias = Sequence[bytes] | Callable[[bytes], Sequence[bytes]]
"""A client's extra secrets, or a callable that makes them of 32 secret bytes, drawn for this round of this client."""

FIRST_EXTRA = 2
"""Where the extra secrets of a dealer begin: number 0 is its self-mask seed, 1 its mask key."""


def revealed_number(plan: Plan, survivors: int) -> int | None:
    """Return which extra secret of every survivor is revealed; None: none is.

    Args:
        survivors: |U|, those in the sum.
    """
    missing = plan.clients - survivors
    return missing if missing < plan.extras else None


def check_given(plan: Plan, extras: Extras | None) -> None:
    """Refuse extra secrets that the plan has no use for, and none where it asks for some.

    Raises:
        PlanError: so.
    """
    if (extras is not None) != (plan.extras > 0):
        msg = f"the plan asks for {plan.extras} extra secrets of every client: "
        msg += "pass extras" if extras is None else "make it with extras=..., or pass none"
        raise PlanError(msg)


def made(plan: Plan, extras: Extras | None, secret: bytes) -> tuple[bytes, ...]:
    """Make and check a client's extra secrets.

    Args:
        secret: 32 bytes for a callable.
    Raises:
        PlanError: not as many as the plan asks for, not 32 bytes each, or one twice.
    """
    given = () if extras is None else tuple(extras(secret) if callable(extras) else extras)
    if len(given) != plan.extras or any(type(each) is not bytes or len(each) != KEY_BYTES for each in given):
        msg = f"the plan asks for {plan.extras} extra secrets of {KEY_BYTES} bytes each"
        raise PlanError(msg)
    if len(set(given)) != len(given):
        msg = "an extra secret comes twice: revealing one would reveal the other"
        raise PlanError(msg)
    return given


def commitments(setup: Setup, position: int, seed: bytes, extras: Sequence[bytes]) -> bytes:
    """Return what a client publishes of its self-mask seed and of its extra secrets: 32 bytes each, in order."""
    of_extras = (extra_commitment(setup, position, number, extra) for number, extra in enumerate(extras))
    return b"".join((seed_commitment(setup, position, seed), *of_extras))


def extra_commitment(setup: Setup, position: int, number: int, extra: bytes) -> bytes:
    """Derive the 32 bytes that a client publishes of one extra secret: binding, and hiding if it is uniform."""
    which = position_bytes(position), position_bytes(number)
    return derive_key(extra, tags.EXTRA_COMMITMENT, setup.digest, *which)

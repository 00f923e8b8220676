"""Hypothesis strategies for rounds: vectors, who drops out when, and plans that can be made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from secagg.lattice.parameters import MAX_DIGIT_BITS, choose
from secagg.params import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypothesis.strategies import DrawFn, SearchStrategy

__all__ = ["inputs_of", "plans", "rounds_of"]

_FEWEST_HONEST = 2
"""Lattice masks need so many honest clients in a sum."""


def inputs_of(clients: int, length: int, modulus_bits: int) -> SearchStrategy[Mapping[int, Any]]:
    """Every client's vector: (length,) uint64, in [0, 2^modulus_bits), extreme values included."""
    top = (1 << modulus_bits) - 1
    value = st.one_of(st.sampled_from([0, 1, top, top // 2 + 1]), st.integers(0, top))
    vector = st.lists(value, min_size=length, max_size=length).map(lambda values: np.array(values, dtype=np.uint64))
    return st.fixed_dictionaries(dict.fromkeys(range(clients), vector))


def rounds_of(clients: int, steps: int) -> SearchStrategy[Mapping[int, int]]:
    """How many requests each client answers before it drops out: `steps` if it stays; mostly it does."""
    stays = st.one_of(st.just(steps), st.just(steps), st.integers(0, steps))
    return st.fixed_dictionaries(dict.fromkeys(range(clients), stays))


@st.composite
def plans(draw: DrawFn, *, most_clients: int = 8, most_length: int = 8) -> Plan:
    """Plans of masked rounds that can be made: any graph, server model, keys, modulus, masks and extra secrets."""
    n = draw(st.integers(2, most_clients))
    malicious = draw(st.booleans())
    corrupted = draw(st.integers(0, n - 2)) if malicious else 0
    sparse = () if malicious else range(2, n - 1, 2)
    k = draw(st.sampled_from([n - 1, *sparse]))
    least = max(2 * n // 3 + 1, (n + corrupted) // 2 + 1, 2) if k == n - 1 else k // 2 + 2
    threshold = draw(st.integers(least, k + 1))
    plan = Plan(
        clients=n,
        length=draw(st.integers(1, most_length)),
        modulus_bits=draw(st.integers(1, 64)),
        threshold=threshold,
        extras=draw(st.integers(0, n - threshold)) if k == n - 1 else 0,
        degree=k,
        server="malicious" if malicious else "semi-honest",
        dropouts=draw(st.integers(0, n - 1)),
        corrupted=corrupted,
        key_agreement=draw(st.sampled_from(["x25519", "x25519", "x25519+ml-kem-768"])),
    )
    digit_bits = plan.modulus_bits + (n - 1).bit_length()
    if plan.least_survivors - corrupted < _FEWEST_HONEST or digit_bits > MAX_DIGIT_BITS or draw(st.booleans()):
        return plan
    return replace(plan, masking="lattice", lattice=choose(length=plan.length, digit_bits=digit_bits, clients=n))

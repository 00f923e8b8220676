"""The key recovery of docs/threshold.md: it wins against decryptors that retry without zero-sharings, not against ours.

A decryptor multiplies its share by its Lagrange coefficient before it adds noise. Answers for two sets of decryptors
then differ by a factor u/v of small integers, and u·d - v·d' = u·f - v·f' is small: over the integers it gives the
noise f modulo v. Enough sets give all of f, hence the share, and a threshold of such shares is the key.
"""

import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from secagg.errors import LocalProtocolError
from secagg.homomorphic import kernels
from secagg.homomorphic import threshold_sums as sums
from secagg.homomorphic.threshold_flooding import wide_gaussian
from secagg.homomorphic.threshold_parameters import ThresholdParameters
from secagg.primitives.keys import derive_key
from tests.secagg.test_threshold_sums import integers, small
from tests.secagg.threshold_rig import SEMI_HONEST, keys_of, setup_of, twin

CLIENTS, THRESHOLD = 30, 21
PUBLIC = b"p" * 32

Answer = Callable[[int, Sequence[int]], Any]
"""A decryptor's answer, by position and set: (L, N) residues by coefficient."""


def ratio(before: Sequence[int], after: Sequence[int], j: int) -> Fraction:
    """How a decryptor's Lagrange coefficient differs between two sets."""

    def coefficient(members: Sequence[int]) -> Fraction:
        return math.prod((Fraction(k + 1, k - j) for k in members if k != j), start=Fraction(1))

    return coefficient(after) / coefficient(before)


def sets_of_decryptors() -> list[tuple[int, ...]]:
    """A first set, and others one after the other that tell most of somebody's noise."""
    dice = random.Random(1)  # noqa: S311 -- which retries an attacker asks for is no secret
    draw = [tuple(sorted(dice.sample(range(CLIENTS), THRESHOLD))) for _ in range(250)]
    first, chosen = draw[0], [draw[0]]
    known = dict.fromkeys(first, 1)
    while min(known.values()) < 1 << 53:
        worst = min(known, key=known.__getitem__)

        def gain(members: tuple[int, ...], j: int = worst) -> int:
            return math.lcm(known[j], ratio(first, members, j).denominator) if j in members else 0

        chosen.append(max(draw, key=gain))
        for j in set(first) & set(chosen[-1]):
            known[j] = math.lcm(known[j], ratio(first, chosen[-1], j).denominator)
    return chosen


def joined(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """Join what is known of one number modulo two others, which may share factors."""
    (x, m), (y, n) = a, b
    shared = math.gcd(m, n)
    step = (y - x) // shared * pow(m // shared, -1, n // shared) % (n // shared)
    return (x + m * step) % (m // shared * n), m // shared * n


def recovered(made: ThresholdParameters, answer: Answer, sets: Sequence[tuple[int, ...]]) -> Any:
    """What the server takes for the sum of all clients' secrets: (L, N) residues by value."""
    ring, q, first = sums.ring_of(made), made.modulus, sets[0]
    a = ring.uniform(PUBLIC, 0)
    inverse = np.array([[pow(int(x), -1, p) for x in row] for row, p in zip(a, ring.moduli, strict=True)], np.uint32)
    total = np.zeros_like(a)
    for j in first:
        d = integers(made, answer(j, first))
        noise = [(0, 1)] * made.degree
        for other in sets[1:]:
            if j not in other:
                continue
            factor = ratio(first, other, j)
            u, v = factor.numerator, factor.denominator
            for i, (x, y) in enumerate(zip(d, integers(made, answer(j, other)), strict=True)):
                small_number = (u * x - v * y + q // 2) % q - q // 2
                noise[i] = joined(noise[i], (small_number * pow(u, -1, v) % v, v))
        f = [known - modulus if 2 * known > modulus else known for known, modulus in noise]
        clean = [(x - e) % q for x, e in zip(d, f, strict=True)]
        part = np.array([[x % p for x in clean] for p in ring.moduli], np.uint32)
        ring.add(total, ring.multiply(ring.forward(part), inverse), out=total)
    return total


def decryptors(made: ThresholdParameters, *, masked: bool) -> tuple[Answer, Any]:
    """Decryptors that answer whatever set they are asked for, each time with fresh flooding; and the key."""
    ring = sums.ring_of(made)
    secret = sums.draw_secret(made, b"s" * 32)
    share_for = sums.share_out(made, secret, b"t" * 32)
    a = ring.uniform(PUBLIC, 0)

    def answer(j: int, members: Sequence[int]) -> Any:
        part = ring.multiply(share_for(j), sums.lagrange_at_zero(made, members, j))
        if masked:
            pairs = [
                (derive_key(bytes([min(j, k), max(j, k)]) * 16, bytes(members)), 1 if j < k else -1)
                for k in members
                if k != j
            ]
            ring.add(part, sums.zero_sharing(made, pairs), out=part)
        part = ring.inverse(ring.multiply(part, a))
        flooding = wide_gaussian(derive_key(bytes([j]) * 32, bytes(members)), made.degree, made.flooding)
        kernels.add_wide(part, flooding, np.array(ring.moduli, np.uint32))
        return part

    return answer, secret


@pytest.mark.parametrize("masked", [False, True], ids=["naive", "ours"])
def test_retries_with_other_decryptors_give_a_naive_key_away_and_not_ours(
    masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {"clients": CLIENTS, "threshold": THRESHOLD, "corrupted": 9, "primes": 8, "degree": 32, "length": 32}
    made = small(monkeypatch, **shape)
    assert made.flooding > 2**46  # flooding as large as real parameters ask for does not help
    answer, secret = decryptors(made, masked=masked)
    assert np.array_equal(recovered(made, answer, sets_of_decryptors()), secret) is not masked


def test_our_decryptors_do_not_retry_at_all() -> None:
    keys, context = keys_of(SEMI_HONEST)
    setup = setup_of(SEMI_HONEST, 3)
    sets = [(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3), (0, 1, 2, 3)]
    for key in keys.values():
        again = twin(key)
        mine = [members for members in sets if again.position in context.decryptors(setup, members)]
        again.decrypt(setup, mine[0])
        for members in mine[1:]:
            with pytest.raises(LocalProtocolError, match="a second one would give the key away"):
                again.decrypt(setup, members)


def test_answers_of_one_round_look_nothing_like_those_of_the_next_and_add_up_to_the_sum_alone() -> None:
    keys, context = keys_of(SEMI_HONEST)
    made = context.parameters
    ring, everyone = sums.ring_of(made), (0, 1, 2, 3)
    total = np.zeros((made.primes, made.degree), np.uint32)
    for key in keys.values():
        ring.add(total, sums.unpack_share(made, key._secret), out=total)
    seen = set()
    for number in (1, 2):
        setup = setup_of(SEMI_HONEST, number)
        chosen, statement = context.decryptors(setup, everyone), bytes([number]) * 32
        parts = [keys[j]._part(chosen, everyone, statement) for j in chosen]
        added = np.zeros_like(total)
        for part in parts:
            ring.add(added, part, out=added)
        np.testing.assert_array_equal(added, total)
        bare = [
            ring.multiply(
                sums.add_shares(made, [keys[j]._shares[i] for i in everyone]), sums.lagrange_at_zero(made, chosen, j)
            )
            for j in chosen
        ]
        seen |= {part.tobytes() for part in (*parts, *bare)}
    assert len(seen) >= 6 + 3

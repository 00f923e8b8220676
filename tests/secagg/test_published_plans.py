"""Our odds reproduce the parameters that the authors of Bell et al. 2020 published, and our planner's beside them.

The numbers are those of Google's own implementation of the paper (google-parfait/federated-compute, Apache-2.0,
fcp/secagg/server/graph_parameter_finder_test.cc: every feasible CURIOUS_SERVER row, at 40 bits of security and 20 of
correctness). Of the paper itself, the abstract's claim for a billion clients.
"""

from __future__ import annotations

from math import ceil, floor, log2

import pytest

import secagg
from secagg import Counts, PlanError, odds

SECURITY, CORRECTNESS = 40, 20
ROUNDING = 1e-14

# By shares of corrupted and dropping clients, then by number of clients: degree and threshold.
PUBLISHED = {
    (0.45, 0.45): {
        100: (92, 46),
        1_000: (822, 417),
        10_000: (3494, 1771),
        100_000: (5508, 2788),
        1_000_000: (6240, 3156),
    },
    (0.33, 0.33): {
        10: (8, 4),
        100: (68, 34),
        1_000: (286, 150),
        10_000: (422, 221),
        100_000: (480, 251),
        1_000_000: (518, 270),
    },
    (0.05, 0.33): {
        10: (4, 2),
        100: (28, 6),
        1_000: (72, 24),
        10_000: (86, 29),
        100_000: (96, 32),
        1_000_000: (102, 34),
    },
    (0.33, 0.05): {
        10: (4, 4),
        100: (34, 29),
        1_000: (78, 60),
        10_000: (92, 70),
        100_000: (102, 77),
        1_000_000: (110, 83),
    },
    (0.05, 0.05): {
        10: (2, 2),
        100: (12, 6),
        1_000: (30, 17),
        10_000: (34, 20),
        100_000: (36, 21),
        1_000_000: (38, 22),
    },
    (0.33, 0.0): {
        10: (4, 4),
        100: (26, 25),
        1_000: (38, 36),
        10_000: (42, 40),
        100_000: (46, 44),
        1_000_000: (50, 47),
    },
    (0.0, 0.33): {
        10: (4, 2),
        100: (26, 2),
        1_000: (38, 2),
        10_000: (42, 2),
        100_000: (46, 2),
        1_000_000: (50, 2),
    },
    (0.0, 0.0): {10: (2, 2), 100: (2, 2), 1_000: (2, 2), 10_000: (2, 2), 100_000: (2, 2), 1_000_000: (2, 2)},
}
ROWS = [
    (n, corrupted, dropout, degree, threshold)
    for (corrupted, dropout), by_clients in PUBLISHED.items()
    for n, (degree, threshold) in by_clients.items()
]
SPARSE_ROWS = [row for row in ROWS if row[0] > 10]


def by_their_rule(n: int, corrupted: float, dropout: float) -> tuple[int, int]:
    """Bell et al. 2020, sec. 3, as implemented there: the smallest even degree, and for it the smallest threshold."""
    c, d = (floor((share + ROUNDING) * n) for share in (corrupted, dropout))
    vanish = n - ceil((1 - dropout - ROUNDING) * n)
    for k in range(2, n - 1, 2):
        if odds._disconnected(n, c + d, k) > -(SECURITY + 1):
            continue
        captured, dropped = (odds._log2_upper_tails(n, marked, k) for marked in (c, vanish))
        t = next(t for t in range(1, k + 2) if log2(n) + captured[t] <= -(SECURITY + 1))
        if t <= k and log2(n) + dropped[k - t + 1] <= -CORRECTNESS:
            return k, max(t, 2)
    raise AssertionError


@pytest.mark.parametrize(("n", "corrupted", "dropout", "degree", "threshold"), ROWS)
def test_our_odds_give_the_published_degree_and_threshold_under_the_published_rule(
    n: int, corrupted: float, dropout: float, degree: int, threshold: int
) -> None:
    assert by_their_rule(n, corrupted, dropout) == (degree, threshold)


@pytest.mark.parametrize(("n", "corrupted", "dropout", "degree", "threshold"), SPARSE_ROWS)
def test_our_degree_is_the_published_one_unless_dropouts_alone_could_tear_that_graph(
    n: int, corrupted: float, dropout: float, degree: int, threshold: int
) -> None:
    ours = secagg.plan(codec(n), corrupted=corrupted, dropout=dropout, graph="sparse")
    if 2 * threshold >= degree + 4:
        # Never more neighbours than a rounding away. Less, since we count n - 1 possible neighbours and n - c honest
        # owners where they count n of each, and let the threshold be as large as dropouts allow, where they take the
        # smallest that corrupted clients allow.
        assert 0.98 * degree - 1 <= ours.degree <= degree + 2
        assert ours.threshold >= threshold * ours.degree / degree - 2
    else:
        # Their threshold is at most k/2 + 1: where k/2 in a row vanish, the next client's secrets are still rebuilt and
        # the ring tears. Ours is above, whatever the odds, and that costs neighbours where many drop out.
        assert ours.degree > degree
        assert ours.threshold == ours.degree // 2 + 2


def test_ten_clients_are_no_crowd_and_get_the_complete_graph_or_a_reason() -> None:
    assert secagg.plan(codec(10), corrupted=0.33, dropout=0.05).degree == 9
    with pytest.raises(PlanError, match="at most 3 may drop out; asked for 4"):
        secagg.plan(codec(10), corrupted=0.33, dropout=0.33)


def test_a_billion_clients_need_fewer_neighbours_than_a_thousand_on_the_complete_graph() -> None:
    # Abstract: "can handle a billion clients at the per-client cost of the protocol of Bonawitz et al. for a thousand".
    assert by_their_rule(10**9, 1 / 3, 1 / 3)[0] < 999
    assert secagg.plan(codec(1 << 24), corrupted=1 / 3, dropout=1 / 3).degree < 999  # as many as a plan may have


def codec(n: int) -> Counts:
    return Counts(dimension=1, maximum=1, clients=n)

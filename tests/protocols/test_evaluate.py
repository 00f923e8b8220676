"""ROC curves, and the pooled one without moving a score."""

from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from protocols.aggregation import AGGREGATIONS, AggregationName
from protocols.engines.memory import MemoryEngine
from protocols.evaluate import BINS, counts_of, own_roc, roc_of_counts, secure_pooled_roc
from protocols.institution import Evaluation
from secagg import EncodingError


def evaluation(scores: list[float], labels: list[int]) -> Evaluation:
    s, y = np.array(scores), np.array(labels, dtype=np.float32)
    return Evaluation(float(((s > 0.5) == (y > 0)).mean()), 0.0, s, y)


patients = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=2, max_size=60).filter(
    lambda rows: 0 < sum(label for _, label in rows) < len(rows)
)


@given(patients)
def test_the_binned_area_is_within_its_stated_error_of_the_exact_one(rows: list[tuple[float, int]]) -> None:
    scores, labels = zip(*rows, strict=True)
    roc = roc_of_counts(counts_of(evaluation(list(scores), list(labels))).astype(np.uint64))
    assert abs(roc.area - roc_auc_score(labels, scores)) <= roc.area_error + 1e-12
    assert (roc.positives, roc.negatives) == (sum(labels), len(labels) - sum(labels))
    assert roc.true_positive_rate[-1] == roc.false_positive_rate[-1] == 1


@given(patients)
def test_counts_hold_every_patient_once(rows: list[tuple[float, int]]) -> None:
    scores, labels = zip(*rows, strict=True)
    counts = counts_of(evaluation(list(scores), list(labels)))
    assert counts.shape == (2 * BINS,)
    assert counts[BINS:].sum() == sum(labels)
    assert counts.sum() == len(rows)


def test_the_pooled_curve_is_that_of_all_patients_together() -> None:
    rng = np.random.default_rng(0)
    sites = {
        name: evaluation(list(rng.beta(2 + i, 2, 40)), list(rng.integers(0, 2, 40))) for i, name in enumerate("abcd")
    }
    for aggregation in AGGREGATIONS:
        pooled = secure_pooled_roc(
            MemoryEngine(), sites, aggregation=cast("AggregationName", aggregation), max_weight=40
        )
        together = evaluation(
            [s for e in sites.values() for s in e.scores], [int(y) for e in sites.values() for y in e.labels]
        )
        expected = roc_of_counts(counts_of(together).astype(np.uint64))
        assert np.array_equal(pooled.true_positive_rate, expected.true_positive_rate)
        assert pooled.accuracy == pytest.approx(together.accuracy)


def test_a_hospital_with_more_patients_than_the_bound_is_refused() -> None:
    sites = {name: evaluation([0.4] * 9 + [0.9], [0] * 9 + [1]) for name in "abcd"}
    with pytest.raises(EncodingError):
        secure_pooled_roc(MemoryEngine(), sites, aggregation="masking", max_weight=5)


def test_one_label_only_has_no_curve() -> None:
    assert own_roc(evaluation([0.2, 0.8], [1, 1])) is None
    with pytest.raises(ValueError, match="both labels"):
        roc_of_counts(counts_of(evaluation([0.2, 0.8], [1, 1])).astype(np.uint64))


def test_an_own_curve_is_exact() -> None:
    roc = own_roc(evaluation([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]))
    assert roc is not None
    assert roc.area == pytest.approx(0.75)
    assert roc.area_error == 0

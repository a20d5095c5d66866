"""Metrics against hand-derived values, scikit-learn with sample weights, and loops that follow the definitions."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from elicit.evaluation import metrics

Case = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Scores (heavily tied or not), labels and whole weights of a few texts, of which some weigh nothing."""
    n = draw(st.integers(2, 25))
    tied = st.integers(-2, 2).map(float)
    free = st.floats(-50, 50, allow_subnormal=False)
    scores = draw(st.lists(draw(st.sampled_from([tied, free])), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    rows = draw(st.integers(1, 3))
    weights = draw(st.lists(st.lists(st.integers(0, 3), min_size=n, max_size=n), min_size=rows, max_size=rows))
    return np.array(scores), np.array(labels), np.array(weights, dtype=np.float32)


def both(labels: np.ndarray, weight: np.ndarray) -> bool:
    return bool(weight[labels == 1].sum() > 0 and weight[labels == 0].sum() > 0)


def against(slow: Callable[[np.ndarray, np.ndarray, np.ndarray], float], fast: np.ndarray, case: Case) -> None:
    """Compare each row that holds both classes; rows that lack one are NaN where the metric needs both."""
    values, labels, weights = case
    for row, weight in enumerate(weights):
        if both(labels, weight):
            used = weight > 0
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = slow(values[used], labels[used], weight[used].astype(float))
            assert fast[row] == pytest.approx(expected, abs=1e-9)


def test_hand_derived_ranking() -> None:
    # Flagged: 3, 2, 1; cleared: 2, 0. Of 6 pairs, (3,2) (3,0) (2,0) (1,0) are right, (2,2) is a tie, (1,2) is wrong.
    scores, labels, ones = [3.0, 2.0, 1.0, 2.0, 0.0], [1, 1, 1, 0, 0], np.ones((1, 5))
    assert metrics.auroc(scores, labels, ones) == pytest.approx([4.5 / 6])
    # Thresholds: ≥3 precision 1, +1/3 recall; ≥2 precision 2/3, +1/3; ≥1 precision 3/4, +1/3.
    assert metrics.average_precision(scores, labels, ones) == pytest.approx([(1 + 2 / 3 + 3 / 4) / 3])
    # At most 49 % false alarms allows none of the 2 cleared texts: only the text at 3 is caught. 50 % allows one.
    assert [part[0] for part in metrics.tpr_at_fpr(scores, labels, ones, 0.49)] == pytest.approx([1 / 3, 0])
    assert [part[0] for part in metrics.tpr_at_fpr(scores, labels, ones, 0.5)] == pytest.approx([1, 0.5])


def test_hand_derived_verdicts() -> None:
    # 2 hits, 1 miss, 1 false alarm, 4 rejections.
    flagged, labels = [1, 1, 0, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]
    ones = np.ones((1, 8))
    assert metrics.accuracy(flagged, labels, ones) == pytest.approx([6 / 8])
    assert metrics.balanced_accuracy(flagged, labels, ones) == pytest.approx([(2 / 3 + 4 / 5) / 2])
    assert metrics.f1(flagged, labels, ones) == pytest.approx([4 / 6])
    # Expected agreement: (3·3 + 5·5) / 64 = 34/64; observed 48/64.
    assert metrics.kappa(flagged, labels, ones) == pytest.approx([(48 - 34) / (64 - 34)])


def test_hand_derived_probabilities() -> None:
    # Bin 0.2–0.3: two texts at .25, one flagged: |.25 − .5| · 2/3. The last bin includes 1: |1 − 1| · 1/3.
    p, labels, ones = [0.25, 0.25, 1.0], [1, 0, 1], np.ones((1, 3))
    assert metrics.expected_calibration_error(p, labels, ones) == pytest.approx([0.25 * 2 / 3])
    assert metrics.brier(p, labels, ones) == pytest.approx([(0.75**2 + 0.25**2) / 3])


@settings(max_examples=120, deadline=None)
@given(cases())
def test_ranking_metrics_equal_sklearn(case: Case) -> None:
    against(lambda s, y, w: float(sk.roc_auc_score(y, s, sample_weight=w)), metrics.auroc(*case), case)
    average = metrics.average_precision(*case)
    against(lambda s, y, w: float(sk.average_precision_score(y, s, sample_weight=w)), average, case)


@settings(max_examples=100, deadline=None)
@given(cases(), st.sampled_from([0.01, 0.05, 0.2, 0.5, 1.0]))
def test_tpr_at_fpr_equals_a_loop_over_thresholds(case: Case, target: float) -> None:
    def slow(achieved: bool) -> Callable[[np.ndarray, np.ndarray, np.ndarray], float]:
        def best(s: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
            found = (0.0, 0.0)
            for threshold in np.unique(s)[::-1]:
                tpr = w[(s >= threshold) & (y == 1)].sum() / w[y == 1].sum()
                fpr = w[(s >= threshold) & (y == 0)].sum() / w[y == 0].sum()
                if fpr <= target + 1e-12:
                    found = (tpr, fpr)
            return found[achieved]

        return best

    tpr, fpr = metrics.tpr_at_fpr(*case, target)
    against(slow(False), tpr, case)
    against(slow(True), fpr, case)


def test_tpr_at_fpr_is_not_misled_by_rounding() -> None:
    # 0.05 · n and 0.01 · n are not whole in floating point for each n, but k of n negatives must be allowed.
    for n in range(100, 3001, 100):
        labels = np.append(np.zeros(n, dtype=int), 1)
        scores = np.append(np.arange(n), n - n // 100 - 0.5)  # exactly 1 % of the cleared texts lie above
        tpr, fpr = metrics.tpr_at_fpr(scores, labels, np.ones((1, n + 1)), 0.01)
        assert (tpr[0], fpr[0]) == (1.0, pytest.approx(0.01))


@settings(max_examples=120, deadline=None)
@given(cases())
def test_verdict_metrics_equal_sklearn(case: Case) -> None:
    scores, labels, weights = case
    verdicts = (scores > 0).astype(int), labels, weights
    references: list[tuple[Callable[..., np.ndarray], Callable[..., Any]]] = [
        (metrics.accuracy, sk.accuracy_score),
        (metrics.balanced_accuracy, sk.balanced_accuracy_score),
        (metrics.f1, sk.f1_score),
        (metrics.kappa, sk.cohen_kappa_score),
    ]
    for fast, slow in references:
        against(lambda v, y, w, slow=slow: float(slow(y, v, sample_weight=w)), fast(*verdicts), verdicts)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_probability_metrics_equal_their_definitions(case: Case) -> None:
    scores, labels, weights = case
    guesses = 1 / (1 + np.exp(-scores)), labels, weights

    def ece(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
        total = 0.0
        for number in range(10):
            inside = (p >= number / 10) & ((p < (number + 1) / 10) | (number == 9))
            if w[inside].sum() > 0:
                miss = np.average(p[inside], weights=w[inside]) - np.average(y[inside], weights=w[inside])
                total += w[inside].sum() / w.sum() * abs(miss)
        return total

    against(ece, metrics.expected_calibration_error(*guesses), guesses)
    against(lambda p, y, w: float(sk.brier_score_loss(y, p, sample_weight=w)), metrics.brier(*guesses), guesses)


@settings(max_examples=60, deadline=None)
@given(cases(), st.randoms(use_true_random=False))
def test_ranking_properties(case: Case, random: Any) -> None:
    scores, labels, weights = case
    value = metrics.auroc(scores, labels, weights)
    np.testing.assert_allclose(metrics.auroc(-scores, labels, weights), 1 - value, atol=1e-12)
    # Ranks are a monotone transform that merges and splits no ties.
    ranks = np.unique(scores, return_inverse=True)[1].astype(float) ** 3 - 7
    order = np.array(random.sample(range(len(scores)), len(scores)))
    for fast in (metrics.auroc, metrics.average_precision, lambda *given: metrics.tpr_at_fpr(*given, 0.2)[0]):
        np.testing.assert_array_equal(fast(ranks, labels, weights), fast(scores, labels, weights))
        permuted = fast(scores[order], labels[order], weights[:, order])
        np.testing.assert_allclose(permuted, fast(scores, labels, weights), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_a_weight_is_a_repetition(case: Case) -> None:
    scores, labels, weights = case
    for row, weight in enumerate(weights):
        again = np.repeat(np.arange(len(scores)), weight.astype(int))
        if not len(again):
            continue
        ones = np.ones((1, len(again)))
        for fast in (metrics.auroc, metrics.average_precision, lambda *given: metrics.tpr_at_fpr(*given, 0.2)[1]):
            expected = fast(scores[again], labels[again], ones)[0]
            np.testing.assert_allclose(fast(scores, labels, weights)[row], expected, atol=1e-12)


def test_undefined_without_both_classes_and_never_a_number() -> None:
    ones = np.ones((1, 3))
    scores, flagged, labels = [1.0, 2.0, 3.0], [1, 0, 1], [1, 1, 1]
    undefined = [
        metrics.auroc(scores, labels, ones),
        metrics.average_precision(scores, [0, 0, 0], ones),
        *metrics.tpr_at_fpr(scores, labels, ones, 0.05),
        metrics.balanced_accuracy(flagged, labels, ones),
        metrics.f1([0, 0, 0], [0, 0, 0], ones),
        metrics.kappa([1, 1, 1], labels, ones),
        metrics.accuracy(flagged, labels, 0 * ones),
    ]
    assert np.isnan(np.concatenate(undefined)).all()
    assert metrics.accuracy(flagged, labels, ones) == pytest.approx([2 / 3])


def test_infinite_scores_are_ranked_and_missing_ones_refused() -> None:
    assert metrics.auroc([np.inf, 0.0, -np.inf], [0, 1, 0], np.ones((1, 3))) == pytest.approx([0.5])
    with pytest.raises(ValueError, match="unscored"):
        metrics.auroc([np.nan, 0.0], [0, 1], np.ones((1, 2)))
    with pytest.raises(ValueError, match="shapes"):
        metrics.auroc([1.0, 0.0], [0, 1], np.ones((1, 3)))
    with pytest.raises(ValueError, match="no text"):
        metrics.accuracy([], [], np.ones((1, 0)))


def test_two_thousand_resamples_of_three_hundred_texts_are_quick() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 300)
    weights = random.integers(0, 4, (2000, 300)).astype(np.float32)
    start = time.perf_counter()
    metrics.ThresholdCounts.of(random.normal(size=300), labels, weights).auroc()
    assert time.perf_counter() - start < 1

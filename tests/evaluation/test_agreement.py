"""Rows of agreement: figures against scikit-learn, paired comparisons, and what is said when there is no figure."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from elicit.evaluation import (
    METRICS,
    Resampled,
    agreement,
    difference,
    evaluate_target,
    gap_recovered,
    paired_aurocs,
)
from elicit.evaluation.agreement import CURVE_POINTS, roc_points
from elicit.evaluation.bootstrap import bootstrap_weights
from elicit.monitors import Calibration
from elicit.monitors.scores import Scores, scores_from

AT_ZERO = Calibration(1.0, 0.0, 0.0, "median")


def scores(values: Any) -> Scores:
    """Scores of texts numbered from 0; NaN is an unscored text."""
    return scores_from([str(row) for row in range(len(values))], [float(value) for value in values])


def noisy(n: int, distance: float, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return random.normal(size=n) + distance * labels - distance / 2, labels.tolist()


def test_values_equal_sklearn_and_intervals_equal_a_loop() -> None:
    values, labels = noisy(60, 1.0)
    groups = [f"g{row // 3}" for row in range(60)]
    row = agreement(scores(values), labels, groups, AT_ZERO, replicates=200, seed=5)
    truth, flagged, p = np.array(labels), values > 0, 1 / (1 + np.exp(-values))
    expected = {
        "auroc": sk.roc_auc_score(truth, values),
        "average_precision": sk.average_precision_score(truth, values),
        "accuracy": sk.accuracy_score(truth, flagged),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, flagged),
        "f1": sk.f1_score(truth, flagged),
        "kappa": sk.cohen_kappa_score(truth, flagged),
        "brier": sk.brier_score_loss(truth, p),
    }
    for name, value in expected.items():
        assert row[name]["value"] == pytest.approx(value, abs=1e-6), name
        assert row[name]["low"] < row[name]["value"] < row[name]["high"]
    weights = bootstrap_weights(truth, groups, replicates=200, seed=5)
    slow = [sk.roc_auc_score(truth, values, sample_weight=weight) for weight in weights]
    low, high = np.quantile(slow, [0.025, 0.975])
    assert (row["auroc"]["low"], row["auroc"]["high"]) == pytest.approx((low, high), abs=1e-6)
    assert set(METRICS) <= set(row)
    assert (row["n"], row["coverage"], row["unscored"]) == (60, 1.0, {})
    assert "worst_case_auroc" not in row


def test_unscored_texts_lower_coverage_and_the_worst_case_but_not_the_figures() -> None:
    # Scored: flagged 3 and 1, cleared 2 and 0: 3 of 4 pairs are right. Unscored: one flagged, one cleared.
    # Worst case, 9 pairs: the unscored flagged text loses its 3, the unscored cleared one its other 2. 3 remain.
    reasons = [None, None, None, None, "too long", "refused", "refused"]
    found = Scores(tuple("abcdefg"), np.array([3, 1, 2, 0, np.nan, np.nan, np.nan]), tuple(reasons))
    row = agreement(found, [1, 1, 0, 0, 1, 0, None], None, AT_ZERO, replicates=50)
    assert row["auroc"]["value"] == 0.75
    assert row["n"] == 6
    assert row["coverage"] == pytest.approx(4 / 6, abs=1e-6)
    assert row["unscored"] == {"too long": 1, "refused": 1}  # the text without label is not counted
    assert row["worst_case_auroc"]["value"] == pytest.approx(3 / 9, abs=1e-6)


def test_one_class_leaves_ranking_undefined_and_accuracy_defined() -> None:
    row = agreement(scores([2.0, -1.0, np.nan]), [1, 1, 0], None, AT_ZERO, replicates=20)
    for name in METRICS:
        if name in ("accuracy", "ece", "brier"):
            assert row[name]["value"] is not None
        else:
            assert row[name]["value"] is None
            assert "one class only" in row[name]["undefined"]
            assert "flagged" in row[name]["undefined"]
    assert row["accuracy"]["value"] == 0.5
    assert row["curve"] is None
    assert row["worst_case_auroc"]["value"] == 0.0


@pytest.mark.parametrize(
    ("values", "labels", "reason", "coverage"),
    [
        ([1.0, np.nan], [None, None], "no labels", 0.5),
        ([np.nan, np.nan], [0, 1], "no labelled text was scored", 0.0),
        ([1.0, np.nan], [None, 1], "no labelled text was scored", 0.0),
        ([], [], "no labels", 0.0),
    ],
)
def test_nothing_to_measure(values: list[float], labels: list[int | None], reason: str, coverage: float) -> None:
    row = agreement(scores(values), labels, None, AT_ZERO, replicates=20)
    assert row["coverage"] == coverage
    for name in METRICS:
        assert row[name]["value"] is None
        assert reason in row[name]["undefined"]
    json.dumps(row, allow_nan=False)


def test_too_few_negatives_are_said() -> None:
    values, labels = noisy(120, 2.0)
    row = agreement(scores(values), labels, None, AT_ZERO, replicates=50)
    # 60 cleared texts: 1 % is less than one of them, 5 % is three.
    assert "with 60 cleared texts, one false alarm is already 1.7 %" in row["tpr_at_1_fpr"]["warning"]
    assert row["tpr_at_1_fpr"]["achieved_fpr"] == 0.0
    assert row["tpr_at_5_fpr"]["achieved_fpr"] == 0.05
    assert "warning" not in row["tpr_at_5_fpr"]


def test_few_groups_and_perfect_scores_are_said() -> None:
    labels = [0, 1] * 20
    groups = [f"g{row % 4}" for row in range(40)]
    row = agreement(scores(np.array(labels) - 0.5), labels, groups, AT_ZERO, replicates=50)
    assert "2 of cleared texts, 2 of flagged texts" in row["interval_warning"]
    assert row["auroc"]["low"] == row["auroc"]["high"] == 1.0
    assert "does not show" in row["auroc"]["warning"]
    assert "interval_warning" not in agreement(scores(labels), labels, None, AT_ZERO, replicates=50)


def test_scores_unrelated_to_labels_have_an_interval_over_a_half() -> None:
    values, labels = noisy(300, 0.0, seed=3)
    row = agreement(scores(values), labels, None, AT_ZERO)
    assert row["auroc"]["low"] < 0.5 < row["auroc"]["high"]
    assert row["kappa"]["low"] < 0 < row["kappa"]["high"]


def test_bad_labels_name_the_row() -> None:
    with pytest.raises(ValueError, match="row 1: a label is 0, 1 or None, not 2"):
        agreement(scores([1.0, 2.0]), [0, 2], None, AT_ZERO)
    with pytest.raises(ValueError, match="2 scores and 1 labels"):
        agreement(scores([1.0, 2.0]), [0], None, AT_ZERO)
    with pytest.raises(ValueError, match="2 labels and 1 groups"):
        agreement(scores([1.0, 2.0]), [0, 1], ["a"], AT_ZERO)


def test_gap_recovered_is_paired() -> None:
    # Each resample moves all three alike, so that the ratio is .5 in each, though each AUROC varies by ± .1.
    shift = np.linspace(-0.1, 0.1, 101)
    floor, method, ceiling = (Resampled(value, value + shift) for value in (0.5, 0.7, 0.9))
    assert gap_recovered(method, floor, ceiling) == {"value": 0.5, "low": 0.5, "high": 0.5}
    # Unpaired, the interval would be wide: here the method moves against the others.
    other = Resampled(0.7, 0.7 - shift)
    found = gap_recovered(other, floor, ceiling)
    assert (found["low"], found["high"]) == pytest.approx((0.5 - 0.2 * 0.95 / 0.4, 0.5 + 0.2 * 0.95 / 0.4))
    assert gap_recovered(floor, floor, ceiling)["value"] == 0.0
    assert gap_recovered(ceiling, floor, ceiling)["value"] == 1.0


def test_gap_is_undefined_when_it_may_be_none() -> None:
    spread = np.linspace(-0.1, 0.1, 101)
    floor, ceiling = Resampled(0.7, np.full(101, 0.7)), Resampled(0.75, 0.75 + spread)
    assert "not clearly above" in gap_recovered(floor, floor, ceiling)["undefined"]
    assert "below the floor" in gap_recovered(floor, Resampled(0.95, np.full(101, 0.95)), ceiling)["undefined"]
    assert "not clearly above" in gap_recovered(floor, floor, floor)["undefined"]


def test_difference_reads_the_interval() -> None:
    shift = np.linspace(-0.1, 0.1, 101)
    low, high, loose = Resampled(0.7, 0.7 + shift), Resampled(0.72, 0.72 + shift), Resampled(0.72, 0.72 - shift)
    assert difference(high, low) == {"value": 0.02, "low": 0.02, "high": 0.02, "reading": "better"}
    assert difference(low, high)["reading"] == "worse"
    assert difference(loose, low)["reading"] == "no clear difference"
    assert difference(low, low)["reading"] == "no clear difference"


def four_methods(n: int = 200) -> tuple[dict[str, Scores], list[int | None], dict[str, Calibration]]:
    held = {name: noisy(n, distance, seed)[0] for seed, (name, distance) in enumerate(
        {"untrained": 0.3, "transfer": 1.0, "ccs": 2.0, "verdict-target": 3.0}.items()
    )}  # fmt: skip
    labels: list[int | None] = [*noisy(n, 0.0)[1]]
    return {name: scores(values) for name, values in held.items()}, labels, dict.fromkeys(held, AT_ZERO)


def test_evaluate_target_gives_every_row_the_same_figures_as_alone() -> None:
    methods, labels, calibrations = four_methods()
    rows = evaluate_target(methods, labels, None, calibrations, replicates=200, seed=2)
    assert list(rows) == list(methods)
    for name, row in rows.items():
        alone = agreement(methods[name], labels, None, AT_ZERO, replicates=200, seed=2)
        assert alone == {key: row[key] for key in alone}
    assert rows["untrained"]["gap_recovered"]["value"] == 0.0
    assert rows["verdict-target"]["gap_recovered"]["value"] == 1.0
    aurocs = {name: row["auroc"]["value"] for name, row in rows.items()}
    expected = (aurocs["ccs"] - aurocs["untrained"]) / (aurocs["verdict-target"] - aurocs["untrained"])
    assert rows["ccs"]["gap_recovered"]["value"] == pytest.approx(expected, abs=1e-5)
    assert rows["ccs"]["gap_recovered"]["n"] == 200
    assert rows["ccs"]["versus_transfer"]["reading"] == "better"
    assert rows["untrained"]["versus_transfer"]["reading"] == "worse"
    assert "baseline" in rows["transfer"]["versus_transfer"]["undefined"]
    gain = aurocs["ccs"] - aurocs["untrained"]
    assert rows["ccs"]["versus_untrained"]["value"] == pytest.approx(gain, abs=2e-6)
    assert "baseline" in rows["untrained"]["versus_untrained"]["undefined"]


def test_comparisons_use_the_texts_that_both_scored() -> None:
    # On the four common texts both rank alike; the two that only transfer scored would tell them apart.
    labels: list[int | None] = [1, 1, 0, 0, 1, 0]
    methods = {"transfer": scores([4, 3, 2, 1, 0, 5]), "ccs": scores([9, 8, 1, 0, np.nan, np.nan])}
    rows = evaluate_target(methods, labels, None, dict.fromkeys(methods, AT_ZERO), replicates=50)
    assert rows["ccs"]["versus_transfer"] == {
        "value": 0.0, "low": 0.0, "high": 0.0, "reading": "no clear difference", "n": 4
    }  # fmt: skip
    assert "no untrained monitor" in rows["ccs"]["gap_recovered"]["undefined"]


def test_comparison_without_common_texts_says_why() -> None:
    methods = {"transfer": scores([1, 2, np.nan, np.nan]), "ccs": scores([np.nan, np.nan, 1, 2])}
    rows = evaluate_target(methods, [0, 1, 0, 1], None, dict.fromkeys(methods, AT_ZERO), replicates=50)
    assert "ccs, transfer all scored: no labelled text" in rows["ccs"]["versus_transfer"]["undefined"]


def test_evaluate_target_refuses_what_cannot_be_paired() -> None:
    one, other = scores([1, 2]), scores_from(["x", "y"], [1.0, 2.0])
    with pytest.raises(ValueError, match="b scored other texts than a"):
        evaluate_target({"a": one, "b": other}, [0, 1], None, {"a": AT_ZERO, "b": AT_ZERO})
    with pytest.raises(ValueError, match="a has no calibration"):
        evaluate_target({"a": one}, [0, 1], None, {})
    assert evaluate_target({}, [0, 1], None, {}) == {}


def test_same_seed_same_bytes_and_methods_do_not_influence_each_other() -> None:
    methods, labels, calibrations = four_methods(80)
    first, second = (evaluate_target(methods, labels, None, calibrations, replicates=100) for _ in range(2))
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)
    fewer = {name: methods[name] for name in ("verdict-target", "transfer", "untrained")}
    assert evaluate_target(fewer, labels, None, calibrations, replicates=100)["transfer"] == first["transfer"]


def test_blocks_do_not_change_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    values, labels = noisy(50, 1.0)
    weights = bootstrap_weights(np.array(labels), replicates=90)
    whole = agreement(scores(values), labels, None, AT_ZERO, replicates=90)
    monkeypatch.setattr("elicit.evaluation.bootstrap.BLOCK", 1000)
    np.testing.assert_array_equal(bootstrap_weights(np.array(labels), replicates=90), weights)
    assert agreement(scores(values), labels, None, AT_ZERO, replicates=90) == whole


TEXTS = st.lists(
    st.tuples(
        st.one_of(st.just(float("nan")), st.integers(-3, 3).map(float), st.floats(-1e300, 1e300)),
        st.sampled_from([0, 1, None]),
        st.sampled_from(["a", "b", "c", None]),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_any_texts_give_finite_json(texts: list[tuple[float, int | None, str | None]]) -> None:
    values, labels, groups = ([text[part] for text in texts] for part in range(3))
    methods = {name: scores(values) for name in ("untrained", "transfer", "verdict-target")}
    rows = evaluate_target(methods, labels, groups, dict.fromkeys(methods, AT_ZERO), replicates=20)  # type: ignore[arg-type]
    json.dumps(rows, allow_nan=False)
    for name in METRICS:
        for row in rows.values():
            figure = row[name]
            assert ("undefined" in figure) == (figure["value"] is None)
            if figure["value"] is not None:
                assert -1 <= figure["low"] <= figure["value"] <= figure["high"] <= 1


def test_curve_keeps_its_ends_and_its_area() -> None:
    values, labels = noisy(2000, 1.5)
    curve = roc_points(values, np.array(labels))
    fpr, tpr = np.array(curve["fpr"]), np.array(curve["tpr"])
    assert len(fpr) == len(tpr) <= CURVE_POINTS
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    area = float(np.trapezoid(tpr, fpr))
    assert area == pytest.approx(sk.roc_auc_score(labels, values), abs=0.01)
    # Perfect ranking: straight up, then straight to the right.
    assert roc_points(np.arange(6.0), np.array([0, 0, 0, 1, 1, 1])) == {"fpr": [0, 0, 1], "tpr": [0, 1, 1]}
    # All tied: the diagonal.
    assert roc_points(np.zeros(4), np.array([0, 1, 0, 1])) == {"fpr": [0, 1], "tpr": [0, 1]}


def test_all_figures_of_three_hundred_texts_take_less_than_a_second() -> None:
    values, labels = noisy(300, 1.0)
    start = time.perf_counter()
    agreement(scores(values), labels, None, AT_ZERO)
    assert time.perf_counter() - start < 1


def test_paired_aurocs_are_those_of_the_texts_that_all_scored() -> None:
    values, labels = noisy(60, 1.0)
    one, other = values.copy(), -values
    one[3] = other[7] = np.nan
    labels[11] = None
    found, n = paired_aurocs({"one": scores(one), "other": scores(other)}, labels, None)
    kept = [row for row in range(60) if row not in (3, 7, 11)]
    assert n == len(kept)
    truth = [labels[row] for row in kept]
    assert found["one"].value == pytest.approx(sk.roc_auc_score(truth, values[kept]))
    # The other ranks the same texts the other way round, in every resample as well.
    np.testing.assert_allclose(found["one"].replicates + found["other"].replicates, 1.0)
    with pytest.raises(ValueError, match="different texts"):
        paired_aurocs({"one": scores(one), "other": scores(values[:59])}, labels, None)
    with pytest.raises(ValueError, match="one class only"):
        paired_aurocs({"one": scores(values)}, [1] * 60, None)

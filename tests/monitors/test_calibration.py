"""Calibration without labels: known mixtures, and every degenerate shape that scores can take."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elicit.monitors import Calibration, fit_calibration

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


def mixture(n: int, share: float, distance: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=n) + distance * (np.arange(n) < share * n)


def test_recovers_a_known_mixture() -> None:
    # N(0, 1) and N(5, 1) with 30 % above: log-odds = 5·x − 12.5 + ln(3/7), so the threshold is 2.669.
    found = fit_calibration(mixture(4000, 0.3, 5.0))
    assert found.kind == "mixture"
    assert found.slope == pytest.approx(5, rel=0.08)
    assert found.threshold == pytest.approx(2.669, abs=0.1)
    assert found.intercept == pytest.approx(-12.5 + np.log(3 / 7), rel=0.08)
    assert found.probability([found.threshold]) == pytest.approx([0.5])


def test_small_class_is_found_where_the_median_would_halve_the_texts() -> None:
    values = mixture(200, 0.1, 6.0)
    assert fit_calibration(values).flagged(values).sum() == 20


def test_one_heap_falls_back_to_the_median() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=400)
    found = fit_calibration(values)
    assert found.kind == "median"
    assert found.threshold == pytest.approx(np.median(values))
    quartiles = np.quantile(values, [0.25, 0.75])
    assert found.slope == pytest.approx(2 * np.log(3) / (quartiles[1] - quartiles[0]))
    # The slope is such that the quartiles of a symmetric heap get .25 and .75.
    assert found.probability(quartiles) == pytest.approx([0.25, 0.75], abs=0.03)


def test_one_outlier_is_not_a_class() -> None:
    assert fit_calibration(np.append(np.random.default_rng(0).normal(size=99), 80.0)).kind == "median"


@pytest.mark.parametrize("count", [1, 2, 7])
def test_few_scores_fall_back_to_the_median(count: int) -> None:
    values = np.arange(count) * 10.0
    found = fit_calibration(values)
    assert (found.kind, found.threshold) == ("median", float(np.median(values)))


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], [np.inf, -np.inf]])
def test_no_score_at_all_reads_scores_as_log_odds(values: list[float]) -> None:
    assert fit_calibration(values) == Calibration(1.0, 0.0, 0.0, "median")


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1e300, 5e-324])
def test_equal_scores_flag_nothing(value: float) -> None:
    found = fit_calibration([value] * 30)
    assert found.threshold == value
    assert not found.flagged([value] * 30).any()
    assert found.probability([value]) == pytest.approx([0.5])


def test_two_tied_values_have_a_finite_slope() -> None:
    # Within each heap the variance is 0: without a floor the likelihood and the slope would be infinite.
    found = fit_calibration([0.0] * 50 + [1.0] * 50)
    assert found.kind == "mixture"
    assert found.threshold == pytest.approx(0.5)
    assert found.flagged([0.0, 1.0]).tolist() == [False, True]


def test_heavy_ties_and_a_tail() -> None:
    found = fit_calibration([0.0] * 90 + [4.0, 4.1, 4.2, 4.3, 4.4, 4.5, 4.6, 4.7, 4.8, 4.9])
    assert found.flagged([0.0, 4.0]).tolist() == [False, True]


@pytest.mark.parametrize("scale", [1e-300, 1e-6, 1e6, 1e200, 1e307])
def test_magnitude_does_not_matter(scale: float) -> None:
    values = mixture(200, 0.4, 6.0)
    found, plain = fit_calibration(values * scale), fit_calibration(values)
    assert found.kind == "mixture"
    np.testing.assert_array_equal(found.flagged(values * scale), plain.flagged(values))
    if scale > 1e-100:  # below, the slope reaches its bound
        np.testing.assert_allclose(found.probability(values * scale), plain.probability(values), atol=1e-6)


@settings(max_examples=150, deadline=None)
@given(st.lists(ANY_FLOAT, max_size=30))
def test_any_scores_give_a_finite_calibration(values: list[float]) -> None:
    found = fit_calibration(values)
    assert found.slope > 0
    assert np.isfinite([found.slope, found.intercept, found.threshold]).all()
    finite = np.sort([value for value in values if np.isfinite(value)])
    probability = found.probability(finite)
    assert np.isfinite(probability).all()
    assert (np.diff(probability) >= 0).all()
    # Flagged and "more probable than not" agree, but for rounding at the threshold itself.
    assert (probability[found.flagged(finite)] >= 0.5).all()
    assert (probability[~found.flagged(finite)] <= 0.5).all()
    if len(finite):
        assert finite[0] <= found.threshold <= finite[-1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=8, max_size=40), st.randoms(use_true_random=False))
def test_order_and_unscored_texts_do_not_matter(values: list[float], random: object) -> None:
    shuffled = [*values, float("nan")]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fit_calibration(shuffled) == fit_calibration(values)


def test_unscored_texts_have_no_probability_and_are_not_flagged() -> None:
    found = Calibration(2.0, -2.0, 1.0, "mixture")
    assert np.isnan(found.probability([np.nan])).all()
    assert found.flagged([np.nan, 1.0, np.nextafter(1.0, 2.0)]).tolist() == [False, False, True]  # strictly above


def test_json_gives_back_the_same() -> None:
    found = fit_calibration(mixture(100, 0.5, 5.0))
    assert Calibration.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found


@pytest.mark.parametrize(("slope", "kind"), [(0.0, "median"), (-1.0, "median"), (np.inf, "median"), (1.0, "other")])
def test_impossible_calibrations_are_refused(slope: float, kind: str) -> None:
    with pytest.raises(ValueError, match="calibration"):
        Calibration(slope, 0.0, 0.0, kind)  # type: ignore[arg-type]

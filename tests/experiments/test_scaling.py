"""Scaling: what adjacent labels are worth is read off the curve, and never beyond it."""

from __future__ import annotations

import numpy as np
import pytest

from elicit.domains import Question, Row, drop_overlap, load_domain, make_domain
from elicit.errors import DomainError
from elicit.evaluation import Resampled
from experiments.scaling import PRESETS, crossing, drawn, enough, worth

LABELS = (0, 15, 63)


def test_between_two_numbers_the_curve_is_joined_on_a_logarithmic_scale() -> None:
    # log2(1 + k) is 0, 4, 6. Half-way between .5 and .7 lies log2(1 + k) = 2, k = 3; half-way up the next step 5, k = 31.
    assert crossing(0.6, [0.5, 0.7, 0.9], LABELS) == pytest.approx(3.0)
    assert crossing(0.8, [0.5, 0.7, 0.9], LABELS) == pytest.approx(31.0)
    assert crossing(0.7, [0.5, 0.7, 0.9], LABELS) == pytest.approx(15.0)


def test_beyond_its_ends_nothing_is_read() -> None:
    assert crossing(0.4, [0.5, 0.7, 0.9], LABELS) == 0.0
    assert crossing(0.91, [0.5, 0.7, 0.9], LABELS) == np.inf


def test_a_dip_of_the_curve_is_no_second_crossing() -> None:
    # Isotonic regression puts .7 and .5 both at their mean, .6, which is reached at the first of them.
    assert crossing(0.6, [0.5, 0.7, 0.5], LABELS) == pytest.approx(15.0)
    assert crossing(0.61, [0.5, 0.7, 0.5], LABELS) == np.inf


def test_a_curve_that_is_not_reached_is_undefined_and_says_at_least_how_many() -> None:
    exact = np.zeros(2000)
    alone = [Resampled(value, exact + value) for value in (0.5, 0.7, 0.9)]
    found = worth(Resampled(0.95, exact + 0.95), alone, LABELS)
    assert found["value"] is None
    assert "more than 63" in found["undefined"]
    assert found["at_least"] == 63
    # One resample in five lies beyond the curve: there is a value, and no upper end.
    level = np.where(np.arange(2000) % 5 == 0, 0.95, 0.7)
    found = worth(Resampled(0.7, level), alone, LABELS)
    assert found["value"] == pytest.approx(15.0)
    assert found["high"] is None
    found = worth(Resampled(0.7, exact + 0.7), alone, LABELS)
    assert found["low"] == found["high"] == pytest.approx(15.0)


def test_more_labels_than_there_are_is_an_error_before_training() -> None:
    part = make_domain("d", Question("Is it?"), [Row(str(i), f"text {i}", i % 2) for i in range(40)])
    enough(part, (0, 40))
    with pytest.raises(DomainError, match="d: 40 labelled texts to train on, but 41 are asked for"):
        enough(part, (0, 41))


def test_labels_are_drawn_by_seed_and_smaller_sets_are_parts_of_larger_ones() -> None:
    part = make_domain("d", Question("Is it?"), [Row(str(i), f"text {i}", int(i % 4 == 0)) for i in range(80)])
    few, many, other = drawn(part, 8, 0), drawn(part, 32, 0), drawn(part, 8, 1)
    assert (len(few), sum(few.labels)) == (8, 4)
    assert (len(many), sum(many.labels)) == (32, 16)
    assert set(few.ids) < set(many.ids)
    assert set(few.ids) != set(other.ids)
    assert sum(drawn(part, 60, 0).labels) == 20  # all there are


@pytest.mark.parametrize("size", PRESETS)
def test_every_preset_asks_for_no_more_labels_than_there_are(size: str) -> None:
    preset = PRESETS[size]
    targets = [load_domain(name) for name in preset.targets]
    enough(drop_overlap(load_domain(preset.source).train, targets), preset.adjacent)
    for target in targets:
        enough(target.train, preset.labels)

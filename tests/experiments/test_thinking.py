"""Thinking: what is compared with what, and when there is too little to compare."""

from __future__ import annotations

import pytest

from elicit.domains import Question, Row, make_domain
from elicit.monitors.scores import scores_from
from experiments.thinking import BY_KEYWORDS, DIRECT, FORCED, PRESETS, STUDENT, WRITTEN, Way, row, summary, ways

TEST = make_domain("toy", Question("Is it good?"), [Row(str(i), f"text number {i}", i % 2) for i in range(40)])
RIGHT = scores_from(TEST.ids, [2.0 * (i % 2) - 1 for i in range(40)])
POOR = scores_from(TEST.ids, [1.0 * (i % 3) for i in range(40)])


def test_every_budget_is_read_in_both_ways_but_nothing_is_written_without_a_token() -> None:
    found = ways(PRESETS["default"])
    assert len({way.name for way in found}) == len(found)
    budgets = PRESETS["default"].budgets
    for start in ("untrained", "trained"):
        assert [way.budget for way in found if (way.start, way.reading) == (start, FORCED)] == list(budgets)
        assert [way.budget for way in found if (way.start, way.reading) == (start, WRITTEN)] == [
            b for b in budgets if b
        ]
    assert [way.teacher for way in found if way.reading == STUDENT] == ["thinking", "state-consistency"]


def test_a_way_is_compared_with_the_direct_verdict_on_the_texts_that_both_scored() -> None:
    reasons = ["no verdict" if i < 20 else None for i in range(40)]
    written = scores_from(TEST.ids, RIGHT.values, reasons)
    way = Way("trained", WRITTEN, 16)
    found = row("toy", way, {Way("trained", DIRECT): {0: POOR}, way: {0: written}}, TEST)
    assert (found["n"], found["coverage"], found["unscored"]) == (20, 0.5, {"no verdict": 20})
    assert found["auroc"]["value"] == 1
    assert found["versus_direct"]["reading"] == "better"
    said = "against its direct one: better in 1 of 1 (1 of them on as few as 20 texts)."
    assert any(sentence.endswith(said) for sentence in summary([found]))


def test_words_are_compared_with_words() -> None:
    """A ranking has a higher AUROC than the words that it comes to, which is no loss by reasoning."""
    ranking = scores_from(TEST.ids, [i - 19.5 - 18 * (i % 5 == 1) for i in range(40)])
    written = scores_from(TEST.ids, [1.0 if value > 0 else -1.0 for value in ranking.values])
    way = Way("trained", WRITTEN, 16)
    found = row("toy", way, {Way("trained", DIRECT): {0: ranking}, way: {0: written}}, TEST)
    figures = {"value": 0.0, "low": 0.0, "high": 0.0, "reading": "no clear difference"}
    assert found["versus_direct"] == figures | {"warning": "it rests on 40 texts that both have scored"}


def test_a_handful_of_verdicts_is_no_comparison() -> None:
    few = scores_from(TEST.ids, RIGHT.values, [None if i < 8 else "no verdict" for i in range(40)])
    way = Way("untrained", WRITTEN, 16)
    found = row("toy", way, {Way("untrained", DIRECT): {0: POOR}, way: {0: few}}, TEST)
    assert found["n"] == 8
    assert found["auroc"]["value"] is None
    assert "4 flagged and 4 cleared" in found["versus_direct"]["undefined"]


def test_a_way_that_failed_under_one_seed_is_compared_under_the_others() -> None:
    way, direct = Way("trained", FORCED, 16), Way("trained", DIRECT)
    found = row("toy", way, {direct: {0: POOR, 1: RIGHT, 2: POOR}, way: {1: RIGHT}}, TEST)
    assert (found["seeds"], found["auroc"]["value"], found["versus_direct"]["value"]) == (1, 1, 0)
    alone = row("toy", way, {direct: {0: POOR}, way: {1: RIGHT}}, TEST)
    assert alone["versus_direct"]["undefined"] == "there is nothing to compare with under the same seed"
    # Texts that the direct verdict alone has not scored are in no pair.
    some = scores_from(TEST.ids, RIGHT.values, [None if i < 8 else "no verdict" for i in range(40)])
    assert "4 flagged" in row("toy", way, {direct: {0: some}, way: {0: RIGHT}}, TEST)["auroc"]["undefined"]


def test_reasoning_is_compared_with_none_and_the_trained_model_with_the_untrained_one() -> None:
    trained, at_once, untrained = Way("trained", FORCED, 16), Way("trained", FORCED, 0), Way("untrained", FORCED, 16)
    kept = {
        Way("trained", DIRECT): {0: RIGHT, 1: RIGHT},
        trained: {0: RIGHT, 1: RIGHT},
        at_once: {0: RIGHT, 1: RIGHT},
        untrained: {0: POOR},  # whose one seed stands for all
    }
    found = row("toy", trained, kept | {BY_KEYWORDS: {0: POOR}}, TEST)
    assert found["versus_keyword"]["value"] == found["versus_untrained"]["value"]  # keywords are as poor here
    assert (found["versus_at_once"]["value"], found["versus_at_once"]["reading"]) == (0, "no clear difference")
    own = row("toy", untrained, kept | {Way("untrained", DIRECT): {0: POOR}}, TEST)
    assert found["versus_untrained"]["value"] == pytest.approx(1 - own["auroc"]["value"], abs=1e-6)
    assert found["versus_untrained"]["reading"] == "better"
    assert "versus_untrained" not in own
    assert "versus_at_once" not in row("toy", at_once, kept, TEST)

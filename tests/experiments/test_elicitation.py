"""Elicitation: what is shared is charged to everyone, and the front holds what nothing beats at its price."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from elicit.domains import Question, Row, make_domain
from elicit.evaluation.score_files import write_scores
from elicit.files import write_json
from elicit.monitors.scores import scores_from
from experiments.elicitation import PRESETS, STARTS, alarms, cost, sections, seeds_in_words, target_rows


def test_a_reading_that_several_methods_share_is_charged_to_each() -> None:
    timings = [
        {
            "t/ccs": {"seconds": 12.0, "tokens": 900},
            "t/crc": {"seconds": 0.2, "tokens": 0},
            "t/icm": {"seconds": 90.0, "tokens": 5},
            "t/probe-target": {"seconds": 0.1, "tokens": 0},
            "t/probe-source": {"seconds": 30.0, "tokens": 2000},
            "t/mean-difference-source": {"seconds": 0.1, "tokens": 0},
        },
        {
            "t/ccs": {"seconds": 10.0, "tokens": 900},
            "t/crc": {"seconds": 0.4, "tokens": 0},
            "t/icm": {"seconds": 70.0, "tokens": 5},
        },
    ]
    assert cost(timings, "t", "crc", "tokens") == 900
    assert cost(timings, "t", "crc", "seconds") == 11.0
    assert cost(timings, "t", "icm", "seconds") == 80.0
    # A probe on target labels reads what the label-free ones read; probes on source labels read something else.
    assert cost(timings[:1], "t", "probe-target", "tokens") == 900
    assert cost(timings[:1], "t", "mean-difference-source", "tokens") == 2000


def test_a_method_that_scored_few_texts_takes_none_from_the_others(tmp_path: Path) -> None:
    """All but one see 40 texts; 10 of them are what the one has scored."""
    rows = [Row(str(i), f"{'good' if i % 2 else 'bad'} text {i}", i % 2) for i in range(200)]
    target = make_domain("toy", Question("Is it good?"), rows)
    test = target.test.sample(40)
    preset = replace(PRESETS["smoke"], targets=("toy",), texts={"test_texts": 40})
    held: dict[str, Any] = {}
    for start in STARTS:
        for method in preset.methods:
            reasons = ["refused" if method == "ccs" and start == "untrained" and i >= 10 else None for i in range(40)]
            values = [float(label or 0) + i / 100 for i, label in enumerate(test.labels)]
            scores = scores_from(test.ids, values, reasons)
            write_scores(tmp_path / start / "scores" / "toy" / f"{method}.jsonl", scores, None)
            held[f"toy/{method}"] = {"seconds": 1.0, "tokens": 1}
        write_json(tmp_path / start / "timings.json", held)
    found, left_out = target_rows(target, {start: [tmp_path / start] for start in STARTS}, preset)
    assert left_out == ["toy: ccs, untrained, scored 25% of the texts, and is left out"]
    assert {row["n"] for row in found} == {40}
    assert [row["start"] for row in found if row["method"] == "ccs"] == ["source-trained"]


def test_a_warning_of_several_seeds_is_said_once() -> None:
    results = {"warnings": ["w"], "rows": [{"target": "t", "method": "m", "warnings": ["flat"]}]}
    failed = {"warnings": [], "rows": [{"target": "t", "method": "m", "error": "no direction"}]}
    assert alarms(results) == ["w", "t, m: flat"]
    assert alarms(failed) == ["t, m failed: no direction"]
    assert (seeds_in_words([0, 2]), seeds_in_words([1])) == ("seeds 0, 2", "seed 1")


def test_a_target_on_which_nothing_is_left_to_compare_has_no_front() -> None:
    preset = replace(PRESETS["smoke"], targets=("toy",))
    agreement, targets = sections([], preset)
    assert not agreement.drawings
    assert [table.rows for table in targets.tables] == [[]]

"""Plain words: they say what the intervals allow, and name what failed."""

from __future__ import annotations

from typing import Any

from elicit.reports import plain_words
from elicit.reports.rows import read_row


def about(results: dict[str, Any], target: str) -> str:
    return "\n".join(sentence for sentence in plain_words(results) if sentence.startswith(f"{target}: "))


def change(results: dict[str, Any], target: str, method: str, **held: Any) -> None:
    next(row for row in results["rows"] if (row["target"], row["method"]) == (target, method)).update(held)


def test_worse_than_transfer_is_said_plainly(results: dict[str, Any]) -> None:
    words = about(results, "fixture/one")
    # 0.585 - 0.803 and 0.702 - 0.803
    assert "Worse than transfer: random-shots (-0.218 [-0.247, -0.189]), ccs (-0.101 [-0.130, -0.072])." in words
    assert "Better than transfer: consistency" in words


def test_transfer_is_compared_by_the_paired_reading_turned_round(results: dict[str, Any]) -> None:
    assert "transfer is better than the untrained model" in about(results, "fixture/one")
    assert "transfer is worse than the keyword baseline trained on the target's labels" in about(results, "fixture/one")
    assert "transfer shows no clear difference from the untrained model" in about(results, "fixture/two")


def test_without_a_paired_comparison_overlap_is_all_that_is_said(results: dict[str, Any]) -> None:
    change(results, "fixture/two", "untrained", versus_transfer={"value": None, "undefined": "not run"})
    words = about(results, "fixture/two")
    assert "transfer has an interval that overlaps that of the untrained model" in words
    assert "transfer is better than the untrained model" not in words


def test_gap_says_when_the_interval_holds_nothing_and_when_ground_was_lost(results: dict[str, Any]) -> None:
    words = about(results, "fixture/one")
    assert "consistency recovered 77% [65%, 89%] of the gap to training" in words
    assert "random-shots recovered -8% [-20%, 4%] of the gap: an interval that holds 0" in words
    change(results, "fixture/one", "ccs", gap_recovered={"value": -0.3, "low": -0.4, "high": -0.2})
    assert "ccs fell below the untrained model: it recovered -30% [-40%, -20%]" in about(results, "fixture/one")


def test_undefined_gap_is_said_once_with_its_methods(results: dict[str, Any]) -> None:
    words = about(results, "fixture/two")
    assert words.count("there is no gap to recover") == 1
    assert "Gap recovered is undefined for random-shots, consistency, ccs" in words
    assert "recovered 0%" not in words


def test_monitors_that_do_not_beat_the_keyword_baseline_are_named(results: dict[str, Any]) -> None:
    words = about(results, "fixture/one")
    # keyword-source is at 0.655 ± 0.035: ccs at 0.702 ± 0.035 is above it, but 0.667 < 0.690.
    assert "Not above keyword-source (AUROC 0.655 [0.620, 0.690]): untrained, random-shots." in words
    assert "Above keyword-source, but with overlapping intervals: ccs." in words
    assert "No label-free method is clearly above keyword-source on: fixture/two." in plain_words(results)


def test_a_tie_with_the_keyword_baseline_does_not_beat_it(results: dict[str, Any]) -> None:
    change(results, "fixture/one", "ccs", auroc={"value": 0.655, "low": 0.62, "high": 0.69})
    assert "untrained, random-shots, ccs." in about(results, "fixture/one")


def test_unscored_failed_and_unlabelled(results: dict[str, Any]) -> None:
    one = about(results, "fixture/one")
    assert "ccs left 12 texts unscored: the text is empty (4), verdict mass below 0.01 (8)" in one
    assert "its AUROC would be 0.655" in one
    assert "bootstrap failed: it needs 24 texts." in about(results, "fixture/two")
    three = about(results, "fixture/three")
    assert "Without labels no agreement is measured" in three
    assert "AUROC" not in three


def test_what_was_not_run_is_no_failure_and_no_figure(results: dict[str, Any]) -> None:
    three = about(results, "fixture/three")
    assert "Not run: verdict-target, keyword-target (the target has no labels)." in three
    assert "failed" not in three
    change(results, "fixture/one", "ccs", skipped="there is no source")
    one = about(results, "fixture/one")
    assert "Not run: ccs (there is no source)." in one
    assert one.count("ccs") == 2  # and once more for the texts that it left unscored


def test_a_transfer_that_was_not_run_is_not_compared(results: dict[str, Any]) -> None:
    transfer = {"target": "fixture/one", "method": "transfer", "labels_used": "source", "skipped": "there is no source"}
    results["rows"] = [row for row in results["rows"] if row["method"] != "transfer"] + [transfer]
    words = about(results, "fixture/one")
    assert "There is no transfer monitor" in words
    assert "Not run: transfer (there is no source)." in words
    assert "transfer is better" not in words
    better = {"value": 0.08, "low": 0.014, "high": 0.152, "reading": "better", "n": 150}
    change(results, "fixture/one", "ccs", versus_untrained=better)
    assert "ccs: better than the untrained model on 1, not compared on 1 of 2 labelled targets." in plain_words(results)
    assert "Better than the untrained model: ccs (+0.080 [+0.014, +0.152])." in about(results, "fixture/one")


def test_what_transfer_recovered_by_itself_is_said_before_what_methods_recovered(results: dict[str, Any]) -> None:
    words = about(results, "fixture/one")
    # (0.803 - 0.612) / (0.934 - 0.612) = 0.593
    said = "transfer by itself, without any label-free method, recovered 59% [47%, 71%] of the gap."
    assert 0 < words.index(said) < words.index("consistency recovered")
    assert "by itself" not in about(results, "fixture/two")


def test_little_verdict_mass_is_named(results: dict[str, Any]) -> None:
    change(results, "fixture/one", "untrained", verdict_mass=0.12)
    assert "the question is often not answered: untrained (12%)." in about(results, "fixture/one")
    assert "not answered" not in about(results, "fixture/two")


def test_overview_counts_labelled_targets_only(results: dict[str, Any]) -> None:
    words = plain_words(results)
    assert words[0] == "transfer: better than the untrained model on 1, no clear difference on 1 of 2 labelled targets."
    assert (
        "consistency: better than transfer on 1, no clear difference from transfer on 1 of 2 labelled targets." in words
    )


def test_roles_do_not_let_target_labels_pass_as_label_free() -> None:
    row = read_row({"target": "t", "method": "m", "labels_used": "target", "label_free": True})
    assert row.role == "target reference"
    assert not row.label_free
    assert read_row({"target": "t", "method": "m", "labels_used": "none", "reference": True}).label_free is False


def test_numbers_that_are_not_finite_are_undefined() -> None:
    row = read_row({"target": "t", "method": "m", "auroc": {"value": float("nan"), "low": 0.1, "high": 0.2}})
    assert row.measure("auroc").value is None
    assert row.measure("auroc").undefined == "not a finite number"
    kept = read_row({"target": "t", "method": "m", "auroc": {"value": 0.7, "low": None, "high": None}})
    assert kept.measure("auroc").value == 0.7
    assert not kept.measure("auroc").has_interval


def test_an_empty_run_has_nothing_to_say() -> None:
    assert plain_words({}) == []
    assert plain_words({"targets": [{"name": "t"}]}) == ["t: No method has been measured yet."]

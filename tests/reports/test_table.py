"""The terminal table: what it says, and that it fits."""

from __future__ import annotations

from typing import Any

import pytest

from elicit.reports import render_table
from elicit.reports.table import _display_width


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(results: dict[str, Any], width: int) -> None:
    results["rows"][0]["method"] = "a-method-with-a-name-that-is-far-too-long-for-any-column"
    results["rows"][1]["unscored"] = {"reason" * 30: 3}
    lines = render_table(results, width).splitlines()
    assert max(map(_display_width, lines)) <= width


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_a_method_below_transfer_is_marked_at_every_width(results: dict[str, Any], width: int) -> None:
    first = render_table(results, width).split("fixture/two")[0]
    marked = [line.split()[0] for line in first.splitlines() if "below transfer" in line]
    assert len(marked) == 4  # untrained, random-shots, ccs, keyword-source
    assert "ccs" in marked


def test_narrow_tables_leave_out_the_least_important_columns_first(results: dict[str, Any]) -> None:
    wide, middle, narrow = (render_table(results, width).splitlines()[1] for width in (160, 80, 60))
    assert "bal. acc." in wide
    assert "coverage" in wide
    assert "bal. acc." not in middle
    assert "gap recovered" in middle
    assert "gap recovered" not in narrow
    assert "AUROC" in narrow
    # What the column would have warned about is still said.
    assert "coverage 96.1%" in render_table(results, 60)


def test_methods_stand_in_the_fixed_order(results: dict[str, Any]) -> None:
    names = [
        line.split()[0] for line in render_table(results, 160).split("\n\nfixture/two")[0].splitlines()[3:] if line
    ]
    order = ["untrained", "random-shots", "consistency", "ccs", "transfer", "keyword-source", "verdict-target"]
    assert names[:8] == [*order, "keyword-target"]


def test_figures_are_the_ones_of_the_run(results: dict[str, Any]) -> None:
    line = next(line for line in render_table(results, 160).splitlines() if line.startswith("consistency"))
    # (0.861 - 0.612) / (0.934 - 0.612) = 0.773
    assert "0.86 [0.83, 0.90]" in line
    assert "77% [65, 89]" in line


def test_undefined_and_failed_are_neither_zero_nor_left_out(results: dict[str, Any]) -> None:
    second, third = render_table(results, 160).split("fixture/two")[1].split("fixture/three")
    assert "failed" in next(line for line in second.splitlines() if line.startswith("bootstrap"))
    assert "bootstrap failed: it needs 24 texts" in second
    assert "there is no gap to recover" in second
    assert "undefined" in third
    assert "0.00" not in third


def test_not_run_is_told_apart_from_failed(results: dict[str, Any]) -> None:
    for width in (60, 80, 160):
        third = render_table(results, width).split("fixture/three")[1]
        assert "not run" in next(line for line in third.splitlines() if line.startswith("keyword-target"))
        assert "verdict-target, keyword-target: not run (the target has no labels)" in " ".join(third.split())
        assert "failed" not in third


def test_coverage_just_below_one_does_not_read_as_complete(results: dict[str, Any]) -> None:
    results["rows"] = [results["rows"][0] | {"coverage": 0.99996}]
    assert "99.9%" in render_table(results, 160)


def test_what_a_method_warns_of_and_few_groups_stand_below_the_table(results: dict[str, Any]) -> None:
    row = next(row for row in results["rows"] if row["method"] == "ccs")
    row["warnings"] = ["its sign is a guess"]
    for other in results["rows"]:
        if other["target"] == row["target"]:
            other["interval_warning"] = "independent groups: 3 of flagged texts"
    table = render_table(results, 200)
    assert "ccs: its sign is a guess" in table
    assert table.count("independent groups: 3 of flagged texts") == 1


def test_names_cannot_send_commands_to_the_terminal(results: dict[str, Any]) -> None:
    results["rows"][0]["method"] = "red\x1b[31m\nline"
    results["rows"][-1]["target"] = "other\x1b]0;title\x07"
    text = render_table(results, 120)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "red?[31m?line" in text


def test_rows_with_nothing_but_names_and_an_empty_run() -> None:
    assert render_table({}, 80) == "No results yet."
    text = render_table({"rows": [{"target": "t", "method": "m"}, {"target": "t", "method": "transfer"}]}, 80)
    assert "undefined" in text
    assert "not measured" in text

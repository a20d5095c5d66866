"""Pages of sections: tables of figures, numbers and words."""

from __future__ import annotations

import re

from elicit.reports.cells import as_cell, percent, share, signed
from elicit.reports.page import Page, Section, Table, render_page

NO_GAP = {"value": None, "undefined": "there is no gap"}
FIGURE = {"value": 0.8125, "low": 0.75, "high": 0.875}


def page(table: Table, **changed: object) -> str:
    parts = {"facts": [("Model", "m")], "summary": ["found"], "warnings": [], "measured": ["so"], "environment": []}
    held = (
        parts
        | {"kicker": "k", "title": "t", "command": "run it", "sections": [Section("s", ["said"], [], [table])]}
        | changed
    )
    return render_page(Page(**held))  # type: ignore[arg-type]


def test_cells_of_figures_numbers_words_and_nothing() -> None:
    assert (as_cell(FIGURE).text, as_cell(FIGURE).small, as_cell(FIGURE).sort) == ("0.812", "[0.750, 0.875]", "0.8125")
    assert as_cell(NO_GAP).kind == "undefined"
    assert as_cell(NO_GAP).sort == ""  # sorts last, never as 0
    assert (as_cell(1234567).text, as_cell(-0.5).text, as_cell(0.00012).text) == ("1,234,567", "−0.5", "0.00012")
    assert (as_cell(None).text, as_cell(None).sort) == ("–", "")
    assert as_cell("word").kind == "text"
    assert (percent(FIGURE).text, percent(FIGURE, signed=True).text) == ("81%", "+81%")
    assert signed({"value": -0.01, "low": -0.02, "high": 0.0}).text == "−0.010"
    assert (share(1.0).text, share(0.99996).text) == ("100%", "99.9%")


def test_reasons_are_numbered_once_per_table() -> None:
    table = Table(
        "c", ("Name", "Gap"), [("a", NO_GAP), ("b", NO_GAP), ("c", {"value": None, "undefined": "few texts"})]
    )
    text = page(table)
    assert re.findall(r"<small>(note \d)</small>", text) == ["note 1", "note 1", "note 2"]
    assert "Note 1: there is no gap." in text
    assert "Note 2: few texts." in text


def test_columns_of_numbers_begin_with_the_largest_and_words_with_the_first() -> None:
    text = page(Table("c", ("Name", "AUROC", "Word"), [("a", NO_GAP, "x"), ("b", FIGURE, "y")]))
    assert re.findall(r'data-first="(\w+)"', text) == ["ascending", "descending", "ascending"]


def test_warnings_stand_in_a_box_of_their_own_and_their_number_in_the_contents() -> None:
    table = Table("c", ("Name",), [("a",)])
    text = page(table, warnings=["mind <this>"])
    assert 'class="alarms"' in text
    assert "Warnings (1)" in text
    assert "mind &lt;this&gt;" in text
    assert 'class="alarms"' not in page(table)

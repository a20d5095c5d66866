"""The page: whole, self-contained, and inert whatever the data says."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from elicit.domains.domain import SPLITS
from elicit.errors import RunError
from elicit.evaluation.bootstrap import CONFIDENCE, REPLICATES
from elicit.reports import render_report, write_report

VOID = {"meta", "br", "img", "hr", "input", "link"}


class Page(HTMLParser):
    """Start tags with attributes, ids and unclosed elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.crossed: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def policy(page: str) -> str:
    found = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert found
    return html.unescape(found.group(1))


def test_elements_close_and_ids_are_unique(page: str) -> None:
    parsed = Page(page)
    assert not parsed.crossed
    assert not parsed.open
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    # Links and the parts that drawings refer to exist.
    links = [attributes.get("href") or attributes.get("xlink:href") or "" for attributes in parsed.all("a", "use")]
    assert links
    assert {link[1:] for link in links if link} <= set(ids)


def test_markup_in_names_reasons_and_questions_is_inert(results: dict[str, Any]) -> None:
    evil = "<script>alert(1)</script>\"><img src=x onerror='alert(1)'>"
    baseline = Page(render_report(results))
    for held in (*results["targets"], *results["sources"]):
        held.update(question={"text": evil}, licence=evil, notes=evil, duplicates=evil)
    results["targets"][0]["name"] = evil
    for row in results["rows"]:
        row["target"] = evil if row["target"] == "fixture/one" else row["target"]
        row.update(description=evil, warnings=[evil], unscored={evil: 1}, labels_used=evil, calibration=evil)
    results["rows"][0]["method"] = evil
    results["rows"][1]["gap_recovered"] = {"value": None, "undefined": evil}
    results["rows"][2] = {"target": evil, "method": evil, "error": evil}
    results["rows"][3] = {"target": evil, "method": "keyword-target", "skipped": evil}
    results.update(model=evil, command=evil, warnings=[evil], versions={evil: evil}, created=evil)
    text = render_report(results)
    page = Page(text)
    assert len(page.all("script")) == len(baseline.all("script")) == 1
    assert not page.all("img")
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert html.escape("<script>alert(1)</script>") in text


def test_the_policy_allows_this_script_and_nothing_from_outside(page: str) -> None:
    rules = policy(page)
    assert rules.startswith("default-src 'none';")
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert script
    assert style
    for directive, held in (("script-src", script.group(1)), ("style-src-elem", style.group(1))):
        digest = base64.b64encode(hashlib.sha256(held.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in rules
    assert "http:" not in rules
    assert "https:" not in rules
    assert page.count("<style") == 1  # a drawing's own style sheet would be refused


def test_nothing_is_loaded(page: str) -> None:
    parsed = Page(page)
    assert not parsed.all("link", "img", "iframe", "object", "image")
    assert not [attributes for _, attributes in parsed.tags if "src" in attributes]


def test_sections_figures_and_table_headers_are_there_for_everybody(page: str) -> None:
    parsed = Page(page)
    sections = [attributes["id"] for attributes in parsed.all("section")]
    assert sections == ["words", "results", "roc", "measured", "labels", "domains", "warnings", "environment"]
    assert all(attributes.get("scope") in ("col", "row") for attributes in parsed.all("th"))
    figures = parsed.all("svg")
    described = {attributes["id"] for attributes in parsed.all("desc")}
    assert len(figures) == len(described) == 4
    assert {attributes["aria-labelledby"] for attributes in figures if attributes["role"] == "img"} == described
    assert "consistency 0.861 [0.826, 0.896]" in page  # what a description says


def test_rows_say_labels_below_transfer_and_coverage(page: str) -> None:
    ccs = next(row for row in re.findall(r"<tr.*?</tr>", page, re.DOTALL) if 'data-sort="ccs"' in row)
    assert "below transfer" in ccs
    assert "source labels" in ccs
    assert "label-free" in ccs
    assert "96.1%" in ccs
    assert "4 × the text is empty" in ccs


def test_not_run_says_why_without_reading_as_failed(page: str) -> None:
    rows = [row for row in re.findall(r"<tr.*?</tr>", page, re.DOTALL) if "the target has no labels" in row]
    assert len(rows) == 2
    assert all("not run" in row and "failed" not in row for row in rows)


def test_what_the_page_says_of_splits_and_resamples_is_what_the_engine_does() -> None:
    page = render_report({})
    shares = dict(SPLITS)
    assert f"training ({shares['train']:.0%}".replace("%", " %") in page
    assert f"calibration ({shares['calibration']:.0%}".replace("%", " %") in page
    assert f"test texts ({shares['test']:.0%}".replace("%", " %") in page
    assert f"{REPLICATES:,} resamples" in page
    assert f"{CONFIDENCE:.0%} percentile intervals".replace("%", " %") in page


def test_domains_say_rows_duplicates_and_notes(page: str) -> None:
    assert "4210 (17 duplicates left out)" in page
    assert "1248 (1 duplicate left out)" in page
    assert "Made-up notes: words alone carry much of the label." in page


def test_false_positive_rates_that_were_reached_are_in_print_not_only_on_hover(page: str) -> None:
    assert '<td class="number" data-sort="0.0064">0.6% / 4.5%</td>' in page


def test_undefined_sorts_last_and_names_its_reason(page: str) -> None:
    assert re.search(r'class="undefined" data-sort="">undefined <small>note 1</small>', page)
    assert "Note 1: verdict-target is not clearly better than untrained here" in page
    assert 'data-sort="None"' not in page
    assert 'data-sort="nan"' not in page


def test_keys_that_nobody_asked_for_are_not_printed(results: dict[str, Any]) -> None:
    for held in (results, *results["rows"], *results["targets"], *results["sources"]):
        held["texts"] = ["a text of a domain"]
    assert "a text of a domain" not in render_report(results)


@pytest.mark.parametrize(
    "held",
    [
        {},
        {"targets": [{"name": "t"}], "rows": None, "sources": "x", "versions": [], "warnings": None},
        {"rows": [{"target": "t", "method": "m"}]},
        {
            "rows": [
                {"target": "t", "method": "m", "auroc": {"value": 0.7, "low": None, "high": None, "warning": "few"}}
            ]
        },
        {"rows": [{"target": "t", "method": "m", "error": "x", "auroc": {"value": 0.7}}], "targets": [{"name": "u"}]},
    ],
)
def test_runs_that_stopped_half_way(held: dict[str, Any]) -> None:
    page = Page(render_report(held))
    assert not page.crossed
    assert not page.open


def test_a_warning_of_a_figure_reaches_the_list_of_warnings(results: dict[str, Any]) -> None:
    results["rows"][0]["tpr_at_1_fpr"]["warning"] = "40 cleared texts cannot resolve a false-positive rate of 1%"
    assert "<strong>fixture/one:</strong> 40 cleared texts cannot resolve" in render_report(results)


def test_few_groups_reach_the_list_of_warnings_once_for_a_target(results: dict[str, Any]) -> None:
    target = results["rows"][0]["target"]
    for row in results["rows"]:
        if row["target"] == target:
            row["interval_warning"] = "independent groups: 3 of flagged texts"
    assert render_report(results).count("independent groups: 3 of flagged texts") == 1


def test_the_same_results_give_the_same_page(results: dict[str, Any]) -> None:
    assert render_report(results) == render_report(results)


def test_written_whole_or_not_at_all(results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    assert write_report(results, path) == path
    before = path.read_text(encoding="utf-8")
    assert before.rstrip().endswith("</html>")

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("elicit.files.os.replace", full)
    with pytest.raises(RunError, match="no space"):
        write_report(results | {"model": "other"}, path)
    assert path.read_text(encoding="utf-8") == before
    assert list(tmp_path.glob("*.html")) == [path]


def test_what_a_search_says_of_itself_is_shown_and_inert(results: dict[str, Any]) -> None:
    row = next(row for row in results["rows"] if row.get("auroc"))
    row["details"] = {"objective_bits": [0.12, 0.1], "<b>note</b>": "<script>x</script>"}
    page = render_report(results)
    assert "objective bits <b>0.12, 0.1</b>" in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "<script>x" not in page

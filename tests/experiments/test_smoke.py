"""Every registered experiment on the real default model, as small as it goes."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from elicit.reports.charts import pareto
from experiments import EXPERIMENTS, readme
from experiments.elicitation import points
from experiments.experiment import SCHEMA, conduct
from experiments.transfer import OWN, SINGLE
from tests.experiments.conftest import Smoke, finished_units

of_each = pytest.mark.parametrize("name", EXPERIMENTS)


def figures(held: Any) -> Iterator[Mapping[str, Any]]:
    """Every figure in results, however deep."""
    if isinstance(held, Mapping):
        if "value" in held:
            yield held
        for value in held.values():
            yield from figures(value)
    elif isinstance(held, list):
        for value in held:
            yield from figures(value)


@of_each
def test_results_say_what_was_asked_and_how_sure_every_figure_is(smoke: Callable[[str], Smoke], name: str) -> None:
    run = smoke(name)
    results = run.results
    assert list(results) == ["schema", "experiment", "preset", "command", "calls", "rows", "summary", "warnings"]
    assert (results["schema"], results["experiment"], results["preset"]) == (SCHEMA, name, "smoke")
    assert results["command"] == f"elicit-experiment {name} --preset smoke --out {run.out}"
    assert results["rows"]
    assert results["summary"]
    found = list(figures(results["rows"]))
    assert found
    for figure in found:
        if figure["value"] is None:
            assert figure["undefined"]
        elif "low" in figure:
            ends = [end for end in (figure["low"], figure["value"], figure["high"]) if end is not None]
            assert ends == sorted(ends)
    measured = [row for row in results["rows"] if "n" in row]
    assert measured
    # A model may write no verdict at all; then nothing is measured, and the row says so.
    assert all((0 < row["coverage"] <= 1 and row["n"] > 0) or row["n"] == row["coverage"] == 0 for row in measured)


@of_each
def test_the_report_holds_every_figure_warning_and_the_command(smoke: Callable[[str], Smoke], name: str) -> None:
    run = smoke(name)
    page = (run.out / "report.html").read_text(encoding="utf-8")
    drawings = sorted((run.out / "figures").glob("*.svg"))
    assert drawings
    assert page.count("<svg ") == len(drawings)
    for path in drawings:
        described = ElementTree.parse(path).getroot().find("{*}desc")
        assert described is not None
        assert described.text
    assert f"Warnings ({len(run.results['warnings'])})" in page
    assert f"--preset smoke --out {run.out}" in page
    assert "http:" not in page.split("</head>")[0]


@of_each
def test_the_readme_could_show_it(smoke: Callable[[str], Smoke], name: str) -> None:
    run = smoke(name)
    for drawing in readme.DRAWINGS.get(name, ()):
        assert (run.out / "figures" / drawing).is_file()
    if name in readme.TABLES:
        blocks = [block.splitlines() for block in readme.TABLES[name](run.results).split("\n\n")]
        tables = [block for block in blocks if block[0].startswith("|")]
        said = [line.removeprefix("* ") for block in blocks if block not in tables for line in block]
        assert set(said) <= set(run.results["summary"])
        assert tables
        for table in tables:
            assert len({line.count("|") for line in table}) == 1
            assert any("[" in line for line in table[2:])


@of_each
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
def test_a_browser_opens_the_page_without_a_complaint(smoke: Callable[[str], Smoke], name: str, tmp_path: Path) -> None:
    run = smoke(name)
    # What the page's policy refuses, a request to outside above all, is an error on the console.
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--enable-logging=stderr", "--dump-dom", (run.out / "report.html").as_uri()]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in seen.stderr
    assert seen.stdout.count("<svg ") == len(list((run.out / "figures").glob("*.svg")))


@of_each
def test_what_was_done_before_an_interruption_is_not_done_again(smoke: Callable[[str], Smoke], name: str) -> None:
    run = smoke(name)
    assert run.before
    now = finished_units(run.out)
    assert {path: now[path] for path in run.before} == run.before


@of_each
def test_asked_again_it_computes_nothing_and_says_the_same(
    smoke: Callable[[str], Smoke], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished experiment loaded a model")

    run = smoke(name)
    held = {path: path.read_bytes() for path in (run.out / "results.json", run.out / "report.html")}
    units = finished_units(run.out)
    monkeypatch.setattr("elicit.language_models.local.load_model", refuse)
    with run.lock:
        conduct(name, "smoke", run.out, lambda _: None)
    assert {path: path.read_bytes() for path in held} == held
    assert finished_units(run.out) == units


def test_the_smoke_rows_hold_both_starts_and_references_once(smoke: Callable[[str], Smoke]) -> None:
    run = smoke("elicitation")
    rows = run.results["rows"]
    assert sorted(row["start"] for row in rows if row["method"] == "ccs") == ["source-trained", "untrained"]
    assert [row["start"] for row in rows if row["method"] == "untrained"] == [""]
    labels = {(row["start"], row["method"]): row["labels_used"] for row in rows}
    assert labels["source-trained", "ccs"] == "source"
    assert labels["untrained", "ccs"] == "none"
    by_method = {row["method"]: row for row in rows if row["start"] != "untrained"}
    gain = by_method["ccs"]["auroc"]["value"] - by_method["transfer"]["auroc"]["value"]
    assert by_method["ccs"]["versus_transfer"]["value"] == pytest.approx(gain, abs=2e-6)
    # Both starts read all texts themselves, whatever was read before.
    assert all(row["tokens"] > 0 and row["seconds"] > 0 for row in rows if not row["method"].startswith("keyword"))
    with run.lock:
        assert not list(run.out.rglob("readings.sqlite"))
    front = pareto(points(rows, "vader/tweets"))
    assert front
    assert [point.y for point in front] == sorted(point.y for point in front)


def test_the_smoke_grid_is_whole_and_its_corner_is_the_untrained_model(smoke: Callable[[str], Smoke]) -> None:
    run = smoke("scaling")
    cells = [row for row in run.results["rows"] if row["kind"] == "cell"]
    assert len(cells) == 2 * 2
    assert (run.out / "scores" / "vader" / "nyt" / "untrained.jsonl").is_file()
    trained = {path.name for path in (run.out / "monitors").iterdir()}
    assert trained == {"adjacent-16-0", "vader-nyt-adjacent-0-target-8-0", "vader-nyt-adjacent-16-target-8-0"}
    assert all(row["versus_no_adjacent"]["value"] is None for row in cells if not row["adjacent_labels"])


@pytest.mark.parametrize("name", ["prompt-change", "instruction"])
def test_each_plan_has_a_suite_and_a_row_per_target(smoke: Callable[[str], Smoke], name: str) -> None:
    rows = smoke(name).results["rows"]
    suite = [row for row in rows if row["kind"] == "suite"]
    assert suite[0]["plan"] == "untrained"
    assert suite[0]["loss_growth"]["value"] is None
    for row in suite[2:]:
        assert set(row["following"]) == set(row["following_versus_deaf"]) == {"inverted", "unrelated"}
        assert 0 <= row["following"]["inverted"]["value"] <= 1
        assert {"trained", "reworded", "inverted"} <= set(row["accuracy"])
    transfer = {(row["plan"], row["target"]) for row in rows if row["kind"] == "transfer"}
    assert transfer == {(row["plan"], target) for row in suite for target in ("vader/nyt",)}


def test_the_smoke_matrix_is_whole_and_paired(smoke: Callable[[str], Smoke]) -> None:
    rows = smoke("transfer").results["rows"]
    domains = {"vader/amazon", "vader/tweets", "facts/countries"}
    cells = {(row["sources"][0], row["target"]) for row in rows if row["kind"] in (OWN, SINGLE)}
    assert cells == {(source, target) for source in domains for target in domains}
    for row in rows:
        if row["kind"] == OWN:
            assert row["gap_recovered"]["value"] is None
        if row["kind"] == SINGLE:
            gain = row["auroc"]["value"] - next(
                r["auroc"]["value"] for r in rows if r["kind"] == "untrained" and r["target"] == row["target"]
            )
            assert row["versus_untrained"]["value"] == pytest.approx(gain, abs=2e-6)
    assert sum(row["kind"] == "distance" for row in rows) == 6
    (mean,) = [row for row in rows if row["kind"] == "mean" and row["of"] == SINGLE]
    gains = [row["versus_untrained"]["value"] for row in rows if row["kind"] == SINGLE]
    assert mean["versus_untrained"]["value"] == pytest.approx(sum(gains) / len(gains), abs=2e-6)

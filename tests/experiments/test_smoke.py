"""Every registered experiment on the real default model, as small as it goes."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments import EXPERIMENTS, readme
from experiments.experiment import SCHEMA, conduct
from tests.experiments.conftest import Smoke, finished_units

pytestmark = pytest.mark.parametrize("name", EXPERIMENTS)


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


def test_results_say_what_was_asked_and_how_sure_every_figure_is(smoke: Callable[[str], Smoke], name: str) -> None:
    run = smoke(name)
    results = run.results
    assert list(results) == ["schema", "experiment", "preset", "command", "rows", "summary", "warnings"]
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


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
def test_a_browser_opens_the_page_without_a_complaint(smoke: Callable[[str], Smoke], name: str, tmp_path: Path) -> None:
    run = smoke(name)
    # What the page's policy refuses, a request to outside above all, is an error on the console.
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--enable-logging=stderr", "--dump-dom", (run.out / "report.html").as_uri()]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in seen.stderr
    assert seen.stdout.count("<svg ") == len(list((run.out / "figures").glob("*.svg")))


def test_what_was_done_before_an_interruption_is_not_done_again(smoke: Callable[[str], Smoke], name: str) -> None:
    run = smoke(name)
    assert run.before
    now = finished_units(run.out)
    assert {path: now[path] for path in run.before} == run.before


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

"""Figures: well-formed, the same every time, and harmless whatever the names are."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from elicit.errors import RunError
from elicit.reports import draw_figures, write_figures
from elicit.reports.figures import _line_styles


def text_of(svg: str) -> str:
    return " ".join(
        "".join(part.itertext()) for part in ElementTree.fromstring(svg).iter() if part.tag.endswith("text")
    )


def test_each_figure_is_drawn_for_the_targets_that_have_it(results: dict[str, Any], tmp_path: Path) -> None:
    paths = write_figures(results, tmp_path / "figures")
    # fixture/three has no labels: no figure of its own; fixture/two has no gap, which leaves one panel.
    assert [path.name for path in paths] == [
        "auroc-01-fixture-one.svg",
        "auroc-02-fixture-two.svg",
        "gap-recovered.svg",
        "roc.svg",
    ]
    assert all(path.read_text().startswith("<svg") for path in paths)
    gap = next(drawing for drawing in draw_figures(results) if drawing.kind == "gap")
    assert "fixture/one" in text_of(gap.svg)
    assert "fixture/two" not in text_of(gap.svg)


def test_figures_say_their_numbers_to_those_who_see_and_who_do_not(results: dict[str, Any]) -> None:
    first, second = draw_figures(results)[:2]
    for said in (text_of(first.svg), first.alt):
        assert "0.861 [0.826, 0.896]" in said
    assert "failed" in text_of(second.svg)


def test_a_method_that_was_not_run_keeps_its_place_without_a_mark(results: dict[str, Any]) -> None:
    row = next(row for row in results["rows"] if row["method"] == "keyword-target")
    row["skipped"] = "the target has no labels"
    first = draw_figures(results)[0]
    assert "not run" in text_of(first.svg)
    assert "keyword-target" in text_of(first.svg)
    assert "0.842" not in text_of(first.svg)


def test_each_file_is_written_whole_or_not_at_all(
    results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in write_figures(results, tmp_path)}

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("elicit.files.os.replace", full)
    results["rows"][0]["auroc"]["value"] = 0.5
    with pytest.raises(RunError, match="no space"):
        write_figures(results, tmp_path)
    assert {path: path.read_bytes() for path in before} == before


def test_the_same_results_give_the_same_bytes_whatever_the_users_style(results: dict[str, Any]) -> None:
    before = [drawing.svg for drawing in draw_figures(results)]
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "black"}):
        held = dict(matplotlib.rcParams)
        assert [drawing.svg for drawing in draw_figures(results)] == before
        assert dict(matplotlib.rcParams) == held
    assert "<dc:date>" not in "".join(before)


def test_drawing_does_not_import_pyplot() -> None:
    code = "import sys, elicit.reports; assert 'matplotlib.pyplot' not in sys.modules"
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": root})


def test_names_are_neither_markup_nor_mathematics_nor_paths(results: dict[str, Any], tmp_path: Path) -> None:
    name = "../../<script>alert(1)</script> $x^$"
    for held in (*results["targets"], *results["rows"]):
        if name_key := next((key for key in ("target", "name") if held.get(key) == "fixture/one"), None):
            held[name_key] = name
    results["rows"][0]["method"] = "$\\frac{"
    paths = write_figures(results, tmp_path)
    assert {path.parent for path in paths} == {tmp_path}
    for path in paths:
        root = ElementTree.fromstring(path.read_text())
        assert not [part for part in root.iter() if part.tag.endswith("script")]
    assert name in text_of(next(path for path in paths if path.name == "roc.svg").read_text())


def test_a_gap_of_any_size_stays_inside_the_figure(results: dict[str, Any]) -> None:
    for row in results["rows"]:
        if row["method"] in ("ccs", "consistency"):
            row["gap_recovered"] = {"value": 40.0, "low": -300.0, "high": 500.0}
    gap = next(drawing for drawing in draw_figures(results) if drawing.kind == "gap")
    assert "4000% [-30000%, 50000%]" in text_of(gap.svg)
    # Tick labels stop at 200 %: every per cent sign beyond it belongs to a figure in the margin.
    assert "250%" not in text_of(gap.svg)


def test_curves_can_be_told_apart_without_colour() -> None:
    names = [f"method-{at}" for at in range(28)]
    styles = _line_styles(["untrained", *names, "transfer"])
    dashes = [str(styles[name]["linestyle"]) for name in names]
    assert all(len(set(dashes[at : at + 4])) == 4 for at in range(25))
    assert len({(styles[name]["color"], dash) for name, dash in zip(names, dashes, strict=True)}) == 28


def test_nothing_to_draw() -> None:
    assert draw_figures({}) == []
    assert draw_figures({"rows": [{"target": "t", "method": "m"}, {"target": "t", "method": "e", "error": "x"}]}) == []
    bare = {"target": "t", "method": "transfer", "auroc": {"value": 0.7}, "curve": {"fpr": [0, 1], "tpr": [0]}}
    assert [drawing.kind for drawing in draw_figures({"rows": [bare]})] == ["auroc"]

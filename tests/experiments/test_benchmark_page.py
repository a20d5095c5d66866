"""The page of a benchmark: what becomes a table, and the command that makes it again."""

from __future__ import annotations

import html
import json
import os
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from elicit.files import read_json, write_json
from experiments.cli import Benchmark, Benchmarks, main
from experiments.report import _table
from experiments.resume import on_this_machine

RESULTS = {
    "schema": 1,
    "benchmark": "toy",
    "options": {"model": "m<b>"},
    "texts": 60,
    "rows": [
        {
            "who": "a",
            "speed": 2.5,
            "right": {str(i): 1 for i in range(40)},
            "auroc": {"value": 0.5, "low": 0.4, "high": 0.6},
        },
        {"who": "b", "loss": [1, 2], "at": {"even": 3}},
    ],
}


def test_rows_become_columns_and_single_texts_stay_out() -> None:
    table = _table("rows", RESULTS["rows"])
    assert table.columns == ["Who", "Speed", "Auroc", "Loss", "At, even"]
    assert table.rows == [["a", 2.5, {"value": 0.5, "low": 0.4, "high": 0.6}, None, None], ["b", None, None, "1, 2", 3]]
    by_name = _table("processes", {"1": {"speed": 2}, "2": {"speed": 3}})
    assert (by_name.columns, by_name.rows) == (["", "Speed"], [["1", 2], ["2", 3]])
    assert _table("seconds_alone", {"a": 1.5}).rows == [("a", 1.5)]


@pytest.fixture
def toy() -> click.Group:
    group = Benchmarks("benchmark")

    @group.command()
    @click.option("--domain", multiple=True)
    @click.option("--size", default=3)
    @click.option("--out", type=click.Path(path_type=Path))
    def toy(out: Path, **_: Any) -> None:
        """How quick is it?"""
        write_json(out / "results.json", RESULTS)

    assert isinstance(toy, Benchmark)
    return click.Group("main", commands=[group])


def test_the_page_names_the_command_as_it_was_given(toy: click.Group, tmp_path: Path) -> None:
    out = tmp_path / "a folder"
    out.mkdir()
    said = CliRunner().invoke(
        toy, ["benchmark", "toy", "--domain", "a", "--domain", "b", "--out", str(out)], catch_exceptions=False
    )
    assert f"report: {out / 'report.html'}" in said.output
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"elicit-experiment benchmark toy --domain a --domain b --out '{out}'" in html.unescape(page)
    assert "How quick is it?" in page
    assert "m&lt;b&gt;" in page
    assert "In plain words" not in page
    held = json.loads((out / "results.json").read_text())["measured_on"]
    assert {part: on["cores"] for part, on in held.items()} == dict.fromkeys(("texts", "rows"), os.cpu_count())


def test_each_part_is_of_the_machine_that_measured_it_even_where_the_next_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, {"benchmark": "toy", "texts": 60, "measured_on": {"texts": "another"}})

    def interrupted() -> None:
        with on_this_machine(path):
            write_json(path, read_json(path) | {"speed": 3})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    held = read_json(path)
    assert held["measured_on"]["texts"] == "another"
    assert "code" in held["measured_on"]["speed"]["versions"]
    with on_this_machine(path):  # in which nothing is measured
        pass
    assert read_json(path) == held
    with on_this_machine(tmp_path / "none.json"):
        pass
    assert not (tmp_path / "none.json").exists()


def test_distractors_become_a_page_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(seeds: int, out: Path, say: Any) -> None:
        write_json(out / "results.json", RESULTS | {"benchmark": "distractors", "options": {"seeds": seeds}})

    monkeypatch.setattr("experiments.distractors.run_distractors", measured)
    CliRunner().invoke(main, ["distractors", "--seeds", "2", "--out", str(tmp_path)], catch_exceptions=False)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"elicit-experiment distractors --seeds 2 --out {tmp_path}" in page
    assert "elicit-experiment benchmark" not in page

"""The README's tables are what the kept results make of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elicit.errors import RunError
from experiments import readme


def test_the_readme_holds_what_was_measured() -> None:
    text = (readme.ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.written(text) == text
    assert all(f"<!-- measured: {path.stem} -->" in text for path in readme.MEASURED.glob("*.json"))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"value": 0.931, "low": 0.889, "high": 1.0}, ".93 [.89, 1.00]"),
        ({"value": -0.5, "low": -10.25, "high": 10.25}, "-.50 [-10.25, 10.25]"),
        ({"value": None, "undefined": "no text"}, "–"),
    ],
)
def test_a_figure_in_few_characters(entry: dict[str, object], said: str) -> None:
    assert readme.figure(entry) == said


def test_results_of_a_smaller_preset_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"experiment": "summaries", "preset": "smoke"}))
    with pytest.raises(RunError, match="smoke results of summaries"):
        readme.keep(tmp_path)


def test_results_of_other_sizes_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"experiment": "summaries", "preset": "default"}))
    (tmp_path / "manifest.json").write_text(json.dumps({"sizes": {"source": "vader/amazon"}, "versions": {}}))
    with pytest.raises(RunError, match="its source is not that of the default preset"):
        readme.keep(tmp_path)

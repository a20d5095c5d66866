"""The README's tables are what the kept results make of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elicit.errors import RunError
from experiments import readme, readme_benchmarks


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


BENCHMARK = {
    "schema": 1,
    "benchmark": "search",
    "options": {"model": "smollm2-135m-instruct"},
    "rows": [
        {"domain": "d", "method": method, "seed": seed, "right": {str(i): int(i < right) for i in range(20)}}
        for method, right in (("icm", 10), ("consistency", 18))
        for seed in (0, 1)
    ],
    "difference": [{"domain": "d", "other": "icm", "texts": 20, "less": {"value": 0.4, "low": 0.2, "high": 0.5}}],
    "measured_on": [{"processor": "Abacus", "cores": 2, "versions": {"code": "a"}}],
}


def test_results_of_a_benchmark_are_kept_by_model_and_without_single_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readme, "MEASURED", tmp_path / "measured")
    readme.MEASURED.mkdir()
    folder = tmp_path / "run"
    folder.mkdir()
    for model in ("smollm2-135m-instruct", "gemma-3-270m"):
        (folder / "results.json").write_text(json.dumps(BENCHMARK | {"options": {"model": model}}))
        assert readme.keep(folder) == "benchmark-search"
    held = json.loads((readme.MEASURED / "benchmark-search.json").read_text())
    assert list(held["by_model"]) == ["smollm2-135m-instruct", "gemma-3-270m"]
    assert [row["right_share"] for row in held["by_model"]["gemma-3-270m"]["rows"]] == [0.5, 0.5, 0.9, 0.9]
    assert "right" not in held["by_model"]["gemma-3-270m"]["rows"][0]
    (folder / "results.json").write_text(json.dumps(BENCHMARK | {"benchmark": "toy"}))
    with pytest.raises(RunError, match="no benchmark 'toy'"):
        readme.keep(folder)


def test_right_labels_and_machines_of_a_benchmark() -> None:
    results = {"by_model": {"m": readme_benchmarks.without_texts(BENCHMARK)}}
    shown = readme.TABLES["benchmark-search"](results)
    assert "| `icm` | 50% (.40 [.20, .50]) |" in shown
    assert "| `consistency` | 90% |" in shown
    assert readme.told(results, "f.json") == ["Measured on 2 cores (Abacus)."]

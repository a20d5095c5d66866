"""Tables of the READMEs are what the kept results make of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from elicit.errors import RunError
from experiments import readme, readme_benchmarks


def test_the_pages_hold_what_was_measured() -> None:
    pages = [page.read_text(encoding="utf-8") for page in readme.PAGES]
    assert [readme.written(page) for page in pages] == pages
    assert all(f"<!-- measured: {path.stem} -->" in "".join(pages) for path in readme.MEASURED.glob("*.json"))
    shown = {
        (at.parent / path).resolve()
        for at, page in zip(readme.PAGES, pages, strict=True)
        for path in re.findall(r"!\[[^]]+\]\((.+?)\)", page)
    }
    assert shown == set(readme.FIGURES.iterdir())


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


MACHINE = {"processor": "Abacus", "cores": 2, "versions": {"code": "a"}}
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
    "cost": [
        {"texts": 64, "consistency_tokens_per_label": 400, "consistency_passes": 5.3, "icm_tokens_per_label": 60_000,
         "icm_in_consistencies": 150.0},
        {"texts": 1024, "consistency_tokens_per_label": 401, "consistency_passes": 5.4},
    ],
    "speed": {"texts": 1000, "mean_words": 26.4, "seconds": 276.4, "threads": 2, "peak_gigabytes": 1.72},
    "balance": [
        {"domain": "d", "flagged_share": 0.5, "texts": 200, "seeds": 3, "less_even": {"value": None, "undefined": "even"}},
        {"domain": "d", "flagged_share": 0.05, "texts": 200, "seeds": 3,
         "less_even": {"value": 0.001, "low": -0.002, "high": 0.0033}},
    ],
    "untrained": [
        {"domain": "e", "texts": 200, "n": 249, "seeds": 3, "zero_shot": {"value": 0.534, "low": 0.478, "high": 0.594},
         "consistency": {"value": 0.641, "low": 0.56, "high": 0.72},
         "less_zero_shot": {"value": 0.107, "low": 0.032, "high": 0.195}},
    ],
    "measured_on": {"rows": MACHINE},
}  # fmt: skip


def kept_by(*folders: dict[str, Any], at: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is kept of results, one after the other."""
    monkeypatch.setattr(readme, "MEASURED", at / "measured")
    readme.MEASURED.mkdir(exist_ok=True)
    name = ""
    for results in folders:
        (at / "results.json").write_text(json.dumps(results))
        name = readme.keep(at)
    return json.loads((readme.MEASURED / f"{name}.json").read_text())


def test_results_of_a_benchmark_are_kept_by_model_and_without_single_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = BENCHMARK | {"options": {"model": "gemma-3-270m"}, "difference": []}
    held = kept_by(other, BENCHMARK, at=tmp_path, monkeypatch=monkeypatch)["by_model"]
    assert list(held) == ["gemma-3-270m", "smollm2-135m-instruct"]
    assert [row["right_share"] for row in held["gemma-3-270m"]["rows"]] == [0.5, 0.5, 0.9, 0.9]
    assert "right" not in held["gemma-3-270m"]["rows"][0]
    assert "(.40 [.20, .50])" in readme.TABLES["benchmark-search"]({"by_model": held})  # of the default model
    for wrong, said in (({"benchmark": "toy"}, "the benchmark 'toy'"), ({"unfinished": True}, "was interrupted")):
        with pytest.raises(RunError, match=said):
            kept_by(BENCHMARK | wrong, at=tmp_path, monkeypatch=monkeypatch)


def test_parts_that_were_measured_in_two_folders_are_kept_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"schema": 1, "benchmark": "training", "options": {"model": "m", "texts": 9, "threads": 2}}
    speed = asked | {"speed": [{"who": "elicit"}], "measured_on": {"speed": MACHINE}}
    other = MACHINE | {"processor": "Brain"}
    transfer = asked | {"transfer": {"seeds": 3}, "measured_on": {"transfer": other}}
    held = kept_by(speed, transfer, at=tmp_path, monkeypatch=monkeypatch)["by_model"]["m"]
    assert {"speed", "transfer"} <= set(held)
    assert {part: on["processor"] for part, on in held["measured_on"].items()} == {
        "speed": "Abacus",
        "transfer": "Brain",
    }
    changed = speed | {"options": asked["options"] | {"threads": 4}}
    assert "transfer" not in kept_by(changed, at=tmp_path, monkeypatch=monkeypatch)["by_model"]["m"]


def test_what_a_search_costs_and_finds() -> None:
    results = {"by_model": {"m": readme_benchmarks.without_texts(BENCHMARK)}}
    shown = readme.TABLES["benchmark-search"](results)
    assert "| `icm` | 50% (.40 [.20, .50]) |" in shown
    assert "| `consistency` | 90% |" in shown
    assert "For 64 texts `consistency` sends 400 tokens per label, 5.3 times" in shown
    assert "60,000 (counted on made-up readings), 150 times as many" in shown
    assert "From 64 to 1,024 texts `consistency` reads 5.3 to 5.4 times" in shown
    assert "1,000 texts of 26 words takes 276 s on 2 threads, and 1.7 GB" in shown
    assert "With 5% of 200 texts of d flagged" in shown
    assert "changes by .001 [-.002, .003] (3 seeds)" in shown
    assert shown.count("flagged in place") == 1
    assert "| e | 200, 249 | .53 [.48, .59] | .64 [.56, .72] | .107 [.032, .195] |" in shown
    assert readme.told(results, "f.json") == ["Measured on 2 cores (Abacus)."]
    assert readme.TABLES["benchmark-search"]({"by_model": {"m": {"cost": BENCHMARK["cost"]}}}).startswith(
        "* For 64 texts"
    )


def test_what_probes_take_and_find() -> None:
    rows = [
        {"probe": "ccs", "who": "probes", "layers": 32, "seconds_per_layer": 0.5},
        {"probe": "vinc", "who": "probes", "layers": 32, "seconds_per_layer": 0.02},
        {"probe": "ccs", "who": "elk", "layers": 2, "seconds_per_layer": 11.0, "probes_is_times_faster": 22.0},
    ]
    found = {"texts": 1000, "features": 4096, "seeds": 20, "against_elk": rows}
    found |= {
        "seconds_30_layers": {"ccs": 9.4, "pca": 0.2, "together": 9.6},
        "planted_up_to_sign": {"ccs": 0.98, "pca": 0.5},
    }
    said = readme_benchmarks.probes({"by_model": {"": found}})
    assert "| `ccs` | 0.500 s, 32 layers | 11.00 s (22.0 times slower, 2 layers) |" in said
    assert "| `vinc` | 0.020 s, 32 layers | – |" in said
    assert (
        "All 2 probes on 1,000 pairs and 30 layers of width 576 take 10 s on one thread, of which ccs takes 9." in said
    )
    assert "20 seeds and of label-free probes up to sign: ccs .98, pca .50." in said


def test_ratios_of_the_other_benchmarks_by_hand() -> None:
    def shown(name: str, results: dict[str, Any], model: str = "smollm2-135m-instruct") -> str:
        return readme.TABLES[f"benchmark-{name}"]({"by_model": {model: results}})

    def row(work: str, who: str, speed: float, texts: int = 500, **more: float) -> dict[str, Any]:
        return {"work": work, "who": who, "texts": texts, "texts_per_second": speed, **more}

    plain = "transformers, batch 1"
    engine = {
        "rows": [
            row("verdicts", "elicit", 80, share_of_floor=0.614),
            row("verdicts", plain, 16, 64),
            row("verdicts", "lm-eval, batch 16", 20),
            row("contrast pairs, all layers", "elicit", 60, 64, memory_in_weights=1.31),
            row("contrast pairs, all layers", plain, 8, 64, memory_in_weights=1.67),
            row("growth, 250 texts", "elicit", 66, 250, extra_gigabytes=0.11),
            row("growth, 4000 texts", "elicit", 79, 4000, extra_gigabytes=0.21),
            row("warm cache", "elicit", 11890.4),
        ],
        "threads": 2, "dtype": "torch.bfloat16", "mean_text_tokens": 23.4,
        "spearman": {"as it came": {"with float32": 0.995}},
    }  # fmt: skip
    said = shown("engine", engine)
    assert (
        "| verdicts (500 texts) | 80.0 texts/s | 16.0 (5.0 times slower, 64 texts) | 20.0 (4.0 times slower) |" in said
    )
    assert "| contrast pairs, all layers (64 texts) | 60.0 pairs/s | 8.0 (7.5 times slower) | – |" in said
    assert "61% of the time" in said
    assert "from 0.11 to 0.21 GB" in said
    assert "11,890 texts/s" in said
    assert "0.9950 for the model as it came" in said

    speed = [
        {"who": "elicit", "tokens_per_second": 600.0, "extra_gigabytes": 3.36},
        {"who": "trl", "tokens_per_second": 200.0, "extra_gigabytes": 8.4},
    ]
    carried = {
        "texts": 1000,
        "seeds": 3,
        "seconds": [416.2, 259.7],
        "auroc": {"d": {"value": 0.9, "low": 0.8, "high": 1}},
    }
    training = {"options": {"threads": 2}, "speed": speed, "transfer": carried}
    said = shown("training", training, "gemma-3-270m")
    assert "| Gemma-3-270m | 600 tokens/s, 3.4 GB beyond the weights | 200 (3.0 times slower), 8.4 GB |" in said
    assert "AUROC .90 [.80, 1.00] on d. One training took 260 to 416 s on 2 threads" in said

    tried = [
        {"texts": texts, "epochs": epochs, "learning_rate": 1e-3, "rank": 16, "auroc": auroc, "loss": 0.5}
        for texts, epochs, auroc in ((800, 2.0, 0.9731), (320, 1.0, None))
    ]
    assert "| 0.001, 16 | .973 (.500) | – (.500) |" in shown("training/sweep", {"sweep": tried})

    work = {"texts_per_second": {"here": 40.0, "served": 10.0}, "elicit_is_times_faster": 4.0}
    assert "| verdicts | 40.0 texts/s | 10.0 (4.0 times slower) |" in shown(
        "served", {"dtype_here": "torch.bfloat16", "work": {"verdicts": work}}
    )
    counted = {"1": {"texts": 256, "verdicts": {}}, "2": {"texts": 256, "verdicts": {"times_faster_than_one": 1.8}}}
    assert "| 2 | 1.80 |" in shown("processes", {"processes": counted})
    found = shown("peers", {"rows": [{"peer": "elk", "work": "ccs", "times": 28.04}]})
    assert "choose layer and sign without labels | ccs: 28.0 times |" in found

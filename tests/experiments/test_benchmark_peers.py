"""The table of peers, from results as the benchmarks write them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import experiments.benchmark_peers as peers
from elicit.errors import RunError
from experiments.cli import main

ENGINE = {
    "rows": [
        {"work": "verdicts", "who": "elicit", "texts_per_second": 40.0},
        {"work": "verdicts", "who": "lm-eval, batch 16", "texts_per_second": 12.5},
        {"work": "warm cache", "who": "elicit", "texts_per_second": 9000.0},
    ]
}
TRAINING = {
    "speed": [
        {"who": "elicit", "tokens_per_second": 700.0, "extra_gigabytes": 2.0},
        {"who": "trl", "tokens_per_second": 350.0, "extra_gigabytes": 5.0},
    ]
}
PROBES = {
    "against_elk": [
        {"probe": "ccs", "who": "probes", "seconds_per_layer": 0.5},
        {"probe": "vinc", "who": "probes", "seconds_per_layer": 0.25},
        {"probe": "ccs", "who": "elk", "seconds_per_layer": 40.0},
    ]
}
SEARCH = {
    "cost": [
        {
            "texts": 64,
            "consistency_tokens_per_label": 400,
            "icm_tokens_per_label": 60_000,
            "icm_in_consistencies": 150.0,
        },
        {"texts": 1024, "consistency_tokens_per_label": 401},
    ]
}
ALL = {"engine": ENGINE, "training": TRAINING, "probes": PROBES, "search": SEARCH}


def test_ratios_by_hand() -> None:
    rows = peers.comparisons(ALL)
    assert {(row["peer"], row["work"]): row["times"] for row in rows} == {
        ("lm-eval, batch 16", "verdicts"): 3.2,
        ("trl", "training, speed"): 2.0,
        ("trl", "training, memory"): 2.5,
        ("elk", "ccs"): 80.0,
        ("icm", "labels of 64 texts"): 150.0,
    }
    assert all(len(line) < 120 for line in peers.table(rows))


def test_a_benchmark_that_ended_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(peers, "installed", lambda _: None)

    def stands_in(name: str, fails: bool = False):
        def run(*arguments) -> None:
            folder = next(argument for argument in arguments if isinstance(argument, Path))
            calls.append(name)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "results.json").write_text(json.dumps(ALL[name]))
            if fails:
                raise KeyboardInterrupt

        monkeypatch.setattr(peers, f"benchmark_{name}", run)

    for name in ALL:
        stands_in(name, fails=name == "probes")
    with pytest.raises(KeyboardInterrupt):
        peers.benchmark_peers("m", tmp_path, lambda _: None)
    stands_in("probes")
    said: list[str] = []
    peers.benchmark_peers("m", tmp_path, said.append)
    assert calls == ["training", "engine", "probes", "probes", "search"]
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 5
    assert any("80.0 times" in line for line in said)
    monkeypatch.setattr(peers, "installed", lambda peer: "1.0" if peer == "trl" else None)
    peers.benchmark_peers("m", tmp_path, lambda _: None)
    assert calls[5:] == ["training"]  # what its peer, which is installed now, is measured with
    assert json.loads((tmp_path / "results.json").read_text())["peers"] == {"trl": "1.0"}
    with pytest.raises(RunError, match="was measured with model 'm', and 'other' is asked for"):
        peers.benchmark_peers("other", tmp_path, lambda _: None)


def test_a_folder_without_an_adapter_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["benchmark", "engine", "--adapter", str(tmp_path), "--out", str(tmp_path / "o")])
    assert result.exit_code == 2
    assert "adapter_config.json" in result.output
    assert not (tmp_path / "o").exists()


def test_the_adapter_of_a_monitor_is_found_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Path] = []
    monkeypatch.setattr(
        "experiments.benchmark_engine.benchmark_engine", lambda _model, adapter, *_, say: given.append(adapter)
    )
    monkeypatch.setattr("experiments.report.write_benchmark_page", lambda folder, *_: folder)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    for folder in (tmp_path, tmp_path / "adapter"):
        CliRunner().invoke(
            main, ["benchmark", "engine", "--adapter", str(folder), "--out", "o"], catch_exceptions=False
        )
    assert given == [tmp_path / "adapter"] * 2

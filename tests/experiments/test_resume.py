"""Results of benchmarks: continued by the same command, refused to another, compared with what is comparable."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from elicit.domains import Question, Row, make_domain
from elicit.errors import RunError
from elicit.files import write_json
from experiments.benchmark_processes import difference
from experiments.benchmark_search import benchmark_search
from experiments.benchmark_training import benchmark_training
from experiments.resume import resume


def test_the_same_options_continue_and_others_are_refused(tmp_path: Path) -> None:
    path, options = tmp_path / "results.json", {"model": "m", "domains": ("a", "b")}
    new = resume(path, "mine", options)
    assert new == {"schema": 1, "benchmark": "mine", "options": {"model": "m", "domains": ["a", "b"]}}
    write_json(path, new | {"rows": [1]})
    assert resume(path, "mine", options)["rows"] == [1]
    with pytest.raises(RunError, match=r"with domains \['a', 'b'\], and \['a'\] is asked for; choose another --out"):
        resume(path, "mine", options | {"domains": ("a",)})
    with pytest.raises(RunError, match=r"holds results of mine, not of yours; choose another --out"):
        resume(path, "yours")
    write_json(path, {"schema": 1, "rows": []})
    with pytest.raises(RunError, match="results of something else"):
        resume(path, "mine")


def test_benchmarks_refuse_another_model_before_they_load_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elicit.language_models.local.load_model", None)
    domain = make_domain("d", Question("Is it?"), [Row(str(i), f"text {i}", i % 2) for i in range(8)])
    monkeypatch.setattr("experiments.benchmark_search.load_domain", lambda _: domain)
    options = {"model": "m", "adapter": None, "domains": {"d": domain.fingerprint()}, "pool": 8, "texts": 8}
    options["threads"] = torch.get_num_threads()
    write_json(tmp_path / "results.json", {"schema": 1, "benchmark": "search", "options": options})
    with pytest.raises(RunError, match="with model 'm', and 'other'"):
        benchmark_search("other", None, ["d"], 8, 1, tmp_path, print)
    with pytest.raises(RunError, match="with pool 8, and 16"):
        benchmark_search("m", None, ["d"], 16, 1, tmp_path, print)
    with pytest.raises(RunError, match="icm labels at most"):
        benchmark_search("m", None, ["d"], 512, 1, tmp_path, print)
    write_json(tmp_path / "results.json", {"schema": 1, "benchmark": "training", "options": options})
    with pytest.raises(RunError, match="with texts 8, and 16"):
        benchmark_training("m", 16, ("speed",), tmp_path, print)


def test_several_processes_are_compared_with_one_of_the_same_kind_alone() -> None:
    found = {"model": "m", "texts": 16, "threads_each": 1, "dtype": "torch.bfloat16"}
    assert difference(found | {"verdicts": {}}, found) is None
    assert "its threads_each was 2, and is 1 now" in str(difference(found | {"threads_each": 2}, found))
    assert "its model was None" in str(difference({"verdicts": {"texts": 16}}, found))
    assert "not measured here" in str(difference({}, found))

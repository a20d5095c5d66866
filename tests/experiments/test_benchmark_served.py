"""A served model beside the one here: both read the same texts, and the table says how fast and how alike."""

import pytest

import experiments.benchmark_served as benchmark
from elicit.domains import Question, Row, make_domain
from elicit.errors import DomainError
from elicit.files import read_json
from elicit.language_models.endpoint import EndpointModel
from elicit.language_models.local import LocalModel
from elicit.language_models.server import Server
from tests.language_models.servers import Proxy, Toy


def test_both_read_the_same_texts_and_none_twice_for_a_question(
    make_model, make_tokenizer, tmp_path, monkeypatch
) -> None:
    proxy = Proxy(Toy(make_tokenizer()))
    proxy.backend.context = 4000
    asked = Server(proxy.url)
    served = EndpointModel("toy", asked, asked.models()[0], make_tokenizer())
    local = LocalModel.from_transformers(make_model("llama", max_position_embeddings=4096), make_tokenizer())
    texts = make_domain("d", Question("Is it good?"), [Row(str(i), f"text number {i}") for i in range(50)])
    monkeypatch.setattr(benchmark, "load_domain", lambda _: texts)
    monkeypatch.setattr(benchmark.LocalModel, "load", lambda *_: local)
    monkeypatch.setattr(benchmark.EndpointModel, "load", lambda _: served)
    lines: list[str] = []
    benchmark.benchmark_served("tiny", "endpoint:toy", 16, 2, "auto", tmp_path, lines.append)
    proxy.close()
    found = read_json(tmp_path / "results.json")
    assert len(lines) == len(found["work"]) == 2
    # Two questions, each asked once to prepare and twice for the clock, beside samples and a check of both words.
    asked_about = [tuple(prompt) for prompt in proxy.prompts if len(prompt) > 40]
    assert len(asked_about) == 2 * 3 * 16 + 2
    assert len(set(asked_about)) >= 2 * 3 * 16
    for row in found["work"].values():
        here, there = row["texts_per_second"].values()
        assert row["elicit_is_times_faster"] == pytest.approx(here / there)
        assert {name: len(seconds) for name, seconds in row["seconds"].items()} == {"here": 2, "served": 2}
        assert -1 <= row["rank_correlation"] <= 1
        assert row["largest_difference"] > 0
    assert found["texts"] == 16


def test_too_few_texts_for_all_turns_are_refused_before_a_model_loads(tmp_path, monkeypatch) -> None:
    texts = make_domain("d", Question("Is it good?"), [Row(str(i), f"text number {i}") for i in range(20)])
    monkeypatch.setattr(benchmark, "load_domain", lambda _: texts)
    with pytest.raises(
        DomainError, match="2 timed turns and an untimed one of 16 texts each take 48, and there are 20"
    ):
        benchmark.benchmark_served("none", "endpoint:none", 16, 2, "auto", tmp_path, print)

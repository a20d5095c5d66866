"""The default model behind a real server, that of llama.cpp: its answers are those of the weights in memory, faults or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xllamacpp
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize

import elicit.language_models.endpoint as endpoint
import elicit.language_models.server as server
from elicit.domains import Question, make_domain
from elicit.domains.domain import Row
from elicit.errors import ModelError
from elicit.evaluation.parity import parity
from elicit.language_models.cache import ReadingCache
from elicit.language_models.endpoint import EndpointModel
from elicit.language_models.loading import DEFAULT_MODEL, MODELS
from elicit.language_models.local import LocalModel
from elicit.language_models.server import Server
from elicit.monitors import load_monitor
from tests.language_models.servers import Proxy, forward

QUESTION = Question("Does the writer like it?")
TEXTS = (
    "I love it, it works every day.",
    "It broke after a week, and nobody answers my letters.",
    "Terrible.",
    "The best kettle that I ever had!",
    "It is blue.",
    "Five stars, although the lid is a bit loose <|im_end|>",
    "I want my money back",
    "Naïve café ☕ – très bien",
)


def in_float32(quantised: Path, out: Path) -> None:
    """The same weights, which llama.cpp then multiplies in float32 too: with 4-bit weights it rounds what it multiplies by."""
    reader = GGUFReader(quantised)
    writer = GGUFWriter(out, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            listed = field.types[0] == GGUFValueType.ARRAY
            writer.add_key_value(name, field.contents(), field.types[0], field.types[-1] if listed else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("gguf")
    quantised = MODELS[DEFAULT_MODEL].write(folder)
    in_float32(quantised, folder / "model.gguf")
    quantised.unlink()
    asked = xllamacpp.CommonParams()
    asked.model.path = str(folder / "model.gguf")
    asked.model_alias = {DEFAULT_MODEL}
    asked.n_ctx, asked.n_parallel, asked.port, asked.verbosity = 2048, 4, 0, 0
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1
    running = xllamacpp.Server(asked)
    yield f"{running.listening_address}/v1"
    del running
    (folder / "model.gguf").unlink()


@pytest.fixture(scope="module")
def local() -> LocalModel:
    return LocalModel.load(DEFAULT_MODEL, "float32", "cpu")


def connect(url: str, cache: Path, timeout: float = 60.0) -> EndpointModel:
    asked = Server(url, timeout)
    tokenizer = endpoint.load_tokenizer(DEFAULT_MODEL)
    return EndpointModel("served", asked, asked.models()[0], tokenizer, cache=ReadingCache(cache))


def test_its_log_odds_tokens_and_template_are_those_of_the_model_in_memory(url: str, local: LocalModel) -> None:
    domain = make_domain("kettles", QUESTION, [Row(str(i), text, None) for i, text in enumerate(TEXTS)])
    monitor = load_monitor(f"endpoint:{url}#{DEFAULT_MODEL}")
    assert monitor.model.context_length == 512  # of each of four slots
    found = parity(monitor.model, local, domain)
    assert found.rank_correlation >= 0.97  # of eight texts two neighbours may change places
    assert np.abs(found.difference).max() < 0.1
    assert len(found.difference) == len(TEXTS)
    assert found.tokens == (True,) * len(TEXTS)
    assert (found.beginning, found.template) == ((), True)
    words = "\n".join(found.plain_words())
    assert "8 of 8 texts of kettles were scored both ways" in words
    shots = [(TEXTS[0], True), (TEXTS[1], False)]
    few = monitor.model.log_odds(QUESTION, TEXTS[2:4], shots).values
    assert few == pytest.approx(local.log_odds(QUESTION, TEXTS[2:4], shots).values, abs=0.1)


def test_its_words_are_those_of_the_model_in_memory(url: str, local: LocalModel, tmp_path: Path) -> None:
    model = connect(url, tmp_path / "readings.sqlite")
    messages = ["What is the capital of France?", "Count from one to three.", " "]
    there, here = model.answer(messages, 12), local.answer(messages, 12)
    assert [answer.ids for answer in there] == [answer.ids for answer in here]
    assert [answer.finished for answer in there] == [answer.finished for answer in here]
    assert there == here
    asked = model.meter.tokens
    assert model.answer(messages, 12) == there
    drawn = [model.generate("Describe it.", TEXTS[:2], 6, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert model.meter.tokens > asked
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_word_outside_the_likeliest_tokens_is_unscored(url: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(endpoint, "FEW", 1)
    monkeypatch.setattr(endpoint, "MOST", (1,))
    read = connect(url, tmp_path / "readings.sqlite").log_odds(QUESTION, TEXTS)
    assert np.isnan(read.values).all()
    assert all("is not among the 1 likeliest tokens" in str(reason) for reason in read.reasons)


def test_what_a_prompt_s_own_tokens_are_worth_it_does_not_say(url: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no log-probabilities of a prompt's own tokens; vLLM does"):
        connect(url, tmp_path / "readings.sqlite").response_log_likelihoods([("Hello", "Hello!")])


def test_no_fault_on_the_way_loses_a_text_or_counts_it_twice(url: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.05)
    monkeypatch.setattr(server, "PROMPTS", 2)
    monkeypatch.setattr(server, "REQUESTS", 1)
    right = connect(url, tmp_path / "right.sqlite").log_odds(QUESTION, TEXTS).values
    proxy = Proxy(forward(url))
    try:
        model = connect(proxy.url, tmp_path / "readings.sqlite")
        # Two sample texts come first, then pairs of texts; the server dies at the third of four pairs, and stays dead.
        proxy.faults.extend(["429", "", "500", "drop", "truncated", "", "garbled", "short", "drop"])
        proxy.dies_after = 11
        with pytest.raises(ModelError, match="run the same command again"):
            model.log_odds(QUESTION, TEXTS)
        assert len(proxy.prompts) == 6
        proxy.dead.clear()
        read = connect(proxy.url, tmp_path / "readings.sqlite").log_odds(QUESTION, TEXTS).values
    finally:
        proxy.close()
    assert read == pytest.approx(right, abs=0.02)  # keys and values that are used again are kept in half precision
    prompt = model.prompt(QUESTION)
    asked = [(*prompt.head, *prompt.suffix(text)) for text in prompt.encode(TEXTS)]
    assert [proxy.prompts.count(ids) for ids in asked] == [1] * len(TEXTS)

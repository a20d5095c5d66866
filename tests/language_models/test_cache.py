"""The cache of readings: what was computed is not computed again, and what is broken is as if it were not there."""

import multiprocessing
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from elicit.domains import Question
from elicit.language_models.cache import ReadingCache, reading_key
from elicit.language_models.local import LocalModel
from elicit.language_models.weights import Weights

QUESTION = Question("Is it good?")
TEXTS = [f"text number {i} " + "word " * (i % 5) for i in range(20)]


@pytest.fixture
def cache(tmp_path: Path) -> ReadingCache:
    return ReadingCache(tmp_path / "readings.sqlite")


def test_what_is_put_comes_back_exactly(cache: ReadingCache) -> None:
    values = {bytes([i]): np.array([i / 7, np.nan]) for i in range(200)}
    cache.put(values)
    found = ReadingCache(cache.path).get([bytes([i]) for i in range(210)])
    assert found.keys() == values.keys()
    for key, value in values.items():
        assert found[key].tobytes() == value.tobytes()


def test_keys_depend_on_all_that_was_asked() -> None:
    asked = ("model", (1, 2), (3,), (0,))
    others = [("other", (1, 2), (3,), (0,)), ("model", (1,), (2, 3), (0,)), ("model", (1, 2), (3,), (1,))]
    assert len({reading_key(*key) for key in [asked, *others]}) == 4
    assert reading_key(*asked) == reading_key(*asked)


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be looked at" * 40, b"SQLite format 3\0half"]
)
def test_a_broken_file_is_rebuilt(cache: ReadingCache, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    cache.path.write_bytes(content)
    assert cache.get([b"a"]) == {}
    assert "rebuilt" in caplog.text
    cache.put({b"a": np.array([1.0])})
    assert cache.get([b"a"])[b"a"] == 1.0


def test_a_file_of_another_version_is_rebuilt(cache: ReadingCache, caplog: pytest.LogCaptureFixture) -> None:
    with sqlite3.connect(cache.path) as database:
        database.execute("PRAGMA user_version = 99")
    assert cache.get([b"a"]) == {}
    assert "another version" in caplog.text
    cache.put({b"a": np.array([1.0])})
    assert cache.get([b"a"])[b"a"] == 1.0


def test_a_folder_that_cannot_be_written_costs_the_cache_and_nothing_else(tmp_path: Path, caplog) -> None:
    (tmp_path / "file").write_text("")
    cache = ReadingCache(tmp_path / "file" / "readings.sqlite")
    cache.put({b"a": np.array([1.0])})
    assert cache.get([b"a"]) == {}
    assert "nothing is cached" in caplog.text


def _write(path: Path, start: int) -> None:
    cache = ReadingCache(path)
    for i in range(start, start + 40):
        cache.put({i.to_bytes(4, "big"): np.array([float(i)])})


def test_processes_may_write_at_once(cache: ReadingCache) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(cache.path, 40 * i)) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    keys = [i.to_bytes(4, "big") for i in range(120)]
    assert [float(cache.get(keys)[key][0]) for key in keys] == list(range(120))


def test_a_model_reads_every_text_once(make_model, make_tokenizer, cache: ReadingCache) -> None:
    model = LocalModel("tiny", Weights(make_model("llama"), make_tokenizer()), cache=cache)
    first = model.log_odds(QUESTION, TEXTS)
    tokens = model.meter.tokens
    again = LocalModel("tiny", Weights(make_model("llama"), make_tokenizer()), cache=cache)
    second = again.log_odds(QUESTION, TEXTS)
    assert tokens > 0
    assert again.meter.tokens == 0
    assert first.values.tobytes() == second.values.tobytes()
    np.testing.assert_array_equal(first.verdict_mass, second.verdict_mass)
    # Other texts among known ones: only the new one is read, and a known one keeps its value.
    mixed = again.log_odds(QUESTION, [*TEXTS[:5], "something else"])
    assert mixed.values[:5].tobytes() == first.values[:5].tobytes()
    assert 0 < again.meter.tokens < tokens


def test_another_question_other_weights_or_shots_are_read_anew(make_model, make_tokenizer, cache: ReadingCache) -> None:
    model = LocalModel("tiny", Weights(make_model("llama"), make_tokenizer()), cache=cache)
    plain = model.log_odds(QUESTION, TEXTS).values
    assert not np.array_equal(plain, model.log_odds(Question("Is it bad?"), TEXTS).values)
    assert not np.array_equal(plain, model.log_odds(QUESTION, TEXTS, [("an example", True)]).values)
    other = LocalModel("tiny", Weights(make_model("llama-untied"), make_tokenizer()), cache=cache)
    assert not np.array_equal(plain, other.log_odds(QUESTION, TEXTS).values)

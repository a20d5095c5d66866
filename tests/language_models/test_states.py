"""Hidden states in shards: nothing is computed twice, whatever was killed, damaged or asked for before."""

import os

import numpy as np
import pytest
import torch

import elicit.language_models.local as local_module
from elicit.domains import Question
from elicit.language_models.local import LocalModel
from elicit.language_models.states import StateCache

QUESTION = Question("Is it good?")
TEXTS = [f"text {i}" + " and more" * (i % 5) for i in range(23)]


@pytest.fixture
def cache(tmp_path) -> StateCache:
    return StateCache(tmp_path / "states")


@pytest.fixture
def model(cache, make_model, make_tokenizer, monkeypatch) -> LocalModel:
    monkeypatch.setattr(local_module, "SHARD", 8)
    local = LocalModel.from_transformers(make_model("llama"), make_tokenizer())
    local._state_cache = cache
    return local


def test_parts_joined_are_the_states_of_every_text_on_its_own(model, monkeypatch) -> None:
    together = model.states(QUESTION, [*TEXTS, ""], [0, 2], log_odds=True)
    assert together.values.shape == (24, 3, 2, 32)
    assert together.reasons[:-1] == (None,) * 23
    assert together.reasons[-1] is not None
    assert not together.values[-1].any()
    assert np.isnan(together.log_odds[-1])
    model._state_cache = None
    for row, text in enumerate(TEXTS):
        alone = model.states(QUESTION, [text], [0, 2], log_odds=True)
        torch.testing.assert_close(together.values[row], alone.values[0], atol=1e-4, rtol=1e-4)
        assert together.log_odds[row] == pytest.approx(alone.log_odds[0], abs=1e-5)
    np.testing.assert_allclose(together.log_odds[:-1], model.log_odds(QUESTION, TEXTS).values, atol=1e-5)


def test_a_part_is_read_once_for_all_who_ask_for_some_of_its_layers(model) -> None:
    first = model.states(QUESTION, TEXTS, [0, 1, 2], log_odds=True)
    tokens = model.meter.tokens
    some = model.states(QUESTION, TEXTS, [2, 0])
    torch.testing.assert_close(some.values, first.values[:, :, [2, 0]], atol=0, rtol=0)
    assert some.log_odds is None
    assert model.meter.tokens == tokens
    model.states(QUESTION, TEXTS, [1], log_odds=True)
    model.states(QUESTION, TEXTS[:8], [1])
    assert model.meter.tokens == tokens
    model.states(Question("Is it bad?"), TEXTS, [1])
    assert model.meter.tokens > tokens


def test_log_odds_that_nobody_asked_for_are_computed_when_somebody_does(model) -> None:
    assert model.states(QUESTION, TEXTS, [0]).log_odds is None
    odds = model.states(QUESTION, TEXTS, [0], log_odds=True).log_odds
    np.testing.assert_allclose(odds, model.log_odds(QUESTION, TEXTS).values, atol=1e-5)


def test_an_extraction_that_was_cut_off_continues_after_its_last_part(model) -> None:
    parts = model.stream_states(QUESTION, TEXTS, [0, 1])
    next(parts)
    next(parts)
    parts.close()
    before = model.meter.tokens
    whole = model.states(QUESTION, TEXTS, [0, 1])
    rest = model.meter.tokens - before
    fresh = LocalModel.from_transformers(model.transformers_model, model.tokenizer)
    exact = fresh.states(QUESTION, TEXTS, [0, 1])
    torch.testing.assert_close(whole.values, exact.values, atol=1e-4, rtol=1e-4)
    assert rest < before


@pytest.mark.parametrize("damage", [b"", b"not a shard", b"\x10" + b"\0" * 200])
def test_a_damaged_shard_is_computed_again_and_replaced(model, cache, damage, caplog) -> None:
    first = model.states(QUESTION, TEXTS[:5], [1])
    (shard,) = cache.folder.glob("*.safetensors")
    shard.write_bytes(damage)
    again = model.states(QUESTION, TEXTS[:5], [1])
    torch.testing.assert_close(first.values, again.values, atol=0, rtol=0)
    assert "it is computed again" in caplog.text
    tokens = model.meter.tokens
    model.states(QUESTION, TEXTS[:5], [1])
    assert model.meter.tokens == tokens


def test_the_least_recently_used_shards_go_when_room_is_short(tmp_path) -> None:
    cache = StateCache(tmp_path, gigabytes=5e-5)
    states = torch.zeros(10, 3, 1, 128)  # 15 kB
    for i in range(3):
        cache.put(bytes([i]), [0], states, None)
        for path in tmp_path.glob(f"{i:02x}-*"):
            os.utime(path, (i, i))
    assert cache.get(b"\0", [0], False) is not None  # now the most recently used
    cache.put(b"\3", [0], states, None)
    assert [cache.get(bytes([i]), [0], False) is not None for i in range(4)] == [True, False, True, True]
    cache.put(b"\4", [0], torch.zeros(1000, 3, 1, 128), None)
    assert cache.get(b"\4", [0], False) is None
    assert cache.get(b"\3", [0], False) is not None
    cache.clear()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_costs_a_line_and_not_the_run(model, tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("")
    model._state_cache = StateCache(tmp_path / "file" / "states")
    assert model.states(QUESTION, TEXTS[:3], [0]).values.any()
    assert "cannot be kept" in caplog.text
